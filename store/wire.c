/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wire.c - see wire.h. hiredis' own I/O is not used: it raises SIGPIPE, cannot try the next
 * address without blocking, and resolves names as it connects.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "wire.h"

#define RECEIVE_AT_ONCE (64 * 1024)

/* --- a parser that cannot be made to waste memory ----------------------------------------- */

static pthread_once_t flat_once = PTHREAD_ONCE_INIT;
static redisReplyObjectFunctions flat_fn;
#if HIREDIS_MAJOR >= 1
typedef size_t element_count;
#else
typedef int element_count;
#endif
static void *(*any_array)(const redisReadTask *, element_count);

/* "*1000000000" would make hiredis allocate, and later walk, so many pointers. */
static void *
flat_array(const redisReadTask *task, element_count elements)
{
	struct wire *w = task->privdata;

	if (task->parent != NULL && !(w->nested && task->parent->parent == NULL))
		return NULL;
	if (task->parent == NULL)
		w->elements = 0;
	if ((size_t)elements > WIRE_ELEMENTS_MAX - w->elements)
		return NULL;
	w->elements += (size_t)elements;
	return any_array(task, elements);
}

static void
flat_init(void)
{
	redisReader *r = redisReaderCreate();

	if (r == NULL)
		return;
	flat_fn = *r->fn;
	any_array = flat_fn.createArray;
	flat_fn.createArray = flat_array;
	redisReaderFree(r);
}

/* --- opening ------------------------------------------------------------------------------ */

static bool
broken(struct wire *w, const char *what, const char *why)
{
	snprintf(w->why, sizeof w->why, "%s%s%s", what, *what != '\0' ? ": " : "", why);
	return false;
}

static bool
broken_errno(struct wire *w, const char *what, int error)
{
	char text[96];

	/* strerror() shares its buffer between threads; this is GNU's strerror_r() */
	return broken(w, what, strerror_r(error, text, sizeof text));
}

void
wire_init(struct wire *w)
{
	memset(w, 0, sizeof *w);
	w->fd = -1;
}

void
wire_close(struct wire *w)
{
	if (w->fd >= 0)
		close(w->fd);
	w->fd = -1;
	tls_wire_free(&w->tls);
	if (w->reader != NULL)
		redisReaderFree(w->reader);
	w->reader = NULL;
	free(w->out);
	w->out = NULL;
	w->out_len = w->out_cap = 0;
}

