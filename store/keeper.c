/* SPDX-License-Identifier: BSD-2-Clause */
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
	struct scout *scout;
	pthread_t thread;
	int wake_fd;
	atomic_bool woken, stop;
	_Atomic uint64_t renewals;
	struct wire wires[NODES_MAX]; /* from here on the thread's alone */
	struct advice advice;
	bool ending; /* the last flush: stop does not interrupt it */
	int64_t end_us; /* and its deadline */
};

/* One walk over the worker's leases. */
struct walk {
	struct keeper *k;
	enum lease_state state; /* LEASE_OPEN: renew, LEASE_RELEASED: remove */
	bool failed;
	bool left; /* some of it lies where nobody answers */
	char score[24]; /* of a renewal; "" until Redis has told the time */
	unsigned replies[NODES_MAX]; /* that are due */
	unsigned n;
	uint64_t ids[BATCH_MAX];
};

/* --- talking ------------------------------------------------------------------------------ */

static bool
send_words(struct keeper *k, unsigned node, int argc, const char **argv)
{
	char *cmd;
	int len = redisFormatCommandArgv(&cmd, argc, argv, NULL);
	bool ok;

	if (len < 0)
		return false;
	ok = wire_push(&k->wires[node], cmd, (size_t)len);
	redisFreeCommand(cmd);
	return ok;
}

static redisReply *
next_reply(struct keeper *k, unsigned node)
{
	int64_t deadline = clock_mono_us() + k->site->options.timeout_us;

	if (k->ending && deadline > k->end_us)
		deadline = k->end_us;
	return wire_wait(&k->wires[node], deadline, k->ending ? NULL : &k->stop);
}

static bool
connected(struct keeper *k, unsigned node)
{
	struct target *t = topology_target(k->site->topology, node);
	struct wire *w = &k->wires[node];

	return (wire_is_open(w) && w->place == target_place(t)) ||
	    wire_open(w, t, &k->site->options);
}

/* A node, and it is thought to answer. */
static bool
usable_node(const struct keeper *k, unsigned node)
{
	return node != NODE_NONE && !site_open(k->site, node);
}

/* An error about one key (somebody put a string there) is not ours to mend; any other means
 * that Redis cannot be written to. */
static bool
usable(const redisReply *r)
{
	return r->type != REDIS_REPLY_ERROR || strncmp(r->str, "WRONGTYPE", 9) == 0;
}

/* In a Cluster the key of a probe must be in a slot of the node: so it gets a tag that is. */
static void
probe_key(const struct keeper *k, unsigned node, char key[SITE_KEY_MAX])
{
	char name[SITE_NODE_MAX + 16];

	site_key(k->site, "probe", k->site->node, key);
	for (unsigned i = 0; site_is_cluster(k->site) && i < 8 * SLOTS; i++) {
		size_t len;

		snprintf(name, sizeof name, "{%u}:%s", i, k->site->node);
		len = site_key(k->site, "probe", name, key);
		if (topology_slot(k->site->topology, slot_of(key, len)) == node)
			return;
	}
}

/* Connects, and proves that Redis lets us do what a question does: a replica, one that is
 * loading, out of memory, or without the rights for our scripts is as bad as none. */
static bool
probe(struct keeper *k, unsigned node)
{
	char key[SITE_KEY_MAX], open[SITE_KEY_MAX], sha[SHA1_TEXT_MAX];
	bool ok = false;

	probe_key(k, node, key);
	snprintf(open, sizeof open, "%.*s:open", SITE_KEY_MAX - 6, key);
	sha1_text(lua_probe, sha);
	for (int text = 0; text < 2 && !ok && connected(k, node); text++) {
		const char *argv[] = {text ? "EVAL" : "EVALSHA", text ? lua_probe : sha, "2", key,
		    open, PROBE_LIFE_MS};
		redisReply *r = send_words(k, node, 6, argv) ? next_reply(k, node) : NULL;

		ok = r != NULL && r->type == REDIS_REPLY_INTEGER;
		if (r == NULL || r->type != REDIS_REPLY_ERROR ||
		    strncmp(r->str, "NOSCRIPT", 8) != 0)
			text = 1;
		if (r != NULL)
			freeReplyObject(r);
	}
	if (!ok) {
		wire_close(&k->wires[node]);
		target_refresh(topology_target(k->site->topology, node));
		scout_wake(k->scout);
	}
	return ok;
}

/* --- leases ------------------------------------------------------------------------------- */

static void
walk_fail(struct walk *w, unsigned node)
{
	w->failed = true;
	wire_close(&w->k->wires[node]);
	scout_wake(w->k->scout);
}

