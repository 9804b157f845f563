/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_neighbours.c - several weir-milters on one Redis, and how many of them ask for a load level;
 * and that of a stranger to whom a busy host says no Redis keeps nothing.
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

#define NODES 4

static struct redis_fixture server;
static struct bench bench;
static struct store *nodes[NODES];

static int
setup(void **state)
{
	char name[] = "mx?";

	(void)state;
	redis_fixture_run(&server, "FLUSHALL");
	bench_open(&bench, server.url, "", 0);
	for (unsigned i = 0; i < NODES; i++) {
		name[2] = (char)('0' + i);
		nodes[i] = redis_store_open(
		    &bench.options, bench.zone, 1, name, keep_notice, &bench.notices);
		if (nodes[i] == NULL)
			exit(99);
	}
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	for (unsigned i = 0; i < NODES; i++)
		store_close(&nodes[i]);
	bench_close(&bench);
	return 0;
}

static void
tells(unsigned node, bool above, unsigned nabove, unsigned all)
{
	unsigned a = 99, n = 99;

	assert_true(store_neighbours(nodes[node], above, &a, &n));
	assert_int_equal(a, nabove);
	assert_int_equal(n, all);
}

static void
counted(void **state)
{
	(void)state;
	tells(0, false, 0, 1);
	tells(0, false, 0, 1); /* once, however often it speaks */
	tells(1, true, 1, 2);
	tells(2, true, 2, 3);
	tells(0, false, 2, 3);
	tells(0, true, 3, 3);
	tells(1, false, 2, 3);
	tells(3, false, 2, 4);
	assert_int_equal(redis_fixture_integer(&server, "ZCARD weir:nodes"), 4);
	/* all keys go by themselves */
	assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 1);
	assert_in_range(redis_fixture_integer(&server, "PTTL weir:nodes"), 1, 10000);
}

/* Redis' time in milliseconds, and so much. */
static long long
redis_ms(long long more)
{
	redisReply *r = redis_fixture_command(&server, "TIME");
	long long ms = atoll(r->element[0]->str) * 1000 + atoll(r->element[1]->str) / 1000 + more;

	freeReplyObject(r);
	return ms;
}

#define ABOVE NEIGHBOUR_ABOVE

static void
stale(void **state)
{
	static const struct {
		long long age_ms;
		bool above;
		bool counts;
	} table[] = {
	    {5000, false, true},
	    {5000, true, true},
	    {20000, false, false},
	    {20000, true, false},
	    {-20000, false, false}, /* Redis' clock went back */
	    {-20000, true, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		unsigned counts = table[i].counts;

		redis_fixture_run(&server, "FLUSHALL");
		redis_fixture_run(&server, "ZADD weir:nodes %lld other",
		    redis_ms(-table[i].age_ms) + (table[i].above ? ABOVE : 0));
		tells(0, false, counts && table[i].above, 1 + counts);
		/* and is forgotten, or the set would grow with each restart */
		assert_int_equal(redis_fixture_integer(&server, "ZCARD weir:nodes"), 1 + counts);
	}
}

static void
by_hand(void **state)
{
	static const char *const scores[] = {"-inf", "+inf", "0", "-5", "1e300", "3.7", NULL};
	unsigned above, all;

	(void)state;
	for (unsigned i = 0; scores[i] != NULL; i++)
		redis_fixture_run(&server, "ZADD weir:nodes %s n%u", scores[i], i);
	tells(0, true, 1, 1);
	assert_int_equal(redis_fixture_integer(&server, "ZCARD weir:nodes"), 1);
	/* another type: said once, and no failure of Redis */
	redis_fixture_run(&server, "DEL weir:nodes");
	redis_fixture_run(&server, "LPUSH weir:nodes oops");
	for (unsigned i = 0; i < 2 * BREAKER_FAILURES; i++)
		assert_false(store_neighbours(nodes[i % NODES], true, &above, &all));
	assert_false(zone_breaker_open(bench.zone));
	assert_int_equal(notices_count(&bench.notices), 1);
	assert_non_null(strstr(bench.notices.line[0], "does not tell of other weir-milters"));
}

static void
without_redis(void **state)
{
	struct store *zone = zone_store_open(bench.zone, 0);
	unsigned above, all;

	(void)state;
	assert_non_null(zone);
	assert_false(store_neighbours(zone, true, &above, &all));
	store_close(&zone);
	redis_fixture_run(&server, "SCRIPT FLUSH");
	tells(0, true, 1, 1);
}

/* A flood of strangers must not fill Redis while the host has no time for them. */
static void
stranger_leaves_nothing(void **state)
{
	struct limit l = make_limit("x", "count=connections per=address rate=1/1h strict=true");
	struct request q;
	struct answer a;

	(void)state;
	make_request(&q);
	add_hit(&q, &l, "{a}:1", 1);
	q.pool = (struct pool_question){.asked = true,
	    .known_only = true,
	    .record = (uint8_t)add_record(&q, PER_POOL, "{p}"),
	    .passed_us = DAY};
	assert_int_equal(store_ask(bench.store, &q, T0, &a), STORE_OK);
	assert_false(a.charged);
	assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 0);
	redis_fixture_run(&server, "HSET weir:pool:{p} known %lld", (long long)T0);
	assert_int_equal(store_ask(bench.store, &q, T0, &a), STORE_OK);
	assert_true(a.charged && a.known);
	assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    T(counted),
	    T(stale),
	    T(by_hand),
	    T(without_redis),
	    T(stranger_leaves_nothing),
	};

	return redis_fixture_tests(&server, "neighbours", tests, sizeof tests / sizeof tests[0]);
}
