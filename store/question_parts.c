/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * question_parts.c - a request whose records lie in several slots of a Redis Cluster: it is split,
 * asked in parts, and judged as one.
 *
 * Each part checks and charges what is its own, so exactly the limit gets in, whatever goes on
 * elsewhere. When one part refuses, or greylisting holds back, what the others have charged is
 * taken back at once, without anybody waiting for it. Until that has arrived they count one too
 * many; if it gets lost, until it drains. What a pool earns is told it then, too.
 *
 * Parts are asked at once. Only where a limit for strangers or known clients lies in another slot
 * than the pool is the pool asked first.
 */
#include <string.h>

#include "question.h"

/* --- splitting ---------------------------------------------------------------------------- */

/* The part that has the pool's record, NULL: there is no question about it. */
static struct question_part *
pool_part(struct question *x)
{
	const struct request *q = x->request;
	unsigned record = q->grey.asked ? q->grey.record : q->pool.record;

	if (!q->grey.asked && !q->pool.asked)
		return NULL;
	for (unsigned i = 0; i < x->nparts; i++)
		if (ask_part_has(&x->parts[i].ask, record))
			return &x->parts[i];
	return NULL;
}

/* What the pool is decides what is charged elsewhere. */
static bool
pool_comes_first(const struct request *q, const struct question_part *pool)
{
	if (pool == NULL || !q->pool.asked)
		return false;
	for (unsigned i = 0; i < q->nhits; i++)
		if (!ask_part_has(&pool->ask, q->hits[i].record) &&
		    limit_wants_trust(q->hits[i].limit))
			return true;
	return q->pool.known_only;
}

static struct question_part *
add_part(struct question *x, unsigned slot)
{
	struct question_part *p = &x->parts[x->nparts++];

	memset(p, 0, sizeof *p);
	p->state = PART_READY;
	p->slot = slot;
	return p;
}

/* The part of that slot, made if need be. */
static struct question_part *
part_of(struct question *x, unsigned slot)
{
	for (unsigned i = 0; i < x->nparts; i++)
		if (x->parts[i].slot == slot)
			return &x->parts[i];
	return add_part(x, slot);
}

void
question_split(struct question *x)
{
	const struct request *q = x->request;
	const struct site *s = &x->desk->site;
	const struct question_part *pool;
	char key[SITE_KEY_MAX];
	size_t len;

	if (!site_is_cluster(s)) {
		x->parts[0].state = PART_READY;
		x->parts[0].ask.whole = true;
		return;
	}
	x->nparts = 0;
	for (unsigned i = 0; i < q->nrecords; i++) {
		len = site_record_key(s, q->records[i].kind, q->records[i].key, key);
		part_of(x, slot_of(key, len))->ask.records |= UINT32_C(1) << i;
	}
	pool = pool_part(x);
	for (unsigned i = 0; x->nparts > 1 && i < x->nparts; i++)
		x->parts[i].ask.later = true;
	for (unsigned i = 0; pool_comes_first(q, pool) && i < x->nparts; i++)
		if (&x->parts[i] != pool)
			x->parts[i].state = PART_WAITS;
	if (q->grey.asked && q->grey.correspondents) {
		len = site_key(s, "wrote", q->grey.sender, key);
		add_part(x, slot_of(key, len));
	}
}

/* --- while it is asked -------------------------------------------------------------------- */

static bool
is_held(const struct question *x)
{
	return grey_holds(x->answer->grey) && !x->request->grey.observed;
}

/* Tells those who waited what the pool is. */
static void
release_others(struct question *x, const struct question_part *pool)
{
	const struct request *q = x->request;
	bool ok = pool->answered && pool->outcome == ASK_OK;

	for (unsigned i = 0; i < x->nparts; i++) {
		struct question_part *p = &x->parts[i];

		if (p->state != PART_WAITS)
			continue;
		p->state = PART_READY;
		p->ask.told = x->answer->known ? ASK_TOLD_KNOWN : ASK_TOLD_STRANGER;
		if (!pool->charged)
			p->ask.elsewhere = is_held(x) ? ASK_HELD : ASK_REFUSED;
		if (ok && (!q->pool.known_only || x->answer->known))
			continue;
		/* no answer, or a stranger that a busy host has no time for */
		p->state = PART_DONE;
		p->answered = ok;
		p->outcome = ASK_OK;
	}
}

