/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * advice.c - see advice.h.
 *
 * INFO rather than CONFIG: users with few rights have it more often, and CONFIG GET would show
 * passwords too. Whether Redis saves is not in INFO, so who is no named user asks CONFIG as well;
 * for the others it shows by changes that nobody has saved for hours.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "advice.h"
#include "clock.h"

/* A change is told within this time. */
#define LOOK_EVERY_US (10 * USEC_PER_SEC)
/* Redis' own rule saves after an hour at the latest. */
#define UNSAVED_S 7200
/* Room for some 50,000 clients. */
#define SMALL_BYTES (16 * 1024 * 1024)

enum { FOUND_UNBOUNDED, FOUND_NOEVICTION, FOUND_ALLKEYS, FOUND_OTHER, FOUND_SMALL, FOUND_UNSAVED };

#define BIT(finding) (1u << (finding))

static const char *const texts[] = {
    [FOUND_UNBOUNDED] = "has no maxmemory, so a flood can take all memory of its host: set "
			"maxmemory 256mb and maxmemory-policy volatile-ttl",
    [FOUND_NOEVICTION] = "has maxmemory-policy noeviction: when it is full each host counts by "
			 "itself; set volatile-ttl",
    [FOUND_ALLKEYS] = "has an allkeys maxmemory-policy: when it is full it forgets limits and "
		      "lists, too; set volatile-ttl",
    [FOUND_OTHER] = "has a maxmemory-policy that lets a flood push out the clients that are known "
		    "since weeks; set volatile-ttl",
    [FOUND_SMALL] = "has a maxmemory below 16mb: some ten thousand clients fill it; give it 256mb",
    [FOUND_UNSAVED] = "does not save: after its restart all mail is greylisted anew; set "
		      "appendonly yes, or save 3600 1",
};

const char *
advice_text(unsigned findings)
{
	return texts[__builtin_ctz(findings)];
}

/* What stands behind "NAME:" at the start of a line; NULL = nowhere. */
static const char *
field(const char *info, const char *name)
{
	size_t len = strlen(name);

	while (info != NULL) {
		if (strncmp(info, name, len) == 0 && info[len] == ':')
			return info + len + 1;
		info = strchr(info, '\n');
		info = info != NULL ? info + 1 : NULL;
	}
	return NULL;
}

static int64_t
number(const char *info, const char *name)
{
	const char *at = field(info, name);

	return at != NULL ? strtoll(at, NULL, 10) : -1;
}

bool
advice_read(const char *memory, const char *persistence, int64_t now_s, struct advice_facts *out)
{
	const char *policy = field(memory, "maxmemory_policy");
	int64_t saved = number(persistence, "rdb_last_save_time");

	memset(out, 0, sizeof *out);
	out->maxmemory = number(memory, "maxmemory");
	if (policy == NULL || out->maxmemory < 0)
		return false;
	snprintf(out->policy, sizeof out->policy, "%.*s", (int)strcspn(policy, "\r\n"), policy);
	out->saves = number(persistence, "aof_enabled") != 0 || saved <= 0 ||
	    number(persistence, "rdb_changes_since_last_save") <= 0 || now_s - saved < UNSAVED_S;
	return true;
}

unsigned
advice_findings(const struct advice_facts *f, unsigned advise)
{
	unsigned found = 0;

	if ((advise & ADVISE_SAVING) != 0 && !f->saves)
		found |= BIT(FOUND_UNSAVED);
	if ((advise & ADVISE_MEMORY) == 0)
		return found;
	if (f->maxmemory == 0) /* then the policy does not matter */
		return found | BIT(FOUND_UNBOUNDED);
	if (strcmp(f->policy, "noeviction") == 0)
		found |= BIT(FOUND_NOEVICTION);
	else if (strncmp(f->policy, "allkeys-", 8) == 0)
		found |= BIT(FOUND_ALLKEYS);
	else if (strcmp(f->policy, "volatile-ttl") != 0)
		found |= BIT(FOUND_OTHER);
	if (f->maxmemory < SMALL_BYTES)
		found |= BIT(FOUND_SMALL);
	return found;
}

bool
advice_due(struct advice *a, const struct site *s, int64_t now_us)
{
	if (s->options.advise == 0 || a->denied || now_us < a->next_us)
		return false;
	a->next_us = now_us + LOOK_EVERY_US;
	return zone_note_due(s->zone, ZONE_NOTE_ADVICE, now_us, LOOK_EVERY_US / 2);
}

static redisReply *
call(const struct site *s, struct wire *w, const atomic_bool *stop, int argc, const char **argv)
{
	char *cmd;
	int len = redisFormatCommandArgv(&cmd, argc, argv, NULL);
	bool ok;

	if (len < 0)
		return NULL;
	ok = wire_push(w, cmd, (size_t)len);
	redisFreeCommand(cmd);
	return ok ? wire_wait(w, clock_mono_us() + s->options.timeout_us, stop) : NULL;
}

/* Redis has no rule by which it saves; true also if it does not let us ask. */
static bool
save_rules(struct advice *a, const redisReply *r)
{
	if (r->type == REDIS_REPLY_ERROR)
		a->config_denied = true;
	if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[1] == NULL ||
	    r->element[1]->type != REDIS_REPLY_STRING)
		return true;
	return r->element[1]->len > 0;
}

static void
say(const struct site *s, unsigned found)
{
	unsigned said = (unsigned)zone_stat(s->zone, ZONE_ADVICE);
	unsigned fresh = found & ~said;

	zone_stat_set(s->zone, ZONE_ADVICE, found);
	for (; fresh != 0; fresh &= fresh - 1)
		site_say(s, LOG_WARNING, advice_text(fresh), "", " (see weir.redis(7))");
}

bool
advice_look(struct advice *a, const struct site *s, struct wire *w, const atomic_bool *stop)
{
	static const char *words[][3] = {
	    {"INFO", "memory"}, {"INFO", "persistence"}, {"CONFIG", "GET", "save"}};
	redisReply *r[3] = {NULL};
	struct advice_facts facts;
	bool ok = true, asks = s->options.user[0] == '\0' && !a->config_denied;

	for (int i = 0; i < 2 + asks && ok; i++) {
		r[i] = call(s, w, stop, 2 + (i == 2), words[i]);
		ok = r[i] != NULL;
	}
	if (ok && (r[0]->type == REDIS_REPLY_ERROR || r[1]->type == REDIS_REPLY_ERROR))
		a->denied = true; /* then nobody is told; weir.redis(7) says what it takes */
	else if (ok && r[0]->type == REDIS_REPLY_STRING && r[1]->type == r[0]->type &&
	    advice_read(r[0]->str, r[1]->str, clock_real_us() / USEC_PER_SEC, &facts)) {
		if (r[2] != NULL && number(r[1]->str, "aof_enabled") == 0 && !save_rules(a, r[2]))
			facts.saves = false;
		say(s, advice_findings(&facts, s->options.advise));
	}
	for (int i = 0; i < 3; i++)
		if (r[i] != NULL)
			freeReplyObject(r[i]);
	return ok;
}
