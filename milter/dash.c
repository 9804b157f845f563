/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dash.c - see dash.h.
 */
#include <inttypes.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "clock.h"
#include "dash.h"
#include "log.h"
#include "nodes.h"
#include "page_text.h"
#include "why.h"

#define JSON_TYPE "application/json; charset=utf-8"
/* Rows of each table. */
#define TOP_ROWS 40
/* So many of the busiest are asked about, to find who is nearest to each limit. */
#define FULLEST_OF 12
/* Redis is not asked more often, however many people look. */
#define FULLEST_EVERY_US (5 * USEC_PER_SEC)
#define NODES_EVERY_US (2 * USEC_PER_SEC)
#define NODES_TIMEOUT_US (200 * USEC_PER_MSEC)
#define NONCE_BYTES 16

static void
put_json(struct http_reply *a, json_t *j)
{
	a->type = JSON_TYPE;
	if (j == NULL || json_dumpf(j, a->body, JSON_COMPACT | JSON_ENSURE_ASCII) != 0)
		a->status = 500;
	json_decref(j);
}

static json_t *
text(const char *s)
{
	char safe[LOG_VALUE_MAX];

	return json_string(log_escape(s, safe, sizeof safe));
}

static json_t *
whole(int64_t n)
{
	return json_integer((json_int_t)n);
}

/* --- the page --------------------------------------------------------------------------------- */

/* What is in the page's own style and script runs, by a word that nobody can guess; nothing else
 * does. */
void
dash_page(void *ctx, const struct http_request *q, struct http_reply *a)
{
	static char policy[256];
	unsigned char random[NONCE_BYTES];
	char nonce[2 * NONCE_BYTES + 1];

	(void)ctx;
	(void)q;
	if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) {
		a->status = 503;
		return;
	}
	for (unsigned i = 0; i < NONCE_BYTES; i++)
		sprintf(nonce + 2 * i, "%02x", random[i]);
	snprintf(policy, sizeof policy,
	    "default-src 'none'; style-src 'nonce-%s'; script-src 'nonce-%s'; connect-src 'self'; "
	    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
	    nonce, nonce);
	a->policy = policy;
	a->type = "text/html; charset=utf-8";
	fprintf(a->body,
	    "%s<style nonce=\"%s\">\n%s</style>\n%s<script nonce=\"%s\">\n%s</script>\n", page_head,
	    nonce, page_css, page_body, nonce, page_js);
}

/* --- parts of /api/now ---------------------------------------------------------------------------- */

static json_t *
workers_json(struct show *s)
{
	struct watch_workers w;
	struct zone_open open;

	zone_watch_workers_get(s->zone, &w);
	zone_open_get(s->zone, &open);
	return json_pack("{si si si sb sI sI sI si si}", "wanted", (int)w.wanted, "ready",
	    (int)w.ready, "before", (int)w.before, "serving", w.serving, "failures",
	    (json_int_t)w.ended, "started", (json_int_t)(w.started_us / USEC_PER_SEC), "loaded",
	    (json_int_t)(w.conf_us / USEC_PER_SEC), "sessions", (int)open.sessions,
	    "sessions_before", (int)open.draining_sessions);
}

static json_t *
load_json(struct show *s)
{
	const struct load_rules *rules = &s->conf->rules.load;
	unsigned level = zone_load_level(s->zone, clock_mono_us());
	char value[LOAD_VALUE_MAX], mark[LOAD_VALUE_MAX];
	json_t *signals = json_array();
	struct zone_load l;

	zone_load_get(s->zone, &l);
	for (unsigned i = 0; i < LOAD_SIGNALS; i++) {
		enum load_signal g = (enum load_signal)i;

		if (!load_wants(rules, g))
			continue;
		json_array_append_new(signals,
		    json_pack("{ss ss ss sf}", "name", load_signal_name(g), "value",
			load_format(g, l.values[i], value), "mark",
			load_format(g,
			    rules->marks[i][0].high != 0 ? rules->marks[i][0].high
							 : rules->marks[i][1].high,
			    mark),
			"share",
			l.values[i] <= 0 ? 0.0
					 : (double)l.values[i] /
				(double)(rules->marks[i][0].high != 0 ? rules->marks[i][0].high
								      : rules->marks[i][1].high)));
	}
	return json_pack("{si ss sI so}", "level", (int)level, "signal",
	    level > 0 ? load_signal_name(l.signal) : "", "since",
	    (json_int_t)(l.since_us / USEC_PER_SEC), "signals", signals);
}

