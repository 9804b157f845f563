/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * replay.c - see replay.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "replay.h"

/* A greylisted message that will come again. */
struct retry {
	int64_t time_us;
	struct mail_message message;
	int recipients;
	char recipient[TRAFFIC_RECIPIENT_MAX + 1];
	char name[TRAFFIC_NAME_MAX + 1];
};

/* --- counting ------------------------------------------------------------------------------------ */

static void
tally_good(struct tally *t, unsigned before, unsigned bits)
{
	if (before == 0)
		t->good++;
	for (int i = 0; i < GOODS; i++)
		if ((bits & (1U << i)) != 0)
			t->reason[i]++;
}

static void
tally_refused(struct tally *t, unsigned good)
{
	t->refused++;
	if (good != 0)
		tally_good(t, 0, good);
}

/* Calls for each tally that something with these causes stands in. */
static void
each_tally(struct replay *r, const uint8_t cause[TRIALS], bool session,
    void (*fn)(struct tally *, unsigned, unsigned), unsigned a, unsigned b)
{
	unsigned mask = 0;

	for (unsigned k = 0; k < r->ntrials; k++) {
		struct trial *t = &r->trials[k];

		if (cause[k] == 0)
			continue;
		mask |= 1U << k;
		fn(&t->causes[cause[k]], a, b);
		fn(session ? &t->sessions : &t->messages, a, b);
	}
	if (mask != 0)
		fn(session ? &r->cross_sessions[mask] : &r->cross_messages[mask], a, b);
}

static void
add_refused(struct tally *t, unsigned good, unsigned unused)
{
	(void)unused;
	tally_refused(t, good);
}

/* It has been decided: counts it where it belongs. */
static void
count_refused(struct replay *r, const uint8_t cause[TRIALS], bool session, unsigned good,
    const struct addr *client)
{
	struct mail_client *c = traffic_client(r->traffic, client);
	bool refused = false;

	each_tally(r, cause, session, add_refused, good, 0);
	for (unsigned k = 0; k < r->ntrials; k++)
		if (cause[k] != 0) {
			refused = true;
			if (c != NULL)
				c->refused[k]++;
		}
	if (refused && good != 0 && c != NULL)
		c->good++;
}

/* It turns out later that it was of a good sender. */
static void
count_good(struct replay *r, const uint8_t cause[TRIALS], bool session, unsigned before,
    unsigned bits, const struct addr *client)
{
	struct mail_client *c;

	each_tally(r, cause, session, tally_good, before, bits);
	if (before != 0 || (cause[0] == 0 && cause[1] == 0))
		return;
	c = traffic_client(r->traffic, client);
	if (c != NULL)
		c->good++;
}

/* --- the road ------------------------------------------------------------------------------------ */

static unsigned
limit_index(const struct trial *t, const struct limit *l)
{
	unsigned i = 0;

	/* an override is a copy with the same name */
	while (i + 1 < t->rules.nlimits && strcmp(t->rules.limits[i].name, l->name) != 0)
		i++;
	return i;
}

static uint8_t
cause_of(const struct trial *t, const struct verdict *v)
{
	if (v->action == DO_ACCEPT)
		return 0;
	if (v->limit != NULL)
		return (uint8_t)(CAUSE_LIMIT + limit_index(t, v->limit));
	return v->reason == REASON_GREYLIST ? CAUSE_GREYLIST : CAUSE_BLOCKED;
}

static struct verdict
decide(struct trial *t, const struct facts *f, int64_t now_us, uint64_t *lease)
{
	struct request q;
	struct answer a;
	struct verdict v;
	bool asked = plan_request(&t->rules, f, &q);

	if (asked)
		(void)store_ask(t->store, &q, now_us, &a); /* the zone always answers */
	v = judge(&t->rules, f, asked ? &q : NULL, asked ? &a : NULL);
	*lease = asked ? a.lease : 0;
	for (unsigned i = 0; v.noted != 0 && i < q.nhits; i++)
		if ((v.noted & (UINT64_C(1) << i)) != 0)
			t->noted[limit_index(t, q.hits[i].limit)]++;
	return v;
}

/* One message, as milter/session.c walks through it: recipient by recipient, until a 421. */
struct walk {
	struct facts f;
	const struct mail_recipients *r;
	bool sender_told;
	bool greylist_known; /* for the session */
	uint8_t cause; /* of the first recipient that was not let in */
	bool over; /* by a 421 */
	bool taken; /* somebody is let in, so it is sent */
	int64_t bytes; /* it has; 0 = not told */
	enum grey_state grey; /* that held it back */
	const char *held; /* whom it concerned */
};

