/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * status.c - see status.h.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "clock.h"
#include "status.h"
#include "weir/units.h"

/* What was published last, to tell rates. Only the watching thread of worker 0 comes here. */
static struct {
	int64_t at_us, started_us;
	int64_t decisions, refused;
	int64_t latencies[ZONE_LATENCIES];
	unsigned level, own;
} last;

#define PAIRS_MAX 32 /* PUBLISH_PAIRS_MAX in store/ask.h */

struct pairs {
	unsigned n;
	const char *text[2 * PAIRS_MAX];
	char values[PAIRS_MAX][LOAD_SIGNALS * (LOAD_VALUE_MAX + 16)];
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

/* "sessions=412 psi-cpu=52.3%" of the signals that have marks: what somebody who chooses marks
 * wants to see while nothing happens. */
static void
add_load_values(struct pairs *p, const struct load_rules *r, const struct zone_load *l)
{
	char text[sizeof p->values[0]] = "", value[LOAD_VALUE_MAX];
	size_t used = 0;

	for (unsigned i = 0; i < LOAD_SIGNALS; i++)
		if (load_wants(r, (enum load_signal)i) && used < sizeof text)
			used += (size_t)snprintf(text + used, sizeof text - used, "%s%s=%s",
			    used > 0 ? " " : "", load_signal_name((enum load_signal)i),
			    load_format((enum load_signal)i, l->values[i], value));
	add(p, "load_values", text);
}

static void
add_load(struct pairs *p, const struct worker *w, const struct zone_load *l, unsigned level)
{
	char text[LOAD_VALUE_MAX];
	bool up = level > 0;

	add_number(p, "load_level", level);
	add_number(p, "load_own", l->own);
	add(p, "load_signal", up ? load_signal_name(l->signal) : "");
	add(p, "load_value", up ? load_format(l->signal, l->value, text) : "");
	add(p, "load_mark", up ? load_format(l->signal, l->mark, text) : "");
	add_number(p, "load_since", l->since_us);
	add_number(p, "load_refused", zone_stat(w->zone, ZONE_SHED));
	add_load_values(p, &w->conf->rules.load, l);
}

static void
meet_neighbours(struct worker *w, unsigned own)
{
	unsigned above, all;

	if (store_neighbours(w->store, own > 0, &above, &all))
		zone_neighbours_set(w->zone, above, all, clock_mono_us());
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
	struct zone_load load;
	unsigned level = zone_load_level(w->zone, clock_mono_us());

	zone_load_get(w->zone, &load);
	if (level == 0)
		load.own = 0; /* or nobody measures any more */
	if (last.started_us == 0)
		last.started_us = w->started_us;
	else if (span >= 0 && span < STATUS_EVERY_US && level == last.level && load.own == last.own)
		return;
	r = snapshot_get(w->snapshots, now_us);
	add(&p, "version", PACKAGE_VERSION);
	add(&p, "engine", conf_engine_name(w->conf->engine));
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
	add_load(&p, w, &load, level);
	last.at_us = now_us;
	last.level = level;
	last.own = load.own;
	last.decisions = decisions;
	last.refused = refused;
	store_publish(w->store, p.text, p.n);
	meet_neighbours(w, load.own);
}
