/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_botnet.c - a flood from millions of addresses against the chain of Redis and zone: memory
 * stays within its bounds, and limits of the clients in its midst are exact throughout.
 *
 * A real redis-server with a maxmemory that the flood passes many times over, and volatile-ttl.
 * Each bot connects once, counted as weir-milter does by default, and goes. Among them are clients
 * that come steadily, some above their limit: of each of their questions the answer is compared with
 * that of a zone which knows nobody else.
 *
 * WEIR_BOTNET="V6 V4 MAXMEMORY ZONE" (megabytes): other figures than those of `make check`;
 * doc/memory.md has those of "10000000 1000000 64 32". WEIR_BOTNET_LADDER="/48*16 /32*256": the
 * connections limit with a ladder.
 *
 * The time is the flood's own: BOTS_PER_S of it are a second. So the steady clients come as often
 * between two bots on any machine.
 */
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "redis_fixture.h"
#include "store_fixture.h"
#include "weir/ruleset.h"

#define THREADS 12
#define STEADY 40 /* one connection in 1.1 s each, of 60 a minute */
#define GREEDY 10 /* four in a second each */
#define TICK_US (100 * USEC_PER_MSEC)
#define HELD 20 /* sessions of one client that stay open: all that it may have */
#define POOLS 1000 /* that greylisting knows */

static struct redis_fixture server;
static struct bench bench, oracle;
static struct ruleset rules;
static unsigned long long nv6 = 30000, nv4 = 5000;
static unsigned maxmemory = 4, zone_mb = 1;
static unsigned bots_per_s = 1000;
static atomic_ullong next_bot, done, charged, refused, silent;
static atomic_bool stop;
static _Atomic int64_t midst_us = T0; /* how far those in the midst are */

/* "RssAnon": weir's own memory; "RssShmem": what of the zone, a mapping of fixed size, was touched. */
static long
resident_kb(const char *kind)
{
	char line[128];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "r");

	assert_non_null(f);
	while (fgets(line, sizeof line, f) != NULL)
		if (strncmp(line, kind, strlen(kind)) == 0)
			kb = strtol(line + strlen(kind) + 1, NULL, 10);
	fclose(f);
	assert_true(kb >= 0);
	return kb;
}

static long long
redis_info(const char *section, const char *name)
{
	redisReply *r = redis_fixture_command(&server, "INFO %s", section);
	const char *at = strstr(r->str, name);
	long long v;

	assert_non_null(at);
	v = strtoll(at + strlen(name) + 1, NULL, 10);
	freeReplyObject(r);
	return v;
}

/* --- who connects ---------------------------------------------------------------------------- */

static int64_t
now(void)
{
	return T0 + (int64_t)(atomic_load(&done) * 1000000 / bots_per_s);
}

/* The n-th of them: all different, and in no order. IPv6 from one /32, each a /64 of its own. */
static struct addr
bot(unsigned long long n)
{
	/* odd, so that no two are the same */
	uint32_t mixed = (uint32_t)n * UINT32_C(2654435761);
	struct addr a = {.family = n < nv6 ? ADDR_V6 : ADDR_V4};

	if (n >= nv6)
		mixed =
		    ((uint32_t)(n - nv6) * UINT32_C(2654435761) & 0xffffff) | UINT32_C(0x0a000000);
	if (n < nv6)
		memcpy(a.b, (const uint8_t[]){0x20, 0x01, 0x0d, 0xb8}, 4);
	for (unsigned i = 0; i < 4; i++)
		a.b[(n < nv6 ? 4 : 0) + i] = (uint8_t)(mixed >> (24 - 8 * i));
	if (n < nv6)
		a.b[15] = (uint8_t)n;
	return a;
}

static struct addr
client(unsigned n)
{
	return (struct addr){.family = ADDR_V4, .b = {192, 0, (uint8_t)(2 + n / 200), (uint8_t)n}};
}

static void
plan(const struct addr *a, struct request *q)
{
	const struct facts f = {.stage = STAGE_CONNECT,
	    .client = *a,
	    .name = "",
	    .user = "",
	    .helo = "",
	    .sender = "",
	    .recipient = ""};

	assert_true(plan_request(&rules, &f, q));
}