static void
walk_end(struct trial *t, struct walk *w, int64_t now_us)
{
	struct facts f = w->f;
	struct verdict v;
	uint64_t lease;

	f.stage = STAGE_EOM;
	f.recipient = "";
	f.bytes = w->bytes;
	v = decide(t, &f, now_us, &lease);
	if (v.action == DO_ACCEPT)
		return;
	if (w->cause == 0)
		w->cause = cause_of(t, &v);
	w->over = v.action == DO_REFUSE;
}

static void
walk_message(struct trial *t, struct walk *w, int64_t now_us)
{
	bool whole_message = reply_closes(&t->rules.greylist.reply), asked = false;
	uint64_t lease;

	for (int i = 0; i < w->r->all && !w->over; i++) {
		bool named = i < w->r->named && w->sender_told;
		struct verdict v;

		w->f.recipient = i < w->r->named ? w->r->names[i] : "";
		/* whose name is not told cannot be looked up */
		w->f.greylist_done = w->greylist_known || (asked && whole_message) || !named;
		v = decide(t, &w->f, now_us, &lease);
		if (v.action != DO_ACCEPT) {
			if (w->cause == 0) {
				w->cause = cause_of(t, &v);
				w->grey = v.reason == REASON_GREYLIST ? v.grey : GREY_NONE;
				w->held = w->f.recipient;
			}
			w->over = v.action == DO_REFUSE;
			continue;
		}
		w->f.message_counted = w->taken = true;
		asked = asked || v.grey != GREY_NONE;
		if (v.grey == GREY_PASSED || v.grey == GREY_KNOWN)
			w->greylist_known = true;
	}
	if (!w->over && w->taken && w->bytes > 0)
		walk_end(t, w, now_us);
}

/* --- greylisted clients come back ---------------------------------------------------------------- */

/* A good sender comes again, and is known from then on; but in a log that was written without
 * greylisting nobody does. Without this each new pair of a large sender would be held. */
static void
add_retry(struct trial *t, const struct walk *w, const struct mail_message *m, int64_t now_us)
{
	struct retry *again;

	if (t->nretries == REPLAY_RETRIES) {
		t->first_retry = (t->first_retry + 1) % REPLAY_RETRIES;
		t->nretries--;
	}
	again = &t->retries[(t->first_retry + t->nretries++) % REPLAY_RETRIES];
	again->time_us = now_us + t->rules.greylist.delay_us + REPLAY_RETRY_US;
	again->message = *m;
	again->recipients = w->r->all;
	snprintf(again->name, sizeof again->name, "%s", w->f.name);
	snprintf(again->recipient, sizeof again->recipient, "%s", w->held);
}

static void
take_retries(struct trial *t, int64_t now_us)
{
	while (t->nretries > 0 && t->retries[t->first_retry].time_us <= now_us) {
		const struct retry *again = &t->retries[t->first_retry];
		const char *names[1] = {again->recipient};
		struct mail_recipients r = {.names = names, .named = 1, .all = again->recipients};
		struct walk w = {
		    .f = traffic_facts(NULL, &again->message), .r = &r, .sender_told = true};

		w.f.name = again->name;

		walk_message(t, &w, again->time_us);
		t->came_back++;
		t->first_retry = (t->first_retry + 1) % REPLAY_RETRIES;
		t->nretries--;
	}
}

/* --- what the traffic tells ---------------------------------------------------------------------- */

static void
on_connect(void *ctx, struct mail_session *s, int64_t now_us)
{
	struct replay *r = ctx;
	uint8_t cause[TRIALS] = {0};

	for (unsigned k = 0; k < r->ntrials; k++) {
		struct trial *t = &r->trials[k];
		struct facts f = traffic_facts(s, NULL);
		struct verdict v;

		take_retries(t, now_us);
		v = decide(t, &f, now_us, &s->trial[k].lease);
		/* a deferral is told at MAIL, of every message: nothing comes through either */
		cause[k] = s->trial[k].cause = cause_of(t, &v);
		s->trial[k].over = cause[k] != 0;
	}
	count_refused(r, cause, true, s->good, &s->client);
}

