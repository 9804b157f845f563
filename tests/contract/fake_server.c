/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fake_server.c - see fake_server.h. One client at a time; a new one ends the one before.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "fake_server.h"

static void
answer(struct fake_server *f, int client)
{
	struct pollfd p = {.fd = client, .events = POLLIN};
	char buf[4096];
	size_t sent = 0;

	if (poll(&p, 1, 1000) <= 0 || recv(client, buf, sizeof buf, 0) <= 0)
		return;
	pthread_mutex_lock(&f->lock);
	while (sent < f->len) {
		ssize_t n = send(client, f->say + sent, f->len - sent, MSG_NOSIGNAL);

		if (n <= 0)
			break;
		sent += (size_t)n;
	}
	if (f->hang_up) {
		/* what the client still sends must not turn our end into a reset */
		shutdown(client, SHUT_WR);
	}
	pthread_mutex_unlock(&f->lock);
}

static void *
serve(void *arg)
{
	struct fake_server *f = arg;
	int client = -1;

	for (;;) {
		int next = accept(f->fd, NULL, NULL);
		bool stop;

		if (client >= 0)
			close(client);
		client = next;
		pthread_mutex_lock(&f->lock);
		stop = f->stop;
		pthread_mutex_unlock(&f->lock);
		if (stop || client < 0)
			break;
		answer(f, client);
	}
	if (client >= 0)
		close(client);
	return NULL;
}

void
fake_server_start(struct fake_server *f)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	memset(f, 0, sizeof *f);
	strcpy(f->dir, "/tmp/weir-fake-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		exit(99);
	snprintf(f->path, sizeof f->path, "%s/sock", f->dir);
	snprintf(f->url, sizeof f->url, "unix:%s", f->path);
	snprintf(un.sun_path, sizeof un.sun_path, "%s", f->path);
	pthread_mutex_init(&f->lock, NULL);
	f->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (f->fd < 0 || bind(f->fd, (struct sockaddr *)&un, sizeof un) != 0 ||
	    listen(f->fd, 128) != 0 || pthread_create(&f->thread, NULL, serve, f) != 0)
		exit(99);
}

void
fake_server_says(struct fake_server *f, const char *bytes, size_t len, bool hang_up)
{
	char *copy = malloc(len + 1);

	if (copy == NULL)
		exit(99);
	memcpy(copy, bytes, len);
	pthread_mutex_lock(&f->lock);
	free(f->say);
	f->say = copy;
	f->len = len;
	f->hang_up = hang_up;
	pthread_mutex_unlock(&f->lock);
}

void
fake_server_stop(struct fake_server *f)
{
	pthread_mutex_lock(&f->lock);
	f->stop = true;
	pthread_mutex_unlock(&f->lock);
	shutdown(f->fd, SHUT_RDWR);
	pthread_join(f->thread, NULL);
	close(f->fd);
	free(f->say);
	unlink(f->path);
	rmdir(f->dir);
	pthread_mutex_destroy(&f->lock);
}
