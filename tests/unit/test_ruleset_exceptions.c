/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_ruleset_exceptions.c - the overrides and lists of Redis: what may stand there, what becomes
 * of it, and that weirctl's check before writing says the same.
 */
#include "overlay_fixture.h"

static const struct {
	enum overlay_section section;
	const char *name, *words;
	const char *says; /* NULL: it is good */
} entries[] = {
    {SECTION_OVERRIDES, "192.0.2.7 connections", "rate=5/1m", NULL},
    {SECTION_OVERRIDES, "192.0.2.0/24 sessions", "max=99", NULL},
    {SECTION_OVERRIDES, "192.0.2.7 connections", "enabled=no", NULL},
    {SECTION_OVERRIDES, "192.0.2.7 connections", "count=connections per=address burst=3", NULL},
    {SECTION_OVERRIDES, "user:ann recipients", "rate=5/1m", NULL},
    {SECTION_OVERRIDES, "192.0.2.7 recipients", "reply=\"421 4.7.1 Not today\"", NULL},
    {SECTION_OVERRIDES, "192.0.2.7 messages", "rate=5/1m", "there is no limit messages"},
    {SECTION_OVERRIDES, "192.0.2.7 connections:temporary", "rate=5/1m", "not a limit's name"},
    {SECTION_OVERRIDES, "192.0.2.7 connections", "count=messages", "cannot change count or per"},
    {SECTION_OVERRIDES, "192.0.2.7 recipients", "per=address", "cannot change count or per"},
    {SECTION_OVERRIDES, "192.0.2.7 recipients", "for=known", "cannot change for"},
    {SECTION_OVERRIDES, "192.0.2.7 recipients", "for=192.0.2.0/24", "cannot change for"},
    {SECTION_OVERRIDES, "192.0.2.7 connections", "ladder=/56*4", "cannot change the ladder"},
    {SECTION_OVERRIDES, "user:ann connections", "rate=5/1m", "nobody is authenticated yet"},
    {SECTION_OVERRIDES, "user:ann sessions", "max=5", "nobody is authenticated yet"},
    {SECTION_OVERRIDES, "192.0.2.7 connections", "rate=fast", "rate is"},
    {SECTION_OVERRIDES, "192.0.2.7 sessions", "rate=5/1m", "sessions"},
    {SECTION_OVERRIDES, "192.0.2.7 connections", "", "empty"},
    {SECTION_OVERRIDES, "192.0.2.7 connections", "action=exempt", "action is"},
    {SECTION_OVERRIDES, "192.0.2.7/24 connections", "rate=5/1m", "host bits"},
    {SECTION_OVERRIDES, "mx.example.org connections", "rate=5/1m", "must be an address"},
    {SECTION_OVERRIDES, "name:example.org connections", "rate=5/1m", "for addresses, networks"},
    {SECTION_OVERRIDES, "recipient:a@b recipients", "rate=5/1m", "for addresses, networks"},
    {SECTION_OVERRIDES, "192.0.2.7", "rate=5/1m", "WHO LIMIT"},
    {SECTION_OVERRIDES, "connections", "rate=5/1m", "WHO LIMIT"},
    {SECTION_OVERRIDES, "", "rate=5/1m", "WHO LIMIT"},
    {SECTION_OVERRIDES, " connections", "rate=5/1m", "must be an address"},
    {SECTION_OVERRIDES, "192.0.2.7  connections", "rate=5/1m", "must be an address"},
    {SECTION_OVERRIDES, "192.0.2.7 ", "rate=5/1m", "not a limit's name"},
    {SECTION_OVERRIDES, "user: recipients", "rate=5/1m", "user:NAME"},
    {SECTION_LISTS, "192.0.2.7", "action=exempt", NULL},
    {SECTION_LISTS, "192.0.2.0/24", "action=block", NULL},
    {SECTION_LISTS, "2001:db8::/32", "action=block", NULL},
    {SECTION_LISTS, "user:ann", "action=block", NULL},
    {SECTION_LISTS, "user:ann", "action=\"block\"", NULL},
    {SECTION_LISTS, "name:example.org", "action=exempt", NULL},
    {SECTION_LISTS, "sender:<>", "action=no-greylist", NULL},
    {SECTION_LISTS, "recipient:@.example.org", "action=greylist delay=10m", NULL},
    {SECTION_LISTS, "recipient:old@example.org", "action=trap", NULL},
    {SECTION_LISTS, "192.0.2.7", "action=refuse", "action is exempt, block"},
    {SECTION_LISTS, "192.0.2.7", "action=Block", "action is exempt, block"},
    {SECTION_LISTS, "192.0.2.7", "action=exempt action=block", "twice"},
    {SECTION_LISTS, "192.0.2.7", "rate=5/1m", "action and delay only"},
    {SECTION_LISTS, "sender:a@b", "action=block", "anybody can write"},
    {SECTION_LISTS, "recipient:example.org", "action=trap", "a recipient is written as"},
    {SECTION_LISTS, "name:example.org", "action=block", "block the address"},
    {SECTION_LISTS, "192.0.2.7", "exempt", "KEY=VALUE"},
    {SECTION_LISTS, "192.0.2.7", "", "must say action="},
    {SECTION_LISTS, "192.0.2.7 connections", "action=block", "must be an address"},
    {SECTION_LISTS, "192.0.2.9/24", "action=block", "host bits"},
    {SECTION_LISTS, "everybody", "action=block", "must be an address"},
    {SECTION_LISTS, "", "action=block", "must be an address"},
};

