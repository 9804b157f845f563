/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_load.c - load levels on a simulated clock: marks, several signals, what flaps, what is
 * missing, floods that come back, a clock that goes back.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/load.h"

#define SEC USEC_PER_SEC
#define MS USEC_PER_MSEC

struct host {
	struct load_rules r;
	struct load l;
	int64_t now, values[LOAD_SIGNALS], refused;
	unsigned changes;
};

static void
marks(struct host *h, enum load_signal s, const char *text)
{
	char err[256];

	if (!load_set(&h->r, s, text, err, sizeof err))
		fail_msg("%s", err);
}

static void
host_init(struct host *h)
{
	memset(h, 0, sizeof *h);
	load_rules_defaults(&h->r);
	h->now = 1000 * SEC;
}

/* One sample at the time now + dt; returns the level. */
static unsigned
sample(struct host *h, int64_t dt)
{
	h->now += dt;
	h->changes += load_update(&h->l, &h->r, h->values, h->refused, h->now);
	return h->l.level;
}

/* A sample a second with this value of the signal; returns the level after the last. */
static unsigned
run(struct host *h, enum load_signal s, int64_t value, unsigned seconds)
{
	h->values[s] = value;
	while (seconds-- > 0)
		(void)sample(h, SEC);
	return h->l.level;
}

/* --- one signal ---------------------------------------------------------------------------------- */

static void
test_marks(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_SESSIONS, "400 300");
	assert_int_equal(run(&h, LOAD_SESSIONS, 399000, 60), 0);
	assert_int_equal(h.changes, 0);
	/* up at once */
	assert_int_equal(run(&h, LOAD_SESSIONS, 400000, 1), 1);
	assert_int_equal(h.l.signal, LOAD_SESSIONS);
	assert_int_equal(h.l.value, 400000);
	assert_int_equal(h.l.mark, 400000);
	assert_int_equal(h.l.since_us, h.now);
	/* between the marks for ever */
	assert_int_equal(run(&h, LOAD_SESSIONS, 301000, 600), 1);
	assert_int_equal(h.changes, 1);
	/* down after 5 s, and says the low mark */
	assert_int_equal(run(&h, LOAD_SESSIONS, 300000, 5), 1);
	assert_int_equal(run(&h, LOAD_SESSIONS, 300000, 1), 0);
	assert_int_equal(h.l.value, 300000);
	assert_int_equal(h.l.mark, 300000);
	assert_int_equal(h.changes, 2);
}

/* A moment above the low mark, and the 5 s begin anew. */
static void
test_calm_is_whole(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_QUEUE, "100 10");
	assert_int_equal(run(&h, LOAD_QUEUE, 100000, 1), 1);
	for (int i = 0; i < 20; i++) {
		assert_int_equal(run(&h, LOAD_QUEUE, 0, 4), 1);
		assert_int_equal(run(&h, LOAD_QUEUE, 11000, 1), 1);
	}
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 6), 0);
	assert_int_equal(h.changes, 2);
}

/* Whatever it does around one mark, it changes no more than twice. */
static void
test_flapping(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_RUN_QUEUE, "4 2");
	for (int i = 0; i < 600; i++)
		(void)run(&h, LOAD_RUN_QUEUE, i % 2 ? 4500 : 3500, 1);
	assert_int_equal(h.l.level, 1);
	assert_int_equal(h.changes, 1);
	for (int i = 0; i < 600; i++)
		(void)run(&h, LOAD_RUN_QUEUE, i % 2 ? 2500 : 1500, 1);
	assert_int_equal(h.l.level, 1); /* never calm for 5 s */
	assert_int_equal(run(&h, LOAD_RUN_QUEUE, 1500, 6), 0);
	for (int i = 0; i < 600; i++)
		(void)run(&h, LOAD_RUN_QUEUE, i % 2 ? 2500 : 1500, 1);
	assert_int_equal(h.changes, 2);
}

