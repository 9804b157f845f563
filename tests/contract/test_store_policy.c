/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_store_policy.c - the contract of store.h for quotas, ladders, probes and notes, trust, traps
 * and greylisting's extras: the same cases against the zone, Redis, and the chain of both. What
 * only Redis keeps: test_redis_policy.c. Time is passed, so nothing here waits.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "policy_fixture.h"

/* --- quotas --------------------------------------------------------------------------------- */

static void
quota_exact(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=messages per=address quota=3/1h");

	add_hit(&e->q, &l, "{a}:1", 1);
	for (int i = 0; i < 3; i++) {
		takes(e, T0 + i * 10 * MINUTE);
		figures(e, 0, i + 1, false, 0);
	}
	refuses(e, T0 + 30 * MINUTE);
	figures(e, 0, 4, true, 30 * MINUTE);
	refuses(e, T0 + HOUR - 1);
	takes(e, T0 + HOUR);
	figures(e, 0, 3, false, 0);
	refuses(e, T0 + HOUR + 5 * SEC);
	figures(e, 0, 4, true, 10 * MINUTE - 5 * SEC);
	/* a neighbour has a quota of his own */
	strcpy(e->q.records[0].key, "{a}:2");
	takes(e, T0 + HOUR);
	figures(e, 0, 1, false, 0);
	strcpy(e->q.records[0].key, "{a}:1");
	takes(e, T0 + DAY);
	figures(e, 0, 1, false, 0);
}

/* So many charges are kept of the past, by the test. */
struct past {
	unsigned n;
	struct {
		int64_t at, cost;
	} taken[2000];
};

/* What was taken in the window that ends now. */
static int64_t
within(const struct past *p, int64_t now, int64_t window)
{
	int64_t sum = 0;

	for (unsigned i = 0; i < p->n; i++)
		if (now - p->taken[i].at < window)
			sum += p->taken[i].cost;
	return sum;
}

/* However messages come, slowly, in bursts, one or seven at a time: no window holds more than the
 * quota and a twentieth, and nobody is refused who is below. */
static void
quota_promise(void **state)
{
	static const struct {
		const char *words;
		int64_t quota, mean_dt, cost;
	} table[] = {
	    {"quota=100/1h", 100, 20 * SEC, 1},
	    {"quota=100/1h", 100, 60 * SEC, 7},
	    {"quota=7/1h", 7, 4 * MINUTE, 1},
	    {"quota=20/1h", 20, 90 * SEC, 2},
	    {"quota=100000/1h", 100000, 15 * SEC, 3000},
	};
	static struct past past;
	struct env *e = *state;

	for (size_t row = 0; row < sizeof table / sizeof table[0]; row++) {
		char words[64], name[16];
		struct limit l;
		int64_t now = T0;
		unsigned refused = 0;

		snprintf(words, sizeof words, "count=recipients per=address %s", table[row].words);
		snprintf(name, sizeof name, "row%zu", row);
		l = make_limit(name, words);
		make_request(&e->q);
		add_hit(&e->q, &l, "{a}:1", 1);
		past.n = 0;
		for (int i = 0; i < 1500; i++) {
			int64_t cost = 1 + random_below(table[row].cost);
			int64_t used;

			/* bursts: three of four come at once */
			if (random_below(4) == 0)
				now += random_below(8 * table[row].mean_dt) + 2 * SEC;
			used = within(&past, now, HOUR) + cost;
			e->q.hits[0].cost = cost;
			ask(e, now);
			if (e->a.charged) {
				past.taken[past.n].at = now;
				past.taken[past.n++].cost = cost;
				if (used > table[row].quota + table[row].quota / 20)
					fail_msg("row %zu: %d of it in one window", row, (int)used);
			} else {
				refused++;
				if (used <= table[row].quota)
					fail_msg("row %zu: refused at %d", row, (int)used);
			}
		}
		assert_in_range(refused, 100, 1400); /* else the row proves nothing */
	}
}

static void
quota_costs(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=bytes per=address quota=1000/1h");

	add_hit(&e->q, &l, "{a}:1", 600);
	takes(e, T0);
	refuses(e, T0 + MINUTE);
	figures(e, 0, 1200, true, 59 * MINUTE);
	e->q.hits[0].cost = 400;
	takes(e, T0 + MINUTE);
	/* it never fits, and the wait is as long as a window */
	e->q.hits[0].cost = 1001;
	refuses(e, T0 + MINUTE);
	figures(e, 0, 2001, true, HOUR);
	refuses(e, T0 + DAY);
}

