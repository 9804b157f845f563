/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * master.c - see master.h.
 *
 * Each worker has a connection to the master (worker.h); that it is closed says "end", and the
 * master's death closes it, hence no worker ever outlives it. A reload replaces the master by exec:
 * descriptors, children and signals stay, and nobody is left alone for a moment.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "children.h"
#include "clock.h"
#include "log.h"
#include "master.h"
#include "notify.h"
#include "observer.h"
#include "sampler.h"
#include "socket.h"
#include "takeover.h"
#include "weir/watch.h"
#include "worker.h"

#define TICK_MS 100
/* Beyond drain-timeout, until the service manager may use force. */
#define STOP_EXTRA_MS 10000
/* No process or no descriptor is to be had: not the moment to ask again and again. */
#define NO_START_MS 30000

struct master {
	struct conf *conf; /* NULL: could not be used */
	const struct launch *launch;
	unsigned nsockets; /* 0 = all closed */
	int sockets[HANDOVER_SOCKETS_MAX]; /* the first is ours; on others old workers serve */
	int zone_fd, signal_fd;
	struct zone *zone;
	struct sampler *sampler; /* of the host's load; NULL: nobody wants to know */
	int64_t started_us;
	int64_t drain_ms; /* drain-timeout */
	char node[RULESET_NODE_MAX + 1], pid_file[CONF_PATH_MAX], store[CONF_STORE_MARK_MAX];
	struct trial trial;
	bool again; /* another SIGHUP came while the program was tried out */
	bool replacing; /* own workers are to take the place of those of before */
	bool stopping;
	bool hopeless; /* no worker can ever run on this configuration */
	bool told; /* the service manager knows that the start, or the reload, is over */
	bool refused; /* the last reload was */
	struct children all;
	struct observer observer; /* of option metrics */
	struct watch_workers shown; /* what is shown of all this */
};

static int64_t
monotonic_ms(void)
{
	return clock_mono_us() / USEC_PER_MSEC;
}

static void
waited_signals(sigset_t *set)
{
	static const int waited[] = {SIGTERM, SIGINT, SIGHUP, SIGCHLD, SIGUSR1, SIGUSR2};

	sigemptyset(set);
	for (size_t i = 0; i < sizeof waited / sizeof waited[0]; i++)
		sigaddset(set, waited[i]);
}

void
master_block_signals(void)
{
	sigset_t set;

	waited_signals(&set);
	sigprocmask(SIG_BLOCK, &set, NULL);
}

/* --- starting workers ----------------------------------------------------------------------- */

/* A copy of another worker's connection would keep that one alive after the master's death. */
static void
close_masters_own(const struct master *m)
{
	for (unsigned i = 0; i < m->all.n; i++)
		if (m->all.child[i].control >= 0)
			close(m->all.child[i].control);
	close(m->signal_fd);
	close(m->zone_fd);
	for (unsigned i = 1; i < m->nsockets; i++)
		close(m->sockets[i]);
	if (m->trial.pid != 0)
		close(m->trial.errors_fd);
}

/* In the new process it does not return. */
static void
start_observer(struct master *m)
{
	if (!observer_start(&m->observer, m->conf, monotonic_ms()))
		return;
	close_masters_own(m);
	close(m->sockets[0]);
	observer_run(&m->observer, m->conf, m->zone, m->node);
}

static void
start_child(struct master *m, unsigned number)
{
	struct child *c = &m->all.child[number];
	int fds[2] = {-1, -1};
	pid_t pid;

	c->started_ms = monotonic_ms();
	zone_worker_started(m->zone, c->place);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) != 0 || (pid = fork()) < 0) {
		log_line(LOG_ERR, "worker %u cannot be started: %s", number, strerror(errno));
		for (int i = 0; i < 2; i++)
			if (fds[i] >= 0)
				close(fds[i]);
		c->restart_ms = c->started_ms + NO_START_MS;
		return;
	}
	if (pid == 0) {
		const struct worker w = {.conf = m->conf,
		    .zone = m->zone,
		    .number = number,
		    .workers = m->all.own,
		    .place = c->place,
		    .started_us = m->started_us};

		close(fds[0]);
		close_masters_own(m);
		observer_forget(&m->observer);
		worker_run(&w, m->sockets[0], fds[1]);
	}
	close(fds[1]);
	c->pid = pid;
	c->control = fds[0];
	c->ready = false;
}

