/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hist.c - see hist.h.
 */
#include <stdio.h>

#include "hist.h"

/* Below HIST_SUB each value has a bucket; above, each power of two has HIST_SUB of them. */
static unsigned
hist_index(uint64_t v)
{
	unsigned shift, index;

	if (v < HIST_SUB)
		return (unsigned)v;
	shift = 63 - (unsigned)__builtin_clzll(v) - 6;
	index = (shift + 1) * HIST_SUB + (unsigned)(v >> shift) - HIST_SUB;
	return index < HIST_BUCKETS ? index : HIST_BUCKETS - 1;
}

/* The upper end of a bucket. */
static uint64_t
hist_value(unsigned index)
{
	unsigned shift = index / HIST_SUB;

	if (shift == 0)
		return index;
	shift--;
	return (((uint64_t)(index % HIST_SUB) + HIST_SUB + 1) << shift) - 1;
}

void
hist_add(struct hist *h, int64_t ns)
{
	uint64_t v = ns > 0 ? (uint64_t)ns : 0;

	h->n++;
	h->sum_ns += v;
	if (v > h->max_ns)
		h->max_ns = v;
	h->bucket[hist_index(v)]++;
}

uint64_t
hist_quantile(const struct hist *h, double share)
{
	uint64_t rank = (uint64_t)(share * (double)h->n), seen = 0;

	if (h->n == 0)
		return 0;
	if (rank >= h->n)
		rank = h->n - 1;
	for (unsigned i = 0; i < HIST_BUCKETS; i++) {
		seen += h->bucket[i];
		if (seen > rank)
			return hist_value(i) < h->max_ns ? hist_value(i) : h->max_ns;
	}
	return h->max_ns;
}

void
hist_print(const struct hist *h, const char *name)
{
	static const struct {
		const char *name;
		double share;
	} marks[] = {{"p50", .50}, {"p90", .90}, {"p99", .99}, {"p999", .999}};

	printf("\"%s\": {\"n\": %llu, \"mean\": %.4f", name, (unsigned long long)h->n,
	    h->n != 0 ? (double)h->sum_ns / (double)h->n / 1e6 : 0.0);
	for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++)
		printf(", \"%s\": %.4f", marks[i].name,
		    (double)hist_quantile(h, marks[i].share) / 1e6);
	printf(", \"max\": %.4f}", (double)h->max_ns / 1e6);
}
