/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_stat.c - what all workers together have done: counters, and how long Redis took.
 */
#include "zone_private.h"

void
zone_stat_add(struct zone *z, enum zone_counter c, int64_t n)
{
	atomic_fetch_add_explicit(&z->stats[c], n, memory_order_relaxed);
}

void
zone_stat_set(struct zone *z, enum zone_counter c, int64_t value)
{
	atomic_store_explicit(&z->stats[c], value, memory_order_relaxed);
}

int64_t
zone_stat(struct zone *z, enum zone_counter c)
{
	return atomic_load_explicit(&z->stats[c], memory_order_relaxed);
}

bool
zone_note_due(struct zone *z, enum zone_note n, int64_t now_us, int64_t every_us)
{
	int64_t last = atomic_load(&z->noted_us[n]);

	/* a clock that went back must not keep us silent */
	if (last != 0 && now_us >= last && now_us - last < every_us)
		return false;
	return atomic_compare_exchange_strong(&z->noted_us[n], &last, now_us);
}

/* Four classes for each power of two: within a fifth of the truth, and no logarithm. */
static unsigned
latency_class(int64_t us)
{
	unsigned power, class;

	if (us < 4)
		return us < 0 ? 0 : (unsigned)us;
	power = 63 - (unsigned)__builtin_clzll((uint64_t)us);
	class = (power - 1) * 4 + (unsigned)((us >> (power - 2)) & 3);
	return class < ZONE_LATENCIES ? class : ZONE_LATENCIES - 1;
}

static int64_t
class_end(unsigned class)
{
	unsigned power = class / 4 + 1;

	if (class < 4)
		return class + 1;
	return (INT64_C(4) + class % 4 + 1) << (power - 2);
}

void
zone_latency_add(struct zone *z, int64_t us)
{
	atomic_fetch_add_explicit(&z->latencies[latency_class(us)], 1, memory_order_relaxed);
	if (us > 0)
		atomic_fetch_add_explicit(&z->latency_us, us, memory_order_relaxed);
}

int64_t
zone_latency_sum(struct zone *z)
{
	return atomic_load_explicit(&z->latency_us, memory_order_relaxed);
}

int64_t
zone_latency_end(unsigned class)
{
	return class_end(class);
}

void
zone_latencies(struct zone *z, int64_t out[ZONE_LATENCIES])
{
	for (unsigned i = 0; i < ZONE_LATENCIES; i++)
		out[i] = atomic_load_explicit(&z->latencies[i], memory_order_relaxed);
}

int64_t
zone_latency_quantile(const int64_t counts[ZONE_LATENCIES], double share)
{
	int64_t all = 0, seen = 0;

	for (unsigned i = 0; i < ZONE_LATENCIES; i++)
		all += counts[i];
	for (unsigned i = 0; i < ZONE_LATENCIES && all > 0; i++) {
		seen += counts[i];
		if ((double)seen >= share * (double)all)
			return class_end(i);
	}
	return 0;
}
