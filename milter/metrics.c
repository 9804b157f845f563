/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * metrics.c - see metrics.h. One function a family; names, units and what belongs into them are
 * told in doc/monitoring.md.
 */
#include <inttypes.h>
#include <string.h>

#include "clock.h"
#include "metrics.h"
#include "weir/units.h"

struct sheet {
	FILE *out;
	bool open; /* OpenMetrics */
	const struct conf *conf;
	const struct ruleset *rules;
	struct zone *zone;
	const struct watch_counts *counts;
	int64_t now_us;
};

bool
metrics_wants_open(const char *accept)
{
	return strstr(accept, "application/openmetrics-text") != NULL;
}

/* --- the form ---------------------------------------------------------------------------------- */

/* Of a counter OpenMetrics names the family without _total, the older format with it. */
static void
family(const struct sheet *s, const char *name, const char *type, const char *help)
{
	size_t len = strlen(name), cut = strcmp(type, "counter") == 0 && s->open ? 6 : 0;

	fprintf(s->out, "# HELP %.*s %s\n# TYPE %.*s %s\n", (int)(len - cut), name, help,
	    (int)(len - cut), name, type);
}

static void
number(const struct sheet *s, const char *type, const char *name, const char *help, int64_t value)
{
	family(s, name, type, help);
	fprintf(s->out, "%s %" PRId64 "\n", name, value);
}

/* What is kept in millionths of a unit or in microseconds. */
static void
millionths(const struct sheet *s, const char *name, const char *help, int64_t value)
{
	family(s, name, "gauge", help);
	fprintf(s->out, "%s %.6f\n", name, (double)value / 1e6);
}

/* --- the daemon ------------------------------------------------------------------------------------ */

static void
daemon_families(const struct sheet *s)
{
	struct watch_workers w;
	struct zone_open open;
	int64_t oldest, newest;

	zone_watch_workers_get(s->zone, &w);
	zone_open_get(s->zone, &open);
	family(s, "weir_build_info", "gauge", "The version of weir-milter.");
	fprintf(s->out, "weir_build_info{version=\"%s\"} 1\n", PACKAGE_VERSION);
	millionths(s, "weir_start_time_seconds",
	    "When weir-milter was started, since 1970; a reload does not change it.", w.started_us);
	millionths(s, "weir_config_load_time_seconds",
	    "When the configuration in force was read, since 1970.", w.conf_us);
	number(s, "gauge", "weir_mode_observe",
	    "1 while mode = observe: everything is decided, nothing is refused.",
	    s->rules->observe);
	number(s, "gauge", "weir_workers", "Workers that the configuration asks for.", w.wanted);
	number(s, "gauge", "weir_workers_ready", "Workers that serve.", w.ready);
	number(s, "gauge", "weir_workers_old",
	    "Workers of before a reload whose last sessions have not ended.", w.before);
	number(s, "counter", "weir_worker_failures_total",
	    "Workers that ended though nobody had told them to.", w.ended);
	number(s, "gauge", "weir_sessions_open", "SMTP sessions open now.", open.sessions);
	number(s, "gauge", "weir_sessions_old",
	    "SMTP sessions open in workers that take no new ones.", open.draining_sessions);
	number(s, "gauge", "weir_maintenance",
	    "1 while new sessions are refused by weirctl drain or by a signal.",
	    zone_drain_until(s->zone) > clock_real_us());
	if (!zone_watch_generations(s->zone, &oldest, &newest))
		return;
	number(s, "gauge", "weir_generation_oldest",
	    "The oldest generation of the limits in Redis that a worker goes by.", oldest);
	number(s, "gauge", "weir_generation_newest",
	    "The newest generation of the limits in Redis that a worker goes by.", newest);
}

/* --- decisions ---------------------------------------------------------------------------------------- */

/* What stands in for all slots of that name: the first of them. */
static bool
first_of_name(const struct watch_counts *c, unsigned slot)
{
	if (slot > 0 && c->limits[slot][0] == '\0')
		return false;
	for (unsigned i = 0; i < slot; i++)
		if (strcmp(c->limits[i], c->limits[slot]) == 0)
			return false;
	return true;
}

static enum reason
limit_reason(const struct limit *l)
{
	if (l->count == COUNT_SESSIONS)
		return REASON_SESSIONS;
	return l->quota != 0 ? REASON_QUOTA : REASON_RATE;
}

static enum stage
limit_stage(const struct limit *l)
{
	if (limit_at_connect(l))
		return STAGE_CONNECT;
	return l->count == COUNT_BYTES ? STAGE_EOM : STAGE_RCPT;
}

