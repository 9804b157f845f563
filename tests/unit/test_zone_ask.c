/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_zone_ask.c - the zone as a store: check and charge, sessions, greylisting. Time is passed,
 * never slept.
 */
#include <time.h>

#include "zone_fixture.h"

/* --- check and charge -------------------------------------------------------------------- */

static void
test_bucket_fills_and_drains(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("connections", 60, 3, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	struct answer a;

	for (int i = 1; i <= 3; i++) {
		a = put(f, &q, T0);
		assert_true(a.charged);
		assert_false(a.hits[0].over);
		assert_int_equal(a.hits[0].used, i * MICRO);
	}
	a = put(f, &q, T0);
	assert_false(a.charged);
	assert_true(a.hits[0].over);
	assert_int_equal(a.hits[0].used, 4 * MICRO);
	assert_int_equal(a.hits[0].wait_us, SEC);
	assert_int_equal(a.now_us, T0);
	assert_false(put(f, &q, T0 + SEC - 1).charged);
	assert_true(put(f, &q, T0 + SEC).charged);
	q.hits[0].cost = 3;
	assert_int_equal(put(f, &q, T0 + SEC).hits[0].wait_us, 3 * SEC);
}

static void
test_own_clock(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("connections", 60, 3, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	int64_t before = (int64_t)time(NULL) * SEC;

	assert_in_range(put(f, &q, 0).now_us, before, before + 3600 * SEC);
}

static void
test_counter_expires_with_its_record(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("slow", 1, 5, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);

	l.period_us = 30 * 86400 * SEC;
	put(f, &q, T0);
	assert_true(put(f, &q, T0 + 3599 * SEC).hits[0].used > MICRO);
	assert_int_equal(put(f, &q, T0 + 7199 * SEC).hits[0].used, MICRO);
}

static void
test_all_or_nothing(void **state)
{
	struct fixture *f = *state;
	struct limit wide = bucket("wide", 60, 100, ACTION_REFUSE);
	struct limit tight = bucket("tight", 60, 1, ACTION_DEFER);
	struct limit open = sessions("open", 10, ACTION_REFUSE);
	struct request q = {.generation = "7"};
	struct answer a;

	add_record(&q, PER_ADDRESS, "{192.0.2.0/24}:192.0.2.7");
	add_record(&q, PER_NETWORK, "{192.0.2.0/24}:192.0.2.0/24");
	add_hit(&q, 0, &wide, 1);
	add_hit(&q, 1, &tight, 1);
	add_hit(&q, 0, &open, 1);
	a = put(f, &q, T0);
	assert_true(a.charged && a.lease != 0);
	for (int i = 0; i < 5; i++) {
		a = put(f, &q, T0);
		assert_false(a.charged);
		assert_int_equal(a.lease, 0);
		assert_false(a.hits[0].over);
		assert_true(a.hits[1].over);
		assert_int_equal(a.hits[0].used, 2 * MICRO);
		assert_int_equal(a.hits[2].used, 2 * MICRO);
	}
	assert_int_equal(zone_sessions(f->z), 1);
}

static void
test_log_limits_are_apart(void **state)
{
	struct fixture *f = *state;
	struct limit tight = bucket("tight", 60, 1, ACTION_REFUSE);
	struct limit shadow = bucket("shadow", 60, 3, ACTION_LOG);
	struct limit never = bucket("never", 60, 0, ACTION_LOG);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &tight);
	struct answer a;

	add_hit(&q, 0, &shadow, 1);
	add_hit(&q, 0, &never, 1);
	a = put(f, &q, T0);
	assert_true(a.charged); /* a shadow that is over refuses nobody */
	assert_true(a.hits[2].over);
	a = put(f, &q, T0);
	assert_false(a.charged); /* and is charged when others refuse */
	assert_int_equal(a.hits[1].used, 2 * MICRO);
	a = put(f, &q, T0);
	assert_int_equal(a.hits[1].used, 3 * MICRO);
	a = put(f, &q, T0);
	assert_true(a.hits[1].over);
	assert_int_equal(a.hits[1].used, 4 * MICRO);
	assert_int_equal(put(f, &q, T0).hits[1].used, 4 * MICRO); /* but not beyond its burst */
}

static void
test_clock_back(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("connections", 60, 3, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);

	for (int i = 0; i < 3; i++)
		assert_true(put(f, &q, T0).charged);
	/* An hour back: nothing drains for it, a refusal repairs the time, and then it drains. */
	assert_false(put(f, &q, T0 - 3600 * SEC).charged);
	assert_true(put(f, &q, T0 - 3599 * SEC).charged);
	assert_false(put(f, &q, T0 - 3599 * SEC).charged);
}

static void
test_sessions_are_counted_once_a_record(void **state)
{
	struct fixture *f = *state;
	struct limit hard = sessions("hard", 3, ACTION_REFUSE),
		     soft = sessions("soft", 1, ACTION_LOG);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &hard);
	struct answer a[4];

	add_hit(&q, 0, &soft, 1);
	for (int i = 0; i < 4; i++) {
		a[i] = put(f, &q, T0);
		assert_int_equal(a[i].hits[0].used, (i + 1) * MICRO);
		assert_int_equal(a[i].hits[1].used, (i + 1) * MICRO);
		assert_int_equal(a[i].charged, i < 3);
		assert_int_equal(a[i].lease != 0, i < 3);
		assert_int_equal(a[i].hits[1].over, i >= 1);
		assert_int_equal(a[i].hits[0].wait_us, 0);
	}
	store_release(f->s, a[0].lease);
	store_release(f->s, a[0].lease); /* a second time changes nothing */
	assert_int_equal(zone_sessions(f->z), 2);
	assert_int_equal(put(f, &q, T0).hits[0].used, 3 * MICRO);
	store_release(f->s, a[3].lease); /* 0 */
	assert_int_equal(zone_sessions(f->z), 3);
}

