/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lane.c - see lane.h.
 *
 * The lock guards the lists and the flags. The wire belongs to the leader and is used without
 * the lock, so that others can queue while it sends and parses.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "clock.h"
#include "lane.h"

struct lane_call {
	struct lane_call *next;
	char *cmd;
	size_t len;
	int64_t start_us, deadline_us;
	pthread_cond_t turn; /* done or lead has become true */
	unsigned skip; /* replies that come before its own */
	bool waiting; /* its owner is in lane_finish(), and can take the lead */
	bool done, lead;
	bool posted; /* nobody is told of its failure */
	bool abandoned; /* its owner is gone: whoever takes it off a list frees it */
	enum lane_result result;
	redisReply *reply;
	char why[WIRE_WHY_MAX];
};

struct queue {
	struct lane_call *head, **tail;
};

struct lane {
	pthread_mutex_t lock;
	struct target *target;
	const struct redis_options *options;
	bool leading; /* somebody leads */
	bool polling; /* the leader may be asleep in poll(): poke it */
	bool poked;
	int poke_fd;
	struct queue pending; /* not sent */
	struct queue inflight; /* sent, in order; changed by the leader only */
	struct wire wire; /* the leader's */
};

/* --- entries and queues ------------------------------------------------------------------- */

static void
queue_init(struct queue *q)
{
	q->head = NULL;
	q->tail = &q->head;
}

static void
queue_push(struct queue *q, struct lane_call *e)
{
	e->next = NULL;
	*q->tail = e;
	q->tail = &e->next;
}

static struct lane_call *
queue_pop(struct queue *q)
{
	struct lane_call *e = q->head;

	if (e == NULL)
		return NULL;
	q->head = e->next;
	if (q->head == NULL)
		q->tail = &q->head;
	return e;
}

static bool
queue_remove(struct queue *q, const struct lane_call *e)
{
	for (struct lane_call **p = &q->head; *p != NULL; p = &(*p)->next) {
		if (*p != e)
			continue;
		*p = e->next;
		if (*p == NULL)
			q->tail = p;
		return true;
	}
	return false;
}

/* All of `from` to the end of `to`. */
static void
queue_move(struct queue *to, struct queue *from)
{
	if (from->head == NULL)
		return;
	*to->tail = from->head;
	to->tail = from->tail;
	queue_init(from);
}

static void
entry_free(struct lane_call *e)
{
	redisFreeCommand(e->cmd);
	if (e->reply != NULL)
		freeReplyObject(e->reply);
	pthread_cond_destroy(&e->turn);
	free(e);
}

/* --- what the leader does ----------------------------------------------------------------- */

/* Locked. */
static void
finish(struct lane_call *e, enum lane_result result, const char *why)
{
	if (e->abandoned) {
		entry_free(e);
		return;
	}
	e->result = result;
	snprintf(e->why, sizeof e->why, "%s", why);
	e->done = true;
	pthread_cond_signal(&e->turn);
}

/* Locked: they have their replies. */
static void
finish_all(struct queue *q)
{
	struct lane_call *e;

	while ((e = queue_pop(q)) != NULL)
		finish(e, LANE_OK, "");
}

/* Locked. The oldest tells of the failure (if its owner has gone, he has); the others only
 * suffer it. */
static void
hang_up(struct lane *l, const char *why)
{
	enum lane_result result = LANE_FAILED;
	struct lane_call *e;

	wire_close(&l->wire);
	while ((e = queue_pop(&l->inflight)) != NULL) {
		bool heard = !e->posted;

		finish(e, result, why);
		if (heard)
			result = LANE_SWEPT;
	}
}

/* Not locked. Takes the replies that have come; false when the wire is broken. */
static bool
take_replies(struct lane *l, struct queue *done)
{
	bool alive = wire_receive(&l->wire);
	char why[WIRE_WHY_MAX];
	redisReply *r;
	int got;

	memcpy(why, l->wire.why, sizeof why);
	while ((got = wire_reply(&l->wire, &r)) > 0) {
		struct lane_call *e = l->inflight.head;

		if (e != NULL && e->skip > 0) {
			e->skip--;
			freeReplyObject(r);
			continue;
		}
		e = queue_pop(&l->inflight);
		if (e == NULL) { /* an answer that nobody asked for */
			freeReplyObject(r);
			snprintf(l->wire.why, sizeof l->wire.why, "protocol error");
			return false;
		}
		e->reply = r;
		queue_push(done, e);
	}
	if (got == 0 && !alive) /* parsing may have left its own words */
		memcpy(l->wire.why, why, sizeof why);
	return got == 0 && alive;
}

