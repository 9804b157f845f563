/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_peek.c - only to look: the same figures as a real question would get, and nothing is
 * charged or written by it - not in Redis, not in the zone.
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

enum backend { ZONE, REDIS, CHAIN };

static struct redis_fixture server;
static struct limit connections, shadow, sessions, recipients;

struct env {
	enum backend backend;
	struct bench bench;
	struct request q;
	struct answer a;
};

static int
setup(void **state)
{
	struct env *e = calloc(1, sizeof *e);

	assert_non_null(e);
	e->backend = *(const enum backend *)*state;
	redis_fixture_run(&server, "FLUSHALL");
	/* so that a record with a quota stays a list, of which two dumps are the same */
	redis_fixture_run(&server, "CONFIG SET hash-max-listpack-value 4096");
	bench_open(&e->bench, server.url, "", 0);
	if (e->backend == ZONE) {
		store_close(&e->bench.store);
		e->bench.store = zone_store_open(e->bench.zone, 0);
	}
	if (e->backend == CHAIN)
		e->bench.store = chain_store_open(e->bench.store, e->bench.zone, 0);
	assert_non_null(e->bench.store);
	connections = make_limit("connections", "count=connections per=address rate=1/1h burst=3");
	shadow =
	    make_limit("shadow", "count=connections per=network rate=1/1h burst=50 action=log");
	sessions = make_limit("sessions", "count=sessions per=address max=3");
	recipients = make_limit("recipients", "count=recipients per=network rate=1/1h burst=9");
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

/* --- all that Redis holds, as text ---------------------------------------------------------- */

static int
by_text(const void *a, const void *b)
{
	return strcmp((*(redisReply *const *)a)->str, (*(redisReply *const *)b)->str);
}

static char *
contents(void)
{
	redisReply *keys = redis_fixture_command(&server, "KEYS *");
	size_t len;
	char *text;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	if (keys->elements > 0)
		qsort(keys->element, keys->elements, sizeof *keys->element, by_text);
	for (size_t i = 0; i < keys->elements; i++) {
		const char *key = keys->element[i]->str;
		redisReply *dump = redis_fixture_command(&server, "DUMP %s", key);

		fprintf(f, "%s expires %lld:", key,
		    redis_fixture_integer(&server, "PEXPIRETIME %s", key));
		for (size_t b = 0; b < dump->len; b++)
			fprintf(f, " %02x", (unsigned char)dump->str[b]);
		fputc('\n', f);
		freeReplyObject(dump);
	}
	freeReplyObject(keys);
	fclose(f);
	return text;
}

static void
ask(struct env *e, bool peek, int64_t now)
{
	e->q.peek = peek;
	assert_int_equal(store_ask(e->bench.store, &e->q, now, &e->a), STORE_OK);
	assert_int_equal(e->a.source, ANSWER_STORE);
	if (now > 0)
		assert_int_equal(e->a.now_us, now);
}

/* Looks several times; Redis stays as it is. */
static void
looks(struct env *e, int64_t now)
{
	unsigned open = zone_sessions(e->bench.zone);
	char *before = contents(), *after;
	uint64_t leases = 0;
	bool same;

	for (int i = 0; i < 5; i++) {
		ask(e, true, now);
		leases |= e->a.lease;
	}
	after = contents();
	same = strcmp(before, after) == 0;
	if (!same)
		print_error("written:\n%sinstead of\n%s", after, before);
	free(before);
	free(after);
	assert_true(same);
	assert_int_equal(leases, 0);
	assert_int_equal(zone_sessions(e->bench.zone), open);
}

/* --- the cases ------------------------------------------------------------------------------ */

/* Before each real question the same one is peeked: the two get the same figures. */
static void
same_figures(void **state)
{
	struct env *e = *state;

	add_hit(&e->q, &connections, "{n}:1", 1);
	add_hit(&e->q, &shadow, "{n}", 1);
	for (int i = 0; i < 5; i++) {
		struct answer looked;

		looks(e, T0 + i);
		looked = e->a;
		ask(e, false, T0 + i);
		assert_int_equal(looked.charged, e->a.charged);
		assert_int_equal(looked.charged, i < 3);
		for (int h = 0; h < 2; h++) {
			assert_int_equal(looked.hits[h].used, e->a.hits[h].used);
			assert_int_equal(looked.hits[h].over, e->a.hits[h].over);
			assert_int_equal(looked.hits[h].wait_us, e->a.hits[h].wait_us);
		}
		/* what would be refused by the cache is no longer about peeking */
		if (i == 3)
			break;
	}
}

static void
refused(void **state)
{
	struct env *e = *state;

	add_hit(&e->q, &connections, "{n}:1", 1);
	for (int i = 0; i < 3; i++)
		ask(e, false, T0);
	looks(e, T0);
	assert_false(e->a.charged);
	/* not even remembered: the question after it goes to the store */
	ask(e, false, T0);
	assert_false(e->a.charged);
	assert_true(e->a.hits[0].over);
}

static void
open_sessions(void **state)
{
	struct env *e = *state;
	uint64_t lease;

	add_hit(&e->q, &sessions, "{n}:1", 1);
	looks(e, 0);
	assert_true(e->a.charged);
	assert_int_equal(e->a.hits[0].used, MICRO);
	assert_int_equal(zone_sessions(e->bench.zone), 0);
	ask(e, false, 0);
	lease = e->a.lease;
	assert_true(lease != 0);
	looks(e, 0);
	assert_int_equal(e->a.hits[0].used, 2 * MICRO);
	ask(e, false, 0);
	ask(e, false, 0);
	looks(e, 0);
	assert_false(e->a.charged);
	assert_int_equal(e->a.hits[0].used, 4 * MICRO);
	assert_int_equal(zone_sessions(e->bench.zone), 3);
	store_release(e->bench.store, lease);
	assert_int_equal(zone_sessions(e->bench.zone), 2);
}

static void
greylist(void **state)
{
	static const struct {
		int64_t dt_s;
		enum grey_state grey;
		int64_t wait_s;
	} table[] = {
	    {0, GREY_NEW, 300},
	    {1, GREY_EARLY, 299},
	    {300, GREY_PASSED, 0},
	    {301, GREY_KNOWN, 0},
	    {36 * 86400, GREY_NEW, 300},
	};
	struct env *e = *state;

	add_hit(&e->q, &recipients, "{n}", 1);
	add_grey(&e->q, "{n}", "s@x r@y");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		int64_t now = T0 + table[i].dt_s * SEC;

		looks(e, now);
		assert_int_equal(e->a.grey, table[i].grey);
		assert_int_equal(e->a.grey_wait_us, table[i].wait_s * SEC);
		ask(e, false, now);
		assert_int_equal(e->a.grey, table[i].grey);
	}
}