/* Asked in any state, a look leaves every entry as it is. */
static void
test_peek_writes_nothing(void **state)
{
	static const struct {
		const char *what;
		int64_t dt_s;
		bool charged;
		enum grey_state grey;
		int64_t used, wait_s;
	} table[] = {
	    {"too early", 1, false, GREY_EARLY, 1, 299},
	    {"waited", 300, true, GREY_PASSED, 1, 0},
	    {"too late", 86400, false, GREY_NEW, 1, 300},
	    {"the clock went back", -3600, false, GREY_EARLY, 2, 300},
	};
	struct fixture *f = *state;
	struct limit l = bucket("connections", 60, 3, ACTION_REFUSE),
		     shadow = bucket("shadow", 60, 30, ACTION_LOG),
		     open = sessions("sessions", 3, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l), greyed;
	static char before[ZONE_SIZE_MIN];
	size_t size = f->z->nsets * sizeof *zone_sets(f->z);

	assert_true(size <= sizeof before);
	add_hit(&q, 0, &shadow, 1);
	add_hit(&q, 0, &open, 1);
	assert_true(put(f, &q, T0).charged);
	greyed = q;
	greyed.nhits = 2;
	greyed.grey.asked = true;
	greyed.grey.record = (uint8_t)add_record(&greyed, PER_POOL, "{192.0.2.0/24}");
	greyed.grey.delay_us = 300 * SEC;
	greyed.grey.window_us = 86400 * SEC;
	greyed.grey.keep_us = 35 * 86400 * SEC;
	snprintf(greyed.grey.key, sizeof greyed.grey.key, "{192.0.2.0/24} s r");
	assert_int_equal(put(f, &greyed, T0).grey, GREY_NEW);
	greyed.peek = q.peek = true;
	memcpy(before, zone_sets(f->z), size);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct answer a = put(f, &greyed, T0 + table[i].dt_s * SEC);

		if (a.charged != table[i].charged || a.grey != table[i].grey ||
		    a.hits[0].used != table[i].used * MICRO)
			fail_msg("%s: charged %d, grey %d, used %lld", table[i].what, a.charged,
			    (int)a.grey, (long long)a.hits[0].used);
		assert_int_equal(a.grey_wait_us, table[i].wait_s * SEC);
		if (memcmp(before, zone_sets(f->z), size) != 0)
			fail_msg("%s: something was written", table[i].what);
	}
	for (int i = 0; i < 5; i++) {
		struct answer a = put(f, &q, T0);

		assert_true(a.charged);
		assert_int_equal(a.hits[0].used, 2 * MICRO);
		assert_int_equal(a.hits[2].used, 2 * MICRO);
		assert_int_equal(a.lease, 0);
	}
	assert_int_equal(zone_sessions(f->z), 1);
	assert_memory_equal(before, zone_sets(f->z), size);
}

static void
test_load_is_empty(void **state)
{
	struct fixture *f = *state;
	struct overlay o;

	assert_int_equal(store_load(f->s, 0, NULL, &o), STORE_OK);
	assert_string_equal(o.generation, "0");
	for (int i = 0; i < SECTIONS; i++) {
		assert_int_equal(o.n[i], 0);
		assert_int_equal(o.total[i], 0);
	}
	assert_true(o.format <= OVERLAY_FORMAT);
	overlay_free(&o);
}

/* --- greylisting ------------------------------------------------------------------------- */

