/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * scout.h - a background thread that finds out where Redis is: asks the sentinels for the master,
 * or the nodes of a Cluster who serves which slot. It has connections of its own, so no question
 * ever waits for what it does.
 */
#ifndef WEIR_STORE_SCOUT_H
#define WEIR_STORE_SCOUT_H

#include "site.h"

struct scout;

/* s is borrowed. Gives the first look FIRST_LOOK_US. *out stays NULL where there is nothing to be
 * found out. False: out of memory, descriptors or threads. */
bool scout_start(const struct site *s, struct scout **out);

/* Something is not where it was: look now. Never waits. NULL is ignored. */
void scout_wake(struct scout *s);

/* Stops the thread within 100 ms. */
void scout_free(struct scout **s);

#endif
