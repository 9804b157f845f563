/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mload_session.c - one SMTP session as the milter sees it.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mload.h"

/* How soon a full queue of a unix socket is tried again; TCP's is the kernel's affair. */
#define BACKLOG_NS 1000000

static void
session_end(struct session *s)
{
	timer_clear(s);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
	if (stats.measuring) {
		stats.ended++;
		stats.verdicts[s->verdict]++;
		if (s->verdict == VERDICT_421 || s->verdict == VERDICT_4XX ||
		    s->verdict == VERDICT_5XX)
			stats.refused_at[s->refused_at]++;
		hist_add(&stats.wait, s->wait_ns);
	}
	session_over(s);
}

void
session_drop(struct session *s)
{
	timer_clear(s);
	if (s->fd >= 0)
		close(s->fd);
	s->fd = -1;
}

static void
broken(struct session *s, enum verdict why)
{
	s->verdict = why;
	session_end(s);
}

/* Writes what is there; false when the session is over. */
static bool
flush(struct session *s)
{
	while (s->out_sent < s->out_len) {
		ssize_t n =
		    send(s->fd, s->out + s->out_sent, s->out_len - s->out_sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN) {
			if (!s->writing)
				watch(s, EPOLLIN | EPOLLOUT, false);
			s->writing = true;
			return true;
		}
		if (n < 0) {
			broken(s, VERDICT_HANGUP);
			return false;
		}
		s->out_sent += (size_t)n;
	}
	s->out_len = s->out_sent = 0;
	if (s->writing)
		watch(s, EPOLLIN, false);
	s->writing = false;
	return true;
}

/* The step that follows when this one was answered, or needed no answer. */
static enum step
step_after(struct session *s)
{
	switch (s->step) {
	case STEP_MAIL:
		s->recipients = s->accepted = s->part = 0;
		return STEP_RCPT;
	case STEP_RCPT:
		if (++s->recipients < opt.recipients)
			return STEP_RCPT;
		if (s->accepted > 0)
			return STEP_DATA;
		/* fall through */
	case STEP_MESSAGE:
		s->message_over = false;
		return ++s->messages < opt.messages ? STEP_MAIL : STEP_QUIT;
	default:
		return s->step + 1;
	}
}

/* Does step after step until one has to be waited for. The session may be over after it. */
static void
session_go(struct session *s)
{
	for (;;) {
		bool heard = !s->deaf && !s->message_over;

		if (s->step == STEP_QUIT) {
			/* Postfix does not wait for the milter to close */
			if (s->verdict == VERDICT_NONE)
				s->verdict = VERDICT_PASSED;
			(void)wire_step(s, STEP_QUIT);
			if (flush(s))
				session_end(s);
			return;
		}
		if (heard && wire_step(s, s->step)) {
			s->waiting = true;
			(void)flush(s);
			return;
		}
		if (s->step == STEP_RCPT)
			s->accepted++;
		s->step = step_after(s);
		if (s->step >= STEP_HELO && opt.think_ms > 0) {
			/* what nobody waits for is not sent before somebody is */
			s->due_ns += (int64_t)(opt.think_ms * 1e6);
			timer_set(s, s->due_ns);
			return;
		}
	}
}

/* The client goes on: at once, or when he has thought. */
static void
session_next(struct session *s, int64_t now)
{
	s->due_ns = now;
	if (s->step >= STEP_HELO && opt.think_ms > 0) {
		s->due_ns += (int64_t)(opt.think_ms * 1e6);
		timer_set(s, s->due_ns);
		return;
	}
	session_go(s);
}

/* --- replies ----------------------------------------------------------------------------------- */

static enum verdict
verdict_of(const unsigned char *p, size_t len)
{
	if (p[0] == 'r' || p[0] == 'd')
		return VERDICT_5XX;
	if (p[0] == 't')
		return VERDICT_4XX;
	if (len >= 4 && memcmp(p + 1, "421", 3) == 0)
		return VERDICT_421;
	return len >= 2 && p[1] == '5' ? VERDICT_5XX : VERDICT_4XX;
}

static void
refused(struct session *s, const unsigned char *p, size_t len)
{
	enum verdict v = verdict_of(p, len);

	if (s->verdict == VERDICT_NONE) {
		s->verdict = v;
		s->refused_at = s->step;
	}
	/* 421 closes; and who may not even connect says nothing more */
	if (v == VERDICT_421 || s->step <= STEP_HELO)
		s->step = STEP_QUIT;
	else if (s->step == STEP_MAIL || s->step == STEP_DATA) {
		s->step = STEP_MESSAGE; /* on to the next one */
		s->step = step_after(s);
	} else
		s->step = step_after(s);
}

