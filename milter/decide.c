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

/*
 * Plan and ask, again when the limits have changed meanwhile. *r is the ruleset that the last
 * plan was made with. Returns false when no store answered; asked says whether one had to.
 */
static bool
plan_and_ask(struct worker *w, struct session *s, enum stage stage, const char *recipient,
    const struct ruleset **r, struct request *q, struct answer *a, bool *asked)
{
	int64_t deadline = clock_mono_us() + w->conf->redis.timeout_us;

	for (int plans = 0; plans < PLANS_MAX; plans++) {
		enum store_status status;
		bool fresh;

		q->deadline_us = deadline;
		status = store_ask(w->store, q, 0, a);
		if (status != STORE_STALE)
			return status == STORE_OK;
		fresh = snapshot_refresh(
		    w->snapshots, w->store, (*r)->generation, deadline, clock_real_us());
		snapshot_put(w->snapshots, *r);
		*r = snapshot_get(w->snapshots, clock_real_us());
		*asked = session_plan(s, *r, stage, recipient, q);
		if (!*asked)
			return true;
		/* limits that cannot be read must not switch off those that we have */
		if (!fresh)
			memcpy(q->generation, a->generation, sizeof q->generation);
	}
	return false;
}

/* From the first plan (asked: it wants an answer) to the verdict. Takes *r over. */
static enum next
decide(struct worker *w, struct session *s, enum stage stage, const char *recipient,
    const struct ruleset *r, struct request *q, bool asked)
{
	struct verdict v;
	struct answer a;
	bool answered = false;
	enum next next;

	memset(&a, 0, sizeof a);
	atomic_fetch_add(&w->in_flight, 1);
	if (asked && !atomic_load(&w->stopping))
		answered = plan_and_ask(w, s, stage, recipient, &r, q, &a, &asked);
	next = session_judge(
	    s, r, stage, recipient, asked ? q : NULL, asked && answered ? &a : NULL, &v);
	/* of a recipient that the MTA refused nobody hears a verdict, but of what shadows found */
	if (stage == STAGE_RCPT && s->rejected)
		v.action = DO_ACCEPT;
	decision_log(s, stage, recipient, asked ? q : NULL, &a, &v);
	tally(w->zone, s, r, stage, asked ? q : NULL, &v);
	atomic_fetch_sub(&w->in_flight, 1);
	snapshot_put(w->snapshots, r);
	return next;
}

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

enum next
decide_connect(struct worker *w, struct session *s, const struct addr *client, const char *name,
    bool confirmed)
{
	const struct ruleset *r = snapshot_get(w->snapshots, clock_real_us());
	struct request q;
	bool asked;

	s->drain = zone_drain_until(w->zone) > clock_real_us();
	s->level = zone_load_level(w->zone, clock_mono_us());
	asked = session_connect(s, r, client, name, confirmed, &q) == NEXT_ASK;

	return decide(w, s, STAGE_CONNECT, "", r, &q, asked);
}

enum next
decide_mail(
    struct worker *w, struct session *s, const char *sender, const char *user, int64_t bytes)
{
	const struct ruleset *r = snapshot_get(w->snapshots, clock_real_us());
	struct request q;
	enum next next = session_mail(s, r, sender, user, bytes, &q);

	if (next == NEXT_ASK)
		return decide(w, s, STAGE_MAIL, "", r, &q, true);
	snapshot_put(w->snapshots, r);
	return next;
}

enum next
decide_rcpt(
    struct worker *w, struct session *s, const char *recipient, bool rejected, const char *queue_id)
{
	const struct ruleset *r = snapshot_get(w->snapshots, clock_real_us());
	struct request q;
	bool asked = session_rcpt(s, r, recipient, rejected, queue_id, &q) == NEXT_ASK;

	if (rejected && !asked) {
		/* nothing counts it, and no verdict would be heard */
		snapshot_put(w->snapshots, r);
		return NEXT_CONTINUE;
	}
	return decide(w, s, STAGE_RCPT, recipient, r, &q, asked);
}

enum next
decide_eom(struct worker *w, struct session *s)
{
	const struct ruleset *r = snapshot_get(w->snapshots, clock_real_us());
	struct request q;

	if (session_eom(s, r, &q) == NEXT_ASK)
		return decide(w, s, STAGE_EOM, "", r, &q, true);
	snapshot_put(w->snapshots, r);
	return NEXT_CONTINUE;
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
