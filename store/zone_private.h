/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_private.h - how the zone lies in memory, for store/zone*.c and their tests.
 *
 * One mapping: struct zone, then the sets of entries, then what is watched (zone_watch.h), then one
 * lease table a worker. No address
 * lies in it: a program that replaced this one by exec maps it somewhere else.
 *
 * Order of locks: shards ascending, then one worker's leases. Never a shard while a lease
 * table is locked.
 */
#ifndef WEIR_ZONE_PRIVATE_H
#define WEIR_ZONE_PRIVATE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "siphash.h"
#include "weir/quota.h"
#include "weir/watch.h"
#include "weir/zone.h"

/* One bit of a word each, so that the shards of a request are a word: no list to sort, no shard
 * twice. It is also plenty: a shard is held for less than a microsecond. */
#define ZONE_SHARDS 64

/* Four cache lines to look through, and rarely a live entry that has to go. */
#define ZONE_WAYS 8

enum entry_kind {
	ENTRY_BUCKET = 1, /* value: level in millionths at time_us */
	ENTRY_SESSIONS, /* value: open sessions. Lives until it is 0 */
	ENTRY_REFUSAL, /* value: when it fits again (us since 1970); time_us: since when */
	ENTRY_KNOWN, /* a pool that passed the greylist; time_us: last seen */
	ENTRY_TRIPLET, /* waiting in the greylist; time_us: first seen */
	ENTRY_TRUST, /* a third of a pool's trust; see zone_pool.c */
	ENTRY_BLOCKED, /* a pool that hit a trap; value: until when (us since 1970) */
	ENTRY_WROTE /* a mailbox that a local user wrote to; time_us: when */
};

struct entry {
	uint64_t key; /* hash of what it counts; 0 = empty */
	int64_t value;
	int64_t time_us; /* since 1970 */
	union {
		uint32_t keep_s; /* forgotten this long after time_us */
		uint32_t generation; /* ENTRY_REFUSAL: hash of the generation that refused */
	};
	uint32_t kind : 4;
	uint32_t drain_s : 28; /* ENTRY_BUCKET: empty this long after time_us */
};
_Static_assert(sizeof(struct entry) == 32, "zone.h promises 32 bytes");

struct entry_set {
	struct entry way[ZONE_WAYS];
};

/* One limit's sliding window of one record. */
struct quota_slot {
	uint64_t key; /* 0 = empty */
	int64_t time_us; /* of the last charge */
	uint32_t keep_s; /* forgotten this long after it */
	struct quota quota;
};

#define QUOTA_WAYS 4
struct quota_set {
	struct quota_slot way[QUOTA_WAYS];
};

struct shard {
	_Alignas(64) pthread_mutex_t lock;
	int64_t now_us; /* the clock at the last visit, for calls that are not told the time */
};

/* In the slot between open and ended; like LEASE_OPEN to all but zone_lease_end(). */
#define LEASE_ENDING 3

struct lease_slot {
	uint8_t state; /* enum lease_state or LEASE_ENDING */
	bool counted; /* in the zone's own counts (or just about to be) */
	uint64_t keys[LEASE_RECORDS_MAX]; /* of the ENTRY_SESSIONS of lease.records */
	struct lease lease; /* the id stays when the slot is free: the next follows it */
};

#define LEASE_WORDS (ZONE_LEASES / 64)

struct lease_table { /* locked by the lock of its worker */
	_Alignas(64) uint64_t full[LEASE_WORDS / 64]; /* bit w: used[w] has no free slot */
	uint64_t used[LEASE_WORDS]; /* bit s: slot s is not free */
	struct lease_slot slot[ZONE_LEASES];
};

/* What all look at lies apart from the lease tables, so that a table without a user is no memory. */
struct zone_worker {
	_Alignas(64) pthread_mutex_t lock; /* of its lease table */
	/* read without the lock: */
	_Atomic uint32_t open; /* slots in LEASE_OPEN */
	_Atomic uint32_t sessions; /* counted by a limit or not */
	_Atomic bool draining;
	_Atomic bool orphaned; /* it ended, and Redis may have to be told of its leases */
};

/* By these a program knows the zone that another one made. */
#define ZONE_MAGIC UINT64_C(0x656e6f7a72696577) /* "weirzone" */
/* Raise it when what is in the zone changes its meaning; sizes tell by themselves. */
#define ZONE_LAYOUT 2

