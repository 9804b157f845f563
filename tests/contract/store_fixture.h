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

/* n threads ask s each times; returns how many were charged, *others counts what was not OK. */
unsigned ask_at_once(struct store *s, const struct request *q, int64_t now_us, unsigned n,
    unsigned times, unsigned *others);

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

#endif
