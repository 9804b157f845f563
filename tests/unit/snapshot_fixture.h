/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * snapshot_fixture.h - a store that only knows limits, for test_snapshot*.c.
 */
#ifndef WEIR_SNAPSHOT_FIXTURE_H
#define WEIR_SNAPSHOT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "weir/units.h"
#include "log.h"
#include "snapshot.h"

#define NOW (INT64_C(1800000000) * USEC_PER_SEC)

struct fake {
	struct store store;
	enum store_status status;
	char generation[GENERATION_MAX + 1];
	int64_t format;
	struct overlay_entry entries[SECTIONS][4];
	unsigned n[SECTIONS];
	int64_t more[SECTIONS]; /* added to total */
	unsigned many; /* so many spoilt entries of lists, and nothing else */
	unsigned loads;
};

static inline int
fake_by_name(const void *a, const void *b)
{
	return strcmp(
	    ((const struct overlay_entry *)a)->name, ((const struct overlay_entry *)b)->name);
}

/* As fake_load(), f->many entries that make no sense. */
static inline void
fake_many(const struct fake *f, struct overlay *out)
{
	struct overlay_entry *e = malloc(f->many * (sizeof *e + 32));
	char *text = (char *)(e + f->many);

	assert_non_null(e);
	for (unsigned i = 0; i < f->many; i++) {
		e[i].name = text;
		text += snprintf(text, 16, "nobody%05u", i) + 1;
		e[i].words = text;
		text += snprintf(text, 16, "action=%u", i) + 1;
	}
	for (unsigned i = 0; i < SECTIONS; i++)
		out->entries[i] = e;
	out->n[SECTION_LISTS] = f->many;
	out->total[SECTION_LISTS] = f->many;
}

/* All in one block, which the first section's pointer owns. */
static inline enum store_status
fake_load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	struct fake *f = (struct fake *)s;

	(void)deadline_us;
	(void)known;
	f->loads++;
	if (f->status != STORE_OK)
		return f->status;
	memset(out, 0, sizeof *out);
	strcpy(out->generation, f->generation);
	out->format = f->format;
	if (f->many > 0) {
		fake_many(f, out);
		return STORE_OK;
	}
	out->entries[0] = malloc(sizeof f->entries);
	assert_non_null(out->entries[0]);
	memcpy(out->entries[0], f->entries, sizeof f->entries);
	for (unsigned i = 0; i < SECTIONS; i++) {
		out->entries[i] = out->entries[0] + i * 4;
		out->n[i] = f->n[i];
		qsort(out->entries[i], f->n[i], sizeof *out->entries[i], fake_by_name);
		out->total[i] = f->n[i] + f->more[i];
	}
	return STORE_OK;
}

static const struct store_ops fake_ops = {.load = fake_load};
static struct fake fake;
static struct ruleset base;
static struct snapshots *snapshots[16]; /* they live as long as the program */
static unsigned nsnapshots;

static inline struct snapshots *
fresh(bool announce)
{
	char err[LIMIT_ERR_MAX];

	ruleset_defaults(&base);
	assert_true(ruleset_finish(&base, err, sizeof err));
	fake = (struct fake){.store.ops = &fake_ops, .generation = "1", .format = 1};
	snapshots[nsnapshots] = snapshots_new(&base, announce);
	assert_non_null(snapshots[nsnapshots]);
	return snapshots[nsnapshots++];
}

/* One more entry. */
static inline void
redis_adds(enum overlay_section section, const char *name, const char *words)
{
	struct overlay_entry *e = &fake.entries[section][fake.n[section]++];

	e->name = name;
	e->words = words;
}

/* This limit and nothing else. */
static inline void
redis_holds(const char *generation, const char *name, const char *words)
{
	strcpy(fake.generation, generation);
	memset(fake.n, 0, sizeof fake.n);
	redis_adds(SECTION_LIMITS, name, words);
}

static inline int64_t
rate_at(struct snapshots *s, int64_t now_us)
{
	const struct ruleset *r = snapshot_get(s, now_us);
	int64_t rate = r->limits[0].rate;

	snapshot_put(s, r);
	return rate;
}

static inline int64_t
rate_in_force(struct snapshots *s)
{
	return rate_at(s, NOW);
}

#endif