static struct request
grey(const char *triplet, const struct limit *l)
{
	struct request q = {.generation = "7"};
	unsigned pool = add_record(&q, PER_POOL, "{192.0.2.0/24}:example.org");

	add_hit(&q, pool, l, 1);
	q.grey.asked = true;
	q.grey.record = (uint8_t)pool;
	q.grey.delay_us = 300 * SEC;
	q.grey.window_us = 86400 * SEC;
	q.grey.keep_us = 35 * 86400 * SEC;
	snprintf(q.grey.key, sizeof(q.grey.key), "{192.0.2.0/24}:%s", triplet);
	return q;
}

static void
test_grey_road(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("messages", 60, 3, ACTION_REFUSE);
	struct request q = grey("a@example.org b@example.net", &l), other = grey("c d", &l);
	struct answer a = put(f, &q, T0);
	int64_t t = T0;

	assert_int_equal(a.grey, GREY_NEW);
	assert_int_equal(a.grey_wait_us, 300 * SEC);
	assert_false(a.charged);
	for (int i = 0; i < 5; i++) { /* early retries cost nothing and do not start it anew */
		a = put(f, &q, T0 + 100 * SEC);
		assert_int_equal(a.grey, GREY_EARLY);
		assert_int_equal(a.grey_wait_us, 200 * SEC);
		assert_false(a.charged);
		assert_int_equal(a.hits[0].used, MICRO);
	}
	assert_int_equal(put(f, &q, T0 + 300 * SEC - 1).grey, GREY_EARLY);
	a = put(f, &q, t = T0 + 300 * SEC);
	assert_int_equal(a.grey, GREY_PASSED);
	assert_true(a.charged);
	assert_int_equal(live_entries(f->z), 2); /* the pool and the bucket; the triplet went */
	assert_int_equal(put(f, &other, t).grey, GREY_KNOWN);
	t += 34 * 86400 * SEC;
	assert_int_equal(put(f, &other, t).grey, GREY_KNOWN); /* which keeps it known */
	t += 34 * 86400 * SEC;
	assert_int_equal(put(f, &other, t).grey, GREY_KNOWN);
	t += 35 * 86400 * SEC;
	assert_int_equal(put(f, &other, t).grey, GREY_NEW);
}

static void
test_grey_window_ends(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("messages", 60, 3, ACTION_REFUSE);
	struct request q = grey("a b", &l);

	assert_int_equal(put(f, &q, T0).grey, GREY_NEW);
	assert_int_equal(put(f, &q, T0 + 86400 * SEC).grey, GREY_NEW);
	assert_int_equal(put(f, &q, T0 + 86400 * SEC + 1).grey, GREY_EARLY);
}

static void
test_grey_clock_back(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("messages", 60, 3, ACTION_REFUSE);
	struct request q = grey("a b", &l);
	struct answer a;

	put(f, &q, T0);
	a = put(f, &q, T0 - 3600 * SEC);
	assert_int_equal(a.grey, GREY_EARLY);
	assert_int_equal(a.grey_wait_us, 300 * SEC); /* never more than the delay */
	assert_int_equal(put(f, &q, T0 - 3300 * SEC).grey, GREY_PASSED);
}

static void
test_grey_and_a_limit(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("messages", 60, 1, ACTION_REFUSE);
	struct request q = grey("a b", &l), plain = q;
	struct answer a;

	plain.grey.asked = false;
	assert_true(put(f, &plain, T0).charged);
	a = put(f, &q, T0); /* refused by the limit: no triplet */
	assert_true(a.hits[0].over);
	assert_int_equal(a.grey, GREY_NEW);
	assert_int_equal(put(f, &q, T0 + 60 * SEC).grey, GREY_NEW);
	assert_true(put(f, &plain, T0 + 360 * SEC).charged);
	a = put(f, &q, T0 + 360 * SEC); /* waited, but refused: it passes the next time */
	assert_int_equal(a.grey, GREY_PASSED);
	assert_false(a.charged);
	assert_int_equal(put(f, &q, T0 + 420 * SEC).grey, GREY_PASSED);
	assert_int_equal(put(f, &q, T0 + 480 * SEC).grey, GREY_KNOWN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    ZONE_TEST(test_bucket_fills_and_drains),
	    ZONE_TEST(test_own_clock),
	    ZONE_TEST(test_counter_expires_with_its_record),
	    ZONE_TEST(test_all_or_nothing),
	    ZONE_TEST(test_log_limits_are_apart),
	    ZONE_TEST(test_clock_back),
	    ZONE_TEST(test_sessions_are_counted_once_a_record),
	    ZONE_TEST(test_peek_writes_nothing),
	    ZONE_TEST(test_load_is_empty),
	    ZONE_TEST(test_grey_road),
	    ZONE_TEST(test_grey_window_ends),
	    ZONE_TEST(test_grey_clock_back),
	    ZONE_TEST(test_grey_and_a_limit),
	};

	return cmocka_run_group_tests_name("zone_ask", tests, NULL, NULL);
}
