/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * show.h - what the observer's process does: reads the zone and Redis, and answers over HTTP.
 */
#ifndef WEIR_MILTER_SHOW_H
#define WEIR_MILTER_SHOW_H

#include "conf.h"
#include "snapshot.h"
#include "weir/watch.h"

/* Redis round trips of the last minute: counts of before, ten seconds apart. */
#define SHOW_LATENCIES 6

struct show {
	const struct conf *conf;
	struct zone *zone; /* the one that workers write */
	const char *node;

	/* show.c's own */
	struct zone
	    *own; /* a small one, for the store: what it says of Redis is not the workers' */
	struct store *redis; /* NULL = not configured */
	struct store *local; /* the zone as a store: only to look */
	struct snapshots *snapshots;
	struct watch_counts counts; /* as of the last second */
	int64_t latencies[SHOW_LATENCIES][ZONE_LATENCIES]; /* the newest first */
	int64_t latencies_us; /* when that was taken */
};

/* Conf, zone and node are given. Never returns. */
void show_run(const struct show *given, int listen_fd, int control_fd) __attribute__((noreturn));

/* Round trips of about the last minute. */
void show_latencies(struct show *s, int64_t out[ZONE_LATENCIES]);

/* Asks, and leaves nothing behind: Redis, or what this host knows if that is silent or not there.
 * False: no answer. */
bool show_ask(struct show *s, struct request *q, struct answer *a);

#endif
