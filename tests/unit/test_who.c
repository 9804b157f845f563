/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_who.c - whom an entry is about: how it is written, and which facts it matches.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/limit.h"
#include "weir/who.h"

#define COUNT(table) (unsigned)(sizeof(table) / sizeof((table)[0]))
#define X31 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X63 X31 "x" X31
#define X30 "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"
#define X253 X63 "." X63 "." X63 "." X31 X30

static void
test_spelling(void **state)
{
	static const struct {
		const char *text, *again; /* again NULL: refused */
	} table[] = {
	    {"192.0.2.7", "192.0.2.7"},
	    {"192.0.2.7/32", "192.0.2.7"},
	    {"192.0.2.0/24", "192.0.2.0/24"},
	    {"0.0.0.0/0", "0.0.0.0/0"},
	    {"::ffff:192.0.2.7", "192.0.2.7"},
	    {"2001:DB8:0::/32", "2001:db8::/32"},
	    {"2001:db8::7", "2001:db8::7"},
	    {"user:ann", "user:ann"},
	    {"user:Ann", "user:Ann"},
	    {"user:ann@example.org", "user:ann@example.org"},
	    {"user:192.0.2.7", "user:192.0.2.7"},
	    {"user:user:ann", "user:user:ann"},
	    {"user:\xc3\xa4", "user:\xc3\xa4"},
	    {"name:mx.example.org", "name:mx.example.org"},
	    {"name:MX.Example.ORG", "name:mx.example.org"},
	    {"name:org", "name:org"},
	    {"name:xn--bcher-kva.example", "name:xn--bcher-kva.example"},
	    {"name:_dmarc.a-b.example", "name:_dmarc.a-b.example"},
	    {"name:" X63 ".org", "name:" X63 ".org"},
	    {"sender:<>", "sender:<>"},
	    {"sender:ann@example.org", "sender:ann@example.org"},
	    {"recipient:Ann+X@Example.ORG", "recipient:ann+x@example.org"},
	    {"recipient:@example.org", "recipient:@example.org"},
	    {"recipient:@.example.org", "recipient:@.example.org"},
	    {"recipient:@.org", "recipient:@.org"},
	    {"recipient:postmaster@", "recipient:postmaster@"},
	    {"sender:PostMaster@", "sender:postmaster@"},
	    {"recipient:a=b!#$%&'*/?^`{|}~.x@example.org",
		"recipient:a=b!#$%&'*/?^`{|}~.x@example.org"},
	    {"recipient:\xc3\xa4@example.org", "recipient:\xc3\xa4@example.org"},
	    {"192.0.2.7/24", NULL}, /* host bits */
	    {"192.0.2.0/33", NULL},
	    {"192.0.2", NULL},
	    {"192.0.2.7 ", NULL},
	    {" 192.0.2.7", NULL},
	    {"192.0.2.7\n", NULL},
	    {"ann", NULL},
	    {"ann@example.org", NULL}, /* as what? */
	    {"mx.example.org", NULL},
	    {"User:ann", NULL},
	    {"user:", NULL},
	    {"user", NULL},
	    {"user:a b", NULL},
	    {"user:a\tb", NULL},
	    {"user:a\nb", NULL},
	    {"user:a\x7f", NULL},
	    {"name:", NULL},
	    {"name:.", NULL},
	    {"name:.example.org", NULL},
	    {"name:example.org.", NULL},
	    {"name:a..b", NULL},
	    {"name:*.example.org", NULL},
	    {"name:b\xc3\xbc.example", NULL},
	    {"name:a b", NULL},
	    {"name:example.org\n", NULL},
	    {"name:x" X63 ".org", NULL},
	    {"name:[192.0.2.7]", NULL},
	    {"name:2001:db8::7", NULL},
	    {"sender:", NULL},
	    {"sender:ann", NULL},
	    {"sender:example.org", NULL},
	    {"sender:<ann@example.org>", NULL},
	    {"sender:< >", NULL},
	    {"recipient:<>", NULL},
	    {"recipient:@", NULL},
	    {"recipient:@.", NULL},
	    {"recipient:@..org", NULL},
	    {"recipient:ann@.example.org", NULL},
	    {"recipient:ann@example.org.", NULL},
	    {"recipient:ann@example..org", NULL},
	    {"recipient:a@b@example.org", NULL},
	    {"recipient:a b@example.org", NULL},
	    {"recipient:\"a\"@example.org", NULL},
	    {"recipient:a\\@example.org", NULL},
	    {"recipient:(a)@example.org", NULL},
	    {"recipient:ann@[192.0.2.7]", NULL},
	    {"recipient:ann@b\xc3\xbc.example", NULL},
	    {"recipient:a\n@example.org", NULL},
	    {"recipient:a\x01@example.org", NULL},
	    {"recipient:" X63 "xx@example.org", NULL}, /* RFC 5321: 64 */
	    {"", NULL},
	    {"*", NULL},
	    {"recipient", NULL},
	};
	char err[LIMIT_ERR_MAX], text[WHO_TEXT_MAX];
	struct who w;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		err[0] = '\0';
		memset(&w, 0xa5, sizeof w);
		if (who_parse(table[i].text, &w, err, sizeof err) != (table[i].again != NULL))
			fail_msg("row %zu (%s): %s", i, table[i].text, err);
		if (table[i].again == NULL)
			assert_in_range(strlen(err), 10, sizeof err - 2);
		else
			assert_string_equal(who_format(&w, text), table[i].again);
	}
}

