/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proto.h - the milter protocol, versions 2 to 6, as Postfix and Sendmail speak it: bytes of the
 * MTA become packets, packets become events, and answers become bytes. No I/O, no clock, nothing
 * allocated.
 *
 * An MTA is trusted little: a packet has at most PROTO_DATA_MAX bytes, every text ends within
 * it, and what has a wrong form is PROTO_ERROR, upon which the connection is to be closed. What
 * comes out of order is answered by silence, as by libmilter; so is everything else that libmilter
 * was seen to do with real MTAs (tests/e2e/test_engines.py compares).
 */
#ifndef WEIR_MILTER_PROTO_H
#define WEIR_MILTER_PROTO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/addr.h"
#include "weir/reply.h"

/* Four bytes of length, one that says what it is. */
#define PROTO_HEAD 5
#define PROTO_DATA_MAX 65535

/* --- what is negotiated ----------------------------------------------------------------------- */

/* Steps that the MTA is not to tell of, or waits for no reply to; the protocol's own bits. */
enum {
	PROTO_NO_CONNECT = 0x1,
	PROTO_NO_HELO = 0x2,
	PROTO_NO_MAIL = 0x4,
	PROTO_NO_RCPT = 0x8,
	PROTO_NO_BODY = 0x10,
	PROTO_NO_HEADERS = 0x20,
	PROTO_NO_EOH = 0x40,
	PROTO_NR_HEADERS = 0x80,
	PROTO_NO_UNKNOWN = 0x100,
	PROTO_NO_DATA = 0x200,
	PROTO_REJECTED = 0x800, /* tell of recipients that are refused, too */
	PROTO_NR_CONNECT = 0x1000,
	PROTO_NR_HELO = 0x2000,
	PROTO_NR_MAIL = 0x4000,
	PROTO_NR_RCPT = 0x8000,
	PROTO_NR_DATA = 0x10000,
	PROTO_NR_UNKNOWN = 0x20000,
	PROTO_NR_EOH = 0x40000,
	PROTO_NR_BODY = 0x80000
};
/* The action that lets us say which macros we want. */
#define PROTO_SET_MACROS 0x100

/* Stages of macros, numbered as on the wire. */
enum proto_stage {
	PROTO_AT_CONNECT,
	PROTO_AT_HELO,
	PROTO_AT_MAIL,
	PROTO_AT_RCPT,
	PROTO_AT_DATA,
	PROTO_AT_EOM,
	PROTO_AT_EOH,
	PROTO_STAGES
};

/* --- one connection ---------------------------------------------------------------------------- */

struct proto {
	uint8_t state;
	bool agreed; /* negotiation is over */
	uint16_t skipped; /* states that the MTA leaves out */
	uint32_t steps; /* as agreed; a reply that we do not give, and the MTA waits for, is made */
	uint32_t offered;
};

void proto_init(struct proto *p);

struct proto_packet {
	char command;
	const char *data;
	size_t len; /* of data; may be more than has come, if PROTO_PART */
	size_t whole; /* the packet's length on the wire, 0 = not known yet */
	bool opaque; /* a piece of a body: only counted, so the head is enough to take it */
};

enum proto_got { PROTO_BAD = -1, PROTO_PART, PROTO_WHOLE };

/* Looks at the front of what has come. */
enum proto_got proto_packet(const char *bytes, size_t len, struct proto_packet *out);

enum proto_event {
	PROTO_NOTHING, /* nothing is to be done, or said */
	PROTO_ERROR, /* close the connection */
	PROTO_NEGOTIATE,
	PROTO_MACROS,
	PROTO_CONNECT,
	PROTO_HELO,
	PROTO_MAIL,
	PROTO_RCPT,
	PROTO_DATA,
	PROTO_HEADER,
	PROTO_EOH,
	PROTO_BODY,
	PROTO_EOM,
	PROTO_UNKNOWN,
	PROTO_NEXT, /* the session is over, and another one follows */
	PROTO_QUIT
};

/* Of an event what it has. Points into the packet. */
struct proto_args {
	const char *text; /* host name; HELO; sender or recipient with its brackets */
	const char *params; /* of MAIL and RCPT: texts one behind the other, up to end */
	const char *end;
	struct addr client; /* CONNECT */
	size_t bytes; /* of a message: HEADER, EOH, BODY, EOM */
	uint32_t version, actions, steps; /* NEGOTIATE: what the MTA offers */
	enum proto_stage stage; /* MACROS; name, value, name, ... from params to end */
};

/* The packet has come, whole or opaque. Moves the connection on. */
enum proto_event proto_take(struct proto *p, const struct proto_packet *k, struct proto_args *a);

/* The next text from *at on, which moves on; NULL: there is none. */
const char *proto_text(const char **at, const char *end);

/* --- answers ------------------------------------------------------------------------------------ */

/* An answer fits into so much. */
#define PROTO_ANSWER_MAX 1024

/* What this side wants of a session: steps, and which macros (names between blanks) at each
 * stage, NULL = whatever the MTA thinks. */
struct proto_wants {
	uint32_t steps;
	const char *macros[PROTO_STAGES];
};

/* The answer to PROTO_NEGOTIATE; from then on the steps agreed are in p->steps. 0: no agreement,
 * close the connection. Like the others it returns the length. */
size_t proto_negotiate(struct proto *p, const struct proto_args *offer,
    const struct proto_wants *wants, char out[PROTO_ANSWER_MAX]);

/* 0: the MTA waits for none. */
size_t proto_continue(const struct proto *p, char out[PROTO_ANSWER_MAX]);
size_t proto_accept(struct proto *p, char out[PROTO_ANSWER_MAX]);
size_t proto_refuse(struct proto *p, const struct reply *r, char out[PROTO_ANSWER_MAX]);

#endif
