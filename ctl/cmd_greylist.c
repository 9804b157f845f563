/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_greylist.c - weirctl greylist: what waits, who is known; pass and forget. For whom it is on or
 * off is a list, see cmd_list.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

/* More rows are for -j and a program. */
#define ROWS_SHOWN 100

/* Calls fn with each key below PREFIX:name and what follows that. */
static void
keys_each(struct ctl *c, const char *name,
    void (*fn)(struct ctl *, const char *, const char *, void *), void *ctx)
{
	char pattern[CTL_KEY_MAX], cursor[CTL_CURSOR_MAX] = "0";

	ctl_key(c, name, pattern);
	strcat(pattern, ":{*");
	do {
		redisReply *r = ctl_scan(c, cursor, pattern);

		for (size_t i = 0; i < r->element[1]->elements; i++) {
			const char *key = r->element[1]->element[i]->str;

			fn(c, key, key + strlen(pattern) - 2, ctx);
		}
		freeReplyObject(r);
	} while (strcmp(cursor, "0") != 0);
}

static void
add_waiting(struct ctl *c, const char *key, const char *rest, void *ctx)
{
	json_t *waiting = json_object_get(ctx, "waiting");
	const char *sender = strchr(rest, ' '),
		   *recipient = sender != NULL ? strchr(sender + 1, ' ') : NULL;
	long long first = 0, tries = 0;
	char pool[RECORD_KEY_MAX], from[300], to[300];
	redisReply *r;

	if (recipient == NULL)
		return;
	r = ctl_lookf(c, "GET %s", key);
	if (r == NULL)
		return;
	if (r->type == REDIS_REPLY_STRING)
		(void)sscanf(r->str, "%lld %lld", &first, &tries);
	freeReplyObject(r);
	if (!record_who(rest, (size_t)(sender - rest), pool))
		return;
	snprintf(from, sizeof from, "%.*s", (int)(recipient - sender - 1), sender + 1);
	out_safe(from, sizeof from - 1, from, sizeof from);
	out_safe(recipient + 1, sizeof to - 1, to, sizeof to);
	json_array_append_new(waiting,
	    json_pack("{ss ss ss sI sI}", "pool", pool, "sender", from, "recipient", to,
		"first_seconds", (json_int_t)(first / USEC_PER_SEC), "tries", (json_int_t)tries));
}

static void
add_known(struct ctl *c, const char *key, const char *rest, void *ctx)
{
	redisReply *r = ctl_lookf(c, "HGET %s known", key);
	char pool[RECORD_KEY_MAX];

	if (r == NULL)
		return;
	if (r->type == REDIS_REPLY_STRING && record_who(rest, strlen(rest), pool))
		json_array_append_new(json_object_get(ctx, "known"),
		    json_pack("{ss sI}", "pool", pool, "last_seconds",
			(json_int_t)(strtoll(r->str, NULL, 10) / USEC_PER_SEC)));
	freeReplyObject(r);
}

static void
print_list(const struct ctl *c, const json_t *result)
{
	const json_t *waiting = json_object_get(result, "waiting"),
		     *known = json_object_get(result, "known"), *e;
	struct table *t = table_new(5, "WAITS", "SINCE", "TRIES", "FROM", "TO");
	int64_t now = clock_real_us();
	char ago[32], tries[24];
	size_t i;

	json_array_foreach(waiting, i, e)
	{
		if (i == ROWS_SHOWN)
			break;
		snprintf(tries, sizeof tries, "%" PRId64, out_whole(e, "tries"));
		table_row(t, out_text(e, "pool"),
		    out_duration(now - out_whole(e, "first_seconds") * USEC_PER_SEC, ago), tries,
		    out_text(e, "sender"), out_text(e, "recipient"));
	}
	table_print(c, t);
	printf("%zu wait\n\n", json_array_size(waiting));
	t = table_new(2, "KNOWN", "LAST MESSAGE");
	json_array_foreach(known, i, e)
	{
		char text[48];

		if (i == ROWS_SHOWN)
			break;
		snprintf(text, sizeof text, "%s ago",
		    out_duration(now - out_whole(e, "last_seconds") * USEC_PER_SEC, ago));
		table_row(t, out_text(e, "pool"), text);
	}
	table_print(c, t);
	printf("%zu known\n", json_array_size(known));
}

static int
list(struct ctl *c)
{
	json_t *result = json_pack("{s[] s[]}", "waiting", "known");

	keys_each(c, "grey", add_waiting, result);
	keys_each(c, "pool", add_known, result);
	out_result(c, result, print_list);
	return CTL_DONE;
}