/* Quotas, notes, trust, traps, correspondents and the embargo: at each step five looks and a
 * question see the same, and a look leaves nothing. */
static void
policy(void **state)
{
	struct env *e = *state;
	struct limit quota = make_limit("quota", "count=messages per=address quota=9/1h");
	struct limit noted =
	    make_limit("noted", "count=rejected-recipients per=network rate=1/1h burst=2");
	struct limit known = make_limit("known-ones",
	    "count=messages per=address quota=9/1h "
	    "for=known action=log");

	add_hit(&e->q, &quota, "{n}:1", 2);
	add_hit(&e->q, &noted, "{n}", 1);
	add_hit(&e->q, &known, "{n}:1", 2);
	e->q.hits[1].mode = HIT_NOTE;
	add_grey(&e->q, "{n}", "s@x r@y");
	e->q.grey.correspondents = true;
	e->q.grey.embargo = 2;
	e->q.grey.embargo_us = HOUR;
	strcpy(e->q.grey.sender, "{s@x}");
	strcpy(e->q.wrote, "{t@x}");
	e->q.wrote_us = DAY;
	e->q.pool = (struct pool_question){.asked = true,
	    .record = e->q.grey.record,
	    .event = TRUST_MESSAGE,
	    .passed_us = e->q.grey.keep_us,
	    .rule = {.messages = 2, .over_us = HOUR, .keep_us = 30 * DAY}};
	for (int i = 0; i < 40; i++) {
		/* one after the other: who is new, held back, embargoed, passes, is known, guesses,
		 * and runs into a trap in the end */
		int64_t now = T0 + i * 61 * SEC;
		struct answer looked;

		e->q.rejected = i > 30;
		e->q.pool.event = i > 30 ? TRUST_REJECTED : TRUST_MESSAGE;
		e->q.pool.block_us = i == 36 ? HOUR : 0;
		snprintf(e->q.grey.key, sizeof e->q.grey.key, "{n} s%d@x r@y", i % 6);
		strcpy(e->q.grey.sender, i % 11 == 10 ? "{t@x}" : "{s@x}");
		looks(e, now);
		looked = e->a;
		ask(e, false, now);
		assert_int_equal(looked.charged, e->a.charged);
		assert_int_equal(looked.known, e->a.known);
		assert_int_equal(looked.blocked_us, e->a.blocked_us);
		assert_int_equal(looked.grey, e->a.grey);
		assert_int_equal(looked.grey_wait_us, e->a.grey_wait_us);
		for (unsigned h = 0; h < e->q.nhits; h++) {
			assert_int_equal(looked.hits[h].used, e->a.hits[h].used);
			assert_int_equal(looked.hits[h].over, e->a.hits[h].over);
			assert_int_equal(looked.hits[h].skipped, e->a.hits[h].skipped);
			assert_int_equal(looked.hits[h].wait_us, e->a.hits[h].wait_us);
		}
	}
	assert_true(e->a.blocked_us > 0);
}

