/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * takeover.h - the other side of a handover: what of it fits the configuration, and what has to be
 * made anew.
 *
 * The same function serves the trial before exec and the real thing after it.
 */
#ifndef WEIR_MILTER_TAKEOVER_H
#define WEIR_MILTER_TAKEOVER_H

#include "handover.h"

struct takeover {
	int listen_fd; /* one of those handed over, or a new one */
	bool new_socket;
	int zone_fd;
	bool new_zone; /* another size, another Redis, or of a weir that lays it out otherwise */
};

/* False: this configuration cannot be reloaded into; err is one sentence. Nothing is left open or
 * on disk then. */
bool takeover_prepare(
    struct takeover *t, const struct conf *c, const struct handover *h, char *err, size_t errlen);

/* Puts back what a trial has made. */
void takeover_undo(const struct takeover *t, const struct conf *c);

/* So many workers. */
unsigned takeover_workers(const struct conf *c);

#endif
