/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_ruleset_overlay.c - what Redis lays over the limits of the file.
 */
#include "overlay_fixture.h"

static void
test_overlay(void **state)
{
	static const struct overlay_entry entries[] = {
	    {"connections", "rate=120/1m burst=9"},
	    {"messages", "rate=10/1m by=ann@mx1 reason=\"a b\""},
	    {"sessions", "enabled=no"},
	};
	struct overlay o = {.generation = "7"};
	struct ruleset base = defaults(), out;
	struct reports said = {0};

	(void)state;
	lay(&o, SECTION_LIMITS, entries, COUNT(entries));
	assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
	assert_string_equal(said.text, "");
	assert_string_equal(out.generation, "7");
	assert_int_equal(out.nlimits, 4);
	assert_int_equal(ruleset_limit(&out, "connections")->rate, 120);
	assert_int_equal(ruleset_limit(&out, "connections")->burst, 9);
	assert_int_equal(ruleset_limit(&out, "messages")->burst, 10);
	assert_false(ruleset_limit(&out, "sessions")->enabled);
	assert_int_equal(ruleset_limit(&out, "sessions")->max, 20);
	assert_int_equal(ruleset_limit(&base, "connections")->rate, 60);
	assert_true(out.valid_until_us == INT64_MAX);
	assert_null(out.exceptions);
	ruleset_deinit(&out);
	/* what is no longer in Redis is the file's again, whatever was in force */
	o = (struct overlay){.generation = "123456789012345678901234"};
	assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
	assert_int_equal(out.nlimits, 3);
	assert_int_equal(ruleset_limit(&out, "connections")->rate, 60);
	assert_true(ruleset_limit(&out, "sessions")->enabled);
	assert_int_equal(strlen(out.generation), GENERATION_MAX);
	ruleset_deinit(&out);
}

/* One entry each; what it leads to, and what is said of it. */
static void
test_limit_entries(void **state)
{
	static const struct {
		const char *name, *words;
		const char *says; /* NULL: nothing */
	} table[] = {
	    {"connections", "rate=1/1m", NULL},
	    {"a-limit-of-exactly-32-characters", "count=messages rate=5/1m", NULL},
	    {"a-limit-of-exactly-33-characters-", "count=messages rate=5/1m", "not a limit's name"},
	    {"connections:temporary", "rate=1/1m", NULL},
	    {"connections:temporar", "rate=1/1m", "not a limit's name"},
	    {"connections:temporary:temporary", "rate=1/1m", "not a limit's name"},
	    {"connections:", "rate=1/1m", "not a limit's name"},
	    {":temporary", "rate=1/1m", "not a limit's name"},
	    {"Bad Name", "rate=5/1m", "not a limit's name"},
	    {"a\nb", "rate=5/1m", "not a limit's name"},
	    {"", "rate=5/1m", "not a limit's name"},
	    {"connections", "rate=fast", "rate is"},
	    {"connections", "rate=-5/1m", "rate is"},
	    {"connections", "rate=99999999999/1m", "rate is"},
	    {"connections", "burst=0", "burst is"},
	    {"connections", "max=10", "max"}, /* each word is fine, the whole is not */
	    {"recipients", "rate=5", "rate is"},
	    {"recipients", "frobs=5", "unknown word"},
	    {"recipients", "", "empty"},
	    {"recipients", "by=ann reason=why", "empty"},
	    {"recipients", "rate=5/1m until=soon", "until is"},
	    {"recipients", "rate 5/1m", "KEY=VALUE"},
	    {"unheard", "rate=5/1m", "says no count"},
	    {"sessions", "max=5", NULL},
	};
	struct ruleset base = defaults(), out;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay_entry e = {table[i].name, table[i].words};
		struct overlay o = {.generation = "7"};
		struct reports said = {0};
		char prefix[128];

		lay(&o, SECTION_LIMITS, &e, 1);
		assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
		assert_int_equal(said.n, table[i].says != NULL);
		if (table[i].says != NULL && strstr(said.text, table[i].says) == NULL)
			fail_msg("row %zu: %s", i, said.text);
		if (table[i].says != NULL) {
			snprintf(prefix, sizeof prefix, "limits: %s: ", table[i].name);
			assert_int_equal(strncmp(said.text, prefix, strlen(prefix)), 0);
			assert_int_equal(out.nlimits, base.nlimits);
			assert_memory_equal(out.limits, base.limits, sizeof out.limits);
		} else
			assert_true(memcmp(out.limits, base.limits, sizeof out.limits) != 0);
		ruleset_deinit(&out);
	}
}

