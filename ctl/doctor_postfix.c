/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor_postfix.c - weirctl doctor on Postfix: what its listeners do with weir.
 */
#include <stdio.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#include "weir/units.h"
#include "doctor.h"
#include "milter_probe.h"

#define WORDS_MAX 900

/* Ours in a listener's smtpd_milters, and where it stands; NULL = not there. */
static const struct milter_ref *
ours_of(struct doctor *d, const struct postfix_service *s, struct milter_list *l, int *place)
{
	postfix_milters(d->postfix, s, "smtpd_milters", &d->c->conf, l);
	*place = milters_ours(l);
	return *place >= 0 ? &l->m[*place] : NULL;
}

/* Calls `each` once for main.cf, or a listener that says it otherwise, that names weir. */
typedef bool each_ref(struct doctor *d, const struct postfix_service *s,
    const struct milter_list *l, const struct milter_ref *m);

static void
each_ours(struct doctor *d, each_ref *each)
{
	struct milter_list l;
	const struct milter_ref *m;
	int place;

	m = ours_of(d, NULL, &l, &place);
	if (m != NULL && !each(d, NULL, &l, m))
		return;
	for (unsigned i = 0; i < d->postfix->n; i++) {
		const struct postfix_service *s = &d->postfix->services[i];

		if (!postfix_own(d->postfix, s, "smtpd_milters"))
			continue;
		m = ours_of(d, s, &l, &place);
		if (m != NULL && !each(d, s, &l, m))
			return;
	}
}

static const char *
where(const struct postfix_service *s)
{
	return s != NULL ? s->name : "main.cf";
}

/* Whether any listener asks weir. */
static bool
anywhere(struct doctor *d)
{
	struct milter_list l;
	int place;

	for (unsigned i = 0; i < d->postfix->n; i++)
		if (ours_of(d, &d->postfix->services[i], &l, &place) != NULL)
			return true;
	return false;
}

static bool
any_chroot(const struct postfix *p)
{
	for (unsigned i = 0; i < p->n; i++)
		if (p->services[i].chroot)
			return true;
	return false;
}

void
doctor_postfix_attached(struct doctor *d)
{
	char socket[SOCKET_TEXT_MAX], line[WORDS_MAX];

	if (anywhere(d))
		return;
	(void)postfix_socket_for(
	    d->postfix, any_chroot(d->postfix), &d->c->conf, socket, sizeof socket);
	snprintf(line, sizeof line,
	    "smtpd_milters = { %s, connect_timeout=5s, command_timeout=5s, content_timeout=10s, "
	    "default_action=accept }   (weirctl attach postfix --apply does it)",
	    socket);
	doctor_say(d, DOCTOR_WRONG, "no mail is counted, and nobody is refused", line,
	    "no listener of %s has %s in its smtpd_milters", d->postfix->dir,
	    d->c->conf.socket.text);
}

static bool
one_order(struct doctor *d, const struct postfix_service *s, const struct milter_list *l,
    const struct milter_ref *m)
{
	if (m == &l->m[0])
		return true;
	doctor_say(d, DOCTOR_WRONG,
	    "Postfix asks them in this order, and none behind one that refused: a flood first "
	    "costs the others their work, and what they refuse weir does not count",
	    "smtpd_milters: weir first", "%s: %s stands before weir in smtpd_milters", where(s),
	    l->m[0].socket);
	return true;
}

void
doctor_postfix_order(struct doctor *d)
{
	each_ours(d, one_order);
}

static bool
one_action(struct doctor *d, const struct postfix_service *s, const struct milter_list *l,
    const struct milter_ref *m)
{
	static const struct {
		const char *action, *why;
	} bad[] = {
	    {"reject", "while weir is not there mail is refused for good, with a 554"},
	    {"tempfail", "while weir is not there all mail is put off"},
	    {"quarantine", "while weir is not there all mail lands in the hold queue"},
	    {"shutdown", "while weir is not there all sessions are closed"},
	};

	(void)l;
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (strcmp(m->action, bad[i].action) == 0)
			doctor_say(d, DOCTOR_WRONG, bad[i].why,
			    "smtpd_milters = { ..., default_action=accept }",
			    "%s: default_action for weir is %s", where(s), m->action);
	return true;
}

