/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * engine.h - moves bytes between the MTA and the session. Nothing else knows which engine runs.
 */
#ifndef WEIR_MILTER_ENGINE_H
#define WEIR_MILTER_ENGINE_H

#include "worker.h"

/* One in a process. All but run() may be called from any thread, once worker_ready() has been. */
struct engine {
	/* The store in Redis has been opened, and is about to be used by an engine that does not
	 * wait. NULL: this one does. False: out of memory. */
	bool (*attach)(struct worker *w, struct store *redis);
	/*
	 * Serves the sessions that arrive on the listening socket; calls worker_ready() first. It
	 * need not return: the process ends around it. False: it could not even start; why has been
	 * logged.
	 */
	bool (*run)(struct worker *w, int listen_fd);
	/* From its return on no new session is accepted; others that listen on the socket are not
	 * concerned. Once is enough. */
	void (*silence)(void);
	/* Once a second: are there descriptors for more sessions? True: not enough, look again in a
	 * moment. NULL: it sees to that by itself. */
	bool (*look)(struct worker *w);
	/* Connections of MTAs, whether they have said a word or not; -1: that cannot be seen. */
	int (*connections)(void);
	/* No decision is under way any more. True: nothing here touches the store from now on. */
	bool (*stop)(void);
};

extern const struct engine engine_libmilter, engine_event;

#endif
