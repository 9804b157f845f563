/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * milter_probe.h - connects to a milter socket as an MTA would: as its user, in its chroot, and with
 * the first words of the milter protocol. No session is counted for it.
 */
#ifndef WEIR_CTL_MILTER_PROBE_H
#define WEIR_CTL_MILTER_PROBE_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "conf.h"

struct milter_probe {
	const char *user; /* name; NULL = stay who we are */
	const char *directory; /* to work in; NULL = stay */
	bool chrooted; /* ... and that is its root */
	const char *path; /* of a unix socket, as it is seen there; NULL: */
	const struct socket_spec *inet;
};

/* False: why says what failed, in words. *pid is who listens, as far as a unix socket tells, else
 * 0. As somebody else than root only a probe without user and chroot can be made. */
bool milter_probe(const struct milter_probe *p, pid_t *pid, char *why, size_t whylen);

/* Why `user` may not write to the unix socket `path` below root ("" = none): which part of the way
 * is closed, and in `write` what opens it. False: no part is. */
bool milter_path_closed(const char *root, const char *path, const char *user, char *why,
    size_t whylen, char *write, size_t writelen);

#endif
