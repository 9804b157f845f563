/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_accuracy.c - how exact limits are, in each store, whatever the order and the times in which
 * questions come:
 *
 *	a rate lets through at most burst + rate x time + 1 in any time, per network of a ladder, too;
 *	a quota lets through at most a twentieth more than its figure in any window;
 *	neither refuses who stays below.
 *
 * WEIR_SEED=N makes another run, WEIR_ROUNDS=N a longer one.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generator.h"
#include "redis_fixture.h"
#include "store_fixture.h"

enum backend { ZONE, REDIS };

static struct redis_fixture server;

struct env {
	enum backend backend;
	struct bench bench;
	struct rng rng;
	unsigned rounds, arrivals;
	struct ruleset rules;
	struct facts facts;
	int64_t now_us;
	struct answer a;
};

static uint64_t
from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);

	return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

static int
setup(void **state)
{
	struct env *e = calloc(1, sizeof *e);

	assert_non_null(e);
	e->backend = *(const enum backend *)*state;
	redis_fixture_run(&server, "FLUSHALL");
	bench_open(&e->bench, server.url, "", 0);
	if (e->backend == ZONE) {
		store_close(&e->bench.store);
		e->bench.store = zone_store_open(e->bench.zone, 0);
	}
	assert_non_null(e->bench.store);
	e->rng = rng_of(from_environment("WEIR_SEED", 1), e->backend);
	e->rounds = (unsigned)from_environment("WEIR_ROUNDS", e->backend == ZONE ? 200 : 8);
	e->arrivals = e->backend == ZONE ? 2000 : 500;
	*state = e;
	return 0;
}

static int
teardown(void **state)
{
	struct env *e = *state;

	bench_close(&e->bench);
	free(e);
	return 0;
}

/* --- one limit, one question ---------------------------------------------------------------- */

/* A ruleset of this limit alone, and a client that nobody has seen. */
static void
begin(struct env *e, const char *words)
{
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];
	struct limit *l;

	ruleset_defaults(&e->rules);
	strcpy(e->rules.generation, "0");
	e->rules.nlimits = 0;
	l = ruleset_limit_add(&e->rules, "limit");
	if (!limit_set_words(l, words, err, sizeof err) ||
	    !ruleset_finish(&e->rules, err, sizeof err))
		fail_msg("%s: %s", words, err);
	/* any count will do: what differs is the cost */
	e->facts = (struct facts){.stage = STAGE_EOM,
	    .name = "",
	    .user = "",
	    .helo = "",
	    .sender = "a@client.test",
	    .recipient = ""};
	assert_true(addr_parse("2001:db8::", &e->facts.client));
	for (int i = 4; i < 16; i++)
		e->facts.client.b[i] = (uint8_t)rng_next(&e->rng);
	e->now_us = T0 + (int64_t)(rng_next(&e->rng) % (uint64_t)DAY);
}

/* True when it is let through. */
static bool
ask(struct env *e, int64_t cost)
{
	struct request q;

	e->facts.bytes = cost;
	assert_true(plan_request(&e->rules, &e->facts, &q));
	assert_int_equal(q.hits[0].cost, cost);
	assert_int_equal(store_ask(e->bench.store, &q, e->now_us, &e->a), STORE_OK);
	return e->a.charged;
}

/* Random words for a rate that a test of some thousand arrivals reaches. */
static void
any_rate(struct env *e, const char *more, char words[128])
{
	static const char *const rates[] = {
	    "1/1s", "60/1m", "7/11m", "1/1h", "1000/1s", "3/7s", "123456/1d", "999983/61s"};

	snprintf(words, 128, "count=bytes rate=%s burst=%u%s",
	    rates[rng_below(&e->rng, sizeof rates / sizeof rates[0])],
	    5 + (rng_percent(&e->rng, 50) ? 0 : rng_below(&e->rng, 1000)), more);
}

static void
any_quota(struct env *e, char words[128])
{
	static const char *const windows[] = {"1s", "61s", "1h", "1d", "30d"};

	snprintf(words, 128, "count=bytes quota=%u/%s",
	    5 + (rng_percent(&e->rng, 50) ? rng_below(&e->rng, 40) : rng_below(&e->rng, 5000)),
	    windows[rng_below(&e->rng, sizeof windows / sizeof windows[0])]);
}

/* How arrivals come, in one round. */
enum pattern {
	EVENLY, /* about at the rate, more or less */
	BURSTS, /* many at once, then nothing for long */
	TOLD, /* as soon as the last answer said, or a microsecond before or after it */
	FLOOD, /* as fast as can be */
	PATTERNS
};

