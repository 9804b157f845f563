/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_pool.c - what the zone remembers of a pool: its trust, and whether a trap blocks it.
 *
 * Trust is three counts and two times, an entry holds one of each; so it is three entries, each
 * with the time of all, but the second with the time of the last credit. One that was evicted
 * counts as nothing.
 */
#include "zone_private.h"

enum { CREDIT, GOOD, BAD };

uint64_t
zone_pool_keys(const struct zone *z, const struct request *q, struct pool_keys *k)
{
	static const char *const names[] = {"credit", "good", "bad"};
	const struct record *r = &q->records[q->pool.record];
	uint64_t shards = 0;

	for (unsigned i = 0; i < 3; i++) {
		k->trust[i] = zone_key(z, ENTRY_TRUST, r->kind, r->key, names[i]);
		shards |= zone_shard(z, k->trust[i]);
	}
	k->blocked = zone_key(z, ENTRY_BLOCKED, r->kind, r->key, "");
	return shards | zone_shard(z, k->blocked);
}

struct trust
zone_pool_trust(
    struct zone *z, const struct pool_keys *k, const struct trust_rule *r, int64_t now_us)
{
	const struct entry *credit = zone_find(z, k->trust[CREDIT]);
	const struct entry *good = zone_find(z, k->trust[GOOD]);
	const struct entry *bad = zone_find(z, k->trust[BAD]);
	struct trust t = {.time_us = now_us};

	if (credit != NULL) {
		t.credit = credit->value;
		t.time_us = credit->time_us;
	} else if (bad != NULL)
		t.time_us = bad->time_us;
	if (good != NULL) {
		t.good = good->value;
		t.earned_us = good->time_us;
	}
	if (bad != NULL)
		t.bad = bad->value;
	trust_fade(&t, r, now_us);
	return t;
}

void
zone_pool_put(struct zone *z, const struct pool_keys *k, const struct trust *t, int64_t keep_us,
    int64_t now_us)
{
	const struct {
		int64_t value, time_us;
	} parts[] = {
	    [CREDIT] = {t->credit, t->time_us},
	    /* without a credit ever, which is then not looked at */
	    [GOOD] = {t->good, t->earned_us != 0 ? t->earned_us : now_us},
	    [BAD] = {t->bad, t->time_us},
	};

	for (unsigned i = 0; i < 3; i++) {
		/* nothing to be kept must not push out what others have */
		struct entry e = {.key = k->trust[i],
		    .value = parts[i].value,
		    .time_us = parts[i].time_us,
		    /* counted from the last charge, whatever time the part carries */
		    .keep_s = zone_seconds(keep_us + (now_us - parts[i].time_us)),
		    .kind = ENTRY_TRUST};

		if (e.value != 0 || zone_find(z, e.key) != NULL)
			zone_put(z, &e, now_us);
	}
}