static void
start_missing(struct master *m)
{
	int64_t now = monotonic_ms();

	for (unsigned i = 0; i < m->all.own; i++)
		if (m->all.child[i].pid == 0 && now >= m->all.child[i].restart_ms)
			start_child(m, i);
}

/* --- and what becomes of them --------------------------------------------------------------- */

static void
log_death(const struct master *m, const struct child *c, int status)
{
	unsigned number = (unsigned)(c - m->all.child);
	bool own = number < m->all.own;
	bool again = own && !m->stopping &&
	    !(WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_CONFIG);
	const char *then = again ? ": starting another" : "";
	char who[64];

	if (own)
		snprintf(who, sizeof who, "worker %u (pid %d)", number, (int)c->pid);
	else
		snprintf(who, sizeof who, "worker (pid %d) of before the reload", (int)c->pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS && c->draining)
		log_line(LOG_INFO, "%s has ended", who);
	else if (WIFSIGNALED(status))
		log_line(LOG_ERR, "%s was killed by signal %d%s", who, WTERMSIG(status), then);
	else
		log_line(LOG_ERR, "%s ended with status %d%s", who, WEXITSTATUS(status), then);
}

static void
drop_first_socket(struct master *m)
{
	socket_remove_own(m->sockets[0]);
	close(m->sockets[0]);
	m->nsockets--;
	memmove(m->sockets, m->sockets + 1, m->nsockets * sizeof m->sockets[0]);
}

/* A worker says that none can ever run. */
static void
give_up(struct master *m)
{
	int64_t now = monotonic_ms();

	if (m->hopeless)
		return;
	m->hopeless = true;
	if (children_old_serve(&m->all))
		log_line(LOG_ERR, "reload failed: the workers of before go on");
	for (unsigned i = 0; i < m->all.own; i++)
		child_cut(&m->all.child[i], now);
	/* nobody will serve there */
	if (m->nsockets > 1)
		drop_first_socket(m);
}

static void
child_died(struct master *m, struct child *c, int status)
{
	log_death(m, c, status);
	/* gives back the sessions that it had open */
	if (!c->foreign)
		zone_worker_died(m->zone, c->place, m->conf == NULL || m->conf->use_redis);
	if (!(WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS && c->draining))
		m->shown.ended++;
	if (WIFEXITED(status) && WEXITSTATUS(status) == WORKER_EXIT_CONFIG)
		give_up(m);
	children_gone(&m->all, c, monotonic_ms());
}

static struct handover *
make_handover(const struct master *m)
{
	static struct handover h; /* 10 kB */

	h = (struct handover){.nsockets = m->nsockets,
	    .zone_fd = m->zone_fd,
	    .metrics_fd = m->observer.listen_fd,
	    .started_us = m->started_us,
	    .drain_ms = m->drain_ms,
	    .drained = zone_drain_get(m->zone, ZONE_DRAIN_SIGNAL) != 0};
	memcpy(h.sockets, m->sockets, sizeof h.sockets);
	strcpy(h.node, m->node);
	strcpy(h.pid_file, m->pid_file);
	strcpy(h.store, m->store);
	children_hand_over(&m->all, &h);
	return &h;
}

static void
trial_reaped(struct master *m, int status)
{
	bool good = trial_ended(&m->trial, status);

	m->refused = !good;
	if (m->stopping)
		return;
	if (m->again) {
		m->again = false;
		(void)trial_start(&m->trial, m->launch, make_handover(m));
	} else if (good)
		reload_exec(m->launch, make_handover(m));
}

static void
reap(struct master *m)
{
	struct child *c;
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid == m->trial.pid)
			trial_reaped(m, status);
		else if (observer_ended(&m->observer, pid, status, monotonic_ms()))
			continue;
		else if ((c = children_find(&m->all, pid)) != NULL)
			child_died(m, c, status);
	}
}

