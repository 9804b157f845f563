/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redis_policy.c - correspondents and the embargo in all stores; and what Redis keeps of
 * quotas, trust, traps and shadows: the form of each field, and whatever a hand may write there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy_fixture.h"

static void
greys(struct env *e, int64_t now, enum grey_state state, int64_t wait)
{
	ask(e, now);
	if (e->a.grey != state || e->a.grey_wait_us != wait)
		fail_msg("grey %d, wait %lld s", e->a.grey, (long long)(e->a.grey_wait_us / SEC));
	assert_int_equal(e->a.charged, !grey_holds(state));
}

/* --- correspondents ------------------------------------------------------------------------- */

static void
wrote(struct env *e, const char *mailbox, int64_t now, int64_t keep)
{
	struct request q = e->q;

	make_request(&e->q);
	(void)add_record(&e->q, PER_ADDRESS, "{u}:1");
	e->q.wrote_us = keep;
	strcpy(e->q.wrote, mailbox);
	takes(e, now);
	e->q = q;
}

static void
correspondents(void **state)
{
	struct env *e = *state;

	add_grey(&e->q, "{n}", "s@x r@y");
	e->q.grey.correspondents = true;
	e->q.grey.keep_us = DAY;
	strcpy(e->q.grey.sender, "{s@x}");
	greys(e, T0, GREY_NEW, 300 * SEC);
	greys(e, T0 + MINUTE, GREY_EARLY, 240 * SEC);
	wrote(e, "{other@x}", T0 + MINUTE, DAY);
	greys(e, T0 + MINUTE, GREY_EARLY, 240 * SEC);
	wrote(e, "{s@x}", T0 + MINUTE, DAY);
	for (int i = 0; i < 3; i++)
		greys(e, T0 + 2 * MINUTE, GREY_CORRESPONDENT, 0);
	/* it is no pass of the pool: another sender of it is new, and who waited passes as ever */
	strcpy(e->q.grey.key, "{n} t@x r@y");
	strcpy(e->q.grey.sender, "{t@x}");
	greys(e, T0 + 2 * MINUTE, GREY_NEW, 300 * SEC);
	strcpy(e->q.grey.key, "{n} s@x r@y");
	strcpy(e->q.grey.sender, "{s@x}");
	greys(e, T0 + 5 * MINUTE, GREY_PASSED, 0);
	greys(e, T0 + 6 * MINUTE, GREY_KNOWN, 0);
	/* for a day after he was written to last */
	strcpy(e->q.grey.key, "{m} s@x r@y");
	strcpy(e->q.records[0].key, "{m}");
	greys(e, T0 + MINUTE + DAY - 1, GREY_CORRESPONDENT, 0);
	wrote(e, "{s@x}", T0 + DAY, DAY);
	greys(e, T0 + MINUTE + DAY, GREY_CORRESPONDENT, 0);
	greys(e, T0 + 2 * DAY, GREY_NEW, 300 * SEC);
	/* who is not looked for is as anybody */
	wrote(e, "{s@x}", T0 + 2 * DAY, DAY);
	e->q.grey.correspondents = false;
	greys(e, T0 + 2 * DAY + MINUTE, GREY_EARLY, 240 * SEC);
}

/* Mail that was refused has not been written. */
static void
wrote_and_refused(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=recipients per=user rate=1/1h burst=1");

	add_hit(&e->q, &l, "{ann}", 2);
	e->q.wrote_us = DAY;
	strcpy(e->q.wrote, "{s@x}");
	refuses(e, T0);
	make_request(&e->q);
	add_grey(&e->q, "{n}", "s@x r@y");
	e->q.grey.correspondents = true;
	strcpy(e->q.grey.sender, "{s@x}");
	greys(e, T0, GREY_NEW, 300 * SEC);
}

/* --- embargo -------------------------------------------------------------------------------- */

