/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ask.c - see ask.h; the layouts are described in lua/ask.lua and lua/load.lua.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ask.h"
#include "lua.h"
#include "weir/units.h"

#define OVERLAY_BYTES_MAX 1024

/* Beyond it Lua's numbers are not exact, and ours never get there. */
#define NUMBER_MAX (INT64_C(1) << 53)
/* What ask.lua says of a quota at the most; in millionths it still fits. */
#define QUOTA_USED_MAX (INT64_C(1) << 43)

/* Where the hits begin in ask.lua's reply. */
#define ANSWER_HEAD 7

void
ask_names_init(struct ask_names *n)
{
	sha1_text(lua_ask, n->ask);
	sha1_text(lua_load, n->load);
	sha1_text(lua_neighbours, n->neighbours);
}

/* --- a command in the making --------------------------------------------------------------- */

#define ARGS_MAX (3 + (4 + 2 * REQUEST_RECORDS_MAX) + 7 + 2 * REQUEST_HITS_MAX)
#define NUMBER_TEXT_MAX 21
/* Packed numbers: of the head, of a record, of the pool and the greylist, of a hit. */
#define PACKED_HEAD 12
#define PACKED_MAX (PACKED_HEAD + REQUEST_RECORDS_MAX + 8 + 8 + 10 * REQUEST_HITS_MAX)
#define ARENA_SIZE \
	((3 + 2 * REQUEST_RECORDS_MAX) * (REDIS_PREFIX_MAX + 24 + RECORD_KEY_MAX) + SITE_KEY_MAX + \
	    SITE_MEMBER_MAX + NUMBER_TEXT_MAX + PACKED_MAX * sizeof(double))

_Static_assert(ARGS_MAX >= 2 + 2 * PUBLISH_PAIRS_MAX && ARGS_MAX >= 2 + 8 + 2 * SECTIONS,
    "the other commands have fewer arguments than a request");

struct args {
	int n;
	const char *argv[ARGS_MAX];
	size_t len[ARGS_MAX];
	size_t used;
	char arena[ARENA_SIZE]; /* what argv points to, where it is made here */
};

static void
arg_text(struct args *a, const char *s)
{
	a->argv[a->n] = s;
	a->len[a->n++] = strlen(s);
}

/* Copies len bytes. The arena is dimensioned for the longest request. */
static void
arg_copy(struct args *a, const char *s, size_t len)
{
	char *to = a->arena + a->used;

	memcpy(to, s, len);
	a->used += len;
	a->argv[a->n] = to;
	a->len[a->n++] = len;
}

/* snprintf() would cost as much as all the rest of the formatting. */
static void
arg_number(struct args *a, int64_t v)
{
	char text[NUMBER_TEXT_MAX], *p = text + sizeof text;
	uint64_t u = v < 0 ? 0 : (uint64_t)v;

	do
		*--p = (char)('0' + u % 10);
	while ((u /= 10) != 0);
	arg_copy(a, p, (size_t)(text + sizeof text - p));
}

/* The next argument is numbers, packed as Lua has them: doubles, the lowest byte first, which
 * ask.lua reads in one step. As text each would cost Redis more than what is done with it. */
static void
arg_pack(struct args *a)
{
	a->argv[a->n] = a->arena + a->used;
	a->len[a->n++] = 0;
}

static void
arg_packed(struct args *a, int64_t v)
{
	double d = (double)(v < 0 ? 0 : v);
	uint64_t bits;

	memcpy(&bits, &d, sizeof bits);
	for (unsigned i = 0; i < sizeof bits; i++)
		a->arena[a->used++] = (char)(bits >> 8 * i);
	a->len[a->n - 1] += sizeof bits;
}

static void
arg_begin(struct args *a, bool text, const char *name, const char *script)
{
	a->n = 0;
	a->used = 0;
	arg_text(a, text ? "EVAL" : "EVALSHA");
	arg_text(a, text ? script : name);
}

static char *
arg_end(struct args *a, size_t *len)
{
	char *cmd;
	int n = redisFormatCommandArgv(&cmd, a->n, a->argv, a->len);

	if (n < 0)
		return NULL;
	*len = (size_t)n;
	return cmd;
}

