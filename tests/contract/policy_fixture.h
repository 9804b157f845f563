/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * policy_fixture.h - the same cases against the zone, Redis and the chain of both, each with an
 * empty store, for test_*_policy.c.
 */
#ifndef WEIR_TEST_POLICY_FIXTURE_H
#define WEIR_TEST_POLICY_FIXTURE_H

#include "redis_fixture.h"
#include "store_fixture.h"

#define MINUTE (60 * SEC)
#define UNKNOWN INT64_MIN

enum backend { ZONE, REDIS, CHAIN };

struct env {
	enum backend backend;
	struct bench bench;
	struct request q;
	struct answer a;
};

struct policy_case {
	const char *name;
	void (*run)(void **state);
};
/* What main() returns. */
int policy_cases_run(const char *name, const struct policy_case *cases, size_t n);

/* The one Redis of the program. */
extern struct redis_fixture server;

/* e->q at that time; it must be answered by the store, or from the chain's memory. */
void ask(struct env *e, int64_t now);
void takes(struct env *e, int64_t now);
void refuses(struct env *e, int64_t now);
/* Of the hit i in the last answer: whole things, and the wait (UNKNOWN: whatever it is). Not of
 * what the chain answered from memory. */
void figures(const struct env *e, unsigned i, int64_t used, bool over, int64_t wait_us);

/* A wider network's record, and a hit on it with so many times the figures. */
void add_rung(
    struct request *q, const struct limit *l, const char *key, unsigned times, int64_t cost);
/* Known by 3 messages over 2 hours, forgotten in 30 days. */
void add_pool(struct request *q, const char *key, enum trust_event event);
/* So many messages of that pool, an hour each from T0 on; a fourth for what fades. */
void earn(struct env *e, const char *pool, int credits);
/* Redis has it in the record as it is; of the zone nothing is asked. */
void check_trust_field(const struct env *e, const char *key, const struct trust *t);

/* The same numbers in each run. */
int64_t random_below(int64_t n);

#endif
