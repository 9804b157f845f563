/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lane_event.h - one pipelined connection to Redis on an event loop (libevent): lane.h for who must
 * not wait. All that is queued in one turn of the loop is sent by one write at its end.
 *
 * One connection, one order: when the oldest question outlives its deadline or the connection
 * fails, the connection is closed and all that travelled on it fail together.
 *
 * Belongs to the loop's thread.
 */
#ifndef WEIR_STORE_LANE_EVENT_H
#define WEIR_STORE_LANE_EVENT_H

#include <event2/event.h>

#include "lane.h"

struct lane_event;

/* Comes from the loop, once for each lane_event_send() that has said true. r is the callee's; NULL
 * unless LANE_OK, and then why tells what happened. */
typedef void lane_event_fn(
    void *ctx, unsigned tag, enum lane_result result, redisReply *r, const char *why);

/* All are borrowed. Does not connect. NULL: out of memory. */
struct lane_event *lane_event_new(
    struct event_base *base, struct target *t, const struct redis_options *o);

/* Nobody is told any more. */
void lane_event_free(struct lane_event **l);

/* Queues cmd (freed here). deadline_us and skip as of lane_begin(). False: it cannot be sent. */
bool lane_event_send(struct lane_event *l, char *cmd, size_t len, unsigned skip,
    int64_t deadline_us, lane_event_fn *fn, void *ctx, unsigned tag, char why[WIRE_WHY_MAX]);

/* The same for its effect: what is replied nobody wants, and a failure nobody hears of. */
void lane_event_post(struct lane_event *l, char *cmd, size_t len, int64_t deadline_us);

/* The turn of the loop is over. */
void lane_event_flush(struct lane_event *l);

#endif
