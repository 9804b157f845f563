/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redis_faults.c - what Redis, the network and the administrator do to a store: each
 * question still ends in time, and the breaker keeps the rest away until Redis is back.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redis_fixture.h"
#include "store_fixture.h"

#define TIMEOUT_MS 100
/* On two cores that do other things besides. */
#define SLACK_US (150 * USEC_PER_MSEC)

static struct redis_fixture server;
static struct bench bench;
static struct request q;
static struct answer a;
static struct limit connections, sessions;

static int
setup_with(const char *url, const char *password)
{
	bench_open(&bench, url, password, TIMEOUT_MS);
	connections =
	    make_limit("connections", "count=connections per=address rate=60/1m burst=1000");
	sessions = make_limit("sessions", "count=sessions per=address max=1000");
	make_request(&q);
	add_hit(&q, &connections, "{a}:1", 1);
	return 0;
}

static int
setup(void **state)
{
	(void)state;
	redis_fixture_run(&server, "FLUSHALL");
	return setup_with(server.url, "");
}

static int
teardown(void **state)
{
	(void)state;
	bench_close(&bench);
	return 0;
}

/* Asks, and sees that it took no longer than it may. */
static enum store_status
ask(void)
{
	int64_t start = mono_us();
	enum store_status s = store_ask(bench.store, &q, 0, &a);

	assert_in_range(mono_us() - start, 0, TIMEOUT_MS * USEC_PER_MSEC + SLACK_US);
	return s;
}

/* Redis has just become useless: three failures, then silence; a notice with this in it. */
static void
trips(const char *reason)
{
	int64_t start;

	for (int i = 0; i < BREAKER_FAILURES; i++) {
		assert_false(zone_breaker_open(bench.zone));
		assert_int_equal(ask(), STORE_DOWN);
	}
	assert_true(zone_breaker_open(bench.zone));
	start = mono_us();
	for (int i = 0; i < 1000; i++)
		if (store_ask(bench.store, &q, 0, &a) != STORE_DOWN)
			fail_msg("no breaker");
	assert_in_range(mono_us() - start, 0, 100000);
	assert_int_equal(notices_count(&bench.notices), 1);
	if (strstr(bench.notices.line[0], reason) == NULL)
		fail_msg("'%s' is not in '%s'", reason, bench.notices.line[0]);
}

static void
recovers(void)
{
	assert_true(bench_back(&bench, 2000));
	assert_int_equal(ask(), STORE_OK);
	sleep_ms(20);
	assert_int_equal(notices_count(&bench.notices), 2);
	assert_non_null(strstr(bench.notices.line[1], "is back after"));
}

/* --- a real server in trouble ------------------------------------------------------------- */

static void
frozen(void **state)
{
	(void)state;
	assert_int_equal(ask(), STORE_OK);
	kill(server.pid, SIGSTOP);
	trips("timeout after 100 ms");
	sleep_ms(600); /* some probes */
	assert_true(zone_breaker_open(bench.zone));
	kill(server.pid, SIGCONT);
	recovers();
}

static void
frozen_for_a_crowd(void **state)
{
	(void)state;
	assert_int_equal(ask(), STORE_OK);
	kill(server.pid, SIGSTOP);
	trips("timeout");
	kill(server.pid, SIGCONT);
	assert_true(bench_back(&bench, 2000));
	assert_int_equal(ask_at_once(bench.store, NULL, &q, 0, 16, 10), 160);
}

static void
read_only(void **state)
{
	(void)state;
	redis_fixture_run(&server, "REPLICAOF 127.0.0.1 1");
	trips("READONLY");
	sleep_ms(600);
	assert_true(zone_breaker_open(bench.zone)); /* the probe notices that, too */
	redis_fixture_run(&server, "REPLICAOF NO ONE");
	recovers();
}

static void
out_of_memory(void **state)
{
	(void)state;
	redis_fixture_run(&server, "CONFIG SET maxmemory 1");
	trips("OOM");
	sleep_ms(600);
	assert_true(zone_breaker_open(bench.zone));
	redis_fixture_run(&server, "CONFIG SET maxmemory 0");
	recovers();
}

/* It comes back empty, and learns at once who is there. */
static void
killed(void **state)
{
	(void)state;
	add_hit(&q, &sessions, "{a}:1", 1);
	for (int i = 0; i < 3; i++)
		assert_int_equal(ask(), STORE_OK);
	redis_fixture_kill(&server);
	trips("");
	redis_fixture_restart(&server);
	assert_true(bench_back(&bench, 2000));
	for (int i = 0; i < 200; i++) {
		if (redis_fixture_integer(&server, "ZCARD weir:open:address:{a}:1") == 3)
			break;
		sleep_ms(10);
	}
	assert_int_equal(ask(), STORE_OK);
	assert_int_equal(a.hits[1].used, 4 * MICRO);
	assert_int_equal(a.hits[0].used, MICRO);
	assert_in_range(
	    redis_fixture_integer(&server, "PTTL weir:open:address:{a}:1"), 80000000, 86400000);
}

