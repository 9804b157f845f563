/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reload.h - how a master becomes the program that stands in its place on disk, on the
 * configuration that stands there: first tried out in a child, then by exec.
 */
#ifndef WEIR_MILTER_RELOAD_H
#define WEIR_MILTER_RELOAD_H

#include "handover.h"

/* How to start the program again. Strings are borrowed. */
#define LAUNCH_WORDS_MAX 16
struct launch {
	const char *program; /* absolute */
	const char *words[LAUNCH_WORDS_MAX]; /* argv without argv[0]; ends in NULL */
};

/* The option by which a program is told where the handover lies. */
#define HANDOVER_OPTION "-H"

/* A program that hangs while it is tried out is no good. */
#define TRIAL_MS 10000

struct trial {
	pid_t pid; /* 0 = none */
	int errors_fd; /* what it says */
	int64_t end_ms; /* monotonic */
};

/* Starts the program with -n on what it would take over. False: it could not; logged. */
bool trial_start(struct trial *t, const struct launch *l, const struct handover *h);

/* It has ended with this wait status: logs what it said. True when it would do. */
bool trial_ended(struct trial *t, int status);

void trial_kill(const struct trial *t);

/* Becomes the program. Returns only if that fails; logged. */
void reload_exec(const struct launch *l, const struct handover *h);

#endif