static const char *const pattern_names[] = {"evenly", "bursts", "told", "flood"};

/* step_us: the time in which about one fits. */
static int64_t
pause_us(struct env *e, enum pattern p, int64_t step_us)
{
	switch (p) {
	case EVENLY:
		return (int64_t)(rng_next(&e->rng) % (uint64_t)(2 * step_us + 1));
	case BURSTS:
		return rng_percent(&e->rng, 97)
		    ? (int64_t)rng_below(&e->rng, 3)
		    : (int64_t)(rng_next(&e->rng) % (uint64_t)(200 * step_us + 1));
	case TOLD: {
		int64_t wait = e->a.hits[0].wait_us + (int64_t)rng_below(&e->rng, 3) - 1;

		return wait > 0 ? wait : 0;
	}
	case FLOOD:
		return (int64_t)(rng_next(&e->rng) % (uint64_t)(step_us / 50 + 2));
	case PATTERNS:
		break;
	}
	return 0;
}

/* Mostly ones; at times as much as fits at all. */
static int64_t
any_cost(struct env *e, int64_t most)
{
	if (rng_percent(&e->rng, 80))
		return 1;
	return 1 + (int64_t)rng_below(&e->rng, (unsigned)(rng_percent(&e->rng, 80) ? 5 : most));
}

/* --- rates: never more ---------------------------------------------------------------------- */

/* The most that has been let through in any time so far, less what the rate allows for that time;
 * in things times the period, so that it is exact. */
struct excess {
	int64_t ending, worst; /* of the times that end now; of all */
	int64_t last_us;
};

static void
excess_add(struct excess *x, const struct limit *l, int64_t times, int64_t cost, int64_t now_us)
{
	int64_t before = x->last_us != 0 ? x->ending - l->rate * times * (now_us - x->last_us) : 0;

	x->ending = (before > 0 ? before : 0) + cost * l->period_us;
	if (x->ending > x->worst)
		x->worst = x->ending;
	x->last_us = now_us;
}

static void
check_excess(const struct excess *x, const struct limit *l, int64_t times, const char *words,
    const char *what)
{
	if (x->worst > (l->burst * times + 1) * l->period_us)
		fail_msg("%s, %s: %.6f more than the rate allows", words, what,
		    (double)x->worst / (double)l->period_us);
}

static void
rate_at_most(struct env *e, const char *more)
{
	for (unsigned round = 0; round < e->rounds; round++) {
		enum pattern p = (enum pattern)(round % PATTERNS);
		struct excess x = {0, 0, 0};
		const struct limit *l;
		char words[128];
		int64_t let_through = 0;

		any_rate(e, more, words);
		begin(e, words);
		l = &e->rules.limits[0];
		for (unsigned i = 0; i < e->arrivals; i++) {
			int64_t cost = any_cost(e, l->burst);

			if (ask(e, cost)) {
				excess_add(&x, l, 1, cost, e->now_us);
				let_through += cost;
			}
			e->now_us += pause_us(e, p, l->period_us / l->rate);
		}
		check_excess(&x, l, 1, words, pattern_names[p]);
		/* and not because nothing gets in; who floods a strict limit locks himself out */
		if (!l->strict)
			assert_true(
			    let_through * 2 > (l->burst < e->arrivals ? l->burst : e->arrivals));
	}
}

static void
rates(void **state)
{
	rate_at_most(*state, "");
}

/* That refused attempts are charged, too, makes it no less exact. */
static void
strict_rates(void **state)
{
	rate_at_most(*state, " strict=yes");
}

/* The clock goes back at times: what is allowed is counted by the time that passed forward. */
static void
clock_back(void **state)
{
	struct env *e = *state;

	for (unsigned round = 0; round < e->rounds; round++) {
		struct excess x = {0, 0, 0};
		int64_t passed = 1;
		const struct limit *l;
		char words[128];

		any_rate(e, "", words);
		begin(e, words);
		l = &e->rules.limits[0];
		for (unsigned i = 0; i < e->arrivals; i++) {
			int64_t pause = pause_us(e, EVENLY, l->period_us / l->rate);

			if (ask(e, 1))
				excess_add(&x, l, 1, 1, passed);
			if (rng_percent(&e->rng, 10))
				pause = -20 * pause;
			else
				passed += pause;
			e->now_us += pause;
		}
		check_excess(&x, l, 1, words, "clock back");
	}
}

