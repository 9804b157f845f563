/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.h - one shared-memory table for all workers of one weir-milter.
 *
 * It is the store when no Redis is configured, the fall-back while Redis does not answer, the
 * cache of clients refused a moment ago, the count of open sessions, and the place where the
 * workers agree whether Redis is down.
 *
 * Quotas take more room than an entry has; they have a table of their own, up to a quarter of
 * the size in addition, which costs nothing while no limit has a quota.
 *
 * Fixed size. Entries of 32 bytes in sets of 8; a look-up touches one set. When a set is full
 * the entry that matters least goes (expired, then drained, then oldest), so an attacker with
 * many addresses costs others accuracy, never memory. Keys are hashed with a random secret, so
 * nobody can aim at a set.
 *
 * Locks: one robust, process-shared mutex per shard. A worker that dies while it holds one
 * leaves at worst one half-written counter; the next taker goes on. A request takes the shards
 * of all its counters in ascending order, which makes check and charge one step.
 *
 * Made by the master before it forks. It lies behind a descriptor, so that a reload, by which
 * the master becomes another program, keeps it.
 */
#ifndef WEIR_ZONE_H
#define WEIR_ZONE_H

#include "weir/load.h"
#include "weir/pool.h"
#include "weir/store.h"
#include "weir/units.h"

#define ZONE_SIZE_MIN (INT64_C(256) * 1024)
#define ZONE_SIZE_MAX (INT64_C(64) * 1024 * 1024 * 1024)

/* Open sessions that one worker can hold a lease for; more are served and not counted. */
#define ZONE_LEASES 16384
/* Sessions are counted per address, network and pool, for all, and per network of a ladder. */
#define LEASE_RECORDS_MAX (4 + LADDER_WIDTHS_MAX)
/* At one time, those of before a reload that still have sessions included. */
#define ZONE_WORKERS_MAX 256

/* A network's key, or "{POOL}". */
#define LEASE_KEY_MAX NET_KEY_MAX
_Static_assert(LEASE_KEY_MAX >= POOL_NAME_MAX + 3, "a pool's key fits");
struct zone;

/* size in bytes for the table of counters (leases come on top, touched only as they are used).
 * NULL with errno when the mapping fails, EINVAL when size or workers is out of bounds. */
struct zone *zone_new(int64_t size, unsigned workers);

/* The same as a descriptor (close-on-exec) to be mapped by zone_attach(), also by the program
 * that comes after exec. -1 with errno as above. */
int zone_create(int64_t size, unsigned workers);
/* NULL with errno; EINVAL: that is no zone, or one of a weir that lays it out otherwise. The
 * descriptor stays the caller's. */
struct zone *zone_attach(int fd);
/* As it was asked for. */
int64_t zone_size(const struct zone *z);
void zone_free(struct zone **z);

/* The zone as a store for worker number `worker`. Borrow: the zone must outlive it. NULL: out of
 * memory, or no such worker. */
struct store *zone_store_open(struct zone *z, unsigned worker);

/* --- refused a moment ago ---------------------------------------------------------------- */

/* So long a refusal is repeated without asking: one that has been taken back (weirctl clear, a
 * changed limit) must not outlive it noticeably. */
#define ZONE_REFUSAL_US USEC_PER_SEC

/* Remember that this hit does not fit before fits_us. Valid for one generation only. */
void zone_refusal_put(
    struct zone *z, const struct request *q, unsigned hit, int64_t now_us, int64_t fits_us);
/* fits_us, if that is remembered and later than now_us; else 0. */
int64_t zone_refusal_get(struct zone *z, const struct request *q, unsigned hit, int64_t now_us);

/* The pool of q is known in Redis: the zone shall know it, too, when Redis is silent. */
void zone_known_put(struct zone *z, const struct request *q, int64_t now_us);

/* --- leases: one for each open session that is counted ------------------------------------ */

enum lease_state {
	LEASE_FREE = 0,
	LEASE_OPEN, /* the session runs */
	LEASE_RELEASED /* it has ended; Redis still has to be told */
};

