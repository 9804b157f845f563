/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_watch.c - decisions counted by what they were, the last hour by minutes, and what the
 * master and the workers say of themselves. See weir/watch.h.
 */
#include <stdlib.h>
#include <string.h>

#include "zone_watch.h"

#include "weir/units.h"

#define OTHER (WATCH_SLOTS - 1)
static const char other_name[] = "other";

/* --- limits by name ------------------------------------------------------------------------- */

static bool
take_name(struct watch_name *n, const char *limit)
{
	uint32_t state = NAME_FREE;

	if (!atomic_compare_exchange_strong(&n->state, &state, NAME_WRITTEN))
		return false;
	strncpy(n->name, limit, LIMIT_NAME_MAX);
	atomic_store_explicit(&n->state, NAME_READY, memory_order_release);
	return true;
}

/* Two who look for the same new name at once may take a slot each: whoever reads adds them up. */
unsigned
zone_watch_slot(struct zone *z, const char *limit)
{
	struct zone_watch *w = zone_watch(z);

	for (unsigned i = 0; i < WATCH_LIMITS; i++) {
		struct watch_name *n = &w->names[i];
		uint32_t state = atomic_load_explicit(&n->state, memory_order_acquire);

		if (state == NAME_READY && strcmp(n->name, limit) == 0)
			return i + 1;
		if (state == NAME_FREE && take_name(n, limit))
			return i + 1;
	}
	return OTHER;
}

const char *
zone_watch_name(struct zone *z, unsigned slot)
{
	const struct watch_name *n;

	if (slot == OTHER)
		return other_name;
	if (slot == 0 || slot > OTHER)
		return "";
	n = &zone_watch(z)->names[slot - 1];
	return atomic_load_explicit(&n->state, memory_order_acquire) == NAME_READY ? n->name : "";
}

/* --- counting --------------------------------------------------------------------------------- */

void
zone_watch_decision(struct zone *z, enum stage stage, const struct verdict *v, bool asked)
{
	struct zone_watch *w = zone_watch(z);
	bool limited = v->limit != NULL && v->action != DO_ACCEPT;
	unsigned slot = limited ? zone_watch_slot(z, v->limit->name) : 0;

	/* whoever adds a word there shall not write past the end here */
	if (stage >= WATCH_STAGES || v->action >= WATCH_ACTIONS || v->reason >= WATCH_REASONS)
		return;
	count_add(&w->decisions[slot][v->action][stage][v->reason], 1);
	if (v->grey != GREY_NONE && v->grey < WATCH_GREYS)
		count_add(&w->grey[v->grey], 1);
	if (asked && v->source < WATCH_SOURCES)
		count_add(&w->sources[v->source], 1);
}

void
zone_watch_shadow(struct zone *z, enum stage stage, const char *limit)
{
	if (stage < WATCH_STAGES)
		count_add(&zone_watch(z)->shadows[zone_watch_slot(z, limit)][stage], 1);
}

void
zone_watch_get(struct zone *z, struct watch_counts *out)
{
	struct zone_watch *w = zone_watch(z);
	count *from = &w->decisions[0][0][0][0];
	int64_t *to = &out->decisions[0][0][0][0];

	for (unsigned s = 0; s < WATCH_SLOTS; s++) {
		strcpy(out->limits[s], zone_watch_name(z, s));
		for (unsigned t = 0; t < WATCH_STAGES; t++)
			out->shadows[s][t] = count_get(&w->shadows[s][t]);
	}
	for (size_t i = 0; i < sizeof out->decisions / sizeof *to; i++)
		to[i] = count_get(&from[i]);
	for (unsigned i = 0; i < WATCH_GREYS; i++)
		out->grey[i] = count_get(&w->grey[i]);
	for (unsigned i = 0; i < WATCH_SOURCES; i++)
		out->sources[i] = count_get(&w->sources[i]);
}

/* --- the last hour ---------------------------------------------------------------------------- */

static void
totals(const struct watch_counts *c, struct watch_minute *t)
{
	memset(t, 0, sizeof *t);
	for (unsigned s = 0; s < WATCH_SLOTS; s++)
		for (unsigned a = 0; a < WATCH_ACTIONS; a++)
			for (unsigned g = 0; g < WATCH_STAGES; g++)
				for (unsigned r = 0; r < WATCH_REASONS; r++) {
					int64_t n = c->decisions[s][a][g][r];

					if (a == DO_ACCEPT)
						t->accepted += n;
					else if (s != 0)
						t->limits[s] += n;
					else if (r == REASON_GREYLIST)
						t->held += n;
					else
						t->other += n;
				}
}

