/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * children.h - the workers as the master sees them: those that serve its configuration (the first
 * `own` in the table, by number), and behind them those of before a reload.
 *
 * An own one that dies is started again in its place; any other is forgotten.
 */
#ifndef WEIR_MILTER_CHILDREN_H
#define WEIR_MILTER_CHILDREN_H

#include "handover.h"
#include "weir/watch.h"

struct child {
	pid_t pid; /* 0 = not running */
	int control; /* -1 = closed: it has been told to end at once */
	unsigned place; /* in the zone */
	bool foreign; /* its zone is another one, which we do not have */
	bool ready; /* it serves */
	bool draining;
	bool deaf; /* ... and has said that it accepts nothing any more */
	int64_t started_ms, restart_ms; /* monotonic, as all here */
	int64_t end_ms; /* control -1: it is killed then; draining: it is told to end; 0 = never */
	int backoff_ms;
};

struct children {
	unsigned own, n;
	struct child child[ZONE_WORKERS_MAX];
};

/* Takes those of before over, and makes room for `own` in front of them: each gets a place that
 * none of the others has. */
void children_init(struct children *all, unsigned own, const struct handover *h);

unsigned children_running(const struct children *all);
/* All own ones serve. */
bool children_ready(const struct children *all);
/* One of before was not yet told to drain, or has not yet done so. */
bool children_old_serve(const struct children *all);

/* For those who watch; leaves alone what is not about children. */
void children_tell(const struct children *all, struct watch_workers *out);

/* By pid; NULL: not ours. */
struct child *children_find(struct children *all, pid_t pid);

/* Tells it (WORKER_DRAIN or WORKER_FINISH); it has until end_ms. */
void child_drain(struct child *c, char word, int64_t end_ms);
/* Tells it to end at once. */
void child_cut(struct child *c, int64_t now_ms);
/* What is due by now: the end of a time to drain, and of one to end. */
void children_expire(struct children *all, int64_t now_ms);

/* It is no more: an own one is due again after a while, any other leaves the table. */
void children_gone(struct children *all, struct child *c, int64_t now_ms);

/* For the next master. */
void children_hand_over(const struct children *all, struct handover *h);

#endif
