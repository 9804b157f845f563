/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_exceptions.c - clients that are treated otherwise: which override and which entry of the
 * lists counts. How they are written: test_who.c; senders and recipients: test_lists.c.
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
		assert_true(exceptions_seal(e));
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
			assert_int_equal(exceptions_listed(e, &a, table[i].user, ""), LISTED_NOT);
		}
		exceptions_free(&e);
		assert_null(e);
	}
}

/* An entry, "WHO: WORDS". */
static void
add(struct exceptions *e, const char *entry)
{
	char text[WHO_TEXT_MAX + 64], err[LIMIT_ERR_MAX];
	struct listing l;
	struct who w;
	char *words;

	snprintf(text, sizeof text, "%s", entry);
	words = strstr(text, ": ");
	assert_non_null(words);
	*words = '\0';
	w = who(text);
	if (!listing_parse(words + 2, &w, &l, err, sizeof err))
		fail_msg("%s: %s", entry, err);
	exceptions_add_listed(e, &w, &l);
}

static void
test_listed(void **state)
{
	static const char *const lists[] = {
	    "198.51.100.0/24: action=block",
	    "198.51.100.7: action=exempt",
	    "198.51.100.128/25: action=exempt",
	    "198.51.100.200: action=block",
	    "198.51.100.9: action=no-greylist",
	    "2001:db8::/32: action=exempt",
	    "2001:db8:bad::/48: action=block",
	    "2001:db8:bad::7: action=exempt",
	    "user:ann: action=exempt",
	    "user:bob: action=block",
	    "user:joe: action=no-greylist",
	    "name:partner.example: action=exempt",
	    "name:mx.other.example: action=exempt",
	    "name:other.example: action=no-greylist",
	    "sender:ann@partner.example: action=no-greylist",
	    "recipient:ann@partner.example: action=trap",
	};
	static const struct {
		const char *client, *user, *name;
		const char *who; /* of the entry that decides; NULL: none */
		enum listed what;
	} table[] = {
	    {"198.51.100.1", "", "", "198.51.100.0/24", LISTED_BLOCKED},
	    {"198.51.100.7", "", "", "198.51.100.7", LISTED_EXEMPT},
	    {"::ffff:198.51.100.7", "", "", "198.51.100.7", LISTED_EXEMPT},
	    {"198.51.100.130", "", "", "198.51.100.128/25", LISTED_EXEMPT},
	    {"198.51.100.200", "", "", "198.51.100.200", LISTED_BLOCKED},
	    {"198.51.101.1", "", "", NULL, LISTED_NOT},
	    {"2001:db8::1", "", "", "2001:db8::/32", LISTED_EXEMPT},
	    {"2001:db8:bad::1", "", "", "2001:db8:bad::/48", LISTED_BLOCKED},
	    {"2001:db8:bad::7", "", "", "2001:db8:bad::7", LISTED_EXEMPT},
	    /* an entry about greylisting neither exempts nor lifts a block */
	    {"198.51.100.9", "", "", "198.51.100.0/24", LISTED_BLOCKED},
	    {"198.51.100.1", "joe", "", "198.51.100.0/24", LISTED_BLOCKED},
	    /* a user before any address */
	    {"198.51.100.200", "ann", "", "user:ann", LISTED_EXEMPT},
	    {"198.51.100.7", "bob", "", "user:bob", LISTED_BLOCKED},
	    {"203.0.113.1", "bob", "", "user:bob", LISTED_BLOCKED},
	    {"203.0.113.1", "bob", "mx.partner.example", "user:bob", LISTED_BLOCKED},
	    {"203.0.113.1", "carol", "", NULL, LISTED_NOT},
	    {"198.51.100.7", "carol", "", "198.51.100.7", LISTED_EXEMPT},
	    /* a name after an address, and before a network */
	    {"203.0.113.1", "", "partner.example", "name:partner.example", LISTED_EXEMPT},
	    {"203.0.113.1", "", "Mx.a.Partner.EXAMPLE.", "name:partner.example", LISTED_EXEMPT},
	    {"203.0.113.1", "", "badpartner.example", NULL, LISTED_NOT},
	    {"203.0.113.1", "", "example", NULL, LISTED_NOT},
	    {"203.0.113.1", "", "partner.example.org", NULL, LISTED_NOT},
	    {"198.51.100.1", "", "mx.partner.example", "name:partner.example", LISTED_EXEMPT},
	    {"198.51.100.200", "", "mx.partner.example", "198.51.100.200", LISTED_BLOCKED},
	    {"", "", "mx.partner.example", "name:partner.example", LISTED_EXEMPT},
	    {"203.0.113.1", "", "mx.other.example", "name:mx.other.example", LISTED_EXEMPT},
	    {"203.0.113.1", "", "other.example", NULL, LISTED_NOT},
	    {"203.0.113.1", "", ".", NULL, LISTED_NOT},
	    {"203.0.113.1", "", "..partner.example", "name:partner.example", LISTED_EXEMPT},
	};

	(void)state;
	/* in any order that they may come in */
	for (unsigned turn = 0; turn < COUNT(lists); turn++) {
		struct exceptions *e = exceptions_new(0, turn % 2 == 0 ? COUNT(lists) : 0);

		assert_non_null(e);
		for (unsigned i = 0; i < COUNT(lists); i++)
			add(e, lists[(i + turn) % COUNT(lists)]);
		assert_true(exceptions_seal(e));
		assert_int_equal(exceptions_count(e), COUNT(lists));
		for (size_t i = 0; i < COUNT(table); i++) {
			struct addr a = addr(table[i].client);
			const struct listed_entry *l =
			    exceptions_client(e, &a, table[i].user, table[i].name);
			char text[WHO_TEXT_MAX];

			if ((l == NULL) != (table[i].who == NULL) ||
			    (l != NULL && strcmp(listed_who(l, text), table[i].who) != 0))
				fail_msg("turn %u, row %zu: %s", turn, i,
				    l != NULL ? listed_who(l, text) : "none");
			if (exceptions_listed(e, &a, table[i].user, table[i].name) != table[i].what)
				fail_msg("turn %u, row %zu (%s %s)", turn, i, table[i].client,
				    table[i].user);
		}
		exceptions_free(&e);
	}
}

