/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_change.c - change.lua, the script behind weirctl: one change, checked, made and recorded at
 * once, however many people make theirs. The way back: test_rollback.c.
 */
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "change_fixture.h"

static void
one_change(void **state)
{
	time_t now = time(NULL);
	redisReply *r;

	(void)state;
	assert_int_equal(changed("limits", "connections", "", "rate=1/1m"), 1);
	settings_are("limits/connections: rate=1/1m\n");
	value_is("GET weir:generation", "1");
	value_is("GET weir:format", "1");
	assert_int_equal(redis_fixture_integer(&server, "LLEN weir:history"), 1);
	history_is(0, ".n", "1");
	history_is(0, ".by", "ann@mx1");
	history_is(0, ".reason", "why");
	history_is(0, ".changes[1].section", "limits");
	history_is(0, ".changes[1].field", "connections");
	history_is(0, ".changes[1].old", "");
	history_is(0, ".changes[1].new", "rate=1/1m");
	history_is(0, ".changes[2]", "nil");
	r = redis_fixture_command(&server, "EVAL %s 0",
	    "return cjson.decode(redis.call('LINDEX', 'weir:history', 0)).time");
	assert_in_range(r->integer, now - 5, now + 60);
	freeReplyObject(r);

	/* over it, and away */
	assert_int_equal(changed("limits", "connections", "rate=1/1m", "rate=2/1m"), 2);
	assert_int_equal(changed("limits", "connections", "rate=2/1m", ""), 3);
	settings_are("");
	history_is(0, ".changes[1].old", "rate=2/1m");
	history_is(0, ".changes[1].new", "");
	history_is(1, ".changes[1].new", "rate=2/1m");
	assert_int_equal(redis_fixture_integer(&server, "LLEN weir:history"), 3);
}

static void
several_fields(void **state)
{
	const char *const fields[] = {"connections", "", "rate=1/1m", "sessions", "max=4", "",
	    "messages", "", "rate=3/1m", NULL};
	const char *const one_differs[] = {
	    "connections", "rate=1/1m", "rate=9/1m", "messages", "rate=4/1m", "rate=9/1m", NULL};
	redisReply *r;
	char *before, *after;

	(void)state;
	redis_fixture_run(&server, "HSET weir:limits sessions max=4");
	r = change_on(server.c, KEEP, "limits", "", fields);
	assert_int_equal(r->element[0]->integer, 1);
	assert_int_equal(r->element[1]->integer, 1); /* one change, one generation */
	freeReplyObject(r);
	settings_are("limits/connections: rate=1/1m\nlimits/messages: rate=3/1m\n");
	assert_int_equal(redis_fixture_integer(&server, "LLEN weir:history"), 1);
	history_is(0, ".changes[1].field", "connections");
	history_is(0, ".changes[2].field", "sessions");
	history_is(0, ".changes[2].old", "max=4");
	history_is(0, ".changes[3].new", "rate=3/1m");

	/* all or nothing */
	before = everything();
	r = change_on(server.c, KEEP, "limits", "", one_differs);
	assert_int_equal(r->element[0]->integer, 0);
	assert_string_equal(r->element[1]->str, "messages");
	assert_string_equal(r->element[2]->str, "rate=3/1m");
	freeReplyObject(r);
	after = everything();
	assert_string_equal(before, after);
	free(before);
	free(after);
}