static void *
bots(void *arg)
{
	unsigned long long n;

	(void)arg;
	while ((n = atomic_fetch_add(&next_bot, 1)) < nv6 + nv4) {
		struct addr a = bot(n);
		struct request q;
		struct answer out;

		/* they keep in step, however busy the machine is */
		while (now() > atomic_load(&midst_us) + 2 * TICK_US)
			usleep(200);
		plan(&a, &q);
		if (store_ask(bench.store, &q, now(), &out) != STORE_OK ||
		    out.source == ANSWER_ZONE)
			atomic_fetch_add(&silent, 1);
		atomic_fetch_add(out.charged ? &charged : &refused, 1);
		store_release(bench.store, out.lease);
		atomic_fetch_add(&done, 1);
	}
	atomic_store(&stop, true);
	return NULL;
}

/* --- who is in their midst -------------------------------------------------------------------- */

static struct {
	unsigned long long asked, refused, steady_refused, wrong, silent, held_let_in;
} seen;

/* One connection of a client that the oracle counts, too. */
static bool
comes(unsigned n, int64_t at)
{
	struct addr a = client(n);
	struct request q;
	struct answer out, right;

	plan(&a, &q);
	/* connections alone: Redis hears of a session's end a moment of real time later */
	q.nhits = 1;
	assert_int_equal(store_ask(bench.store, &q, at, &out), STORE_OK);
	assert_int_equal(store_ask(oracle.store, &q, at, &right), STORE_OK);
	seen.asked++;
	seen.refused += !out.charged;
	seen.silent += out.source == ANSWER_ZONE;
	if (out.charged != right.charged ||
	    (out.source == ANSWER_STORE && out.hits[0].used != right.hits[0].used))
		seen.wrong++;
	return out.charged;
}

static uint64_t
holds(void)
{
	struct addr a = client(255);
	struct request q;
	struct answer out;

	plan(&a, &q);
	q.hits[0] = q.hits[1]; /* the sessions limit alone */
	q.nhits = 1;
	assert_int_equal(store_ask(bench.store, &q, 0, &out), STORE_OK);
	return out.lease;
}

/* Until the flood is over; looks at the memory as well. */
static void
midst(long *rss_early, long *rss_late, long long *most)
{
	unsigned long long all = nv6 + nv4;
	int64_t at = now(), looked = 0;

	for (unsigned tick = 0; !atomic_load(&stop); tick++) {
		uint64_t lease;
		long long used;

		while (now() < at && !atomic_load(&stop))
			usleep(200);
		for (unsigned i = 0; i < STEADY; i++)
			if ((tick + i) % 11 == 0 && !comes(i, at))
				seen.steady_refused++;
		for (unsigned i = 0; i < GREEDY; i++)
			for (unsigned k = 0; k < 4; k++)
				if ((tick + i) % 10 == 0)
					(void)comes(100 + i, at);
		at += TICK_US;
		atomic_store(&midst_us, at);
		if (mono_us() - looked < 100 * USEC_PER_MSEC)
			continue;
		looked = mono_us();
		lease = holds();
		seen.held_let_in += lease != 0;
		store_release(bench.store, lease);
		used = redis_info("memory", "used_memory");
		if (used > *most)
			*most = used;
		if (*rss_early == 0 && atomic_load(&done) > all / 4)
			*rss_early = resident_kb("RssAnon");
		if (atomic_load(&done) > all / 4)
			*rss_late = resident_kb("RssAnon");
	}
}

/* --- the whole --------------------------------------------------------------------------------- */

static void
know_pools(void)
{
	for (unsigned i = 0; i < POOLS; i++) {
		redis_fixture_run(&server, "HSET weir:pool:{p%u.test} known %" PRId64, i, T0);
		redis_fixture_run(&server, "EXPIRE weir:pool:{p%u.test} 3024000", i);
	}
	redis_fixture_run(&server, "SET weir:generation 0");
	redis_fixture_run(&server, "HSET weir:limits connections by=test");
}

static unsigned
pools_known(void)
{
	unsigned n = 0;

	for (unsigned i = 0; i < POOLS; i++)
		n += redis_fixture_integer(&server, "EXISTS weir:pool:{p%u.test}", i) == 1;
	return n;
}

static void
open_all(void)
{
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];
	const char *ladder = getenv("WEIR_BOTNET_LADDER");

	ruleset_defaults(&rules);
	strcpy(rules.generation, "0");
	if (ladder != NULL)
		assert_true(limit_set(
		    ruleset_limit(&rules, "connections"), "ladder", ladder, err, sizeof err));
	assert_true(ruleset_finish(&rules, err, sizeof err));
	bench_open(&bench, server.url, "", 0);
	zone_free(&oracle.zone);
	store_close(&bench.store);
	zone_free(&bench.zone);
	bench.zone = zone_new((int64_t)zone_mb << 20, 2);
	oracle.zone = zone_new(4 * ZONE_SIZE_MIN, 1);
	assert_true(bench.zone != NULL && oracle.zone != NULL);
	oracle.store = zone_store_open(oracle.zone, 0);
	bench.store = chain_store_open(
	    redis_store_open(&bench.options, bench.zone, 0, "node", keep_notice, &bench.notices),
	    bench.zone, 0);
	assert_true(bench.store != NULL && oracle.store != NULL);
}

