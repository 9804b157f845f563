/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * store.h - where counters live: one contract, two back ends (Redis, the zone) and the chain of
 * both that a worker uses. tests/contract runs the same cases against each.
 *
 * Every call may come from any thread of the process that opened the store, returns within the
 * request's deadline, and never fails louder than by its status.
 */
#ifndef WEIR_STORE_H
#define WEIR_STORE_H

#include "weir/answer.h"

enum store_status {
	STORE_OK,
	STORE_STALE, /* planned with another generation than the store's: nothing was charged */
	STORE_DOWN /* no usable answer; whether anything was charged is unknown */
};

/* Frees what store_load() or overlay_merge() allocated. */
void overlay_free(struct overlay *o);

/* What `changes` makes of `known`; borrows nothing. total stays what Redis counts: if n differs,
 * something has changed that the history does not tell. False: out of memory. */
bool overlay_merge(const struct overlay *known, const struct overlay *changes, struct overlay *out);

/* How a store tells its owner of changes of state: one line each, no newline, safe to log. */
typedef void store_notice(void *ctx, int syslog_priority, const char *line);

struct store;

/*
 * One question of somebody who must not wait. q and *out are the caller's, and stay where they
 * are until the call is over. Below done is the store's own.
 */
struct store_call {
	const struct request *q;
	int64_t now_us;
	struct answer *out;
	/* Comes once, from the loop that the store was given, when store_submit() has said false. */
	void (*done)(struct store_call *, enum store_status);
	struct store *chain;
	void (*chained)(struct store_call *, enum store_status);
};

struct store_ops {
	enum store_status (*ask)(
	    struct store *, const struct request *, int64_t now_us, struct answer *);
	/* NULL: ask() does not wait */
	bool (*submit)(struct store *, struct store_call *, enum store_status *);
	void (*release)(struct store *, uint64_t lease);
	enum store_status (*load)(
	    struct store *, int64_t deadline_us, const struct overlay *known, struct overlay *);
	void (*publish)(struct store *, const char *const *pairs, unsigned n);
	bool (*neighbours)(struct store *, bool above, unsigned *nabove, unsigned *all);
	void (*close)(struct store *);
};

struct store {
	const struct store_ops *ops;
};

/* Check and charge. now_us is the time to go by, 0 = the store's own clock. */
static inline enum store_status
store_ask(struct store *s, const struct request *q, int64_t now_us, struct answer *out)
{
	return s->ops->ask(s, q, now_us, out);
}

/* The same without waiting. True: it is answered, with *status, as when there was nobody to ask;
 * else done() will come, by the request's deadline. */
static inline bool
store_submit(struct store *s, struct store_call *c, enum store_status *status)
{
	if (s->ops->submit != NULL)
		return s->ops->submit(s, c, status);
	*status = s->ops->ask(s, c->q, c->now_us, c->out);
	return true;
}

/* The session that got this lease has ended. Never waits; 0 is ignored. */
static inline void
store_release(struct store *s, uint64_t lease)
{
	if (lease != 0)
		s->ops->release(s, lease);
}

/*
 * Reads what Redis lays over the file. If its generation is the known one only that is said, with
 * no entries; if the history tells all steps from the known one, out->changes is set, and
 * overlay_merge() makes a whole of both. known NULL reads all. The zone has nothing, and
 * generation "0".
 */
static inline enum store_status
store_load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	return s->ops->load(s, deadline_us, known, out);
}

/* A published description lives so long. */
#define PUBLISH_LIFE_US INT64_C(10000000)

/* Lets others see how this weir-milter fares: n pairs of name and value. May be lost. */
static inline void
store_publish(struct store *s, const char *const *pairs, unsigned n)
{
	s->ops->publish(s, pairs, n);
}

/* Who has not been heard of for so long is no neighbour. */
#define NEIGHBOUR_LIFE_US PUBLISH_LIFE_US
/* Added to the score of one that asks for a load level, in PREFIX:nodes. */
#define NEIGHBOUR_ABOVE INT64_C(100000000000000)

/* Tells the other weir-milters whether this one asks for a load level by itself, and counts those
 * that do among all, itself included. False: there are none to ask, or no answer. */
static inline bool
store_neighbours(struct store *s, bool above, unsigned *nabove, unsigned *all)
{
	return s->ops->neighbours(s, above, nabove, all);
}

/* Frees the store; *s becomes NULL. */
static inline void
store_close(struct store **s)
{
	if (*s != NULL)
		(*s)->ops->close(*s);
	*s = NULL;
}

#endif