/* Redis may do what it was asked after we have given up; such a session must not stay counted. */
static void
lost_answer(void **state)
{
	(void)state;
	assert_int_equal(ask(), STORE_OK);
	add_hit(&q, &sessions, "{a}:1", 1);
	kill(server.pid, SIGSTOP);
	assert_int_equal(ask(), STORE_DOWN);
	kill(server.pid, SIGCONT);
	sleep_ms(1500);
	redisReply *r = redis_fixture_command(&server, "HGET weir:address:{a}:1 ok");
	assert_string_equal(r->str, "2"); /* it did */
	freeReplyObject(r);
	assert_int_equal(redis_fixture_integer(&server, "ZCARD weir:open:address:{a}:1"), 0);
}

/* So short an absence that nobody asked meanwhile is none. */
static void
restarted_unseen(void **state)
{
	(void)state;
	assert_int_equal(ask(), STORE_OK);
	redis_fixture_restart(&server);
	assert_int_equal(ask(), STORE_OK);
	assert_int_equal(notices_count(&bench.notices), 0);
}

static void
passwords(void **state)
{
	(void)state;
	redis_fixture_run(&server, "CONFIG SET requirepass s3cret");
	trips("PING: NOAUTH");
	bench_close(&bench);
	setup_with(server.url, "wr0ng");
	trips("AUTH: WRONGPASS");
	assert_null(strstr(bench.notices.line[0], "wr0ng"));
	bench_close(&bench);
	setup_with(server.url, "s3cret");
	assert_int_equal(ask(), STORE_OK);
	redis_fixture_run(&server, "CONFIG SET requirepass %s", "");
}

static void
other_database(void **state)
{
	char url[sizeof server.url + 16];

	(void)state;
	bench_close(&bench);
	snprintf(url, sizeof url, "%s?db=3", server.url);
	setup_with(url, "");
	assert_int_equal(ask(), STORE_OK);
	assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 0);
	bench_close(&bench);
	snprintf(url, sizeof url, "%s?db=3000", server.url);
	setup_with(url, "");
	trips("SELECT: ERR");
}

static void
nobody_there(void **state)
{
	int64_t start = mono_us();

	(void)state;
	bench_close(&bench);
	setup_with("redis://127.0.0.1:1", "");
	trips("connect: Connection refused");
	bench_close(&bench);
	setup_with("redis://no-such-host.invalid", "");
	trips("not resolved");
	start = mono_us();
	store_close(&bench.store);
	assert_in_range(mono_us() - start, 0, 250000);
}

static void
late_already(void **state)
{
	(void)state;
	q.deadline_us = mono_us() - 1;
	for (int i = 0; i < 2 * BREAKER_FAILURES; i++)
		assert_int_equal(ask(), STORE_DOWN);
	assert_false(zone_breaker_open(bench.zone)); /* that was not Redis' fault */
}

/* --- the chain ---------------------------------------------------------------------------- */

static void
chain(void **state)
{
	struct limit two =
	    make_limit("connections", "count=connections per=address rate=1/1h burst=2");
	uint64_t lease;

	(void)state;
	bench.store = chain_store_open(bench.store, bench.zone, 0);
	make_request(&q);
	add_hit(&q, &two, "{a}:1", 1);
	assert_int_equal(ask(), STORE_OK);
	assert_int_equal(ask(), STORE_OK);
	assert_int_equal(ask(), STORE_OK);
	assert_false(a.charged);
	assert_int_equal(a.source, ANSWER_STORE);
	kill(server.pid, SIGSTOP);
	assert_int_equal(ask(), STORE_OK); /* it needs not be asked for that */
	assert_int_equal(a.source, ANSWER_CACHE);
	assert_true(a.hits[0].over);
	assert_false(a.charged);
	strcpy(q.generation, "1"); /* not by other rules */
	add_hit(&q, &sessions, "{a}:1", 1);
	assert_int_equal(ask(), STORE_OK);
	assert_int_equal(a.source, ANSWER_ZONE);
	assert_true(a.charged);
	lease = a.lease;
	assert_true(lease != 0);
	assert_int_equal(zone_sessions(bench.zone), 1);
	kill(server.pid, SIGCONT);
	store_release(bench.store, lease);
	assert_int_equal(zone_sessions(bench.zone), 0);
	sleep_ms(200);
	assert_int_equal(redis_fixture_integer(&server, "EXISTS weir:open:address:{a}:1"), 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    T(frozen),
	    T(frozen_for_a_crowd),
	    T(read_only),
	    T(out_of_memory),
	    T(killed),
	    T(lost_answer),
	    T(restarted_unseen),
	    T(passwords),
	    T(other_database),
	    T(nobody_there),
	    T(late_already),
	    T(chain),
	};

	return redis_fixture_tests(&server, "redis faults", tests, sizeof tests / sizeof tests[0]);
}
