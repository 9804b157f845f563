/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn.h - the connections of MTAs in a worker of engine_event.c: what comes in on each, what that
 * means for its session, and what goes out. All belong to the loop's one thread.
 *
 * An idle connection is one small struct and its session's; a buffer it has only while half a
 * packet has come, while packets wait for the end of a question, or while the MTA does not take
 * what we say.
 */
#ifndef WEIR_MILTER_CONN_H
#define WEIR_MILTER_CONN_H

#include <event2/event.h>
#include <event2/event_struct.h>

#include "refresher.h"
#include "worker.h"

/* Read from one connection in one turn of the loop. */
#define CONN_READ_MAX (64 * 1024)
/* Said to an MTA in one write. */
#define CONN_WRITE_MAX (16 * 1024)

struct conn;
struct asking;

/* Those that have the same time to say something, the one that has waited longest first. */
struct conn_queue {
	struct conn *head, *tail;
	int64_t timeout_us;
	struct event timer;
	bool armed;
};

/* What all connections of a worker share. */
struct conns {
	struct worker *worker;
	struct event_base *base;
	struct refresher *refresher; /* NULL: limits never change while we ask */
	bool inet;
	atomic_int open;
	struct conn_queue patient; /* sessions between two commands */
	struct conn_queue hasty; /* have begun to say something, or should have */
	struct asking *stale; /* decisions that wait for the refresher */
	struct asking *spare; /* for the next decisions */
	unsigned nspare;
	size_t outlen; /* of what is to be said to the one connection that is at work */
	char in[CONN_READ_MAX], out[CONN_WRITE_MAX];
};

void conns_init(
    struct conns *all, struct worker *w, struct event_base *base, bool inet, int64_t idle_us);

/* Takes fd over, which never blocks. False: out of memory, and fd is closed. */
bool conn_open(struct conns *all, int fd);

/* The refresher has something to say. */
void conns_refreshed(struct conns *all);

#endif
