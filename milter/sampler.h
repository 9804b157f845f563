/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sampler.h - measures the host's load in the master, puts the level into the zone, and logs its
 * changes.
 *
 * A few times a second for what costs nothing (open sessions, the run queue), once a second for
 * the rest; never at all while no signal has marks. Nothing here waits.
 */
#ifndef WEIR_MILTER_SAMPLER_H
#define WEIR_MILTER_SAMPLER_H

#include "conf.h"
#include "weir/zone.h"

struct sampler;

/* NULL: the configuration has no marks (or memory ran out: logged). conf and zone outlive it. */
struct sampler *sampler_new(const struct conf *conf, struct zone *zone);

/* To be called whenever sampler_wait_ms() has passed, or more often. NULL: nothing. */
void sampler_tick(struct sampler *s);
/* Milliseconds until the next tick, or most (as poll(2) takes it: -1 = for ever) if that is
 * sooner. */
int sampler_wait_ms(const struct sampler *s, int most);

void sampler_free(struct sampler **s);

#endif
