/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lane.h - one pipelined connection to Redis, shared by all threads of a worker.
 *
 * No thread of its own: whoever comes first leads, that is, does the I/O for all who wait, and
 * passes the lead on when its own reply is in. So a lone question costs no context switch, and
 * concurrent ones travel together.
 *
 * One connection, one order: when the oldest question outlives its deadline or the connection
 * fails, the connection is closed and all that travelled on it fail together.
 */
#ifndef WEIR_STORE_LANE_H
#define WEIR_STORE_LANE_H

#include "wire.h"

struct lane;

enum lane_result {
	LANE_OK,
	LANE_FAILED,
	LANE_SWEPT /* failed together with an older question, which has reported LANE_FAILED */
};

/* t and o are borrowed. Does not connect. NULL: out of memory or descriptors. */
struct lane *lane_new(struct target *t, const struct redis_options *o);

/* Nobody may have a call under way. */
void lane_free(struct lane **l);

/* One command under way. */
struct lane_call;

/*
 * Queues cmd (from redisFormatCommandArgv(); freed here), whose reply may be waited for until
 * deadline_us (CLOCK_MONOTONIC). skip: so many replies come before the one that counts. To be met
 * with lane_finish(). NULL: out of memory.
 */
struct lane_call *lane_begin(
    struct lane *l, char *cmd, size_t len, unsigned skip, int64_t deadline_us);

/* Sends what is queued as far as that goes without waiting, unless another thread is at it: for
 * who has something else to do before lane_finish(). */
void lane_push(struct lane *l);

/* Queues and sends cmd for its effect: what is replied nobody wants, and a failure nobody hears
 * of. Freed here. */
void lane_post(struct lane *l, char *cmd, size_t len, int64_t deadline_us);

/* Waits. LANE_OK: *reply is the caller's. Else it is NULL, and why tells what happened. */
enum lane_result lane_finish(
    struct lane *l, struct lane_call *c, redisReply **reply, char why[WIRE_WHY_MAX]);

#endif
