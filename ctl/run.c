/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * run.c - see run.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "weir/units.h"
#include "ctl.h"
#include "run.h"

#define PATIENCE_US (10 * USEC_PER_SEC)

static void __attribute__((noreturn)) become(const char *const *argv, int out, int err)
{
	const char *path = getenv("PATH");
	char with_sbin[4096];
	int null = open("/dev/null", O_RDONLY);

	/* where Debian has postconf, and a person's PATH has not */
	snprintf(with_sbin, sizeof with_sbin, "%s:/usr/local/sbin:/usr/sbin:/sbin",
	    path != NULL ? path : "/usr/bin:/bin");
	setenv("PATH", with_sbin, 1);
	setenv("LC_ALL", "C", 1);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 || dup2(err, 2) < 0)
		_exit(126);
	execvp(argv[0], (char *const *)(uintptr_t)argv);
	_exit(errno == ENOENT ? 127 : 126);
}

/* What there is, into text; false at the end. */
static bool
take(int fd, char *text, size_t *used)
{
	char rest[4096];
	ssize_t n = *used < RUN_OUTPUT_MAX ? read(fd, text + *used, RUN_OUTPUT_MAX - *used)
					   : read(fd, rest, sizeof rest);

	if (n < 0)
		return errno == EINTR || errno == EAGAIN;
	if (*used < RUN_OUTPUT_MAX)
		*used += (size_t)n;
	return n > 0;
}

static bool
collect(struct run *r, int out, int err)
{
	struct pollfd p[2] = {{.fd = out, .events = POLLIN}, {.fd = err, .events = POLLIN}};
	char *texts[2] = {r->out, r->err};
	size_t used[2] = {0, 0};
	int64_t end = clock_mono_us() + PATIENCE_US;

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		int64_t left = (end - clock_mono_us()) / 1000;

		if (left <= 0)
			return false;
		(void)poll(p, 2, (int)left);
		for (int i = 0; i < 2; i++)
			if (p[i].fd >= 0 && p[i].revents != 0 && !take(p[i].fd, texts[i], &used[i]))
				p[i].fd = -1;
	}
	return true;
}

bool
run_program(struct run *r, const char *const *argv)
{
	int out[2], err[2], status = 0;
	bool ended;
	pid_t pid;

	r->status = -1;
	r->out = calloc(1, RUN_OUTPUT_MAX + 1);
	r->err = calloc(1, RUN_OUTPUT_MAX + 1);
	if (r->out == NULL || r->err == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	fflush(stdout);
	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0 || (pid = fork()) < 0)
		ctl_die(CTL_REFUSED, "%s cannot be run: %s", argv[0], strerror(errno));
	if (pid == 0)
		become(argv, out[1], err[1]);
	close(out[1]);
	close(err[1]);
	ended = collect(r, out[0], err[0]);
	if (!ended)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	close(out[0]);
	close(err[0]);
	if (ended && WIFEXITED(status))
		r->status = WEXITSTATUS(status);
	return r->status == 0;
}

void
run_free(struct run *r)
{
	free(r->out);
	free(r->err);
	r->out = r->err = NULL;
}
