/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog_fixture.h - lines of mail logs for tests: read as a log is, and what they say as text.
 */
#ifndef WEIR_TESTS_MAILLOG_FIXTURE_H
#define WEIR_TESTS_MAILLOG_FIXTURE_H

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "maillog.h"
#include "weir/units.h"

/* 2026-11-23 21:14:57 UTC, which is the time zone of the tests. */
#define NOVEMBER INT64_C(1795468497)

static inline void
utc(void)
{
	setenv("TZ", "UTC", 1);
	tzset();
}

struct said {
	char text[4096];
	size_t used;
	int64_t time_us;
	int32_t day;
};

static inline const char *
kind_name(enum mail_kind k)
{
	static const char *const names[] = {
	    [MAIL_CONNECT] = "connect",
	    [MAIL_TURNED_AWAY] = "turned-away",
	    [MAIL_SIGHT] = "sight",
	    [MAIL_AUTH] = "auth",
	    [MAIL_BEGIN] = "begin",
	    [MAIL_ENVELOPE] = "envelope",
	    [MAIL_STOPPED] = "stopped",
	    [MAIL_ATTEMPT] = "attempt",
	    [MAIL_REJECTED] = "rejected",
	    [MAIL_DELIVERY] = "delivery",
	    [MAIL_REMOVED] = "removed",
	    [MAIL_DISCONNECT] = "disconnect",
	};

	return names[k];
}

/* Appends "kind host/pid qid=.. name[addr] user=.. from=.. to=.. size=.. nrcpt=.. FATE; ". */
static inline void
say_event(void *ctx, const struct mail_event *e)
{
	static const char *const fates[] = {"sent", "deferred", "bounced"};
	struct said *s = ctx;
	char addr[NET_TEXT_MAX] = "?";
	size_t room = sizeof s->text - s->used;

	if (e->client.family != ADDR_NONE)
		addr_format(&e->client, addr);
	s->time_us = e->time_us;
	s->day = e->day;
	s->used += (size_t)snprintf(s->text + s->used, room, "%s%s %s/%s", s->used > 0 ? "; " : "",
	    kind_name(e->kind), e->host, e->pid);
#define SAY(...) \
	s->used += (size_t)snprintf(s->text + s->used, sizeof s->text - s->used, __VA_ARGS__)
	if (e->queue_id[0] != '\0')
		SAY(" %s", e->queue_id);
	if (e->client_told)
		SAY(" %s[%s]", e->name, addr);
	if (e->user[0] != '\0')
		SAY(" user=%s", e->user);
	if (e->sender[0] != '\0')
		SAY(" from=%s", e->sender);
	if (e->recipient[0] != '\0')
		SAY(" to=%s", e->recipient);
	if (e->size >= 0)
		SAY(" size=%lld", (long long)e->size);
	if (e->nrcpt >= 0)
		SAY(" nrcpt=%d", e->nrcpt);
	if (e->counted)
		SAY(" counted");
	if (e->aliased)
		SAY(" aliased");
	if (e->kind == MAIL_DELIVERY)
		SAY(" %s", fates[e->fate]);
#undef SAY
}

/* What one line says, in static memory; "" for nothing, "no line" for what is none of syslog,
 * "other" for one of another program. */
static inline const char *
said_of(const char *text)
{
	static struct said s;
	static char line[MAILLOG_LINE_MAX + 1];
	struct log_dates dates = {.reference_s = NOVEMBER};
	struct log_line parts;

	memset(&s, 0, sizeof s);
	snprintf(line, sizeof line, "%s", text);
	if (!log_line(&dates, line, &parts))
		return "no line";
	if (mail_parse(&parts, say_event, &s) == MAIL_OTHER)
		return "other";
	return s.text;
}

/* The line, cut at every byte: nothing is read beyond it (the sanitizer looks). */
static inline void
say_every_cut(const char *line)
{
	for (size_t len = strlen(line); len > 0; len--) {
		char *cut = strndup(line, len);
		struct log_dates dates = {.reference_s = NOVEMBER};
		struct log_line parts;
		struct said s = {.used = 0};

		if (cut != NULL && log_line(&dates, cut, &parts))
			(void)mail_parse(&parts, say_event, &s);
		free(cut);
	}
}

/* --- whole logs ----------------------------------------------------------------------------- */

/* A log that is written line by line and read at once. */
struct log_writer {
	mail_event_fn *fn;
	void *ctx;
	struct log_dates dates;
	int64_t s; /* of the lines that follow, from NOVEMBER on */
};

static inline void
write_line(struct log_writer *w, const char *tag, const char *text)
{
	char line[MAILLOG_LINE_MAX + 1], when[40];
	time_t t = (time_t)(NOVEMBER + w->s);
	struct log_line parts;
	struct tm tm;

	strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", gmtime_r(&t, &tm));
	snprintf(line, sizeof line, "%s mx %s: %s", when, tag, text);
	if (log_line(&w->dates, line, &parts))
		(void)mail_parse(&parts, w->fn, w->ctx);
}

static void write_log(struct log_writer *w, const char *tag, const char *fmt, ...)
    __attribute__((format(printf, 3, 4), unused));

static void
write_log(struct log_writer *w, const char *tag, const char *fmt, ...)
{
	char text[4096];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	write_line(w, tag, text);
}

/* One session with one message to n recipients that are delivered at once. */
static inline void
write_message(struct log_writer *w, int pid, const char *addr, const char *from, int n)
{
	static unsigned number;
	char tag[32], id[16];

	snprintf(tag, sizeof tag, "postfix/smtpd[%d]", pid);
	snprintf(id, sizeof id, "A%09X", ++number);
	write_log(w, tag, "connect from unknown[%s]", addr);
	write_log(w, tag, "%s: client=unknown[%s]", id, addr);
	write_log(
	    w, "postfix/qmgr[1]", "%s: from=<%s>, size=9, nrcpt=%d (queue active)", id, from, n);
	for (int i = 1; i <= n; i++)
		write_log(
		    w, "postfix/lmtp[1]", "%s: to=<u%d@example.test>, status=sent (ok)", id, i);
	write_log(w, "postfix/qmgr[1]", "%s: removed", id);
	write_log(w, tag, "disconnect from unknown[%s] mail=1 rcpt=%d commands=4", addr, n);
}

#endif