/* What a question would repair, a look leaves. */
static void
clock_back(void **state)
{
	struct env *e = *state;

	add_hit(&e->q, &connections, "{n}:1", 1);
	add_grey(&e->q, "{n}", "s@x r@y");
	ask(e, false, T0);
	ask(e, false, T0 + 300 * SEC);
	looks(e, T0 - HOUR);
	assert_int_equal(e->a.grey, GREY_KNOWN);
	assert_int_equal(e->a.hits[0].used, 2 * MICRO);
	/* as if nobody had looked: two drain in two hours of the right time */
	ask(e, true, T0 + 300 * SEC + 2 * HOUR);
	assert_int_equal(e->a.hits[0].used, MICRO);
	ask(e, true, T0 + 300 * SEC + HOUR / 2);
	assert_int_equal(e->a.hits[0].used, MICRO + MICRO / 2);
}

static void
quota_clock_back(void **state)
{
	struct env *e = *state;
	struct limit quota = make_limit("quota", "count=messages per=address quota=9/1h");

	add_hit(&e->q, &quota, "{n}:1", 1);
	ask(e, false, T0);
	looks(e, T0 - HOUR);
	assert_int_equal(e->a.hits[0].used, 2 * MICRO);
	/* as if nobody had looked: gone an hour after it was charged, and not before */
	looks(e, T0 + HOUR - 1);
	assert_int_equal(e->a.hits[0].used, 2 * MICRO);
	looks(e, T0 + HOUR);
	assert_int_equal(e->a.hits[0].used, MICRO);
}

/* Whatever generation somebody else has made meanwhile. */
static void
stale_generation(void **state)
{
	struct env *e = *state;

	if (e->backend == ZONE)
		skip(); /* it has none */
	add_hit(&e->q, &connections, "{n}:1", 1);
	add_hit(&e->q, &sessions, "{n}:1", 1);
	redis_fixture_run(&server, "SET weir:generation 7");
	looks(e, T0);
	assert_true(e->a.charged);
	e->q.peek = false;
	assert_int_equal(store_ask(e->bench.store, &e->q, T0, &e->a), STORE_STALE);
	strcpy(e->q.generation, "7");
	ask(e, false, T0);
	for (int i = 0; i < 2; i++)
		ask(e, false, T0);
	strcpy(e->q.generation, "6");
	looks(e, T0);
	assert_int_equal(e->a.hits[0].used, 4 * MICRO);
	assert_false(e->a.charged);
}

/* What stands there by hand is read as a question reads it, and not mended. */
static void
written_by_hand(void **state)
{
	struct env *e = *state;

	if (e->backend == ZONE)
		skip();
	add_hit(&e->q, &connections, "{n}:1", 1);
	redis_fixture_run(&server, "HSET weir:address:{n}:1 connections nonsense ok x refused y");
	looks(e, T0);
	assert_int_equal(e->a.hits[0].used, MICRO);
}

static const struct {
	const char *name;
	CMUnitTestFunction run;
} cases[] = {
    {"same_figures", same_figures},
    {"refused", refused},
    {"open_sessions", open_sessions},
    {"greylist", greylist},
    {"policy", policy},
    {"clock_back", clock_back},
    {"quota_clock_back", quota_clock_back},
    {"stale_generation", stale_generation},
    {"written_by_hand", written_by_hand},
};
#define NCASES (sizeof cases / sizeof cases[0])

int
main(void)
{
	static const char *const names[] = {"zone", "redis", "chain"};
	static enum backend backends[] = {ZONE, REDIS, CHAIN};
	struct CMUnitTest tests[3 * NCASES];
	char label[3 * NCASES][64];
	size_t n = 0;

	for (size_t b = 0; b < 3; b++)
		for (size_t i = 0; i < NCASES; i++, n++) {
			snprintf(label[n], sizeof label[n], "%s: %s", names[b], cases[i].name);
			tests[n] = (struct CMUnitTest){
			    label[n], cases[i].run, setup, teardown, &backends[b]};
		}
	return redis_fixture_tests(&server, "peek", tests, n);
}
