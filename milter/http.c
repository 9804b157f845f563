/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * http.c - see http.h. The only file that knows evhttp.
 */
#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/http_struct.h>
#include <event2/keyvalq_struct.h>
#include <event2/listener.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <syslog.h>

#include "http.h"
#include "log.h"
#include "weir/addr.h"

/* This process's own: what it was given, libevent's, the log's, and connections to Redis. */
#define OWN_DESCRIPTORS 32
#define DESCRIPTORS (HTTP_CONNECTIONS + OWN_DESCRIPTORS)
#define READ_TIMEOUT_S 3
/* Without a descriptor to accept with, the socket is left alone for so long. */
#define FULL_US 100000
/* The longest path and query that make sense. */
#define URI_MAX 512
#define NOTHING "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"

struct http {
	struct evhttp *server;
	struct evhttp_bound_socket *bound;
	struct event *again;
	const struct http_route *routes;
	void *ctx;
	bool local;
	int listen_fd; /* -1 = deaf */
	struct sockaddr_storage own;
	ino_t seen[DESCRIPTORS]; /* the connection behind that descriptor at the last tick */
	unsigned age[DESCRIPTORS]; /* in ticks */
};

/* --- the request ------------------------------------------------------------------------------ */

bool
http_host_is_local(const char *host)
{
	char name[64];
	struct addr a;
	size_t len;

	if (host == NULL)
		return false;
	len = host[0] == '[' ? strcspn(host, "]") + 1 : strcspn(host, ":");
	if (len >= sizeof name || len > strlen(host) ||
	    (host[len] != '\0' && host[len + 1 + strspn(host + len + 1, "0123456789")] != '\0'))
		return false;
	memcpy(name, host, len);
	name[len] = '\0';
	if (strcasecmp(name, "localhost") == 0 || strcmp(name, "[::1]") == 0)
		return true;
	return addr_parse(name, &a) && a.family == ADDR_V4 && a.b[0] == 127;
}

bool
http_parameter(const char *query, const char *name, char *out, size_t outlen)
{
	size_t namelen = strlen(name), len, size;
	const char *p = query;
	char raw[URI_MAX], *value;
	bool good;

	for (;;) {
		len = strcspn(p, "&");
		if (len > namelen && strncmp(p, name, namelen) == 0 && p[namelen] == '=')
			break;
		if (p[len] == '\0')
			return false;
		p += len + 1;
	}
	len -= namelen + 1;
	if (len >= sizeof raw)
		return false;
	memcpy(raw, p + namelen + 1, len);
	raw[len] = '\0';
	value = evhttp_uridecode(raw, 1, &size);
	good = value != NULL && size < outlen && strlen(value) == size;
	if (good)
		memcpy(out, value, size + 1);
	free(value);
	return good;
}

/* --- the reply -------------------------------------------------------------------------------- */

static void
add_headers(struct evhttp_request *r, const struct http_reply *a)
{
	const char *const headers[][2] = {
	    {"Content-Type", a->type},
	    {"Content-Security-Policy", a->policy},
	    {"X-Content-Type-Options", "nosniff"},
	    {"X-Frame-Options", "DENY"},
	    {"Referrer-Policy", "no-referrer"},
	    {"Cross-Origin-Resource-Policy", "same-origin"},
	    {"Cross-Origin-Opener-Policy", "same-origin"},
	    {"Cache-Control", "no-store"},
	    /* a connection that is kept is one fewer for others */
	    {"Connection", "close"},
	};

	for (size_t i = 0; i < sizeof headers / sizeof headers[0]; i++)
		evhttp_add_header(
		    evhttp_request_get_output_headers(r), headers[i][0], headers[i][1]);
}

static const char *
status_text(int status)
{
	switch (status) {
	case 200:
		return "OK";
	case 400:
		return "Bad Request";
	case 403:
		return "Forbidden";
	case 404:
		return "Not Found";
	case 503:
		return "Service Unavailable";
	default:
		return "Error";
	}
}

static void
say(struct http_reply *a, int status, const char *text)
{
	a->status = status;
	fputs(text, a->body);
}

static void
route(struct http *h, struct evhttp_request *r, struct http_reply *a)
{
	const struct evkeyvalq *in = evhttp_request_get_input_headers(r);
	const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(r);
	const char *path = uri != NULL ? evhttp_uri_get_path(uri) : NULL;
	const char *query = uri != NULL ? evhttp_uri_get_query(uri) : NULL;
	const char *accept = evhttp_find_header(in, "Accept");

	if (h->local && h->own.ss_family != AF_UNIX &&
	    !http_host_is_local(evhttp_find_header(in, "Host"))) {
		say(a, 403, "ask for localhost, 127.0.0.1 or [::1], not for another name\n");
		return;
	}
	if (path == NULL || strlen(path) + (query != NULL ? strlen(query) : 0) >= URI_MAX) {
		say(a, 400, "what is that?\n");
		return;
	}
	for (const struct http_route *t = h->routes; t->path != NULL; t++)
		if (strcmp(path, t->path) == 0) {
			const struct http_request q = {
			    path, query != NULL ? query : "", accept != NULL ? accept : ""};

			t->handle(h->ctx, &q, a);
			return;
		}
	say(a, 404, "there is nothing of that name here\n");
}

