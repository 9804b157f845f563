/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * overlay.c - what Redis lays over the file: limits, overrides, lists.
 *
 * Each kind of entry has one function that reads it; the same functions serve the ruleset in
 * force and weirctl's check before it writes.
 */
#include <string.h>

#include "weir/entry.h"
#include "weir/ruleset.h"
#include "weir/units.h"
#include "err.h"

const char *
section_name(enum overlay_section s)
{
	static const char *const names[] = {
	    [SECTION_LIMITS] = "limits",
	    [SECTION_OVERRIDES] = "overrides",
	    [SECTION_LISTS] = "lists",
	    [SECTION_DRAIN] = "drain",
	};

	return names[s];
}

/* --- one entry of each kind: what it says, or why it cannot be used ------------------------- */

/* NAME or NAME:temporary. */
static bool
limit_field(const char *field, char name[LIMIT_NAME_MAX + 1], bool *temporary)
{
	const char *colon = strchr(field, ':');
	size_t len = colon != NULL ? (size_t)(colon - field) : strlen(field);

	*temporary = colon != NULL;
	if (len > LIMIT_NAME_MAX || (colon != NULL && strcmp(colon, ENTRY_TEMPORARY) != 0))
		return false;
	memcpy(name, field, len);
	name[len] = '\0';
	return limit_name_valid(name);
}

static bool
read_limit(const struct ruleset *r, const char *field, const char *words, struct limit *out,
    char *err, size_t errlen)
{
	char name[LIMIT_NAME_MAX + 1];
	const struct limit *l;
	bool temporary;

	if (!limit_field(field, name, &temporary))
		return err_set(err, errlen, "not a limit's name ([a-z0-9-], at most 32)", NULL);
	l = ruleset_limit((struct ruleset *)r, name);
	if (l != NULL)
		*out = *l;
	else if (r->nlimits < LIMITS_MAX)
		limit_init(out, name);
	else
		return err_set(err, errlen, "too many limits (at most 16)", NULL);
	if (!limit_set_words(out, words, err, errlen) || !limit_finish(out, err, errlen))
		return false;
	return ruleset_ladders_fit(r, out) || err_set(err, errlen, LADDERS_TOO_WIDE, NULL);
}

/* Field by field: between two fields of a rung lies a byte of nothing. */
static bool
same_ladder(const struct limit *a, const struct limit *b)
{
	for (unsigned i = 0; i < a->nrungs && i < b->nrungs; i++)
		if (a->rungs[i].bits != b->rungs[i].bits || a->rungs[i].times != b->rungs[i].times)
			return false;
	return a->nrungs == b->nrungs;
}

/* "WHO NAME". What a limit counts, and per what, is the same for all. */
static bool
read_override(const struct ruleset *r, const char *field, const char *words, struct who *who,
    struct limit *out, char *err, size_t errlen)
{
	const char *blank = strrchr(field, ' ');
	char text[WHO_TEXT_MAX];
	const struct limit *l;

	if (blank == NULL || (size_t)(blank - field) >= sizeof text)
		return err_set(err, errlen, "the field is \"WHO LIMIT\"", NULL);
	memcpy(text, field, (size_t)(blank - field));
	text[blank - field] = '\0';
	if (!who_parse(text, who, err, errlen))
		return false;
	if (who->kind != WHO_NET && who->kind != WHO_USER)
		return err_set(
		    err, errlen, "limits are overridden for addresses, networks and users", NULL);
	/* the name goes into the sentence, and may be any bytes */
	if (!limit_name_valid(blank + 1))
		return err_set(err, errlen, "not a limit's name ([a-z0-9-], at most 32)", NULL);
	l = ruleset_limit((struct ruleset *)r, blank + 1);
	if (l == NULL)
		return err_set(err, errlen, "there is no limit ", blank + 1, NULL);
	*out = *l;
	if (!limit_set_words(out, words, err, errlen) || !limit_finish(out, err, errlen))
		return false;
	if (out->count != l->count || out->per != l->per)
		return err_set(err, errlen, "an override cannot change count or per", NULL);
	/* whether pools are asked for hangs on the limits themselves; and WHO says whom it is for */
	if (out->whom != l->whom || out->nnets != l->nnets ||
	    memcmp(out->nets, l->nets, l->nnets * sizeof l->nets[0]) != 0)
		return err_set(err, errlen, "an override cannot change for", NULL);
	if (!same_ladder(out, l))
		return err_set(err, errlen, "an override cannot change the ladder", NULL);
	if (who->kind == WHO_USER && limit_at_connect(out))
		return err_set(err, errlen,
		    "at connect nobody is authenticated yet: override it for an address", NULL);
	return true;
}

/* Words that are "action=VALUE" and nothing else. */
static bool
only_action(const char *words, char *value, size_t valuelen)
{
	char key[16];

	return entry_next(&words, key, sizeof key, value, valuelen) && *words == '\0' &&
	    strcmp(key, "action") == 0;
}

static bool
read_listed(const char *field, const char *words, struct who *who, struct listing *says, char *err,
    size_t errlen)
{
	return who_parse(field, who, err, errlen) && listing_parse(words, who, says, err, errlen);
}

/* What a name in random hex, and the dot before it, add to the host's. */
#define NODE_TAIL 9

bool
drain_concerns(const char *name, const char *node)
{
	size_t len = strlen(name), all = strlen(node);

	if (strcmp(name, DRAIN_ALL) == 0 || strcmp(name, node) == 0)
		return true;
	return len > 0 && len + NODE_TAIL == all && strncmp(name, node, len) == 0 &&
	    node[len] == '.';
}

