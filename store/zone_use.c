/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_use.c - how full the zone's table is: counted in some pages of it, and multiplied.
 *
 * Keys are hashed, so one page is as full as another. Only so many are looked at, as a page that
 * nobody has used yet becomes memory when it is read.
 */
#include <string.h>

#include "zone_private.h"

#define SETS_A_PAGE (4096 / sizeof(struct entry_set))

const char *
zone_use_name(enum zone_use u)
{
	static const char *const names[] = {
	    [USE_BUCKET] = "bucket",
	    [USE_SESSIONS] = "sessions",
	    [USE_REFUSAL] = "refusal",
	    [USE_KNOWN] = "known",
	    [USE_TRIPLET] = "triplet",
	    [USE_TRUST] = "trust",
	    [USE_BLOCKED] = "blocked",
	    [USE_WROTE] = "wrote",
	};

	return names[u];
}

static void
look(struct zone *z, uint64_t set, int64_t counts[USES])
{
	for (unsigned i = 0; i < ZONE_WAYS; i++) {
		/* without its lock: whoever dies with one must not stop who only looks */
		const volatile struct entry *e = &zone_sets(z)[set].way[i];
		unsigned kind = e->kind;

		if (e->key != 0 && kind >= ENTRY_BUCKET && kind <= ENTRY_WROTE)
			counts[kind - ENTRY_BUCKET]++;
	}
}

void
zone_usage_get(struct zone *z, struct zone_usage *out)
{
	uint64_t pages = z->nsets / SETS_A_PAGE, looked, sets = 0;

	memset(out, 0, sizeof *out);
	out->most = (int64_t)z->nsets * ZONE_WAYS;
	out->evictions = atomic_load_explicit(&z->evictions, memory_order_relaxed);
	looked = pages < ZONE_USE_PAGES ? pages : ZONE_USE_PAGES;
	for (uint64_t p = 0; p < looked; p++)
		for (uint64_t s = 0; s < SETS_A_PAGE; s++, sets++)
			look(z, p * pages / looked * SETS_A_PAGE + s, out->entries);
	for (unsigned u = 0; u < USES; u++)
		out->entries[u] = out->entries[u] * (int64_t)z->nsets / (int64_t)sets;
}
