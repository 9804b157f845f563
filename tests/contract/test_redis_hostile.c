/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redis_hostile.c - something that is not Redis, or no longer: whatever it says, the
 * question ends in time with STORE_DOWN, and the failure counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "fake_server.h"
#include "store_fixture.h"

#define TIMEOUT_MS 100
/* On two cores that do other things besides. */
#define SLACK_US (150 * USEC_PER_MSEC)

static struct fake_server fake;
static struct bench bench;
static struct request q;
static struct limit connections;

static int
setup(void **state)
{
	(void)state;
	fake_server_start(&fake);
	bench_open(&bench, fake.url, "", TIMEOUT_MS);
	connections =
	    make_limit("connections", "count=connections per=address rate=60/1m burst=1000");
	make_request(&q);
	add_hit(&q, &connections, "{a}:1", 1);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	bench_close(&bench);
	fake_server_stop(&fake);
	return 0;
}

/* A new store, which has seen no failure yet. */
static void
again(void)
{
	bench_close(&bench);
	bench_open(&bench, fake.url, "", TIMEOUT_MS);
}

static enum store_status
ask(void)
{
	int64_t start = mono_us();
	struct answer a;
	enum store_status s = store_ask(bench.store, &q, 0, &a);

	assert_in_range(mono_us() - start, 0, TIMEOUT_MS * USEC_PER_MSEC + SLACK_US);
	return s;
}

static const char good[] =
    "+PONG\r\n*9\r\n:0\r\n:1700000000000000\r\n:1\r\n:0\r\n:0\r\n:0\r\n:0\r\n:1000000\r\n:0\r\n";

static void
cut_short(void **state)
{
	(void)state;
	for (size_t n = 0; n <= sizeof good - 1; n++) {
		again();
		fake_server_says(&fake, good, n, true);
		assert_int_equal(ask(), n == sizeof good - 1 ? STORE_OK : STORE_DOWN);
	}
	for (size_t n = 0; n <= sizeof good - 1; n += 7) { /* and keeps the line open */
		again();
		fake_server_says(&fake, good, n, false);
		assert_int_equal(ask(), n == sizeof good - 1 ? STORE_OK : STORE_DOWN);
	}
}

/* An answer up to its first hit: now, charged, grey, wait, known, blocked. */
#define HEAD(now, charged, grey, wait, known, blocked) \
	"*9\r\n:0\r\n:" #now "\r\n:" #charged "\r\n:" #grey "\r\n:" #wait "\r\n:" #known \
	"\r\n:" #blocked "\r\n"

static void
nonsense(void **state)
{
	static const char *const replies[] = {
	    "-LOADING Redis is loading the dataset in memory\r\n",
	    "-BUSY Redis is busy running a script.\r\n",
	    "-MISCONF Redis is configured to save RDB snapshots\r\n",
	    "-MASTERDOWN Link with MASTER is down\r\n",
	    "-NOPERM this user has no permissions\r\n",
	    "-NOSCRIPT No matching script.\r\n-NOSCRIPT No matching script.\r\n",
	    "-\r\n",
	    "+OK\r\n",
	    "$-1\r\n",
	    "*-1\r\n",
	    "*0\r\n",
	    "*1\r\n:0\r\n",
	    ":1\r\n",
	    "$5\r\nhello\r\n",
	    "HTTP/1.1 400 Bad Request\r\n\r\n",
	    "\r\n\r\n",
	    "*\r\n",
	    "$99999999999\r\n",
	    "*2\r\n:1\r\n:1\r\n",
	    "*2\r\n:1\r\n$30\r\n123456789012345678901234567890\r\n",
	    "*3\r\n:1\r\n$1\r\n0\r\n:1\r\n",
	    "*1000000000\r\n",
	    "*2147483647\r\n",
	    "*99999999999999999999\r\n",
	    "*-5\r\n",
	    "*6\r\n*6\r\n*6\r\n*6\r\n*6\r\n*6\r\n*6\r\n*6\r\n*6\r\n*6\r\n",
	    HEAD(-1, 1, 0, 0, 0, 0) ":1000000\r\n:0\r\n",
	    HEAD(1, 2, 0, 0, 0, 0) ":1000000\r\n:0\r\n",
	    HEAD(1, 1, 3, 0, 0, 0) ":1000000\r\n:0\r\n",
	    HEAD(1, 1, 0, 9223372036854775807, 0, 0) ":1000000\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 2, 0) ":1000000\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 0, -1) ":1000000\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 0, 0) ":9223372036854775807\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 0, 0) ":99999999999999999999\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 0, 0) ":-2\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 0, 0) "$1\r\n1\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 0, 0) "$-1\r\n:0\r\n",
	    HEAD(1, 1, 0, 0, 0, 0) ":1000000\r\n:-1\r\n",
	    "*7\r\n:0\r\n:1\r\n:1\r\n:0\r\n:0\r\n:0\r\n:0\r\n",
	};
	(void)state;
	for (size_t i = 0; i < 2 * (sizeof replies / sizeof replies[0]); i++) {
		struct overlay o;
		char text[128];

		/* to the greeting, and to the question */
		snprintf(text, sizeof text, "%s%s", i % 2 == 0 ? "" : "+PONG\r\n", replies[i / 2]);
		again();
		fake_server_says(&fake, text, strlen(text), i % 4 < 2);
		assert_int_equal(ask(), STORE_DOWN);
		assert_int_equal(store_load(bench.store, 0, NULL, &o), STORE_DOWN);
		assert_int_equal(ask(), STORE_DOWN);
		/* each of the three counted (and "+OK" is a good answer to the probe) */
		assert_in_range(notices_count(&bench.notices), 1, 2);
		assert_null(strpbrk(bench.notices.line[0], "\r\n"));
	}
}

/* It must not be possible to make us read for ever, or fill our memory. */
static void
endless(void **state)
{
	static char flood[3][7 + 4 * 1024 * 1024];

	(void)state;
	memset(flood, 'x', sizeof flood);
	for (int i = 0; i < 3; i++)
		memcpy(flood[i], "+PONG\r\n", 7);
	memcpy(flood[0] + 7, "$999999999\r\n", 12);
	flood[1][7] = '+'; /* a line without an end */
	for (size_t i = 7; i + 4 <= sizeof flood[2]; i += 4) /* answers that nobody asked for */
		memcpy(flood[2] + i, ":1\r\n", 4);
	for (int i = 0; i < 3; i++) {
		fake_server_says(&fake, flood[i], sizeof flood[i], false);
		assert_int_equal(ask(), STORE_DOWN);
	}
	/* the last flood also answers the probe, which then takes Redis for back */
	assert_in_range(notices_count(&bench.notices), 1, 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(cut_short, setup, teardown),
	    cmocka_unit_test_setup_teardown(nonsense, setup, teardown),
	    cmocka_unit_test_setup_teardown(endless, setup, teardown),
	};

	return cmocka_run_group_tests_name("redis hostile", tests, NULL, NULL);
}