/* --- a request ---------------------------------------------------------------------------- */

static const struct ask_part all_of_it = {.whole = true};

/* The record that keeps the totals: the address's, if it takes part. */
static unsigned
totals_record(const struct request *q)
{
	for (unsigned i = 0; i < q->nrecords; i++)
		if (q->records[i].kind == PER_ADDRESS)
			return i;
	return 0;
}

static bool
asks_grey(const struct request *q, const struct ask_part *p)
{
	return q->grey.asked && ask_part_has(p, q->grey.record);
}

/* Where the sender is looked for: in the same step, if that can reach it. */
static bool
asks_correspondent(const struct request *q, const struct ask_part *p)
{
	return p->whole && q->grey.asked && q->grey.correspondents;
}

/* What goes where in one command: numbers from 1, 0 = not in it. */
struct places {
	unsigned record[REQUEST_RECORDS_MAX]; /* among its records */
	unsigned open[REQUEST_RECORDS_MAX]; /* in KEYS: the record's set of leases */
	unsigned nrecords, nhits;
};

/* The keys. */
static void
ask_keys(struct args *a, const struct site *s, const struct request *q, const struct ask_part *p,
    struct places *at)
{
	bool wrote = p->whole && q->wrote_us > 0, opened[REQUEST_RECORDS_MAX] = {false};
	unsigned nkeys = p->whole, nopen = 0;
	char key[SITE_KEY_MAX];

	memset(at, 0, sizeof *at);
	for (unsigned i = 0; i < q->nrecords; i++)
		if (ask_part_has(p, i))
			at->record[i] = ++at->nrecords;
	nkeys += at->nrecords;
	for (unsigned i = 0; i < q->nhits; i++) {
		unsigned record = q->hits[i].record;

		if (at->record[record] == 0)
			continue;
		at->nhits++;
		if (q->hits[i].limit->count == COUNT_SESSIONS && !opened[record]) {
			opened[record] = true;
			nopen++;
		}
	}
	arg_number(a, nkeys + nopen + asks_grey(q, p) + asks_correspondent(q, p) + wrote);
	if (p->whole)
		arg_copy(a, key, site_key(s, "generation", NULL, key));
	for (unsigned i = 0; i < q->nrecords; i++)
		if (at->record[i] != 0)
			arg_copy(
			    a, key, site_record_key(s, q->records[i].kind, q->records[i].key, key));
	for (unsigned i = 0; i < q->nrecords; i++) {
		if (!opened[i])
			continue;
		at->open[i] = ++nkeys;
		arg_copy(a, key, site_open_key(s, q->records[i].kind, q->records[i].key, key));
	}
	if (asks_grey(q, p))
		arg_copy(a, key, site_key(s, "grey", q->grey.key, key));
	if (asks_correspondent(q, p))
		arg_copy(a, key, site_key(s, "wrote", q->grey.sender, key));
	if (wrote)
		arg_copy(a, key, site_key(s, "wrote", q->wrote, key));
}

/* How far what is refused, or has happened, fills it; 0 = it does not. */
static int64_t
hit_fill(const struct hit *h)
{
	if (h->mode != HIT_NOTE && !hit_strict(h))
		return 0;
	return h->limit->quota != 0 ? hit_most(h) : hit_most(h) * MICRO;
}

static void
ask_hit(struct args *a, const struct hit *h, const struct places *at)
{
	const struct limit *l = h->limit;
	bool rate = l->rate != 0;

	arg_text(a, l->name);
	arg_pack(a);
	arg_packed(a, at->record[h->record]);
	arg_packed(a, l->count == COUNT_SESSIONS ? at->open[h->record] : 0);
	arg_packed(a, l->action != ACTION_LOG);
	arg_packed(a, h->cost);
	arg_packed(a, rate ? hit_rate(h) : hit_ceiling(h));
	arg_packed(a, rate ? l->period_us : l->window_us);
	arg_packed(a, rate ? hit_ceiling(h) : 0);
	arg_packed(a, hit_fill(h));
	arg_packed(a, h->mode);
	arg_packed(a, l->whom == FOR_STRANGERS || l->whom == FOR_KNOWN ? l->whom : 0);
}