static void
embargo(void **state)
{
	struct env *e = *state;
	struct limit full = make_limit("full", "count=messages per=network rate=1/1h burst=1");
	char text[32];

	add_grey(&e->q, "{n}", "");
	e->q.grey.embargo = 3;
	e->q.grey.embargo_us = HOUR;
	for (int i = 0; i < 6; i++) {
		snprintf(text, sizeof text, "{n} s%d@x r@y", i);
		strcpy(e->q.grey.key, text);
		greys(e, T0, i < 3 ? GREY_NEW : GREY_EMBARGO, 300 * SEC);
	}
	/* who is under embargo does not wait meanwhile; those that were first do */
	greys(e, T0 + MINUTE, GREY_EMBARGO, 300 * SEC);
	strcpy(e->q.grey.key, "{n} s1@x r@y");
	greys(e, T0 + MINUTE, GREY_EARLY, 240 * SEC);
	/* a third of an hour makes room for one */
	for (int i = 4; i < 6; i++) {
		snprintf(text, sizeof text, "{n} s%d@x r@y", i);
		strcpy(e->q.grey.key, text);
		greys(e, T0 + 20 * MINUTE, i == 4 ? GREY_NEW : GREY_EMBARGO, 300 * SEC);
	}
	/* what a limit refuses is no triplet, and uses no room */
	strcpy(e->q.grey.key, "{n} s7@x r@y");
	add_hit(&e->q, &full, "{n}", 2);
	for (int i = 0; i < 3; i++)
		refuses(e, T0 + 40 * MINUTE);
	e->q.nhits = 0;
	greys(e, T0 + 40 * MINUTE, GREY_NEW, 300 * SEC);
	/* other pools are free, and so is this one once it has passed */
	strcpy(e->q.records[0].key, "{m}");
	strcpy(e->q.grey.key, "{m} s5@x r@y");
	greys(e, T0 + 40 * MINUTE, GREY_NEW, 300 * SEC);
	strcpy(e->q.records[0].key, "{n}");
	strcpy(e->q.grey.key, "{n} s1@x r@y");
	greys(e, T0 + 40 * MINUTE, GREY_PASSED, 0);
	strcpy(e->q.grey.key, "{n} s5@x r@y");
	greys(e, T0 + 40 * MINUTE, GREY_KNOWN, 0);
	/* without one there is no bound */
	make_request(&e->q);
	add_grey(&e->q, "{o}", "");
	for (int i = 0; i < 50; i++) {
		snprintf(text, sizeof text, "{o} s%d@x r@y", i);
		strcpy(e->q.grey.key, text);
		greys(e, T0, GREY_NEW, 300 * SEC);
	}
}

/* --- what Redis holds ----------------------------------------------------------------------- */

static bool
in_redis(const struct env *e)
{
	return e->backend != ZONE;
}

/* The field as text; NULL: there is none. */
static void
check_field(const char *key, const char *field, const char *want)
{
	redisReply *r = redis_fixture_command(&server, "HGET %s %s", key, field);

	if (want == NULL ? r->type != REDIS_REPLY_NIL
			 : r->type != REDIS_REPLY_STRING || strcmp(r->str, want) != 0)
		fail_msg("%s %s is %s, not %s", key, field,
		    r->type == REDIS_REPLY_STRING ? r->str : "missing", want);
	freeReplyObject(r);
}

static void
check_ttl(const char *key, int64_t us)
{
	assert_in_range(
	    redis_fixture_integer(&server, "PTTL %s", key), us / 1000 - 5000, us / 1000);
}

