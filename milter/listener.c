/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listener.c - see listener.h.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/un.h>
#include <syslog.h>
#include <unistd.h>

#include "listener.h"
#include "log.h"

bool
listener_init(struct listener *l, int fd)
{
	socklen_t len = sizeof l->own;

	memset(l, 0, sizeof *l);
	l->fd = fd;
	l->kept = fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
	l->spare = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	return l->kept >= 0 && l->spare >= 0 &&
	    getsockname(fd, (struct sockaddr *)&l->own, &len) == 0;
}

static void
on_wake(int number)
{
	(void)number;
}

/* Only ever sent to one thread, for the EINTR that it causes there. */
static int
wake_signal(void)
{
	return SIGRTMIN;
}

void
listener_thread(struct listener *l)
{
	struct sigaction wake = {.sa_handler = on_wake};
	sigset_t set;

	sigaction(wake_signal(), &wake, NULL);
	sigemptyset(&set);
	sigaddset(&set, wake_signal());
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	l->thread = pthread_self();
}

/*
 * A socket that listens and that nobody can reach: it drops every packet. Of all descriptors it
 * alone makes accept() say EAGAIN, which libmilter takes as "nothing came"; for any other it
 * complains in the log and pauses.
 */
static int
unreachable_listener(void)
{
	struct sock_filter drop = BPF_STMT(BPF_RET | BPF_K, 0);
	const struct sock_fprog program = {.len = 1, .filter = &drop};
	const struct sockaddr_in any = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	/* deaf first: no connection may slip in */
	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program) == 0 &&
	    bind(fd, (const struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 1) == 0)
		return fd;
	close(fd);
	return -1;
}

/*
 * One step: there is no moment at which the number means nothing, or another file. libmilter may
 * be waiting in poll() for the file of before; it is woken, for that would hold it for seconds. If
 * it is within accept(), that ends with a connection, which is served. Wherever else it is, what
 * comes next is for the new one.
 */
static bool
put(struct listener *l, int fd)
{
	if (dup3(fd, l->fd, O_CLOEXEC) < 0)
		return false;
	pthread_kill(l->thread, wake_signal());
	return true;
}

void
listener_pause(struct listener *l)
{
	int fd;

	if (l->paused || l->kept < 0)
		return;
	fd = unreachable_listener();
	/* Without TCP, or a descriptor for it: on the spare accept() fails at most once, as poll()
	 * never wakes it for this again. */
	if (put(l, fd >= 0 ? fd : l->spare))
		l->paused = true;
	else
		log_line(LOG_ERR, "cannot stop to accept sessions: %s", strerror(errno));
	if (fd >= 0)
		close(fd);
}

void
listener_resume(struct listener *l)
{
	if (l->paused && l->kept >= 0 && put(l, l->kept))
		l->paused = false;
}

void
listener_silence(struct listener *l)
{
	listener_pause(l);
	/* or the socket would stay open when nobody accepts from it any more */
	if (l->paused && l->kept >= 0) {
		close(l->kept);
		l->kept = -1;
	}
}

static bool
same_inet(const struct sockaddr_in *a, const struct sockaddr_in *listening)
{
	return a->sin_port == listening->sin_port &&
	    (listening->sin_addr.s_addr == htonl(INADDR_ANY) ||
		a->sin_addr.s_addr == listening->sin_addr.s_addr);
}

static bool
same_inet6(const struct sockaddr_in6 *a, const struct sockaddr_in6 *listening)
{
	return a->sin6_port == listening->sin6_port &&
	    (IN6_IS_ADDR_UNSPECIFIED(&listening->sin6_addr) ||
		memcmp(&a->sin6_addr, &listening->sin6_addr, sizeof a->sin6_addr) == 0);
}

/* An accepted socket has the name of the one that it was accepted from. */
static bool
accepted_from(int fd, const struct sockaddr_storage *own)
{
	struct sockaddr_storage name;
	socklen_t len = sizeof name;
	int listening = 0;
	socklen_t intlen = sizeof listening;

	memset(&name, 0, sizeof name);
	if (getsockname(fd, (struct sockaddr *)&name, &len) != 0 ||
	    name.ss_family != own->ss_family ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &intlen) != 0 || listening)
		return false;
	switch (own->ss_family) {
	case AF_UNIX:
		return strcmp(((const struct sockaddr_un *)&name)->sun_path,
			   ((const struct sockaddr_un *)own)->sun_path) == 0;
	case AF_INET:
		return same_inet(
		    (const struct sockaddr_in *)&name, (const struct sockaddr_in *)own);
	case AF_INET6:
		return same_inet6(
		    (const struct sockaddr_in6 *)&name, (const struct sockaddr_in6 *)own);
	default:
		return false;
	}
}

int
listener_connections(const struct listener *l)
{
	DIR *d = opendir("/proc/self/fd");
	const struct dirent *e;
	int n = 0;

	if (d == NULL)
		return -1;
	while ((e = readdir(d)) != NULL)
		if (e->d_name[0] != '.')
			n += accepted_from(atoi(e->d_name), &l->own);
	closedir(d);
	return n;
}
