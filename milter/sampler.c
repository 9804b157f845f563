/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sampler.c - see sampler.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "host.h"
#include "log.h"
#include "queue_count.h"
#include "sampler.h"

#define TICK_US (200 * USEC_PER_MSEC)
/* What jumps from moment to moment is told over so long. */
#define WINDOW 3 /* seconds */
#define TICKS_WINDOW (WINDOW * USEC_PER_SEC / TICK_US)
/* That a signal is not there is said so often at most. */
#define SAY_EVERY_US (3600 * USEC_PER_SEC)

/* Microseconds of stalls, a second apart. */
struct stalls {
	unsigned n;
	int64_t at_us[WINDOW + 1], total[WINDOW + 1]; /* the newest first */
};

struct sampler {
	const struct conf *conf;
	const struct load_rules *rules;
	struct zone *zone;
	struct load load;
	int64_t tick_us, second_us; /* when due, monotonic */
	long cores;
	int64_t values[LOAD_SIGNALS];
	bool gone[LOAD_SIGNALS]; /* not there when last looked at */
	int64_t said_us[LOAD_SIGNALS]; /* 0 = never */
	unsigned nrunning, at; /* a ring */
	int64_t running[TICKS_WINDOW];
	struct stalls stalls[3];
	int64_t latencies[WINDOW][ZONE_LATENCIES]; /* counts of before, the newest first */
	struct queue_count queue;
};

/* --- what is not there --------------------------------------------------------------------------- */

static void
missing(struct sampler *s, enum load_signal signal, const char *why, int64_t now)
{
	s->values[signal] = LOAD_MISSING;
	if (!s->gone[signal] &&
	    (s->said_us[signal] == 0 || now - s->said_us[signal] >= SAY_EVERY_US)) {
		s->said_us[signal] = now;
		log_line(LOG_WARNING, "load: no %s (%s): going on without it",
		    load_signal_name(signal), why);
	}
	s->gone[signal] = true;
}

static void
measured(struct sampler *s, enum load_signal signal, int64_t value)
{
	s->gone[signal] = false;
	s->values[signal] = value;
}

/* --- one function a signal ------------------------------------------------------------------------- */

static void
sample_sessions(struct sampler *s)
{
	struct zone_open open;

	zone_open_get(s->zone, &open);
	measured(s, LOAD_SESSIONS, (int64_t)open.sessions * 1000);
}

static void
sample_run_queue(struct sampler *s, int64_t now)
{
	char why[128];
	int64_t n, sum = 0;

	if (!host_running("/proc", &n, why, sizeof why)) {
		missing(s, LOAD_RUN_QUEUE, why, now);
		return;
	}
	s->running[s->at] = n;
	s->at = (s->at + 1) % TICKS_WINDOW;
	if (s->nrunning < TICKS_WINDOW)
		s->nrunning++;
	for (unsigned i = 0; i < s->nrunning; i++)
		sum += s->running[i];
	measured(s, LOAD_RUN_QUEUE, sum * 1000 / (s->nrunning * s->cores));
}

static void
sample_stalls(struct sampler *s, enum load_signal signal, enum host_resource r, int64_t now)
{
	struct stalls *t = &s->stalls[r];
	char why[128];
	int64_t total, span;

	if (!host_stalled("/proc", r, &total, why, sizeof why)) {
		missing(s, signal, why, now);
		t->n = 0;
		return;
	}
	memmove(t->at_us + 1, t->at_us, WINDOW * sizeof t->at_us[0]);
	memmove(t->total + 1, t->total, WINDOW * sizeof t->total[0]);
	t->at_us[0] = now;
	t->total[0] = total;
	if (t->n <= WINDOW)
		t->n++;
	if (t->n < 2)
		return; /* it takes two */
	span = now - t->at_us[t->n - 1];
	total -= t->total[t->n - 1];
	if (total > span) /* the two were not read in the same moment */
		total = span;
	measured(s, signal, span > 0 && total > 0 ? total * 100000 / span : 0);
}

/* While nobody asks, Redis is not slow. */
static void
sample_latency(struct sampler *s, int64_t now)
{
	int64_t counts[ZONE_LATENCIES], since[ZONE_LATENCIES];

	if (!s->conf->use_redis) {
		missing(s, LOAD_REDIS_LATENCY, "there is no redis section", now);
		return;
	}
	zone_latencies(s->zone, counts);
	for (unsigned i = 0; i < ZONE_LATENCIES; i++)
		since[i] = counts[i] - s->latencies[WINDOW - 1][i];
	memmove(s->latencies[1], s->latencies[0], (WINDOW - 1) * sizeof s->latencies[0]);
	memcpy(s->latencies[0], counts, sizeof counts);
	measured(s, LOAD_REDIS_LATENCY, zone_latency_quantile(since, 0.95));
}

