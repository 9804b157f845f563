/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.c - see conn.h.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clock.h"
#include "conn_private.h"

/* Half a packet, or a connection without a word, is not waited for as long as a person who types
 * into a session. */
#define HASTE_US (60 * USEC_PER_SEC)
/* What an MTA may leave untaken; it says little before it has heard our answers. */
#define UNSENT_MAX (64 * 1024)
/* What it may send ahead while a question is under way. */
#define AHEAD_MAX (128 * 1024)

/* What the MTA does not take yet. */
struct unsent {
	struct event event;
	size_t len, sent;
	char bytes[];
};

/* --- who waits for how long --------------------------------------------------------------------- */

static void
queue_arm(struct conn_queue *q, int64_t now)
{
	int64_t left = q->head->since_us + q->timeout_us - now;
	struct timeval tv;

	if (left < 1)
		left = 1;
	tv.tv_sec = left / USEC_PER_SEC;
	tv.tv_usec = left % USEC_PER_SEC;
	q->armed = event_add(&q->timer, &tv) == 0;
}

static void
queue_leave(struct conn *c)
{
	struct conn_queue *q = c->queue;

	if (q == NULL)
		return;
	*(c->prev != NULL ? &c->prev->next : &q->head) = c->next;
	*(c->next != NULL ? &c->next->prev : &q->tail) = c->prev;
	c->queue = NULL;
}

void
conn_wait(struct conn *c)
{
	queue_leave(c);
}

/* At its end: all in it have the same time. */
static void
queue_join(struct conn *c, struct conn_queue *q)
{
	queue_leave(c);
	c->since_us = clock_mono_us();
	c->queue = q;
	c->next = NULL;
	c->prev = q->tail;
	*(q->tail != NULL ? &q->tail->next : &q->head) = c;
	q->tail = c;
	/* one that runs for somebody who has left meanwhile is set anew when it has run out */
	if (!q->armed)
		queue_arm(q, c->since_us);
}

static void
drop_unsent(struct conn *c)
{
	if (c->unsent != NULL)
		(void)event_del(&c->unsent->event);
	free(c->unsent);
	c->unsent = NULL;
}

static void
hang_up(struct conn *c)
{
	struct conns *all = c->all;

	c->ended = true;
	(void)event_del(&c->event);
	drop_unsent(c);
	/* with a question under way it is not over yet */
	if (c->asking != NULL)
		return;
	queue_leave(c);
	conn_end_session(c);
	macros_clear(&c->macros);
	close(event_get_fd(&c->event));
	free(c->in);
	free(c);
	atomic_fetch_sub(&all->open, 1);
}

/* --- what is said to the MTA ---------------------------------------------------------------------- */

/* *sent: of the bytes; false: it has gone. */
static bool
try_send(int fd, const char *bytes, size_t len, size_t *sent)
{
	for (*sent = 0; *sent < len;) {
		ssize_t n = send(fd, bytes + *sent, len - *sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return errno == EAGAIN || errno == EWOULDBLOCK;
		*sent += (size_t)n;
	}
	return true;
}

static void
on_writable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct unsent *u = c->unsent;
	size_t sent;

	(void)what;
	if (!try_send(fd, u->bytes + u->sent, u->len - u->sent, &sent)) {
		hang_up(c);
		return;
	}
	u->sent += sent;
	if (u->sent == u->len)
		drop_unsent(c);
}

/* Behind what waits already. */
static bool
send_later(struct conn *c, const char *bytes, size_t len)
{
	struct unsent *old = c->unsent;
	size_t left = old != NULL ? old->len - old->sent : 0;
	struct unsent *u = left + len <= UNSENT_MAX ? malloc(sizeof *u + left + len) : NULL;

	if (u == NULL)
		return false;
	if (old != NULL)
		memcpy(u->bytes, old->bytes + old->sent, left);
	drop_unsent(c);
	memcpy(u->bytes + left, bytes, len);
	u->len = left + len;
	u->sent = 0;
	c->unsent = u;
	return event_assign(&u->event, c->all->base, event_get_fd(&c->event), EV_WRITE | EV_PERSIST,
		   on_writable, c) == 0 &&
	    event_add(&u->event, NULL) == 0;
}

/* All that this turn has to say goes out in one. False: the MTA does not listen any more. */
static bool
flush(struct conn *c)
{
	struct conns *all = c->all;
	size_t len = all->outlen, sent = 0;

	all->outlen = 0;
	if (len == 0)
		return true;
	if (c->unsent == NULL && !try_send(event_get_fd(&c->event), all->out, len, &sent))
		return false;
	return sent == len || send_later(c, all->out + sent, len - sent);
}

char *
conn_room(struct conn *c)
{
	struct conns *all = c->all;

	if (sizeof all->out - all->outlen < PROTO_ANSWER_MAX && !flush(c))
		c->ended = true;
	return all->out + all->outlen;
}

/* --- turns ------------------------------------------------------------------------------------ */

/* Obeys packet by packet what has come, until one has to wait. *used: what is no longer needed. */
static enum done
work(struct conn *c, const char *bytes, size_t len, size_t *used)
{
	enum done done = GO_ON;

	*used = c->passing < len ? c->passing : len;
	c->passing -= *used;
	while (done == GO_ON && *used < len) {
		struct proto_packet k;
		enum proto_got got = proto_packet(bytes + *used, len - *used, &k);

		if (got == PROTO_PART && k.opaque) {
			c->passing = k.whole - (len - *used);
			*used = len;
			return conn_obey(c, &k);
		}
		if (got == PROTO_PART)
			break;
		if (got == PROTO_BAD)
			k.command = '\0';
		done = conn_obey(c, &k);
		if (got == PROTO_WHOLE)
			*used += k.whole;
	}
	return done;
}

