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
	if (o->port == 0)
		snprintf(s->name, sizeof s->name, "unix:%s", o->host);
	else
		snprintf(s->name, sizeof s->name, strchr(o->host, ':') ? "[%s]:%d" : "%s:%d",
		    o->host, o->port);
	s->target = target_new(o, FIRST_LOOKUP_US);
	return s->target != NULL;
}

void
site_clear(struct site *s)
{
	target_free(&s->target);
	explicit_bzero(s->options.password, sizeof s->options.password);
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
	return join(out, (const char *const[]){s->options.prefix, word, key, NULL});
}

size_t
site_member(const struct site *s, uint64_t lease, char out[SITE_MEMBER_MAX])
{
	return (size_t)snprintf(out, SITE_MEMBER_MAX, "%s:%" PRIx64, s->node, lease);
}

void
site_say(const struct site *s, int priority, const char *text, const char *why, const char *then)
{
	char line[1024];

	if (s->notice == NULL)
		return;
	snprintf(line, sizeof line, "redis %s %s%s%s", s->name, text, why, then);
	for (char *p = line; *p != '\0'; p++)
		if (*p < ' ' || *p >= 0x7f)
			*p = '?';
	s->notice(s->ctx, priority, line);
}

bool
site_failed(const struct site *s, const char *why)
{
	if (!zone_breaker_failed(s->zone, clock_real_us()))
		return false;
	zone_stat_add(s->zone, ZONE_REDIS_LOST, 1);
	zone_stat_set(s->zone, ZONE_REDIS_LOST_AT, clock_real_us());
	site_say(
	    s, LOG_WARNING, "does not answer (", why, "): counting on this host until it is back");
	return true;
}

void
site_ok(const struct site *s)
{
	int64_t since = zone_breaker_since(s->zone);
	int64_t down_us = since > 0 ? clock_real_us() - since : 0;
	char seconds[32];

	if (!zone_breaker_ok(s->zone))
		return;
	snprintf(seconds, sizeof seconds, "%" PRId64, down_us > 0 ? down_us / USEC_PER_SEC : 0);
	site_say(s, LOG_NOTICE, "is back after ", seconds, " s");
}
