/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_socket.c - what the name of a milter socket means. Numeric addresses only: nothing is looked
 * up, nothing is opened.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include <cmocka.h>

#include "socket.h"

#define ERR_MAX 512

/* "ADDRESS PORT" of an internet socket. */
static const char *
inet_text(const struct socket_spec *s, char *out, size_t outlen)
{
	char host[INET6_ADDRSTRLEN] = "";
	int port = 0;

	if (s->addr.ss_family == AF_INET) {
		const struct sockaddr_in *sin = (const void *)&s->addr;

		inet_ntop(AF_INET, &sin->sin_addr, host, sizeof host);
		port = ntohs(sin->sin_port);
	} else if (s->addr.ss_family == AF_INET6) {
		const struct sockaddr_in6 *sin6 = (const void *)&s->addr;

		inet_ntop(AF_INET6, &sin6->sin6_addr, host, sizeof host);
		port = ntohs(sin6->sin6_port);
	}
	snprintf(out, outlen, "%s %d", host, port);
	return out;
}

static void
test_inet(void **state)
{
	static const struct {
		const char *text, *want;
	} table[] = {
	    {"inet:8890@127.0.0.1", "127.0.0.1 8890"},
	    {"inet:127.0.0.1:8890", "127.0.0.1 8890"},
	    {"inet:8890@::1", "::1 8890"},
	    {"inet:8890@[::1]", "::1 8890"},
	    {"inet:[::1]:8890", "::1 8890"},
	    {"inet6:8890@::1", "::1 8890"},
	    {"inet6:[2001:db8::1]:1", "2001:db8::1 1"},
	    {"inet:65535@0.0.0.0", "0.0.0.0 65535"},
	};
	char err[ERR_MAX], text[64];
	struct socket_spec s;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (!socket_parse(table[i].text, &s, err, sizeof err))
			fail_msg("%s: %s", table[i].text, err);
		assert_string_equal(inet_text(&s, text, sizeof text), table[i].want);
		assert_string_equal(s.text, table[i].text);
	}
}

static void
test_unix(void **state)
{
	static const char *const table[] = {
	    "unix:/run/weir/milter.sock", "local:/run/weir/milter.sock"};
	char err[ERR_MAX], text[200] = "unix:/";
	const struct sockaddr_un *sun;
	struct socket_spec s;

	(void)state;
	sun = (const struct sockaddr_un *)&s.addr;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		assert_true(socket_parse(table[i], &s, err, sizeof err));
		assert_int_equal(s.addr.ss_family, AF_UNIX);
		assert_string_equal(sun->sun_path, "/run/weir/milter.sock");
	}
	memset(text + 6, 'x', sizeof text - 7);
	text[5 + sizeof sun->sun_path - 1] = '\0'; /* the longest path there is */
	assert_true(socket_parse(text, &s, err, sizeof err));
	assert_int_equal(strlen(sun->sun_path), sizeof sun->sun_path - 1);
	text[5 + sizeof sun->sun_path - 1] = 'x';
	text[5 + sizeof sun->sun_path] = '\0';
	assert_false(socket_parse(text, &s, err, sizeof err));
	assert_non_null(strstr(err, "107"));
}

static void
test_refused(void **state)
{
	static const struct {
		const char *text, *says;
	} table[] = {
	    {"", "a socket is"},
	    {"8890", "a socket is"},
	    {"/run/weir/milter.sock", "a socket is"},
	    {"tcp:8890@127.0.0.1", "a socket is"},
	    {"INET:8890@127.0.0.1", "a socket is"},
	    {"fd:3", "a socket is"},
	    {"unix:", "absolute"},
	    {"unix:milter.sock", "absolute"},
	    {"inet:", "say where"},
	    {"inet:8890", "say where"}, /* all the world */
	    {"inet:8890@", "host is missing"},
	    {"inet::8890", "host is missing"},
	    {"inet:@127.0.0.1", "a port is"},
	    {"inet:0@127.0.0.1", "a port is"},
	    {"inet:65536@127.0.0.1", "a port is"},
	    {"inet:74426@127.0.0.1", "a port is"}, /* 8890, were it cut to 16 bits */
	    {"inet:-1@127.0.0.1", "a port is"},
	    {"inet:8890x@127.0.0.1", "a port is"},
	    {"inet:127.0.0.1@8890", "a port is"},
	    {"inet:127.0.0.1:", "a port is"},
	    {"inet:smtp@127.0.0.1", "a port is"},
	    {"inet:::1:8890", "brackets"},
	    {"inet6:8890@127.0.0.1", "127.0.0.1"},
	};
	char err[ERR_MAX], text[SOCKET_TEXT_MAX + 1];
	struct socket_spec s;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		strcpy(err, "nothing");
		if (socket_parse(table[i].text, &s, err, sizeof err))
			fail_msg("%s is taken", table[i].text);
		if (strstr(err, table[i].says) == NULL)
			fail_msg("%s says: %s", table[i].text, err);
	}
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	assert_false(socket_parse(text, &s, err, sizeof err));
	assert_non_null(strstr(err, "too long"));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_inet),
	    cmocka_unit_test(test_unix),
	    cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
