/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_rollback.c - rollback.lua: limits, overrides, lists and drained hosts as they were at a
 * generation, to the letter, or nothing at all.
 */
#include "change_fixture.h"

/* From anywhere to anywhere: what the generation held, to the letter. */
static void
restores(void **state)
{
	static const struct {
		const char *section, *field, *before, *words;
	} steps[] = {
	    {"limits", "connections", "", "rate=1/1m"},
	    {"limits", "connections", "rate=1/1m", "rate=2/1m until=9999999999"},
	    {"lists", "192.0.2.7", "", "action=block"},
	    {"overrides", "192.0.2.7 connections", "", "rate=3/1m"},
	    {"lists", "192.0.2.7", "action=block", ""},
	    {"limits", "connections", "rate=2/1m until=9999999999", ""},
	    {"lists", "192.0.2.7", "", "action=exempt by=ann reason=\"a b\""},
	    {"drain", "mx1", "", "action=drain until=9999999999"},
	    {"limits", "sessions", "", "max=5"},
	    {"drain", "mx1", "action=drain until=9999999999", ""},
	};
	enum { N = sizeof steps / sizeof steps[0] };
	char *held[N + 1];

	(void)state;
	redis_fixture_run(&server, "HSET weir:limits untouched x");
	for (int target = 0; target <= N; target++) {
		char generation[16];
		redisReply *r;

		redis_fixture_run(&server,
		    "DEL weir:generation weir:history weir:limits "
		    "weir:overrides weir:lists weir:drain");
		redis_fixture_run(&server, "HSET weir:limits untouched x");
		held[0] = settings();
		for (int i = 0; i < N; i++) {
			assert_int_equal(changed(steps[i].section, steps[i].field, steps[i].before,
					     steps[i].words),
			    i + 1);
			held[i + 1] = settings();
		}
		snprintf(generation, sizeof generation, "%d", target);
		r = rollback(generation, KEEP);
		assert_int_equal(r->type, REDIS_REPLY_ARRAY);
		if (target == N)
			assert_int_equal(r->element[0]->integer, 2); /* nothing to do */
		else {
			assert_int_equal(r->element[0]->integer, 1);
			assert_int_equal(r->element[1]->integer, N + 1);
			assert_true(r->element[2]->integer >= 1);
		}
		freeReplyObject(r);
		settings_are(held[target]);
		assert_int_equal(
		    redis_fixture_integer(&server, "LLEN weir:history"), N + (target < N));
		if (target < N) {
			history_is(0, ".by", "bob@mx2");
			history_is(0, ".reason", "back");
			history_is(0, ".n", "11");
			/* and that can be undone, too */
			assert_int_equal(rolled_back("10", KEEP), 1);
			settings_are(held[N]);
			assert_int_equal(rolled_back(generation, KEEP), 1);
			settings_are(held[target]);
		}
		for (int i = 0; i <= N; i++)
			free(held[i]);
	}
}

/* Back and forth again: nothing of it is a change. */
static void
nothing_to_do(void **state)
{
	char *before, *after;

	(void)state;
	assert_int_equal(rolled_back("0", KEEP), 2); /* no history at all */
	changed("limits", "a", "", "x=1");
	changed("limits", "a", "x=1", "x=2");
	changed("limits", "a", "x=2", "x=1");
	before = everything();
	assert_int_equal(rolled_back("1", KEEP), 2);
	assert_int_equal(rolled_back("3", KEEP), 2);
	assert_int_equal(rolled_back("1000", KEEP), 2);
	after = everything();
	assert_string_equal(before, after);
	free(before);
	free(after);
}

static void
changed_by_hand(void **state)
{
	static const struct {
		const char *command;
		bool refused;
	} table[] = {
	    {"HSET weir:limits a x=7", true},
	    {"HDEL weir:limits a", true},
	    {"HSET weir:lists c x=7", true}, /* had been removed */
	    {"HDEL weir:overrides over", false}, /* was over, and somebody swept */
	    {"HSET weir:overrides over x=7", true},
	    {"HSET weir:limits unrelated x=7", false},
	    {"INCR weir:generation", false},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		char *before, *after;
		redisReply *r;

		redis_fixture_run(&server, "FLUSHALL");
		changed("limits", "z", "", "x=0");
		changed("limits", "a", "", "x=1");
		changed("lists", "c", "", "x=1");
		changed("lists", "c", "x=1", "");
		changed("overrides", "over", "", "x=1 until=1000000000");
		changed("limits", "b", "", "x=2");
		redis_fixture_run(&server, table[i].command);
		before = everything();
		r = rollback("1", KEEP);
		assert_int_equal(r->type, REDIS_REPLY_ARRAY);
		after = everything();
		if (r->element[0]->integer != (table[i].refused ? 0 : 1))
			fail_msg("%s: %lld", table[i].command, r->element[0]->integer);
		if (table[i].refused) {
			assert_int_equal(r->elements, 3);
			assert_non_null(strstr(table[i].command, r->element[1]->str));
			assert_non_null(strstr(table[i].command, r->element[2]->str));
			assert_string_equal(before, after);
		} else {
			value_is("HGET weir:limits z", "x=0");
			value_is("HGET weir:limits a", NULL);
			value_is("HGET weir:overrides over", NULL);
			assert_int_equal(
			    redis_fixture_integer(&server, "EXISTS weir:lists weir:overrides"), 0);
		}
		freeReplyObject(r);
		free(before);
		free(after);
	}
}