static void
test_entries(void **state)
{
	struct ruleset base = defaults(), out;

	(void)state;
	for (size_t i = 0; i < COUNT(entries); i++) {
		struct overlay_entry e = {entries[i].name, entries[i].words};
		struct overlay o = {.generation = "7"};
		struct reports said = {0};
		char prefix[128];

		lay(&o, entries[i].section, &e, 1);
		assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
		assert_int_equal(said.n, entries[i].says != NULL);
		if (entries[i].says != NULL && strstr(said.text, entries[i].says) == NULL)
			fail_msg("row %zu: %s", i, said.text);
		if (entries[i].says != NULL) {
			snprintf(prefix, sizeof prefix,
			    "%s: %s: ", section_name(entries[i].section), entries[i].name);
			assert_int_equal(strncmp(said.text, prefix, strlen(prefix)), 0);
		}
		assert_memory_equal(out.limits, base.limits, sizeof out.limits);
		ruleset_deinit(&out);
	}
}

/* Before it is written: the same entries, the same words. */
static void
test_check(void **state)
{
	struct ruleset base = defaults(), before = base;
	char err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(entries); i++) {
		const char *says = entries[i].says;

		err[0] = '\0';
		if (ruleset_check_entry(&base, entries[i].section, entries[i].name,
			entries[i].words, err, sizeof err) != (says == NULL))
			fail_msg("row %zu: %s", i, err);
		/* the one sentence that comes from entry_split(), which weirctl has behind it */
		if (says != NULL && strcmp(says, "KEY=VALUE") != 0 && strstr(err, says) == NULL)
			fail_msg("row %zu: %s", i, err);
	}
	assert_true(
	    ruleset_check_entry(&base, SECTION_LIMITS, "messages", "rate=5/1m", err, sizeof err));
	assert_false(
	    ruleset_check_entry(&base, SECTION_LIMITS, "messages", "max=5", err, sizeof err));
	assert_memory_equal(&base, &before, sizeof base);
}

/* The client's own limit goes by the file's, by Redis' and by the temporary one, in this order;
 * what the entry does not say is as for everybody. */
