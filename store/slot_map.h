/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slot_map.h - which node of a Redis Cluster serves which of the 16384 slots, as CLUSTER NODES
 * tells it. That text is one flat reply, and names failed nodes, too.
 *
 * Pure: no I/O. The text is hostile until shown otherwise.
 */
#ifndef WEIR_STORE_SLOT_MAP_H
#define WEIR_STORE_SLOT_MAP_H

#include <stdint.h>

#include "weir/redis.h"

#define SLOTS 16384
/* Primaries of one Cluster; more are not served by weir. */
#define NODES_MAX 128
#define NODE_NONE 0xff

struct slot_map {
	unsigned n;
	struct redis_place nodes[NODES_MAX]; /* primaries with slots */
	unsigned served; /* slots that have a node */
	uint8_t node[SLOTS]; /* or NODE_NONE */
};

/* The slot of a key: of what stands between its first braces, if that is not empty. */
unsigned slot_of(const char *key, size_t len);

/* asked: the host that said it; a node that does not know its own address leaves it out. False:
 * that is no such text, or no slot is served. */
bool slot_map_read(struct slot_map *m, const char *text, size_t len, const char *asked);

/* "HOST:PORT", as CLUSTER NODES and MOVED write it: an IPv6 address without brackets. An empty
 * host, or "?", is `asked`. */
bool slot_map_place(const char *text, size_t len, const char *asked, struct redis_place *out);

/* What follows "MOVED " or "ASK ". */
bool slot_map_redirect(
    const char *text, const char *asked, unsigned *slot, struct redis_place *out);

#endif
