/*
 * zone_breaker.c - do the workers, together, think that Redis is down?
 *
 * One word says it all, so that no worker can die in the middle of a change: positive is the
 * time when the breaker opened; 0, -1, -2 is closed after so many failures in a row.
 */
#include "zone_private.h"

bool
zone_breaker_open(struct zone *z)
{
	return atomic_load_explicit(&z->breaker, memory_order_relaxed) > 0;
}

bool
zone_breaker_failed(struct zone *z, int64_t now_us)
{
	int64_t was = atomic_load(&z->breaker), next;

	do {
		if (was > 0)
			return false;
		next = was - 1;
		if (next <= -BREAKER_FAILURES) {
			next = zone_clock(now_us);
			if (next <= 0) /* a clock before 1970 must not read as "closed" */
				next = 1;
		}
	} while (!atomic_compare_exchange_weak(&z->breaker, &was, next));
	return next > 0;
}

bool
zone_breaker_ok(struct zone *z)
{
	/* The usual case writes nothing, or every answer would pull this line between cores. */
	if (atomic_load_explicit(&z->breaker, memory_order_relaxed) == 0)
		return false;
	return atomic_exchange(&z->breaker, 0) > 0;
}

int64_t
zone_breaker_since(struct zone *z)
{
	int64_t b = atomic_load_explicit(&z->breaker, memory_order_relaxed);

	return b > 0 ? b : 0;
}