static void
test_ramp(void **state)
{
	static const struct {
		int64_t above; /* first value, in percent, at which the level is this */
		unsigned level;
	} up[] = {{40, 1}, {80, 2}, {101, 3}}, down[] = {{60, 1}, {20, 0}, {-1, 0}};
	struct host h;
	unsigned at = 0;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_PSI_IO, "40% 20%, 80% 60%");
	for (int64_t v = 0; v <= 100; v++) {
		unsigned level = run(&h, LOAD_PSI_IO, v * 1000, 1);

		if (v == up[at].above) {
			assert_int_equal(level, up[at].level);
			assert_int_equal(h.l.mark, v * 1000);
			at++;
		}
		assert_int_equal(level, at);
	}
	assert_int_equal(h.changes, 2);
	/* 10 s for each percent on the way down, so that the hold is over on the same value */
	at = 0;
	for (int64_t v = 100; v >= 0; v--) {
		unsigned level = run(&h, LOAD_PSI_IO, v * 1000, 10);

		if (v == down[at].above) {
			assert_int_equal(level, down[at].level);
			at++;
		}
		assert_int_equal(level, 2 - at);
	}
	assert_int_equal(h.changes, 4);
}

/* From level 2 to 0 in one step, when the signal falls to nothing. */
static void
test_fall(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_QUEUE, "100 10, 1000 500");
	assert_int_equal(run(&h, LOAD_QUEUE, 5000000, 1), 2);
	assert_int_equal(h.l.mark, 1000000);
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 5), 2);
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 1), 0);
	assert_int_equal(h.changes, 2);
	assert_int_equal(h.l.mark, 500000); /* the low mark of the level that went */
}

/* --- several ------------------------------------------------------------------------------------- */

static void
test_several(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_SESSIONS, "400 300");
	marks(&h, LOAD_QUEUE, "100 10, 1000 500");
	assert_int_equal(run(&h, LOAD_SESSIONS, 500000, 1), 1);
	assert_int_equal(h.l.signal, LOAD_SESSIONS);
	/* one more that asks for the same is no change */
	assert_int_equal(run(&h, LOAD_QUEUE, 200000, 1), 1);
	assert_int_equal(h.l.signal, LOAD_SESSIONS);
	assert_int_equal(h.changes, 1);
	assert_int_equal(run(&h, LOAD_QUEUE, 2000000, 1), 2);
	assert_int_equal(h.l.signal, LOAD_QUEUE);
	assert_int_equal(h.l.value, 2000000);
	/* the sessions go, the queue keeps its level */
	assert_int_equal(run(&h, LOAD_SESSIONS, 0, 60), 2);
	assert_int_equal(run(&h, LOAD_QUEUE, 400000, 6), 1);
	assert_int_equal(h.l.signal, LOAD_QUEUE);
	assert_int_equal(h.l.mark, 500000);
	assert_int_equal(run(&h, LOAD_QUEUE, 400000, 1), 1);
	assert_int_equal(h.l.mark, 100000); /* what is asked for now */
	/* one takes over from the other without a change of level */
	assert_int_equal(run(&h, LOAD_SESSIONS, 500000, 1), 1);
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 60), 1);
	assert_int_equal(h.l.signal, LOAD_SESSIONS);
	assert_int_equal(h.l.mark, 400000);
	assert_int_equal(h.changes, 3);
	assert_int_equal(run(&h, LOAD_SESSIONS, 0, 6), 0);
	/* of the one that let go is told, also where another keeps the level below */
	assert_int_equal(run(&h, LOAD_QUEUE, 1000000, 1), 2);
	assert_int_equal(run(&h, LOAD_SESSIONS, 400000, 1), 2);
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 6), 1);
	assert_int_equal(h.l.signal, LOAD_QUEUE);
	assert_int_equal(h.l.mark, 500000);
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 1), 1);
	assert_int_equal(h.l.signal, LOAD_SESSIONS);
}