static void
record_forms(void **state)
{
	struct env *e = *state;
	struct limit q = make_limit("kept", "count=messages per=address quota=100/1h");

	if (!in_redis(e))
		return;
	add_hit(&e->q, &q, "{n}:1", 3);
	takes(e, T0);
	takes(e, T0 + SEC); /* one chunk would be more than a twentieth */
	e->q.hits[0].cost = 2;
	takes(e, T0 + 2 * SEC);
	check_field("weir:address:{n}:1", "kept:quota", "1700000000000000 3 1700000001000000 5");
	check_ttl("weir:address:{n}:1", 2 * HOUR);
	/* held back three times, and then it had waited so long */
	make_request(&e->q);
	(void)add_record(&e->q, PER_ADDRESS, "{n}:1");
	add_grey(&e->q, "{n}", "s@x r@y");
	e->q.grey.embargo = 9;
	e->q.grey.embargo_us = HOUR;
	for (int i = 0; i < 3; i++)
		greys(e, T0 + i * MINUTE, i == 0 ? GREY_NEW : GREY_EARLY, (5 - i) * MINUTE);
	check_field("weir:pool:{n}", "held", "3");
	check_field("weir:pool:{n}", "waited", NULL);
	check_field("weir:pool:{n}", "triplets", "1000000 1700000000000000");
	greys(e, T0 + 7 * MINUTE, GREY_PASSED, 0);
	check_field("weir:pool:{n}", "waited", "420000000");
	check_field("weir:pool:{n}", "held", "3");
	check_field("weir:pool:{n}", "known", "1700000420000000");
	/* a trap */
	make_request(&e->q);
	add_pool(&e->q, "{n}", TRUST_LOOK);
	e->q.pool.block_us = 40 * DAY;
	refuses(e, T0 + 8 * MINUTE);
	check_field("weir:pool:{n}", "blocked", "1703456480000000");
	check_ttl("weir:pool:{n}", 40 * DAY);
	/* a correspondent */
	wrote(e, "{s@x}", T0, 3 * DAY);
	check_ttl("weir:wrote:{s@x}", 3 * DAY);
}

/* Recipients that the MTA refused are counted as such, whatever else is said; not as decisions. */
static void
totals(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("mine", "count=rejected-recipients per=network rate=1/1h burst=1");

	if (!in_redis(e))
		return;
	(void)add_record(&e->q, PER_ADDRESS, "{n}:1");
	add_hit(&e->q, &l, "{n}", 1);
	e->q.hits[0].mode = HIT_NOTE;
	e->q.rejected = true;
	for (int i = 0; i < 4; i++)
		takes(e, T0 + i * SEC);
	e->q.rejected = false;
	e->q.hits[0].mode = HIT_PROBE;
	refuses(e, T0 + 9 * SEC);
	e->q.nhits = 0;
	takes(e, T0 + 10 * SEC);
	check_field("weir:address:{n}:1", "rejected", "4");
	check_field("weir:address:{n}:1", "ok", "1");
	check_field("weir:address:{n}:1", "refused", "1");
	check_field("weir:address:{n}:1", "refusal", "mine 1700000009000000");
	check_field("weir:address:{n}:1", "first", "1700000000000000");
	check_field("weir:address:{n}:1", "last", "1700000010000000");
}

/* How often a shadow would have refused, and when last; in the client's record, not in that of
 * what it counts. */
static void
shadows(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("soft", "count=messages per=sender rate=1/1h burst=2 action=log");
	struct limit strangers =
	    make_limit("known", "count=messages per=sender rate=1/1h burst=1 action=log for=known");

	if (!in_redis(e))
		return;
	(void)add_record(&e->q, PER_ADDRESS, "{n}:1");
	strcpy(strangers.name, "quiet");
	add_hit(&e->q, &l, "{s@x}", 1);
	add_hit(&e->q, &strangers, "{s@x}", 1);
	add_pool(&e->q, "{n}", TRUST_LOOK);
	for (int i = 0; i < 5; i++)
		takes(e, T0 + i * SEC);
	check_field("weir:address:{n}:1", "soft:over", "3 1700000004000000");
	check_field("weir:address:{n}:1", "quiet:over", NULL); /* it is for others */
	check_field("weir:sender:{s@x}", "soft:over", NULL);
	check_field("weir:sender:{s@x}", "soft", "1999723 1700000001000000");
}

