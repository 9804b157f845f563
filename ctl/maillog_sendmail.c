/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog_sendmail.c - what Sendmail's lines say.
 *
 *	QUEUE-ID: from=<..>, size=.., class=0, nrcpts=.., .., relay=NAME [ADDRESS]
 *	QUEUE-ID: to=<..>,<..>, delay=.., .., dsn=2.0.0, stat=Sent
 *	QUEUE-ID: ruleset=check_rcpt, arg1=<..>, relay=NAME [ADDRESS], reject=550 5.7.1 ..
 *	QUEUE-ID: Milter: to=<..>, reject=451 4.7.1 ..
 *	AUTH=server, relay=NAME [ADDRESS], authid=.., mech=.., bits=..
 *	NOQUEUE: connect from NAME [ADDRESS]		(from LogLevel 12 on)
 *
 * At its usual LogLevel, 9, a session is first heard of with its first message or its first
 * rejected recipient, and its end is not logged at all. Each session is a process of its own.
 */
#include <string.h>

#include "maillog_text.h"

struct reading {
	const struct log_line *line;
	mail_event_fn *fn;
	void *ctx;
	const char *queue_id;
};

static struct mail_event
event_of(const struct reading *r, enum mail_kind kind)
{
	struct mail_event e = mail_event_of(r->line, kind, false);

	e.queue_id = r->queue_id;
	return e;
}

/* The last "word" in text: what stands before it may be a stranger's. */
static char *
last_of(char *text, const char *word)
{
	char *found = NULL, *p = text;

	while ((p = strstr(p, word)) != NULL) {
		p += strlen(word);
		found = p;
	}
	return found;
}

/* The first, for where only what stands behind it may be. */
static char *
first_of(char *text, const char *word)
{
	char *p = strstr(text, word);

	return p != NULL ? p + strlen(word) : NULL;
}

/* Tells of a session by the client at p. */
static void
tell_client(const struct reading *r, struct mail_event *e, char *p)
{
	bool forged = p != NULL && strstr(p, "(may be forged)") != NULL;

	if (p == NULL || !text_client(p, e))
		return;
	/* it is not known by a name that does not lead back to it */
	if (forged)
		e->name = "";
	r->fn(r->ctx, e);
}

/* --- messages ---------------------------------------------------------------------------------- */

static void
read_from(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_ENVELOPE);
	char *size, *nrcpts;

	/* brackets only if the client typed them; the end of a long one is cut off */
	e.sender_told = true;
	e.sender = *p == '<' ? text_angle(&p) : p;
	if (*p == '<')
		e.sender = p + 1;
	size = first_of(p, ", size=");
	nrcpts = size != NULL ? first_of(size, ", nrcpts=") : NULL;
	if (nrcpts == NULL)
		return;
	size[-(int)strlen(", size=")] = '\0';
	e.size = text_number(size, INT64_MAX / 16);
	e.nrcpt = (int)text_number(nrcpts, MAIL_NRCPT_MAX);
	/* local submissions have no address: relay=root@localhost */
	tell_client(r, &e, last_of(nrcpts, ", relay="));
}

static enum mail_fate
fate_of(const char *stat)
{
	if (strncmp(stat, "Sent", 4) == 0)
		return FATE_SENT;
	return strncmp(stat, "Deferred", 8) == 0 || strncmp(stat, "queued", 6) == 0 ? FATE_DEFERRED
										    : FATE_BOUNCED;
}

/* Cuts one address off the list at *p; NULL at its end. */
static char *
next_address(char **p)
{
	char *start = *p, *end;
	bool quoted = false;

	if (*start == '<') {
		end = *p;
		start = text_angle(p);
		if (*p == end) /* cut in the middle */
			return NULL;
		if (**p == ',')
			(*p)++;
		return start;
	}
	for (end = start; *end != '\0' && (quoted || *end != ','); end++)
		if (*end == '"')
			quoted = !quoted;
	if (end == start || *start == ' ')
		return NULL;
	*p = *end == ',' ? end + 1 : end;
	*end = '\0';
	return start;
}

static void
read_to(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_DELIVERY);
	const char *stat = first_of(p, ", stat="), *to;

	if (stat == NULL)
		return;
	e.fate = fate_of(stat);
	while ((to = next_address(&p)) != NULL) {
		e.recipient = to;
		r->fn(r->ctx, &e);
	}
}

