/*
 * test_limit.c - the words of a limit, and what the whole must be. Its bucket: test_bucket.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/limit.h"
#include "weir/units.h"

#define SEC USEC_PER_SEC

/* --- words --------------------------------------------------------------------------------- */

static void
test_names(void **state)
{
	static const struct {
		const char *name;
		bool ok;
	} table[] = {
	    {"connections", true},
	    {"a", true},
	    {"-", true},
	    {"per-net-24", true},
	    {"abcdefghijklmnopqrstuvwxyz012345", true},
	    {"abcdefghijklmnopqrstuvwxyz0123456", false},
	    {"", false},
	    {"Connections", false},
	    {"a b", false},
	    {"a=b", false},
	    {"a_b", false},
	    {"a\n", false},
	    {"\xc3\xa4", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (limit_name_valid(table[i].name) != table[i].ok)
			fail_msg("\"%s\"", table[i].name);
}

/* A name that is a count is one; any other says nothing. */
static void
test_init(void **state)
{
	struct limit l;

	(void)state;
	limit_init(&l, "messages");
	assert_true(l.enabled && l.count_given);
	assert_int_equal(l.count, COUNT_MESSAGES);
	limit_init(&l, "abcdefghijklmnopqrstuvwxyz0123456789");
	assert_false(l.count_given);
	assert_int_equal(strlen(l.name), LIMIT_NAME_MAX);
}

static void
test_words(void **state)
{
	struct limit l;
	char err[LIMIT_ERR_MAX];

	(void)state;
	limit_init(&l, "x");
	assert_true(limit_set_words(&l,
	    "  count=recipients per=network  rate=120/1m burst=60 action=defer enabled=yes "
	    "reply=\"451 4.7.1 a=b, try later\" ",
	    err, sizeof err));
	assert_int_equal(l.count, COUNT_RECIPIENTS);
	assert_int_equal(l.per, PER_NETWORK);
	assert_int_equal(l.rate, 120);
	assert_int_equal(l.period_us, 60 * SEC);
	assert_int_equal(l.burst, 60);
	assert_int_equal(l.action, ACTION_DEFER);
	assert_string_equal(l.reply.text, "a=b, try later");
	assert_true(l.count_given && l.burst_given && l.reply_given);
	assert_true(limit_set_words(&l, "max=7 enabled=off", err, sizeof err));
	assert_int_equal(l.max, 7);
	assert_false(l.enabled);
	assert_int_equal(l.rate, 120);
}

static void
test_bad_words(void **state)
{
	static const struct {
		const char *words, *says;
	} table[] = {
	    {"", "empty"},
	    {"   ", "empty"},
	    {"rate", "KEY=VALUE"},
	    {"=5", "KEY=VALUE"},
	    {"rate=", "KEY=VALUE"},
	    {"rate =5/1m", "KEY=VALUE"},
	    {"reply=\"421 4.7.0 x", "KEY=VALUE"},
	    {"reply=\"421 4.7.0 x\"y", "KEY=VALUE"},
	    {"burst=\"\"", "KEY=VALUE"},
	    {"burst=5 rate", "KEY=VALUE"},
	    {"averylongkeyindeed=1", "KEY=VALUE"},
	    {"speed=5", "unknown word"},
	    {"RATE=5/1m", "unknown word"},
	    {"burst=5\trate=5/1m", "burst is"},
	    {"rate=5/1m\n", "rate is"},
	    {"rate=5", "rate is"},
	    {"burst=0", "burst is"},
	    {"burst=-1", "burst is"},
	    {"max=0", "max is"},
	    {"max=1000000001", "max is"},
	    {"count=mails", "count is"},
	    {"per=pools", "per is"},
	    {"action=reject", "action is"},
	    {"enabled=maybe", "enabled is"},
	    {"reply=\"550 5.7.1 no\"", "lose mail"},
	    {"burst=5 max=7 rate=never", "rate is"},
	};
	char err[LIMIT_ERR_MAX], longest[1024];
	struct limit l, before;

	(void)state;
	limit_init(&before, "messages");
	assert_true(limit_set_words(&before, "rate=60/1m burst=9", err, sizeof err));
	l = before;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (limit_set_words(&l, table[i].words, err, sizeof err))
			fail_msg("\"%s\" is taken", table[i].words);
		if (strstr(err, table[i].says) == NULL)
			fail_msg("\"%s\" says: %s", table[i].words, err);
		assert_memory_equal(&l, &before, sizeof l);
	}
	strcpy(longest, "rate=");
	memset(longest + 5, '1', sizeof longest - 6);
	longest[sizeof longest - 1] = '\0';
	assert_false(limit_set_words(&l, longest, err, sizeof err));
}

/* --- the whole ----------------------------------------------------------------------------- */

static void
test_finish(void **state)
{
	static const struct {
		const char *name, *words, *says; /* says NULL: fine */
	} table[] = {
	    {"messages", "rate=60/1m", NULL},
	    {"x", "count=messages rate=60/1m burst=3", NULL},
	    {"x", "rate=60/1m", "no count"},
	    {"x", "enabled=no", NULL},
	    {"messages", "burst=5", "needs a rate"},
	    {"messages", "rate=5/1m max=5", "max is for sessions"},
	    {"sessions", "max=20", NULL},
	    {"sessions", "per=all", "needs max"},
	    {"sessions", "max=20 rate=5/1m", "not rate"},
	    {"sessions", "max=20 burst=5", "not rate"},
	    {"messages", "rate=1/365d burst=1", NULL},
	    {"messages", "rate=1/1d burst=366", "over a year"},
	    {"messages", "rate=1/366d burst=1000000000", "over a year"},
	    {"messages", "rate=5/1m reply=\"451 4.7.1 x\"", "action=defer"},
	    {"messages", "rate=5/1m action=defer reply=\"421 4.7.1 x\"", "action=refuse"},
	    {"messages", "rate=5/1m action=defer reply=\"452 4.7.1 x\"", NULL},
	    {"messages", "rate=5/1m action=log reply=\"452 4.7.1 x\"", NULL},
	};
	char err[LIMIT_ERR_MAX];
	struct limit l;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		strcpy(err, "nothing");
		limit_init(&l, table[i].name);
		assert_true(limit_set_words(&l, table[i].words, err, sizeof err));
		if (limit_finish(&l, err, sizeof err) != (table[i].says == NULL) ||
		    (table[i].says != NULL && strstr(err, table[i].says) == NULL))
			fail_msg("%s \"%s\" says: %s", table[i].name, table[i].words, err);
	}
}

