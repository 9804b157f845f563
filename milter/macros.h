/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * macros.h - the MTA's macros of one connection that weir looks at. All others are passed over, a
 * value that is too long is cut: a connection keeps 400 bytes at most, and few in practice.
 */
#ifndef WEIR_MILTER_MACROS_H
#define WEIR_MILTER_MACROS_H

#include "proto.h"

enum macro {
	MACRO_CLIENT_RESOLVE,
	MACRO_DAEMON_NAME,
	MACRO_DAEMON_PORT,
	MACRO_AUTH_AUTHEN,
	MACRO_QUEUE_ID,
	MACRO_RCPT_MAILER,
	MACRO_RCPT_HOST
};

struct macros {
	char *kept; /* allocated; NULL = none */
	uint16_t len;
};

/* The MTA has sent these for the stage, in place of those of before. list: name, value, name, ...
 * each with its NUL. */
void macros_put(struct macros *m, enum proto_stage stage, const char *list, const char *end);

/* The step has come: what was said for later stages was about another message. */
void macros_reach(struct macros *m, enum proto_stage stage);

/* "" = not said. Good until the next call of another function here. */
const char *macros_get(const struct macros *m, enum macro which);

void macros_clear(struct macros *m);

#endif
