/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * queue_count.c - see queue_count.h.
 *
 * The child belongs to nobody's list of workers: who reaps it (the master does) need not tell us,
 * as the end of its pipe says that it is done.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "clock.h"
#include "queue_count.h"

/* hash_queue_depth is 1; 16 would be mad, and a loop of mounts is worse. */
#define DEPTH_MAX 4
#define EVERY_US USEC_PER_SEC
/* A count that takes longer than we can tell is followed by so many times that as rest, within
 * reason. */
#define TELL_US (250 * USEC_PER_MSEC)
#define REST 20
#define REST_MAX_US (10 * USEC_PER_SEC)

/* --- counting ---------------------------------------------------------------------------------- */

struct walk {
	int64_t files, end_us;
	char *why;
	size_t whylen;
};

static bool
fail(struct walk *w, const char *name, int error)
{
	snprintf(w->why, w->whylen, "%s: %s", name, strerror(error));
	return false;
}

static int
entry_kind(int dir, const struct dirent *e)
{
	struct stat st;

	if (e->d_type != DT_UNKNOWN)
		return e->d_type;
	if (fstatat(dir, e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
		return DT_UNKNOWN;
	return S_ISDIR(st.st_mode) ? DT_DIR : S_ISREG(st.st_mode) ? DT_REG : DT_UNKNOWN;
}

static bool
is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Takes fd over. What vanishes meanwhile has been delivered. */
static bool
walk(struct walk *w, int fd, const char *name, unsigned depth)
{
	DIR *dir = fd >= 0 ? fdopendir(fd) : NULL;
	const struct dirent *e;
	bool ok = true;

	if (dir == NULL) {
		int error = errno;

		if (fd >= 0)
			close(fd);
		return depth > 0 && error == ENOENT ? true : fail(w, name, error);
	}
	while (ok && w->files < CONF_QUEUE_FILES_MAX && (e = readdir(dir)) != NULL) {
		int kind;

		if (is_dots(e->d_name))
			continue;
		kind = entry_kind(dirfd(dir), e);
		if (kind == DT_REG)
			w->files++;
		else if (kind == DT_DIR && depth < DEPTH_MAX)
			ok = walk(w,
			    openat(dirfd(dir), e->d_name,
				O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC),
			    name, depth + 1);
		if (clock_mono_us() >= w->end_us) {
			snprintf(w->why, w->whylen, "%s: counting takes too long", name);
			ok = false;
		}
	}
	closedir(dir);
	return ok;
}

static int
open_directory(int at, const char *name)
{
	return openat(at, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

/* A Postfix queue has much else in it. What is deferred waits for others, not for this host. */
static bool
walk_queue(struct walk *w, const char *name)
{
	int fd = open_directory(AT_FDCWD, name), incoming, active;
	struct stat st;
	bool ok;

	if (fd < 0 || fstatat(fd, "incoming", &st, 0) != 0 || fstatat(fd, "active", &st, 0) != 0)
		return walk(w, fd, name, 0);
	incoming = open_directory(fd, "incoming");
	ok = walk(w, incoming, name, 0);
	if (ok) {
		active = open_directory(fd, "active");
		ok = walk(w, active, name, 0);
	}
	close(fd);
	return ok;
}

int64_t
queue_count_files(const struct conf *conf, char *why, size_t whylen)
{
	struct walk w = {.end_us = clock_mono_us() + QUEUE_WALK_US, .why = why, .whylen = whylen};

	for (unsigned i = 0; i < conf->nqueue_directories; i++)
		if (!walk_queue(&w, conf->queue_directories[i]))
			return -1;
	return w.files;
}

/* --- the child --------------------------------------------------------------------------------- */

static void child(const struct conf *conf, int out) __attribute__((noreturn));

static void
child(const struct conf *conf, int out)
{
	int null = open("/dev/null", O_RDWR);
	char why[200];
	sigset_t none;
	int64_t n;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)setpgid(0, 0);
	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL);
	sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(null, 2) < 0)
		_exit(1);
	/* the workers' connections above all: they must end with the master */
	(void)syscall(SYS_close_range, 3, ~0U, 0);
	if (conf->queue_command[0] != '\0') {
		(void)execl("/bin/sh", "sh", "-c", conf->queue_command, (char *)NULL);
		_exit(127);
	}
	n = queue_count_files(conf, why, sizeof why);
	if (n >= 0)
		dprintf(1, "%" PRId64 "\n", n);
	else
		dprintf(1, "!%s", why);
	_exit(0);
}

static const char no_number[] = "queue-command does not print a number";

static bool
nothing(struct queue_count *q, const char *why)
{
	bool news = q->messages != -1 || strcmp(q->why, why) != 0;

	q->messages = -1;
	snprintf(q->why, sizeof q->why, "%s", why);
	return news;
}

static bool
start(struct queue_count *q, int64_t now)
{
	int fds[2];
	pid_t pid;

	if (q->conf->queue_command[0] != '\0' && geteuid() == 0) {
		q->due_us = INT64_MAX;
		return nothing(q, "queue-command is not run as root: set user");
	}
	q->due_us = now + EVERY_US;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0)
		return nothing(q, strerror(errno));
	pid = fork();
	if (pid == 0) {
		(void)fcntl(fds[1], F_SETFL, 0);
		child(q->conf, fds[1]);
	}
	close(fds[1]);
	if (pid < 0) {
		close(fds[0]);
		return nothing(q, strerror(errno));
	}
	(void)setpgid(pid, pid); /* it does so, too: whoever is first */
	q->pid = pid;
	q->fd = fds[0];
	q->started_us = now;
	q->killed = false;
	q->len = 0;
	return false;
}

