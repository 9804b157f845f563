/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_limit.c - the words of a limit, there and back, and what the whole must be. Its bucket: test_bucket.c.
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
	    /* fields of a record beside its limits */
	    {"first", false},
	    {"ok", false},
	    {"known", false},
	    {"trust", false},
	    {"blocked", false},
	    {"triplets", false},
	    {"held", false},
	    {"waited", false},
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
	    {"quota=1000", "quota is"},
	    {"quota=0/1d", "quota is"},
	    {"quota=3000G/1d", "quota is"},
	    {"quota=5/500ms", "quota is"},
	    {"rate=3G/1h", "rate is"},
	    {"rate=1000000001/1h", "rate is"},
	    {"burst=3G", "burst is"},
	    {"burst=1T", "burst is"},
	    {"max=1k", "max is"},
	    {"for=", "KEY=VALUE"},
	    {"for=\" \"", "for is empty"},
	    {"for=strangers,known", "for is everyone"},
	    {"for=networks", "for is everyone"},
	    {"for=192.0.2.7/24", "without host bits"},
	    {"for=\"192.0.2.0/24 192.0.2.300\"", "for is everyone"},
	    {"for=1.0.0.0,2.0.0.0,3.0.0.0,4.0.0.0,5.0.0.0,6.0.0.0,7.0.0.0,8.0.0.0,9.0.0.0",
		"at most 8"},
	    {"ladder=/56", "ladder is"},
	    {"ladder=56*4", "ladder is"},
	    {"ladder=/56*1", "ladder is"},
	    {"ladder=/56*1001", "ladder is"},
	    {"ladder=/128*4", "ladder is"},
	    {"ladder=/15*4", "ladder is"},
	    {"ladder=/56*4/48*16", "ladder is"},
	    {"ladder=\"/48*16 /56*4\"", "ladder is"}, /* narrower */
	    {"ladder=\"/56*16 /48*4\"", "ladder is"}, /* and less */
	    {"ladder=\"/56*4 /56*16\"", "ladder is"},
	    {"ladder=\"/56*4 /48*16 /32*64\"", "at most two"},
	    {"ladder=\",\"", "ladder is"},
	    {"strict=always", "strict is"},
	    {"rate=5/1h quota=5/1d", "a rate or a quota"},
	    {"quota=5/1d rate=5/1h", "a rate or a quota"},
	    {"burst=5 quota=5/1d", "a quota has none"},
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
	    /* quotas */
	    {"messages", "quota=1000/1d", NULL},
	    {"messages", "quota=1000/1d strict=yes", NULL},
	    {"messages", "quota=1000/1d burst=5", "a quota has none"},
	    {"messages", "quota=1000/1d max=5", "max is for sessions"},
	    {"sessions", "max=20 quota=5/1m", "not rate, burst or quota"},
	    {"messages", "quota=5/366d", "over a year"},
	    {"messages", "quota=5/365d", NULL},
	    /* k, M and G */
	    {"bytes", "rate=1M/1h burst=1G", NULL},
	    {"bytes", "rate=1000000/1h", NULL},
	    {"bytes", "quota=2048G/30d", NULL},
	    {"messages", "rate=1k/1h", "for bytes"},
	    {"messages", "quota=1k/1h", "for bytes"},
	    {"recipients", "rate=5/1s burst=1k", "for bytes"},
	    {"rejected-recipients", "rate=1M/1s", "for bytes"},
	    /* what is counted for whom */
	    {"connections", "rate=5/1m per=pool", NULL},
	    {"connections", "rate=5/1m per=user", "counted at connect"},
	    {"connections", "rate=5/1m per=helo", "counted at connect"},
	    {"sessions", "max=5 per=sender", "counted at connect"},
	    {"sessions", "max=5 strict=yes", "strict is for rates"},
	    {"connections", "rate=5/1m for=strangers", NULL},
	    {"connections", "rate=5/1m for=authenticated", "nobody is authenticated yet"},
	    {"sessions", "max=5 for=authenticated", "nobody is authenticated yet"},
	    {"messages", "rate=5/1m for=authenticated", NULL},
	    {"messages", "rate=5/1m per=user for=strangers", "no stranger"},
	    {"messages", "rate=5/1m per=recipient", "count recipients per recipient"},
	    {"bytes", "rate=5/1m per=recipient-domain", "count recipients per recipient-domain"},
	    {"recipients", "rate=5/1m per=recipient", NULL},
	    {"rejected-recipients", "rate=5/1m per=recipient", "what others guessed"},
	    {"rejected-recipients", "rate=5/1m per=recipient-domain", "what others guessed"},
	    {"rejected-recipients", "rate=5/1m per=pool", NULL},
	    /* ladders */
	    {"messages", "rate=5/1m ladder=\"/56*4 /48*16\"", NULL},
	    {"sessions", "max=5 per=network ladder=/48*16", NULL},
	    {"messages", "rate=5/1m per=pool ladder=/48*16", "ladder of networks"},
	    {"messages", "rate=5/1m per=all ladder=/48*16", "ladder of networks"},
	    {"messages", "rate=5/1m per=user ladder=/48*16", "ladder of networks"},
	    {"messages", "rate=1000000/1h ladder=/48*1000", NULL},
	    {"messages", "rate=1000001/1h ladder=/48*1000", "ladder included"},
	    {"messages", "rate=1/1h burst=2000000 ladder=/48*501", "ladder included"},
	    {"sessions", "max=2000000 ladder=/48*501", "ladder included"},
	    {"bytes", "rate=128M/1h ladder=/48*16", NULL},
	    {"bytes", "rate=129M/1h ladder=/48*16", "end at 2G"},
	    {"bytes", "quota=128G/1d ladder=/48*17", "2048G"},
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

