/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_why.c - weirctl why: the milter's own plan, a question that only looks, the milter's own
 * judge; and what else is known of the client.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

struct subject {
	struct addr client;
	char sender[MAILBOX_MAX + 1], recipient[MAILBOX_MAX + 1]; /* as they are counted */
	bool sender_given; /* "" is one, too: the null sender */
	const char *name, *user, *helo;
};

/* What would come next, and what its counters say. */
struct step {
	const char *name; /* NULL: no answer is heard there, but there are counters */
	enum stage stage;
	bool message_counted, rejected;
};

static const struct step steps[] = {
    {"connection", STAGE_CONNECT, false, false},
    {"message", STAGE_RCPT, false, false},
    {"recipient", STAGE_RCPT, true, false},
    {NULL, STAGE_RCPT, true, true},
    {NULL, STAGE_EOM, true, false},
};

/* A bucket drains steadily; when a quota is empty only its last chunk knows. */
static int64_t
clear_us(struct ctl *c, const struct hit *h, const struct record *rec, int64_t used, int64_t now_us)
{
	char name[CTL_KEY_MAX], key[CTL_KEY_MAX];
	int64_t wait = 0;
	struct quota q;
	redisReply *r;

	if (h->limit->rate != 0)
		return bucket_wait(used, hit_rate(h), h->limit->period_us);
	if (h->limit->quota == 0)
		return 0;
	snprintf(name, sizeof name, "%s:%s", limit_per_name(rec->kind), rec->key);
	r = ctl_lookf(c, "HGET %s %s" QUOTA_FIELD, ctl_key(c, name, key), h->limit->name);
	if (r != NULL && r->type == REDIS_REPLY_STRING &&
	    record_quota(r->str, h->limit->window_us, now_us, &q) && q.n > 0)
		wait = q.chunk[q.n - 1].since_us + h->limit->window_us - now_us;
	freeReplyObject(r);
	return wait;
}

static json_t *
counter_json(struct ctl *c, const struct request *q, const struct answer *a, unsigned i)
{
	const struct hit *h = &q->hits[i];
	const struct record *rec = &q->records[h->record];
	struct verdict v = {0};
	/* the hit itself is not charged: show what is there */
	int64_t used = a->hits[i].used - h->cost * MICRO;
	int64_t clear = clear_us(c, h, rec, used, a->now_us);

	judge_figures(h, &a->hits[i], &v);
	return json_pack("{ss ss ss ss sb sf sI sI sI sb ss}", "limit", h->limit->name, "count",
	    limit_count_name(h->limit->count), "kind", limit_per_name(rec->kind), "key", rec->key,
	    "whole", h->limit->rate == 0, "used", (double)used / (double)MICRO, "of",
	    (json_int_t)v.of, "clear_seconds",
	    (json_int_t)((clear + USEC_PER_SEC - 1) / USEC_PER_SEC), "retry_seconds",
	    (json_int_t)((v.retry_us + USEC_PER_SEC - 1) / USEC_PER_SEC), "over", a->hits[i].over,
	    "action", limit_action_name(h->limit->action));
}

/* A counter appears once, however many steps consult it; a limit has one in each network of its
 * ladder. What is not for this client is not asked either. */
static void
add_counters(struct ctl *c, json_t *counters, const struct request *q, const struct answer *a)
{
	for (unsigned i = 0; i < q->nhits; i++) {
		const char *name = q->hits[i].limit->name, *key = q->records[q->hits[i].record].key;
		bool there = a->hits[i].skipped;
		const json_t *e;
		size_t k;

		json_array_foreach(counters, k, e) there = there ||
		    (strcmp(out_text(e, "limit"), name) == 0 &&
			strcmp(out_text(e, "key"), key) == 0);
		if (!there)
			json_array_append_new(counters, counter_json(c, q, a, i));
	}
}

static json_t *
verdict_json(const struct verdict *v)
{
	json_t *j = json_pack("{ss ss sb}", "action", action_name(v->action), "reason",
	    reason_name(v->reason), "enforced", v->enforced);

	if (v->limit != NULL)
		json_object_set_new(j, "limit", json_string(v->limit->name));
	if (v->reply != NULL)
		json_object_set_new(j, "reply",
		    json_sprintf("%s %s %s", v->reply->code, v->reply->xcode, v->reply->text));
	if (v->retry_us > 0)
		json_object_set_new(j, "retry_seconds",
		    json_integer((v->retry_us + USEC_PER_SEC - 1) / USEC_PER_SEC));
	return j;
}

/* Who is not named is somebody of whom nothing is known, and not the null sender. */
static struct facts
step_facts(const struct subject *s, const struct step *step)
{
	return (struct facts){.stage = step->stage,
	    .client = s->client,
	    .name = s->name,
	    .user = s->user,
	    .helo = s->helo,
	    .sender = s->sender_given ? s->sender : "*",
	    .recipient = s->recipient,
	    .message_counted = step->message_counted,
	    /* a further recipient: this message has been let through */
	    .greylist_done = step->message_counted,
	    .rejected = step->rejected,
	    .bytes = 1};
}

