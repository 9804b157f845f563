/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_log.c - no line can be forged, and a flood of equal lines is folded into one with a count.
 * The clock is this file's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "log.h"

static int64_t now_us = INT64_C(1000000000);

/* In place of libc's. */
int
clock_gettime(clockid_t clock, struct timespec *ts)
{
	(void)clock;
	ts->tv_sec = (time_t)(now_us / 1000000);
	ts->tv_nsec = (long)(now_us % 1000000) * 1000;
	return 0;
}

/* --- what standard error gets between capture() and captured() ----------------------------- */

static FILE *tape;
static int real_stderr;

static void
capture(void)
{
	tape = tmpfile();
	assert_non_null(tape);
	real_stderr = dup(STDERR_FILENO);
	assert_true(real_stderr >= 0 && dup2(fileno(tape), STDERR_FILENO) >= 0);
}

static const char *
captured(void)
{
	static char text[64 * 1024];
	ssize_t len;

	(void)dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	len = pread(fileno(tape), text, sizeof text - 1, 0);
	fclose(tape);
	assert_true(len >= 0);
	text[len] = '\0';
	return text;
}

static unsigned
count(const char *text, const char *what)
{
	unsigned n = 0;

	for (; (text = strstr(text, what)) != NULL; text += strlen(what))
		n++;
	return n;
}

/* --- escaping ------------------------------------------------------------------------------ */

static void
test_escape(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
	    {"", ""},
	    {"mx.example.org", "mx.example.org"},
	    {"a b", "a\\x20b"},
	    {"x action=accept", "x\\x20action\\x3daccept"},
	    {"\"\\=", "\\x22\\x5c\\x3d"},
	    {"a\r\nb\t", "a\\x0d\\x0ab\\x09"},
	    {"\x7f\x80\xff", "\\x7f\\x80\\xff"},
	    {"%s%n<>[]{}'`$", "%s%n<>[]{}'`$"},
	};
	char out[LOG_VALUE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		assert_string_equal(log_escape(table[i].in, out, sizeof out), table[i].out);
}

/* Any length into any room: ended, within it, and "..." where something is missing. */
static void
test_escape_bounds(void **state)
{
	static const char fill[] = {'x', '\n'};
	char in[LOG_VALUE_MAX + 50], *out;

	(void)state;
	for (size_t c = 0; c < sizeof fill; c++)
		for (size_t len = 0; len < sizeof in; len++)
			for (size_t room = 8; room <= LOG_VALUE_MAX; room += 7) {
				size_t width = fill[c] == 'x' ? 1 : 4, got;

				memset(in, fill[c], len);
				in[len] = '\0';
				out = malloc(room); /* exactly, so that a sanitizer sees one more */
				assert_non_null(out);
				got = strlen(log_escape(in, out, room));
				assert_true(got < room);
				if (got != len * width)
					assert_string_equal(out + got - 3, "...");
				free(out);
			}
}

static void
test_line(void **state)
{
	char longest[LOG_LINE_MAX + 200];
	const char *text;

	(void)state;
	capture();
	log_line(LOG_INFO, "a %s b", "1\n2\r3\x1b\x7f");
	text = captured();
	assert_string_equal(text, "weir-milter: a 1?2?3?? b\n");
	memset(longest, 'x', sizeof longest - 1);
	longest[sizeof longest - 1] = '\0';
	capture();
	log_line(LOG_INFO, "%s", longest);
	text = captured();
	assert_int_equal(strlen(text), strlen("weir-milter: ") + LOG_LINE_MAX);
	assert_int_equal(text[strlen(text) - 1], '\n');
}

/* --- folding ------------------------------------------------------------------------------- */

static void
flood(const char *what, int n)
{
	char rest[32];

	for (int i = 0; i < n; i++) {
		snprintf(rest, sizeof rest, " used=%d", i);
		log_folded("4F1", what, rest);
	}
}

static void
test_fold(void **state)
{
	const char *text;

	(void)state;
	capture();
	flood("action=refuse client=192.0.2.1", 12);
	log_fold_flush(false); /* its time is not over */
	text = captured();
	assert_int_equal(count(text, "\n"), LOG_FOLD_FREE);
	assert_int_equal(count(text, "4F1: action=refuse client=192.0.2.1 used=4\n"), 1);

	now_us += LOG_FOLD_US - 1;
	capture();
	log_fold_flush(false);
	assert_string_equal(captured(), "");
	now_us++;
	capture();
	log_fold_flush(false);
	log_fold_flush(true); /* said once */
	text = captured();
	assert_string_equal(
	    text, "weir-milter: NOQUEUE: action=refuse client=192.0.2.1 repeated=7\n");
}

/* Written ones and counted ones are all there are of each, though some share a slot. */
static void
test_nothing_is_lost(void **state)
{
	char what[32], repeated[48];
	const char *text;

	(void)state;
	capture();
	for (int i = 0; i < 80; i++) {
		snprintf(what, sizeof what, "client=%d;", i % 40);
		flood(what, 10);
	}
	log_fold_flush(true);
	text = captured();
	for (int i = 0; i < 40; i++) {
		unsigned long total;

		snprintf(what, sizeof what, "client=%d; used=", i);
		snprintf(repeated, sizeof repeated, "client=%d; repeated=", i);
		total = count(text, what);
		for (const char *p = text; (p = strstr(p, repeated)) != NULL; p++)
			total += strtoul(p + strlen(repeated), NULL, 10);
		if (total != 20)
			fail_msg("client %d: %lu", i, total);
	}
}

static void
test_fold_few_and_again(void **state)
{
	const char *text;

	(void)state;
	capture();
	flood("few", LOG_FOLD_FREE);
	log_fold_flush(true);
	text = captured();
	assert_int_equal(count(text, "\n"), LOG_FOLD_FREE);
	capture();
	flood("again", LOG_FOLD_FREE + 1);
	now_us += LOG_FOLD_US;
	flood("again", 1); /* a new stretch: the count of the old one, then in full again */
	text = captured();
	assert_int_equal(count(text, "\n"), LOG_FOLD_FREE + 2);
	assert_int_equal(count(text, "again repeated=1\n"), 1);
	log_fold_flush(true);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_escape),
	    cmocka_unit_test(test_escape_bounds),
	    cmocka_unit_test(test_line),
	    cmocka_unit_test(test_fold),
	    cmocka_unit_test(test_nothing_is_lost),
	    cmocka_unit_test(test_fold_few_and_again),
	};

	log_open(true, false);
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
