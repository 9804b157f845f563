/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * metrics.h - all figures of a weir-milter as text: OpenMetrics 1.0, or the older format of
 * Prometheus.
 *
 * No label has more values than an enum, the limits of a zone (weir/watch.h) or the version: a
 * flood makes figures larger, never more.
 */
#ifndef WEIR_MILTER_METRICS_H
#define WEIR_MILTER_METRICS_H

#include <stdio.h>

#include "conf.h"
#include "weir/watch.h"

#define METRICS_TYPE_OPEN "application/openmetrics-text; version=1.0.0; charset=utf-8"
#define METRICS_TYPE_PLAIN "text/plain; version=0.0.4; charset=utf-8"

/* Whether the header Accept asks for OpenMetrics. */
bool metrics_wants_open(const char *accept);

/* r: the ruleset in force. c: as zone_watch_get() gives it. now_us: monotonic. */
void metrics_write(FILE *out, bool open, const struct conf *conf, const struct ruleset *r,
    struct zone *z, const struct watch_counts *c, int64_t now_us);

#endif
