/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run.h - runs another program and keeps what it prints: postconf, diff.
 */
#ifndef WEIR_CTL_RUN_H
#define WEIR_CTL_RUN_H

#include <stdbool.h>

struct run {
	int status; /* its exit status; 127 = it is not there, -1 = killed, or it took too long */
	char *out, *err; /* NUL-terminated, at most RUN_OUTPUT_MAX each */
};

#define RUN_OUTPUT_MAX (1 << 20)

/* argv[0] is looked for in PATH and in the sbin directories; no shell. At most 10 seconds. True:
 * it ended with 0. run_free() either way. */
bool run_program(struct run *r, const char *const *argv);
void run_free(struct run *r);

#endif
