/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_snapshot.c - the ruleset in force: swapped whole, and kept while somebody holds it.
 */
#include <pthread.h>
#include <stdio.h>

#include "snapshot_fixture.h"

static void
test_refresh(void **state)
{
	struct snapshots *s = fresh(false);
	const struct ruleset *old, *now;

	(void)state;
	assert_int_equal(rate_in_force(s), 60);
	old = snapshot_get(s, NOW);
	assert_string_equal(old->generation, "");
	redis_holds("1", "connections", "rate=120/1m");
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	assert_int_equal(rate_in_force(s), 120);
	now = snapshot_get(s, NOW);
	assert_string_equal(now->generation, "1");
	assert_ptr_not_equal(old, now);
	assert_int_equal(old->limits[0].rate, 60); /* whoever holds it goes on with it */
	snapshot_put(s, old);
	snapshot_put(s, now);
	/* gone from Redis: the file's again */
	fake.n[SECTION_LIMITS] = 0;
	strcpy(fake.generation, "2");
	assert_true(snapshot_refresh(s, &fake.store, "1", 0, NOW));
	assert_int_equal(rate_in_force(s), 60);
}

static void
test_refresh_only_when_needed(void **state)
{
	struct snapshots *s = fresh(false);
	const struct ruleset *before, *after;

	(void)state;
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	assert_int_equal(fake.loads, 1);
	/* another thread was faster */
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	assert_int_equal(fake.loads, 1);
	/* Redis has nothing newer: the same one stays */
	before = snapshot_get(s, NOW);
	assert_true(snapshot_refresh(s, &fake.store, "1", 0, NOW));
	assert_int_equal(fake.loads, 2);
	after = snapshot_get(s, NOW);
	assert_ptr_equal(before, after);
	snapshot_put(s, before);
	snapshot_put(s, after);
}

/* Only changes come, and what they leave out stays; when the numbers do not fit all is read. */
static enum store_status
changes_load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	enum store_status status = fake_load(s, deadline_us, known, out);

	if (known != NULL && known->generation[0] != '\0' && status == STORE_OK) {
		out->changes = true;
		for (int i = 0; i < SECTIONS; i++)
			out->total[i] = fake.more[i];
	}
	return status;
}

static void
test_changes(void **state)
{
	static const struct store_ops ops = {.load = changes_load};
	struct snapshots *s = fresh(false);
	const struct facts f = {
	    .client = {.family = ADDR_V4, .b = {192, 0, 2, 7}}, .user = "", .name = ""};
	const struct ruleset *r;

	(void)state;
	fake.store.ops = &ops;
	redis_holds("1", "connections", "rate=120/1m");
	redis_adds(SECTION_LISTS, "192.0.2.7", "action=block");
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	redis_holds("2", "connections", "rate=90/1m");
	fake.more[SECTION_LIMITS] = fake.more[SECTION_LISTS] = 1;
	assert_true(snapshot_refresh(s, &fake.store, "1", 0, NOW));
	assert_int_equal(fake.loads, 2);
	assert_int_equal(rate_in_force(s), 90);
	r = snapshot_get(s, NOW);
	assert_true(ruleset_blocked(r, &f));
	snapshot_put(s, r);
	/* Redis counts one more than that makes */
	redis_holds("3", "connections", "rate=80/1m");
	fake.more[SECTION_LIMITS] = 2;
	assert_true(snapshot_refresh(s, &fake.store, "2", 0, NOW));
	assert_int_equal(fake.loads, 4);
	assert_int_equal(rate_in_force(s), 80);
	r = snapshot_get(s, NOW);
	assert_false(ruleset_blocked(r, &f));
	snapshot_put(s, r);
	/* gone */
	redis_holds("4", "connections", "");
	fake.more[SECTION_LIMITS] = fake.more[SECTION_LISTS] = 0;
	assert_true(snapshot_refresh(s, &fake.store, "3", 0, NOW));
	assert_int_equal(fake.loads, 5);
	assert_int_equal(rate_in_force(s), 60);
}

