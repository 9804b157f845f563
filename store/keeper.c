/*
 * keeper.c - see keeper.h.
 *
 * Only this thread writes leases besides the questions themselves, over one connection and one
 * after another: a renewal can never overtake the release that follows it.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "advice.h"
#include "clock.h"
#include "keeper.h"
#include "lua.h"
#include "sha1.h"
#include "thread.h"
#include "wire.h"

#define PROBE_EVERY_US (250 * USEC_PER_MSEC)
#define PROBE_LIFE_MS "60000"
#define FLUSH_EVERY_US (50 * USEC_PER_MSEC)
#define RETRY_EVERY_US USEC_PER_SEC
/* Another worker's questions may have opened or closed the breaker. */
#define LOOK_EVERY_US USEC_PER_SEC
#define LAST_FLUSH_US (80 * USEC_PER_MSEC)
#define BATCH_MAX 500

struct keeper {
	const struct site *site;
	pthread_t thread;
	int wake_fd;
	atomic_bool woken, stop;
	_Atomic uint64_t renewals;
	struct wire wire; /* from here on the thread's alone */
	struct advice advice;
	bool ending; /* the last flush: stop does not interrupt it */
	int64_t end_us; /* and its deadline */
};

/* One walk over the worker's leases. */
struct walk {
	struct keeper *k;
	enum lease_state state; /* LEASE_OPEN: renew, LEASE_RELEASED: remove */
	bool failed;
	char score[24]; /* of a renewal; "" until Redis has told the time */
	unsigned replies; /* that are due */
	unsigned n;
	uint64_t ids[BATCH_MAX];
};

/* --- talking ------------------------------------------------------------------------------ */

static bool
send_words(struct keeper *k, int argc, const char **argv)
{
	char *cmd;
	int len = redisFormatCommandArgv(&cmd, argc, argv, NULL);
	bool ok;

	if (len < 0)
		return false;
	ok = wire_push(&k->wire, cmd, (size_t)len);
	redisFreeCommand(cmd);
	return ok;
}

static redisReply *
next_reply(struct keeper *k)
{
	int64_t deadline = clock_mono_us() + k->site->options.timeout_us;

	if (k->ending && deadline > k->end_us)
		deadline = k->end_us;
	return wire_wait(&k->wire, deadline, k->ending ? NULL : &k->stop);
}

static bool
connected(struct keeper *k)
{
	return wire_is_open(&k->wire) || wire_open(&k->wire, k->site->target, &k->site->options);
}

/* An error about one key (somebody put a string there) is not ours to mend; any other means
 * that Redis cannot be written to. */
static bool
usable(const redisReply *r)
{
	return r->type != REDIS_REPLY_ERROR || strncmp(r->str, "WRONGTYPE", 9) == 0;
}

/* Connects, and proves that Redis lets us do what a question does: a replica, one that is
 * loading, out of memory, or without the rights for our scripts is as bad as none. */
static bool
probe(struct keeper *k)
{
	char key[SITE_KEY_MAX], open[SITE_KEY_MAX], sha[SHA1_TEXT_MAX];
	bool ok = false;

	site_key(k->site, "probe", k->site->node, key);
	snprintf(open, sizeof open, "%.*s:open", SITE_KEY_MAX - 6, key);
	sha1_text(lua_probe, sha);
	for (int text = 0; text < 2 && !ok && connected(k); text++) {
		const char *argv[] = {text ? "EVAL" : "EVALSHA", text ? lua_probe : sha, "2", key,
		    open, PROBE_LIFE_MS};
		redisReply *r = send_words(k, 6, argv) ? next_reply(k) : NULL;

		ok = r != NULL && r->type == REDIS_REPLY_INTEGER;
		if (r == NULL || r->type != REDIS_REPLY_ERROR ||
		    strncmp(r->str, "NOSCRIPT", 8) != 0)
			text = 1;
		if (r != NULL)
			freeReplyObject(r);
	}
	if (!ok) {
		wire_close(&k->wire);
		target_refresh(k->site->target);
	}
	return ok;
}

/* --- leases ------------------------------------------------------------------------------- */

