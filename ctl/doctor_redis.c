/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor_redis.c - weirctl doctor on Redis: whether it can do what weir needs, and will keep it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weir/units.h"
#include "doctor.h"

#define PINGS 20
#define CLOCK_OFF_US (2 * USEC_PER_SEC)

/* The value of "name:" in the INFO of a section, or "". */
static const char *
info(struct doctor *d, const char *section, const char *name, char out[128])
{
	redisReply *r = ctl_tryf(d->c, "INFO %s", section);
	size_t len = strlen(name);

	out[0] = '\0';
	for (const char *p = r != NULL && r->type == REDIS_REPLY_STRING ? r->str : NULL; p != NULL;
	     p = strchr(p, '\n') != NULL ? strchr(p, '\n') + 1 : NULL)
		if (strncmp(p, name, len) == 0 && p[len] == ':') {
			out_safe(p + len + 1, 120, out, 128);
			out[strcspn(out, "?")] = '\0'; /* the \r */
			break;
		}
	if (r != NULL)
		freeReplyObject(r);
	return out;
}

void
doctor_redis_answers(struct doctor *d)
{
	if (!d->redis)
		doctor_say(d, DOCTOR_WRONG,
		    "each host counts by itself, limits cannot be changed, and greylisting holds "
		    "nobody back",
		    "redis { url = \"redis://HOST:PORT/0\" }, and what its log says", "%s",
		    d->redis_trouble);
}

void
doctor_redis_version(struct doctor *d)
{
	char version[128];
	int major = 0;

	if (info(d, "server", "redis_version", version)[0] == '\0') {
		doctor_say(d, DOCTOR_NOTE, "its version, memory and persistence cannot be judged",
		    "+info for weirctl's user, see etc/redis-acl.conf",
		    "this Redis user has no right to INFO");
		return;
	}
	major = atoi(version);
	if (major < 5)
		doctor_say(d, DOCTOR_WRONG,
		    "its scripts may not read the clock and then write, as weir's do",
		    "Redis 6.2 or later", "Redis %s", version);
}

void
doctor_redis_role(struct doctor *d)
{
	char role[128];

	if (strcmp(info(d, "replication", "role", role), "slave") == 0)
		doctor_say(d, DOCTOR_WRONG, "nothing can be counted there: it is read-only",
		    "redis { url = ... } of the primary", "this Redis is a replica");
}

void
doctor_redis_memory(struct doctor *d)
{
	char text[128], policy[128];
	int64_t most, used;
	static const char line[] = "in redis.conf: maxmemory 512mb and maxmemory-policy "
				   "volatile-ttl";

	if (info(d, "memory", "maxmemory", text)[0] == '\0')
		return;
	most = strtoll(text, NULL, 10);
	used = strtoll(info(d, "memory", "used_memory", text), NULL, 10);
	info(d, "memory", "maxmemory_policy", policy);
	if (most == 0)
		doctor_say(d, DOCTOR_WRONG,
		    "a botnet's addresses fill the host's memory until the kernel kills something",
		    line, "maxmemory is not set");
	else if (strcmp(policy, "noeviction") == 0)
		doctor_say(d, DOCTOR_WRONG,
		    "when it is full nothing is counted any more: each host goes on by itself",
		    line, "maxmemory-policy is noeviction");
	else if (strncmp(policy, "allkeys-", 8) == 0)
		doctor_say(d, DOCTOR_WRONG,
		    "when it is full limits and lists, which never expire, can be thrown away",
		    line, "maxmemory-policy is %s", policy);
	else if (used > most / 10 * 9)
		doctor_say(d, DOCTOR_WRONG,
		    "it forgets clients before their time; weir.conf(5) says what one costs", line,
		    "%" PRId64 " of %" PRId64 " MB are used", used >> 20, most >> 20);
}

/* Whether anything is ever written to disk; if INFO is all there is, what it says. */
void
doctor_redis_persistence(struct doctor *d)
{
	redisReply *r;
	char aof[128];
	bool saves = true;

	if (strcmp(info(d, "persistence", "aof_enabled", aof), "0") != 0)
		return;
	r = ctl_tryf(d->c, "CONFIG GET save");
	if (r != NULL && r->type == REDIS_REPLY_ARRAY && r->elements == 2)
		saves = r->element[1]->str[0] != '\0';
	if (r != NULL)
		freeReplyObject(r);
	if (saves)
		return;
	doctor_say(d, d->c->conf.rules.greylist.enabled ? DOCTOR_WRONG : DOCTOR_NOTE,
	    "after a restart limits, lists and who is known are gone, and greylisting asks "
	    "everybody to come back once more",
	    "in redis.conf: appendonly yes", "Redis keeps nothing on disk");
}

