/*
 * snapshot_fixture.h - a store that only knows limits, for test_snapshot*.c.
 */
#ifndef WEIR_SNAPSHOT_FIXTURE_H
#define WEIR_SNAPSHOT_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "log.h"
#include "snapshot.h"

struct fake {
	struct store store;
	enum store_status status;
	char generation[GENERATION_MAX + 1];
	struct overlay_entry entries[4];
	unsigned nentries, loads;
};

static inline enum store_status
fake_load(struct store *s, int64_t deadline_us, struct overlay *out)
{
	struct fake *f = (struct fake *)s;

	(void)deadline_us;
	f->loads++;
	if (f->status != STORE_OK)
		return f->status;
	memset(out, 0, sizeof *out);
	strcpy(out->generation, f->generation);
	out->nentries = f->nentries;
	if (f->nentries > 0) {
		out->entries = malloc(sizeof f->entries);
		assert_non_null(out->entries);
		memcpy(out->entries, f->entries, sizeof f->entries);
	}
	return STORE_OK;
}

static const struct store_ops fake_ops = {.load = fake_load};
static struct fake fake;
static struct ruleset base;
static struct snapshots *snapshots[8]; /* they live as long as the program */
static unsigned nsnapshots;

static inline struct snapshots *
fresh(bool announce)
{
	char err[LIMIT_ERR_MAX];

	ruleset_defaults(&base);
	assert_true(ruleset_finish(&base, err, sizeof err));
	fake = (struct fake){.store.ops = &fake_ops, .generation = "1"};
	snapshots[nsnapshots] = snapshots_new(&base, announce);
	assert_non_null(snapshots[nsnapshots]);
	return snapshots[nsnapshots++];
}

static inline void
redis_holds(const char *generation, const char *name, const char *words)
{
	strcpy(fake.generation, generation);
	fake.entries[0].name = name;
	fake.entries[0].words = words;
	fake.nentries = 1;
}

static inline int64_t
rate_in_force(struct snapshots *s)
{
	const struct ruleset *r = snapshot_get(s);
	int64_t rate = r->limits[0].rate;

	snapshot_put(s, r);
	return rate;
}

#endif
