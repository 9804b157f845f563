/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * loop_store.h - a Redis store as an engine on an event loop uses it: what any thread asks is
 * submitted by the loop's thread. So the same tests run over store_submit().
 */
#ifndef WEIR_TEST_LOOP_STORE_H
#define WEIR_TEST_LOOP_STORE_H

#include "weir/store.h"

/* redis: from redis_store_open(). asked: what is asked, redis itself or a chain over it; it is
 * closed with the result. */
struct store *loop_store_open(struct store *redis, struct store *asked);

#endif
