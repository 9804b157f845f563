/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_load_road.c - the host's load on the road: what is asked of whom at which level, and what
 * he is told.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/verdict.h"

static void
rules(struct ruleset *r, const char *sessions)
{
	char err[LIMIT_ERR_MAX];

	ruleset_defaults(r);
	assert_true(load_set(&r->load, LOAD_SESSIONS, sessions, err, sizeof err));
	assert_true(ruleset_finish(r, err, sizeof err));
}

static struct facts
facts(enum stage stage, unsigned level)
{
	struct facts f = {.stage = stage,
	    .level = level,
	    .name = "",
	    .user = "",
	    .helo = "",
	    .sender = "a@example.org",
	    .recipient = "b@example.com"};

	assert_true(addr_parse("192.0.2.7", &f.client));
	return f;
}

enum answering { KNOWN, STRANGER, CACHED, OVER, NOBODY };

static void
test_levels(void **state)
{
	static const struct {
		const char *what;
		unsigned level;
		bool spared, observe;
		enum answering answer;
		bool asked, pool, known_only; /* the question */
		enum action action;
		enum reason reason;
	} table[] = {
	    {"0: strangers", 0, false, false, STRANGER, true, false, false, DO_ACCEPT, REASON_OK},
	    {"1: known", 1, false, false, KNOWN, true, true, true, DO_ACCEPT, REASON_OK},
	    {"1: strangers", 1, false, false, STRANGER, true, true, true, DO_REFUSE, REASON_LOAD},
	    {"1: refused lately", 1, false, false, CACHED, true, true, true, DO_REFUSE,
		REASON_RATE},
	    {"1: known, over", 1, false, false, OVER, true, true, true, DO_REFUSE, REASON_RATE},
	    {"1: no store", 1, false, false, NOBODY, true, true, true, DO_ACCEPT, REASON_NO_STORE},
	    {"1: spared", 1, true, false, STRANGER, true, false, false, DO_ACCEPT, REASON_OK},
	    {"1: observe", 1, false, true, STRANGER, true, true, false, DO_REFUSE, REASON_LOAD},
	    {"1: observe, known", 1, false, true, KNOWN, true, true, false, DO_ACCEPT, REASON_OK},
	    {"2: all", 2, false, false, NOBODY, false, false, false, DO_REFUSE, REASON_LOAD},
	    {"2: spared", 2, true, false, NOBODY, false, false, false, DO_REFUSE, REASON_LOAD},
	    {"2: observe", 2, false, true, KNOWN, true, true, false, DO_REFUSE, REASON_LOAD},
	    {"2: observe, no store", 2, false, true, NOBODY, true, true, false, DO_REFUSE,
		REASON_LOAD},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts(STAGE_CONNECT, table[i].level);
		struct answer a = {.known = table[i].answer == KNOWN || table[i].answer == OVER};
		struct request q;
		struct ruleset r;
		struct verdict v;
		bool asked;

		rules(&r, "400 300, 800 600");
		r.observe = table[i].observe;
		f.spared = table[i].spared;
		if (table[i].answer == CACHED)
			a.source = ANSWER_CACHE;
		a.hits[0].over = table[i].answer == CACHED || table[i].answer == OVER;
		asked = plan_request(&r, &f, &q);
		if (asked != table[i].asked ||
		    (asked &&
			(q.pool.asked != table[i].pool ||
			    q.pool.known_only != table[i].known_only || q.nhits != 2)))
			fail_msg("%s: asked %d", table[i].what, asked);
		v = judge(
		    &r, &f, asked ? &q : NULL, asked && table[i].answer != NOBODY ? &a : NULL);
		if (v.action != table[i].action || v.reason != table[i].reason)
			fail_msg("%s: %s %s", table[i].what, action_name(v.action),
			    reason_name(v.reason));
		assert_int_equal(v.enforced, !table[i].observe);
		assert_int_equal(v.level, v.reason == REASON_LOAD ? table[i].level : 0);
		if (v.reason == REASON_LOAD) {
			assert_ptr_equal(v.reply, &r.load.reply);
			assert_string_equal(v.reply->code, "421");
			assert_null(v.limit);
		}
	}
}

/* Sessions that have begun go on at any level, and exempt ones begin. */
static void
test_whom_it_spares(void **state)
{
	struct ruleset r;
	struct answer a = {.known = false};

	(void)state;
	rules(&r, "400 300, 800 600");
	for (unsigned level = 0; level <= 2; level++) {
		struct facts f = facts(STAGE_RCPT, level);
		struct request q;

		assert_true(plan_request(&r, &f, &q));
		assert_false(q.pool.known_only);
		assert_int_equal(judge(&r, &f, &q, &a).action, DO_ACCEPT);
		f = facts(STAGE_CONNECT, level);
		f.client.family = ADDR_NONE;
		assert_false(plan_request(&r, &f, &q));
		assert_int_equal(judge(&r, &f, NULL, NULL).reason, REASON_EXEMPT);
	}
}

/* What it costs while nothing happens: the pool is looked at where something is learnt of it, and
 * no question more is asked. Without marks nothing at all. */
static void
test_cost_at_level_0(void **state)
{
	struct ruleset r;
	struct request q;
	struct facts f;

	(void)state;
	ruleset_defaults(&r);
	assert_false(ruleset_learns(&r));
	assert_false(plan_steps(&r).daemon);
	f = facts(STAGE_RCPT, 0);
	assert_true(plan_request(&r, &f, &q));
	assert_false(q.pool.asked);

	rules(&r, "400 300");
	assert_true(ruleset_learns(&r));
	assert_true(plan_steps(&r).daemon && plan_steps(&r).name && plan_steps(&r).close);
	f = facts(STAGE_CONNECT, 0);
	assert_true(plan_request(&r, &f, &q));
	assert_false(q.pool.asked);
	f = facts(STAGE_RCPT, 0);
	assert_true(plan_request(&r, &f, &q));
	assert_true(q.pool.asked);
	assert_int_equal(q.pool.event, TRUST_MESSAGE);
	f.message_counted = true;
	assert_true(plan_request(&r, &f, &q));
	assert_false(q.pool.asked);
	r.load.nspare = 0;
	assert_false(plan_steps(&r).daemon);
}

/* Only who counts open sessions has to hear of their end. */
static void
test_steps(void **state)
{
	char err[LIMIT_ERR_MAX];
	struct ruleset r;

	(void)state;
	ruleset_defaults(&r);
	r.nlimits = 0;
	assert_true(load_set(&r.load, LOAD_QUEUE, "10 5", err, sizeof err));
	assert_false(plan_steps(&r).close);
	assert_true(load_set(&r.load, LOAD_SESSIONS, "10 5", err, sizeof err));
	assert_true(plan_steps(&r).close);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_levels),
	    cmocka_unit_test(test_whom_it_spares),
	    cmocka_unit_test(test_cost_at_level_0),
	    cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
