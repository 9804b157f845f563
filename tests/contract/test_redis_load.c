/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redis_load.c - what the store reads of the limits, overrides and lists in Redis, whatever
 * somebody may have put there.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "redis_fixture.h"
#include "store_fixture.h"

static struct redis_fixture server;
static struct bench bench;
static struct overlay o;

static int
setup(void **state)
{
	(void)state;
	redis_fixture_run(&server, "FLUSHALL");
	bench_open(&bench, server.url, "", 0);
	return 0;
}

static int
teardown(void **state)
{
	(void)state;
	bench_close(&bench);
	return 0;
}

static void
load(void)
{
	assert_int_equal(store_load(bench.store, 0, NULL, &o), STORE_OK);
}

static void
section_is(enum overlay_section s, unsigned n, int64_t total)
{
	if (o.n[s] != n || o.total[s] != total)
		fail_msg("%s: %u of %lld, not %u of %lld", section_name(s), o.n[s],
		    (long long)o.total[s], n, (long long)total);
}

static void
empty(void **state)
{
	(void)state;
	load();
	assert_string_equal(o.generation, "0");
	assert_int_equal(o.format, 1);
	for (int i = 0; i < SECTIONS; i++)
		section_is((enum overlay_section)i, 0, 0);
	overlay_free(&o);
	overlay_free(&o); /* nothing left to free */
}

static void
three_sections(void **state)
{
	(void)state;
	redis_fixture_run(
	    &server, "HSET weir:limits b %b a %s", "rate=1/1m\0x", (size_t)11, "max=3");
	redis_fixture_run(
	    &server, "HSET weir:overrides %s %s", "192.0.2.7 connections", "rate=9/1m");
	redis_fixture_run(&server, "HSET weir:lists user:ann %s 192.0.2.0/24 %s 2001:db8::/32 %s",
	    "action=block", "action=exempt", "action=block by=ann");
	redis_fixture_run(&server, "SET weir:generation 42");
	redis_fixture_run(&server, "SET weir:format 1");
	load();
	assert_string_equal(o.generation, "42");
	assert_int_equal(o.format, 1);
	section_is(SECTION_LIMITS, 2, 2);
	section_is(SECTION_OVERRIDES, 1, 1);
	section_is(SECTION_LISTS, 3, 3);
	assert_string_equal(o.entries[SECTION_LIMITS][0].name, "a");
	assert_string_equal(o.entries[SECTION_LIMITS][0].words, "max=3");
	assert_string_equal(o.entries[SECTION_LIMITS][1].name, "b");
	assert_string_equal(o.entries[SECTION_LIMITS][1].words, "rate=1/1m");
	assert_string_equal(o.entries[SECTION_OVERRIDES][0].name, "192.0.2.7 connections");
	assert_string_equal(o.entries[SECTION_OVERRIDES][0].words, "rate=9/1m");
	assert_string_equal(o.entries[SECTION_LISTS][0].name, "192.0.2.0/24");
	assert_string_equal(o.entries[SECTION_LISTS][0].words, "action=exempt");
	assert_string_equal(o.entries[SECTION_LISTS][1].name, "2001:db8::/32");
	assert_string_equal(o.entries[SECTION_LISTS][2].name, "user:ann");
	assert_string_equal(o.entries[SECTION_LISTS][2].words, "action=block");
	overlay_free(&o);
	for (int i = 0; i < SECTIONS; i++)
		assert_null(o.entries[i]);
}

