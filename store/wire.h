/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wire.h - one connection to Redis: a socket that never blocks, what is still to be sent, and
 * hiredis' parser for what comes back. AUTH (or PING, where there is no password) and SELECT go
 * in front of everything and their replies are taken care of here, so connecting costs no round
 * trip of its own.
 *
 * Whatever the peer sends: one reply may be a value or a flat array (nested: or one with flat
 * arrays in it) of at most WIRE_ELEMENTS_MAX values in all, and a reply not taken yet at most
 * WIRE_BYTES_MAX long. Anything else breaks the connection, not the program.
 *
 * Belongs to one thread at a time. After a function has said false (or -1), why holds the
 * reason and only wire_close() and wire_open() make sense.
 */
#ifndef WEIR_STORE_WIRE_H
#define WEIR_STORE_WIRE_H

#include <hiredis/hiredis.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "target.h"
#include "tls.h"

#define WIRE_ELEMENTS_MAX \
	(2 * (OVERLAY_LIMITS_MAX + OVERRIDES_MAX + LISTED_MAX + OVERLAY_DRAIN_MAX) + 64)
#define WIRE_BYTES_MAX (8 * 1024 * 1024)
#define WIRE_WHY_MAX 160

struct wire {
	int fd; /* -1: closed */
	bool connecting;
	bool nested; /* set after wire_init(): what SCAN answers is wanted */
	size_t elements; /* of the reply that is being read */
	uint64_t place; /* target_place() when it was opened */
	struct tls_wire *tls; /* NULL: without */
	unsigned addr, naddrs; /* addrs[addr] is in use; the rest are tried in turn */
	struct target_addr addrs[TARGET_ADDRS_MAX];
	redisReader *reader;
	char *out;
	size_t out_len, out_cap;
	const char *greet[2]; /* commands whose replies come first */
	unsigned greet_done, ngreet;
	char why[WIRE_WHY_MAX];
};

void wire_init(struct wire *w);

static inline bool
wire_is_open(const struct wire *w)
{
	return w->fd >= 0;
}

/* Starts to connect. */
bool wire_open(struct wire *w, struct target *t, const struct redis_options *o);
void wire_close(struct wire *w);

/* Queues bytes (a formatted command). False: out of memory. */
bool wire_push(struct wire *w, const char *cmd, size_t len);

/* For poll(2). */
short wire_events(const struct wire *w);

/* Sends as much as goes without waiting; ends connecting first. */
bool wire_send(struct wire *w);

/* Takes in what has arrived. False when the peer has closed or failed; what came before can
 * still be had from wire_reply(). */
bool wire_receive(struct wire *w);

/* 1: *r is the next reply, the caller's; 0: none complete; -1: broken. */
int wire_reply(struct wire *w, redisReply **r);

/* Waits for the next reply until deadline_us (CLOCK_MONOTONIC), sending what is queued; gives
 * up within 50 ms when *stop (may be NULL) becomes true. NULL: close the wire. For connections
 * that nobody shares. */
redisReply *wire_wait(struct wire *w, int64_t deadline_us, const atomic_bool *stop);

#endif
