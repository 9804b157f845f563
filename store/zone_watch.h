/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_watch.h - how that lies in the zone which is there to be looked at (weir/watch.h).
 */
#ifndef WEIR_STORE_ZONE_WATCH_H
#define WEIR_STORE_ZONE_WATCH_H

#include "zone_private.h"

typedef _Atomic int64_t count;

enum watch_name_state { NAME_FREE, NAME_WRITTEN, NAME_READY };

/* Taken once and then never changed. One whose taker died while it wrote stays unused. */
struct watch_name {
	_Atomic uint32_t state;
	char name[LIMIT_NAME_MAX + 1];
};

/* Totals at the end of a minute; what happened in it is the difference to the one before. */
struct watch_total {
	count minute; /* since 1970; 0 = nothing noted */
	count accepted, held, other, limits[WATCH_SLOTS];
};
/* One more than are shown, to have a difference for the first; as many as one divides by fast. */
#define WATCH_RING 64
_Static_assert(WATCH_RING > WATCH_MINUTES, "the first minute has one before it");

/* --- zone_top.c ------------------------------------------------------------------------------ */

/* An hour is six tables of ten minutes; a seventh is being filled. */
#define TOP_SPAN_US (600 * USEC_PER_SEC)
#define TOP_SPANS 7
#define TOP_SETS 128
#define TOP_WAYS 8

struct top_slot {
	count decisions, refused, held, error, last_us;
	_Atomic uint32_t reason, limit; /* limit: a slot of watch_name, 0 = none */
	struct net who;
	bool confirmed;
	char name[TOP_NAME_MAX + 1];
};

struct top_set {
	_Alignas(64) _Atomic uint64_t key[TOP_WAYS]; /* 0 = free */
	count locked_us; /* somebody puts a client in; monotonic, 0 = nobody does */
	struct top_slot slot[TOP_WAYS];
};

struct top_table {
	count span; /* number since 1970; below 0: is being emptied since -span us (monotonic) */
	struct top_set set[TOP_SETS];
};

/* --- all of it --------------------------------------------------------------------------------- */

struct zone_watch {
	_Alignas(64) count decisions[WATCH_SLOTS][WATCH_ACTIONS][WATCH_STAGES][WATCH_REASONS];
	count shadows[WATCH_SLOTS][WATCH_STAGES];
	count grey[WATCH_GREYS], sources[WATCH_SOURCES];
	struct watch_name names[WATCH_LIMITS];
	_Atomic bool top_wanted;
	count wanted, ready, before, serving, ended, conf_us, started_us;
	count generations[ZONE_WORKERS_MAX];
	struct watch_total ring[WATCH_RING];
	struct top_table top[TOP_KINDS][TOP_SPANS];
};

static inline struct zone_watch *
zone_watch(struct zone *z)
{
	return (struct zone_watch *)((char *)z + z->watch_at);
}

static inline void
count_add(count *c, int64_t n)
{
	atomic_fetch_add_explicit(c, n, memory_order_relaxed);
}

static inline int64_t
count_get(count *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static inline void
count_set(count *c, int64_t n)
{
	atomic_store_explicit(c, n, memory_order_relaxed);
}

/* 1 .. WATCH_SLOTS - 1; the same for the same name, almost always. */
unsigned zone_watch_slot(struct zone *z, const char *limit);
/* "" = that slot has no name (yet). */
const char *zone_watch_name(struct zone *z, unsigned slot);

#endif
