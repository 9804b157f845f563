/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nodes.h - what all weir-milters on one Redis say of themselves (PREFIX:nodes, PREFIX:node:NODE).
 *
 * For a process that may wait: it connects, reads, and closes, each step within timeout_us.
 */
#ifndef WEIR_STORE_NODES_H
#define WEIR_STORE_NODES_H

#include "weir/redis.h"

/* More than these are not read. */
#define NODES_MAX 64

/* One field of one node, as Redis holds it: any bytes, NUL-terminated. */
typedef void nodes_field(void *ctx, const char *node, const char *field, const char *value);

/* Calls fn for each field, those of one node together, at most NODES_MAX nodes. False: Redis did
 * not answer, or does not let this user read it. */
bool nodes_read(const struct redis_options *o, int64_t timeout_us, nodes_field *fn, void *ctx);

#endif
