/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fake_server.h - something on a unix socket that is not Redis: waits for the first bytes of a
 * client, says what it was told to say, and hangs up or stays silent.
 */
#ifndef WEIR_TEST_FAKE_SERVER_H
#define WEIR_TEST_FAKE_SERVER_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>

struct fake_server {
	char dir[64], path[96], url[112];
	int fd;
	pthread_t thread;
	pthread_mutex_t lock;
	char *say;
	size_t len;
	bool hang_up;
	bool stop;
};

void fake_server_start(struct fake_server *f);
/* What the next client hears; copied. */
void fake_server_says(struct fake_server *f, const char *bytes, size_t len, bool hang_up);
void fake_server_stop(struct fake_server *f);

#endif
