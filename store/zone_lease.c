/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_lease.c - leases: which sessions are open, so that none stays counted for ever.
 *
 * An id is 42 bits of sequence, 14 of slot and 8 of worker. The sequence of a slot goes up each
 * time the slot is taken, so the id of a session that has ended fits no slot any more.
 *
 * A worker may be killed between any two stores here. The rule: a lease is marked as counted
 * before it is counted, and freed after it is uncounted. So the count of a client can come out
 * too low for as long as its sessions last, and never too high.
 */
#include <string.h>

#include "zone_private.h"

#define ID_SLOT_SHIFT 8
#define ID_SEQUENCE_SHIFT 22
#define ID_SEQUENCE_ONE (UINT64_C(1) << ID_SEQUENCE_SHIFT)
_Static_assert(ZONE_WORKERS_MAX <= 1 << ID_SLOT_SHIFT, "a worker fits its bits");
_Static_assert(ZONE_LEASES <= 1 << (ID_SEQUENCE_SHIFT - ID_SLOT_SHIFT), "a slot fits its bits");
_Static_assert(LEASE_WORDS % 64 == 0, "whole words of whole words");

/* --- slots ------------------------------------------------------------------------------- */

static bool
slot_used(const struct lease_table *t, unsigned slot)
{
	return (t->used[slot / 64] >> slot % 64 & 1) != 0;
}

static void
slot_free(struct lease_table *t, unsigned slot)
{
	unsigned w = slot / 64;

	t->slot[slot].state = LEASE_FREE;
	t->used[w] &= ~(UINT64_C(1) << slot % 64);
	t->full[w / 64] &= ~(UINT64_C(1) << w % 64);
}

/* The lowest free slot, in at most six steps: the memory touched stays that of the most
 * sessions that were ever open at once. ZONE_LEASES when there is none. */
static unsigned
slot_lowest(const struct lease_table *t)
{
	for (unsigned i = 0; i < LEASE_WORDS / 64; i++) {
		if (~t->full[i] != 0) {
			unsigned w = i * 64 + (unsigned)__builtin_ctzll(~t->full[i]);

			return w * 64 + (unsigned)__builtin_ctzll(~t->used[w]);
		}
	}
	return ZONE_LEASES;
}

static void
slot_use(struct lease_table *t, unsigned slot)
{
	unsigned w = slot / 64;

	t->used[w] |= UINT64_C(1) << slot % 64;
	if (~t->used[w] == 0)
		t->full[w / 64] |= UINT64_C(1) << w % 64;
}

static struct zone_worker *
worker_of(struct zone *z, const struct lease_table *t)
{
	return &z->worker[t - zone_leases(z)];
}

/* Puts right what its last owner, now dead, left half done. The slots themselves tell. */
static void
table_mend(struct zone *z, struct lease_table *t)
{
	uint32_t open = 0;

	for (unsigned w = 0; w < LEASE_WORDS; w++) {
		for (uint64_t left = t->used[w]; left != 0; left &= left - 1) {
			unsigned slot = w * 64 + (unsigned)__builtin_ctzll(left);

			if (t->slot[slot].state == LEASE_FREE)
				slot_free(t, slot);
			else if (t->slot[slot].state == LEASE_OPEN)
				open++;
		}
		if (~t->used[w] != 0)
			t->full[w / 64] &= ~(UINT64_C(1) << w % 64);
		else
			t->full[w / 64] |= UINT64_C(1) << w % 64;
	}
	atomic_store(&worker_of(z, t)->open, open);
}

static void
table_lock(struct zone *z, struct lease_table *t)
{
	if (zone_mutex_lock(&worker_of(z, t)->lock))
		table_mend(z, t);
}

static void
table_unlock(struct zone *z, struct lease_table *t)
{
	pthread_mutex_unlock(&worker_of(z, t)->lock);
}

/* The table an id points into, locked, and the slot; NULL (and no lock) for an id that is
 * stale or was never given out. */
