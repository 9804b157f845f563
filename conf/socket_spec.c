/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * socket_spec.c - see socket_spec.h.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "weir/units.h"
#include "socket_spec.h"

static bool
fail(char *err, size_t errlen, const char *what, const char *text)
{
	snprintf(err, errlen, "%s: \"%s\"", what, text);
	return false;
}

static bool
parse_unix(const char *path, struct socket_spec *out, char *err, size_t errlen)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&out->addr;

	if (path[0] != '/')
		return fail(err, errlen, "the path of a unix socket must be absolute", path);
	if (strlen(path) >= sizeof sun->sun_path)
		return fail(err, errlen, "the path of a unix socket is at most 107 bytes", path);
	sun->sun_family = AF_UNIX;
	strcpy(sun->sun_path, path);
	out->len = sizeof *sun;
	return true;
}

static bool
resolve(int family, const char *host, const char *port, struct socket_spec *out, char *err,
    size_t errlen)
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *found;
	int rc = getaddrinfo(host, port, &hints, &found);

	if (rc != 0) {
		snprintf(err, errlen, "host \"%s\": %s", host, gai_strerror(rc));
		return false;
	}
	memcpy(&out->addr, found->ai_addr, found->ai_addrlen);
	out->len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

/* PORT@HOST or HOST:PORT; an address without a host would mean "everywhere", and nobody wants
 * to offer a milter to the world by leaving out a word. */
static bool
parse_inet(int family, const char *text, struct socket_spec *out, char *err, size_t errlen)
{
	const char *at = strchr(text, '@'), *colon = strrchr(text, ':');
	char host[SOCKET_TEXT_MAX], port[SOCKET_TEXT_MAX];
	int64_t number;
	size_t len;

	if (at != NULL) {
		snprintf(port, sizeof port, "%.*s", (int)(at - text), text);
		snprintf(host, sizeof host, "%s", at + 1);
	} else if (colon != NULL) {
		snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
		snprintf(port, sizeof port, "%s", colon + 1);
	} else
		return fail(err, errlen, "say where to listen, such as inet:8890@127.0.0.1", text);
	len = strlen(host);
	if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
		memmove(host, host + 1, len - 2);
		host[len - 2] = '\0';
	} else if (at == NULL && strchr(host, ':') != NULL)
		return fail(
		    err, errlen, "write an IPv6 address in brackets: inet:[::1]:8890", text);
	if (!units_count(port, &number) || number < 1 || number > 65535)
		return fail(err, errlen, "a port is a number from 1 to 65535", port);
	if (host[0] == '\0')
		return fail(err, errlen, "the host is missing", text);
	return resolve(family, host, port, out, err, errlen);
}

bool
socket_parse(const char *text, struct socket_spec *out, char *err, size_t errlen)
{
	static const struct {
		const char *prefix;
		int family;
	} kinds[] = {
	    {"unix:", AF_UNIX},
	    {"local:", AF_UNIX},
	    {"inet:", AF_UNSPEC},
	    {"inet6:", AF_INET6},
	};

	memset(out, 0, sizeof *out);
	if (strlen(text) >= sizeof out->text)
		return fail(err, errlen, "too long for a socket", "...");
	strcpy(out->text, text);
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		size_t len = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, len) != 0)
			continue;
		if (kinds[i].family == AF_UNIX)
			return parse_unix(text + len, out, err, errlen);
		return parse_inet(kinds[i].family, text + len, out, err, errlen);
	}
	return fail(
	    err, errlen, "a socket is unix:PATH, inet:PORT@HOST or inet:HOST:PORT, not", text);
}

bool
socket_is_local(const struct socket_spec *s)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)&s->addr;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)&s->addr;

	switch (s->addr.ss_family) {
	case AF_UNIX:
		return true;
	case AF_INET:
		return ntohl(v4->sin_addr.s_addr) >> 24 == IN_LOOPBACKNET;
	case AF_INET6:
		return IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
	default:
		return false;
	}
}
