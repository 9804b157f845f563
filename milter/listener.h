/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listener.h - how a worker stops to accept milter connections, for a while or for ever, and
 * knows which it has.
 *
 * libmilter has no call for that: all that ends its loop of accept() ends all sessions, too. But
 * the descriptor that it accepts from is ours.
 */
#ifndef WEIR_MILTER_LISTENER_H
#define WEIR_MILTER_LISTENER_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/socket.h>

struct listener {
	int fd; /* the number that libmilter knows */
	int kept; /* the socket itself, to come back to; -1 once silenced */
	int spare; /* for when no descriptor is left to pause with */
	bool paused;
	pthread_t thread;
	struct sockaddr_storage own;
};

bool listener_init(struct listener *l, int fd);

/* The thread that calls this will accept: it can be woken then. */
void listener_thread(struct listener *l);

/* Accepts nobody until it is resumed; who connects meanwhile is served by another worker, or
 * waits in the socket's queue. Both may be called again and again, after listener_thread(). */
void listener_pause(struct listener *l);
void listener_resume(struct listener *l);

/* From now on nobody's connection is accepted here; the socket itself, which other workers have
 * too, is left alone. Once is enough, and after listener_thread(). */
void listener_silence(struct listener *l);

/* Connections accepted from it that are open in this process, whether libmilter has told of them
 * or not; -1 if that cannot be seen. */
int listener_connections(const struct listener *l);

#endif
