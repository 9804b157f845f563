/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_judge.c - from counts to the verdict: which limit speaks, what it says, and what is only noted.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/units.h"
#include "weir/verdict.h"

#define SEC USEC_PER_SEC

static const char *const all_limits[] = {"rate=60/1m burst=30", "rate=600/1m burst=300",
    "rate=10/1m action=defer", "rate=10/1m action=log", "rate=10/1m action=log",
    "count=sessions max=5", "rate=10/1m reply=\"421 4.3.2 Own words\""};
enum { SHORT, LONG, DEFER, LOG_A, LOG_B, SESSIONS, OWN, NLIMITS };

/* A request that hits all of them, and an answer by which all fit. */
struct scene {
	struct ruleset r;
	struct facts f;
	struct request q;
	struct answer a;
};

static void
scene(struct scene *s)
{
	char err[LIMIT_ERR_MAX], name[] = "x?";

	memset(s, 0, sizeof *s);
	ruleset_defaults(&s->r);
	s->r.nlimits = 0;
	for (int i = 0; i < NLIMITS; i++) {
		struct limit *l;

		name[1] = (char)('a' + i);
		l = ruleset_limit_add(&s->r, name);
		assert_true(limit_set_words(l, "count=connections", err, sizeof err));
		if (!limit_set_words(l, all_limits[i], err, sizeof err))
			fail_msg("%s", err);
		s->q.hits[i].limit = l;
		s->q.hits[i].cost = 1;
		s->a.hits[i].used = MICRO;
	}
	if (!ruleset_finish(&s->r, err, sizeof err))
		fail_msg("%s", err);
	s->q.nhits = NLIMITS;
	s->f.stage = STAGE_RCPT;
	s->f.user = s->f.sender = s->f.recipient = "";
	assert_true(addr_parse("192.0.2.7", &s->f.client));
}

static void
test_which_limit_speaks(void **state)
{
	static const struct {
		int64_t wait_s[NLIMITS]; /* -1: over, and no wait is known; 0: fits */
		int fires; /* NLIMITS: none */
		enum action action;
		enum reason reason;
		const char *reply;
		uint32_t noted;
	} table[] = {
	    {{0}, NLIMITS, DO_ACCEPT, REASON_OK, NULL, 0},
	    {{[SHORT] = 1}, SHORT, DO_REFUSE, REASON_RATE, "421", 0},
	    {{[SHORT] = 1, [LONG] = 9}, LONG, DO_REFUSE, REASON_RATE, "421", 0},
	    {{[SHORT] = 9, [LONG] = 1}, SHORT, DO_REFUSE, REASON_RATE, "421", 0},
	    {{[SHORT] = 5, [LONG] = 5}, SHORT, DO_REFUSE, REASON_RATE, "421", 0},
	    {{[DEFER] = 5}, DEFER, DO_DEFER, REASON_RATE, "451", 0},
	    {{[DEFER] = 99, [OWN] = 1}, OWN, DO_REFUSE, REASON_RATE, "421", 0},
	    {{[SHORT] = 1, [DEFER] = 99}, SHORT, DO_REFUSE, REASON_RATE, "421", 0},
	    {{[SESSIONS] = -1}, SESSIONS, DO_REFUSE, REASON_SESSIONS, "421", 0},
	    {{[SESSIONS] = -1, [DEFER] = 99}, SESSIONS, DO_REFUSE, REASON_SESSIONS, "421", 0},
	    {{[SESSIONS] = -1, [LONG] = 1}, LONG, DO_REFUSE, REASON_RATE, "421", 0},
	    {{[LOG_A] = 99}, NLIMITS, DO_ACCEPT, REASON_OK, NULL, 1u << LOG_A},
	    {{[LOG_A] = 99, [LOG_B] = 1, [DEFER] = 2}, DEFER, DO_DEFER, REASON_RATE, "451",
		1u << LOG_A | 1u << LOG_B},
	};
	struct scene s;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct verdict v;

		scene(&s);
		for (int h = 0; h < NLIMITS; h++) {
			s.a.hits[h].over = table[i].wait_s[h] != 0;
			if (table[i].wait_s[h] > 0)
				s.a.hits[h].wait_us = table[i].wait_s[h] * SEC;
		}
		v = judge(&s.r, &s.f, &s.q, &s.a);
		if (v.action != table[i].action || v.reason != table[i].reason ||
		    v.noted != table[i].noted)
			fail_msg("row %zu: %s %s %#x", i, action_name(v.action),
			    reason_name(v.reason), (unsigned)v.noted);
		assert_true(v.enforced);
		if (table[i].fires == NLIMITS) {
			assert_null(v.limit);
			assert_null(v.reply);
			continue;
		}
		assert_ptr_equal(v.limit, s.q.hits[table[i].fires].limit);
		assert_ptr_equal(v.reply, &v.limit->reply);
		assert_string_equal(v.reply->code, table[i].reply);
		assert_int_equal(v.retry_us, s.a.hits[table[i].fires].wait_us);
	}
}