/* Refused: the words that were good before are used, if there are any and they still are. */
static void
test_rejected_keep_the_words_before(void **state)
{
	static const struct {
		const char *good;
		int64_t rate;
	} table[] = {
	    {NULL, 60}, /* the file's */
	    {"rate=120/1m", 120},
	    {"rate=120/1m until=1800000001", 120},
	    {"rate=120/1m until=1800000000", 60}, /* over by now */
	    {"rate=nonsense", 60},
	};
	static const struct overlay_entry bad[] = {
	    {"connections", "rate=fast"}, {"sessions", "max=5"}};
	struct ruleset base = defaults(), out;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay o = {.generation = "2"};
		struct reports said = {.name = "connections", .good = table[i].good};

		lay(&o, SECTION_LIMITS, bad, COUNT(bad));
		assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
		assert_int_equal(said.n, 1);
		if (ruleset_limit(&out, "connections")->rate != table[i].rate)
			fail_msg("row %zu", i);
		assert_int_equal(ruleset_limit(&out, "sessions")->max, 5);
		ruleset_deinit(&out);
	}
}

/* --- for a time ---------------------------------------------------------------------------- */

static void
test_temporary(void **state)
{
	/* in the order of Redis, which is by name, and against it */
	static const struct overlay_entry entries[][3] = {
	    {{"connections", "rate=120/1m burst=7"},
		{"connections:temporary", "rate=500/1m until=1800000100"},
		{"messages:temporary", "rate=5/1m until=1800000050"}},
	    {{"messages:temporary", "rate=5/1m until=1800000050"},
		{"connections:temporary", "rate=500/1m until=1800000100"},
		{"connections", "rate=120/1m burst=7"}},
	};
	static const struct {
		int64_t after_s, rate, messages; /* messages 0: no such limit */
		int64_t valid_s; /* 0: for good */
	} table[] = {
	    {0, 500, 5, 50},
	    {49, 500, 5, 50},
	    {50, 500, 0, 100},
	    {99, 500, 0, 100},
	    {100, 120, 0, 0},
	    {1000000, 120, 0, 0},
	};
	struct ruleset base = defaults(), out;

	(void)state;
	for (size_t order = 0; order < COUNT(entries); order++)
		for (size_t i = 0; i < COUNT(table); i++) {
			struct overlay o = {.generation = "7"};
			struct reports said = {0};
			const struct limit *l;

			lay(&o, SECTION_LIMITS, entries[order], 3);
			assert_true(ruleset_overlay(
			    &base, &o, NOW + table[i].after_s * USEC_PER_SEC, &out, report, &said));
			assert_string_equal(said.text, "");
			l = ruleset_limit(&out, "connections");
			if (l->rate != table[i].rate || l->burst != 7)
				fail_msg("row %zu: %lld", i, (long long)l->rate);
			l = ruleset_limit(&out, "messages");
			assert_int_equal(l != NULL ? l->rate : 0, table[i].messages);
			assert_null(ruleset_limit(&out, "connections:temporary"));
			assert_true(out.valid_until_us ==
			    (table[i].valid_s == 0 ? INT64_MAX
						   : NOW + table[i].valid_s * USEC_PER_SEC));
			ruleset_deinit(&out);
		}
}

/* To the microsecond: an entry counts before `until` and not at it; what is ignored for being
 * wrong does not bound the rest. */
