/*
 * socket.h - the milter socket: what its name means, and opening it.
 *
 * Never left to libmilter: it takes Postfix's "inet:127.0.0.1:8890" for port 127 on all
 * addresses, wraps ports above 65535, and steals a live unix socket (doc/mta.md).
 */
#ifndef WEIR_MILTER_SOCKET_H
#define WEIR_MILTER_SOCKET_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define SOCKET_TEXT_MAX 256

struct socket_spec {
	char text[SOCKET_TEXT_MAX]; /* as it was given */
	struct sockaddr_storage addr;
	socklen_t len;
};

/* "unix:PATH", "local:PATH", "inet:PORT@HOST", "inet6:PORT@HOST" (libmilter's way) or
 * "inet:HOST:PORT", "inet:[V6]:PORT" (Postfix's). Host names are looked up here. */
bool socket_parse(const char *text, struct socket_spec *out, char *err, size_t errlen);

/*
 * Binds, sets owner, group and mode (unix), and only then listens. A stale unix socket is
 * replaced; one that somebody answers on is not. Returns a non-blocking descriptor or -1.
 */
int socket_open(const struct socket_spec *s, const char *owner, const char *group, mode_t mode,
    char *err, size_t errlen);

/* Removes the file of a unix socket. */
void socket_remove(const struct socket_spec *s);

#endif
