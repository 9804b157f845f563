/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * why.h - what a client would get now, and what its counters say: the milter's own plan, a
 * question that only looks, the milter's own judge.
 *
 * What weirctl why tells, as far as the address alone tells it: no sender, no recipient, no login.
 */
#ifndef WEIR_MILTER_WHY_H
#define WEIR_MILTER_WHY_H

#include <jansson.h>

#include "show.h"

/* At most so many counters of one client. */
#define WHY_COUNTERS_MAX 32

struct why_counter {
	const struct limit *limit; /* of the ruleset given */
	enum limit_per kind;
	char who[RECORD_KEY_MAX]; /* whose counter it is */
	double used; /* whole things */
	int64_t of;
	bool over; /* one more would be too much */
	int64_t wait_us; /* then: until it fits; 0 = not known */
};

struct why {
	unsigned ncounters;
	struct why_counter counters[WHY_COUNTERS_MAX];
	bool known; /* its pool, if that was asked */
	bool known_asked;
	bool answered; /* false: no store did, in any step */
	enum answer_source source;
	struct {
		const char *name; /* "connection", ... */
		struct verdict verdict;
	} steps[3];
	unsigned nsteps;
};

/* name: the client's, if the MTA has confirmed it; else "". r has to outlive *out. */
void why_client(struct show *s, const struct ruleset *r, const struct addr *client,
    const char *name, struct why *out);

/* For the page. Decref it. */
json_t *why_json(const struct why *w);

#endif