void
doctor_postfix_action(struct doctor *d)
{
	each_ours(d, one_action);
}

static bool
one_timeouts(struct doctor *d, const struct postfix_service *s, const struct milter_list *l,
    const struct milter_ref *m)
{
	const struct {
		const char *name;
		int64_t us;
	} times[] = {
	    {"connect_timeout", m->connect_us},
	    {"command_timeout", m->command_us},
	    {"content_timeout", m->content_us},
	};
	static const char line[] = "smtpd_milters = { ..., connect_timeout=5s, "
				   "command_timeout=5s, content_timeout=10s, ... }";
	char text[32];

	(void)l;
	for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
		if (times[i].us < DOCTOR_ANSWER_US)
			doctor_say(d, DOCTOR_WRONG,
			    "weir may take that long while Redis is slow or the host busy, and is "
			    "then given up for the whole session",
			    line, "%s: %s for weir is %s", where(s), times[i].name,
			    out_duration(times[i].us, text));
		else if (i < 2 && times[i].us > 60 * USEC_PER_SEC)
			doctor_say(d, DOCTOR_WRONG,
			    "if weir hangs, each client hangs for so long, and with it an smtpd",
			    line, "%s: %s for weir is %s", where(s), times[i].name,
			    out_duration(times[i].us, text));
	}
	return true;
}

void
doctor_postfix_timeouts(struct doctor *d)
{
	each_ours(d, one_timeouts);
}

static bool
one_protocol(struct doctor *d, const struct postfix_service *s, const struct milter_list *l,
    const struct milter_ref *m)
{
	(void)l;
	if (m->protocol < 6)
		doctor_say(d, DOCTOR_WRONG,
		    "before version 6 a milter cannot ask for the macros that weir needs: logins "
		    "and queue ids are missing",
		    "milter_protocol = 6", "%s: milter protocol %d", where(s), m->protocol);
	return true;
}

void
doctor_postfix_protocol(struct doctor *d)
{
	each_ours(d, one_protocol);
}

void
doctor_postfix_local(struct doctor *d)
{
	struct milter_list l;

	postfix_milters(d->postfix, NULL, "non_smtpd_milters", &d->c->conf, &l);
	if (milters_ours(&l) >= 0)
		doctor_say(d, DOCTOR_WRONG,
		    "mail that this host writes itself (cron, bounces of local mail) would count "
		    "as "
		    "127.0.0.1's, and a refusal there is tried again for ever",
		    "non_smtpd_milters =   (or without weir)", "weir stands in non_smtpd_milters");
}

/* --- listeners behind a content filter -------------------------------------------------------- */

void
doctor_postfix_reinjection(struct doctor *d)
{
	const struct postfix *p = d->postfix;
	struct milter_list l;
	char line[WORDS_MAX];
	int place;

	for (unsigned i = 0; i < p->n; i++) {
		const struct postfix_service *s = &p->services[i];

		if (!postfix_reinjected(p, s) || ours_of(d, s, &l, &place) == NULL)
			continue;
		snprintf(
		    line, sizeof line, "postconf -c %s -P '%s/smtpd_milters='", p->dir, s->key);
		doctor_say(d, DOCTOR_WRONG,
		    "each message counts twice, the second time as the filter's own, and when the "
		    "filter is refused its mail piles up",
		    line, "%s, where mail comes back from the content filter, asks weir", s->name);
	}
}

void
doctor_postfix_maps(struct doctor *d)
{
	const char *maps = postfix_get(d->postfix, NULL, "smtpd_milter_maps");

	if (maps[0] != '\0')
		doctor_say(d, DOCTOR_NOTE,
		    "clients for whom it says DISABLE, or other milters, are not seen by weir",
		    "smtpd_milter_maps =   (unless that is meant)", "smtpd_milter_maps = %s", maps);
}

/* Listeners that do not ask, while others do. */
void
doctor_postfix_others(struct doctor *d)
{
	const struct postfix *p = d->postfix;
	struct milter_list l;
	char line[WORDS_MAX];
	int place;

	for (unsigned i = 0; anywhere(d) && i < p->n; i++) {
		const struct postfix_service *s = &p->services[i];

		if (ours_of(d, s, &l, &place) != NULL || postfix_reinjected(p, s))
			continue;
		snprintf(
		    line, sizeof line, "postconf -c %s -PX '%s/smtpd_milters'", p->dir, s->key);
		doctor_say(d, DOCTOR_NOTE, "what comes there is not counted", line,
		    "the listener %s does not ask weir", s->name);
	}
}

