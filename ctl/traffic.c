/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * traffic.c - see traffic.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "traffic_private.h"
#include "weir/pool.h"

/* --- keys ---------------------------------------------------------------------------------------- */

/* Of two texts and what they mean; the NUL between them keeps "ab","c" from "a","bc". */
static uint64_t
key_of(const struct traffic *t, char kind, const char *a, const char *b)
{
	char text[1 + 256 + 128];
	size_t used = 0;
	int n;

	text[used++] = kind;
	n = snprintf(text + used, 255, "%s", a);
	used += n < 254 ? (size_t)n + 1 : 255;
	n = snprintf(text + used, 127, "%s", b);
	used += n < 126 ? (size_t)n + 1 : 127;
	return siphash(&t->secret, text, used);
}

static uint64_t
session_key(const struct traffic *t, const struct mail_event *e)
{
	return key_of(t, 's', e->host, e->pid);
}

static uint64_t
message_key(const struct traffic *t, const struct mail_event *e)
{
	return key_of(t, 'q', e->host, e->queue_id);
}

static bool
same_addr(const struct addr *a, const struct addr *b)
{
	return a->family == b->family &&
	    (a->family == ADDR_NONE || memcmp(a->b, b->b, a->family == ADDR_V4 ? 4 : 16) == 0);
}

/* --- clients ------------------------------------------------------------------------------------- */

static uint64_t
client_key(const struct traffic *t, const struct addr *a)
{
	uint8_t text[17] = {a->family};

	memcpy(text + 1, a->b, a->family == ADDR_V4 ? 4 : 16);
	return siphash(&t->secret, text, sizeof text);
}

struct mail_client *
traffic_client(struct traffic *t, const struct addr *a)
{
	return a->family != ADDR_NONE ? lru_find(t->clients, client_key(t, a)) : NULL;
}

struct mail_client *
traffic_next_client(struct traffic *t, const struct mail_client *c)
{
	return c == NULL ? lru_oldest(t->clients) : lru_newer(t->clients, c);
}

static void
keep_name(char out[TRAFFIC_NAME_MAX + 1], const char *name)
{
	snprintf(out, TRAFFIC_NAME_MAX + 1, "%s", strlen(name) <= TRAFFIC_NAME_MAX ? name : "");
}

static struct mail_client *
client_seen(struct traffic *t, const struct addr *a, const char *name)
{
	struct mail_client *c = traffic_client(t, a);

	if (c == NULL && a->family != ADDR_NONE) {
		c = lru_add(t->clients, client_key(t, a));
		c->client = *a;
		t->figures.clients++;
	}
	if (c != NULL && name[0] != '\0')
		keep_name(c->name, name);
	return c;
}

/* Known is who had mail delivered on two different days. */
static unsigned
client_delivered(struct traffic *t, const struct addr *a, int32_t day)
{
	struct mail_client *c = client_seen(t, a, "");

	if (c == NULL)
		return GOOD_DELIVERED;
	if (!c->delivered) {
		c->delivered = true;
		c->day = day;
	} else if (c->day != day)
		c->known = true;
	return GOOD_DELIVERED | (c->known ? GOOD_KNOWN : 0);
}

/* --- good senders -------------------------------------------------------------------------------- */

static void
session_good(struct traffic *t, struct mail_session *s, unsigned bits)
{
	bits &= ~(unsigned)s->good;
	s->good |= (uint8_t)bits;
	if (bits != 0)
		t->ops->good_session(t->ctx, s, bits);
}

static void
message_good(struct traffic *t, struct mail_message *m, unsigned bits)
{
	bits &= ~(unsigned)m->good;
	m->good |= (uint8_t)bits;
	if (bits != 0)
		t->ops->good_message(t->ctx, m, bits);
}

/* --- sessions ------------------------------------------------------------------------------------ */

/* Whatever the session was in the middle of is over. */
static void
close_transaction(struct traffic *t, struct mail_session *s)
{
	struct mail_message *m = lru_at(t->messages, s->current);

	if (m != NULL)
		traffic_unpark(t, s, m);
}

static void
begin_end(struct traffic *t, struct mail_session *s)
{
	if (s->ending)
		return;
	s->ending = true;
	lru_unkey(t->sessions, s);
	close_transaction(t, s);
	traffic_add_step(t, STEP_END, s, NULL);
}

