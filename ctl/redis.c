/*
 * redis.c - weirctl's own connection: blocking, bounded by a second, and one sentence when it
 * fails.
 */
#include <errno.h>
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#include "weir/units.h"
#include "ctl.h"

/* A person waits; a script must not hang. */
#define CALL_TIMEOUT_MS 900

static void
no_redis(const struct ctl *c, const char *why)
{
	const struct redis_options *o = &c->conf.redis;

	if (o->port != 0)
		ctl_die(CTL_NO_REDIS, "redis at %s port %d: %s", o->host, o->port, why);
	ctl_die(CTL_NO_REDIS, "redis at %s: %s", o->host, why);
}

/* What Redis' error means for the one who typed the command. */
static void
check_reply(const struct ctl *c, const redisReply *r)
{
	static const struct {
		const char *start;
		enum ctl_exit status;
		const char *means;
	} known[] = {
	    {"NOAUTH", CTL_NO_REDIS, "it wants a password"},
	    {"WRONGPASS", CTL_NO_REDIS, "it does not take this password"},
	    {"ERR invalid password", CTL_NO_REDIS, "it does not take this password"},
	    {"ERR AUTH <password> called without", CTL_NO_REDIS, "it has no password"},
	    {"ERR The user executing the script", CTL_REFUSED,
		"this Redis user has no right to do that"},
	    {"NOPERM", CTL_REFUSED, "this Redis user has no right to do that"},
	    {"READONLY", CTL_REFUSED, "it is a replica and cannot be written to: name the primary"},
	    {"LOADING", CTL_NO_REDIS, "it is still loading its data: try again in a moment"},
	    {"OOM", CTL_REFUSED, "it has no memory left (maxmemory)"},
	    {"WRONGTYPE", CTL_REFUSED, "a key holds something else than weir's: see weir.redis(7)"},
	};

	char safe[200];

	if (r == NULL)
		no_redis(c,
		    c->redis->err == REDIS_ERR_IO && (errno == EAGAIN || errno == ETIMEDOUT)
			? "does not answer"
			: c->redis->errstr);
	if (r->type != REDIS_REPLY_ERROR)
		return;
	if (strncmp(r->str, "WRONGKEY ", 9) == 0)
		ctl_wrong_key(r->str + 9);
	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strncmp(r->str, known[i].start, strlen(known[i].start)) == 0) {
			if (known[i].status == CTL_NO_REDIS)
				no_redis(c, known[i].means);
			ctl_die(CTL_REFUSED, "redis: %s", known[i].means);
		}
	ctl_die(CTL_REFUSED, "redis: %s", out_safe(r->str, sizeof safe - 1, safe, sizeof safe));
}

void
ctl_wrong_key(const char *key)
{
	char safe[CTL_KEY_MAX];

	ctl_die(CTL_REFUSED, "the key %s holds something else than weir's: delete it",
	    out_safe(key, sizeof safe - 1, safe, sizeof safe));
}

static void
log_in(struct ctl *c)
{
	const struct redis_options *o = &c->conf.redis;
	redisReply *r;

	if (o->password[0] != '\0') {
		r = o->user[0] != '\0' ? redisCommand(c->redis, "AUTH %s %s", o->user, o->password)
				       : redisCommand(c->redis, "AUTH %s", o->password);
		check_reply(c, r);
		freeReplyObject(r);
	}
	if (o->db != 0) {
		r = redisCommand(c->redis, "SELECT %d", o->db);
		check_reply(c, r);
		freeReplyObject(r);
	}
}