static void
test_missing(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	for (unsigned s = 0; s < LOAD_SIGNALS; s++)
		h.values[s] = LOAD_MISSING;
	marks(&h, LOAD_PSI_CPU, "1% 0%");
	marks(&h, LOAD_SESSIONS, "1 0");
	(void)sample(&h, 60 * SEC);
	assert_int_equal(h.l.level, 0);
	/* the others go on */
	assert_int_equal(run(&h, LOAD_SESSIONS, 1000, 1), 1);
	/* one that goes missing is calm, not silent for ever */
	assert_int_equal(run(&h, LOAD_SESSIONS, LOAD_MISSING, 5), 1);
	assert_int_equal(run(&h, LOAD_SESSIONS, LOAD_MISSING, 1), 0);
	/* and one sample that fails changes nothing */
	assert_int_equal(run(&h, LOAD_SESSIONS, 1000, 1), 1);
	for (int i = 0; i < 20; i++)
		assert_int_equal(run(&h, LOAD_SESSIONS, i % 3 ? LOAD_MISSING : 1000, 1), 1);
	/* a signal without marks asks for nothing */
	assert_int_equal(run(&h, LOAD_SESSIONS, LOAD_MISSING, 20), 0);
	assert_int_equal(run(&h, LOAD_PSI_MEMORY, 100000, 10), 0);
}

/* No more is heard from it for a while: the next sample tells, no time is made up for. */
static void
test_gap(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_QUEUE, "100 10");
	assert_int_equal(run(&h, LOAD_QUEUE, 100000, 1), 1);
	h.values[LOAD_QUEUE] = 0;
	assert_int_equal(sample(&h, 600 * SEC), 1);
	assert_int_equal(sample(&h, 4 * SEC), 1);
	assert_int_equal(sample(&h, SEC), 0);
}

static void
test_clock_back(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_QUEUE, "100 10");
	assert_int_equal(run(&h, LOAD_QUEUE, 100000, 1), 1);
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 3), 1);
	assert_int_equal(sample(&h, -500 * SEC), 1);
	assert_true(h.l.since_us <= h.now);
	assert_int_equal(sample(&h, 4 * SEC), 1);
	assert_int_equal(sample(&h, SEC), 0);
	assert_int_equal(h.changes, 2);
}

/* --- neighbours ---------------------------------------------------------------------------------- */

static void
test_neighbours(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_NEIGHBOURS, "majority");
	marks(&h, LOAD_QUEUE, "100 10, 1000 500");
	/* half of them are not most of them */
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, 50000, 5), 0);
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, 66666, 1), 1);
	assert_int_equal(h.l.signal, LOAD_NEIGHBOURS);
	/* that is not what this one tells the others, or all would hold each other up */
	assert_int_equal(h.l.own, 0);
	/* and ends with their word, not 5 s later: they have waited */
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, 33333, 1), 0);
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, 66666, 1), 1);
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, LOAD_MISSING, 1), 0);
	/* they never bring level 2, and do not take it away */
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, 100000, 60), 1);
	assert_int_equal(run(&h, LOAD_QUEUE, 1000000, 1), 2);
	assert_int_equal(h.l.own, 2);
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, 0, 1), 2);
	assert_int_equal(run(&h, LOAD_QUEUE, 0, 6), 0);
	marks(&h, LOAD_NEIGHBOURS, "ignore");
	assert_int_equal(run(&h, LOAD_NEIGHBOURS, 100000, 5), 0);
}

/* --- a flood that comes back ---------------------------------------------------------------------- */

/*
 * A server with `places`; strangers come `rate` a second and stay for 1 s if they are let in. A
 * sample each 200 ms. Returns how many seconds of `seconds` were spent at level 0.
 */
struct flood {
	struct host h;
	int64_t rate; /* a second, a multiple of 5 */
	int64_t came[5]; /* let in, in each fifth of the last second */
	unsigned at;
};

static int64_t
flood_run(struct flood *f, int64_t seconds)
{
	int64_t open = 0, idle = 0;

	for (int64_t step = 0; step < seconds * 5; step++) {
		bool in = f->h.l.level == 0;

		f->at = (f->at + 1) % 5;
		f->came[f->at] = in ? f->rate / 5 : 0;
		if (!in)
			f->h.refused += f->rate / 5;
		open = 0;
		for (int i = 0; i < 5; i++)
			open += f->came[i];
		f->h.values[LOAD_SESSIONS] = open * 1000;
		(void)sample(&f->h, 200 * MS);
		idle += in;
	}
	return idle / 5;
}

