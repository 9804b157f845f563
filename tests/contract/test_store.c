/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_store.c - the contract of store.h: the same cases against the zone, Redis, and the chain
 * of both; the latter two also as an event loop asks them. Time is passed, so nothing here waits but for the release of a session.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "loop_store.h"
#include "redis_fixture.h"
#include "store_fixture.h"

enum backend { ZONE, REDIS, CHAIN };
struct kind {
	const char *name;
	enum backend backend;
	bool loop;
};

static struct redis_fixture server;

struct env {
	enum backend backend;
	struct zone *zone;
	struct store *store;
	struct request q;
	struct answer a;
};

static int
setup(void **state)
{
	struct env *e = calloc(1, sizeof *e);
	const struct kind *kind = *state;
	struct redis_options o;
	struct store *redis = NULL;
	char err[128];

	e->backend = kind->backend;
	e->zone = zone_new(4 * ZONE_SIZE_MIN, 2);
	assert_non_null(e->zone);
	if (e->backend == ZONE)
		e->store = zone_store_open(e->zone, 0);
	else {
		redis_fixture_run(&server, "FLUSHALL");
		redis_options_defaults(&o);
		assert_true(redis_options_url(&o, server.url, err, sizeof err));
		o.timeout_us = 5 * SEC; /* a busy machine is no failure here */
		e->store = redis = redis_store_open(&o, e->zone, 0, "node", NULL, NULL);
	}
	if (e->backend == CHAIN)
		e->store = chain_store_open(e->store, e->zone, 0);
	if (kind->loop)
		e->store = loop_store_open(redis, e->store);
	assert_non_null(e->store);
	make_request(&e->q);
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct env *e = *state;

	store_close(&e->store);
	zone_free(&e->zone);
	free(e);
	return 0;
}

static void
ask(struct env *e, const struct request *q, int64_t now)
{
	assert_int_equal(store_ask(e->store, q, now, &e->a), STORE_OK);
	if (e->backend == CHAIN && e->a.source == ANSWER_CACHE)
		return;
	assert_int_equal(e->a.now_us, now);
	assert_int_equal(e->a.source, ANSWER_STORE);
}

static void
takes(struct env *e, const struct request *q, int64_t now)
{
	ask(e, q, now);
	assert_true(e->a.charged);
}

static void
refuses(struct env *e, const struct request *q, int64_t now)
{
	ask(e, q, now);
	assert_false(e->a.charged);
}

static void
greys(struct env *e, const struct request *q, int64_t now, enum grey_state state, int64_t wait)
{
	ask(e, q, now);
	assert_int_equal(e->a.grey, state);
	assert_int_equal(e->a.grey_wait_us, wait);
	assert_int_equal(e->a.charged, state == GREY_PASSED || state == GREY_KNOWN);
}

/* --- buckets ------------------------------------------------------------------------------ */

static void
burst_then_refuse(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("connections", "count=connections per=address rate=60/1m burst=3");

	add_hit(&e->q, &l, "{a}:1", 1);
	for (int i = 1; i <= 3; i++) {
		takes(e, &e->q, T0);
		assert_int_equal(e->a.hits[0].used, i * MICRO);
		assert_false(e->a.hits[0].over);
		assert_int_equal(e->a.hits[0].wait_us, 0);
	}
	for (int i = 0; i < 3; i++) {
		refuses(e, &e->q, T0);
		assert_true(e->a.hits[0].over);
		assert_int_equal(e->a.hits[0].used, 4 * MICRO);
		assert_int_equal(e->a.hits[0].wait_us, 1 * SEC);
	}
	/* a neighbour has a bucket of his own */
	strcpy(e->q.records[0].key, "{a}:2");
	takes(e, &e->q, T0);
	assert_int_equal(e->a.hits[0].used, MICRO);
}

static void
drains(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("connections", "count=connections per=address rate=60/1m burst=3");

	add_hit(&e->q, &l, "{a}:1", 1);
	for (int i = 0; i < 3; i++)
		takes(e, &e->q, T0);
	refuses(e, &e->q, T0);
	refuses(e, &e->q, T0 + SEC - 1);
	takes(e, &e->q, T0 + SEC);
	refuses(e, &e->q, T0 + SEC + 1);
	takes(e, &e->q, T0 + 2 * SEC + 500000);
	assert_int_equal(e->a.hits[0].used, 2500000);
	takes(e, &e->q, T0 + 3600 * SEC);
	assert_int_equal(e->a.hits[0].used, MICRO);
}