/* --- signals -------------------------------------------------------------------------------- */

static void
on_hup(struct master *m)
{
	if (m->stopping)
		return;
	if (m->trial.pid != 0) {
		m->again = true;
		return;
	}
	log_line(LOG_INFO, "reload: trying %s", m->launch->program);
	m->told = false;
	notify_reloading();
	(void)trial_start(&m->trial, m->launch, make_handover(m));
}

/* All but the first `keep`. */
static void
close_sockets(struct master *m, unsigned keep)
{
	while (m->nsockets > keep) {
		m->nsockets--;
		socket_remove_own(m->sockets[m->nsockets]);
		close(m->sockets[m->nsockets]);
	}
}

/* The first time all sessions may end; the second time not. */
static void
on_term(struct master *m)
{
	int64_t now = monotonic_ms();
	struct zone_open open;
	bool cut = m->stopping || m->drain_ms == 0;

	zone_open_get(m->zone, &open);
	if (!m->stopping && !cut)
		log_line(LOG_NOTICE, "stopping: %u sessions open, they have %lld s to end",
		    open.sessions, (long long)m->drain_ms / 1000);
	m->stopping = true;
	notify_stopping(cut ? STOP_EXTRA_MS : m->drain_ms + STOP_EXTRA_MS);
	trial_kill(&m->trial);
	/* whoever starts next can have the sockets at once */
	close_sockets(m, 0);
	observer_stop(&m->observer);
	for (unsigned i = 0; i < m->all.n; i++)
		if (cut)
			child_cut(&m->all.child[i], now);
		else
			child_drain(&m->all.child[i], WORKER_FINISH, now + m->drain_ms);
}

static void
on_drain(struct master *m, bool on)
{
	zone_drain_set(m->zone, ZONE_DRAIN_SIGNAL, on ? INT64_MAX : 0);
	log_line(LOG_NOTICE,
	    on ? "drain: new sessions are refused until SIGUSR2" : "drain: no longer by signal%s",
	    on || zone_drain_until(m->zone) <= clock_real_us() ? ""
							       : ", but still by weirctl drain");
}

static void
take_signals(struct master *m)
{
	struct signalfd_siginfo s;

	while (read(m->signal_fd, &s, sizeof s) == (ssize_t)sizeof s)
		switch (s.ssi_signo) {
		case SIGTERM:
		case SIGINT:
			on_term(m);
			break;
		case SIGHUP:
			on_hup(m);
			break;
		case SIGUSR1:
			on_drain(m, true);
			break;
		case SIGUSR2:
			on_drain(m, false);
			break;
		default: /* SIGCHLD: reap() looks anyway */
			break;
		}
}

/* --- the loop ------------------------------------------------------------------------------- */

static void
start_log(const struct master *m, const char *what)
{
	log_line(LOG_NOTICE, "%s: %u workers on %s, counting in %s%s", what, m->all.own,
	    m->conf->socket.text, m->conf->use_redis ? "redis" : "this host's memory",
	    m->conf->rules.observe ? ", mode observe: nothing is refused" : "");
}

/* The new ones serve: now, and not before, the old ones need not. */
static void
replace_old(struct master *m)
{
	int64_t now = monotonic_ms();

	if (!m->replacing || !children_ready(&m->all))
		return;
	close_sockets(m, 1);
	for (unsigned i = m->all.own; i < m->all.n; i++)
		if (m->drain_ms == 0 && !m->all.child[i].draining)
			child_cut(&m->all.child[i], now);
		else if (!m->all.child[i].draining)
			child_drain(&m->all.child[i], WORKER_DRAIN, now + m->drain_ms);
	/* said when it is true that whoever comes now meets the new configuration */
	if (children_old_serve(&m->all))
		return;
	m->replacing = false;
	start_log(m, "reloaded weir " PACKAGE_VERSION);
}

