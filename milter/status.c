/*
 * status.c - see status.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "status.h"
#include "weir/units.h"

/* What was published last, to tell rates. Only the watching thread of worker 0 comes here. */
static struct {
	int64_t at_us, started_us;
	int64_t decisions, refused;
	int64_t latencies[ZONE_LATENCIES];
} last;

#define PAIRS_MAX 24 /* PUBLISH_PAIRS_MAX in store/ask.h */

struct pairs {
	unsigned n;
	const char *text[2 * PAIRS_MAX];
	char values[PAIRS_MAX][GENERATION_MAX + 16];
};

static void
add(struct pairs *p, const char *name, const char *value)
{
	char *copy = p->values[p->n];

	snprintf(copy, sizeof p->values[0], "%s", value);
	p->text[2 * p->n] = name;
	p->text[2 * p->n + 1] = copy;
	p->n++;
}

static void
add_number(struct pairs *p, const char *name, int64_t value)
{
	char text[24];

	snprintf(text, sizeof text, "%" PRId64, value);
	add(p, name, text);
}

/* Round trips since the last time; when nobody asked, nothing is known of now. */
static void
add_latencies(struct pairs *p, struct zone *z)
{
	int64_t now[ZONE_LATENCIES], since[ZONE_LATENCIES];

	zone_latencies(z, now);
	for (unsigned i = 0; i < ZONE_LATENCIES; i++)
		since[i] = now[i] - last.latencies[i];
	memcpy(last.latencies, now, sizeof now);
	add_number(p, "p50_us", zone_latency_quantile(since, 0.50));
	add_number(p, "p99_us", zone_latency_quantile(since, 0.99));
}

/* The sessions there are, and those that are left in workers of before a reload. */
static void
add_sessions(struct pairs *p, struct zone *z)
{
	struct zone_open open;

	zone_open_get(z, &open);
	add_number(p, "sessions", open.sessions);
	add_number(p, "draining_workers", open.draining);
	add_number(p, "draining_sessions", open.draining_sessions);
}

static void
add_drain(struct pairs *p, struct zone *z, int64_t now_us)
{
	int64_t until = zone_drain_until(z);

	add(p, "drain", until > now_us ? "on" : "off");
	/* always there: a field that is left out would keep its last value */
	add_number(
	    p, "drain_until", until > now_us && until != INT64_MAX ? until / USEC_PER_SEC : 0);
}

static int64_t
per_second(int64_t n, int64_t us)
{
	return us > 0 ? (n * USEC_PER_SEC + us / 2) / us : 0;
}

void
status_publish(struct worker *w, int64_t now_us)
{
	int64_t decisions = zone_stat(w->zone, ZONE_DECISIONS);
	int64_t refused = zone_stat(w->zone, ZONE_REFUSED);
	int64_t span = now_us - last.at_us;
	const struct ruleset *r;
	struct pairs p = {.n = 0};

	if (last.started_us == 0)
		last.started_us = w->started_us;
	else if (span >= 0 && span < STATUS_EVERY_US)
		return;
	r = snapshot_get(w->snapshots, now_us);
	add(&p, "version", PACKAGE_VERSION);
	add(&p, "mode", r->observe ? "observe" : "enforce");
	add(&p, "generation", r->generation);
	snapshot_put(w->snapshots, r);
	add_number(&p, "started", last.started_us);
	add_number(&p, "workers", w->workers);
	add_sessions(&p, w->zone);
	add_drain(&p, w->zone, now_us);
	add_number(&p, "decisions", decisions);
	add_number(&p, "refused", refused);
	add_number(&p, "shadowed", zone_stat(w->zone, ZONE_SHADOWED));
	add_number(&p, "decisions_per_s", per_second(decisions - last.decisions, span));
	add_number(&p, "refused_per_s", per_second(refused - last.refused, span));
	add_number(&p, "breaker_opened", zone_stat(w->zone, ZONE_REDIS_LOST));
	add_number(&p, "breaker_last", zone_stat(w->zone, ZONE_REDIS_LOST_AT));
	add_latencies(&p, w->zone);
	last.at_us = now_us;
	last.decisions = decisions;
	last.refused = refused;
	store_publish(w->store, p.text, p.n);
}
