/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * question.c - see question.h.
 */
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "clock.h"
#include "question.h"
#include "scout.h"

/* A key of the wrong type fails each question about it: one line in so long is enough. */
#define NOTE_EVERY_US (600 * USEC_PER_SEC)
/* So often a part may be sent elsewhere: nodes that disagree do so for a moment. */
#define REDIRECTIONS_MAX 5
/* A slot that is being moved is asked about again after this. */
#define TRYAGAIN_US (3 * USEC_PER_MSEC)

/* --- what a reply means for all ----------------------------------------------------------- */

static void
failed(struct desk *d, unsigned node, const char *why)
{
	if (site_failed(&d->site, node, why))
		keeper_wake(d->keeper);
	scout_wake(d->scout);
}

static void
note(struct desk *d, enum zone_note n, const char *text, const char *why, const char *then)
{
	if (zone_note_due(d->site.zone, n, clock_mono_us(), NOTE_EVERY_US))
		site_say(&d->site, LOG_WARNING, text, why, then);
}

static enum store_status
settle(struct desk *d, const struct question_part *p)
{
	const char *why = p->why;

	switch (p->outcome) {
	case ASK_OK:
		site_ok(&d->site, p->node);
		return STORE_OK;
	case ASK_STALE:
		site_ok(&d->site, p->node);
		return STORE_STALE;
	case ASK_WRONGKEY:
		note(d, ZONE_NOTE_WRONGKEY, "holds something else than weir's at ", why,
		    ": delete it; until then who is counted there is counted on this host");
		return STORE_DOWN;
	case ASK_NOSCRIPT:
		why = "NOSCRIPT for EVAL";
		break;
	case ASK_BAD:
		break;
	}
	failed(d, p->node, why);
	return STORE_DOWN;
}

/* --- it begins ---------------------------------------------------------------------------- */

/* The earlier of the caller's deadline (0 = none) and our own; 0 when that has passed. */
static int64_t
deadline(const struct desk *d, int64_t wanted_us)
{
	int64_t now = clock_mono_us(), own = now + d->site.options.timeout_us;

	if (wanted_us == 0 || wanted_us > own)
		return own;
	return wanted_us > now ? wanted_us : 0;
}

/* Leaves it over, with no part, when nothing can be asked. */
static void
begin(struct question *x, struct desk *d, enum question_kind kind, int64_t deadline_us,
    unsigned nparts)
{
	x->desk = d;
	x->kind = kind;
	x->lease = 0;
	x->leased = x->correspondent = false;
	x->nparts = 0;
	x->after = QUESTION_PARTS_MAX + 1;
	if (zone_breaker_open(d->site.zone))
		return;
	x->deadline_us = deadline(d, deadline_us);
	if (x->deadline_us == 0)
		return;
	x->nparts = nparts;
	memset(x->parts, 0, nparts * sizeof x->parts[0]);
	for (unsigned i = 0; i < nparts; i++)
		x->parts[i].state = PART_READY;
}

/* The slot of a key, for all parts. */
static void
aim(struct question *x, const char *word, const char *rest)
{
	char key[SITE_KEY_MAX];
	size_t len = site_key(&x->desk->site, word, rest, key);

	for (unsigned i = 0; i < x->nparts; i++)
		x->parts[i].slot = slot_of(key, len);
}

/* Then it is not asked at all: what would be charged elsewhere would be charged here again. */
static bool
some_node_is_down(const struct question *x)
{
	const struct site *s = &x->desk->site;

	for (unsigned i = 0; site_is_cluster(s) && i < x->nparts; i++) {
		unsigned node = topology_slot(s->topology, x->parts[i].slot);

		if (node != NODE_NONE && site_open(s, node))
			return true;
	}
	return false;
}

