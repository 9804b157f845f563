/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_maillog.c - mail logs, which strangers write as much as the MTA: each line gives events
 * whose texts lie inside the line, or none.
 *
 * Input: a log, which may be packed by gzip.
 *
 * Covers: ctl/maillog.c ctl/maillog_date.c ctl/maillog_postfix.c ctl/maillog_sendmail.c ctl/maillog_text.c
 */
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"
#include "maillog.h"
#include "weir/units.h"

/* The line in question. */
static const char *line_start, *line_end;

/* A text inside the line, or one of the few constants that stand for what is not told. */
static void
check_text(const char *s)
{
	CHECK(s != NULL);
	if (s >= line_start && s < line_end) {
		CHECK(s + strlen(s) < line_end);
		return;
	}
	CHECK(strlen(s) < 32 && is_printable(s));
}

static void
on_event(void *ctx, const struct mail_event *e)
{
	const struct log_line *line = ctx;

	CHECK(e->kind >= MAIL_CONNECT && e->kind <= MAIL_DISCONNECT);
	CHECK(e->fate >= FATE_SENT && e->fate <= FATE_BOUNCED);
	CHECK(e->time_us == line->time_us && e->day == line->day);
	check_text(e->host);
	check_text(e->pid);
	check_text(e->queue_id);
	check_text(e->name);
	check_text(e->user);
	check_text(e->sender);
	check_text(e->recipient);
	CHECK(strspn(e->queue_id,
		  "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
		  "abcdefghijklmnopqrstuvwxyz") == strlen(e->queue_id));
	CHECK(e->client.family == ADDR_NONE || e->client.family == ADDR_V4 ||
	    e->client.family == ADDR_V6);
	CHECK(e->client_told || e->client.family == ADDR_NONE);
	CHECK(e->size >= -1);
	CHECK(e->nrcpt >= -1 && e->nrcpt <= MAIL_NRCPT_MAX);
}

static void
check_line(struct log_dates *dates, const char *text)
{
	size_t len = strlen(text);
	char *copy = fuzz_alloc(len + 1);
	struct log_line line;

	memcpy(copy, text, len + 1);
	line_start = copy;
	line_end = copy + len + 1;
	if (log_line(dates, copy, &line)) {
		check_text(line.host);
		check_text(line.tag);
		check_text(line.pid);
		check_text(line.text);
		/* in this or the next thousand years */
		CHECK(line.time_us > -INT64_C(100000000000) * USEC_PER_SEC &&
		    line.time_us < INT64_C(1000000000000) * USEC_PER_SEC);
		(void)mail_parse(&line, on_event, &line);
	}
	free(copy);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = memfd_create("maillog", MFD_CLOEXEC);
	struct log_dates dates = {.reference_s = INT64_C(1795468497)};
	char path[64], err[256], *paths[] = {path}, *text;
	struct maillog *m;
	int64_t reference, lines = 0;

	setenv("TZ", "UTC", 1);
	tzset();
	CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	m = maillog_open(1, paths, &reference, err, sizeof err);
	CHECK(m != NULL);
	while ((text = maillog_next(m)) != NULL) {
		CHECK(strlen(text) <= MAILLOG_LINE_MAX);
		check_line(&dates, text);
		lines++;
	}
	CHECK(maillog_figures(m).lines == lines);
	CHECK(maillog_figures(m).cut <= lines);
	(void)maillog_trouble(m);
	maillog_close(&m);
	CHECK(m == NULL);
	close(fd);
	return 0;
}