/* Tries the addresses from w->addr on until one connects or may still do so. */
static bool
connect_next(struct wire *w)
{
	int error = ENOENT, one = 1;

	for (; w->addr < w->naddrs; w->addr++) {
		const struct target_addr *a = &w->addrs[w->addr];

		w->fd = socket(a->sa.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
		if (w->fd < 0)
			return broken_errno(w, "socket", errno);
		if (a->sa.ss_family != AF_UNIX) {
			setsockopt(w->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
			setsockopt(w->fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
		}
		if (connect(w->fd, (const struct sockaddr *)&a->sa, a->len) == 0) {
			w->connecting = false;
			return true;
		}
		error = errno;
		if (error == EINPROGRESS) {
			w->connecting = true;
			return true;
		}
		close(w->fd);
		w->fd = -1;
	}
	return broken_errno(w, "connect", error);
}

static bool
greet(struct wire *w, const char *name, int argc, const char **argv)
{
	char *cmd;
	int len = redisFormatCommandArgv(&cmd, argc, argv, NULL);
	bool ok;

	if (len < 0)
		return false;
	ok = wire_push(w, cmd, (size_t)len);
	redisFreeCommand(cmd);
	w->greet[w->ngreet++] = name;
	return ok;
}

static bool
greetings(struct wire *w, const struct redis_options *o)
{
	const char *argv[3] = {"AUTH"};
	char db[12];
	int argc = 1;

	if (o->password[0] != '\0') {
		if (o->user[0] != '\0')
			argv[argc++] = o->user;
		argv[argc++] = o->password;
		if (!greet(w, "AUTH", argc, argv))
			return false;
	} else {
		/* Where a password is wanted, Redis hangs up on a question as long as ours without
		 * a word about that. */
		argv[0] = "PING";
		if (!greet(w, "PING", 1, argv))
			return false;
	}
	if (o->db != 0) {
		snprintf(db, sizeof db, "%d", o->db);
		argv[0] = "SELECT";
		argv[1] = db;
		if (!greet(w, "SELECT", 2, argv))
			return false;
	}
	return true;
}

bool
wire_open(struct wire *w, struct target *t, const struct redis_options *o)
{
	wire_close(w);
	w->addr = w->greet_done = w->ngreet = 0;
	w->naddrs = target_addrs(t, w->addrs, &w->place);
	if (w->naddrs == 0)
		return broken(w, "connect", o->port != 0 ? "host name not resolved" : "bad path");
	pthread_once(&flat_once, flat_init);
	if (any_array != NULL)
		w->reader = redisReaderCreateWithFunctions(&flat_fn);
	if (w->reader != NULL)
		w->reader->privdata = w;
	if (w->reader == NULL || !greetings(w, o))
		return broken(w, "", "out of memory");
	if (o->tls.on && !target_tls(t, &w->tls))
		return broken(w, "", "TLS cannot be used");
	return connect_next(w);
}

/* --- sending and receiving ---------------------------------------------------------------- */

bool
wire_push(struct wire *w, const char *cmd, size_t len)
{
	if (w->out_cap - w->out_len < len) {
		size_t cap = w->out_cap * 2 + len + 4096;
		char *grown = realloc(w->out, cap);

		if (grown == NULL)
			return broken(w, "", "out of memory");
		w->out = grown;
		w->out_cap = cap;
	}
	memcpy(w->out + w->out_len, cmd, len);
	w->out_len += len;
	return true;
}

short
wire_events(const struct wire *w)
{
	const char *bytes;
	bool out = w->out_len > 0;

	if (w->connecting)
		return POLLOUT;
	/* what is plain has to wait for the end of the handshake */
	if (w->tls != NULL)
		out = tls_wire_pending(w->tls, &bytes) > 0 || (out && tls_wire_ready(w->tls));
	return (short)(out ? POLLIN | POLLOUT : POLLIN);
}

/* False when no address is left. */
static bool
connect_end(struct wire *w)
{
	struct pollfd p = {.fd = w->fd, .events = POLLOUT};
	int error = 0;
	socklen_t len = sizeof error;

	if (poll(&p, 1, 0) <= 0)
		return true;
	if (getsockopt(w->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0)
		error = errno;
	w->connecting = false;
	if (error == 0)
		return true;
	close(w->fd);
	w->fd = -1;
	if (++w->addr < w->naddrs)
		return connect_next(w);
	return broken_errno(w, "connect", error);
}

/* How much of it went without waiting; -1: broken. */
static ssize_t
send_some(struct wire *w, const char *bytes, size_t len)
{
	size_t sent = 0;

	while (sent < len) {
		ssize_t n = send(w->fd, bytes + sent, len - sent, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n > 0)
			sent += (size_t)n;
		else if (n < 0 && errno == EINTR)
			continue;
		else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
			break;
		else {
			broken_errno(w, "send", n < 0 ? errno : EPIPE);
			return -1;
		}
	}
	return (ssize_t)sent;
}

static bool
send_tls(struct wire *w)
{
	const char *bytes;
	ssize_t sent;
	size_t len;

	if (!tls_wire_shake(w->tls, w->why, sizeof w->why))
		return false;
	if (tls_wire_ready(w->tls) && w->out_len > 0) {
		if (!tls_wire_push(w->tls, w->out, w->out_len))
			return broken(w, "", "TLS failed");
		w->out_len = 0;
	}
	len = tls_wire_pending(w->tls, &bytes);
	sent = len > 0 ? send_some(w, bytes, len) : 0;
	if (sent > 0)
		tls_wire_sent(w->tls, (size_t)sent);
	return sent >= 0;
}

bool
wire_send(struct wire *w)
{
	ssize_t sent;

	if (w->connecting && !connect_end(w))
		return false;
	if (w->connecting)
		return true;
	if (w->tls != NULL)
		return send_tls(w);
	sent = send_some(w, w->out, w->out_len);
	if (sent < 0)
		return false;
	memmove(w->out, w->out + sent, w->out_len - (size_t)sent);
	w->out_len -= (size_t)sent;
	return true;
}

/* Plain text goes to the parser. */
static bool
parse(struct wire *w, const char *bytes, size_t len)
{
	if (w->reader->err != 0 || redisReaderFeed(w->reader, bytes, len) != REDIS_OK)
		return broken(w, "", "protocol error");
	if (w->reader->len - w->reader->pos > WIRE_BYTES_MAX)
		return broken(w, "", "reply too long");
	return true;
}

static bool
parse_tls(struct wire *w, const char *bytes, size_t len)
{
	char plain[16384];
	int n;

	if (!tls_wire_feed(w->tls, bytes, len))
		return broken(w, "", "out of memory");
	if (!tls_wire_shake(w->tls, w->why, sizeof w->why))
		return false;
	if (!tls_wire_ready(w->tls))
		return true;
	while ((n = tls_wire_take(w->tls, plain, sizeof plain, w->why, sizeof w->why)) > 0)
		if (!parse(w, plain, (size_t)n))
			return false;
	return n == 0;
}

bool
wire_receive(struct wire *w)
{
	char buf[16384];

	for (size_t got = 0; !w->connecting && got < RECEIVE_AT_ONCE;) {
		ssize_t n = recv(w->fd, buf, sizeof buf, MSG_DONTWAIT);

		if (n > 0) {
			got += (size_t)n;
			if (!(w->tls != NULL ? parse_tls : parse)(w, buf, (size_t)n))
				return false;
			if ((size_t)n < sizeof buf)
				break;
		} else if (n == 0)
			return broken(w, "", "connection closed");
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			break;
		else if (errno != EINTR)
			return broken_errno(w, "receive", errno);
	}
	return true;
}

/* The reply to AUTH, PING or SELECT. Of a refused AUTH only the code is told: a server that does not
 * know the command repeats its arguments. */
static bool
greeting_ok(struct wire *w, const redisReply *r)
{
	const char *name = w->greet[w->greet_done++];
	char code[32];

	if (r->type == REDIS_REPLY_STATUS)
		return true;
	if (r->type != REDIS_REPLY_ERROR)
		return broken(w, name, "protocol error");
	snprintf(code, sizeof code, "%.*s", (int)strcspn(r->str, " "), r->str);
	if (strcmp(code, "NOPERM") == 0 && strcmp(name, "PING") == 0)
		return true; /* an access list without PING, but somebody is there */
	return broken(w, name, code);
}

int
wire_reply(struct wire *w, redisReply **r)
{
	for (;;) {
		void *reply = NULL;
		bool ok;

		if (redisReaderGetReply(w->reader, &reply) != REDIS_OK) {
			broken(w, "", "protocol error");
			return -1;
		}
		*r = reply;
		if (reply == NULL)
			return 0;
		if (w->greet_done == w->ngreet)
			return 1;
		ok = greeting_ok(w, reply);
		freeReplyObject(reply);
		if (!ok)
			return -1;
	}
}

redisReply *
wire_wait(struct wire *w, int64_t deadline_us, const atomic_bool *stop)
{
	bool alive = true;

	for (;;) {
		redisReply *r;
		struct pollfd p;
		int got = wire_reply(w, &r), ms;

		if (got > 0)
			return r;
		if (got < 0 || !alive || !wire_send(w))
			return NULL;
		ms = clock_poll_ms(deadline_us);
		if (ms == 0 || (stop != NULL && atomic_load(stop))) {
			broken(w, "", "timeout");
			return NULL;
		}
		p = (struct pollfd){.fd = w->fd, .events = wire_events(w)};
		if (poll(&p, 1, stop != NULL && ms > 50 ? 50 : ms) > 0)
			alive = wire_receive(w);
	}
}
