/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_advice.c - what is dangerous about Redis' settings is said once, and again when it has been
 * mended and is back; who may not look is not told, and nothing else suffers.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "advice.h"
#include "redis_fixture.h"
#include "store_fixture.h"

static struct redis_fixture server;

static void
findings(void **state)
{
	static const struct {
		const char *memory, *persistence;
		unsigned advise;
		const char *texts[3];
	} table[] = {
	    {"maxmemory:0\r\nmaxmemory_policy:noeviction\r\n", "aof_enabled:0\r\n", ADVISE_MEMORY,
		{"no maxmemory"}},
	    {"maxmemory:0\r\nmaxmemory_policy:allkeys-lru\r\n", NULL, ADVISE_MEMORY,
		{"no maxmemory"}},
	    {"used:1\r\nmaxmemory:268435456\r\nmaxmemory_policy:noeviction\r\n", NULL,
		ADVISE_MEMORY, {"noeviction"}},
	    {"maxmemory:268435456\r\nmaxmemory_policy:allkeys-random\r\n", NULL, ADVISE_MEMORY,
		{"allkeys"}},
	    {"maxmemory:268435456\r\nmaxmemory_policy:allkeys-lfu\r\n", NULL, ADVISE_MEMORY,
		{"allkeys"}},
	    {"maxmemory:268435456\r\nmaxmemory_policy:volatile-random\r\n", NULL, ADVISE_MEMORY,
		{"known"}},
	    {"maxmemory:268435456\r\nmaxmemory_policy:volatile-ttl\r\n", NULL, ADVISE_MEMORY, {0}},
	    {"maxmemory:16777216\r\nmaxmemory_policy:volatile-ttl\r\n", NULL, ADVISE_MEMORY, {0}},
	    {"maxmemory:16777215\r\nmaxmemory_policy:noeviction\r\n", NULL, ADVISE_MEMORY,
		{"noeviction", "below 16mb"}},
	    {"maxmemory:16777215\r\nmaxmemory_policy:noeviction\r\n", NULL, ADVISE_SAVING, {0}},
	    /* 1,000,000 is now */
	    {"maxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
		"rdb_changes_since_last_save:1\r\nrdb_last_save_time:900000\r\naof_enabled:0\r\n",
		ADVISE_SAVING, {"does not save"}},
	    {"maxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
		"rdb_changes_since_last_save:1\r\nrdb_last_save_time:900000\r\naof_enabled:0\r\n",
		ADVISE_SAVING | ADVISE_MEMORY, {"no maxmemory", "does not save"}},
	    {"maxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
		"rdb_changes_since_last_save:1\r\nrdb_last_save_time:900000\r\naof_enabled:1\r\n",
		ADVISE_SAVING, {0}},
	    {"maxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
		"rdb_changes_since_last_save:0\r\nrdb_last_save_time:900000\r\naof_enabled:0\r\n",
		ADVISE_SAVING, {0}},
	    {"maxmemory:0\r\nmaxmemory_policy:noeviction\r\n",
		"rdb_changes_since_last_save:1\r\nrdb_last_save_time:999000\r\naof_enabled:0\r\n",
		ADVISE_SAVING, {0}},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct advice_facts f;
		unsigned found, n = 0;

		assert_true(advice_read(table[i].memory, table[i].persistence, 1000000, &f));
		found = advice_findings(&f, table[i].advise);
		for (; found != 0; found &= found - 1, n++) {
			assert_non_null(table[i].texts[n]);
			if (strstr(advice_text(found), table[i].texts[n]) == NULL)
				fail_msg("%zu: %s", i, advice_text(found));
		}
		assert_null(table[i].texts[n]);
	}
}

static void
no_info(void **state)
{
	static const char *const texts[] = {"", "\r\n", "maxmemory:1", "maxmemory_policy:x",
	    "maxmemory:-5\r\nmaxmemory_policy:x", "xmaxmemory:1\nxmaxmemory_policy:x",
	    "maxmemory\nmaxmemory_policy"};
	struct advice_facts f;
	char flood[4000];

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		assert_false(advice_read(texts[i], texts[i], 0, &f));
	assert_false(advice_read(NULL, NULL, 0, &f));
	memset(flood, 'x', sizeof flood);
	memcpy(flood, "maxmemory:9\nmaxmemory_policy:", 29);
	flood[sizeof flood - 1] = '\0';
	assert_true(advice_read(flood, flood, 0, &f));
	assert_int_equal(strlen(f.policy), sizeof f.policy - 1);
}

/* --- a real one ------------------------------------------------------------------------------ */

static unsigned
lines_about(const struct notices *n, const char *what)
{
	unsigned count = 0;

	for (unsigned i = 0; i < notices_count(n); i++)
		count += strstr(n->line[i], what) != NULL;
	return count;
}

