/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scout.c - see scout.h.
 *
 * It asks once a second, more often while something is wrong, and at once when a question was
 * told that things have moved. Asking costs one small command. It is not necessary to subscribe
 * to what sentinels tell: a master that is replaced makes questions fail, and that wakes the scout.
 */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "scout.h"
#include "thread.h"
#include "wire.h"

/* The first look may take so long before the store is open without an answer. */
#define FIRST_LOOK_US (500 * USEC_PER_MSEC)
#define LOOK_EVERY_US USEC_PER_SEC
#define LOOK_AGAIN_US (100 * USEC_PER_MSEC) /* while something is wrong */
/* However often it is woken. */
#define LOOK_REST_US (20 * USEC_PER_MSEC)
/* One that does not answer is not waited for any longer, whatever the questions' time-out. */
#define LOOK_PATIENCE_US (200 * USEC_PER_MSEC)
#define SAY_EVERY_US (600 * USEC_PER_SEC)

struct scout {
	const struct site *site;
	struct redis_options options; /* with the password that the asked want */
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t looked; /* the first look is over */
	bool first_over;
	int wake_fd;
	atomic_bool woken, stop;
	/* from here on the thread's alone */
	struct target *places[REDIS_PLACES_MAX]; /* as configured */
	struct target *at; /* whom the wire leads to; NULL: nobody */
	unsigned turn; /* who is asked next */
	unsigned unserved; /* slots, when last said */
	struct wire wire;
	struct slot_map map;
};

/* --- asking ------------------------------------------------------------------------------- */

/* Whom to ask: those that were configured, and the nodes that were learnt. */
static struct target *
candidate(const struct scout *s, unsigned i)
{
	const struct topology *t = s->site->topology;
	unsigned n = s->site->options.kind == REDIS_CLUSTER ? topology_nodes(t) : 0;

	/* learnt ones first: a configured one may have been gone for years */
	return i < n ? topology_target(t, i) : s->places[i - n];
}

static unsigned
candidates(const struct scout *s)
{
	const struct site *site = s->site;

	return site->options.nplaces +
	    (site->options.kind == REDIS_CLUSTER ? topology_nodes(site->topology) : 0);
}

/* One command over the wire, which leads to s->at. */
static redisReply *
call(struct scout *s, int argc, const char **argv)
{
	char *cmd;
	int len = redisFormatCommandArgv(&cmd, argc, argv, NULL);
	redisReply *r = NULL;

	if (len < 0)
		return NULL;
	if (wire_push(&s->wire, cmd, (size_t)len))
		r = wire_wait(&s->wire, clock_mono_us() + LOOK_PATIENCE_US, &s->stop);
	redisFreeCommand(cmd);
	return r;
}

static bool
take_master(struct scout *s, const redisReply *r)
{
	struct redis_place p;
	char text[REDIS_PLACE_TEXT_MAX];

	if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0] == NULL ||
	    r->element[0]->type != REDIS_REPLY_STRING || r->element[1] == NULL ||
	    r->element[1]->type != REDIS_REPLY_STRING || r->element[0]->len > REDIS_HOST_MAX ||
	    r->element[1]->len > 5)
		return false;
	snprintf(text, sizeof text, "%s:%s", r->element[0]->str, r->element[1]->str);
	if (!slot_map_place(text, strlen(text), "", &p))
		return false;
	topology_found(s->site->topology, &p);
	return true;
}

static bool
take_map(struct scout *s, const redisReply *r)
{
	char host[REDIS_HOST_MAX + 1];

	if (r->type != REDIS_REPLY_STRING)
		return false;
	target_host(s->at, host);
	if (!slot_map_read(&s->map, r->str, r->len, host))
		return false;
	topology_apply(s->site->topology, &s->map);
	return true;
}

/* Asks the one that the wire leads to. */
static bool
ask(struct scout *s)
{
	const char *master[] = {"SENTINEL", "get-master-addr-by-name", s->site->options.master};
	const char *nodes[] = {"CLUSTER", "NODES"};
	bool cluster = s->site->options.kind == REDIS_CLUSTER, ok;
	redisReply *r = cluster ? call(s, 2, nodes) : call(s, 3, master);

	if (r == NULL)
		return false;
	ok = cluster ? take_map(s, r) : take_master(s, r);
	freeReplyObject(r);
	return ok;
}

/* Asks one after another until one has an answer. again: not the one that was asked last, who
 * may be the one that is wrong. */
static bool
look(struct scout *s, bool again)
{
	unsigned n = candidates(s);

	if (wire_is_open(&s->wire) && !again && s->wire.place == target_place(s->at) && ask(s))
		return true;
	for (unsigned i = 0; i < n && !atomic_load(&s->stop); i++) {
		s->at = candidate(s, s->turn++ % n);
		target_refresh(s->at);
		if (wire_open(&s->wire, s->at, &s->options) && ask(s))
			return true;
	}
	wire_close(&s->wire);
	return false;
}

/* --- what follows ------------------------------------------------------------------------- */

