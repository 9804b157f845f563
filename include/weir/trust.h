/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * trust.h - what a pool has earned: `known` without a list that somebody keeps.
 *
 * A pool is known that has passed greylisting, or that has earned `messages` credits. A message
 * that weir let through earns one credit, but only one in each `over`/(messages-1): nobody has
 * them all before `over` has passed, whatever he sends. Credits end at twice `messages`, and
 * `messages` of them fade in each `keep`.
 *
 * Beside them two counts fade by half a day: what went well (messages let through) and what went
 * wrong (refused by a limit, or a recipient that the MTA refused). A pool with at least
 * TRUST_BAD_MIN wrong, and more than one wrong to TRUST_BAD_SHARE good, has turned: it is not
 * known whatever it earned or passed before, and what it had earned is gone.
 *
 * All in whole operations on doubles, in the order that store/lua/ask.lua has them too.
 */
#ifndef WEIR_TRUST_H
#define WEIR_TRUST_H

#include <stdbool.h>
#include <stdint.h>

#define TRUST_BAD_MIN 5
#define TRUST_BAD_SHARE 4

/* By then less than a hundredth is left of what went well and wrong. */
#define TRUST_TELL_US (INT64_C(7) * 86400 * 1000000)

struct trust_rule {
	int64_t messages; /* 0: only greylisting makes known */
	int64_t over_us;
	int64_t keep_us;
};

/* Counts in millionths. All 0: never seen. */
struct trust {
	int64_t credit, good, bad;
	int64_t time_us; /* of these three */
	int64_t earned_us; /* when the last credit was earned */
};

enum trust_event {
	TRUST_LOOK, /* nothing happened */
	TRUST_MESSAGE, /* a message is let through, unless it is refused */
	TRUST_REJECTED /* the MTA refused a recipient */
};

/* Brings it to the time now. */
void trust_fade(struct trust *t, const struct trust_rule *r, int64_t now_us);
/* After trust_fade(): something went well, or wrong. */
void trust_good(struct trust *t, const struct trust_rule *r, int64_t now_us);
void trust_bad(struct trust *t);
/* After trust_fade(). passed: greylisting let the pool pass, and still knows it. */
bool trust_known(const struct trust *t, const struct trust_rule *r, bool passed);
bool trust_turned(const struct trust *t);
/* It is worth keeping for so long. */
int64_t trust_life_us(const struct trust *t, const struct trust_rule *r);

#endif
