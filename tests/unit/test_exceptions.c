/*
 * test_exceptions.c - who is treated otherwise: how they are written, and which entry counts.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/exceptions.h"
#include "weir/units.h"

#define COUNT(table) (unsigned)(sizeof(table) / sizeof((table)[0]))

static struct who
who(const char *text)
{
	char err[LIMIT_ERR_MAX];
	struct who w;

	if (!who_parse(text, &w, err, sizeof err))
		fail_msg("%s: %s", text, err);
	return w;
}

static struct addr
addr(const char *text)
{
	struct addr a = {.family = ADDR_NONE};

	if (text[0] != '\0')
		assert_true(addr_parse(text, &a));
	return a;
}

/* --- who ----------------------------------------------------------------------------------- */

static void
test_who(void **state)
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
	    {"user:ann@example.org", "user:ann@example.org"},
	    {"user:192.0.2.7", "user:192.0.2.7"},
	    {"user:user:ann", "user:user:ann"},
	    {"user:\xc3\xa4", "user:\xc3\xa4"},
	    {"192.0.2.7/24", NULL}, /* host bits */
	    {"192.0.2.0/33", NULL},
	    {"192.0.2", NULL},
	    {"192.0.2.7 ", NULL},
	    {" 192.0.2.7", NULL},
	    {"192.0.2.7\n", NULL},
	    {"ann", NULL},
	    {"User:ann", NULL},
	    {"user:", NULL},
	    {"user", NULL},
	    {"user:a b", NULL},
	    {"user:a\tb", NULL},
	    {"user:a\nb", NULL},
	    {"user:a\x7f", NULL},
	    {"", NULL},
	    {"*", NULL},
	};
	char long_name[5 + USER_MAX + 2] = "user:", text[WHO_TEXT_MAX], err[LIMIT_ERR_MAX];
	struct who w;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		err[0] = '\0';
		memset(&w, 0xa5, sizeof w);
		if (who_parse(table[i].text, &w, err, sizeof err) != (table[i].again != NULL))
			fail_msg("row %zu (%s): %s", i, table[i].text, err);
		if (table[i].again == NULL)
			assert_true(err[0] != '\0');
		else
			assert_string_equal(who_format(&w, text), table[i].again);
	}
	memset(long_name + 5, 'x', USER_MAX);
	assert_true(who_parse(long_name, &w, err, sizeof err));
	assert_string_equal(who_format(&w, text), long_name);
	long_name[5 + USER_MAX] = 'x';
	assert_false(who_parse(long_name, &w, err, sizeof err));
}

static void
test_matches(void **state)
{
	static const struct {
		const char *who, *client, *user;
		bool matches;
	} table[] = {
	    {"192.0.2.7", "192.0.2.7", "", true},
	    {"192.0.2.7", "::ffff:192.0.2.7", "", true},
	    {"192.0.2.7", "192.0.2.7", "ann", true},
	    {"192.0.2.0/24", "192.0.2.255", "", true},
	    {"192.0.2.0/24", "192.0.3.0", "", false},
	    {"0.0.0.0/0", "2001:db8::1", "", false},
	    {"::/0", "192.0.2.7", "", false},
	    {"2001:db8::/64", "2001:db8::1", "", true},
	    {"0.0.0.0/0", "", "", false}, /* no address */
	    {"user:ann", "192.0.2.7", "ann", true},
	    {"user:ann", "", "ann", true},
	    {"user:ann", "192.0.2.7", "Ann", false},
	    {"user:ann", "192.0.2.7", "annabel", false},
	    {"user:ann", "192.0.2.7", "", false},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct who w = who(table[i].who);
		struct addr a = addr(table[i].client);

		if (who_matches(&w, &a, table[i].user) != table[i].matches)
			fail_msg("row %zu (%s)", i, table[i].who);
	}
}

/* --- which entry counts -------------------------------------------------------------------- */

struct override_text {
	const char *who, *limit;
	int64_t max;
};

static const struct override_text overrides[] = {
    {"0.0.0.0/0", "a", 100},
    {"192.0.2.0/24", "a", 24},
    {"192.0.2.7", "a", 32},
    {"192.0.2.0/28", "a", 28},
    {"192.0.2.7", "b", 1032},
    {"2001:db8::/32", "a", 632},
    {"2001:db8::/64", "a", 664},
    {"user:ann", "a", 9000},
    {"user:bob", "b", 9001},
};

