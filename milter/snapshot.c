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

/* An entry of Redis that could not be used. Few: people make them. */
struct reject {
	struct reject *next;
	enum overlay_section section;
	char *name, *words, *why;
	char *good; /* what was in force for this name before; NULL = nothing */
};

struct snapshots {
	const struct ruleset *base;
	bool announce;
	pthread_mutex_t lock; /* current, users */
	pthread_mutex_t loading; /* one refresh at a time; all below */
	struct snapshot *current;
	struct overlay overlay; /* what current was built from */
	struct reject *rejects; /* of it */
	struct reject *building; /* of the one that is being built */
	const struct overlay *next;
};

/* --- rejects --------------------------------------------------------------------------------- */

static void
rejects_free(struct reject **list)
{
	struct reject *r;

	while ((r = *list) != NULL) {
		*list = r->next;
		free(r->name);
		free(r->words);
		free(r->why);
		free(r->good);
		free(r);
	}
}

static struct reject *
reject_find(struct reject *list, enum overlay_section section, const char *name)
{
	for (; list != NULL; list = list->next)
		if (list->section == section && strcmp(list->name, name) == 0)
			return list;
	return NULL;
}

static const char *
entry_words(const struct overlay *o, enum overlay_section section, const char *name)
{
	for (unsigned i = 0; i < o->n[section]; i++)
		if (strcmp(o->entries[section][i].name, name) == 0)
			return o->entries[section][i].words;
	return NULL;
}

/* The words in force for this name up to now. */
static const char *
words_before(const struct snapshots *s, enum overlay_section section, const char *name)
{
	const struct reject *old = reject_find(s->rejects, section, name);

	return old != NULL ? old->good : entry_words(&s->overlay, section, name);
}

/* Says it once for as long as the entry stays as it is. */
static void
complain(const struct snapshots *s, struct reject *r)
{
	const struct reject *old = reject_find(s->rejects, r->section, r->name);
	char safe[LOG_VALUE_MAX];

	if (!s->announce || (old != NULL && strcmp(old->words, r->words) == 0))
		return;
	log_line(LOG_WARNING, "redis: %s: %s is ignored: %s", section_name(r->section),
	    log_escape(r->name, safe, sizeof safe), r->why);
}

static const char *
on_reject(void *ctx, enum overlay_section section, const char *name, const char *why)
{
	struct snapshots *s = ctx;
	const char *before = words_before(s, section, name);
	const char *words = entry_words(s->next, section, name);
	struct reject *r = calloc(1, sizeof *r);

	if (r == NULL)
		return before;
	r->section = section;
	r->name = strdup(name);
	r->words = strdup(words != NULL ? words : "");
	r->why = strdup(why);
	r->good = before != NULL ? strdup(before) : NULL;
	r->next = s->building;
	if (r->name == NULL || r->words == NULL || r->why == NULL) {
		r->next = NULL;
		rejects_free(&r);
		return before;
	}
	s->building = r;
	complain(s, r);
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
	s->current->rules = *base;
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
	if (!ruleset_overlay(s->base, o, now_us, &next->rules, on_reject, s)) {
		rejects_free(&s->building);
		free(next);
		return false;
	}
	rejects_free(&s->rejects);
	s->rejects = s->building;
	s->building = NULL;
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
	if (!done && store_load(store, deadline_us, &o) == STORE_OK) {
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
	for (const struct reject *r = s->rejects; r != NULL; r = r->next)
		fn(ctx, r->section, r->name, r->why);
	pthread_mutex_unlock(&s->loading);
}
