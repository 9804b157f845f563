/*
 * snapshot.c - see snapshot.h.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "log.h"
#include "snapshot.h"

/* Entries whose complaint has been logged; more than that are complained about again. */
#define COMPLAINTS_MAX (2 * LIMITS_MAX)

struct snapshot {
	struct ruleset rules; /* first: snapshot_put() gets a pointer to it */
	unsigned users;
};

struct snapshots {
	const struct ruleset *base;
	bool announce;
	pthread_mutex_t lock; /* current, users */
	pthread_mutex_t loading; /* one refresh at a time; complaints */
	struct snapshot *current;
	unsigned ncomplaints;
	struct complaint {
		char name[LIMIT_NAME_MAX + 1];
		char why[LIMIT_ERR_MAX];
	} complaints[COMPLAINTS_MAX], fresh[COMPLAINTS_MAX];
	unsigned nfresh;
};

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

const struct ruleset *
snapshot_get(struct snapshots *s)
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
	if (last)
		free(old);
}

/* Logs an entry that is ignored, once as long as it stays as it is. */
static void
complain(void *ctx, const char *name, const char *why)
{
	struct snapshots *s = ctx;
	struct complaint *c;
	char safe[LOG_VALUE_MAX];
	bool known = false;

	if (!s->announce)
		return;
	log_escape(name, safe, sizeof safe);
	safe[LIMIT_NAME_MAX] = '\0';
	for (unsigned i = 0; i < s->ncomplaints; i++)
		if (strcmp(s->complaints[i].name, safe) == 0 &&
		    strcmp(s->complaints[i].why, why) == 0)
			known = true;
	if (!known)
		log_line(LOG_WARNING, "redis: limit %s ignored: %s", safe, why);
	if (s->nfresh == COMPLAINTS_MAX)
		return;
	c = &s->fresh[s->nfresh++];
	strcpy(c->name, safe);
	strncpy(c->why, why, sizeof c->why - 1);
	c->why[sizeof c->why - 1] = '\0';
}

/* The new ruleset from what Redis holds. Called with `loading` held. */
static struct snapshot *
build(struct snapshots *s, const struct ruleset *prev, const struct overlay *o)
{
	struct snapshot *next = calloc(1, sizeof *next);

	if (next == NULL)
		return NULL;
	s->nfresh = 0;
	ruleset_overlay(
	    s->base, prev, o->generation, o->entries, o->nentries, &next->rules, complain, s);
	memcpy(s->complaints, s->fresh, sizeof s->complaints);
	s->ncomplaints = s->nfresh;
	next->users = 1;
	return next;
}

bool
snapshot_refresh(struct snapshots *s, struct store *store, const char *stale, int64_t deadline_us)
{
	const struct ruleset *prev;
	struct snapshot *next = NULL;
	struct overlay o;
	bool done;

	pthread_mutex_lock(&s->loading);
	prev = snapshot_get(s);
	done = strcmp(prev->generation, stale) != 0;
	if (!done && store_load(store, deadline_us, &o) == STORE_OK) {
		if (strcmp(o.generation, prev->generation) == 0)
			done = true;
		else
			next = build(s, prev, &o);
		overlay_free(&o);
	}
	if (next != NULL) {
		char safe[LOG_VALUE_MAX];

		if (s->announce && prev->generation[0] != '\0')
			log_line(LOG_NOTICE, "limits: generation %s is in force",
			    log_escape(next->rules.generation, safe, sizeof safe));
		pthread_mutex_lock(&s->lock);
		s->current->users--; /* prev is one more user: never the last here */
		s->current = next;
		pthread_mutex_unlock(&s->lock);
		done = true;
	}
	snapshot_put(s, prev);
	pthread_mutex_unlock(&s->loading);
	return done;
}
