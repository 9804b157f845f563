/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_quota.c - the sliding window: figures, and what it promises for any sequence of arrivals:
 * never more than a twentieth above the quota in any window, and who stays below is never refused.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/quota.h"
#include "weir/units.h"

#define SEC USEC_PER_SEC
#define HOUR (3600 * SEC)
#define NOW INT64_C(1795460545000000)
#define SEED UINT64_C(0x9e3779b97f4a7c15)
#define ROUNDS 300
#define ARRIVALS 2000

static uint64_t
next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static int64_t
random_up_to(uint64_t *x, int64_t max)
{
	return 1 + (int64_t)(next_random(x) % (uint64_t)max);
}

/* What a store does for an enforced hit. */
static bool
take(struct quota *q, int64_t cost, int64_t now_us, int64_t window_us, int64_t quota)
{
	(void)quota_expire(q, now_us, window_us);
	if (quota_used(q) + cost > quota)
		return false;
	quota_add(q, cost, now_us, quota);
	return true;
}

static void
test_figures(void **state)
{
	struct quota q = {.n = 0};

	(void)state;
	for (int i = 0; i < 10; i++)
		assert_true(take(&q, 1, NOW + i * SEC, HOUR, 10));
	assert_false(take(&q, 1, NOW + 10 * SEC, HOUR, 10));
	assert_int_equal(quota_used(&q), 10);
	/* the first comes back first, and not a microsecond too early */
	assert_int_equal(quota_wait(&q, 1, NOW + 10 * SEC, HOUR), HOUR - 10 * SEC);
	assert_int_equal(quota_wait(&q, 3, NOW + 10 * SEC, HOUR), HOUR - 8 * SEC);
	assert_false(take(&q, 1, NOW + HOUR - 1, HOUR, 10));
	assert_true(take(&q, 1, NOW + HOUR, HOUR, 10));
	assert_false(take(&q, 1, NOW + HOUR, HOUR, 10));
	/* nothing drains in between: after a burst comes the whole window */
	assert_int_equal(quota_wait(&q, 1, NOW + HOUR, HOUR), SEC);
	/* what never fits */
	assert_int_equal(quota_wait(&q, 11, NOW + HOUR, HOUR), HOUR);
	(void)quota_expire(&q, NOW + 3 * HOUR, HOUR);
	assert_int_equal(q.n, 0);
	assert_int_equal(quota_used(&q), 0);
}

/* A chunk is a twentieth, and ages as its first charge does. */
static void
test_chunks(void **state)
{
	struct quota q = {.n = 0};

	(void)state;
	for (int i = 0; i < 50; i++)
		assert_true(take(&q, 1, NOW + i * SEC, HOUR, 1000));
	assert_int_equal(q.n, 1);
	assert_true(take(&q, 1, NOW + 50 * SEC, HOUR, 1000));
	assert_int_equal(q.n, 2);
	assert_int_equal(q.chunk[1].since_us, NOW + 50 * SEC);
	/* one large charge is a chunk of its own, however large */
	assert_true(take(&q, 900, NOW + 60 * SEC, HOUR, 1000));
	assert_int_equal(q.n, 3);
	assert_int_equal(q.chunk[2].count, 900);
	(void)quota_expire(&q, NOW + HOUR, HOUR);
	assert_int_equal(quota_used(&q), 901);
}

/* A clock that goes back moves what lies ahead of it to now: it is forgotten a window later at
 * the latest, and nothing is forgotten at once. */
static void
test_clock_back(void **state)
{
	struct quota q = {.n = 0};

	(void)state;
	assert_true(take(&q, 10, NOW, HOUR, 10));
	assert_true(quota_expire(&q, NOW - 100 * HOUR, HOUR));
	assert_int_equal(quota_used(&q), 10);
	assert_int_equal(quota_wait(&q, 1, NOW - 100 * HOUR, HOUR), HOUR);
	assert_false(quota_expire(&q, NOW - 100 * HOUR, HOUR));
	(void)quota_expire(&q, NOW - 99 * HOUR, HOUR);
	assert_int_equal(quota_used(&q), 0);
}

struct charge {
	int64_t at, count;
};

/* How much of what was let in lies in the window that ends at now. */
static int64_t
within(const struct charge *c, unsigned n, int64_t now_us, int64_t window_us)
{
	int64_t sum = 0;

	while (n > 0 && now_us - c[n - 1].at < window_us)
		sum += c[--n].count;
	return sum;
}

static void
test_promises(void **state)
{
	static struct charge taken[ARRIVALS];
	uint64_t x = SEED;
	int64_t most_over = 0;

	(void)state;
	for (int round = 0; round < ROUNDS; round++) {
		int64_t quota = random_up_to(&x, round % 3 == 0 ? 60 : 100000);
		int64_t window = random_up_to(&x, 86400) * SEC;
		/* from far below to far above what fits */
		int64_t gap = random_up_to(&x, window / 10), largest = random_up_to(&x, quota);
		int64_t now = NOW;
		struct quota q = {.n = 0};
		unsigned n = 0;

		if (round % 2 == 0)
			largest = 1 + largest / 50;
		for (int i = 0; i < ARRIVALS; i++) {
			int64_t cost = random_up_to(&x, largest), before, over;

			now += next_random(&x) % 4 == 0 ? 0 : random_up_to(&x, gap);
			before = within(taken, n, now, window);
			if (!take(&q, cost, now, window, quota)) {
				int64_t wait =
				    quota_wait(&q, quota_used(&q) + cost - quota, now, window);
				struct quota later = q;

				if (before + cost <= quota)
					fail_msg("round %d: refused at %lld of %lld", round,
					    (long long)(before + cost), (long long)quota);
				assert_true(wait > 0 && wait <= window);
				assert_true(take(&later, cost, now + wait, window, quota));
				later = q;
				assert_false(take(&later, cost, now + wait - 1, window, quota));
				continue;
			}
			assert_true(q.n <= QUOTA_CHUNKS);
			taken[n++] = (struct charge){now, cost};
			over = before + cost - quota;
			if (over > quota / QUOTA_PARTS)
				fail_msg("round %d: %lld over %lld", round, (long long)over,
				    (long long)quota);
			if (over > most_over)
				most_over = over;
		}
	}
	/* else the rounds have never been near what is allowed */
	assert_true(most_over > 0);
}

/* What a strict limit charges beyond the quota still finds room. */
static void
test_full(void **state)
{
	struct quota q = {.n = 0};

	(void)state;
	for (int i = 0; i < 2000; i++) {
		quota_add(&q, 1, NOW + i, 1000);
		assert_true(q.n <= QUOTA_CHUNKS);
		assert_int_equal(quota_used(&q), i + 1);
	}
	for (int i = 0; i < 100; i++)
		quota_add(&q, 60, NOW + 2000, 1000);
	assert_int_equal(q.n, QUOTA_CHUNKS);
	assert_int_equal(quota_used(&q), 8000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_figures),
	    cmocka_unit_test(test_chunks),
	    cmocka_unit_test(test_clock_back),
	    cmocka_unit_test(test_promises),
	    cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
