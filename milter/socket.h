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

/* Removes the file of a unix socket. */
void socket_remove(const struct socket_spec *s);

#endif
