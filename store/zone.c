/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone.c - the zone's memory: the mapping, its locks, the table of counters, and the clients
 * refused a moment ago.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "memfd.h"
#include "zone_private.h"
#include "zone_watch.h"

#include "weir/units.h"

/* --- the mapping ------------------------------------------------------------------------- */

static bool
mutex_init(pthread_mutex_t *m, const pthread_mutexattr_t *shared)
{
	int e = pthread_mutex_init(m, shared);

	if (e != 0)
		errno = e;
	return e == 0;
}

static bool
locks_init(struct zone *z)
{
	pthread_mutexattr_t shared;
	bool ok = true;
	int e = pthread_mutexattr_init(&shared);

	if (e == 0)
		e = pthread_mutexattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	if (e == 0)
		e = pthread_mutexattr_setrobust(&shared, PTHREAD_MUTEX_ROBUST);
	if (e != 0) {
		errno = e;
		return false;
	}
	for (unsigned i = 0; ok && i < ZONE_SHARDS; i++)
		ok = mutex_init(&z->shard[i].lock, &shared);
	for (unsigned i = 0; ok && i < z->workers; i++)
		ok = mutex_init(&z->worker[i].lock, &shared);
	pthread_mutexattr_destroy(&shared);
	return ok;
}

static bool
secret_init(struct siphash_key *secret)
{
	ssize_t n;

	do /* so few bytes come whole or not at all */
		n = getrandom(secret, sizeof(*secret), 0);
	while (n < 0 && errno == EINTR);
	return n == (ssize_t)sizeof(*secret);
}

/* Each part starts on a page, so that a lease table that nobody uses costs none. */
static size_t
whole_pages(size_t bytes)
{
	return (bytes + 4095) / 4096 * 4096;
}

/* Where everything lies; false: no such zone. */
static bool
lay_out(struct zone *z, int64_t size, unsigned workers)
{
	if (size < ZONE_SIZE_MIN || size > ZONE_SIZE_MAX || workers < 1 ||
	    workers > ZONE_WORKERS_MAX)
		return false;
	z->magic = ZONE_MAGIC;
	z->layout = ZONE_LAYOUT;
	z->head_size = sizeof(struct zone);
	z->table_size = sizeof(struct lease_table);
	z->set_size = sizeof(struct entry_set);
	z->quota_size = sizeof(struct quota_set);
	z->watch_size = sizeof(struct zone_watch);
	z->size = size;
	z->workers = workers;
	z->nsets = (size_t)size / sizeof(struct entry_set);
	z->sets_at = whole_pages(sizeof(struct zone));
	z->nquotas = (size_t)size / 4 / sizeof(struct quota_set);
	z->quotas_at = z->sets_at + whole_pages(z->nsets * sizeof(struct entry_set));
	z->watch_at = z->quotas_at + whole_pages(z->nquotas * sizeof(struct quota_set));
	z->leases_at = z->watch_at + whole_pages(sizeof(struct zone_watch));
	z->mapped = z->leases_at + workers * sizeof(struct lease_table);
	return true;
}

static struct zone *
map(int fd, size_t bytes)
{
	struct zone *z = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return z != MAP_FAILED ? z : NULL;
}

static bool
fill(int fd, const struct zone *plan)
{
	struct zone *z;
	bool ok;

	/* of a file that nobody can shorten no page can vanish */
	if (ftruncate(fd, (off_t)plan->mapped) != 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0 ||
	    (z = map(fd, plan->mapped)) == NULL)
		return false;
	*z = *plan;
	ok = secret_init(&z->secret) && locks_init(z);
	munmap(z, plan->mapped);
	return ok;
}

