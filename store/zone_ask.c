/*
 * zone_ask.c - the zone as a store: check and charge in one step, under the locks of all shards
 * that a request touches.
 */
#include <stdlib.h>
#include <string.h>

#include "zone_private.h"

#include "weir/units.h"

struct zone_store {
	struct store store; /* first: a struct store * points here */
	struct zone *zone;
	unsigned worker;
};

/* One question under way. */
struct asking {
	struct zone *z;
	const struct request *q;
	struct answer *a;
	int64_t now;
	uint64_t shards;
	uint64_t hits[REQUEST_HITS_MAX]; /* keys, as the hits of q */
	uint64_t known, triplet; /* keys, when greylisting is asked */
};

/* --- which entries ----------------------------------------------------------------------- */

static uint64_t
hit_key(const struct zone *z, const struct request *q, const struct hit *h)
{
	const struct record *r = &q->records[h->record];

	/* How many sessions are open is a fact about a client: its limits share the count. */
	if (h->limit->count == COUNT_SESSIONS)
		return zone_key(z, ENTRY_SESSIONS, r->kind, r->key, "");
	return zone_key(z, ENTRY_BUCKET, r->kind, r->key, h->limit->name);
}

static void
find_keys(struct asking *k)
{
	const struct request *q = k->q;

	k->shards = 0;
	for (unsigned i = 0; i < q->nhits; i++) {
		k->hits[i] = hit_key(k->z, q, &q->hits[i]);
		k->shards |= zone_shard(k->z, k->hits[i]);
	}
	if (q->grey.asked) {
		const struct record *pool = &q->records[q->grey.record];

		k->known = zone_key(k->z, ENTRY_KNOWN, pool->kind, pool->key, "");
		k->triplet = zone_key(k->z, ENTRY_TRIPLET, pool->kind, q->grey.key, "");
		k->shards |= zone_shard(k->z, k->known) | zone_shard(k->z, k->triplet);
	}
}

/* --- check ------------------------------------------------------------------------------- */

static int64_t
age(const struct asking *k, const struct entry *e)
{
	return k->now > e->time_us ? k->now - e->time_us : 0;
}

/* An entry that is still kept, or NULL. One from the future (the clock went back) is from now,
 * and says so from now on: else it would not age until the clock has caught up. */
static struct entry *
find_kept(struct asking *k, uint64_t key, int64_t keep_us)
{
	struct entry *e = zone_find(k->z, key);

	if (e == NULL)
		return NULL;
	if (e->time_us > k->now && !k->q->peek)
		e->time_us = k->now;
	return age(k, e) < keep_us ? e : NULL;
}

static struct hit_answer
check_bucket(struct asking *k, unsigned i)
{
	const struct hit *h = &k->q->hits[i];
	const struct limit *l = h->limit;
	const struct entry *e = find_kept(k, k->hits[i], k->q->records[h->record].ttl_us);
	struct hit_answer a = {.used = h->cost * MICRO};
	int64_t excess;

	if (e != NULL)
		a.used += bucket_drained(e->value, age(k, e), l->rate, l->period_us);
	excess = a.used - l->burst * MICRO;
	if (excess > 0) {
		a.over = true;
		a.wait_us = bucket_wait(excess, l->rate, l->period_us);
	}
	return a;
}

static struct hit_answer
check_sessions(struct asking *k, unsigned i)
{
	const struct entry *e = zone_find(k->z, k->hits[i]);
	int64_t open = (e != NULL ? e->value : 0) + 1;

	return (struct hit_answer){.used = open * MICRO, .over = open > k->q->hits[i].limit->max};
}

static void
check_grey(struct asking *k)
{
	const struct grey_question *g = &k->q->grey;
	const struct entry *e;

	if (!g->asked)
		return;
	if (find_kept(k, k->known, g->keep_us) != NULL) {
		k->a->grey = GREY_KNOWN;
		return;
	}
	e = find_kept(k, k->triplet, g->window_us);
	if (e == NULL) {
		k->a->grey = GREY_NEW;
		k->a->grey_wait_us = g->delay_us;
	} else if (age(k, e) < g->delay_us) {
		k->a->grey = GREY_EARLY;
		k->a->grey_wait_us = g->delay_us - age(k, e);
	} else
		k->a->grey = GREY_PASSED;
}

/* False when an enforced limit is exceeded. */
static bool
check_all(struct asking *k)
{
	bool fits = true;

	for (unsigned i = 0; i < k->q->nhits; i++) {
		const struct limit *l = k->q->hits[i].limit;

		k->a->hits[i] =
		    l->count == COUNT_SESSIONS ? check_sessions(k, i) : check_bucket(k, i);
		if (k->a->hits[i].over && l->action != ACTION_LOG)
			fits = false;
	}
	check_grey(k);
	return fits;
}

/* --- charge ------------------------------------------------------------------------------ */

static void
charge_bucket(struct asking *k, unsigned i, int64_t level)
{
	const struct hit *h = &k->q->hits[i];
	struct entry e = {
	    .key = k->hits[i],
	    .value = level,
	    .time_us = k->now,
	    .keep_s = zone_seconds(k->q->records[h->record].ttl_us),
	    .kind = ENTRY_BUCKET,
	    .drain_s = zone_seconds(bucket_wait(level, h->limit->rate, h->limit->period_us)),
	};

	zone_put(k->z, &e, k->now);
}

