/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * demand.h - how much each client wanted at most, of what each limit counts.
 *
 * For each limit and each whom it counts for (an address, a network, a sender, ...: the same
 * records that weir-milter has) the most in any period of the limit, or the most open sessions.
 * What a client did at most is one sample, in a histogram of classes that are exact up to 64 and
 * at most 1/32 wide above it. Memory is fixed: of more than DEMAND_KEYS the one that was silent for
 * longest becomes a sample, and is another if it comes again.
 */
#ifndef WEIR_CTL_DEMAND_H
#define WEIR_CTL_DEMAND_H

#include "traffic.h"
#include "weir/request.h"

#define DEMAND_KEYS 262144

/* A period is looked at in so many parts, and one more that is not over yet: the most that is
 * found is never too small, and may be that of a period a twentieth longer. */
#define DEMAND_PARTS 20

/* 64 + 32 for each further power of two, to 2^32. */
#define DEMAND_CLASSES (64 + 32 * 26)

/* Bytes are counted in units of so many. */
#define DEMAND_UNIT 1024

enum demand_group {
	DEMAND_KNOWN, /* had mail delivered on two days, or authenticated */
	DEMAND_GOOD, /* had mail delivered */
	DEMAND_OTHER,
	DEMAND_GROUPS
};

struct demand_histogram {
	int64_t n[DEMAND_GROUPS][DEMAND_CLASSES];
	int64_t max[DEMAND_GROUPS];
};

struct demand;

/* The ruleset is borrowed. NULL: out of memory. */
struct demand *demand_new(const struct ruleset *r);
void demand_free(struct demand **d);

/* To be fed with a log. */
struct traffic *demand_traffic(struct demand *d);
/* All that is remembered becomes samples; then the histograms are whole. */
void demand_finish(struct demand *d);
/* Of limit number i of the ruleset. */
const struct demand_histogram *demand_of(const struct demand *d, unsigned i);

/* The class of a value of at least 1, and the largest value of a class. */
unsigned demand_class(int64_t value);
int64_t demand_class_end(unsigned class);

/* groups: bits. How many samples; how many of them above value at most; and the value that this
 * share (0..1) of them is not above, 0 without any. */
int64_t demand_samples(const struct demand_histogram *h, unsigned groups);
int64_t demand_above(const struct demand_histogram *h, unsigned groups, int64_t value);
int64_t demand_quantile(const struct demand_histogram *h, unsigned groups, double share);

#endif
