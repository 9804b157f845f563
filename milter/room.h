/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * room.h - is there a descriptor left for another session?
 *
 * libmilter's accept() spins when there is none, and logs nothing; and with none left weir cannot
 * reach Redis either. So a worker stops to accept before, and goes on when some have been freed.
 */
#ifndef WEIR_MILTER_ROOM_H
#define WEIR_MILTER_ROOM_H

#include <stdbool.h>
#include <stdint.h>

#include "listener.h"

/* Descriptors that sessions leave to links to Redis, to reading limits and to connections that
 * are accepted while nobody looks. */
#define ROOM_RESERVE_MAX 64

struct room {
	int limit; /* RLIMIT_NOFILE */
	int full; /* the lowest free descriptor from which on no session is accepted */
	int free; /* ... and down to which it has to come again */
	bool short_of; /* said, and not yet that it is over */
	int64_t over_us; /* monotonic: enough since then; 0 = not */
	int64_t since_us; /* monotonic */
};

void room_init(struct room *r);

/* Pauses or resumes the listener. By one thread at a time, after listener_thread(). */
void room_look(struct room *r, struct listener *l, unsigned worker);

#endif
