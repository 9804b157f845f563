/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * observer.c - see observer.h.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <unistd.h>

#include "log.h"
#include "observer.h"
#include "show.h"
#include "socket.h"

/* A unix socket is for its owner's group, too. */
#define SOCKET_MODE 0660
#define RETRY_MS 5000
#define BACKOFF_FIRST_MS 500
#define BACKOFF_MAX_MS 30000
#define YOUNG_MS 10000

void
observer_init(struct observer *o, int listen_fd)
{
	*o = (struct observer){.listen_fd = listen_fd, .control = -1};
}

static void
close_listener(struct observer *o)
{
	if (o->listen_fd < 0)
		return;
	socket_remove_own(o->listen_fd);
	close(o->listen_fd);
	o->listen_fd = -1;
}

/* Said once: what stands in the way may stand there for long. */
static bool
open_listener(struct observer *o, const struct conf *conf)
{
	char err[512];

	if (o->listen_fd >= 0 && !socket_is(o->listen_fd, &conf->metrics))
		close_listener(o);
	if (o->listen_fd >= 0)
		return true;
	o->listen_fd = socket_open(&conf->metrics, "", "", SOCKET_MODE, err, sizeof err);
	if (o->listen_fd < 0 && !o->complained)
		log_line(LOG_ERR, "metrics: %s; trying again", err);
	if (o->listen_fd >= 0 && o->complained)
		log_line(LOG_NOTICE, "metrics: listening on %s now", conf->metrics.text);
	o->complained = o->listen_fd < 0;
	return o->listen_fd >= 0;
}

static bool
wanted(const struct conf *conf)
{
	return conf != NULL && conf->use_metrics;
}

bool
observer_due(const struct observer *o, const struct conf *conf)
{
	return wanted(conf) && o->pid == 0;
}

bool
observer_start(struct observer *o, const struct conf *conf, int64_t now_ms)
{
	int fds[2] = {-1, -1};
	pid_t pid;

	if (!wanted(conf))
		close_listener(o); /* a reload has switched it off */
	if (!observer_due(o, conf) || now_ms < o->restart_ms)
		return false;
	o->restart_ms = now_ms + RETRY_MS;
	if (!open_listener(o, conf))
		return false;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0 || (pid = fork()) < 0) {
		log_line(LOG_ERR, "metrics: cannot be started: %s", strerror(errno));
		for (int i = 0; i < 2; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		return false;
	}
	if (pid == 0) {
		close(fds[0]);
		o->control = fds[1];
		return true;
	}
	close(fds[1]);
	o->control = fds[0];
	o->pid = pid;
	o->started_ms = now_ms;
	return false;
}

void
observer_run(const struct observer *o, const struct conf *conf, struct zone *z, const char *node)
{
	const struct show s = {.conf = conf, .zone = z, .node = node};

	show_run(&s, o->listen_fd, o->control);
}

bool
observer_ended(struct observer *o, pid_t pid, int status, int64_t now_ms)
{
	if (o->pid == 0 || pid != o->pid)
		return false;
	if (WIFSIGNALED(status))
		log_line(LOG_ERR, "metrics: the process was killed by signal %d: starting another",
		    WTERMSIG(status));
	else
		log_line(LOG_ERR, "metrics: the process ended with status %d: starting another",
		    WEXITSTATUS(status));
	if (o->control >= 0)
		close(o->control);
	if (now_ms - o->started_ms >= YOUNG_MS)
		o->backoff_ms = 0;
	o->backoff_ms = o->backoff_ms == 0	  ? BACKOFF_FIRST_MS
	    : o->backoff_ms >= BACKOFF_MAX_MS / 2 ? BACKOFF_MAX_MS
						  : 2 * o->backoff_ms;
	o->restart_ms = now_ms + o->backoff_ms;
	o->control = -1;
	o->pid = 0;
	return true;
}

void
observer_forget(const struct observer *o)
{
	if (o->control >= 0)
		close(o->control);
	if (o->listen_fd >= 0)
		close(o->listen_fd);
}

void
observer_stop(struct observer *o)
{
	if (o->control >= 0)
		close(o->control);
	o->control = -1;
	o->pid = 0; /* it ends by itself; who reaps it need not tell us */
	close_listener(o);
}