/* The file's lists are in force from the start, and below those of Redis. */
static void
test_file_lists(void **state)
{
	struct snapshots *s;
	const struct facts f = {
	    .client = {.family = ADDR_V4, .b = {192, 0, 2, 7}}, .user = "", .name = ""};
	const struct ruleset *r;
	struct who w;
	char err[LIMIT_ERR_MAX];

	(void)state;
	(void)fresh(false);
	base.exceptions = exceptions_new(0, 0);
	assert_non_null(base.exceptions);
	assert_true(who_parse("192.0.2.7", &w, err, sizeof err));
	exceptions_add_listed(base.exceptions, &w, &(struct listing){.action = LIST_EXEMPT});
	assert_true(exceptions_seal(base.exceptions));
	s = snapshots[nsnapshots++] = snapshots_new(&base, false);
	assert_non_null(s);
	for (int i = 0; i < 3; i++) {
		r = snapshot_get(s, NOW);
		assert_int_equal(ruleset_exempt(r, &f), i != 1);
		assert_int_equal(ruleset_blocked(r, &f), i == 1);
		snapshot_put(s, r);
		fake.n[SECTION_LISTS] = 0;
		if (i == 0)
			redis_adds(SECTION_LISTS, "192.0.2.7", "action=block");
		snprintf(fake.generation, sizeof fake.generation, "%d", i + 1);
		assert_true(snapshot_refresh(s, &fake.store, i > 0 ? "1" : "", 0, NOW));
	}
	exceptions_free(&base.exceptions); /* the snapshot has its own */
	r = snapshot_get(s, NOW);
	assert_true(ruleset_exempt(r, &f));
	snapshot_put(s, r);
}

static void
test_store_down(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=120/1m");
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	redis_holds("2", "connections", "rate=9/1m");
	fake.status = STORE_DOWN;
	assert_false(snapshot_refresh(s, &fake.store, "1", 0, NOW));
	assert_int_equal(rate_in_force(s), 120);
	fake.status = STORE_OK;
	assert_true(snapshot_refresh(s, &fake.store, "1", 0, NOW));
	assert_int_equal(rate_in_force(s), 9);
}

/* --- entries that expire by themselves ------------------------------------------------------ */

/* Redis need not be there for that: what was read says what holds now. */
static void
test_expiry(void **state)
{
	static const struct {
		int64_t after_us, rate;
		bool blocked;
	} table[] = {
	    {0, 500, true},
	    {50 * USEC_PER_SEC - 1, 500, true},
	    {50 * USEC_PER_SEC, 500, false},
	    {100 * USEC_PER_SEC - 1, 500, false},
	    {100 * USEC_PER_SEC, 120, false},
	    {1000 * USEC_PER_SEC, 120, false},
	};
	struct snapshots *s = fresh(false);
	const struct ruleset *held, *r;
	struct addr a;

	(void)state;
	assert_true(addr_parse("192.0.2.7", &a));
	redis_holds("1", "connections", "rate=120/1m");
	redis_adds(SECTION_LIMITS, "connections:temporary", "rate=500/1m until=1800000100");
	redis_adds(SECTION_LISTS, "192.0.2.7", "action=block until=1800000050");
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	fake.status = STORE_DOWN;
	held = snapshot_get(s, NOW);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		r = snapshot_get(s, NOW + table[i].after_us);
		if (r->limits[0].rate != table[i].rate ||
		    ruleset_blocked(r, &(struct facts){.client = a, .user = ""}) !=
			table[i].blocked)
			fail_msg("row %zu: rate %d", i, (int)r->limits[0].rate);
		assert_string_equal(r->generation, "1");
		snapshot_put(s, r);
	}
	assert_int_equal(fake.loads, 1);
	assert_int_equal(held->limits[0].rate, 500); /* whoever holds it goes on with it */
	assert_true(ruleset_blocked(held, &(struct facts){.client = a, .user = ""}));
	snapshot_put(s, held);
	/* built once for each expiry, not once for each question */
	held = snapshot_get(s, NOW + 200 * USEC_PER_SEC);
	r = snapshot_get(s, NOW + 300 * USEC_PER_SEC);
	assert_ptr_equal(held, r);
	snapshot_put(s, held);
	snapshot_put(s, r);
}