/* A rate that divides nothing evenly: the stores must agree to the last digit. */
static void
same_figures(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("odd", "count=recipients per=address rate=7/11m burst=5000");
	int64_t level = 0, dt = 1;

	add_hit(&e->q, &l, "{a}:1", 5);
	for (int64_t now = T0, last = T0; dt < 400 * SEC; last = now, dt = dt * 7 / 3 + 1) {
		now += dt;
		level = bucket_drained(level, now - last, l.rate, l.period_us) + 5 * MICRO;
		if (last == T0)
			level = 5 * MICRO;
		takes(e, &e->q, now);
		assert_int_equal(e->a.hits[0].used, level);
	}
}

/* Refused attempts fill a strict bucket to twice its burst, and no further. */
static void
strict(void **state)
{
	struct env *e = *state;
	struct limit s =
	    make_limit("stern", "count=connections per=address rate=60/1m burst=3 strict=true");
	struct limit other = make_limit("other", "count=connections per=network rate=1/1h burst=4");
	struct request both;

	add_hit(&e->q, &s, "{n}:1", 1);
	for (int i = 1; i <= 3; i++)
		takes(e, &e->q, T0);
	for (int i = 4; i <= 12; i++) {
		refuses(e, &e->q, T0);
		assert_int_equal(e->a.hits[0].used, (i <= 7 ? i : 7) * MICRO);
	}
	/* a calm client would have a place again after 1 s; this one waits for what it did */
	refuses(e, &e->q, T0 + SEC);
	/* that one filled it up again: 6 at T0 + 1 s, and 2 once 4 s have gone */
	takes(e, &e->q, T0 + 5 * SEC);

	/* refused by another limit it is charged all the same; the other is not */
	make_request(&both);
	add_hit(&both, &s, "{n}:2", 1);
	add_hit(&both, &other, "{n}", 2);
	takes(e, &both, T0);
	takes(e, &both, T0);
	refuses(e, &both, T0);
	assert_true(e->a.hits[1].over);
	assert_int_equal(e->a.hits[0].used, 3 * MICRO);
	refuses(e, &both, T0);
	assert_int_equal(e->a.hits[0].used, 4 * MICRO);
	assert_int_equal(e->a.hits[1].used, 6 * MICRO);
}

static void
all_or_nothing(void **state)
{
	struct env *e = *state;
	struct limit a = make_limit("one", "count=connections per=address rate=1/1h burst=10");
	struct limit b = make_limit("two", "count=connections per=network rate=1/1h burst=2");
	struct limit c = make_limit("three", "count=connections per=all rate=1/1h burst=10");
	struct request only;

	add_hit(&e->q, &a, "{n}:1", 1);
	add_hit(&e->q, &b, "{n}", 1);
	add_hit(&e->q, &c, "{all}", 1);
	takes(e, &e->q, T0);
	takes(e, &e->q, T0);
	for (int i = 0; i < 5; i++) {
		refuses(e, &e->q, T0);
		assert_false(e->a.hits[0].over);
		assert_true(e->a.hits[1].over);
		assert_false(e->a.hits[2].over);
	}
	make_request(&only);
	add_hit(&only, &a, "{n}:1", 1);
	add_hit(&only, &c, "{all}", 1);
	takes(e, &only, T0);
	assert_int_equal(e->a.hits[0].used, 3 * MICRO);
	assert_int_equal(e->a.hits[1].used, 3 * MICRO);
}

static void
shadow_limits(void **state)
{
	struct env *e = *state;
	struct limit hard = make_limit("hard", "count=connections per=address rate=1/1h burst=4");
	struct limit soft =
	    make_limit("soft", "count=connections per=address rate=1/1h burst=2 action=log");
	struct limit wide =
	    make_limit("wide", "count=connections per=address rate=1/1h burst=9 action=log");

	add_hit(&e->q, &hard, "{n}:1", 2);
	add_hit(&e->q, &soft, "{n}:1", 2);
	add_hit(&e->q, &wide, "{n}:1", 2);
	takes(e, &e->q, T0);
	assert_false(e->a.hits[1].over);
	takes(e, &e->q, T0); /* over the shadow: noted, not enforced, not charged to it */
	assert_true(e->a.hits[1].over);
	assert_int_equal(e->a.hits[1].used, 4 * MICRO);
	refuses(e, &e->q, T0);
	assert_true(e->a.hits[0].over);
	assert_int_equal(e->a.hits[1].used, 4 * MICRO);
	assert_int_equal(e->a.hits[2].used, 6 * MICRO);
	refuses(e, &e->q, T0); /* the other shadow was charged by the refused attempt */
	assert_int_equal(e->a.hits[2].used, 8 * MICRO);
}

