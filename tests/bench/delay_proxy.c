/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * delay_proxy.c - makes a server far away: each byte arrives later by the same time, on its way
 * there and on its way back. What is under way is not bounded, so pipelining works as it does
 * over a long line; the proxy takes its share of the processor, though.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define NS 1000000000LL
#define CHUNK 65536

struct side;

/* Bytes under way, or, without any, the end of them. */
struct chunk {
	struct chunk *next;
	struct side *to;
	int64_t due_ns;
	size_t len, sent;
	char data[];
};

struct list {
	struct chunk *first, **end;
};

/* One end of a connection; the other end is its peer. */
struct side {
	struct side *peer;
	int fd;
	bool told_end, writing;
	unsigned under_way; /* chunks to it that have not arrived */
	struct list arrived;
};

static struct list road = {NULL, &road.first};
static int64_t delay_ns;
static int epoll_fd;
static struct sockaddr_storage server;
static socklen_t server_len;

static _Noreturn void
die(const char *what)
{
	fprintf(stderr, "delay_proxy: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

static void
append(struct list *l, struct chunk *c)
{
	c->next = NULL;
	*l->end = c;
	l->end = &c->next;
}

static struct chunk *
take(struct list *l)
{
	struct chunk *c = l->first;

	l->first = c->next;
	if (l->first == NULL)
		l->end = &l->first;
	return c;
}

static void
watch(struct side *s, uint32_t events, int how)
{
	struct epoll_event e = {.events = events, .data.ptr = s};

	if (epoll_ctl(epoll_fd, how, s->fd, &e) != 0)
		die("epoll_ctl");
}

/* --- connections ------------------------------------------------------------------------------- */

/* Both ends are let go when nothing is under way to either any more. */
static void
pair_close(struct side *s)
{
	struct side *both[2] = {s, s->peer};

	for (int i = 0; i < 2; i++) {
		if (both[i]->fd >= 0)
			close(both[i]->fd);
		both[i]->fd = -1;
		while (both[i]->arrived.first != NULL)
			free(take(&both[i]->arrived));
	}
	if (s->under_way + s->peer->under_way > 0)
		return;
	free(both[0]);
	free(both[1]);
}

static void
side_write(struct side *s)
{
	while (s->arrived.first != NULL) {
		struct chunk *c = s->arrived.first;
		ssize_t n = 0;

		if (c->len == 0) {
			shutdown(s->fd, SHUT_WR);
			s->told_end = true;
		} else {
			n = send(s->fd, c->data + c->sent, c->len - c->sent, MSG_NOSIGNAL);
		}
		if (n < 0 && errno == EAGAIN) {
			if (!s->writing)
				watch(s, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
			s->writing = true;
			return;
		}
		if (n < 0) {
			pair_close(s);
			return;
		}
		c->sent += (size_t)n;
		if (c->sent == c->len)
			free(take(&s->arrived));
	}
	if (s->writing)
		watch(s, EPOLLIN, EPOLL_CTL_MOD);
	s->writing = false;
	if (s->told_end && s->peer->told_end)
		pair_close(s);
}

static void
side_read(struct side *s)
{
	static char data[CHUNK];
	ssize_t n = recv(s->fd, data, sizeof data, 0);
	struct chunk *c;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		pair_close(s);
		return;
	}
	c = malloc(sizeof *c + (size_t)n);
	if (c == NULL)
		die("malloc");
	c->to = s->peer;
	c->due_ns = now_ns() + delay_ns;
	c->len = (size_t)n;
	c->sent = 0;
	memcpy(c->data, data, (size_t)n);
	append(&road, c);
	s->peer->under_way++;
	if (n == 0) /* or it would be said again and again */
		epoll_ctl(epoll_fd, EPOLL_CTL_DEL, s->fd, NULL);
}

/* All that has been under way for long enough. */
static void
deliver(int64_t now)
{
	while (road.first != NULL && road.first->due_ns <= now) {
		struct chunk *c = take(&road);
		struct side *to = c->to;

		to->under_way--;
		if (to->fd < 0) {
			free(c);
			pair_close(to);
			continue;
		}
		append(&to->arrived, c);
		side_write(to);
	}
}

static struct side *
side_new(int fd)
{
	struct side *s = calloc(1, sizeof *s);
	int on = 1;

	if (s == NULL)
		die("calloc");
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	s->fd = fd;
	s->arrived.end = &s->arrived.first;
	return s;
}

static void
client_new(int listener)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK), up;
	struct side *client, *far;

	if (fd < 0)
		return;
	up = socket(server.ss_family, SOCK_STREAM, 0);
	if (up < 0 || connect(up, (struct sockaddr *)&server, server_len) != 0) {
		if (up >= 0)
			close(up);
		close(fd);
		return;
	}
	client = side_new(fd);
	far = side_new(up);
	client->peer = far;
	far->peer = client;
	watch(client, EPOLLIN, EPOLL_CTL_ADD);
	watch(far, EPOLLIN, EPOLL_CTL_ADD);
}

/* --- options --------------------------------------------------------------------------------------- */

static socklen_t
parse_socket(const char *spec, struct sockaddr_storage *addr)
{
	struct sockaddr_un *un = (struct sockaddr_un *)addr;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	const char *port = strrchr(spec, ':');
	char host[256];
	socklen_t len;

	if (strncmp(spec, "unix:", 5) == 0) {
		un->sun_family = AF_UNIX;
		snprintf(un->sun_path, sizeof un->sun_path, "%s", spec + 5);
		return sizeof *un;
	}
	errno = EINVAL;
	if (strncmp(spec, "inet:", 5) != 0 || port == spec + 4)
		die(spec);
	snprintf(host, sizeof host, "%.*s", (int)(port - spec - 5), spec + 5);
	if (getaddrinfo(host, port + 1, &hints, &found) != 0)
		die(spec);
	len = found->ai_addrlen;
	memcpy(addr, found->ai_addr, len);
	freeaddrinfo(found);
	return len;
}

static int
listen_on(const char *spec)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = parse_socket(spec, &addr);
	int fd = socket(addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

	if (fd < 0)
		die(spec);
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
	if (bind(fd, (struct sockaddr *)&addr, len) != 0 || listen(fd, SOMAXCONN) != 0)
		die(spec);
	return fd;
}

int
main(int argc, char **argv)
{
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = NULL};
	int listener;

	if (argc != 4) {
		fputs("usage: delay_proxy ROUND-TRIP-MS LISTEN SERVER\n"
		      "sockets are unix:PATH or inet:HOST:PORT\n",
		    stderr);
		return 2;
	}
	delay_ns = (int64_t)(strtod(argv[1], NULL) / 2 * 1e6);
	server_len = parse_socket(argv[3], &server);
	listener = listen_on(argv[2]);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (epoll_fd < 0 || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e) != 0)
		die("epoll");
	for (;;) {
		int64_t now = now_ns(), left = NS;
		struct timespec t;
		int n;

		deliver(now);
		if (road.first != NULL)
			left = road.first->due_ns - now;
		t.tv_sec = left / NS;
		t.tv_nsec = left % NS;
		/* one at a time: what an event does may end the connection of the next */
		n = epoll_pwait2(epoll_fd, &e, 1, &t, NULL);
		if (n < 0 && errno != EINTR)
			die("epoll_pwait2");
		if (n <= 0)
			continue;
		if (e.data.ptr == NULL) {
			client_new(listener);
			continue;
		}
		if ((e.events & EPOLLOUT) != 0) {
			side_write(e.data.ptr);
			continue; /* it may be gone; what can be read will be said again */
		}
		side_read(e.data.ptr);
	}
}