static void
test_longest(void **state)
{
	static const char *const longest[] = {
	    "name:" X253,
	    "recipient:@" X253,
	    "recipient:@." X253,
	    "recipient:x" X63 "@" X253,
	    "sender:x" X63 "@",
	};
	char name[5 + USER_MAX + 2] = "user:", text[WHO_TEXT_MAX], longer[WHO_TEXT_MAX + 8],
				 err[LIMIT_ERR_MAX];
	struct who w;

	(void)state;
	memset(name + 5, 'x', USER_MAX);
	assert_true(who_parse(name, &w, err, sizeof err));
	assert_string_equal(who_format(&w, text), name);
	name[5 + USER_MAX] = 'x';
	assert_false(who_parse(name, &w, err, sizeof err));
	for (size_t i = 0; i < COUNT(longest); i++) {
		const char *tail = strchr(longest[i], 'x');

		if (!who_parse(longest[i], &w, err, sizeof err))
			fail_msg("row %zu: %s", i, err);
		assert_string_equal(who_format(&w, text), longest[i]);
		/* one byte more, within the same label or local part */
		snprintf(
		    longer, sizeof longer, "%.*sx%s", (int)(tail - longest[i]), longest[i], tail);
		if (who_parse(longer, &w, err, sizeof err))
			fail_msg("row %zu: one more is taken", i);
	}
	/* 100 kB */
	static char huge[100001];
	memset(huge, 'x', sizeof huge - 1);
	memcpy(huge, "recipient:", 10);
	assert_false(who_parse(huge, &w, err, sizeof err));
	memcpy(huge, "name:", 5);
	assert_false(who_parse(huge, &w, err, sizeof err));
}

