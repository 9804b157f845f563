/*
 * worker.c - see worker.h.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "engine.h"
#include "log.h"
#include "status.h"
#include "worker.h"

/* Once a second: folded log lines are due, and a worker without traffic sees new limits. */
#define TICK_MS 1000
/* Decisions under way end within the Redis timeout (at most 250 ms); then we go anyway. */
#define STOP_WAIT_MS 400

/* What the two threads that can end the process need. */
static struct {
	struct worker worker;
	int control_fd;
	atomic_flag leaving;
} self = {.leaving = ATOMIC_FLAG_INIT};

void
worker_session_id(struct worker *w, char out[SESSION_ID_MAX])
{
	snprintf(out, SESSION_ID_MAX, "%x.%x", (unsigned)getpid(),
	    atomic_fetch_add(&w->sessions, 1) + 1);
}

static void
on_notice(void *ctx, int priority, const char *line)
{
	(void)ctx;
	log_line(priority, "%s", line);
}

/* Ends the process: in time, whatever libmilter's threads are doing. */
static void
leave(int status)
{
	struct worker *w = &self.worker;
	const struct timespec ms = {.tv_nsec = 1000000};

	if (atomic_flag_test_and_set(&self.leaving))
		for (;;)
			pause();
	atomic_store(&w->stopping, true);
	for (int i = 0; i < STOP_WAIT_MS && atomic_load(&w->in_flight) > 0; i++)
		nanosleep(&ms, NULL);
	/* a thread that still decides may use the store: then Redis lets the leases expire */
	if (atomic_load(&w->in_flight) == 0)
		store_close(&w->store);
	log_fold_flush(true);
	_exit(status);
}

static void
tick(struct worker *w)
{
	const struct ruleset *r;
	int64_t now = clock_real_us();

	log_fold_flush(false);
	if (!w->conf->use_redis)
		return;
	r = snapshot_get(w->snapshots, now);
	(void)snapshot_refresh(w->snapshots, w->store, r->generation,
	    clock_mono_us() + w->conf->redis.timeout_us, now);
	snapshot_put(w->snapshots, r);
	if (w->number == 0)
		status_publish(w, now);
}

/* Waits for the master's word, or its death. */
static void *
watch(void *arg)
{
	struct pollfd p = {.fd = self.control_fd, .events = POLLIN};
	/* not all workers at the same moment: each may have long lists to read */
	int wait = TICK_MS / 10 * (1 + (int)(self.worker.number % 10));

	(void)arg;
	for (;; wait = TICK_MS) {
		int n = poll(&p, 1, wait);

		if (n > 0)
			leave(EXIT_SUCCESS);
		if (n == 0)
			tick(&self.worker);
	}
	return NULL;
}

static bool
open_store(struct worker *w, const char *node)
{
	if (!w->conf->use_redis) {
		w->store = zone_store_open(w->zone, w->number);
		return w->store != NULL;
	}
	w->store = redis_store_open(&w->conf->redis, w->zone, w->number, node, on_notice, NULL);
	if (w->store == NULL)
		return false;
	w->store = chain_store_open(w->store, w->zone, w->number);
	return w->store != NULL;
}

void
worker_run(const struct worker *given, int listen_fd, int control_fd, const char *node)
{
	struct worker *w = &self.worker;
	pthread_t thread;

	signal(SIGPIPE, SIG_IGN);
	*w = *given;
	self.control_fd = control_fd;
	/* one worker speaks for all, so that each change is one line */
	w->snapshots = snapshots_new(&w->conf->rules, w->number == 0);
	if (w->snapshots == NULL || !open_store(w, node) ||
	    pthread_create(&thread, NULL, watch, NULL) != 0) {
		log_line(LOG_ERR, "worker %u cannot start: %s", w->number, strerror(errno));
		_exit(EXIT_FAILURE);
	}
	if (!engine_run(w, listen_fd))
		leave(WORKER_EXIT_CONFIG);
	leave(EXIT_SUCCESS);
	abort(); /* not reached: leave() ends the process */
}