static void
changed_rate(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("connections", "count=connections per=address rate=60/1m burst=10");

	add_hit(&e->q, &l, "{a}:1", 1);
	for (int i = 0; i < 6; i++)
		takes(e, &e->q, T0);
	l = make_limit("connections", "count=connections per=address rate=120/1m burst=8");
	takes(e, &e->q, T0 + SEC);
	assert_int_equal(e->a.hits[0].used, 5 * MICRO); /* 6 - 2 + 1 */
	l = make_limit("connections", "count=connections per=address rate=120/1m burst=5");
	refuses(e, &e->q, T0 + SEC);
	assert_int_equal(e->a.hits[0].used, 6 * MICRO);
}

static void
clock_back(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("connections", "count=connections per=address rate=60/1m burst=2");

	add_hit(&e->q, &l, "{a}:1", 1);
	takes(e, &e->q, T0 + HOUR);
	takes(e, &e->q, T0 + HOUR);
	refuses(e, &e->q, T0); /* and from now on it is T0 */
	takes(e, &e->q, T0 + SEC);
	refuses(e, &e->q, T0 + SEC);
}

static void
costs(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("recipients", "count=recipients per=address rate=60/1m burst=10");

	add_hit(&e->q, &l, "{a}:1", 7);
	takes(e, &e->q, T0);
	refuses(e, &e->q, T0);
	assert_int_equal(e->a.hits[0].used, 14 * MICRO);
	assert_int_equal(e->a.hits[0].wait_us, 4 * SEC);
	e->q.hits[0].cost = 3;
	takes(e, &e->q, T0);
	e->q.hits[0].cost = 11; /* never fits */
	refuses(e, &e->q, T0 + DAY);
}

static void
crowd(void **state)
{
	struct env *e = *state;
	struct limit a = make_limit("one", "count=connections per=address rate=1/1h burst=37");
	struct limit b = make_limit("two", "count=connections per=network rate=1/1h burst=50");

	add_hit(&e->q, &a, "{n}:1", 1);
	add_hit(&e->q, &b, "{n}", 1);
	assert_int_equal(ask_at_once(e->store, NULL, &e->q, T0, 16, 25), 37);
}

/* --- sessions ----------------------------------------------------------------------------- */

static void
sessions(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("sessions", "count=sessions per=address max=2");
	struct limit all = make_limit("allsessions", "count=sessions per=all max=100");
	uint64_t first;

	add_hit(&e->q, &l, "{a}:1", 1);
	add_hit(&e->q, &all, "{all}", 1);
	takes(e, &e->q, T0);
	first = e->a.lease;
	assert_true(first != 0);
	takes(e, &e->q, T0);
	assert_true(e->a.lease != 0 && e->a.lease != first);
	assert_int_equal(e->a.hits[0].used, 2 * MICRO);
	refuses(e, &e->q, T0);
	assert_int_equal(e->a.lease, 0);
	assert_true(e->a.hits[0].over);
	assert_int_equal(e->a.hits[0].used, 3 * MICRO);
	assert_int_equal(e->a.hits[1].used, 3 * MICRO);
	assert_int_equal(zone_sessions(e->zone), 2);

	store_release(e->store, first);
	assert_int_equal(zone_sessions(e->zone), 1);
	for (int i = 0; i < 200; i++) { /* Redis hears of it a little later */
		ask(e, &e->q, T0);
		if (e->a.charged)
			break;
		sleep_ms(10);
	}
	assert_true(e->a.charged);
	assert_int_equal(e->a.hits[0].used, 2 * MICRO);
	store_release(e->store, first); /* twice does no harm */
	sleep_ms(150);
	refuses(e, &e->q, T0);
}

/* --- greylisting -------------------------------------------------------------------------- */

static void
greylist(void **state)
{
	struct env *e = *state;
	struct request other;

	add_grey(&e->q, "{n}", "s@x r@y");
	greys(e, &e->q, T0, GREY_NEW, 300 * SEC);
	greys(e, &e->q, T0 + 60 * SEC, GREY_EARLY, 240 * SEC);
	greys(e, &e->q, T0 + 300 * SEC - 1, GREY_EARLY, 1);
	greys(e, &e->q, T0 + 300 * SEC, GREY_PASSED, 0);
	greys(e, &e->q, T0 + 301 * SEC, GREY_KNOWN, 0);

	make_request(&other); /* the pool is known, whatever it sends */
	add_grey(&other, "{n}", "t@x r@y");
	greys(e, &other, T0 + DAY, GREY_KNOWN, 0);
	greys(e, &other, T0 + 36 * DAY - HOUR, GREY_KNOWN, 0);
	greys(e, &other, T0 + 72 * DAY, GREY_NEW, 300 * SEC);
}

