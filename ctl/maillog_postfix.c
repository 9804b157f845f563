/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog_postfix.c - what Postfix' lines say.
 *
 *	smtpd	connect from NAME[ADDRESS]
 *	smtpd	QUEUE-ID: client=NAME[ADDRESS], sasl_method=.., sasl_username=..
 *	qmgr	QUEUE-ID: from=<..>, size=.., nrcpt=.. (queue active)
 *	smtp	QUEUE-ID: to=<..>, orig_to=<..>, relay=.., status=sent (..)
 *	qmgr	QUEUE-ID: removed
 *	smtpd	disconnect from NAME[ADDRESS] ehlo=1 mail=1 rcpt=2/4 ..
 *
 * and what is rejected: NOQUEUE or QUEUE-ID, "reject: RCPT from NAME[ADDRESS]: 550 ..;
 * from=<..> to=<..> proto=.. helo=<..>". The line of the queue id comes with the first recipient
 * that was accepted, as the questions to a milter do.
 */
#include <string.h>

#include "maillog_text.h"

/* Some of a line's words are in what a stranger typed; these stand where he cannot put them
 * but in lines about himself. */
static void
envelope_of(char *text, struct mail_event *e)
{
	char *p = strstr(text, "; from=<");

	if (p == NULL)
		return;
	p += strlen("; from=");
	e->sender = text_angle(&p);
	e->sender_told = true;
	p = text_after(p, " to=");
	if (p != NULL)
		e->recipient = text_angle(&p);
}

/* --- smtpd ------------------------------------------------------------------------------------- */

/* "STAGE from NAME[ADDRESS]: ..": the client, and what follows him. */
static char *
stage_client(char *text, const char *stage, struct mail_event *e)
{
	char *p = text_after(text, stage), *end;

	p = p != NULL ? text_after(p, " from ") : NULL;
	end = p != NULL ? strchr(p, ']') : NULL;
	return end != NULL && text_client(p, e) ? end + 1 : NULL;
}

static bool
reject(struct mail_event *e, char *text)
{
	char *rest = stage_client(text, "RCPT", e);

	if (rest != NULL) {
		e->kind = MAIL_REJECTED;
		envelope_of(rest, e);
		return true;
	}
	if (e->queue_id[0] == '\0') {
		e->kind = MAIL_TURNED_AWAY;
		return stage_client(text, "CONNECT", e) != NULL;
	}
	/* at DATA or at the end: its recipients had been accepted */
	e->kind = MAIL_STOPPED;
	envelope_of(text, e);
	return true;
}

static bool
milter_reject(struct mail_event *e, char *text)
{
	char *rest = stage_client(text, "RCPT", e);

	e->kind = rest != NULL ? MAIL_ATTEMPT : MAIL_STOPPED;
	envelope_of(rest != NULL ? rest : text, e);
	/* without a queue id it was stopped before its recipients */
	return rest != NULL || e->queue_id[0] != '\0';
}

static bool
begin(struct mail_event *e, char *text)
{
	char *user = strstr(text, ", sasl_username="), *end;

	e->kind = MAIL_BEGIN;
	if (user != NULL) {
		user += strlen(", sasl_username=");
		end = strstr(user, ", ");
		if (end != NULL)
			*end = '\0';
		e->user = user;
	}
	return text_client(text, e);
}

/* "rcpt=2/4": two of four were accepted. */
static int
accepted_recipients(char *text)
{
	char *p = strstr(text, "] "), *rcpt = p != NULL ? strstr(p, " rcpt=") : NULL;

	if (p == NULL || strstr(p, " commands=") == NULL)
		return -1;
	return rcpt != NULL ? (int)text_number(rcpt + strlen(" rcpt="), MAIL_NRCPT_MAX) : 0;
}