static struct mail_session *
begin_session(struct traffic *t, const struct mail_event *e)
{
	const struct mail_client *c = client_seen(t, &e->client, e->name);
	struct mail_session *s;

	traffic_make_room(t);
	s = lru_add(t->sessions, session_key(t, e));
	s->client = e->client;
	keep_name(s->name, e->name);
	s->ends_told = e->ends_told;
	s->rcpt_told = -1;
	s->last_us = t->now_us;
	if (!s->ends_told)
		t->figures.ends_missing = true;
	traffic_add_step(t, STEP_CONNECT, s, NULL);
	if (c != NULL && c->known)
		session_good(t, s, GOOD_KNOWN);
	return s;
}

/* The session that the line is about, begun if this is the first of it; NULL if the line does
 * not say whose it is. */
static struct mail_session *
session_of(struct traffic *t, const struct mail_event *e)
{
	struct mail_session *s = lru_find(t->sessions, session_key(t, e));

	/* another client: XCLIENT, or a process number that is used again */
	if (s != NULL &&
	    ((e->client_told && !same_addr(&s->client, &e->client)) ||
		(!s->ends_told && t->now_us - s->last_us > TRAFFIC_SILENT_US))) {
		begin_end(t, s);
		s = NULL;
	}
	if (s == NULL)
		return e->client_told ? begin_session(t, e) : NULL;
	s->last_us = t->now_us;
	if (s->name[0] == '\0' && e->name[0] != '\0')
		keep_name(s->name, e->name);
	return s;
}

static void
set_user(struct traffic *t, struct mail_session *s, const char *user)
{
	if (user[0] == '\0')
		return;
	snprintf(s->user, sizeof s->user, "%s", user);
	session_good(t, s, GOOD_AUTHENTICATED);
}

/* --- messages ------------------------------------------------------------------------------------ */

static struct mail_message *
find_message(struct traffic *t, const struct mail_event *e)
{
	return e->queue_id[0] != '\0' ? lru_find(t->messages, message_key(t, e)) : NULL;
}

static struct mail_message *
new_message(struct traffic *t, const struct mail_event *e)
{
	struct mail_message *m = find_message(t, e);
	char unnamed[24];

	/* queue ids are used again */
	if (m != NULL)
		lru_unkey(t->messages, m);
	traffic_make_room(t);
	if (e->queue_id[0] != '\0')
		m = lru_add(t->messages, message_key(t, e));
	else {
		snprintf(unnamed, sizeof unnamed, "%llu", (unsigned long long)++t->unnamed);
		m = lru_add(t->messages, key_of(t, 'n', unnamed, ""));
		lru_unkey(t->messages, m);
	}
	m->size = -1;
	m->nrcpt = -1;
	return m;
}

static void
join_session(struct traffic *t, struct mail_session *s, struct mail_message *m)
{
	m->session = lru_ref_of(t->sessions, s);
	m->client = s->client;
	m->authenticated = s->user[0] != '\0';
	message_good(t, m, s->good & (GOOD_KNOWN | GOOD_AUTHENTICATED));
	if (m->queued)
		return;
	m->queued = true;
	s->messages++;
	traffic_add_step(t, STEP_MESSAGE, s, m);
}

static void
on_begin(struct traffic *t, const struct mail_event *e)
{
	struct mail_session *s = session_of(t, e);
	struct mail_message *m;

	if (s == NULL)
		return;
	close_transaction(t, s);
	set_user(t, s, e->user);
	m = new_message(t, e);
	s->current = lru_ref_of(t->messages, m);
	s->attempt = (struct lru_ref){0};
	join_session(t, s, m);
}

static void
set_sender(struct mail_message *m, const struct mail_event *e)
{
	if (m->sender_told || !e->sender_told)
		return;
	mailbox_name(e->sender, m->sender, sizeof m->sender);
	m->sender_told = true;
}

static void
complete(struct traffic *t, struct mail_message *m, const struct mail_event *e)
{
	struct mail_session *s = traffic_session(t, m);

	if (m->complete)
		return;
	m->complete = true;
	set_sender(m, e);
	m->size = e->size;
	m->nrcpt = e->nrcpt;
	if (s != NULL)
		traffic_unpark(t, s, m);
}

static void
on_envelope(struct traffic *t, const struct mail_event *e)
{
	struct mail_message *m = find_message(t, e);
	struct mail_session *s = NULL;

	if (e->client_told) {
		/* Sendmail: the first that is heard of the message */
		s = session_of(t, e);
		if (s == NULL || (m == NULL && e->nrcpt == 0))
			return;
		if (m == NULL || m->queued)
			m = new_message(t, e);
	}
	if (m == NULL)
		return; /* not from a client, or from before the log began */
	complete(t, m, e);
	if (s != NULL)
		join_session(t, s, m);
}