/* --- what hands write ----------------------------------------------------------------------- */

#define LONG16 "9999999999999999"
#define LONG17 "99999999999999999"

/* Fields of the pool's record and of the address's, and what a question with all of it says then:
 * used of the bucket and the quota, known, blocked, grey. Nothing may fail. */
static const struct hostile {
	const char *field, *value;
	int64_t bucket, quota; /* with this one; of the bucket in whole things */
	bool known, blocked;
	enum grey_state grey;
} hostile[] = {
    {"none", "x", 1, 1, false, false, GREY_NEW},
    {"mine", "nonsense", 1, 1, false, false, GREY_NEW},
    {"mine", LONG17 " 1", 1, 1, false, false, GREY_NEW},
    {"mine", "1 " LONG17, 1, 1, false, false, GREY_NEW},
    {"mine", "-5 1700000000000000", 1, 1, false, false, GREY_NEW},
    {"mine", "1e9 1700000000000000", 1, 1, false, false, GREY_NEW},
    {"mine", "4000000 1700000000000000 7", 1, 1, false, false, GREY_NEW},
    {"mine", "4000000 1700000000000000", 5, 1, false, false, GREY_NEW},
    {"mine", "4000000 " LONG16, 5, 1, false, false, GREY_NEW}, /* from the future */
    {"kept:quota", "nonsense", 1, 1, false, false, GREY_NEW},
    {"kept:quota", "1700000000000000", 1, 1, false, false, GREY_NEW},
    {"kept:quota", "1700000000000000 4", 1, 5, false, false, GREY_NEW},
    {"kept:quota", "1700000000000000 4 1700000000000000", 1, 5, false, false, GREY_NEW},
    {"kept:quota", "1700000000000000 -4", 1, 1, false, false, GREY_NEW},
    {"kept:quota", "1700000000000000 4x 1700000000000000 5", 1, 1, false, false, GREY_NEW},
    {"kept:quota", "1700000000000000 " LONG16, 1, 1, false, false, GREY_NEW},
    {"kept:quota", LONG17 " 4", 1, 1, false, false, GREY_NEW},
    {"kept:quota", LONG16 " 4", 1, 5, false, false, GREY_NEW}, /* from the future: of now */
    {"kept:quota", "1 4", 1, 1, false, false, GREY_NEW}, /* long ago */
    {"known", "nonsense", 1, 1, false, false, GREY_NEW},
    {"known", "1700000000000000", 1, 1, true, false, GREY_KNOWN},
    {"known", LONG16, 1, 1, true, false, GREY_KNOWN}, /* from the future */
    {"known", LONG17, 1, 1, false, false, GREY_NEW},
    {"known", "1", 1, 1, false, false, GREY_NEW},
    {"known", "-1", 1, 1, false, false, GREY_NEW},
    {"trust", "nonsense", 1, 1, false, false, GREY_NEW},
    {"trust", "3000000 0 0 1700000000000000", 1, 1, false, false, GREY_NEW},
    {"trust", "3000000 0 0 1700000000000000 0 0", 1, 1, false, false, GREY_NEW},
    {"trust", "3000000 0 0 1700000000000000 1700000000000000", 1, 1, true, false, GREY_NEW},
    {"trust", "3000000 0 0 " LONG16 " " LONG16, 1, 1, true, false, GREY_NEW},
    {"trust", LONG16 " 0 0 1700000000000000 1700000000000000", 1, 1, true, false, GREY_NEW},
    {"trust", LONG16 " 0 0 1700000000000000 0", 1, 1, true, false, GREY_NEW},
    {"trust", LONG17 " 0 0 1700000000000000 0", 1, 1, false, false, GREY_NEW},
    {"trust", "0 " LONG16 " " LONG16 " 1700000000000000 0", 1, 1, false, false, GREY_NEW},
    {"trust", LONG16 " 0 " LONG16 " 1700000000000000 0", 1, 1, false, false, GREY_NEW},
    {"trust", "-1 0 0 1700000000000000 0", 1, 1, false, false, GREY_NEW},
    {"blocked", "nonsense", 1, 1, false, false, GREY_NEW},
    {"blocked", "1700000000000000", 1, 1, false, false, GREY_NEW}, /* over */
    {"blocked", "1700000001000000", 1, 1, false, true, GREY_NEW},
    {"blocked", LONG16, 1, 1, false, true, GREY_NEW},
    {"blocked", LONG17, 1, 1, false, false, GREY_NEW},
    {"triplets", "nonsense", 1, 1, false, false, GREY_NEW},
    {"triplets", "9000000 1700000000000000", 1, 1, false, false, GREY_EMBARGO},
    {"triplets", "9000000 " LONG16, 1, 1, false, false, GREY_EMBARGO},
    {"triplets", LONG16 " 1700000000000000", 1, 1, false, false, GREY_EMBARGO},
    {"held", "nonsense", 1, 1, false, false, GREY_NEW},
    {"held", LONG16, 1, 1, false, false, GREY_NEW},
    {"waited", "nonsense", 1, 1, false, false, GREY_NEW},
    {"rejected", "nonsense", 1, 1, false, false, GREY_NEW},
    {"rejected", LONG16, 1, 1, false, false, GREY_NEW},
    {"soft:over", "nonsense", 1, 1, false, false, GREY_NEW},
    {"soft:over", LONG16 " 1", 1, 1, false, false, GREY_NEW},
};