static void
test_figures(void **state)
{
	static const struct {
		int hit;
		int64_t used, says, of;
	} table[] = {
	    {SHORT, 31 * MICRO, 31, 30},
	    {SHORT, 30 * MICRO + 1, 31, 30}, /* over reads as over */
	    {SHORT, 30 * MICRO, 30, 30},
	    {SHORT, 0, 0, 30},
	    {SESSIONS, 6 * MICRO, 6, 5},
	    {LOG_A, 11 * MICRO, 11, 10},
	    {LONG, UNITS_COUNT_MAX * MICRO, UNITS_COUNT_MAX, 300},
	};
	struct scene s;

	(void)state;
	scene(&s);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct hit_answer a = {.used = table[i].used, .wait_us = 7 * SEC, .over = true};
		struct verdict v = {.enforced = true};

		judge_figures(&s.q.hits[table[i].hit], &a, &v);
		if (v.used != table[i].says || v.of != table[i].of || v.retry_us != 7 * SEC)
			fail_msg("row %zu: %lld of %lld", i, (long long)v.used, (long long)v.of);
	}
}

static void
test_greylist(void **state)
{
	static const struct {
		enum grey_state grey;
		const char *reply;
		enum action action;
	} table[] = {
	    {GREY_NONE, "421 4.7.1 later", DO_ACCEPT},
	    {GREY_NEW, "421 4.7.1 later", DO_REFUSE},
	    {GREY_EARLY, "421 4.7.1 later", DO_REFUSE},
	    {GREY_PASSED, "421 4.7.1 later", DO_ACCEPT},
	    {GREY_KNOWN, "421 4.7.1 later", DO_ACCEPT},
	    {GREY_EMBARGO, "421 4.7.1 later", DO_REFUSE},
	    {GREY_CORRESPONDENT, "421 4.7.1 later", DO_ACCEPT},
	    {GREY_NEW, "451 4.7.1 later", DO_DEFER},
	    {GREY_EMBARGO, "451 4.7.1 later", DO_DEFER},
	    {GREY_EARLY, "451 4.7.1 later", DO_DEFER},
	    {GREY_PASSED, "451 4.7.1 later", DO_ACCEPT},
	};
	char err[LIMIT_ERR_MAX];
	struct scene s;

	(void)state;
	scene(&s);
	s.a.grey_wait_us = 300 * SEC;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct verdict v;

		assert_true(reply_parse(table[i].reply, &s.r.greylist.reply, err, sizeof err));
		s.a.grey = table[i].grey;
		v = judge(&s.r, &s.f, &s.q, &s.a);
		if (v.action != table[i].action)
			fail_msg("row %zu: %s", i, action_name(v.action));
		assert_int_equal(v.grey, table[i].grey);
		assert_null(v.limit);
		assert_int_equal(v.reason, v.action == DO_ACCEPT ? REASON_OK : REASON_GREYLIST);
		assert_int_equal(v.retry_us, v.action == DO_ACCEPT ? 0 : 300 * SEC);
		assert_ptr_equal(v.reply, v.action == DO_ACCEPT ? NULL : &s.r.greylist.reply);
	}
	/* a limit speaks before greylisting does, even one that only defers */
	s.a.grey = GREY_NEW;
	s.a.hits[DEFER].over = true;
	assert_int_equal(judge(&s.r, &s.f, &s.q, &s.a).reason, REASON_RATE);
	s.a.hits[DEFER].over = false;
	s.a.hits[LOG_A].over = true;
	assert_int_equal(judge(&s.r, &s.f, &s.q, &s.a).reason, REASON_GREYLIST);
}