static void
test_overrides_in_force(void **state)
{
	static const struct overlay_entry limits[] = {
	    {"connections", "rate=100/1m burst=11"},
	    {"connections:temporary", "rate=200/1m until=1800000100"},
	    {"messages", "rate=10/1m"},
	};
	static const struct overlay_entry overrides[] = {
	    {"192.0.2.0/24 connections", "burst=5"},
	    {"192.0.2.7 connections", "rate=7/1m until=1800000050"},
	    {"user:ann messages", "rate=1000/1m"}, /* of a limit that only Redis has */
	};
	static const struct {
		int64_t after_s;
		const char *limit, *client, *user;
		int64_t rate, burst, valid_s;
	} table[] = {
	    {0, "connections", "192.0.2.7", "", 7, 11, 50},
	    {0, "connections", "192.0.2.8", "", 200, 5, 50},
	    {0, "connections", "192.0.3.8", "", 200, 11, 50},
	    {50, "connections", "192.0.2.7", "", 200, 5, 100},
	    {100, "connections", "192.0.2.7", "", 100, 5, 0},
	    {0, "messages", "192.0.3.8", "ann", 1000, 1000, 50},
	    {0, "messages", "192.0.3.8", "bob", 10, 10, 50},
	};
	struct ruleset base = defaults(), out;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay o = {.generation = "7"};
		struct reports said = {0};
		const struct limit *l;
		struct addr a;

		assert_true(addr_parse(table[i].client, &a));
		lay(&o, SECTION_LIMITS, limits, COUNT(limits));
		lay(&o, SECTION_OVERRIDES, overrides, COUNT(overrides));
		assert_true(ruleset_overlay(
		    &base, &o, NOW + table[i].after_s * USEC_PER_SEC, &out, report, &said));
		assert_string_equal(said.text, "");
		l = exceptions_limit(
		    out.exceptions, ruleset_limit(&out, table[i].limit), &a, table[i].user);
		if (l->rate != table[i].rate || l->burst != table[i].burst)
			fail_msg("row %zu: rate %lld burst %lld", i, (long long)l->rate,
			    (long long)l->burst);
		assert_true(out.valid_until_us ==
		    (table[i].valid_s != 0 ? NOW + table[i].valid_s * USEC_PER_SEC : INT64_MAX));
		ruleset_deinit(&out);
	}
}

static void
test_lists_in_force(void **state)
{
	static const struct overlay_entry lists[] = {
	    {"192.0.2.0/24", "action=block by=ann reason=\"a b\""},
	    {"192.0.2.7", "action=exempt until=1800000050"},
	    {"user:bob", "until=1800000100 action=block"},
	    {"192.0.2.8", "action=nonsense"},
	};
	static const struct {
		int64_t after_s;
		const char *client, *user;
		bool exempt, blocked;
	} table[] = {
	    {0, "192.0.2.7", "", true, false},
	    {49, "192.0.2.7", "", true, false},
	    {50, "192.0.2.7", "", false, true},
	    {0, "192.0.2.8", "", false, true},
	    {0, "192.0.3.1", "", false, false},
	    {0, "192.0.3.1", "bob", false, true},
	    {99, "192.0.2.7", "bob", false, true},
	    {100, "192.0.3.1", "bob", false, false},
	};
	struct ruleset base = defaults(), out;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay o = {.generation = "7"};
		struct reports said = {0};
		struct addr a;

		assert_true(addr_parse(table[i].client, &a));
		lay(&o, SECTION_LISTS, lists, COUNT(lists));
		assert_true(ruleset_overlay(
		    &base, &o, NOW + table[i].after_s * USEC_PER_SEC, &out, report, &said));
		assert_int_equal(said.n, 1);
		if (exempt(&out, &a, table[i].user) != table[i].exempt ||
		    blocked(&out, &a, table[i].user) != table[i].blocked)
			fail_msg("row %zu", i);
		ruleset_deinit(&out);
	}
	/* no file's list, no Redis' */
	struct addr a;
	assert_true(addr_parse("192.0.2.7", &a));
	assert_false(exempt(&base, &a, "") || blocked(&base, &a, ""));
}

/* What the file lists holds until Redis says something of the same who: for a while, or in words
 * that can be used; also when Redis holds nothing at all, or what a newer weir wrote. */
