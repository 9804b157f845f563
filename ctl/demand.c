/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * demand.c - see demand.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "demand.h"
#include "siphash.h"

struct key {
	struct lru_link link;
	uint8_t limit;
	uint8_t group; /* the best that it was seen as */
	uint32_t peak;
	uint32_t level; /* in the parts below; or open sessions */
	int64_t part; /* number of the newest part */
	uint32_t parts[DEMAND_PARTS + 1]; /* by number, modulo */
};

struct demand {
	struct ruleset rules;
	struct siphash_key secret;
	struct lru *keys;
	struct traffic *traffic;
	struct demand_histogram *histograms; /* one a limit */
};

/* --- histograms ---------------------------------------------------------------------------------- */

unsigned
demand_class(int64_t value)
{
	unsigned power;

	if (value < 64)
		return value < 0 ? 0 : (unsigned)value;
	if (value > UINT32_MAX)
		value = UINT32_MAX;
	power = 63 - (unsigned)__builtin_clzll((uint64_t)value);
	return 64 + (power - 6) * 32 + (unsigned)((value >> (power - 5)) & 31);
}

int64_t
demand_class_end(unsigned class)
{
	unsigned power = (class - 64) / 32 + 6;

	if (class < 64)
		return class;
	return ((INT64_C(32) + (class - 64) % 32 + 1) << (power - 5)) - 1;
}

int64_t
demand_samples(const struct demand_histogram *h, unsigned groups)
{
	return demand_above(h, groups, -1);
}

int64_t
demand_above(const struct demand_histogram *h, unsigned groups, int64_t value)
{
	int64_t n = 0;

	for (unsigned g = 0; g < DEMAND_GROUPS; g++)
		for (unsigned i = 0; (groups & (1U << g)) != 0 && i < DEMAND_CLASSES; i++)
			if (demand_class_end(i) > value)
				n += h->n[g][i];
	return n;
}

int64_t
demand_quantile(const struct demand_histogram *h, unsigned groups, double share)
{
	int64_t all = demand_samples(h, groups), seen = 0, max = 0;
	unsigned i = 0;

	if (all == 0)
		return 0;
	for (; i < DEMAND_CLASSES; i++) {
		for (unsigned g = 0; g < DEMAND_GROUPS; g++)
			if ((groups & (1U << g)) != 0)
				seen += h->n[g][i];
		if (seen > 0 && (double)seen >= share * (double)all)
			break;
	}
	for (unsigned g = 0; g < DEMAND_GROUPS; g++)
		if ((groups & (1U << g)) != 0 && h->max[g] > max)
			max = h->max[g];
	return demand_class_end(i) < max ? demand_class_end(i) : max;
}

/* --- keys ---------------------------------------------------------------------------------------- */

static void
forget_key(void *ctx, void *element)
{
	struct demand *d = ctx;
	const struct key *k = element;
	struct demand_histogram *h = &d->histograms[k->limit];

	if (k->peak == 0)
		return;
	h->n[k->group][demand_class(k->peak)]++;
	if (k->peak > h->max[k->group])
		h->max[k->group] = k->peak;
}

static void
grow(struct key *k, uint32_t *level, int64_t by)
{
	*level = *level > UINT32_MAX - by ? UINT32_MAX : *level + (uint32_t)by;
	if (k->level > k->peak)
		k->peak = k->level;
}

static void
add_rate(struct key *k, const struct limit *l, int64_t cost, int64_t now_us)
{
	int64_t span = l->quota != 0 ? l->window_us : l->period_us;
	int64_t part = now_us / (span / DEMAND_PARTS);
	uint32_t *newest;

	if (part - k->part > DEMAND_PARTS) {
		memset(k->parts, 0, sizeof k->parts);
		k->level = 0;
		k->part = part;
	}
	while (k->part < part) {
		uint32_t *oldest = &k->parts[++k->part % (DEMAND_PARTS + 1)];

		k->level -= *oldest;
		*oldest = 0;
	}
	newest = &k->parts[k->part % (DEMAND_PARTS + 1)];
	/* as long as the sum fits, each part does */
	if (k->level > UINT32_MAX - cost)
		return;
	*newest += (uint32_t)cost;
	grow(k, &k->level, cost);
}

static uint8_t
group_of(unsigned good)
{
	if ((good & (GOOD_KNOWN | GOOD_AUTHENTICATED)) != 0)
		return DEMAND_KNOWN;
	return good != 0 ? DEMAND_GOOD : DEMAND_OTHER;
}

static void
mark(struct key *k, unsigned good)
{
	if (group_of(good) < k->group)
		k->group = group_of(good);
}

/* --- the first step of the road: which counters matter -------------------------------------------- */

enum what { HIT, MARK, END };

/* Bytes in DEMAND_UNIT; plan cuts what a message may cost, and here it is wanted whole. */
static int64_t
cost_of(const struct limit *l, const struct facts *f, int64_t cost)
{
	return l->count == COUNT_BYTES ? (f->bytes + DEMAND_UNIT - 1) / DEMAND_UNIT : cost;
}

/* Calls what for the keys that these facts are counted under. Who has an override has limits of
 * his own, and is no measure for those of others. */