static void
test_matches(void **state)
{
	static const struct {
		const char *who, *client, *user, *name, *sender, *recipient;
		bool matches;
	} table[] = {
	    {"192.0.2.7", "192.0.2.7", "", "", "", "", true},
	    {"192.0.2.7", "::ffff:192.0.2.7", "", "", "", "", true},
	    {"192.0.2.7", "192.0.2.7", "ann", "", "", "", true},
	    {"192.0.2.0/24", "192.0.2.255", "", "", "", "", true},
	    {"192.0.2.0/24", "192.0.3.0", "", "", "", "", false},
	    {"0.0.0.0/0", "2001:db8::1", "", "", "", "", false},
	    {"::/0", "192.0.2.7", "", "", "", "", false},
	    {"2001:db8::/64", "2001:db8::1", "", "", "", "", true},
	    {"0.0.0.0/0", "", "", "", "", "", false}, /* no address */
	    {"user:ann", "192.0.2.7", "ann", "", "", "", true},
	    {"user:ann", "", "ann", "", "", "", true},
	    {"user:ann", "192.0.2.7", "Ann", "", "", "", false},
	    {"user:ann", "192.0.2.7", "annabel", "", "", "", false},
	    {"user:ann", "192.0.2.7", "", "", "", "", false},
	    {"name:example.org", "", "", "example.org", "", "", true},
	    {"name:example.org", "", "", "MX1.Example.Org.", "", "", true},
	    {"name:example.org", "", "", "badexample.org", "", "", false},
	    {"name:example.org", "", "", "org", "", "", false},
	    {"name:example.org", "", "", "", "", "", false},
	    {"name:mx.example.org", "", "", "example.org", "", "", false},
	    {"sender:ann@example.org", "", "", "", "Ann@EXAMPLE.org", "", true},
	    {"sender:ann@example.org", "", "", "", "ann+lists@example.org", "", true},
	    {"sender:ann@example.org", "", "", "", "ann@sub.example.org", "", false},
	    {"sender:ann@example.org", "", "", "", "", "ann@example.org", false},
	    {"sender:ann+lists@example.org", "", "", "", "ann+lists@example.org", "", true},
	    {"sender:ann+lists@example.org", "", "", "", "ann@example.org", "", false},
	    {"sender:+x@example.org", "", "", "", "+x@example.org", "", true},
	    {"sender:@example.org", "", "", "", "x@example.org", "", true},
	    {"sender:@example.org", "", "", "", "x@sub.example.org", "", false},
	    {"sender:@.example.org", "", "", "", "x@a.sub.example.org", "", true},
	    {"sender:@.example.org", "", "", "", "x@example.org", "", false},
	    {"sender:@.example.org", "", "", "", "x@badexample.org", "", false},
	    {"sender:@.org", "", "", "", "x@example.org", "", true},
	    {"sender:<>", "", "", "", "", "", true},
	    {"sender:<>", "", "", "", "a@b", "", false},
	    {"sender:ann@", "", "", "", "ann@example.org", "", true},
	    {"sender:ann@", "", "", "", "ann+x@example.org", "", true},
	    {"sender:ann@", "", "", "", "ann", "", true},
	    {"sender:ann@", "", "", "", "joann@example.org", "", false},
	    {"sender:ann@", "", "", "", "", "", false},
	    {"recipient:ann@example.org", "", "", "", "", "ann@example.org", true},
	    {"recipient:@example.org", "", "", "", "", "a@b@example.org", true},
	    {"recipient:ann@example.org", "", "", "", "ann@example.org", "", false},
	    {"recipient:ann@", "", "", "", "", "", false},
	};
	char err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct facts f = {.stage = STAGE_RCPT,
		    .user = table[i].user,
		    .name = table[i].name,
		    .sender = table[i].sender,
		    .recipient = table[i].recipient};
		struct who w;

		assert_true(who_parse(table[i].who, &w, err, sizeof err));
		if (table[i].client[0] != '\0')
			assert_true(addr_parse(table[i].client, &f.client));
		if (who_matches(&w, &f) != table[i].matches)
			fail_msg("row %zu (%s)", i, table[i].who);
		/* before it is said there is no sender, and "" is not the null sender */
		f.stage = STAGE_CONNECT;
		if (w.kind == WHO_SENDER || w.kind == WHO_RECIPIENT)
			assert_false(who_matches(&w, &f));
		f.stage = STAGE_MAIL;
		if (w.kind == WHO_RECIPIENT)
			assert_false(who_matches(&w, &f));
	}
}

/* Whatever a client sends. */
static void
test_hostile_facts(void **state)
{
	static char huge[20001];
	struct facts f = {
	    .stage = STAGE_RCPT, .user = huge, .name = huge, .sender = huge, .recipient = huge};
	static const char *const fill[] = {"x", ".", "@", "+", "@.", "+@.", "\xff", "a.", "%n"};
	static const char *const entries[] = {"name:x", "sender:x@", "sender:@x", "recipient:x@x",
	    "recipient:@.x", "user:x", "sender:<>"};
	char err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(fill); i++)
		for (size_t len = 1; len < sizeof huge; len += len < 700 ? 1 : 977) {
			for (size_t k = 0; k < len; k++)
				huge[k] = fill[i][k % strlen(fill[i])];
			huge[len] = '\0';
			for (size_t k = 0; k < COUNT(entries); k++) {
				struct who w;

				assert_true(who_parse(entries[k], &w, err, sizeof err));
				/* one "x" is the only text here that an entry is about */
				if (len > 1 && who_matches(&w, &f))
					fail_msg("%s of %zu: %s", fill[i], len, entries[k]);
			}
		}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_spelling),
	    cmocka_unit_test(test_longest),
	    cmocka_unit_test(test_matches),
	    cmocka_unit_test(test_hostile_facts),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
