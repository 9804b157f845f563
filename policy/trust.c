/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trust.c - see trust.h.
 */
#include <math.h>

#include "weir/limit.h"
#include "weir/trust.h"
#include "weir/units.h"

#define DAY_US (86400 * USEC_PER_SEC)
/* After so many halvings nothing is left of a million. */
#define HALVINGS_MAX 40
/* Enough to tell a share by, and exact in a double when multiplied by a day. */
#define COUNT_MAX (INT64_C(1000000) * MICRO)

static int64_t
faded(int64_t count, int64_t dt_us)
{
	int64_t days = dt_us / DAY_US, rest = dt_us % DAY_US;
	double left = (double)count;

	if (days > HALVINGS_MAX)
		return 0;
	for (; days > 0; days--)
		left = floor(left / 2);
	return (int64_t)(left - floor(left * (double)rest / (double)(2 * DAY_US)));
}

void
trust_fade(struct trust *t, const struct trust_rule *r, int64_t now_us)
{
	int64_t dt = now_us - t->time_us;
	int64_t most = 2 * r->messages * MICRO;

	if (t->earned_us > now_us)
		t->earned_us = now_us;
	t->time_us = now_us;
	/* it may have been earned while `messages` were more; a hand may have written anything */
	if (t->credit > most)
		t->credit = most;
	if (dt <= 0)
		return;
	t->credit = r->messages > 0 ? bucket_drained(t->credit, dt, r->messages, r->keep_us) : 0;
	t->good = faded(t->good, dt);
	t->bad = faded(t->bad, dt);
}

void
trust_good(struct trust *t, const struct trust_rule *r, int64_t now_us)
{
	int64_t steps = r->messages > 1 ? r->messages - 1 : 1, step = r->over_us / steps;

	if (t->good < COUNT_MAX)
		t->good += MICRO;
	if (r->messages == 0 || (t->earned_us != 0 && now_us - t->earned_us < step))
		return;
	/* by the clock of the steps: who comes a little later than one loses none of the next */
	if (t->earned_us != 0 && now_us - t->earned_us < 2 * step)
		t->earned_us += step;
	else
		t->earned_us = now_us;
	t->credit += MICRO;
	if (t->credit > 2 * r->messages * MICRO)
		t->credit = 2 * r->messages * MICRO;
}

bool
trust_turned(const struct trust *t)
{
	return t->bad >= TRUST_BAD_MIN * MICRO && t->bad * TRUST_BAD_SHARE > t->good;
}

void
trust_bad(struct trust *t)
{
	if (t->bad < COUNT_MAX)
		t->bad += MICRO;
	if (trust_turned(t))
		t->credit = 0;
}

bool
trust_known(const struct trust *t, const struct trust_rule *r, bool passed)
{
	if (trust_turned(t))
		return false;
	return passed || (r->messages > 0 && t->credit >= r->messages * MICRO);
}

int64_t
trust_life_us(const struct trust *t, const struct trust_rule *r)
{
	int64_t life = r->messages > 0 ? bucket_wait(t->credit, r->messages, r->keep_us) : 0;

	return life > TRUST_TELL_US ? life : TRUST_TELL_US;
}
