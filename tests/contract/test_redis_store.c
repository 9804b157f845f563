/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redis_store.c - what only the store in Redis does: generations, life times,
 * leases, and what people may have written by hand.
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
static struct limit connections, sessions;

static int
setup(void **state)
{
	(void)state;
	redis_fixture_run(&server, "FLUSHALL");
	bench_open(&bench, server.url, "", 0);
	connections = make_limit("connections", "count=connections per=address rate=60/1m burst=3");
	sessions = make_limit("sessions", "count=sessions per=address max=20");
	make_request(&q);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	bench_close(&bench);
	return 0;
}

static enum store_status
ask(int64_t now)
{
	return store_ask(bench.store, &q, now, &a);
}

/* Polls for up to 2 s. */
static bool
becomes(long long want, const char *command, const char *key)
{
	for (int i = 0; i < 400; i++) {
		if (redis_fixture_integer(&server, "%s %s", command, key) == want)
			return true;
		sleep_ms(5);
	}
	return false;
}

/* --- generations ---------------------------------------------------------------------------- */

static void
stale(void **state)
{
	(void)state;
	add_hit(&q, &connections, "{a}:1", 1);
	add_hit(&q, &sessions, "{a}:1", 1);
	redis_fixture_run(&server, "INCR weir:generation");
	assert_int_equal(ask(0), STORE_STALE);
	assert_string_equal(a.generation, "1");
	assert_false(a.charged);
	assert_int_equal(a.lease, 0);
	assert_int_equal(zone_sessions(bench.zone), 0);
	assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 1);
	strcpy(q.generation, a.generation);
	assert_int_equal(ask(0), STORE_OK);
	assert_true(a.charged);
}

/* Whatever stands there, the answer is a token that the next question can carry. */
static void
odd_generations(void **state)
{
	const char *const values[] = {
	    "", "a\nb", "\x01", "7 8", "123456789012345678901234567890", NULL};

	(void)state;
	add_hit(&q, &connections, "{a}:1", 1);
	connections.burst = 100;
	for (int i = 0; values[i] != NULL; i++) {
		redis_fixture_run(&server, "SET weir:generation %s", values[i]);
		strcpy(q.generation, "");
		assert_int_equal(ask(0), STORE_STALE);
		strcpy(q.generation, a.generation);
		assert_int_equal(ask(0), STORE_OK);
	}
	redis_fixture_run(&server, "DEL weir:generation");
	redis_fixture_run(&server, "LPUSH weir:generation 1");
	strcpy(q.generation, "0");
	assert_int_equal(ask(0), STORE_OK);
}

static void
script_flushed(void **state)
{
	struct overlay o;

	(void)state;
	add_hit(&q, &connections, "{a}:1", 1);
	for (int i = 0; i < 3; i++) {
		redis_fixture_run(&server, "SCRIPT FLUSH");
		assert_int_equal(ask(T0), STORE_OK);
		assert_int_equal(a.hits[0].used, (i + 1) * MICRO);
		redis_fixture_run(&server, "SCRIPT FLUSH");
		assert_int_equal(store_load(bench.store, 0, NULL, &o), STORE_OK);
		overlay_free(&o);
	}
	/* and usually the name is enough */
	assert_int_equal(ask(T0), STORE_OK);
	redis_fixture_run(&server, "CONFIG RESETSTAT");
	assert_int_equal(ask(T0), STORE_OK);
	redisReply *r = redis_fixture_command(&server, "INFO commandstats");
	assert_non_null(strstr(r->str, "cmdstat_evalsha:calls=1,"));
	assert_null(strstr(r->str, "cmdstat_eval:"));
	freeReplyObject(r);
}

/* --- what stands in Redis ----------------------------------------------------------------- */

static void
record_form(void **state)
{
	(void)state;
	add_hit(&q, &connections, "{a}:1", 1);
	for (int i = 0; i < 5; i++)
		assert_int_equal(ask(T0 + i), STORE_OK);
	redisReply *r = redis_fixture_command(
	    &server, "HMGET weir:address:{a}:1 connections first last ok refused");
	/* 2 microseconds drain 2 millionths */
	assert_string_equal(r->element[0]->str, "2999998 1700000000000002");
	assert_string_equal(r->element[1]->str, "1700000000000000");
	assert_string_equal(r->element[2]->str, "1700000000000004");
	assert_string_equal(r->element[3]->str, "3");
	assert_string_equal(r->element[4]->str, "2");
	freeReplyObject(r);
}

