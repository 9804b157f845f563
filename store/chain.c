/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * chain.c - what a worker asks: the zone's memory of refusals, then Redis, then the zone.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "weir/redis.h"

struct chain {
	struct store store; /* first: a struct store * points here */
	struct store *redis, *local;
	struct zone *zone;
};

/* A bucket or quota that is asked for one. For more than one, "not before" says nothing
 * about a cheaper question; and what does not fit a stranger may fit a known client. */
static bool
cacheable(const struct hit *h)
{
	return h->limit->count != COUNT_SESSIONS && h->cost == 1 && h->mode != HIT_NOTE &&
	    !limit_wants_trust(h->limit);
}

static bool
refused_lately(const struct chain *me, const struct request *q, int64_t now, struct answer *out)
{
	/* shadow and strict limits count refused attempts too, and their count is in Redis; and
	 * what has happened is noted whatever is refused */
	if (q->rejected || q->pool.block_us > 0)
		return false;
	for (unsigned i = 0; i < q->nhits; i++)
		if (q->hits[i].limit->action == ACTION_LOG || q->hits[i].limit->strict)
			return false;
	for (unsigned i = 0; i < q->nhits; i++) {
		const struct hit *h = &q->hits[i];
		int64_t fits = cacheable(h) ? zone_refusal_get(me->zone, q, i, now) : 0;

		if (fits <= now)
			continue;
		memset(out, 0, sizeof *out);
		out->source = ANSWER_CACHE;
		out->now_us = now;
		out->hits[i].over = true;
		out->hits[i].used = (hit_ceiling(h) + h->cost) * MICRO;
		out->hits[i].wait_us = fits - now;
		return true;
	}
	return false;
}

static void
remember(const struct chain *me, const struct request *q, int64_t now, const struct answer *a)
{
	for (unsigned i = 0; i < q->nhits; i++) {
		int64_t wait = a->hits[i].wait_us;

		if (a->hits[i].over && cacheable(&q->hits[i]) && wait > 0)
			zone_refusal_put(me->zone, q, i, now, now + wait);
	}
}

/* Redis is silent. Greylisting goes on with what this host remembers only if that is wanted: it
 * would hold back once more everybody who passed before. */
static enum store_status
ask_zone(const struct chain *me, const struct request *q, int64_t now_us, struct answer *out)
{
	struct request limits_only;
	enum store_status status;

	if (q->grey.asked && !q->grey.when_down) {
		limits_only = *q;
		limits_only.grey.asked = false;
		q = &limits_only;
	}
	status = store_ask(me->local, q, now_us, out);
	out->source = ANSWER_ZONE;
	return status;
}

/* What Redis has said, or not, and what follows. */
static enum store_status
settle(const struct chain *me, const struct request *q, int64_t now_us, int64_t now,
    enum store_status status, struct answer *out)
{
	if (status == STORE_OK && !q->peek && !out->charged)
		remember(me, q, now, out);
	if (status == STORE_OK && !q->peek &&
	    (out->known || out->grey == GREY_KNOWN || out->grey == GREY_PASSED))
		zone_known_put(me->zone, q, now);
	if (status != STORE_DOWN)
		return status;
	return ask_zone(me, q, now_us, out);
}

/* This host's clock: the refusals are between this host and itself. */
static int64_t
host_clock(int64_t now_us)
{
	return now_us > 0 ? now_us : clock_real_us();
}

static enum store_status
ask(struct store *s, const struct request *q, int64_t now_us, struct answer *out)
{
	struct chain *me = (struct chain *)s;
	int64_t now = host_clock(now_us);

	if (!q->peek && refused_lately(me, q, now, out))
		return STORE_OK;
	return settle(me, q, now_us, now, store_ask(me->redis, q, now_us, out), out);
}

static void
redis_done(struct store_call *c, enum store_status status)
{
	const struct chain *me = (const struct chain *)c->chain;

	c->done = c->chained;
	c->done(c, settle(me, c->q, c->now_us, host_clock(c->now_us), status, c->out));
}

static bool
submit(struct store *s, struct store_call *c, enum store_status *status)
{
	struct chain *me = (struct chain *)s;
	int64_t now = host_clock(c->now_us);

	*status = STORE_OK;
	if (!c->q->peek && refused_lately(me, c->q, now, c->out))
		return true;
	c->chain = s;
	c->chained = c->done;
	c->done = redis_done;
	if (!store_submit(me->redis, c, status))
		return false;
	c->done = c->chained;
	*status = settle(me, c->q, c->now_us, now, *status, c->out);
	return true;
}

static void
release(struct store *s, uint64_t lease)
{
	/* ends it in the zone at once, and in Redis when that can be reached */
	store_release(((struct chain *)s)->redis, lease);
}

static enum store_status
load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	return store_load(((struct chain *)s)->redis, deadline_us, known, out);
}

static void
publish(struct store *s, const char *const *pairs, unsigned n)
{
	store_publish(((struct chain *)s)->redis, pairs, n);
}

static bool
neighbours(struct store *s, bool above, unsigned *nabove, unsigned *all)
{
	return store_neighbours(((struct chain *)s)->redis, above, nabove, all);
}

static void
close_store(struct store *s)
{
	struct chain *me = (struct chain *)s;

	store_close(&me->redis);
	store_close(&me->local);
	free(me);
}

struct store *
chain_store_open(struct store *redis, struct zone *z, unsigned worker)
{
	static const struct store_ops ops = {
	    ask, submit, release, load, publish, neighbours, close_store};
	struct chain *me = calloc(1, sizeof *me);

	if (me == NULL)
		return NULL;
	me->local = zone_store_open(z, worker);
	if (me->local == NULL) {
		free(me);
		return NULL;
	}
	me->store.ops = &ops;
	me->redis = redis;
	me->zone = z;
	return &me->store;
}