static json_t *
redis_json(struct show *s)
{
	int64_t counts[ZONE_LATENCIES];

	show_latencies(s, counts);
	return json_pack("{sb sb sI sI sI sI}", "used", s->conf->use_redis, "gone",
	    s->conf->use_redis && zone_breaker_open(s->zone), "since",
	    (json_int_t)(zone_breaker_since(s->zone) / USEC_PER_SEC), "lost",
	    (json_int_t)zone_stat(s->zone, ZONE_REDIS_LOST), "p50_us",
	    (json_int_t)zone_latency_quantile(counts, 0.50), "p99_us",
	    (json_int_t)zone_latency_quantile(counts, 0.99));
}

static json_t *
memory_json(struct show *s)
{
	struct zone_usage use;
	json_t *kinds = json_object();
	int64_t all = 0;

	zone_usage_get(s->zone, &use);
	for (unsigned u = 0; u < USES; u++) {
		all += use.entries[u];
		json_object_set_new(kinds, zone_use_name((enum zone_use)u), whole(use.entries[u]));
	}
	return json_pack("{sI sI sI so}", "entries", (json_int_t)all, "most", (json_int_t)use.most,
	    "evictions", (json_int_t)use.evictions, "kinds", kinds);
}

static json_t *
grey_json(struct show *s, const struct ruleset *r)
{
	json_t *out = json_object();

	json_object_set_new(out, "enabled", json_boolean(r->greylist.enabled));
	for (unsigned i = GREY_NONE + 1; i < WATCH_GREYS; i++)
		json_object_set_new(
		    out, grey_state_name((enum grey_state)i), whole(s->counts.grey[i]));
	return out;
}

/* Sixty numbers of each kind; of limits only those that refused somebody. */
static json_t *
hour_json(struct show *s, int64_t now_us)
{
	static struct watch_minute hour[WATCH_MINUTES];
	json_t *accepted = json_array(), *held = json_array(), *other = json_array(),
	       *limits = json_object();

	zone_watch_hour(s->zone, now_us, hour);
	for (unsigned m = 0; m < WATCH_MINUTES; m++) {
		json_array_append_new(accepted, whole(hour[m].accepted));
		json_array_append_new(held, whole(hour[m].held));
		json_array_append_new(other, whole(hour[m].other));
	}
	for (unsigned i = 1; i < WATCH_SLOTS; i++) {
		json_t *counts = json_object_get(limits, s->counts.limits[i]);
		int64_t sum = 0;

		for (unsigned m = 0; m < WATCH_MINUTES; m++)
			sum += hour[m].limits[i];
		if (sum == 0)
			continue;
		if (counts == NULL) {
			counts = json_array();
			for (unsigned m = 0; m < WATCH_MINUTES; m++)
				json_array_append_new(counts, whole(0));
			json_object_set_new(limits, s->counts.limits[i], counts);
		}
		for (unsigned m = 0; m < WATCH_MINUTES; m++) {
			json_t *n = json_array_get(counts, m);

			json_integer_set(n, json_integer_value(n) + (json_int_t)hour[m].limits[i]);
		}
	}
	return json_pack("{sI so so so so}", "minute", (json_int_t)(now_us / USEC_PER_SEC / 60),
	    "accepted", accepted, "held", held, "other", other, "limits", limits);
}

/* --- limits, and who is nearest to each ------------------------------------------------------------- */

struct nearest {
	char limit[LIMIT_NAME_MAX + 1], who[RECORD_KEY_MAX];
	double used;
	int64_t of;
};

static struct {
	int64_t at_us; /* monotonic; 0 = never */
	unsigned n;
	struct nearest nearest[LIMITS_MAX];
} fullest;

