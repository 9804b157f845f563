/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wants.h - what weir wants to be told of a session: the steps, and the macros at each. Both engines
 * ask the MTA for the same.
 */
#ifndef WEIR_MILTER_WANTS_H
#define WEIR_MILTER_WANTS_H

#include "proto.h"
#include "weir/request.h"

struct proto_wants wants_of(const struct plan_steps *steps);

/* Recipients that the MTA refuses (PROTO_REJECTED) come with these macros. */
bool wants_rejected(const char *rcpt_mailer);
/* ... but of some of them nothing is to be counted. */
bool wants_passed_over(bool rejected, const char *rcpt_host);

#endif
