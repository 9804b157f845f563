/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach_sendmail.c - weirctl attach sendmail: the lines of sendmail.mc, between two marks by which
 * they are found again.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "attach.h"
#include "run.h"

#define BEGIN "dnl weir: begin (weirctl attach sendmail --undo takes it out)\n"
#define END "dnl weir: end\n"
#define FILTER "INPUT_MAIL_FILTER("
#define THEN "make -C /etc/mail and restart Sendmail, and then weirctl doctor"
#define PATH_MAX_HERE 600

/* The line that begins with this, or NULL. */
static const char *
find_line(const char *text, const char *start)
{
	for (const char *p = text; *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n')
		if (strncmp(p, start, strlen(start)) == 0)
			return p;
	return NULL;
}

static void
socket_text(const struct conf *conf, char *out, size_t outlen)
{
	const struct sockaddr_un *own = (const struct sockaddr_un *)&conf->socket.addr;
	const char *text = conf->socket.text, *colon = strrchr(text, ':');

	if (conf->socket.addr.ss_family == AF_UNIX)
		snprintf(out, outlen, "local:%s", own->sun_path);
	else if (strchr(text, '@') != NULL)
		snprintf(out, outlen, "%s", text);
	else /* inet:HOST:PORT is Postfix' way */
		snprintf(out, outlen, "inet:%s@%.*s", colon + 1, (int)(colon - text - 5), text + 5);
}

/* With our lines in front of all other filters, which stand in front of the mailers. */
static char *
with_ours(const char *text, const struct conf *conf)
{
	const char *place = find_line(text, FILTER);
	char socket[SOCKET_TEXT_MAX + 8], *out;

	if (strstr(text, "confINPUT_MAIL_FILTERS") != NULL)
		ctl_die(CTL_REFUSED,
		    "sendmail.mc defines confINPUT_MAIL_FILTERS: put the filter into that list by "
		    "hand, first of all");
	if (place == NULL)
		place = find_line(text, "MAILER(");
	if (place == NULL)
		place = text + strlen(text);
	socket_text(conf, socket, sizeof socket);
	if (asprintf(&out,
		"%.*s" BEGIN "INPUT_MAIL_FILTER(`weir', `S=%s, T=C:5s;S:5s;R:8s;E:30s')dnl\n" END
		"%s",
		(int)(place - text), text, socket, place) < 0)
		ctl_die(CTL_REFUSED, "out of memory");
	return out;
}

static char *
without_ours(const char *text)
{
	const char *begin = find_line(text, BEGIN),
		   *end = begin != NULL ? find_line(begin, END) : NULL;
	char *out;

	if (end == NULL)
		ctl_die(CTL_REFUSED, "sendmail.mc has no lines of weirctl attach: nothing to undo");
	if (asprintf(&out, "%.*s%s", (int)(begin - text), text, end + strlen(END)) < 0)
		ctl_die(CTL_REFUSED, "out of memory");
	return out;
}

/* Whether any filter has our socket, by whoever's hand. */
static bool
is_there(const char *text, const struct conf *conf)
{
	char socket[SOCKET_TEXT_MAX + 8];

	socket_text(conf, socket, sizeof socket);
	for (const char *p = find_line(text, FILTER); p != NULL;
	     p = find_line(p + strcspn(p, "\n"), FILTER)) {
		const char *found = strstr(p, strchr(socket, ':') + 1);

		if (found != NULL && found < p + strcspn(p, "\n"))
			return true;
		if (p[strcspn(p, "\n")] == '\0')
			break;
	}
	return false;
}

static char *
diff_of(const char *path, const char *text)
{
	char other[] = "/tmp/weir-attach.XXXXXX", *diff;
	const char *argv[] = {"diff", "-u", "--label", path, "--label", path, path, other, NULL};
	int fd = mkstemp(other);
	struct run r;

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		ctl_die(CTL_REFUSED, "%s: %s", other, strerror(errno));
	(void)run_program(&r, argv);
	close(fd);
	unlink(other);
	if (r.status != 1)
		ctl_die(CTL_REFUSED, "diff does not work: %.100s", r.err);
	diff = strdup(r.out);
	run_free(&r);
	return diff;
}

json_t *
attach_sendmail(const struct attach *a)
{
	char path[PATH_MAX_HERE], *now, *then = NULL, *diff = NULL;
	json_t *result;

	snprintf(path, sizeof path, "%s/sendmail.mc", a->dir);
	now = attach_read(path);
	if (now == NULL)
		ctl_die(CTL_REFUSED, "%s: %s", path, strerror(errno));
	if (a->undo)
		then = without_ours(now);
	else if (!is_there(now, &a->c->conf))
		then = with_ours(now, &a->c->conf);
	if (then != NULL)
		diff = diff_of(path, then);
	if (then != NULL && a->apply)
		attach_backup(path);
	if (then != NULL && (a->apply || a->undo))
		attach_write(path, then);
	result = json_pack("{ss ss ss}", "diff", diff != NULL ? diff : "", "why",
	    then == NULL
		? "sendmail.mc has weir already: weirctl doctor sees whether it is in force"
		: a->undo
		? "As it was before."
		: "weir stands first: Sendmail asks its filters in this order, and none "
		  "behind one that refused. Without F= mail goes on, uncounted, while weir is "
		  "not there.",
	    "then", THEN);
	free(now);
	free(then);
	free(diff);
	return result;
}
