/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * check_request.h - what has to hold of each request that plan makes, whatever the client said
 * and the limits are.
 */
#ifndef WEIR_FUZZ_CHECK_REQUEST_H
#define WEIR_FUZZ_CHECK_REQUEST_H

#include "fuzz.h"
#include "weir/request.h"
#include "weir/units.h"

static inline unsigned
count_char(const char *s, char c)
{
	unsigned n = 0;

	for (; *s != '\0'; s++)
		n += *s == c;
	return n;
}

/* One hash tag, in front, and nothing that could confuse a key, a person or a log. */
static inline void
check_key(const char *key, size_t room)
{
	CHECK(strnlen(key, room) < room);
	CHECK(key[0] == '{' && count_char(key, '{') == 1 && count_char(key, '}') == 1);
	CHECK(is_printable(key));
}

static inline void
check_request(const struct facts *f, const struct request *q)
{
	CHECK(q->nrecords <= REQUEST_RECORDS_MAX && q->nhits <= REQUEST_HITS_MAX);
	CHECK(!q->peek && q->deadline_us == 0);
	/* weirctl and the totals count on it */
	CHECK(q->nrecords > 0 && q->records[0].kind == PER_ADDRESS);
	for (unsigned i = 0; i < q->nrecords; i++) {
		const struct record *r = &q->records[i];

		check_key(r->key, sizeof r->key);
		CHECK(strchr(r->key, ' ') == NULL);
		if (limit_per_is_client(r->kind))
			CHECK(strlen(r->key) < NET_KEY_MAX);
		CHECK(r->ttl_us > 0 && r->ttl_us <= 2 * UNITS_DURATION_MAX);
		/* no two are one and the same, or what is counted once would be counted twice */
		for (unsigned j = 0; j < i; j++)
			CHECK(q->records[j].kind != r->kind ||
			    strcmp(q->records[j].key, r->key) != 0);
	}
	for (unsigned i = 0; i < q->nhits; i++) {
		const struct hit *h = &q->hits[i];

		CHECK(h->limit->enabled && h->cost > 0);
		/* a figure that is passed is passed, by however much */
		CHECK(h->cost <= hit_ceiling(h) + 1);
		CHECK(h->record < q->nrecords);
		/* or the store would take everybody for known */
		CHECK(!limit_wants_trust(h->limit) || q->pool.asked || f->user[0] != '\0');
		if (q->bits[h->record] == 0)
			CHECK(q->records[h->record].kind == h->limit->per && hit_times(h) == 1);
		else
			CHECK(q->records[h->record].kind == PER_NETWORK &&
			    (hit_times(h) > 1 || h->limit->per == PER_NETWORK));
		/* or the bucket would be forgotten before it is empty */
		CHECK(q->records[h->record].ttl_us >= limit_drain_us(h->limit));
	}
	if (q->grey.asked) {
		const struct record *pool = &q->records[q->grey.record];

		CHECK(q->grey.record < q->nrecords && pool->kind == PER_POOL);
		check_key(q->grey.key, sizeof q->grey.key);
		CHECK(count_char(q->grey.key, ' ') == 2);
		CHECK(strncmp(q->grey.key, pool->key, strlen(pool->key)) == 0);
		CHECK(q->grey.delay_us > 0 && q->grey.window_us > q->grey.delay_us);
		CHECK(q->grey.keep_us >= q->grey.window_us);
		CHECK((q->grey.embargo == 0) == (q->grey.embargo_us == 0));
		if (q->grey.correspondents)
			check_key(q->grey.sender, sizeof q->grey.sender);
	}
	if (q->pool.asked) {
		CHECK(q->pool.record < q->nrecords);
		CHECK(q->records[q->pool.record].kind == PER_POOL);
		CHECK(q->pool.block_us >= 0 && q->pool.passed_us >= 0);
		CHECK(q->pool.rule.over_us > 0 && q->pool.rule.keep_us > 0);
	}
	CHECK(q->wrote_us >= 0);
	if (q->wrote_us > 0)
		check_key(q->wrote, sizeof q->wrote);
}

#endif