/* A quota names itself, and a rung of a ladder its own figures. */
static void
test_quota_and_rungs(void **state)
{
	static const struct {
		const char *words;
		uint16_t times;
		int64_t used, says, of;
		enum reason reason;
	} table[] = {
	    {"rate=60/1m burst=30", 0, 31 * MICRO, 31, 30, REASON_RATE},
	    {"rate=60/1m burst=30", 1, 31 * MICRO, 31, 30, REASON_RATE},
	    {"rate=60/1m burst=30", 16, 481 * MICRO, 481, 480, REASON_RATE},
	    {"quota=1000/1d", 0, 1001 * MICRO, 1001, 1000, REASON_QUOTA},
	    {"quota=1000/1d", 4, 4001 * MICRO, 4001, 4000, REASON_QUOTA},
	    {"quota=1000/1d action=defer", 0, 1001 * MICRO, 1001, 1000, REASON_QUOTA},
	    {"count=bytes quota=2048G/1d", 0, (2 * QUOTA_FIGURE_MAX + 1) * MICRO,
		2 * QUOTA_FIGURE_MAX + 1, QUOTA_FIGURE_MAX, REASON_QUOTA},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		char err[LIMIT_ERR_MAX];
		struct scene s;
		struct verdict v;
		struct limit l;

		scene(&s);
		limit_init(&l, "messages");
		if (!limit_set_words(&l, table[i].words, err, sizeof err) ||
		    !limit_finish(&l, err, sizeof err))
			fail_msg("%s: %s", table[i].words, err);
		s.q.nhits = 1;
		s.q.hits[0].limit = &l;
		s.q.hits[0].times = table[i].times;
		s.a.hits[0] =
		    (struct hit_answer){.used = table[i].used, .wait_us = 7 * SEC, .over = true};
		v = judge(&s.r, &s.f, &s.q, &s.a);
		if (v.used != table[i].says || v.of != table[i].of || v.reason != table[i].reason)
			fail_msg("row %zu: %s, %lld of %lld", i, reason_name(v.reason),
			    (long long)v.used, (long long)v.of);
		assert_int_equal(v.retry_us, 7 * SEC);
		assert_int_equal(v.action, l.action == ACTION_DEFER ? DO_DEFER : DO_REFUSE);
	}
}

/* What is not for this client says nothing, nor what has happened already; a shadow says it of
 * that, too. */
