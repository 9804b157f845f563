/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis_private.h - between redis.c and redis_event.c, so that only who wants an event loop links
 * one.
 */
#ifndef WEIR_STORE_REDIS_PRIVATE_H
#define WEIR_STORE_REDIS_PRIVATE_H

#include "question.h"

struct redis_event;

struct redis_loop_ops {
	bool (*submit)(struct redis_event *, struct store_call *, enum store_status *);
	void (*detach)(struct redis_event *);
};

struct desk *redis_store_desk(struct store *redis);

/* What is submitted goes to e, which is detached when the store is closed. */
void redis_store_loop(struct store *redis, const struct redis_loop_ops *ops, struct redis_event *e);

#endif
