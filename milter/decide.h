/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decide.h - the whole road: plan, ask, judge, log.
 *
 * For an engine that may block one call does it all (decide_connect() and the others). One that
 * must not wait takes the same steps itself:
 *
 *	step = decision_connect(&d, ...);
 *	while (step == DECISION_ASK) {
 *		... d.q to the store, which fills d.a ...
 *		step = decision_answered(&d, status);
 *		if (step == DECISION_REFRESH)
 *			... snapshot_refresh() ..., step = decision_again(&d, fresh);
 *	}
 *	next = decision_end(&d);
 *
 * Thread-safe for different sessions.
 */
#ifndef WEIR_MILTER_DECIDE_H
#define WEIR_MILTER_DECIDE_H

#include "session.h"
#include "worker.h"

enum decision_step {
	DECISION_NONE, /* nothing is to be decided */
	DECISION_ASK, /* d->q is for the store, to be answered by d->q.deadline_us */
	DECISION_REFRESH, /* the limits have changed: snapshot_refresh(), by the same deadline */
	DECISION_JUDGE /* all is there */
};

/* One decision that is being taken; about 9 kB. What its arguments point to is borrowed until
 * decision_end(). */
struct decision {
	struct worker *worker;
	struct session *session;
	enum stage stage;
	const char *recipient;
	const struct ruleset *rules;
	bool undecided; /* DECISION_NONE: next is what that comes to */
	enum next next;
	bool asked, answered;
	unsigned plans;
	struct request q;
	struct answer a;
};

/* Arguments as of session.h. */
enum decision_step decision_connect(struct decision *d, struct worker *w, struct session *s,
    const struct addr *client, const char *name, bool confirmed);
enum decision_step decision_mail(struct decision *d, struct worker *w, struct session *s,
    const char *sender, const char *user, int64_t bytes);
enum decision_step decision_rcpt(struct decision *d, struct worker *w, struct session *s,
    const char *recipient, bool rejected, const char *queue_id);
enum decision_step decision_eom(struct decision *d, struct worker *w, struct session *s);

/* The store has said so. */
enum decision_step decision_answered(struct decision *d, enum store_status status);
/* What snapshot_refresh() has returned; rules.generation is what it was to be told as stale. */
enum decision_step decision_again(struct decision *d, bool fresh);
/* Always comes last: the verdict, and its line in the log. */
enum next decision_end(struct decision *d);

/* --- in one call ---------------------------------------------------------------------------- */

/* Each returns within the Redis timeout, plus what the scheduler adds. */
enum next decide_connect(struct worker *w, struct session *s, const struct addr *client,
    const char *name, bool confirmed);
enum next decide_mail(
    struct worker *w, struct session *s, const char *sender, const char *user, int64_t bytes);
enum next decide_rcpt(struct worker *w, struct session *s, const char *recipient, bool rejected,
    const char *queue_id);
enum next decide_eom(struct worker *w, struct session *s);

/* --- for both ------------------------------------------------------------------------------- */

/* What the MTA should report of the session that is about to begin. */
struct plan_steps decide_steps(struct worker *w);

/* Before decide_connect(): which of the MTA's daemons it came to, "" = not said. */
void decide_daemon(struct worker *w, struct session *s, const char *name, const char *port);

/* The session is over, however it ended. */
void decide_close(struct worker *w, struct session *s);

#endif