/* Somebody else was faster: nothing is lost, and he is told what stands there now. */
static void
expected_value(void **state)
{
	static const struct {
		const char *there, *expected, *told;
	} table[] = {
	    {"rate=1/1m", "", "rate=1/1m"},
	    {"rate=1/1m", "rate=1/1m ", "rate=1/1m"},
	    {"", "rate=1/1m", ""},
	    {"rate=2/1m", "rate=1/1m", "rate=2/1m"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *const fields[] = {"a", table[i].expected, "rate=9/1m", NULL};
		char *before, *after;
		redisReply *r;

		redis_fixture_run(&server, "FLUSHALL");
		if (table[i].there[0] != '\0')
			redis_fixture_run(&server, "HSET weir:limits a %s", table[i].there);
		before = everything();
		r = change_on(server.c, KEEP, "limits", "", fields);
		assert_int_equal(r->elements, 3);
		assert_int_equal(r->element[0]->integer, 0);
		assert_string_equal(r->element[1]->str, "a");
		assert_string_equal(r->element[2]->str, table[i].told);
		freeReplyObject(r);
		after = everything();
		assert_string_equal(before, after);
		free(before);
		free(after);
	}
}

/* What was over for more than an hour makes room, and the history tells which. */
static void
swept_away(void **state)
{
	time_t now = time(NULL);
	char entry[64];

	(void)state;
	for (int i = 0; i < 2; i++) {
		snprintf(entry, sizeof entry, "action=block until=%lld",
		    (long long)now - (i == 0 ? 3700 : 3500));
		redis_fixture_run(&server, "HSET weir:lists 192.0.2.%d %s", i, entry);
	}
	redis_fixture_run(
	    &server, "HSET weir:lists 192.0.2.9 %s", "action=block reason=\"until=5 only\"");
	assert_int_equal(changed("lists", "192.0.2.7", "", "action=exempt"), 1);
	assert_int_equal(redis_fixture_integer(&server, "HLEN weir:lists"), 3);
	assert_int_equal(redis_fixture_integer(&server, "HEXISTS weir:lists 192.0.2.0"), 0);
	history_is(0, ".changes[2]", "nil");
	history_is(0, ".gone.section", "lists");
	history_is(0, ".gone.fields[1]", "192.0.2.0");
	history_is(0, ".gone.fields[2]", "nil");
	assert_int_equal(changed("lists", "192.0.2.7", "action=exempt", ""), 2);
	history_is(0, ".gone", "nil");
	assert_int_equal(rolled_back("1", KEEP), 1);
}

static void
history_is_cut(void **state)
{
	const char *const fields[] = {"a", "", "x", NULL}, *const back[] = {"a", "x", "", NULL};

	(void)state;
	for (int i = 1; i <= 12; i++) {
		freeReplyObject(change_on(server.c, "5", "lists", "", i % 2 == 1 ? fields : back));
		assert_int_equal(
		    redis_fixture_integer(&server, "LLEN weir:history"), i < 5 ? i : 5);
	}
	history_is(0, ".n", "12");
	history_is(4, ".n", "8");
}

/* Keys that are not ours: an error that names them, and nothing is changed. */
static void
change_wrong_types(void **state)
{
	static const struct {
		const char *key, *command;
	} table[] = {
	    {"weir:generation", "LPUSH weir:generation x"},
	    {"weir:generation", "SET weir:generation x"},
	    {"weir:generation", "SET weir:generation 1.5"},
	    {"weir:generation", "SET weir:generation -1"},
	    {"weir:generation", "SET weir:generation 9999999999999999"},
	    {"weir:history", "SET weir:history x"},
	    {"weir:format", "LPUSH weir:format x"},
	    {"weir:limits", "SET weir:limits x"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *const fields[] = {"a", "", "rate=9/1m", NULL};
		char *before, *after;
		redisReply *r;

		redis_fixture_run(&server, "FLUSHALL");
		redis_fixture_run(&server, table[i].command);
		before = everything();
		r = change_on(server.c, KEEP, "limits", "", fields);
		if (r->type != REDIS_REPLY_ERROR || strncmp(r->str, "WRONGKEY ", 9) != 0 ||
		    strncmp(r->str + 9, table[i].key, strlen(table[i].key)) != 0)
			fail_msg("%s: %s", table[i].command, r->str != NULL ? r->str : "done");
		freeReplyObject(r);
		after = everything();
		assert_string_equal(before, after);
		assert_int_equal(redis_fixture_integer(&server, "DBSIZE"), 1);
		free(before);
		free(after);
	}
}

/* --- many at once --------------------------------------------------------------------------- */

#define PROCESSES 8
#define CHANGES 50

/* Each with fields of its own, and one that all fight for. The status says what went wrong. */
static int
changer(int me)
{
	redisContext *c = redisConnectUnix(server.path);
	unsigned won = 0;

	if (c == NULL || c->err != 0)
		return 101;
	for (int i = 0; i < CHANGES; i++) {
		char own[32], value[32];
		const char *const fields[] = {own, "", value, NULL};
		const char *const all[] = {"shared", "", value, NULL};
		redisReply *r;

		snprintf(own, sizeof own, "p%d-%d", me, i);
		snprintf(value, sizeof value, "rate=%d/1m", me * CHANGES + i + 1);
		r = change_on(c, KEEP, "limits", "", fields);
		if (r->type != REDIS_REPLY_ARRAY || r->element[0]->integer != 1)
			return 102;
		freeReplyObject(r);
		r = change_on(c, KEEP, "limits", "", all);
		if (r->type != REDIS_REPLY_ARRAY)
			return 103;
		won += r->element[0]->integer == 1;
		freeReplyObject(r);
	}
	redisFree(c);
	return (int)won; /* of the shared field, once in all */
}

static void
crowd(void **state)
{
	pid_t pids[PROCESSES];
	int won = 0;

	(void)state;
	fflush(NULL);
	for (int i = 0; i < PROCESSES; i++) {
		pids[i] = fork();
		assert_true(pids[i] >= 0);
		if (pids[i] == 0)
			_exit(changer(i));
	}
	for (int i = 0; i < PROCESSES; i++) {
		int status;

		assert_int_equal(waitpid(pids[i], &status, 0), pids[i]);
		assert_true(WIFEXITED(status));
		assert_in_range(WEXITSTATUS(status), 0, 1);
		won += WEXITSTATUS(status);
	}
	assert_int_equal(won, 1);
	assert_int_equal(
	    redis_fixture_integer(&server, "HLEN weir:limits"), PROCESSES * CHANGES + 1);
	for (int me = 0; me < PROCESSES; me++)
		for (int i = 0; i < CHANGES; i++) {
			redisReply *r =
			    redis_fixture_command(&server, "HGET weir:limits p%d-%d", me, i);

			assert_non_null(r->str);
			assert_int_equal(atoi(r->str + 5), me * CHANGES + i + 1);
			freeReplyObject(r);
		}
	value_is("GET weir:generation", "401");
	assert_int_equal(
	    redis_fixture_integer(&server, "LLEN weir:history"), PROCESSES * CHANGES + 1);
	/* each generation once, and in order */
	redisReply *r = redis_fixture_command(&server, "LRANGE weir:history 0 -1");
	for (size_t i = 0; i < r->elements; i++) {
		const char *n = strstr(r->element[i]->str, "\"n\":");

		assert_non_null(n);
		assert_int_equal(atoi(n + 4), r->elements - i);
	}
	freeReplyObject(r);
	assert_int_equal(rolled_back("0", KEEP), 1);
	settings_are("");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
	    T(one_change),
	    T(several_fields),
	    T(expected_value),
	    T(swept_away),
	    T(history_is_cut),
	    T(change_wrong_types),
	    T(crowd),
	};

	return redis_fixture_tests(&server, "change", tests, sizeof tests / sizeof tests[0]);
}
