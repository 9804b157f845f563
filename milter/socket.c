/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * socket.c - see socket.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "socket.h"

static bool
fail(char *err, size_t errlen, const char *what, const char *text)
{
	snprintf(err, errlen, "%s: \"%s\"", what, text);
	return false;
}

static const char *
unix_path(const struct socket_spec *s)
{
	return s->addr.ss_family == AF_UNIX ? ((const struct sockaddr_un *)&s->addr)->sun_path
					    : NULL;
}

/* Makes room for bind(): true when nothing is in the way (any more). */
static bool
clear_stale(const struct socket_spec *s, char *err, size_t errlen)
{
	const char *path = unix_path(s);
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) != 0)
		return true; /* whatever is wrong, bind() says it better */
	if (!S_ISSOCK(st.st_mode))
		return fail(err, errlen, "exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(err, errlen, strerror(errno), path);
	rc = connect(fd, (const struct sockaddr *)&s->addr, s->len);
	close(fd);
	/* a full backlog (EAGAIN) is somebody alive too */
	if (rc == 0 || errno == EAGAIN)
		return fail(err, errlen, "somebody already listens there", path);
	if (unlink(path) != 0)
		return fail(err, errlen, strerror(errno), path);
	return true;
}

/*
 * By descriptor, not by name: root does this in a directory that may be another user's, who could
 * put a link to any file in the socket's place. And no call that has nothing to do, as a system
 * call filter may forbid it.
 */
static bool
give(const char *path, uid_t uid, gid_t gid, mode_t mode)
{
	int fd = open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC), e;
	char self[32];
	struct stat st;
	bool ok;

	if (fd < 0)
		return false;
	snprintf(self, sizeof self, "/proc/self/fd/%d", fd);
	errno = ENOTSOCK;
	ok = fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) &&
	    ((uid == (uid_t)-1 && gid == (gid_t)-1) ||
		fchownat(fd, "", uid, gid, AT_EMPTY_PATH) == 0) &&
	    chmod(self, mode) == 0;
	e = errno;
	close(fd);
	errno = e;
	return ok;
}

static bool
set_owner(
    const char *path, const char *owner, const char *group, mode_t mode, char *err, size_t errlen)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (owner[0] != '\0') {
		const struct passwd *pw = getpwnam(owner);

		if (pw == NULL)
			return fail(err, errlen, "socket-owner: no such user", owner);
		uid = pw->pw_uid;
	}
	if (group[0] != '\0') {
		const struct group *gr = getgrnam(group);

		if (gr == NULL)
			return fail(err, errlen, "socket-group: no such group", group);
		gid = gr->gr_gid;
	}
	if (!give(path, uid, gid, mode))
		return fail(err, errlen, strerror(errno), path);
	return true;
}

static bool
bind_and_listen(int fd, const struct socket_spec *s, const char *owner, const char *group,
    mode_t mode, char *err, size_t errlen)
{
	const char *path = unix_path(s);
	int one = 1, rc;
	mode_t old;

	if (path == NULL)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	/* nobody may connect between bind() and chmod() */
	old = umask(0777);
	rc = bind(fd, (const struct sockaddr *)&s->addr, s->len);
	umask(old);
	if (rc != 0)
		return fail(err, errlen, strerror(errno), s->text);
	if ((path != NULL && !set_owner(path, owner, group, mode, err, errlen)) ||
	    (listen(fd, SOMAXCONN) != 0 && !fail(err, errlen, strerror(errno), s->text))) {
		socket_remove(s);
		return false;
	}
	return true;
}

/* The address as text; returns the port. */
static in_port_t
inet_text(const struct sockaddr_storage *a, char out[INET6_ADDRSTRLEN])
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)a;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)a;

	out[0] = '\0';
	if (a->ss_family == AF_INET6) {
		inet_ntop(AF_INET6, &v6->sin6_addr, out, INET6_ADDRSTRLEN);
		return v6->sin6_port;
	}
	inet_ntop(AF_INET, &v4->sin_addr, out, INET6_ADDRSTRLEN);
	return v4->sin_port;
}

int
socket_open(const struct socket_spec *s, const char *owner, const char *group, mode_t mode,
    char *err, size_t errlen)
{
	int fd;

	if (unix_path(s) != NULL && !clear_stale(s, err, errlen))
		return -1;
	fd = socket(s->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		fail(err, errlen, strerror(errno), s->text);
		return -1;
	}
	if (!bind_and_listen(fd, s, owner, group, mode, err, errlen)) {
		close(fd);
		return -1;
	}
	return fd;
}

bool
socket_is(int fd, const struct socket_spec *s)
{
	struct sockaddr_storage own;
	socklen_t len = sizeof own;
	char a[INET6_ADDRSTRLEN], b[INET6_ADDRSTRLEN];

	memset(&own, 0, sizeof own);
	if (getsockname(fd, (struct sockaddr *)&own, &len) != 0 ||
	    own.ss_family != s->addr.ss_family)
		return false;
	if (own.ss_family == AF_UNIX)
		return strcmp(((const struct sockaddr_un *)&own)->sun_path, unix_path(s)) == 0;
	return inet_text(&own, a) == inet_text(&s->addr, b) && strcmp(a, b) == 0;
}

bool
socket_adjust(const struct socket_spec *s, const char *owner, const char *group, mode_t mode,
    char *err, size_t errlen)
{
	const char *path = unix_path(s);

	return path == NULL || set_owner(path, owner, group, mode, err, errlen);
}

void
socket_remove_own(int fd)
{
	struct sockaddr_storage own;
	socklen_t len = sizeof own;

	memset(&own, 0, sizeof own);
	if (getsockname(fd, (struct sockaddr *)&own, &len) == 0 && own.ss_family == AF_UNIX)
		(void)unlink(((const struct sockaddr_un *)&own)->sun_path);
}

void
socket_remove(const struct socket_spec *s)
{
	const char *path = unix_path(s);

	if (path != NULL)
		(void)unlink(path);
}