void
question_ask(
    struct question *x, struct desk *d, const struct request *q, int64_t now_us, struct answer *out)
{
	memset(out, 0, sizeof *out);
	x->request = q;
	x->answer = out;
	x->now_us = now_us;
	begin(x, d, QUESTION_ASK, q->deadline_us, 1);
	if (x->nparts == 0)
		return;
	question_split(x);
	if (some_node_is_down(x)) {
		x->nparts = 0;
		return;
	}
	if (q->peek)
		return;
	x->renewals = keeper_renewals(d->keeper);
	x->lease = zone_lease_take(d->site.zone, d->site.worker, q);
}

void
question_load(struct question *x, struct desk *d, int64_t deadline_us, const struct overlay *known,
    struct overlay *out)
{
	memset(out, 0, sizeof *out);
	x->known = known;
	x->overlay = out;
	begin(x, d, QUESTION_LOAD, deadline_us, 1);
	aim(x, "generation", NULL);
}

/* One command of its own each: others read either the old words or the new. */
void
question_publish(struct question *x, struct desk *d, const char *const *pairs, unsigned n)
{
	x->pairs = pairs;
	x->npairs = n;
	begin(x, d, QUESTION_PUBLISH, 0, 2);
	aim(x, "node", d->site.node);
}

void
question_neighbours(struct question *x, struct desk *d, bool above, unsigned *nabove, unsigned *all)
{
	x->above = above;
	x->nabove = nabove;
	x->all = all;
	begin(x, d, QUESTION_NEIGHBOURS, 0, 1);
	aim(x, "nodes", NULL);
}

/* --- it goes on --------------------------------------------------------------------------- */

static char *
command(const struct question *x, unsigned part, size_t *len)
{
	const struct site *s = &x->desk->site;
	const struct ask_names *n = &x->desk->names;
	const struct ask_part *p = &x->parts[part].ask;
	bool text = x->parts[part].text;

	switch (x->kind) {
	case QUESTION_ASK:
		if (!p->whole && p->records == 0)
			return ask_correspondent_command(s, x->request, len);
		return ask_part_command(s, n, text, x->request, p, x->now_us, x->lease, len);
	case QUESTION_LOAD:
		return ask_load_command(s, n, text, x->known, len);
	case QUESTION_PUBLISH:
		return ask_publish_command(s, part == 1, x->pairs, x->npairs, len);
	case QUESTION_NEIGHBOURS:
		return ask_neighbours_command(s, n, text, x->above, len);
	}
	return NULL;
}

/* ASKING goes in front of a command to a node that is about to have the slot. */
static char *
after_asking(char *cmd, size_t *len)
{
	static const char asking[] = "*1\r\n$6\r\nASKING\r\n";
	char *both = cmd != NULL ? malloc(*len + sizeof asking) : NULL;

	if (both != NULL) {
		memcpy(both, asking, sizeof asking - 1);
		memcpy(both + sizeof asking - 1, cmd, *len);
		*len += sizeof asking - 1;
	}
	redisFreeCommand(cmd);
	return both;
}

/* Where the part goes; false: nowhere. */
static bool
find_node(struct question *x, struct question_part *p)
{
	const struct site *s = &x->desk->site;

	if (!p->redirected)
		p->node = topology_slot(s->topology, p->slot);
	if (p->node != NODE_NONE)
		return !site_open(s, p->node);
	/* One slot that nobody serves is told by the scout. */
	if (!topology_known(s->topology))
		failed(x->desk, NODE_NONE, "none of its nodes has told who serves what");
	return false;
}

bool
question_send(struct question *x, struct question_send *out)
{
	int64_t now = clock_mono_us();

	for (unsigned i = 0; i < x->nparts; i++) {
		struct question_part *p = &x->parts[i];

		if (p->state != PART_READY || p->not_before_us > now)
			continue;
		memset(out, 0, sizeof *out);
		if (find_node(x, p))
			out->cmd = command(x, i, &out->len);
		if (out->cmd != NULL && p->asking)
			out->cmd = after_asking(out->cmd, &out->len);
		if (out->cmd == NULL) { /* or our memory: not Redis' fault */
			p->state = PART_DONE;
			question_advance(x);
			continue;
		}
		out->part = i;
		out->node = p->node;
		out->skip = p->asking;
		p->state = PART_SENT;
		p->sent_us = now;
		return true;
	}
	return false;
}

