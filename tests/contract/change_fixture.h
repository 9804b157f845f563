/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * change_fixture.h - the scripts behind weirctl's changes, run against a private Redis, and what
 * they leave there; for test_change.c and test_rollback.c.
 */
#ifndef WEIR_CHANGE_FIXTURE_H
#define WEIR_CHANGE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "lua.h"
#include "redis_fixture.h"

#define KEEP "1000"
#define WORDS_MAX 32

static struct redis_fixture server;

static inline int
setup(void **state)
{
	(void)state;
	redis_fixture_run(&server, "FLUSHALL");
	return 0;
}

/* --- the scripts ---------------------------------------------------------------------------- */

struct command {
	int n;
	const char *argv[WORDS_MAX + 16];
};

static inline void
add(struct command *c, const char *word)
{
	assert_true(c->n < WORDS_MAX + 16);
	c->argv[c->n++] = word;
}

static inline redisReply *
run(redisContext *on, const struct command *c)
{
	redisReply *r = redisCommandArgv(on, c->n, (const char **)c->argv, NULL);

	assert_non_null(r);
	return r;
}

/* fields: field, the words there now, the words to be, ...; NULL at the end. */
static inline redisReply *
change_on(redisContext *on, const char *keep, const char *section, const char *reason,
    const char *const *fields)
{
	struct command c = {0};
	char key[64];

	snprintf(key, sizeof key, "weir:%s", section);
	add(&c, "EVAL");
	add(&c, lua_change);
	add(&c, "4");
	add(&c, "weir:generation");
	add(&c, "weir:history");
	add(&c, "weir:format");
	add(&c, key);
	add(&c, section);
	add(&c, "ann@mx1");
	add(&c, reason);
	add(&c, keep);
	for (; *fields != NULL; fields++)
		add(&c, *fields);
	return run(on, &c);
}

/* Makes the change and returns the generation; fails when it is not made. */
static inline long long
changed(const char *section, const char *field, const char *before, const char *words)
{
	const char *const fields[] = {field, before, words, NULL};
	redisReply *r = change_on(server.c, KEEP, section, "why", fields);
	long long n;

	if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 || r->element[0]->integer != 1)
		fail_msg("%s %s: %s", section, field, r->type == REDIS_REPLY_ERROR ? r->str : "?");
	n = r->element[1]->integer;
	freeReplyObject(r);
	return n;
}

static inline redisReply *
rollback(const char *generation, const char *keep)
{
	struct command c = {0};

	add(&c, "EVAL");
	add(&c, lua_rollback);
	add(&c, "7");
	add(&c, "weir:generation");
	add(&c, "weir:history");
	add(&c, "weir:limits");
	add(&c, "weir:overrides");
	add(&c, "weir:lists");
	add(&c, "weir:format");
	add(&c, "weir:drain");
	add(&c, generation);
	add(&c, "bob@mx2");
	add(&c, "back");
	add(&c, keep);
	return run(server.c, &c);
}

/* The first number of the reply; the whole is freed. */
static inline long long
rolled_back(const char *generation, const char *keep)
{
	redisReply *r = rollback(generation, keep);
	long long n;

	if (r->type != REDIS_REPLY_ARRAY || r->elements < 1)
		fail_msg("%s", r->type == REDIS_REPLY_ERROR ? r->str : "?");
	n = r->element[0]->integer;
	freeReplyObject(r);
	return n;
}

/* --- what Redis holds ----------------------------------------------------------------------- */

/* The hashes as text, sorted; the caller frees it. */
static inline int
by_name(const void *a, const void *b)
{
	return strcmp(((redisReply *const *)a)[0]->str, ((redisReply *const *)b)[0]->str);
}

static inline char *
settings(void)
{
	static const char *const names[] = {"limits", "overrides", "lists", "drain"};
	size_t len;
	char *text;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	for (size_t i = 0; i < 4; i++) {
		redisReply *r = redis_fixture_command(&server, "HGETALL weir:%s", names[i]);

		if (r->elements > 0)
			qsort(r->element, r->elements / 2, 2 * sizeof *r->element, by_name);
		for (size_t k = 0; k < r->elements; k += 2)
			fprintf(
			    f, "%s/%s: %s\n", names[i], r->element[k]->str, r->element[k + 1]->str);
		freeReplyObject(r);
	}
	fclose(f);
	return text;
}

static inline void
settings_are(const char *want)
{
	char *text = settings();

	assert_string_equal(text, want);
	free(text);
}

static inline void
value_is(const char *command, const char *want)
{
	redisReply *r = redis_fixture_command(&server, command);

	if ((want == NULL) != (r->type == REDIS_REPLY_NIL) ||
	    (want != NULL && (r->str == NULL || strcmp(r->str, want) != 0)))
		fail_msg("%s: %s", command, r->str != NULL ? r->str : "nil");
	freeReplyObject(r);
}

/* All keys with their contents; the caller frees it. */
static inline char *
everything(void)
{
	static const char *const keys[] = {"weir:generation", "weir:history", "weir:format",
	    "weir:limits", "weir:overrides", "weir:lists", "weir:drain"};
	size_t len;
	char *text;
	FILE *f = open_memstream(&text, &len);

	assert_non_null(f);
	for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
		redisReply *r = redis_fixture_command(&server, "DUMP %s", keys[i]);

		fprintf(f, "\n%s", keys[i]);
		for (size_t b = 0; r->type == REDIS_REPLY_STRING && b < r->len; b++)
			fprintf(f, " %02x", (unsigned char)r->str[b]);
		freeReplyObject(r);
	}
	fclose(f);
	return text;
}

/* One part of the newest entry of the history, taken apart by Redis' own JSON reader. */
static inline void
history_is(int at, const char *path, const char *want)
{
	char script[256];
	redisReply *r;

	snprintf(script, sizeof script,
	    "local e = cjson.decode(redis.call('LINDEX', 'weir:history', %d)) "
	    "return tostring(e%s)",
	    at, path);
	r = redis_fixture_command(&server, "EVAL %s 0", script);
	if (r->type != REDIS_REPLY_STRING || strcmp(r->str, want) != 0)
		fail_msg("history %d%s: %s, not %s", at, path, r->str, want);
	freeReplyObject(r);
}

#endif
