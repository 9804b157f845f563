/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_top.c - which clients came most in the last hour, in fixed memory however many there are.
 *
 * "Space saving" (Metwally and others, 2005) in sets of eight: who is not in its set takes the
 * place of the one with the least there, and its count, as an upper bound. So whoever has more
 * than the rest of its set together is surely there, and a count is never too low. Counting one
 * who is there is an addition; only a newcomer takes a lock, and if that is taken he is left out:
 * one that matters comes again.
 */
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "siphash.h"
#include "zone_watch.h"

/* Who has held a lock for so long has died: it is held for less than a microsecond. */
#define LOCK_LIFE_US USEC_PER_SEC

void
zone_top_want(struct zone *z, bool wanted)
{
	atomic_store(&zone_watch(z)->top_wanted, wanted);
}

bool
zone_top_wanted(struct zone *z)
{
	return atomic_load_explicit(&zone_watch(z)->top_wanted, memory_order_relaxed);
}

/* --- counting ----------------------------------------------------------------------------------- */

static uint64_t
key_of(const struct zone *z, const struct net *who)
{
	unsigned char text[sizeof who->base.b + 2];
	uint64_t key;

	memcpy(text, who->base.b, sizeof who->base.b);
	text[sizeof who->base.b] = who->base.family;
	text[sizeof who->base.b + 1] = who->bits;
	key = siphash(&z->secret, text, sizeof text);
	return key != 0 ? key : 1;
}

static bool
lock(count *l, int64_t now)
{
	int64_t held = count_get(l);

	return (held == 0 || now - held > LOCK_LIFE_US) &&
	    atomic_compare_exchange_strong(l, &held, now);
}

static void
unlock(count *l)
{
	atomic_store_explicit(l, 0, memory_order_release);
}

/* Empties a table whose time was an hour ago. False: somebody else is at it. */
static bool
begin_span(struct top_table *t, int64_t was, int64_t span, int64_t now)
{
	/* one that has begun and died is followed by another */
	if (was < 0 && now + was < LOCK_LIFE_US)
		return false;
	if (!atomic_compare_exchange_strong(&t->span, &was, -now))
		return false;
	for (unsigned i = 0; i < TOP_SETS; i++)
		for (unsigned k = 0; k < TOP_WAYS; k++)
			atomic_store_explicit(&t->set[i].key[k], 0, memory_order_relaxed);
	atomic_store(&t->span, span);
	return true;
}

static int
find(struct top_set *s, uint64_t key)
{
	for (int k = 0; k < TOP_WAYS; k++)
		if (atomic_load_explicit(&s->key[k], memory_order_acquire) == key)
			return k;
	return -1;
}

static int
least(struct top_set *s)
{
	int at = 0;

	for (int k = 0; k < TOP_WAYS; k++) {
		if (atomic_load_explicit(&s->key[k], memory_order_relaxed) == 0)
			return k;
		if (count_get(&s->slot[k].decisions) < count_get(&s->slot[at].decisions))
			at = k;
	}
	return at;
}

/* The lock is held. */
static int
put(struct top_set *s, uint64_t key, const struct net *who, const char *name, bool confirmed)
{
	int k = least(s);
	struct top_slot *to = &s->slot[k];
	bool fresh = atomic_load_explicit(&s->key[k], memory_order_relaxed) == 0;

	/* who reads in between finds nobody here */
	atomic_store(&s->key[k], 0);
	if (fresh)
		count_set(&to->decisions, 0);
	count_set(&to->error, count_get(&to->decisions));
	count_set(&to->refused, 0);
	count_set(&to->held, 0);
	atomic_store_explicit(&to->reason, REASON_OK, memory_order_relaxed);
	atomic_store_explicit(&to->limit, 0, memory_order_relaxed);
	to->who = *who;
	to->confirmed = confirmed;
	strncpy(to->name, name, TOP_NAME_MAX);
	to->name[TOP_NAME_MAX] = '\0';
	atomic_store_explicit(&s->key[k], key, memory_order_release);
	return k;
}

static void
charge(struct zone *z, struct top_slot *s, const struct verdict *v, int64_t now_us)
{
	count_add(&s->decisions, 1);
	count_set(&s->last_us, now_us);
	if (v->action == DO_ACCEPT)
		return;
	count_add(v->reason == REASON_GREYLIST ? &s->held : &s->refused, 1);
	atomic_store_explicit(&s->reason, v->reason, memory_order_relaxed);
	atomic_store_explicit(&s->limit, v->limit != NULL ? zone_watch_slot(z, v->limit->name) : 0,
	    memory_order_relaxed);
}

