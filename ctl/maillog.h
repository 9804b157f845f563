/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog.h - reads the mail logs of Postfix and Sendmail: lines, dates, and what they say.
 *
 *	bytes -> maillog_next(): lines -> mail_parse(): events
 *
 * A log is written by strangers as much as by the MTA: each line may be cut, of any length, or
 * no text at all. A line is kept up to MAILLOG_LINE_MAX bytes, and all that is taken from it lies
 * inside that buffer; what makes no sense gives no event. Memory does not grow with the log.
 */
#ifndef WEIR_CTL_MAILLOG_H
#define WEIR_CTL_MAILLOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/addr.h"

/* Longer than any that syslogd lets through by default (rsyslog: 8 kB). */
#define MAILLOG_LINE_MAX 8192

/* --- maillog.c: the bytes ------------------------------------------------------------------- */

struct maillog;

/* The reading so far. */
struct maillog_figures {
	int64_t bytes; /* after unpacking */
	int64_t lines;
	int64_t cut; /* lines longer than MAILLOG_LINE_MAX */
	int64_t percent; /* of the files as they lie on disk; -1 when that cannot be known */
};

/*
 * One log in one or several files, read in this order; "-" is standard input. gzip is recognised
 * by itself. The paths are borrowed. NULL: err says which cannot be opened. Reference: when the
 * log was last written (seconds since 1970), for dates without a year.
 */
struct maillog *maillog_open(
    unsigned n, char *const *paths, int64_t *reference_s, char *err, size_t errlen);

/* The next line, without its end, NUL-terminated, valid until the next call and for the caller to
 * cut into pieces. NULL at the end. */
char *maillog_next(struct maillog *m);

/* What stopped the reading before the end of a file (damaged gzip, an error); "" = nothing. */
const char *maillog_trouble(const struct maillog *m);
struct maillog_figures maillog_figures(const struct maillog *m);
void maillog_close(struct maillog **m);

/* --- maillog_date.c: the time ---------------------------------------------------------------- */

/* Dates follow each other: "Jan  1" after "Dec 31" is of the next year. */
struct log_dates {
	int64_t reference_s; /* the first date without a year is not later than this */
	int64_t last_s; /* the last date that was read; 0 = none yet */
	char hour[12]; /* "Nov 23 21:", whose start is kept */
	int64_t hour_s;
	int32_t hour_day;
};

/*
 * Reads "Nov 23 21:14:57" (local time) or RFC 3339 ("2026-11-23T21:14:57.123+01:00") at the start
 * of text. Returns what follows the blank behind it, NULL if there is no date. day: the date as it
 * is written, in days since 1970, so that "another day" means what the administrator would say.
 */
char *log_date(struct log_dates *d, char *text, int64_t *time_us, int32_t *day);

/* One line, taken apart. Strings point into it and are never NULL. */
struct log_line {
	int64_t time_us;
	int32_t day;
	char *host; /* "" when the line names none */
	char *tag; /* "postfix/submission/smtpd", "sm-mta" */
	char *pid; /* "" when there is none */
	char *text;
};

/* Date, host, "tag[pid]:", text. False: not a line of syslog. Cuts the line. */
bool log_line(struct log_dates *d, char *line, struct log_line *out);

/* --- maillog_postfix.c, maillog_sendmail.c: what it says --------------------------------------- */

enum mail_kind {
	MAIL_CONNECT, /* a session begins */
	MAIL_TURNED_AWAY, /* the MTA refused the client before a milter saw it */
	MAIL_SIGHT, /* this session is there */
	MAIL_AUTH, /* ... and its user is known */
	MAIL_BEGIN, /* a message has got its queue id: a recipient was accepted */
	MAIL_ENVELOPE, /* a message is complete: sender, size, nrcpt */
	MAIL_STOPPED, /* a message was stopped after its recipients: sender and one of them */
	MAIL_ATTEMPT, /* a recipient that a milter refused */
	MAIL_REJECTED, /* a recipient that the MTA itself rejected: no milter is asked */
	MAIL_DELIVERY, /* a recipient, and what became of him */
	MAIL_REMOVED, /* nothing more will be heard of this queue id */
	MAIL_DISCONNECT /* the session has ended; nrcpt: recipients accepted in it, -1 = unknown */
};

enum mail_fate { FATE_SENT, FATE_DEFERRED, FATE_BOUNCED };

/*
 * What one line, or one recipient of it, says. Strings are never NULL ("" = not said), point
 * into the line or to constants, and hold what strangers wrote.
 */
struct mail_event {
	enum mail_kind kind;
	int64_t time_us;
	int32_t day;
	bool ends_told; /* this MTA logs where sessions begin and end (Postfix) */
	const char *host, *pid; /* together they name a session */
	const char *queue_id; /* with host it names a message; "" = it has none */
	bool client_told; /* client and name are of this line */
	struct addr client; /* ADDR_NONE when the log does not know it */
	const char *name; /* of the client; "" when it has none */
	const char *user; /* SASL login */
	bool sender_told;
	const char *sender; /* without brackets; "" is the null reverse-path, too */
	const char *recipient; /* as the client gave it, as far as that is told */
	int64_t size; /* bytes; -1 = not said */
	int nrcpt; /* recipients; -1 = not said */
	bool counted; /* MAIL_ATTEMPT: nrcpt of the envelope will contain it */
	enum mail_fate fate; /* MAIL_DELIVERY */
	bool aliased; /* ... of what became of recipient; others may be of the same */
};

/* No more than this is believed of a number of recipients. */
#define MAIL_NRCPT_MAX 10000

typedef void mail_event_fn(void *ctx, const struct mail_event *e);

enum mail_program { MAIL_OTHER, MAIL_POSTFIX, MAIL_SENDMAIL };

/* Calls fn for each thing that the line says. Cuts the line. */
enum mail_program mail_parse(const struct log_line *line, mail_event_fn *fn, void *ctx);
/* The two it is made of; false: the line is of another program. */
bool mail_postfix(const struct log_line *line, mail_event_fn *fn, void *ctx);
bool mail_sendmail(const struct log_line *line, mail_event_fn *fn, void *ctx);

#endif