static void
greylist_window(void **state)
{
	struct env *e = *state;

	add_grey(&e->q, "{n}", "s@x r@y");
	greys(e, &e->q, T0, GREY_NEW, 300 * SEC);
	greys(e, &e->q, T0 + DAY, GREY_NEW, 300 * SEC); /* too late: from the beginning */
	greys(e, &e->q, T0 + DAY + 299 * SEC, GREY_EARLY, 1 * SEC);
	greys(e, &e->q, T0 + DAY + 300 * SEC, GREY_PASSED, 0);
}

static void
greylist_limits(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("recipients", "count=recipients per=network rate=1/1m burst=2");
	struct request plain;

	make_request(&plain);
	add_hit(&plain, &l, "{n}", 1);
	takes(e, &plain, T0);
	takes(e, &plain, T0);

	add_hit(&e->q, &l, "{n}", 1);
	add_grey(&e->q, "{n}", "s@x r@y");
	refuses(e, &e->q, T0); /* by the limit, and so it leaves no triplet */
	greys(e, &e->q, T0 + 300 * SEC, GREY_NEW, 300 * SEC);
	greys(e, &e->q, T0 + 301 * SEC, GREY_EARLY, 299 * SEC);
	assert_int_equal(e->a.hits[0].used, MICRO); /* neither was charged */
	takes(e, &plain, T0 + 600 * SEC);
	takes(e, &plain, T0 + 600 * SEC);
	refuses(e, &e->q, T0 + 600 * SEC); /* ripe, but refused: it stays */
	greys(e, &e->q, T0 + 700 * SEC, GREY_PASSED, 0);
}

static void
greylist_clock_back(void **state)
{
	struct env *e = *state;

	add_grey(&e->q, "{n}", "s@x r@y");
	greys(e, &e->q, T0 + HOUR, GREY_NEW, 300 * SEC);
	greys(e, &e->q, T0, GREY_EARLY, 300 * SEC);
	greys(e, &e->q, T0 + 300 * SEC, GREY_PASSED, 0);
	greys(e, &e->q, T0 - HOUR, GREY_KNOWN, 0);
}

/* Held back and retried: not even a limit that only logs is charged for it. */
static void
greylist_shadow(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("shadow", "count=recipients per=network rate=1/1d burst=9 action=log");
	static const struct {
		int64_t dt_s;
		enum grey_state grey;
		int64_t used;
	} table[] = {
	    {0, GREY_NEW, 1},
	    {60, GREY_EARLY, 1},
	    {120, GREY_EARLY, 1},
	    {300, GREY_PASSED, 1},
	    {300, GREY_KNOWN, 2},
	    {300, GREY_KNOWN, 3},
	};

	add_hit(&e->q, &l, "{n}", 1);
	add_grey(&e->q, "{n}", "s@x r@y");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		ask(e, &e->q, T0 + table[i].dt_s * SEC);
		assert_int_equal(e->a.grey, table[i].grey);
		assert_int_equal(e->a.hits[0].used, table[i].used * MICRO);
	}
}

/* In mode observe nobody is held back, so all is charged; the pool gets to be known as ever. */
static void
greylist_observed(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("recipients", "count=recipients per=network rate=1/1d burst=9");
	static const struct {
		int64_t dt_s;
		enum grey_state grey;
	} table[] = {{0, GREY_NEW}, {60, GREY_EARLY}, {60, GREY_EARLY}, {300, GREY_PASSED},
	    {300, GREY_KNOWN}};

	add_hit(&e->q, &l, "{n}", 1);
	add_grey(&e->q, "{n}", "s@x r@y");
	e->q.grey.observed = true;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		takes(e, &e->q, T0 + table[i].dt_s * SEC);
		assert_int_equal(e->a.grey, table[i].grey);
		assert_in_range(
		    e->a.hits[0].used, (int64_t)i * MICRO + MICRO - 4000, (int64_t)(i + 1) * MICRO);
	}
}

/* --- the zone's part in the chain ---------------------------------------------------------- */

static void
own_clock(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("connections", "count=connections per=address rate=1/1h burst=1");

	add_hit(&e->q, &l, "{a}:1", 1);
	assert_int_equal(store_ask(e->store, &e->q, 0, &e->a), STORE_OK);
	assert_true(e->a.charged);
	assert_true(e->a.now_us > T0);
	assert_int_equal(store_ask(e->store, &e->q, 0, &e->a), STORE_OK);
	assert_false(e->a.charged);
	assert_in_range(e->a.hits[0].wait_us, HOUR - 60 * SEC, HOUR);
}

