/*
 * redis_event.c - see redis_event.h: drives each question (question.h) over lanes on the loop.
 */
#include <stdlib.h>

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
	struct travel *next;
};

struct redis_event {
	struct desk *desk;
	struct lane_event *lane;
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

static void on_reply(
    void *ctx, unsigned part, enum lane_result result, redisReply *r, const char *why);

static void
send_out(struct travel *t)
{
	struct question *x = &t->x;
	struct question_send s;
	char why[WIRE_WHY_MAX];

	while (question_send(x, &s))
		if (!lane_event_send(t->all->lane, s.cmd, s.len, s.skip, x->deadline_us, on_reply,
			t, s.part, why))
			question_lost(x, s.part, true, why);
}

static void
on_reply(void *ctx, unsigned part, enum lane_result result, redisReply *r, const char *why)
{
	struct travel *t = ctx;
	struct store_call *call = t->call;
	enum store_status status;

	if (r != NULL)
		question_reply(&t->x, part, r);
	else
		question_lost(&t->x, part, result == LANE_FAILED, why);
	send_out(t);
	if (!question_over(&t->x))
		return;
	status = question_end(&t->x);
	travel_put(t->all, t);
	call->done(call, status);
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
	question_ask(&t->x, all->desk, call->q, call->now_us, call->out);
	send_out(t);
	if (!question_over(&t->x))
		return false;
	*status = question_end(&t->x);
	travel_put(all, t);
	return true;
}

static void
detach(struct redis_event *all)
{
	struct travel *t;

	lane_event_free(&all->lane);
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
	all->lane = lane_event_new(base, all->desk->site.target, &all->desk->site.options);
	if (all->lane == NULL) {
		free(all);
		return NULL;
	}
	redis_store_loop(redis, &ops, all);
	return all;
}

void
redis_event_flush(struct redis_event *e)
{
	lane_event_flush(e->lane);
}