static void
flood(void **state)
{
	long before, early = 0, late = 0;
	long long most = 0, evicted;
	pthread_t threads[THREADS];
	uint64_t held[HELD];
	int64_t start;
	unsigned known;

	(void)state;
	know_pools();
	open_all();
	for (unsigned i = 0; i < HELD; i++)
		assert_true((held[i] = holds()) != 0);
	assert_true(holds() == 0);
	before = resident_kb("RssAnon");
	start = mono_us();
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, bots, NULL), 0);
	midst(&early, &late, &most);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	evicted = redis_info("stats", "evicted_keys");
	known = pools_known();
	print_message(
	    "%llu IPv6 in a /32, %llu IPv4: %.0f s, %llu let in, %llu refused, %llu without "
	    "Redis\n",
	    nv6, nv4, (double)(mono_us() - start) / 1e6, (unsigned long long)charged,
	    (unsigned long long)refused, (unsigned long long)silent);
	print_message("Redis: maxmemory %u MB, used at most %lld bytes (%+lld), resident %lld KB, "
		      "%lld keys evicted, %lld left; %u of %u pools known\n",
	    maxmemory, most, most - ((long long)maxmemory << 20),
	    redis_info("memory", "used_memory_rss") / 1024, evicted,
	    redis_fixture_integer(&server, "DBSIZE"), known, POOLS);
	print_message(
	    "weir: own memory %ld KB before, %ld KB at a quarter, %ld KB at the end; of the "
	    "zone of %u MB and its leases %ld KB\n",
	    before, early, late, zone_mb, resident_kb("RssShmem"));
	print_message("in their midst: %llu questions, %llu refused, %llu answered otherwise than "
		      "alone; steady ones refused %llu times; the 21st session let in %llu times\n",
	    seen.asked, seen.refused, seen.wrong, seen.steady_refused, seen.held_let_in);

	/* it was a flood at all */
	if (getenv("WEIR_BOTNET_LADDER") == NULL) {
		assert_true(evicted > 0);
		assert_int_equal(refused, 0);
	}
	assert_true(seen.asked > 200 && seen.refused > 20);
	/* Redis was there, with room for weir's own connections above what it may keep */
	assert_int_equal(silent + seen.silent, 0);
	assert_int_equal(bench.notices.n, 0);
	/* it makes room before a command, not after */
	assert_true(most <= ((long long)maxmemory << 20) + 16384);
#ifndef __SANITIZE_ADDRESS__ /* which keeps for a while what has been freed */
	assert_true(late - early < 1024);
#endif
	assert_int_equal(seen.wrong, 0);
	assert_int_equal(seen.steady_refused, 0);
	assert_int_equal(seen.held_let_in, 0);
	assert_int_equal(known, POOLS);
	assert_int_equal(redis_fixture_integer(&server, "EXISTS weir:limits weir:generation"), 2);
	for (unsigned i = 0; i < HELD; i++)
		store_release(bench.store, held[i]);
	assert_int_equal(zone_sessions(bench.zone), 0);
	bench_close(&bench);
	store_close(&oracle.store);
	zone_free(&oracle.zone);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(flood)};
	const char *wanted = getenv("WEIR_BOTNET");
	char bytes[24];
	const char *more[] = {"--maxmemory", bytes, "--maxmemory-policy", "volatile-ttl", NULL};
	int failed;

	if (redis_fixture_binary() == NULL) {
		fprintf(stderr, "no redis-server: set REDIS_SERVER\n");
		return 77;
	}
	if (wanted != NULL) {
		if (sscanf(wanted, "%llu %llu %u %u", &nv6, &nv4, &maxmemory, &zone_mb) != 4) {
			fprintf(stderr, "WEIR_BOTNET=\"V6 V4 MAXMEMORY ZONE\"\n");
			return 99;
		}
		bots_per_s = 10000;
	}
	snprintf(bytes, sizeof bytes, "%umb", maxmemory);
	redis_fixture_start(&server, more);
	failed = cmocka_run_group_tests_name("botnet", tests, NULL, NULL);
	redis_fixture_stop(&server);
	return failed;
}