/* The file's entries lie below those of Redis, each by its who; the later of two counts. */
static void
test_layers(void **state)
{
	struct exceptions *file = exceptions_new(0, 0), *e = exceptions_new(0, 0);
	static const struct {
		const char *client;
		enum listed what;
		bool from_file;
	} table[] = {
	    {"192.0.2.1", LISTED_EXEMPT, true}, {"192.0.2.2", LISTED_BLOCKED, false},
	    {"192.0.2.3", LISTED_EXEMPT, false}, {"192.0.2.4", LISTED_BLOCKED, true},
	    {"192.0.2.5", LISTED_NOT, false}, /* Redis says something else of it */
	};

	(void)state;
	assert_true(file != NULL && e != NULL);
	add(file, "192.0.2.1: action=exempt");
	add(file, "192.0.2.2: action=exempt");
	add(file, "192.0.2.4: action=exempt");
	add(file, "192.0.2.4: action=block");
	add(file, "192.0.2.5: action=block");
	assert_true(exceptions_seal(file));
	assert_int_equal(exceptions_count(file), 4);
	exceptions_add_file(e, NULL);
	exceptions_add_file(e, file);
	add(e, "192.0.2.2: action=block");
	add(e, "192.0.2.3: action=block");
	add(e, "192.0.2.3: action=exempt");
	add(e, "192.0.2.5: action=no-greylist");
	exceptions_free(&file); /* nothing is borrowed from it */
	assert_true(exceptions_seal(e));
	assert_int_equal(exceptions_count(e), 5);
	for (size_t i = 0; i < COUNT(table); i++) {
		struct addr a = addr(table[i].client);
		const struct listed_entry *l = exceptions_client(e, &a, "", "");

		assert_int_equal(exceptions_listed(e, &a, "", ""), table[i].what);
		if (l != NULL)
			assert_int_equal(l->from_file, table[i].from_file);
	}
	exceptions_free(&e);
}

static void
test_none(void **state)
{
	struct exceptions *e = exceptions_new(0, 0);
	struct limit l = {.name = "a"};
	struct addr a = addr("192.0.2.7");

	(void)state;
	assert_non_null(e);
	assert_true(exceptions_seal(e));
	for (int i = 0; i < 2; i++) {
		assert_ptr_equal(exceptions_limit(e, &l, &a, "ann"), &l);
		assert_int_equal(exceptions_listed(e, &a, "ann", "x.example"), LISTED_NOT);
		assert_null(exceptions_recipient(e, "ann@example.org"));
		assert_false(exceptions_trap(e, "ann@example.org"));
		assert_false(exceptions_about_users(e) || exceptions_about_envelope(e));
		assert_int_equal(exceptions_count(e), 0);
		assert_int_equal(exceptions_drain_us(e, PER_ADDRESS), 0);
		exceptions_free(&e);
		assert_null(e); /* and now with NULL */
	}
	exceptions_free(&e);
}