/* Not locked. Sends what has been moved to inflight from `first` on. */
static bool
send_from(struct lane *l, const struct lane_call *first)
{
	if (!wire_is_open(&l->wire) && !wire_open(&l->wire, l->target, l->options))
		return false;
	for (; first != NULL; first = first->next)
		if (!wire_push(&l->wire, first->cmd, first->len))
			return false;
	return wire_send(&l->wire);
}

/* Not locked. Sleeps until there is something to do or the time has come. */
static bool
wait_and_work(struct lane *l, int64_t until_us, struct queue *done)
{
	struct pollfd p[2] = {
	    {.fd = l->wire.fd, .events = wire_events(&l->wire)},
	    {.fd = l->poke_fd, .events = POLLIN},
	};
	bool ok = true;

	if (poll(p, 2, clock_poll_ms(until_us)) <= 0)
		return true;
	if ((p[0].revents & POLLOUT) != 0 || l->wire.connecting)
		ok = p[0].revents == 0 || wire_send(&l->wire);
	if (ok && (p[0].revents & (POLLIN | POLLERR | POLLHUP)) != 0)
		ok = take_replies(l, done);
	return ok;
}

static void
unpoke(struct lane *l)
{
	uint64_t n;

	l->polling = false;
	if (l->poked && read(l->poke_fd, &n, sizeof n) < 0 && errno != EAGAIN)
		return;
	l->poked = false;
}

/* Locked. The first whose owner waits. */
static struct lane_call *
first_waiting(const struct queue *q)
{
	struct lane_call *e;

	for (e = q->head; e != NULL && !e->waiting; e = e->next)
		;
	return e;
}

/* Locked, by the leader. The wire leads to where Redis is no more, and nothing travels on it that
 * could still arrive. */
static bool
left_behind(struct lane *l)
{
	if (!wire_is_open(&l->wire) || l->wire.place == target_place(l->target))
		return false;
	if (l->inflight.head != NULL)
		return true; /* what is pending waits for the end of that */
	wire_close(&l->wire);
	return false;
}

/* Locked, by the leader. Sends what is queued, without waiting for anything. */
static bool
send_pending(struct lane *l)
{
	const struct lane_call *fresh = l->pending.head;
	bool ok;

	queue_move(&l->inflight, &l->pending);
	pthread_mutex_unlock(&l->lock);
	ok = send_from(l, fresh);
	pthread_mutex_lock(&l->lock);
	return ok;
}

/* Locked. Gives the lead to somebody who still waits. If nobody does, those who come back later
 * have their commands sent. */
static void
pass_on(struct lane *l)
{
	struct lane_call *e;

	for (;;) {
		e = first_waiting(&l->inflight);
		if (e == NULL)
			e = first_waiting(&l->pending);
		if (e != NULL || l->pending.head == NULL || left_behind(l))
			break;
		if (!send_pending(l))
			hang_up(l, l->wire.why);
	}
	l->leading = e != NULL;
	if (e != NULL) {
		e->lead = true;
		pthread_cond_signal(&e->turn);
	}
}

/* When the oldest question or mine runs out. */
static int64_t
next_deadline(const struct lane *l, const struct lane_call *me)
{
	const struct lane_call *oldest = l->inflight.head;

	return oldest != NULL && oldest->deadline_us < me->deadline_us ? oldest->deadline_us
								       : me->deadline_us;
}

/* Locked, and so at its end. Takes what nobody waited for, and notices if the peer has hung up
 * meanwhile. */
static bool
catch_up(struct lane *l, struct queue *done)
{
	bool ok;

	if (!wire_is_open(&l->wire))
		return true;
	pthread_mutex_unlock(&l->lock);
	ok = take_replies(l, done);
	pthread_mutex_lock(&l->lock);
	return ok;
}

/* Locked, and so at its end. Leads until my own question is done or out of time. */
static void
lead(struct lane *l, struct lane_call *me)
{
	struct queue done;
	bool ok;

	queue_init(&done);
	ok = catch_up(l, &done);
	for (;;) {
		const struct lane_call *fresh, *oldest;
		int64_t now = clock_mono_us(), until;

		finish_all(&done);
		oldest = l->inflight.head;
		if (!ok)
			hang_up(l, l->wire.why);
		else if (oldest != NULL && now >= oldest->deadline_us) {
			char why[48];

			snprintf(why, sizeof why, "timeout after %lld ms",
			    (long long)((oldest->deadline_us - oldest->start_us + 999) / 1000));
			hang_up(l, why);
		}
		if (me->done || now >= me->deadline_us)
			break;
		fresh = left_behind(l) ? NULL : l->pending.head;
		if (fresh != NULL)
			queue_move(&l->inflight, &l->pending);
		until = next_deadline(l, me);
		l->polling = true;
		pthread_mutex_unlock(&l->lock);
		ok = fresh == NULL || send_from(l, fresh);
		if (ok)
			ok = wait_and_work(l, until, &done);
		pthread_mutex_lock(&l->lock);
		unpoke(l);
	}
	me->waiting = false;
	pass_on(l);
}