int
zone_create(int64_t size, unsigned workers)
{
	static struct zone plan; /* zero, and 20 kB */
	int fd, e;

	if (!lay_out(&plan, size, workers)) {
		errno = EINVAL;
		return -1;
	}
	fd = memfd_open("weir-zone");
	if (fd < 0 || fill(fd, &plan))
		return fd;
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

/* Whether this program would have laid it out the same. */
static bool
ours(const struct zone *z, size_t bytes)
{
	static struct zone plan;

	return z->magic == ZONE_MAGIC && lay_out(&plan, z->size, z->workers) &&
	    z->layout == plan.layout && z->head_size == plan.head_size &&
	    z->table_size == plan.table_size && z->set_size == plan.set_size &&
	    z->quota_size == plan.quota_size && z->watch_size == plan.watch_size &&
	    z->nsets == plan.nsets && z->sets_at == plan.sets_at &&
	    z->leases_at == plan.leases_at && z->mapped == plan.mapped && bytes == plan.mapped;
}

struct zone *
zone_attach(int fd)
{
	struct zone *z = NULL;
	struct stat st;

	if (fstat(fd, &st) != 0)
		return NULL;
	errno = EINVAL;
	if (st.st_size < (off_t)sizeof(struct zone) || (z = map(fd, (size_t)st.st_size)) == NULL)
		return NULL;
	if (ours(z, (size_t)st.st_size))
		return z;
	munmap(z, (size_t)st.st_size);
	errno = EINVAL;
	return NULL;
}

struct zone *
zone_new(int64_t size, unsigned workers)
{
	int fd = zone_create(size, workers), e;
	struct zone *z;

	if (fd < 0)
		return NULL;
	z = zone_attach(fd);
	e = errno;
	close(fd);
	errno = e;
	return z;
}

int64_t
zone_size(const struct zone *z)
{
	return z->size;
}

void
zone_free(struct zone **z)
{
	/* Other processes may still use their mapping, so the mutexes are left as they are. */
	if (*z != NULL)
		munmap(*z, (*z)->mapped);
	*z = NULL;
}

/* --- time and locks ---------------------------------------------------------------------- */

int64_t
zone_clock(int64_t now_us)
{
	return now_us != 0 ? now_us : clock_real_us();
}

uint32_t
zone_seconds(int64_t us)
{
	const int64_t most = (INT64_C(1) << 28) - 1; /* 8 years; durations end at one */
	int64_t s = us <= 0 ? 0 : (us - 1) / USEC_PER_SEC + 1;

	return (uint32_t)(s < most ? s : most);
}

bool
zone_mutex_lock(pthread_mutex_t *m)
{
	int e = pthread_mutex_lock(m);

	if (e == EOWNERDEAD) {
		pthread_mutex_consistent(m);
		return true;
	}
	if (e != 0)
		abort(); /* memory is damaged; going on would hang or miscount for ever */
	return false;
}

void
zone_lock(struct zone *z, uint64_t shards)
{
	/* A half-written counter of a worker that died is put up with (zone_put() sees to it
	 * that an entry is never half another's). */
	for (; shards != 0; shards &= shards - 1)
		zone_mutex_lock(&z->shard[__builtin_ctzll(shards)].lock);
}

void
zone_unlock(struct zone *z, uint64_t shards)
{
	for (; shards != 0; shards &= shards - 1)
		pthread_mutex_unlock(&z->shard[__builtin_ctzll(shards)].lock);
}

/* --- the table --------------------------------------------------------------------------- */

uint64_t
zone_key(const struct zone *z, enum entry_kind kind, enum limit_per per, const char *record,
    const char *more)
{
	char text[2 + GREY_KEY_MAX + LIMIT_NAME_MAX + 2];
	size_t n = 0, len;
	uint64_t key;

	text[n++] = (char)kind;
	text[n++] = (char)per;
	len = strnlen(record, GREY_KEY_MAX - 1);
	memcpy(text + n, record, len);
	n += len;
	text[n++] = '\0'; /* neither part holds one, so no two pairs read alike */
	len = strnlen(more, LIMIT_NAME_MAX);
	memcpy(text + n, more, len);
	n += len;
	key = siphash(&z->secret, text, n);
	return key != 0 ? key : 1;
}

/* The upper half of the key, scaled: any number of sets is used evenly. */
static uint64_t
set_number(const struct zone *z, uint64_t key)
{
	return (key >> 32) * z->nsets >> 32;
}

uint64_t
zone_shard(const struct zone *z, uint64_t key)
{
	return UINT64_C(1) << set_number(z, key) % ZONE_SHARDS;
}

struct entry *
zone_find(struct zone *z, uint64_t key)
{
	struct entry *e = zone_sets(z)[set_number(z, key)].way;

	for (unsigned i = 0; i < ZONE_WAYS; i++)
		if (e[i].key == key)
			return &e[i];
	return NULL;
}

static bool
entry_expired(const struct entry *e, int64_t now_us)
{
	switch ((enum entry_kind)e->kind) {
	case ENTRY_SESSIONS:
		return false;
	case ENTRY_REFUSAL:
	case ENTRY_BLOCKED:
		return now_us >= e->value;
	case ENTRY_BUCKET:
	case ENTRY_KNOWN:
	case ENTRY_TRIPLET:
	case ENTRY_TRUST:
	case ENTRY_WROTE:
		break;
	}
	return now_us - e->time_us >= (int64_t)e->keep_s * USEC_PER_SEC;
}

/* How many times slower it grows old: what was counted once is nearly nothing, while a client that
 * is refused charges no more, however often he comes, and must not be forgotten for it; nor must a
 * pool that has earned something, or was blocked, for a crowd of strangers. */
static int64_t
entry_weight(const struct entry *e)
{
	switch ((enum entry_kind)e->kind) {
	case ENTRY_BUCKET:
		return e->value > MICRO ? e->value / MICRO : 1;
	case ENTRY_KNOWN:
	case ENTRY_TRUST:
	case ENTRY_BLOCKED:
		return 16;
	case ENTRY_SESSIONS:
	case ENTRY_REFUSAL:
	case ENTRY_TRIPLET:
	case ENTRY_WROTE:
		break;
	}
	return 1;
}

/* How much an entry matters: of a full set, the lowest goes. */
enum rank { EMPTY, EXPIRED, DRAINED, LIVE, OPEN };
#define RANK_SHIFT 56

static int64_t
entry_worth(const struct entry *e, int64_t now_us)
{
	enum rank rank;
	/* Far in the future is as stale as far in the past: the clock was wrong then. */
	int64_t age = now_us > e->time_us ? now_us - e->time_us : e->time_us - now_us;

	if (e->key == 0)
		rank = EMPTY;
	else if (entry_expired(e, now_us))
		rank = EXPIRED;
	else if (e->kind == ENTRY_SESSIONS)
		rank = OPEN; /* unlike a rate, a lost one does not mend by waiting */
	else if (e->kind == ENTRY_BUCKET &&
	    now_us - e->time_us >= (int64_t)e->drain_s * USEC_PER_SEC)
		rank = DRAINED;
	else
		rank = LIVE;
	return ((int64_t)rank << RANK_SHIFT) - (rank == LIVE ? age / entry_weight(e) : age);
}

static struct entry *
least_of_set(struct zone *z, uint64_t key, int64_t now_us)
{
	struct entry *e = zone_sets(z)[set_number(z, key)].way, *least = NULL;
	int64_t least_worth = INT64_MAX;

	for (unsigned i = 0; i < ZONE_WAYS; i++) {
		int64_t worth = entry_worth(&e[i], now_us);

		if (worth < least_worth) {
			least = &e[i];
			least_worth = worth;
		}
	}
	/* somebody loses what still counted: the zone is too small */
	if (least_worth > (int64_t)DRAINED << RANK_SHIFT)
		atomic_fetch_add_explicit(&z->evictions, 1, memory_order_relaxed);
	return least;
}

void
zone_put(struct zone *z, const struct entry *e, int64_t now_us)
{
	struct entry *to = zone_find(z, e->key);

	if (to == NULL) {
		/* Who dies in between leaves an empty entry, not a count under a strange name. */
		to = least_of_set(z, e->key, now_us);
		to->key = 0;
		atomic_signal_fence(memory_order_seq_cst);
	}
	to->value = e->value;
	to->time_us = e->time_us;
	to->keep_s = e->keep_s;
	to->kind = e->kind;
	to->drain_s = e->drain_s;
	atomic_signal_fence(memory_order_seq_cst);
	to->key = e->key;
}

void
zone_count_open(struct zone *z, uint64_t key, int by, int64_t now_us)
{
	const struct entry *is = zone_find(z, key);
	struct entry e = {.key = key, .time_us = now_us, .kind = ENTRY_SESSIONS};

	e.value = (is != NULL ? is->value : 0) + by;
	if (e.value > 0)
		zone_put(z, &e, now_us);
	else if (is != NULL)
		zone_find(z, key)->key = 0;
	/* else it was evicted, and what is not counted cannot be counted down */
}

/* --- refused a moment ago ---------------------------------------------------------------- */

static uint64_t
refusal_key(const struct zone *z, const struct request *q, unsigned hit)
{
	const struct record *r = &q->records[q->hits[hit].record];

	return zone_key(z, ENTRY_REFUSAL, r->kind, r->key, q->hits[hit].limit->name);
}

static uint32_t
generation_hash(const struct zone *z, const struct request *q)
{
	return (uint32_t)siphash(&z->secret, q->generation, strnlen(q->generation, GENERATION_MAX));
}

static struct shard *
shard_of_bit(struct zone *z, uint64_t bit)
{
	return &z->shard[__builtin_ctzll(bit)];
}

void
zone_refusal_put(
    struct zone *z, const struct request *q, unsigned hit, int64_t now_us, int64_t fits_us)
{
	struct entry e = {.key = refusal_key(z, q, hit),
	    .value = fits_us,
	    .time_us = now_us,
	    .kind = ENTRY_REFUSAL};
	uint64_t bit = zone_shard(z, e.key);

	e.generation = generation_hash(z, q);
	zone_lock(z, bit);
	zone_put(z, &e, now_us);
	zone_unlock(z, bit);
}

int64_t
zone_refusal_get(struct zone *z, const struct request *q, unsigned hit, int64_t now_us)
{
	uint64_t key = refusal_key(z, q, hit), bit = zone_shard(z, key);
	int64_t now = zone_clock(now_us), fits = 0;
	const struct entry *e;

	zone_lock(z, bit);
	shard_of_bit(z, bit)->now_us = now;
	e = zone_find(z, key);
	/* A clock that went back would stretch the refusal, so then the store is asked anew. */
	if (e != NULL && e->generation == generation_hash(z, q) && now >= e->time_us &&
	    now < e->time_us + ZONE_REFUSAL_US && now < e->value)
		fits = e->value;
	zone_unlock(z, bit);
	return fits;
}
