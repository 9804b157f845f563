/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * socket.h - opens the milter socket. Not left to libmilter, which steals a live unix socket.
 */
#ifndef WEIR_MILTER_SOCKET_H
#define WEIR_MILTER_SOCKET_H

#include <sys/types.h>

#include "socket_spec.h"

/*
 * Binds, sets owner, group and mode (unix), and only then listens. A stale unix socket is
 * replaced; one that somebody answers on is not. Returns a non-blocking descriptor or -1.
 */
int socket_open(const struct socket_spec *s, const char *owner, const char *group, mode_t mode,
    char *err, size_t errlen);

/* Whether fd is bound to what s says. */
bool socket_is(int fd, const struct socket_spec *s);

/* Owner, group and mode of an open unix socket, as far as we may; nothing for others. */
bool socket_adjust(const struct socket_spec *s, const char *owner, const char *group, mode_t mode,
    char *err, size_t errlen);

/* Removes the file of a unix socket; of one that is open. */
void socket_remove(const struct socket_spec *s);
void socket_remove_own(int fd);

#endif
