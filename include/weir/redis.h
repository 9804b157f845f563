/* SPDX-License-Identifier: BSD-2-Clause */
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

enum redis_kind {
	REDIS_ALONE, /* host and port */
	REDIS_SENTINEL, /* places are sentinels: they know where `master` is */
	REDIS_CLUSTER /* places are nodes of a Redis Cluster; the others are learnt from them */
};

#define REDIS_PLACES_MAX 16
#define REDIS_MASTER_MAX 64
#define REDIS_PATH_MAX 511

struct redis_place {
	char host[REDIS_HOST_MAX + 1];
	int port; /* 0: host is the path of a unix socket */
};

struct redis_tls {
	bool on;
	char ca[REDIS_PATH_MAX + 1]; /* "": those that the system trusts */
	char cert[REDIS_PATH_MAX + 1], key[REDIS_PATH_MAX + 1]; /* "": without */
	char server_name[REDIS_HOST_MAX + 1]; /* "": what stands in host */
};

struct redis_options {
	enum redis_kind kind;
	char host[REDIS_HOST_MAX + 1]; /* host name or address, or the path of a unix socket */
	int port; /* 0: host is a path */
	unsigned nplaces; /* of a sentinel or cluster, at least 1 */
	struct redis_place places[REDIS_PLACES_MAX];
	char master[REDIS_MASTER_MAX + 1]; /* as the sentinels call it */
	char sentinel_user[REDIS_SECRET_MAX + 1], sentinel_password[REDIS_SECRET_MAX + 1];
	struct redis_tls tls; /* with sentinels and nodes, too */
	int db;
	char user[REDIS_SECRET_MAX + 1]; /* "" : only a password */
	char password[REDIS_SECRET_MAX + 1];
	char prefix[REDIS_PREFIX_MAX + 1]; /* printable, no braces, blanks or glob characters */
	int64_t timeout_us;
	unsigned advise; /* ADVISE_*: say once what is dangerous about its settings; 0 = nothing */
};

#define ADVISE_MEMORY 1u /* its bound, and what it forgets */
#define ADVISE_SAVING 2u /* it keeps what was learnt in weeks */

/* "redis://[user:password@]host[:port][/db]", "unix:/path[?db=N]", "rediss://..." (TLS),
 * "redis-cluster://[user:password@]host[:port][,host[:port]...]",
 * "redis-sentinel://[user:password@]host[:port][,...]/master[/db]"; other fields untouched
 * (start from redis_options_defaults()). err never repeats a password. */
void redis_options_defaults(struct redis_options *o);
bool redis_options_url(struct redis_options *o, const char *url, char *err, size_t errlen);
/* "host[:port]" or "[v6]:port", nothing else. */
bool redis_options_place(
    struct redis_place *p, const char *text, int port, char *err, size_t errlen);
#define REDIS_PORT 6379
#define REDIS_SENTINEL_PORT 26379
/* Whether these options can be used at all by this program, on this host (TLS and its files). */
bool redis_options_check(const struct redis_options *o, char *err, size_t errlen);
/* What stands before ":NAME" in a key: PREFIX, or in a Cluster {PREFIX} for the keys that one
 * script has to reach at once (generation, history, format, limits, overrides, lists, drain). */
const char *redis_prefix(
    const struct redis_options *o, const char *name, char out[REDIS_PREFIX_MAX + 3]);
/* "host:port", "[v6]:port" or "unix:/path". */
#define REDIS_PLACE_TEXT_MAX (REDIS_HOST_MAX + 16)
char *redis_place_text(const char *host, int port, char out[REDIS_PLACE_TEXT_MAX]);
/* What is configured, for people: no password in it. */
#define REDIS_TEXT_MAX (2 * REDIS_PLACE_TEXT_MAX + REDIS_MASTER_MAX)
char *redis_options_text(const struct redis_options *o, char out[REDIS_TEXT_MAX]);

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
