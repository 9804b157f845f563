/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * show.c - see show.h.
 */
#include <errno.h>
#include <event2/event.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "dash.h"
#include "http.h"
#include "log.h"
#include "metrics.h"
#include "show.h"

/* A request under way when the master goes has so long. */
#define LEAVE_US (500 * USEC_PER_MSEC)
#define LEAVE_LOOK_US (5 * USEC_PER_MSEC)

static struct {
	struct show show;
	struct http *http;
	struct event_base *base;
	struct event *tick, *leave;
	int64_t leave_us; /* 0 = not yet */
} self;

/* --- the zone and Redis ------------------------------------------------------------------------ */

static void
shift_latencies(struct show *s, int64_t now)
{
	if (s->latencies_us != 0 && now - s->latencies_us < 10 * USEC_PER_SEC)
		return;
	if (s->latencies_us == 0)
		for (unsigned i = 0; i < SHOW_LATENCIES; i++)
			zone_latencies(s->zone, s->latencies[i]);
	memmove(s->latencies[1], s->latencies[0], (SHOW_LATENCIES - 1) * sizeof s->latencies[0]);
	zone_latencies(s->zone, s->latencies[0]);
	s->latencies_us = now;
}

void
show_latencies(struct show *s, int64_t out[ZONE_LATENCIES])
{
	zone_latencies(s->zone, out);
	for (unsigned i = 0; i < ZONE_LATENCIES; i++)
		out[i] -= s->latencies[SHOW_LATENCIES - 1][i];
}

/* The limits in force, as a worker that has no session to serve learns of them. */
static void
refresh(struct show *s)
{
	int64_t now = clock_real_us();
	const struct ruleset *r = snapshot_get(s->snapshots, now);
	char generation[GENERATION_MAX + 1];

	strcpy(generation, r->generation);
	snapshot_put(s->snapshots, r);
	if (s->redis != NULL)
		(void)snapshot_refresh(s->snapshots, s->redis, generation,
		    clock_mono_us() + s->conf->redis.timeout_us, now);
}

bool
show_ask(struct show *s, struct request *q, struct answer *a)
{
	q->peek = true;
	q->deadline_us = clock_mono_us() + s->conf->redis.timeout_us;
	if (s->redis != NULL && store_ask(s->redis, q, 0, a) == STORE_OK)
		return true;
	if (store_ask(s->local, q, 0, a) != STORE_OK)
		return false;
	if (s->redis != NULL)
		a->source = ANSWER_ZONE;
	return true;
}

/* The workers say what there is to say of Redis. */
static void
on_notice(void *ctx, int priority, const char *line)
{
	(void)ctx;
	(void)priority;
	(void)line;
}

static bool
open_stores(struct show *s)
{
	s->snapshots = snapshots_new(&s->conf->rules, false);
	/* it only looks, so it needs no place of its own there */
	s->local = zone_store_open(s->zone, 0);
	if (s->snapshots == NULL || s->local == NULL)
		return false;
	if (!s->conf->use_redis)
		return true;
	s->own = zone_new(ZONE_SIZE_MIN, 1);
	if (s->own == NULL)
		return false;
	s->redis = redis_store_open(&s->conf->redis, s->own, 0, s->node, on_notice, NULL);
	return s->redis != NULL;
}

/* --- what can be asked for -------------------------------------------------------------------------- */

static void
on_metrics(void *ctx, const struct http_request *q, struct http_reply *a)
{
	struct show *s = ctx;
	const struct ruleset *r = snapshot_get(s->snapshots, clock_real_us());
	bool open = metrics_wants_open(q->accept);

	zone_watch_get(s->zone, &s->counts);
	a->type = open ? METRICS_TYPE_OPEN : METRICS_TYPE_PLAIN;
	metrics_write(a->body, open, s->conf, r, s->zone, &s->counts, clock_mono_us());
	snapshot_put(s->snapshots, r);
}

