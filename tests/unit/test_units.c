/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_units.c - durations, counts, rates, sizes and switches: what is read, and what is not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/units.h"

#define NO INT64_C(-1) /* refused, and the value stays as it was */

struct row {
	const char *text;
	int64_t want;
};

static void
check(const char *what, bool (*read)(const char *, int64_t *), const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int64_t got = NO;
		bool ok = read(rows[i].text, &got);

		if (ok != (rows[i].want != NO) || got != rows[i].want)
			fail_msg("%s(\"%s\") is %s %lld", what, rows[i].text, ok ? "true" : "false",
			    (long long)got);
	}
}

static void
test_duration(void **state)
{
	static const struct row rows[] = {
	    {"0", 0},
	    {"5", 5 * USEC_PER_SEC},
	    {"50ms", 50 * USEC_PER_MSEC},
	    {"30s", 30 * USEC_PER_SEC},
	    {"5m", 300 * USEC_PER_SEC},
	    {"5M", 300 * USEC_PER_SEC},
	    {"2h", 7200 * USEC_PER_SEC},
	    {"1d", 86400 * USEC_PER_SEC},
	    {"1w", 7 * 86400 * USEC_PER_SEC},
	    {"366d", UNITS_DURATION_MAX},
	    {"31622400", UNITS_DURATION_MAX},
	    {"367d", NO},
	    {"31622401", NO},
	    {"99999999999999999999999999ms", NO},
	    {"", NO},
	    {"s", NO},
	    {"-5s", NO},
	    {"+5s", NO},
	    {" 5s", NO},
	    {"5 s", NO},
	    {"5s ", NO},
	    {"1.5h", NO},
	    {"5min", NO},
	    {"0x10", NO},
	    {"1h30m", NO},
	};

	(void)state;
	check("units_duration", units_duration, rows, sizeof rows / sizeof rows[0]);
}

static void
test_count(void **state)
{
	static const struct row rows[] = {
	    {"0", 0},
	    {"007", 7},
	    {"1000000000", UNITS_COUNT_MAX},
	    {"1000000001", NO},
	    {"18446744073709551617", NO},
	    {"", NO},
	    {"-1", NO},
	    {"1k", NO},
	    {"1 ", NO},
	};

	(void)state;
	check("units_count", units_count, rows, sizeof rows / sizeof rows[0]);
}

static void
test_size(void **state)
{
	static const struct row rows[] = {
	    {"0", 0},
	    {"1023", 1023},
	    {"64k", 64 << 10},
	    {"64K", 64 << 10},
	    {"32M", 32 << 20},
	    {"32m", 32 << 20},
	    {"3G", INT64_C(3) << 30},
	    {"4611686018427387903", INT64_MAX / 2},
	    {"4611686018427387904", NO},
	    {"4294967295G", INT64_C(4294967295) << 30},
	    {"4294967296G", NO},
	    {"40000000000000000000", NO}, /* over 64 bits */
	    {"99999999999999999999999999G", NO},
	    {"", NO},
	    {"k", NO},
	    {"1T", NO},
	    {"1kB", NO},
	    {"-1k", NO},
	};

	(void)state;
	check("units_size", units_size, rows, sizeof rows / sizeof rows[0]);
}

static void
test_rate(void **state)
{
	static const struct {
		const char *text;
		int64_t n, period_us;
	} rows[] = {
	    {"60/1m", 60, 60 * USEC_PER_SEC},
	    {"10/s", 10, USEC_PER_SEC},
	    {"10/60", 10, 60 * USEC_PER_SEC},
	    {"1/366d", 1, UNITS_DURATION_MAX},
	    {"1/1000ms", 1, USEC_PER_SEC},
	    {"1000000000/1s", UNITS_COUNT_MAX, USEC_PER_SEC},
	    {"1000000001/1s", NO, NO},
	    {"0/1m", NO, NO},
	    {"60/0", NO, NO},
	    {"60/500ms", NO, NO},
	    {"60/ms", NO, NO},
	    {"60/367d", NO, NO},
	    {"60/9999999999999999999d", NO, NO},
	    {"60/", NO, NO},
	    {"60", NO, NO},
	    {"/1m", NO, NO},
	    {"60 / 1m", NO, NO},
	    {"60/-1m", NO, NO},
	    {"60/1m ", NO, NO},
	    {"", NO, NO},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int64_t n = NO, period = NO;
		bool sized = false;

		if (units_rate(rows[i].text, INT64_C(1) << 31, &n, &period, &sized) !=
			(rows[i].n != NO) ||
		    n != rows[i].n || period != rows[i].period_us)
			fail_msg("units_rate(\"%s\"): %lld in %lld us", rows[i].text, (long long)n,
			    (long long)period);
		assert_false(sized);
	}
}