/* The generation that is known is all that is said; of any other one everything is. */
static void
known_generation(void **state)
{
	static const struct {
		const char *generation, *known;
		bool read;
	} table[] = {
	    {NULL, "", true},
	    {NULL, "0", false},
	    {"42", "", true},
	    {"42", "42", false},
	    {"42", "4", true},
	    {"42", "421", true},
	    {"42", "0", true},
	    {"1234567890123456789012345", "123456789012345678901234", false}, /* cut to 24 */
	    {"a b", "a", false},
	};

	(void)state;
	redis_fixture_run(&server, "HSET weir:lists user:ann action=block");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		redis_fixture_run(&server, "DEL weir:generation");
		if (table[i].generation != NULL)
			redis_fixture_run(&server, "SET weir:generation %s", table[i].generation);
		struct overlay known = {0};

		strcpy(known.generation, table[i].known);
		assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
		if (o.n[SECTION_LISTS] != table[i].read || o.total[SECTION_LISTS] != table[i].read)
			fail_msg("row %zu", i);
		if (!table[i].read)
			assert_string_equal(o.generation, table[i].known);
		overlay_free(&o);
	}
}

/* --- changes -------------------------------------------------------------------------------- */

static void
note_history(const char *json)
{
	redis_fixture_run(&server, "LPUSH weir:history %s", json);
	redis_fixture_run(&server, "INCR weir:generation");
}

/* {"n": N, "changes": [{"section": "lists", "field": FIELD}]} and the generation N. */
static void
note_change(int n, const char *field)
{
	char json[256];

	snprintf(json, sizeof json,
	    "{\"n\":%d,\"changes\":[{\"section\":\"lists\",\"field\":\"%s\"}]}", n, field);
	note_history(json);
}

/* Three entries of lists and one limit, read whole; the history begins at 7. */
static void
known_seven(struct overlay *known)
{
	redis_fixture_run(&server, "FLUSHALL");
	redis_fixture_run(&server, "HSET weir:lists b 1 d 2 f 3");
	redis_fixture_run(&server, "HSET weir:limits connections rate=1/1m");
	redis_fixture_run(&server, "SET weir:generation 7");
	redis_fixture_run(&server, "LPUSH weir:history not-ours");
	assert_int_equal(store_load(bench.store, 0, NULL, known), STORE_OK);
	assert_false(known->changes);
	assert_true(overlay_is_whole(known));
}

/* The lists of an overlay as "name=words ...". */
static const char *
lists_text(const struct overlay *overlay)
{
	static char text[512];

	text[0] = '\0';
	for (unsigned i = 0; i < overlay->n[SECTION_LISTS]; i++)
		snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s=%s",
		    i > 0 ? " " : "", overlay->entries[SECTION_LISTS][i].name,
		    overlay->entries[SECTION_LISTS][i].words);
	return text;
}

