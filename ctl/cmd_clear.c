/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_clear.c - weirctl clear: forget what was counted of a client, so that it starts afresh.
 *
 * What is open stays counted: those sessions are there. A refusal that a weir-milter still
 * remembers by itself is over within a second.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

struct clearing {
	struct ctl *c;
	const struct who *who;
	int64_t cleared;
};

static void
remove_key(struct ctl *c, const char *kind, const char *record_key, int64_t *cleared)
{
	char name[CTL_KEY_MAX], key[CTL_KEY_MAX];
	redisReply *r;

	snprintf(name, sizeof name, "%s:%s", kind, record_key);
	r = ctl_callf(c, "DEL %s", ctl_key(c, name, key));
	if (r->type == REDIS_REPLY_INTEGER)
		*cleared += r->integer;
	freeReplyObject(r);
}

/* A record of a network or address that lies in the network to be cleared. */
static bool
clear_within(void *ctx, const struct client_record *r)
{
	struct clearing *k = ctx;
	struct net n;

	if (net_parse(r->who, &n) && n.bits >= k->who->net.bits &&
	    net_contains(&k->who->net, &n.base))
		remove_key(k->c, limit_per_name(r->kind), r->key, &k->cleared);
	return true;
}

/* --- one client ------------------------------------------------------------------------------- */

/* Every record of the client in which a limit can be full, whomever it is for. */
static void
plan_all(const struct rules *r, const struct addr *client, enum stage stage, struct request *q)
{
	const struct facts f = {.stage = stage,
	    .client = *client,
	    .name = "",
	    .user = "",
	    .helo = "",
	    .sender = "",
	    .recipient = "",
	    .bytes = 1};
	struct ruleset all = r->set;

	all.exceptions = NULL;
	all.exempt = NULL;
	for (unsigned i = 0; i < all.nlimits; i++) {
		all.limits[i].whom = FOR_EVERYONE;
		all.limits[i].action = ACTION_REFUSE;
	}
	(void)plan_request(&all, &f, q);
}

static void
clear_networks(struct clearing *k, const struct rules *r, const struct addr *client)
{
	static const enum stage stages[] = {STAGE_CONNECT, STAGE_RCPT};
	struct record rec;
	struct request q;

	plan_client_record(&r->set, PER_NETWORK, client, &rec);
	remove_key(k->c, limit_per_name(PER_NETWORK), rec.key, &k->cleared);
	/* and the wider ones of ladders */
	for (size_t s = 0; s < sizeof stages / sizeof stages[0]; s++) {
		plan_all(r, client, stages[s], &q);
		for (unsigned i = 0; i < q.nrecords; i++)
			if (q.records[i].kind == PER_NETWORK)
				remove_key(k->c, limit_per_name(PER_NETWORK), q.records[i].key,
				    &k->cleared);
	}
}

/* What the pool has earned is the client's to keep; what is held against it goes. */
static void
clear_pool(struct clearing *k, const struct rules *r)
{
	char key[CTL_KEY_MAX];
	struct record rec;
	json_t *fields, *value;
	const char *name;
	bool cleared = false;

	ctl_pool(r, k->who, &rec);
	fields = record_read(k->c, PER_POOL, rec.key, key);
	json_object_foreach(fields, name, value)
	{
		struct trust t;
		redisReply *reply;

		if (strcmp(name, "known") == 0 ||
		    (strcmp(name, "trust") == 0 && record_trust(json_string_value(value), &t) &&
			!trust_turned(&t)))
			continue;
		reply = ctl_callf(k->c, "HDEL %s %s", key, name);
		cleared = cleared || (reply->type == REDIS_REPLY_INTEGER && reply->integer > 0);
		freeReplyObject(reply);
	}
	k->cleared += cleared;
	json_decref(fields);
}

static void
print_cleared(const struct ctl *c, const json_t *result)
{
	(void)c;
	printf("cleared %" PRId64 " records; what is refused now is let in within a "
	       "second\n",
	    out_whole(result, "cleared"));
}

int
cmd_clear(struct ctl *c, int argc, char **argv)
{
	static const enum limit_per kinds[] = {PER_ADDRESS, PER_NETWORK, PER_POOL};
	char err[LIMIT_ERR_MAX], safe[80];
	struct clearing k = {.c = c};
	struct who who;
	struct rules r;

	if (argc != 2)
		return CTL_USAGE;
	if (!who_parse(argv[1], &who, err, sizeof err))
		ctl_die(CTL_REFUSED, "\"%s\": %s", out_safe(argv[1], 60, safe, sizeof safe), err);
	if (who.kind != WHO_USER && who.kind != WHO_NET && who.kind != WHO_NAME)
		ctl_die(CTL_REFUSED,
		    "\"%s\": clear takes an address, a network, user:NAME or name:DOMAIN",
		    out_safe(argv[1], 60, safe, sizeof safe));
	k.who = &who;
	rules_load(c, &r);
	if (who.kind == WHO_USER) {
		const struct facts f = {
		    .user = who.text, .name = "", .helo = "", .sender = "", .recipient = ""};
		struct record rec;

		if (plan_record(&r.set, PER_USER, &f, &rec))
			remove_key(c, limit_per_name(PER_USER), rec.key, &k.cleared);
	} else if (who.kind == WHO_NAME) {
		clear_pool(&k, &r);
	} else if (who.net.bits == (who.net.base.family == ADDR_V4 ? 32 : 128)) {
		struct record rec;

		/* one client: no need to walk over all */
		plan_client_record(&r.set, PER_ADDRESS, &who.net.base, &rec);
		remove_key(c, limit_per_name(PER_ADDRESS), rec.key, &k.cleared);
		clear_networks(&k, &r, &who.net.base);
		clear_pool(&k, &r);
	} else
		for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
			records_each(c, kinds[i], clear_within, &k);
	rules_free(&r);
	if (k.cleared == 0)
		ctl_die(CTL_REFUSED, "nothing is counted for %s",
		    out_safe(argv[1], 60, safe, sizeof safe));
	out_result(c, json_pack("{sI}", "cleared", (json_int_t)k.cleared), print_cleared);
	return CTL_DONE;
}