/* Returns the time that the store went by; 0 = it was not asked. */
static int64_t
walk_step(struct ctl *c, const struct rules *r, const struct subject *s, const struct step *step,
    json_t *out)
{
	struct facts f = step_facts(s, step);
	struct request q;
	struct answer a;
	struct verdict v;
	bool asked = plan_request(&r->set, &f, &q);

	memset(&a, 0, sizeof a);
	q.peek = true;
	if (asked && store_ask(r->store, &q, 0, &a) != STORE_OK)
		ctl_die(CTL_REFUSED, "the counters in redis cannot be read");
	if (step->name != NULL) {
		v = judge(&r->set, &f, asked ? &q : NULL, asked ? &a : NULL);
		json_object_set_new(json_object_get(out, "next"), step->name, verdict_json(&v));
	}
	if (!asked)
		return 0;
	add_counters(c, json_object_get(out, "counters"), &q, &a);
	if (q.grey.asked)
		json_object_set_new(out, "greylist",
		    json_pack("{ss ss sI}", "state", grey_state_name(a.grey), "key", q.grey.key,
			"wait_seconds",
			(json_int_t)((a.grey_wait_us + USEC_PER_SEC - 1) / USEC_PER_SEC)));
	return a.now_us;
}

/* --- for people ------------------------------------------------------------------------------- */

static void
print_verdict(const struct ctl *c, const char *name, const json_t *v)
{
	bool accept = strcmp(out_text(v, "action"), "accept") == 0;
	char left[32];

	printf("  next %-11s", name);
	out_colour(c, accept ? GREEN : RED);
	printf("%s",
	    accept					      ? "accepted"
		: strcmp(out_text(v, "action"), "defer") == 0 ? "deferred"
							      : "refused");
	out_colour(c, PLAIN);
	if (strcmp(out_text(v, "reason"), "ok") != 0)
		printf(" (%s%s%s)", out_text(v, "reason"),
		    out_text(v, "limit")[0] != '\0' ? ": " : "", out_text(v, "limit"));
	if (out_whole(v, "retry_seconds") > 0)
		printf(", again in %s",
		    out_duration(out_whole(v, "retry_seconds") * USEC_PER_SEC, left));
	if (!json_is_true(json_object_get(v, "enforced")) && !accept)
		printf(", but mode is observe");
	putchar('\n');
	if (out_text(v, "reply")[0] != '\0')
		printf("    %s\n", out_text(v, "reply"));
}

/* When there is nothing left of it and, if it is full, when this client fits again. */
static const char *
empty_text(const json_t *e, char *out, size_t outlen)
{
	int64_t clear = out_whole(e, "clear_seconds"), retry = out_whole(e, "retry_seconds");
	char empty[32], fits[32];

	if (clear == 0)
		return "-";
	out_duration(clear * USEC_PER_SEC, empty);
	if (!json_is_true(json_object_get(e, "over")) || retry == 0)
		snprintf(out, outlen, "%s", empty);
	else
		snprintf(
		    out, outlen, "%s, fits in %s", empty, out_duration(retry * USEC_PER_SEC, fits));
	return out;
}

static void
print_counters(const struct ctl *c, const json_t *counters)
{
	struct table *t = table_new(5, "COUNTER", "USED", "OF", "EMPTY IN", "KEY");
	const json_t *e;
	size_t i;

	json_array_foreach(counters, i, e)
	{
		bool bytes = strcmp(out_text(e, "count"), limit_count_name(COUNT_BYTES)) == 0;
		char used[32], of[UNITS_TEXT_MAX], clear[80], key[160];
		double n = json_real_value(json_object_get(e, "used"));

		/* what is open, and a quota, is counted in whole things, a bucket drains steadily */
		if (json_is_true(json_object_get(e, "whole")) && !bytes)
			snprintf(used, sizeof used, "%.0f", n);
		else
			out_figure(n, bytes, used);
		snprintf(key, sizeof key, "%s:%s", out_text(e, "kind"), out_text(e, "key"));
		table_row(t, out_text(e, "limit"), used,
		    units_figure_text(out_whole(e, "of"), bytes, of),
		    empty_text(e, clear, sizeof clear), key);
	}
	table_print(c, t);
}

static void
print_greylist(const json_t *r, const json_t *grey)
{
	const char *state = out_text(grey, "state");
	int64_t wait_us = out_whole(grey, "wait_seconds") * USEC_PER_SEC;
	char left[32];

	if (wait_us == 0)
		printf("greylisting: %s\n", state);
	else if (json_is_true(json_object_get(r, "envelope")))
		printf("greylisting: %s, passes in %s\n", state, out_duration(wait_us, left));
	else
		printf("greylisting: not known; a message from a new sender waits %s\n",
		    out_duration(wait_us, left));
}