struct forgetting {
	const char *record_key;
	int64_t gone;
};

static void
forget_triplet(struct ctl *c, const char *key, const char *rest, void *ctx)
{
	struct forgetting *f = ctx;
	size_t len = strlen(f->record_key);
	redisReply *r;

	if (strncmp(rest, f->record_key, len) != 0 || rest[len] != ' ')
		return;
	r = ctl_callf(c, "DEL %s", key);
	f->gone += r->integer;
	freeReplyObject(r);
}

static void
print_count(const struct ctl *c, const json_t *result)
{
	(void)c;
	printf("%s: %s\n", out_text(result, "pool"), out_text(result, "now"));
}

void
ctl_pool(const struct rules *r, const struct who *w, struct record *out)
{
	struct facts f = {.name = "", .user = "", .helo = "", .sender = "", .recipient = ""};
	struct record nameless;
	char safe[80];

	if (w->kind == WHO_NET) {
		plan_client_record(&r->set, PER_POOL, &w->net.base, out);
		return;
	}
	/* a host of that name, wherever it is */
	(void)addr_parse("0.0.0.0", &f.client);
	f.name = w->text;
	plan_client_record(&r->set, PER_POOL, &f.client, &nameless);
	if (!plan_record(&r->set, PER_POOL, &f, out) || strcmp(out->key, nameless.key) == 0)
		ctl_die(CTL_REFUSED,
		    "hosts of %s are no pool of their own: name the domain that somebody has "
		    "registered, or an address",
		    out_safe(w->text, 60, safe, sizeof safe));
}

static int64_t
longest(int64_t a, int64_t b)
{
	return a > b ? a : b;
}

static int
one_pool(struct ctl *c, const char *text, bool pass)
{
	char name[CTL_KEY_MAX], key[CTL_KEY_MAX], err[LIMIT_ERR_MAX], safe[80],
	    pool[RECORD_KEY_MAX];
	struct record rec;
	struct who who;
	struct rules r;
	struct forgetting f = {.record_key = rec.key};
	redisReply *reply;
	int64_t life_us; /* never shorter than for what may stand there already */

	if (!who_parse(text, &who, err, sizeof err) ||
	    (who.kind != WHO_NET && who.kind != WHO_NAME))
		ctl_die(CTL_REFUSED, "\"%s\" must be an address, a network, or name:DOMAIN",
		    out_safe(text, 60, safe, sizeof safe));
	rules_load(c, &r);
	ctl_pool(&r, &who, &rec);
	life_us = longest(rec.ttl_us, longest(r.set.greylist.keep_us, 2 * r.set.trust.keep_us));
	rules_free(&r);
	(void)record_who(rec.key, strlen(rec.key), pool);
	snprintf(name, sizeof name, "pool:%s", rec.key);
	ctl_key(c, name, key);
	if (pass) {
		reply = ctl_lookf(c, "HSET %s known %lld", key, (long long)clock_real_us());
		if (reply == NULL)
			ctl_wrong_key(key);
		freeReplyObject(reply);
		reply = ctl_callf(c, "PEXPIRE %s %lld", key, (long long)(life_us / USEC_PER_MSEC));
		freeReplyObject(reply);
	} else {
		reply = ctl_callf(c, "DEL %s", key);
		f.gone = reply->integer;
		freeReplyObject(reply);
		keys_each(c, "grey", forget_triplet, &f);
		if (f.gone == 0)
			ctl_die(CTL_REFUSED, "greylisting knows nothing of %s", pool);
	}
	out_result(c,
	    json_pack("{ss ss}", "pool", pool, "now",
		pass ? "known: its mail is not held back" : "forgotten: it starts anew"),
	    print_count);
	return CTL_DONE;
}

int
cmd_greylist(struct ctl *c, int argc, char **argv)
{
	if (argc == 1 || (argc == 2 && strcmp(argv[1], "list") == 0))
		return list(c);
	if (argc == 3 && strcmp(argv[1], "pass") == 0)
		return one_pool(c, argv[2], true);
	if (argc == 3 && strcmp(argv[1], "forget") == 0)
		return one_pool(c, argv[2], false);
	if (argc >= 3 && (strcmp(argv[1], "on") == 0 || strcmp(argv[1], "off") == 0))
		return list_greylist(c, argc, argv);
	return CTL_USAGE;
}
