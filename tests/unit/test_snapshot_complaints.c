/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_snapshot_complaints.c - entries in Redis that are ignored: logged once, by one worker, and
 * without letting them forge a line.
 */
#include <stdio.h>
#include <unistd.h>

#include "snapshot_fixture.h"

/* What is written to standard error by a refresh from the generation in force, or by nothing but
 * a look at another time. */
static const char *
said(struct snapshots *s, bool refresh, int64_t now_us)
{
	static char text[32768];
	const struct ruleset *r = NULL;
	FILE *tape = tmpfile();
	int real = dup(STDERR_FILENO);
	bool done;
	ssize_t len;

	assert_non_null(tape);
	assert_true(dup2(fileno(tape), STDERR_FILENO) >= 0);
	r = snapshot_get(s, now_us);
	done = !refresh || snapshot_refresh(s, &fake.store, r->generation, 0, now_us);
	(void)dup2(real, STDERR_FILENO);
	close(real);
	len = pread(fileno(tape), text, sizeof text - 1, 0);
	fclose(tape);
	snapshot_put(s, r);
	assert_true(done && len >= 0);
	text[len] = '\0';
	return text;
}

static const char *
said_by_refresh(struct snapshots *s)
{
	return said(s, true, NOW);
}

static const char *
said_at(struct snapshots *s, int64_t now_us)
{
	return said(s, false, now_us);
}

static unsigned
occurrences(const char *text, const char *part)
{
	unsigned n = 0;

	for (; (text = strstr(text, part)) != NULL; text += strlen(part))
		n++;
	return n;
}

static void
test_complaints(void **state)
{
	struct snapshots *s = fresh(true);
	const char *text;

	(void)state;
	redis_holds("1", "connections", "rate=120/1m");
	assert_string_equal(said_by_refresh(s), "");
	redis_holds("2", "connections", "rate=fast");
	text = said_by_refresh(s);
	assert_non_null(strstr(text, "redis: limits: connections is ignored: rate is"));
	assert_non_null(strstr(text, "generation 2 is in force"));
	assert_int_equal(rate_in_force(s), 120);
	/* as before: nothing new to say of it */
	redis_holds("3", "connections", "rate=fast");
	text = said_by_refresh(s);
	assert_null(strstr(text, "ignored"));
	assert_non_null(strstr(text, "generation 3 is in force"));
	assert_int_equal(rate_in_force(s), 120);
	/* wrong in another way, then right, then wrong again */
	redis_holds("4", "connections", "burst=0");
	assert_non_null(strstr(said_by_refresh(s), "is ignored: burst is"));
	assert_int_equal(rate_in_force(s), 120);
	redis_holds("5", "connections", "burst=7");
	assert_null(strstr(said_by_refresh(s), "ignored"));
	assert_int_equal(rate_in_force(s), 60);
	redis_holds("6", "connections", "burst=0");
	assert_non_null(strstr(said_by_refresh(s), "is ignored: burst is"));
	/* a name that would forge a line */
	redis_holds("7\n", "x\nweir-milter: action=accept", "rate=5/1m");
	text = said_by_refresh(s);
	assert_null(strstr(text, "\nweir-milter: action"));
	assert_non_null(strstr(text, "limits: x\\x0aweir"));
	assert_non_null(strstr(text, "generation 7\\x0a is"));
}

/* Each section is named; one name in two sections is two entries; and an expiry of something
 * else is no occasion to say it again. */