static void
take_counter(const struct why_counter *c)
{
	struct nearest *to = NULL;

	for (unsigned i = 0; i < fullest.n && to == NULL; i++)
		if (strcmp(fullest.nearest[i].limit, c->limit->name) == 0)
			to = &fullest.nearest[i];
	if (c->used <= 0 || c->of <= 0 ||
	    (to != NULL && c->used / (double)c->of <= to->used / (double)to->of) ||
	    (to == NULL && fullest.n == LIMITS_MAX))
		return;
	if (to == NULL)
		to = &fullest.nearest[fullest.n++];
	strcpy(to->limit, c->limit->name);
	strcpy(to->who, c->who);
	to->used = c->used;
	to->of = c->of;
}

static void
find_fullest(struct show *s, const struct ruleset *r)
{
	static struct top_entry top[FULLEST_OF];
	static struct why w;
	int64_t now = clock_mono_us();

	if (fullest.at_us != 0 && now - fullest.at_us < FULLEST_EVERY_US)
		return;
	fullest.at_us = now;
	fullest.n = 0;
	for (int by_all = 0; by_all < 2; by_all++) {
		unsigned n = zone_top_get(
		    s->zone, TOP_ADDRESSES, by_all == 1, clock_real_us(), top, FULLEST_OF);

		for (unsigned i = 0; i < n; i++) {
			why_client(s, r, &top[i].who.base, top[i].confirmed ? top[i].name : "", &w);
			for (unsigned k = 0; k < w.ncounters; k++)
				take_counter(&w.counters[k]);
		}
	}
}

static json_t *
limit_json(const struct limit *l)
{
	char figures[LIMIT_FIGURES_MAX];
	json_t *near = json_null();

	for (unsigned i = 0; i < fullest.n; i++) {
		const struct nearest *f = &fullest.nearest[i];

		if (strcmp(f->limit, l->name) == 0)
			near = json_pack("{so sf sI}", "who", text(f->who), "used", f->used, "of",
			    (json_int_t)f->of);
	}
	return json_pack("{ss sb ss ss ss ss ss so}", "name", l->name, "enabled", l->enabled,
	    "count", limit_count_name(l->count), "per", limit_per_name(l->per), "for",
	    limit_for_name(l->whom), "figures", limit_figures(l, 1, figures), "action",
	    limit_action_name(l->action), "fullest", near);
}

static json_t *
limits_json(const struct ruleset *r)
{
	json_t *out = json_array();

	for (unsigned i = 0; i < r->nlimits; i++)
		json_array_append_new(out, limit_json(&r->limits[i]));
	return out;
}

/* --- nodes ------------------------------------------------------------------------------------------- */

static void
take_field(void *ctx, const char *node, const char *field, const char *value)
{
	static const char *const shown[] = {"version", "mode", "generation", "started", "workers",
	    "sessions", "drain", "decisions_per_s", "refused_per_s", "load_level", "p50_us",
	    "p99_us", "breaker_opened"};
	json_t *nodes = ctx, *last = json_array_get(nodes, json_array_size(nodes) - 1);
	char name[LOG_VALUE_MAX];

	log_escape(node, name, sizeof name);
	if (last == NULL || strcmp(json_string_value(json_object_get(last, "node")), name) != 0) {
		last = json_pack("{ss}", "node", name);
		json_array_append_new(nodes, last);
	}
	for (size_t i = 0; i < sizeof shown / sizeof shown[0]; i++)
		if (strcmp(field, shown[i]) == 0)
			json_object_set_new(last, shown[i], text(value));
}

/* null: nobody can tell. */
static json_t *
nodes_json(struct show *s)
{
	static json_t *nodes;
	static int64_t at_us;
	int64_t now = clock_mono_us();

	if (!s->conf->use_redis || zone_breaker_open(s->zone))
		return json_null();
	if (nodes == NULL || now - at_us >= NODES_EVERY_US) {
		json_decref(nodes);
		nodes = json_array();
		at_us = now;
		if (!nodes_read(&s->conf->redis, NODES_TIMEOUT_US, take_field, nodes)) {
			json_decref(nodes);
			nodes = json_null();
		}
	}
	return json_incref(nodes);
}