static void
quota_strict(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=messages per=address quota=3/1h strict=true");

	add_hit(&e->q, &l, "{a}:1", 1);
	for (int i = 0; i < 3; i++)
		takes(e, T0 + i * MINUTE);
	/* three refused attempts fill it to six, and no further */
	for (int i = 3; i < 9; i++) {
		refuses(e, T0 + i * MINUTE);
		figures(e, 0, i < 6 ? i + 1 : 7, true,
		    HOUR - i * MINUTE + (i < 6 ? i - 3 : 3) * MINUTE);
	}
	/* two of the first three have gone; the attempts count on, and this is one more */
	refuses(e, T0 + HOUR + MINUTE);
	figures(e, 0, 5, true, 2 * MINUTE);
	takes(e, T0 + HOUR + 5 * MINUTE);
	figures(e, 0, 2, false, 0);
}

static void
quota_clock_back(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=messages per=address quota=2/1h");

	add_hit(&e->q, &l, "{a}:1", 1);
	takes(e, T0 + DAY);
	takes(e, T0 + DAY);
	refuses(e, T0); /* and from now on they are of now */
	figures(e, 0, 3, true, HOUR);
	refuses(e, T0 + HOUR - 1);
	takes(e, T0 + HOUR);
	takes(e, T0 + HOUR);
	refuses(e, T0 + HOUR);
}

/* Other words for the same limit keep what was counted. */
static void
quota_changed(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=messages per=address quota=10/1h");

	add_hit(&e->q, &l, "{a}:1", 1);
	for (int i = 0; i < 6; i++)
		takes(e, T0 + i * MINUTE);
	l = make_limit("mine", "count=messages per=address quota=5/1h");
	refuses(e, T0 + 10 * MINUTE);
	figures(e, 0, 7, true, 51 * MINUTE);
	l = make_limit("mine", "count=messages per=address quota=5/10m");
	takes(e, T0 + 11 * MINUTE);
	figures(e, 0, 5, false, 0);
}

/* --- ladders -------------------------------------------------------------------------------- */

static void
ladder(void **state)
{
	static const struct {
		const char *address, *wider, *widest;
		unsigned taken; /* of three */
		unsigned over; /* which of the three hits refused the last */
	} table[] = {
	    {"1", "A", "W", 2, 0},
	    {"2", "A", "W", 2, 0},
	    {"3", "A", "W", 0, 1},
	    {"4", "B", "W", 2, 0},
	    {"5", "B", "W", 0, 2},
	    {"6", "C", "V", 2, 0},
	};
	static const char *const words[] = {"rate=1/1h burst=2", "quota=2/1d"};

	for (int kind = 0; kind < 2; kind++) {
		struct env *e = *state;
		char text[64], name[16];
		struct limit l;

		snprintf(text, sizeof text, "count=messages per=address %s", words[kind]);
		snprintf(name, sizeof name, "kind%d", kind);
		l = make_limit(name, text);
		for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
			unsigned taken = 0;

			make_request(&e->q);
			add_hit(&e->q, &l, table[i].address, 2);
			add_rung(&e->q, &l, table[i].wider, 2, 2);
			add_rung(&e->q, &l, table[i].widest, 3, 2);
			/* two things each time: what the cache says is asked for one */
			for (int n = 0; n < 3; n++) {
				ask(e, T0);
				taken += e->a.charged;
				e->q.hits[0].cost = e->q.hits[1].cost = e->q.hits[2].cost = 1;
				if (n == 0 && !e->a.charged) {
					for (unsigned h = 0; h < 3; h++)
						assert_int_equal(
						    e->a.hits[h].over, h == table[i].over);
				}
			}
			if (taken != (table[i].taken > 0))
				fail_msg("kind %d, row %zu: %u", kind, i, taken);
		}
	}
}

/* --- probes and notes ----------------------------------------------------------------------- */