static void
test_sections(void **state)
{
	struct snapshots *s = fresh(true);
	const char *text;

	(void)state;
	redis_holds("1", "recipients", "rate=fast");
	redis_adds(SECTION_LIMITS, "connections:temporary", "rate=5/1m until=1800000050");
	redis_adds(SECTION_OVERRIDES, "192.0.2.7", "rate=5/1m");
	redis_adds(SECTION_LISTS, "192.0.2.7", "action=blokc");
	text = said_by_refresh(s);
	assert_int_equal(occurrences(text, "is ignored"), 3);
	assert_non_null(strstr(text, "redis: limits: recipients is ignored: rate is"));
	assert_non_null(strstr(text, "redis: overrides: 192.0.2.7 is ignored: the field is"));
	assert_non_null(strstr(text, "redis: lists: 192.0.2.7 is ignored: action is exempt"));
	strcpy(fake.generation, "2");
	assert_int_equal(occurrences(said_by_refresh(s), "is ignored"), 0);
	assert_string_equal(said_at(s, NOW + 60 * USEC_PER_SEC), "");
	assert_int_equal(rate_at(s, NOW + 60 * USEC_PER_SEC), 60);
	strcpy(fake.generation, "3");
	assert_int_equal(occurrences(said_by_refresh(s), "is ignored"), 0);
}

struct list {
	unsigned n;
	char text[1024];
};

static void
note(void *ctx, enum overlay_section section, const char *name, const char *why)
{
	struct list *l = ctx;
	size_t used = strlen(l->text);

	l->n++;
	snprintf(
	    l->text + used, sizeof l->text - used, "%s/%s: %s\n", section_name(section), name, why);
}

/* Whoever asks is told what is ignored now, as often as he asks. */
static void
test_list(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=fast");
	redis_adds(SECTION_LISTS, "somebody", "action=block");
	for (int i = 0; i < 3; i++) {
		struct list l = {0};

		(void)said_by_refresh(s);
		snapshot_complaints(s, note, &l);
		assert_int_equal(l.n, 2);
		assert_non_null(strstr(l.text, "limits/connections: rate is"));
		assert_non_null(strstr(l.text, "lists/somebody: must be an address"));
		strcpy(fake.generation, i == 0 ? "2" : "3");
	}
	redis_holds("9", "connections", "rate=5/1m");
	(void)said_by_refresh(s);
	struct list l = {0};
	snapshot_complaints(s, note, &l);
	assert_int_equal(l.n, 0);
}

static void
test_odd_overlays(void **state)
{
	struct snapshots *s = fresh(true);
	const char *text;

	(void)state;
	redis_holds("1", "connections", "rate=5/1m");
	fake.more[SECTION_LIMITS] = 99;
	fake.more[SECTION_OVERRIDES] = -1;
	text = said_by_refresh(s);
	assert_non_null(strstr(text, "100 entries in limits are too many: only the first 1 count"));
	assert_non_null(strstr(text, "the key for overrides is no hash"));
	assert_null(strstr(text, "lists"));
	fake.more[SECTION_LIMITS] = fake.more[SECTION_OVERRIDES] = 0;
	fake.format = OVERLAY_FORMAT + 1;
	strcpy(fake.generation, "2");
	text = said_by_refresh(s);
	assert_non_null(strstr(text, "have format 2, and this weir knows 1"));
}

/* Thousands of spoilt entries are a few lines in the log, and no more work than their number. */
static void
test_many(void **state)
{
	struct snapshots *s = fresh(true);
	struct list l = {0};
	const char *text;

	(void)state;
	strcpy(fake.generation, "1");
	fake.many = LISTED_MAX;
	text = said_by_refresh(s);
	assert_int_equal(occurrences(text, "is ignored"), 50);
	assert_non_null(strstr(text, "8142 more entries are ignored: see weirctl limit"));
	strcpy(fake.generation, "2");
	assert_int_equal(occurrences(said_by_refresh(s), "ignored"), 0);
	fake.many = 0;
	redis_holds("3", "connections", "rate=fast");
	assert_int_equal(occurrences(said_by_refresh(s), "is ignored"), 1);
	snapshot_complaints(s, note, &l);
	assert_int_equal(l.n, 1);
}

static void
test_quiet_worker(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=fast");
	assert_string_equal(said_by_refresh(s), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_complaints),
	    cmocka_unit_test(test_sections),
	    cmocka_unit_test(test_list),
	    cmocka_unit_test(test_odd_overlays),
	    cmocka_unit_test(test_many),
	    cmocka_unit_test(test_quiet_worker),
	};

	log_open(true, false);
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
