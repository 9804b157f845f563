/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * log.c - see log.h.
 */
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"

/* A flood comes from few clients or folds badly anyway; 1.5 kB each. */
#define FOLD_SLOTS 128

static struct {
	bool to_stderr, verbose;
	bool journal; /* standard error is systemd's: sd-daemon(3) */
	pthread_mutex_t lock; /* of the fold table */
	struct fold {
		uint64_t hash;
		int64_t since_us;
		unsigned seen;
		char what[LOG_LINE_MAX];
	} fold[FOLD_SLOTS];
} logger = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* A line there begins with its priority; on a terminal or in a file that would be in the way. */
static bool
is_journal(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream != NULL && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 &&
	    fstat(STDERR_FILENO, &st) == 0 && st.st_dev == (dev_t)dev && st.st_ino == (ino_t)ino;
}

void
log_open(bool to_stderr, bool verbose)
{
	logger.to_stderr = to_stderr;
	logger.journal = to_stderr && is_journal();
	logger.verbose = verbose;
	if (!to_stderr)
		openlog("weir-milter", LOG_PID | LOG_NDELAY, LOG_MAIL);
}

bool
log_verbose(void)
{
	return logger.verbose;
}

/* One write(2) a line, so that lines of several workers never mix. */
static void
emit(int priority, const char *line)
{
	char buf[LOG_LINE_MAX + 32], front[8] = "";
	int len;

	if (!logger.to_stderr) {
		syslog(priority, "%s", line);
		return;
	}
	if (logger.journal)
		snprintf(front, sizeof front, "<%d>", LOG_PRI(priority));
	len = snprintf(buf, sizeof buf, "%sweir-milter: %s\n", front, line);
	if ((size_t)len >= sizeof buf) {
		len = sizeof buf - 1;
		buf[len - 1] = '\n';
	}
	/* nothing can be done about a log that is gone, and mail must not wait for it */
	if (write(STDERR_FILENO, buf, (size_t)len) < 0)
		return;
}

void
log_line(int priority, const char *fmt, ...)
{
	char line[LOG_LINE_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	for (char *p = line; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	emit(priority, line);
}

const char *
log_escape(const char *value, char *out, size_t outlen)
{
	size_t used = 0;

	/* 4 for the longest escape, 4 for "..." and NUL */
	for (; *value != '\0'; value++) {
		unsigned char c = (unsigned char)*value;

		if (used + 8 > outlen) {
			memcpy(out + used, "...", 3);
			used += 3;
			break;
		}
		if (c > 0x20 && c < 0x7f && strchr("\"=\\", c) == NULL)
			out[used++] = (char)c;
		else
			used += (size_t)snprintf(out + used, outlen - used, "\\x%02x", c);
	}
	out[used] = '\0';
	return out;
}

/* --- folding ------------------------------------------------------------------------------- */

static uint64_t
line_hash(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *s != '\0'; s++)
		h = (h ^ (unsigned char)*s) * UINT64_C(0x100000001b3);
	return h;
}

/* Says what was only counted. Called with the lock held. */
static void
fold_report(struct fold *f)
{
	if (f->seen > LOG_FOLD_FREE)
		log_line(LOG_INFO, "NOQUEUE: %s repeated=%u", f->what, f->seen - LOG_FOLD_FREE);
	f->seen = 0;
}

void
log_folded(const char *id, const char *what, const char *rest)
{
	uint64_t hash = line_hash(what);
	struct fold *f = &logger.fold[hash % FOLD_SLOTS];
	int64_t now = clock_mono_us();
	bool write_it;

	pthread_mutex_lock(&logger.lock);
	if (f->seen > 0 && (f->hash != hash || now - f->since_us >= LOG_FOLD_US))
		fold_report(f);
	if (f->seen == 0) {
		f->hash = hash;
		f->since_us = now;
		snprintf(f->what, sizeof f->what, "%s", what);
	}
	write_it = ++f->seen <= LOG_FOLD_FREE;
	pthread_mutex_unlock(&logger.lock);
	if (write_it)
		log_line(LOG_INFO, "%s: %s%s", id, what, rest);
}

void
log_fold_flush(bool all)
{
	int64_t now = clock_mono_us();

	pthread_mutex_lock(&logger.lock);
	for (size_t i = 0; i < FOLD_SLOTS; i++) {
		struct fold *f = &logger.fold[i];

		if (f->seen > 0 && (all || now - f->since_us >= LOG_FOLD_US))
			fold_report(f);
	}
	pthread_mutex_unlock(&logger.lock);
}