static void
test_flood_comes_back(void **state)
{
	struct flood f = {.rate = 100};
	unsigned changes;
	int64_t idle;

	(void)state;
	host_init(&f.h);
	marks(&f.h, LOAD_SESSIONS, "40 20");
	/* ten minutes of flood: without the longer hold there would be a change each 3 s */
	idle = flood_run(&f, 600);
	changes = f.h.changes;
	assert_in_range(changes, 3, 40);
	assert_in_range(idle, 1, 12);
	assert_int_equal(f.h.l.hold_us, LOAD_HOLD_MAX_US);
	/* the end, in the middle of the longest hold */
	while (f.h.l.level == 0)
		(void)flood_run(&f, 1);
	(void)flood_run(&f, 7);
	assert_int_equal(f.h.l.level, 1);
	changes = f.h.changes;
	f.rate = 0;
	(void)flood_run(&f, 9);
	assert_int_equal(f.h.l.level, 0);
	assert_int_equal(f.h.changes, changes + 1);
	/* after a calm the next one finds a patient host again */
	(void)flood_run(&f, 60);
	f.rate = 100;
	(void)flood_run(&f, 1);
	assert_int_equal(f.h.l.level, 1);
	assert_int_equal(f.h.l.hold_us, LOAD_HOLD_US);
}

/* The end of a flood is told although a few strangers go on knocking. */
static void
test_flood_ends_in_a_trickle(void **state)
{
	struct flood f = {.rate = 100};

	(void)state;
	host_init(&f.h);
	marks(&f.h, LOAD_SESSIONS, "40 20");
	(void)flood_run(&f, 300);
	while (f.h.l.level == 0)
		(void)flood_run(&f, 1);
	(void)flood_run(&f, 7);
	assert_int_equal(f.h.l.level, 1);
	f.rate = 10;
	(void)flood_run(&f, 9);
	assert_int_equal(f.h.l.level, 0);
	(void)flood_run(&f, 60);
	assert_int_equal(f.h.l.level, 0);
}

/* Each flood is measured by itself, not by a worse one before. */
static void
test_small_flood_after_a_large_one(void **state)
{
	struct flood f = {.rate = 1000};
	unsigned changes;

	(void)state;
	host_init(&f.h);
	marks(&f.h, LOAD_SESSIONS, "40 20");
	(void)flood_run(&f, 300);
	f.rate = 50;
	(void)flood_run(&f, 120);
	changes = f.h.changes;
	(void)flood_run(&f, 600);
	assert_in_range(f.h.changes - changes, 3, 24);
}

/* Strangers that are refused for another trouble's sake are let in again when that has ended, in
 * a minute at the latest, although they never stop. */
static void
test_not_for_ever(void **state)
{
	struct host h;
	int64_t seconds = 0;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_PSI_IO, "40% 20%");
	/* a disk that stalls as soon as they are let in, until the longest hold is reached */
	for (int i = 0; i < 600; i++) {
		h.values[LOAD_PSI_IO] = h.l.level == 0 ? 80000 : 0;
		h.refused += h.l.level > 0 ? 10 : 0;
		(void)sample(&h, SEC);
	}
	assert_int_equal(h.l.hold_us, LOAD_HOLD_MAX_US);
	while (h.l.level > 0) {
		h.refused += 10;
		(void)run(&h, LOAD_PSI_IO, 0, 1);
	}
	assert_int_equal(run(&h, LOAD_PSI_IO, 80000, 1), 1);
	h.values[LOAD_PSI_IO] = 0;
	for (; h.l.level > 0; seconds++) {
		h.refused += 10;
		(void)sample(&h, SEC);
		assert_in_range(seconds, 0, 60);
	}
	assert_in_range(seconds, 50, 60);
}

