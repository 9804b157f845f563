/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lane_event.c - see lane_event.h.
 *
 * Whoever is told of a reply may send the next question at once. So nobody is told before the
 * wire and the queue are in order again.
 */
#include <event2/event_struct.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "lane_event.h"

/* Entries that are kept for the next questions. */
#define SPARE_MAX 256

struct entry {
	struct entry *next;
	int64_t start_us, deadline_us;
	unsigned skip; /* replies that come before its own */
	unsigned tag;
	bool posted; /* nobody is told of its failure */
	lane_event_fn *fn; /* NULL: it has been told, and its reply is for nobody */
	void *ctx;
	redisReply *reply;
	char *cmd; /* while it is held */
	size_t len;
};

struct queue {
	struct entry *head, **tail;
};

struct lane_event {
	struct event_base *base;
	struct target *target;
	const struct redis_options *options;
	struct wire wire;
	struct event io;
	int io_fd; /* what io waits for; -1: nothing */
	unsigned io_addr; /* the next address tried gets the same descriptor, and is not the same */
	short io_events;
	struct event timer;
	int64_t timer_us; /* when it rings, 0 = it does not */
	struct queue inflight; /* queued or sent, in order */
	struct queue held; /* for the place where Redis is now, once nothing travels to the last */
	struct entry *spare;
	unsigned nspare;
};

/* --- entries ------------------------------------------------------------------------------ */

