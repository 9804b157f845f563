/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sequence.h - random questions under random rules, with time that passes between them, for
 * test_two_stores.c.
 */
#ifndef WEIR_TEST_SEQUENCE_H
#define WEIR_TEST_SEQUENCE_H

#include "generator.h"
#include "store_fixture.h"

#define STEPS_MAX 24

enum what {
	ASK,
	PEEK, /* a question that must leave nothing behind, in neither store */
	TRAP, /* a question of who wrote to a trap */
	RELEASE, /* the oldest open session ends */
	CLOCK, /* time passes: by_us, and one of these */
	CHANGE /* from now on the changed limits are in force, or no longer */
};

#define RULES_TIMES (RULES_LIMITS_MAX + 7)

struct step {
	enum what what;
	struct who_asks who;
	bool wait; /* as long as the last answer said */
	uint8_t eighths, of; /* so many eighths of a time that the rules name: see rules_time() */
	int64_t by_us;
};

/* Redis forgets by a clock that no test can move; what it would have forgotten, the test takes
 * away. That is exact where time only goes on and rules stay. Otherwise a record may have been
 * written when its life was shorter, or may be as old as nobody can say. */
enum kind {
	AGES, /* time goes on, by as much as it likes; Redis forgets */
	GOES_BACK, /* and back; nothing is forgotten, and no client has limits of its own */
	CHANGES /* a little to and fro, while limits change */
};

struct sequence {
	enum kind kind;
	struct rules rules;
	unsigned n;
	struct step steps[STEPS_MAX];
};

void sequence_make(struct rng *r, struct sequence *s);
void sequence_print(const struct sequence *s, FILE *out);
/* The time that a limit takes to empty, or one of the settings. */
int64_t rules_time(const struct ruleset *r, unsigned of);

#endif
