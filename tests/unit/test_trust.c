/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_trust.c - a pool's life on a clock of its own: trust is not bought in a day, is lost by
 * what goes wrong, fades in silence, and comes back only by being earned. The figures are those
 * that weir.conf(5) tells the administrator.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/trust.h"
#include "weir/units.h"

#define SEC USEC_PER_SEC
#define HOUR (3600 * SEC)
#define DAY (24 * HOUR)
#define NOW INT64_C(1795460545000000)

/* The built-in rule. */
static const struct trust_rule rule = {.messages = 20, .over_us = 7 * DAY, .keep_us = 35 * DAY};

struct life {
	struct trust t;
	int64_t now;
};

static struct life
born(void)
{
	return (struct life){.now = NOW};
}

static bool
known(struct life *l, bool passed)
{
	trust_fade(&l->t, &rule, l->now);
	return trust_known(&l->t, &rule, passed);
}

static void
message(struct life *l)
{
	trust_fade(&l->t, &rule, l->now);
	trust_good(&l->t, &rule, l->now);
}

static void
wrong(struct life *l)
{
	trust_fade(&l->t, &rule, l->now);
	trust_bad(&l->t);
}

/* So many messages a day, evenly, for so long. */
static void
write_for(struct life *l, int64_t days, int64_t a_day)
{
	for (int64_t i = 0; i < days * a_day; i++) {
		message(l);
		l->now += DAY / a_day;
	}
}

/* Until it is known, a message every `every`; how long that took, or -1 after a year. */
static int64_t
time_to_earn(struct life *l, int64_t every)
{
	int64_t start = l->now;

	while (l->now - start < 366 * DAY) {
		message(l);
		if (known(l, false))
			return l->now - start;
		l->now += every;
	}
	return -1;
}

/* --- cannot be bought --------------------------------------------------------------------------- */

static void
test_not_in_an_hour(void **state)
{
	struct life l = born();

	(void)state;
	for (int i = 0; i < 100000; i++) {
		message(&l);
		l.now += HOUR / 100000;
	}
	assert_true(l.t.credit <= MICRO);
	assert_false(known(&l, false));
	/* the messages themselves are counted, for the share of what goes wrong */
	assert_true(l.t.good > 95000 * MICRO);
}

static void
test_not_before_its_time(void **state)
{
	static const int64_t every[] = {SEC, 60 * SEC, HOUR, 4 * HOUR, 8 * HOUR, 9 * HOUR};

	(void)state;
	for (size_t i = 0; i < sizeof every / sizeof every[0]; i++) {
		struct life l = born();
		int64_t took = time_to_earn(&l, every[i]);

		assert_true(took >= rule.over_us);
		assert_in_range(took, 8 * DAY, 10 * DAY);
	}
}

