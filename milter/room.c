/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * room.c - see room.h.
 *
 * The kernel gives the lowest free number, so one dup() tells how many descriptors are in use,
 * whatever holds them, and costs nothing that grows with them.
 */
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "room.h"

/* A shortage that comes and goes is one. */
#define OVER_AFTER_US (2 * USEC_PER_SEC)

void
room_init(struct room *r)
{
	struct rlimit lim;
	int reserve;

	memset(r, 0, sizeof *r);
	r->limit = INT_MAX;
	if (getrlimit(RLIMIT_NOFILE, &lim) == 0 && lim.rlim_cur < INT_MAX)
		r->limit = (int)lim.rlim_cur;
	reserve = r->limit / 4 < ROOM_RESERVE_MAX ? r->limit / 4 : ROOM_RESERVE_MAX;
	r->full = r->limit - reserve;
	r->free = r->full - r->full / 8;
}

/* The limit, when there is none. */
static int
lowest_free(const struct room *r, int any_fd)
{
	int fd = fcntl(any_fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);

	if (fd < 0)
		return r->limit;
	close(fd);
	return fd;
}

void
room_look(struct room *r, struct listener *l, unsigned worker)
{
	int lowest = lowest_free(r, l->spare);
	int64_t now = clock_mono_us();

	if (lowest >= r->full) {
		listener_pause(l);
		r->over_us = 0;
		if (r->short_of)
			return;
		r->short_of = true;
		r->since_us = now;
		log_line(LOG_WARNING,
		    "worker %u: %d of %d descriptors in use: accepting no session until some have "
		    "ended; raise the limit (LimitNOFILE=, ulimit -n)",
		    worker, lowest, r->limit);
		return;
	}
	if (lowest <= r->free)
		listener_resume(l);
	if (!r->short_of || l->paused)
		return;
	if (r->over_us == 0)
		r->over_us = now;
	if (now - r->over_us < OVER_AFTER_US)
		return;
	r->short_of = false;
	log_line(LOG_NOTICE, "worker %u: enough descriptors again after %lld s", worker,
	    (long long)((now - r->since_us) / USEC_PER_SEC));
}
