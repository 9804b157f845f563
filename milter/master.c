/*
 * master.c - see master.h.
 *
 * A worker holds the read end of a pipe whose write end only the master has. Closing it says
 * "stop"; so does the master's death, hence no worker ever outlives it.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "log.h"
#include "master.h"
#include "worker.h"

/* A stop is over after this, by SIGKILL if need be: init systems and the MTA wait for us. */
#define STOP_MS 1500
/* A worker that dies young is started again after 100 ms, 200 ms, ... up to 30 s. */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 30000
#define YOUNG_MS 10000
#define TICK_MS 100

struct child {
	pid_t pid; /* 0 = not running */
	int control; /* write end of its pipe */
	int64_t started_ms, restart_ms;
	int backoff_ms;
};

struct master {
	const struct conf *conf;
	int listen_fd;
	struct zone *zone;
	unsigned nchildren;
	int64_t started_us;
	char node[64];
	struct child children[ZONE_WORKERS_MAX];
};

static int64_t
monotonic_ms(void)
{
	return clock_mono_us() / USEC_PER_MSEC;
}

static void
waited_signals(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGTERM);
	sigaddset(set, SIGINT);
	sigaddset(set, SIGHUP);
	sigaddset(set, SIGCHLD);
}

void
master_block_signals(void)
{
	sigset_t set;

	waited_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

static void
start_child(struct master *m, unsigned i)
{
	struct child *c = &m->children[i];
	int pipe_fds[2];
	pid_t pid;

	c->started_ms = monotonic_ms();
	if (pipe2(pipe_fds, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		log_line(LOG_ERR, "worker %u cannot be started: %s", i, strerror(errno));
		c->restart_ms = c->started_ms + BACKOFF_MAX_MS;
		return;
	}
	if (pid == 0) {
		const struct worker w = {.conf = m->conf,
		    .zone = m->zone,
		    .number = i,
		    .workers = m->nchildren,
		    .started_us = m->started_us};

		close(pipe_fds[1]);
		for (unsigned k = 0; k < m->nchildren; k++)
			if (m->children[k].pid != 0)
				close(m->children[k].control);
		worker_run(&w, m->listen_fd, pipe_fds[0], m->node);
	}
	close(pipe_fds[0]);
	c->pid = pid;
	c->control = pipe_fds[1];
}

/* Gives back the sessions of a worker that is gone, and says when to start the next. */
static void
child_died(struct master *m, unsigned i, int status)
{
	struct child *c = &m->children[i];
	int64_t now = monotonic_ms();

	if (WIFSIGNALED(status))
		log_line(LOG_ERR, "worker %u (pid %d) was killed by signal %d: starting another", i,
		    (int)c->pid, WTERMSIG(status));
	else
		log_line(LOG_ERR, "worker %u (pid %d) ended with status %d: starting another", i,
		    (int)c->pid, WEXITSTATUS(status));
	close(c->control);
	c->pid = 0;
	zone_worker_died(m->zone, i, m->conf->use_redis);
	if (now - c->started_ms >= YOUNG_MS)
		c->backoff_ms = 0;
	c->restart_ms = now + c->backoff_ms;
	c->backoff_ms = c->backoff_ms == 0 ? BACKOFF_FIRST_MS : 2 * c->backoff_ms;
	if (c->backoff_ms > BACKOFF_MAX_MS)
		c->backoff_ms = BACKOFF_MAX_MS;
}

/* False: a worker says that no worker can ever run. */
static bool
reap(struct master *m)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (unsigned i = 0; i < m->nchildren; i++) {
			if (m->children[i].pid != pid)
				continue;
			child_died(m, i, status);
			if (WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_CONFIG)
				return false;
		}
	return true;
}

static void
start_missing(struct master *m)
{
	int64_t now = monotonic_ms();

	for (unsigned i = 0; i < m->nchildren; i++)
		if (m->children[i].pid == 0 && now >= m->children[i].restart_ms)
			start_child(m, i);
}

static unsigned
running(const struct master *m)
{
	unsigned n = 0;

	for (unsigned i = 0; i < m->nchildren; i++)
		n += m->children[i].pid != 0;
	return n;
}

static void
stop_all(struct master *m)
{
	int64_t end = monotonic_ms() + STOP_MS;
	sigset_t chld;

	sigemptyset(&chld);
	sigaddset(&chld, SIGCHLD);
	for (unsigned i = 0; i < m->nchildren; i++)
		if (m->children[i].pid != 0)
			close(m->children[i].control);
	while (running(m) > 0) {
		const struct timespec tick = {.tv_nsec = TICK_MS * 1000000};
		bool late = monotonic_ms() >= end;
		pid_t pid;

		for (unsigned i = 0; late && i < m->nchildren; i++)
			if (m->children[i].pid != 0)
				kill(m->children[i].pid, SIGKILL);
		while ((pid = waitpid(-1, NULL, late ? 0 : WNOHANG)) > 0)
			for (unsigned i = 0; i < m->nchildren; i++)
				if (m->children[i].pid == pid)
					m->children[i].pid = 0;
		if (running(m) > 0)
			(void)sigtimedwait(&chld, NULL, &tick);
	}
}

/* Tells the weir-milters that share a Redis apart, also one from the one before it. */
static void
name_node(struct master *m)
{
	char host[33] = "";
	unsigned random = 0;

	(void)gethostname(host, sizeof host - 1);
	for (char *p = host; *p != '\0'; p++)
		if (strchr("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-",
			*p) == NULL)
			*p = '-';
	if (getrandom(&random, sizeof random, GRND_NONBLOCK) != sizeof random)
		random = (unsigned)time(NULL) ^ (unsigned)getpid();
	snprintf(m->node, sizeof m->node, "%s.%08x", host, random);
}

int
master_run(const struct conf *conf, int listen_fd)
{
	static struct master m; /* static: kept out of the stack, 64 children */
	long cores = sysconf(_SC_NPROCESSORS_ONLN);
	bool go_on = true;
	sigset_t set;
	int status = EXIT_SUCCESS;

	m.conf = conf;
	m.listen_fd = listen_fd;
	m.nchildren = conf->workers != 0 ? conf->workers : cores > 2 ? (unsigned)cores : 2;
	if (m.nchildren > ZONE_WORKERS_MAX)
		m.nchildren = ZONE_WORKERS_MAX;
	m.started_us = clock_real_us();
	name_node(&m);
	m.zone = zone_new(conf->zone_size, m.nchildren);
	if (m.zone == NULL) {
		log_line(LOG_ERR, "no shared memory of zone-size: %s", strerror(errno));
		return EXIT_FAILURE;
	}
	log_line(LOG_NOTICE, "started: %u workers on %s, counting in %s%s", m.nchildren,
	    conf->socket.text, conf->use_redis ? "redis" : "this host's memory",
	    conf->rules.observe ? ", mode observe: nothing is refused" : "");
	waited_signals(&set);
	while (go_on) {
		const struct timespec tick = {.tv_nsec = TICK_MS * 1000000};
		int sig;

		start_missing(&m);
		/* the clock is only needed while somebody waits to be started again */
		sig = running(&m) < m.nchildren ? sigtimedwait(&set, NULL, &tick)
						: sigwaitinfo(&set, NULL);
		if (sig == SIGTERM || sig == SIGINT)
			go_on = false;
		else if (sig == SIGHUP)
			log_line(LOG_NOTICE,
			    "SIGHUP: limits are changed in redis; restart for "
			    "all else");
		if (!reap(&m)) {
			go_on = false;
			status = EXIT_FAILURE;
		}
	}
	stop_all(&m);
	log_line(LOG_NOTICE, "stopped");
	zone_free(&m.zone);
	return status;
}
