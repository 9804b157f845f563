/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis_fixture.c - see redis_fixture.h.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "redis_fixture.h"

static void
die(const char *what)
{
	fprintf(stderr, "redis_fixture: %s: %s\n", what, strerror(errno));
	exit(99);
}

const char *
redis_fixture_binary(void)
{
	static char found[512];
	const char *env = getenv("REDIS_SERVER"), *home = getenv("HOME");
	const char *cached[] = {"usr/bin/redis-server", "redis/usr/bin/redis-server", NULL};
	char *path, *save = NULL;

	if (env != NULL && env[0] != '\0')
		return env;
	path = strdup(getenv("PATH") != NULL ? getenv("PATH") : "");
	for (char *d = strtok_r(path, ":", &save); d != NULL; d = strtok_r(NULL, ":", &save)) {
		snprintf(found, sizeof found, "%s/redis-server", d);
		if (access(found, X_OK) == 0) {
			free(path);
			return found;
		}
	}
	free(path);
	for (int i = 0; home != NULL && cached[i] != NULL; i++) {
		snprintf(found, sizeof found, "%s/.cache/weir/mta/%s", home, cached[i]);
		if (access(found, X_OK) == 0)
			return found;
	}
	return NULL;
}

/* --- a Cluster ---------------------------------------------------------------------------- */

/* A port that nobody uses, and the one 10000 above, too: that is the Cluster's own. */
static int
free_port(void)
{
	for (int i = 0; i < 200; i++) {
		struct sockaddr_in sa = {.sin_family = AF_INET};
		int port = 20000 + (int)((unsigned)(getpid() * 31 + i * 7 + rand()) % 20000), n = 0;

		sa.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
		for (int k = 0; k < 2; k++) {
			int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

			sa.sin_port = htons((uint16_t)(port + 10000 * k));
			n += bind(fd, (struct sockaddr *)&sa, sizeof sa) == 0;
			close(fd);
		}
		if (n == 2)
			return port;
	}
	die("no free port");
	return 0;
}

static void
node_start(struct redis_fixture *f, unsigned i)
{
	const char *binary = redis_fixture_binary();
	char port[12], conf[32];
	pid_t parent = getpid();

	f->nodes[i].port = free_port();
	snprintf(port, sizeof port, "%d", f->nodes[i].port);
	snprintf(conf, sizeof conf, "nodes-%u.conf", i);
	f->nodes[i].pid = fork();
	if (f->nodes[i].pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		execl(binary, "redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "",
		    "--dir", f->dir, "--logfile", "redis.log", "--cluster-enabled", "yes",
		    "--cluster-config-file", conf, "--cluster-require-full-coverage", "no",
		    "--enable-debug-command", "yes", NULL);
		_exit(127);
	}
	for (int k = 0; k < 1000 && f->nodes[i].c == NULL; k++) {
		f->nodes[i].c = redisConnect("127.0.0.1", f->nodes[i].port);
		if (f->nodes[i].c != NULL && f->nodes[i].c->err == 0)
			return;
		redisFree(f->nodes[i].c);
		f->nodes[i].c = NULL;
		usleep(10000);
	}
	die("a node does not start");
}

static void
node_run(struct redis_fixture *f, unsigned i, const char *format, ...)
{
	va_list ap;
	redisReply *r;

	va_start(ap, format);
	r = redisvCommand(f->nodes[i].c, format, ap);
	va_end(ap);
	if (r == NULL || r->type == REDIS_REPLY_ERROR)
		die(r != NULL ? r->str : f->nodes[i].c->errstr);
	freeReplyObject(r);
}

/* All nodes agree that all slots are served. */
static bool
cluster_ready(struct redis_fixture *f)
{
	bool ready = true;

	for (unsigned i = 0; i < FIXTURE_NODES; i++) {
		redisReply *r = redisCommand(f->nodes[i].c, "CLUSTER INFO");

		ready = ready && r != NULL && strstr(r->str, "cluster_state:ok") != NULL &&
		    strstr(r->str, "cluster_slots_ok:16384") != NULL;
		freeReplyObject(r);
	}
	return ready;
}

