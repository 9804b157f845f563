/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_lru.c - the table that forgets what was not used for longest.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "lru.h"

struct thing {
	struct lru_link link;
	int value;
};

static uint64_t forgotten[16];
static unsigned nforgotten;

static void
forget(void *ctx, void *element)
{
	const struct thing *t = element;

	assert_ptr_equal(ctx, forgotten);
	if (nforgotten < 16)
		forgotten[nforgotten] = t->link.key;
	nforgotten++;
}

static struct lru *
table(uint32_t places)
{
	struct lru *l = lru_new(sizeof(struct thing), places, forget, forgotten);

	nforgotten = 0;
	assert_non_null(l);
	return l;
}

static struct thing *
add(struct lru *l, uint64_t key)
{
	struct thing *t = lru_add(l, key);

	assert_int_equal(t->value, 0);
	t->value = (int)key;
	return t;
}

static void
test_oldest_goes(void **state)
{
	struct lru *l = table(3);

	(void)state;
	add(l, 1);
	add(l, 2);
	assert_false(lru_full(l));
	add(l, 3);
	assert_true(lru_full(l));
	/* looked at, so 2 is the oldest now */
	assert_non_null(lru_find(l, 1));
	add(l, 4);
	assert_int_equal(nforgotten, 1);
	assert_int_equal(forgotten[0], 2);
	assert_null(lru_find(l, 2));
	assert_int_equal(((struct thing *)lru_find(l, 1))->value, 1);
	assert_int_equal(((struct thing *)lru_find(l, 3))->value, 3);
	assert_int_equal(((struct thing *)lru_find(l, 4))->value, 4);
	lru_delete(&l);
	assert_null(l);
}

/* Keys that meet in one chain are told apart. */
static void
test_one_chain(void **state)
{
	struct lru *l = table(8);
	const uint64_t step = UINT64_C(1) << 32;

	(void)state;
	for (uint64_t i = 0; i < 8; i++)
		((struct thing *)lru_add(l, 5 + i * step))->value = (int)i;
	for (uint64_t i = 0; i < 8; i++)
		assert_int_equal(((struct thing *)lru_find(l, 5 + i * step))->value, i);
	lru_free(l, lru_find(l, 5 + 3 * step));
	assert_null(lru_find(l, 5 + 3 * step));
	for (uint64_t i = 0; i < 8; i++)
		if (i != 3)
			assert_int_equal(((struct thing *)lru_find(l, 5 + i * step))->value, i);
	lru_delete(&l);
}

static void
test_references(void **state)
{
	struct lru *l = table(2);
	struct thing *t = add(l, 1);
	struct lru_ref one = lru_ref_of(l, t), none = {0}, two;

	(void)state;
	assert_ptr_equal(lru_at(l, one), t);
	assert_null(lru_at(l, none));
	lru_free(l, t);
	assert_null(lru_at(l, one));
	/* the place is given to another, and the old name does not name it */
	t = add(l, 2);
	two = lru_ref_of(l, t);
	assert_int_equal(two.place, one.place);
	assert_null(lru_at(l, one));
	assert_ptr_equal(lru_at(l, two), t);
	add(l, 3);
	add(l, 4);
	assert_null(lru_at(l, two));
	lru_delete(&l);
}

static void
test_unkey(void **state)
{
	struct lru *l = table(3);
	struct thing *t = add(l, 1);
	struct lru_ref r = lru_ref_of(l, t);

	(void)state;
	lru_unkey(l, t);
	assert_null(lru_find(l, 1));
	assert_ptr_equal(lru_at(l, r), t);
	/* another of the same key beside it */
	add(l, 1)->value = 11;
	assert_int_equal(((struct thing *)lru_find(l, 1))->value, 11);
	lru_unkey(l, t); /* again: nothing */
	lru_free(l, t);
	assert_int_equal(((struct thing *)lru_find(l, 1))->value, 11);
	lru_delete(&l);
}

static void
test_walk(void **state)
{
	struct lru *l = table(4);
	int order[4], n = 0;

	(void)state;
	for (uint64_t i = 1; i <= 5; i++)
		add(l, i);
	lru_find(l, 3);
	for (struct thing *t = lru_oldest(l); t != NULL; t = lru_newer(l, t))
		order[n++] = t->value;
	assert_int_equal(n, 4);
	assert_int_equal(order[0], 2);
	assert_int_equal(order[1], 4);
	assert_int_equal(order[2], 5);
	assert_int_equal(order[3], 3);
	lru_delete(&l);
}

/* Against a plain model: whatever is done, the last `places` used are there, and only they. */
static void
test_long_run(void **state)
{
	enum { PLACES = 50, KEYS = 120 };
	struct lru *l = table(PLACES);
	int used[KEYS] = {0}, clock = 0;
	unsigned random = 7;

	(void)state;
	for (int i = 0; i < 20000; i++) {
		int key, newer = 0;
		struct thing *t;

		random = random * 1103515245 + 12345;
		key = (int)(random >> 16) % KEYS;
		for (int k = 0; k < KEYS; k++)
			newer += used[k] > used[key];
		t = lru_find(l, (uint64_t)key);
		assert_true((t != NULL) == (used[key] != 0 && newer < PLACES));
		if (t == NULL)
			add(l, (uint64_t)key);
		else
			assert_int_equal(t->value, key);
		used[key] = ++clock;
	}
	lru_delete(&l);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_oldest_goes),
	    cmocka_unit_test(test_one_chain),
	    cmocka_unit_test(test_references),
	    cmocka_unit_test(test_unkey),
	    cmocka_unit_test(test_walk),
	    cmocka_unit_test(test_long_run),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