/* A whole site of IPv6 networks: each is held to the limit, and all to so many times of it. */
static void
ladders(void **state)
{
	enum { NETS = 16 };
	struct env *e = *state;

	for (unsigned round = 0; round < e->rounds; round++) {
		struct excess nets[NETS] = {{0, 0, 0}}, site = {0, 0, 0};
		enum pattern p = round % 2 == 0 ? EVENLY : FLOOD;
		const struct limit *l;
		char words[128];

		any_rate(e, " per=address ladder=/48*3", words);
		begin(e, words);
		l = &e->rules.limits[0];
		for (unsigned i = 0; i < e->arrivals; i++) {
			unsigned n = rng_below(&e->rng, NETS);

			e->facts.client.b[7] = (uint8_t)n;
			e->facts.client.b[15] = (uint8_t)i;
			if (ask(e, 1)) {
				excess_add(&nets[n], l, 1, 1, e->now_us);
				excess_add(&site, l, 3, 1, e->now_us);
			}
			e->now_us += pause_us(e, p, l->period_us / l->rate / 4);
		}
		for (unsigned n = 0; n < NETS; n++)
			check_excess(&nets[n], l, 1, words, "one network");
		check_excess(&site, l, 3, words, "the site");
	}
}

/* --- rates: never less ---------------------------------------------------------------------- */

/* An ideal bucket, exact; its owner asks at the first moment at which it fits, or later. What is
 * charged is rounded to the millionth of a thing, so he keeps that away from the brim. */
static void
below_a_rate(void **state)
{
	struct env *e = *state;

	for (unsigned round = 0; round < e->rounds; round++) {
		int64_t level = 0, charges = 0, last = 0, full;
		const struct limit *l;
		char words[128];

		any_rate(e, "", words);
		begin(e, words);
		l = &e->rules.limits[0];
		full = l->burst * l->period_us;
		last = e->now_us;
		for (unsigned i = 0; i < e->arrivals; i++) {
			int64_t cost = any_cost(e, l->burst / 2), over;

			if (rng_percent(&e->rng, 30))
				e->now_us += pause_us(e, EVENLY, l->period_us / l->rate);
			level -= l->rate * (e->now_us - last);
			if (level <= 0)
				level = charges = 0;
			last = e->now_us;
			over = level + cost * l->period_us + charges * (l->period_us / MICRO + 1) -
			    full;
			if (over > 0) { /* waits until it fits */
				e->now_us += (over + l->rate - 1) / l->rate;
				level -= l->rate * (e->now_us - last);
				last = e->now_us;
				if (level < 0)
					level = 0;
			}
			level += cost * l->period_us;
			charges++;
			if (!ask(e, cost))
				fail_msg("%s: refused at arrival %u: used %.6f of %lld", words, i,
				    (double)e->a.hits[0].used / (double)MICRO, (long long)l->burst);
		}
	}
}

/* As regular as can be, exactly at the rate, after the whole burst at once. */
static void
exactly_the_rate(void **state)
{
	static const char *const words[] = {"count=bytes rate=60/1m burst=30",
	    "count=bytes rate=7/11m burst=3", "count=bytes rate=999983/61s burst=1",
	    "count=bytes rate=1000/1s burst=1"};
	struct env *e = *state;

	for (size_t w = 0; w < sizeof words / sizeof words[0]; w++) {
		const struct limit *l;
		int64_t start;

		begin(e, words[w]);
		l = &e->rules.limits[0];
		assert_true(ask(e, l->burst));
		start = e->now_us;
		for (int64_t i = 1; i <= e->arrivals; i++) {
			/* to the microsecond up, so that never less time passes than is due */
			e->now_us = start + i * ((l->period_us + l->rate - 1) / l->rate);
			if (!ask(e, 1))
				fail_msg("%s: refused at %lld", words[w], (long long)i);
		}
	}
}

/* Who comes back when he is told to is let in, and not told to wait for longer than it takes. A
 * rate is kept in millionths of a thing, so that much time is rounded up. */
static void
told_when(void **state)
{
	struct env *e = *state;

	for (unsigned round = 0; round < e->rounds; round++) {
		const struct limit *l;
		int64_t early, wait;
		char words[128];

		if (round % 2 == 0)
			any_rate(e, "", words);
		else
			any_quota(e, words);
		begin(e, words);
		l = &e->rules.limits[0];
		early = l->rate != 0 ? l->period_us / (l->rate * MICRO) + 2 : 1;
		for (unsigned i = 0; i < 100; i++) {
			int64_t cost = any_cost(e, limit_ceiling(l));

			e->now_us += (int64_t)rng_below(&e->rng, 1000000);
			if (ask(e, cost))
				continue;
			wait = e->a.hits[0].wait_us;
			assert_true(wait > 0);
			if (wait > early) {
				e->now_us += wait - early;
				if (ask(e, cost))
					fail_msg("%s: told to wait %lld us too long", words,
					    (long long)early);
				e->now_us -= wait - early;
			}
			e->now_us += wait;
			if (!ask(e, cost))
				fail_msg("%s: refused though told to come now", words);
		}
	}
}

