/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.h - what a master leaves to the program that takes its place by exec.
 *
 * A reload ends the old configuration, and often the old program, but not its process: exec keeps
 * the process id, the children, the descriptors and the pending signals. The rest is written as
 * lines of text into a descriptor, so that a program of another version can read it: lines that
 * it does not know are left alone.
 */
#ifndef WEIR_MILTER_HANDOVER_H
#define WEIR_MILTER_HANDOVER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "conf.h"
#include "weir/zone.h"

struct handover_child {
	pid_t pid;
	int control; /* see worker.h; -1 = it has been told to end at once */
	unsigned place; /* in the zone */
	bool foreign; /* that zone is not the one handed over */
	bool draining;
	int64_t
	    end_ms; /* its sessions are cut, or (control -1) it is killed; monotonic, 0 = never */
};

/* Sockets at one time: the one of the configuration, and those of before whose workers still
 * serve because the new ones are not ready. */
#define HANDOVER_SOCKETS_MAX 8

struct handover {
	unsigned nsockets;
	int sockets[HANDOVER_SOCKETS_MAX]; /* listening; the first is the configuration's */
	int zone_fd;
	int metrics_fd; /* listening; 0 and below = none */
	char node[RULESET_NODE_MAX + 1];
	int64_t started_us; /* the first of these masters, since 1970 */
	int64_t drain_ms; /* drain-timeout */
	bool drained; /* by a signal */
	char pid_file[CONF_PATH_MAX];
	char store[CONF_STORE_MARK_MAX]; /* what the zone counted for, see conf_store_mark() */
	unsigned nchildren;
	struct handover_child children[ZONE_WORKERS_MAX];
};

/* A descriptor (close-on-exec) that holds it, or -1 with errno. */
int handover_write(const struct handover *h);

/* Reads it, and makes all descriptors in it close-on-exec. False: it makes no sense. fd stays
 * the caller's. */
bool handover_read(int fd, struct handover *h);

/* Whether exec keeps the descriptors in it. */
void handover_keep(const struct handover *h, bool keep);

#endif