static void
hostile_fields(void **state)
{
	struct env *e = *state;
	struct limit mine = make_limit("mine", "count=messages per=address rate=1/1h burst=1000");
	struct limit kept = make_limit("kept", "count=messages per=address quota=1000/1h");
	struct limit soft =
	    make_limit("soft", "count=messages per=address rate=1/1h burst=1 action=log");

	if (!in_redis(e))
		return;
	for (size_t i = 0; i < sizeof hostile / sizeof hostile[0]; i++) {
		const struct hostile *h = &hostile[i];

		redis_fixture_run(&server, "FLUSHALL");
		make_request(&e->q);
		add_hit(&e->q, &mine, "{n}:1", 1);
		add_hit(&e->q, &kept, "{n}:1", 1);
		add_hit(&e->q, &soft, "{n}:1", 2);
		add_grey(&e->q, "{n}", "s@x r@y");
		e->q.grey.embargo = 9;
		e->q.grey.embargo_us = HOUR;
		add_pool(&e->q, "{n}", TRUST_MESSAGE);
		e->q.pool.passed_us = e->q.grey.keep_us;
		/* the longest memory that can be configured */
		e->q.pool.rule.messages = 2;
		e->q.pool.rule.keep_us = 365 * DAY;
		redis_fixture_run(&server, "HSET weir:address:{n}:1 %s %s", h->field, h->value);
		redis_fixture_run(&server, "HSET weir:pool:{n} %s %s", h->field, h->value);
		ask(e, T0);
		if (e->a.hits[0].used != h->bucket * MICRO ||
		    e->a.hits[1].used != h->quota * MICRO || e->a.known != h->known ||
		    (e->a.blocked_us > 0) != h->blocked || e->a.grey != h->grey)
			fail_msg("%s = %s: %lld, %lld, known %d, blocked %lld, grey %d", h->field,
			    h->value, (long long)e->a.hits[0].used, (long long)e->a.hits[1].used,
			    e->a.known, (long long)e->a.blocked_us, e->a.grey);
		/* and every event that writes gets through, what it writes expires */
		e->q.grey.asked = false;
		for (int event = TRUST_LOOK; event <= TRUST_REJECTED; event++)
			for (int rejected = 0; rejected < 2; rejected++) {
				e->q.pool.event = (enum trust_event)event;
				e->q.rejected = rejected;
				ask(e, T0 + SEC);
			}
		e->q.grey.asked = true;
		ask(e, T0 + 300 * SEC);
		assert_true(redis_fixture_integer(&server, "PTTL weir:pool:{n}") > 0);
		assert_true(redis_fixture_integer(&server, "PTTL weir:address:{n}:1") > 0);
	}
}