/* What has changed is read alone, and makes the same as reading all. */
static void
changes(void **state)
{
	static const struct {
		const char *commands[3], *fields[4]; /* one change for each field */
		const char *differs, *after;
	} table[] = {
	    {{"HSET weir:lists c new"}, {"c"}, "c=new", "b=1 c=new d=2 f=3"},
	    {{"HSET weir:lists a new"}, {"a"}, "a=new", "a=new b=1 d=2 f=3"},
	    {{"HSET weir:lists g new"}, {"g"}, "g=new", "b=1 d=2 f=3 g=new"},
	    {{"HSET weir:lists d new"}, {"d"}, "d=new", "b=1 d=new f=3"},
	    {{"HDEL weir:lists b"}, {"b"}, "b=", "d=2 f=3"},
	    {{"HDEL weir:lists b d f"}, {"b", "d", "f"}, "b= d= f=", ""},
	    {{"HSET weir:lists d new", "HDEL weir:lists f"}, {"d", "f", "d", "x"},
		"d=new f= x=", "b=1 d=new"},
	    {{NULL}, {"d"}, "d=2", "b=1 d=2 f=3"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct overlay known, merged;
		char want[512];

		known_seven(&known);
		for (int k = 0; k < 3 && table[i].commands[k] != NULL; k++)
			redis_fixture_run(&server, table[i].commands[k]);
		for (int k = 0; k < 4 && table[i].fields[k] != NULL; k++)
			note_change(8 + k, table[i].fields[k]);
		assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
		assert_true(o.changes);
		section_is(SECTION_LIMITS, 0, 1);
		if (strcmp(lists_text(&o), table[i].differs) != 0)
			fail_msg("row %zu: %s", i, lists_text(&o));
		assert_true(overlay_merge(&known, &o, &merged));
		overlay_free(&known);
		overlay_free(&o); /* nothing is borrowed from either */
		assert_false(merged.changes);
		assert_true(overlay_is_whole(&merged));
		assert_string_equal(lists_text(&merged), table[i].after);
		assert_string_equal(merged.entries[SECTION_LIMITS][0].words, "rate=1/1m");
		snprintf(want, sizeof want, "%s", lists_text(&merged));
		load();
		assert_string_equal(lists_text(&o), want);
		assert_string_equal(o.generation, merged.generation);
		overlay_free(&o);
		overlay_free(&merged);
	}
}

/* Whatever the history does not tell makes it read all. */
static void
no_changes(void **state)
{
	static const char *const histories[] = {
	    NULL, /* a generation by hand */
	    "",
	    "x",
	    "5",
	    "{}",
	    "{\"n\":8}",
	    "{\"n\":9,\"changes\":[]}",
	    "{\"n\":\"8\",\"changes\":[]}",
	    "{\"n\":8,\"changes\":5}",
	    "{\"n\":8,\"changes\":[{\"section\":\"others\",\"field\":\"b\"}]}",
	    "{\"n\":8,\"changes\":[{\"field\":\"b\"}]}",
	    "{\"n\":8,\"changes\":[{\"section\":\"lists\"}]}",
	    "{\"n\":8,\"changes\":[{\"section\":\"lists\",\"field\":5}]}",
	    "{\"n\":8,\"changes\":[],\"gone\":{\"section\":\"x\",\"fields\":[\"b\"]}}",
	};
	struct overlay known;
	char *text;

	(void)state;
	for (size_t i = 0; i < sizeof histories / sizeof histories[0]; i++) {
		known_seven(&known);
		if (histories[i] != NULL)
			note_history(histories[i]);
		else
			redis_fixture_run(&server, "INCR weir:generation");
		if (store_load(bench.store, 0, &known, &o) != STORE_OK)
			fail_msg("row %zu", i);
		assert_false(o.changes);
		assert_string_equal(lists_text(&o), "b=1 d=2 f=3");
		overlay_free(&o);
		overlay_free(&known);
	}
	/* a gap, a step back, another kind of generation, a history that is none */
	for (int i = 0; i < 5; i++) {
		known_seven(&known);
		if (i == 0)
			redis_fixture_run(&server, "INCR weir:generation");
		note_change(i == 0 ? 9 : 8, "b");
		if (i == 1)
			redis_fixture_run(&server, "SET weir:generation 6");
		if (i == 2)
			redis_fixture_run(&server, "SET weir:generation today");
		if (i == 3) {
			redis_fixture_run(&server, "DEL weir:history");
			redis_fixture_run(&server, "SET weir:history x");
		}
		if (i == 4) /* too many now, or then: the lowest by name are another matter */
			known.total[SECTION_LISTS] = LISTED_MAX + 1;
		assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
		assert_false(o.changes);
		section_is(SECTION_LISTS, 3, 3);
		overlay_free(&o);
		overlay_free(&known);
	}
	/* many steps, and a long one */
	known_seven(&known);
	for (int i = 0; i < 20; i++)
		note_change(8 + i, "b");
	assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
	assert_true(o.changes);
	overlay_free(&o);
	note_change(28, "b");
	assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
	assert_false(o.changes);
	overlay_free(&o);
	overlay_free(&known);
	known_seven(&known);
	text = malloc(40001);
	assert_non_null(text);
	memset(text, ' ', 40000);
	text[40000] = '\0';
	memcpy(text, "{\"n\":8,\"changes\":[]}", 20);
	note_history(text);
	assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
	assert_false(o.changes);
	overlay_free(&o);
	overlay_free(&known);
	free(text);
}

/* What changes by the way shows in the number of entries. */
static void
changes_by_the_way(void **state)
{
	struct overlay known, merged;

	(void)state;
	known_seven(&known);
	redis_fixture_run(&server, "HSET weir:lists x by-hand");
	redis_fixture_run(&server, "HSET weir:lists c new");
	note_change(8, "c");
	assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
	assert_true(o.changes && overlay_merge(&known, &o, &merged));
	assert_false(overlay_is_whole(&merged));
	overlay_free(&merged);
	overlay_free(&o);
	/* and what weirctl sweeps away is told */
	redis_fixture_run(&server, "HDEL weir:lists x f");
	redis_fixture_run(&server, "DEL weir:history");
	redis_fixture_run(&server, "LPUSH weir:history %s",
	    "{\"n\":8,\"changes\":[{\"section\":\"lists\",\"field\":\"c\"}],"
	    "\"gone\":{\"section\":\"lists\",\"fields\":[\"f\"]}}");
	assert_int_equal(store_load(bench.store, 0, &known, &o), STORE_OK);
	assert_true(o.changes && overlay_merge(&known, &o, &merged));
	assert_true(overlay_is_whole(&merged));
	assert_string_equal(lists_text(&merged), "b=1 c=new d=2");
	overlay_free(&merged);
	overlay_free(&o);
	overlay_free(&known);
}

/* Each key of another type is none; the two others are read. */
static void
wrong_types(void **state)
{
	(void)state;
	for (int wrong = 0; wrong < SECTIONS; wrong++) {
		redis_fixture_run(&server, "FLUSHALL");
		for (int i = 0; i < SECTIONS; i++) {
			const char *name = section_name((enum overlay_section)i);

			if (i == wrong)
				redis_fixture_run(&server, "LPUSH weir:%s a b c", name);
			else
				redis_fixture_run(&server, "HSET weir:%s x y", name);
		}
		for (int n = 0; n < 2 * BREAKER_FAILURES; n++) {
			load();
			for (int i = 0; i < SECTIONS; i++)
				section_is(
				    (enum overlay_section)i, i != wrong, i != wrong ? 1 : -1);
			overlay_free(&o);
		}
		assert_false(zone_breaker_open(bench.zone));
	}
}

static void
too_many(void **state)
{
	static const struct {
		enum overlay_section section;
		unsigned max;
	} table[] = {
	    {SECTION_LIMITS, OVERLAY_LIMITS_MAX},
	    {SECTION_OVERRIDES, OVERRIDES_MAX},
	    {SECTION_LISTS, LISTED_MAX},
	};

	(void)state;
	/* all three full, then one of them one too many, and at last all far too many */
	for (size_t t = 0; t < sizeof table / sizeof table[0]; t++)
		for (unsigned i = 0; i < table[t].max; i++) {
			char name[16];

			snprintf(name, sizeof name, "e-%05u", i);
			redis_fixture_run(
			    &server, "HSET weir:%s %s %u", section_name(table[t].section), name, i);
		}
	load();
	for (size_t t = 0; t < sizeof table / sizeof table[0]; t++)
		section_is(table[t].section, table[t].max, table[t].max);
	overlay_free(&o);
	for (size_t t = 0; t < sizeof table / sizeof table[0]; t++) {
		const char *name = section_name(table[t].section);

		redis_fixture_run(&server, "HSET weir:%s a-first x", name);
		load();
		section_is(table[t].section, table[t].max, table[t].max + 1);
		/* the first by name, on every host */
		assert_string_equal(o.entries[table[t].section][0].name, "a-first");
		for (unsigned i = 1; i < table[t].max; i++) {
			const struct overlay_entry *e = &o.entries[table[t].section][i];

			assert_int_equal(atoi(e->name + 2), i - 1);
			assert_int_equal(atoi(e->words), i - 1);
		}
		overlay_free(&o);
		for (unsigned i = 0; i < 1000; i++)
			redis_fixture_run(&server, "HSET weir:%s z-%u x", name, i);
	}
	load();
	for (size_t t = 0; t < sizeof table / sizeof table[0]; t++)
		section_is(table[t].section, table[t].max, table[t].max + 1001);
	overlay_free(&o);
}

/* As long as a value may be; longer ones are cut so that nobody takes them for good. */
static void
long_values(void **state)
{
	static const size_t lengths[] = {999, 1000, 1022, 1023, 1024, 1025, 5000, 1000000};
	char *text = malloc(1000001);

	(void)state;
	assert_non_null(text);
	for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
		size_t len = lengths[i];

		memset(text, 'x', len);
		text[len] = '\0';
		redis_fixture_run(&server, "DEL weir:limits");
		redis_fixture_run(&server, "HSET weir:limits name %s %s name", text, text);
		load();
		section_is(SECTION_LIMITS, 2, 2);
		for (unsigned e = 0; e < 2; e++) {
			const struct overlay_entry *entry = &o.entries[SECTION_LIMITS][e];
			const char *was_long = e == 0 ? entry->words : entry->name;

			assert_string_equal(e == 0 ? entry->name : entry->words, "name");
			if (len <= 1023)
				assert_int_equal(strlen(was_long), len);
			else
				assert_true(strlen(was_long) > 1023);
			assert_int_equal(strspn(was_long, "x"), strlen(was_long));
		}
		overlay_free(&o);
	}
	free(text);
}