int64_t
question_pause_us(const struct question *x)
{
	int64_t until = 0;

	for (unsigned i = 0; i < x->nparts; i++)
		if (x->parts[i].state == PART_READY &&
		    (until == 0 || x->parts[i].not_before_us < until))
			until = x->parts[i].not_before_us;
	return until;
}

static enum ask_outcome
read_reply(struct question *x, struct question_part *p, const redisReply *r)
{
	char *why = p->why;
	enum ask_outcome outcome;

	switch (x->kind) {
	case QUESTION_ASK:
		if (!p->ask.whole && p->ask.records == 0)
			return ask_correspondent(r, x->request,
			    x->now_us > 0 ? x->now_us : clock_real_us(), &x->correspondent, why);
		outcome = ask_part_answer(r, x->request, &p->ask, x->answer, why);
		p->charged = outcome == ASK_OK && x->answer->charged;
		return outcome;
	case QUESTION_LOAD:
		return ask_overlay(r, x->overlay, why);
	case QUESTION_PUBLISH:
		return ASK_OK; /* may be lost */
	case QUESTION_NEIGHBOURS:
		return ask_neighbours(r, x->nabove, x->all, why);
	}
	return ASK_BAD;
}

static void
heard(struct question *x, struct question_part *p)
{
	p->state = PART_DONE;
	zone_latency_add(x->desk->site.zone, clock_mono_us() - p->sent_us);
}

/* A Cluster's word on where to ask instead. True: the part is to be sent again; outcome says
 * what is wrong else, if anything. */
static bool
redirected(struct question *x, struct question_part *p, const redisReply *r)
{
	struct topology *t = x->desk->site.topology;
	bool moved = strncmp(r->str, "MOVED ", 6) == 0, ask = strncmp(r->str, "ASK ", 4) == 0;
	struct redis_place place;
	char asked[REDIS_HOST_MAX + 1];
	unsigned slot, node;

	if (strncmp(r->str, "TRYAGAIN", 8) == 0) {
		p->not_before_us = clock_mono_us() + TRYAGAIN_US;
		p->redirected = p->asking = false;
		p->tries = 0;
		return p->not_before_us < x->deadline_us;
	}
	if (!moved && !ask)
		return false;
	if (moved)
		scout_wake(x->desk->scout);
	target_host(topology_target(t, p->node), asked);
	if (++p->tries > REDIRECTIONS_MAX ||
	    !slot_map_redirect(r->str + (moved ? 6 : 4), asked, &slot, &place) || slot != p->slot ||
	    (node = topology_find(t, &place)) == NODE_NONE)
		return false;
	if (moved)
		topology_moved(t, slot, node);
	p->node = node;
	p->redirected = true;
	p->asking = ask;
	return true;
}

void
question_reply(struct question *x, unsigned part, redisReply *r)
{
	struct question_part *p = &x->parts[part];
	bool again = false;

	heard(x, p);
	if (r->type == REDIS_REPLY_ERROR && site_is_cluster(&x->desk->site))
		again = redirected(x, p, r);
	if (!again && r->type == REDIS_REPLY_ERROR && strncmp(r->str, "TRYAGAIN", 8) == 0) {
		/* out of time, and nobody's fault */
	} else if (!again) {
		p->outcome = read_reply(x, p, r);
		p->answered = true;
		if (p->outcome == ASK_NOSCRIPT && !p->text) {
			p->answered = false;
			p->text = again = true;
		}
	}
	freeReplyObject(r);
	if (again)
		p->state = PART_READY;
	else
		question_advance(x);
}

