/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor_send.c - weirctl doctor --send: speaks SMTP to the MTA and shows what clients see when
 * they are accepted, refused at connect, and refused at RCPT.
 *
 * To be refused, a client is blocked for half a minute, by the same change that `weirctl block`
 * makes: one of 127/8 that nobody uses, taken at random, or --from. An address that is already
 * listed is left alone. The entry is taken back at once; should that fail, it expires. No message
 * is sent: each session ends before DATA.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "weir/units.h"
#include "doctor.h"

#define PATIENCE_S 10
#define BLOCKED_US (30 * USEC_PER_SEC)
#define REPLY_MAX 1024
#define MARK "weirctl doctor --send" /* the reason of our entries */

struct talk {
	struct doctor *d;
	int fd;
	json_t *lines; /* ["S: 220 ...", "C: EHLO ..."] */
	char buf[REPLY_MAX];
	size_t used;
};

/* --- SMTP -------------------------------------------------------------------------------------- */

static void
note(struct talk *t, char side, const char *text)
{
	char safe[REPLY_MAX], line[REPLY_MAX + 4];

	snprintf(line, sizeof line, "%c: %s", side, out_safe(text, 500, safe, sizeof safe));
	json_array_append_new(t->lines, json_string(line));
}

/* The next line; false at the end. */
static bool
read_line(struct talk *t, char line[REPLY_MAX])
{
	for (;;) {
		char *nl = memchr(t->buf, '\n', t->used);
		ssize_t n;

		if (nl != NULL) {
			size_t len = (size_t)(nl - t->buf);

			memcpy(line, t->buf, len);
			line[len] = '\0';
			line[strcspn(line, "\r")] = '\0';
			t->used -= len + 1;
			memmove(t->buf, nl + 1, t->used);
			return true;
		}
		if (t->used == sizeof t->buf - 1)
			return false;
		n = recv(t->fd, t->buf + t->used, sizeof t->buf - 1 - t->used, 0);
		if (n <= 0)
			return false;
		t->used += (size_t)n;
	}
}

/* The code of the next reply, 0 = the connection is closed. */
static int
reply(struct talk *t)
{
	char line[REPLY_MAX];

	do {
		if (!read_line(t, line)) {
			note(t, '!', "closed");
			return 0;
		}
		note(t, 'S', line);
	} while (strlen(line) > 3 && line[3] == '-');
	return atoi(line);
}

static int
say(struct talk *t, const char *command)
{
	char line[600];

	note(t, 'C', command);
	snprintf(line, sizeof line, "%s\r\n", command);
	(void)send(t->fd, line, strlen(line), MSG_NOSIGNAL);
	return reply(t);
}

static int
rcpt_to(struct talk *t)
{
	char line[400];

	snprintf(line, sizeof line, "RCPT TO:<%.300s>", t->d->to);
	return say(t, line);
}

