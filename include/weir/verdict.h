/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * verdict.h - judge: facts + request + answer -> what the client is told, and why.
 *
 * The only place that decides. "The store failed" is mapped to a verdict here too: with no
 * answer at all (answer == NULL) mail flows.
 */
#ifndef WEIR_VERDICT_H
#define WEIR_VERDICT_H

#include "weir/answer.h"

enum action { DO_ACCEPT, DO_REFUSE, DO_DEFER };

/* Stable for ever: they stand in logs that people grep. */
enum reason {
	REASON_OK,
	REASON_EXEMPT, /* client in an exempt network, or on Redis' list */
	REASON_BLOCKED, /* client on Redis' list of blocked ones */
	REASON_DRAIN, /* maintenance: no new sessions */
	REASON_LOAD, /* the host is too busy for this client */
	REASON_RATE, /* over a rate limit */
	REASON_SESSIONS, /* too many open sessions */
	REASON_QUOTA, /* over a quota */
	REASON_TRAP, /* the pool wrote to a trap lately */
	REASON_GREYLIST, /* new or too early */
	REASON_NO_STORE /* nothing answered; accepted */
};

struct verdict {
	enum action action;
	enum reason reason;
	bool enforced; /* false in observe mode: logged, and the client sees nothing */
	const struct limit *limit; /* borrowed from the ruleset; NULL for greylisting and accepts */
	const struct reply *reply; /* borrowed from the ruleset; NULL for accepts */
	unsigned level; /* REASON_LOAD: the host's */
	int64_t used, of; /* whole things: "used=31 of=30" */
	int64_t retry_us; /* 0 = not known */
	enum grey_state grey;
	enum answer_source source;
	uint64_t noted; /* bit i: hit i is an action=log limit that is exceeded */
};

struct verdict judge(const struct ruleset *r, const struct facts *f, const struct request *q,
    const struct answer *a);

/* Figures of one hit, as judge() reports them; for the lines about action=log limits. */
void judge_figures(const struct hit *h, const struct hit_answer *a, struct verdict *out);

const char *action_name(enum action a);
const char *reason_name(enum reason r);
const char *grey_state_name(enum grey_state g);
const char *answer_source_name(enum answer_source s);

#endif
