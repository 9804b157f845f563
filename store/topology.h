/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * topology.h - the nodes that hold the counters, and which of them holds a key. One node, node 0,
 * for a Redis that stands alone or behind sentinels; in a Cluster those that serve slots.
 *
 * A node keeps its number and its target for the life of the topology, but a number whose node
 * serves nothing any more may be given to another place (target_place() tells). Any thread; what a
 * question needs takes no lock.
 */
#ifndef WEIR_STORE_TOPOLOGY_H
#define WEIR_STORE_TOPOLOGY_H

#include "slot_map.h"
#include "target.h"
#include "weir/zone.h"

struct topology;

/* All are borrowed; tls may be NULL. NULL: out of memory. */
struct topology *topology_new(
    const struct redis_options *o, const struct tls *tls, struct zone *z, int64_t wait_us);
void topology_free(struct topology **t);

/* The node of a slot (slot_of()); NODE_NONE: nobody serves it, or that is not known yet. Without
 * a Cluster always 0. */
unsigned topology_slot(const struct topology *t, unsigned slot);
/* Nodes have numbers below this. */
unsigned topology_nodes(const struct topology *t);
/* Those who serve: the others keep their number for a while. */
bool topology_serves(const struct topology *t, unsigned node);
struct target *topology_target(const struct topology *t, unsigned node);
/* Of the node; 0 for NODE_NONE. */
unsigned topology_breaker(const struct topology *t, unsigned node);
/* True once it is known where at least something is. */
bool topology_known(const struct topology *t);

/* The node at that place, made if need be. NODE_NONE: there is no room. */
unsigned topology_find(struct topology *t, const struct redis_place *p);
/* One slot is there now. */
void topology_moved(struct topology *t, unsigned slot, unsigned node);
/* (Sentinel) The one node is there now. */
void topology_found(struct topology *t, const struct redis_place *p);
/* All slots. */
void topology_apply(struct topology *t, const struct slot_map *m);

#endif
