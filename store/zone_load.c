/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_load.c - what the master has measured of the host's load, for all workers.
 *
 * The level and when it was said are one word, as each session that begins looks at both.
 */
#include "zone_private.h"

#define LEVEL_BITS 2
_Static_assert(LOAD_LEVEL_MAX < 1 << LEVEL_BITS, "a level fits its bits");

static void
put(_Atomic int64_t *to, int64_t value)
{
	atomic_store_explicit(to, value, memory_order_relaxed);
}

static int64_t
get(_Atomic int64_t *from)
{
	return atomic_load_explicit(from, memory_order_relaxed);
}

void
zone_load_set(struct zone *z, const struct zone_load *l, int64_t now_us)
{
	put(&z->load_own, l->own);
	put(&z->load_signal, l->signal);
	put(&z->load_value, l->value);
	put(&z->load_mark, l->mark);
	put(&z->load_since_us, l->since_us);
	for (unsigned i = 0; i < LOAD_SIGNALS; i++)
		put(&z->load_values[i], l->values[i]);
	put(&z->load_word, now_us << LEVEL_BITS | l->level);
}

void
zone_load_get(struct zone *z, struct zone_load *out)
{
	out->level = (unsigned)get(&z->load_word) & ((1u << LEVEL_BITS) - 1);
	out->own = (unsigned)get(&z->load_own);
	out->signal = (enum load_signal)get(&z->load_signal);
	out->value = get(&z->load_value);
	out->mark = get(&z->load_mark);
	out->since_us = get(&z->load_since_us);
	for (unsigned i = 0; i < LOAD_SIGNALS; i++)
		out->values[i] = get(&z->load_values[i]);
}

unsigned
zone_load_level(struct zone *z, int64_t now_us)
{
	int64_t word = get(&z->load_word);

	if (now_us - (word >> LEVEL_BITS) >= ZONE_LOAD_LIFE_US)
		return 0;
	return (unsigned)word & ((1u << LEVEL_BITS) - 1);
}

void
zone_neighbours_set(struct zone *z, unsigned above, unsigned all, int64_t now_us)
{
	put(&z->neighbours_share, all > 0 ? INT64_C(100000) * above / all : LOAD_MISSING);
	put(&z->neighbours_us, now_us);
}

int64_t
zone_neighbours_share(struct zone *z, int64_t now_us)
{
	if (now_us - get(&z->neighbours_us) >= ZONE_NEIGHBOURS_LIFE_US)
		return LOAD_MISSING;
	return get(&z->neighbours_share);
}