/* A series that is there before its first event: else that is lost for rate(). */
static bool
expected(const struct sheet *s, const char *limit, unsigned a, unsigned stage, unsigned reason)
{
	if (limit[0] == '\0') {
		if (a == DO_ACCEPT)
			return reason == REASON_OK &&
			    (stage == STAGE_CONNECT || stage == STAGE_RCPT);
		return s->rules->greylist.enabled && reason == REASON_GREYLIST &&
		    stage == STAGE_RCPT &&
		    a == (unsigned)(reply_closes(&s->rules->greylist.reply) ? DO_REFUSE : DO_DEFER);
	}
	for (unsigned i = 0; i < s->rules->nlimits; i++) {
		const struct limit *l = &s->rules->limits[i];

		if (strcmp(l->name, limit) == 0 && l->enabled && l->action != ACTION_LOG)
			return a == (unsigned)(reply_closes(&l->reply) ? DO_REFUSE : DO_DEFER) &&
			    stage == (unsigned)limit_stage(l) &&
			    reason == (unsigned)limit_reason(l);
	}
	return false;
}

static void
decision(const struct sheet *s, const char *limit, unsigned a, unsigned stage, unsigned reason,
    int64_t n)
{
	if (n > 0 || expected(s, limit, a, stage, reason))
		fprintf(s->out,
		    "weir_decisions_total{action=\"%s\",reason=\"%s\",limit=\"%s\",stage=\"%s\"} "
		    "%" PRId64 "\n",
		    action_name((enum action)a), reason_name((enum reason)reason), limit,
		    stage_name((enum stage)stage), n);
}

static void
decisions_of(const struct sheet *s, const char *limit, const unsigned *slots, unsigned nslots)
{
	for (unsigned a = 0; a < WATCH_ACTIONS; a++)
		for (unsigned g = 0; g < WATCH_STAGES; g++)
			for (unsigned r = 0; r < WATCH_REASONS; r++) {
				int64_t n = 0;

				for (unsigned i = 0; i < nslots; i++)
					n += s->counts->decisions[slots[i]][a][g][r];
				decision(s, limit, a, g, r, n);
			}
}

static unsigned
slots_of(const struct watch_counts *c, const char *limit, unsigned out[WATCH_SLOTS])
{
	unsigned n = 0;

	for (unsigned i = limit[0] != '\0'; i < WATCH_SLOTS; i++)
		if (strcmp(c->limits[i], limit) == 0) {
			out[n++] = i;
			if (limit[0] == '\0')
				break;
		}
	return n;
}

static void
decision_families(const struct sheet *s)
{
	const struct watch_counts *c = s->counts;
	unsigned slots[WATCH_SLOTS];

	family(s, "weir_decisions_total", "counter",
	    "Verdicts, by what became of it, why, the limit that fired and where in the session.");
	for (unsigned i = 0; i < WATCH_SLOTS; i++)
		if (first_of_name(c, i))
			decisions_of(s, c->limits[i], slots, slots_of(c, c->limits[i], slots));
	/* limits that have not fired yet have no slot */
	for (unsigned i = 0; i < s->rules->nlimits; i++)
		if (slots_of(c, s->rules->limits[i].name, slots) == 0)
			decisions_of(s, s->rules->limits[i].name, slots, 0);
	family(s, "weir_shadow_hits_total", "counter",
	    "Times that a limit with action=log was exceeded.");
	for (unsigned i = 1; i < WATCH_SLOTS; i++)
		for (unsigned g = 0; first_of_name(c, i) && g < WATCH_STAGES; g++) {
			unsigned n = slots_of(c, c->limits[i], slots);
			int64_t sum = 0;

			for (unsigned k = 0; k < n; k++)
				sum += c->shadows[slots[k]][g];
			if (sum > 0)
				fprintf(s->out,
				    "weir_shadow_hits_total{limit=\"%s\",stage=\"%s\"} %" PRId64
				    "\n",
				    c->limits[i], stage_name((enum stage)g), sum);
		}
	family(s, "weir_answers_total", "counter",
	    "Decisions that counters had a part in, by where these were.");
	for (unsigned i = 0; i < WATCH_SOURCES; i++)
		fprintf(s->out, "weir_answers_total{source=\"%s\"} %" PRId64 "\n",
		    answer_source_name((enum answer_source)i), c->sources[i]);
	family(s, "weir_greylist_total", "counter",
	    "Questions to greylisting, by what it found; new, early and embargo were held back.");
	for (unsigned i = GREY_NONE + 1; i < WATCH_GREYS; i++)
		fprintf(s->out, "weir_greylist_total{state=\"%s\"} %" PRId64 "\n",
		    grey_state_name((enum grey_state)i), c->grey[i]);
}

/* --- load ------------------------------------------------------------------------------------------------ */

static void
signal_family(const struct sheet *s, enum load_signal signal, const char *name, double unit,
    const char *help, const struct zone_load *l)
{
	int64_t value = l->values[signal];

	if (!load_wants(&s->conf->rules.load, signal) || value == LOAD_MISSING)
		return;
	family(s, name, "gauge", help);
	fprintf(s->out, "%s %.6g\n", name, (double)value * unit);
}

