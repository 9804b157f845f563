/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * zone_breaker.c - do the workers, together, think that Redis is down?
 *
 * One word says it all, so that no worker can die in the middle of a change: positive is the
 * time when the breaker opened; 0, -1, -2 is closed after so many failures in a row. Odd: it has
 * been said that what was there is elsewhere.
 */
#include <string.h>

#include "zone_private.h"

unsigned
zone_breaker_of(struct zone *z, const char *name)
{
	uint64_t id = siphash(&z->secret, name, strlen(name)) | 1;
	unsigned first = (unsigned)(id >> 32) % (ZONE_BREAKERS - 1);

	for (unsigned i = 0; i < ZONE_BREAKERS - 1; i++) {
		unsigned b = 1 + (first + i) % (ZONE_BREAKERS - 1);
		uint64_t is = 0;

		if (atomic_compare_exchange_strong(&z->breaker_of[b], &is, id) || is == id)
			return b;
	}
	return 1 + first; /* more nodes than breakers: two share one */
}

bool
zone_breaker_open_at(struct zone *z, unsigned b)
{
	return atomic_load_explicit(&z->breakers[b], memory_order_relaxed) > 0;
}

bool
zone_breaker_failed_at(struct zone *z, unsigned b, int64_t now_us)
{
	int64_t was = atomic_load(&z->breakers[b]), next;

	do {
		if (was > 0)
			return false;
		next = was - 1;
		if (next <= -BREAKER_FAILURES) {
			next = zone_clock(now_us) & ~INT64_C(1);
			if (next <= 0) /* a clock before 1970 must not read as "closed" */
				next = 2;
		}
	} while (!atomic_compare_exchange_weak(&z->breakers[b], &was, next));
	return next > 0;
}

bool
zone_breaker_ok_at(struct zone *z, unsigned b)
{
	/* The usual case writes nothing, or every answer would pull this line between cores. */
	if (atomic_load_explicit(&z->breakers[b], memory_order_relaxed) == 0)
		return false;
	return atomic_exchange(&z->breakers[b], 0) > 0;
}

bool
zone_breaker_elsewhere(struct zone *z, unsigned b)
{
	int64_t was = atomic_load(&z->breakers[b]);

	return was > 0 && was % 2 == 0 &&
	    atomic_compare_exchange_strong(&z->breakers[b], &was, was | 1);
}

int64_t
zone_breaker_since_at(struct zone *z, unsigned b)
{
	int64_t since = atomic_load_explicit(&z->breakers[b], memory_order_relaxed);

	return since > 0 ? since : 0;
}
