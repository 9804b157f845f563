/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop_store.c - see loop_store.h.
 */
#include <event2/event.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "loop_store.h"
#include "redis_event.h"

struct waiting {
	struct store_call call; /* first: the loop gets back a pointer to it */
	struct waiting *next;
	pthread_cond_t over;
	bool done;
	enum store_status status;
	struct loop_store *me;
};

struct loop_store {
	struct store store; /* first */
	struct store *asked;
	struct event_base *base;
	struct redis_event *redis;
	struct event *wake;
	int wake_fd;
	pthread_t thread;
	pthread_mutex_t lock;
	struct waiting *queue;
	bool stop;
};

static void
finish(struct waiting *w, enum store_status status)
{
	pthread_mutex_lock(&w->me->lock);
	w->status = status;
	w->done = true;
	pthread_cond_signal(&w->over);
	pthread_mutex_unlock(&w->me->lock);
}

static void
on_done(struct store_call *call, enum store_status status)
{
	finish((struct waiting *)call, status);
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	struct loop_store *me = arg;
	struct waiting *w, *next;
	uint64_t n;

	(void)what;
	if (read(fd, &n, sizeof n) < 0)
		return;
	pthread_mutex_lock(&me->lock);
	w = me->queue;
	me->queue = NULL;
	pthread_mutex_unlock(&me->lock);
	for (; w != NULL; w = next) {
		enum store_status status;

		next = w->next;
		if (store_submit(me->asked, &w->call, &status))
			finish(w, status);
	}
}

static bool
stopped(struct loop_store *me)
{
	bool stop;

	pthread_mutex_lock(&me->lock);
	stop = me->stop;
	pthread_mutex_unlock(&me->lock);
	return stop;
}

static void *
run(void *arg)
{
	struct loop_store *me = arg;

	while (!stopped(me)) {
		event_base_loop(me->base, EVLOOP_ONCE);
		redis_event_flush(me->redis);
	}
	return NULL;
}

static void
wake(struct loop_store *me)
{
	const uint64_t one = 1;

	if (write(me->wake_fd, &one, sizeof one) < 0)
		abort();
}

static enum store_status
ask(struct store *s, const struct request *q, int64_t now_us, struct answer *out)
{
	struct loop_store *me = (struct loop_store *)s;
	struct waiting w = {
	    .call = {.q = q, .now_us = now_us, .out = out, .done = on_done}, .me = me};

	pthread_cond_init(&w.over, NULL);
	pthread_mutex_lock(&me->lock);
	w.next = me->queue;
	me->queue = &w;
	wake(me);
	while (!w.done)
		pthread_cond_wait(&w.over, &me->lock);
	pthread_mutex_unlock(&me->lock);
	pthread_cond_destroy(&w.over);
	return w.status;
}

static void
release(struct store *s, uint64_t lease)
{
	store_release(((struct loop_store *)s)->asked, lease);
}

static enum store_status
load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	return store_load(((struct loop_store *)s)->asked, deadline_us, known, out);
}

static void
publish(struct store *s, const char *const *pairs, unsigned n)
{
	store_publish(((struct loop_store *)s)->asked, pairs, n);
}

static bool
neighbours(struct store *s, bool above, unsigned *nabove, unsigned *all)
{
	return store_neighbours(((struct loop_store *)s)->asked, above, nabove, all);
}

static void
close_store(struct store *s)
{
	struct loop_store *me = (struct loop_store *)s;

	pthread_mutex_lock(&me->lock);
	me->stop = true;
	pthread_mutex_unlock(&me->lock);
	wake(me);
	pthread_join(me->thread, NULL);
	store_close(&me->asked);
	event_free(me->wake);
	event_base_free(me->base);
	close(me->wake_fd);
	pthread_mutex_destroy(&me->lock);
	free(me);
}

struct store *
loop_store_open(struct store *redis, struct store *asked)
{
	static const struct store_ops ops = {
	    ask, NULL, release, load, publish, neighbours, close_store};
	struct loop_store *me = calloc(1, sizeof *me);

	if (me == NULL || redis == NULL || asked == NULL)
		abort();
	me->store.ops = &ops;
	me->asked = asked;
	me->base = event_base_new();
	me->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	pthread_mutex_init(&me->lock, NULL);
	me->redis = redis_event_attach(redis, me->base);
	me->wake = event_new(me->base, me->wake_fd, EV_READ | EV_PERSIST, on_wake, me);
	if (me->redis == NULL || event_add(me->wake, NULL) != 0 ||
	    pthread_create(&me->thread, NULL, run, me) != 0)
		abort();
	return &me->store;
}
