/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * keeper.h - the background thread of a Redis store: looks whether Redis is back, tells it of
 * sessions that have ended, and renews the leases of those that go on. It has a connection of
 * its own, so that nothing it does can make a question wait.
 */
#ifndef WEIR_STORE_KEEPER_H
#define WEIR_STORE_KEEPER_H

#include "scout.h"

struct keeper;

/* Both are borrowed; scout may be NULL. Starts the thread. NULL: out of memory, descriptors or
 * threads. */
struct keeper *keeper_new(const struct site *s, struct scout *scout);

/* There is something to do: a lease was released, or the breaker has opened. Never waits. */
void keeper_wake(struct keeper *k);

/* Changes whenever leases may have been renewed; odd while that goes on. A lease that was taken
 * and dropped between two different values, or at an odd one, may stand in Redis. */
uint64_t keeper_renewals(struct keeper *k);

/* Tells Redis of what has ended, if it answers at once, and stops the thread within 200 ms. */
void keeper_free(struct keeper **k);

#endif
