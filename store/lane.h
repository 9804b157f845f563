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

/* Nobody may be in lane_call(). */
void lane_free(struct lane **l);

/*
 * Sends cmd (from redisFormatCommandArgv(); freed here) and waits for its reply until
 * deadline_us (CLOCK_MONOTONIC). LANE_OK: *reply is the caller's. Else why tells what happened.
 */
enum lane_result lane_call(struct lane *l, char *cmd, size_t len, int64_t deadline_us,
    redisReply **reply, char why[WIRE_WHY_MAX]);

#endif
