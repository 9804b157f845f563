/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snapshot.c - see snapshot.h.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "log.h"
#include "snapshot.h"

struct snapshot {
	struct ruleset rules; /* first: snapshot_put() gets a pointer to it */
	unsigned users;
};

/* An entry of Redis that could not be used. */
struct reject {
	enum overlay_section section;
	char *name, *words, *why;
	char *good; /* what was in force for this name before; NULL = nothing */
};

/* Sorted by section and name, once it is complete: somebody may have spoilt thousands. */
struct rejects {
	unsigned n, room;
	struct reject *list;
};

/* More lines about what is ignored would bury the log. */
#define COMPLAINTS_MAX 50

struct snapshots {
	const struct ruleset *base;
	bool announce;
	pthread_mutex_t lock; /* current, users */
	pthread_mutex_t loading; /* one refresh at a time; all below */
	struct snapshot *current;
	struct overlay overlay; /* what current was built from */
	struct rejects rejects; /* of it */
	struct rejects building; /* of the one that is being built */
	unsigned complaints; /* about that one */
	const struct overlay *next;
};

/* --- rejects --------------------------------------------------------------------------------- */

static void
reject_clear(struct reject *r)
{
	free(r->name);
	free(r->words);
	free(r->why);
	free(r->good);
}

static void
rejects_free(struct rejects *all)
{
	for (unsigned i = 0; i < all->n; i++)
		reject_clear(&all->list[i]);
	free(all->list);
	memset(all, 0, sizeof *all);
}

static int
reject_cmp(const void *a, const void *b)
{
	const struct reject *x = a, *y = b;

	return x->section != y->section ? (x->section < y->section ? -1 : 1)
					: strcmp(x->name, y->name);
}

static const struct reject *
reject_find(const struct rejects *all, enum overlay_section section, const char *name)
{
	const struct reject key = {.section = section, .name = (char *)name};

	if (all->n == 0)
		return NULL;
	return bsearch(&key, all->list, all->n, sizeof *all->list, reject_cmp);
}

static bool
rejects_add(struct rejects *all, const struct reject *r)
{
	if (all->n == all->room) {
		unsigned room = all->room != 0 ? 2 * all->room : 16;
		struct reject *bigger = reallocarray(all->list, room, sizeof *bigger);

		if (bigger == NULL)
			return false;
		all->list = bigger;
		all->room = room;
	}
	all->list[all->n++] = *r;
	return true;
}

/* The words in force for this name up to now. */
static const char *
words_before(const struct snapshots *s, enum overlay_section section, const char *name)
{
	const struct reject *old = reject_find(&s->rejects, section, name);

	return old != NULL ? old->good : overlay_words(&s->overlay, section, name);
}

/* Says it once for as long as the entry stays as it is. */
static void
complain(struct snapshots *s, const struct reject *r)
{
	const struct reject *old = reject_find(&s->rejects, r->section, r->name);
	char safe[LOG_VALUE_MAX];

	if (!s->announce || (old != NULL && strcmp(old->words, r->words) == 0) ||
	    s->complaints++ >= COMPLAINTS_MAX)
		return;
	log_line(LOG_WARNING, "redis: %s: %s is ignored: %s", section_name(r->section),
	    log_escape(r->name, safe, sizeof safe), r->why);
}

static const char *
on_reject(void *ctx, enum overlay_section section, const char *name, const char *why)
{
	struct snapshots *s = ctx;
	const char *before = words_before(s, section, name);
	const char *words = overlay_words(s->next, section, name);
	struct reject r = {.section = section,
	    .name = strdup(name),
	    .words = strdup(words != NULL ? words : ""),
	    .why = strdup(why),
	    .good = before != NULL ? strdup(before) : NULL};

	if (r.name == NULL || r.words == NULL || r.why == NULL || !rejects_add(&s->building, &r))
		reject_clear(&r);
	else
		complain(s, &r);
	return before;
}

/* --- the ruleset in force --------------------------------------------------------------------- */

struct snapshots *
snapshots_new(const struct ruleset *base, bool announce)
{
	struct snapshots *s = calloc(1, sizeof *s);

	if (s == NULL || (s->current = calloc(1, sizeof *s->current)) == NULL) {
		free(s);
		return NULL;
	}
	s->base = base;
	s->announce = announce;
	pthread_mutex_init(&s->lock, NULL);
	pthread_mutex_init(&s->loading, NULL);
	/* before Redis is read: what the file says */
	if (!ruleset_overlay(base, &s->overlay, 0, &s->current->rules, on_reject, s)) {
		free(s->current);
		free(s);
		return NULL;
	}
	s->current->users = 1;
	return s;
}

void
snapshots_silence(struct snapshots *s)
{
	pthread_mutex_lock(&s->loading);
	s->announce = false;
	pthread_mutex_unlock(&s->loading);
}

static const struct ruleset *
get(struct snapshots *s)
{
	struct snapshot *now;

	pthread_mutex_lock(&s->lock);
	now = s->current;
	now->users++;
	pthread_mutex_unlock(&s->lock);
	return &now->rules;
}

