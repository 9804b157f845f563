/*
 * question.c - see question.h.
 */
#include <string.h>
#include <syslog.h>

#include "clock.h"
#include "question.h"

/* A key of the wrong type fails each question about it: one line in so long is enough. */
#define NOTE_EVERY_US (600 * USEC_PER_SEC)

/* --- what a reply means for all ----------------------------------------------------------- */

static void
failed(struct desk *d, const char *why)
{
	if (site_failed(&d->site, why))
		keeper_wake(d->keeper);
}

static void
note(struct desk *d, enum zone_note n, const char *text, const char *why, const char *then)
{
	if (zone_note_due(d->site.zone, n, clock_mono_us(), NOTE_EVERY_US))
		site_say(&d->site, LOG_WARNING, text, why, then);
}

static enum store_status
settle(struct desk *d, enum ask_outcome outcome, const char *why)
{
	switch (outcome) {
	case ASK_OK:
		site_ok(&d->site);
		return STORE_OK;
	case ASK_STALE:
		site_ok(&d->site);
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
	failed(d, why);
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
	x->nparts = 0;
	if (zone_breaker_open(d->site.zone))
		return;
	x->deadline_us = deadline(d, deadline_us);
	if (x->deadline_us == 0)
		return;
	x->nparts = nparts;
	memset(x->parts, 0, nparts * sizeof x->parts[0]);
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
	if (x->nparts == 0 || q->peek)
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
}

/* One command of its own each: others read either the old words or the new. */
void
question_publish(struct question *x, struct desk *d, const char *const *pairs, unsigned n)
{
	x->pairs = pairs;
	x->npairs = n;
	begin(x, d, QUESTION_PUBLISH, 0, 2);
}

void
question_neighbours(struct question *x, struct desk *d, bool above, unsigned *nabove, unsigned *all)
{
	x->above = above;
	x->nabove = nabove;
	x->all = all;
	begin(x, d, QUESTION_NEIGHBOURS, 0, 1);
}

/* --- it goes on --------------------------------------------------------------------------- */

static char *
command(const struct question *x, unsigned part, size_t *len)
{
	const struct site *s = &x->desk->site;
	const struct ask_names *n = &x->desk->names;
	bool text = x->parts[part].text;

	switch (x->kind) {
	case QUESTION_ASK:
		return ask_command(s, n, text, x->request, x->now_us, x->lease, len);
	case QUESTION_LOAD:
		return ask_load_command(s, n, text, x->known, len);
	case QUESTION_PUBLISH:
		return ask_publish_command(s, part == 1, x->pairs, x->npairs, len);
	case QUESTION_NEIGHBOURS:
		return ask_neighbours_command(s, n, text, x->above, len);
	}
	return NULL;
}

bool
question_send(struct question *x, struct question_send *out)
{
	for (unsigned i = 0; i < x->nparts; i++) {
		struct question_part *p = &x->parts[i];

		if (p->state != PART_READY)
			continue;
		memset(out, 0, sizeof *out);
		out->cmd = command(x, i, &out->len);
		if (out->cmd == NULL) { /* our memory, not Redis' fault */
			p->state = PART_DONE;
			continue;
		}
		out->part = i;
		out->node = p->node;
		p->state = PART_SENT;
		p->sent_us = clock_mono_us();
		return true;
	}
	return false;
}

static enum ask_outcome
read_reply(struct question *x, const redisReply *r, char why[SITE_WHY_MAX])
{
	switch (x->kind) {
	case QUESTION_ASK:
		return ask_answer(r, x->request, x->answer, why);
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

void
question_reply(struct question *x, unsigned part, redisReply *r)
{
	struct question_part *p = &x->parts[part];

	heard(x, p);
	p->outcome = read_reply(x, r, p->why);
	p->answered = true;
	freeReplyObject(r);
	if (p->outcome == ASK_NOSCRIPT && !p->text) {
		p->text = true;
		p->answered = false;
		p->state = PART_READY;
	}
}

void
question_lost(struct question *x, unsigned part, bool counts, const char *why)
{
	heard(x, &x->parts[part]);
	if (counts)
		failed(x->desk, why);
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

/* The part that decides, NULL if one was not answered. */
static struct question_part *
verdict(struct question *x)
{
	for (unsigned i = 0; i < x->nparts; i++)
		if (!x->parts[i].answered)
			return NULL;
	return x->nparts > 0 ? &x->parts[0] : NULL;
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
	if (status == STORE_DOWN || x->renewals % 2 == 1 ||
	    keeper_renewals(d->keeper) != x->renewals) {
		zone_lease_end(z, x->lease, true);
		keeper_wake(d->keeper);
	} else
		zone_lease_end(z, x->lease, false);
}

static enum store_status
end_ask(struct question *x, const struct question_part *p)
{
	struct answer *out = x->answer;
	enum store_status status = p != NULL ? settle(x->desk, p->outcome, p->why) : STORE_DOWN;

	if (status != STORE_OK) {
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
	if (p == NULL)
		return STORE_DOWN;
	if (p->outcome != ASK_OK)
		overlay_free(x->overlay);
	if (p->outcome != ASK_BAD || !no_right(p->why))
		return settle(x->desk, p->outcome, p->why);
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
	if (p == NULL)
		return STORE_DOWN;
	if (p->outcome == ASK_OK)
		return STORE_OK;
	note(x->desk, ZONE_NOTE_NEIGHBOURS, "does not tell of other weir-milters (", p->why, ")");
	return STORE_DOWN;
}

enum store_status
question_end(struct question *x)
{
	const struct question_part *p = verdict(x);

	switch (x->kind) {
	case QUESTION_ASK:
		return end_ask(x, p);
	case QUESTION_LOAD:
		return end_load(x, p);
	case QUESTION_PUBLISH:
		return p != NULL ? STORE_OK : STORE_DOWN;
	case QUESTION_NEIGHBOURS:
		return end_neighbours(x, p);
	}
	return STORE_DOWN;
}