static bool
read_drain(const char *field, const char *words, char *err, size_t errlen)
{
	size_t len =
	    strspn(field, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-");
	char value[16];

	if (len == 0 || len > RULESET_NODE_MAX || field[len] != '\0')
		return err_set(err, errlen, "not the name of a node or a host", NULL);
	if (!only_action(words, value, sizeof value) || strcmp(value, "drain") != 0)
		return err_set(err, errlen, "must be action=drain", NULL);
	return true;
}

/* --- building ------------------------------------------------------------------------------ */

struct build {
	struct ruleset *out;
	int64_t now_us;
	bool temporaries; /* of the limits: which pass this is */
	int64_t until_us; /* of the entry at hand */
};

static bool
apply_words(struct build *b, enum overlay_section s, const char *name, const char *words, char *err,
    size_t errlen)
{
	struct ruleset *r = b->out;
	struct limit limit, *slot;
	struct listing says;
	struct who who;

	switch (s) {
	case SECTION_LIMITS:
		if (!read_limit(r, name, words, &limit, err, errlen))
			return false;
		slot = ruleset_limit_add(r, limit.name);
		*slot = limit;
		return true;
	case SECTION_OVERRIDES:
		if (!read_override(r, name, words, &who, &limit, err, errlen))
			return false;
		exceptions_add_override(r->exceptions, &who, &limit);
		return true;
	case SECTION_LISTS:
		if (!read_listed(name, words, &who, &says, err, errlen))
			return false;
		exceptions_add_listed(r->exceptions, &who, &says);
		return true;
	case SECTION_DRAIN:
		if (!read_drain(name, words, err, errlen))
			return false;
		if (drain_concerns(name, r->node) && b->until_us > r->drain_until_us)
			r->drain_until_us = b->until_us;
		return true;
	case SECTIONS:
		break;
	}
	return false;
}

/* True when the entry was used, or is over. */
static bool
apply(struct build *b, enum overlay_section s, const char *name, const char *text, char *err,
    size_t errlen)
{
	char words[ENTRY_WORDS_MAX + 1];
	struct entry_meta meta;

	if (!entry_split(text, &meta, words, err, errlen))
		return false;
	if (meta.until_us <= b->now_us)
		return true;
	b->until_us = meta.until_us;
	if (!apply_words(b, s, name, words, err, errlen))
		return false;
	if (meta.until_us < b->out->valid_until_us)
		b->out->valid_until_us = meta.until_us;
	return true;
}

static bool
in_this_pass(const struct build *b, enum overlay_section s, const char *name)
{
	return s != SECTION_LIMITS || (strchr(name, ':') != NULL) == b->temporaries;
}

static void
apply_section(struct build *b, const struct overlay *o, enum overlay_section s,
    ruleset_reject *reject, void *ctx)
{
	char err[LIMIT_ERR_MAX];

	for (unsigned i = 0; i < o->n[s]; i++) {
		const struct overlay_entry *e = &o->entries[s][i];
		const char *before;

		if (!in_this_pass(b, s, e->name) || apply(b, s, e->name, e->words, err, sizeof err))
			continue;
		before = reject(ctx, s, e->name, err);
		if (before != NULL)
			(void)apply(b, s, e->name, before, err, sizeof err);
	}
}

bool
ruleset_overlay(const struct ruleset *base, const struct overlay *o, int64_t now_us,
    struct ruleset *out, ruleset_reject *reject, void *ctx)
{
	struct build b = {.out = out, .now_us = now_us};
	bool understood = o->format <= OVERLAY_FORMAT;
	unsigned overrides = understood ? o->n[SECTION_OVERRIDES] : 0;
	unsigned listed =
	    exceptions_count(base->exceptions) + (understood ? o->n[SECTION_LISTS] : 0);

	*out = *base;
	memcpy(out->generation, o->generation, sizeof out->generation);
	out->exceptions = NULL;
	out->drain_until_us = 0;
	if (overrides + listed > 0) {
		out->exceptions = exceptions_new(overrides, listed);
		if (out->exceptions == NULL)
			return false;
		exceptions_add_file(out->exceptions, base->exceptions);
	}
	if (understood) {
		apply_section(&b, o, SECTION_LIMITS, reject, ctx);
		b.temporaries = true;
		apply_section(&b, o, SECTION_LIMITS, reject, ctx);
		apply_section(&b, o, SECTION_OVERRIDES, reject, ctx);
		apply_section(&b, o, SECTION_LISTS, reject, ctx);
		apply_section(&b, o, SECTION_DRAIN, reject, ctx);
	}
	if (out->exceptions == NULL || exceptions_seal(out->exceptions))
		return true;
	ruleset_deinit(out);
	return false;
}

bool
overlay_is_whole(const struct overlay *o)
{
	for (int s = 0; s < SECTIONS; s++)
		if (o->total[s] != o->n[s])
			return false;
	return true;
}

const char *
overlay_words(const struct overlay *o, enum overlay_section s, const char *name)
{
	unsigned low = 0, high = o->n[s];

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		int c = strcmp(name, o->entries[s][mid].name);

		if (c == 0)
			return o->entries[s][mid].words;
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return NULL;
}

bool
ruleset_check_entry(const struct ruleset *r, enum overlay_section s, const char *name,
    const char *words, char *err, size_t errlen)
{
	struct limit limit;
	struct listing says;
	struct who who;

	switch (s) {
	case SECTION_LIMITS:
		return read_limit(r, name, words, &limit, err, errlen);
	case SECTION_OVERRIDES:
		return read_override(r, name, words, &who, &limit, err, errlen);
	case SECTION_LISTS:
		return read_listed(name, words, &who, &says, err, errlen);
	case SECTION_DRAIN:
		return read_drain(name, words, err, errlen);
	case SECTIONS:
		break;
	}
	return false;
}
