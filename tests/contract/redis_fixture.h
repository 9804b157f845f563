/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis_fixture.h - a private redis-server on a unix socket in a directory of its own. It ends
 * with the test program, however that ends.
 */
#ifndef WEIR_TEST_REDIS_FIXTURE_H
#define WEIR_TEST_REDIS_FIXTURE_H

#include <hiredis/hiredis.h>
#include <stdbool.h>
#include <sys/types.h>

/* With WEIR_TEST_CLUSTER in the environment a fixture without further arguments is a Cluster of so
 * many primaries on 127.0.0.1, and commands go to the one that has the key (FLUSHALL to all). */
#define FIXTURE_NODES 3

struct redis_fixture {
	struct {
		pid_t pid;
		int port;
		redisContext *c;
	} nodes[FIXTURE_NODES];
	bool cluster;
	pid_t pid; /* 0: not running */
	char dir[64];
	char path[96];
	char url[160];
	char password[32]; /* for our own connection; set with requirepass in `more` */
	const char *more[8];
	redisContext *c;
};

/* Where redis-server is: $REDIS_SERVER, PATH, ~/.cache/weir/mta; NULL if nowhere. */
const char *redis_fixture_binary(void);

/* more: further arguments ("--maxmemory", "2mb", NULL), may be NULL; borrowed. Returns when the
 * server answers; ends the program when it does not. */
void redis_fixture_start(struct redis_fixture *f, const char *const *more);
/* Kills (as a crash would) and starts again on the same socket, empty. */
void redis_fixture_restart(struct redis_fixture *f);
void redis_fixture_kill(struct redis_fixture *f);
/* Stops the server, whatever state it is in, and removes the directory. */
void redis_fixture_stop(struct redis_fixture *f);

/* Runs a command; the reply is the caller's and never NULL (the program ends instead). */
redisReply *redis_fixture_command(struct redis_fixture *f, const char *format, ...);
/* The same for a reply that is an integer, and for one that does not matter. */
long long redis_fixture_integer(struct redis_fixture *f, const char *format, ...);
void redis_fixture_run(struct redis_fixture *f, const char *format, ...);

struct CMUnitTest;
/* Runs the tests with *f started before and stopped after them. What main() returns: 77 (skipped)
 * without a redis-server. */
int redis_fixture_tests(
    struct redis_fixture *f, const char *name, const struct CMUnitTest *tests, size_t n);

#endif