/* --- what everybody does ------------------------------------------------------------------ */

static void
poke(struct lane *l)
{
	uint64_t one = 1;

	if (!l->polling || l->poked)
		return;
	l->poked = true;
	while (write(l->poke_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

/* Locked. Until done, or my turn to lead, or out of time. */
static void
follow(struct lane *l, struct lane_call *me)
{
	struct timespec until = clock_timespec(me->deadline_us);

	while (!me->done && !me->lead)
		if (pthread_cond_timedwait(&me->turn, &l->lock, &until) == ETIMEDOUT)
			break;
}

static struct lane_call *
entry_new(char *cmd, size_t len, unsigned skip, int64_t deadline_us)
{
	struct lane_call *e = calloc(1, sizeof *e);

	if (e == NULL) {
		redisFreeCommand(cmd);
		return NULL;
	}
	e->cmd = cmd;
	e->len = len;
	e->skip = skip;
	e->start_us = clock_mono_us();
	e->deadline_us = deadline_us;
	clock_cond_init(&e->turn);
	return e;
}

static void
enqueue(struct lane *l, struct lane_call *e)
{
	pthread_mutex_lock(&l->lock);
	queue_push(&l->pending, e);
	if (l->leading)
		poke(l);
	pthread_mutex_unlock(&l->lock);
}

struct lane_call *
lane_begin(struct lane *l, char *cmd, size_t len, unsigned skip, int64_t deadline_us)
{
	struct lane_call *e = entry_new(cmd, len, skip, deadline_us);

	if (e != NULL)
		enqueue(l, e);
	return e;
}

void
lane_post(struct lane *l, char *cmd, size_t len, int64_t deadline_us)
{
	struct lane_call *e = entry_new(cmd, len, 0, deadline_us);

	if (e == NULL)
		return;
	e->posted = e->abandoned = true;
	enqueue(l, e);
	lane_push(l);
}

void
lane_push(struct lane *l)
{
	struct queue done;

	queue_init(&done);
	pthread_mutex_lock(&l->lock);
	if (!l->leading && l->pending.head != NULL) {
		l->leading = true;
		if (!catch_up(l, &done))
			hang_up(l, l->wire.why);
		finish_all(&done);
		pass_on(l);
	}
	pthread_mutex_unlock(&l->lock);
}

/* Locked. Out of time: whoever takes it off a list frees it. */
static void
give_up(struct lane *l, struct lane_call *me, char why[WIRE_WHY_MAX])
{
	snprintf(why, WIRE_WHY_MAX, "timeout after %lld ms",
	    (long long)((me->deadline_us - me->start_us + 999) / 1000));
	/* or the lead would be passed to nobody, and every later question wait for ever */
	me->waiting = false;
	if (queue_remove(&l->pending, me))
		entry_free(me);
	else
		me->abandoned = true;
}

enum lane_result
lane_finish(struct lane *l, struct lane_call *me, redisReply **reply, char why[WIRE_WHY_MAX])
{
	enum lane_result result;

	*reply = NULL;
	pthread_mutex_lock(&l->lock);
	me->waiting = true;
	if (!me->done && l->leading)
		follow(l, me);
	else if (!me->done)
		l->leading = me->lead = true;
	if (me->lead)
		lead(l, me);
	if (!me->done) {
		give_up(l, me, why);
		pthread_mutex_unlock(&l->lock);
		return LANE_FAILED;
	}
	pthread_mutex_unlock(&l->lock);
	result = me->result;
	memcpy(why, me->why, WIRE_WHY_MAX);
	*reply = me->reply;
	me->reply = NULL;
	entry_free(me);
	return result;
}

struct lane *
lane_new(struct target *t, const struct redis_options *o)
{
	struct lane *l = calloc(1, sizeof *l);

	if (l == NULL)
		return NULL;
	l->poke_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (l->poke_fd < 0) {
		free(l);
		return NULL;
	}
	pthread_mutex_init(&l->lock, NULL);
	l->target = t;
	l->options = o;
	queue_init(&l->pending);
	queue_init(&l->inflight);
	wire_init(&l->wire);
	return l;
}

void
lane_free(struct lane **l)
{
	struct lane_call *e;

	if (*l == NULL)
		return;
	while ((e = queue_pop(&(*l)->inflight)) != NULL)
		entry_free(e);
	while ((e = queue_pop(&(*l)->pending)) != NULL)
		entry_free(e);
	wire_close(&(*l)->wire);
	close((*l)->poke_fd);
	pthread_mutex_destroy(&(*l)->lock);
	free(*l);
	*l = NULL;
}