struct zone {
	uint64_t magic;
	uint32_t layout, head_size, table_size, set_size, quota_size, watch_size;
	int64_t size; /* as asked for */
	size_t mapped; /* bytes */
	uint64_t nsets, nquotas;
	size_t sets_at, quotas_at, watch_at, leases_at; /* from the beginning */
	unsigned workers;
	struct siphash_key secret;
	_Atomic int64_t drain_until_us[ZONE_DRAINS];
	_Alignas(64) _Atomic int64_t breakers[ZONE_BREAKERS]; /* see zone_breaker.c */
	_Atomic uint64_t breaker_of[ZONE_BREAKERS]; /* a hash of the node's name, 0 = free */
	_Alignas(64) _Atomic int64_t stats[ZONE_COUNTERS];
	_Atomic int64_t noted_us[ZONE_NOTES]; /* when last, 0 = never */
	_Atomic int64_t latencies[ZONE_LATENCIES], latency_us;
	_Atomic int64_t evictions; /* of entries that were still worth something */
	_Alignas(64) _Atomic int64_t load_word; /* see zone_load.c */
	_Atomic int64_t load_own, load_signal, load_value, load_mark, load_since_us;
	_Atomic int64_t load_values[LOAD_SIGNALS];
	_Atomic int64_t neighbours_share, neighbours_us;
	struct shard shard[ZONE_SHARDS];
	struct zone_worker worker[ZONE_WORKERS_MAX];
};

static inline struct entry_set *
zone_sets(struct zone *z)
{
	return (struct entry_set *)((char *)z + z->sets_at);
}

static inline struct quota_set *
zone_quotas(struct zone *z)
{
	return (struct quota_set *)((char *)z + z->quotas_at);
}

static inline struct lease_table *
zone_leases(struct zone *z)
{
	return (struct lease_table *)((char *)z + z->leases_at);
}

/* Locks, whatever became of the owner before. True when it died holding the lock. */
bool zone_mutex_lock(pthread_mutex_t *m);

/* now_us, or the clock if that is 0. */
int64_t zone_clock(int64_t now_us);

/* The key of an entry: its kind, a record, and what more tells it apart (a limit's name). */
uint64_t zone_key(const struct zone *z, enum entry_kind kind, enum limit_per per,
    const char *record, const char *more);

/* The shard of a key, as a bit. */
uint64_t zone_shard(const struct zone *z, uint64_t key);

void zone_lock(struct zone *z, uint64_t shards);
void zone_unlock(struct zone *z, uint64_t shards);

/* The functions below want the key's shard locked. */

/* NULL when there is none. */
struct entry *zone_find(struct zone *z, uint64_t key);
/* Writes *e over the entry of that key or over the one that matters least in its set. */
void zone_put(struct zone *z, const struct entry *e, int64_t now_us);
/* One more (+1) or one less (-1) open session. */
void zone_count_open(struct zone *z, uint64_t key, int by, int64_t now_us);

/* --- quotas (zone_quota.c): the same, with sets of their own ------------------------------- */

uint64_t zone_quota_shard(const struct zone *z, uint64_t key);
/* As it is, not faded; n = 0 when there is none. */
struct quota zone_quota_get(struct zone *z, uint64_t key);
void zone_quota_put(
    struct zone *z, uint64_t key, const struct quota *q, int64_t keep_us, int64_t now_us);

/* --- the pool (zone_pool.c) ----------------------------------------------------------------- */

struct pool_keys {
	uint64_t trust[3], blocked;
};
/* Finds the keys of q's pool question; returns their shards. */
uint64_t zone_pool_keys(const struct zone *z, const struct request *q, struct pool_keys *k);
/* The pool's trust, at the time now. */
struct trust zone_pool_trust(
    struct zone *z, const struct pool_keys *k, const struct trust_rule *r, int64_t now_us);
void zone_pool_put(struct zone *z, const struct pool_keys *k, const struct trust *t,
    int64_t keep_us, int64_t now_us);

/* zone_lease_take() for a lease that the caller counts at once (shards may be locked). */
uint64_t zone_lease_take_counted(struct zone *z, unsigned worker, const struct request *q);

/* Seconds, rounded up, to fit the fields of an entry. */
uint32_t zone_seconds(int64_t us);

#endif
