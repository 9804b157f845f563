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
#include "conn.h"
#include "decide.h"
#include "log.h"
#include "macros.h"
#include "wants.h"
#include "weir/pool.h"

/* Half a packet, or a connection without a word, is not waited for as long as a person who types
 * into a session. */
#define HASTE_US (60 * USEC_PER_SEC)
/* What an MTA may leave untaken; it says little before it has heard our answers. */
#define UNSENT_MAX (64 * 1024)
/* What it may send ahead while a question is under way. */
#define AHEAD_MAX (128 * 1024)
/* Decisions are large, and few are under way at once. */
#define SPARE_MAX 32

/* A decision that waits: for the store, or for new limits. */
struct asking {
	struct decision d;
	struct store_call call;
	struct conn *conn;
	struct asking *next;
	char *recipient;
};

/* What the MTA does not take yet. */
struct unsent {
	struct event event;
	size_t len, sent;
	char bytes[];
};

struct conn {
	struct event event; /* it can be read */
	struct conns *all;
	struct conn *prev, *next;
	struct conn_queue *queue; /* NULL while a question is under way */
	int64_t since_us; /* in it */
	struct proto proto;
	struct macros macros;
	struct session session;
	struct asking *asking;
	char *in; /* what has come and could not be used yet */
	size_t in_len, in_room;
	size_t passing; /* so much of what comes is the rest of a body */
	struct unsent *unsent;
	bool begun; /* the session */
	bool deaf; /* not read from while in is full */
	bool ended; /* the MTA has gone */
};

enum done { GO_ON, WAIT, HANG_UP };

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

/* --- sessions ----------------------------------------------------------------------------------- */

static void
begin_session(struct conn *c, struct plan_steps steps)
{
	char id[SESSION_ID_MAX];

	worker_session_begin(c->all->worker, id);
	session_init(&c->session, id, steps);
	c->begun = true;
}

static void
end_session(struct conn *c)
{
	if (!c->begun)
		return;
	c->begun = false;
	decide_close(c->all->worker, &c->session);
	session_deinit(&c->session);
	worker_session_end(c->all->worker);
}