void
question_lost(struct question *x, unsigned part, bool counts, const char *why)
{
	struct question_part *p = &x->parts[part];

	heard(x, p);
	if (counts)
		failed(x->desk, p->node, why);
	question_advance(x);
}

bool
question_over(const struct question *x)
{
	for (unsigned i = 0; i < x->nparts; i++)
		if (x->parts[i].state != PART_DONE)
			return false;
	return true;
}

/* --- it ends ------------------------------------------------------------------------------ */

/* What the parts say together: OK if all do. */
static enum store_status
settle_all(struct question *x)
{
	enum store_status all = x->nparts > 0 ? STORE_OK : STORE_DOWN;

	for (unsigned i = 0; i < x->nparts; i++) {
		struct question_part *p = &x->parts[i];
		enum store_status status = p->answered ? settle(x->desk, p) : STORE_DOWN;

		if (status != STORE_OK && all != STORE_DOWN)
			all = status;
	}
	return all;
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

static void
end_lease(struct question *x, enum store_status status)
{
	struct desk *d = x->desk;
	struct zone *z = d->site.zone;

	if (x->lease == 0)
		return;
	if (status == STORE_OK && session_counted(x->request, x->answer)) {
		zone_lease_count(z, x->lease);
		x->answer->lease = x->lease;
		return;
	}
	/* Redis knows the lease if its answer was lost, or if the keeper just renewed all. */
	if (status == STORE_DOWN || x->leased || x->renewals % 2 == 1 ||
	    keeper_renewals(d->keeper) != x->renewals) {
		zone_lease_end(z, x->lease, true);
		keeper_wake(d->keeper);
	} else
		zone_lease_end(z, x->lease, false);
}

static enum store_status
end_ask(struct question *x)
{
	struct answer *out = x->answer;
	enum store_status status = settle_all(x);

	if (status == STORE_OK)
		question_merge(x);
	else {
		char generation[sizeof out->generation];

		/* nothing half read may leave here */
		memcpy(generation, out->generation, sizeof generation);
		memset(out, 0, sizeof *out);
		if (status == STORE_STALE)
			memcpy(out->generation, generation, sizeof generation);
	}
	end_lease(x, status);
	return status;
}

/* What an ACL makes Redis say, of a command and of one in a script. */
static bool
no_right(const char *why)
{
	return strncmp(why, "NOPERM", 6) == 0 || strstr(why, "user executing the script") != NULL;
}

static enum store_status
end_load(struct question *x, const struct question_part *p)
{
	if (!p->answered)
		return STORE_DOWN;
	if (p->outcome != ASK_OK)
		overlay_free(x->overlay);
	if (p->outcome != ASK_BAD || !no_right(p->why))
		return settle(x->desk, p);
	/* No failure for the breaker: questions are answered. But changes there are not seen. */
	note(x->desk, ZONE_NOTE_LOAD, "does not let the limits be read (", p->why,
	    "): those in force stay");
	return STORE_DOWN;
}

/* Whatever Redis says against it (an ACL, a key of another type) is no failure of Redis: questions
 * are answered. */
static enum store_status
end_neighbours(struct question *x, const struct question_part *p)
{
	if (!p->answered)
		return STORE_DOWN;
	if (p->outcome == ASK_OK)
		return STORE_OK;
	note(x->desk, ZONE_NOTE_NEIGHBOURS, "does not tell of other weir-milters (", p->why, ")");
	return STORE_DOWN;
}

enum store_status
question_end(struct question *x)
{
	if (x->nparts == 0)
		return STORE_DOWN;
	switch (x->kind) {
	case QUESTION_ASK:
		return end_ask(x);
	case QUESTION_LOAD:
		return end_load(x, &x->parts[0]);
	case QUESTION_PUBLISH:
		return STORE_OK;
	case QUESTION_NEIGHBOURS:
		return end_neighbours(x, &x->parts[0]);
	}
	return STORE_DOWN;
}