void
snapshot_put(struct snapshots *s, const struct ruleset *r)
{
	struct snapshot *old = (struct snapshot *)r;
	bool last;

	pthread_mutex_lock(&s->lock);
	last = --old->users == 0;
	pthread_mutex_unlock(&s->lock);
	if (last) {
		ruleset_deinit(&old->rules);
		free(old);
	}
}

/* Builds what o says and swaps it in. Called with `loading` held; o stays the caller's. */
static bool
install(struct snapshots *s, const struct overlay *o, int64_t now_us)
{
	struct snapshot *next = calloc(1, sizeof *next), *old;

	if (next == NULL)
		return false;
	s->next = o;
	s->complaints = 0;
	if (!ruleset_overlay(s->base, o, now_us, &next->rules, on_reject, s)) {
		rejects_free(&s->building);
		free(next);
		return false;
	}
	if (s->complaints > COMPLAINTS_MAX)
		log_line(LOG_WARNING, "redis: %u more entries are ignored: see weirctl limit",
		    s->complaints - COMPLAINTS_MAX);
	rejects_free(&s->rejects);
	s->rejects = s->building;
	memset(&s->building, 0, sizeof s->building);
	if (s->rejects.n > 0)
		qsort(s->rejects.list, s->rejects.n, sizeof *s->rejects.list, reject_cmp);
	next->users = 1;
	pthread_mutex_lock(&s->lock);
	old = s->current;
	s->current = next;
	pthread_mutex_unlock(&s->lock);
	snapshot_put(s, &old->rules);
	return true;
}

const struct ruleset *
snapshot_get(struct snapshots *s, int64_t now_us)
{
	const struct ruleset *r = get(s);

	if (now_us < r->valid_until_us)
		return r;
	/* an entry has expired: what is known already says what holds now */
	pthread_mutex_lock(&s->loading);
	snapshot_put(s, r);
	r = get(s);
	if (now_us >= r->valid_until_us && install(s, &s->overlay, now_us)) {
		snapshot_put(s, r);
		r = get(s);
	}
	pthread_mutex_unlock(&s->loading);
	return r;
}

static void
announce(const struct snapshots *s, const struct overlay *o)
{
	char safe[LOG_VALUE_MAX];

	if (!s->announce)
		return;
	for (unsigned i = 0; i < SECTIONS; i++) {
		const char *name = section_name((enum overlay_section)i);

		if (o->total[i] == s->overlay.total[i])
			continue;
		if (o->total[i] < 0)
			log_line(LOG_WARNING, "redis: the key for %s is no hash: ignored", name);
		else if (o->total[i] > o->n[i])
			log_line(LOG_WARNING,
			    "redis: %" PRId64
			    " entries in %s are too many: only the first %u count",
			    o->total[i], name, o->n[i]);
	}
	if (o->format > OVERLAY_FORMAT && o->format != s->overlay.format)
		log_line(LOG_WARNING,
		    "redis: the limits there have format %" PRId64 ", and this weir knows %d: "
		    "keeping to the file",
		    o->format, OVERLAY_FORMAT);
	if (s->overlay.generation[0] != '\0')
		log_line(LOG_NOTICE, "limits: generation %s is in force",
		    log_escape(o->generation, safe, sizeof safe));
}

/* All of it, whatever Redis has sent. */
static bool
load(struct snapshots *s, struct store *store, int64_t deadline_us, struct overlay *out)
{
	struct overlay changes;
	bool done;

	if (store_load(store, deadline_us, &s->overlay, out) != STORE_OK)
		return false;
	if (!out->changes)
		return true;
	changes = *out;
	done = overlay_merge(&s->overlay, &changes, out);
	overlay_free(&changes);
	if (!done || overlay_is_whole(out))
		return done;
	overlay_free(out);
	return store_load(store, deadline_us, NULL, out) == STORE_OK;
}

bool
snapshot_refresh(struct snapshots *s, struct store *store, const char *stale, int64_t deadline_us,
    int64_t now_us)
{
	const struct ruleset *r;
	struct overlay o;
	bool done;

	pthread_mutex_lock(&s->loading);
	r = get(s);
	done = strcmp(r->generation, stale) != 0;
	snapshot_put(s, r);
	if (!done && load(s, store, deadline_us, &o)) {
		done = true;
		if (strcmp(o.generation, stale) == 0)
			overlay_free(&o);
		else if (install(s, &o, now_us)) {
			announce(s, &o);
			overlay_free(&s->overlay);
			s->overlay = o;
		} else {
			overlay_free(&o);
			done = false;
		}
	}
	pthread_mutex_unlock(&s->loading);
	return done;
}

void
snapshot_complaints(struct snapshots *s, snapshot_complaint *fn, void *ctx)
{
	pthread_mutex_lock(&s->loading);
	for (unsigned i = 0; i < s->rejects.n; i++) {
		const struct reject *r = &s->rejects.list[i];

		fn(ctx, r->section, r->name, r->why);
	}
	pthread_mutex_unlock(&s->loading);
}
