/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * site.c - see site.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "clock.h"
#include "site.h"

/* A host name is given so long to resolve before the first question is asked. */
#define FIRST_LOOKUP_US (500 * USEC_PER_MSEC)

bool
site_init(struct site *s, const struct redis_options *o, struct zone *z, unsigned worker,
    const char *node, store_notice *notice, void *ctx)
{
	char why[SITE_WHY_MAX];

	memset(s, 0, sizeof *s);
	s->options = *o;
	s->zone = z;
	s->worker = worker;
	s->notice = notice;
	s->ctx = ctx;
	snprintf(s->node, sizeof s->node, "%s", node);
	for (char *p = s->node; *p != '\0'; p++)
		if (*p <= ' ' || *p >= 0x7f)
			*p = '_';
	redis_options_text(o, s->name);
	if (o->tls.on) {
		s->tls = tls_new(&o->tls, why, sizeof why);
		if (s->tls == NULL) {
			site_say(s, LOG_ERR, "cannot be used: ", why, "");
			return false;
		}
	}
	s->topology = topology_new(&s->options, s->tls, z, FIRST_LOOKUP_US);
	return s->topology != NULL;
}

void
site_clear(struct site *s)
{
	topology_free(&s->topology);
	tls_free(&s->tls);
	explicit_bzero(s->options.password, sizeof s->options.password);
	explicit_bzero(s->options.sentinel_password, sizeof s->options.sentinel_password);
}

/* Joins the words with colons up to a NULL. They fit by construction; if not, they are cut. */
static size_t
join(char out[SITE_KEY_MAX], const char *const *words)
{
	size_t len = 0;

	for (unsigned i = 0; words[i] != NULL; i++) {
		size_t n = strlen(words[i]);

		if (i > 0 && len < SITE_KEY_MAX - 1)
			out[len++] = ':';
		if (n > SITE_KEY_MAX - 1 - len)
			n = SITE_KEY_MAX - 1 - len;
		memcpy(out + len, words[i], n);
		len += n;
	}
	out[len] = '\0';
	return len;
}

size_t
site_record_key(const struct site *s, enum limit_per kind, const char *key, char out[SITE_KEY_MAX])
{
	return join(out, (const char *const[]){s->options.prefix, limit_per_name(kind), key, NULL});
}

size_t
site_open_key(const struct site *s, enum limit_per kind, const char *key, char out[SITE_KEY_MAX])
{
	return join(
	    out, (const char *const[]){s->options.prefix, "open", limit_per_name(kind), key, NULL});
}

size_t
site_key(const struct site *s, const char *word, const char *key, char out[SITE_KEY_MAX])
{
	char prefix[REDIS_PREFIX_MAX + 3];

	return join(
	    out, (const char *const[]){redis_prefix(&s->options, word, prefix), word, key, NULL});
}

size_t
site_member(const struct site *s, uint64_t lease, char out[SITE_MEMBER_MAX])
{
	return (size_t)snprintf(out, SITE_MEMBER_MAX, "%s:%" PRIx64, s->node, lease);
}

/* "redis NAME TEXT why then" */
static void
say(const struct site *s, int priority, const char *name, const char *text, const char *why,
    const char *then)
{
	char line[1024];

	if (s->notice == NULL)
		return;
	snprintf(line, sizeof line, "redis %s %s%s%s", name, text, why, then);
	for (char *p = line; *p != '\0'; p++)
		if (*p < ' ' || *p >= 0x7f)
			*p = '?';
	s->notice(s->ctx, priority, line);
}

void
site_say(const struct site *s, int priority, const char *text, const char *why, const char *then)
{
	say(s, priority, s->name, text, why, then);
}

/* Of one node, which a Redis that stands alone does not call so. */
static void
say_of(const struct site *s, unsigned node, int priority, const char *text, const char *why,
    const char *then)
{
	char name[REDIS_PLACE_TEXT_MAX];

	if (node == NODE_NONE || !site_is_cluster(s)) {
		site_say(s, priority, text, why, then);
		return;
	}
	target_text(topology_target(s->topology, node), name);
	say(s, priority, name, text, why, then);
}

/* Failures of a sentinel's master and of Redis alone are those of Redis as a whole. */
static unsigned
breaker(const struct site *s, unsigned node)
{
	return topology_breaker(s->topology, node);
}

bool
site_open(const struct site *s, unsigned node)
{
	return zone_breaker_open_at(s->zone, breaker(s, node));
}

bool
site_failed(const struct site *s, unsigned node, const char *why)
{
	if (!zone_breaker_failed_at(s->zone, breaker(s, node), clock_real_us()))
		return false;
	zone_stat_add(s->zone, ZONE_REDIS_LOST, 1);
	zone_stat_set(s->zone, ZONE_REDIS_LOST_AT, clock_real_us());
	say_of(s, node, LOG_WARNING, "does not answer (", why,
	    breaker(s, node) == 0
		? "): counting on this host until it is back"
		: "): who is counted there is counted on this host until it is back");
	return true;
}

static const char *
seconds_since(int64_t since_us, char out[32])
{
	int64_t us = since_us > 0 ? clock_real_us() - since_us : 0;

	snprintf(out, 32, "%" PRId64, us > 0 ? us / USEC_PER_SEC : 0);
	return out;
}

void
site_ok(const struct site *s, unsigned node)
{
	unsigned b = breaker(s, node);
	int64_t since = zone_breaker_since_at(s->zone, b);
	char seconds[32];

	if (zone_breaker_ok_at(s->zone, b))
		say_of(s, node, LOG_NOTICE, "is back after ", seconds_since(since, seconds), " s");
}

void
site_elsewhere(const struct site *s, unsigned node)
{
	unsigned b = breaker(s, node);
	int64_t since = zone_breaker_since_at(s->zone, b);
	char seconds[32];

	if (since > 0 && zone_breaker_elsewhere(s->zone, b))
		say_of(s, node, LOG_NOTICE, "is replaced after ", seconds_since(since, seconds),
		    " s: another node serves its slots");
}
