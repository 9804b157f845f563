/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * worker.c - see worker.h.
 *
 * The main thread waits for the master's word; the engine runs in a thread of its own. So the main
 * thread can leave SIGHUP, SIGTERM and SIGINT unblocked and ignored, and the kernel drops them
 * before libmilter's own thread, which would end all sessions, can take them: systemd, a
 * terminal's ^C and a careless killall send them to workers, too.
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
#include "thread.h"
#include "weir/watch.h"
#include "worker.h"

/* Once a second: folded log lines are due, and a worker without traffic sees new limits. */
#define TICK_US USEC_PER_SEC
/* Decisions under way end within the Redis timeout (at most 250 ms); then we go anyway. */
#define STOP_WAIT_MS 400
/* While it drains, it looks so often whether its last session has ended. */
#define DRAIN_LOOK_US (50 * USEC_PER_MSEC)
/* ... and so often, while descriptors are short, whether some have become free. */
#define ROOM_LOOK_US (20 * USEC_PER_MSEC)
/* An accept() that was under way as the listener was silenced has long returned by then. */
#define DRAIN_SETTLE_US USEC_PER_SEC
/* ... and when weir stops, what comes in the last moment is refused the next. */
#define FINISH_SETTLE_US (100 * USEC_PER_MSEC)

/* What the threads that can end the process need. */
static struct {
	struct worker worker;
	const struct engine *engine;
	int listen_fd, control_fd;
	_Atomic int64_t ready_us; /* when to say so, monotonic; 0 = not yet, or said */
	bool draining;
	int64_t settled_us; /* monotonic */
	atomic_flag leaving;
} self = {.leaving = ATOMIC_FLAG_INIT};

void
worker_session_begin(struct worker *w, char id[SESSION_ID_MAX])
{
	snprintf(
	    id, SESSION_ID_MAX, "%x.%x", (unsigned)getpid(), atomic_fetch_add(&w->sessions, 1) + 1);
	atomic_fetch_add(&w->open, 1);
	zone_worker_session(w->zone, w->place, 1);
}

void
worker_session_end(struct worker *w)
{
	zone_worker_session(w->zone, w->place, -1);
	atomic_fetch_sub(&w->open, 1);
}

static void
tell_master(char word)
{
	/* one that is gone is noticed at the next look */
	if (write(self.control_fd, &word, 1) < 0)
		return;
}

void
worker_ready(struct worker *w, int64_t settle_us)
{
	(void)w;
	atomic_store(&self.ready_us, clock_mono_us() + settle_us);
}

static void
on_notice(void *ctx, int priority, const char *line)
{
	(void)ctx;
	log_line(priority, "%s", line);
}

/* Ends the process: in time, whatever the engine's threads are doing. */
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
	if (atomic_load(&w->in_flight) == 0 && self.engine->stop())
		store_close(&w->store);
	log_fold_flush(true);
	_exit(status);
}

/* --- once a second ------------------------------------------------------------------------ */

static void
refresh(struct worker *w, int64_t now)
{
	const struct ruleset *r = snapshot_get(w->snapshots, now);

	(void)snapshot_refresh(w->snapshots, w->store, r->generation,
	    clock_mono_us() + w->conf->redis.timeout_us, now);
	snapshot_put(w->snapshots, r);
}

/* Maintenance that Redis asked for goes on while Redis is away, also in workers that have never
 * spoken to it. */
static void
remember_drain(struct worker *w, int64_t now)
{
	const struct ruleset *r = snapshot_get(w->snapshots, now);

	if (r->generation[0] != '\0')
		zone_drain_set(w->zone, ZONE_DRAIN_REDIS, r->drain_until_us);
	zone_watch_generation_set(w->zone, w->place, r->generation);
	snapshot_put(w->snapshots, r);
}

static void
tick(struct worker *w)
{
	int64_t now = clock_real_us();

	log_fold_flush(false);
	if (!w->conf->use_redis)
		return;
	refresh(w, now);
	/* a worker that drains no longer speaks for this host: its successor does */
	if (self.draining)
		return;
	remember_drain(w, now);
	if (w->number == 0)
		status_publish(w, now);
}

/* --- draining ----------------------------------------------------------------------------- */

static void
drain(struct worker *w, int64_t settle_us)
{
	int64_t settled = clock_mono_us() + settle_us;

	if (!self.draining || settled < self.settled_us)
		self.settled_us = settled;
	if (self.draining)
		return;
	self.draining = true;
	zone_worker_drains(w->zone, w->place);
	snapshots_silence(w->snapshots);
	self.engine->silence();
	tell_master(WORKER_DEAF);
}