static void
probe(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=messages per=address rate=1/1h burst=3");
	struct limit q = make_limit("kept", "count=messages per=network quota=3/1h");
	struct limit other = make_limit("other", "count=messages per=all rate=1/1h burst=9");

	add_hit(&e->q, &l, "{n}:1", 2);
	add_hit(&e->q, &q, "{n}", 2);
	takes(e, T0);
	add_hit(&e->q, &other, "{all}", 1);
	e->q.hits[0].mode = e->q.hits[1].mode = HIT_PROBE;
	e->q.hits[0].cost = e->q.hits[1].cost = 1;
	for (int i = 1; i <= 5; i++) {
		takes(e, T0);
		figures(e, 0, 3, false, 0);
		figures(e, 1, 3, false, 0);
		figures(e, 2, i, false, 0);
	}
	/* what would not fit refuses, and what goes with it is not charged */
	e->q.hits[0].cost = e->q.hits[1].cost = 2;
	refuses(e, T0);
	figures(e, 0, 4, true, HOUR);
	figures(e, 1, 4, true, HOUR);
	figures(e, 2, 6, false, 0);
	e->q.hits[0].cost = e->q.hits[1].cost = 1;
	takes(e, T0);
	figures(e, 2, 6, false, 0);
}

/* A strict limit that is only probed is not charged by a refusal either. */
static void
probe_strict(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("mine", "count=messages per=address rate=1/1h burst=3 strict=true");

	add_hit(&e->q, &l, "{n}:1", 2);
	takes(e, T0);
	e->q.hits[0].mode = HIT_PROBE;
	for (int i = 0; i < 3; i++) {
		refuses(e, T0);
		figures(e, 0, 4, true, HOUR);
	}
	e->q.hits[0].mode = HIT_CHARGE;
	for (int i = 4; i < 7; i += 2) {
		refuses(e, T0);
		figures(e, 0, i, true, (i - 3) * HOUR);
	}
}

/* It has happened: counted whatever else is decided, to twice what is allowed; never a refusal. */
static void
note(void **state)
{
	static const char *const words[] = {"rate=1/1h burst=2", "quota=2/1h",
	    "rate=1/1h burst=2 action=log", "quota=2/1h action=log"};
	struct env *e = *state;
	struct limit full = make_limit("full", "count=messages per=network rate=1/1h burst=1");

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
		char text[80], name[16];
		struct limit l;

		snprintf(text, sizeof text, "count=rejected-recipients per=address %s", words[i]);
		snprintf(name, sizeof name, "row%zu", i);
		l = make_limit(name, text);
		make_request(&e->q);
		add_hit(&e->q, &l, "{n}:1", 1);
		e->q.hits[0].mode = HIT_NOTE;
		for (int n = 1; n <= 8; n++) {
			takes(e, T0);
			figures(e, 0, n <= 4 ? n : 5, n > 2, UNKNOWN);
		}
		/* beside one that refuses, too */
		strcpy(e->q.records[0].key, "{n}:2");
		full.name[0] = (char)('a' + i);
		add_hit(&e->q, &full, "{n}", 2);
		refuses(e, T0);
		refuses(e, T0);
		figures(e, 0, 2, false, 0);
		make_request(&e->q);
		add_hit(&e->q, &l, "{n}:2", 2);
		e->q.hits[0].mode = HIT_PROBE;
		ask(e, T0);
		figures(e, 0, 4, true, UNKNOWN);
		assert_int_equal(e->a.charged, l.action == ACTION_LOG);
	}
}

/* --- whom a limit is for ---------------------------------------------------------------------- */

