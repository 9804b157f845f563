/*
 * redis_fixture.c - see redis_fixture.h.
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
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
	redisReply *r = redisvCommand(f->c, format, ap);

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
