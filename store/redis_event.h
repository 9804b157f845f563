/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis_event.h - a store in Redis, or a chain over one, for engines on an event loop: with this,
 * store_submit() does not wait. The other calls do, and go over a connection of their own.
 */
#ifndef WEIR_STORE_REDIS_EVENT_H
#define WEIR_STORE_REDIS_EVENT_H

#include <event2/event.h>

#include "weir/store.h"

struct redis_event;

/* redis: from redis_store_open(), which closes this too. From now on store_submit() is for the
 * loop's thread alone. NULL: out of memory. */
struct redis_event *redis_event_attach(struct store *redis, struct event_base *base);

/* To be called at the end of each turn of the loop: sends what has been asked in it. */
void redis_event_flush(struct redis_event *e);

#endif
