/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_reply.c - which replies may be configured: temporary codes only, text that both MTAs pass on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/reply.h"

#define ERR_MAX 256

static void
test_accepted(void **state)
{
	static const struct {
		const char *line, *code, *xcode, *text;
		bool closes;
	} table[] = {
	    {"421 4.7.0 Slow down", "421", "4.7.0", "Slow down", true},
	    {"421   4.7.0   Slow  down", "421", "4.7.0", "Slow  down", true},
	    {"451 4.7.1 Greylisted", "451", "4.7.1", "Greylisted", false},
	    {"452 4.5.3 Too many recipients", "452", "4.5.3", "Too many recipients", false},
	    {"421 4.999.999 x", "421", "4.999.999", "x", true},
	    {"421 4.7.0 \"quoted\" ~", "421", "4.7.0", "\"quoted\" ~", true},
	};
	char err[ERR_MAX];
	struct reply r;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (!reply_parse(table[i].line, &r, err, sizeof err))
			fail_msg("\"%s\": %s", table[i].line, err);
		assert_string_equal(r.code, table[i].code);
		assert_string_equal(r.xcode, table[i].xcode);
		assert_string_equal(r.text, table[i].text);
		assert_int_equal(reply_closes(&r), table[i].closes);
	}
}

static void
test_refused(void **state)
{
	static const struct {
		const char *line, *says;
	} table[] = {
	    {"", "reads"},
	    {" 421 4.7.0 x", "reads"},
	    {"4210 4.7.0 x", "reads"},
	    {"450 4.7.1 x", "Sendmail"},
	    {"454 4.7.1 x", "AUTH"},
	    {"455 4.7.1 x", "RCPT"},
	    {"550 5.7.1 x", "lose mail"},
	    {"5 5.7.1 x", "lose mail"},
	    {"5\x1b[ 5.7.1 x", "421, 451 or 452"},
	    {"250 2.0.0 x", "421, 451 or 452"},
	    {"430 4.7.0 x", "421, 451 or 452"},
	    {"42 4.7.0 x", "421, 451 or 452"},
	    {"421", "enhanced code"},
	    {"421 ", "enhanced code"},
	    {"421 x", "enhanced code"},
	    {"421 5.7.0 x", "enhanced code"},
	    {"421 4.7 x", "enhanced code"},
	    {"421 4.7. x", "enhanced code"},
	    {"421 4..0 x", "enhanced code"},
	    {"421 4.7.0.1 x", "enhanced code"},
	    {"421 4.1234.0 x", "enhanced code"},
	    {"421 4.7.1234 x", "enhanced code"},
	    {"421 4.7.0x x", "enhanced code"},
	    {"421 4.777777777777.0 x", "enhanced code"},
	    {"421\t4.7.0 x", "enhanced code"},
	    {"421 4.7.0", "missing"},
	    {"421 4.7.0 ", "missing"},
	    {"421 4.7.0 a\nb", "one line"},
	    {"421 4.7.0 a\r", "one line"},
	    {"421 4.7.0\nb", "one line"},
	    {"421 4.7.0 100% sure", "550"},
	    {"421 4.7.0 %s%n", "550"},
	    {"421 4.7.0 sp\xc3\xa4ter", "ASCII"},
	    {"421 4.7.0 a\tb", "control"},
	    {"421 4.7.0 a\x7f", "control"},
	    {"421 4.7.0 a\x1b[2J", "control"},
	};
	const struct reply before = {.code = "451", .xcode = "4.7.1", .text = "as it was"};
	char err[ERR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct reply r = before;

		err[0] = '\0';
		if (reply_parse(table[i].line, &r, err, sizeof err))
			fail_msg("\"%s\" is taken", table[i].line);
		if (strstr(err, table[i].says) == NULL)
			fail_msg("\"%s\" says: %s", table[i].line, err);
		assert_memory_equal(&r, &before, sizeof r);
	}
}

/* Every byte: what is let through is printable ASCII but '%'. */
static void
test_every_byte(void **state)
{
	char line[] = "421 4.7.0 a?b", err[ERR_MAX];
	struct reply r;

	(void)state;
	for (int c = 1; c < 256; c++) {
		line[11] = (char)c;
		if (reply_parse(line, &r, err, sizeof err) != (c >= 0x20 && c < 0x7f && c != '%'))
			fail_msg("byte %#x", (unsigned)c);
	}
}

static void
test_length(void **state)
{
	char line[REPLY_TEXT_MAX + 32], err[ERR_MAX], tiny[4];
	size_t start = strlen(strcpy(line, "421 4.7.0 "));
	struct reply r;

	(void)state;
	memset(line + start, 'x', REPLY_TEXT_MAX + 1);
	line[start + REPLY_TEXT_MAX] = '\0';
	assert_true(reply_parse(line, &r, err, sizeof err));
	assert_int_equal(strlen(r.text), REPLY_TEXT_MAX);
	line[start + REPLY_TEXT_MAX] = 'x';
	line[start + REPLY_TEXT_MAX + 1] = '\0';
	assert_false(reply_parse(line, &r, err, sizeof err));
	assert_non_null(strstr(err, "too long"));
	/* an error that does not fit is cut */
	assert_false(reply_parse(line, &r, tiny, sizeof tiny));
	assert_string_equal(tiny, "the");
	assert_false(reply_parse(line, &r, tiny, 1));
	assert_string_equal(tiny, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_accepted),
	    cmocka_unit_test(test_refused),
	    cmocka_unit_test(test_every_byte),
	    cmocka_unit_test(test_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
