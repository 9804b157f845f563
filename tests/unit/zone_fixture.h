/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_fixture.h - a zone with two workers, and requests to ask of it, for test_zone*.c.
 */
#ifndef WEIR_ZONE_FIXTURE_H
#define WEIR_ZONE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../../store/zone_private.h"
#include "weir/units.h"

#define SEC USEC_PER_SEC
#define T0 (INT64_C(1800000000) * USEC_PER_SEC)
#define ZONE_TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

struct fixture {
	struct zone *z;
	struct store *s;
};

static inline int
setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	if (f == NULL)
		return -1;
	f->z = zone_new(ZONE_SIZE_MIN, 2);
	if (f->z != NULL)
		f->s = zone_store_open(f->z, 0);
	*state = f;
	return f->s != NULL ? 0 : -1;
}

static inline int
teardown(void **state)
{
	struct fixture *f = *state;

	store_close(&f->s);
	zone_free(&f->z);
	free(f);
	return 0;
}

static inline struct limit
bucket(const char *name, int64_t rate, int64_t burst, enum limit_action action)
{
	struct limit l = {.enabled = true, .count = COUNT_CONNECTIONS, .action = action};

	snprintf(l.name, sizeof(l.name), "%s", name);
	l.rate = rate;
	l.period_us = 60 * SEC;
	l.burst = burst;
	return l;
}

static inline struct limit
sessions(const char *name, int64_t max, enum limit_action action)
{
	struct limit l = {.enabled = true, .count = COUNT_SESSIONS, .action = action, .max = max};

	snprintf(l.name, sizeof(l.name), "%s", name);
	return l;
}

static inline unsigned
add_record(struct request *q, enum limit_per kind, const char *key)
{
	struct record *r = &q->records[q->nrecords];

	r->kind = kind;
	r->ttl_us = 3600 * SEC;
	snprintf(r->key, sizeof(r->key), "%s", key);
	return q->nrecords++;
}

static inline void
add_hit(struct request *q, unsigned record, const struct limit *l, int64_t cost)
{
	q->hits[q->nhits++] = (struct hit){.limit = l, .record = (uint8_t)record, .cost = cost};
}

/* One limit charged to one address. */
static inline struct request
simple(const char *address, const struct limit *l)
{
	struct request q = {.generation = "7"};

	add_hit(&q, add_record(&q, PER_ADDRESS, address), l, 1);
	return q;
}

static inline struct answer
put(struct fixture *f, const struct request *q, int64_t now)
{
	struct answer a;

	assert_int_equal(store_ask(f->s, q, now, &a), STORE_OK);
	return a;
}

static inline uint64_t
live_entries(struct zone *z)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < z->nsets; i++)
		for (unsigned j = 0; j < ZONE_WAYS; j++)
			n += zone_sets(z)[i].way[j].key != 0;
	return n;
}

#endif