static void
ask_pool(struct args *a, const struct pool_question *p, const struct places *at)
{
	arg_pack(a);
	arg_packed(a, at->record[p->record]);
	arg_packed(a, p->event);
	arg_packed(a, p->block_us);
	arg_packed(a, p->passed_us);
	arg_packed(a, p->rule.messages);
	arg_packed(a, p->rule.over_us);
	arg_packed(a, p->rule.keep_us);
	arg_packed(a, p->known_only);
}

static void
ask_grey(struct args *a, const struct grey_question *g, const struct ask_part *p,
    const struct places *at)
{
	arg_pack(a);
	arg_packed(a, at->record[g->record]);
	arg_packed(a, g->delay_us);
	arg_packed(a, g->window_us);
	arg_packed(a, g->keep_us);
	arg_packed(a, g->observed);
	arg_packed(a, g->embargo);
	arg_packed(a, g->embargo_us);
	arg_packed(a, p->correspondent ? 2 : p->whole && g->correspondents);
}

char *
ask_part_command(const struct site *s, const struct ask_names *n, bool text,
    const struct request *q, const struct ask_part *p, int64_t now_us, uint64_t lease, size_t *len)
{
	bool pool = q->pool.asked && ask_part_has(p, q->pool.record);
	struct places at;
	char member[SITE_MEMBER_MAX];
	struct args a;

	arg_begin(&a, text, n->ask, lua_ask);
	ask_keys(&a, s, q, p, &at);
	arg_text(&a, q->generation);
	arg_copy(&a, member, lease != 0 ? site_member(s, lease, member) : 0);
	arg_text(&a, p->refusal != NULL ? p->refusal : "");
	arg_pack(&a);
	arg_packed(&a, now_us);
	arg_packed(&a, LEASE_TTL_US);
	arg_packed(&a, at.record[totals_record(q)]);
	arg_packed(&a, at.nrecords);
	arg_packed(&a, at.nhits);
	arg_packed(&a, q->peek);
	arg_packed(&a, q->rejected);
	if (pool)
		arg_packed(&a, p->later ? 4 : 1);
	else
		arg_packed(&a, p->told == ASK_TOLD_NOT ? 0 : 1 + p->told);
	arg_packed(&a, asks_grey(q, p));
	arg_packed(&a, p->whole ? q->wrote_us : 0);
	arg_packed(&a, p->elsewhere);
	arg_packed(&a, !p->whole);
	arg_pack(&a);
	for (unsigned i = 0; i < q->nrecords; i++)
		if (at.record[i] != 0)
			arg_packed(&a, (q->records[i].ttl_us + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
	if (pool)
		ask_pool(&a, &q->pool, &at);
	else
		arg_text(&a, "");
	if (asks_grey(q, p))
		ask_grey(&a, &q->grey, p, &at);
	else
		arg_text(&a, "");
	for (unsigned i = 0; i < q->nhits; i++)
		if (at.record[q->hits[i].record] != 0)
			ask_hit(&a, &q->hits[i], &at);
	return arg_end(&a, len);
}

char *
ask_command(const struct site *s, const struct ask_names *n, bool text, const struct request *q,
    int64_t now_us, uint64_t lease, size_t *len)
{
	return ask_part_command(s, n, text, q, &all_of_it, now_us, lease, len);
}

/* --- its answer --------------------------------------------------------------------------- */

static enum ask_outcome
bad(char why[SITE_WHY_MAX], const char *text)
{
	snprintf(why, SITE_WHY_MAX, "%s", text);
	return ASK_BAD;
}

static enum ask_outcome
error_reply(const redisReply *r, char why[SITE_WHY_MAX])
{
	if (strncmp(r->str, "NOSCRIPT", 8) == 0)
		return ASK_NOSCRIPT;
	if (strncmp(r->str, "WRONGKEY ", 9) == 0) {
		snprintf(why, SITE_WHY_MAX, "%s", r->str + 9);
		return ASK_WRONGKEY;
	}
	return bad(why, r->str);
}

static bool
number_at(const redisReply *r, size_t i, int64_t max, int64_t *out)
{
	const redisReply *e = r->element[i];

	if (e == NULL || e->type != REDIS_REPLY_INTEGER || e->integer < 0 || e->integer > max)
		return false;
	*out = e->integer;
	return true;
}

static bool
generation_at(const redisReply *r, size_t i, char out[GENERATION_MAX + 1])
{
	const redisReply *e = r->element[i];

	if (e == NULL || e->type != REDIS_REPLY_STRING || e->len > GENERATION_MAX)
		return false;
	memcpy(out, e->str, e->len);
	out[e->len] = '\0';
	return true;
}

/* Two numbers a hit: what is used with it (-1: not for this client), and a quota's wait. */
static bool
hit_answer(const redisReply *r, size_t at, const struct hit *hit, struct hit_answer *h)
{
	const redisReply *used = r->element[at];
	int64_t excess;

	if (used != NULL && used->type == REDIS_REPLY_INTEGER && used->integer == -1) {
		h->skipped = true;
		return true;
	}
	if (!number_at(r, at, NUMBER_MAX, &h->used) ||
	    !number_at(r, at + 1, UNITS_DURATION_MAX, &h->wait_us))
		return false;
	if (hit->limit->quota != 0) {
		if (h->used > QUOTA_USED_MAX)
			return false;
		h->used *= MICRO;
	}
	excess = h->used - hit_ceiling(hit) * MICRO;
	h->over = excess > 0;
	if (h->over && hit->limit->rate != 0)
		h->wait_us = bucket_wait(excess, hit_rate(hit), hit->limit->period_us);
	return true;
}

static unsigned
part_hits(const struct request *q, const struct ask_part *p)
{
	unsigned n = 0;

	for (unsigned i = 0; i < q->nhits; i++)
		n += ask_part_has(p, q->hits[i].record);
	return n;
}

enum ask_outcome
ask_part_answer(const redisReply *r, const struct request *q, const struct ask_part *p,
    struct answer *out, char why[SITE_WHY_MAX])
{
	static const char unexpected[] = "unexpected reply";
	int64_t stale, charged, grey, wait, known, blocked;
	size_t at = ANSWER_HEAD;

	if (r->type == REDIS_REPLY_ERROR)
		return error_reply(r, why);
	if (r->type != REDIS_REPLY_ARRAY || r->elements < 2 || !number_at(r, 0, 1, &stale))
		return bad(why, unexpected);
	if (stale == 1)
		return p->whole && r->elements == 2 && generation_at(r, 1, out->generation)
		    ? ASK_STALE
		    : bad(why, unexpected);
	if (r->elements != ANSWER_HEAD + 2 * part_hits(q, p) ||
	    !number_at(r, 1, NUMBER_MAX, &out->now_us) || !number_at(r, 2, 1, &charged) ||
	    !number_at(r, 3, GREY_CORRESPONDENT, &grey) ||
	    !number_at(r, 4, UNITS_DURATION_MAX, &wait) || !number_at(r, 5, 1, &known) ||
	    !number_at(r, 6, NUMBER_MAX, &blocked) || asks_grey(q, p) != (grey != GREY_NONE))
		return bad(why, unexpected);
	out->charged = charged == 1;
	if (q->pool.asked && ask_part_has(p, q->pool.record))
		out->known = known == 1;
	if (p->whole || (q->pool.asked && ask_part_has(p, q->pool.record)))
		out->blocked_us = blocked;
	if (asks_grey(q, p) || p->whole) {
		out->grey = (enum grey_state)grey;
		out->grey_wait_us = wait;
	}
	for (unsigned i = 0; i < q->nhits; i++) {
		if (!ask_part_has(p, q->hits[i].record))
			continue;
		if (!hit_answer(r, at, &q->hits[i], &out->hits[i]))
			return bad(why, unexpected);
		at += 2;
	}
	return ASK_OK;
}

enum ask_outcome
ask_answer(const redisReply *r, const struct request *q, struct answer *out, char why[SITE_WHY_MAX])
{
	return ask_part_answer(r, q, &all_of_it, out, why);
}

/* --- who wrote to whom, where that is elsewhere ------------------------------------------- */

char *
ask_correspondent_command(const struct site *s, const struct request *q, size_t *len)
{
	char key[SITE_KEY_MAX];
	struct args a = {.n = 0};

	arg_text(&a, "GET");
	arg_copy(&a, key, site_key(s, "wrote", q->grey.sender, key));
	return arg_end(&a, len);
}

enum ask_outcome
ask_correspondent(
    const redisReply *r, const struct request *q, int64_t now_us, bool *is, char why[SITE_WHY_MAX])
{
	int64_t since = 0;

	*is = false;
	if (r->type == REDIS_REPLY_ERROR && strncmp(r->str, "WRONGTYPE", 9) == 0) {
		snprintf(why, SITE_WHY_MAX, "wrote:%.*s", SITE_WHY_MAX - 8, q->grey.sender);
		return ASK_WRONGKEY;
	}
	if (r->type == REDIS_REPLY_ERROR)
		return error_reply(r, why);
	if (r->type == REDIS_REPLY_NIL)
		return ASK_OK;
	if (r->type != REDIS_REPLY_STRING)
		return bad(why, "unexpected reply");
	if (r->len == 0 || r->len > 16)
		return ASK_OK;
	for (size_t i = 0; i < r->len; i++) {
		if (r->str[i] < '0' || r->str[i] > '9')
			return ASK_OK; /* as ask.lua: of another form is empty */
		since = since * 10 + (r->str[i] - '0');
	}
	*is = now_us - since < q->grey.keep_us;
	return ASK_OK;
}

char *
ask_wrote_command(const struct site *s, const struct request *q, int64_t now_us, size_t *len)
{
	char key[SITE_KEY_MAX];
	struct args a = {.n = 0};

	arg_text(&a, "SET");
	arg_copy(&a, key, site_key(s, "wrote", q->wrote, key));
	arg_number(&a, now_us);
	arg_text(&a, "PX");
	arg_number(&a, (q->wrote_us + USEC_PER_MSEC - 1) / USEC_PER_MSEC);
	return arg_end(&a, len);
}

/* --- what Redis lays over the file -------------------------------------------------------- */

/* Where the entries begin in load.lua's reply. */
#define LOAD_HEAD (3 + 2 * SECTIONS)

static const unsigned section_max[SECTIONS] = {
    [SECTION_LIMITS] = OVERLAY_LIMITS_MAX,
    [SECTION_OVERRIDES] = OVERRIDES_MAX,
    [SECTION_LISTS] = LISTED_MAX,
    [SECTION_DRAIN] = OVERLAY_DRAIN_MAX,
};

char *
ask_load_command(const struct site *s, const struct ask_names *n, bool text,
    const struct overlay *known, size_t *len)
{
	char key[SITE_KEY_MAX];
	struct args a;

	arg_begin(&a, text, n->load, lua_load);
	arg_number(&a, 3 + SECTIONS);
	arg_copy(&a, key, site_key(s, "generation", NULL, key));
	arg_copy(&a, key, site_key(s, "format", NULL, key));
	for (int i = 0; i < SECTIONS; i++)
		arg_copy(&a, key, site_key(s, section_name((enum overlay_section)i), NULL, key));
	arg_copy(&a, key, site_key(s, "history", NULL, key));
	arg_text(&a, known != NULL ? known->generation : "");
	arg_number(&a, known != NULL && overlay_is_whole(known));
	arg_number(&a, OVERLAY_BYTES_MAX);
	for (int i = 0; i < SECTIONS; i++)
		arg_number(&a, section_max[i]);
	return arg_end(&a, len);
}

static int
entry_cmp(const void *a, const void *b)
{
	return strcmp(
	    ((const struct overlay_entry *)a)->name, ((const struct overlay_entry *)b)->name);
}

/* All entries and then their bytes in one block, which the first section's pointer owns. A NUL
 * within ends the string early. */
static bool
overlay_fill(const redisReply *r, struct overlay *out)
{
	size_t n = (r->elements - LOAD_HEAD) / 2, bytes = 0, at = LOAD_HEAD;
	struct overlay_entry *entries;
	char *text;

	for (size_t i = LOAD_HEAD; i < r->elements; i++) {
		const redisReply *e = r->element[i];

		if (e == NULL || e->type != REDIS_REPLY_STRING || e->len > OVERLAY_BYTES_MAX)
			return false;
		bytes += e->len + 1;
	}
	entries = calloc(1, (n + 1) * sizeof *entries + bytes);
	if (entries == NULL)
		return false;
	text = (char *)(entries + n + 1);
	for (int s = 0; s < SECTIONS; s++) {
		out->entries[s] = entries;
		entries += out->n[s];
		for (unsigned i = 0; i < 2 * out->n[s]; i++, at++) {
			const redisReply *e = r->element[at];
			struct overlay_entry *entry = &out->entries[s][i / 2];

			memcpy(text, e->str, e->len);
			if (i % 2 == 0)
				entry->name = text;
			else
				entry->words = text;
			text += e->len + 1;
		}
		/* load.lua leaves this to us: Redis has more to do */
		qsort(out->entries[s], out->n[s], sizeof *out->entries[s], entry_cmp);
	}
	return true;
}

/* The numbers before the entries. */
static bool
overlay_head(const redisReply *r, struct overlay *out)
{
	size_t entries = 0;
	int64_t changes;

	if (!generation_at(r, 0, out->generation) || !number_at(r, 1, NUMBER_MAX, &out->format) ||
	    !number_at(r, 2, 1, &changes))
		return false;
	out->changes = changes == 1;
	for (unsigned s = 0; s < SECTIONS; s++) {
		const redisReply *total = r->element[4 + 2 * s];
		int64_t kept;

		if (!number_at(r, 3 + 2 * s, section_max[s], &kept) || total == NULL ||
		    total->type != REDIS_REPLY_INTEGER || total->integer < -1)
			return false;
		out->n[s] = (unsigned)kept;
		out->total[s] = total->integer;
		entries += (size_t)kept;
	}
	return r->elements == LOAD_HEAD + 2 * entries;
}

enum ask_outcome
ask_overlay(const redisReply *r, struct overlay *out, char why[SITE_WHY_MAX])
{
	memset(out, 0, sizeof *out);
	if (r->type == REDIS_REPLY_ERROR)
		return error_reply(r, why);
	if (r->type != REDIS_REPLY_ARRAY || r->elements < LOAD_HEAD || !overlay_head(r, out) ||
	    !overlay_fill(r, out))
		return bad(why, "unexpected reply");
	return ASK_OK;
}

/* --- what this weir-milter tells of itself ------------------------------------------------ */

char *
ask_publish_command(
    const struct site *s, bool life, const char *const *pairs, unsigned n, size_t *len)
{
	char key[SITE_KEY_MAX];
	struct args a = {.n = 0};

	arg_text(&a, life ? "PEXPIRE" : "HSET");
	arg_copy(&a, key, site_key(s, "node", s->node, key));
	if (life)
		arg_number(&a, PUBLISH_LIFE_US / USEC_PER_MSEC);
	for (unsigned i = 0; !life && i < 2 * n && i < 2 * PUBLISH_PAIRS_MAX; i++)
		arg_text(&a, pairs[i]);
	return arg_end(&a, len);
}

char *
ask_neighbours_command(
    const struct site *s, const struct ask_names *n, bool text, bool above, size_t *len)
{
	char key[SITE_KEY_MAX];
	struct args a;

	arg_begin(&a, text, n->neighbours, lua_neighbours);
	arg_number(&a, 1);
	arg_copy(&a, key, site_key(s, "nodes", NULL, key));
	arg_text(&a, s->node);
	arg_number(&a, above);
	arg_number(&a, NEIGHBOUR_LIFE_US / USEC_PER_MSEC);
	arg_number(&a, NEIGHBOUR_ABOVE);
	return arg_end(&a, len);
}

enum ask_outcome
ask_neighbours(const redisReply *r, unsigned *above, unsigned *all, char why[SITE_WHY_MAX])
{
	int64_t n, nabove;

	if (r->type == REDIS_REPLY_ERROR)
		return error_reply(r, why);
	if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
	    !number_at(r, 1, UNITS_COUNT_MAX, &n) || !number_at(r, 0, n, &nabove))
		return bad(why, "unexpected reply");
	*above = (unsigned)nabove;
	*all = (unsigned)n;
	return ASK_OK;
}
