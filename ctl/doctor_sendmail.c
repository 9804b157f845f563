/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor_sendmail.c - weirctl doctor on Sendmail: what its sendmail.cf says of weir.
 */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "weir/units.h"
#include "doctor.h"

#define LINE_FOR_MC \
	"INPUT_MAIL_FILTER(`weir', `S=%s, T=C:5s;S:5s;R:8s;E:30s')dnl   (weirctl attach " \
	"sendmail --apply does it)"

static const struct sendmail_milter *
ours(const struct doctor *d)
{
	return sendmail_ours(d->sendmail);
}

void
doctor_sendmail_attached(struct doctor *d)
{
	const struct socket_spec *s = &d->c->conf.socket;
	char line[SOCKET_TEXT_MAX + 160], socket[SOCKET_TEXT_MAX + 8];

	if (ours(d) != NULL)
		return;
	if (s->addr.ss_family == AF_UNIX)
		snprintf(socket, sizeof socket, "local:%s",
		    ((const struct sockaddr_un *)&s->addr)->sun_path);
	else
		snprintf(socket, sizeof socket, "%s", s->text);
	snprintf(line, sizeof line, LINE_FOR_MC, socket);
	doctor_say(d, DOCTOR_WRONG, "no mail is counted, and nobody is refused", line,
	    "%s/sendmail.cf has no filter with the socket %s", d->sendmail->dir, s->text);
}

/* A filter that is declared but not asked: MAIL_FILTER in place of INPUT_MAIL_FILTER. */
void
doctor_sendmail_used(struct doctor *d)
{
	const struct sendmail_milter *m = ours(d);
	static const char key[] = "InputMailFilters=";

	if (m == NULL)
		return;
	if (sendmail_place(d->sendmail->filters, m->name) < 0)
		doctor_say(d, DOCTOR_WRONG, "a filter that is only declared is asked about nothing",
		    "INPUT_MAIL_FILTER in place of MAIL_FILTER, or the name in "
		    "confINPUT_MAIL_FILTERS",
		    "%s is not in InputMailFilters", m->name);
	for (unsigned i = 0; i < d->sendmail->ndaemons; i++) {
		const char *own = strstr(d->sendmail->daemons[i], key);
		char names[512];

		if (own == NULL)
			continue;
		snprintf(names, sizeof names, "%.*s", (int)strcspn(own + sizeof key - 1, ","),
		    own + sizeof key - 1);
		if (sendmail_place(names, m->name) < 0)
			doctor_say(d, DOCTOR_NOTE, "what comes there is not counted",
			    "the name in its InputMailFilters=", "this daemon does not ask %s: %s",
			    m->name, d->sendmail->daemons[i]);
	}
}

void
doctor_sendmail_order(struct doctor *d)
{
	const struct sendmail_milter *m = ours(d);

	if (m != NULL && sendmail_place(d->sendmail->filters, m->name) > 0)
		doctor_say(d, DOCTOR_WRONG,
		    "Sendmail asks them in this order, and none behind one that refused: a flood "
		    "first costs the others their work",
		    "the INPUT_MAIL_FILTER line of weir before the others",
		    "InputMailFilters=%s: weir is not the first", d->sendmail->filters);
}

void
doctor_sendmail_flag(struct doctor *d)
{
	static const struct {
		char flag;
		const char *why;
	} bad[] = {
	    {'R', "while weir is not there mail is refused for good, with a 5xx"},
	    {'T', "while weir is not there all mail is put off"},
	    {'4', "while weir is not there all sessions are closed with 421"},
	};
	const struct sendmail_milter *m = ours(d);

	for (size_t i = 0; m != NULL && i < sizeof bad / sizeof bad[0]; i++)
		if (m->ref.action[0] == bad[i].flag)
			doctor_say(d, DOCTOR_WRONG, bad[i].why,
			    "INPUT_MAIL_FILTER(`weir', `S=..., T=...')dnl without F=",
			    "F=%s for %s", m->ref.action, m->name);
}

void
doctor_sendmail_timeouts(struct doctor *d)
{
	const struct sendmail_milter *m = ours(d);
	char text[32];

	if (m == NULL)
		return;
	if (m->reply_us < DOCTOR_ANSWER_US)
		doctor_say(d, DOCTOR_WRONG,
		    "weir may take that long while Redis is slow or the host busy, and is then "
		    "given up for the whole session",
		    "T=C:5s;S:5s;R:8s;E:30s", "the time for a reply (R) is %s",
		    out_duration(m->reply_us, text));
	else if (m->reply_us > 60 * USEC_PER_SEC || m->ref.connect_us > 60 * USEC_PER_SEC)
		doctor_say(d, DOCTOR_WRONG,
		    "if weir hangs, each client hangs for so long, and with it a child of Sendmail",
		    "T=C:5s;S:5s;R:8s;E:30s", "the time to connect (C) or for a reply (R) is %s",
		    out_duration(
			m->reply_us > m->ref.connect_us ? m->reply_us : m->ref.connect_us, text));
}

/* Sendmail takes no socket below a directory that others may write to, even with a sticky bit. */
void
doctor_sendmail_socket(struct doctor *d)
{
	const struct sendmail_milter *m = ours(d);
	const char *path = m != NULL ? strchr(m->ref.socket, '/') : NULL;
	char part[SOCKET_TEXT_MAX];
	struct stat st;

	if (path == NULL || strncmp(m->ref.socket, "inet", 4) == 0)
		return;
	snprintf(part, sizeof part, "%s", path);
	for (char *slash = strrchr(part, '/'); slash != NULL; slash = strrchr(part, '/')) {
		*slash = '\0';
		if (stat(slash == part ? "/" : part, &st) != 0 || (st.st_mode & S_IWOTH) == 0)
			continue;
		doctor_say(d, DOCTOR_WRONG,
		    "Sendmail calls such a socket unsafe and goes on without weir",
		    "in weir.conf: socket = \"unix:/run/weir/milter.sock\"",
		    "everybody may write to %s, which is above weir's socket", part);
		return;
	}
}

void
doctor_sendmail_inet(struct doctor *d)
{
	const struct sendmail_milter *m = ours(d);

	if (m != NULL && strncmp(m->ref.socket, "inet", 4) == 0)
		doctor_say(d, DOCTOR_WRONG,
		    "Sendmail does not switch off Nagle's algorithm: each answer costs some 40 ms",
		    "in weir.conf: socket = \"unix:/run/weir/milter.sock\"",
		    "weir is asked over %s", m->ref.socket);
}
