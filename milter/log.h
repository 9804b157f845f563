/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.h - one line a decision, syslog (LOG_MAIL) or standard error.
 *
 * Every function may be called from any thread. Nothing that a client, an MTA or Redis sent
 * reaches a line unescaped: a value holds printable ASCII without blank, '"', '=' or '\', all
 * else is \xHH, so no line can be forged.
 */
#ifndef WEIR_MILTER_LOG_H
#define WEIR_MILTER_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stddef.h>

#define LOG_LINE_MAX 1800
/* A longer value is cut and ends in "..."; RFC 5321 4.5.3.1 allows no address above 254. */
#define LOG_VALUE_MAX 260

void log_open(bool to_stderr, bool verbose);
bool log_verbose(void);

/* priority as in syslog(3). A newline in the text would be escaped. */
void log_line(int priority, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Escapes value into out; returns out. */
const char *log_escape(const char *value, char *out, size_t outlen);

/*
 * A line that may come in floods. Lines with the same `what` are written in full
 * LOG_FOLD_FREE times in LOG_FOLD_US, then only counted; the count follows as
 * "... repeated=N" once the time is over. `id` stands before, `rest` (figures that
 * differ each time) behind.
 */
#define LOG_FOLD_FREE 5
#define LOG_FOLD_US (INT64_C(10) * 1000000)
void log_folded(const char *id, const char *what, const char *rest);

/* Writes the counts whose time is over (all: every count). Called once a second and at the end. */
void log_fold_flush(bool all);

#endif
