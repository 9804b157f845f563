/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * traffic_steps.c - when its time has come: reading ahead, and what a message turns out to be by
 * then.
 */
#include <stdio.h>
#include <string.h>

#include "traffic_private.h"

/* --- recipients of a message --------------------------------------------------------------------- */

/* How far it is looked for the same name: a list of thousands must not cost their square. */
#define SAME_NAME_MAX 256

bool
traffic_has_recipient(const struct traffic *t, const struct mail_message *m, const char *name)
{
	uint32_t i = m->recipients;

	for (int n = 0; i != 0 && n < SAME_NAME_MAX; n++, i = t->recipients[i].next)
		if (strcasecmp(t->recipients[i].name, name) == 0)
			return true;
	return false;
}

/* Without room he is one of those whose name is not told. */
void
traffic_add_recipient(struct traffic *t, struct mail_message *m, const char *name)
{
	uint32_t place = t->recipients_free;

	if (m->listed == MAIL_NRCPT_MAX)
		return;
	if (place != 0)
		t->recipients_free = t->recipients[place].next;
	else if (t->recipients_used < TRAFFIC_RECIPIENTS)
		place = ++t->recipients_used;
	else
		return;
	snprintf(t->recipients[place].name, sizeof t->recipients[place].name, "%s", name);
	t->recipients[place].next = 0;
	if (m->recipients == 0)
		m->recipients = place;
	else
		t->recipients[m->last_recipient].next = place;
	m->last_recipient = place;
	m->listed++;
}

void
traffic_drop_recipients(struct traffic *t, struct mail_message *m)
{
	if (m->recipients == 0)
		return;
	t->recipients[m->last_recipient].next = t->recipients_free;
	t->recipients_free = m->recipients;
	m->recipients = 0;
	m->listed = 0;
}

/* --- steps --------------------------------------------------------------------------------------- */

static void take_step(struct traffic *t);

void
traffic_add_step(
    struct traffic *t, enum step_kind kind, struct mail_session *s, struct mail_message *m)
{
	struct step *step;

	s->waiting++; /* first: it must not be freed below */
	/* more in a minute than there is room for: the oldest is not waited for as long */
	if (t->nsteps == TRAFFIC_STEPS)
		take_step(t);
	step = &t->steps[(t->first + t->nsteps++) % TRAFFIC_STEPS];
	step->time_us = t->now_us;
	step->kind = kind;
	step->session = lru_ref_of(t->sessions, s);
	step->message = (struct lru_ref){0};
	if (m != NULL)
		step->message = lru_ref_of(t->messages, m);
}

static bool
same_ref(struct lru_ref a, struct lru_ref b)
{
	return a.place == b.place && a.serial == b.serial;
}

/* The last transaction of its session, which may still be under way. */
static bool
is_current(struct traffic *t, const struct mail_session *s, const struct mail_message *m)
{
	return same_ref(s->current, lru_ref_of(t->messages, m));
}

/* How many recipients a milter was asked for. */
static int
count_recipients(struct traffic *t, const struct mail_session *s, const struct mail_message *m)
{
	int n;

	if (m->nrcpt >= 0)
		return m->listed + (m->nrcpt > m->named ? m->nrcpt - m->named : 0);
	/* It never came so far that its recipients were counted. What the session says in all is
	 * this one's, less the messages before it. */
	n = m->listed - m->attempts;
	if (s->ending && is_current(t, s, m) && s->rcpt_told - s->rcpt_done > n)
		n = s->rcpt_told - s->rcpt_done;
	return (n > 1 ? n : 1) + m->attempts;
}

/* Nothing that could be read would matter any more. */
bool
traffic_is_over(const struct mail_message *m)
{
	return m->removed || !m->link.keyed || m->nrcpt < 0 || m->settled >= m->nrcpt;
}

static bool
was_refused(const struct mail_session *s)
{
	for (int k = 0; k < TRIALS; k++)
		if (s->trial[k].cause != 0)
			return true;
	return false;
}

/* Nothing is to come but, if it was refused, news of its messages. */
static void
drop_session(struct traffic *t, struct mail_session *s)
{
	if (s->ending && s->waiting == 0 &&
	    (s->messages == 0 || (s->good & GOOD_DELIVERED) != 0 || !was_refused(s)))
		lru_free(t->sessions, s);
}

