/* SPDX-License-Identifier: BSD-2-Clause */
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
	uint64_t known, triplet, embargo; /* keys, when greylisting or the pool is asked */
	uint64_t sender, wrote; /* keys of correspondents */
	struct pool_keys pool;
	struct trust trust;
	int64_t triplets; /* level of the embargo's bucket with this one */
	bool overran; /* a rate or a quota refuses */
	bool shed; /* a stranger, and only known ones are wanted: nothing is kept of him */
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
find_grey_keys(struct asking *k)
{
	const struct grey_question *g = &k->q->grey;
	const struct record *pool = &k->q->records[g->record];

	k->known = zone_key(k->z, ENTRY_KNOWN, pool->kind, pool->key, "");
	k->triplet = zone_key(k->z, ENTRY_TRIPLET, pool->kind, g->key, "");
	/* no limit's name has a colon */
	k->embargo = zone_key(k->z, ENTRY_BUCKET, pool->kind, pool->key, ":triplets");
	k->shards |= zone_shard(k->z, k->known) | zone_shard(k->z, k->triplet) |
	    zone_shard(k->z, k->embargo);
	if (g->correspondents) {
		k->sender = zone_key(k->z, ENTRY_WROTE, PER_SENDER, g->sender, "");
		k->shards |= zone_shard(k->z, k->sender);
	}
}

