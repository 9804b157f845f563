/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http.h - a small web server for whoever watches: libevent's evhttp, and around it the bounds
 * that it lacks.
 *
 * For a process that does nothing else. Requests are GET or HEAD, without a body; each connection
 * carries one, has HTTP_LIFE_S to do it, and there are at most HTTP_CONNECTIONS of them: the rest
 * wait in the kernel's queue. Where only this host can connect, the name that was asked for has to
 * be this host's, so that no foreign page can send a browser here under a name of its own.
 */
#ifndef WEIR_MILTER_HTTP_H
#define WEIR_MILTER_HTTP_H

#include <stdbool.h>
#include <stdio.h>

struct event_base;

#define HTTP_CONNECTIONS 48
#define HTTP_LIFE_S 15
#define HTTP_HEADERS_MAX 8192

struct http_request {
	const char *path;
	const char *query; /* "" = none; as it came, %XX and all */
	const char *accept; /* the header; "" = none */
};

struct http_reply {
	int status; /* 200 unless the handler says otherwise */
	const char *type; /* text/plain unless ... */
	const char *policy; /* Content-Security-Policy; one that allows nothing unless ... */
	FILE *body;
};

typedef void http_handler(void *ctx, const struct http_request *q, struct http_reply *a);

struct http_route {
	const char *path;
	http_handler *handle;
};

struct http;

/* Serves on listen_fd (taken over; non-blocking), a socket that listens where only this host can
 * connect (local), or not. routes ends with a NULL path, and outlives it. Lowers this process's
 * number of descriptors. NULL: out of memory. */
struct http *http_new(
    struct event_base *base, int listen_fd, bool local, const struct http_route *routes, void *ctx);

/* To be called about once a second: ends connections that take too long. Returns how many there
 * are. */
unsigned http_tick(struct http *h);

/* No further connections; those there are go on. Closes listen_fd. */
void http_deaf(struct http *h);

/* The value of a parameter of the query, decoded; false: it is not there, does not fit, or holds a
 * NUL. */
bool http_parameter(const char *query, const char *name, char *out, size_t outlen);

/* Whether the header Host (NULL = there is none) names this host: an address of the loopback, or
 * localhost; with or without a port. */
bool http_host_is_local(const char *host);

#endif