static void
sample_queue(struct sampler *s, int64_t now)
{
	if (!queue_count_tick(&s->queue, now))
		return;
	if (s->queue.messages < 0)
		missing(s, LOAD_QUEUE, s->queue.why, now);
	else
		measured(s, LOAD_QUEUE, s->queue.messages * 1000);
}

/* --- the level ----------------------------------------------------------------------------------- */

static void
log_change(const struct sampler *s, unsigned was)
{
	static const char *const whom[] = {"nobody", "strangers", "all"};
	const struct load *l = &s->load;
	char value[LOAD_VALUE_MAX], mark[LOAD_VALUE_MAX];

	log_line(LOG_NOTICE, "load: level=%u was=%u signal=%s value=%s mark=%s refuses=%s%s",
	    l->level, was, load_signal_name(l->signal), load_format(l->signal, l->value, value),
	    load_format(l->signal, l->mark, mark), whom[l->level],
	    s->conf->rules.observe ? " mode=observe" : "");
}

static void
publish(struct sampler *s, int64_t now)
{
	const struct load *l = &s->load;
	struct zone_load z = {.level = l->level,
	    .own = l->own,
	    .signal = l->signal,
	    .value = l->value,
	    .mark = l->mark,
	    .since_us = clock_real_us() - (now - l->since_us)};

	memcpy(z.values, s->values, sizeof z.values);
	zone_load_set(s->zone, &z, now);
}

static void
sample_second(struct sampler *s, int64_t now)
{
	const struct load_rules *r = s->rules;

	if (load_wants(r, LOAD_PSI_CPU))
		sample_stalls(s, LOAD_PSI_CPU, HOST_CPU, now);
	if (load_wants(r, LOAD_PSI_MEMORY))
		sample_stalls(s, LOAD_PSI_MEMORY, HOST_MEMORY, now);
	if (load_wants(r, LOAD_PSI_IO))
		sample_stalls(s, LOAD_PSI_IO, HOST_IO, now);
	if (load_wants(r, LOAD_REDIS_LATENCY))
		sample_latency(s, now);
	/* that Redis is silent is said elsewhere */
	if (load_wants(r, LOAD_NEIGHBOURS) && s->conf->use_redis)
		s->values[LOAD_NEIGHBOURS] = zone_neighbours_share(s->zone, now);
	else if (load_wants(r, LOAD_NEIGHBOURS))
		missing(s, LOAD_NEIGHBOURS, "there is no redis section", now);
}

void
sampler_tick(struct sampler *s)
{
	int64_t now = clock_mono_us();
	unsigned was;

	if (s == NULL || now < s->tick_us)
		return;
	s->tick_us = now + TICK_US;
	if (load_wants(s->rules, LOAD_SESSIONS))
		sample_sessions(s);
	if (load_wants(s->rules, LOAD_RUN_QUEUE))
		sample_run_queue(s, now);
	/* its child is looked after more often than once a second */
	if (load_wants(s->rules, LOAD_QUEUE))
		sample_queue(s, now);
	if (now >= s->second_us) {
		s->second_us = now + USEC_PER_SEC;
		sample_second(s, now);
	}
	was = s->load.level;
	if (load_update(&s->load, s->rules, s->values, zone_stat(s->zone, ZONE_SHED), now))
		log_change(s, was);
	publish(s, now);
}

int
sampler_wait_ms(const struct sampler *s, int most)
{
	int ms;

	if (s == NULL)
		return most;
	ms = clock_poll_ms(s->tick_us);
	return most >= 0 && most < ms ? most : ms;
}

struct sampler *
sampler_new(const struct conf *conf, struct zone *zone)
{
	static const struct zone_load none;
	struct sampler *s;
	struct zone_load before;

	if (!load_wanted(&conf->rules.load)) {
		/* not what it was before a reload */
		zone_load_set(zone, &none, 0);
		return NULL;
	}
	s = calloc(1, sizeof *s);
	if (s == NULL) {
		log_line(LOG_ERR, "load: out of memory: the level stays 0");
		return NULL;
	}
	s->conf = conf;
	s->rules = &conf->rules.load;
	s->zone = zone;
	s->cores = sysconf(_SC_NPROCESSORS_ONLN);
	if (s->cores < 1)
		s->cores = 1;
	for (unsigned i = 0; i < LOAD_SIGNALS; i++)
		s->values[i] = LOAD_MISSING;
	for (unsigned i = 0; i < WINDOW; i++)
		zone_latencies(zone, s->latencies[i]);
	queue_count_init(&s->queue, conf);
	/* a zone that came with a reload has a level already */
	zone_load_get(zone, &before);
	if (zone_load_level(zone, clock_mono_us()) > 0)
		load_resume(&s->load, before.level, before.signal, clock_mono_us());
	return s;
}

void
sampler_free(struct sampler **s)
{
	if (*s != NULL)
		queue_count_end(&(*s)->queue);
	free(*s);
	*s = NULL;
}
