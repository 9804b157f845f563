/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_worker.c - the workers that share a zone: how many sessions each has, which of them drain,
 * and whether this host takes new sessions at all.
 */
#include "zone_watch.h"

void
zone_worker_started(struct zone *z, unsigned worker)
{
	if (worker >= z->workers)
		return;
	atomic_store(&z->worker[worker].sessions, 0);
	atomic_store(&z->worker[worker].draining, false);
	count_set(&zone_watch(z)->generations[worker], 0);
	/* what its predecessor left in the lease table is the new one's to tell */
	atomic_store(&z->worker[worker].orphaned, false);
}

void
zone_worker_drains(struct zone *z, unsigned worker)
{
	if (worker < z->workers)
		atomic_store(&z->worker[worker].draining, true);
}

void
zone_worker_session(struct zone *z, unsigned worker, int by)
{
	if (worker < z->workers)
		atomic_fetch_add_explicit(
		    &z->worker[worker].sessions, (uint32_t)by, memory_order_relaxed);
}

void
zone_open_get(struct zone *z, struct zone_open *out)
{
	*out = (struct zone_open){0};
	for (unsigned i = 0; i < z->workers; i++) {
		struct zone_worker *w = &z->worker[i];
		unsigned n = atomic_load_explicit(&w->sessions, memory_order_relaxed);

		out->sessions += n;
		if (!atomic_load_explicit(&w->draining, memory_order_relaxed))
			continue;
		out->draining++;
		out->draining_sessions += n;
	}
}

void
zone_drain_set(struct zone *z, enum zone_drain by, int64_t until_us)
{
	atomic_store(&z->drain_until_us[by], until_us);
}

int64_t
zone_drain_get(struct zone *z, enum zone_drain by)
{
	return atomic_load_explicit(&z->drain_until_us[by], memory_order_relaxed);
}

int64_t
zone_drain_until(struct zone *z)
{
	int64_t until = 0;

	for (unsigned i = 0; i < ZONE_DRAINS; i++) {
		int64_t u = zone_drain_get(z, (enum zone_drain)i);

		until = u > until ? u : until;
	}
	return until;
}