static void
test_skipped_and_noted(void **state)
{
	static const struct {
		int hit;
		bool skipped;
		enum hit_mode mode;
		enum action action;
		uint32_t noted;
	} table[] = {
	    {SHORT, false, HIT_CHARGE, DO_REFUSE, 0},
	    {SHORT, false, HIT_PROBE, DO_REFUSE, 0},
	    {SHORT, false, HIT_NOTE, DO_ACCEPT, 0},
	    {SHORT, true, HIT_CHARGE, DO_ACCEPT, 0},
	    {SHORT, true, HIT_PROBE, DO_ACCEPT, 0},
	    {DEFER, false, HIT_PROBE, DO_DEFER, 0},
	    {DEFER, false, HIT_NOTE, DO_ACCEPT, 0},
	    {LOG_A, false, HIT_CHARGE, DO_ACCEPT, 1u << LOG_A},
	    {LOG_A, false, HIT_NOTE, DO_ACCEPT, 1u << LOG_A},
	    {LOG_A, true, HIT_CHARGE, DO_ACCEPT, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct scene s;
		struct verdict v;

		scene(&s);
		s.q.hits[table[i].hit].mode = table[i].mode;
		s.a.hits[table[i].hit].over = true;
		s.a.hits[table[i].hit].skipped = table[i].skipped;
		v = judge(&s.r, &s.f, &s.q, &s.a);
		if (v.action != table[i].action || v.noted != table[i].noted)
			fail_msg("row %zu: %s, %#x", i, action_name(v.action), (unsigned)v.noted);
		/* and it is not the one that speaks for another */
		s.a.hits[LONG].over = true;
		v = judge(&s.r, &s.f, &s.q, &s.a);
		assert_int_equal(v.action, DO_REFUSE);
		assert_ptr_equal(
		    v.limit, s.q.hits[table[i].action == DO_REFUSE ? table[i].hit : LONG].limit);
	}
}

/* Who wrote to a trap hears what blocked clients hear; a limit speaks first, greylisting after. */
static void
test_trap(void **state)
{
	static const struct {
		bool over, defer_over, exempt;
		enum grey_state grey;
		enum action action;
		enum reason reason;
	} table[] = {
	    {false, false, false, GREY_NONE, DO_REFUSE, REASON_TRAP},
	    {false, false, false, GREY_NEW, DO_REFUSE, REASON_TRAP},
	    {false, false, false, GREY_KNOWN, DO_REFUSE, REASON_TRAP},
	    {true, false, false, GREY_NONE, DO_REFUSE, REASON_RATE},
	    {false, true, false, GREY_NEW, DO_DEFER, REASON_RATE},
	    {false, false, true, GREY_NONE, DO_ACCEPT, REASON_EXEMPT},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct scene s;
		struct verdict v;

		scene(&s);
		s.a.blocked_us = 900 * SEC;
		s.a.grey = table[i].grey;
		s.a.hits[SHORT].over = table[i].over;
		s.a.hits[DEFER].over = table[i].defer_over;
		if (table[i].exempt)
			s.f.client.family = ADDR_NONE;
		v = judge(&s.r, &s.f, &s.q, &s.a);
		if (v.action != table[i].action || v.reason != table[i].reason)
			fail_msg("row %zu: %s %s", i, action_name(v.action), reason_name(v.reason));
		if (v.reason != REASON_TRAP)
			continue;
		assert_ptr_equal(v.reply, &s.r.block_reply);
		assert_int_equal(v.retry_us, 900 * SEC);
		assert_null(v.limit);
		assert_true(v.enforced);
		s.r.observe = true;
		assert_false(judge(&s.r, &s.f, &s.q, &s.a).enforced);
	}
}

static void
test_observe(void **state)
{
	struct scene s;
	struct verdict v;

	(void)state;
	scene(&s);
	s.r.observe = true;
	s.a.hits[SHORT].over = true;
	v = judge(&s.r, &s.f, &s.q, &s.a);
	assert_int_equal(v.action, DO_REFUSE);
	assert_false(v.enforced);
	assert_ptr_equal(v.limit, s.q.hits[SHORT].limit);
}

/* Mail flows for the exempt, where nothing was asked, and where nothing answered. */
static void
test_without_an_answer(void **state)
{
	struct scene s;
	struct verdict v;

	(void)state;
	scene(&s);
	s.a.hits[SHORT].over = true;
	s.a.source = ANSWER_ZONE;
	assert_int_equal(judge(&s.r, &s.f, &s.q, &s.a).source, ANSWER_ZONE);
	v = judge(&s.r, &s.f, &s.q, NULL);
	assert_int_equal(v.action, DO_ACCEPT);
	assert_int_equal(v.reason, REASON_NO_STORE);
	v = judge(&s.r, &s.f, NULL, NULL);
	assert_int_equal(v.action, DO_ACCEPT);
	assert_int_equal(v.reason, REASON_OK);
	s.f.client.family = ADDR_NONE;
	v = judge(&s.r, &s.f, &s.q, &s.a);
	assert_int_equal(v.action, DO_ACCEPT);
	assert_int_equal(v.reason, REASON_EXEMPT);
}

/* Whoever stands on a list of Redis is told without any answer, and whatever it says. */
static void
test_listed(void **state)
{
	static const struct {
		const char *who;
		enum list_action what;
		const char *user;
		enum action action;
		enum reason reason;
	} table[] = {
	    {"192.0.2.7", LIST_EXEMPT, "", DO_ACCEPT, REASON_EXEMPT},
	    {"192.0.2.0/24", LIST_BLOCK, "", DO_REFUSE, REASON_BLOCKED},
	    {"user:ann", LIST_EXEMPT, "ann", DO_ACCEPT, REASON_EXEMPT},
	    {"user:ann", LIST_BLOCK, "ann", DO_REFUSE, REASON_BLOCKED},
	    {"user:ann", LIST_EXEMPT, "", DO_REFUSE, REASON_RATE}, /* by the answer */
	    {"198.51.100.0/24", LIST_EXEMPT, "", DO_REFUSE, REASON_RATE},
	};
	char err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct scene s;
		struct who w;

		scene(&s);
		s.r.exceptions = exceptions_new(0, 1);
		assert_non_null(s.r.exceptions);
		assert_true(who_parse(table[i].who, &w, err, sizeof err));
		exceptions_add_listed(
		    s.r.exceptions, &w, &(struct listing){.action = table[i].what});
		assert_true(exceptions_seal(s.r.exceptions));
		s.f.user = table[i].user;
		s.a.hits[SHORT].over = true;
		for (int asked = 0; asked < 2; asked++) {
			bool by_answer = table[i].reason == REASON_RATE;
			struct verdict v = judge(&s.r, &s.f, asked || by_answer ? &s.q : NULL,
			    asked || by_answer ? &s.a : NULL);

			if (v.action != table[i].action || v.reason != table[i].reason)
				fail_msg("row %zu: action %d, reason %d", i, v.action, v.reason);
			if (v.reason == REASON_BLOCKED) {
				assert_ptr_equal(v.reply, &s.r.block_reply);
				assert_null(v.limit);
			}
		}
		s.r.observe = true;
		assert_false(judge(&s.r, &s.f, &s.q, &s.a).enforced);
		ruleset_deinit(&s.r);
	}
}