/* Not by its sessions alone: the MTA may have connected and not have said anything yet. */
static bool
drained(struct worker *w)
{
	return self.draining && atomic_load(&w->open) == 0 && clock_mono_us() >= self.settled_us &&
	    self.engine->connections() <= 0;
}

static void
obey(struct worker *w)
{
	char word;
	ssize_t n = read(self.control_fd, &word, 1);

	if (n < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	if (n != 1)
		leave(EXIT_SUCCESS);
	if (word == WORKER_DRAIN)
		drain(w, DRAIN_SETTLE_US);
	else if (word == WORKER_FINISH)
		drain(w, FINISH_SETTLE_US);
}

/* Waits for the master's word, or its death. */
static void
watch(struct worker *w)
{
	struct pollfd p = {.fd = self.control_fd, .events = POLLIN};
	bool crowded = false;
	/* not all workers at the same moment: each may have long lists to read */
	int64_t tick_us = clock_mono_us() + TICK_US + TICK_US / 10 * (w->number % 10);

	for (;;) {
		int64_t now, until = tick_us, ready = atomic_load(&self.ready_us);

		if (ready != 0 && clock_mono_us() >= ready) {
			atomic_store(&self.ready_us, 0);
			tell_master(WORKER_READY);
		} else if (ready != 0)
			until = ready;
		if (self.draining && clock_mono_us() + DRAIN_LOOK_US < until)
			until = clock_mono_us() + DRAIN_LOOK_US;
		else if (crowded && clock_mono_us() + ROOM_LOOK_US < until)
			until = clock_mono_us() + ROOM_LOOK_US;
		if (poll(&p, 1, clock_poll_ms(until)) > 0)
			obey(w);
		if (drained(w))
			leave(EXIT_SUCCESS);
		now = clock_mono_us();
		if (now >= tick_us || crowded)
			crowded = self.engine->look != NULL && self.engine->look(w);
		if (now >= tick_us) {
			tick(w);
			tick_us = now + TICK_US;
		}
	}
}

/* --- the start ---------------------------------------------------------------------------- */

static bool
open_store(struct worker *w)
{
	struct redis_options redis = w->conf->redis;

	if (!w->conf->use_redis) {
		w->store = zone_store_open(w->zone, w->place);
		return w->store != NULL;
	}
	redis.advise = ADVISE_MEMORY | (w->conf->rules.greylist.enabled ? ADVISE_SAVING : 0);
	w->store =
	    redis_store_open(&redis, w->zone, w->place, w->conf->rules.node, on_notice, NULL);
	explicit_bzero(redis.password, sizeof redis.password);
	if (w->store == NULL || (self.engine->attach != NULL && !self.engine->attach(w, w->store)))
		return false;
	w->store = chain_store_open(w->store, w->zone, w->place);
	return w->store != NULL;
}

static void
ignore_signals(void)
{
	static const int ignored[] = {SIGPIPE, SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++) {
		signal(ignored[i], SIG_IGN);
		sigaddset(&set, ignored[i]);
	}
	/* one that is blocked would be kept for libmilter's sigwait(), ignored or not */
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

static void *
run_engine(void *arg)
{
	struct worker *w = arg;

	if (!self.engine->run(w, self.listen_fd))
		leave(WORKER_EXIT_CONFIG);
	leave(EXIT_SUCCESS);
	return NULL;
}

void
worker_run(const struct worker *given, int listen_fd, int control_fd)
{
	struct worker *w = &self.worker;
	const struct timespec ms = {.tv_nsec = 1000000};
	pthread_t thread;

	ignore_signals();
	*w = *given;
	self.engine = w->conf->engine == ENGINE_EVENT ? &engine_event : &engine_libmilter;
	self.listen_fd = listen_fd;
	self.control_fd = control_fd;
	/* one worker speaks for all, so that each change is one line */
	w->snapshots = snapshots_new(&w->conf->rules, w->number == 0);
	if (w->snapshots == NULL || !open_store(w)) {
		log_line(LOG_ERR, "worker %u cannot start: %s", w->number, strerror(errno));
		_exit(EXIT_FAILURE);
	}
	/* before the first session: those of before a reload knew what Redis wants */
	if (w->conf->use_redis)
		refresh(w, clock_real_us());
	if (!thread_start(&thread, run_engine, w)) {
		log_line(LOG_ERR, "worker %u cannot start: %s", w->number, strerror(errno));
		_exit(EXIT_FAILURE);
	}
	while (atomic_load(&self.ready_us) == 0)
		nanosleep(&ms, NULL);
	watch(w);
	abort(); /* not reached: leave() ends the process */
}
