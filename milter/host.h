/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.h - what the kernel says of the host's load, from below /proc.
 */
#ifndef WEIR_MILTER_HOST_H
#define WEIR_MILTER_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum host_resource { HOST_CPU, HOST_MEMORY, HOST_IO };

/* Processes that run or could, without the one that asks. proc: "/proc". On false why is the
 * path and what is wrong with it. */
bool host_running(const char *proc, int64_t *out, char *why, size_t whylen);

/* Microseconds since boot in which something waited for it (pressure stall information). */
bool host_stalled(const char *proc, enum host_resource r, int64_t *out, char *why, size_t whylen);

#endif