static void
on_stopped(struct traffic *t, const struct mail_event *e)
{
	struct mail_message *m = find_message(t, e);
	char name[TRAFFIC_RECIPIENT_MAX + 1];

	if (m == NULL || m->complete)
		return;
	mailbox_name(e->recipient, name, sizeof name);
	if (name[0] != '\0' && !m->decided && !traffic_has_recipient(t, m, name))
		traffic_add_recipient(t, m, name);
	complete(t, m, e);
}

/* A recipient that a milter refused, in a transaction of which the log tells no more: one that
 * repeats a recipient, or has another sender, is another. */
static struct mail_message *
attempt_without_id(struct traffic *t, const struct mail_event *e, const char *name)
{
	struct mail_session *s = session_of(t, e);
	struct mail_message *m;
	char sender[TRAFFIC_SENDER_MAX + 1];

	if (s == NULL)
		return NULL;
	mailbox_name(e->sender, sender, sizeof sender);
	m = lru_at(t->messages, s->attempt);
	if (m != NULL && !m->decided && strcmp(m->sender, sender) == 0 &&
	    !traffic_has_recipient(t, m, name))
		return m;
	m = new_message(t, e);
	s->attempt = lru_ref_of(t->messages, m);
	set_sender(m, e);
	m->complete = true;
	m->nrcpt = 0;
	join_session(t, s, m);
	return m;
}

static void
on_attempt(struct traffic *t, const struct mail_event *e)
{
	char name[TRAFFIC_RECIPIENT_MAX + 1];
	struct mail_message *m;

	mailbox_name(e->recipient, name, sizeof name);
	if (e->queue_id[0] == '\0')
		m = attempt_without_id(t, e, name);
	else {
		m = find_message(t, e);
		/* Sendmail names its message, and its client, only later */
		if (m == NULL && !e->ends_told)
			m = new_message(t, e);
	}
	if (m == NULL || m->decided)
		return;
	set_sender(m, e);
	traffic_add_recipient(t, m, name);
	if (e->counted)
		m->named++;
	else
		m->attempts++;
}

static void
on_delivery(struct traffic *t, const struct mail_event *e)
{
	struct mail_message *m = find_message(t, e);
	char name[TRAFFIC_RECIPIENT_MAX + 1];
	struct mail_session *s;
	unsigned good;

	if (m == NULL)
		return;
	if (!m->decided) {
		mailbox_name(e->recipient, name, sizeof name);
		if (!e->aliased || !traffic_has_recipient(t, m, name))
			traffic_add_recipient(t, m, name);
		m->named++;
	}
	if (e->fate == FATE_SENT) {
		if ((m->good & GOOD_DELIVERED) == 0)
			t->figures.delivered++;
		good = client_delivered(t, &m->client, e->day);
		message_good(t, m, good);
		s = traffic_session(t, m);
		if (s != NULL)
			session_good(t, s, good);
	}
	if (e->fate != FATE_DEFERRED)
		m->settled++;
	if (m->decided && traffic_is_over(m))
		traffic_drop_message(t, m);
}

static void
on_removed(struct traffic *t, const struct mail_event *e)
{
	struct mail_message *m = find_message(t, e);

	if (m == NULL)
		return;
	m->removed = true;
	if (m->decided)
		traffic_drop_message(t, m);
	else
		lru_unkey(t->messages, m);
}

/* --- the clock ----------------------------------------------------------------------------------- */

/* A line that is a little late belongs to now. If the clock was set back (or files were read in
 * the wrong order) time goes on from where it was. */
#define CLOCK_MAX_US (INT64_MAX / 4) /* whoever brings it there gets a clock that stands still */

static void
set_clock(struct traffic *t, int64_t time_us)
{
	int64_t us = time_us + t->shift_us;

	if (t->figures.first_us == 0)
		t->figures.first_us = time_us;
	t->figures.last_us = time_us;
	if (us >= t->now_us)
		t->now_us = us;
	else if (t->now_us - us > TRAFFIC_LATE_US && t->now_us < CLOCK_MAX_US) {
		t->shift_us += t->now_us - us;
		t->figures.set_back++;
	}
	traffic_steps_until(t, t->now_us - TRAFFIC_AHEAD_US);
}