static void
find_keys(struct asking *k)
{
	const struct request *q = k->q;

	k->shards = 0;
	for (unsigned i = 0; i < q->nhits; i++) {
		k->hits[i] = hit_key(k->z, q, &q->hits[i]);
		k->shards |= q->hits[i].limit->quota != 0 ? zone_quota_shard(k->z, k->hits[i])
							  : zone_shard(k->z, k->hits[i]);
	}
	if (q->pool.asked) {
		const struct record *pool = &q->records[q->pool.record];

		k->known = zone_key(k->z, ENTRY_KNOWN, pool->kind, pool->key, "");
		k->shards |= zone_shard(k->z, k->known) | zone_pool_keys(k->z, q, &k->pool);
	}
	if (q->grey.asked)
		find_grey_keys(k);
	if (q->wrote_us > 0) {
		k->wrote = zone_key(k->z, ENTRY_WROTE, PER_SENDER, q->wrote, "");
		k->shards |= zone_shard(k->z, k->wrote);
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
		a.used += bucket_drained(e->value, age(k, e), hit_rate(h), l->period_us);
	excess = a.used - hit_ceiling(h) * MICRO;
	if (excess > 0) {
		a.over = true;
		a.wait_us = bucket_wait(excess, hit_rate(h), l->period_us);
	}
	return a;
}

static struct hit_answer
check_quota(struct asking *k, unsigned i)
{
	const struct hit *h = &k->q->hits[i];
	struct quota q = zone_quota_get(k->z, k->hits[i]);
	struct hit_answer a = {.used = 0};
	int64_t used;

	if (quota_expire(&q, k->now, h->limit->window_us) && !k->q->peek)
		zone_quota_put(k->z, k->hits[i], &q, h->limit->window_us, k->now);
	used = quota_used(&q) + h->cost;
	a.used = used * MICRO;
	if (used > hit_ceiling(h)) {
		a.over = true;
		a.wait_us = quota_wait(&q, used - hit_ceiling(h), k->now, h->limit->window_us);
	}
	return a;
}

static struct hit_answer
check_sessions(struct asking *k, unsigned i)
{
	const struct entry *e = zone_find(k->z, k->hits[i]);
	int64_t open = (e != NULL ? e->value : 0) + 1;

	return (struct hit_answer){
	    .used = open * MICRO, .over = open > hit_ceiling(&k->q->hits[i])};
}

/* What chain.c notes of a pool that Redis knows holds for so long where there is no greylist. */
#define KNOWN_NOTE_US (86400 * USEC_PER_SEC)

/* Who is not asked about is authenticated, and so known. */
static void
check_pool(struct asking *k)
{
	const struct pool_question *p = &k->q->pool;
	const struct entry *e;
	bool passed;

	if (!p->asked)
		return;
	passed = find_kept(k, k->known, p->passed_us > 0 ? p->passed_us : KNOWN_NOTE_US) != NULL;
	k->trust = zone_pool_trust(k->z, &k->pool, &p->rule, k->now);
	k->a->known = trust_known(&k->trust, &p->rule, passed);
	e = zone_find(k->z, k->pool.blocked);
	if (e != NULL && e->value > k->now)
		k->a->blocked_us = e->value - k->now;
	if (p->block_us > 0)
		k->a->blocked_us = p->block_us;
}

static struct hit_answer
check_hit(struct asking *k, unsigned i)
{
	const struct limit *l = k->q->hits[i].limit;
	bool known = k->a->known || !k->q->pool.asked;

	if ((l->whom == FOR_STRANGERS && known) || (l->whom == FOR_KNOWN && !known))
		return (struct hit_answer){.skipped = true};
	if (l->count == COUNT_SESSIONS)
		return check_sessions(k, i);
	return l->quota != 0 ? check_quota(k, i) : check_bucket(k, i);
}

/* A correspondent is let pass before his triplet is looked at, unless that has waited. */
static bool
correspondent(struct asking *k)
{
	return k->q->grey.correspondents && find_kept(k, k->sender, k->q->grey.keep_us) != NULL;
}

/* Whether one more triplet fits what a pool may have waiting. */
static bool
embargoed(struct asking *k)
{
	const struct grey_question *g = &k->q->grey;
	const struct entry *e;

	if (g->embargo == 0)
		return false;
	e = find_kept(k, k->embargo, g->keep_us);
	k->triplets = MICRO;
	if (e != NULL)
		k->triplets += bucket_drained(e->value, age(k, e), g->embargo, g->embargo_us);
	return k->triplets > g->embargo * MICRO;
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
	if (e != NULL && age(k, e) >= g->delay_us)
		k->a->grey = GREY_PASSED;
	else if (correspondent(k))
		k->a->grey = GREY_CORRESPONDENT;
	else if (e != NULL) {
		k->a->grey = GREY_EARLY;
		k->a->grey_wait_us = g->delay_us - age(k, e);
	} else {
		k->a->grey = embargoed(k) ? GREY_EMBARGO : GREY_NEW;
		k->a->grey_wait_us = g->delay_us;
	}
}

/* False when an enforced limit is exceeded. */
static bool
check_all(struct asking *k)
{
	bool fits;

	check_pool(k);
	k->shed = k->q->pool.asked && k->q->pool.known_only && !k->a->known;
	fits = k->a->blocked_us == 0 && !k->shed;
	for (unsigned i = 0; i < k->q->nhits; i++) {
		const struct hit *h = &k->q->hits[i];

		k->a->hits[i] = check_hit(k, i);
		if (!k->a->hits[i].over || h->limit->action == ACTION_LOG || h->mode == HIT_NOTE)
			continue;
		fits = false;
		if (h->limit->count != COUNT_SESSIONS)
			k->overran = true;
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
	    .drain_s = zone_seconds(bucket_wait(level, hit_rate(h), h->limit->period_us)),
	};

	zone_put(k->z, &e, k->now);
}

static void
charge_quota(struct asking *k, unsigned i, int64_t cost)
{
	const struct hit *h = &k->q->hits[i];
	struct quota q = zone_quota_get(k->z, k->hits[i]);

	(void)quota_expire(&q, k->now, h->limit->window_us);
	quota_add(&q, cost, k->now, hit_ceiling(h));
	zone_quota_put(k->z, k->hits[i], &q, h->limit->window_us, k->now);
}

/* What of its cost, in millionths, a hit leaves behind. */
static int64_t
charge_of(const struct asking *k, unsigned i, bool charged, bool held)
{
	const struct hit *h = &k->q->hits[i];
	const struct hit_answer *a = &k->a->hits[i];
	bool shadow = h->limit->action == ACTION_LOG;
	int64_t before = a->used - h->cost * MICRO, most = hit_most(h) * MICRO;

	if (a->skipped || h->mode == HIT_PROBE)
		return 0;
	if (h->mode == HIT_CHARGE) {
		if (shadow ? !a->over && !held : charged)
			return h->cost * MICRO;
		if (held || !hit_strict(h))
			return 0;
	}
	if (a->used <= most)
		return h->cost * MICRO;
	return before < most ? most - before : 0;
}

static void
charge_buckets(struct asking *k, bool charged, bool held)
{
	for (unsigned i = 0; i < k->q->nhits; i++) {
		const struct limit *l = k->q->hits[i].limit;
		int64_t cost;

		if (l->count == COUNT_SESSIONS)
			continue;
		cost = charge_of(k, i, charged, held);
		if (cost <= 0)
			continue;
		if (l->quota != 0)
			charge_quota(k, i, cost / MICRO);
		else
			charge_bucket(k, i, k->a->hits[i].used - k->q->hits[i].cost * MICRO + cost);
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

/* So often the last message of a pool that has passed is noted: exact enough for days, and a
 * write less in most questions. ask.lua has it, too. */
#define KNOWN_STEP_US (3600 * USEC_PER_SEC)

static void
charge_grey(struct asking *k)
{
	const struct grey_question *g = &k->q->grey;
	struct entry *e;

	switch (k->a->grey) {
	case GREY_NEW:
		put_grey(k, k->triplet, ENTRY_TRIPLET, g->window_us);
		if (g->embargo > 0) {
			struct entry waiting = {.key = k->embargo,
			    .value = k->triplets,
			    .time_us = k->now,
			    .keep_s = zone_seconds(g->keep_us),
			    .kind = ENTRY_BUCKET,
			    .drain_s =
				zone_seconds(bucket_wait(k->triplets, g->embargo, g->embargo_us))};

			zone_put(k->z, &waiting, k->now);
		}
		break;
	case GREY_PASSED:
		put_grey(k, k->known, ENTRY_KNOWN, g->keep_us);
		e = zone_find(k->z, k->triplet);
		if (e != NULL) /* unless the pool took its very place */
			e->key = 0;
		break;
	case GREY_KNOWN:
		e = zone_find(k->z, k->known);
		if (e == NULL || age(k, e) >= KNOWN_STEP_US)
			put_grey(k, k->known, ENTRY_KNOWN, g->keep_us);
		break;
	case GREY_NONE:
	case GREY_EARLY:
	case GREY_EMBARGO:
	case GREY_CORRESPONDENT:
		break;
	}
}

static void
charge_pool(struct asking *k, bool charged)
{
	const struct pool_question *p = &k->q->pool;
	bool event = true;

	if (!p->asked)
		return;
	if (p->event == TRUST_REJECTED || k->overran)
		trust_bad(&k->trust);
	else if (p->event == TRUST_MESSAGE && charged)
		trust_good(&k->trust, &p->rule, k->now);
	else
		event = false;
	if (p->block_us > 0) {
		struct entry e = {.key = k->pool.blocked,
		    .value = k->now + p->block_us,
		    .time_us = k->now,
		    .kind = ENTRY_BLOCKED};

		zone_put(k->z, &e, k->now);
		k->trust.credit = 0;
		event = true;
	}
	if (event)
		zone_pool_put(
		    k->z, &k->pool, &k->trust, trust_life_us(&k->trust, &p->rule), k->now);
}

void
zone_known_put(struct zone *z, const struct request *q, int64_t now_us)
{
	unsigned pool = q->pool.asked ? q->pool.record : q->grey.record;
	const struct record *r = &q->records[pool];
	struct entry e = {.key = zone_key(z, ENTRY_KNOWN, r->kind, r->key, ""),
	    .time_us = now_us,
	    .keep_s = zone_seconds(q->grey.asked ? q->grey.keep_us : KNOWN_NOTE_US),
	    .kind = ENTRY_KNOWN};
	uint64_t bit = zone_shard(z, e.key);
	const struct entry *is;

	zone_lock(z, bit);
	is = zone_find(z, e.key);
	if (is == NULL || now_us - is->time_us >= KNOWN_STEP_US)
		zone_put(z, &e, now_us);
	zone_unlock(z, bit);
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
	/* a retry inside the delay costs nothing, not even a limit that only logs */
	held = grey_holds(out->grey) && !q->grey.observed;
	out->charged = fits && !held;
	if (!q->peek && !k.shed) {
		charge_buckets(&k, out->charged, held);
		charge_pool(&k, out->charged);
		if (out->charged)
			charge_session(&k, me->worker);
		if (fits)
			charge_grey(&k);
		if (q->wrote_us > 0 && out->charged)
			put_grey(&k, k.wrote, ENTRY_WROTE, q->wrote_us);
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

/* Nor is anybody else there. */
static bool
neighbours(struct store *s, bool above, unsigned *nabove, unsigned *all)
{
	(void)s;
	(void)above;
	*nabove = *all = 0;
	return false;
}

static void
close_store(struct store *s)
{
	free(s);
}

struct store *
zone_store_open(struct zone *z, unsigned worker)
{
	static const struct store_ops ops = {
	    ask, NULL, release, load, publish, neighbours, close_store};
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