/* One layer over another: a rate takes the place of a quota, and the other way round. */
static void
test_layers(void **state)
{
	char err[LIMIT_ERR_MAX];
	struct limit l;

	(void)state;
	limit_init(&l, "messages");
	assert_true(limit_set_words(&l, "rate=60/1m burst=9", err, sizeof err));
	assert_true(limit_finish(&l, err, sizeof err));
	assert_int_equal(limit_ceiling(&l), 9);
	assert_true(limit_set_words(&l, "quota=1000/1d", err, sizeof err));
	assert_true(limit_finish(&l, err, sizeof err));
	assert_int_equal(l.rate, 0);
	assert_int_equal(l.period_us, 0);
	assert_int_equal(limit_ceiling(&l), 1000);
	assert_int_equal(limit_drain_us(&l), 86400 * SEC);
	assert_true(limit_set_words(&l, "rate=30/1m", err, sizeof err));
	assert_true(limit_finish(&l, err, sizeof err));
	assert_int_equal(l.quota, 0);
	assert_int_equal(l.window_us, 0);
	/* the burst of the first layer went with its rate */
	assert_int_equal(limit_ceiling(&l), 30);
	/* words that say neither leave both alone */
	assert_true(limit_set_words(&l, "quota=7/1h", err, sizeof err));
	assert_true(limit_set_words(&l, "for=known action=log", err, sizeof err));
	assert_true(limit_finish(&l, err, sizeof err));
	assert_int_equal(l.quota, 7);
	/* and a ladder, a list of networks can be taken back */
	assert_true(limit_set_words(&l, "ladder=/48*4 for=192.0.2.0/24", err, sizeof err));
	assert_int_equal(l.nrungs, 1);
	assert_int_equal(l.nnets, 1);
	assert_true(limit_set_words(&l, "ladder=off for=everyone", err, sizeof err));
	assert_int_equal(l.nrungs, 0);
	assert_int_equal(l.whom, FOR_EVERYONE);
	assert_int_equal(l.nnets, 0);
}

/* limit_words() and back: the same limit. */
static void
test_back_to_words(void **state)
{
	static const char *const table[] = {
	    "count=connections per=address rate=60/1m action=refuse",
	    "count=sessions per=network max=20 action=refuse",
	    "count=messages per=pool for=strangers quota=1000/1d strict=true action=defer",
	    ("count=recipients per=address for=\"192.0.2.0/24 2001:db8::/32\" "
	     "ladder=\"/56*4 /48*16\" rate=60/1500ms burst=30 action=log enabled=false"),
	    "count=bytes per=user rate=100M/1h burst=1500000 action=refuse",
	    "count=bytes per=sender-domain for=authenticated quota=1536/10s action=refuse",
	    "count=bytes per=sender quota=2048G/30d action=refuse",
	    "count=rejected-recipients per=network rate=1000000000/36h action=refuse",
	};
	char words[LIMIT_WORDS_MAX], err[LIMIT_ERR_MAX];
	struct limit l;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		limit_init(&l, "x");
		assert_true(limit_set_words(&l, table[i], err, sizeof err));
		assert_string_equal(limit_words(&l, words), table[i]);
	}
	/* the longest there are */
	limit_init(&l, "x");
	assert_true(limit_set_words(&l,
	    "count=rejected-recipients per=recipient-domain ladder=\"/127*999 /126*1000\" "
	    "for=\"2001:db8:1111:2222:3333:4444:5555:1110/125 "
	    "2001:db8:1111:2222:3333:4444:5555:1118/125 "
	    "2001:db8:1111:2222:3333:4444:5555:1120/125 "
	    "2001:db8:1111:2222:3333:4444:5555:1128/125 "
	    "2001:db8:1111:2222:3333:4444:5555:1130/125 "
	    "2001:db8:1111:2222:3333:4444:5555:1138/125 "
	    "2001:db8:1111:2222:3333:4444:5555:1140/125 "
	    "2001:db8:1111:2222:3333:4444:5555:1148/125\" strict=true enabled=false "
	    "rate=1000000000/31536000001ms burst=1000000000 max=1000000000",
	    err, sizeof err));
	assert_true(strlen(limit_words(&l, words)) < LIMIT_WORDS_MAX - 100);
}

/* What people read. */
static void
test_figures(void **state)
{
	static const struct {
		const char *name, *words;
		int64_t times;
		const char *text;
	} table[] = {
	    {"connections", "rate=60/1m", 1, "60/1m burst 60"},
	    {"connections", "rate=60/1m burst=30", 16, "960/1m burst 480"},
	    {"sessions", "max=20", 4, "max 80"},
	    {"messages", "quota=1000/1d", 1, "1000/1d"},
	    {"bytes", "quota=100M/1d", 16, "1600M/1d"},
	    {"bytes", "rate=1G/1h burst=100M", 1, "1G/1h burst 100M"},
	    {"bytes", "rate=1000000/7d", 1, "1000000/7d burst 1000000"},
	};
	char text[LIMIT_FIGURES_MAX], err[LIMIT_ERR_MAX];
	struct limit l;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		limit_init(&l, table[i].name);
		assert_true(limit_set_words(&l, table[i].words, err, sizeof err));
		assert_true(limit_finish(&l, err, sizeof err));
		assert_string_equal(limit_figures(&l, table[i].times, text), table[i].text);
	}
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
	    cmocka_unit_test(test_layers),
	    cmocka_unit_test(test_back_to_words),
	    cmocka_unit_test(test_figures),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