/* The history keeps 5: what lies before these cannot be told any more. */
static void
too_far_back(void **state)
{
	static const struct {
		const char *generation;
		long long says;
	} table[] = {{"0", 3}, {"1", 3}, {"5", 3}, {"8", 1}};
	char field[16] = "f0";

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		char *before, *after;
		redisReply *r;

		redis_fixture_run(&server, "FLUSHALL");
		for (int n = 1; n <= 12; n++) {
			const char *const fields[] = {field, "", "x=1", NULL};

			snprintf(field, sizeof field, "f%d", n);
			freeReplyObject(change_on(server.c, "5", "limits", "", fields));
		}
		before = everything();
		r = rollback(table[i].generation, "5");
		assert_int_equal(r->type, REDIS_REPLY_ARRAY);
		if (r->element[0]->integer != table[i].says)
			fail_msg("to %s: %lld", table[i].generation, r->element[0]->integer);
		after = everything();
		if (table[i].says == 3) {
			assert_int_equal(r->element[1]->integer, 8); /* the oldest that is kept */
			assert_string_equal(before, after);
		} else
			assert_int_equal(redis_fixture_integer(&server, "HLEN weir:limits"), 8);
		freeReplyObject(r);
		free(before);
		free(after);
	}
}

static void
rollback_wrong_types(void **state)
{
	static const struct {
		bool instead;
		const char *command, *key, *value;
	} table[] = {
	    {true, "LPUSH", "weir:generation", "x"},
	    {true, "SET", "weir:generation", "x"},
	    {true, "SET", "weir:generation", "-1"},
	    {true, "SET", "weir:history", "x"},
	    {true, "SET", "weir:limits", "x"},
	    {false, "LPUSH", "weir:history", "nonsense"},
	    {false, "LPUSH", "weir:history", "{}"},
	    {false, "LPUSH", "weir:history", "[]"},
	    {false, "LPUSH", "weir:history", "7"},
	    {false, "LPUSH", "weir:history",
		"{\"n\":9,\"changes\":[{\"section\":\"nodes\",\"field\":\"a\","
		"\"old\":\"\",\"new\":\"\"}]}"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		char *before, *after;
		redisReply *r;

		redis_fixture_run(&server, "FLUSHALL");
		changed("limits", "a", "", "x=1");
		changed("lists", "a", "", "x=1");
		if (table[i].instead)
			redis_fixture_run(&server, "DEL %s", table[i].key);
		redis_fixture_run(
		    &server, "%s %s %s", table[i].command, table[i].key, table[i].value);
		before = everything();
		r = rollback("0", KEEP);
		after = everything();
		if (r->type != REDIS_REPLY_ERROR)
			fail_msg("%s %s: no error", table[i].key, table[i].value);
		assert_string_equal(before, after);
		freeReplyObject(r);
		free(before);
		free(after);
	}
}

/* Texts as people write them come back as they were. */
static void
odd_texts(void **state)
{
	static const char *const texts[] = {"reply=\"421 4.7.1 a\\b \\\"\"", "\x01\x7f\n\r\t",
	    "\xc3\xa4\xe2\x82\xac", "\xff\xfe", "/*]}],\"new\":\"x\"", "%s%n", NULL};

	(void)state;
	for (int i = 0; texts[i] != NULL; i++) {
		redis_fixture_run(&server, "FLUSHALL");
		changed("limits", "a", "", texts[i]);
		changed("limits", "a", texts[i], "x=1");
		changed("limits", texts[i], "", "x=2");
		assert_int_equal(rolled_back("1", KEEP), 1);
		redisReply *r = redis_fixture_command(&server, "HGET weir:limits a");
		assert_string_equal(r->str, texts[i]);
		freeReplyObject(r);
		assert_int_equal(redis_fixture_integer(&server, "HLEN weir:limits"), 1);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup(f, setup)
	    T(restores),
	    T(odd_texts),
	    T(nothing_to_do),
	    T(changed_by_hand),
	    T(too_far_back),
	    T(rollback_wrong_types),
	};

	return redis_fixture_tests(&server, "rollback", tests, sizeof tests / sizeof tests[0]);
}