static void
test_limit(void **state)
{
	static const struct {
		const char *limit, *client, *user;
		int64_t max; /* 1: the limit itself */
	} table[] = {
	    {"a", "192.0.2.7", "", 32},
	    {"a", "::ffff:192.0.2.7", "", 32},
	    {"a", "192.0.2.8", "", 28},
	    {"a", "192.0.2.77", "", 24},
	    {"a", "198.51.100.1", "", 100},
	    {"b", "192.0.2.7", "", 1032},
	    {"b", "192.0.2.8", "", 1},
	    {"c", "192.0.2.7", "ann", 1},
	    {"a", "2001:db8::1", "", 664},
	    {"a", "2001:db8:1::1", "", 632},
	    {"a", "2001:db9::1", "", 1},
	    {"a", "192.0.2.7", "ann", 9000}, /* a user before any network */
	    {"a", "2001:db9::1", "ann", 9000},
	    {"b", "192.0.2.7", "ann", 1032}, /* nothing about this user and this limit */
	    {"b", "192.0.2.7", "bob", 9001},
	    {"a", "192.0.2.7", "bob", 32},
	};

	(void)state;
	/* in any order that they may come in */
	for (unsigned turn = 0; turn < COUNT(overrides); turn++) {
		struct exceptions *e = exceptions_new(COUNT(overrides), 0);

		assert_non_null(e);
		for (unsigned i = 0; i < COUNT(overrides); i++) {
			const struct override_text *o = &overrides[(i + turn) % COUNT(overrides)];
			struct limit l = {.enabled = true, .max = o->max};
			struct who w = who(o->who);

			strcpy(l.name, o->limit);
			exceptions_add_override(e, &w, &l);
		}
		exceptions_seal(e);
		assert_true(exceptions_about_users(e));
		for (size_t i = 0; i < COUNT(table); i++) {
			struct limit own = {.enabled = true, .max = 1};
			struct addr a = addr(table[i].client);
			const struct limit *l;

			strcpy(own.name, table[i].limit);
			l = exceptions_limit(e, &own, &a, table[i].user);
			assert_non_null(l);
			assert_string_equal(l->name, table[i].limit);
			if (l->max != table[i].max || (table[i].max == 1) != (l == &own))
				fail_msg("turn %u, row %zu: %lld", turn, i, (long long)l->max);
			assert_int_equal(exceptions_listed(e, &a, table[i].user), LISTED_NOT);
		}
		exceptions_free(&e);
		assert_null(e);
	}
}

static void
test_listed(void **state)
{
	static const struct {
		const char *who;
		enum listed what;
	} lists[] = {
	    {"198.51.100.0/24", LISTED_BLOCKED},
	    {"198.51.100.7", LISTED_EXEMPT},
	    {"198.51.100.128/25", LISTED_EXEMPT},
	    {"198.51.100.200", LISTED_BLOCKED},
	    {"2001:db8::/32", LISTED_EXEMPT},
	    {"2001:db8:bad::/48", LISTED_BLOCKED},
	    {"user:ann", LISTED_EXEMPT},
	    {"user:bob", LISTED_BLOCKED},
	};
	static const struct {
		const char *client, *user;
		enum listed what;
	} table[] = {
	    {"198.51.100.1", "", LISTED_BLOCKED},
	    {"198.51.100.7", "", LISTED_EXEMPT},
	    {"198.51.100.130", "", LISTED_EXEMPT},
	    {"198.51.100.200", "", LISTED_BLOCKED},
	    {"198.51.101.1", "", LISTED_NOT},
	    {"2001:db8::1", "", LISTED_EXEMPT},
	    {"2001:db8:bad::1", "", LISTED_BLOCKED},
	    {"198.51.100.200", "ann", LISTED_EXEMPT},
	    {"198.51.100.7", "bob", LISTED_BLOCKED},
	    {"203.0.113.1", "bob", LISTED_BLOCKED},
	    {"203.0.113.1", "carol", LISTED_NOT},
	    {"198.51.100.7", "carol", LISTED_EXEMPT},
	};

	(void)state;
	for (unsigned turn = 0; turn < COUNT(lists); turn++) {
		struct exceptions *e = exceptions_new(0, COUNT(lists));

		assert_non_null(e);
		for (unsigned i = 0; i < COUNT(lists); i++) {
			unsigned k = (i + turn) % COUNT(lists);
			struct who w = who(lists[k].who);

			exceptions_add_listed(e, &w, lists[k].what);
		}
		exceptions_seal(e);
		for (size_t i = 0; i < COUNT(table); i++) {
			struct addr a = addr(table[i].client);

			if (exceptions_listed(e, &a, table[i].user) != table[i].what)
				fail_msg("turn %u, row %zu (%s %s)", turn, i, table[i].client,
				    table[i].user);
		}
		exceptions_free(&e);
	}
}

