/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_count.h - how long the MTA's queue is, counted by a child process: a file system that
 * hangs, or a command that does, holds up nobody else.
 */
#ifndef WEIR_MILTER_QUEUE_COUNT_H
#define WEIR_MILTER_QUEUE_COUNT_H

#include <sys/types.h>

#include "conf.h"

/* A command has so long; directories less. */
#define QUEUE_TIMEOUT_US (5 * USEC_PER_SEC)
#define QUEUE_WALK_US (2 * USEC_PER_SEC)

struct queue_count {
	int64_t messages; /* the last count; -1: there is none, and why not: */
	char why[256];

	/* queue_count.c's own */
	const struct conf *conf;
	pid_t pid; /* of the child; 0 = none */
	int fd; /* what it writes to */
	int64_t started_us, due_us; /* monotonic */
	bool killed;
	size_t len;
	char text[256];
};

/* conf must outlive it; it names directories or a command. */
void queue_count_init(struct queue_count *q, const struct conf *conf);

/* Starts a count when one is due, and takes up its result; never waits. True when messages or
 * why are news. */
bool queue_count_tick(struct queue_count *q, int64_t now_us);

void queue_count_end(struct queue_count *q);

/* What the child does for directories: the files below them, at any depth up to 4. Of a Postfix
 * queue, which is one with `incoming` and `active` in it, only those below these two. -1: why. */
int64_t queue_count_files(const struct conf *conf, char *why, size_t whylen);

#endif
