/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * logread.c - reads a mail log through: progress for who waits, and what was in it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "ctl.h"
#include "maillog.h"
#include "traffic.h"

/* So often the clock is looked at, and so often the bar moves. */
#define LINES_A_LOOK 4096
#define BAR_EVERY_US (200 * USEC_PER_MSEC)
#define BAR_WIDTH 40

/* --- the bar ------------------------------------------------------------------------------------- */

struct bar {
	bool on, drawn;
	int64_t start_us, last_us;
};

static void
bar_draw(struct bar *b, const struct maillog *m, const struct traffic *t)
{
	struct maillog_figures f = maillog_figures(m);
	int64_t now = clock_mono_us(), seconds = (now - b->start_us) / USEC_PER_SEC;
	time_t at = (time_t)(traffic_figures(t).last_us / USEC_PER_SEC);
	char bar[BAR_WIDTH + 1], where[24] = "";
	struct tm tm;

	if (!b->on || now - b->last_us < BAR_EVERY_US)
		return;
	b->drawn = true;
	b->last_us = now;
	if (at != 0 && localtime_r(&at, &tm) != NULL)
		strftime(where, sizeof where, "%b %e %H:%M", &tm);
	if (f.percent < 0) {
		/* standard input: nobody knows how much is to come */
		fprintf(stderr, "\r%" PRId64 " MB, %" PRId64 " lines, %s, %" PRId64 " s   ",
		    f.bytes >> 20, f.lines, where, seconds);
		return;
	}
	memset(bar, '.', BAR_WIDTH);
	memset(bar, '#', (size_t)(f.percent * BAR_WIDTH / 100));
	bar[BAR_WIDTH] = '\0';
	fprintf(
	    stderr, "\r[%s] %3" PRId64 "%%  %s, %" PRId64 " s   ", bar, f.percent, where, seconds);
}

static void
bar_end(const struct bar *b)
{
	if (b->drawn)
		fprintf(stderr, "\r%*s\r", BAR_WIDTH + 36, "");
}

/* --- the log ------------------------------------------------------------------------------------- */

static json_t *
text_json(const char *text)
{
	char safe[CTL_KEY_MAX];

	return json_string(out_safe(text, sizeof safe - 1, safe, sizeof safe));
}

static json_t *
figures_json(unsigned n, char *const *paths, const struct maillog *m, const struct traffic *t,
    const int64_t programs[3])
{
	struct maillog_figures read = maillog_figures(m);
	struct traffic_figures f = traffic_figures(t);
	json_t *files = json_array(), *j;

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(files, text_json(paths[i]));
	j = json_pack("{so sI sI sI sI sI sI sI sI}", "files", files, "bytes",
	    (json_int_t)read.bytes, "lines", (json_int_t)read.lines, "lines_cut",
	    (json_int_t)read.cut, "lines_postfix", (json_int_t)programs[MAIL_POSTFIX],
	    "lines_sendmail", (json_int_t)programs[MAIL_SENDMAIL], "first_seconds",
	    (json_int_t)(f.first_us / USEC_PER_SEC), "last_seconds",
	    (json_int_t)(f.last_us / USEC_PER_SEC), "clock_set_back", (json_int_t)f.set_back);
	json_object_update_new(j,
	    json_pack("{sI sI sI sI sI sI sI sI sI sI sb}", "clients", (json_int_t)f.clients,
		"sessions", (json_int_t)f.sessions, "messages", (json_int_t)f.messages,
		"recipients", (json_int_t)f.recipients, "recipients_unnamed",
		(json_int_t)f.nameless, "delivered", (json_int_t)f.delivered, "authenticated",
		(json_int_t)f.authenticated, "rejected_recipients", (json_int_t)f.rejected,
		"turned_away", (json_int_t)f.turned_away, "forgotten", (json_int_t)f.forgotten,
		"session_ends_told", !f.ends_missing));
	if (maillog_trouble(m)[0] != '\0')
		json_object_set_new(j, "trouble", text_json(maillog_trouble(m)));
	return j;
}

json_t *
log_read(unsigned n, char *const *paths, struct traffic *t)
{
	struct bar bar = {.on = isatty(STDERR_FILENO) != 0, .start_us = clock_mono_us()};
	struct log_dates dates = {0};
	int64_t programs[3] = {0};
	char err[400], safe[400], *line;
	struct maillog *m = maillog_open(n, paths, &dates.reference_s, err, sizeof err);
	json_t *j;

	if (m == NULL)
		ctl_die(CTL_REFUSED, "%s", out_safe(err, sizeof safe - 1, safe, sizeof safe));
	for (unsigned i = 0; (line = maillog_next(m)) != NULL; i++) {
		struct log_line parts;

		if (log_line(&dates, line, &parts))
			programs[mail_parse(&parts, traffic_event, t)]++;
		if (i % LINES_A_LOOK == LINES_A_LOOK - 1)
			bar_draw(&bar, m, t);
	}
	traffic_finish(t);
	bar_end(&bar);
	j = figures_json(n, paths, m, t, programs);
	if (traffic_figures(t).first_us == 0) {
		const char *trouble = maillog_trouble(m);

		ctl_die(CTL_REFUSED, "no line of Postfix or Sendmail about a client in %s%s%s",
		    out_safe(paths[0], 200, safe, sizeof safe), trouble[0] != '\0' ? ": " : "",
		    out_safe(trouble, 200, err, sizeof err));
	}
	maillog_close(&m);
	return j;
}

/* --- for people ---------------------------------------------------------------------------------- */

static const char *
when(int64_t s, char out[32])
{
	time_t t = (time_t)s;
	struct tm tm;

	if (localtime_r(&t, &tm) == NULL || strftime(out, 32, "%Y-%m-%d %H:%M:%S", &tm) == 0)
		strcpy(out, "?");
	return out;
}

void
log_print(const struct ctl *c, const json_t *log)
{
	const json_t *files = json_object_get(log, "files");
	char first[32], last[32], text[200];

	out_colour(c, BOLD);
	out_line(c, json_array_size(files) > 1 ? "%s and %zu more" : "%s",
	    json_string_value(json_array_get(files, 0)), json_array_size(files) - 1);
	out_colour(c, PLAIN);
	out_line(c, "%s to %s, %" PRId64 " lines", when(out_whole(log, "first_seconds"), first),
	    when(out_whole(log, "last_seconds"), last), out_whole(log, "lines"));
	snprintf(text, sizeof text,
	    "%" PRId64 " clients, %" PRId64 " connections, %" PRId64 " messages (%" PRId64
	    " delivered), %" PRId64 " recipients",
	    out_whole(log, "clients"), out_whole(log, "sessions"), out_whole(log, "messages"),
	    out_whole(log, "delivered"), out_whole(log, "recipients"));
	out_text_lines(c, "", text);
	if (out_text(log, "trouble")[0] != '\0') {
		out_colour(c, RED);
		out_line(c, "not all of it could be read: %s", out_text(log, "trouble"));
		out_colour(c, PLAIN);
	}
	if (out_whole(log, "clock_set_back") > 0)
		out_line(c,
		    "the clock was set back %" PRId64 " times, or the files are not in order",
		    out_whole(log, "clock_set_back"));
	if (out_whole(log, "forgotten") > 0)
		out_line(c,
		    "%" PRId64 " sessions and messages had to be forgotten under way: too many at "
		    "once",
		    out_whole(log, "forgotten"));
}
