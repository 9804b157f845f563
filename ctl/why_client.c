/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * why_client.c - what Redis keeps of a client beside the counters: its address's record, and its
 * pool's, on which hangs whether it is known.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

/* --- gathering -------------------------------------------------------------------------------- */

/* Shadow limits that would have refused: NAME:over = "count time". */
static json_t *
shadows_json(const json_t *record)
{
	static const char end[] = ":over";
	json_t *out = json_array(), *value;
	const char *name;

	json_object_foreach((json_t *)record, name, value)
	{
		size_t len = strlen(name);
		int64_t count, at;

		if (len < sizeof end || strcmp(name + len - sizeof end + 1, end) != 0 ||
		    !record_pair(json_string_value(value), &count, &at))
			continue;
		json_array_append_new(out,
		    json_pack("{so sI sI}", "limit", json_stringn(name, len - sizeof end + 1),
			"count", (json_int_t)count, "last_seconds",
			(json_int_t)(at / USEC_PER_SEC)));
	}
	return out;
}

void
why_address(struct ctl *c, const struct rules *r, const struct facts *f, json_t *out)
{
	char key[CTL_KEY_MAX];
	struct record rec;
	json_t *record;

	(void)plan_record(&r->set, PER_ADDRESS, f, &rec);
	record = record_read(c, PER_ADDRESS, rec.key, key);
	json_object_set_new(out, "record", record);
	json_object_set_new(out, "key", json_string(key));
	json_object_set_new(out, "shadows", shadows_json(record));
}

static const char *
why_known(const struct trust *t, const struct trust_rule *rule, bool passed)
{
	if (trust_turned(t))
		return "turned";
	if (passed)
		return "passed greylisting";
	if (trust_known(t, rule, false))
		return "earned";
	return "not earned";
}

static void
add_trust(json_t *pool, const struct ruleset *set, int64_t now_us)
{
	struct trust t;
	bool passed, known;

	if (!ruleset_learns(set))
		return;
	known = record_known(set, json_object_get(pool, "record"), now_us, &t, &passed);
	json_object_set_new(pool, "known", json_boolean(known));
	json_object_set_new(pool, "because", json_string(why_known(&t, &set->trust, passed)));
	json_object_set_new(pool, "credits", json_real((double)t.credit / (double)MICRO));
	json_object_set_new(pool, "needed", json_integer(set->trust.messages));
	json_object_set_new(pool, "good", json_real((double)t.good / (double)MICRO));
	json_object_set_new(pool, "bad", json_real((double)t.bad / (double)MICRO));
}

void
why_pool(struct ctl *c, const struct rules *r, const struct facts *f, int64_t now_us, json_t *out)
{
	char key[CTL_KEY_MAX], name[RECORD_KEY_MAX] = "";
	struct record rec;
	int64_t blocked;
	json_t *pool, *record;

	(void)plan_record(&r->set, PER_POOL, f, &rec);
	(void)record_who(rec.key, strlen(rec.key), name);
	record = record_read(c, PER_POOL, rec.key, key);
	pool = json_pack("{ss ss so}", "name", name, "key", key, "record", record);
	json_object_set_new(out, "pool", pool);
	add_trust(pool, &r->set, now_us);
	blocked = record_number(record, "blocked") - now_us;
	if (blocked > 0)
		json_object_set_new(pool, "blocked_seconds",
		    json_integer((blocked + USEC_PER_SEC - 1) / USEC_PER_SEC));
	if (json_object_get(record, "held") != NULL)
		json_object_set_new(pool, "held", json_integer(record_number(record, "held")));
	if (json_object_get(record, "waited") != NULL)
		json_object_set_new(pool, "waited_seconds",
		    json_integer(record_number(record, "waited") / USEC_PER_SEC));
}

/* --- for people ------------------------------------------------------------------------------- */

static double
number(const json_t *j, const char *key)
{
	return json_real_value(json_object_get(j, key));
}

/* "known: it passed greylisting" */
static void
known_text(const json_t *pool, char *out, size_t outlen)
{
	const char *because = out_text(pool, "because");
	int64_t needed = out_whole(pool, "needed");

	if (strcmp(because, "turned") == 0)
		snprintf(out, outlen, "a stranger: too much went wrong lately");
	else if (strcmp(because, "passed greylisting") == 0)
		snprintf(out, outlen, "known: it passed greylisting");
	else if (needed == 0)
		snprintf(out, outlen, "a stranger");
	else
		snprintf(out, outlen, "%s: %.1f credits of %" PRId64,
		    json_is_true(json_object_get(pool, "known")) ? "known" : "a stranger",
		    number(pool, "credits"), needed);
}

