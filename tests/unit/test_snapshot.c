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
	old = snapshot_get(s);
	assert_string_equal(old->generation, "");
	redis_holds("1", "connections", "rate=120/1m");
	assert_true(snapshot_refresh(s, &fake.store, "", 0));
	assert_int_equal(rate_in_force(s), 120);
	now = snapshot_get(s);
	assert_string_equal(now->generation, "1");
	assert_ptr_not_equal(old, now);
	assert_int_equal(old->limits[0].rate, 60); /* whoever holds it goes on with it */
	snapshot_put(s, old);
	snapshot_put(s, now);
	/* gone from Redis: the file's again */
	fake.nentries = 0;
	strcpy(fake.generation, "2");
	assert_true(snapshot_refresh(s, &fake.store, "1", 0));
	assert_int_equal(rate_in_force(s), 60);
}

static void
test_refresh_only_when_needed(void **state)
{
	struct snapshots *s = fresh(false);
	const struct ruleset *before, *after;

	(void)state;
	assert_true(snapshot_refresh(s, &fake.store, "", 0));
	assert_int_equal(fake.loads, 1);
	/* another thread was faster */
	assert_true(snapshot_refresh(s, &fake.store, "", 0));
	assert_int_equal(fake.loads, 1);
	/* Redis has nothing newer: the same one stays */
	before = snapshot_get(s);
	assert_true(snapshot_refresh(s, &fake.store, "1", 0));
	assert_int_equal(fake.loads, 2);
	after = snapshot_get(s);
	assert_ptr_equal(before, after);
	snapshot_put(s, before);
	snapshot_put(s, after);
}

static void
test_store_down(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=120/1m");
	assert_true(snapshot_refresh(s, &fake.store, "", 0));
	redis_holds("2", "connections", "rate=9/1m");
	fake.status = STORE_DOWN;
	assert_false(snapshot_refresh(s, &fake.store, "1", 0));
	assert_int_equal(rate_in_force(s), 120);
	fake.status = STORE_OK;
	assert_true(snapshot_refresh(s, &fake.store, "1", 0));
	assert_int_equal(rate_in_force(s), 9);
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
		const struct ruleset *r = snapshot_get(s);

		if (r->generation[0] != '\0' && r->limits[0].rate != atoi(r->generation))
			wrong++;
		(void)snapshot_refresh(s, &fake.store, i % 2 == 0 ? r->generation : "none", 0);
		snapshot_put(s, r);
	}
	return (void *)wrong;
}

/* A new generation at each load; called with the loading lock held. */
static enum store_status
busy_load(struct store *s, int64_t deadline_us, struct overlay *out)
{
	static char words[32];
	char generation[12];

	snprintf(generation, sizeof generation, "%u", fake.loads + 1);
	snprintf(words, sizeof words, "rate=%s/1m", generation);
	redis_holds(generation, "connections", words);
	return fake_load(s, deadline_us, out);
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
	    cmocka_unit_test(test_store_down),
	    cmocka_unit_test(test_threads),
	};

	log_open(true, false);
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