/* The address's record keeps what became of each question, and the last refusal by a limit. */
static void
totals(void **state)
{
	static const struct {
		const char *what;
		int64_t cost, dt_s;
		bool grey;
		const char *ok, *refused, *refusal; /* refusal NULL: none yet */
	} table[] = {
	    {"fits", 1, 0, false, "1", NULL, NULL},
	    {"over the first", 3, 1, false, "1", "1", "connections 1700000001000000"},
	    {"fits again", 1, 2, false, "2", "1", "connections 1700000001000000"},
	    {"over both: the first speaks", 9, 3, false, "2", "2", "connections 1700000003000000"},
	    {"greylisted: no limit", 1, 4, true, "2", "3", "connections 1700000003000000"},
	    {"over the second", 2, 5, false, "2", "4", "second 1700000005000000"},
	};
	struct limit second =
	    make_limit("second", "count=connections per=network rate=1/1d burst=3");
	struct limit shadow =
	    make_limit("shadow", "count=connections per=address rate=1/1d burst=1 action=log");

	(void)state;
	connections = make_limit("connections", "count=connections per=address rate=1/1d burst=3");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		redisReply *r;
		const char *want[3] = {table[i].ok, table[i].refused, table[i].refusal};

		make_request(&q);
		add_record(&q, PER_ADDRESS, "{a}:1");
		add_hit(&q, &shadow, "{a}:1", 1); /* over from the second on, and never named */
		if (i + 1 < sizeof table / sizeof table[0])
			add_hit(&q, &connections, "{a}:1", table[i].cost);
		add_hit(&q, &second, "{a}", table[i].cost);
		if (table[i].grey)
			add_grey(&q, "{a}", "s r");
		assert_int_equal(ask(T0 + table[i].dt_s * SEC), STORE_OK);
		r = redis_fixture_command(
		    &server, "HMGET weir:address:{a}:1 ok refused refusal first");
		for (int k = 0; k < 3; k++)
			if ((want[k] == NULL) != (r->element[k]->str == NULL) ||
			    (want[k] != NULL && strcmp(want[k], r->element[k]->str) != 0))
				fail_msg("%s: %s", table[i].what,
				    r->element[k]->str != NULL ? r->element[k]->str : "nil");
		assert_string_equal(r->element[3]->str, "1700000000000000");
		freeReplyObject(r);
	}
	/* nowhere else */
	assert_int_equal(redis_fixture_integer(&server, "HEXISTS weir:network:{a} ok"), 0);
	assert_int_equal(redis_fixture_integer(&server, "HEXISTS weir:network:{a} refusal"), 0);
	assert_int_equal(redis_fixture_integer(&server, "HEXISTS weir:pool:{a} refused"), 0);
}

/* A question without any limit (an exempt client's) leaves a trace, and no more. */
static void
no_hits(void **state)
{
	(void)state;
	add_record(&q, PER_ADDRESS, "{a}:1");
	assert_int_equal(ask(T0), STORE_OK);
	assert_true(a.charged);
	assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 1);
	assert_int_equal(redis_fixture_integer(&server, "HLEN weir:address:{a}:1"), 3);
	redis_fixture_run(&server, "SET weir:generation 2");
	assert_int_equal(ask(T0), STORE_STALE);
}

static void
written_by_hand(void **state)
{
	const char *const values[] = {"", "x", "-5 3", "1", "99999999999999999999 5", "1e3 2",
	    "3000000  1700000000000000", "3000000 99999999999999999999", NULL};

	(void)state;
	add_hit(&q, &connections, "{a}:1", 1);
	for (int i = 0; values[i] != NULL; i++) {
		redis_fixture_run(&server, "HSET weir:address:{a}:1 connections %s ok %s first %s",
		    values[i], values[i], values[i]);
		assert_int_equal(ask(T0), STORE_OK);
		assert_int_equal(a.hits[0].used, MICRO);
	}
	make_request(&q);
	add_grey(&q, "{a}", "s r");
	for (int i = 0; values[i] != NULL; i++) {
		redis_fixture_run(&server, "SET %s %s", "weir:grey:{a} s r", values[i]);
		redis_fixture_run(&server, "HSET weir:pool:{a} known %s",
		    strcmp(values[i], "1") == 0 ? "one" : values[i]);
		assert_int_equal(ask(T0), STORE_OK);
		assert_int_equal(a.grey, GREY_NEW);
	}
}