static void
walk_fail(struct walk *w)
{
	w->failed = true;
	wire_close(&w->k->wire);
}

/* Takes the replies; forgets the leases that Redis has forgotten. */
static void
walk_settle(struct walk *w)
{
	for (; w->replies > 0 && !w->failed; w->replies--) {
		redisReply *r = next_reply(w->k);

		if (r == NULL || !usable(r))
			walk_fail(w);
		if (r != NULL)
			freeReplyObject(r);
	}
	if (!w->failed && w->state == LEASE_RELEASED)
		for (unsigned i = 0; i < w->n; i++)
			zone_lease_forget(w->k->site->zone, w->ids[i]);
	w->n = 0;
}

/* When leases renewed now expire, by Redis' clock: this host's may be wrong. */
static bool
ask_time(struct walk *w)
{
	const char *argv[] = {"TIME"};
	redisReply *r = send_words(w->k, 1, argv) ? next_reply(w->k) : NULL;
	bool ok = r != NULL && r->type == REDIS_REPLY_ARRAY && r->elements == 2 &&
	    r->element[0] != NULL && r->element[0]->type == REDIS_REPLY_STRING;
	int64_t now = 0;

	if (ok)
		now = strtoll(r->element[0]->str, NULL, 10);
	if (r != NULL)
		freeReplyObject(r);
	if (!ok || now <= 0 || now > INT64_C(1) << 32)
		return false;
	snprintf(w->score, sizeof w->score, "%" PRId64, now * USEC_PER_SEC + LEASE_TTL_US);
	return true;
}

static bool
walk_record(struct walk *w, const char *key, const char *member)
{
	char life[24];
	const char *rem[] = {"ZREM", key, member};
	const char *add[] = {"ZADD", key, w->score, member};
	const char *expire[] = {"PEXPIRE", key, life};

	if (w->state == LEASE_RELEASED) {
		w->replies++;
		return send_words(w->k, 3, rem);
	}
	snprintf(life, sizeof life, "%" PRId64, OPEN_LIFE_US / USEC_PER_MSEC);
	w->replies += 2;
	return send_words(w->k, 4, add) && send_words(w->k, 3, expire);
}

static void
walk_lease(void *ctx, enum lease_state state, const struct lease *lease)
{
	struct walk *w = ctx;
	char key[SITE_KEY_MAX], member[SITE_MEMBER_MAX];

	if (w->failed || state != w->state)
		return;
	if (!connected(w->k) || (state == LEASE_OPEN && w->score[0] == '\0' && !ask_time(w))) {
		walk_fail(w);
		return;
	}
	site_member(w->k->site, lease->id, member);
	for (unsigned i = 0; i < lease->nrecords && i < LEASE_RECORDS_MAX; i++) {
		site_open_key(w->k->site, lease->records[i].kind, lease->records[i].key, key);
		if (!walk_record(w, key, member)) {
			walk_fail(w);
			return;
		}
	}
	w->ids[w->n++] = lease->id;
	if (w->n == BATCH_MAX)
		walk_settle(w);
}

static bool
walk(struct keeper *k, unsigned worker, enum lease_state state)
{
	struct walk w = {.k = k, .state = state};

	zone_lease_each(k->site->zone, worker, walk_lease, &w);
	walk_settle(&w);
	return !w.failed;
}

static bool
renew(struct keeper *k)
{
	bool ok;

	atomic_fetch_add(&k->renewals, 1);
	ok = walk(k, k->site->worker, LEASE_OPEN);
	atomic_fetch_add(&k->renewals, 1);
	return ok;
}

/* --- the thread --------------------------------------------------------------------------- */

/* Sleeps until until_us or a call; true when called. */
static bool
doze(struct keeper *k, int64_t until_us)
{
	struct pollfd p = {.fd = k->wake_fd, .events = POLLIN};
	uint64_t n;

	if (poll(&p, 1, clock_poll_ms(until_us)) <= 0)
		return false;
	return read(k->wake_fd, &n, sizeof n) > 0;
}

