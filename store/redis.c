/*
 * redis.c - the store in Redis: each question is one script, and its failure one count for the
 * breaker.
 */
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "ask.h"
#include "clock.h"
#include "keeper.h"
#include "lane.h"

/* A key of the wrong type fails each question about it: one line in so long is enough. */
#define NOTE_EVERY_US (600 * USEC_PER_SEC)

struct redis_store {
	struct store store; /* first: a struct store * points here */
	struct site site;
	struct ask_names names;
	struct lane *lane;
	struct keeper *keeper;
};

/* --- what a reply means ------------------------------------------------------------------- */

static void
failed(struct redis_store *me, const char *why)
{
	if (site_failed(&me->site, why))
		keeper_wake(me->keeper);
}

static void
wrong_key(struct redis_store *me, const char *key)
{
	if (zone_note_due(me->site.zone, ZONE_NOTE_WRONGKEY, clock_mono_us(), NOTE_EVERY_US))
		site_say(&me->site, LOG_WARNING, "holds something else than weir's at ", key,
		    ": delete it; until then who is counted there is counted on this host");
}

static enum store_status
settle(struct redis_store *me, enum ask_outcome outcome, const char *why)
{
	switch (outcome) {
	case ASK_OK:
		site_ok(&me->site);
		return STORE_OK;
	case ASK_STALE:
		site_ok(&me->site);
		return STORE_STALE;
	case ASK_WRONGKEY:
		wrong_key(me, why);
		return STORE_DOWN;
	case ASK_NOSCRIPT:
		why = "NOSCRIPT for EVAL";
		break;
	case ASK_BAD:
		break;
	}
	failed(me, why);
	return STORE_DOWN;
}

/* Sends cmd; NULL (and counted, if it is to be counted) when nothing came back. */
static redisReply *
call(struct redis_store *me, char *cmd, size_t len, int64_t deadline_us)
{
	char why[WIRE_WHY_MAX];
	redisReply *r = NULL;
	int64_t start = clock_mono_us();

	if (cmd == NULL) /* our memory, not Redis' fault */
		return NULL;
	if (lane_call(me->lane, cmd, len, deadline_us, &r, why) == LANE_FAILED)
		failed(me, why);
	zone_latency_add(me->site.zone, clock_mono_us() - start);
	return r;
}

/* The earlier of the caller's deadline (0 = none) and our own; 0 when that has passed. */
static int64_t
deadline(const struct redis_store *me, int64_t wanted_us)
{
	int64_t now = clock_mono_us(), own = now + me->site.options.timeout_us;

	if (wanted_us == 0 || wanted_us > own)
		return own;
	return wanted_us > now ? wanted_us : 0;
}

/* --- ask ---------------------------------------------------------------------------------- */

static enum store_status
ask_lane(struct redis_store *me, const struct request *q, int64_t now_us, int64_t deadline_us,
    uint64_t lease, struct answer *out)
{
	enum ask_outcome outcome = ASK_NOSCRIPT;
	char why[SITE_WHY_MAX] = "";

	for (int text = 0; text < 2 && outcome == ASK_NOSCRIPT; text++) {
		size_t len = 0;
		char *cmd = ask_command(&me->site, &me->names, text == 1, q, now_us, lease, &len);
		redisReply *r = call(me, cmd, len, deadline_us);

		if (r == NULL)
			return STORE_DOWN;
		outcome = ask_answer(r, q, out, why);
		freeReplyObject(r);
	}
	return settle(me, outcome, why);
}

/* True when one of its sessions limits has counted the session. */
static bool
session_counted(const struct request *q, const struct answer *a)
{
	for (unsigned i = 0; a->charged && i < q->nhits; i++)
		if (q->hits[i].limit->count == COUNT_SESSIONS && !a->hits[i].over)
			return true;
	return false;
}

static enum store_status
ask(struct store *s, const struct request *q, int64_t now_us, struct answer *out)
{
	struct redis_store *me = (struct redis_store *)s;
	struct zone *z = me->site.zone;
	enum store_status status;
	uint64_t lease, renewals;
	int64_t until;

	memset(out, 0, sizeof *out);
	if (zone_breaker_open(z) || (until = deadline(me, q->deadline_us)) == 0)
		return STORE_DOWN;
	renewals = keeper_renewals(me->keeper);
	lease = q->peek ? 0 : zone_lease_take(z, me->site.worker, q);
	status = ask_lane(me, q, now_us, until, lease, out);
	if (status != STORE_OK) {
		char generation[sizeof out->generation];

		/* nothing half read may leave here */
		memcpy(generation, out->generation, sizeof generation);
		memset(out, 0, sizeof *out);
		if (status == STORE_STALE)
			memcpy(out->generation, generation, sizeof generation);
	}
	if (lease == 0)
		return status;
	if (status == STORE_OK && session_counted(q, out)) {
		zone_lease_count(z, lease);
		out->lease = lease;
		return status;
	}
	/* Redis knows the lease if its answer was lost, or if the keeper just renewed all. */
	if (status == STORE_DOWN || renewals % 2 == 1 || keeper_renewals(me->keeper) != renewals) {
		zone_lease_end(z, lease, true);
		keeper_wake(me->keeper);
	} else
		zone_lease_end(z, lease, false);
	return status;
}