struct lease {
	uint64_t id; /* never 0, never used twice in the life of a zone */
	unsigned nrecords;
	struct {
		enum limit_per kind;
		char key[LEASE_KEY_MAX];
	} records[LEASE_RECORDS_MAX];
};

/* Takes a slot for the sessions hits of q. 0 when q has none or the worker's table is full. */
uint64_t zone_lease_take(struct zone *z, unsigned worker, const struct request *q);
/* Adds an open lease to the zone's own counts (the zone store does so by itself). */
void zone_lease_count(struct zone *z, uint64_t lease);
/* Ends it. tell: keep the slot as LEASE_RELEASED until zone_lease_forget(); else free it. */
void zone_lease_end(struct zone *z, uint64_t lease, bool tell);
void zone_lease_forget(struct zone *z, uint64_t lease);
/* Calls fn for each slot of the worker that is not free. fn gets a copy, no lock is held. */
typedef void zone_lease_fn(void *ctx, enum lease_state state, const struct lease *lease);
void zone_lease_each(struct zone *z, unsigned worker, zone_lease_fn *fn, void *ctx);
/* A worker is gone: its open sessions end (uncounted here, LEASE_RELEASED if tell), and if there
 * is something to tell it is orphaned: another worker takes that over. */
void zone_worker_died(struct zone *z, unsigned worker, bool tell);
bool zone_orphan_any(struct zone *z);
/* Gives an orphaned one to the caller, who tells Redis, or returns it. False: there is none. */
bool zone_orphan_take(struct zone *z, unsigned *worker);
void zone_orphan_return(struct zone *z, unsigned worker);
/* Counted open sessions of all workers. */
unsigned zone_sessions(struct zone *z);

/* --- workers come and go ------------------------------------------------------------------- */

/* The place is taken by a new process: it has no session, is no orphan, and does not drain. */
void zone_worker_started(struct zone *z, unsigned worker);
void zone_worker_drains(struct zone *z, unsigned worker);
/* One more (1) or one less (-1) session, counted by a limit or not. */
void zone_worker_session(struct zone *z, unsigned worker, int by);

struct zone_open {
	unsigned sessions; /* of all workers */
	unsigned draining, draining_sessions; /* workers that take no new session, and theirs */
};
void zone_open_get(struct zone *z, struct zone_open *out);

/* --- maintenance --------------------------------------------------------------------------- */

/* Who can want this host to take no new sessions. */
enum zone_drain { ZONE_DRAIN_SIGNAL, ZONE_DRAIN_REDIS, ZONE_DRAINS };

/* until_us since 1970; INT64_MAX: until it is taken back; 0: not (any more). */
void zone_drain_set(struct zone *z, enum zone_drain by, int64_t until_us);
int64_t zone_drain_get(struct zone *z, enum zone_drain by);
/* The later of both. */
int64_t zone_drain_until(struct zone *z);

/* --- is Redis down? ------------------------------------------------------------------------ */

/* Open after this many failures in a row, over all workers. */
#define BREAKER_FAILURES 3

/* Breaker 0 is that of Redis as a whole; in a Cluster each node has one besides. */
#define ZONE_BREAKERS 65
/* The breaker of the node of that name, the same in all processes. */
unsigned zone_breaker_of(struct zone *z, const char *name);

bool zone_breaker_open_at(struct zone *z, unsigned breaker);
/* Both return true for the one caller whose report changed the state, and who logs it. */
bool zone_breaker_failed_at(struct zone *z, unsigned breaker, int64_t now_us);
bool zone_breaker_ok_at(struct zone *z, unsigned breaker);
/* It is open, and stays so, but what it was about is elsewhere now: true for the one caller who
 * says so. */
bool zone_breaker_elsewhere(struct zone *z, unsigned breaker);
/* When it opened, microseconds since 1970. */
int64_t zone_breaker_since_at(struct zone *z, unsigned breaker);

