/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * replay.h - plan, ask, judge over the traffic of a log, for the limits in force and, beside
 * them, for a candidate.
 *
 * Each trial has a zone of its own, so nothing of what happens here is seen by a weir-milter. The
 * clock is the log's.
 */
#ifndef WEIR_CTL_REPLAY_H
#define WEIR_CTL_REPLAY_H

#include "traffic.h"
#include "weir/verdict.h"
#include "weir/zone.h"

/* Why something did not come through: 0 = it did; 1 + i = limit i; or one of these. */
#define CAUSE_LIMIT 1
#define CAUSE_GREYLIST (CAUSE_LIMIT + LIMITS_MAX)
#define CAUSE_BLOCKED (CAUSE_GREYLIST + 1)
#define CAUSE_SESSION (CAUSE_BLOCKED + 1) /* a message whose session was refused before it */
#define CAUSES (CAUSE_SESSION + 1)

struct tally {
	int64_t refused;
	int64_t good; /* of these, for one reason or another */
	int64_t reason[GOODS]; /* ... by bit of enum good */
};

struct trial {
	struct ruleset rules;
	struct zone *zone;
	struct store *store;
	struct tally sessions; /* refused at connect */
	struct tally
	    messages; /* a recipient or all of it refused or put off, or lost with the session */
	struct tally causes[CAUSES];
	int64_t noted[LIMITS_MAX]; /* action=log: would have been refused */
	int64_t came_back; /* greylisted messages that were taken to come again */
	struct retry *retries; /* ring */
	unsigned first_retry, nretries;
};

/* Index: 1 = refused by the first trial alone, 2 = by the second alone, 3 = by both. */
#define CROSS 4

struct replay {
	unsigned ntrials;
	struct trial trials[TRIALS];
	struct tally cross_sessions[CROSS], cross_messages[CROSS];
	struct traffic *traffic;
};

/* A greylisted client is taken to come back once, so long after the delay has passed. */
#define REPLAY_RETRY_US (300 * USEC_PER_SEC)
#define REPLAY_RETRIES 32768

/* candidate NULL: one trial. The rulesets are copied; what they point to is borrowed. observe is
 * taken off: the question is what enforcing would do. NULL: out of memory. */
struct replay *replay_new(
    const struct ruleset *now, const struct ruleset *candidate, int64_t zone_size);
void replay_free(struct replay **r);

/* "connections", "greylist", ...; for cause > 0. */
const char *replay_cause_name(const struct trial *t, unsigned cause);

#endif