/* So long until so many lines are there. */
static bool
comes(const struct notices *n, const char *what, unsigned count, unsigned ms)
{
	for (int64_t end = mono_us() + ms * USEC_PER_MSEC; mono_us() < end; sleep_ms(10))
		if (lines_about(n, what) >= count)
			return true;
	return false;
}

/* A host with two workers, which look once a second or so: its other store. */
static struct store *
second(struct bench *b)
{
	return redis_store_open(&b->options, b->zone, 1, "node", keep_notice, &b->notices);
}

static void
reopen(struct bench *b, struct store **other)
{
	store_close(&b->store);
	store_close(other);
	/* the time between two looks is over */
	for (int i = 0; i < ZONE_NOTES; i++)
		(void)zone_note_due(b->zone, (enum zone_note)i, 1, 0);
	b->store = redis_store_open(&b->options, b->zone, 0, "node", keep_notice, &b->notices);
	*other = second(b);
	assert_true(b->store != NULL && *other != NULL);
}

static void
said_once(void **state)
{
	struct store *other = NULL;
	struct bench b;

	(void)state;
	redis_fixture_run(&server, "CONFIG SET maxmemory 0");
	redis_fixture_run(&server, "CONFIG SET save %s", "");
	bench_open(&b, server.url, "", 0);
	sleep_ms(100); /* without the option nothing is said */
	assert_int_equal(notices_count(&b.notices), 0);
	b.options.advise = ADVISE_MEMORY | ADVISE_SAVING;
	reopen(&b, &other);
	assert_true(comes(&b.notices, "has no maxmemory", 1, 5000));
	assert_true(comes(&b.notices, "does not save", 1, 5000));
	assert_non_null(strstr(b.notices.line[0], server.path));
	reopen(&b, &other); /* as after a reload */
	sleep_ms(300);
	assert_int_equal(notices_count(&b.notices), 2);
	/* mended, and broken again */
	redis_fixture_run(&server, "CONFIG SET maxmemory 100mb");
	redis_fixture_run(&server, "CONFIG SET maxmemory-policy volatile-ttl");
	redis_fixture_run(&server, "CONFIG SET appendonly yes");
	reopen(&b, &other);
	for (int i = 0; i < 500 && zone_stat(b.zone, ZONE_ADVICE) != 0; i++)
		sleep_ms(10);
	assert_int_equal(zone_stat(b.zone, ZONE_ADVICE), 0);
	redis_fixture_run(&server, "CONFIG SET maxmemory-policy allkeys-random");
	reopen(&b, &other);
	assert_true(comes(&b.notices, "allkeys", 1, 5000));
	assert_int_equal(notices_count(&b.notices), 3);
	redis_fixture_run(&server, "CONFIG SET maxmemory 0");
	redis_fixture_run(&server, "CONFIG SET appendonly no");
	reopen(&b, &other);
	assert_true(comes(&b.notices, "has no maxmemory", 2, 5000));
	assert_true(comes(&b.notices, "does not save", 2, 5000));
	store_close(&other);
	bench_close(&b);
}

/* Without the right nothing is said, nothing counts as a failure, and questions are answered. */
static void
not_allowed(void **state)
{
	struct store *other = NULL;
	struct limit l = make_limit("connections", "count=connections per=address rate=60/1m");
	struct request q;
	struct answer a;
	struct bench b;

	(void)state;
	redis_fixture_run(&server,
	    "ACL SETUSER low on >secret ~weir:* -@all +eval +evalsha +get +time +hmget "
	    "+hset +pexpire +pttl");
	bench_open(&b, server.url, "", 0);
	b.options.advise = ADVISE_MEMORY | ADVISE_SAVING;
	strcpy(b.options.user, "low");
	strcpy(b.options.password, "secret");
	reopen(&b, &other);
	make_request(&q);
	add_hit(&q, &l, "{a}:1", 1);
	for (int i = 0; i < 30; i++, sleep_ms(10))
		assert_int_equal(store_ask(b.store, &q, T0, &a), STORE_OK);
	assert_int_equal(notices_count(&b.notices), 0);
	assert_false(zone_breaker_open(b.zone));
	redis_fixture_run(&server, "ACL SETUSER low +info");
	reopen(&b, &other);
	assert_true(comes(&b.notices, "has no maxmemory", 1, 5000));
	store_close(&other);
	bench_close(&b);
	redis_fixture_run(&server, "ACL DELUSER low");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(findings),
	    cmocka_unit_test(no_info),
	    cmocka_unit_test(said_once),
	    cmocka_unit_test(not_allowed),
	};

	return redis_fixture_tests(&server, "advice", tests, sizeof tests / sizeof tests[0]);
}