static void
release(struct store *s, uint64_t lease)
{
	struct redis_store *me = (struct redis_store *)s;

	zone_lease_end(me->site.zone, lease, true);
	keeper_wake(me->keeper);
}

/* --- the rest ----------------------------------------------------------------------------- */

/* What an ACL makes Redis say, of a command and of one in a script. */
static bool
no_right(const char *why)
{
	return strncmp(why, "NOPERM", 6) == 0 || strstr(why, "user executing the script") != NULL;
}

static enum store_status
load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	struct redis_store *me = (struct redis_store *)s;
	enum ask_outcome outcome = ASK_NOSCRIPT;
	char why[SITE_WHY_MAX] = "";
	int64_t until;

	memset(out, 0, sizeof *out);
	if (zone_breaker_open(me->site.zone) || (until = deadline(me, deadline_us)) == 0)
		return STORE_DOWN;
	for (int text = 0; text < 2 && outcome == ASK_NOSCRIPT; text++) {
		size_t len = 0;
		char *cmd = ask_load_command(&me->site, &me->names, text == 1, known, &len);
		redisReply *r = call(me, cmd, len, until);

		if (r == NULL)
			return STORE_DOWN;
		outcome = ask_overlay(r, out, why);
		freeReplyObject(r);
	}
	if (outcome != ASK_OK)
		overlay_free(out);
	if (outcome != ASK_BAD || !no_right(why))
		return settle(me, outcome, why);
	/* No failure for the breaker: questions are answered. But changes there are not seen. */
	if (zone_note_due(me->site.zone, ZONE_NOTE_LOAD, clock_mono_us(), NOTE_EVERY_US))
		site_say(&me->site, LOG_WARNING, "does not let the limits be read (", why,
		    "): those in force stay");
	return STORE_DOWN;
}

/* One command of its own each: others read either the old words or the new. */
static void
publish(struct store *s, const char *const *pairs, unsigned n)
{
	struct redis_store *me = (struct redis_store *)s;
	int64_t until = deadline(me, 0);

	if (zone_breaker_open(me->site.zone))
		return;
	for (int life = 0; life < 2; life++) {
		size_t len = 0;
		char *cmd = ask_publish_command(&me->site, life == 1, pairs, n, &len);
		redisReply *r = call(me, cmd, len, until);

		if (r == NULL)
			return;
		freeReplyObject(r);
	}
}

/* Whatever Redis says against it (an ACL, a key of another type) is no failure of Redis: questions
 * are answered. */
static bool
neighbours(struct store *s, bool above, unsigned *nabove, unsigned *all)
{
	struct redis_store *me = (struct redis_store *)s;
	int64_t until = deadline(me, 0);
	enum ask_outcome outcome = ASK_NOSCRIPT;
	char why[SITE_WHY_MAX] = "";

	if (zone_breaker_open(me->site.zone))
		return false;
	for (int text = 0; text < 2 && outcome == ASK_NOSCRIPT; text++) {
		size_t len = 0;
		char *cmd = ask_neighbours_command(&me->site, &me->names, text == 1, above, &len);
		redisReply *r = call(me, cmd, len, until);

		if (r == NULL)
			return false;
		outcome = ask_neighbours(r, nabove, all, why);
		freeReplyObject(r);
	}
	if (outcome != ASK_OK &&
	    zone_note_due(me->site.zone, ZONE_NOTE_NEIGHBOURS, clock_mono_us(), NOTE_EVERY_US))
		site_say(&me->site, LOG_WARNING, "does not tell of other weir-milters (", why, ")");
	return outcome == ASK_OK;
}

static void
close_store(struct store *s)
{
	struct redis_store *me = (struct redis_store *)s;

	keeper_free(&me->keeper);
	lane_free(&me->lane);
	site_clear(&me->site);
	free(me);
}

struct store *
redis_store_open(const struct redis_options *o, struct zone *z, unsigned worker, const char *node,
    store_notice *notice, void *ctx)
{
	static const struct store_ops ops = {ask, release, load, publish, neighbours, close_store};
	struct redis_store *me = calloc(1, sizeof *me);

	if (me == NULL)
		return NULL;
	me->store.ops = &ops;
	ask_names_init(&me->names);
	if (site_init(&me->site, o, z, worker, node, notice, ctx)) {
		me->lane = lane_new(me->site.target, &me->site.options);
		if (me->lane != NULL)
			me->keeper = keeper_new(&me->site);
	}
	if (me->keeper == NULL) {
		close_store(&me->store);
		return NULL;
	}
	return &me->store;
}
