/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * store_fixture.c - see store_fixture.h.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "loop_store.h"
#include "store_fixture.h"

struct limit
make_limit(const char *name, const char *words)
{
	char err[LIMIT_ERR_MAX];
	struct limit l;

	limit_init(&l, name);
	if (!limit_set_words(&l, words, err, sizeof err) || !limit_finish(&l, err, sizeof err)) {
		fprintf(stderr, "make_limit: %s: %s\n", words, err);
		exit(99);
	}
	return l;
}

void
make_request(struct request *q)
{
	memset(q, 0, sizeof *q);
	strcpy(q->generation, "0");
}

unsigned
add_record(struct request *q, enum limit_per kind, const char *key)
{
	struct record *r = &q->records[q->nrecords];

	for (unsigned i = 0; i < q->nrecords; i++)
		if (q->records[i].kind == kind)
			return i;
	r->kind = kind;
	snprintf(r->key, sizeof r->key, "%s", key);
	r->ttl_us = 2 * HOUR;
	return q->nrecords++;
}

void
add_hit(struct request *q, const struct limit *l, const char *key, int64_t cost)
{
	struct hit *h = &q->hits[q->nhits];

	h->record = (uint8_t)add_record(q, l->per, key);
	h->limit = l;
	h->cost = cost;
	q->nhits++;
}

void
add_grey(struct request *q, const char *pool, const char *rest)
{
	struct grey_question *g = &q->grey;

	g->asked = true;
	g->record = (uint8_t)add_record(q, PER_POOL, pool);
	g->delay_us = 300 * SEC;
	g->window_us = DAY;
	g->keep_us = 35 * DAY;
	q->records[g->record].ttl_us = g->keep_us;
	snprintf(g->key, sizeof g->key, "%s %s", pool, rest);
}

/* --- threads ------------------------------------------------------------------------------ */

struct crowd {
	struct store *store[2];
	const struct request *q;
	int64_t now_us;
	unsigned times;
	pthread_barrier_t start;
	atomic_uint next, charged;
};

static void *
crowd_thread(void *arg)
{
	struct crowd *c = arg;
	struct store *s = c->store[atomic_fetch_add(&c->next, 1) % 2];

	pthread_barrier_wait(&c->start);
	for (unsigned i = 0; i < c->times; i++) {
		struct answer a;

		if (store_ask(s, c->q, c->now_us, &a) != STORE_OK)
			exit(99);
		if (a.charged)
			atomic_fetch_add(&c->charged, 1);
	}
	return NULL;
}

unsigned
ask_at_once(struct store *s, struct store *t, const struct request *q, int64_t now_us, unsigned n,
    unsigned times)
{
	struct crowd c = {
	    .store = {s, t != NULL ? t : s}, .q = q, .now_us = now_us, .times = times};
	pthread_t threads[64];

	pthread_barrier_init(&c.start, NULL, n);
	for (unsigned i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, crowd_thread, &c) != 0)
			exit(99);
	for (unsigned i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&c.start);
	return c.charged;
}

int64_t
mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * SEC + ts.tv_nsec / 1000;
}

void
sleep_ms(unsigned ms)
{
	struct timespec ts = {ms / 1000, ms % 1000 * 1000000L};

	nanosleep(&ts, NULL);
}

/* --- notices ------------------------------------------------------------------------------ */

static pthread_mutex_t notices_lock = PTHREAD_MUTEX_INITIALIZER;

void
keep_notice(void *ctx, int priority, const char *line)
{
	struct notices *n = ctx;

	(void)priority;
	pthread_mutex_lock(&notices_lock);
	if (n->n < 16)
		snprintf(n->line[n->n++], sizeof n->line[0], "%s", line);
	pthread_mutex_unlock(&notices_lock);
}

unsigned
notices_count(const struct notices *n)
{
	unsigned count;

	pthread_mutex_lock(&notices_lock);
	count = n->n;
	pthread_mutex_unlock(&notices_lock);
	return count;
}

/* --- a store to play with ----------------------------------------------------------------- */

void
bench_open(struct bench *b, const char *url, const char *password, unsigned timeout_ms)
{
	char err[128];

	memset(b, 0, sizeof *b);
	redis_options_defaults(&b->options);
	if (!redis_options_url(&b->options, url, err, sizeof err)) {
		fprintf(stderr, "bench_open: %s\n", err);
		exit(99);
	}
	snprintf(b->options.password, sizeof b->options.password, "%s", password);
	b->options.timeout_us = timeout_ms != 0 ? timeout_ms * USEC_PER_MSEC : 5 * SEC;
	b->zone = zone_new(4 * ZONE_SIZE_MIN, 2);
	b->store = redis_store_open(&b->options, b->zone, 0, "node", keep_notice, &b->notices);
	if (b->zone == NULL || b->store == NULL)
		exit(99);
	if (getenv("WEIR_TEST_LOOP") != NULL)
		b->store = loop_store_open(b->store, b->store);
}

void
bench_close(struct bench *b)
{
	store_close(&b->store);
	zone_free(&b->zone);
}

bool
bench_back(struct bench *b, unsigned ms)
{
	int64_t end = mono_us() + ms * USEC_PER_MSEC;

	while (zone_breaker_open(b->zone)) {
		if (mono_us() > end)
			return false;
		sleep_ms(5);
	}
	return true;
}
