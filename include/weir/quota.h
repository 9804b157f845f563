/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quota.h - a sliding window: at most so many in any time of one length.
 *
 * What was charged is kept in chunks of at most a twentieth of the quota, each with the time of
 * its first charge, and a whole chunk goes when that is a window old. Of all chunks only the
 * oldest can be gone in part too early, so in any window at most a twentieth more than the quota
 * gets through; and what is counted did happen within the window, so who stays below is never
 * refused. store/lua/ask.lua does the same steps.
 *
 * Plain value. Times in microseconds since 1970, counts in whole things.
 */
#ifndef WEIR_QUOTA_H
#define WEIR_QUOTA_H

#include <stdbool.h>
#include <stdint.h>

#define QUOTA_PARTS 20
/* Two neighbours together are more than a twentieth, so this many hold the quota twice over
 * only when each charge is of one; what does not fit joins the last chunk. */
#define QUOTA_CHUNKS 42

struct quota_chunk {
	int64_t since_us;
	int64_t count;
};

struct quota {
	unsigned n;
	struct quota_chunk chunk[QUOTA_CHUNKS]; /* oldest first */
};

/* Forgets what is a window old. True when the clock went back and chunks were moved to now. */
bool quota_expire(struct quota *q, int64_t now_us, int64_t window_us);
int64_t quota_used(const struct quota *q);
/* How long until `excess` of what is counted has gone. */
int64_t quota_wait(const struct quota *q, int64_t excess, int64_t now_us, int64_t window_us);
/* quota: the figure of the limit; it says how large a chunk may grow. */
void quota_add(struct quota *q, int64_t count, int64_t now_us, int64_t quota);

#endif