static void
on_message(void *ctx, struct mail_session *s, struct mail_message *m,
    const struct mail_recipients *recipients, int64_t now_us)
{
	struct replay *r = ctx;

	for (unsigned k = 0; k < r->ntrials; k++) {
		struct trial *t = &r->trials[k];
		struct session_trial *st = &s->trial[k];
		struct walk w = {.f = traffic_facts(s, m),
		    .bytes = m->size,
		    .r = recipients,
		    .sender_told = m->sender_told,
		    .greylist_known = st->greylist_known};

		take_retries(t, now_us);
		if (st->over) {
			m->cause[k] = CAUSE_SESSION;
			continue;
		}
		walk_message(t, &w, now_us);
		m->cause[k] = w.cause;
		st->over = w.over;
		if (w.over) {
			/* the MTA hangs up */
			store_release(t->store, st->lease);
			st->lease = 0;
		}
		st->greylist_known = w.greylist_known;
		if (w.grey == GREY_NEW)
			add_retry(t, &w, m, now_us);
	}
	count_refused(r, m->cause, false, m->good, &m->client);
}

/* The MTA has refused it, whatever is said of it; it counts for what comes next. */
static void
on_rejected(void *ctx, struct mail_session *s, int64_t now_us)
{
	struct replay *r = ctx;
	struct facts f = traffic_facts(s, NULL);
	uint64_t lease;

	f.stage = STAGE_RCPT;
	f.rejected = true;
	for (unsigned k = 0; k < r->ntrials; k++)
		if (!s->trial[k].over)
			(void)decide(&r->trials[k], &f, now_us, &lease);
}

static void
on_end(void *ctx, struct mail_session *s)
{
	struct replay *r = ctx;

	for (unsigned k = 0; k < r->ntrials; k++) {
		store_release(r->trials[k].store, s->trial[k].lease);
		s->trial[k].lease = 0;
	}
}

static void
on_good_session(void *ctx, struct mail_session *s, unsigned bits)
{
	uint8_t cause[TRIALS];

	for (int k = 0; k < TRIALS; k++)
		cause[k] = s->trial[k].cause;
	count_good(ctx, cause, true, s->good & ~bits, bits, &s->client);
}

static void
on_good_message(void *ctx, struct mail_message *m, unsigned bits)
{
	count_good(ctx, m->cause, false, m->good & ~bits, bits, &m->client);
}

/* --- all of it ----------------------------------------------------------------------------------- */

static bool
trial_init(struct trial *t, const struct ruleset *rules, int64_t zone_size)
{
	t->rules = *rules;
	t->rules.observe = false;
	t->rules.drain_until_us = 0; /* maintenance now says nothing of then */
	t->zone = zone_new(zone_size, 1);
	t->store = t->zone != NULL ? zone_store_open(t->zone, 0) : NULL;
	t->retries = calloc(REPLAY_RETRIES, sizeof *t->retries);
	return t->store != NULL && t->retries != NULL;
}

struct replay *
replay_new(const struct ruleset *now, const struct ruleset *candidate, int64_t zone_size)
{
	static const struct traffic_ops ops = {
	    on_connect, on_message, on_end, on_good_session, on_good_message, on_rejected};
	struct replay *r = calloc(1, sizeof *r);
	bool ok;

	if (r == NULL)
		return NULL;
	r->ntrials = candidate != NULL ? 2 : 1;
	ok = trial_init(&r->trials[0], now, zone_size) &&
	    (candidate == NULL || trial_init(&r->trials[1], candidate, zone_size));
	if (ok)
		r->traffic = traffic_new(&ops, r);
	if (r->traffic == NULL)
		replay_free(&r);
	return r;
}

void
replay_free(struct replay **r)
{
	if (*r == NULL)
		return;
	traffic_free(&(*r)->traffic);
	for (unsigned k = 0; k < TRIALS; k++) {
		store_close(&(*r)->trials[k].store);
		zone_free(&(*r)->trials[k].zone);
		free((*r)->trials[k].retries);
	}
	free(*r);
	*r = NULL;
}

const char *
replay_cause_name(const struct trial *t, unsigned cause)
{
	switch (cause) {
	case CAUSE_GREYLIST:
		return "greylist";
	case CAUSE_BLOCKED:
		return "blocked";
	case CAUSE_SESSION:
		return "session refused";
	default:
		return t->rules.limits[cause - CAUSE_LIMIT].name;
	}
}
