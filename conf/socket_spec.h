/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * socket_spec.h - what the name of a milter socket means.
 *
 * Never left to libmilter: it takes Postfix's "inet:127.0.0.1:8890" for port 127 on all
 * addresses, and wraps ports above 65535 (doc/mta.md).
 */
#ifndef WEIR_CONF_SOCKET_SPEC_H
#define WEIR_CONF_SOCKET_SPEC_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

#define SOCKET_TEXT_MAX 256

struct socket_spec {
	char text[SOCKET_TEXT_MAX]; /* as it was given */
	struct sockaddr_storage addr;
	socklen_t len;
};

/* "unix:PATH", "local:PATH", "inet:PORT@HOST", "inet6:PORT@HOST" (libmilter's way) or
 * "inet:HOST:PORT", "inet:[V6]:PORT" (Postfix's). Host names are looked up here. */
bool socket_parse(const char *text, struct socket_spec *out, char *err, size_t errlen);

/* Nobody on another host can connect to it. */
bool socket_is_local(const struct socket_spec *s);

#endif