/* --- the way to the socket --------------------------------------------------------------------- */

static bool
reach(struct doctor *d, const struct postfix_service *s, const struct milter_ref *m, bool chrooted)
{
	const struct postfix *p = d->postfix;
	const char *queue = postfix_get(p, NULL, "queue_directory");
	const char *user = postfix_get(p, NULL, "mail_owner"), *path = m->socket + 5;
	char why[500], more[600] = "", line[WORDS_MAX] = "", right[SOCKET_TEXT_MAX];
	struct socket_spec inet;
	struct milter_probe probe = {.inet = &inet};
	bool local = strncmp(m->socket, "unix:", 5) == 0, root = geteuid() == 0;
	pid_t pid;

	if (local) {
		probe = (struct milter_probe){
		    .user = user, .directory = queue, .chrooted = chrooted, .path = path};
		if (milter_path_closed(chrooted || path[0] != '/' ? queue : "", path, user, more,
			sizeof more, line, sizeof line) ||
		    root) {
			if (root && milter_probe(&probe, &pid, why, sizeof why))
				return true;
			if (more[0] == '\0')
				snprintf(more, sizeof more, "%s", why);
		} else
			return true;
	} else if (strchr(m->socket, '@') != NULL ||
	    !socket_parse(m->socket, &inet, why, sizeof why)) {
		snprintf(more, sizeof more, "Postfix writes it inet:HOST:PORT");
		(void)postfix_socket_for(p, chrooted, &d->c->conf, line, sizeof line);
	} else if (milter_probe(&probe, &pid, more, sizeof more))
		return true;
	/* The file is there, and smtpd sees another name for it. */
	if (local && postfix_socket_for(p, chrooted, &d->c->conf, right, sizeof right) &&
	    strcmp(right, m->socket) != 0)
		snprintf(line, sizeof line, "smtpd_milters = { %s, ... }", right);
	else if (local && chrooted &&
	    !postfix_socket_for(p, chrooted, &d->c->conf, right, sizeof right))
		snprintf(line, sizeof line,
		    "in weir.conf: socket = \"unix:%s/weir/milter.sock\", and in main.cf "
		    "unix:weir/milter.sock",
		    queue);
	if (line[0] == '\0')
		snprintf(line, sizeof line, "start weir-milter, or smtpd_milters with its socket");
	doctor_say(d, DOCTOR_WRONG,
	    "Postfix cannot ask weir: mail goes on uncounted, or whatever default_action says",
	    line, "%s: smtpd%s, as %s, does not reach %s: %s", where(s),
	    chrooted ? " in its chroot" : "", user, m->socket, more);
	return false;
}

void
doctor_postfix_socket(struct doctor *d)
{
	const struct postfix *p = d->postfix;
	bool done[2] = {false, false};
	struct milter_list l;
	int place;

	for (unsigned i = 0; i < p->n; i++) {
		const struct postfix_service *s = &p->services[i];
		const struct milter_ref *m = ours_of(d, s, &l, &place);
		bool own = postfix_own(p, s, "smtpd_milters");

		if (m == NULL || (!own && done[s->chroot]))
			continue;
		done[s->chroot] = done[s->chroot] || !own;
		if (!reach(d, own ? s : NULL, m, s->chroot))
			return;
	}
}

/* Lines about milters that do nothing: misspelt, or said once more further down. */
void
doctor_postfix_words(struct doctor *d)
{
	char line[300];

	for (const char *p = d->postfix->warnings; p != NULL && *p != '\0';
	     p += strcspn(p, "\n"), p += *p == '\n') {
		snprintf(line, sizeof line, "%.*s", (int)strcspn(p, "\n"), p);
		if (strstr(line, "milt") != NULL &&
		    (strstr(line, "unused parameter") != NULL ||
			strstr(line, "overriding") != NULL))
			doctor_say(d, DOCTOR_WRONG, "that line does nothing",
			    "the parameter's right name, or one line of it", "%s", line);
	}
}