/* All sections full of the longest values there may be: it still fits into a reply. */
static void
all_full(void **state)
{
	static const unsigned max[SECTIONS] = {
	    OVERLAY_LIMITS_MAX, OVERRIDES_MAX, LISTED_MAX, OVERLAY_DRAIN_MAX};
	char text[1024];

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	for (int s = 0; s < SECTIONS; s++)
		for (unsigned i = 0; i < max[s]; i++) {
			char name[1024];

			snprintf(name, sizeof name, "e%05u%.1000s", i, text);
			redis_fixture_run(&server, "HSET weir:%s %s %s",
			    section_name((enum overlay_section)s), name, text);
		}
	load();
	for (int s = 0; s < SECTIONS; s++) {
		section_is((enum overlay_section)s, max[s], max[s]);
		assert_int_equal(strlen(o.entries[s][max[s] - 1].words), 1023);
		assert_int_equal(strlen(o.entries[s][max[s] - 1].name), 1006);
	}
	overlay_free(&o);
}

/* Whatever the key holds, the rest can be read; only a format that is higher says so. */
static void
formats(void **state)
{
	static const struct {
		const char *value;
		bool newer;
	} table[] = {
	    {"1", false},
	    {"0", false},
	    {"2", true},
	    {"999999999", true},
	    {"", false},
	    {"x", false},
	    {"1 2", false},
	    {"-5", false},
	    {"1.5", false},
	    {"nan", false},
	    {"-nan", false},
	    {"99999999999999999999", false},
	};

	(void)state;
	redis_fixture_run(&server, "HSET weir:limits a b");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		redis_fixture_run(&server, "SET weir:format %s", table[i].value);
		if (store_load(bench.store, 0, NULL, &o) != STORE_OK)
			fail_msg("format '%s' hides the limits", table[i].value);
		if ((o.format > OVERLAY_FORMAT) != table[i].newer)
			fail_msg("format '%s' is %lld", table[i].value, (long long)o.format);
		section_is(SECTION_LIMITS, 1, 1);
		overlay_free(&o);
	}
	redis_fixture_run(&server, "DEL weir:format");
	redis_fixture_run(&server, "LPUSH weir:format 7");
	load();
	assert_int_equal(o.format, 1);
	overlay_free(&o);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    T(empty),
	    T(three_sections),
	    T(known_generation),
	    T(changes),
	    T(no_changes),
	    T(changes_by_the_way),
	    T(wrong_types),
	    T(too_many),
	    T(long_values),
	    T(all_full),
	    T(formats),
	};

	return redis_fixture_tests(&server, "redis load", tests, sizeof tests / sizeof tests[0]);
}