static void
queue_init(struct queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static void
queue_push(struct queue *q, struct entry *e)
{
	e->next = NULL;
	*q->tail = e;
	q->tail = &e->next;
}

static struct entry *
queue_pop(struct queue *q)
{
	struct entry *e = q->head;

	if (e == NULL)
		return NULL;
	q->head = e->next;
	if (q->head == NULL)
		q->tail = &q->head;
	return e;
}

static struct entry *
entry_get(struct lane_event *l)
{
	struct entry *e = l->spare;

	if (e == NULL)
		return malloc(sizeof *e);
	l->spare = e->next;
	l->nspare--;
	return e;
}

static void
entry_put(struct lane_event *l, struct entry *e)
{
	if (l->nspare == SPARE_MAX) {
		free(e);
		return;
	}
	e->next = l->spare;
	l->spare = e;
	l->nspare++;
}

static void
tell(struct lane_event *l, struct entry *e, enum lane_result result, const char *why)
{
	const struct entry is = *e;

	entry_put(l, e);
	if (is.fn != NULL)
		is.fn(is.ctx, is.tag, result, is.reply, why);
	else if (is.reply != NULL)
		freeReplyObject(is.reply);
}

/* --- what the loop waits for --------------------------------------------------------------- */

static void on_ready(evutil_socket_t fd, short what, void *arg);

/* The wire may have another socket now, or something to send. */
static bool
watch(struct lane_event *l)
{
	int fd = wire_is_open(&l->wire) ? l->wire.fd : -1;
	short wants = fd >= 0 ? wire_events(&l->wire) : 0, events = EV_PERSIST;

	events = (short)(events | ((wants & POLLIN) != 0 ? EV_READ : 0) |
	    ((wants & POLLOUT) != 0 ? EV_WRITE : 0));
	if (fd == l->io_fd && events == l->io_events && (fd < 0 || l->io_addr == l->wire.addr))
		return true;
	if (l->io_fd >= 0)
		(void)event_del(&l->io);
	l->io_fd = -1;
	if (fd < 0)
		return true;
	if (event_assign(&l->io, l->base, fd, events, on_ready, l) != 0 ||
	    event_add(&l->io, NULL) != 0)
		return false;
	l->io_fd = fd;
	l->io_events = events;
	l->io_addr = l->wire.addr;
	return true;
}

static void
ring_at(struct lane_event *l, int64_t when_us, int64_t now)
{
	int64_t left = when_us > now + USEC_PER_MSEC ? when_us - now : USEC_PER_MSEC;
	const struct timeval tv = {left / USEC_PER_SEC, left % USEC_PER_SEC};

	if (l->timer_us != 0 && l->timer_us <= when_us)
		return;
	l->timer_us = event_add(&l->timer, &tv) == 0 ? when_us : 0;
}

/* --- failing -------------------------------------------------------------------------------- */

/* The oldest tells of the failure (if its owner has been told, he has); the others only suffer
 * it. */
static void
hang_up(struct lane_event *l, const char *reason)
{
	enum lane_result result = LANE_FAILED;
	struct queue gone = l->inflight;
	char why[WIRE_WHY_MAX];
	struct entry *e;

	snprintf(why, sizeof why, "%s", reason);
	if (gone.head == NULL)
		queue_init(&gone);
	queue_init(&l->inflight);
	wire_close(&l->wire);
	(void)watch(l);
	while (gone.head != NULL) {
		bool heard;

		e = queue_pop(&gone);
		heard = !e->posted;
		tell(l, e, result, why);
		if (heard)
			result = LANE_SWEPT;
	}
}

static void
timeout_text(const struct entry *e, char why[WIRE_WHY_MAX])
{
	snprintf(why, WIRE_WHY_MAX, "timeout after %lld ms",
	    (long long)((e->deadline_us - e->start_us + 999) / 1000));
}

/* One that was asked anew has less time than those in front of it. Returns when the next one runs
 * out, 0: none does. */
static int64_t
expire(struct queue *q, int64_t now, int64_t next)
{
	char why[WIRE_WHY_MAX];

	for (struct entry *e = q->head; e != NULL; e = e->next) {
		if (e->fn != NULL && e->deadline_us <= now) {
			struct entry late = *e;

			timeout_text(e, why);
			e->fn = NULL;
			late.fn(late.ctx, late.tag, LANE_FAILED, NULL, why);
		} else if (next == 0 || e->deadline_us < next)
			next = e->deadline_us;
	}
	return next;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct lane_event *l = arg;
	int64_t now = clock_mono_us(), next;
	char why[WIRE_WHY_MAX];

	(void)fd;
	(void)what;
	l->timer_us = 0;
	if (l->inflight.head != NULL && l->inflight.head->deadline_us <= now) {
		timeout_text(l->inflight.head, why);
		hang_up(l, why);
	}
	next = expire(&l->held, now, expire(&l->inflight, now, 0));
	if (next != 0)
		ring_at(l, next, now);
}

/* --- sending and receiving ------------------------------------------------------------------- */

/* Takes the replies that have come to `done`; false when the wire is broken. */
static bool
take_replies(struct lane_event *l, struct queue *done, char why[WIRE_WHY_MAX])
{
	bool alive = wire_receive(&l->wire);
	redisReply *r;
	int got;

	memcpy(why, l->wire.why, WIRE_WHY_MAX);
	while ((got = wire_reply(&l->wire, &r)) > 0) {
		struct entry *e = l->inflight.head;

		if (e == NULL) { /* an answer that nobody asked for */
			freeReplyObject(r);
			snprintf(why, WIRE_WHY_MAX, "protocol error");
			return false;
		}
		if (e->skip > 0) {
			e->skip--;
			freeReplyObject(r);
			continue;
		}
		queue_pop(&l->inflight);
		e->reply = r;
		queue_push(done, e);
	}
	if (got < 0)
		memcpy(why, l->wire.why, WIRE_WHY_MAX);
	return got == 0 && alive;
}

static void
on_ready(evutil_socket_t fd, short what, void *arg)
{
	struct lane_event *l = arg;
	struct queue done;
	struct entry *e;
	char why[WIRE_WHY_MAX] = "";
	bool ok = true;

	(void)fd;
	queue_init(&done);
	if ((what & EV_WRITE) != 0) {
		ok = wire_send(&l->wire);
		memcpy(why, l->wire.why, sizeof why);
	}
	if (ok && (what & EV_READ) != 0)
		ok = take_replies(l, &done, why);
	if (ok)
		ok = watch(l);
	/* those that are told of their replies may ask again, on another connection then */
	if (!ok)
		hang_up(l, why);
	while ((e = queue_pop(&done)) != NULL)
		tell(l, e, LANE_OK, "");
}

/* The wire leads to where Redis is no more, and something travels on it that may still arrive. */
static bool
left_behind(struct lane_event *l)
{
	if (!wire_is_open(&l->wire) || l->wire.place == target_place(l->target))
		return false;
	if (l->inflight.head != NULL)
		return true;
	wire_close(&l->wire);
	(void)watch(l);
	return false;
}

/* False: it cannot be sent. */
static bool
push(struct lane_event *l, struct entry *e, const char *cmd, size_t len, char why[WIRE_WHY_MAX])
{
	bool ok = true;

	snprintf(why, WIRE_WHY_MAX, "out of memory");
	if (!wire_is_open(&l->wire)) {
		ok = wire_open(&l->wire, l->target, l->options);
		if (!ok) {
			memcpy(why, l->wire.why, WIRE_WHY_MAX);
			wire_close(&l->wire);
		}
	}
	if (!ok || !wire_push(&l->wire, cmd, len))
		return false;
	queue_push(&l->inflight, e);
	return true;
}

/* Nothing travels to where Redis was: they go to where it is. */
static void
release_held(struct lane_event *l)
{
	struct queue all = l->held;
	char why[WIRE_WHY_MAX];
	struct entry *e;

	if (all.head == NULL || left_behind(l))
		return;
	queue_init(&l->held);
	while ((e = queue_pop(&all)) != NULL) {
		bool ok = e->fn != NULL && push(l, e, e->cmd, e->len, why);

		redisFreeCommand(e->cmd);
		if (!ok)
			tell(l, e, LANE_FAILED, why);
	}
}

static bool
enqueue(struct lane_event *l, struct entry *e, char *cmd, size_t len, char why[WIRE_WHY_MAX])
{
	bool ok = true;

	if (left_behind(l)) {
		e->cmd = cmd;
		e->len = len;
		queue_push(&l->held, e);
	} else {
		ok = push(l, e, cmd, len, why);
		redisFreeCommand(cmd);
	}
	if (ok)
		ring_at(l, e->deadline_us, e->start_us);
	else
		entry_put(l, e);
	return ok;
}

bool
lane_event_send(struct lane_event *l, char *cmd, size_t len, unsigned skip, int64_t deadline_us,
    lane_event_fn *fn, void *ctx, unsigned tag, char why[WIRE_WHY_MAX])
{
	struct entry *e = entry_get(l);

	if (e == NULL) {
		redisFreeCommand(cmd);
		snprintf(why, WIRE_WHY_MAX, "out of memory");
		return false;
	}
	*e = (struct entry){.start_us = clock_mono_us(),
	    .deadline_us = deadline_us,
	    .skip = skip,
	    .fn = fn,
	    .ctx = ctx,
	    .tag = tag};
	return enqueue(l, e, cmd, len, why);
}

static void
nobody(void *ctx, unsigned tag, enum lane_result result, redisReply *r, const char *why)
{
	(void)ctx;
	(void)tag;
	(void)result;
	(void)why;
	if (r != NULL)
		freeReplyObject(r);
}

void
lane_event_post(struct lane_event *l, char *cmd, size_t len, int64_t deadline_us)
{
	struct entry *e = entry_get(l);
	char why[WIRE_WHY_MAX];

	if (e == NULL) {
		redisFreeCommand(cmd);
		return;
	}
	*e = (struct entry){
	    .start_us = clock_mono_us(), .deadline_us = deadline_us, .posted = true, .fn = nobody};
	(void)enqueue(l, e, cmd, len, why);
}

void
lane_event_flush(struct lane_event *l)
{
	char why[WIRE_WHY_MAX];

	release_held(l);
	if (!wire_is_open(&l->wire) || (l->wire.out_len == 0 && l->io_fd == l->wire.fd))
		return;
	if (wire_send(&l->wire) && watch(l))
		return;
	memcpy(why, l->wire.why, sizeof why);
	hang_up(l, why);
}

/* --- it begins and ends ----------------------------------------------------------------------- */

struct lane_event *
lane_event_new(struct event_base *base, struct target *t, const struct redis_options *o)
{
	struct lane_event *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->base = base;
	l->target = t;
	l->options = o;
	l->io_fd = -1;
	queue_init(&l->inflight);
	queue_init(&l->held);
	wire_init(&l->wire);
	evtimer_assign(&l->timer, base, on_timer, l);
	return l;
}

void
lane_event_free(struct lane_event **l)
{
	struct entry *e;

	if (*l == NULL)
		return;
	wire_close(&(*l)->wire);
	(void)watch(*l);
	(void)event_del(&(*l)->timer);
	while ((e = queue_pop(&(*l)->inflight)) != NULL)
		free(e);
	while ((e = queue_pop(&(*l)->held)) != NULL) {
		redisFreeCommand(e->cmd);
		free(e);
	}
	while ((e = (*l)->spare) != NULL) {
		(*l)->spare = e->next;
		free(e);
	}
	free(*l);
	*l = NULL;
}