static bool
smtpd(struct mail_event *e, char *text)
{
	char *p;

	if ((p = text_after(text, "connect from ")) != NULL) {
		e->kind = MAIL_CONNECT;
		return text_client(p, e);
	}
	if ((p = text_after(text, "disconnect from ")) != NULL) {
		e->kind = MAIL_DISCONNECT;
		e->nrcpt = accepted_recipients(p);
		return text_client(p, e);
	}
	/* Postfix' own limits of connections; no milter is asked */
	if ((p = text_after(text, "warning: Connection rate limit exceeded: ")) != NULL ||
	    (p = text_after(text, "warning: Connection concurrency limit exceeded: ")) != NULL) {
		e->kind = MAIL_TURNED_AWAY;
		p = strstr(p, " from ");
		return p != NULL && text_client(p + strlen(" from "), e);
	}
	p = text;
	e->queue_id = text_queue_id(&p);
	if (e->queue_id == NULL)
		return false;
	if (strcmp(e->queue_id, "NOQUEUE") == 0)
		e->queue_id = "";
	if ((text = text_after(p, "client=")) != NULL)
		return begin(e, text);
	if ((text = text_after(p, "reject: ")) != NULL)
		return reject(e, text);
	if ((text = text_after(p, "milter-reject: ")) != NULL)
		return milter_reject(e, text);
	return false;
}

/* --- the others -------------------------------------------------------------------------------- */

/* header_checks and milters at the end of a message speak here. */
static bool
cleanup(struct mail_event *e, char *p)
{
	static const char *const ends[] = {
	    "reject: ", "milter-reject: ", "discard: ", "milter-discard: ", "hold: ", NULL};

	e->kind = MAIL_STOPPED;
	e->queue_id = text_queue_id(&p);
	if (e->queue_id == NULL)
		return false;
	for (int i = 0; ends[i] != NULL; i++)
		if (text_after(p, ends[i]) != NULL) {
			envelope_of(p, e);
			return true;
		}
	return false;
}

static bool
qmgr(struct mail_event *e, char *p)
{
	char *from;

	e->queue_id = text_queue_id(&p);
	if (e->queue_id == NULL)
		return false;
	if (strcmp(p, "removed") == 0) {
		e->kind = MAIL_REMOVED;
		return true;
	}
	e->kind = MAIL_ENVELOPE;
	from = text_after(p, "from=");
	if (from == NULL)
		return false;
	e->sender = text_angle(&from);
	e->sender_told = true;
	from = text_after(from, ", size=");
	if (from == NULL)
		return false;
	e->size = text_number(from, INT64_MAX / 16);
	from = strstr(from, ", nrcpt=");
	if (from == NULL)
		return false;
	e->nrcpt = (int)text_number(from + strlen(", nrcpt="), MAIL_NRCPT_MAX);
	return e->size >= 0 && e->nrcpt >= 1;
}

/* smtp, lmtp, local, virtual, pipe, discard, error, ... */
static bool
delivery(struct mail_event *e, char *p)
{
	char *to, *orig, *status;

	e->kind = MAIL_DELIVERY;
	e->queue_id = text_queue_id(&p);
	to = e->queue_id != NULL ? text_after(p, "to=") : NULL;
	if (to == NULL)
		return false;
	e->recipient = text_angle(&to);
	/* what the client typed, where an alias made another of it */
	orig = text_after(to, ", orig_to=");
	if (orig != NULL) {
		e->recipient = text_angle(&orig);
		e->aliased = true;
		to = orig;
	}
	status = strstr(to, ", status=");
	if (status == NULL)
		return false;
	status += strlen(", status=");
	if (text_after(status, "sent ") != NULL)
		e->fate = FATE_SENT;
	else if (text_after(status, "deferred ") != NULL)
		e->fate = FATE_DEFERRED;
	else
		e->fate = FATE_BOUNCED;
	return true;
}

static const struct {
	const char *name;
	bool (*read)(struct mail_event *e, char *text);
} services[] = {
    {"smtpd", smtpd},
    {"qmgr", qmgr},
    {"cleanup", cleanup},
    {NULL, delivery},
};

bool
mail_postfix(const struct log_line *line, mail_event_fn *fn, void *ctx)
{
	/* "postfix/smtpd", "postfix/submission/smtpd", "postfix-out/smtpd": whatever syslog_name
	 * is, the service comes last */
	const char *service = strrchr(line->tag, '/');
	struct mail_event e = mail_event_of(line, MAIL_SIGHT, true);
	unsigned i = 0;

	if (service == NULL)
		return false;
	while (services[i].name != NULL && strcmp(services[i].name, service + 1) != 0)
		i++;
	if (services[i].read(&e, line->text))
		fn(ctx, &e);
	return true;
}