static void
test_none(void **state)
{
	struct exceptions *e = exceptions_new(0, 0);
	struct limit l = {.name = "a"};
	struct addr a = addr("192.0.2.7");

	(void)state;
	assert_non_null(e);
	exceptions_seal(e);
	for (int i = 0; i < 2; i++) {
		assert_ptr_equal(exceptions_limit(e, &l, &a, "ann"), &l);
		assert_int_equal(exceptions_listed(e, &a, "ann"), LISTED_NOT);
		assert_false(exceptions_about_users(e));
		assert_int_equal(exceptions_drain_us(e, PER_ADDRESS), 0);
		exceptions_free(&e);
		assert_null(e); /* and now with NULL */
	}
	exceptions_free(&e);
}

static void
test_about_users(void **state)
{
	static const struct {
		const char *who;
		bool listed, about_users;
	} table[] = {
	    {"192.0.2.7", false, false},
	    {"192.0.2.7", true, false},
	    {"user:ann", false, true},
	    {"user:ann", true, true},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct exceptions *e = exceptions_new(1, 1);
		struct limit l = {.name = "a"};
		struct who w = who(table[i].who);

		assert_non_null(e);
		if (table[i].listed)
			exceptions_add_listed(e, &w, LISTED_EXEMPT);
		else
			exceptions_add_override(e, &w, &l);
		exceptions_seal(e);
		assert_int_equal(exceptions_about_users(e), table[i].about_users);
		exceptions_free(&e);
	}
}

static void
test_drain(void **state)
{
	static const char *const words[] = {"count=messages per=address rate=1/1h burst=5",
	    "count=messages per=address rate=1/1h burst=9",
	    "count=messages per=network rate=1/1h burst=7", "count=sessions per=network max=99"};
	struct exceptions *e = exceptions_new(COUNT(words), 0);
	struct who w = who("192.0.2.7");
	char err[LIMIT_ERR_MAX];

	(void)state;
	assert_non_null(e);
	for (unsigned i = 0; i < COUNT(words); i++) {
		struct limit l;

		limit_init(&l, "a");
		assert_true(limit_set_words(&l, words[i], err, sizeof err));
		assert_true(limit_finish(&l, err, sizeof err));
		exceptions_add_override(e, &w, &l);
	}
	exceptions_seal(e);
	assert_int_equal(exceptions_drain_us(e, PER_ADDRESS), 9 * 3600 * USEC_PER_SEC);
	assert_int_equal(exceptions_drain_us(e, PER_NETWORK), 7 * 3600 * USEC_PER_SEC);
	assert_int_equal(exceptions_drain_us(e, PER_ALL), 0);
	exceptions_free(&e);
}

/* As many as there may be: every one is found, and only its own. */
static void
test_many(void **state)
{
	struct exceptions *e = exceptions_new(OVERRIDES_MAX, LISTED_MAX);
	struct limit own = {.name = "a", .max = -1};
	char text[WHO_TEXT_MAX];
	struct who w;
	struct addr a;

	(void)state;
	assert_non_null(e);
	for (unsigned i = 0; i < LISTED_MAX; i++) {
		snprintf(text, sizeof text, "10.%u.%u.2", i / 256, i % 256);
		w = who(text);
		exceptions_add_listed(e, &w, i % 2 == 0 ? LISTED_BLOCKED : LISTED_EXEMPT);
	}
	for (unsigned i = 0; i < OVERRIDES_MAX; i++) {
		struct limit l = {.name = "a", .max = i};

		snprintf(text, sizeof text, "10.%u.%u.4", i / 256, i % 256);
		w = who(text);
		exceptions_add_override(e, &w, &l);
	}
	exceptions_seal(e);
	for (unsigned i = 0; i < LISTED_MAX; i++) {
		snprintf(text, sizeof text, "10.%u.%u.2", i / 256, i % 256);
		a = addr(text);
		assert_int_equal(
		    exceptions_listed(e, &a, ""), i % 2 == 0 ? LISTED_BLOCKED : LISTED_EXEMPT);
		assert_ptr_equal(exceptions_limit(e, &own, &a, ""), &own);
		a.b[3] = 3; /* its neighbour */
		assert_int_equal(exceptions_listed(e, &a, ""), LISTED_NOT);
		a.b[3] = 4;
		assert_int_equal(
		    exceptions_limit(e, &own, &a, "")->max, i < OVERRIDES_MAX ? (int)i : -1);
	}
	exceptions_free(&e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_who),
	    cmocka_unit_test(test_matches),
	    cmocka_unit_test(test_limit),
	    cmocka_unit_test(test_listed),
	    cmocka_unit_test(test_none),
	    cmocka_unit_test(test_about_users),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
