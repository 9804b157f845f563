/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decision_log.h - the one line that stands for a decision. Its keys are stable for ever.
 */
#ifndef WEIR_MILTER_DECISION_LOG_H
#define WEIR_MILTER_DECISION_LOG_H

#include "session.h"

/* q NULL: nothing was asked. Also writes one line for each action=log limit that is exceeded. */
void decision_log(const struct session *s, enum stage stage, const char *recipient,
    const struct request *q, const struct answer *a, const struct verdict *v);

#endif
