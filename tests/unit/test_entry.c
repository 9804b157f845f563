/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_entry.c - how a change is written in Redis: taking it apart word by word.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/entry.h"
#include "weir/units.h"

#define ERR_MAX 256

static void
test_next(void **state)
{
	/* rest NULL: no word of this form. Keys up to 7, values up to 9 characters. */
	static const struct {
		const char *text, *key, *value, *rest;
	} table[] = {
	    {"rate=60/1m", "rate", "60/1m", ""},
	    {"  rate=60/1m   burst=3", "rate", "60/1m", "burst=3"}, {"a=1 ", "a", "1", ""},
	    {"a=\"b c\" d=1", "a", "b c", "d=1"}, {"a=\"b=c\"", "a", "b=c", ""},
	    {"a=b=c", "a", "b=c", ""}, {"a=b\"c", "a", "b\"c", ""},
	    {"a=\"bc\"d", NULL, NULL, NULL}, /* something sticks to the quote */
	    {"a=\"bc", NULL, NULL, NULL}, {"a=\"", NULL, NULL, NULL}, {"a=\"\"", NULL, NULL, NULL},
	    {"a=", NULL, NULL, NULL}, {"a= b", NULL, NULL, NULL}, {"=b", NULL, NULL, NULL},
	    {"=", NULL, NULL, NULL}, {"a", NULL, NULL, NULL}, {"a b=c", NULL, NULL, NULL},
	    {"", NULL, NULL, NULL}, {"   ", NULL, NULL, NULL}, {"1234567=x", "1234567", "x", ""},
	    {"12345678=x", NULL, NULL, NULL}, {"a=123456789", "a", "123456789", ""},
	    {"a=1234567890", NULL, NULL, NULL}, {"a=\"123456789\"", "a", "123456789", ""},
	    {"a=\"1234567890\"", NULL, NULL, NULL},
	    {"\n=\xff", "\n", "\xff", ""}, /* whoever looks at it must judge it */
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *p = table[i].text;
		char key[8], value[10];

		memset(key, 'k', sizeof key);
		memset(value, 'v', sizeof value);
		if (entry_next(&p, key, sizeof key, value, sizeof value) != (table[i].rest != NULL))
			fail_msg("row %zu (%s)", i, table[i].text);
		if (table[i].rest == NULL)
			continue;
		if (strcmp(key, table[i].key) != 0 || strcmp(value, table[i].value) != 0 ||
		    strcmp(p, table[i].rest) != 0)
			fail_msg("row %zu: '%s' '%s' '%s'", i, key, value, p);
	}
}

/* The end of the text and what is no word are told apart by what is left. */
static void
test_next_at_the_end(void **state)
{
	static const struct {
		const char *text;
		bool end;
	} table[] = {{"", true}, {"   ", true}, {"x", false}, {"  x", false}, {"a=", false}};
	char key[8], value[8];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *p = table[i].text;

		assert_false(entry_next(&p, key, sizeof key, value, sizeof value));
		assert_int_equal(*p == '\0', table[i].end);
	}
}

