/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_quota.c - the zone's table of sliding windows: as that of the entries, with larger ones.
 */
#include <string.h>

#include "zone_private.h"

#include "weir/units.h"

static uint64_t
quota_set_number(const struct zone *z, uint64_t key)
{
	return (key >> 32) * z->nquotas >> 32;
}

uint64_t
zone_quota_shard(const struct zone *z, uint64_t key)
{
	return UINT64_C(1) << quota_set_number(z, key) % ZONE_SHARDS;
}

/* A worker may have died over it. */
static bool
sound(const struct quota_slot *s)
{
	return s->quota.n <= QUOTA_CHUNKS;
}

struct quota
zone_quota_get(struct zone *z, uint64_t key)
{
	const struct quota_slot *s = zone_quotas(z)[quota_set_number(z, key)].way;

	for (unsigned i = 0; i < QUOTA_WAYS; i++)
		if (s[i].key == key && sound(&s[i]))
			return s[i].quota;
	return (struct quota){.n = 0};
}

/* The slot of that key, or an empty one, or the one that was charged longest ago; one whose
 * window is over comes before all that still count. */
static struct quota_slot *
quota_slot(struct zone *z, uint64_t key, int64_t now_us)
{
	struct quota_slot *s = zone_quotas(z)[quota_set_number(z, key)].way, *least = s;
	int64_t least_worth = INT64_MAX;

	for (unsigned i = 0; i < QUOTA_WAYS; i++) {
		int64_t age = now_us > s[i].time_us ? now_us - s[i].time_us : 0;
		int64_t worth = INT64_MAX - 1 - age;

		if (s[i].key == key)
			return &s[i];
		if (s[i].key == 0)
			worth = -1;
		else if (age >= (int64_t)s[i].keep_s * USEC_PER_SEC)
			worth = 0;
		if (worth < least_worth) {
			least = &s[i];
			least_worth = worth;
		}
	}
	return least;
}

void
zone_quota_put(struct zone *z, uint64_t key, const struct quota *q, int64_t keep_us, int64_t now_us)
{
	struct quota_slot *s = quota_slot(z, key, now_us);

	/* Who dies in between leaves an empty slot, not a count under a strange name. */
	s->key = 0;
	atomic_signal_fence(memory_order_seq_cst);
	s->quota.n = q->n;
	memcpy(s->quota.chunk, q->chunk, q->n * sizeof q->chunk[0]);
	s->time_us = now_us;
	s->keep_s = zone_seconds(keep_us);
	atomic_signal_fence(memory_order_seq_cst);
	s->key = key;
}
