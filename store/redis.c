/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis.c - the store in Redis, for threads that wait: drives each question (question.h) over the
 * lanes, one to each node, all parts of it at once.
 */
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lane.h"
#include "redis_private.h"
#include "scout.h"

struct redis_store {
	struct store store; /* first: a struct store * points here */
	struct desk desk;
	pthread_mutex_t lock; /* for a new lane */
	_Atomic(struct lane *) lanes[NODES_MAX]; /* to each node, made when first needed */
	const struct redis_loop_ops *loop; /* NULL: there is none */
	struct redis_event *event;
};

/* NULL: out of memory or descriptors. */
static struct lane *
lane_to(struct redis_store *me, unsigned node)
{
	struct lane *l = atomic_load_explicit(&me->lanes[node], memory_order_acquire);

	if (l != NULL)
		return l;
	pthread_mutex_lock(&me->lock);
	l = me->lanes[node];
	if (l == NULL) {
		l = lane_new(topology_target(me->desk.site.topology, node), &me->desk.site.options);
		atomic_store_explicit(&me->lanes[node], l, memory_order_release);
	}
	pthread_mutex_unlock(&me->lock);
	return l;
}

/* --- driving a question ------------------------------------------------------------------- */

/* What travels for one question, in the order in which it was sent. */
struct travel {
	unsigned n;
	struct {
		struct lane *lane;
		struct lane_call *call;
		unsigned part;
	} legs[QUESTION_PARTS_MAX];
};

static void
send_out(struct redis_store *me, struct question *x, struct travel *t)
{
	struct question_send s;

	while (question_send(x, &s)) {
		struct lane *lane = lane_to(me, s.node);
		struct lane_call *call = NULL;

		if (lane != NULL)
			call = lane_begin(lane, s.cmd, s.len, s.skip, x->deadline_us);
		else
			redisFreeCommand(s.cmd);
		if (call == NULL) {
			question_lost(x, s.part, false, "out of memory");
			continue;
		}
		t->legs[t->n].lane = lane;
		t->legs[t->n].call = call;
		t->legs[t->n++].part = s.part;
	}
	/* a lone one is sent by who waits for it */
	for (unsigned i = 0; t->n > 1 && i < t->n; i++)
		lane_push(t->legs[i].lane);
}

static void
take_in(struct question *x, struct travel *t)
{
	char why[WIRE_WHY_MAX];
	redisReply *r = NULL;
	enum lane_result result = lane_finish(t->legs[0].lane, t->legs[0].call, &r, why);
	unsigned part = t->legs[0].part;

	memmove(&t->legs[0], &t->legs[1], --t->n * sizeof t->legs[0]);
	if (r != NULL)
		question_reply(x, part, r);
	else
		question_lost(x, part, result == LANE_FAILED, why);
}

static void
pause_until(int64_t until_us)
{
	struct timespec until = clock_timespec(until_us);

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
		;
}

static enum store_status
drive(struct redis_store *me, struct question *x)
{
	struct travel t = {.n = 0};
	struct question_send s;
	enum store_status status;

	while (!question_over(x)) {
		send_out(me, x, &t);
		if (t.n > 0)
			take_in(x, &t);
		else if (!question_over(x))
			pause_until(question_pause_us(x));
	}
	status = question_end(x);
	while (question_after(x, &s)) {
		struct lane *lane = lane_to(me, s.node);

		if (lane != NULL)
			lane_post(
			    lane, s.cmd, s.len, clock_mono_us() + me->desk.site.options.timeout_us);
		else
			redisFreeCommand(s.cmd);
	}
	return status;
}

/* --- the store ---------------------------------------------------------------------------- */

static enum store_status
ask(struct store *s, const struct request *q, int64_t now_us, struct answer *out)
{
	struct redis_store *me = (struct redis_store *)s;
	struct question x;

	question_ask(&x, &me->desk, q, now_us, out);
	return drive(me, &x);
}

static bool
submit(struct store *s, struct store_call *c, enum store_status *status)
{
	struct redis_store *me = (struct redis_store *)s;

	if (me->loop != NULL)
		return me->loop->submit(me->event, c, status);
	*status = ask(s, c->q, c->now_us, c->out);
	return true;
}

static void
release(struct store *s, uint64_t lease)
{
	struct redis_store *me = (struct redis_store *)s;

	zone_lease_end(me->desk.site.zone, lease, true);
	keeper_wake(me->desk.keeper);
}

static enum store_status
load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	struct redis_store *me = (struct redis_store *)s;
	struct question x;

	question_load(&x, &me->desk, deadline_us, known, out);
	return drive(me, &x);
}

static void
publish(struct store *s, const char *const *pairs, unsigned n)
{
	struct redis_store *me = (struct redis_store *)s;
	struct question x;

	question_publish(&x, &me->desk, pairs, n);
	drive(me, &x);
}

static bool
neighbours(struct store *s, bool above, unsigned *nabove, unsigned *all)
{
	struct redis_store *me = (struct redis_store *)s;
	struct question x;

	question_neighbours(&x, &me->desk, above, nabove, all);
	return drive(me, &x) == STORE_OK;
}

static void
close_store(struct store *s)
{
	struct redis_store *me = (struct redis_store *)s;

	if (me->loop != NULL)
		me->loop->detach(me->event);
	keeper_free(&me->desk.keeper);
	scout_free(&me->desk.scout);
	for (unsigned i = 0; i < NODES_MAX; i++) {
		struct lane *l = me->lanes[i];

		lane_free(&l);
	}
	site_clear(&me->desk.site);
	pthread_mutex_destroy(&me->lock);
	free(me);
}

struct store *
redis_store_open(const struct redis_options *o, struct zone *z, unsigned worker, const char *node,
    store_notice *notice, void *ctx)
{
	static const struct store_ops ops = {
	    ask, submit, release, load, publish, neighbours, close_store};
	struct redis_store *me = calloc(1, sizeof *me);
	struct desk *d;

	if (me == NULL)
		return NULL;
	d = &me->desk;
	me->store.ops = &ops;
	ask_names_init(&d->names);
	pthread_mutex_init(&me->lock, NULL);
	if (site_init(&d->site, o, z, worker, node, notice, ctx) &&
	    scout_start(&d->site, &d->scout) &&
	    (o->kind == REDIS_CLUSTER || lane_to(me, 0) != NULL))
		d->keeper = keeper_new(&d->site, d->scout);
	if (d->keeper == NULL) {
		close_store(&me->store);
		return NULL;
	}
	return &me->store;
}

struct desk *
redis_store_desk(struct store *redis)
{
	return &((struct redis_store *)redis)->desk;
}

void
redis_store_loop(struct store *redis, const struct redis_loop_ops *ops, struct redis_event *e)
{
	struct redis_store *me = (struct redis_store *)redis;

	me->loop = ops;
	me->event = e;
}
