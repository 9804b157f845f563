/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tally.h - each decision is counted, for whoever watches (weir/watch.h, weirctl status).
 */
#ifndef WEIR_MILTER_TALLY_H
#define WEIR_MILTER_TALLY_H

#include "session.h"
#include "weir/zone.h"

/* q NULL: nothing was asked. */
void tally(struct zone *z, const struct session *s, const struct ruleset *r, enum stage stage,
    const struct request *q, const struct verdict *v);

#endif