/* Names stand in logs that people grep. */
static void
test_names(void **state)
{
	static const char *const reasons[] = {
	    [REASON_OK] = "ok",
	    [REASON_EXEMPT] = "exempt",
	    [REASON_BLOCKED] = "blocked",
	    [REASON_LOAD] = "load",
	    [REASON_RATE] = "rate",
	    [REASON_SESSIONS] = "sessions",
	    [REASON_QUOTA] = "quota",
	    [REASON_TRAP] = "trap",
	    [REASON_DRAIN] = "drain",
	    [REASON_GREYLIST] = "greylist",
	    [REASON_NO_STORE] = "no-store",
	};

	(void)state;
	for (unsigned i = 0; i < sizeof reasons / sizeof reasons[0]; i++) {
		const char *name = reason_name((enum reason)i);

		if (name == NULL || strcmp(name, reasons[i]) != 0)
			fail_msg(
			    "reason %u is %s, not %s", i, name != NULL ? name : "NULL", reasons[i]);
	}
	assert_string_equal(action_name(DO_ACCEPT), "accept");
	assert_string_equal(action_name(DO_REFUSE), "refuse");
	assert_string_equal(action_name(DO_DEFER), "defer");
	assert_string_equal(grey_state_name(GREY_EARLY), "early");
	assert_string_equal(grey_state_name(GREY_EMBARGO), "embargo");
	assert_string_equal(grey_state_name(GREY_CORRESPONDENT), "correspondent");
	assert_string_equal(answer_source_name(ANSWER_CACHE), "cache");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_which_limit_speaks),
	    cmocka_unit_test(test_figures),
	    cmocka_unit_test(test_greylist),
	    cmocka_unit_test(test_quota_and_rungs),
	    cmocka_unit_test(test_skipped_and_noted),
	    cmocka_unit_test(test_trap),
	    cmocka_unit_test(test_observe),
	    cmocka_unit_test(test_without_an_answer),
	    cmocka_unit_test(test_listed),
	    cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