/* What follows from the rest follows again when the rest has changed. */
static void
test_finish_fills(void **state)
{
	char err[LIMIT_ERR_MAX];
	struct limit l;

	(void)state;
	limit_init(&l, "messages");
	assert_true(limit_set_words(&l, "rate=60/1m", err, sizeof err));
	assert_true(limit_finish(&l, err, sizeof err));
	assert_int_equal(l.burst, 60);
	assert_string_equal(l.reply.code, "421");
	assert_string_equal(l.reply.xcode, "4.7.1");
	assert_int_equal(limit_drain_us(&l), 60 * SEC);
	assert_false(limit_at_connect(&l));
	assert_true(limit_set_words(&l, "rate=90/1m action=defer", err, sizeof err));
	assert_true(limit_finish(&l, err, sizeof err));
	assert_int_equal(l.burst, 90);
	assert_string_equal(l.reply.code, "451");
	limit_init(&l, "sessions");
	assert_true(limit_set_words(&l, "max=3", err, sizeof err));
	assert_true(limit_finish(&l, err, sizeof err));
	assert_string_equal(l.reply.xcode, "4.7.0");
	assert_int_equal(limit_drain_us(&l), 0);
	assert_true(limit_at_connect(&l));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_init),
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_bad_words),
	    cmocka_unit_test(test_finish),
	    cmocka_unit_test(test_finish_fills),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