static void
test_about(void **state)
{
	static const struct {
		const char *who, *words; /* "": an override */
		bool users, envelope;
	} table[] = {
	    {"192.0.2.7", "", false, false},
	    {"192.0.2.7", "action=exempt", false, false},
	    {"name:example.org", "action=no-greylist", false, false},
	    {"user:ann", "", true, false},
	    {"user:ann", "action=exempt", true, false},
	    {"sender:<>", "action=no-greylist", false, true},
	    {"recipient:@example.org", "action=trap", false, true},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct exceptions *e = exceptions_new(1, 1);
		struct limit l = {.name = "a"};
		struct who w = who(table[i].who);
		char entry[128];

		assert_non_null(e);
		snprintf(entry, sizeof entry, "%s: %s", table[i].who, table[i].words);
		if (table[i].words[0] == '\0')
			exceptions_add_override(e, &w, &l);
		else
			add(e, entry);
		assert_true(exceptions_seal(e));
		if (exceptions_about_users(e) != table[i].users ||
		    exceptions_about_envelope(e) != table[i].envelope)
			fail_msg("row %zu", i);
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
	assert_true(exceptions_seal(e));
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
	char text[WHO_TEXT_MAX + 32];
	struct who w;
	struct addr a;

	(void)state;
	assert_non_null(e);
	for (unsigned i = 0; i < LISTED_MAX; i++) {
		snprintf(text, sizeof text, "10.%u.%u.2: action=%s", i / 256, i % 256,
		    i % 2 == 0 ? "block" : "exempt");
		add(e, text);
	}
	for (unsigned i = 0; i < OVERRIDES_MAX; i++) {
		struct limit l = {.name = "a", .max = i};

		snprintf(text, sizeof text, "10.%u.%u.4", i / 256, i % 256);
		w = who(text);
		exceptions_add_override(e, &w, &l);
	}
	assert_true(exceptions_seal(e));
	for (unsigned i = 0; i < LISTED_MAX; i++) {
		snprintf(text, sizeof text, "10.%u.%u.2", i / 256, i % 256);
		a = addr(text);
		assert_int_equal(
		    exceptions_listed(e, &a, "", ""), i % 2 == 0 ? LISTED_BLOCKED : LISTED_EXEMPT);
		assert_ptr_equal(exceptions_limit(e, &own, &a, ""), &own);
		a.b[3] = 3; /* its neighbour */
		assert_int_equal(exceptions_listed(e, &a, "", ""), LISTED_NOT);
		a.b[3] = 4;
		assert_int_equal(
		    exceptions_limit(e, &own, &a, "")->max, i < OVERRIDES_MAX ? (int)i : -1);
	}
	exceptions_free(&e);
}

/* Every prefix length of both families at once: the longest that fits. */
static void
test_every_length(void **state)
{
	static const char *const clients[] = {
	    "255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"};

	(void)state;
	for (unsigned f = 0; f < 2; f++) {
		struct addr client = addr(clients[f]);
		unsigned host = f == 0 ? 32 : 128;
		struct exceptions *e = exceptions_new(0, 0);

		for (unsigned bits = 0; bits <= host; bits++) {
			struct who w = {.kind = WHO_NET, .net = net_of(&client, bits)};

			exceptions_add_listed(e, &w,
			    &(struct listing){.action = bits % 2 == 0 ? LIST_BLOCK : LIST_EXEMPT});
		}
		assert_true(exceptions_seal(e));
		/* the address that differs from the entries after so many bits */
		for (unsigned same = 0; same <= host; same++) {
			struct addr a = client;
			const struct listed_entry *l;

			if (same < host)
				a.b[same / 8] ^= (uint8_t)(0x80 >> same % 8);
			l = exceptions_client(e, &a, "", "");
			assert_non_null(l);
			assert_int_equal(l->net.bits, same);
		}
		client = addr(clients[1 - f]);
		assert_null(exceptions_client(e, &client, "", ""));
		exceptions_free(&e);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_limit),
	    cmocka_unit_test(test_listed),
	    cmocka_unit_test(test_layers),
	    cmocka_unit_test(test_none),
	    cmocka_unit_test(test_about),
	    cmocka_unit_test(test_drain),
	    cmocka_unit_test(test_many),
	    cmocka_unit_test(test_every_length),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