static void
test_split(void **state)
{
	static const struct {
		const char *text, *words; /* words NULL: refused */
		int64_t until_s; /* -1: for good */
		const char *by, *reason;
	} table[] = {
	    {"rate=120/1m burst=60", "rate=120/1m burst=60", -1, "", ""},
	    {"rate=120/1m burst=60 until=1795460545 by=ann@mx1 reason=\"newsletter day\"",
		"rate=120/1m burst=60", 1795460545, "ann@mx1", "newsletter day"},
	    {"by=ann until=5 rate=1/1m reason=x burst=2", "rate=1/1m burst=2", 5, "ann", "x"},
	    {"  rate=1/1m  ", "rate=1/1m", -1, "", ""},
	    {"reply=\"421 4.7.0 a b\" by=ann rate=1/1m", "reply=\"421 4.7.0 a b\" rate=1/1m", -1,
		"ann", ""}, /* quotes stay */
	    {"reason=\"until=7 by=bob\" max=3", "max=3", -1, "", "until=7 by=bob"},
	    {"reply=\"until=7\"", "reply=\"until=7\"", -1, "", ""},
	    {"until=7 until=9 max=3", "max=3", 9, "", ""},
	    {"Until=7", "Until=7", -1, "", ""}, /* no word of ours: the limit's to refuse */
	    {"until=0", "", 0, "", ""},
	    {"until=9999999999", "", INT64_C(9999999999), "", ""},
	    {"until=10000000000", NULL, 0, "", ""},
	    {"until=99999999999999999999999999", NULL, 0, "", ""},
	    {"until=-1", NULL, 0, "", ""},
	    {"until=5m", NULL, 0, "", ""},
	    {"until=", NULL, 0, "", ""},
	    {"until=\"\"", NULL, 0, "", ""},
	    {"until=0x10", NULL, 0, "", ""},
	    {"until=\" 5\"", NULL, 0, "", ""},
	    {"until=tomorrow", NULL, 0, "", ""},
	    {"", "", -1, "", ""},
	    {"    ", "", -1, "", ""},
	    {"rate", NULL, 0, "", ""},
	    {"rate=1/1m garbage", NULL, 0, "", ""},
	    {"rate=1/1m reason=no quotes here", NULL, 0, "", ""},
	    {"reason=\"half", NULL, 0, "", ""},
	    {"=1", NULL, 0, "", ""},
	    {"rate=1/1m\tburst=2", "rate=1/1m\tburst=2", -1, "", ""},
	    {"this-key-is-longer-than-any-that-there-is=1", NULL, 0, "", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		char words[ENTRY_WORDS_MAX + 1], err[ERR_MAX] = "";
		struct entry_meta m;
		int64_t until;

		memset(&m, 0xa5, sizeof m);
		memset(words, 0xa5, sizeof words);
		if (entry_split(table[i].text, &m, words, err, sizeof err) !=
		    (table[i].words != NULL))
			fail_msg("row %zu (%s): %s", i, table[i].text, err);
		if (table[i].words == NULL) {
			assert_true(err[0] != '\0');
			continue;
		}
		until = table[i].until_s < 0 ? INT64_MAX : table[i].until_s * USEC_PER_SEC;
		if (strcmp(words, table[i].words) != 0 || m.until_us != until ||
		    strcmp(m.by, table[i].by) != 0 || strcmp(m.reason, table[i].reason) != 0)
			fail_msg("row %zu: '%s' until %lld by '%s' reason '%s'", i, words,
			    (long long)m.until_us, m.by, m.reason);
	}
}

/* Who and why are cut, the setting never is. */
static void
test_split_over_long(void **state)
{
	char text[2 * ENTRY_WORDS_MAX], words[ENTRY_WORDS_MAX + 1], err[ERR_MAX];
	struct entry_meta m;

	(void)state;
	snprintf(text, sizeof text, "by=%0300d reason=\"%0500d\" max=3", 1, 2);
	assert_true(entry_split(text, &m, words, err, sizeof err));
	assert_int_equal(strlen(m.by), ENTRY_BY_MAX);
	assert_int_equal(strlen(m.reason), ENTRY_REASON_MAX);
	assert_string_equal(words, "max=3");

	snprintf(text, sizeof text, "a=%0*d", ENTRY_WORDS_MAX - 2, 1);
	assert_int_equal(strlen(text), ENTRY_WORDS_MAX);
	assert_true(entry_split(text, &m, words, err, sizeof err));
	assert_string_equal(words, text);
	snprintf(text, sizeof text, "a=%0*d", ENTRY_WORDS_MAX - 1, 1);
	assert_false(entry_split(text, &m, words, err, sizeof err));
	assert_string_equal(err, "too long");

	/* a sentence that does not fit is cut, not written beyond */
	memset(err, 'x', sizeof err);
	assert_false(entry_split("garbage", &m, words, err, 8));
	assert_int_equal(strlen(err), 7);
	assert_int_equal(err[8], 'x');
}

/* Whatever bytes stand there: no more than a refusal comes of them. */
static void
test_split_garbage(void **state)
{
	static const char bytes[] = "=\"  auntilbyreason/1m9\\\n\xff";
	unsigned seed = 1, taken = 0;

	(void)state;
	for (int i = 0; i < 200000; i++) {
		char text[64], words[ENTRY_WORDS_MAX + 1], err[ERR_MAX];
		size_t len = (seed = seed * 1103515245 + 12345) >> 16 & 31;
		struct entry_meta m;

		for (size_t k = 0; k < len; k++) {
			seed = seed * 1103515245 + 12345;
			text[k] = bytes[(seed >> 16) % (sizeof bytes - 1)];
		}
		text[len] = '\0';
		if (!entry_split(text, &m, words, err, sizeof err))
			continue;
		taken++;
		if (strlen(words) > len || strlen(m.by) > len || strlen(m.reason) > len)
			fail_msg("'%s' gives '%s'", text, words);
	}
	assert_true(taken > 100);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_next),
	    cmocka_unit_test(test_next_at_the_end),
	    cmocka_unit_test(test_split),
	    cmocka_unit_test(test_split_over_long),
	    cmocka_unit_test(test_split_garbage),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
