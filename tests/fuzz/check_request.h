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
check_request(const struct request *q)
{
	CHECK(q->nrecords <= REQUEST_RECORDS_MAX && q->nhits <= REQUEST_HITS_MAX);
	CHECK(!q->peek && q->deadline_us == 0);
	/* weirctl and the totals count on it */
	CHECK(q->nrecords > 0 && q->records[0].kind == PER_ADDRESS);
	for (unsigned i = 0; i < q->nrecords; i++) {
		const struct record *r = &q->records[i];

		check_key(r->key, sizeof r->key);
		CHECK(strchr(r->key, ' ') == NULL);
		if (limit_per_is_client(r->kind) || r->kind == PER_POOL)
			CHECK(strlen(r->key) < NET_KEY_MAX);
		CHECK(r->ttl_us > 0 && r->ttl_us <= UNITS_DURATION_MAX);
		for (unsigned j = 0; j < i; j++)
			CHECK(q->records[j].kind != r->kind);
	}
	for (unsigned i = 0; i < q->nhits; i++) {
		const struct hit *h = &q->hits[i];

		CHECK(h->limit->enabled && h->cost > 0);
		CHECK(h->record < q->nrecords);
		CHECK(q->records[h->record].kind == h->limit->per);
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
		CHECK(pool->ttl_us >= q->grey.keep_us);
	}
}

#endif