/* What a refused attempt leaves in a strict bucket. */
static int64_t
strict_level(const struct asking *k, unsigned i)
{
	const struct hit *h = &k->q->hits[i];
	int64_t used = k->a->hits[i].used, before = used - h->cost * MICRO;
	int64_t most = STRICT_BURSTS * h->limit->burst * MICRO;

	if (used <= most)
		return used;
	return before > most ? before : most;
}

/* enforced: those too; else only the limits that are charged by themselves, and strict ones. */
static void
charge_buckets(struct asking *k, bool enforced)
{
	for (unsigned i = 0; i < k->q->nhits; i++) {
		const struct limit *l = k->q->hits[i].limit;

		if (l->count == COUNT_SESSIONS)
			continue;
		if (!k->a->hits[i].over && (enforced || l->action == ACTION_LOG))
			charge_bucket(k, i, k->a->hits[i].used);
		else if (l->strict)
			charge_bucket(k, i, strict_level(k, i));
	}
}

/* Counts the session, once a record. Without a free lease it is served and not counted: nothing
 * would ever count it down. */
static void
charge_session(struct asking *k, unsigned worker)
{
	const struct request *q = k->q;
	unsigned seen = 0;
	bool fits = false;

	for (unsigned i = 0; i < q->nhits; i++)
		if (q->hits[i].limit->count == COUNT_SESSIONS && !k->a->hits[i].over)
			fits = true;
	if (fits)
		k->a->lease = zone_lease_take_counted(k->z, worker, q);
	if (k->a->lease == 0)
		return;
	for (unsigned i = 0; i < q->nhits; i++) {
		unsigned bit = 1U << q->hits[i].record;

		if (q->hits[i].limit->count == COUNT_SESSIONS && (seen & bit) == 0)
			zone_count_open(k->z, k->hits[i], 1, k->now);
		if (q->hits[i].limit->count == COUNT_SESSIONS)
			seen |= bit;
	}
}

static void
put_grey(struct asking *k, uint64_t key, enum entry_kind kind, int64_t keep_us)
{
	struct entry e = {
	    .key = key, .time_us = k->now, .keep_s = zone_seconds(keep_us), .kind = kind};

	zone_put(k->z, &e, k->now);
}

static void
charge_grey(struct asking *k)
{
	const struct grey_question *g = &k->q->grey;
	struct entry *waited;

	switch (k->a->grey) {
	case GREY_NEW:
		put_grey(k, k->triplet, ENTRY_TRIPLET, g->window_us);
		break;
	case GREY_PASSED:
		put_grey(k, k->known, ENTRY_KNOWN, g->keep_us);
		waited = zone_find(k->z, k->triplet);
		if (waited != NULL) /* unless the pool took its very place */
			waited->key = 0;
		break;
	case GREY_KNOWN:
		put_grey(k, k->known, ENTRY_KNOWN, g->keep_us);
		break;
	case GREY_NONE:
	case GREY_EARLY:
		break;
	}
}

/* --- the store --------------------------------------------------------------------------- */

static enum store_status
ask(struct store *s, const struct request *q, int64_t now_us, struct answer *out)
{
	struct zone_store *me = (struct zone_store *)s;
	struct asking k = {.z = me->zone, .q = q, .a = out};
	bool fits, held;

	memset(out, 0, sizeof(*out));
	find_keys(&k);
	zone_lock(k.z, k.shards);

	/* Read under the locks, or whoever waited for them would find entries from the future. */
	k.now = out->now_us = zone_clock(now_us);
	for (uint64_t left = k.shards; left != 0; left &= left - 1)
		k.z->shard[__builtin_ctzll(left)].now_us = k.now;

	fits = check_all(&k);
	held = (out->grey == GREY_NEW || out->grey == GREY_EARLY) && !q->grey.observed;
	out->charged = fits && !held;
	if (!q->peek) {
		/* a retry inside the delay costs nothing, not even a limit that only logs */
		if (!held)
			charge_buckets(&k, out->charged);
		if (out->charged)
			charge_session(&k, me->worker);
		if (fits)
			charge_grey(&k);
	}
	zone_unlock(k.z, k.shards);
	return STORE_OK;
}

static void
release(struct store *s, uint64_t lease)
{
	zone_lease_end(((struct zone_store *)s)->zone, lease, false);
}

static enum store_status
load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	(void)s;
	(void)known;
	(void)deadline_us;
	memset(out, 0, sizeof(*out));
	out->generation[0] = '0';
	return STORE_OK;
}

/* Nobody else can look into this memory. */
static void
publish(struct store *s, const char *const *pairs, unsigned n)
{
	(void)s;
	(void)pairs;
	(void)n;
}

static void
close_store(struct store *s)
{
	free(s);
}

struct store *
zone_store_open(struct zone *z, unsigned worker)
{
	static const struct store_ops ops = {ask, release, load, publish, close_store};
	struct zone_store *s;

	if (worker >= z->workers)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (s == NULL)
		return NULL;
	s->store.ops = &ops;
	s->zone = z;
	s->worker = worker;
	return &s->store;
}
