/*
 * redis.h - the store in Redis, and the chain that puts the zone around it.
 *
 * Threads share one connection a worker: whoever comes first does the I/O for all who wait, so
 * concurrent questions travel in one pipeline. Every question ends by its deadline, connecting
 * included. After BREAKER_FAILURES in a row nobody asks any more, and a background thread looks
 * whether Redis is back; it also renews and releases the leases of open sessions.
 */
#ifndef WEIR_REDIS_H
#define WEIR_REDIS_H

#include "weir/store.h"
#include "weir/zone.h"

#define REDIS_HOST_MAX 255
#define REDIS_SECRET_MAX 255
#define REDIS_PREFIX_MAX 32

/* An open session's lease lives this long in Redis unless it is renewed, so that the sessions
 * of a host that vanished are forgotten after at most this time. Renewed at a third of it. */
#define LEASE_TTL_US (60 * USEC_PER_SEC)
/* ... but the set that it stands in is kept for so long after it was last written: a full Redis
 * forgets first what expires first (volatile-ttl), and a flood must not empty these sets. One
 * whose last session has ended is removed at once. */
#define OPEN_LIFE_US (86400 * USEC_PER_SEC)

struct redis_options {
	char host[REDIS_HOST_MAX + 1]; /* host name or address, or the path of a unix socket */
	int port; /* 0: host is a path */
	int db;
	char user[REDIS_SECRET_MAX + 1]; /* "" : only a password */
	char password[REDIS_SECRET_MAX + 1];
	char prefix[REDIS_PREFIX_MAX + 1]; /* printable, no braces, blanks or glob characters */
	int64_t timeout_us;
	unsigned advise; /* ADVISE_*: say once what is dangerous about its settings; 0 = nothing */
};

#define ADVISE_MEMORY 1u /* its bound, and what it forgets */
#define ADVISE_SAVING 2u /* it keeps what was learnt in weeks */

/* "redis://[user:password@]host[:port][/db]" or "unix:/path[?db=N]"; other fields untouched
 * (start from redis_options_defaults()). err never repeats a password. */
void redis_options_defaults(struct redis_options *o);
bool redis_options_url(struct redis_options *o, const char *url, char *err, size_t errlen);

/* node: this weir-milter's name among those that share the Redis, for lease members; copied.
 * Does not connect. Starts one thread. NULL: out of memory or no thread. */
struct store *redis_store_open(const struct redis_options *o, struct zone *z, unsigned worker,
    const char *node, store_notice *notice, void *ctx);

/*
 * What a worker asks: the zone's memory of refusals, then Redis, then (Redis silent) the zone.
 * Owns redis, borrows z. Every lease is counted in the zone too, so that the zone knows the
 * open sessions of this host at the moment when Redis goes.
 */
struct store *chain_store_open(struct store *redis, struct zone *z, unsigned worker);

#endif