/* All that weir's scripts do, on a key of our own that is gone at once. */
#define RIGHTS_SCRIPT \
	"redis.call('TIME')" \
	"redis.call('HSET',KEYS[1],'a','1')redis.call('PEXPIRE',KEYS[1],1000)" \
	"redis.call('HGETALL',KEYS[1])redis.call('HMGET',KEYS[1],'a')" \
	"redis.call('DEL',KEYS[1])return 1"

void
doctor_redis_rights(struct doctor *d)
{
	static const char *const reads[][2] = {
	    {"HGETALL", "limits"}, {"GET", "generation"}, {"LRANGE", "history"}};
	char key[CTL_KEY_MAX], name[64], safe[200];
	redisReply *r;

	snprintf(name, sizeof name, "doctor:%d", (int)getpid());
	r = ctl_tryf(d->c, "EVAL %s 1 %s", RIGHTS_SCRIPT, ctl_key(d->c, name, key));
	for (size_t i = 0; i < sizeof reads / sizeof reads[0]; i++) {
		if (r == NULL || r->type == REDIS_REPLY_ERROR)
			break;
		freeReplyObject(r);
		ctl_key(d->c, reads[i][1], key);
		r = i == 2 ? ctl_tryf(d->c, "LRANGE %s 0 0", key)
			   : ctl_tryf(d->c, "%s %s", reads[i][0], key);
	}
	if (r != NULL && r->type == REDIS_REPLY_ERROR &&
	    (strncmp(r->str, "NOPERM", 6) == 0 || strstr(r->str, "ACL") != NULL ||
		strstr(r->str, "permission") != NULL))
		doctor_say(d, DOCTOR_WRONG,
		    "without it weir cannot count, or weirctl not change anything",
		    "the rights in etc/redis-acl.conf, with keys ~PREFIX:*", "Redis says: %s",
		    out_safe(r->str, 180, safe, sizeof safe));
	/* of a replica, and of one that is full, other checks speak */
	else if (r != NULL && r->type == REDIS_REPLY_ERROR && strstr(r->str, "READONLY") == NULL &&
	    strstr(r->str, "OOM") == NULL)
		doctor_say(d, DOCTOR_WRONG, "what weir asks is refused likewise",
		    "see weir.redis(7)", "Redis says: %s",
		    out_safe(r->str, 180, safe, sizeof safe));
	if (r != NULL)
		freeReplyObject(r);
}

static int
by_size(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return x < y ? -1 : x > y;
}

void
doctor_redis_latency(struct doctor *d)
{
	int64_t took[PINGS], bar = d->c->conf.redis.timeout_us / 4;
	unsigned n = 0;

	for (unsigned i = 0; i < PINGS; i++) {
		int64_t start = clock_mono_us();
		redisReply *r = ctl_tryf(d->c, "PING");

		if (r == NULL)
			break;
		took[n++] = clock_mono_us() - start;
		freeReplyObject(r);
	}
	if (n == 0)
		return;
	qsort(took, n, sizeof took[0], by_size);
	if (took[n / 2] > bar)
		doctor_say(d, DOCTOR_WRONG,
		    "each session waits for that once or twice, and above the time-out weir goes "
		    "on "
		    "without Redis",
		    "Redis on this host or in this network; or a longer timeout in redis { }",
		    "Redis takes %" PRId64 " us to answer, and the time-out is %" PRId64 " ms",
		    took[n / 2], d->c->conf.redis.timeout_us / 1000);
}

void
doctor_clock(struct doctor *d)
{
	int64_t before = clock_real_us(), theirs, off;
	redisReply *r = ctl_tryf(d->c, "TIME");
	char text[32];

	if (r != NULL && r->type == REDIS_REPLY_ARRAY && r->elements == 2) {
		theirs = strtoll(r->element[0]->str, NULL, 10) * USEC_PER_SEC +
		    strtoll(r->element[1]->str, NULL, 10);
		off = theirs - before;
		if (off > CLOCK_OFF_US || off < -CLOCK_OFF_US)
			doctor_say(d, DOCTOR_WRONG,
			    "limits go by Redis' clock, and expiry of entries by this host's: "
			    "while Redis is away clients are counted by the other one",
			    "an NTP service on both hosts", "this host's clock is %s %s Redis'",
			    out_duration(off > 0 ? off : -off, text),
			    off > 0 ? "behind" : "ahead of");
	}
	if (r != NULL)
		freeReplyObject(r);
}
