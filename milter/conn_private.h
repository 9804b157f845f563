/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn_private.h - between conn.c, which moves the bytes of a connection, and conn_steps.c, which
 * knows what they mean for its session.
 */
#ifndef WEIR_MILTER_CONN_PRIVATE_H
#define WEIR_MILTER_CONN_PRIVATE_H

#include "conn.h"
#include "macros.h"
#include "session.h"

struct unsent;

struct conn {
	struct event event; /* it can be read */
	struct conns *all;
	struct conn *prev, *next;
	struct conn_queue *queue; /* NULL while a question is under way */
	int64_t since_us; /* in it */
	struct proto proto;
	struct macros macros;
	struct session session;
	struct asking *asking;
	char *in; /* what has come and could not be used yet */
	size_t in_len, in_room;
	size_t passing; /* so much of what comes is the rest of a body */
	struct unsent *unsent;
	bool begun; /* the session */
	bool deaf; /* not read from while in is full */
	bool ended; /* the MTA has gone */
};

/* What becomes of the connection after a packet. */
enum done { GO_ON, WAIT, HANG_UP };

/* --- conn_steps.c ------------------------------------------------------------------------------ */

/* The packet has come: does what it says, and puts the answer into conn_room(). WAIT: the answer
 * follows by conn_resume(). */
enum done conn_obey(struct conn *c, const struct proto_packet *k);
/* However it ends. */
void conn_end_session(struct conn *c);

/* --- conn.c ------------------------------------------------------------------------------------ */

/* For one more answer, behind those of this turn; all->outlen is to be moved on. */
char *conn_room(struct conn *c);
/* A question is under way: nobody waits for the MTA. */
void conn_wait(struct conn *c);
/* It is over; goes on with what came meanwhile. */
void conn_resume(struct conn *c, enum done done);

#endif