/* Takes the replies; forgets the leases that Redis has forgotten. */
static void
walk_settle(struct walk *w)
{
	for (unsigned node = 0; node < topology_nodes(w->k->site->topology); node++)
		for (; w->replies[node] > 0; w->replies[node]--) {
			redisReply *r =
			    wire_is_open(&w->k->wires[node]) ? next_reply(w->k, node) : NULL;

			if (r == NULL || !usable(r))
				walk_fail(w, node);
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
ask_time(struct walk *w, unsigned node)
{
	const char *argv[] = {"TIME"};
	redisReply *r;
	int64_t now = 0;
	bool ok;

	if (w->replies[node] > 0)
		walk_settle(w);
	r = !w->failed && send_words(w->k, node, 1, argv) ? next_reply(w->k, node) : NULL;
	ok = r != NULL && r->type == REDIS_REPLY_ARRAY && r->elements == 2 &&
	    r->element[0] != NULL && r->element[0]->type == REDIS_REPLY_STRING;
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
walk_record(struct walk *w, unsigned node, const char *key, const char *member)
{
	char life[24];
	const char *rem[] = {"ZREM", key, member};
	const char *add[] = {"ZADD", key, w->score, member};
	const char *expire[] = {"PEXPIRE", key, life};

	if (!connected(w->k, node))
		return false;
	if (w->state == LEASE_RELEASED) {
		w->replies[node]++;
		return send_words(w->k, node, 3, rem);
	}
	if (w->score[0] == '\0' && !ask_time(w, node))
		return false;
	snprintf(life, sizeof life, "%" PRId64, OPEN_LIFE_US / USEC_PER_MSEC);
	w->replies[node] += 2;
	return send_words(w->k, node, 4, add) && send_words(w->k, node, 3, expire);
}

/* Where the lease's i-th set is; false: nowhere that answers. */
static bool
lease_place(
    struct walk *w, const struct lease *lease, unsigned i, char key[SITE_KEY_MAX], unsigned *node)
{
	const struct site *s = w->k->site;
	size_t len = site_open_key(s, lease->records[i].kind, lease->records[i].key, key);

	*node = topology_slot(s->topology, slot_of(key, len));
	return usable_node(w->k, *node);
}

static void
walk_lease(void *ctx, enum lease_state state, const struct lease *lease)
{
	struct walk *w = ctx;
	char key[SITE_KEY_MAX], member[SITE_MEMBER_MAX];
	unsigned node;

	if (w->failed || state != w->state)
		return;
	/* one that has ended is told of as a whole, later */
	for (unsigned i = 0; i < lease->nrecords && i < LEASE_RECORDS_MAX; i++)
		if (!lease_place(w, lease, i, key, &node)) {
			w->left = true;
			if (state == LEASE_RELEASED)
				return;
		}
	site_member(w->k->site, lease->id, member);
	for (unsigned i = 0; i < lease->nrecords && i < LEASE_RECORDS_MAX; i++) {
		if (!lease_place(w, lease, i, key, &node))
			continue;
		if (!walk_record(w, node, key, member)) {
			walk_fail(w, node);
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
	return !w.failed && !w.left;
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

/* Looks whether those who did not answer do now. True: somebody is back. */
static bool
probe_all(struct keeper *k)
{
	const struct topology *t = k->site->topology;
	bool back = false;

	for (unsigned i = 0; i < topology_nodes(t) && !atomic_load(&k->stop); i++)
		if (topology_serves(t, i) && site_open(k->site, i) && probe(k, i)) {
			site_ok(k->site, i);
			back = true;
		}
	return back;
}

/* Who does not answer: nobody, some, all. */
enum down { DOWN_NONE, DOWN_SOME, DOWN_ALL };

static enum down
who_is_down(const struct keeper *k)
{
	const struct topology *t = k->site->topology;
	unsigned down = 0, serving = 0;

	if (zone_breaker_open(k->site->zone))
		return DOWN_ALL;
	for (unsigned i = 0; i < topology_nodes(t); i++) {
		serving += topology_serves(t, i);
		down += topology_serves(t, i) && site_open(k->site, i);
	}
	return down == 0 ? DOWN_NONE : down < serving ? DOWN_SOME : DOWN_ALL;
}

/* Of a Cluster one node speaks for all: they are set up alike. */
static void
advise(struct keeper *k)
{
	const struct topology *t = k->site->topology;
	unsigned node = 0;

	while (node < topology_nodes(t) && (!topology_serves(t, node) || !usable_node(k, node)))
		node++;
	if (node < topology_nodes(t) && connected(k, node) &&
	    !advice_look(&k->advice, k->site, &k->wires[node], &k->stop))
		wire_close(&k->wires[node]);
}

static void *
keeper_thread(void *arg)
{
	struct keeper *k = arg;
	int64_t probe_at = 0, flush_at = 0, renew_at = clock_mono_us() + LEASE_TTL_US / 3;
	int64_t down_at = 0;
	bool was_down = false, dirty = true; /* a worker that died here may have left some */

	while (!atomic_load(&k->stop)) {
		int64_t now = clock_mono_us(), until = now + LOOK_EVERY_US;
		enum down down = who_is_down(k);

		if (down != DOWN_NONE) {
			if (!was_down)
				down_at = now;
			was_down = true;
			if (now - down_at > LEASE_TTL_US)
				forget_released(k);
			if (now >= probe_at) {
				if (probe_all(k)) {
					down_at = now;
					dirty = true; /* it may have lost all it knew */
					renew_at = flush_at = now;
					continue;
				}
				probe_at = clock_mono_us() + PROBE_EVERY_US;
			}
			until = probe_at;
		} else if (was_down) {
			was_down = false;
			dirty = true;
			renew_at = flush_at = now;
		}
		if (down != DOWN_ALL) {
			dirty = dirty || zone_orphan_any(k->site->zone);
			if (now >= renew_at)
				renew_at = now + (renew(k) ? LEASE_TTL_US / 3 : RETRY_EVERY_US);
			if (advice_due(&k->advice, k->site, now))
				advise(k);
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
	if (who_is_down(k) != DOWN_ALL)
		walk(k, k->site->worker, LEASE_RELEASED);
	for (unsigned i = 0; i < NODES_MAX; i++)
		wire_close(&k->wires[i]);
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
keeper_new(const struct site *s, struct scout *scout)
{
	struct keeper *k = calloc(1, sizeof *k);

	if (k == NULL)
		return NULL;
	k->site = s;
	k->scout = scout;
	for (unsigned i = 0; i < NODES_MAX; i++)
		wire_init(&k->wires[i]);
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