static void
on_request(struct evhttp_request *r, void *ctx)
{
	struct http *h = ctx;
	char *text = NULL;
	size_t len = 0;
	struct http_reply a = {.status = 200,
	    .type = "text/plain; charset=utf-8",
	    .policy = NOTHING,
	    .body = open_memstream(&text, &len)};

	if (a.body == NULL) {
		evhttp_send_error(r, HTTP_INTERNAL, NULL);
		return;
	}
	route(h, r, &a);
	if (fclose(a.body) != 0) {
		free(text);
		evhttp_send_error(r, HTTP_INTERNAL, NULL);
		return;
	}
	add_headers(r, &a);
	evbuffer_add(evhttp_request_get_output_buffer(r), text, len);
	evhttp_send_reply(r, a.status, status_text(a.status), NULL);
	free(text);
}

/* --- connections ---------------------------------------------------------------------------------- */

/* The listener is evhttp's, and hands evhttp's own context to whoever hears of its errors. */
static struct event *after_full;

static void
on_full(struct evconnlistener *l, void *ctx)
{
	const struct timeval wait = {.tv_usec = FULL_US};

	(void)ctx;
	evconnlistener_disable(l);
	event_add(after_full, &wait);
}

static void
on_again(int fd, short what, void *ctx)
{
	struct http *h = ctx;

	(void)fd;
	(void)what;
	if (h->listen_fd >= 0)
		evconnlistener_enable(evhttp_bound_socket_get_listener(h->bound));
}

/* evhttp does not say which connections it has; the kernel does. */
static bool
is_connection(const struct http *h, int fd, ino_t *ino)
{
	struct sockaddr_storage own, peer;
	socklen_t len = sizeof own, peerlen = sizeof peer;
	struct stat st;

	memset(&own, 0, sizeof own);
	if (fd == h->listen_fd || getsockname(fd, (struct sockaddr *)&own, &len) != 0 ||
	    getpeername(fd, (struct sockaddr *)&peer, &peerlen) != 0 || fstat(fd, &st) != 0)
		return false;
	*ino = st.st_ino;
	return memcmp(&own, &h->own, sizeof own) == 0;
}

unsigned
http_tick(struct http *h)
{
	unsigned n = 0;

	for (int fd = 0; fd < DESCRIPTORS; fd++) {
		ino_t ino;

		if (!is_connection(h, fd, &ino)) {
			h->seen[fd] = 0;
			continue;
		}
		n++;
		h->age[fd] = h->seen[fd] == ino ? h->age[fd] + 1 : 0;
		h->seen[fd] = ino;
		/* evhttp sees its end, and closes it */
		if (h->age[fd] > HTTP_LIFE_S)
			(void)shutdown(fd, SHUT_RDWR);
	}
	return n;
}

void
http_deaf(struct http *h)
{
	if (h->listen_fd < 0)
		return;
	event_del(h->again);
	h->listen_fd = -1;
	evhttp_del_accept_socket(h->server, h->bound);
}

static void
on_libevent(int severity, const char *text)
{
	/* a client that goes away is no news */
	if (severity >= EVENT_LOG_ERR)
		log_line(LOG_ERR, "metrics: %s", text);
}

struct http *
http_new(
    struct event_base *base, int listen_fd, bool local, const struct http_route *routes, void *ctx)
{
	const struct rlimit descriptors = {DESCRIPTORS, DESCRIPTORS};
	struct http *h = calloc(1, sizeof *h);
	socklen_t len = sizeof h->own;

	if (h == NULL)
		return NULL;
	h->routes = routes;
	h->ctx = ctx;
	h->local = local;
	h->listen_fd = listen_fd;
	event_set_log_callback(on_libevent);
	(void)getsockname(listen_fd, (struct sockaddr *)&h->own, &len);
	h->server = evhttp_new(base);
	h->again = event_new(base, -1, 0, on_again, h);
	if (h->server == NULL || h->again == NULL)
		return NULL; /* the process ends */
	evhttp_set_allowed_methods(h->server, EVHTTP_REQ_GET | EVHTTP_REQ_HEAD);
	evhttp_set_max_headers_size(h->server, HTTP_HEADERS_MAX);
	evhttp_set_max_body_size(h->server, 0);
	evhttp_set_timeout(h->server, READ_TIMEOUT_S);
	evhttp_set_gencb(h->server, on_request, h);
	h->bound = evhttp_accept_socket_with_handle(h->server, listen_fd);
	if (h->bound == NULL)
		return NULL;
	after_full = h->again;
	evconnlistener_set_error_cb(evhttp_bound_socket_get_listener(h->bound), on_full);
	(void)setrlimit(RLIMIT_NOFILE, &descriptors);
	return h;
}