static redisContext *
connection(struct ctl *c)
{
	const struct redis_options *o = &c->conf.redis;
	const struct timeval wait = {.tv_usec = CALL_TIMEOUT_MS * 1000};

	if (c->redis != NULL)
		return c->redis;
	c->redis = o->port != 0 ? redisConnectWithTimeout(o->host, o->port, wait)
				: redisConnectUnixWithTimeout(o->host, wait);
	if (c->redis == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	if (c->redis->err != 0)
		no_redis(c, c->redis->errstr);
	/* without this a command has no time-out at all (hiredis 0.14) */
	(void)redisSetTimeout(c->redis, wait);
	log_in(c);
	return c->redis;
}

/* NULL, or why it cannot be used. */
static const char *
greet(const struct redis_options *o, redisContext *redis)
{
	static char why[200];
	char db[12];
	const struct {
		const char *word, *a, *b;
		bool wanted;
	} calls[] = {
	    {"AUTH", o->user[0] != '\0' ? o->user : o->password,
		o->user[0] != '\0' ? o->password : NULL, o->password[0] != '\0'},
	    {"SELECT", db, NULL, o->db != 0},
	    {"PING", NULL, NULL, true},
	};

	snprintf(db, sizeof db, "%d", o->db);
	for (size_t i = 0; i < sizeof calls / sizeof calls[0]; i++) {
		const char *argv[] = {calls[i].word, calls[i].a, calls[i].b};
		int argc = calls[i].b != NULL ? 3 : calls[i].a != NULL ? 2 : 1;
		redisReply *r;

		if (!calls[i].wanted)
			continue;
		r = redisCommandArgv(redis, argc, argv, NULL);
		if (r == NULL)
			return "does not answer";
		/* weir-milter's own user need not have PING; that is an answer, too */
		if (r->type == REDIS_REPLY_ERROR &&
		    (strcmp(calls[i].word, "PING") != 0 || strncmp(r->str, "NOPERM", 6) != 0)) {
			out_safe(r->str, sizeof why - 1, why, sizeof why);
			freeReplyObject(r);
			return why;
		}
		freeReplyObject(r);
	}
	return NULL;
}

redisContext *
ctl_redis_open(struct ctl *c, char *why, size_t whylen)
{
	const struct redis_options *o = &c->conf.redis;
	const struct timeval wait = {.tv_usec = CALL_TIMEOUT_MS * 1000};
	redisContext *redis = o->port != 0 ? redisConnectWithTimeout(o->host, o->port, wait)
					   : redisConnectUnixWithTimeout(o->host, wait);
	const char *trouble;

	if (redis == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	(void)redisSetTimeout(redis, wait);
	trouble = redis->err != 0 ? redis->errstr : greet(o, redis);
	if (trouble == NULL)
		return redis;
	if (o->port != 0)
		snprintf(why, whylen, "redis at %s port %d: %s", o->host, o->port, trouble);
	else
		snprintf(why, whylen, "redis at %s: %s", o->host, trouble);
	redisFree(redis);
	return NULL;
}

bool
ctl_redis_answers(struct ctl *c, char *why, size_t whylen)
{
	redisContext *redis = ctl_redis_open(c, why, whylen);

	if (redis != NULL)
		redisFree(redis);
	return redis != NULL;
}

redisReply *
ctl_call(struct ctl *c, int argc, const char **argv)
{
	redisReply *r = redisCommandArgv(connection(c), argc, argv, NULL);

	check_reply(c, r);
	return r;
}

redisReply *
ctl_callf(struct ctl *c, const char *fmt, ...)
{
	redisContext *redis = connection(c);
	redisReply *r;
	va_list ap;

	va_start(ap, fmt);
	r = redisvCommand(redis, fmt, ap);
	va_end(ap);
	check_reply(c, r);
	return r;
}

redisReply *
ctl_lookf(struct ctl *c, const char *fmt, ...)
{
	redisContext *redis = connection(c);
	redisReply *r;
	va_list ap;

	va_start(ap, fmt);
	r = redisvCommand(redis, fmt, ap);
	va_end(ap);
	if (r != NULL && r->type == REDIS_REPLY_ERROR && strncmp(r->str, "WRONGTYPE", 9) == 0) {
		freeReplyObject(r);
		return NULL;
	}
	check_reply(c, r);
	return r;
}

redisReply *
ctl_eval(
    struct ctl *c, const char *script, int nkeys, const char **keys, int nargs, const char **args)
{
	const char **argv = calloc((size_t)(3 + nkeys + nargs), sizeof *argv);
	char(*full)[CTL_KEY_MAX] = calloc((size_t)nkeys, sizeof *full);
	char count[12];
	redisReply *r;
	int n = 0;

	if (argv == NULL || full == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	snprintf(count, sizeof count, "%d", nkeys);
	argv[n++] = "EVAL";
	argv[n++] = script;
	argv[n++] = count;
	for (int i = 0; i < nkeys; i++)
		argv[n++] = ctl_key(c, keys[i], full[i]);
	for (int i = 0; i < nargs; i++)
		argv[n++] = args[i];
	r = ctl_call(c, n, argv);
	free(full);
	free(argv);
	return r;
}

const char *
ctl_key(const struct ctl *c, const char *name, char out[CTL_KEY_MAX])
{
	snprintf(out, CTL_KEY_MAX, "%s:%s", c->conf.redis.prefix, name);
	return out;
}

/* Only what may stand in an entry without quotes. */
static void
plain(char *s)
{
	for (; *s != '\0'; s++)
		if (*s <= ' ' || *s > '~' || strchr("\"=\\@", *s) != NULL)
			*s = '-';
}

const char *
ctl_author(char out[ENTRY_BY_MAX + 1])
{
	const char *name = getenv("SUDO_USER");
	const struct passwd *pw = getpwuid(getuid());
	char user[40], host[40] = "";

	if (name == NULL || *name == '\0' || getuid() != 0)
		name = pw != NULL ? pw->pw_name : "unknown";
	snprintf(user, sizeof user, "%s", name);
	(void)gethostname(host, sizeof host - 1);
	plain(user);
	plain(host);
	snprintf(out, ENTRY_BY_MAX + 1, "%s@%s", user, host);
	return out;
}