void
zone_top_add(struct zone *z, enum top_kind kind, const struct net *who, const char *name,
    bool confirmed, const struct verdict *v, int64_t now_us)
{
	uint64_t key = key_of(z, who);
	int64_t span = now_us / TOP_SPAN_US, was, now;
	struct top_table *t;
	struct top_set *s;
	int k;

	if (span < 1)
		return;
	t = &zone_watch(z)->top[kind][span % TOP_SPANS];
	was = count_get(&t->span);
	if (was != span && !begin_span(t, was, span, clock_mono_us()))
		return;
	s = &t->set[(key >> 32) % TOP_SETS];
	k = find(s, key);
	if (k < 0) {
		now = clock_mono_us();
		if (!lock(&s->locked_us, now))
			return;
		k = find(s, key);
		if (k < 0)
			k = put(s, key, who, name, confirmed);
		unlock(&s->locked_us);
	}
	charge(z, &s->slot[k], v, now_us);
}

/* --- reading -------------------------------------------------------------------------------------- */

struct found {
	uint64_t key;
	struct top_set *set; /* of its newest table */
	unsigned way;
	int64_t decisions, refused, held, error, last_us;
};

#define FOUND_MAX (TOP_SPANS * TOP_SETS * TOP_WAYS)

static struct found found[FOUND_MAX];

static unsigned
collect(struct top_table *t, unsigned n)
{
	for (unsigned i = 0; i < TOP_SETS; i++)
		for (unsigned k = 0; k < TOP_WAYS; k++) {
			struct top_set *s = &t->set[i];
			struct top_slot *e = &s->slot[k];
			uint64_t key = atomic_load_explicit(&s->key[k], memory_order_acquire);

			if (key != 0)
				found[n++] = (struct found){.key = key,
				    .set = s,
				    .way = k,
				    .decisions = count_get(&e->decisions),
				    .refused = count_get(&e->refused),
				    .held = count_get(&e->held),
				    .error = count_get(&e->error),
				    .last_us = count_get(&e->last_us)};
		}
	return n;
}

static int
by_key(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->key != y->key)
		return x->key < y->key ? -1 : 1;
	return x->last_us < y->last_us ? 1 : x->last_us > y->last_us ? -1 : 0;
}

static int
by_refused(const void *a, const void *b)
{
	const struct found *x = a, *y = b;
	int64_t p = x->refused + x->held, q = y->refused + y->held;

	if (p == q) {
		p = x->decisions;
		q = y->decisions;
	}
	return p < q ? 1 : p > q ? -1 : by_key(a, b);
}

static int
by_decisions(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	if (x->decisions == y->decisions)
		return by_key(a, b);
	return x->decisions < y->decisions ? 1 : -1;
}

/* The tables of one client become one. */
static unsigned
merge(unsigned n)
{
	unsigned last = 0;

	if (n == 0)
		return 0;
	qsort(found, n, sizeof found[0], by_key);
	for (unsigned i = 1; i < n; i++)
		if (found[i].key == found[last].key) {
			found[last].decisions += found[i].decisions;
			found[last].refused += found[i].refused;
			found[last].held += found[i].held;
			found[last].error += found[i].error;
		} else
			found[++last] = found[i];
	return last + 1;
}

static bool
copy(struct zone *z, const struct found *f, struct top_entry *out)
{
	struct top_slot *s = &f->set->slot[f->way];
	uint32_t reason = atomic_load_explicit(&s->reason, memory_order_relaxed);

	memset(out, 0, sizeof *out);
	out->who = s->who;
	out->confirmed = s->confirmed;
	memcpy(out->name, s->name, TOP_NAME_MAX);
	out->decisions = f->decisions;
	out->refused = f->refused;
	out->held = f->held;
	out->error = f->error;
	out->last_us = f->last_us;
	out->reason = reason < WATCH_REASONS ? (enum reason)reason : REASON_OK;
	strcpy(
	    out->limit, zone_watch_name(z, atomic_load_explicit(&s->limit, memory_order_relaxed)));
	atomic_thread_fence(memory_order_acquire);
	/* somebody else may have taken the place while it was read */
	return atomic_load(&f->set->key[f->way]) == f->key;
}

unsigned
zone_top_get(struct zone *z, enum top_kind kind, bool by_all, int64_t now_us, struct top_entry *out,
    unsigned max)
{
	int64_t span = now_us / TOP_SPAN_US;
	unsigned n = 0, given = 0;

	for (unsigned i = 0; i < TOP_SPANS; i++) {
		struct top_table *t = &zone_watch(z)->top[kind][i];
		int64_t of = count_get(&t->span);

		if (of > span - TOP_SPANS + 1 && of <= span && of > 0)
			n = collect(t, n);
	}
	n = merge(n);
	qsort(found, n, sizeof found[0], by_all ? by_decisions : by_refused);
	for (unsigned i = 0; i < n && given < max; i++) {
		if (!by_all && found[i].refused + found[i].held == 0)
			break;
		given += copy(z, &found[i], &out[given]);
	}
	return given;
}