static void
write_total(struct zone_watch *w, const struct watch_minute *t, int64_t minute)
{
	struct watch_total *to = &w->ring[minute % WATCH_RING];

	count_set(&to->accepted, t->accepted);
	count_set(&to->held, t->held);
	count_set(&to->other, t->other);
	for (unsigned s = 0; s < WATCH_SLOTS; s++)
		count_set(&to->limits[s], t->limits[s]);
	count_set(&to->minute, minute);
}

/* The last total noted in or before that minute; NULL: none in the ring. */
static struct watch_total *
total_at(struct zone_watch *w, int64_t minute)
{
	for (int64_t m = minute; m > minute - WATCH_RING && m > 0; m--)
		if (count_get(&w->ring[m % WATCH_RING].minute) == m)
			return &w->ring[m % WATCH_RING];
	return NULL;
}

void
zone_watch_note(struct zone *z, const struct watch_counts *c, int64_t now_us)
{
	struct zone_watch *w = zone_watch(z);
	int64_t minute = now_us / (60 * USEC_PER_SEC);
	struct watch_minute t;

	if (minute < 2)
		return;
	totals(c, &t);
	/* what was before anybody looked did not happen in this minute */
	if (total_at(w, minute) == NULL)
		write_total(w, &t, minute - 1);
	write_total(w, &t, minute);
}

static int64_t
since(count *now, count *before)
{
	int64_t n = count_get(now) - count_get(before);

	return n > 0 ? n : 0;
}

void
zone_watch_hour(struct zone *z, int64_t now_us, struct watch_minute out[WATCH_MINUTES])
{
	struct zone_watch *w = zone_watch(z);
	int64_t first = now_us / (60 * USEC_PER_SEC) - WATCH_MINUTES + 1;

	memset(out, 0, WATCH_MINUTES * sizeof out[0]);
	for (unsigned i = 0; i < WATCH_MINUTES; i++) {
		struct watch_total *t = total_at(w, first + i), *before;

		if (t == NULL || count_get(&t->minute) != first + i)
			continue;
		before = total_at(w, first + i - 1);
		if (before == NULL)
			continue;
		out[i].accepted = since(&t->accepted, &before->accepted);
		out[i].held = since(&t->held, &before->held);
		out[i].other = since(&t->other, &before->other);
		for (unsigned s = 0; s < WATCH_SLOTS; s++)
			out[i].limits[s] = since(&t->limits[s], &before->limits[s]);
	}
}

/* --- master and workers -------------------------------------------------------------------------- */

void
zone_watch_workers_set(struct zone *z, const struct watch_workers *k)
{
	struct zone_watch *w = zone_watch(z);

	count_set(&w->wanted, k->wanted);
	count_set(&w->ready, k->ready);
	count_set(&w->before, k->before);
	count_set(&w->serving, k->serving);
	count_set(&w->ended, k->ended);
	count_set(&w->conf_us, k->conf_us);
	count_set(&w->started_us, k->started_us);
}

void
zone_watch_workers_get(struct zone *z, struct watch_workers *out)
{
	struct zone_watch *w = zone_watch(z);

	out->wanted = (unsigned)count_get(&w->wanted);
	out->ready = (unsigned)count_get(&w->ready);
	out->before = (unsigned)count_get(&w->before);
	out->serving = count_get(&w->serving) != 0;
	out->ended = count_get(&w->ended);
	out->conf_us = count_get(&w->conf_us);
	out->started_us = count_get(&w->started_us);
}

/* 0 in the zone means that nobody has said; so what is said is kept one higher. */
void
zone_watch_generation_set(struct zone *z, unsigned worker, const char *generation)
{
	const char *p = generation;
	int64_t n;

	if (worker >= z->workers)
		return;
	n = units_scan(&p, INT64_MAX / 2, &n) && p != generation && *p == '\0' ? n : -1;
	count_set(&zone_watch(z)->generations[worker], n + 1);
}

bool
zone_watch_generations(struct zone *z, int64_t *oldest, int64_t *newest)
{
	bool any = false;

	*oldest = INT64_MAX;
	*newest = -1;
	for (unsigned i = 0; i < z->workers; i++) {
		int64_t g = count_get(&zone_watch(z)->generations[i]) - 1;

		if (g < 0 || atomic_load_explicit(&z->worker[i].draining, memory_order_relaxed))
			continue;
		any = true;
		*oldest = g < *oldest ? g : *oldest;
		*newest = g > *newest ? g : *newest;
	}
	return any;
}
