/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sequence.c - see sequence.h.
 */
#include <string.h>

#include "sequence.h"

#define MINUTE (60 * SEC)

static const char *const time_names[RULES_TIMES] = {"a", "b", "c", "d", "e", "delay", "window",
    "keep", "the embargo", "over", "keep of trust", "trap-block"};

int64_t
rules_time(const struct ruleset *r, unsigned of)
{
	const int64_t times[RULES_TIMES - RULES_LIMITS_MAX] = {r->greylist.delay_us,
	    r->greylist.window_us, r->greylist.keep_us, r->greylist.embargo_us, r->trust.over_us,
	    r->trust.keep_us, r->trap_us};

	if (of >= RULES_LIMITS_MAX)
		return times[of - RULES_LIMITS_MAX];
	return of < r->nlimits ? limit_drain_us(&r->limits[of]) : 0;
}

static struct step
clock_step(struct rng *r, enum kind kind)
{
	static const int64_t often[] = {0, 1, -1, 1000, 999999, SEC, 10 * SEC - 1, MINUTE,
	    5 * MINUTE, 11 * MINUTE, -SEC, -MINUTE};
	static const int64_t seldom[] = {HOUR + MINUTE, 2 * HOUR, 50 * MINUTE, DAY - MINUTE,
	    2 * DAY, 3 * DAY, 6 * DAY, 30 * DAY, 36 * DAY, 80 * DAY, -HOUR, -DAY};
	struct step s = {.what = CLOCK};
	unsigned dice = kind != CHANGES ? rng_below(r, 100) : 99;

	s.wait = dice < 30;
	if (dice >= 30 && dice < 60) {
		s.eighths = (uint8_t)(1 + rng_below(r, 8));
		s.of = (uint8_t)rng_below(r, RULES_TIMES);
	}
	if (dice < 60)
		s.by_us = (int64_t)rng_below(r, 3) - 1;
	else if (kind == CHANGES || rng_percent(r, 60))
		s.by_us = often[rng_below(r, sizeof often / sizeof often[0])];
	else if (rng_percent(r, 70))
		s.by_us = seldom[rng_below(r, sizeof seldom / sizeof seldom[0])];
	else
		s.by_us = (int64_t)(rng_next(r) % (uint64_t)(3 * HOUR));
	if (kind == AGES && s.by_us < 0 && dice >= 60)
		s.by_us = -s.by_us;
	return s;
}

void
sequence_make(struct rng *r, struct sequence *s)
{
	static const enum kind kinds[] = {AGES, AGES, GOES_BACK, CHANGES};
	const struct step *last = NULL;
	unsigned variety = 1 + rng_below(r, 4);
	/* one who tries again and again fills what others only touch */
	bool insists = rng_percent(r, 15);
	unsigned length = 4 + rng_below(r, !insists && rng_percent(r, 80) ? 8 : STEPS_MAX - 3);

	s->kind = kinds[rng_below(r, sizeof kinds / sizeof kinds[0])];
	rules_make(r, s->kind == CHANGES, &s->rules);
	if (s->kind == GOES_BACK)
		s->rules.nentries[SECTION_OVERRIDES] = 0;
	for (s->n = 0; s->n < length; s->n++) {
		struct step *step = &s->steps[s->n];
		unsigned dice = rng_below(r, 100);

		*step = (struct step){.what = ASK};
		if (dice < 20) {
			*step = clock_step(r, s->kind);
			continue;
		}
		if (dice < 26)
			step->what = RELEASE;
		else if (dice < 32)
			step->what = PEEK;
		else if (dice < 34)
			step->what = TRAP;
		else if (dice < 40 && s->kind == CHANGES)
			step->what = CHANGE;
		step->who = who_make(r, variety);
		/* again, as who is over a limit does; or the same client goes on */
		if (step->what <= TRAP && last != NULL && (insists || dice > 70))
			step->who = rng_percent(r, 60) ? last->who : who_at(&last->who, &step->who);
		if (step->what == ASK)
			last = step;
	}
}

void
sequence_print(const struct sequence *s, FILE *out)
{
	static const char *const names[] = {
	    "ask", "peek", "trap", "a session ends", "time", "limits change"};

	rules_print(&s->rules, out);
	for (unsigned i = 0; i < s->n; i++) {
		const struct step *step = &s->steps[i];

		fprintf(out, "  %2u %s ", i, names[step->what]);
		if (step->what <= TRAP)
			who_print(&step->who, out);
		if (step->wait)
			fprintf(out, "as told to wait, ");
		if (step->eighths > 0)
			fprintf(out, "%u/8 of %s, ", step->eighths, time_names[step->of]);
		if (step->what == CLOCK)
			fprintf(out, "%+lld us", (long long)step->by_us);
		fputc('\n', out);
	}
}