static void
test_resume(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	marks(&h, LOAD_SESSIONS, "400 300, 800 600");
	h.refused = 123456;
	load_resume(&h.l, 2, LOAD_SESSIONS, h.now);
	assert_int_equal(run(&h, LOAD_SESSIONS, 700000, 10), 2); /* between the marks */
	assert_int_equal(h.changes, 0);
	assert_int_equal(run(&h, LOAD_SESSIONS, 350000, 6), 1);
	assert_int_equal(run(&h, LOAD_SESSIONS, 0, 6), 0);
}

/* --- words --------------------------------------------------------------------------------------- */

static void
test_words(void **state)
{
	static const struct {
		enum load_signal s;
		const char *text;
		int64_t high, low, high2, low2; /* high 0: an error */
	} table[] = {
	    {LOAD_SESSIONS, "400 300", 400000, 300000, 0, 0},
	    {LOAD_SESSIONS, " 400\t300 ", 400000, 300000, 0, 0},
	    {LOAD_SESSIONS, "1 0", 1000, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300, 800 600", 400000, 300000, 800000, 600000},
	    {LOAD_SESSIONS, "400 300,800 300", 400000, 300000, 800000, 300000},
	    {LOAD_SESSIONS, "400", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300 800 600", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300,", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300, 800", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300, 800 600, 900 800", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "300 400", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "300 300", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "0 0", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300, 400 350", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300, 800 200", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400 300, 700 800", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "400.5 300", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "-1 -2", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "1000000000 1", INT64_C(1000000000000), 1000, 0, 0},
	    {LOAD_SESSIONS, "1000000001 1", 0, 0, 0, 0},
	    {LOAD_SESSIONS, "99999999999999999999999999999999999 1", 0, 0, 0, 0},
	    {LOAD_RUN_QUEUE, "4 2", 4000, 2000, 0, 0},
	    {LOAD_RUN_QUEUE, "1.5 0.25, 3.125 2", 1500, 250, 3125, 2000},
	    {LOAD_RUN_QUEUE, "1.0625 1", 0, 0, 0, 0},
	    {LOAD_RUN_QUEUE, "1. 0", 0, 0, 0, 0},
	    {LOAD_RUN_QUEUE, "4x 2", 0, 0, 0, 0},
	    {LOAD_PSI_CPU, "40% 20%", 40000, 20000, 0, 0},
	    {LOAD_PSI_CPU, "40.5% 0%, 100% 99.9%", 40500, 0, 100000, 99900},
	    {LOAD_PSI_CPU, "40 20", 0, 0, 0, 0},
	    {LOAD_PSI_CPU, "101% 20%", 0, 0, 0, 0},
	    {LOAD_REDIS_LATENCY, "20ms 5ms", 20000, 5000, 0, 0},
	    {LOAD_REDIS_LATENCY, "1s 500ms", 1000000, 500000, 0, 0},
	    {LOAD_REDIS_LATENCY, "5m 1m", 0, 0, 0, 0},
	    {LOAD_QUEUE, "5000 2000", 5000000, 2000000, 0, 0},
	    {LOAD_NEIGHBOURS, "majority", 50001, 50000, 0, 0},
	    {LOAD_NEIGHBOURS, "all", 0, 0, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct load_rules r;
		struct load_mark *m = r.marks[table[i].s];
		char err[256] = "";
		bool ok;

		memset(&r, 0, sizeof r);
		ok = load_set(&r, table[i].s, table[i].text, err, sizeof err);
		if (ok != (table[i].high != 0) || ok != (err[0] == '\0'))
			fail_msg("%s %s: %s", load_signal_name(table[i].s), table[i].text, err);
		assert_int_equal(load_wanted(&r), ok);
		assert_int_equal(m[0].high, table[i].high);
		assert_int_equal(m[0].low, table[i].low);
		assert_int_equal(m[1].high, table[i].high2);
		assert_int_equal(m[1].low, table[i].low2);
	}
}

static void
test_off(void **state)
{
	struct host h;

	(void)state;
	host_init(&h);
	assert_false(load_wanted(&h.r));
	marks(&h, LOAD_SESSIONS, "400 300, 800 600");
	assert_true(load_wanted(&h.r));
	assert_true(load_wants(&h.r, LOAD_SESSIONS));
	assert_false(load_wants(&h.r, LOAD_QUEUE));
	marks(&h, LOAD_SESSIONS, "off");
	assert_false(load_wanted(&h.r));
	assert_int_equal(h.r.marks[LOAD_SESSIONS][1].high, 0);
}

static void
test_format(void **state)
{
	static const struct {
		enum load_signal s;
		int64_t value;
		const char *text;
	} table[] = {
	    {LOAD_SESSIONS, 412000, "412"},
	    {LOAD_SESSIONS, 0, "0"},
	    {LOAD_SESSIONS, LOAD_MISSING, "missing"},
	    {LOAD_RUN_QUEUE, 1500, "1.5"},
	    {LOAD_RUN_QUEUE, 1255, "1.25"},
	    {LOAD_RUN_QUEUE, 1005, "1"},
	    {LOAD_PSI_CPU, 52340, "52.34%"},
	    {LOAD_PSI_CPU, 100000, "100%"},
	    {LOAD_REDIS_LATENCY, 1005, "1.005ms"},
	    {LOAD_REDIS_LATENCY, 20000, "20ms"},
	    {LOAD_NEIGHBOURS, 66666, "66.66%"},
	    {LOAD_QUEUE, INT64_MAX, "9223372036854775"},
	};
	char text[LOAD_VALUE_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		assert_string_equal(load_format(table[i].s, table[i].value, text), table[i].text);
}

static void
test_spare(void **state)
{
	struct load_rules r;
	char err[256], longest[LOAD_DAEMON_MAX + 2];

	(void)state;
	load_rules_defaults(&r);
	assert_true(load_spares(&r, "mx.example.test", "587"));
	assert_true(load_spares(&r, "", "465"));
	assert_false(load_spares(&r, "mx.example.test", "25"));
	/* an MTA that says neither */
	assert_false(load_spares(&r, "", ""));
	assert_true(load_spare(&r, "ORIGINATING", err, sizeof err));
	assert_true(load_spares(&r, "originating", "25"));
	assert_false(load_spare(&r, "", err, sizeof err));
	assert_false(load_spare(&r, "two words", err, sizeof err));
	assert_false(load_spare(&r, "a\nb", err, sizeof err));
	memset(longest, 'x', sizeof longest);
	longest[LOAD_DAEMON_MAX + 1] = '\0';
	assert_false(load_spare(&r, longest, err, sizeof err));
	assert_true(load_spare(&r, longest + 1, err, sizeof err));
	for (char name[] = "a"; r.nspare < LOAD_SPARE_MAX; name[0]++) {
		assert_true(load_spare(&r, name, err, sizeof err));
		assert_true(load_spare(&r, name, err, sizeof err)); /* once is enough */
	}
	assert_string_equal(r.spare[LOAD_SPARE_MAX - 1], "l");
	assert_false(load_spare(&r, "z", err, sizeof err));
	assert_string_equal(err, "more than 16 daemons");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_marks),
	    cmocka_unit_test(test_calm_is_whole),
	    cmocka_unit_test(test_flapping),
	    cmocka_unit_test(test_ramp),
	    cmocka_unit_test(test_fall),
	    cmocka_unit_test(test_several),
	    cmocka_unit_test(test_missing),
	    cmocka_unit_test(test_gap),
	    cmocka_unit_test(test_clock_back),
	    cmocka_unit_test(test_neighbours),
	    cmocka_unit_test(test_flood_comes_back),
	    cmocka_unit_test(test_flood_ends_in_a_trickle),
	    cmocka_unit_test(test_small_flood_after_a_large_one),
	    cmocka_unit_test(test_not_for_ever),
	    cmocka_unit_test(test_resume),
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_off),
	    cmocka_unit_test(test_format),
	    cmocka_unit_test(test_spare),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