static void
test_file_below(void **state)
{
	static const struct overlay_entry over[] = {
	    {"192.0.2.1", "action=block until=1800000050"},
	    {"192.0.2.2", "action=blokc"},
	    {"192.0.2.9", "action=block"},
	};
	static const struct {
		int64_t after_s;
		bool format_2, empty;
		const char *client;
		bool exempt, blocked;
	} table[] = {
	    {0, false, true, "192.0.2.1", true, false},
	    {0, true, false, "192.0.2.1", true, false},
	    {0, true, false, "192.0.2.9", false, false},
	    {0, false, false, "192.0.2.1", false, true},
	    {49, false, false, "192.0.2.1", false, true},
	    {50, false, false, "192.0.2.1", true, false},
	    {0, false, false, "192.0.2.2", true, false},
	    {0, false, false, "192.0.2.3", true, false},
	    {0, false, false, "192.0.2.9", false, true},
	};
	const struct listing says = {.action = LIST_EXEMPT};
	struct ruleset base = defaults(), out;

	(void)state;
	base.exceptions = exceptions_new(0, 0);
	assert_non_null(base.exceptions);
	for (int i = 1; i <= 3; i++) {
		struct who w = {.kind = WHO_NET, .net = {.bits = 32}};

		w.net.base = (struct addr){.family = ADDR_V4, .b = {192, 0, 2, (uint8_t)i}};
		exceptions_add_listed(base.exceptions, &w, &says);
	}
	assert_true(exceptions_seal(base.exceptions));
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay o = {.generation = "7", .format = table[i].format_2 ? 2 : 1};
		struct reports said = {0};
		struct addr a;

		assert_true(addr_parse(table[i].client, &a));
		lay(&o, SECTION_LISTS, over, table[i].empty ? 0 : COUNT(over));
		assert_true(ruleset_overlay(
		    &base, &o, NOW + table[i].after_s * USEC_PER_SEC, &out, report, &said));
		assert_int_equal(said.n, !table[i].empty && !table[i].format_2);
		if (exempt(&out, &a, "") != table[i].exempt ||
		    blocked(&out, &a, "") != table[i].blocked)
			fail_msg("row %zu", i);
		assert_ptr_not_equal(out.exceptions, base.exceptions);
		ruleset_deinit(&out);
	}
	ruleset_deinit(&base);
}

static void
test_overlay_words(void **state)
{
	static const struct overlay_entry sorted[] = {
	    {"a", "1"}, {"b", "2"}, {"c", "3"}, {"d", "4"}, {"e", "5"}};

	(void)state;
	for (unsigned n = 0; n <= COUNT(sorted); n++) {
		struct overlay o = {.generation = "7"};

		lay(&o, SECTION_LISTS, sorted, n);
		for (unsigned i = 0; i < COUNT(sorted); i++) {
			const char *words = overlay_words(&o, SECTION_LISTS, sorted[i].name);

			assert_true(i < n ? words == sorted[i].words : words == NULL);
		}
		assert_null(overlay_words(&o, SECTION_LISTS, ""));
		assert_null(overlay_words(&o, SECTION_LISTS, "bb"));
		assert_null(overlay_words(&o, SECTION_LISTS, "f"));
		assert_null(overlay_words(&o, SECTION_LIMITS, "a"));
	}
}

/* A block that became unreadable goes on; so does an override. */
static void
test_rejected_keep_the_words_before(void **state)
{
	static const struct overlay_entry lists[] = {{"192.0.2.7", "action=blokc"}};
	static const struct overlay_entry overrides[] = {{"192.0.2.8 connections", "rate=x"}};
	struct overlay o = {.generation = "7"};
	struct reports block = {.name = "192.0.2.7", .good = "action=block until=1800000050"};
	struct reports rate = {.name = "192.0.2.8 connections", .good = "rate=9/1m"};
	struct ruleset base = defaults(), out;
	struct addr a;

	(void)state;
	assert_true(addr_parse("192.0.2.7", &a));
	lay(&o, SECTION_LISTS, lists, 1);
	assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &block));
	assert_true(blocked(&out, &a, ""));
	assert_true(out.valid_until_us == NOW + 50 * USEC_PER_SEC);
	ruleset_deinit(&out);
	assert_true(ruleset_overlay(&base, &o, NOW + 50 * USEC_PER_SEC, &out, report, &block));
	assert_false(blocked(&out, &a, ""));
	ruleset_deinit(&out);
	a.b[3] = 8;
	o = (struct overlay){.generation = "7"};
	lay(&o, SECTION_OVERRIDES, overrides, 1);
	assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &rate));
	assert_int_equal(exceptions_limit(out.exceptions, &out.limits[0], &a, "")->rate, 9);
	ruleset_deinit(&out);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_entries),
	    cmocka_unit_test(test_check),
	    cmocka_unit_test(test_overrides_in_force),
	    cmocka_unit_test(test_lists_in_force),
	    cmocka_unit_test(test_file_below),
	    cmocka_unit_test(test_overlay_words),
	    cmocka_unit_test(test_rejected_keep_the_words_before),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