/* Nodes whose slots others serve now, and slots that nobody serves. */
static void
tell(struct scout *s)
{
	const struct site *site = s->site;
	unsigned unserved = SLOTS - s->map.served;
	char text[80];

	if (site->options.kind != REDIS_CLUSTER)
		return;
	for (unsigned i = 0; i < topology_nodes(site->topology); i++)
		if (!topology_serves(site->topology, i))
			site_elsewhere(site, i);
	if (unserved == s->unserved)
		return;
	s->unserved = unserved;
	if (unserved > 0 &&
	    zone_note_due(site->zone, ZONE_NOTE_SLOTS, clock_mono_us(), SAY_EVERY_US)) {
		snprintf(text, sizeof text, "%u of its %u slots", unserved, SLOTS);
		site_say(site, LOG_WARNING, "has no node for ", text,
		    ": who is counted there is counted on this host");
	}
}

static bool
something_is_wrong(const struct site *s)
{
	if (zone_breaker_open(s->zone))
		return true;
	for (unsigned i = 0; i < topology_nodes(s->topology); i++)
		if (topology_serves(s->topology, i) && site_open(s, i))
			return true;
	return false;
}

static void
doze(struct scout *s, int64_t until_us)
{
	struct pollfd p = {.fd = s->wake_fd, .events = POLLIN};
	uint64_t n;

	if (poll(&p, 1, clock_poll_ms(until_us)) > 0 && read(s->wake_fd, &n, sizeof n) < 0)
		return;
}

static void *
scout_thread(void *arg)
{
	struct scout *s = arg;
	const struct site *site = s->site;

	while (!atomic_load(&s->stop)) {
		bool woken = atomic_exchange(&s->woken, false);
		bool wrong = woken || something_is_wrong(site), ok = look(s, wrong);
		int64_t now = clock_mono_us();

		if (ok) {
			tell(s);
			/* a master has its failures counted there, too: only its answers tell */
			if (site->options.kind == REDIS_CLUSTER)
				site_ok(site, NODE_NONE);
		}
		pthread_mutex_lock(&s->lock);
		s->first_over = true;
		pthread_cond_signal(&s->looked);
		pthread_mutex_unlock(&s->lock);
		doze(s, now + LOOK_REST_US);
		if (!atomic_load(&s->woken) && !atomic_load(&s->stop))
			doze(s, now + (ok && !wrong ? LOOK_EVERY_US : LOOK_AGAIN_US));
	}
	wire_close(&s->wire);
	return NULL;
}

/* --- starting and stopping ---------------------------------------------------------------- */

static void
poke(struct scout *s)
{
	uint64_t one = 1;

	while (write(s->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

void
scout_wake(struct scout *s)
{
	if (s != NULL && !atomic_exchange(&s->woken, true))
		poke(s);
}

static void
release(struct scout *s)
{
	for (unsigned i = 0; i < REDIS_PLACES_MAX; i++)
		target_free(&s->places[i]);
	if (s->wake_fd >= 0)
		close(s->wake_fd);
	explicit_bzero(&s->options, sizeof s->options);
	pthread_cond_destroy(&s->looked);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

static void
wait_for_first(struct scout *s)
{
	struct timespec until = clock_timespec(clock_mono_us() + FIRST_LOOK_US);

	pthread_mutex_lock(&s->lock);
	while (!s->first_over)
		if (pthread_cond_timedwait(&s->looked, &s->lock, &until) == ETIMEDOUT)
			break;
	pthread_mutex_unlock(&s->lock);
}

/* Sentinels have users and passwords of their own, and no databases. */
static void
their_options(struct scout *s)
{
	struct redis_options *o = &s->options;

	*o = s->site->options;
	o->db = 0;
	if (o->kind != REDIS_SENTINEL)
		return;
	memcpy(o->user, o->sentinel_user, sizeof o->user);
	memcpy(o->password, o->sentinel_password, sizeof o->password);
}

bool
scout_start(const struct site *site, struct scout **out)
{
	struct scout *s;
	bool ok = true;

	*out = NULL;
	if (site->options.kind == REDIS_ALONE)
		return true;
	s = calloc(1, sizeof *s);
	if (s == NULL)
		return false;
	s->site = site;
	their_options(s);
	wire_init(&s->wire);
	pthread_mutex_init(&s->lock, NULL);
	clock_cond_init(&s->looked);
	for (unsigned i = 0; i < site->options.nplaces; i++) {
		const struct redis_place *p = &site->options.places[i];

		s->places[i] = target_new(p->host, p->port, site->tls, 0);
		ok = ok && s->places[i] != NULL;
	}
	s->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (!ok || s->wake_fd < 0 || !thread_start(&s->thread, scout_thread, s)) {
		release(s);
		return false;
	}
	wait_for_first(s);
	*out = s;
	return true;
}

void
scout_free(struct scout **s)
{
	if (*s == NULL)
		return;
	atomic_store(&(*s)->stop, true);
	poke(*s);
	pthread_join((*s)->thread, NULL);
	release(*s);
	*s = NULL;
}
