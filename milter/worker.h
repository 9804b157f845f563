/*
 * worker.h - one worker process: its store, its snapshot of the limits, its engine.
 */
#ifndef WEIR_MILTER_WORKER_H
#define WEIR_MILTER_WORKER_H

#include <stdatomic.h>

#include "conf.h"
#include "session.h"
#include "snapshot.h"

struct worker {
	const struct conf *conf;
	struct zone *zone;
	unsigned number, workers; /* this one's, of so many */
	int64_t started_us; /* the master, microseconds since 1970 */
	struct store *store;
	struct snapshots *snapshots;
	atomic_uint sessions; /* counter, for session ids */
	atomic_uint in_flight; /* decisions being taken */
	atomic_bool stopping; /* the store is about to go: decide without it */
};

/* What a worker that must not be started again exits with (sysexits' EX_CONFIG). */
#define WORKER_EXIT_CONFIG 78

/*
 * Runs in the forked process and never returns. *w says who it is (conf, zone, number, workers,
 * started_us); the rest is made here. listen_fd is the milter socket; control_fd ends
 * (EOF) when the master wants the worker to stop, or is no more. node: see redis_store_open().
 */
void worker_run(const struct worker *w, int listen_fd, int control_fd, const char *node)
    __attribute__((noreturn));

/* A new session's id, unique for this worker process. */
void worker_session_id(struct worker *w, char out[SESSION_ID_MAX]);

#endif
