/*
 * test_ruleset_overlay.c - what Redis lays over the limits of the file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/ruleset.h"

#define COUNT(table) (unsigned)(sizeof(table) / sizeof((table)[0]))

/* What was reported, a line an entry. */
struct reports {
	unsigned n;
	char text[4096];
};

static void
report(void *ctx, const char *name, const char *why)
{
	struct reports *r = ctx;
	size_t used = strlen(r->text);

	r->n++;
	snprintf(r->text + used, sizeof r->text - used, "%s: %s\n", name, why);
}

static struct ruleset
defaults(void)
{
	char err[LIMIT_ERR_MAX];
	struct ruleset r;

	ruleset_defaults(&r);
	if (!ruleset_finish(&r, err, sizeof err))
		fail_msg("%s", err);
	return r;
}

static void
test_overlay(void **state)
{
	static const struct overlay_entry entries[] = {
	    {"connections", "rate=120/1m burst=9"},
	    {"messages", "rate=10/1m"},
	    {"sessions", "enabled=no"},
	};
	struct ruleset base = defaults(), out;
	struct reports said = {0};

	(void)state;
	ruleset_overlay(&base, NULL, "7", entries, COUNT(entries), &out, report, &said);
	assert_int_equal(said.n, 0);
	assert_string_equal(out.generation, "7");
	assert_int_equal(out.nlimits, 4);
	assert_int_equal(ruleset_limit(&out, "connections")->rate, 120);
	assert_int_equal(ruleset_limit(&out, "connections")->burst, 9);
	assert_int_equal(ruleset_limit(&out, "messages")->burst, 10);
	assert_false(ruleset_limit(&out, "sessions")->enabled);
	assert_int_equal(ruleset_limit(&out, "sessions")->max, 20);
	assert_int_equal(ruleset_limit(&base, "connections")->rate, 60);
	/* what is no longer in Redis is the file's again, whatever was in force */
	base = defaults();
	ruleset_overlay(&base, &out, "1234567890123456789012345", NULL, 0, &out, report, &said);
	assert_int_equal(out.nlimits, 3);
	assert_int_equal(ruleset_limit(&out, "connections")->rate, 60);
	assert_true(ruleset_limit(&out, "sessions")->enabled);
	assert_int_equal(strlen(out.generation), GENERATION_MAX);
}

static void
test_bad_entry_keeps_the_previous(void **state)
{
	static const struct overlay_entry good[] = {
	    {"connections", "rate=120/1m"},
	    {"messages", "rate=10/1m"},
	};
	static const struct overlay_entry bad[] = {
	    {"connections", "rate=fast"},
	    {"messages", "max=10"}, /* each word is fine, the whole is not */
	    {"recipients", "rate=5"},
	    {"Bad Name", "rate=5/1m"},
	    {"a\nb", "rate=5/1m"},
	    {"", "rate=5/1m"},
	    {"unheard", "rate=5/1m"}, /* says no count */
	    {"sessions", "max=5"},
	};
	struct ruleset base = defaults(), prev, out;
	struct reports said = {0};

	(void)state;
	ruleset_overlay(&base, NULL, "1", good, COUNT(good), &prev, report, &said);
	assert_int_equal(said.n, 0);
	ruleset_overlay(&base, &prev, "2", bad, COUNT(bad), &out, report, &said);
	assert_int_equal(said.n, COUNT(bad) - 1);
	assert_non_null(strstr(said.text, "unheard: says no count"));
	assert_string_equal(out.generation, "2");
	assert_int_equal(ruleset_limit(&out, "connections")->rate, 120);
	assert_int_equal(ruleset_limit(&out, "messages")->rate, 10);
	assert_int_equal(ruleset_limit(&out, "recipients")->rate, 300);
	assert_int_equal(ruleset_limit(&out, "sessions")->max, 5);
	assert_int_equal(out.nlimits, 4);
	/* with nothing before, the file's */
	memset(&said, 0, sizeof said);
	ruleset_overlay(&base, NULL, "3", bad, 2, &out, report, &said);
	assert_int_equal(said.n, 2);
	assert_int_equal(ruleset_limit(&out, "connections")->rate, 60);
	assert_null(ruleset_limit(&out, "messages"));
}

static void
test_too_many_limits(void **state)
{
	static char names[LIMITS_MAX + 4][8];
	struct overlay_entry entries[LIMITS_MAX + 4];
	struct ruleset base = defaults(), out;
	struct reports said = {0};

	(void)state;
	for (unsigned i = 0; i < COUNT(entries); i++) {
		snprintf(names[i], sizeof names[i], "x%u", i);
		entries[i].name = names[i];
		entries[i].words = "count=messages rate=5/1m";
	}
	entries[COUNT(entries) - 1].name = "connections"; /* is there already: not one too many */
	ruleset_overlay(&base, NULL, "1", entries, COUNT(entries), &out, report, &said);
	assert_int_equal(out.nlimits, LIMITS_MAX);
	assert_int_equal(said.n, COUNT(entries) - 1 - (LIMITS_MAX - base.nlimits));
	assert_non_null(strstr(said.text, "too many"));
	assert_int_equal(ruleset_limit(&out, "connections")->count, COUNT_MESSAGES);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_overlay),
	    cmocka_unit_test(test_bad_entry_keeps_the_previous),
	    cmocka_unit_test(test_too_many_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
