/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decide.c - see decide.h.
 */
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "decide.h"
#include "decision_log.h"
#include "tally.h"

/* Limits may change again while we read them; nobody changes them three times in 50 ms. */
#define PLANS_MAX 3

/* --- step by step --------------------------------------------------------------------------- */

static void
begin(struct decision *d, struct worker *w, struct session *s, enum stage stage,
    const char *recipient)
{
	d->worker = w;
	d->session = s;
	d->stage = stage;
	d->recipient = recipient;
	d->rules = snapshot_get(w->snapshots, clock_real_us());
	d->undecided = d->answered = false;
	d->plans = 0;
	atomic_fetch_add(&w->in_flight, 1);
}

/* The session has planned. */
static enum decision_step
planned(struct decision *d, bool asks)
{
	struct worker *w = d->worker;

	d->asked = asks;
	if (!asks || atomic_load(&w->stopping))
		return DECISION_JUDGE;
	d->q.deadline_us = clock_mono_us() + w->conf->redis.timeout_us;
	return DECISION_ASK;
}

static enum decision_step
none(struct decision *d, enum next next)
{
	d->undecided = true;
	d->next = next;
	return DECISION_NONE;
}

enum decision_step
decision_connect(struct decision *d, struct worker *w, struct session *s, const struct addr *client,
    const char *name, bool confirmed)
{
	begin(d, w, s, STAGE_CONNECT, "");
	s->drain = zone_drain_until(w->zone) > clock_real_us();
	s->level = zone_load_level(w->zone, clock_mono_us());
	return planned(d, session_connect(s, d->rules, client, name, confirmed, &d->q) == NEXT_ASK);
}

enum decision_step
decision_mail(struct decision *d, struct worker *w, struct session *s, const char *sender,
    const char *user, int64_t bytes)
{
	enum next next;

	begin(d, w, s, STAGE_MAIL, "");
	next = session_mail(s, d->rules, sender, user, bytes, &d->q);
	return next == NEXT_ASK ? planned(d, true) : none(d, next);
}

enum decision_step
decision_rcpt(struct decision *d, struct worker *w, struct session *s, const char *recipient,
    bool rejected, const char *queue_id)
{
	bool asks;

	begin(d, w, s, STAGE_RCPT, recipient);
	asks = session_rcpt(s, d->rules, recipient, rejected, queue_id, &d->q) == NEXT_ASK;
	/* nothing counts it, and no verdict would be heard */
	if (rejected && !asks)
		return none(d, NEXT_CONTINUE);
	return planned(d, asks);
}

enum decision_step
decision_eom(struct decision *d, struct worker *w, struct session *s)
{
	begin(d, w, s, STAGE_EOM, "");
	if (session_eom(s, d->rules, &d->q) == NEXT_ASK)
		return planned(d, true);
	return none(d, NEXT_CONTINUE);
}

enum decision_step
decision_answered(struct decision *d, enum store_status status)
{
	if (status == STORE_STALE && ++d->plans < PLANS_MAX)
		return DECISION_REFRESH;
	d->answered = status == STORE_OK;
	return DECISION_JUDGE;
}

enum decision_step
decision_again(struct decision *d, bool fresh)
{
	struct snapshots *all = d->worker->snapshots;
	int64_t deadline = d->q.deadline_us;

	snapshot_put(all, d->rules);
	d->rules = snapshot_get(all, clock_real_us());
	d->asked = session_plan(d->session, d->rules, d->stage, d->recipient, &d->q);
	if (!d->asked)
		return DECISION_JUDGE;
	d->q.deadline_us = deadline;
	/* limits that cannot be read must not switch off those that we have */
	if (!fresh)
		memcpy(d->q.generation, d->a.generation, sizeof d->q.generation);
	return DECISION_ASK;
}

static enum next
judge_it(struct decision *d)
{
	struct session *s = d->session;
	struct verdict v;
	enum next next;

	if (!d->answered)
		memset(&d->a, 0, sizeof d->a);
	next = session_judge(s, d->rules, d->stage, d->recipient, d->asked ? &d->q : NULL,
	    d->asked && d->answered ? &d->a : NULL, &v);
	/* of a recipient that the MTA refused nobody hears a verdict, but of what shadows found */
	if (d->stage == STAGE_RCPT && s->rejected)
		v.action = DO_ACCEPT;
	decision_log(s, d->stage, d->recipient, d->asked ? &d->q : NULL, &d->a, &v);
	tally(d->worker->zone, s, d->rules, d->stage, d->asked ? &d->q : NULL, &v);
	return next;
}

enum next
decision_end(struct decision *d)
{
	struct worker *w = d->worker;
	enum next next = d->undecided ? d->next : judge_it(d);

	atomic_fetch_sub(&w->in_flight, 1);
	snapshot_put(w->snapshots, d->rules);
	return next;
}

/* --- in one call ---------------------------------------------------------------------------- */

static enum next
decide(struct decision *d, enum decision_step step)
{
	struct worker *w = d->worker;

	while (step == DECISION_ASK) {
		step = decision_answered(d, store_ask(w->store, &d->q, 0, &d->a));
		if (step == DECISION_REFRESH)
			step = decision_again(d,
			    snapshot_refresh(w->snapshots, w->store, d->rules->generation,
				d->q.deadline_us, clock_real_us()));
	}
	return decision_end(d);
}

enum next
decide_connect(struct worker *w, struct session *s, const struct addr *client, const char *name,
    bool confirmed)
{
	struct decision d;

	return decide(&d, decision_connect(&d, w, s, client, name, confirmed));
}

enum next
decide_mail(
    struct worker *w, struct session *s, const char *sender, const char *user, int64_t bytes)
{
	struct decision d;

	return decide(&d, decision_mail(&d, w, s, sender, user, bytes));
}

enum next
decide_rcpt(
    struct worker *w, struct session *s, const char *recipient, bool rejected, const char *queue_id)
{
	struct decision d;

	return decide(&d, decision_rcpt(&d, w, s, recipient, rejected, queue_id));
}

enum next
decide_eom(struct worker *w, struct session *s)
{
	struct decision d;

	return decide(&d, decision_eom(&d, w, s));
}

/* --- for both ------------------------------------------------------------------------------- */

struct plan_steps
decide_steps(struct worker *w)
{
	const struct ruleset *r = snapshot_get(w->snapshots, clock_real_us());
	struct plan_steps steps = plan_steps(r);

	snapshot_put(w->snapshots, r);
	return steps;
}

void
decide_daemon(struct worker *w, struct session *s, const char *name, const char *port)
{
	s->spared = load_spares(&w->conf->rules.load, name, port);
}

void
decide_close(struct worker *w, struct session *s)
{
	atomic_fetch_add(&w->in_flight, 1);
	if (!atomic_load(&w->stopping))
		store_release(w->store, s->lease);
	s->lease = 0;
	atomic_fetch_sub(&w->in_flight, 1);
}