static void
strangers_and_known(void **state)
{
	struct env *e = *state;
	struct limit strangers =
	    make_limit("s", "count=messages per=address rate=1/1h burst=2 for=strangers");
	struct limit known = make_limit("k", "count=messages per=address quota=2/1h for=known");
	struct limit sessions = make_limit("o", "count=sessions per=address max=1 for=strangers");

	add_hit(&e->q, &strangers, "{n}:1", 1);
	add_hit(&e->q, &known, "{n}:1", 1);
	add_pool(&e->q, "{n}", TRUST_LOOK);
	for (int i = 1; i <= 2; i++) {
		takes(e, T0);
		assert_false(e->a.known);
		figures(e, 0, i, false, 0);
		assert_true(e->a.hits[1].skipped);
	}
	refuses(e, T0);
	assert_true(e->a.hits[0].over && e->a.hits[1].skipped && !e->a.hits[1].over);
	/* nothing of that is remembered for those who get to be known meanwhile */
	earn(e, "{n}", 3);
	for (int i = 1; i <= 2; i++) {
		takes(e, T0 + 4 * HOUR);
		assert_true(e->a.known && e->a.hits[0].skipped && !e->a.hits[0].over);
		figures(e, 1, i, false, 0);
	}
	refuses(e, T0 + 4 * HOUR);
	assert_true(e->a.hits[1].over && e->a.hits[0].skipped);
	/* who is not asked about is authenticated, and so known */
	e->q.pool.asked = false;
	strcpy(e->q.records[0].key, "{n}:2");
	for (int i = 1; i <= 2; i++) {
		takes(e, T0 + 4 * HOUR);
		assert_true(e->a.hits[0].skipped);
		figures(e, 1, i, false, 0);
	}
	refuses(e, T0 + 4 * HOUR);
	/* a session that is not counted needs no lease */
	make_request(&e->q);
	add_hit(&e->q, &sessions, "{n}:1", 1);
	add_pool(&e->q, "{n}", TRUST_LOOK);
	for (int i = 0; i < 3; i++)
		takes(e, T0 + 4 * HOUR);
	assert_true(e->a.hits[0].skipped);
}

/* A refusal is not answered from memory to who may be another one by now. */
static void
strangers_are_asked_anew(void **state)
{
	struct env *e = *state;
	struct limit l =
	    make_limit("s", "count=messages per=address rate=1/1h burst=1 for=strangers");

	add_hit(&e->q, &l, "{n}:1", 1);
	add_pool(&e->q, "{n}", TRUST_LOOK);
	takes(e, T0 + 3 * HOUR);
	refuses(e, T0 + 3 * HOUR);
	assert_int_equal(e->a.source, ANSWER_STORE);
	earn(e, "{n}", 3);
	takes(e, T0 + 3 * HOUR);
}

/* --- trust ------------------------------------------------------------------------------------ */

/* A long life, good days and bad: the store knows what policy/trust.c knows, at each step. */
static void
trust_model(void **state)
{
	struct env *e = *state;
	struct limit tight = make_limit("tight", "count=messages per=all rate=1/1h burst=1");
	struct limit wide = make_limit("wide", "count=messages per=all rate=1000000/1h");
	struct trust model = {0}, looked;
	unsigned known = 0, turned = 0;
	int64_t now = T0;

	add_pool(&e->q, "{n}", TRUST_LOOK);
	add_hit(&e->q, &wide, "{all}", 1);
	for (int i = 0; i < 3000; i++) {
		const struct trust_rule *rule = &e->q.pool.rule;
		/* bad days come in rows */
		bool bad_day = now / DAY % 9 == 0, over = random_below(bad_day ? 3 : 30) == 0;
		bool was;

		now += random_below(40 * MINUTE);
		e->q.pool.event = (enum trust_event)random_below(3);
		if (e->q.pool.event == TRUST_REJECTED && !bad_day)
			e->q.pool.event = TRUST_MESSAGE;
		/* for two, which never fit into one */
		e->q.hits[0].limit = over ? &tight : &wide;
		e->q.hits[0].cost = 2;
		ask(e, now);
		assert_int_equal(e->a.charged, !over);
		looked = model;
		trust_fade(&looked, rule, now);
		was = trust_known(&looked, rule, false);
		if (e->a.known != was)
			fail_msg("step %d: known is %d", i, e->a.known);
		known += was;
		turned += trust_turned(&looked);
		if (e->q.pool.event == TRUST_REJECTED || over)
			trust_bad(&looked);
		else if (e->q.pool.event == TRUST_MESSAGE)
			trust_good(&looked, rule, now);
		else
			continue; /* what nothing happened to is not written anew */
		model = looked;
		check_trust_field(e, "weir:pool:{n}", &model);
	}
	assert_in_range(known, 300, 2700);
	assert_in_range(turned, 50, 2700);
}