/* --- only known clients -------------------------------------------------------------------- */

/* What a busy host asks of a client that connects: so much of it fits a known one. */
static void
ask_busy(struct env *e, const struct limit *l, unsigned n, const char *pool, bool known_only)
{
	struct request q;

	make_request(&q);
	for (unsigned i = 0; i < n; i++)
		add_hit(&q, &l[i], "{n}:1", 1);
	q.pool = (struct pool_question){.asked = true,
	    .known_only = known_only,
	    .record = (uint8_t)add_record(&q, PER_POOL, pool),
	    .passed_us = 35 * DAY,
	    .rule = {.messages = 20, .over_us = 7 * DAY, .keep_us = 35 * DAY}};
	assert_int_equal(store_ask(e->store, &q, T0 + 400 * SEC, &e->a), STORE_OK);
}

/* A stranger leaves nothing behind: no charge, be it strict or a shadow, no session, no record. */
static void
known_only(void **state)
{
	struct env *e = *state;
	const struct limit l[] = {
	    make_limit("plain", "count=connections per=address rate=1/1h burst=9"),
	    make_limit("strict", "count=connections per=address rate=1/1h burst=9 strict=true"),
	    make_limit("shadow", "count=connections per=address rate=1/1h burst=9 action=log"),
	    make_limit("open", "count=sessions per=address max=9"),
	};

	add_grey(&e->q, "{p}", "s@x r@y");
	greys(e, &e->q, T0, GREY_NEW, 300 * SEC);
	greys(e, &e->q, T0 + 300 * SEC, GREY_PASSED, 0);
	for (int i = 0; i < 3; i++) {
		ask_busy(e, l, 4, "{q}", true);
		assert_false(e->a.known);
		assert_false(e->a.charged);
		assert_int_equal(e->a.lease, 0);
	}
	ask_busy(e, l, 4, "{p}", true);
	assert_true(e->a.known);
	assert_true(e->a.charged);
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(e->a.hits[i].used, MICRO);
	assert_int_not_equal(e->a.lease, 0);
	/* a known one that is over a limit is refused as ever */
	for (unsigned i = 1; i < 9; i++)
		ask_busy(e, l, 2, "{p}", true);
	assert_true(e->a.charged);
	ask_busy(e, l, 2, "{p}", true);
	assert_false(e->a.charged);
	assert_true(e->a.hits[0].over);
	/* and when the host is busy no more, so is the stranger */
	ask_busy(e, l, 1, "{q}", false);
	assert_false(e->a.charged);
	assert_true(e->a.hits[0].over);
}

static const struct {
	const char *name;
	CMUnitTestFunction run;
} cases[] = {
    {"burst_then_refuse", burst_then_refuse},
    {"drains", drains},
    {"same_figures", same_figures},
    {"all_or_nothing", all_or_nothing},
    {"strict", strict},
    {"shadow_limits", shadow_limits},
    {"changed_rate", changed_rate},
    {"clock_back", clock_back},
    {"costs", costs},
    {"crowd", crowd},
    {"sessions", sessions},
    {"greylist", greylist},
    {"greylist_window", greylist_window},
    {"greylist_limits", greylist_limits},
    {"greylist_clock_back", greylist_clock_back},
    {"greylist_shadow", greylist_shadow},
    {"greylist_observed", greylist_observed},
    {"own_clock", own_clock},
    {"known_only", known_only},
};
#define NCASES (sizeof cases / sizeof cases[0])

int
main(void)
{
	static struct kind kinds[] = {{"zone", ZONE, false}, {"redis", REDIS, false},
	    {"chain", CHAIN, false}, {"redis, loop", REDIS, true}, {"chain, loop", CHAIN, true}};
	enum { KINDS = sizeof kinds / sizeof kinds[0] };
	struct CMUnitTest tests[KINDS * NCASES];
	char label[KINDS * NCASES][64];
	size_t n = 0;

	for (size_t k = 0; k < KINDS; k++)
		for (size_t i = 0; i < NCASES; i++, n++) {
			snprintf(label[n], sizeof label[n], "%s: %s", kinds[k].name, cases[i].name);
			tests[n] =
			    (struct CMUnitTest){label[n], cases[i].run, setup, teardown, &kinds[k]};
		}
	return redis_fixture_tests(&server, "store", tests, n);
}