void
question_advance(struct question *x)
{
	struct question_part *pool;

	if (x->kind != QUESTION_ASK || x->nparts < 2)
		return;
	pool = pool_part(x);
	if (pool == NULL || pool->state != PART_DONE)
		return;
	for (unsigned i = 0; i < x->nparts; i++) /* is he a correspondent? */
		if (x->parts[i].ask.records == 0 && x->parts[i].state != PART_DONE)
			return;
	if (x->correspondent && !pool->ask.correspondent && pool->answered &&
	    pool->outcome == ASK_OK && grey_holds(x->answer->grey)) {
		pool->ask.correspondent = true;
		pool->answered = pool->charged = false;
		pool->state = PART_READY;
		return;
	}
	release_others(x, pool);
}

/* --- afterwards --------------------------------------------------------------------------- */

/* The hit that refuses, NULL: none does. */
static const struct hit *
refusing_hit(const struct request *q, const struct answer *a, bool *overran)
{
	const struct hit *first = NULL;

	*overran = false;
	for (unsigned i = 0; i < q->nhits; i++) {
		const struct hit *h = &q->hits[i];

		if (!a->hits[i].over || h->limit->action == ACTION_LOG || h->mode == HIT_NOTE)
			continue;
		if (first == NULL)
			first = h;
		*overran = *overran || h->limit->count != COUNT_SESSIONS;
	}
	return first;
}

void
question_merge(struct question *x)
{
	bool all = true, any = false;

	if (x->parts[0].ask.whole)
		return;
	for (unsigned i = 0; i < x->nparts; i++) {
		if (x->parts[i].ask.records == 0)
			continue;
		all = all && x->parts[i].charged;
		any = any || x->parts[i].charged;
	}
	x->answer->charged = all;
	x->leased = any && !all;
	x->after = x->request->peek ? QUESTION_PARTS_MAX + 1 : 0;
}

/* What the part has to be told now that all is known; false: nothing. */
static bool
last_word(
    const struct question *x, const struct question_part *p, bool overran, enum ask_elsewhere *out)
{
	const struct pool_question *pool = &x->request->pool;
	bool charged = x->answer->charged;
	bool earns = p->ask.later && pool->asked && ask_part_has(&p->ask, pool->record);

	if (!charged && p->charged) {
		if (is_held(x))
			*out = overran ? ASK_UNDO_HELD_OVERRAN : ASK_UNDO_HELD;
		else
			*out = overran ? ASK_UNDO_OVERRAN : ASK_UNDO_REFUSED;
		return true;
	}
	*out = charged ? ASK_SETTLE_CHARGED : overran ? ASK_SETTLE_OVERRAN : ASK_SETTLE_REFUSED;
	/* of a stranger that a busy host has no time for nothing is kept */
	if (!earns || (pool->known_only && !x->answer->known))
		return false;
	return overran || pool->event == TRUST_REJECTED ||
	    (charged && pool->event == TRUST_MESSAGE);
}

static char *
last_command(struct question *x, struct question_part *p, size_t *len)
{
	const struct desk *d = x->desk;
	const struct hit *hit;
	bool overran;

	hit = refusing_hit(x->request, x->answer, &overran);
	if (!last_word(x, p, overran, &p->ask.elsewhere))
		return NULL;
	p->ask.refusal = hit != NULL ? hit->limit->name : "";
	return ask_part_command(&d->site, &d->names, false, x->request, &p->ask, x->now_us, 0, len);
}

bool
question_after(struct question *x, struct question_send *out)
{
	const struct site *s = &x->desk->site;
	const struct request *q = x->request;

	memset(out, 0, sizeof *out);
	while (x->after < x->nparts) {
		struct question_part *p = &x->parts[x->after++];

		out->node = p->node;
		if (p->ask.records != 0)
			out->cmd = last_command(x, p, &out->len);
		if (out->cmd != NULL)
			return true;
	}
	if (x->after++ == x->nparts && q->wrote_us > 0 && x->answer->charged) {
		char key[SITE_KEY_MAX];
		size_t len = site_key(s, "wrote", q->wrote, key);

		out->node = topology_slot(s->topology, slot_of(key, len));
		if (out->node != NODE_NONE && !site_open(s, out->node))
			out->cmd = ask_wrote_command(s, q, x->answer->now_us, &out->len);
	}
	x->after = QUESTION_PARTS_MAX + 1;
	return out->cmd != NULL;
}