static void
tell_manager(struct master *m)
{
	char status[160];

	if (m->told || m->stopping || m->replacing || m->trial.pid != 0 ||
	    (m->all.own > 0 && !children_ready(&m->all)))
		return;
	m->told = true;
	if (m->all.own == 0)
		snprintf(status, sizeof status, "reload failed, see the log: mend it and reload");
	else
		snprintf(status, sizeof status, "%u workers on %.60s%s%s", m->all.own,
		    m->conf->socket.text, m->conf->rules.observe ? ", mode observe" : "",
		    m->refused ? "; the last reload was refused, see the log" : "");
	notify_ready(status);
}

/* Somebody's time is running. */
static bool
clock_needed(const struct master *m)
{
	if (m->trial.pid != 0 || (!m->stopping && observer_due(&m->observer, m->conf)))
		return true;
	for (unsigned i = 0; i < m->all.n; i++)
		if (m->all.child[i].pid == 0 || m->all.child[i].draining)
			return true;
	return false;
}

static void
wait_for_news(struct master *m)
{
	struct pollfd p[1 + ZONE_WORKERS_MAX];
	struct child *who[1 + ZONE_WORKERS_MAX];
	nfds_t n = 1;
	char word;

	p[0] = (struct pollfd){.fd = m->signal_fd, .events = POLLIN};
	for (unsigned i = 0; i < m->all.n; i++) {
		struct child *c = &m->all.child[i];

		if (c->pid == 0 || c->control < 0 || (c->draining ? c->deaf : c->ready))
			continue;
		who[n] = c;
		p[n++] = (struct pollfd){.fd = c->control, .events = POLLIN};
	}
	if (poll(p, n, sampler_wait_ms(m->sampler, clock_needed(m) ? TICK_MS : -1)) <= 0)
		return;
	/* one that dies instead says nothing, and is reaped */
	for (nfds_t i = 1; i < n; i++)
		if ((p[i].revents & POLLIN) != 0 && read(p[i].fd, &word, 1) == 1) {
			who[i]->ready = true;
			who[i]->deaf = word == WORKER_DEAF;
		}
}

static void
check_trial(struct master *m)
{
	if (m->trial.pid != 0 && monotonic_ms() >= m->trial.end_ms) {
		log_line(LOG_ERR, "reload refused: the program hangs while it is tried out");
		m->trial.end_ms = INT64_MAX;
		trial_kill(&m->trial);
	}
}

static int
serve(struct master *m)
{
	int status = EXIT_SUCCESS;
	sigset_t set;

	waited_signals(&set);
	m->signal_fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	if (m->signal_fd < 0) {
		log_line(LOG_ERR, "signalfd: %s", strerror(errno));
		close_sockets(m, 0);
		return EXIT_FAILURE;
	}
	if (m->conf != NULL)
		m->sampler = sampler_new(m->conf, m->zone);
	zone_top_want(m->zone, m->conf != NULL && m->conf->use_metrics);
	zone_watch_workers_get(m->zone, &m->shown);
	m->shown.conf_us = clock_real_us();
	m->shown.started_us = m->started_us;
	for (;;) {
		if (!m->stopping && !m->hopeless)
			start_missing(m);
		if (!m->stopping)
			start_observer(m);
		reap(m); /* a child may have died before there was a signal_fd */
		if (!m->stopping)
			replace_old(m);
		children_expire(&m->all, monotonic_ms());
		check_trial(m);
		tell_manager(m);
		sampler_tick(m->sampler);
		children_tell(&m->all, &m->shown);
		zone_watch_workers_set(m->zone, &m->shown);
		if (children_running(&m->all) == 0 &&
		    (m->stopping || m->hopeless || m->all.own == 0))
			break;
		wait_for_news(m);
		take_signals(m);
	}
	if (!m->stopping)
		status = EXIT_FAILURE; /* none is left, and none can be started */
	close_sockets(m, 0);
	observer_stop(&m->observer);
	sampler_free(&m->sampler);
	log_line(LOG_NOTICE, "stopped");
	close(m->signal_fd);
	close(m->zone_fd);
	zone_free(&m->zone);
	return status;
}