static void
test_valid_until(void **state)
{
	static const struct {
		const char *words;
		int64_t now_us, rate, valid_s;
	} table[] = {
	    {"rate=1/1m until=1800000000", NOW - 1, 1, 1800000000},
	    {"rate=1/1m until=1800000000", NOW, 60, 0},
	    {"rate=1/1m until=1800000000", NOW + 1, 60, 0},
	    {"rate=1/1m until=0", NOW, 60, 0},
	    {"rate=x until=1800000009", NOW, 60, 0},
	    {"rate=x until=1700000000", NOW, 60, 0},
	    {"rate=1/1m until=9999999999", NOW, 1, 9999999999},
	};
	struct ruleset base = defaults(), out;

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay_entry e = {"connections", table[i].words};
		struct overlay o = {.generation = "7"};
		struct reports said = {0};

		lay(&o, SECTION_LIMITS, &e, 1);
		assert_true(ruleset_overlay(&base, &o, table[i].now_us, &out, report, &said));
		if (out.limits[0].rate != table[i].rate ||
		    out.valid_until_us !=
			(table[i].valid_s != 0 ? table[i].valid_s * USEC_PER_SEC : INT64_MAX))
			fail_msg("row %zu: rate %lld until %lld", i, (long long)out.limits[0].rate,
			    (long long)out.valid_until_us);
		ruleset_deinit(&out);
	}
}

/* --- the whole ----------------------------------------------------------------------------- */

static void
test_too_many_limits(void **state)
{
	static char names[LIMITS_MAX + 4][8];
	struct overlay_entry entries[LIMITS_MAX + 4];
	struct overlay o = {.generation = "1"};
	struct ruleset base = defaults(), out;
	struct reports said = {0};

	(void)state;
	for (unsigned i = 0; i < COUNT(entries); i++) {
		snprintf(names[i], sizeof names[i], "x%u", i);
		entries[i].name = names[i];
		entries[i].words = "count=messages rate=5/1m";
	}
	entries[COUNT(entries) - 1].name = "connections"; /* is there already: not one too many */
	lay(&o, SECTION_LIMITS, entries, COUNT(entries));
	assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
	assert_int_equal(out.nlimits, LIMITS_MAX);
	assert_int_equal(said.n, COUNT(entries) - 1 - (LIMITS_MAX - base.nlimits));
	assert_non_null(strstr(said.text, "too many"));
	assert_int_equal(ruleset_limit(&out, "connections")->count, COUNT_MESSAGES);
	ruleset_deinit(&out);
}

/* Written by a newer weir: nobody knows what it means. */
static void
test_format(void **state)
{
	static const struct overlay_entry limits[] = {
	    {"connections", "rate=1/1m until=1800000100"}, {"sessions", "rate=x"}};
	static const struct overlay_entry lists[] = {{"192.0.2.7", "action=block"}};
	static const struct {
		int64_t format, rate;
		unsigned said;
	} table[] = {
	    {0, 1, 1},
	    {OVERLAY_FORMAT, 1, 1},
	    {OVERLAY_FORMAT + 1, 60, 0},
	    {INT64_MAX, 60, 0},
	};
	struct ruleset base = defaults(), out;
	struct addr a;

	(void)state;
	assert_true(addr_parse("192.0.2.7", &a));
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay o = {.generation = "9", .format = table[i].format};
		struct reports said = {0};
		bool ours = table[i].format <= OVERLAY_FORMAT;

		lay(&o, SECTION_LIMITS, limits, COUNT(limits));
		lay(&o, SECTION_LISTS, lists, COUNT(lists));
		assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
		assert_int_equal(out.limits[0].rate, table[i].rate);
		assert_int_equal(said.n, table[i].said);
		assert_int_equal(blocked(&out, &a, ""), ours);
		assert_int_equal(out.valid_until_us != INT64_MAX, ours);
		assert_string_equal(out.generation, "9"); /* else each ask would load anew */
		ruleset_deinit(&out);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_overlay),
	    cmocka_unit_test(test_limit_entries),
	    cmocka_unit_test(test_rejected_keep_the_words_before),
	    cmocka_unit_test(test_temporary),
	    cmocka_unit_test(test_valid_until),
	    cmocka_unit_test(test_too_many_limits),
	    cmocka_unit_test(test_format),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