static void
load_families(const struct sheet *s)
{
	static const struct {
		enum load_signal signal;
		const char *label;
	} stalls[] = {{LOAD_PSI_CPU, "cpu"}, {LOAD_PSI_MEMORY, "memory"}, {LOAD_PSI_IO, "io"}};
	struct zone_load l;
	bool any = false;

	zone_load_get(s->zone, &l);
	number(s, "gauge", "weir_load_level",
	    "0 normal, 1 strangers are refused at connect, 2 all but the exempt are.",
	    zone_load_level(s->zone, s->now_us));
	/* all are kept in thousandths of what people read */
	signal_family(s, LOAD_SESSIONS, "weir_load_sessions", 1e-3,
	    "Signal sessions: SMTP sessions open.", &l);
	signal_family(s, LOAD_RUN_QUEUE, "weir_load_run_queue", 1e-3,
	    "Signal run-queue: processes that run or could, for each core.", &l);
	for (size_t i = 0; i < sizeof stalls / sizeof stalls[0]; i++) {
		int64_t value = l.values[stalls[i].signal];

		if (!load_wants(&s->conf->rules.load, stalls[i].signal) || value == LOAD_MISSING)
			continue;
		if (!any)
			family(s, "weir_load_pressure_ratio", "gauge",
			    "Signals psi: share of the time in which something waited for it.");
		any = true;
		fprintf(s->out, "weir_load_pressure_ratio{resource=\"%s\"} %.6g\n", stalls[i].label,
		    (double)value * 1e-5);
	}
	signal_family(s, LOAD_REDIS_LATENCY, "weir_load_redis_latency_seconds", 1e-6,
	    "Signal redis-latency: the 95th of 100 round trips of the last seconds.", &l);
	signal_family(s, LOAD_QUEUE, "weir_load_queue_messages", 1e-3,
	    "Signal queue: messages in the queue of the MTA.", &l);
	signal_family(s, LOAD_NEIGHBOURS, "weir_load_neighbours_ratio", 1e-5,
	    "Signal neighbours: share of all weir-milters that ask for a level themselves.", &l);
}

/* --- Redis and the zone ---------------------------------------------------------------------------------- */

/* Our classes are four for each power of two; a scrape has one. */
static void
histogram(const struct sheet *s)
{
	int64_t counts[ZONE_LATENCIES], seen = 0, end = 0;
	const char *name = "weir_redis_round_trip_seconds";

	zone_latencies(s->zone, counts);
	family(s, name, "histogram", "How long Redis took to answer, or not to.");
	for (unsigned i = 0; i < ZONE_LATENCIES; i++) {
		end = zone_latency_end(i);
		seen += counts[i];
		if ((end & (end - 1)) == 0 && end >= 32 && end <= 1 << 20)
			fprintf(s->out, "%s_bucket{le=\"%.6f\"} %" PRId64 "\n", name,
			    (double)end / 1e6, seen);
	}
	fprintf(s->out, "%s_bucket{le=\"+Inf\"} %" PRId64 "\n%s_sum %.6f\n%s_count %" PRId64 "\n",
	    name, seen, name, (double)zone_latency_sum(s->zone) / 1e6, name, seen);
}

static void
redis_families(const struct sheet *s)
{
	if (!s->conf->use_redis)
		return;
	number(s, "gauge", "weir_redis_breaker_open",
	    "1 while Redis is taken for gone, and this host decides by its own memory.",
	    zone_breaker_open(s->zone));
	number(s, "counter", "weir_redis_breaker_openings_total",
	    "Times that Redis was taken for gone.", zone_stat(s->zone, ZONE_REDIS_LOST));
	millionths(s, "weir_redis_breaker_last_opening_time_seconds",
	    "When that was last, since 1970; 0 = never.", zone_stat(s->zone, ZONE_REDIS_LOST_AT));
	histogram(s);
}

static void
zone_families(const struct sheet *s)
{
	struct zone_usage use;

	zone_usage_get(s->zone, &use);
	number(s, "gauge", "weir_zone_size_bytes", "The size of the table of counters (zone-size).",
	    zone_size(s->zone));
	family(s, "weir_zone_entries", "gauge",
	    "Entries in the table, expired ones included, estimated from some pages of it.");
	for (unsigned u = 0; u < USES; u++)
		fprintf(s->out, "weir_zone_entries{kind=\"%s\"} %" PRId64 "\n",
		    zone_use_name((enum zone_use)u), use.entries[u]);
	number(s, "gauge", "weir_zone_entries_limit", "Entries that there is room for.", use.most);
	number(s, "counter", "weir_zone_evictions_total",
	    "Entries that still counted and had to make room: the zone is too small.",
	    use.evictions);
}

void
metrics_write(FILE *out, bool open, const struct conf *conf, const struct ruleset *r,
    struct zone *z, const struct watch_counts *c, int64_t now_us)
{
	const struct sheet s = {.out = out,
	    .open = open,
	    .conf = conf,
	    .rules = r,
	    .zone = z,
	    .counts = c,
	    .now_us = now_us};

	daemon_families(&s);
	decision_families(&s);
	load_families(&s);
	redis_families(&s);
	zone_families(&s);
	if (open)
		fputs("# EOF\n", out);
}