/* --- the start ------------------------------------------------------------------------------ */

static struct master master = {.zone_fd = -1};

/* Tells the weir-milters that share a Redis apart, also one from the one before it. A reload keeps
 * the name with the zone, as the leases of both carry it. */
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

static void
configure(struct master *m, struct conf *conf, const struct launch *launch)
{
	m->conf = conf;
	m->launch = launch;
	m->drain_ms = conf->drain_timeout_us / USEC_PER_MSEC;
	strcpy(conf->rules.node, m->node);
	strcpy(m->pid_file, conf->pid_file);
	conf_store_mark(conf, m->store);
}

int
master_run(struct conf *conf, int listen_fd, const struct launch *launch)
{
	struct master *m = &master;

	m->sockets[m->nsockets++] = listen_fd;
	m->started_us = clock_real_us();
	name_node(m);
	configure(m, conf, launch);
	children_init(&m->all, takeover_workers(conf), NULL);
	observer_init(&m->observer, -1);
	m->zone_fd = zone_create(conf->zone_size, ZONE_WORKERS_MAX);
	if (m->zone_fd >= 0)
		m->zone = zone_attach(m->zone_fd);
	if (m->zone == NULL) {
		log_line(LOG_ERR, "no shared memory of zone-size: %s", strerror(errno));
		close_sockets(m, 0);
		return EXIT_FAILURE;
	}
	start_log(m, "started");
	return serve(m);
}

/* What a reload cannot use is closed, what it has made anew is remembered. */
static bool
take(struct master *m, const struct conf *conf, struct handover *h)
{
	struct takeover t;
	char err[512];

	if (!takeover_prepare(&t, conf, h, err, sizeof err)) {
		log_line(LOG_ERR, "reload failed: %s", err);
		return false;
	}
	if (!t.new_socket &&
	    !socket_adjust(&conf->socket, conf->socket_owner, conf->socket_group, conf->socket_mode,
		err, sizeof err))
		log_line(LOG_WARNING, "reload: the socket's owner and mode stay: %s", err);
	m->sockets[m->nsockets++] = t.listen_fd;
	for (unsigned i = 0; i < h->nsockets; i++)
		if (h->sockets[i] != t.listen_fd)
			m->sockets[m->nsockets++] = h->sockets[i];
	m->zone_fd = t.zone_fd;
	if (!t.new_zone)
		return true;
	close(h->zone_fd);
	for (unsigned i = 0; i < h->nchildren; i++)
		h->children[i].foreign = true;
	name_node(m);
	return true;
}

int
master_take_over(struct conf *conf, const struct handover *given, const struct launch *launch)
{
	static struct handover h;
	struct master *m = &master;
	bool good;

	h = *given;
	m->launch = launch;
	m->started_us = h.started_us;
	strcpy(m->node, h.node);
	strcpy(m->pid_file, h.pid_file);
	strcpy(m->store, h.store);
	observer_init(&m->observer, h.metrics_fd > 0 ? h.metrics_fd : -1);
	good = conf != NULL && take(m, conf, &h);
	if (!good) {
		m->nsockets = h.nsockets;
		memcpy(m->sockets, h.sockets, sizeof m->sockets);
		m->zone_fd = h.zone_fd;
	}
	m->zone = zone_attach(m->zone_fd);
	if (m->zone == NULL) {
		/* then the workers end, too, as nobody holds their connections any more */
		log_line(LOG_ERR, "reload failed: the shared memory is lost: %s", strerror(errno));
		close_sockets(m, 0);
		return EXIT_FAILURE;
	}
	zone_drain_set(m->zone, ZONE_DRAIN_SIGNAL, h.drained ? INT64_MAX : 0);
	if (good) {
		configure(m, conf, launch);
		children_init(&m->all, takeover_workers(conf), &h);
		m->replacing = true;
	} else {
		m->drain_ms = h.drain_ms;
		children_init(&m->all, 0, &h);
		log_line(LOG_ERR,
		    "reload failed: the workers of before go on, and none that dies is replaced; "
		    "mend it and reload again");
	}
	return serve(m);
}