static void
hang_up(struct conn *c)
{
	struct conns *all = c->all;

	/* with a question under way it is not over yet */
	c->ended = true;
	if (c->asking != NULL) {
		(void)event_del(&c->event);
		return;
	}
	queue_leave(c);
	end_session(c);
	macros_clear(&c->macros);
	(void)event_del(&c->event);
	close(event_get_fd(&c->event));
	if (c->unsent != NULL) {
		(void)event_del(&c->unsent->event);
		free(c->unsent);
	}
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
	if (u->sent < u->len)
		return;
	(void)event_del(&u->event);
	free(u);
	c->unsent = NULL;
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
	if (old != NULL) {
		memcpy(u->bytes, old->bytes + old->sent, left);
		(void)event_del(&old->event);
		free(old);
	}
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

static char *
room(struct conn *c)
{
	struct conns *all = c->all;

	if (sizeof all->out - all->outlen < PROTO_ANSWER_MAX && !flush(c))
		c->ended = true;
	return all->out + all->outlen;
}

static enum done
answer(struct conn *c, enum next next)
{
	struct conns *all = c->all;
	char *out = room(c);

	if (next == NEXT_DONE)
		all->outlen += proto_accept(&c->proto, out);
	else if (next == NEXT_REPLY)
		all->outlen += proto_refuse(&c->proto, c->session.reply, out);
	else
		all->outlen += proto_continue(&c->proto, out);
	return c->ended ? HANG_UP : GO_ON;
}

/* --- decisions ------------------------------------------------------------------------------------ */

static struct asking *
asking_get(struct conn *c)
{
	struct conns *all = c->all;
	struct asking *a = all->spare;

	if (a != NULL) {
		all->spare = a->next;
		all->nspare--;
	} else
		a = malloc(sizeof *a);
	if (a == NULL)
		return NULL;
	a->conn = c;
	a->recipient = NULL;
	return a;
}

static void
asking_put(struct conns *all, struct asking *a)
{
	free(a->recipient);
	if (all->nspare == SPARE_MAX) {
		free(a);
		return;
	}
	a->next = all->spare;
	all->spare = a;
	all->nspare++;
}

/* The packet will not stay where it is. */
static enum done
wait_for(struct conn *c, struct asking *a)
{
	if (a->d.recipient[0] != '\0' && a->recipient == NULL) {
		a->recipient = strdup(a->d.recipient);
		a->d.recipient = session_text(a->recipient);
	}
	c->asking = a;
	queue_leave(c);
	return WAIT;
}

static void on_answer(struct store_call *call, enum store_status status);

static enum done
decide(struct conn *c, struct asking *a, enum decision_step step)
{
	struct conns *all = c->all;
	enum next next;

	while (step == DECISION_ASK) {
		enum store_status status;

		a->call = (struct store_call){.q = &a->d.q, .out = &a->d.a, .done = on_answer};
		if (!store_submit(all->worker->store, &a->call, &status))
			return wait_for(c, a);
		step = decision_answered(&a->d, status);
	}
	if (step == DECISION_REFRESH) {
		a->next = all->stale;
		all->stale = a;
		refresher_ask(all->refresher, a->d.rules->generation, a->d.q.deadline_us);
		return wait_for(c, a);
	}
	c->asking = NULL;
	next = decision_end(&a->d);
	asking_put(all, a);
	return answer(c, next);
}

static void resume(struct conn *c, enum done done);

static void
go_on(struct asking *a, enum decision_step step)
{
	struct conn *c = a->conn;

	resume(c, decide(c, a, step));
}

static void
on_answer(struct store_call *call, enum store_status status)
{
	struct asking *a = (struct asking *)((char *)call - offsetof(struct asking, call));

	go_on(a, decision_answered(&a->d, status));
}

void
conns_refreshed(struct conns *all)
{
	struct asking *a = all->stale, *next;
	bool fresh;

	if (!refresher_done(all->refresher, &fresh))
		return;
	all->stale = NULL;
	for (; a != NULL; a = next) {
		next = a->next;
		go_on(a, decision_again(&a->d, fresh));
	}
}

/* --- what the MTA says ---------------------------------------------------------------------------- */

static enum done
on_negotiate(struct conn *c, const struct proto_args *args)
{
	struct plan_steps steps = decide_steps(c->all->worker);
	struct proto_wants wants = wants_of(&steps);
	size_t len = proto_negotiate(&c->proto, args, &wants, room(c));

	if (len == 0)
		return HANG_UP;
	c->all->outlen += len;
	begin_session(c, steps);
	return GO_ON;
}

/* Another session on the same connection, as it was negotiated. */
static enum done
on_next(struct conn *c)
{
	struct plan_steps steps = c->session.steps;

	end_session(c);
	macros_clear(&c->macros);
	begin_session(c, steps);
	return GO_ON;
}

static enum done
on_connect(struct conn *c, struct asking *a, const struct proto_args *args)
{
	struct worker *w = c->all->worker;
	const struct macros *m = &c->macros;
	struct session *s = &c->session;

	if (s->steps.daemon)
		decide_daemon(
		    w, s, macros_get(m, MACRO_DAEMON_NAME), macros_get(m, MACRO_DAEMON_PORT));
	return decide(c, a,
	    decision_connect(&a->d, w, s, &args->client, args->text,
		name_confirmed(args->text, macros_get(m, MACRO_CLIENT_RESOLVE))));
}

static enum done
on_mail(struct conn *c, struct asking *a, struct proto_args *args)
{
	const char *param;
	int64_t bytes = 0;

	while ((param = proto_text(&args->params, args->end)) != NULL)
		if (session_size(param, &bytes))
			break;
	return decide(c, a,
	    decision_mail(&a->d, c->all->worker, &c->session, args->text,
		macros_get(&c->macros, MACRO_AUTH_AUTHEN), bytes));
}

static enum done
on_rcpt(struct conn *c, struct asking *a, const struct proto_args *args)
{
	const struct macros *m = &c->macros;

	return decide(c, a,
	    decision_rcpt(&a->d, c->all->worker, &c->session, args->text,
		wants_rejected(macros_get(m, MACRO_RCPT_MAILER)), macros_get(m, MACRO_QUEUE_ID)));
}

/* Those events about which there may be something to decide. */
static enum done
on_step(struct conn *c, enum proto_event event, struct proto_args *args)
{
	const struct macros *m = &c->macros;
	struct asking *a;

	/* an MTA that has not negotiated has no session here */
	if (!c->begun ||
	    (event == PROTO_RCPT &&
		wants_passed_over(wants_rejected(macros_get(m, MACRO_RCPT_MAILER)),
		    macros_get(m, MACRO_RCPT_HOST))))
		return answer(c, NEXT_CONTINUE);
	a = asking_get(c);
	if (a == NULL)
		return HANG_UP;
	switch (event) {
	case PROTO_CONNECT:
		return on_connect(c, a, args);
	case PROTO_MAIL:
		return on_mail(c, a, args);
	case PROTO_RCPT:
		return on_rcpt(c, a, args);
	default:
		return decide(c, a, decision_eom(&a->d, c->all->worker, &c->session));
	}
}

static enum done
obey(struct conn *c, const struct proto_packet *k)
{
	struct proto_args args;
	enum proto_event event = proto_take(&c->proto, k, &args);

	switch (event) {
	case PROTO_NOTHING:
		return GO_ON;
	case PROTO_ERROR:
		break;
	case PROTO_NEGOTIATE:
		return on_negotiate(c, &args);
	case PROTO_MACROS:
		macros_put(&c->macros, args.stage, args.params, args.end);
		return GO_ON;
	case PROTO_CONNECT:
		macros_reach(&c->macros, PROTO_AT_CONNECT);
		return on_step(c, event, &args);
	case PROTO_HELO:
		macros_reach(&c->macros, PROTO_AT_HELO);
		return answer(c, c->begun ? session_helo(&c->session, args.text) : NEXT_CONTINUE);
	case PROTO_MAIL:
		macros_reach(&c->macros, PROTO_AT_MAIL);
		return on_step(c, event, &args);
	case PROTO_RCPT:
		macros_reach(&c->macros, PROTO_AT_RCPT);
		return on_step(c, event, &args);
	case PROTO_EOM:
		if (args.bytes > 0)
			session_data(&c->session, (int64_t)args.bytes);
		if (!c->session.steps.bytes)
			return answer(c, NEXT_CONTINUE);
		return on_step(c, event, &args);
	case PROTO_HEADER:
	case PROTO_EOH:
	case PROTO_BODY:
		session_data(&c->session, (int64_t)args.bytes);
		return answer(c, NEXT_CONTINUE);
	case PROTO_DATA:
	case PROTO_UNKNOWN:
		return answer(c, NEXT_CONTINUE);
	case PROTO_NEXT:
		return on_next(c);
	case PROTO_QUIT:
		return HANG_UP;
	}
	log_folded(
	    "milter", "an MTA has sent what is no milter protocol: its connection is closed", "");
	return HANG_UP;
}

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
			return obey(c, &k);
		}
		if (got == PROTO_PART)
			break;
		if (got == PROTO_BAD)
			k.command = '\0';
		done = obey(c, &k);
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
static void
resume(struct conn *c, enum done done)
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