/* Tells of what has ended. Calls from now on make another round; until now one was enough. */
static bool
flush(struct keeper *k)
{
	unsigned orphan;

	atomic_store(&k->woken, false);
	if (!walk(k, k->site->worker, LEASE_RELEASED))
		return false;
	/* a worker that died while it drained has no successor */
	while (zone_orphan_take(k->site->zone, &orphan))
		if (!walk(k, orphan, LEASE_RELEASED)) {
			zone_orphan_return(k->site->zone, orphan);
			return false;
		}
	return true;
}

static void
forget_lease(void *ctx, enum lease_state state, const struct lease *lease)
{
	if (state == LEASE_RELEASED)
		zone_lease_forget(ctx, lease->id);
}

/* Down for longer than a lease lives: what Redis knew of them has expired there, and slots kept
 * for telling it would be missed in a long absence. */
static void
forget_released(struct keeper *k)
{
	zone_lease_each(k->site->zone, k->site->worker, forget_lease, k->site->zone);
}

static int64_t
earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

static void *
keeper_thread(void *arg)
{
	struct keeper *k = arg;
	int64_t probe_at = 0, flush_at = 0, renew_at = clock_mono_us() + LEASE_TTL_US / 3;
	int64_t down_at = 0;
	bool down = false, dirty = true; /* a worker that died in this place may have left some */

	while (!atomic_load(&k->stop)) {
		int64_t now = clock_mono_us(), until = now + LOOK_EVERY_US;

		if (zone_breaker_open(k->site->zone)) {
			if (!down)
				down_at = now;
			down = true;
			if (now - down_at > LEASE_TTL_US)
				forget_released(k);
			if (now >= probe_at) {
				if (probe(k)) {
					site_ok(k->site);
					down_at = now;
					continue;
				}
				probe_at = clock_mono_us() + PROBE_EVERY_US;
			}
			until = probe_at;
		} else {
			if (down) { /* it may have lost all it knew */
				down = false;
				dirty = true;
				renew_at = flush_at = now;
			}
			dirty = dirty || zone_orphan_any(k->site->zone);
			if (now >= renew_at)
				renew_at = now + (renew(k) ? LEASE_TTL_US / 3 : RETRY_EVERY_US);
			if (advice_due(&k->advice, k->site, now) && connected(k) &&
			    !advice_look(&k->advice, k->site, &k->wire, &k->stop))
				wire_close(&k->wire);
			if (dirty && now >= flush_at) {
				dirty = !flush(k);
				flush_at =
				    clock_mono_us() + (dirty ? RETRY_EVERY_US : FLUSH_EVERY_US);
			}
			until = earlier(until, renew_at);
			if (dirty)
				until = earlier(until, flush_at);
		}
		if (doze(k, until) && !dirty) {
			dirty = true;
			if (flush_at < clock_mono_us() + FLUSH_EVERY_US)
				flush_at = clock_mono_us() + FLUSH_EVERY_US;
		}
	}
	k->ending = true;
	k->end_us = clock_mono_us() + LAST_FLUSH_US;
	if (!zone_breaker_open(k->site->zone))
		walk(k, k->site->worker, LEASE_RELEASED);
	wire_close(&k->wire);
	return NULL;
}

static void
poke(struct keeper *k)
{
	uint64_t one = 1;

	while (write(k->wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

void
keeper_wake(struct keeper *k)
{
	if (!atomic_exchange(&k->woken, true))
		poke(k);
}

uint64_t
keeper_renewals(struct keeper *k)
{
	return atomic_load(&k->renewals);
}

struct keeper *
keeper_new(const struct site *s)
{
	struct keeper *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	k->site = s;
	wire_init(&k->wire);
	k->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (k->wake_fd >= 0 && thread_start(&k->thread, keeper_thread, k))
		return k;
	if (k->wake_fd >= 0)
		close(k->wake_fd);
	free(k);
	return NULL;
}

void
keeper_free(struct keeper **k)
{
	if (*k == NULL)
		return;
	atomic_store(&(*k)->stop, true);
	poke(*k);
	pthread_join((*k)->thread, NULL);
	close((*k)->wake_fd);
	free(*k);
	*k = NULL;
}