void
traffic_event(void *traffic, const struct mail_event *e)
{
	struct traffic *t = traffic;
	struct mail_session *s;

	set_clock(t, e->time_us);
	switch (e->kind) {
	case MAIL_CONNECT:
		s = lru_find(t->sessions, session_key(t, e));
		if (s != NULL) /* its process died */
			begin_end(t, s);
		(void)begin_session(t, e);
		break;
	case MAIL_TURNED_AWAY:
		t->figures.turned_away++;
		s = session_of(t, e);
		if (s != NULL)
			s->unseen = true;
		break;
	case MAIL_SIGHT:
		(void)session_of(t, e);
		break;
	case MAIL_AUTH:
		s = session_of(t, e);
		if (s != NULL)
			set_user(t, s, e->user);
		break;
	case MAIL_BEGIN:
		on_begin(t, e);
		break;
	case MAIL_ENVELOPE:
		on_envelope(t, e);
		break;
	case MAIL_STOPPED:
		on_stopped(t, e);
		break;
	case MAIL_ATTEMPT:
		on_attempt(t, e);
		break;
	case MAIL_REJECTED:
		t->figures.rejected++;
		s = session_of(t, e);
		if (s != NULL)
			traffic_add_step(t, STEP_REJECTED, s, NULL);
		break;
	case MAIL_DELIVERY:
		on_delivery(t, e);
		break;
	case MAIL_REMOVED:
		on_removed(t, e);
		break;
	case MAIL_DISCONNECT:
		s = session_of(t, e);
		if (s != NULL) {
			s->rcpt_told = e->nrcpt;
			begin_end(t, s);
		}
		break;
	}
}

void
traffic_finish(struct traffic *t)
{
	struct mail_session *s, *next;

	traffic_steps_until(t, INT64_MAX);
	for (s = lru_oldest(t->sessions); s != NULL; s = next) {
		next = lru_newer(t->sessions, s);
		begin_end(t, s);
		/* only of this session, so that next stays */
		traffic_steps_until(t, INT64_MAX);
	}
}

/* --- all of it ----------------------------------------------------------------------------------- */

static void
forget_session(void *ctx, void *element)
{
	struct traffic *t = ctx;
	struct mail_session *s = element;

	if (!s->ended && (s->ends_told || s->waiting > 0))
		t->figures.forgotten++;
	traffic_end(t, s);
}

static void
forget_message(void *ctx, void *element)
{
	struct traffic *t = ctx;
	struct mail_message *m = element;
	struct mail_session *s = traffic_session(t, m);

	if (!m->decided)
		t->figures.forgotten++;
	if (s != NULL && m->queued) {
		s->messages--;
		if (!m->decided)
			s->waiting--;
	}
	traffic_drop_recipients(t, m);
}

struct traffic *
traffic_new(const struct traffic_ops *ops, void *ctx)
{
	struct traffic *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	t->ops = ops;
	t->ctx = ctx;
	t->sessions = lru_new(sizeof(struct mail_session), TRAFFIC_SESSIONS, forget_session, t);
	t->messages = lru_new(sizeof(struct mail_message), TRAFFIC_MESSAGES, forget_message, t);
	t->clients = lru_new(sizeof(struct mail_client), TRAFFIC_CLIENTS, NULL, NULL);
	/* calloc() of this size is fresh memory, touched as it is used */
	t->steps = calloc(TRAFFIC_STEPS, sizeof *t->steps);
	t->recipients = calloc(TRAFFIC_RECIPIENTS + 1, sizeof *t->recipients);
	if (t->sessions == NULL || t->messages == NULL || t->clients == NULL || t->steps == NULL ||
	    t->recipients == NULL ||
	    getrandom(&t->secret, sizeof t->secret, 0) != (ssize_t)sizeof t->secret)
		traffic_free(&t);
	return t;
}

void
traffic_free(struct traffic **t)
{
	if (*t == NULL)
		return;
	lru_delete(&(*t)->sessions);
	lru_delete(&(*t)->messages);
	lru_delete(&(*t)->clients);
	free((*t)->steps);
	free((*t)->recipients);
	free(*t);
	*t = NULL;
}

struct traffic_figures
traffic_figures(const struct traffic *t)
{
	return t->figures;
}

struct mail_session *
traffic_session(struct traffic *t, const struct mail_message *m)
{
	return lru_at(t->sessions, m->session);
}

struct facts
traffic_facts(const struct mail_session *s, const struct mail_message *m)
{
	return (struct facts){
	    .stage = m != NULL ? STAGE_RCPT : STAGE_CONNECT,
	    .client = m != NULL ? m->client : s->client,
	    /* nobody has logged in when he connects */
	    .name = s != NULL && name_confirmed(s->name, "") ? s->name : "",
	    .user = m != NULL && s != NULL ? s->user : "",
	    .helo = "", /* not in any log */
	    .sender = m != NULL ? m->sender : "",
	    .recipient = "",
	};
}
