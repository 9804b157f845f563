/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * generator.h - random rulesets and random questions, for the tests that compare the stores or
 * check what limits let through.
 *
 * Rules are made of the words that an administrator writes, by tables in generator.c: a new word
 * is a new line there. What makes no sense together, limit_finish() and ruleset_finish() refuse,
 * and another try is made.
 */
#ifndef WEIR_TEST_GENERATOR_H
#define WEIR_TEST_GENERATOR_H

#include <stdio.h>

#include "weir/request.h"

/* --- chance: the same from the same seed, on every machine --------------------------------- */

struct rng {
	uint64_t state;
};

uint64_t rng_next(struct rng *r);
/* 0 .. n-1; n at least 1. */
unsigned rng_below(struct rng *r, unsigned n);
bool rng_percent(struct rng *r, unsigned percent);
/* A number for the n-th sequence of a run. */
struct rng rng_of(uint64_t seed, uint64_t n);

/* --- rules ---------------------------------------------------------------------------------- */

#define RULES_LIMITS_MAX 5
#define RULES_SETTINGS_MAX 24
#define RULES_TEXT_MAX 256
/* Overrides and lists; and changes of limits, while mail flows. */
#define RULES_ENTRIES_MAX 4

struct rules {
	unsigned nsettings, nlimits, nentries[SECTIONS];
	bool off[RULES_LIMITS_MAX]; /* left out: to find those that matter */
	struct {
		unsigned word; /* of generator.c's table */
		const char *value;
	} settings[RULES_SETTINGS_MAX];
	struct {
		char name[LIMIT_NAME_MAX + 1], words[RULES_TEXT_MAX];
	} limits[RULES_LIMITS_MAX];
	struct {
		char name[WHO_TEXT_MAX + LIMIT_NAME_MAX + 2], words[RULES_TEXT_MAX];
	} entries[SECTIONS][RULES_ENTRIES_MAX];
};

/* Words that make a sound whole. changes: with entries in SECTION_LIMITS, too. */
void rules_make(struct rng *r, bool changes, struct rules *out);

/* now: the file and the overrides; later: with the changes, too. Both want ruleset_deinit().
 * Ends the program if the words are not sound. */
void rules_build(const struct rules *rules, struct ruleset *now, struct ruleset *later);

void rules_print(const struct rules *rules, FILE *out);

/* --- questions ------------------------------------------------------------------------------ */

/* Which of the generator's clients, senders, ... one question is about. */
struct who_asks {
	enum stage stage;
	uint8_t client, name, user, helo, sender, recipient, bytes;
	bool message_counted, greylist_done, rejected;
};

/* variety: of how many clients, senders, ... at most; 1: all questions are about the same. */
struct who_asks who_make(struct rng *r, unsigned variety);
/* The same client and envelope, at the stage of another question. */
struct who_asks who_at(const struct who_asks *w, const struct who_asks *other);
/* Strings are the generator's, for good. */
struct facts who_facts(const struct who_asks *w);
void who_print(const struct who_asks *w, FILE *out);

#endif
