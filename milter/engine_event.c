/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * engine_event.c - the engine that speaks the milter protocol itself: one thread, one event loop
 * (libevent), and nothing in it that waits. conn.c has the connections; here is the loop around
 * them, who is let in, and how it ends.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <semaphore.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "conn.h"
#include "engine.h"
#include "log.h"
#include "redis_event.h"

/* Others get a turn after so many. */
#define ACCEPTS_MAX 64
/* After so many of them another worker is the first to be woken. */
#define TURNS 4
/* Descriptors for all but sessions: Redis, the zone, the log, the loop. */
#define OWN_FDS 24
/* Without a descriptor left: look again after so long, and say it so often. */
#define FULL_US (100 * USEC_PER_MSEC)
#define FULL_SAY_US (60 * USEC_PER_SEC)
/* The loop ends its turn in no time; whoever waits longer for it waits for nothing. */
#define STOP_WAIT_US (200 * USEC_PER_MSEC)

static struct {
	struct event_base *base;
	struct redis_event *redis; /* NULL: the store never waits */
	struct event listen, wake, full;
	int listen_fd, wake_fd;
	int epoll_fd; /* libevent's, -1: not known */
	int64_t said_us; /* that there are no descriptors */
	int accepts; /* so many are likely to wait */
	unsigned turns; /* of accepting */
	int most; /* connections: descriptors run out with more */
	atomic_bool running, silence, stop;
	sem_t silenced, stopped;
	struct conns conns;
} loop = {.wake_fd = -1};

/* --- who is let in -------------------------------------------------------------------------------- */

/*
 * A connection that comes shall wake one worker and not all of them: under light load the others'
 * waking costs more than the session. libevent has no word for that, so what it has told epoll of
 * the listening socket is told anew, with EPOLLEXCLUSIVE. Then the kernel wakes the one that has
 * said so first of those who sleep; who says it anew stands behind the others.
 */
static void
stand_behind(void)
{
	struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = loop.listen_fd};

	if (loop.epoll_fd < 0 ||
	    epoll_ctl(loop.epoll_fd, EPOLL_CTL_DEL, loop.listen_fd, NULL) != 0 ||
	    epoll_ctl(loop.epoll_fd, EPOLL_CTL_ADD, loop.listen_fd, &e) == 0)
		return;
	e.events = EPOLLIN;
	(void)epoll_ctl(loop.epoll_fd, EPOLL_CTL_ADD, loop.listen_fd, &e);
}

static void
listen_again(void)
{
	if (loop.listen_fd >= 0 && event_add(&loop.listen, NULL) == 0)
		stand_behind();
}

/* The one epoll descriptor of this process. Only of a libevent that is known to tell epoll the
 * descriptor as its data. */
static int
find_epoll(struct event_base *base)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;
	int found = -1, n = 0;

	if (d == NULL)
		return -1;
	while ((e = readdir(d)) != NULL) {
		char target[32];
		ssize_t len = readlinkat(dirfd(d), e->d_name, target, sizeof target);

		if (len == 22 && memcmp(target, "anon_inode:[eventpoll]", 22) == 0) {
			found = atoi(e->d_name);
			n++;
		}
	}
	closedir(d);
	if (n != 1 || strcmp(event_base_get_method(base), "epoll") != 0 ||
	    event_get_version_number() >> 16 != 0x0201)
		return -1;
	return found;
}

static int
descriptors(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur > INT_MAX)
		return INT_MAX;
	return (int)lim.rlim_cur;
}

static void
on_full(evutil_socket_t fd, short what, void *arg)
{
	const struct timeval tv = {.tv_usec = FULL_US};

	(void)fd;
	(void)what;
	(void)arg;
	if (atomic_load(&loop.conns.open) < loop.most)
		listen_again();
	else
		(void)event_add(&loop.full, &tv);
}

/* Without descriptors the socket would be ready at once again: leave it to other workers, or
 * until one of ours has ended. */
static void
pause_accept(int error)
{
	const struct timeval tv = {.tv_usec = FULL_US};
	int64_t now = clock_mono_us();

	(void)event_del(&loop.listen);
	(void)event_add(&loop.full, &tv);
	if (loop.said_us != 0 && now - loop.said_us < FULL_SAY_US)
		return;
	loop.said_us = now;
	log_line(LOG_WARNING,
	    "worker %u cannot accept more sessions than its %d (%s): new ones wait; "
	    "raise the limit of open files (LimitNOFILE in systemd) or the workers",
	    loop.conns.worker->number, atomic_load(&loop.conns.open), strerror(error));
}

/* As many as lately came at once: an accept() that finds nobody costs as much as one that does.
 * False: nobody is left. */
static bool
accept_some(int fd)
{
	for (int i = 0; i < loop.accepts; i++) {
		int new;

		if (atomic_load(&loop.conns.open) >= loop.most) {
			pause_accept(EMFILE);
			return false;
		}
		new = accept4(fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
		if (new >= 0)
			(void)conn_open(&loop.conns, new);
		else if (errno == EAGAIN || errno == EWOULDBLOCK)
			return false;
		else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS ||
		    errno == ENOMEM) {
			pause_accept(errno);
			return false;
		}
	}
	return true;
}

