/*
 * target.c - see target.h.
 */
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
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
	bool name, looking;
	int64_t looked_us;
	char host[REDIS_HOST_MAX + 1];
	char port[8];
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

static void *
lookup_thread(void *arg)
{
	struct target *t = arg;
	struct target_addr found[TARGET_ADDRS_MAX];
	unsigned n = resolve(t->host, t->port, AI_ADDRCONFIG, found);

	pthread_mutex_lock(&t->lock);
	if (n > 0) { /* else the old addresses are better than none */
		memcpy(t->addrs, found, n * sizeof found[0]);
		t->n = n;
	}
	t->looking = false;
	pthread_cond_broadcast(&t->found);
	pthread_mutex_unlock(&t->lock);
	target_unref(t);
	return NULL;
}

void
target_refresh(struct target *t)
{
	int64_t now = clock_mono_us();
	pthread_t thread;

	pthread_mutex_lock(&t->lock);
	if (t->name && !t->looking &&
	    (t->looked_us == 0 || now - t->looked_us >= LOOKUP_EVERY_US)) {
		t->looked_us = now;
		if (thread_start(&thread, lookup_thread, t)) {
			/* it waits for the lock before it can drop its reference */
			t->looking = true;
			t->refs++;
			pthread_detach(thread);
		}
	}
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

struct target *
target_new(const struct redis_options *o, int64_t wait_us)
{
	struct target *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	pthread_mutex_init(&t->lock, NULL);
	clock_cond_init(&t->found);
	t->refs = 1;
	snprintf(t->host, sizeof t->host, "%s", o->host);
	snprintf(t->port, sizeof t->port, "%u", (unsigned)o->port & 0xffff);
	if (o->port == 0) {
		target_path(t, o->host);
		return t;
	}
	t->n = resolve(t->host, t->port, AI_NUMERICHOST, t->addrs);
	t->name = t->n == 0;
	if (t->name) {
		target_refresh(t);
		target_wait(t, wait_us);
	}
	return t;
}

unsigned
target_addrs(struct target *t, struct target_addr out[TARGET_ADDRS_MAX])
{
	unsigned n;

	pthread_mutex_lock(&t->lock);
	n = t->n;
	memcpy(out, t->addrs, n * sizeof out[0]);
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
