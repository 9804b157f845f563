/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * store_fixture.h - requests made by hand, and threads that ask all at once, for the tests of
 * the stores. T0 is a time to count from; everything that passes it is independent of clocks.
 */
#ifndef WEIR_TEST_STORE_FIXTURE_H
#define WEIR_TEST_STORE_FIXTURE_H

#include "weir/redis.h"
#include "weir/units.h"

#define T0 (INT64_C(1700000000) * USEC_PER_SEC)
#define SEC USEC_PER_SEC
#define HOUR (3600 * SEC)
#define DAY (24 * HOUR)

/* "count=connections per=address rate=60/1m burst=3"; ends the program if that is wrong. */
struct limit make_limit(const char *name, const char *words);

void make_request(struct request *q);
unsigned add_record(struct request *q, enum limit_per kind, const char *key);
/* The limit is borrowed; its record is made if the request has none of that kind yet. */
void add_hit(struct request *q, const struct limit *l, const char *key, int64_t cost);
/* 5 min, 1 day, 35 days. */
void add_grey(struct request *q, const char *pool, const char *rest);

/* n threads (at most 64), half of them on s and half on t (NULL = s), ask at once, so many
 * times each; returns how many were charged. What is not OK ends the program. */
unsigned ask_at_once(struct store *s, struct store *t, const struct request *q, int64_t now_us,
    unsigned n, unsigned times);

int64_t mono_us(void);
void sleep_ms(unsigned ms);

/* A store_notice that keeps the lines. */
struct notices {
	unsigned n;
	char line[16][1024];
};
void keep_notice(void *ctx, int priority, const char *line);
/* Safe against the threads that write. */
unsigned notices_count(const struct notices *n);

/* A zone and a Redis store on it, told of everything; with WEIR_TEST_LOOP in the environment as
 * an event loop asks it. */
struct bench {
	struct zone *zone;
	struct store *store;
	struct redis_options options;
	struct notices notices;
};
/* timeout_ms 0: longer than a busy machine can hold a test up. */
void bench_open(struct bench *b, const char *url, const char *password, unsigned timeout_ms);
void bench_close(struct bench *b);
/* Waits until the breaker is closed; false after so many milliseconds. */
bool bench_back(struct bench *b, unsigned ms);

#endif
