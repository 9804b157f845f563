/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * milter_probe.c - see milter_probe.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ctl.h"
#include "milter_probe.h"

#define PATIENCE_S 3
#define GROUPS_MAX 256

/* What the child tells. */
struct outcome {
	char step[40]; /* "" = all went well */
	int error;
	pid_t pid;
};

static void __attribute__((noreturn)) tell(int fd, struct outcome *o, const char *step)
{
	o->error = errno;
	snprintf(o->step, sizeof o->step, "%s", step);
	_exit(write(fd, o, sizeof *o) == (ssize_t)sizeof *o ? 0 : 1);
}

/* The offer, the answer's head, and QUIT. */
static bool
negotiate(int fd)
{
	static const unsigned char offer[] = {0, 0, 0, 13, 'O', 0, 0, 0, 6, 0, 0, 1, 0xff, 0, 0x1f,
	    0xff, 0xff},
				   quit[] = {0, 0, 0, 1, 'Q'};
	unsigned char answer[17];

	errno = 0;
	if (send(fd, offer, sizeof offer, MSG_NOSIGNAL) != (ssize_t)sizeof offer ||
	    recv(fd, answer, sizeof answer, MSG_WAITALL) != (ssize_t)sizeof answer)
		return false;
	(void)send(fd, quit, sizeof quit, MSG_NOSIGNAL);
	errno = EPROTO;
	return answer[4] == 'O';
}

static void __attribute__((noreturn)) visit(const struct milter_probe *p, int report)
{
	const struct timeval wait = {.tv_sec = PATIENCE_S};
	const struct passwd *pw = p->user != NULL ? getpwnam(p->user) : NULL;
	struct sockaddr_un sun = {.sun_family = AF_UNIX};
	const struct sockaddr *addr = (const struct sockaddr *)&sun;
	socklen_t len = sizeof sun, credlen;
	struct outcome o = {.step = ""};
	struct ucred cred = {.pid = 0};
	int fd;

	errno = 0;
	if (p->user != NULL && (pw == NULL || initgroups(pw->pw_name, pw->pw_gid) != 0))
		tell(report, &o, "user");
	if (p->directory != NULL && chdir(p->directory) != 0)
		tell(report, &o, "directory");
	if (p->chrooted && chroot(".") != 0)
		tell(report, &o, "chroot");
	if (pw != NULL && (setgid(pw->pw_gid) != 0 || setuid(pw->pw_uid) != 0))
		tell(report, &o, "user");
	if (p->path != NULL)
		snprintf(sun.sun_path, sizeof sun.sun_path, "%s", p->path);
	else
		addr = (const struct sockaddr *)&p->inet->addr, len = p->inet->len;
	alarm(2 * PATIENCE_S);
	fd = socket(addr->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) != 0)
		tell(report, &o, "socket");
	if (connect(fd, addr, len) != 0)
		tell(report, &o, "connect");
	credlen = sizeof cred;
	if (p->path != NULL && getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &credlen) == 0)
		o.pid = cred.pid;
	if (!negotiate(fd))
		tell(report, &o, "negotiate");
	tell(report, &o, "");
}

bool
milter_probe(const struct milter_probe *p, pid_t *pid, char *why, size_t whylen)
{
	struct outcome o = {.step = "", .error = 0};
	int fds[2], status;
	pid_t child;
	ssize_t n;

	*pid = 0;
	fflush(stdout);
	if (pipe(fds) != 0 || (child = fork()) < 0)
		ctl_die(CTL_REFUSED, "cannot fork: %s", strerror(errno));
	if (child == 0) {
		close(fds[0]);
		visit(p, fds[1]);
	}
	close(fds[1]);
	n = read(fds[0], &o, sizeof o);
	close(fds[0]);
	while (waitpid(child, &status, 0) < 0 && errno == EINTR)
		;
	if (n == (ssize_t)sizeof o && o.step[0] == '\0') {
		*pid = o.pid;
		return true;
	}
	if (n != (ssize_t)sizeof o)
		snprintf(why, whylen, "the connection hangs");
	else if (strcmp(o.step, "negotiate") == 0 && (o.error == EAGAIN || o.error == 0))
		snprintf(why, whylen, "who listens there does not answer as a milter");
	else
		snprintf(why, whylen, "%s: %s", o.step, strerror(o.error));
	return false;
}