/* Those that do not decide have a more specific one beside them. */
static void
print_lists(const struct ctl *c, const json_t *r)
{
	const json_t *e;
	size_t i;

	json_array_foreach(json_object_get(r, "exceptions"), i, e)
	    out_line(c, "%s%s: %s: %s%s", out_text(e, "section"),
		strcmp(out_text(e, "from"), "file") == 0 ? " (file)" : "", out_text(e, "entry"),
		json_is_false(json_object_get(e, "decides")) ? "(does not decide) " : "",
		out_text(e, "words"));
}

static void
print_why(const struct ctl *c, const json_t *r)
{
	const json_t *grey = json_object_get(r, "greylist"),
		     *entry = json_object_get(r, "greylist_entry");

	out_colour(c, BOLD);
	printf("%s\n", out_text(r, "client"));
	out_colour(c, PLAIN);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0] && steps[i].name != NULL; i++)
		print_verdict(
		    c, steps[i].name, json_object_get(json_object_get(r, "next"), steps[i].name));
	putchar('\n');
	if (json_array_size(json_object_get(r, "counters")) > 0)
		print_counters(c, json_object_get(r, "counters"));
	if (grey != NULL)
		print_greylist(r, grey);
	else if (strcmp(out_text(entry, "words"), "action=no-greylist") == 0)
		printf("greylisting: not asked, because of %s\n", out_text(entry, "who"));
	if (out_text(r, "trap")[0] != '\0')
		out_line(c, "the recipient is a trap: %s", out_text(r, "trap"));
	print_lists(c, r);
	if (out_text(r, "user")[0] != '\0')
		out_line(c, "user %s: authenticated, and so no stranger", out_text(r, "user"));
	else
		why_print_pool(c, json_object_get(r, "pool"));
	why_print_address(c, r);
	why_print_load(c, r);
	if (json_array_size(json_object_get(r, "ignored")) > 0)
		out_line(c,
		    "some entries in redis cannot be used (weirctl limit list); a running "
		    "weir-milter keeps what was good before");
	printf("limits of generation %s\n", out_text(r, "generation"));
}

/* --- the command ---------------------------------------------------------------------------------- */

static bool
read_subject(int argc, char **argv, struct subject *s)
{
	if (argc < 2 || argc % 2 != 0)
		return false;
	*s = (struct subject){.name = "", .user = "", .helo = ""};
	if (!addr_parse(argv[1], &s->client)) {
		char safe[80];

		ctl_die(CTL_REFUSED, "\"%s\" is not an address",
		    out_safe(argv[1], 60, safe, sizeof safe));
	}
	for (int i = 2; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "sender") == 0) {
			mailbox_name(argv[i + 1], s->sender, sizeof s->sender);
			s->sender_given = true;
		} else if (strcmp(argv[i], "name") == 0)
			s->name = argv[i + 1];
		else if (strcmp(argv[i], "recipient") == 0)
			mailbox_name(argv[i + 1], s->recipient, sizeof s->recipient);
		else if (strcmp(argv[i], "user") == 0)
			s->user = argv[i + 1];
		else if (strcmp(argv[i], "helo") == 0)
			s->helo = argv[i + 1];
		else
			return false;
	}
	return true;
}

int
cmd_why(struct ctl *c, int argc, char **argv)
{
	char client[NET_TEXT_MAX], safe[64], user[USER_MAX + 1];
	int64_t now_us = 0;
	struct subject s;
	struct facts f;
	struct rules r;
	json_t *out;

	if (!read_subject(argc, argv, &s))
		return CTL_USAGE;
	rules_load(c, &r);
	out = json_pack("{ss sb ss ss s{} s[]}", "client", addr_format(&s.client, client),
	    "envelope", s.sender[0] != '\0' || s.recipient[0] != '\0', "user",
	    out_safe(s.user, USER_MAX, user, sizeof user), "generation",
	    out_safe(r.overlay.generation, 60, safe, sizeof safe), "next", "counters");
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		int64_t then_us = walk_step(c, &r, &s, &steps[i], out);

		now_us = now_us == 0 ? then_us : now_us;
	}
	f = step_facts(&s, &steps[1]);
	json_object_set_new(out, "exceptions", why_lists(&r, &f));
	why_greylist(&r, &f, out);
	json_object_set(out, "ignored", r.ignored);
	why_address(c, &r, &f, out);
	why_load(c, out);
	why_pool(c, &r, &f, now_us != 0 ? now_us : clock_real_us(), out);
	out_result(c, out, print_why);
	rules_free(&r);
	return CTL_DONE;
}
