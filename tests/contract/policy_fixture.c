/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * policy_fixture.c - see policy_fixture.h.
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

struct redis_fixture server;

static int
setup(void **state)
{
	struct env *e = calloc(1, sizeof *e);

	assert_non_null(e);
	e->backend = *(const enum backend *)*state;
	redis_fixture_run(&server, "FLUSHALL");
	bench_open(&e->bench, server.url, "", 0);
	if (e->backend == ZONE) {
		store_close(&e->bench.store);
		e->bench.store = zone_store_open(e->bench.zone, 0);
	}
	if (e->backend == CHAIN)
		e->bench.store = chain_store_open(e->bench.store, e->bench.zone, 0);
	assert_non_null(e->bench.store);
	make_request(&e->q);
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct env *e = *state;

	bench_close(&e->bench);
	free(e);
	return 0;
}

#define CASES_MAX 32

int
policy_cases_run(const char *name, const struct policy_case *cases, size_t ncases)
{
	static const char *const names[] = {"zone", "redis", "chain"};
	static enum backend backends[] = {ZONE, REDIS, CHAIN};
	static struct CMUnitTest tests[3 * CASES_MAX];
	static char label[3 * CASES_MAX][64];
	size_t n = 0;

	if (ncases > CASES_MAX)
		abort();
	for (size_t b = 0; b < 3; b++)
		for (size_t i = 0; i < ncases; i++, n++) {
			snprintf(label[n], sizeof label[n], "%s: %s", names[b], cases[i].name);
			tests[n] = (struct CMUnitTest){
			    label[n], cases[i].run, setup, teardown, &backends[b]};
		}
	return redis_fixture_tests(&server, name, tests, n);
}

void
ask(struct env *e, int64_t now)
{
	assert_int_equal(store_ask(e->bench.store, &e->q, now, &e->a), STORE_OK);
	assert_int_equal(e->a.now_us, now);
	if (e->backend != CHAIN || e->a.source != ANSWER_CACHE)
		assert_int_equal(e->a.source, ANSWER_STORE);
}

void
takes(struct env *e, int64_t now)
{
	ask(e, now);
	assert_true(e->a.charged);
}

void
refuses(struct env *e, int64_t now)
{
	ask(e, now);
	assert_false(e->a.charged);
}

void
figures(const struct env *e, unsigned i, int64_t used, bool over, int64_t wait_us)
{
	const struct hit_answer *h = &e->a.hits[i];

	if (e->a.source == ANSWER_CACHE)
		return;
	if (h->skipped || h->used != used * MICRO || h->over != over ||
	    (wait_us != UNKNOWN && h->wait_us != wait_us))
		fail_msg("hit %u: %s used %lld.%06d, over %d, wait %lld us", i,
		    h->skipped ? "skipped," : "", (long long)(h->used / MICRO),
		    (int)(h->used % MICRO), h->over, (long long)h->wait_us);
}

void
add_rung(struct request *q, const struct limit *l, const char *key, unsigned times, int64_t cost)
{
	struct record *r = &q->records[q->nrecords];
	struct hit *h = &q->hits[q->nhits++];

	r->kind = PER_NETWORK;
	snprintf(r->key, sizeof r->key, "%s", key);
	r->ttl_us = 2 * HOUR;
	*h = (struct hit){
	    .limit = l, .record = (uint8_t)q->nrecords++, .times = (uint16_t)times, .cost = cost};
}

void
add_pool(struct request *q, const char *key, enum trust_event event)
{
	q->pool = (struct pool_question){.asked = true,
	    .record = (uint8_t)add_record(q, PER_POOL, key),
	    .event = event,
	    .rule = {.messages = 3, .over_us = 2 * HOUR, .keep_us = 30 * DAY}};
}

void
earn(struct env *e, const char *pool, int credits)
{
	struct request q = e->q;

	make_request(&e->q);
	add_pool(&e->q, pool, TRUST_MESSAGE);
	for (int i = 0; i <= credits; i++)
		takes(e, T0 + i * HOUR);
	e->q = q;
}

void
check_trust_field(const struct env *e, const char *key, const struct trust *t)
{
	char want[128];
	redisReply *r;

	if (e->backend == ZONE)
		return;
	r = redis_fixture_command(&server, "HGET %s trust", key);
	snprintf(want, sizeof want, "%lld %lld %lld %lld %lld", (long long)t->credit,
	    (long long)t->good, (long long)t->bad, (long long)t->time_us, (long long)t->earned_us);
	assert_int_equal(r->type, REDIS_REPLY_STRING);
	assert_string_equal(r->str, want);
	freeReplyObject(r);
}

int64_t
random_below(int64_t n)
{
	static uint64_t state = 42;

	state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
	return (int64_t)((state >> 33) % (uint64_t)n);
}
