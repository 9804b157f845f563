/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * answer.h - what a store says to a request: counts, never decisions about mail.
 */
#ifndef WEIR_ANSWER_H
#define WEIR_ANSWER_H

#include "weir/request.h"

enum answer_source {
	ANSWER_STORE, /* the store that the configuration names */
	ANSWER_CACHE, /* refused a moment ago, and not a token has come back since */
	ANSWER_ZONE /* Redis did not answer: this host's own counters */
};

struct hit_answer {
	int64_t used; /* level with this hit charged, in millionths (sessions: open * MICRO) */
	int64_t wait_us; /* when over: until this hit would fit; 0 = unknown (sessions) */
	bool over;
	bool skipped; /* for strangers, and this one is known, or the other way round */
};

enum grey_state {
	GREY_NONE, /* not asked */
	GREY_NEW, /* first seen now */
	GREY_EARLY, /* seen, and the delay is not over */
	GREY_PASSED, /* waited, and is known from now on */
	GREY_KNOWN, /* the pool passed before */
	GREY_EMBARGO, /* first seen, and not remembered: the pool has too many of these */
	GREY_CORRESPONDENT /* a local user wrote to the sender lately */
};

/* True for those that are told to come back. */
static inline bool
grey_holds(enum grey_state g)
{
	return g == GREY_NEW || g == GREY_EARLY || g == GREY_EMBARGO;
}

struct answer {
	enum answer_source source;
	int64_t now_us; /* the clock that was used, microseconds since 1970 */
	bool charged; /* every enforced hit fitted, and greylisting (if asked) let pass */
	uint64_t lease; /* 0, or what store_release() wants when the session ends */
	char generation[GENERATION_MAX + 1]; /* the store's, when it says STORE_STALE */
	struct hit_answer hits[REQUEST_HITS_MAX];
	bool known; /* the pool, if asked */
	int64_t blocked_us; /* the pool hit a trap: blocked for so long yet; 0 = no */
	enum grey_state grey;
	int64_t grey_wait_us; /* grey_holds(): until a retry passes */
};

#endif