static void
wrong_types(void **state)
{
	const char *const keys[] = {"weir:address:{a}:1", "weir:open:address:{a}:1",
	    "weir:pool:{a}", "weir:grey:{a} s r", NULL};

	(void)state;
	add_hit(&q, &connections, "{a}:1", 1);
	add_hit(&q, &sessions, "{a}:1", 1);
	add_grey(&q, "{a}", "s r");
	for (int i = 0; keys[i] != NULL; i++) {
		bench_close(&bench);
		bench_open(&bench, server.url, "", 0);
		redis_fixture_run(&server, "FLUSHALL");
		redis_fixture_run(&server, "LPUSH %s oops", keys[i]);
		for (int n = 0; n < 2 * BREAKER_FAILURES; n++)
			assert_int_equal(ask(0), STORE_DOWN);
		assert_false(zone_breaker_open(bench.zone));
		assert_int_equal(notices_count(&bench.notices), 1);
		assert_non_null(strstr(bench.notices.line[0], keys[i]));
		assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 1); /* nothing charged */
		redis_fixture_run(&server, "DEL %s", keys[i]);
		assert_int_equal(ask(0), STORE_OK);
	}
}

/* Redis must not fill up: whatever a question leaves goes by itself. */
static void
everything_expires(void **state)
{
	struct limit log =
	    make_limit("shadow", "count=connections per=all rate=1/1h burst=2 action=log");

	(void)state;
	add_hit(&q, &connections, "{a}:1", 1);
	add_hit(&q, &sessions, "{a}:1", 1);
	add_hit(&q, &log, "{all}", 1);
	for (int i = 0; i < 5; i++) /* refused ones too */
		assert_int_equal(ask(T0), STORE_OK);
	assert_int_equal(ask(T0 - HOUR), STORE_OK);
	make_request(&q);
	add_grey(&q, "{a}", "s r");
	for (int i = 0; i < 4; i++)
		assert_int_equal(ask(T0 + i * 150 * SEC), STORE_OK);
	add_grey(&q, "{a}", "s r2");
	assert_int_equal(ask(T0 - 40 * DAY), STORE_OK);
	strcpy(q.records[0].key, "{b}");
	for (int i = 0; i < 2; i++)
		assert_int_equal(ask(T0), STORE_OK);

	redisReply *r = redis_fixture_command(&server, "KEYS *");
	assert_in_range(r->elements, 5, 9);
	for (size_t i = 0; i < r->elements; i++)
		assert_in_range(redis_fixture_integer(&server, "PTTL %s", r->element[i]->str), 1,
		    35LL * 86400 * 1000);
	freeReplyObject(r);
}

/* --- leases ------------------------------------------------------------------------------- */

/* What is counted per pool for an hour must not end that the pool is known for a month. */
static void
longest_life_stays(void **state)
{
	struct limit hits = make_limit("hits", "count=connections per=pool rate=60/1m burst=30");

	(void)state;
	add_grey(&q, "{p}", "s@x r@y");
	q.records[0].ttl_us = HOUR;
	assert_int_equal(ask(T0), STORE_OK);
	assert_int_equal(ask(T0 + 300 * SEC), STORE_OK);
	assert_int_equal(a.grey, GREY_PASSED);
	assert_in_range(
	    redis_fixture_integer(&server, "TTL weir:pool:{p}"), 35 * 86400 - 10, 35 * 86400);
	make_request(&q);
	add_hit(&q, &hits, "{p}", 1);
	q.records[0].ttl_us = HOUR;
	assert_int_equal(ask(T0 + 301 * SEC), STORE_OK);
	assert_in_range(
	    redis_fixture_integer(&server, "TTL weir:pool:{p}"), 35 * 86400 - 10, 35 * 86400);
}

/* A limit that was a quota and becomes a rate begins anew: the one's figures are nothing to the
 * other, and times taken for levels would lock clients out for years. */
static void
quota_becomes_rate(void **state)
{
	struct limit quota = make_limit("mine", "count=recipients per=sender quota=1000/1d");
	struct limit rate = make_limit("mine", "count=recipients per=sender rate=1/1h burst=3");

	(void)state;
	for (int turn = 0; turn < 3; turn++) {
		make_request(&q);
		add_hit(&q, turn % 2 == 0 ? &quota : &rate, "{s}", 1);
		assert_int_equal(ask(T0 + turn), STORE_OK);
		assert_true(a.charged);
		assert_int_equal(a.hits[0].used, turn == 2 ? 2 * MICRO : MICRO);
	}
}