/* From this address; the greeting's code, 0 = none, -1 = no connection, with errno. */
static int
greeted(struct talk *t, const char *from, const struct sockaddr_in *to)
{
	const struct timeval wait = {.tv_sec = PATIENCE_S};
	struct sockaddr_in own = {.sin_family = AF_INET};

	t->used = 0;
	t->lines = json_array();
	t->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (t->fd < 0 || inet_pton(AF_INET, from, &own.sin_addr) != 1 ||
	    setsockopt(t->fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0 ||
	    setsockopt(t->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) != 0 ||
	    bind(t->fd, (const struct sockaddr *)&own, sizeof own) != 0 ||
	    connect(t->fd, (const struct sockaddr *)to, sizeof *to) != 0)
		return -1;
	return reply(t);
}

static void
hang_up(struct talk *t, const char *what, const char *from)
{
	if (t->fd >= 0)
		close(t->fd);
	json_array_append_new(
	    t->d->smtp, json_pack("{ss ss so}", "what", what, "from", from, "lines", t->lines));
}

/* --- blocking ourselves ------------------------------------------------------------------------ */

static char *
make_block(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	const bool *on = ctx;

	(void)r;
	(void)field;
	/* somebody else's stays */
	if (now != NULL && (*on || strstr(now, MARK) == NULL))
		return ctl_leave;
	return *on ? ctl_entry(c, "action=block", clock_real_us() + BLOCKED_US) : NULL;
}

/* False: there is an entry already, and it stays. */
static bool
set_block(struct doctor *d, const char *from, bool on)
{
	const char *fields[1] = {from}, *before = d->c->reason;
	int64_t generation;

	d->c->reason = MARK;
	generation = ctl_change(d->c, SECTION_LISTS, 1, fields, make_block, &on);
	d->c->reason = before;
	return generation != CTL_NOTHING;
}

/* An address of 127/8 that no other client has: weir-milter remembers for a second whom it has
 * refused, so each trial takes another. */
static const char *
pick(const struct doctor *d, char out[INET_ADDRSTRLEN])
{
	unsigned char r[3] = {0, 0, 0};

	if (d->from != NULL) {
		snprintf(out, INET_ADDRSTRLEN, "%s", d->from);
		return out;
	}
	if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
		ctl_die(CTL_REFUSED, "no random numbers: %s", strerror(errno));
	snprintf(out, INET_ADDRSTRLEN, "127.%d.%d.%d", 100 + r[0] % 100, r[1], 1 + r[2] % 254);
	return out;
}

static bool
is_exempt(const struct doctor *d, const char *from)
{
	struct facts f = {.user = "", .name = ""};

	return addr_parse(from, &f.client) && ruleset_exempt(&d->c->conf.rules, &f);
}

/* --- the trials -------------------------------------------------------------------------------- */

/* Greeted, taken, and QUIT is answered with 221; no message. */
static void
try_accept(struct talk *t, const struct sockaddr_in *to)
{
	char from[INET_ADDRSTRLEN];
	int code = greeted(t, pick(t->d, from), to), rcpt = 0, bye = 0;

	if (code < 0) {
		doctor_say(t->d, DOCTOR_WRONG, "no client can reach it",
		    "weirctl doctor --send HOST:PORT", "no SMTP server on %s: %s", t->d->send,
		    strerror(errno));
	} else if (code == 220 && say(t, "EHLO doctor.test") == 250 &&
	    say(t, "MAIL FROM:<>") == 250) {
		rcpt = rcpt_to(t);
		bye = rcpt != 421 ? say(t, "QUIT") : 0;
	}
	hang_up(t, "accepted", from);
	if (code > 0 && bye != 221)
		doctor_say(t->d, DOCTOR_WRONG,
		    "whoever behaves should be let in, and QUIT answered with 221",
		    "weirctl why ADDRESS says what weir would say",
		    "a client of %s was not served: see below", from);
	else if (code > 0 && rcpt != 250)
		doctor_say(t->d, DOCTOR_NOTE, "mail to postmaster should always be taken", "",
		    "RCPT TO:<postmaster> got %d", rcpt);
}

static void
not_refused(struct doctor *d, const char *at, int code)
{
	if (d->c->conf.rules.observe)
		doctor_say(d, DOCTOR_NOTE, "with mode = observe nobody is refused",
		    "mode = enforce", "a blocked client is not refused %s", at);
	else
		doctor_say(d, DOCTOR_WRONG,
		    "this MTA does not ask weir about that client, or weir does not hear of "
		    "changes in Redis",
		    "weirctl status, and the MTA's log", "a blocked client is not refused %s: %d",
		    at, code);
}

static void
try_connect(struct talk *t, const struct sockaddr_in *to)
{
	const char *at = t->d->c->conf.rules.refuse_at_helo ? "at HELO" : "at connect";
	char from[INET_ADDRSTRLEN];
	int code;

	if (!set_block(t->d, pick(t->d, from), true)) {
		doctor_say(t->d, DOCTOR_NOTE, "what stands there is not ours to change", "",
		    "%s is listed already: not tried", from);
		return;
	}
	code = greeted(t, from, to);
	if (code == 220)
		code = say(t, "EHLO doctor.test");
	if (code > 0 && code != 421)
		(void)say(t, "QUIT");
	set_block(t->d, from, false);
	hang_up(t, at, from);
	if (code != 421)
		not_refused(t->d, at, code);
}

/* Blocked in the middle of its session: the next thing that is asked is refused. */
static void
try_rcpt(struct talk *t, const struct sockaddr_in *to)
{
	char from[INET_ADDRSTRLEN];
	int code = 0;
	bool ours;

	if (is_exempt(t->d, pick(t->d, from))) {
		doctor_say(t->d, DOCTOR_NOTE, "once greeted, weir is not asked about it again",
		    "weirctl doctor --send --from ADDRESS, one of this host's that is not exempt",
		    "421 at RCPT cannot be shown: %s is exempt in weir.conf", from);
		return;
	}
	if (greeted(t, from, to) == 220 && say(t, "EHLO doctor.test") == 250 &&
	    say(t, "MAIL FROM:<doctor@doctor.test>") == 250) {
		ours = set_block(t->d, from, true);
		code = rcpt_to(t);
		if (code != 421)
			(void)say(t, "QUIT");
		if (ours)
			set_block(t->d, from, false);
	}
	hang_up(t, "at RCPT", from);
	/* a recipient that nobody takes was refused before weir could */
	if (code != 421 && code < 500)
		not_refused(t->d, "at RCPT", code);
}

static bool
parse_target(const char *text, struct sockaddr_in *out)
{
	const char *colon = strrchr(text, ':');
	char host[INET_ADDRSTRLEN];
	int64_t port;

	memset(out, 0, sizeof *out);
	out->sin_family = AF_INET;
	if (colon == NULL || (size_t)(colon - text) >= sizeof host)
		return false;
	snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
	if (!units_count(colon + 1, &port) || port < 1 || port > 65535)
		return false;
	out->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host, &out->sin_addr) == 1;
}

void
doctor_smtp(struct doctor *d)
{
	struct talk t = {.d = d};
	struct sockaddr_in to;

	if (!parse_target(d->send, &to))
		ctl_die(CTL_USAGE, "--send wants an IPv4 ADDRESS:PORT of this host");
	try_accept(&t, &to);
	if (!d->redis) {
		doctor_say(d, DOCTOR_NOTE, "a client is blocked by an entry in Redis",
		    "redis { url = ... }", "without Redis refusals cannot be shown");
		return;
	}
	if (json_array_size(t.lines) == 0)
		return;
	try_connect(&t, &to);
	try_rcpt(&t, &to);
}

void
doctor_smtp_print(const struct ctl *c, const json_t *smtp)
{
	const json_t *talk, *line;
	size_t i, k;

	json_array_foreach(smtp, i, talk)
	{
		putchar('\n');
		out_colour(c, BOLD);
		printf("%s%s, from %s:\n",
		    strcmp(out_text(talk, "what"), "accepted") == 0 ? "" : "refused ",
		    out_text(talk, "what"), out_text(talk, "from"));
		out_colour(c, PLAIN);
		json_array_foreach(json_object_get(talk, "lines"), k, line)
		    printf("  %s\n", json_string_value(line));
	}
	if (json_array_size(smtp) > 0)
		putchar('\n');
}