/* One packet; false when the session is over or is not to read on. */
static bool
reply(struct session *s, const unsigned char *p, size_t len)
{
	int64_t now;

	if (strchr("+hm-ioepq2", p[0]) != NULL && p[0] != '\0' && s->step != STEP_NEGOTIATE)
		return true; /* a change to the message, or "I am still here" */
	if (!s->waiting) {
		broken(s, VERDICT_HANGUP);
		return false;
	}
	if (s->step == STEP_MESSAGE && !wire_message_said(s) && (p[0] == 'c' || p[0] == 's')) {
		(void)wire_step(s, STEP_MESSAGE);
		return flush(s);
	}
	s->waiting = false;
	now = now_ns();
	if (stats.measuring)
		hist_add(&stats.steps[s->step], now - s->due_ns);
	s->wait_ns += now - s->due_ns;

	if (s->step == STEP_NEGOTIATE) {
		if (!wire_terms(p, len, &s->terms)) {
			broken(s, VERDICT_HANGUP);
			return false;
		}
		if (opt.probe) {
			wire_print_terms();
			exit(0);
		}
		s->step = STEP_CONNECT;
	} else if (p[0] == 'c') {
		if (s->step == STEP_RCPT)
			s->accepted++;
		s->step = step_after(s);
	} else if (p[0] == 'a') {
		if (s->step <= STEP_HELO) {
			s->deaf = true;
			s->verdict = VERDICT_ACCEPTED;
		} else {
			s->message_over = s->step != STEP_MESSAGE;
		}
		if (s->step == STEP_RCPT)
			s->accepted++;
		s->step = step_after(s);
	} else if (strchr("rdty", p[0]) != NULL) {
		refused(s, p, len);
	} else {
		broken(s, VERDICT_HANGUP);
		return false;
	}
	session_next(s, now);
	return false; /* the milter has nothing more to say */
}

static void
session_read(struct session *s)
{
	ssize_t n = recv(s->fd, s->in + s->in_len, sizeof s->in - s->in_len, 0);
	size_t at = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		broken(s, VERDICT_HANGUP);
		return;
	}
	s->in_len += (size_t)n;
	while (s->in_len - at >= 5) {
		const unsigned char *p = s->in + at;
		size_t len = (size_t)p[0] << 24 | (size_t)p[1] << 16 | (size_t)p[2] << 8 | p[3];

		if (len == 0 || len > sizeof s->in - 4) {
			broken(s, VERDICT_HANGUP);
			return;
		}
		if (s->in_len - at < 4 + len)
			break;
		at += 4 + len;
		if (at == s->in_len)
			s->in_len = at = 0; /* the packet may be the last thing of this session */
		if (!reply(s, p + 4, len))
			return;
	}
	memmove(s->in, s->in + at, s->in_len - at);
	s->in_len -= at;
}

/* --- from outside ------------------------------------------------------------------------------ */

/* To where the milter listens; on a full queue comes back by timer. */
static void
session_connect(struct session *s)
{
	/* not watched before: a socket without a peer says HUP all the time */
	if (connect(s->fd, (struct sockaddr *)&opt.addr, opt.addr_len) == 0) {
		watch(s, EPOLLIN, true);
		session_go(s);
	} else if (errno == EINPROGRESS) {
		s->writing = true;
		watch(s, EPOLLIN | EPOLLOUT, true);
		s->waiting = wire_step(s, STEP_NEGOTIATE);
	} else if (errno == EAGAIN) {
		stats.backlog++;
		timer_set(s, now_ns() + BACKLOG_NS);
	} else {
		broken(s, VERDICT_NO_ROAD);
	}
}

void
session_begin(struct session *s, int64_t due_ns)
{
	static uint64_t serial;
	char *out = s->out;
	size_t size = s->out_size;

	memset(s, 0, offsetof(struct session, in));
	s->out = out;
	s->out_size = size;
	s->serial = opt.seed * 1000000000 + serial++;
	s->client = opt.clients == 0 ? random_next() : s->serial % opt.clients;
	s->due_ns = due_ns;
	s->fd = socket(opt.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (s->fd < 0)
		die("no socket: %s", strerror(errno));
	session_connect(s);
}

void
session_timer(struct session *s)
{
	if (s->step == STEP_NEGOTIATE) {
		session_connect(s);
		return;
	}
	if (stats.measuring)
		hist_add(&stats.late, now_ns() - s->due_ns);
	session_go(s);
}

void
session_event(struct session *s, uint32_t events)
{
	if (s->fd < 0)
		return;
	if ((events & EPOLLOUT) != 0 && s->writing && !flush(s))
		return;
	if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0)
		session_read(s);
}