static void
lease_form(void **state)
{
	(void)state;
	add_hit(&q, &sessions, "{a}:1", 1);
	assert_int_equal(ask(T0), STORE_OK);
	assert_in_range(
	    redis_fixture_integer(&server, "PTTL weir:open:address:{a}:1"), 80000000, 86400000);
	redisReply *r =
	    redis_fixture_command(&server, "ZRANGE weir:open:address:{a}:1 0 -1 WITHSCORES");
	assert_int_equal(r->elements, 2);
	assert_int_equal(strncmp(r->element[0]->str, "node:", 5), 0);
	assert_int_equal(strtoull(r->element[0]->str + 5, NULL, 16), a.lease);
	assert_string_equal(r->element[1]->str, "1700000060000000");
	freeReplyObject(r);
	/* who does not renew it loses it */
	sessions.max = 1;
	assert_int_equal(ask(T0 + 60 * SEC - 1), STORE_OK);
	assert_false(a.charged);
	assert_int_equal(ask(T0 + 60 * SEC), STORE_OK);
	assert_true(a.charged);
}

static void
closing_releases(void **state)
{
	(void)state;
	add_hit(&q, &sessions, "{a}:1", 1);
	assert_int_equal(ask(0), STORE_OK);
	store_release(bench.store, a.lease);
	int64_t start = mono_us();
	store_close(&bench.store);
	assert_in_range(mono_us() - start, 0, 300000);
	assert_int_equal(redis_fixture_integer(&server, "EXISTS weir:open:address:{a}:1"), 0);
}

/* What a worker that was killed left behind, the next in its place clears away. */
static void
successor_releases(void **state)
{
	(void)state;
	add_hit(&q, &sessions, "{a}:1", 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(0), STORE_OK);
	store_close(&bench.store);
	assert_int_equal(redis_fixture_integer(&server, "ZCARD weir:open:address:{a}:1"), 3);
	zone_worker_died(bench.zone, 0, true);
	bench.store =
	    redis_store_open(&bench.options, bench.zone, 0, "node", keep_notice, &bench.notices);
	assert_true(becomes(0, "ZCARD", "weir:open:address:{a}:1"));
}

/* ... and if nobody takes its place, another worker. */
static void
orphans_are_told(void **state)
{
	struct store *dead;

	(void)state;
	add_hit(&q, &sessions, "{a}:1", 1);
	dead = redis_store_open(&bench.options, bench.zone, 1, "node", keep_notice, &bench.notices);
	for (int i = 0; i < 3; i++)
		assert_int_equal(store_ask(dead, &q, 0, &a), STORE_OK);
	assert_int_equal(ask(0), STORE_OK);
	store_close(&dead);
	assert_int_equal(redis_fixture_integer(&server, "ZCARD weir:open:address:{a}:1"), 4);
	zone_worker_died(bench.zone, 1, true);
	assert_true(zone_orphan_any(bench.zone));
	assert_true(becomes(1, "ZCARD", "weir:open:address:{a}:1"));
	assert_false(zone_orphan_any(bench.zone));
}

static void
two_stores_one_limit(void **state)
{
	struct bench other;

	(void)state;
	bench_open(&other, server.url, "", 0);
	store_close(&other.store);
	other.store =
	    redis_store_open(&other.options, other.zone, 0, "other", keep_notice, &other.notices);
	for (int round = 0; round < 20; round++) {
		struct request r;
		char key[32];

		make_request(&r);
		snprintf(key, sizeof key, "{a}:%d", round);
		add_hit(&r, &sessions, key, 1);
		assert_int_equal(ask_at_once(bench.store, other.store, &r, 0, 64, 1), 20);
	}
	bench_close(&other);
}

static void
many_releases(void **state)
{
	enum { N = 1200 };
	static uint64_t lease[N];

	(void)state;
	sessions.max = 2 * N;
	add_hit(&q, &sessions, "{a}:1", 1);
	for (int i = 0; i < N; i++) {
		assert_int_equal(ask(0), STORE_OK);
		lease[i] = a.lease;
	}
	assert_int_equal(redis_fixture_integer(&server, "ZCARD weir:open:address:{a}:1"), N);
	for (int i = 0; i < N; i++)
		store_release(bench.store, lease[i]);
	assert_true(becomes(0, "ZCARD", "weir:open:address:{a}:1"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    T(stale),
	    T(odd_generations),
	    T(script_flushed),
	    T(record_form),
	    T(totals),
	    T(no_hits),
	    T(written_by_hand),
	    T(wrong_types),
	    T(everything_expires),
	    T(longest_life_stays),
	    T(quota_becomes_rate),
	    T(lease_form),
	    T(closing_releases),
	    T(successor_releases),
	    T(orphans_are_told),
	    T(two_stores_one_limit),
	    T(many_releases),
	};

	return redis_fixture_tests(&server, "redis", tests, sizeof tests / sizeof tests[0]);
}