static void
each_key(struct demand *d, const struct facts *f, enum what what, unsigned good, int64_t now_us)
{
	struct request q;

	if (!plan_request(&d->rules, f, &q))
		return;
	for (unsigned i = 0; i < q.nhits; i++) {
		const struct limit *l = q.hits[i].limit;
		char text[RECORD_KEY_MAX + 1];
		uint64_t hash;
		struct key *k;

		/* what is only looked at is no demand, and a wider network is not its clients */
		if (l < d->rules.limits || l >= d->rules.limits + d->rules.nlimits ||
		    q.hits[i].mode == HIT_PROBE || q.bits[q.hits[i].record] != 0)
			continue;
		text[0] = (char)(l - d->rules.limits);
		strcpy(text + 1, q.records[q.hits[i].record].key);
		hash = siphash(&d->secret, text, 1 + strlen(text + 1));
		k = lru_find(d->keys, hash);
		if (k == NULL && what == HIT) {
			k = lru_add(d->keys, hash);
			k->limit = (uint8_t)(l - d->rules.limits);
			k->group = DEMAND_OTHER;
		}
		if (k == NULL)
			continue;
		if (what == HIT && l->count == COUNT_SESSIONS)
			grow(k, &k->level, 1);
		else if (what == HIT)
			add_rate(k, l, cost_of(l, f, q.hits[i].cost), now_us);
		else if (what == END && l->count == COUNT_SESSIONS && k->level > 0)
			k->level--;
		mark(k, good);
	}
}

static void
on_connect(void *ctx, struct mail_session *s, int64_t now_us)
{
	struct facts f = traffic_facts(s, NULL);

	each_key(ctx, &f, HIT, s->good, now_us);
}

static void
on_end(void *ctx, struct mail_session *s)
{
	struct facts f = traffic_facts(s, NULL);

	each_key(ctx, &f, END, s->good, 0);
}

/* connect() knows what is known then; what comes later comes with a message. */
static void
on_good_session(void *ctx, struct mail_session *s, unsigned bits)
{
	(void)ctx;
	(void)s;
	(void)bits;
}

static void
on_message(void *ctx, struct mail_session *s, struct mail_message *m,
    const struct mail_recipients *r, int64_t now_us)
{
	struct facts f = traffic_facts(s, m);

	for (int i = 0; i < r->all; i++) {
		f.recipient = i < r->named ? r->names[i] : "";
		f.message_counted = i > 0;
		each_key(ctx, &f, HIT, m->good, now_us);
	}
	if (r->all > 0 && m->size > 0) {
		f.stage = STAGE_EOM;
		f.recipient = "";
		f.bytes = m->size;
		each_key(ctx, &f, HIT, m->good, now_us);
	}
}

static void
on_rejected(void *ctx, struct mail_session *s, int64_t now_us)
{
	struct facts f = traffic_facts(s, NULL);

	f.stage = STAGE_RCPT;
	f.rejected = true;
	each_key(ctx, &f, HIT, s->good, now_us);
}

/* Perhaps days later, when its session is forgotten. Its recipients are, too, so limits per
 * recipient take no note of this; but most messages are delivered within the minute that the log is
 * read ahead. */
static void
on_good_message(void *ctx, struct mail_message *m, unsigned bits)
{
	struct demand *d = ctx;
	const struct mail_session *s = traffic_session(d->traffic, m);
	struct facts f = traffic_facts(s, m);

	each_key(d, &f, MARK, bits, 0);
	f.stage = STAGE_CONNECT;
	each_key(d, &f, MARK, bits, 0);
}

/* --- all of it ----------------------------------------------------------------------------------- */

struct demand *
demand_new(const struct ruleset *r)
{
	static const struct traffic_ops ops = {
	    on_connect, on_message, on_end, on_good_session, on_good_message, on_rejected};
	struct demand *d = calloc(1, sizeof *d);

	if (d == NULL)
		return NULL;
	d->rules = *r;
	d->rules.greylist.enabled = false;
	d->histograms = calloc(LIMITS_MAX, sizeof *d->histograms);
	d->keys = lru_new(sizeof(struct key), DEMAND_KEYS, forget_key, d);
	d->traffic = traffic_new(&ops, d);
	if (d->histograms == NULL || d->keys == NULL || d->traffic == NULL ||
	    getrandom(&d->secret, sizeof d->secret, 0) != (ssize_t)sizeof d->secret)
		demand_free(&d);
	return d;
}

void
demand_free(struct demand **d)
{
	if (*d == NULL)
		return;
	traffic_free(&(*d)->traffic);
	lru_delete(&(*d)->keys);
	free((*d)->histograms);
	free(*d);
	*d = NULL;
}

struct traffic *
demand_traffic(struct demand *d)
{
	return d->traffic;
}

void
demand_finish(struct demand *d)
{
	for (struct key *k = lru_oldest(d->keys); k != NULL; k = lru_newer(d->keys, k))
		forget_key(d, k);
}

const struct demand_histogram *
demand_of(const struct demand *d, unsigned i)
{
	return &d->histograms[i];
}