static void
print_trust(const struct ctl *c, const json_t *pool)
{
	double good = number(pool, "good"), bad = number(pool, "bad");
	char known[80], share[64] = "";

	known_text(pool, known, sizeof known);
	if (bad > 0)
		snprintf(share, sizeof share, "; %.0f%% of %.1f went wrong",
		    100 * bad / (good + bad), good + bad);
	out_line(c, "pool %s: %s%s", out_text(pool, "name"), known, share);
}

void
why_print_pool(const struct ctl *c, const json_t *pool)
{
	int64_t blocked = out_whole(pool, "blocked_seconds"), held = out_whole(pool, "held");
	const json_t *waited = json_object_get(pool, "waited_seconds");
	char text[32];

	if (json_object_get(pool, "known") != NULL)
		print_trust(c, pool);
	if (blocked > 0)
		out_line(c, "pool %s: wrote to a trap, blocked for %s", out_text(pool, "name"),
		    out_duration(blocked * USEC_PER_SEC, text));
	if (held > 0)
		printf("greylisting held it back %" PRId64 " time%s", held, held == 1 ? "" : "s");
	if (waited != NULL)
		printf("%s waited %s before it passed", held > 0 ? ", it" : "it",
		    out_duration(json_integer_value(waited) * USEC_PER_SEC, text));
	if (held > 0 || waited != NULL)
		putchar('\n');
}

void
why_load(struct ctl *c, json_t *out)
{
	char key[CTL_KEY_MAX];
	redisReply *r =
	    ctl_lookf(c, "ZCOUNT %s %" PRId64 " +inf", ctl_key(c, "nodes", key), NEIGHBOUR_ABOVE);

	if (r == NULL)
		return;
	if (r->type == REDIS_REPLY_INTEGER && r->integer > 0)
		json_object_set_new(out, "busy", json_integer(r->integer));
	freeReplyObject(r);
}

void
why_print_load(const struct ctl *c, const json_t *why)
{
	int64_t busy = out_whole(why, "busy");

	if (busy > 0)
		out_line(c,
		    "%" PRId64 " weir-milter%s just now too busy for strangers, or for all: see "
		    "weirctl status",
		    busy, busy == 1 ? " is" : "s are");
}

void
why_print_address(const struct ctl *c, const json_t *why)
{
	const json_t *record = json_object_get(why, "record"), *s;
	int64_t now = clock_real_us();
	const char *refusal = out_text(record, "refusal"), *at = strchr(refusal, ' ');
	char first[32], last[32], safe[LIMIT_NAME_MAX + 1];
	int64_t refused_us;
	size_t i;

	if (json_object_size(record) == 0) {
		puts("not seen lately");
		return;
	}
	printf("first seen %s ago, last %s ago; accepted %s, refused %s",
	    out_duration(now - record_number(record, "first"), first),
	    out_duration(now - record_number(record, "last"), last),
	    out_text(record, "ok")[0] != '\0' ? out_text(record, "ok") : "0",
	    out_text(record, "refused")[0] != '\0' ? out_text(record, "refused") : "0");
	if (out_text(record, "rejected")[0] != '\0')
		printf(", rejected by the MTA %s", out_text(record, "rejected"));
	putchar('\n');
	if (at != NULL) {
		snprintf(safe, sizeof safe, "%.*s", (int)(at++ - refusal), refusal);
		if (units_scan(&at, INT64_MAX / 2, &refused_us))
			printf("last refused %s ago by limit %s\n",
			    out_duration(now - refused_us, last), safe);
	}
	json_array_foreach(json_object_get(why, "shadows"), i, s)
	{
		int64_t count = out_whole(s, "count");

		out_line(c,
		    "limit %s, which only logs, was exceeded %" PRId64 " time%s, last %s ago",
		    out_text(s, "limit"), count, count == 1 ? "" : "s",
		    out_duration(now - out_whole(s, "last_seconds") * USEC_PER_SEC, last));
	}
}