static struct lease_table *
lock_lease(struct zone *z, uint64_t id, struct lease_slot **slot)
{
	unsigned worker = (unsigned)(id & ((1 << ID_SLOT_SHIFT) - 1));
	unsigned n = (unsigned)(id >> ID_SLOT_SHIFT) % ZONE_LEASES;
	struct lease_table *t;

	if (id < ID_SEQUENCE_ONE || worker >= z->workers)
		return NULL;
	t = &zone_leases(z)[worker];
	table_lock(z, t);
	if (slot_used(t, n) && t->slot[n].lease.id == id) {
		*slot = &t->slot[n];
		return t;
	}
	table_unlock(z, t);
	return NULL;
}

/* --- taking ------------------------------------------------------------------------------ */

static void
lease_fill(struct zone *z, struct lease_slot *s, const struct request *q)
{
	unsigned seen = 0, n = 0;

	for (unsigned i = 0; i < q->nhits; i++) {
		const struct record *r = &q->records[q->hits[i].record];
		unsigned bit = 1U << q->hits[i].record;

		size_t len = strnlen(r->key, sizeof r->key);

		if (q->hits[i].limit->count != COUNT_SESSIONS || (seen & bit) != 0 ||
		    n == LEASE_RECORDS_MAX || len >= LEASE_KEY_MAX)
			continue;
		seen |= bit;
		s->lease.records[n].kind = r->kind;
		memcpy(s->lease.records[n].key, r->key, len + 1);
		s->keys[n++] = zone_key(z, ENTRY_SESSIONS, r->kind, r->key, "");
	}
	s->lease.nrecords = n;
}

static bool
has_sessions(const struct request *q)
{
	for (unsigned i = 0; i < q->nhits; i++)
		if (q->hits[i].limit->count == COUNT_SESSIONS)
			return true;
	return false;
}

static uint64_t
lease_take(struct zone *z, unsigned worker, const struct request *q, bool counted)
{
	struct lease_table *t;
	uint64_t id = 0;
	unsigned n;

	if (worker >= z->workers || !has_sessions(q))
		return 0;
	t = &zone_leases(z)[worker];
	table_lock(z, t);
	n = slot_lowest(t);
	if (n < ZONE_LEASES) {
		struct lease_slot *s = &t->slot[n];

		if (s->lease.id == 0)
			s->lease.id = (uint64_t)n << ID_SLOT_SHIFT | worker;
		id = s->lease.id += ID_SEQUENCE_ONE;
		lease_fill(z, s, q);
		s->counted = counted;
		s->state = LEASE_OPEN;
		slot_use(t, n);
		atomic_fetch_add(&z->worker[worker].open, 1);
	}
	table_unlock(z, t);
	return id;
}

uint64_t
zone_lease_take(struct zone *z, unsigned worker, const struct request *q)
{
	return lease_take(z, worker, q, false);
}

uint64_t
zone_lease_take_counted(struct zone *z, unsigned worker, const struct request *q)
{
	return lease_take(z, worker, q, true);
}

/* --- counting ---------------------------------------------------------------------------- */

static void
count_records(struct zone *z, const uint64_t *keys, unsigned n, int by)
{
	for (unsigned i = 0; i < n; i++) {
		uint64_t bit = zone_shard(z, keys[i]);

		zone_lock(z, bit);
		zone_count_open(z, keys[i], by, z->shard[__builtin_ctzll(bit)].now_us);
		zone_unlock(z, bit);
	}
}

void
zone_lease_count(struct zone *z, uint64_t lease)
{
	uint64_t keys[LEASE_RECORDS_MAX];
	struct lease_slot *s;
	struct lease_table *t = lock_lease(z, lease, &s);
	unsigned n = 0;

	if (t == NULL)
		return;
	if (s->state == LEASE_OPEN && !s->counted) {
		s->counted = true;
		n = s->lease.nrecords;
		memcpy(keys, s->keys, sizeof(keys));
	}
	table_unlock(z, t);
	count_records(z, keys, n, 1);
}

/* --- ending ------------------------------------------------------------------------------ */

/* Ends a lease in `state`, which is not LEASE_FREE. t is locked, and is so again at the end;
 * in between, LEASE_ENDING keeps others away from the slot. */