/* More chunks than there may be, and more text than anybody reads. */
static void
hostile_quotas(void **state)
{
	struct env *e = *state;
	struct limit kept = make_limit("kept", "count=bytes per=address quota=2048G/1h");
	static char text[8000];

	if (!in_redis(e))
		return;
	add_hit(&e->q, &kept, "{n}:1", 2); /* for two: for one the chain's memory answers */
	for (int chunks = 40; chunks <= 200; chunks += 4) {
		text[0] = '\0';
		for (int i = 0; i < chunks; i++)
			strcat(text, "1700000000000000 9999999999999 ");
		redis_fixture_run(&server, "HSET weir:address:{n}:1 kept:quota %s", text);
		ask(e, T0 + SEC);
		/* as much as can be said at all; unless it is so long that nobody wrote it for us */
		if (strlen(text) <= 2048) {
			assert_int_equal(e->a.hits[0].used, (INT64_C(1) << 43) * MICRO);
			assert_true(e->a.hits[0].over && !e->a.charged);
		} else
			assert_int_equal(e->a.hits[0].used, 2 * MICRO);
		redis_fixture_run(&server, "DEL weir:address:{n}:1");
	}
}

/* Keys of another type are left alone, and asked about on this host. */
static void
wrong_types(void **state)
{
	static const char *const keys[] = {"weir:pool:{n}", "weir:wrote:{s@x}", "weir:grey:k"};
	struct env *e = *state;
	char text[16];

	if (!in_redis(e))
		return;
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		redisReply *r;

		redis_fixture_run(&server, "FLUSHALL");
		redis_fixture_run(&server, "RPUSH %s x", keys[i]);
		make_request(&e->q);
		(void)add_record(&e->q, PER_ADDRESS, "{a}:1");
		add_pool(&e->q, "{n}", TRUST_REJECTED);
		add_grey(&e->q, "{n}", "s@x r@y");
		strcpy(e->q.grey.key, "k");
		e->q.grey.correspondents = true;
		strcpy(e->q.grey.sender, "{s@x}");
		if (e->backend == REDIS)
			assert_int_equal(store_ask(e->bench.store, &e->q, T0, &e->a), STORE_DOWN);
		else {
			assert_int_equal(store_ask(e->bench.store, &e->q, T0, &e->a), STORE_OK);
			assert_int_equal(e->a.source, ANSWER_ZONE);
		}
		r = redis_fixture_command(&server, "TYPE %s", keys[i]);
		snprintf(text, sizeof text, "%s", r->str);
		freeReplyObject(r);
		assert_string_equal(text, "list");
		assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 1);
		assert_false(zone_breaker_open(e->bench.zone));
	}
	/* what a user wrote to is written over: it is a note, and nobody's list */
	redis_fixture_run(&server, "FLUSHALL");
	redis_fixture_run(&server, "RPUSH weir:wrote:{s@x} x");
	wrote(e, "{s@x}", T0, DAY);
	check_ttl("weir:wrote:{s@x}", DAY);
}

static const struct policy_case cases[] = {
    {"correspondents", correspondents},
    {"wrote_and_refused", wrote_and_refused},
    {"embargo", embargo},
    {"record_forms", record_forms},
    {"totals", totals},
    {"shadows", shadows},
    {"hostile_fields", hostile_fields},
    {"hostile_quotas", hostile_quotas},
    {"wrong_types", wrong_types},
};

int
main(void)
{
	return policy_cases_run("redis policy", cases, sizeof cases / sizeof cases[0]);
}
