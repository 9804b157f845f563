/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_bucket.c - the leaky bucket: figures, and what must hold for any sequence of arrivals.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "weir/limit.h"
#include "weir/units.h"

#define SEC USEC_PER_SEC
#define SEED UINT64_C(0xda942042e4dd58b5)
#define ROUNDS 400
#define ARRIVALS 1000

static uint64_t
next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

/* From 1 to max, each order of magnitude as often. */
static int64_t
random_up_to(uint64_t *x, int64_t max)
{
	int64_t top = max >> (next_random(x) % 40);

	return top < 2 ? 1 : 1 + (int64_t)(next_random(x) % (uint64_t)top);
}

static void
test_drained(void **state)
{
	static const struct {
		int64_t level, dt_us, rate, period_us, want;
	} table[] = {
	    {3 * MICRO, 0, 60, 60 * SEC, 3 * MICRO},
	    {3 * MICRO, -1, 60, 60 * SEC, 3 * MICRO},
	    {3 * MICRO, INT64_MIN, 60, 60 * SEC, 3 * MICRO},
	    {3 * MICRO, SEC, 60, 60 * SEC, 2 * MICRO},
	    {3 * MICRO, SEC + SEC / 2, 60, 60 * SEC, MICRO + MICRO / 2},
	    {3 * MICRO, 3 * SEC, 60, 60 * SEC, 0},
	    {3 * MICRO, 300 * 86400 * SEC, 60, 60 * SEC, 0},
	    {MICRO, 1, 1, 1 * SEC, MICRO - 1},
	    {MICRO, 1, 1, 2 * SEC, MICRO}, /* half a millionth is none */
	    {MICRO, 30 * 86400 * SEC, 1, 30 * 86400 * SEC, 0},
	    {UNITS_COUNT_MAX * MICRO, SEC, UNITS_COUNT_MAX, SEC, 0},
	    {UNITS_COUNT_MAX * MICRO, INT64_MAX, UNITS_COUNT_MAX, SEC, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (bucket_drained(table[i].level, table[i].dt_us, table[i].rate,
			table[i].period_us) != table[i].want)
			fail_msg("row %zu", i);
}

static void
test_wait(void **state)
{
	static const struct {
		int64_t excess, rate, period_us, want;
	} table[] = {
	    {0, 60, 60 * SEC, 0},
	    {-MICRO, 60, 60 * SEC, 0},
	    {1, 60, 60 * SEC, 1},
	    {MICRO, 60, 60 * SEC, SEC},
	    {MICRO, 7, SEC, 142858},
	    {MICRO, 1, UNITS_DURATION_MAX, UNITS_DURATION_MAX},
	    {UNITS_COUNT_MAX * MICRO, 1, UNITS_DURATION_MAX, UNITS_DURATION_MAX},
	    {INT64_MAX, 1, UNITS_DURATION_MAX, UNITS_DURATION_MAX},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (bucket_wait(table[i].excess, table[i].rate, table[i].period_us) !=
		    table[i].want)
			fail_msg("row %zu", i);
}

/* Whoever waits as long as he was told finds room; a microsecond is left to rounding. */
static void
test_wait_is_enough(void **state)
{
	uint64_t x = SEED;

	(void)state;
	print_message("seed %#llx\n", (unsigned long long)x);
	for (int i = 0; i < ROUNDS * ARRIVALS; i++) {
		int64_t rate = random_up_to(&x, 1000000), burst = random_up_to(&x, 1000000);
		int64_t period = SEC * random_up_to(&x, 366 * 86400);
		int64_t excess = random_up_to(&x, burst * MICRO);
		int64_t wait = bucket_wait(excess, rate, period);

		if (wait == UNITS_DURATION_MAX)
			continue;
		if (bucket_drained(burst * MICRO, wait + 1, rate, period) > burst * MICRO - excess)
			fail_msg("%lld/%lld us, excess %lld, wait %lld", (long long)rate,
			    (long long)period, (long long)excess, (long long)wait);
		if ((double)wait > (double)excess * (double)period / (double)rate / 1e6 + 2)
			fail_msg("wait %lld is too long", (long long)wait);
	}
}

/* One client: what a store does with its bucket at an arrival. */
struct client {
	int64_t level, at_us;
};

static bool
arrive(struct client *c, const struct limit *l, int64_t now_us)
{
	int64_t level = bucket_drained(c->level, now_us - c->at_us, l->rate, l->period_us) + MICRO;

	if (level > l->burst * MICRO)
		return false;
	c->level = level;
	c->at_us = now_us;
	return true;
}

static struct limit
random_limit(uint64_t *x)
{
	struct limit l = {.enabled = true, .count = COUNT_MESSAGES};

	l.rate = random_up_to(x, 10000);
	l.period_us = SEC * random_up_to(x, 30 * 86400);
	l.burst = random_up_to(x, 300);
	return l;
}

/* Bursts, and pauses around the time that one takes. */
static int64_t
random_pause(uint64_t *x, const struct limit *l)
{
	uint64_t kind = next_random(x) % 100;
	uint64_t two = 2 * (uint64_t)(l->period_us / l->rate + 1);

	if (kind < 50)
		return 0;
	return (int64_t)(next_random(x) % (kind < 98 ? two : two * (uint64_t)l->burst));
}

/* In any stretch of time, from any admitted arrival to any later one. */
static void
test_never_more_than_burst_and_rate(void **state)
{
	static int64_t admitted[ARRIVALS];
	uint64_t x = SEED;

	(void)state;
	print_message("seed %#llx\n", (unsigned long long)x);
	for (int round = 0; round < ROUNDS; round++) {
		struct limit l = random_limit(&x);
		struct client c = {.level = 0};
		int64_t now = SEC;
		int n = 0;

		for (int i = 0; i < ARRIVALS; i++, now += random_pause(&x, &l))
			if (arrive(&c, &l, now))
				admitted[n++] = now;
		for (int i = 0; i < n; i++)
			for (int j = i; j < n; j++) {
				double passed = (double)(admitted[j] - admitted[i]) *
				    (double)l.rate / (double)l.period_us;

				if ((double)(j - i + 1) > (double)l.burst + passed + 1)
					fail_msg("round %d: %d admitted, burst %lld", round,
					    j - i + 1, (long long)l.burst);
			}
	}
}

/*
 * The same bucket in fractions of time, exact: one thing takes period/rate. An arrival that fits
 * there with a thousandth to spare is never refused; one that is a thousandth over never admitted.
 */
static void
test_same_as_exact(void **state)
{
	uint64_t x = SEED;

	(void)state;
	print_message("seed %#llx\n", (unsigned long long)x);
	for (int round = 0; round < ROUNDS; round++) {
		struct limit l = random_limit(&x);
		struct client c = {.level = 0};
		/* in things times period */
		__int128 full = (__int128)l.burst * l.period_us, slack = l.period_us / 1000;
		__int128 level = 0;
		int64_t now = SEC, before = SEC;

		for (int i = 0; i < ARRIVALS; i++, now += random_pause(&x, &l)) {
			__int128 next = level - (__int128)(now - before) * l.rate;
			bool in;

			next = (next > 0 ? next : 0) + l.period_us;
			in = arrive(&c, &l, now);
			if (!in && next <= full - slack)
				fail_msg("round %d: refused while below", round);
			if (in && next > full + slack)
				fail_msg("round %d: admitted while over", round);
			level = in ? next : level;
			before = in ? now : before;
		}
	}
}

/* Exactly at the rate, for ever. */
static void
test_steady_client(void **state)
{
	uint64_t x = SEED;

	(void)state;
	print_message("seed %#llx\n", (unsigned long long)x);
	for (int round = 0; round < ROUNDS; round++) {
		struct limit l = random_limit(&x);
		int64_t now = SEC, step = (l.period_us + l.rate - 1) / l.rate;
		struct client c = {.level = 0};

		for (int i = 0; i < ARRIVALS; i++, now += step)
			if (!arrive(&c, &l, now))
				fail_msg("round %d, arrival %d: %lld/%lld us", round, i,
				    (long long)l.rate, (long long)l.period_us);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_drained),
	    cmocka_unit_test(test_wait),
	    cmocka_unit_test(test_wait_is_enough),
	    cmocka_unit_test(test_never_more_than_burst_and_rate),
	    cmocka_unit_test(test_same_as_exact),
	    cmocka_unit_test(test_steady_client),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
