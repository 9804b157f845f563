/* SPDX-License-Identifier: BSD-2-Clause */
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
	unsigned number, workers; /* this one's, of so many that serve the same configuration */
	unsigned place; /* its own in the zone */
	int64_t started_us; /* the master, microseconds since 1970 */
	struct store *store;
	struct snapshots *snapshots;
	atomic_uint sessions; /* counter, for session ids */
	atomic_uint open; /* sessions */
	atomic_uint in_flight; /* decisions being taken */
	atomic_bool stopping; /* the store is about to go: decide without it */
};

/* What a worker that must not be started again exits with (sysexits' EX_CONFIG). */
#define WORKER_EXIT_CONFIG 78

/*
 * The control connection between master and worker. The worker says WORKER_READY once it serves,
 * WORKER_DEAF once it accepts no new session any more.
 * The master says one of the others, or closes it: then, and when the master is no more, the
 * worker ends at once and its sessions are cut.
 */
#define WORKER_READY 'r'
#define WORKER_DEAF 'n'
/* Accept no new session; end when the last one has ended. */
#define WORKER_DRAIN 'd'
/* The same when nobody takes the new ones: a connection that came too late may be lost. */
#define WORKER_FINISH 'f'

/*
 * Runs in the forked process and never returns. *w says who it is (conf, zone, number, workers,
 * place, started_us); the rest is made here. listen_fd is the milter socket.
 */
void worker_run(const struct worker *w, int listen_fd, int control_fd) __attribute__((noreturn));

/* The engine is about to serve, and has failed before so long is over, or will not fail. */
void worker_ready(struct worker *w, int64_t settle_us);

/* A session begins, and gets an id that is unique for this worker process; a session has ended. */
void worker_session_begin(struct worker *w, char id[SESSION_ID_MAX]);
void worker_session_end(struct worker *w);

#endif
