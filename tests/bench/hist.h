/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * hist.h - how long things took: a histogram of logarithmic buckets, each at most 1/64 wide, in
 * nanoseconds. Adding costs a few instructions; all of it fits a few pages.
 */
#ifndef BENCH_HIST_H
#define BENCH_HIST_H

#include <stdint.h>

#define HIST_SUB 64
#define HIST_BUCKETS (HIST_SUB * 40)

struct hist {
	uint64_t n, sum_ns, max_ns;
	uint32_t bucket[HIST_BUCKETS];
};

/* Times beyond nine hours count as that; negative ones as none. */
void hist_add(struct hist *h, int64_t ns);

/* The value that this share (0 to 1) of all are not above, to 1.6 %; 0 of an empty one. */
uint64_t hist_quantile(const struct hist *h, double share);

/* As a member of a JSON object: "name": {"n": ..., "mean": ..., "p50": ...} in milliseconds. */
void hist_print(const struct hist *h, const char *name);

#endif