/* Loaded after an entry's time: it never counts. */
static void
test_expired_before_it_was_read(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=500/1m until=1800000000");
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	assert_int_equal(rate_at(s, NOW), 60);
}

/* What was good before keeps counting through an expiry, too, and ends with its own time. */
static void
test_expiry_of_what_was_good_before(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=500/1m until=1800000100");
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	redis_holds("2", "connections", "rate=oops");
	redis_adds(SECTION_LISTS, "192.0.2.7", "action=block until=1800000050");
	assert_true(snapshot_refresh(s, &fake.store, "1", 0, NOW));
	assert_int_equal(rate_at(s, NOW), 500);
	assert_int_equal(rate_at(s, NOW + 50 * USEC_PER_SEC), 500);
	assert_int_equal(rate_at(s, NOW + 100 * USEC_PER_SEC), 60);
	redis_holds("3", "connections", "rate=still-wrong");
	assert_true(snapshot_refresh(s, &fake.store, "2", 0, NOW + 101 * USEC_PER_SEC));
	assert_int_equal(rate_at(s, NOW + 101 * USEC_PER_SEC), 60);
}

/* Too new, too many, or of the wrong kind: the rest holds. */
static void
test_odd_overlays(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=120/1m");
	fake.more[SECTION_LIMITS] = 1000;
	fake.more[SECTION_LISTS] = -1;
	assert_true(snapshot_refresh(s, &fake.store, "", 0, NOW));
	assert_int_equal(rate_in_force(s), 120);
	redis_holds("2", "connections", "rate=9/1m");
	fake.format = OVERLAY_FORMAT + 1;
	assert_true(snapshot_refresh(s, &fake.store, "1", 0, NOW));
	assert_int_equal(rate_in_force(s), 60);
}

/* --- many threads: no ruleset is freed under a reader, none is half built ------------------- */

#define READERS 4
#define ROUNDS 2000

static void *
reader(void *arg)
{
	struct snapshots *s = arg;
	uintptr_t wrong = 0;

	for (int i = 0; i < ROUNDS; i++) {
		/* half of the time something has just expired */
		const struct ruleset *r = snapshot_get(s, NOW + i % 2 * USEC_PER_SEC);

		if (r->generation[0] != '\0' && r->limits[0].rate != atoi(r->generation))
			wrong++;
		(void)snapshot_refresh(s, &fake.store, i % 2 == 0 ? r->generation : "none", 0, NOW);
		snapshot_put(s, r);
	}
	return (void *)wrong;
}

/* A new generation at each load; called with the loading lock held. */
static enum store_status
busy_load(struct store *s, int64_t deadline_us, const struct overlay *known, struct overlay *out)
{
	static char words[32];
	char generation[12];

	snprintf(generation, sizeof generation, "%u", fake.loads + 1);
	snprintf(words, sizeof words, "rate=%s/1m", generation);
	redis_holds(generation, "connections", words);
	redis_adds(SECTION_LISTS, "192.0.2.7", "action=block until=1800000001");
	return fake_load(s, deadline_us, known, out);
}

static void
test_threads(void **state)
{
	static const struct store_ops busy_ops = {.load = busy_load};
	struct snapshots *s = fresh(false);
	pthread_t threads[READERS];

	(void)state;
	fake.store.ops = &busy_ops;
	for (int i = 0; i < READERS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, reader, s), 0);
	for (int i = 0; i < READERS; i++) {
		void *wrong;

		assert_int_equal(pthread_join(threads[i], &wrong), 0);
		assert_null(wrong);
	}
	assert_true(fake.loads >= ROUNDS / 2);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_refresh),
	    cmocka_unit_test(test_refresh_only_when_needed),
	    cmocka_unit_test(test_changes),
	    cmocka_unit_test(test_file_lists),
	    cmocka_unit_test(test_store_down),
	    cmocka_unit_test(test_expiry),
	    cmocka_unit_test(test_expired_before_it_was_read),
	    cmocka_unit_test(test_expiry_of_what_was_good_before),
	    cmocka_unit_test(test_odd_overlays),
	    cmocka_unit_test(test_threads),
	};

	log_open(true, false);
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