/* A pass makes known for as long as greylisting knows it, and a new pool is a stranger. */
static void
trust_by_a_pass(void **state)
{
	struct env *e = *state;
	struct request plain;

	add_grey(&e->q, "{n}", "s@x r@y");
	add_pool(&e->q, "{n}", TRUST_MESSAGE);
	e->q.pool.passed_us = 35 * DAY;
	make_request(&plain);
	add_pool(&plain, "{n}", TRUST_LOOK);
	plain.pool.passed_us = 35 * DAY;
	refuses(e, T0);
	assert_false(e->a.known);
	takes(e, T0 + 300 * SEC);
	assert_int_equal(e->a.grey, GREY_PASSED);
	assert_false(e->a.known); /* this one still counts as a stranger's */
	e->q = plain;
	takes(e, T0 + 300 * SEC);
	assert_true(e->a.known);
	takes(e, T0 + 35 * DAY);
	assert_true(e->a.known);
	takes(e, T0 + 36 * DAY);
	assert_false(e->a.known);
}

/* What was held back by greylisting is neither good nor bad. */
static void
trust_held(void **state)
{
	struct env *e = *state;

	add_grey(&e->q, "{n}", "s@x r@y");
	add_pool(&e->q, "{n}", TRUST_MESSAGE);
	e->q.grey.window_us = e->q.grey.keep_us = 90 * DAY;
	e->q.grey.delay_us = 80 * DAY;
	for (int i = 0; i < 20; i++)
		refuses(e, T0 + i * HOUR);
	e->q.grey.asked = false;
	e->q.pool.event = TRUST_LOOK;
	takes(e, T0 + 20 * HOUR);
	assert_false(e->a.known);
	/* so three credits are enough, as if nothing had been */
	earn(e, "{n}", 3);
	takes(e, T0 + 3 * HOUR);
	assert_true(e->a.known);
}

/* --- traps ------------------------------------------------------------------------------------ */

static void
trap(void **state)
{
	struct env *e = *state;
	struct limit l = make_limit("mine", "count=messages per=address rate=1/1h burst=9");

	earn(e, "{n}", 3);
	add_hit(&e->q, &l, "{n}:1", 1);
	add_grey(&e->q, "{n}", "s@x r@y");
	add_pool(&e->q, "{n}", TRUST_MESSAGE);
	e->q.pool.block_us = HOUR;
	refuses(e, T0 + 3 * HOUR);
	assert_int_equal(e->a.blocked_us, HOUR);
	assert_true(e->a.known); /* as it was */
	e->q.pool.block_us = 0;
	for (int i = 1; i < 4; i++) {
		refuses(e, T0 + 3 * HOUR + i * 15 * MINUTE);
		assert_int_equal(e->a.blocked_us, HOUR - i * 15 * MINUTE);
		assert_false(e->a.known);
		figures(e, 0, 1, false, 0);
		assert_int_equal(e->a.grey, GREY_NEW); /* no triplet is made meanwhile */
	}
	/* another pool goes on */
	strcpy(e->q.records[e->q.pool.record].key, "{m}");
	strcpy(e->q.grey.key, "{m} s@x r@y");
	refuses(e, T0 + 3 * HOUR + 30 * MINUTE);
	assert_int_equal(e->a.blocked_us, 0);
	assert_int_equal(e->a.grey, GREY_NEW);
	strcpy(e->q.records[e->q.pool.record].key, "{n}");
	strcpy(e->q.grey.key, "{n} s@x r@y");
	e->q.grey.asked = false;
	takes(e, T0 + 4 * HOUR);
	assert_int_equal(e->a.blocked_us, 0);
	/* a second one begins anew, and so does a third before the end */
	for (int i = 0; i < 2; i++) {
		e->q.pool.block_us = HOUR;
		refuses(e, T0 + (i + 5) * 50 * MINUTE);
	}
	e->q.pool.block_us = 0;
	refuses(e, T0 + 7 * 50 * MINUTE);
	assert_int_equal(e->a.blocked_us, 10 * MINUTE);
}

static const struct policy_case cases[] = {
    {"quota_exact", quota_exact},
    {"quota_promise", quota_promise},
    {"quota_costs", quota_costs},
    {"quota_strict", quota_strict},
    {"quota_clock_back", quota_clock_back},
    {"quota_changed", quota_changed},
    {"ladder", ladder},
    {"probe", probe},
    {"probe_strict", probe_strict},
    {"note", note},
    {"strangers_and_known", strangers_and_known},
    {"strangers_are_asked_anew", strangers_are_asked_anew},
    {"trust_model", trust_model},
    {"trust_by_a_pass", trust_by_a_pass},
    {"trust_held", trust_held},
    {"trap", trap},
};

int
main(void)
{
	return policy_cases_run("store policy", cases, sizeof cases / sizeof cases[0]);
}
