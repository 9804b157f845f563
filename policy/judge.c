/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * judge.c - the last step of the road: what the client is told. The only place that decides.
 */
#include "weir/units.h"
#include "weir/verdict.h"

const char *
action_name(enum action a)
{
	static const char *const names[] = {
	    [DO_ACCEPT] = "accept",
	    [DO_REFUSE] = "refuse",
	    [DO_DEFER] = "defer",
	};

	return names[a];
}

const char *
reason_name(enum reason r)
{
	static const char *const names[] = {
	    [REASON_OK] = "ok",
	    [REASON_EXEMPT] = "exempt",
	    [REASON_BLOCKED] = "blocked",
	    [REASON_DRAIN] = "drain",
	    [REASON_LOAD] = "load",
	    [REASON_RATE] = "rate",
	    [REASON_SESSIONS] = "sessions",
	    [REASON_QUOTA] = "quota",
	    [REASON_TRAP] = "trap",
	    [REASON_GREYLIST] = "greylist",
	    [REASON_NO_STORE] = "no-store",
	};

	return names[r];
}

const char *
grey_state_name(enum grey_state g)
{
	static const char *const names[] = {
	    [GREY_NONE] = "none",
	    [GREY_NEW] = "new",
	    [GREY_EARLY] = "early",
	    [GREY_PASSED] = "passed",
	    [GREY_KNOWN] = "known",
	    [GREY_EMBARGO] = "embargo",
	    [GREY_CORRESPONDENT] = "correspondent",
	};

	return names[g];
}

const char *
answer_source_name(enum answer_source s)
{
	static const char *const names[] = {
	    [ANSWER_STORE] = "store",
	    [ANSWER_CACHE] = "cache",
	    [ANSWER_ZONE] = "zone",
	};

	return names[s];
}

void
judge_figures(const struct hit *h, const struct hit_answer *a, struct verdict *out)
{
	out->limit = h->limit;
	out->reason = REASON_RATE;
	if (h->limit->count == COUNT_SESSIONS)
		out->reason = REASON_SESSIONS;
	else if (h->limit->quota != 0)
		out->reason = REASON_QUOTA;
	/* up, so that what is over the limit also reads so */
	out->used = (a->used + MICRO - 1) / MICRO;
	out->of = hit_ceiling(h);
	out->retry_us = a->wait_us;
}

static void
say(struct verdict *v, const struct reply *reply)
{
	v->reply = reply;
	v->action = reply_closes(reply) ? DO_REFUSE : DO_DEFER;
}

/* Of several limits that are exceeded the one that hurts most speaks: a refusal before a
 * deferral, then the longest wait. */
static bool
worse(const struct request *q, const struct answer *a, unsigned i, unsigned than)
{
	enum limit_action x = q->hits[i].limit->action, y = q->hits[than].limit->action;

	if (x != y)
		return x == ACTION_REFUSE;
	return a->hits[i].wait_us > a->hits[than].wait_us;
}

static void
judge_limits(const struct request *q, const struct answer *a, struct verdict *v)
{
	unsigned worst = q->nhits;

	for (unsigned i = 0; i < q->nhits; i++) {
		if (!a->hits[i].over || a->hits[i].skipped)
			continue;
		if (q->hits[i].limit->action == ACTION_LOG)
			v->noted |= UINT64_C(1) << i;
		else if (q->hits[i].mode == HIT_NOTE)
			continue; /* it has happened; the next question finds it */
		else if (worst == q->nhits || worse(q, a, i, worst))
			worst = i;
	}
	if (worst == q->nhits)
		return;
	judge_figures(&q->hits[worst], &a->hits[worst], v);
	say(v, &q->hits[worst].limit->reply);
}

/* At level 1 it takes an answer to tell a stranger; with none, mail flows. */
static bool
too_busy(const struct facts *f, const struct request *q, const struct answer *a)
{
	if (f->stage != STAGE_CONNECT || f->level == 0)
		return false;
	if (f->level > 1)
		return true;
	/* and the cache of refusals does not know who is known */
	return !f->spared && q != NULL && a != NULL && q->pool.asked && a->source != ANSWER_CACHE &&
	    !a->known;
}

struct verdict
judge(
    const struct ruleset *r, const struct facts *f, const struct request *q, const struct answer *a)
{
	struct verdict v = {.action = DO_ACCEPT, .reason = REASON_OK, .enforced = !r->observe};

	if (ruleset_exempt(r, f)) {
		v.reason = REASON_EXEMPT;
		return v;
	}
	if (ruleset_blocked(r, f)) {
		v.reason = REASON_BLOCKED;
		say(&v, &r->block_reply);
		return v;
	}
	if (plan_drained(r, f)) {
		v.reason = REASON_DRAIN;
		say(&v, &r->drain_reply);
		return v;
	}
	if (too_busy(f, q, a)) {
		v.reason = REASON_LOAD;
		v.level = f->level;
		say(&v, &r->load.reply);
		return v;
	}
	if (q == NULL)
		return v;
	if (a == NULL) {
		/* no counter anywhere: our fault, so the mail goes through */
		v.reason = REASON_NO_STORE;
		return v;
	}
	v.source = a->source;
	v.grey = a->grey;
	judge_limits(q, a, &v);
	if (v.action == DO_ACCEPT && a->blocked_us > 0) {
		v.reason = REASON_TRAP;
		v.retry_us = a->blocked_us;
		say(&v, &r->block_reply);
	}
	if (v.action == DO_ACCEPT && grey_holds(a->grey)) {
		v.reason = REASON_GREYLIST;
		v.retry_us = a->grey_wait_us;
		say(&v, &r->greylist.reply);
	}
	return v;
}
