/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_zone.c - the zone's table: what stays and what goes, and the clients refused a moment ago.
 */
#include <errno.h>

#include "zone_fixture.h"

/* --- hash -------------------------------------------------------------------------------- */

static void
test_siphash_vectors(void **state)
{
	/* From the paper's appendix and its authors' vectors.h. */
	const struct siphash_key k = {UINT64_C(0x0706050403020100), UINT64_C(0x0f0e0d0c0b0a0908)};
	uint8_t in[15];

	(void)state;
	for (unsigned i = 0; i < sizeof(in); i++)
		in[i] = (uint8_t)i;
	assert_true(siphash(&k, in, 0) == UINT64_C(0x726fdb47dd0e0e31));
	assert_true(siphash(&k, in, 8) == UINT64_C(0x93f5f5799a932462));
	assert_true(siphash(&k, in, 15) == UINT64_C(0xa129ca6149be45e5));
}

/* --- table ------------------------------------------------------------------------------- */

static void
test_new_refuses_nonsense(void **state)
{
	(void)state;
	errno = 0;
	assert_null(zone_new(ZONE_SIZE_MIN - 1, 1));
	assert_int_equal(errno, EINVAL);
	assert_null(zone_new(ZONE_SIZE_MAX + 1, 1));
	assert_null(zone_new(ZONE_SIZE_MIN, 0));
	assert_null(zone_new(ZONE_SIZE_MIN, ZONE_WORKERS_MAX + 1));
}

static void
test_two_zones_hash_apart(void **state)
{
	struct fixture *f = *state;
	struct zone *other = zone_new(ZONE_SIZE_MIN, 1);

	assert_non_null(other);
	assert_true(zone_key(f->z, ENTRY_BUCKET, PER_ADDRESS, "a", "b") !=
	    zone_key(other, ENTRY_BUCKET, PER_ADDRESS, "a", "b"));
	assert_true(zone_key(f->z, ENTRY_BUCKET, PER_ADDRESS, "a", "b") !=
	    zone_key(f->z, ENTRY_BUCKET, PER_NETWORK, "a", "b"));
	assert_true(zone_key(f->z, ENTRY_BUCKET, PER_ADDRESS, "ab", "c") !=
	    zone_key(f->z, ENTRY_BUCKET, PER_ADDRESS, "a", "bc"));
	zone_free(&other);
	assert_null(other);
}

static void
test_million_keys_stay_bounded(void **state)
{
	struct fixture *f = *state;
	struct limit slow = bucket("slow", 1, 1000000, ACTION_REFUSE);
	struct request busy = simple("{192.0.2.0/24}:192.0.2.7", &slow), q = simple("", &slow);
	size_t mapped = f->z->mapped;
	int64_t now = T0, charged = 0;

	for (int i = 0; i < 1000000; i++) {
		now += 10;
		if (i % 500 == 0) {
			/* Ten seconds in all drain a sixth of one. */
			charged++;
			assert_true(put(f, &busy, now).hits[0].used > charged * MICRO - MICRO / 2);
		}
		snprintf(q.records[0].key, sizeof(q.records[0].key), "{10.0.0.0/8}:%d", i);
		assert_true(put(f, &q, now).charged);
	}
	assert_int_equal(f->z->mapped, mapped);
	assert_int_equal(live_entries(f->z), ZONE_SIZE_MIN / 32);
}

/* Keys that all fall into the set of the first, so that a test can fill one set. */
static void
keys_of_one_set(const struct zone *z, uint64_t *keys, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		keys[i] = (UINT64_C(5) << 40) + i + 1;
	assert_true(zone_shard(z, keys[0]) == zone_shard(z, keys[n - 1]));
}

static void
test_least_goes_first(void **state)
{
	struct fixture *f = *state;
	struct zone *z = f->z;
	uint64_t keys[ZONE_WAYS + 3];
	struct entry e = {.kind = ENTRY_BUCKET, .keep_s = 3600, .drain_s = 600};

	keys_of_one_set(z, keys, ZONE_WAYS + 3);
	zone_lock(z, zone_shard(z, keys[0]));
	zone_count_open(z, keys[0], 1, T0); /* the oldest, and an open session */
	for (unsigned i = 1; i < ZONE_WAYS; i++) {
		e.key = keys[i];
		e.time_us = T0 + i * SEC;
		e.drain_s = i == 5 ? 1 : 600; /* drained */
		e.keep_s = i == 6 ? 2 : 3600; /* expired */
		zone_put(z, &e, T0 + 20 * SEC);
	}
	e.drain_s = 600;
	e.keep_s = 3600;
	e.time_us = T0 + 20 * SEC;
	e.key = keys[ZONE_WAYS];
	zone_put(z, &e, T0 + 20 * SEC);
	assert_null(zone_find(z, keys[6])); /* expired first */
	assert_non_null(zone_find(z, keys[5]));
	e.key = keys[ZONE_WAYS + 1];
	zone_put(z, &e, T0 + 20 * SEC);
	assert_null(zone_find(z, keys[5])); /* then drained */
	assert_non_null(zone_find(z, keys[1]));
	e.key = keys[ZONE_WAYS + 2];
	zone_put(z, &e, T0 + 20 * SEC);
	assert_null(zone_find(z, keys[1])); /* then the oldest, */
	assert_non_null(zone_find(z, keys[0])); /* but no open session */
	zone_unlock(z, zone_shard(z, keys[0]));
}