/* The same of breaker 0. */
static inline bool
zone_breaker_open(struct zone *z)
{
	return zone_breaker_open_at(z, 0);
}

static inline bool
zone_breaker_failed(struct zone *z, int64_t now_us)
{
	return zone_breaker_failed_at(z, 0, now_us);
}

static inline bool
zone_breaker_ok(struct zone *z)
{
	return zone_breaker_ok_at(z, 0);
}

static inline int64_t
zone_breaker_since(struct zone *z)
{
	return zone_breaker_since_at(z, 0);
}

/* --- the host's load ----------------------------------------------------------------------- */

/* A level that nobody has written for so long is 0: the master is gone, or hangs. */
#define ZONE_LOAD_LIFE_US (5 * USEC_PER_SEC)
/* What the neighbours said is worth nothing after so long. */
#define ZONE_NEIGHBOURS_LIFE_US (8 * USEC_PER_SEC)

/* As of struct load, for people: what they see may be of two samples. */
struct zone_load {
	unsigned level, own;
	enum load_signal signal;
	int64_t value, mark;
	int64_t since_us; /* 1970 */
	int64_t values[LOAD_SIGNALS];
};

/* now_us: CLOCK_MONOTONIC, the same for all processes of a host. */
void zone_load_set(struct zone *z, const struct zone_load *l, int64_t now_us);
void zone_load_get(struct zone *z, struct zone_load *out);
/* The level alone, for each session that begins. */
unsigned zone_load_level(struct zone *z, int64_t now_us);

/* So many of all weir-milters on this Redis ask for a level by themselves. */
void zone_neighbours_set(struct zone *z, unsigned above, unsigned all, int64_t now_us);
/* In percent, thousandths; LOAD_MISSING: nobody has said it lately. */
int64_t zone_neighbours_share(struct zone *z, int64_t now_us);

/* --- statistics of all workers ------------------------------------------------------------- */

enum zone_counter {
	ZONE_DECISIONS, /* verdicts */
	ZONE_REFUSED, /* of these not accepted */
	ZONE_SHADOWED, /* of these exceeded a limit with action=log */
	ZONE_SHED, /* of those refused, for the host's load */
	ZONE_REDIS_LOST, /* the breaker opened */
	ZONE_REDIS_LOST_AT, /* ... last, microseconds since 1970 */
	ZONE_ADVICE, /* what has been said of Redis' settings, as of store/advice.c */
	ZONE_COUNTERS
};

void zone_stat_add(struct zone *z, enum zone_counter c, int64_t n);
void zone_stat_set(struct zone *z, enum zone_counter c, int64_t value);
int64_t zone_stat(struct zone *z, enum zone_counter c);

/* Things that one worker says for all. */
enum zone_note {
	ZONE_NOTE_WRONGKEY, /* a key holds something else than weir's */
	ZONE_NOTE_LOAD, /* the limits in Redis cannot be read */
	ZONE_NOTE_NEIGHBOURS, /* nor what other weir-milters say of their load */
	ZONE_NOTE_ADVICE, /* when Redis' settings were looked at */
	ZONE_NOTE_SLOTS, /* a part of the Cluster is served by nobody */
	ZONE_NOTES
};

/* True for the one caller that shall say it: nobody has for every_us. */
bool zone_note_due(struct zone *z, enum zone_note n, int64_t now_us, int64_t every_us);

/* Redis round trips, in classes a quarter of a power of two wide. */
#define ZONE_LATENCIES 96
void zone_latency_add(struct zone *z, int64_t us);
/* The counts since the start, by class. */
void zone_latencies(struct zone *z, int64_t out[ZONE_LATENCIES]);
/* All of them together, microseconds. */
int64_t zone_latency_sum(struct zone *z);
/* What is in this class is below so many microseconds. */
int64_t zone_latency_end(unsigned class);
/* The upper bound of the class that holds this share (0..1) of the counts; 0 without any. */
int64_t zone_latency_quantile(const int64_t counts[ZONE_LATENCIES], double share);

#endif