/* Bytes are written with k, M and G, and only then may they pass UNITS_COUNT_MAX. */
static void
test_figure(void **state)
{
	static const struct {
		const char *text;
		int64_t n;
		bool sized;
	} rows[] = {
	    {"1", 1, false},
	    {"1000000000", UNITS_COUNT_MAX, false},
	    {"1000000001", NO, false},
	    {"2k", 2048, true},
	    {"2M", 2 << 20, true},
	    {"2G", INT64_C(2) << 30, true},
	    {"3G", NO, false},
	    {"0", NO, false},
	    {"0k", NO, false},
	    {"1kk", NO, false},
	    {"1 k", NO, false},
	    {"k", NO, false},
	    {"-1", NO, false},
	    {"", NO, false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		int64_t n = NO, period = NO, rate = NO;
		bool sized = false, ok = rows[i].n != NO;
		char text[32];

		if (units_figure(rows[i].text, INT64_C(1) << 31, &n, &sized) != ok ||
		    n != rows[i].n || sized != rows[i].sized)
			fail_msg("units_figure(\"%s\"): %lld", rows[i].text, (long long)n);
		sized = false;
		snprintf(text, sizeof text, "%s/1h", rows[i].text);
		if (units_rate(text, INT64_C(1) << 31, &rate, &period, &sized) != ok ||
		    rate != rows[i].n || sized != rows[i].sized)
			fail_msg("units_rate(\"%s\"): %lld", text, (long long)rate);
	}
}

/* What is written is read as the same, and in the unit that people would take. */
static void
test_back(void **state)
{
	static const struct {
		int64_t us;
		const char *text;
	} durations[] = {
	    {0, "0s"},
	    {1500 * USEC_PER_MSEC, "1500ms"},
	    {USEC_PER_SEC, "1s"},
	    {90 * USEC_PER_SEC, "90s"},
	    {60 * USEC_PER_SEC, "1m"},
	    {129600 * USEC_PER_SEC, "36h"},
	    {35 * 86400 * USEC_PER_SEC, "35d"},
	    {UNITS_DURATION_MAX, "366d"},
	};
	static const struct {
		int64_t n;
		bool sized;
		const char *text;
	} figures[] = {
	    {1, true, "1"},
	    {1000, true, "1000"},
	    {1000, false, "1000"},
	    {1024, true, "1k"},
	    {1024, false, "1024"},
	    {1536, true, "1536"},
	    {100 << 20, true, "100M"},
	    {(100 << 20) + 1024, true, "102401k"},
	    {INT64_C(1) << 41, true, "2048G"},
	    {UNITS_COUNT_MAX, false, "1000000000"},
	};
	char text[UNITS_TEXT_MAX];
	int64_t n;

	(void)state;
	for (size_t i = 0; i < sizeof durations / sizeof durations[0]; i++) {
		assert_string_equal(units_duration_text(durations[i].us, text), durations[i].text);
		assert_true(units_duration(text, &n));
		assert_int_equal(n, durations[i].us);
	}
	for (size_t i = 0; i < sizeof figures / sizeof figures[0]; i++) {
		bool sized = false;

		assert_string_equal(
		    units_figure_text(figures[i].n, figures[i].sized, text), figures[i].text);
		assert_true(units_figure(text, INT64_C(1) << 41, &n, &sized));
		assert_int_equal(n, figures[i].n);
	}
}

static void
test_bool(void **state)
{
	static const char *const yes[] = {"true", "yes", "on", "ON", "True"};
	static const char *const no[] = {"false", "no", "off", "No"};
	static const char *const bad[] = {"", "1", "0", "y", "yes ", "enabled"};
	bool b;

	(void)state;
	for (size_t i = 0; i < sizeof yes / sizeof yes[0]; i++) {
		b = false;
		assert_true(units_bool(yes[i], &b));
		assert_true(b);
	}
	for (size_t i = 0; i < sizeof no / sizeof no[0]; i++) {
		b = true;
		assert_true(units_bool(no[i], &b));
		assert_false(b);
	}
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
		b = true;
		if (units_bool(bad[i], &b) || !b)
			fail_msg("units_bool(\"%s\")", bad[i]);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_duration),
	    cmocka_unit_test(test_count),
	    cmocka_unit_test(test_size),
	    cmocka_unit_test(test_rate),
	    cmocka_unit_test(test_figure),
	    cmocka_unit_test(test_back),
	    cmocka_unit_test(test_bool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