static void
test_sessions_only_yield_to_sessions(void **state)
{
	struct fixture *f = *state;
	struct zone *z = f->z;
	uint64_t keys[ZONE_WAYS + 2];
	unsigned there = 0;

	keys_of_one_set(z, keys, ZONE_WAYS + 2);
	zone_lock(z, zone_shard(z, keys[0]));
	for (unsigned i = 0; i < ZONE_WAYS + 2; i++)
		zone_count_open(z, keys[i], 1, T0 + i);
	for (unsigned i = 0; i < ZONE_WAYS + 2; i++)
		there += zone_find(z, keys[i]) != NULL;
	assert_int_equal(there, ZONE_WAYS);
	/* Counting down what was evicted is harmless; counting to none frees the entry. */
	for (unsigned i = 0; i < ZONE_WAYS + 2; i++)
		zone_count_open(z, keys[i], -1, T0);
	zone_unlock(z, zone_shard(z, keys[0]));
	assert_int_equal(live_entries(z), 0);
}

/* --- refused a moment ago ---------------------------------------------------------------- */

static void
test_refusals(void **state)
{
	/* put at T0; what is remembered at T0 + after */
	static const struct {
		int64_t fits, after;
		bool known;
	} table[] = {
	    {5 * SEC, 0, true},
	    {5 * SEC, ZONE_REFUSAL_US - 1, true},
	    {5 * SEC, ZONE_REFUSAL_US, false}, /* it may have been taken back */
	    {5 * SEC, 4 * SEC, false},
	    {5 * SEC, -1, false}, /* with a clock that goes back it would last */
	    {5 * SEC, -3600 * SEC, false},
	    {SEC / 2, SEC / 2 - 1, true},
	    {SEC / 2, SEC / 2, false},
	    {3600 * SEC, SEC / 2, true},
	    {366 * 86400 * SEC, SEC / 2, true},
	};
	struct fixture *f = *state;
	struct limit l = bucket("connections", 60, 3, ACTION_REFUSE), m = l;
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l), other = q;

	snprintf(m.name, sizeof(m.name), "messages");
	add_hit(&q, 0, &m, 1);
	snprintf(other.records[0].key, sizeof(other.records[0].key), "{192.0.2.0/24}:192.0.2.8");
	assert_int_equal(zone_refusal_get(f->z, &q, 0, T0), 0);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		int64_t now = T0 + table[i].after, fits = T0 + table[i].fits;

		zone_refusal_put(f->z, &q, 0, T0, fits);
		if (zone_refusal_get(f->z, &q, 0, now) != (table[i].known ? fits : 0))
			fail_msg("row %zu", i);
		/* another limit, another client */
		assert_int_equal(zone_refusal_get(f->z, &q, 1, now), 0);
		assert_int_equal(zone_refusal_get(f->z, &other, 0, now), 0);
	}
	/* asked again and refused again: from then on */
	zone_refusal_put(f->z, &q, 0, T0, T0 + 5 * SEC);
	zone_refusal_put(f->z, &q, 0, T0 + SEC, T0 + 6 * SEC);
	assert_int_equal(
	    zone_refusal_get(f->z, &q, 0, T0 + SEC + ZONE_REFUSAL_US - 1), T0 + 6 * SEC);
}

static void
test_refusal_ends_with_the_generation(void **state)
{
	struct fixture *f = *state;
	struct limit l = bucket("connections", 60, 3, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l), newer = q;

	snprintf(newer.generation, sizeof(newer.generation), "8");
	zone_refusal_put(f->z, &q, 0, T0, T0 + 5 * SEC);
	assert_int_equal(zone_refusal_get(f->z, &newer, 0, T0), 0);
	assert_int_equal(zone_refusal_get(f->z, &q, 0, T0), T0 + 5 * SEC);
	zone_refusal_put(f->z, &newer, 0, T0, T0 + 6 * SEC);
	assert_int_equal(zone_refusal_get(f->z, &q, 0, T0), 0);
	assert_int_equal(zone_refusal_get(f->z, &newer, 0, T0), T0 + 6 * SEC);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_siphash_vectors),
	    cmocka_unit_test(test_new_refuses_nonsense),
	    ZONE_TEST(test_two_zones_hash_apart),
	    ZONE_TEST(test_million_keys_stay_bounded),
	    ZONE_TEST(test_least_goes_first),
	    ZONE_TEST(test_sessions_only_yield_to_sessions),
	    ZONE_TEST(test_refusals),
	    ZONE_TEST(test_refusal_ends_with_the_generation),
	};

	return cmocka_run_group_tests_name("zone", tests, NULL, NULL);
}
