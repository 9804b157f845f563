/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_mailbox.c - one name for the many spellings of a mailbox.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "weir/facts.h"

static void
test_spellings(void **state)
{
	static const struct {
		const char *text, *name;
	} table[] = {
	    {"<u1@example.test>", "u1@example.test"},
	    {"u1@example.test", "u1@example.test"},
	    {"<u1@example.test.>", "u1@example.test"},
	    {"< u1@example.test >", "u1@example.test"},
	    {"<u1 @ example.test>", "u1@example.test"},
	    {"<\"u1\"@example.test>", "u1@example.test"},
	    {"<u\\1@example.test>", "u1@example.test"},
	    {"<@relay.test,@b.test:u1@example.test>", "u1@example.test"},
	    {"<u1(a (nested) comment)@example.test>", "u1@example.test"},
	    {"<U1@Example.Test>", "U1@Example.Test"},
	    {"<>", ""},
	    {"", ""},
	    {"<postmaster>", "postmaster"},
	    {"<u1%example.test>", "u1%example.test"},
	    {"<a@b@c>", "a@b@c"},
	    {"(", ""},
	    {"<@>", "@"},
	    /* what Postfix or Sendmail was seen to take for u1@example.test */
	    {"<u1@example.test.(c)>", "u1@example.test"},
	    {"<u1@example.test(c).>", "u1@example.test"},
	    {"<u1@example.test..>", "u1@example.test"},
	    {"<u1@example.test(\\))>", "u1@example.test"},
	    {"<u1@example.test(>)>", "u1@example.test"},
	    {"(<)u1@example.test(>)", "u1@example.test"},
	    {"<(c)@relay.test:u1@example.test>", "u1@example.test"},
	    {"<@relay.test:@b.test:u1@example.test>", "u1@example.test"},
	    {"<@[IPv6:2001:db8::1]:u1@example.test>", "u1@example.test"},
	    {"<\"@relay.test:u1\"@example.test>", "u1@example.test"},
	    {"(c)<u1@example.test>", "u1@example.test"},
	    {"<u1@example.test>(c)", "u1@example.test"},
	    {"foo<u1@example.test>", "u1@example.test"},
	    {"\"foo<\"<u1@example.test>", "u1@example.test"},
	    {"<u1@example.test>x", "u1@example.test"},
	    {"<a@b.test><u1@example.test>", "u1@example.test"},
	    {"<a@b.test <u1@example.test>>", "u1@example.test"},
	    {"<<u1@example.test>>", "u1@example.test"},
	    {"<u1@example.test;>", "u1@example.test"},
	    {"<;u1@example.test>", "u1@example.test"},
	    {"<,u1@example.test,>", "u1@example.test"},
	    {"<u1@example.test>;", "u1@example.test"},
	    {"<list:u1@example.test;>", "u1@example.test"},
	    {"list:<u1@example.test>;", "u1@example.test"},
	    {"list:u1@example.test;", "u1@example.test"},
	    {"<\"u1@example.test\">", "u1@example.test"},
	    {"<u1\\@example.test>", "u1@example.test"},
	    {" <u1@example.test> ", "u1@example.test"},
	    /* these are others, and must not lose their domain */
	    {"<\"u1(x\"@example.test>", "u1(x@example.test"},
	    {"<\"u1(x)\"@example.test>", "u1(x)@example.test"},
	    {"<\"<u1\"@example.test>", "<u1@example.test"},
	    {"<\"u1>\"@example.test>", "u1>@example.test"},
	    {"<u1\\(x@example.test>", "u1(x@example.test"},
	    {"<u1@[IPv6:2001:db8::1]>", "u1@[IPv6:2001:db8::1]"},
	    {"<.u1@example.test>", ".u1@example.test"},
	    {"u1\\", "u1"},
	    {";:,", ""},
	    {"<", ""},
	    {">", ">"},
	};
	char name[321];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		mailbox_name(table[i].text, name, sizeof name);
		assert_string_equal(name, table[i].name);
	}
}

/* length bytes of x, then tail. */
static const char *
long_text(size_t length, const char *tail)
{
	static char text[70000];

	memset(text, 'x', length);
	strcpy(text + length, tail);
	return text;
}

static void
test_too_long(void **state)
{
	char a[321], b[321];

	(void)state;
	mailbox_name(long_text(305, "@example.test"), a, sizeof a);
	assert_int_equal(strlen(a), 318);
	assert_null(strchr(a, '~'));
	for (size_t n = 308; n < 66000; n = n * 3 / 2) {
		mailbox_name(long_text(n, "@example.test"), a, sizeof a);
		assert_int_equal(strlen(a), 320);
		assert_non_null(strchr(a, '~'));
		assert_string_equal(strrchr(a, '@'), "@example.test");
		/* what is cut away still tells two mailboxes apart */
		mailbox_name(long_text(n + 1, "@example.test"), b, sizeof b);
		assert_string_not_equal(a, b);
	}
	/* a domain that leaves no room is cut as well */
	memset(a, 0, sizeof a);
	mailbox_name(long_text(66000, ""), a, sizeof a);
	assert_int_equal(strlen(a), 320);
	mailbox_name(strcat(memcpy(b, "u@", 3), ""), a, sizeof a);
	assert_string_equal(a, "u@");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_spellings),
	    cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
