/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * impact.c - whom a smaller limit would refuse: told before it is written.
 */
#include <stdio.h>
#include <unistd.h>

#include "weir/units.h"
#include "ctl.h"

/* An hour: who was not seen for longer has drained anyway, or has time. */
#define SEEN_US (3600 * USEC_PER_SEC)

struct impact {
	const struct ruleset *set;
	const struct limit *before, *after;
	int64_t now_us;
	unsigned seen, refused;
};

static bool
has_room(const struct client_record *r, const struct limit *l, int64_t times, int64_t now_us)
{
	int64_t level;

	return !record_level(r, l, times, now_us, &level) ||
	    level + MICRO <= limit_ceiling(l) * times * MICRO;
}

static bool
count_client(void *ctx, const struct client_record *r)
{
	struct impact *i = ctx;
	int64_t before = record_times(i->set, r, i->before),
		after = record_times(i->set, r, i->after);

	if (before == 0 || i->now_us - r->last_us > SEEN_US)
		return true;
	i->seen++;
	if (after > 0 && has_room(r, i->before, before, i->now_us) &&
	    !has_room(r, i->after, after, i->now_us))
		i->refused++;
	return true;
}

/* False where nobody is refused who was not before, and where counting starts anew. */
static bool
is_smaller(const struct limit *before, const struct limit *after)
{
	if (!before->enabled || !after->enabled || after->action == ACTION_LOG ||
	    after->count != before->count || after->per != before->per ||
	    after->count == COUNT_SESSIONS || (after->quota != 0) != (before->quota != 0))
		return false;
	if (limit_ceiling(after) < limit_ceiling(before) || after->window_us > before->window_us)
		return true;
	for (unsigned i = 0; i < before->nrungs && i < after->nrungs; i++)
		if (after->rungs[i].bits == before->rungs[i].bits &&
		    after->rungs[i].times < before->rungs[i].times)
			return true;
	return false;
}

void
impact_warn(
    struct ctl *c, const struct ruleset *r, const struct limit *before, const struct limit *after)
{
	struct impact i = {.set = r, .before = before, .after = after, .now_us = clock_real_us()};

	if (!is_smaller(before, after))
		return;
	records_each(c, before->per, count_client, &i);
	if (before->nrungs > 0 && before->per != PER_NETWORK)
		records_each(c, PER_NETWORK, count_client, &i);
	if (i.refused == 0)
		return;
	fprintf(stderr, "weirctl: this would refuse %u of %u clients seen in the last hour\n",
	    i.refused, i.seen);
	if (c->yes)
		return;
	if (!isatty(STDIN_FILENO))
		ctl_die(CTL_REFUSED, "nothing is changed; say --yes to change it all the same");
	fprintf(stderr, "Change it all the same? [y/N] ");
	if (getchar() != 'y')
		ctl_die(CTL_REFUSED, "nothing is changed");
}
