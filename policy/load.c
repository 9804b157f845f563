/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * load.c - signals to a level; see load.h. The words of the marks: load_words.c.
 */
#include <string.h>

#include "weir/load.h"

/* Refusals a second are told over this time; the flood is over when a quarter is left. */
#define REFUSING_US (2 * USEC_PER_SEC)
#define REFUSING_SHARE 4

bool
load_wants(const struct load_rules *r, enum load_signal s)
{
	return r->marks[s][0].high > 0;
}

bool
load_wanted(const struct load_rules *r)
{
	for (unsigned s = 0; s < LOAD_SIGNALS; s++)
		if (load_wants(r, (enum load_signal)s))
			return true;
	return false;
}

/* What was later than now never was. */
static void
go_back(struct load *l, int64_t now)
{
	for (unsigned s = 0; s < LOAD_SIGNALS; s++)
		for (unsigned i = 0; i < LOAD_LEVEL_MAX; i++)
			if (l->ask[s][i].calm_us > now)
				l->ask[s][i].calm_us = now;
	if (l->up_us > now)
		l->up_us = now;
	if (l->down_us > now)
		l->down_us = now;
	if (l->since_us > now)
		l->since_us = now;
}

static void
ask_update(
    struct load_ask *a, const struct load_mark *m, int64_t value, int64_t hold_us, int64_t now)
{
	if (value != LOAD_MISSING && m->high > 0 && value >= m->high) {
		a->on = true;
		a->calm = false;
		return;
	}
	/* who has no value, or no mark any more, is calm */
	if (value != LOAD_MISSING && m->high > 0 && value > m->low) {
		a->calm = false;
		return;
	}
	if (!a->calm) {
		a->calm = true;
		a->calm_us = now;
	}
	if (now - a->calm_us >= hold_us)
		a->on = false;
}

/* The highest level that one signal asks for. */
static unsigned
asked(const struct load *l, unsigned s)
{
	unsigned level = LOAD_LEVEL_MAX;

	while (level > 0 && !l->ask[s][level - 1].on)
		level--;
	return level;
}

static void
count_refused(struct load *l, int64_t refused, int64_t dt_us)
{
	double rate, weight = (double)dt_us / (double)REFUSING_US;

	if (dt_us <= 0)
		return;
	rate = (double)(refused - l->refused) * (double)USEC_PER_SEC / (double)dt_us;
	l->refused = refused;
	l->refusing += (rate - l->refusing) * (weight < 1 ? weight : 1);
	if (l->refusing > l->refusing_most)
		l->refusing_most = l->refusing;
}

/* The signals have let go, and yet: it came back too soon, and the flood is still there. */
static bool
held(const struct load *l, int64_t now)
{
	return l->up && l->hold_us > LOAD_HOLD_US && now - l->up_us < l->hold_us &&
	    l->refusing * REFUSING_SHARE > l->refusing_most;
}

/* own has changed between 0 and more. */
static void
note_change(struct load *l, int64_t now)
{
	l->up = l->own > 0;
	if (!l->up) {
		l->down_us = now;
		return;
	}
	l->refusing_most = l->refusing = 0;
	if (l->down_us == 0 || now - l->down_us > LOAD_RELAPSE_US)
		l->hold_us = LOAD_HOLD_US;
	else if (l->hold_us < LOAD_HOLD_MAX_US)
		l->hold_us = l->hold_us * 2 < LOAD_HOLD_MAX_US ? l->hold_us * 2 : LOAD_HOLD_MAX_US;
	l->up_us = now;
}

/* Whose word the level is: one that asks already stays the one that is named. At a change down it
 * is the one that let go. */
static void
tell(struct load *l, const struct load_rules *r, const int64_t *values, unsigned was)
{
	unsigned s = l->signal;

	if (l->level >= was && l->level > 0 && asked(l, s) < l->level) {
		for (s = 0; s < LOAD_SIGNALS && asked(l, s) < l->level; s++)
			;
		if (s == LOAD_SIGNALS) /* only held: the one that let go last */
			s = l->signal;
	}
	l->signal = (enum load_signal)s;
	l->value = values[s];
	if (l->level < was)
		l->mark = r->marks[s][was - 1].low;
	else if (l->level > 0)
		l->mark = r->marks[s][l->level - 1].high;
}

bool
load_update(struct load *l, const struct load_rules *r, const int64_t values[LOAD_SIGNALS],
    int64_t refused, int64_t now)
{
	unsigned was = l->level, own = 0, neighbours;

	if (!l->begun) {
		l->begun = true;
		l->refused = refused;
		l->since_us = l->now_us = now;
	}
	if (now < l->now_us)
		go_back(l, now);
	count_refused(l, refused, now - l->now_us);
	l->now_us = now;
	for (unsigned s = 0; s < LOAD_SIGNALS; s++) {
		int64_t hold = s == LOAD_NEIGHBOURS ? 0 : LOAD_HOLD_US;

		for (unsigned i = 0; i < LOAD_LEVEL_MAX; i++)
			ask_update(&l->ask[s][i], &r->marks[s][i], values[s], hold, now);
		if (s != LOAD_NEIGHBOURS && asked(l, s) > own)
			own = asked(l, s);
	}
	if (own == 0 && held(l, now))
		own = 1;
	l->own = own;
	if (l->up != (own > 0))
		note_change(l, now);
	neighbours = asked(l, LOAD_NEIGHBOURS);
	l->level = own > neighbours ? own : neighbours;
	tell(l, r, values, was);
	if (l->level != was)
		l->since_us = now;
	return l->level != was;
}

void
load_resume(struct load *l, unsigned level, enum load_signal signal, int64_t now)
{
	l->up_us = now;
	l->level = level;
	l->own = signal == LOAD_NEIGHBOURS ? 0 : level;
	l->signal = signal;
	l->up = l->own > 0;
	l->hold_us = LOAD_HOLD_US;
	for (unsigned i = 0; i < level && i < LOAD_LEVEL_MAX; i++)
		l->ask[signal][i].on = true;
}
