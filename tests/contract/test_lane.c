/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_lane.c - one connection for all threads of a worker: who gives up, leader or not, must never
 * keep the lead, or nobody would send and receive any more, and every later question would time
 * out for as long as the process lives.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lane.h"
#include "redis_fixture.h"
#include "store_fixture.h"

/* The first question is answered after 150 ms and may be waited for longer; the second, behind
 * it, gives up before. */
#define SLOW "BLPOP nothing 0.15"
/* ... and its own answer comes after that of the first, not together with it */
#define SLOWER "BLPOP nothing 0.3"
#define LONG_MS 2000
#define SHORT_MS 40

static struct redis_fixture server;

struct asker {
	struct lane *lane;
	const char *command;
	int64_t wait_ms;
	enum lane_result result;
	pthread_t thread;
};

static void *
asker_run(void *arg)
{
	struct asker *a = arg;
	char *cmd, why[WIRE_WHY_MAX];
	int len = redisFormatCommand(&cmd, a->command);
	redisReply *r;
	struct lane_call *call;

	assert_true(len > 0);
	call = lane_begin(a->lane, cmd, (size_t)len, 0, mono_us() + a->wait_ms * USEC_PER_MSEC);
	assert_non_null(call);
	a->result = lane_finish(a->lane, call, &r, why);
	if (r != NULL)
		freeReplyObject(r);
	return NULL;
}

static void
asker_start(struct asker *a, struct lane *l, const char *command, int64_t wait_ms)
{
	*a = (struct asker){.lane = l, .command = command, .wait_ms = wait_ms};
	assert_int_equal(pthread_create(&a->thread, NULL, asker_run, a), 0);
}

static enum lane_result
asker_end(struct asker *a)
{
	pthread_join(a->thread, NULL);
	return a->result;
}

/* Whether a plain question is answered, again and again. */
static void
assert_serves(struct lane *l)
{
	for (int i = 0; i < 3; i++) {
		struct asker a;

		asker_start(&a, l, "PING", LONG_MS);
		assert_int_equal(asker_end(&a), LANE_OK);
	}
}

static void
one_lane(void (*test)(struct lane *))
{
	struct redis_options o;
	struct target *t;
	struct lane *l;
	char err[200];

	redis_options_defaults(&o);
	assert_true(redis_options_url(&o, server.url, err, sizeof err));
	t = target_new(o.host, o.port, NULL, USEC_PER_SEC);
	assert_non_null(t);
	l = lane_new(t, &o);
	assert_non_null(l);
	assert_serves(l);
	test(l);
	assert_serves(l);
	lane_free(&l);
	target_free(&t);
}

static void
follower(struct lane *l)
{
	struct asker slow, fast;

	asker_start(&slow, l, SLOW, LONG_MS);
	sleep_ms(20);
	asker_start(&fast, l, SLOWER, SHORT_MS);
	assert_int_equal(asker_end(&fast), LANE_FAILED);
	assert_int_equal(asker_end(&slow), LANE_OK);
}

/* The owner of the first question does not wait for it yet; of two others one leads, and gives up
 * after the one that follows. */
static void
both(struct lane *l)
{
	struct asker leads, follows;
	struct lane_call *call;
	char *cmd, why[WIRE_WHY_MAX];
	int len = redisFormatCommand(&cmd, SLOW);
	redisReply *r;

	assert_true(len > 0);
	call = lane_begin(l, cmd, (size_t)len, 0, mono_us() + LONG_MS * USEC_PER_MSEC);
	assert_non_null(call);
	lane_push(l);
	asker_start(&leads, l, SLOWER, 2 * SHORT_MS);
	sleep_ms(10);
	asker_start(&follows, l, SLOWER, SHORT_MS);
	assert_int_equal(asker_end(&follows), LANE_FAILED);
	assert_int_equal(asker_end(&leads), LANE_FAILED);
	assert_int_equal(lane_finish(l, call, &r, why), LANE_OK);
	freeReplyObject(r);
}

/* As on a host that is so busy that a thread gets the lead when its time is over already. */
static void
late(struct lane *l)
{
	struct asker a;

	asker_start(&a, l, "PING", -1);
	assert_int_equal(asker_end(&a), LANE_FAILED);
}

static void
follower_gives_up(void **state)
{
	(void)state;
	one_lane(follower);
}

static void
both_give_up(void **state)
{
	(void)state;
	one_lane(both);
}

static void
too_late(void **state)
{
	(void)state;
	one_lane(late);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(follower_gives_up),
	    cmocka_unit_test(both_give_up), cmocka_unit_test(too_late)};

	return redis_fixture_tests(&server, "lane", tests, sizeof tests / sizeof tests[0]);
}