static void
slot_end(struct zone *z, struct lease_table *t, struct lease_slot *s, bool tell)
{
	if (s->state == LEASE_OPEN)
		atomic_fetch_sub(&worker_of(z, t)->open, 1);
	s->state = LEASE_ENDING;
	if (s->counted) {
		table_unlock(z, t);
		count_records(z, s->keys, s->lease.nrecords, -1);
		table_lock(z, t);
		s->counted = false;
	}
	if (tell)
		s->state = LEASE_RELEASED;
	else
		slot_free(t, (unsigned)(s - t->slot));
}

void
zone_lease_end(struct zone *z, uint64_t lease, bool tell)
{
	struct lease_slot *s;
	struct lease_table *t = lock_lease(z, lease, &s);

	if (t == NULL)
		return;
	if (s->state == LEASE_OPEN)
		slot_end(z, t, s, tell);
	table_unlock(z, t);
}

void
zone_lease_forget(struct zone *z, uint64_t lease)
{
	struct lease_slot *s;
	struct lease_table *t = lock_lease(z, lease, &s);

	if (t == NULL)
		return;
	if (s->state == LEASE_RELEASED)
		slot_free(t, (unsigned)(s - t->slot));
	table_unlock(z, t);
}

void
zone_worker_died(struct zone *z, unsigned worker, bool tell)
{
	struct lease_table *t;
	bool left_over = false;

	if (worker >= z->workers)
		return;
	t = &zone_leases(z)[worker];
	table_lock(z, t);
	table_mend(z, t); /* it may have died between two locks as well */
	for (unsigned w = 0; w < LEASE_WORDS; w++) {
		for (uint64_t left = t->used[w]; left != 0; left &= left - 1) {
			struct lease_slot *s = &t->slot[w * 64 + (unsigned)__builtin_ctzll(left)];

			if (s->state != LEASE_RELEASED || !tell)
				slot_end(z, t, s, tell);
			left_over = left_over || s->state == LEASE_RELEASED;
		}
	}
	table_unlock(z, t);
	atomic_store(&z->worker[worker].sessions, 0);
	atomic_store(&z->worker[worker].draining, false);
	atomic_store(&z->worker[worker].orphaned, left_over);
}

bool
zone_orphan_any(struct zone *z)
{
	for (unsigned i = 0; i < z->workers; i++)
		if (atomic_load_explicit(&z->worker[i].orphaned, memory_order_relaxed))
			return true;
	return false;
}

bool
zone_orphan_take(struct zone *z, unsigned *worker)
{
	for (unsigned i = 0; i < z->workers; i++)
		if (atomic_load_explicit(&z->worker[i].orphaned, memory_order_relaxed) &&
		    atomic_exchange(&z->worker[i].orphaned, false)) {
			*worker = i;
			return true;
		}
	return false;
}

void
zone_orphan_return(struct zone *z, unsigned worker)
{
	atomic_store(&z->worker[worker].orphaned, true);
}

/* --- looking ----------------------------------------------------------------------------- */

/* False when the slot is free by now. */
static bool
slot_copy(struct zone *z, struct lease_table *t, unsigned slot, enum lease_state *state,
    struct lease *out)
{
	bool used;

	table_lock(z, t);
	used = slot_used(t, slot);
	if (used) {
		*state = t->slot[slot].state == LEASE_RELEASED ? LEASE_RELEASED : LEASE_OPEN;
		*out = t->slot[slot].lease;
	}
	table_unlock(z, t);
	return used;
}

void
zone_lease_each(struct zone *z, unsigned worker, zone_lease_fn *fn, void *ctx)
{
	uint64_t used[LEASE_WORDS];
	struct lease_table *t;
	struct lease copy;
	enum lease_state state;

	if (worker >= z->workers)
		return;
	t = &zone_leases(z)[worker];
	table_lock(z, t);
	memcpy(used, t->used, sizeof(used));
	table_unlock(z, t);
	for (unsigned w = 0; w < LEASE_WORDS; w++)
		for (uint64_t left = used[w]; left != 0; left &= left - 1)
			if (slot_copy(
				z, t, w * 64 + (unsigned)__builtin_ctzll(left), &state, &copy))
				fn(ctx, state, &copy);
}

unsigned
zone_sessions(struct zone *z)
{
	unsigned open = 0;

	for (unsigned i = 0; i < z->workers; i++)
		open += atomic_load_explicit(&z->worker[i].open, memory_order_relaxed);
	return open;
}
