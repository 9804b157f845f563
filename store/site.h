/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * site.h - what the parts of one Redis store share: where it is, how its keys are named, and
 * what its owner is told when it stops or starts to answer.
 *
 * Constant once made, except for what target and zone guard themselves: any thread may use it.
 */
#ifndef WEIR_STORE_SITE_H
#define WEIR_STORE_SITE_H

#include "topology.h"
#include "weir/redis.h"

#define SITE_NODE_MAX 64
#define SITE_WHY_MAX 160

/* PREFIX:open:KIND:RECORDKEY, and the longest of all, PREFIX:grey:GREYKEY. */
#define SITE_KEY_MAX (REDIS_PREFIX_MAX + 24 + GREY_KEY_MAX)
#define SITE_MEMBER_MAX (SITE_NODE_MAX + 18)

struct site {
	struct redis_options options;
	struct tls *tls; /* owned; NULL: without */
	struct topology *topology; /* owned */
	struct zone *zone;
	unsigned worker;
	char node[SITE_NODE_MAX + 1]; /* printable, no blank */
	char name[REDIS_TEXT_MAX]; /* "unix:/path", "host:port", ...; holds no password */
	store_notice *notice;
	void *ctx;
};

/* False: out of memory, or TLS cannot be used; then notice has heard why. */
bool site_init(struct site *s, const struct redis_options *o, struct zone *z, unsigned worker,
    const char *node, store_notice *notice, void *ctx);
void site_clear(struct site *s);

/* PREFIX:KIND:KEY and PREFIX:open:KIND:KEY; return the length. */
size_t site_record_key(
    const struct site *s, enum limit_per kind, const char *key, char out[SITE_KEY_MAX]);
size_t site_open_key(
    const struct site *s, enum limit_per kind, const char *key, char out[SITE_KEY_MAX]);
/* PREFIX:WORD and PREFIX:WORD:KEY (key NULL: the former). In a Cluster redis_prefix() stands for
 * PREFIX. */
size_t site_key(const struct site *s, const char *word, const char *key, char out[SITE_KEY_MAX]);

/* NODE:LEASE, as it stands in the sets of open sessions. */
size_t site_member(const struct site *s, uint64_t lease, char out[SITE_MEMBER_MAX]);

/* Count for the breaker of the node (NODE_NONE: of Redis as a whole); the call that changes its
 * state also tells the owner. site_failed() is true when the breaker has opened now. */
bool site_failed(const struct site *s, unsigned node, const char *why);
void site_ok(const struct site *s, unsigned node);
bool site_open(const struct site *s, unsigned node);
/* The slots of the node are with others now: says so, if its breaker is open. */
void site_elsewhere(const struct site *s, unsigned node);

static inline bool
site_is_cluster(const struct site *s)
{
	return s->options.kind == REDIS_CLUSTER;
}

/* "redis NAME TEXT why", with what is not printable replaced. */
void site_say(
    const struct site *s, int priority, const char *text, const char *why, const char *then);

#endif
