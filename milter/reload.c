/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reload.c - see reload.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "reload.h"

/* What a program may say of its errors; the rest is not read, and one that says more than fits
 * into the pipe hangs, and is killed. */
#define ERRORS_MAX 4096

struct words {
	char fd[16];
	char *argv[LAUNCH_WORDS_MAX + 6];
};

/* exec takes char *, and does not write to it. */
static void
make_words(struct words *w, const struct launch *l, int handover_fd, bool check)
{
	unsigned n = 0;

	snprintf(w->fd, sizeof w->fd, "%d", handover_fd);
	w->argv[n++] = (char *)l->program;
	if (check)
		w->argv[n++] = (char *)"-n";
	w->argv[n++] = (char *)HANDOVER_OPTION;
	w->argv[n++] = w->fd;
	for (unsigned i = 0; i < LAUNCH_WORDS_MAX && l->words[i] != NULL; i++)
		w->argv[n++] = (char *)l->words[i];
	w->argv[n] = NULL;
}

static void __attribute__((noreturn))
run_trial(const struct launch *l, const struct handover *h, int handover_fd, int errors_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	struct words w;
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (null < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0 ||
	    dup2(errors_fd, STDERR_FILENO) < 0)
		_exit(EXIT_FAILURE);
	handover_keep(h, true);
	fcntl(handover_fd, F_SETFD, 0);
	make_words(&w, l, handover_fd, true);
	execv(l->program, w.argv);
	dprintf(STDERR_FILENO, "%s: %s\n", l->program, strerror(errno));
	_exit(127);
}

bool
trial_start(struct trial *t, const struct launch *l, const struct handover *h)
{
	int handover_fd = handover_write(h), fds[2] = {-1, -1};
	pid_t pid = -1;

	if (handover_fd >= 0 && pipe2(fds, O_CLOEXEC | O_NONBLOCK) == 0) {
		/* the child may wait for room, we do not wait for words */
		fcntl(fds[1], F_SETFL, 0);
		pid = fork();
	}
	if (pid == 0)
		run_trial(l, h, handover_fd, fds[1]);
	if (pid < 0)
		log_line(
		    LOG_ERR, "reload: %s cannot be tried out: %s", l->program, strerror(errno));
	if (handover_fd >= 0)
		close(handover_fd);
	if (fds[1] >= 0)
		close(fds[1]);
	if (pid < 0) {
		if (fds[0] >= 0)
			close(fds[0]);
		return false;
	}
	*t = (struct trial){
	    .pid = pid, .errors_fd = fds[0], .end_ms = clock_mono_us() / USEC_PER_MSEC + TRIAL_MS};
	return true;
}

/* Each line as one of ours. Returns how many there were. */
static unsigned
log_errors(int fd, int priority, const char *front)
{
	static const char own[] = "weir-milter: ";
	char text[ERRORS_MAX + 1], *line, *rest = text;
	size_t used = 0;
	unsigned n = 0;
	ssize_t got;

	while (used < ERRORS_MAX && (got = read(fd, text + used, ERRORS_MAX - used)) > 0)
		used += (size_t)got;
	text[used] = '\0';
	while ((line = strsep(&rest, "\n")) != NULL) {
		if (line[0] == '\0')
			continue;
		if (strncmp(line, own, sizeof own - 1) == 0)
			line += sizeof own - 1;
		log_line(priority, "%s%s", front, line);
		n++;
	}
	return n;
}

bool
trial_ended(struct trial *t, int status)
{
	bool good = WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS;
	unsigned n = log_errors(
	    t->errors_fd, good ? LOG_WARNING : LOG_ERR, good ? "reload: " : "reload refused: ");

	close(t->errors_fd);
	t->pid = 0;
	if (!good && WIFSIGNALED(status))
		log_line(LOG_ERR,
		    "reload refused: the program was killed by signal %d while it was tried out",
		    WTERMSIG(status));
	else if (!good && n == 0)
		log_line(LOG_ERR,
		    "reload refused: the program ended with status %d while it was tried out",
		    WEXITSTATUS(status));
	return good;
}

void
trial_kill(const struct trial *t)
{
	if (t->pid != 0)
		kill(t->pid, SIGKILL);
}

void
reload_exec(const struct launch *l, const struct handover *h)
{
	int fd = handover_write(h);
	struct words w;

	if (fd >= 0) {
		handover_keep(h, true);
		fcntl(fd, F_SETFD, 0);
		make_words(&w, l, fd, false);
		execv(l->program, w.argv);
	}
	log_line(LOG_ERR, "reload failed: %s: %s", l->program, strerror(errno));
	handover_keep(h, false);
	if (fd >= 0)
		close(fd);
}
