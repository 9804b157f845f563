/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * quota.c - see quota.h.
 */
#include <string.h>

#include "weir/quota.h"

bool
quota_expire(struct quota *q, int64_t now_us, int64_t window_us)
{
	unsigned gone = 0;
	bool repaired = false;

	while (gone < q->n && now_us - q->chunk[gone].since_us >= window_us)
		gone++;
	q->n -= gone;
	memmove(q->chunk, q->chunk + gone, q->n * sizeof q->chunk[0]);
	for (unsigned i = 0; i < q->n; i++)
		if (q->chunk[i].since_us > now_us) {
			q->chunk[i].since_us = now_us;
			repaired = true;
		}
	return repaired;
}

int64_t
quota_used(const struct quota *q)
{
	int64_t used = 0;

	for (unsigned i = 0; i < q->n; i++)
		used += q->chunk[i].count;
	return used;
}

int64_t
quota_wait(const struct quota *q, int64_t excess, int64_t now_us, int64_t window_us)
{
	for (unsigned i = 0; i < q->n; i++) {
		excess -= q->chunk[i].count;
		if (excess <= 0)
			return q->chunk[i].since_us + window_us - now_us;
	}
	/* more than the quota at once: it never fits */
	return window_us;
}

void
quota_add(struct quota *q, int64_t count, int64_t now_us, int64_t quota)
{
	int64_t most = quota >= QUOTA_PARTS ? quota / QUOTA_PARTS : 1;
	struct quota_chunk *last = q->n > 0 ? &q->chunk[q->n - 1] : NULL;

	if (last != NULL && (last->count + count <= most || q->n == QUOTA_CHUNKS))
		last->count += count;
	else
		q->chunk[q->n++] = (struct quota_chunk){now_us, count};
}
