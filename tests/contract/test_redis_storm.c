/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redis_storm.c - many threads on one connection while Redis stops, goes on, forgets its
 * scripts and drops its clients. Nobody waits longer than he said, and nobody ever gets the
 * answer to another's question.
 */
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "redis_fixture.h"
#include "store_fixture.h"

#define THREADS 24
#define TIMEOUT_MS 40
#define SLACK_US (250 * USEC_PER_MSEC)

static struct redis_fixture server;
static struct bench bench;
static struct limit connections;
static atomic_bool stop;
static atomic_uint answers, silences, late, mixed;

/* Each thread counts on a record of its own, and with a cost of its own: a foreign answer would
 * show. A question that got no answer may have been charged all the same. */
static void *
client(void *arg)
{
	unsigned me = (unsigned)(uintptr_t)arg, seed = me;
	int64_t cost = 1000 + (int64_t)me, least = 0, most = 0;
	struct request q;
	char key[32];

	make_request(&q);
	snprintf(key, sizeof key, "{a}:%u", me);
	add_hit(&q, &connections, key, cost);
	while (!atomic_load(&stop)) {
		int64_t start = mono_us(), used;
		struct answer a;

		q.deadline_us = start + 1000 + rand_r(&seed) % (2 * TIMEOUT_MS * 1000);
		if (store_ask(bench.store, &q, T0, &a) != STORE_OK) {
			most += cost;
			atomic_fetch_add(&silences, 1);
			if (zone_breaker_open(bench.zone))
				sleep_ms(1);
		} else {
			used = a.hits[0].used / MICRO;
			if (used % cost != 0 || used < least + cost || used > most + cost)
				atomic_fetch_add(&mixed, 1);
			least = most = used;
			atomic_fetch_add(&answers, 1);
		}
		if (mono_us() - start > TIMEOUT_MS * USEC_PER_MSEC + SLACK_US)
			atomic_fetch_add(&late, 1);
	}
	return NULL;
}

static void
storm(void **state)
{
	pthread_t threads[THREADS];

	(void)state;
	connections = make_limit(
	    "connections", "count=connections per=address rate=1000000/1s burst=1000000000");
	bench_open(&bench, server.url, "", TIMEOUT_MS);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, client, (void *)(i + 1)), 0);
	for (int i = 0; i < 40; i++) {
		sleep_ms(30);
		redis_fixture_run(&server, "SCRIPT FLUSH");
		sleep_ms(10);
		redis_fixture_run(&server, "CLIENT KILL TYPE normal");
		kill(server.pid, SIGSTOP);
		sleep_ms((unsigned)i * 2); /* at last for longer than anybody waits */
		kill(server.pid, SIGCONT);
	}
	/* on a busy machine no probe may have come through so far */
	for (int i = 0; i < 1000 && answers <= 1000; i++)
		sleep_ms(10);
	atomic_store(&stop, true);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	print_message("%u answers, %u silences\n", answers, silences);
	assert_int_equal(mixed, 0);
	assert_int_equal(late, 0);
	assert_true(answers > 1000);
	assert_true(silences > 0);
	bench_close(&bench);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(storm)};

	return redis_fixture_tests(&server, "redis storm", tests, sizeof tests / sizeof tests[0]);
}
