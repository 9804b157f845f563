/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * observer.h - the process that shows to others how this weir-milter fares: metrics and a page
 * (option metrics), as the master sees it.
 *
 * A process of its own, like a worker: whatever comes in over HTTP, and however long Redis takes
 * to answer a curious person, master and workers do not notice. It reads the zone, which they
 * write anyway. It ends when its connection to the master does. A reload hands the socket over,
 * so that who connects meanwhile waits in its queue.
 */
#ifndef WEIR_MILTER_OBSERVER_H
#define WEIR_MILTER_OBSERVER_H

#include "conf.h"
#include "weir/zone.h"

struct observer {
	int listen_fd; /* -1 = none */
	pid_t pid; /* 0 = not running */
	int control; /* -1 = closed */
	int64_t restart_ms; /* monotonic; before that nothing is started or opened */
	int backoff_ms;
	int64_t started_ms;
	bool complained;
};

/* listen_fd: from a master of before, or -1. */
void observer_init(struct observer *o, int listen_fd);

/* Opens the socket and starts the process, as far as the configuration wants them, they are not
 * there, and it is time. Returns true in the new process, which then has to call observer_run(). */
bool observer_start(struct observer *o, const struct conf *conf, int64_t now_ms);

/* True when observer_start() has to be called again soon, though nothing happens. */
bool observer_due(const struct observer *o, const struct conf *conf);

/* In the process that observer_start() has made; closes nothing of the master's. */
void observer_run(const struct observer *o, const struct conf *conf, struct zone *z,
    const char *node) __attribute__((noreturn));

/* True: it was this process that has ended. */
bool observer_ended(struct observer *o, pid_t pid, int status, int64_t now_ms);

/* In processes that the master forks otherwise. */
void observer_forget(const struct observer *o);

/* No more of it: the socket is free for whoever starts next. */
void observer_stop(struct observer *o);

#endif