/* --- which part of a path is closed ------------------------------------------------------------- */

struct person {
	uid_t uid;
	int ngroups;
	gid_t groups[GROUPS_MAX];
};

static bool
find_person(const char *user, struct person *who)
{
	const struct passwd *pw = getpwnam(user);

	if (pw == NULL)
		return false;
	who->uid = pw->pw_uid;
	who->ngroups = GROUPS_MAX;
	if (getgrouplist(user, pw->pw_gid, who->groups, &who->ngroups) < 0)
		who->ngroups = 0;
	return true;
}

/* bit: 1 to go through a directory, 2 to write to a socket */
static bool
may(const struct person *who, const struct stat *st, unsigned bit)
{
	if (who->uid == 0)
		return true;
	if (st->st_uid == who->uid)
		return (st->st_mode >> 6 & bit) != 0;
	for (int i = 0; i < who->ngroups; i++)
		if (st->st_gid == who->groups[i])
			return (st->st_mode >> 3 & bit) != 0;
	return (st->st_mode & bit) != 0;
}

static void
owner_text(const struct stat *st, char out[160])
{
	const struct passwd *pw = getpwuid(st->st_uid);
	const struct group *gr = getgrgid(st->st_gid);

	snprintf(out, 160, "mode %04o, %.60s:%.60s", (unsigned)st->st_mode & 07777,
	    pw != NULL ? pw->pw_name : "?", gr != NULL ? gr->gr_name : "?");
}

/* What is wrong with one part of the way; last: that is the socket. */
static bool
part_closed(const char *part, bool last, const char *user, const struct person *who,
    const char *group, char *why, size_t whylen, char *write, size_t writelen)
{
	char owner[160];
	struct stat st;

	if (stat(part, &st) != 0) {
		snprintf(why, whylen, "%s: %s", part, strerror(errno));
		if (last)
			snprintf(write, writelen, "start weir-milter: it makes the socket");
		else
			snprintf(write, writelen, "install -d -m 0750 -g %s %s", group, part);
		return true;
	}
	owner_text(&st, owner);
	if (may(who, &st, last ? 2 : 1))
		return false;
	snprintf(why, whylen, last ? "%s may not write to %s (%s)" : "%s may not enter %s (%s)",
	    user, part, owner);
	if (last)
		snprintf(write, writelen,
		    "in weir.conf: socket-group = \"%s\" and socket-mode = 0660", group);
	else
		snprintf(write, writelen, "chgrp %s %s && chmod g+x %s", group, part, part);
	return true;
}

bool
milter_path_closed(const char *root, const char *path, const char *user, char *why, size_t whylen,
    char *write, size_t writelen)
{
	const struct passwd *pw = getpwnam(user);
	const struct group *gr = pw != NULL ? getgrgid(pw->pw_gid) : NULL;
	char part[1024], group[64];
	struct person who;
	bool closed = false;

	if (!find_person(user, &who)) {
		snprintf(why, whylen, "there is no user %s", user);
		snprintf(write, writelen, "adduser --system %s", user);
		return true;
	}
	snprintf(group, sizeof group, "%s", gr != NULL ? gr->gr_name : user);
	snprintf(part, sizeof part, "%s/%s", root, path + strspn(path, "/"));
	for (char *slash = strchr(part + 1, '/'); slash != NULL && !closed;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		closed = part_closed(part, false, user, &who, group, why, whylen, write, writelen);
		*slash = '/';
	}
	return closed || part_closed(part, true, user, &who, group, why, whylen, write, writelen);
}
