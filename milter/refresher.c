/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refresher.c - see refresher.h.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "refresher.h"
#include "thread.h"

struct refresher {
	struct worker *worker;
	int wake_fd;
	pthread_mutex_t lock;
	pthread_cond_t wanted;
	bool busy; /* asked for, and not over */
	bool over, fresh;
	char stale[GENERATION_MAX + 1];
	int64_t deadline_us;
};

static void *
run(void *arg)
{
	struct refresher *r = arg;
	struct worker *w = r->worker;
	const uint64_t one = 1;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		bool fresh;

		while (!r->busy || r->over)
			pthread_cond_wait(&r->wanted, &r->lock);
		pthread_mutex_unlock(&r->lock);
		/* as a decision: the store must not go meanwhile */
		atomic_fetch_add(&w->in_flight, 1);
		fresh = !atomic_load(&w->stopping) &&
		    snapshot_refresh(
			w->snapshots, w->store, r->stale, r->deadline_us, clock_real_us());
		atomic_fetch_sub(&w->in_flight, 1);
		pthread_mutex_lock(&r->lock);
		r->fresh = fresh;
		r->over = true;
		/* a counter near its end would only be full of wakes */
		if (write(r->wake_fd, &one, sizeof one) < 0)
			continue;
	}
	return NULL;
}

struct refresher *
refresher_new(struct worker *w, int wake_fd)
{
	struct refresher *r = calloc(1, sizeof *r);
	pthread_t thread;

	if (r == NULL)
		return NULL;
	r->worker = w;
	r->wake_fd = wake_fd;
	pthread_mutex_init(&r->lock, NULL);
	pthread_cond_init(&r->wanted, NULL);
	if (!thread_start(&thread, run, r)) {
		free(r);
		return NULL;
	}
	pthread_detach(thread);
	return r;
}

void
refresher_ask(struct refresher *r, const char *stale, int64_t deadline_us)
{
	pthread_mutex_lock(&r->lock);
	if (!r->busy) {
		r->busy = true;
		memcpy(r->stale, stale, sizeof r->stale);
		r->deadline_us = deadline_us;
		pthread_cond_signal(&r->wanted);
	}
	pthread_mutex_unlock(&r->lock);
}

bool
refresher_done(struct refresher *r, bool *fresh)
{
	bool over;

	pthread_mutex_lock(&r->lock);
	over = r->over;
	*fresh = r->fresh;
	if (over)
		r->busy = r->over = false;
	pthread_mutex_unlock(&r->lock);
	return over;
}