static void
on_listen(evutil_socket_t fd, short what, void *arg)
{
	(void)what;
	(void)arg;
	if (!accept_some(fd))
		loop.accepts = loop.accepts > 1 ? loop.accepts / 2 : 1;
	else if (loop.accepts < ACCEPTS_MAX)
		loop.accepts *= 2;
	/* sessions shall not all be in one worker: it may crash */
	if (++loop.turns % TURNS == 0 && event_pending(&loop.listen, EV_READ, NULL) != 0)
		stand_behind();
}

/* --- words from other threads --------------------------------------------------------------------- */

static void
wake(void)
{
	const uint64_t one = 1;

	while (write(loop.wake_fd, &one, sizeof one) < 0 && errno == EINTR)
		;
}

static void
wait_for(sem_t *s)
{
	int64_t until = clock_real_us() + STOP_WAIT_US;
	struct timespec ts = {until / USEC_PER_SEC, until % USEC_PER_SEC * 1000};

	while (sem_timedwait(s, &ts) != 0 && errno == EINTR)
		;
}

static void
on_wake(evutil_socket_t fd, short what, void *arg)
{
	uint64_t n;

	(void)what;
	(void)arg;
	if (read(fd, &n, sizeof n) < 0)
		return;
	if (atomic_load(&loop.silence) && loop.listen_fd >= 0) {
		(void)event_del(&loop.listen);
		(void)event_del(&loop.full);
		close(loop.listen_fd);
		loop.listen_fd = -1;
		sem_post(&loop.silenced);
	}
	if (loop.conns.refresher != NULL)
		conns_refreshed(&loop.conns);
}

static void
silence(void)
{
	atomic_store(&loop.silence, true);
	wake();
	wait_for(&loop.silenced);
}

static bool
stop(void)
{
	if (!atomic_load(&loop.running))
		return true;
	atomic_store(&loop.stop, true);
	wake();
	wait_for(&loop.stopped);
	return !atomic_load(&loop.running);
}

static int
connections(void)
{
	return atomic_load(&loop.conns.open);
}

/* --- the loop --------------------------------------------------------------------------------------- */

/* What goes to an MTA is whole answers: it need not wait for more. Connections inherit it. */
static bool
prepare_listener(int fd)
{
	struct sockaddr_storage name = {0};
	socklen_t len = sizeof name;
	int one = 1;

	(void)evutil_make_socket_nonblocking(fd);
	if (getsockname(fd, (struct sockaddr *)&name, &len) != 0 || name.ss_family == AF_UNIX)
		return false;
	(void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	return true;
}

static bool
attach(struct worker *w, struct store *redis)
{
	(void)w;
	loop.base = event_base_new();
	if (loop.base == NULL)
		return false;
	loop.redis = redis_event_attach(redis, loop.base);
	return loop.redis != NULL;
}

static bool
prepare(struct worker *w, int listen_fd)
{
	if (loop.base == NULL)
		loop.base = event_base_new();
	loop.wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (loop.base == NULL || loop.wake_fd < 0)
		return false;
	loop.listen_fd = listen_fd;
	loop.accepts = 1;
	loop.epoll_fd = find_epoll(loop.base);
	loop.most = descriptors() - OWN_FDS > 1 ? descriptors() - OWN_FDS : 1;
	sem_init(&loop.silenced, 0, 0);
	sem_init(&loop.stopped, 0, 0);
	conns_init(
	    &loop.conns, w, loop.base, prepare_listener(listen_fd), w->conf->idle_timeout_us);
	if (w->conf->use_redis && (loop.conns.refresher = refresher_new(w, loop.wake_fd)) == NULL)
		return false;
	event_assign(&loop.wake, loop.base, loop.wake_fd, EV_READ | EV_PERSIST, on_wake, NULL);
	event_assign(&loop.listen, loop.base, listen_fd, EV_READ | EV_PERSIST, on_listen, NULL);
	evtimer_assign(&loop.full, loop.base, on_full, NULL);
	listen_again();
	return event_add(&loop.wake, NULL) == 0 && event_pending(&loop.listen, EV_READ, NULL) != 0;
}

static bool
run(struct worker *w, int listen_fd)
{
	if (!prepare(w, listen_fd)) {
		log_line(LOG_ERR, "the event loop does not start: %s", strerror(errno));
		return false;
	}
	atomic_store(&loop.running, true);
	worker_ready(w, 0);
	/* one wait, all that is ready, and then what Redis is to be asked, in one write */
	while (!atomic_load(&loop.stop) && event_base_loop(loop.base, EVLOOP_ONCE) >= 0)
		if (loop.redis != NULL)
			redis_event_flush(loop.redis);
	atomic_store(&loop.running, false);
	sem_post(&loop.stopped);
	return true;
}

const struct engine engine_event = {
    .attach = attach,
    .run = run,
    .silence = silence,
    .connections = connections,
    .stop = stop,
};