static void
cluster_start(struct redis_fixture *f)
{
	strcpy(f->dir, "/tmp/weir-redis-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		die("mkdtemp");
	for (unsigned i = 0; i < FIXTURE_NODES; i++)
		node_start(f, i);
	for (unsigned i = 0; i < FIXTURE_NODES; i++) {
		node_run(f, i, "CLUSTER ADDSLOTSRANGE %d %d", 16384 * i / FIXTURE_NODES,
		    16384 * (i + 1) / FIXTURE_NODES - 1);
		node_run(f, i, "CLUSTER SET-CONFIG-EPOCH %d", i + 1);
		if (i > 0)
			node_run(f, i, "CLUSTER MEET 127.0.0.1 %d", f->nodes[0].port);
	}
	for (int i = 0; !cluster_ready(f); i++) {
		if (i == 1000)
			die("the cluster does not come up");
		usleep(10000);
	}
	/* the first two only: the others have to be learnt */
	snprintf(f->url, sizeof f->url, "redis-cluster://127.0.0.1:%d,127.0.0.1:%d",
	    f->nodes[0].port, f->nodes[1].port);
	f->cluster = true;
}

static void
cluster_stop(struct redis_fixture *f)
{
	char name[160];

	for (unsigned i = 0; i < FIXTURE_NODES; i++) {
		redisFree(f->nodes[i].c);
		kill(f->nodes[i].pid, SIGKILL);
		waitpid(f->nodes[i].pid, NULL, 0);
		snprintf(name, sizeof name, "%s/nodes-%u.conf", f->dir, i);
		unlink(name);
	}
	snprintf(name, sizeof name, "%s/redis.log", f->dir);
	unlink(name);
	rmdir(f->dir);
}

/* From whichever node has the key; FLUSHALL from all. */
static redisReply *
cluster_command(struct redis_fixture *f, const char *format, va_list ap)
{
	bool all = strncmp(format, "FLUSHALL", 8) == 0;
	redisReply *r = NULL;

	for (unsigned i = 0; i < FIXTURE_NODES; i++) {
		va_list again;

		freeReplyObject(r);
		va_copy(again, ap);
		r = redisvCommand(f->nodes[i].c, format, again);
		va_end(again);
		if (r == NULL)
			die(f->nodes[i].c->errstr);
		if (!all && (r->type != REDIS_REPLY_ERROR || strncmp(r->str, "MOVED", 5) != 0))
			break;
	}
	return r;
}

/* --- one server ---------------------------------------------------------------------------- */

static void
launch(struct redis_fixture *f)
{
	const char *argv[40] = {"redis-server", "--port", "0", "--unixsocket", f->path, "--save",
	    "", "--dir", f->dir, "--logfile", "redis.log", "--daemonize", "no"};
	const char *binary = redis_fixture_binary();
	pid_t parent = getpid();
	int n = 13;

	for (int i = 0; f->more[i] != NULL; i++)
		argv[n++] = f->more[i];
	unlink(f->path);
	f->pid = fork();
	if (f->pid < 0)
		die("fork");
	if (f->pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		/* the name that it is called by decides what the program is */
		execv(binary, (char *const *)argv);
		_exit(127);
	}
}

static bool
connect_once(struct redis_fixture *f)
{
	redisReply *r;
	bool ok;

	f->c = redisConnectUnixWithTimeout(f->path, (struct timeval){5, 0});
	if (f->c == NULL || f->c->err != 0) {
		if (f->c != NULL)
			redisFree(f->c);
		f->c = NULL;
		return false;
	}
	redisSetTimeout(f->c, (struct timeval){5, 0});
	if (f->password[0] != '\0')
		freeReplyObject(redisCommand(f->c, "AUTH %s", f->password));
	r = redisCommand(f->c, "PING");
	ok = r != NULL && r->type == REDIS_REPLY_STATUS;
	freeReplyObject(r);
	if (!ok) {
		redisFree(f->c);
		f->c = NULL;
	}
	return ok;
}

static void
await(struct redis_fixture *f)
{
	for (int i = 0; i < 1000; i++) {
		if (connect_once(f))
			return;
		if (waitpid(f->pid, NULL, WNOHANG) == f->pid)
			break;
		usleep(10000);
	}
	fprintf(stderr, "redis_fixture: %s does not start, see %s/redis.log\n",
	    redis_fixture_binary(), f->dir);
	exit(99);
}

void
redis_fixture_start(struct redis_fixture *f, const char *const *more)
{
	if (more == NULL && getenv("WEIR_TEST_CLUSTER") != NULL) {
		cluster_start(f);
		return;
	}
	for (int i = 0; i < 8; i++)
		f->more[i] = NULL;
	for (int i = 0; more != NULL && more[i] != NULL && i < 7; i++)
		f->more[i] = more[i];
	strcpy(f->dir, "/tmp/weir-redis-XXXXXX");
	if (mkdtemp(f->dir) == NULL)
		die("mkdtemp");
	snprintf(f->path, sizeof f->path, "%s/sock", f->dir);
	snprintf(f->url, sizeof f->url, "unix:%s", f->path);
	launch(f);
	await(f);
}

void
redis_fixture_kill(struct redis_fixture *f)
{
	if (f->c != NULL)
		redisFree(f->c);
	f->c = NULL;
	if (f->pid > 0) {
		kill(f->pid, SIGKILL);
		waitpid(f->pid, NULL, 0);
	}
	f->pid = 0;
}

void
redis_fixture_restart(struct redis_fixture *f)
{
	redis_fixture_kill(f);
	launch(f);
	await(f);
}

void
redis_fixture_stop(struct redis_fixture *f)
{
	const char *files[] = {"sock", "redis.log", "dump.rdb", NULL};
	char name[160];

	if (f->cluster) {
		cluster_stop(f);
		return;
	}
	redis_fixture_kill(f);
	for (int i = 0; files[i] != NULL; i++) {
		snprintf(name, sizeof name, "%s/%s", f->dir, files[i]);
		unlink(name);
	}
	rmdir(f->dir);
}

static redisReply *
vcommand(struct redis_fixture *f, const char *format, va_list ap)
{
	redisReply *r =
	    f->cluster ? cluster_command(f, format, ap) : redisvCommand(f->c, format, ap);

	if (r == NULL) {
		fprintf(stderr, "redis_fixture: %s\n", f->c->errstr);
		exit(99);
	}
	return r;
}

redisReply *
redis_fixture_command(struct redis_fixture *f, const char *format, ...)
{
	va_list ap;
	redisReply *r;

	va_start(ap, format);
	r = vcommand(f, format, ap);
	va_end(ap);
	return r;
}

long long
redis_fixture_integer(struct redis_fixture *f, const char *format, ...)
{
	va_list ap;
	redisReply *r;
	long long n;

	va_start(ap, format);
	r = vcommand(f, format, ap);
	va_end(ap);
	n = r->type == REDIS_REPLY_INTEGER ? r->integer : -1000000;
	freeReplyObject(r);
	return n;
}

void
redis_fixture_run(struct redis_fixture *f, const char *format, ...)
{
	va_list ap;
	redisReply *r;

	va_start(ap, format);
	r = vcommand(f, format, ap);
	va_end(ap);
	if (r->type == REDIS_REPLY_ERROR) {
		fprintf(stderr, "redis_fixture: %s: %s\n", format, r->str);
		exit(99);
	}
	freeReplyObject(r);
}

int
redis_fixture_tests(
    struct redis_fixture *f, const char *name, const struct CMUnitTest *tests, size_t n)
{
	int failed;

	if (redis_fixture_binary() == NULL) {
		fprintf(stderr, "no redis-server: set REDIS_SERVER\n");
		return 77;
	}
	redis_fixture_start(f, NULL);
	failed = _cmocka_run_group_tests(name, tests, n, NULL, NULL);
	redis_fixture_stop(f);
	return failed;
}