/* --- rejections -------------------------------------------------------------------------------- */

static void
read_ruleset(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_SIGHT);
	char *arg;

	if (strstr(p, ", reject=") == NULL)
		return;
	if (text_after(p, "check_relay,") != NULL)
		e.kind = MAIL_TURNED_AWAY;
	else if ((arg = text_after(p, "check_rcpt, arg1=")) != NULL && *arg == '<') {
		e.kind = MAIL_REJECTED;
		e.recipient = text_angle(&arg);
		p = arg;
	}
	tell_client(r, &e, first_of(p, ", relay="));
}

/* What a milter, perhaps weir itself, refused. */
static void
read_milter(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_ATTEMPT);
	char *to = text_after(p, "to="), *addr;

	if (to != NULL && *to == '<') {
		e.recipient = text_angle(&to);
		to = text_after(to, ", reject=");
		if (to == NULL)
			return;
		/* whom a 421 cuts off is in nrcpts, whom a 451 puts off is not */
		e.counted = strncmp(to, "421", 3) == 0;
		r->fn(r->ctx, &e);
		return;
	}
	p = text_after(p, "connect: host=");
	addr = p != NULL ? first_of(p, ", addr=") : NULL;
	if (addr == NULL)
		return;
	e.kind = MAIL_SIGHT;
	addr[strcspn(addr, ",")] = '\0';
	e.client_told = true;
	if (!addr_parse(strncmp(addr, "IPv6:", 5) == 0 ? addr + 5 : addr, &e.client))
		e.client.family = ADDR_NONE;
	p[strcspn(p, ",")] = '\0';
	e.name = *p == '[' || strstr(p, "(may be forged)") != NULL ? "" : p;
	r->fn(r->ctx, &e);
}

/* "<u@example.test>... User unknown" */
static void
read_unknown(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_REJECTED);

	e.recipient = text_angle(&p);
	if (strncmp(p, "... ", 4) == 0)
		r->fn(r->ctx, &e);
}

/* --- sessions ---------------------------------------------------------------------------------- */

static void
read_session(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_SIGHT);
	char *client;

	if ((client = text_after(p, "connect from ")) != NULL)
		e.kind = MAIL_CONNECT;
	else if ((client = text_after(p, "lost input channel from ")) == NULL &&
	    strstr(p, "] did not issue MAIL/EXPN/VRFY/ETRN during connection to ") != NULL)
		client = p;
	tell_client(r, &e, client);
}

static void
read_starttls(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_SIGHT);

	tell_client(r, &e, p);
}

static void
read_auth(const struct reading *r, char *p)
{
	struct mail_event e = event_of(r, MAIL_AUTH);
	char *user = first_of(p, ", authid="),
	     *end = user != NULL ? last_of(user, ", mech=") : NULL;

	if (end == NULL)
		return;
	end[-(int)strlen(", mech=")] = '\0';
	e.user = user;
	tell_client(r, &e, p);
}

bool
mail_sendmail(const struct log_line *line, mail_event_fn *fn, void *ctx)
{
	static const struct {
		const char *word;
		void (*read)(const struct reading *, char *);
	} words[] = {
	    {"from=", read_from},
	    {"to=", read_to},
	    {"ruleset=", read_ruleset},
	    {"Milter: ", read_milter},
	    {"AUTH=server, relay=", read_auth},
	    {"STARTTLS=server, relay=", read_starttls},
	    {"", read_session},
	};
	struct reading r = {.line = line, .fn = fn, .ctx = ctx, .queue_id = ""};
	char *text = line->text, *id, *rest = NULL;

	if (strncmp(line->tag, "sendmail", 8) != 0 && strncmp(line->tag, "sm-", 3) != 0)
		return false;
	id = text_queue_id(&text);
	if (id != NULL && strcmp(id, "NOQUEUE") != 0)
		r.queue_id = id;
	if (*text == '<') {
		read_unknown(&r, text);
		return true;
	}
	for (size_t i = 0; rest == NULL; i++)
		if ((rest = text_after(text, words[i].word)) != NULL)
			words[i].read(&r, rest);
	return true;
}