/* That it answers says that it lives; and it lives no longer than the master. */
static void
on_health(void *ctx, const struct http_request *q, struct http_reply *a)
{
	(void)ctx;
	(void)q;
	fputs("alive\n", a->body);
}

static void
on_ready(void *ctx, const struct http_request *q, struct http_reply *a)
{
	struct show *s = ctx;
	struct watch_workers w;

	(void)q;
	zone_watch_workers_get(s->zone, &w);
	if (!w.serving) {
		a->status = 503;
		fprintf(a->body, "not ready: no worker serves (%u of %u have started)\n", w.ready,
		    w.wanted);
	} else if (zone_drain_until(s->zone) > clock_real_us()) {
		a->status = 503;
		fputs("not ready: maintenance, new sessions are refused\n", a->body);
	} else
		fprintf(a->body, "ready: %u of %u workers%s\n", w.ready, w.wanted,
		    s->conf->use_redis && zone_breaker_open(s->zone)
			? ", without redis: by this host's memory"
			: "");
}

static const struct http_route routes[] = {
    {"/", dash_page},
    {"/api/now", dash_now},
    {"/api/top", dash_top},
    {"/api/why", dash_why},
    {"/metrics", on_metrics},
    {"/healthz", on_health},
    {"/readyz", on_ready},
    {NULL, NULL},
};

/* --- the loop ------------------------------------------------------------------------------------------ */

static void
on_tick(int fd, short what, void *ctx)
{
	struct show *s = ctx;

	(void)fd;
	(void)what;
	http_tick(self.http);
	zone_watch_get(s->zone, &s->counts);
	zone_watch_note(s->zone, &s->counts, clock_real_us());
	shift_latencies(s, clock_mono_us());
	if (s->redis != NULL)
		refresh(s);
	log_fold_flush(false);
}

static void
on_leave(int fd, short what, void *ctx)
{
	(void)fd;
	(void)what;
	(void)ctx;
	if (http_tick(self.http) == 0 || clock_mono_us() >= self.leave_us)
		_exit(EXIT_SUCCESS);
}

/* The master has closed it, or is no more. */
static void
on_control(int fd, short what, void *ctx)
{
	const struct timeval soon = {.tv_usec = LEAVE_LOOK_US};
	char word;

	(void)what;
	(void)ctx;
	if (read(fd, &word, 1) < 0 && (errno == EINTR || errno == EAGAIN))
		return;
	http_deaf(self.http);
	if (http_tick(self.http) == 0)
		_exit(EXIT_SUCCESS);
	self.leave_us = clock_mono_us() + LEAVE_US;
	event_add(self.leave, &soon);
}

static void
ignore_signals(void)
{
	static const int ignored[] = {SIGPIPE, SIGHUP, SIGTERM, SIGINT, SIGUSR1, SIGUSR2};
	sigset_t none;

	for (size_t i = 0; i < sizeof ignored / sizeof ignored[0]; i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

void
show_run(const struct show *given, int listen_fd, int control_fd)
{
	const struct timeval second = {.tv_sec = 1};
	struct show *s = &self.show;
	struct event *control = NULL;

	ignore_signals();
	*s = *given;
	self.base = event_base_new();
	if (self.base != NULL && open_stores(s)) {
		self.http =
		    http_new(self.base, listen_fd, socket_is_local(&s->conf->metrics), routes, s);
		self.tick = event_new(self.base, -1, EV_PERSIST, on_tick, s);
		self.leave = event_new(self.base, -1, EV_PERSIST, on_leave, s);
		control = event_new(self.base, control_fd, EV_READ, on_control, s);
	}
	if (self.http == NULL || self.tick == NULL || self.leave == NULL || control == NULL) {
		log_line(LOG_ERR, "metrics: cannot start: %s", strerror(errno));
		_exit(EXIT_FAILURE);
	}
	event_add(control, NULL);
	event_add(self.tick, &second);
	on_tick(-1, 0, s);
	(void)event_base_dispatch(self.base);
	_exit(EXIT_FAILURE);
}