/* --- quotas --------------------------------------------------------------------------------- */

/* All that was let through, oldest first. */
struct window {
	unsigned first, n; /* those that are still in it */
	struct {
		int64_t us, cost;
	} let[4096];
	int64_t sum;
};

/* Forgets what is a window old. */
static void
window_move(struct window *w, const struct limit *l, int64_t now_us)
{
	while (w->first < w->n && now_us - w->let[w->first].us >= l->window_us)
		w->sum -= w->let[w->first++].cost;
}

static void
window_add(struct window *w, const struct limit *l, int64_t now_us, int64_t cost)
{
	assert_true(w->n < sizeof w->let / sizeof w->let[0]);
	window_move(w, l, now_us);
	w->let[w->n].us = now_us;
	w->let[w->n++].cost = cost;
	w->sum += cost;
}

static void
quotas(void **state)
{
	struct env *e = *state;
	static struct window w;

	for (unsigned round = 0; round < e->rounds; round++) {
		enum pattern p = (enum pattern)(round % PATTERNS);
		const struct limit *l;
		char words[128];

		any_quota(e, words);
		begin(e, words);
		l = &e->rules.limits[0];
		memset(&w, 0, sizeof w);
		for (unsigned i = 0; i < e->arrivals; i++) {
			int64_t cost = any_cost(e, l->quota);

			if (ask(e, cost)) {
				window_add(&w, l, e->now_us, cost);
				/* a window that ends with this is as full as any around it */
				if (w.sum * 20 > l->quota * 21)
					fail_msg("%s, %s: %lld in one window", words,
					    pattern_names[p], (long long)w.sum);
			} else /* for nothing: who would fit by the true count is let in */
				assert_true(e->a.hits[0].used > l->quota * MICRO);
			e->now_us += pause_us(e, p, l->window_us / l->quota + 1);
		}
	}
}

static void
below_a_quota(void **state)
{
	struct env *e = *state;
	static struct window w;

	for (unsigned round = 0; round < e->rounds; round++) {
		const struct limit *l;
		char words[128];

		any_quota(e, words);
		begin(e, words);
		l = &e->rules.limits[0];
		memset(&w, 0, sizeof w);
		for (unsigned i = 0; i < e->arrivals; i++) {
			int64_t cost = any_cost(e, l->quota);

			if (rng_percent(&e->rng, 30))
				e->now_us += pause_us(e, EVENLY, l->window_us / l->quota + 1);
			window_move(&w, l, e->now_us);
			while (w.sum + cost > l->quota) { /* waits until the oldest has gone */
				e->now_us = w.let[w.first].us + l->window_us;
				window_move(&w, l, e->now_us);
			}
			window_add(&w, l, e->now_us, cost);
			if (!ask(e, cost))
				fail_msg("%s: refused at arrival %u, the %lldth in the window",
				    words, i, (long long)w.sum);
		}
	}
}

static const struct {
	const char *name;
	CMUnitTestFunction run;
} cases[] = {
    {"rates", rates},
    {"strict_rates", strict_rates},
    {"clock_back", clock_back},
    {"ladders", ladders},
    {"below_a_rate", below_a_rate},
    {"exactly_the_rate", exactly_the_rate},
    {"told_when", told_when},
    {"quotas", quotas},
    {"below_a_quota", below_a_quota},
};
#define NCASES (sizeof cases / sizeof cases[0])

int
main(void)
{
	static const char *const names[] = {"zone", "redis"};
	static enum backend backends[] = {ZONE, REDIS};
	struct CMUnitTest tests[2 * NCASES];
	char label[2 * NCASES][64];
	size_t n = 0;

	for (size_t b = 0; b < 2; b++)
		for (size_t i = 0; i < NCASES; i++, n++) {
			snprintf(label[n], sizeof label[n], "%s: %s", names[b], cases[i].name);
			tests[n] = (struct CMUnitTest){
			    label[n], cases[i].run, setup, teardown, &backends[b]};
		}
	return redis_fixture_tests(&server, "accuracy", tests, n);
}