/* "412", blanks around it, and nothing else. */
static bool
parse(const char *text, int64_t *out)
{
	text += strspn(text, " \t\n");
	return units_scan(&text, UNITS_COUNT_MAX, out) && text[strspn(text, " \t\r\n")] == '\0';
}

static bool
finish(struct queue_count *q, int64_t now)
{
	int64_t took = now - q->started_us, n;
	int64_t rest = took > TELL_US ? (took - TELL_US) * REST : 0;

	close(q->fd);
	q->pid = 0;
	if (took + rest < EVERY_US)
		rest = EVERY_US - took;
	q->due_us = now + (rest < REST_MAX_US ? rest : REST_MAX_US);
	if (q->killed)
		return false;
	q->text[q->len] = '\0';
	if (q->text[0] == '!')
		return nothing(q, q->text + 1);
	if (!parse(q->text, &n))
		return nothing(
		    q, q->conf->queue_command[0] != '\0' ? no_number : "the count was lost");
	q->messages = n;
	return true;
}

static bool
give_up(struct queue_count *q, const char *why)
{
	q->killed = true;
	(void)kill(-q->pid, SIGKILL);
	return nothing(q, why);
}

bool
queue_count_tick(struct queue_count *q, int64_t now)
{
	ssize_t n;

	if (q->pid == 0)
		return now >= q->due_us && start(q, now);
	if (q->killed) {
		/* one that hangs in the kernel lives on, and no other is started beside it */
		if (kill(-q->pid, 0) != 0 && errno == ESRCH)
			(void)finish(q, now);
		return false;
	}
	while ((n = read(q->fd, q->text + q->len, sizeof q->text - 1 - q->len)) > 0)
		q->len += (size_t)n;
	if (q->len == sizeof q->text - 1)
		return give_up(q, no_number);
	if (n == 0)
		return finish(q, now);
	if (now - q->started_us >= QUEUE_TIMEOUT_US)
		return give_up(q, "counting takes too long");
	return false;
}

void
queue_count_init(struct queue_count *q, const struct conf *conf)
{
	*q = (struct queue_count){.messages = -1, .conf = conf};
}

void
queue_count_end(struct queue_count *q)
{
	if (q->pid == 0)
		return;
	(void)kill(-q->pid, SIGKILL);
	close(q->fd);
	q->pid = 0;
}
