/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * bucket.c - the arithmetic of a leaky bucket.
 */
#include <math.h>

#include "weir/limit.h"
#include "weir/units.h"

int64_t
bucket_drained(int64_t level, int64_t dt_us, int64_t rate, int64_t period_us)
{
	double gone;

	if (dt_us <= 0)
		return level;
	/* store/lua/ask.lua does the same operations in the same order */
	gone = floor((double)dt_us * (double)rate * 1000000.0 / (double)period_us);
	return gone >= (double)level ? 0 : level - (int64_t)gone;
}

int64_t
bucket_wait(int64_t excess, int64_t rate, int64_t period_us)
{
	double wait;

	if (excess <= 0)
		return 0;
	wait = ceil((double)excess * (double)period_us / ((double)rate * 1000000.0));
	return wait < (double)UNITS_DURATION_MAX ? (int64_t)wait : UNITS_DURATION_MAX;
}
