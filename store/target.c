/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * target.c - see target.h.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "clock.h"
#include "target.h"
#include "thread.h"

/* A name server that is down must not be asked with each probe. */
#define LOOKUP_EVERY_US (5 * USEC_PER_SEC)

struct target {
	pthread_mutex_t lock;
	pthread_cond_t found; /* a look-up has ended */
	unsigned refs; /* the owner, and a look-up under way */
	const struct tls *tls;
	_Atomic uint64_t place; /* changes only under the lock */
	bool name, looking;
	int64_t looked_us;
	char host[REDIS_HOST_MAX + 1];
	char port[8];
	int number; /* the same; 0: host is a path */
	unsigned n;
	struct target_addr addrs[TARGET_ADDRS_MAX];
};

static void
target_unref(struct target *t)
{
	bool last;

	pthread_mutex_lock(&t->lock);
	last = --t->refs == 0;
	pthread_mutex_unlock(&t->lock);
	if (!last)
		return;
	pthread_cond_destroy(&t->found);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static unsigned
resolve(const char *host, const char *port, int flags, struct target_addr out[TARGET_ADDRS_MAX])
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
	struct addrinfo *list, *a;
	unsigned n = 0;

	if (getaddrinfo(host, port, &hints, &list) != 0)
		return 0;
	for (a = list; a != NULL && n < TARGET_ADDRS_MAX; a = a->ai_next) {
		if (a->ai_addrlen > sizeof out[n].sa)
			continue;
		memcpy(&out[n].sa, a->ai_addr, a->ai_addrlen);
		out[n++].len = a->ai_addrlen;
	}
	freeaddrinfo(list);
	return n;
}

/* What it looks for is its own: t may be sent elsewhere meanwhile. */
struct lookup {
	struct target *t;
	uint64_t place;
	char host[REDIS_HOST_MAX + 1];
	char port[8];
};

static void *
lookup_thread(void *arg)
{
	struct lookup *l = arg;
	struct target *t = l->t;
	struct target_addr found[TARGET_ADDRS_MAX];
	unsigned n = resolve(l->host, l->port, AI_ADDRCONFIG, found);

	pthread_mutex_lock(&t->lock);
	if (n > 0 && t->place == l->place) { /* else the old addresses are better than none */
		memcpy(t->addrs, found, n * sizeof found[0]);
		t->n = n;
	}
	t->looking = false;
	pthread_cond_broadcast(&t->found);
	pthread_mutex_unlock(&t->lock);
	target_unref(t);
	free(l);
	return NULL;
}

/* Locked. */
static void
look_up(struct target *t)
{
	struct lookup *l = malloc(sizeof *l);
	pthread_t thread;

	t->looked_us = clock_mono_us();
	if (l == NULL)
		return;
	l->t = t;
	l->place = t->place;
	memcpy(l->host, t->host, sizeof l->host);
	memcpy(l->port, t->port, sizeof l->port);
	if (!thread_start(&thread, lookup_thread, l)) {
		free(l);
		return;
	}
	/* it waits for the lock before it can drop its reference */
	t->looking = true;
	t->refs++;
	pthread_detach(thread);
}

void
target_refresh(struct target *t)
{
	pthread_mutex_lock(&t->lock);
	if (t->name && !t->looking &&
	    (t->looked_us == 0 || clock_mono_us() - t->looked_us >= LOOKUP_EVERY_US))
		look_up(t);
	pthread_mutex_unlock(&t->lock);
}

static void
target_wait(struct target *t, int64_t wait_us)
{
	struct timespec until = clock_timespec(clock_mono_us() + wait_us);

	pthread_mutex_lock(&t->lock);
	while (t->looking && t->n == 0)
		if (pthread_cond_timedwait(&t->found, &t->lock, &until) != 0)
			break;
	pthread_mutex_unlock(&t->lock);
}

static void
target_path(struct target *t, const char *path)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&t->addrs[0].sa;
	size_t len = strlen(path);

	if (len >= sizeof un->sun_path)
		return;
	un->sun_family = AF_UNIX;
	memcpy(un->sun_path, path, len + 1);
	t->addrs[0].len = sizeof *un;
	t->n = 1;
}

/* Locked, or nobody else's yet. */
static void
go_to(struct target *t, const char *host, int port)
{
	snprintf(t->host, sizeof t->host, "%s", host);
	snprintf(t->port, sizeof t->port, "%u", (unsigned)port & 0xffff);
	t->number = port;
	t->n = 0;
	t->name = false;
	t->looked_us = 0;
	if (*host == '\0')
		return;
	if (port == 0) {
		target_path(t, host);
		return;
	}
	t->n = resolve(t->host, t->port, AI_NUMERICHOST, t->addrs);
	t->name = t->n == 0;
}

struct target *
target_new(const char *host, int port, const struct tls *tls, int64_t wait_us)
{
	struct target *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	clock_cond_init(&t->found);
	t->refs = 1;
	t->tls = tls;
	go_to(t, host, port);
	if (t->name) {
		target_refresh(t);
		target_wait(t, wait_us);
	}
	return t;
}

void
target_set(struct target *t, const char *host, int port)
{
	pthread_mutex_lock(&t->lock);
	t->place++;
	go_to(t, host, port);
	if (t->name)
		look_up(t);
	pthread_mutex_unlock(&t->lock);
}

uint64_t
target_place(const struct target *t)
{
	return atomic_load_explicit(&t->place, memory_order_relaxed);
}

bool
target_is(struct target *t, const char *host, int port)
{
	bool same;

	pthread_mutex_lock(&t->lock);
	same = t->number == port && strcmp(t->host, host) == 0;
	pthread_mutex_unlock(&t->lock);
	return same;
}

void
target_text(struct target *t, char out[REDIS_PLACE_TEXT_MAX])
{
	pthread_mutex_lock(&t->lock);
	redis_place_text(t->host, t->number, out);
	pthread_mutex_unlock(&t->lock);
}

void
target_host(struct target *t, char out[REDIS_HOST_MAX + 1])
{
	pthread_mutex_lock(&t->lock);
	memcpy(out, t->host, sizeof t->host);
	pthread_mutex_unlock(&t->lock);
}

bool
target_tls(struct target *t, struct tls_wire **out)
{
	char host[REDIS_HOST_MAX + 1];

	pthread_mutex_lock(&t->lock);
	memcpy(host, t->host, sizeof host);
	pthread_mutex_unlock(&t->lock);
	*out = t->tls != NULL ? tls_wire_new(t->tls, host) : NULL;
	return *out != NULL;
}

unsigned
target_addrs(struct target *t, struct target_addr out[TARGET_ADDRS_MAX], uint64_t *place)
{
	unsigned n;

	pthread_mutex_lock(&t->lock);
	n = t->n;
	memcpy(out, t->addrs, n * sizeof out[0]);
	if (place != NULL)
		*place = t->place;
	pthread_mutex_unlock(&t->lock);
	return n;
}

void
target_free(struct target **t)
{
	if (*t != NULL)
		target_unref(*t);
	*t = NULL;
}
