/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis_event.c - see redis_event.h: drives each question (question.h) over lanes on the loop, one
 * to each node, all parts of it at once.
 */
#include <event2/event_struct.h>
#include <stdlib.h>

#include "clock.h"
#include "lane_event.h"
#include "redis_event.h"
#include "redis_private.h"

/* Travels that are kept for the next questions. */
#define SPARE_MAX 64

/* One question on its way. */
struct travel {
	struct question x;
	struct redis_event *all;
	struct store_call *call;
	unsigned under_way; /* parts */
	struct event pause; /* before it has something to send again */
	struct travel *next;
};

struct redis_event {
	struct desk *desk;
	struct event_base *base;
	struct lane_event *lanes[NODES_MAX]; /* to each node, made when first needed */
	unsigned nlanes; /* none beyond */
	struct travel *spare;
	unsigned nspare;
};

static struct travel *
travel_get(struct redis_event *all)
{
	struct travel *t = all->spare;

	if (t == NULL)
		return malloc(sizeof *t);
	all->spare = t->next;
	all->nspare--;
	return t;
}

static void
travel_put(struct redis_event *all, struct travel *t)
{
	if (all->nspare == SPARE_MAX) {
		free(t);
		return;
	}
	t->next = all->spare;
	all->spare = t;
	all->nspare++;
}

static struct lane_event *
lane_to(struct redis_event *all, unsigned node)
{
	const struct site *site = &all->desk->site;

	if (all->lanes[node] == NULL) {
		all->lanes[node] = lane_event_new(
		    all->base, topology_target(site->topology, node), &site->options);
		if (all->lanes[node] != NULL && node >= all->nlanes)
			all->nlanes = node + 1;
	}
	return all->lanes[node];
}

static void on_reply(
    void *ctx, unsigned part, enum lane_result result, redisReply *r, const char *why);

static void
send_out(struct travel *t)
{
	struct question *x = &t->x;
	struct question_send s;
	char why[WIRE_WHY_MAX];

	while (question_send(x, &s)) {
		struct lane_event *lane = lane_to(t->all, s.node);

		if (lane == NULL) {
			redisFreeCommand(s.cmd);
			question_lost(x, s.part, false, "out of memory");
		} else if (lane_event_send(lane, s.cmd, s.len, s.skip, x->deadline_us, on_reply, t,
			       s.part, why))
			t->under_way++;
		else
			question_lost(x, s.part, true, why);
	}
}

static void
end(struct travel *t, enum store_status *status)
{
	struct redis_event *all = t->all;
	struct question_send s;

	*status = question_end(&t->x);
	while (question_after(&t->x, &s)) {
		struct lane_event *lane = lane_to(all, s.node);

		if (lane != NULL)
			lane_event_post(lane, s.cmd, s.len,
			    clock_mono_us() + all->desk->site.options.timeout_us);
		else
			redisFreeCommand(s.cmd);
	}
	travel_put(all, t);
}

/* True: it is over, with *status. Else something is under way, or it has to come back later. */
static bool
go_on(struct travel *t, enum store_status *status)
{
	int64_t left;
	struct timeval tv;

	send_out(t);
	if (question_over(&t->x)) {
		end(t, status);
		return true;
	}
	if (t->under_way > 0)
		return false;
	left = question_pause_us(&t->x) - clock_mono_us();
	if (left < 1)
		left = 1;
	tv.tv_sec = left / USEC_PER_SEC;
	tv.tv_usec = left % USEC_PER_SEC;
	(void)event_add(&t->pause, &tv);
	return false;
}

static void
come_back(struct travel *t)
{
	struct store_call *call = t->call;
	enum store_status status;

	if (go_on(t, &status))
		call->done(call, status);
}

static void
on_pause(evutil_socket_t fd, short what, void *arg)
{
	(void)fd;
	(void)what;
	come_back(arg);
}

static void
on_reply(void *ctx, unsigned part, enum lane_result result, redisReply *r, const char *why)
{
	struct travel *t = ctx;

	t->under_way--;
	if (r != NULL)
		question_reply(&t->x, part, r);
	else
		question_lost(&t->x, part, result == LANE_FAILED, why);
	come_back(t);
}

static bool
submit(struct redis_event *all, struct store_call *call, enum store_status *status)
{
	struct travel *t = travel_get(all);

	*status = STORE_DOWN;
	if (t == NULL)
		return true;
	t->all = all;
	t->call = call;
	t->under_way = 0;
	evtimer_assign(&t->pause, all->base, on_pause, t);
	question_ask(&t->x, all->desk, call->q, call->now_us, call->out);
	return go_on(t, status);
}

static void
detach(struct redis_event *all)
{
	struct travel *t;

	for (unsigned i = 0; i < all->nlanes; i++)
		lane_event_free(&all->lanes[i]);
	while ((t = all->spare) != NULL) {
		all->spare = t->next;
		free(t);
	}
	free(all);
}

struct redis_event *
redis_event_attach(struct store *redis, struct event_base *base)
{
	static const struct redis_loop_ops ops = {submit, detach};
	struct redis_event *all = calloc(1, sizeof *all);

	if (all == NULL)
		return NULL;
	all->desk = redis_store_desk(redis);
	all->base = base;
	redis_store_loop(redis, &ops, all);
	return all;
}

void
redis_event_flush(struct redis_event *e)
{
	for (unsigned i = 0; i < e->nlanes; i++)
		if (e->lanes[i] != NULL)
			lane_event_flush(e->lanes[i]);
}
