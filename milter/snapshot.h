/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snapshot.h - the ruleset in force in this worker: the file's, overlaid by what Redis holds.
 *
 * Built whole beside the old one and then swapped; whoever holds the old one goes on with it
 * until snapshot_put(). Thread-safe.
 */
#ifndef WEIR_MILTER_SNAPSHOT_H
#define WEIR_MILTER_SNAPSHOT_H

#include "weir/ruleset.h"
#include "weir/store.h"

struct snapshots;

/* base outlives it. announce: log new generations and entries that are ignored (one worker does
 * that for all). NULL: out of memory. */
struct snapshots *snapshots_new(const struct ruleset *base, bool announce);

/* Announces no more. */
void snapshots_silence(struct snapshots *s);

/* The ruleset in force at the time now_us (entries of Redis may expire by themselves); valid
 * until snapshot_put(). */
const struct ruleset *snapshot_get(struct snapshots *s, int64_t now_us);
void snapshot_put(struct snapshots *s, const struct ruleset *r);

/*
 * Reads Redis again, unless the ruleset in force already differs from `stale` (another thread
 * was faster). False: Redis gave none by the deadline, or memory ran out; the old one stays.
 */
bool snapshot_refresh(struct snapshots *s, struct store *store, const char *stale,
    int64_t deadline_us, int64_t now_us);

/* What of Redis is ignored, and why: one call each. */
typedef void snapshot_complaint(
    void *ctx, enum overlay_section section, const char *name, const char *why);
void snapshot_complaints(struct snapshots *s, snapshot_complaint *fn, void *ctx);

#endif
