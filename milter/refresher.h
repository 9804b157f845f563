/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * refresher.h - reads the limits anew for a loop that must not wait for them: a thread that sleeps
 * until they have changed.
 */
#ifndef WEIR_MILTER_REFRESHER_H
#define WEIR_MILTER_REFRESHER_H

#include "worker.h"

struct refresher;

/* wake_fd: an eventfd that is written to when a refresh is over. Starts the thread. NULL: out of
 * memory or threads. */
struct refresher *refresher_new(struct worker *w, int wake_fd);

/* Calls snapshot_refresh(), unless it is being called. */
void refresher_ask(struct refresher *r, const char *stale, int64_t deadline_us);

/* True once for each refresh that is over; *fresh is what it returned. */
bool refresher_done(struct refresher *r, bool *fresh);

#endif
