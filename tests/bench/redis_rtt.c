/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis_rtt.c - the bare round trip to a Redis: PING after PING on one connection, as a
 * blocking client does it. Prints the time of one as JSON, in milliseconds.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "hist.h"

#define NS 1000000000LL

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

int
main(int argc, char **argv)
{
	static struct hist h;
	redisContext *c;
	int64_t end;
	const char *port;

	if (argc != 3) {
		fputs("usage: redis_rtt SECONDS unix:PATH|HOST:PORT\n", stderr);
		return 2;
	}
	port = strrchr(argv[2], ':');
	if (strncmp(argv[2], "unix:", 5) == 0) {
		c = redisConnectUnix(argv[2] + 5);
	} else {
		char host[256];

		snprintf(host, sizeof host, "%.*s",
		    port != NULL ? (int)(port - argv[2]) : (int)strlen(argv[2]), argv[2]);
		c = redisConnect(host, port != NULL ? atoi(port + 1) : 6379);
	}
	if (c == NULL || c->err) {
		fprintf(stderr, "redis_rtt: %s: %s\n", argv[2], c != NULL ? c->errstr : "?");
		return 1;
	}
	end = now_ns() + (int64_t)(atof(argv[1]) * NS);
	for (int64_t before = now_ns(), after; before < end; before = after) {
		redisReply *r = redisCommand(c, "PING");

		if (r == NULL) {
			fprintf(stderr, "redis_rtt: %s\n", c->errstr);
			return 1;
		}
		freeReplyObject(r);
		after = now_ns();
		hist_add(&h, after - before);
	}
	redisFree(c);
	printf("{");
	hist_print(&h, "ping");
	printf("}\n");
	return 0;
}
