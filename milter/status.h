/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * status.h - what this weir-milter tells the others on its Redis of itself, for weirctl status.
 */
#ifndef WEIR_MILTER_STATUS_H
#define WEIR_MILTER_STATUS_H

#include "worker.h"

/* Publishes, at most every STATUS_EVERY_US unless the load level has changed; one worker speaks for all. Bounded by the Redis
 * timeout. */
#define STATUS_EVERY_US INT64_C(2000000)
void status_publish(struct worker *w, int64_t now_us);

#endif
