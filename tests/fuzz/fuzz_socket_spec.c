/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_socket_spec.c - the name of a milter socket: what is taken is one address to bind, never
 * all of them by an oversight, and the port is the one that stands there.
 *
 * Covers: conf/socket_spec.c
 */
#include <netdb.h>
#include <netinet/in.h>
#include <sys/un.h>

#include "fuzz.h"
#include "socket_spec.h"

#define ERR_ROOM 512

int __real_getaddrinfo(const char *, const char *, const struct addrinfo *, struct addrinfo **);
int __wrap_getaddrinfo(const char *, const char *, const struct addrinfo *, struct addrinfo **);

/* A fuzzer must ask no name server. */
int
__wrap_getaddrinfo(
    const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **out)
{
	struct addrinfo numeric = *hints;

	CHECK(host != NULL && host[0] != '\0' && port != NULL && port[0] != '\0');
	CHECK(strspn(port, "0123456789") == strlen(port));
	numeric.ai_flags |= AI_NUMERICHOST;
	return __real_getaddrinfo(host, port, &numeric, out);
}

static void
check_spec(const char *text, const struct socket_spec *s)
{
	const struct sockaddr_in *in4 = (const struct sockaddr_in *)&s->addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&s->addr;
	const struct sockaddr_un *un = (const struct sockaddr_un *)&s->addr;
	char port[16];

	CHECK(strcmp(text, s->text) == 0);
	if (s->addr.ss_family == AF_UNIX) {
		CHECK(s->len == sizeof *un);
		CHECK(un->sun_path[0] == '/');
		CHECK(strnlen(un->sun_path, sizeof un->sun_path) < sizeof un->sun_path);
		CHECK(strstr(text, un->sun_path) != NULL);
		return;
	}
	CHECK(s->addr.ss_family == AF_INET || s->addr.ss_family == AF_INET6);
	CHECK(s->len == (s->addr.ss_family == AF_INET ? sizeof *in4 : sizeof *in6));
	if (s->addr.ss_family == AF_INET)
		CHECK(strncmp(text, "inet:", 5) == 0);
	snprintf(port, sizeof port, "%u",
	    ntohs(s->addr.ss_family == AF_INET ? in4->sin_port : in6->sin6_port));
	CHECK(strcmp(port, "0") != 0 && strstr(text, port) != NULL);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	char *text = input_rest(&in), *err = fuzz_alloc(ERR_ROOM);
	struct socket_spec *s = fuzz_alloc(sizeof *s);

	memset(s, 0x5a, sizeof *s);
	err[0] = '\0';
	if (socket_parse(text, s, err, ERR_ROOM))
		check_spec(text, s);
	else
		CHECK(strnlen(err, ERR_ROOM) < ERR_ROOM && err[0] != '\0');
	free(text);
	free(err);
	free(s);
	return 0;
}