/* --- /api --------------------------------------------------------------------------------------------- */

void
dash_now(void *ctx, const struct http_request *q, struct http_reply *a)
{
	struct show *s = ctx;
	int64_t now = clock_real_us(), until = zone_drain_until(s->zone);
	const struct ruleset *r = snapshot_get(s->snapshots, now);

	(void)q;
	zone_watch_get(s->zone, &s->counts);
	zone_watch_note(s->zone, &s->counts, now);
	find_fullest(s, r);
	put_json(a,
	    json_pack("{ss so so sI ss sb so so so so so so so so}", "version", PACKAGE_VERSION,
		"node", text(s->node), "generation", text(r->generation), "now",
		(json_int_t)(now / USEC_PER_SEC), "mode", r->observe ? "observe" : "enforce",
		"maintenance", until > now, "workers", workers_json(s), "load", load_json(s),
		"redis", redis_json(s), "memory", memory_json(s), "greylist", grey_json(s, r),
		"hour", hour_json(s, now), "limits", limits_json(r), "nodes", nodes_json(s)));
	snapshot_put(s->snapshots, r);
}

static json_t *
entry_json(const struct top_entry *e)
{
	char who[NET_TEXT_MAX];

	return json_pack("{ss so sb sI sI sI sI sI ss ss}", "who", net_format(&e->who, who), "name",
	    text(e->name), "confirmed", e->confirmed, "decisions", (json_int_t)e->decisions,
	    "refused", (json_int_t)e->refused, "held", (json_int_t)e->held, "error",
	    (json_int_t)e->error, "last", (json_int_t)(e->last_us / USEC_PER_SEC), "reason",
	    reason_name(e->reason), "limit", e->limit);
}

static json_t *
top_json(struct show *s, enum top_kind kind, bool by_all)
{
	static struct top_entry top[TOP_ROWS];
	unsigned n = zone_top_get(s->zone, kind, by_all, clock_real_us(), top, TOP_ROWS);
	json_t *out = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(out, entry_json(&top[i]));
	return out;
}

void
dash_top(void *ctx, const struct http_request *q, struct http_reply *a)
{
	struct show *s = ctx;
	char by[16];
	bool by_all = http_parameter(q->query, "by", by, sizeof by) && strcmp(by, "all") == 0;

	put_json(a,
	    json_pack("{ss so so}", "by", by_all ? "all" : "refused", "addresses",
		top_json(s, TOP_ADDRESSES, by_all), "networks", top_json(s, TOP_NETWORKS, by_all)));
}

/* Those of the busiest that are in it. */
static json_t *
members_json(struct show *s, const struct net *n)
{
	static struct top_entry top[1024];
	unsigned found = zone_top_get(s->zone, TOP_ADDRESSES, true, clock_real_us(), top, 1024);
	json_t *out = json_array();

	for (unsigned i = 0; i < found && json_array_size(out) < TOP_ROWS; i++)
		if (net_contains(n, &top[i].who.base) && top[i].who.bits > n->bits)
			json_array_append_new(out, entry_json(&top[i]));
	return out;
}

void
dash_why(void *ctx, const struct http_request *q, struct http_reply *a)
{
	static struct why w;
	struct show *s = ctx;
	char client[NET_TEXT_MAX], name[256];
	const struct ruleset *r;
	struct net n;
	json_t *out;

	if (!http_parameter(q->query, "client", client, sizeof client) || !net_parse(client, &n)) {
		a->status = 400;
		put_json(a, json_pack("{ss}", "error", "client= is an address or a network"));
		return;
	}
	if (!http_parameter(q->query, "name", name, sizeof name))
		name[0] = '\0';
	r = snapshot_get(s->snapshots, clock_real_us());
	why_client(s, r, &n.base, name, &w);
	out = why_json(&w);
	if (out != NULL) {
		json_object_set_new(out, "client", json_string(net_format(&n, client)));
		json_object_set_new(out, "generation", text(r->generation));
		json_object_set_new(out, "members", members_json(s, &n));
	}
	put_json(a, out);
	snapshot_put(s->snapshots, r);
}