/* Credits fade while they are earned: four messages a week are the least. */
static void
test_slow_senders(void **state)
{
	static const struct {
		int64_t every, from, to; /* days; to 0: never */
	} table[] = {
	    {DAY / 2, 13, 14},
	    {DAY, 44, 46},
	    {36 * HOUR, 195, 206},
	    {7 * DAY / 4, 0, 0},
	    {2 * DAY, 0, 0},
	    {7 * DAY, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct life l = born();
		int64_t took = time_to_earn(&l, table[i].every);

		if (table[i].to == 0 ? took != -1
				     : took < table[i].from * DAY || took > table[i].to * DAY)
			fail_msg("every %lld h: known after %lld h",
			    (long long)(table[i].every / HOUR), (long long)(took / HOUR));
	}
}

static void
test_never_more_than_twice(void **state)
{
	struct life l = born();

	(void)state;
	write_for(&l, 400, 48);
	assert_in_range(l.t.credit, 39 * MICRO, 40 * MICRO);
}

/* --- fades ---------------------------------------------------------------------------------------- */

static void
test_silence(void **state)
{
	struct life l = born();
	int64_t since;

	(void)state;
	write_for(&l, 100, 24);
	assert_true(known(&l, false));
	since = l.now;
	l.now = since + 33 * DAY;
	assert_true(known(&l, false));
	l.now = since + 35 * DAY;
	assert_false(known(&l, false));
	/* and after twice that nothing is left */
	l.now = since + 70 * DAY;
	assert_false(known(&l, false));
	assert_int_equal(l.t.credit, 0);
}

/* What went well and wrong: half of it each day. */
static void
test_half_a_day(void **state)
{
	static const struct {
		int64_t dt, left;
	} table[] = {
	    {0, 800},
	    {12 * HOUR, 600},
	    {DAY, 400},
	    {2 * DAY, 200},
	    {3 * DAY, 100},
	    {60 * DAY, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct life l = {.t = {.good = 800 * MICRO, .bad = 800 * MICRO, .time_us = NOW},
		    .now = NOW + table[i].dt};

		(void)known(&l, false);
		assert_int_equal(l.t.good, table[i].left * MICRO);
		assert_int_equal(l.t.bad, table[i].left * MICRO);
	}
}

/* --- is lost -------------------------------------------------------------------------------------- */

/* How many recipients that do not exist a pool can try in an hour until it is a stranger. */
static int
tries_until_stranger(struct life *l, bool passed)
{
	int n = 0;

	while (known(l, passed) && n < 100000) {
		wrong(l);
		n++;
		l->now += HOUR / 100000;
	}
	return n;
}

static void
test_dictionary_attack(void **state)
{
	static const struct {
		int64_t a_day;
		int from, to;
	} table[] = {
	    {1, 5, 5}, /* four are forgiven to anybody */
	    {3, 5, 5},
	    {50, 24, 26}, /* what went well fades, too: two days of it count */
	    {1000, 495, 505},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct life l = born();
		int n;

		write_for(&l, 120, table[i].a_day);
		n = tries_until_stranger(&l, false);
		if (n < table[i].from || n > table[i].to)
			fail_msg("%lld a day: a stranger after %d", (long long)table[i].a_day, n);
		assert_int_equal(l.t.credit, 0);
		/* having passed greylisting does not help either */
		wrong(&l);
		assert_false(known(&l, true));
		l.now += HOUR;
		assert_false(known(&l, true));
	}
}

/* Now and then a wrong address among many is no attack. */
static void
test_honest_mistakes(void **state)
{
	struct life l = born();

	(void)state;
	write_for(&l, 60, 24);
	for (int day = 0; day < 60; day++) {
		for (int i = 0; i < 24; i++) {
			message(&l);
			if (i % 6 == 0) /* one in seven */
				wrong(&l);
			l.now += HOUR;
			assert_true(known(&l, false));
		}
	}
	/* nor are four of a pool that has hardly written yet */
	l = born();
	message(&l);
	for (int i = 0; i < 4; i++)
		wrong(&l);
	assert_true(known(&l, true));
	wrong(&l);
	assert_false(known(&l, true));
}

/* --- comes back ----------------------------------------------------------------------------------- */

static void
test_earned_anew(void **state)
{
	struct life l = born();
	int64_t turned;

	(void)state;
	write_for(&l, 120, 50);
	(void)tries_until_stranger(&l, false);
	turned = l.now;
	/* silence alone does not make it known again */
	l.now = turned + 10 * DAY;
	assert_false(known(&l, false));
	assert_false(trust_turned(&l.t));
	/* messages do, and as long as for anybody else */
	assert_true(time_to_earn(&l, HOUR) >= rule.over_us);
	/* one that goes on guessing earns nothing by its mail */
	l = born();
	write_for(&l, 120, 50);
	(void)tries_until_stranger(&l, false);
	for (int i = 0; i < 24 * 60; i++) {
		message(&l);
		wrong(&l);
		l.now += HOUR;
		assert_false(known(&l, true));
		assert_true(l.t.credit <= MICRO);
	}
}

/* Who has passed greylisting is known again once the wrong has faded below five. */
static void
test_passed_again(void **state)
{
	struct life l = born();
	int64_t turned;

	(void)state;
	write_for(&l, 30, 3);
	for (int i = 0; i < 40; i++)
		wrong(&l);
	turned = l.now;
	assert_false(known(&l, true));
	l.now = turned + 2 * DAY;
	assert_false(known(&l, true));
	l.now = turned + 4 * DAY;
	assert_true(known(&l, true));
	assert_false(known(&l, false));
}

/* --- odd times ------------------------------------------------------------------------------------ */

static void
test_clock_back(void **state)
{
	struct life l = born();
	struct trust before;

	(void)state;
	write_for(&l, 60, 24);
	before = l.t;
	l.now -= 1000 * DAY;
	(void)known(&l, false);
	assert_int_equal(l.t.credit, before.credit);
	assert_int_equal(l.t.good, before.good);
	assert_int_equal(l.t.time_us, l.now);
	/* earning waits from now on, not for three years */
	for (int i = 0; i < 24; i++) {
		message(&l);
		l.now += HOUR;
	}
	assert_true(l.t.earned_us <= l.now && l.now - l.t.earned_us < DAY);
}

static void
test_without_messages(void **state)
{
	const struct trust_rule grey_only = {
	    .messages = 0, .over_us = 7 * DAY, .keep_us = 35 * DAY};
	struct trust t;

	(void)state;
	memset(&t, 0, sizeof t);
	for (int i = 0; i < 1000; i++) {
		trust_fade(&t, &grey_only, NOW + i * HOUR);
		trust_good(&t, &grey_only, NOW + i * HOUR);
	}
	assert_int_equal(t.credit, 0);
	assert_false(trust_known(&t, &grey_only, false));
	assert_true(trust_known(&t, &grey_only, true));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_not_in_an_hour),
	    cmocka_unit_test(test_not_before_its_time),
	    cmocka_unit_test(test_slow_senders),
	    cmocka_unit_test(test_never_more_than_twice),
	    cmocka_unit_test(test_silence),
	    cmocka_unit_test(test_half_a_day),
	    cmocka_unit_test(test_dictionary_attack),
	    cmocka_unit_test(test_honest_mistakes),
	    cmocka_unit_test(test_earned_anew),
	    cmocka_unit_test(test_passed_again),
	    cmocka_unit_test(test_clock_back),
	    cmocka_unit_test(test_without_messages),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
