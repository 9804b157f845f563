/*
 * redis.c - the store in Redis, for threads that wait: drives each question (question.h) over the
 * lane, all parts of it at once.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lane.h"
#include "redis_private.h"

struct redis_store {
	struct store store; /* first: a struct store * points here */
	struct desk desk;
	struct lane *lane;
	const struct redis_loop_ops *loop; /* NULL: there is none */
	struct redis_event *event;
};

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
		struct lane *lane = me->lane;
		struct lane_call *call = lane_begin(lane, s.cmd, s.len, s.skip, x->deadline_us);

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

static enum store_status
drive(struct redis_store *me, struct question *x)
{
	struct travel t = {.n = 0};

	do {
		send_out(me, x, &t);
		if (t.n > 0)
			take_in(x, &t);
	} while (!question_over(x));
	return question_end(x);
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
	lane_free(&me->lane);
	site_clear(&me->desk.site);
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
	if (site_init(&d->site, o, z, worker, node, notice, ctx)) {
		me->lane = lane_new(d->site.target, &d->site.options);
		if (me->lane != NULL)
			d->keeper = keeper_new(&d->site);
	}
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