/* --- what comes in -------------------------------------------------------------------------------- */

/* Makes room for more behind what is kept. False: there is none, or no memory. */
static bool
in_grow(struct conn *c, size_t wanted)
{
	size_t grown = c->in_len + wanted;
	char *bigger;

	if (grown <= c->in_room)
		return true;
	if (grown > AHEAD_MAX || (bigger = realloc(c->in, grown)) == NULL)
		return false;
	c->in = bigger;
	c->in_room = grown;
	return true;
}

static void
in_drop(struct conn *c, size_t used)
{
	c->in_len -= used;
	if (c->in_len > 0) {
		memmove(c->in, c->in + used, c->in_len);
		return;
	}
	free(c->in);
	c->in = NULL;
	c->in_room = 0;
}

/* The turn is over for this connection. progress: a packet has ended in it. */
static void
settle(struct conn *c, enum done done, bool progress)
{
	struct conns *all = c->all;
	bool half = c->in_len > 0 || c->passing > 0;
	int one = 1;

	/* Sendmail sends macros and command in two, and the second waits until the first has been
	 * acknowledged, which the kernel would put off for 40 ms in the hope of an answer */
	if (all->inet && all->outlen == 0 && done == GO_ON)
		(void)setsockopt(
		    event_get_fd(&c->event), IPPROTO_TCP, TCP_QUICKACK, &one, sizeof one);
	if (!flush(c) || done == HANG_UP || (c->ended && done != WAIT))
		hang_up(c);
	else if (done == GO_ON && c->proto.agreed && !half)
		queue_join(c, &all->patient);
	else if (done == GO_ON && (c->queue != &all->hasty || (half && progress)))
		queue_join(c, &all->hasty);
}

/* A question is over; go on with what came meanwhile. */
void
conn_resume(struct conn *c, enum done done)
{
	size_t used = 0;

	if (done == WAIT)
		return;
	if (done == GO_ON && c->in_len > 0)
		done = work(c, c->in, c->in_len, &used);
	if (used > 0)
		in_drop(c, used);
	if (c->deaf && !c->ended && done != HANG_UP) {
		c->deaf = false;
		if (event_add(&c->event, NULL) != 0)
			done = HANG_UP;
	}
	settle(c, done, true);
}

/* From the socket into the buffer; 0: nothing came, -1: the MTA has gone. */
static ssize_t
take_in(int fd, char *buf, size_t size)
{
	ssize_t n = recv(fd, buf, size, MSG_DONTWAIT);

	if (n > 0)
		return n;
	return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR) ? 0 : -1;
}

/* What comes while a question is under way waits. */
static void
hoard(struct conn *c)
{
	ssize_t n;

	if (!in_grow(c, 4096)) {
		c->deaf = true;
		(void)event_del(&c->event);
		return;
	}
	n = take_in(event_get_fd(&c->event), c->in + c->in_len, c->in_room - c->in_len);
	if (n < 0)
		hang_up(c);
	else
		c->in_len += (size_t)n;
}

static void
on_readable(evutil_socket_t fd, short what, void *arg)
{
	struct conn *c = arg;
	struct conns *all = c->all;
	enum done done;
	size_t used = 0;
	ssize_t n;

	(void)what;
	if (c->asking != NULL) {
		hoard(c);
		return;
	}
	if (c->in_len > 0) {
		/* half a packet: as much again, so that a large one costs no more than it is long */
		if (!in_grow(c, c->in_len < 1024 ? 1024 : c->in_len)) {
			hang_up(c);
			return;
		}
		n = take_in(fd, c->in + c->in_len, c->in_room - c->in_len);
	} else
		n = take_in(fd, all->in, sizeof all->in);
	if (n <= 0) {
		if (n < 0)
			hang_up(c);
		return;
	}
	if (c->in_len > 0) {
		c->in_len += (size_t)n;
		done = work(c, c->in, c->in_len, &used);
		in_drop(c, used);
	} else {
		size_t left;

		done = work(c, all->in, (size_t)n, &used);
		left = (size_t)n - used;
		if (left > 0 && done != HANG_UP) {
			if (in_grow(c, left))
				memcpy(c->in, all->in + used, c->in_len = left);
			else
				done = HANG_UP;
		}
	}
	settle(c, done, used > 0);
}

/* --- all of them ---------------------------------------------------------------------------------- */

bool
conn_open(struct conns *all, int fd)
{
	struct conn *c = calloc(1, sizeof *c);

	if (c == NULL ||
	    event_assign(&c->event, all->base, fd, EV_READ | EV_PERSIST, on_readable, c) != 0 ||
	    event_add(&c->event, NULL) != 0) {
		free(c);
		close(fd);
		return false;
	}
	c->all = all;
	proto_init(&c->proto);
	atomic_fetch_add(&all->open, 1);
	queue_join(c, &all->hasty);
	return true;
}

static void
on_timer(evutil_socket_t fd, short what, void *arg)
{
	struct conn_queue *q = arg;
	int64_t now = clock_mono_us();

	(void)fd;
	(void)what;
	q->armed = false;
	while (q->head != NULL && q->head->since_us + q->timeout_us <= now)
		hang_up(q->head);
	if (q->head != NULL)
		queue_arm(q, now);
}

void
conns_init(struct conns *all, struct worker *w, struct event_base *base, bool inet, int64_t idle_us)
{
	memset(all, 0, offsetof(struct conns, in));
	all->worker = w;
	all->base = base;
	all->inet = inet;
	all->patient.timeout_us = idle_us;
	all->hasty.timeout_us = idle_us < HASTE_US ? idle_us : HASTE_US;
	evtimer_assign(&all->patient.timer, base, on_timer, &all->patient);
	evtimer_assign(&all->hasty.timer, base, on_timer, &all->hasty);
}
