/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_refusals.c - clients refused a moment ago: the chain answers for Redis, but never for
 * longer than ZONE_REFUSAL_US, and never by other rules.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redis_fixture.h"
#include "store_fixture.h"

static struct redis_fixture server;
static struct bench bench;
static struct request q;
static struct answer a;
static struct limit two;

static int
setup(void **state)
{
	(void)state;
	redis_fixture_run(&server, "FLUSHALL");
	bench_open(&bench, server.url, "", 0);
	bench.store = chain_store_open(bench.store, bench.zone, 0);
	assert_non_null(bench.store);
	two = make_limit("connections", "count=connections per=address rate=6/1m burst=2");
	make_request(&q);
	add_hit(&q, &two, "{a}:1", 1);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	bench_close(&bench);
	return 0;
}

static void
answers(int64_t now, enum answer_source source, bool charged)
{
	assert_int_equal(store_ask(bench.store, &q, now, &a), STORE_OK);
	if (a.source != source || a.charged != charged)
		fail_msg("source %d, charged %d", (int)a.source, a.charged);
}

/* Two get in, and the third is refused by Redis. */
static void
fill(void)
{
	answers(T0, ANSWER_STORE, true);
	answers(T0, ANSWER_STORE, true);
	answers(T0, ANSWER_STORE, false);
	assert_int_equal(a.hits[0].wait_us, 10 * SEC);
}

static void
repeated(void **state)
{
	static const struct {
		int64_t after_us;
		enum answer_source source;
	} table[] = {
	    {0, ANSWER_CACHE},
	    {1, ANSWER_CACHE},
	    {ZONE_REFUSAL_US - 1, ANSWER_CACHE},
	    {ZONE_REFUSAL_US, ANSWER_STORE}, /* and is remembered from then on */
	    {2 * ZONE_REFUSAL_US - 1, ANSWER_CACHE},
	    {2 * ZONE_REFUSAL_US, ANSWER_STORE},
	    {9 * SEC, ANSWER_STORE},
	    {10 * SEC - 1, ANSWER_CACHE},
	};

	(void)state;
	fill();
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		answers(T0 + table[i].after_us, table[i].source, false);
		assert_true(a.hits[0].over);
		/* when it fits, by the limit's own figures and not by the cache's */
		if (a.hits[0].wait_us != 10 * SEC - table[i].after_us)
			fail_msg("row %zu: %lld", i, (long long)a.hits[0].wait_us);
		assert_true(a.hits[0].used > 2 * MICRO);
		assert_int_equal(a.lease, 0);
	}
	answers(T0 + 10 * SEC, ANSWER_STORE, true);
}

/* weirctl clear: the next but one second is the client's. */
static void
taken_back(void **state)
{
	(void)state;
	fill();
	redis_fixture_run(&server, "DEL weir:address:{a}:1");
	answers(T0 + ZONE_REFUSAL_US - 1, ANSWER_CACHE, false);
	answers(T0 + ZONE_REFUSAL_US, ANSWER_STORE, true);
}

static void
other_generation(void **state)
{
	(void)state;
	fill();
	redis_fixture_run(&server, "SET weir:generation 5");
	answers(T0, ANSWER_CACHE, false); /* by the rules that it was refused by */
	strcpy(q.generation, "5");
	answers(T0, ANSWER_STORE, false);
	answers(T0, ANSWER_CACHE, false);
	strcpy(q.generation, "4");
	assert_int_equal(store_ask(bench.store, &q, T0, &a), STORE_STALE);
	assert_string_equal(a.generation, "5");
	strcpy(q.generation, "5");
	answers(T0, ANSWER_CACHE, false);
}

static void
others_are_asked(void **state)
{
	struct limit other = make_limit("others", "count=messages per=address rate=6/1m burst=9");
	struct request p;

	(void)state;
	fill();
	p = q;
	strcpy(q.records[0].key, "{a}:2"); /* a neighbour */
	answers(T0, ANSWER_STORE, true);
	make_request(&q); /* another limit */
	add_hit(&q, &other, "{a}:1", 1);
	answers(T0, ANSWER_STORE, true);
	add_hit(&q, &two, "{a}:1", 1); /* one of several is enough */
	answers(T0, ANSWER_CACHE, false);
	assert_false(a.hits[0].over);
	assert_true(a.hits[1].over);
	q = p;
	q.peek = true; /* who looks, looks at Redis */
	answers(T0, ANSWER_STORE, false);
}

/* More than one at once says nothing about one; open sessions come and go. */
static void
never_remembered(void **state)
{
	struct limit max = make_limit("sessions", "count=sessions per=address max=1");

	(void)state;
	q.hits[0].cost = 3;
	for (int i = 0; i < 3; i++)
		answers(T0, ANSWER_STORE, false);
	q.hits[0].cost = 1;
	answers(T0, ANSWER_STORE, true);
	make_request(&q);
	add_hit(&q, &max, "{a}:1", 1);
	answers(T0, ANSWER_STORE, true);
	for (int i = 0; i < 3; i++)
		answers(T0, ANSWER_STORE, false);
}

/* A shadow limit counts refused attempts, too, so that these must come to Redis. */
static void
beside_a_shadow(void **state)
{
	struct limit shadow =
	    make_limit("shadow", "count=connections per=address rate=1/1h burst=50 action=log");

	(void)state;
	add_hit(&q, &shadow, "{a}:1", 1);
	for (int i = 1; i <= 6; i++) {
		answers(T0, ANSWER_STORE, i <= 2);
		assert_int_equal(a.hits[1].used, i * MICRO);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    T(repeated),
	    T(taken_back),
	    T(other_generation),
	    T(others_are_asked),
	    T(never_remembered),
	    T(beside_a_shadow),
	};

	return redis_fixture_tests(&server, "refusals", tests, sizeof tests / sizeof tests[0]);
}