void
traffic_drop_message(struct traffic *t, struct mail_message *m)
{
	struct mail_session *s = traffic_session(t, m);

	lru_free(t->messages, m);
	if (s == NULL)
		return;
	s->messages--;
	drop_session(t, s);
}

static void
decide_message(struct traffic *t, struct mail_session *s, struct mail_message *m, int64_t time_us)
{
	struct mail_recipients r = {.names = t->names};

	for (uint32_t i = m->recipients; i != 0; i = t->recipients[i].next)
		t->names[r.named++] = t->recipients[i].name;
	if (!m->sender_told)
		snprintf(m->sender, sizeof m->sender, "?%llu", (unsigned long long)++t->unnamed);
	r.all = count_recipients(t, s, m);
	if (r.all > MAIL_NRCPT_MAX)
		r.all = MAIL_NRCPT_MAX;
	if (!s->unseen) {
		t->figures.messages++;
		t->figures.authenticated += m->authenticated;
		t->figures.recipients += r.all;
		t->figures.nameless += r.all - r.named;
		t->ops->message(t->ctx, s, m, &r, time_us);
	}
	s->rcpt_done += r.all - m->attempts;
	m->decided = true;
	traffic_drop_recipients(t, m);
}

void
traffic_end(struct traffic *t, struct mail_session *s)
{
	if (!s->ended && !s->unseen)
		t->ops->end(t->ctx, s);
	s->ended = true;
}

/* The oldest step's time has come. */
static void
take_step(struct traffic *t)
{
	struct step step = t->steps[t->first];
	struct mail_session *s = lru_at(t->sessions, step.session);
	struct mail_message *m = lru_at(t->messages, step.message);

	t->first = (t->first + 1) % TRAFFIC_STEPS;
	t->nsteps--;
	if (s == NULL || (step.kind == STEP_MESSAGE && m == NULL))
		return;
	if (step.kind == STEP_MESSAGE && !m->complete && !s->ending && is_current(t, s, m)) {
		/* it takes longer than we look ahead: asked when it is known, or given up */
		m->parked = true;
		return;
	}
	s->waiting--;
	switch (step.kind) {
	case STEP_CONNECT:
		if (!s->unseen) {
			t->figures.sessions++;
			t->ops->connect(t->ctx, s, step.time_us);
		}
		break;
	case STEP_MESSAGE:
		decide_message(t, s, m, step.time_us);
		break;
	case STEP_REJECTED:
		if (!s->unseen && t->ops->rejected != NULL)
			t->ops->rejected(t->ctx, s, step.time_us);
		break;
	case STEP_END:
		traffic_end(t, s);
		break;
	}
	/* Where ends are not told, a session is taken to be open from the first to the last that
	 * is heard of it. */
	if (s->waiting == 0 && !s->ends_told)
		traffic_end(t, s);
	if (m != NULL && m->decided && traffic_is_over(m))
		traffic_drop_message(t, m);
	else
		drop_session(t, s);
}

void
traffic_unpark(struct traffic *t, struct mail_session *s, struct mail_message *m)
{
	if (!m->parked)
		return;
	m->parked = false;
	traffic_add_step(t, STEP_MESSAGE, s, m);
	s->waiting--; /* it was counted while it was parked */
}

/* A full table forgets what it has not heard of for longest. If that still waits for its time,
 * there is more in a minute than there is room for: the log is read less far ahead. */
void
traffic_make_room(struct traffic *t)
{
	const struct mail_session *s = lru_oldest(t->sessions);
	const struct mail_message *m = lru_oldest(t->messages);

	while (t->nsteps > 0 &&
	    ((lru_full(t->sessions) && s->waiting > 0) ||
		(lru_full(t->messages) && m->queued && !m->decided))) {
		take_step(t);
		s = lru_oldest(t->sessions);
		m = lru_oldest(t->messages);
	}
}

void
traffic_steps_until(struct traffic *t, int64_t us)
{
	while (t->nsteps > 0 && t->steps[t->first].time_us <= us)
		take_step(t);
}
