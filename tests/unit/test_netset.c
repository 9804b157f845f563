/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_netset.c - sets of networks: a look-up says the same as asking each network in turn.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/addr.h"

#define SEED UINT64_C(0x2545f4914f6cdd1d)
#define NETS_MAX 60

static uint64_t
next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static struct netset *
set_of(const char *const *texts)
{
	struct netset *set = netset_new();
	struct net n;

	assert_non_null(set);
	for (; *texts != NULL; texts++) {
		assert_true(net_parse(*texts, &n));
		assert_true(netset_add(set, &n));
	}
	netset_seal(set);
	return set;
}

static void
test_lookup(void **state)
{
	static const char *const nets[] = {"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3", "192.0.2.0/25",
	    "192.0.2.128/25", "192.0.2.7", "192.0.2.7", "203.0.113.9", "2001:db8::/32",
	    "2001:db8:1::/48", "::1", "255.255.255.255", NULL};
	static const struct {
		const char *addr;
		bool in;
	} table[] = {
	    {"9.255.255.255", false}, {"10.0.0.0", true}, {"10.1.2.3", true}, {"10.1.2.4", true},
	    {"10.255.255.255", true}, {"11.0.0.0", false}, {"192.0.1.255", false},
	    {"192.0.2.0", true}, {"192.0.2.127", true}, {"192.0.2.128", true},
	    {"192.0.2.255", true}, {"192.0.3.0", false}, {"203.0.113.8", false},
	    {"::ffff:203.0.113.9", true}, {"203.0.113.10", false}, {"255.255.255.255", true},
	    {"2001:db7:ffff:ffff:ffff:ffff:ffff:ffff", false}, {"2001:db8::", true},
	    {"2001:db8:1::", true}, {"2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", true},
	    {"2001:db9::", false}, {"::", false}, {"::1", true},
	    {"a00::", false}, /* begins with the bytes of 10.0.0.0 */
	};
	struct netset *set = set_of(nets);
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		assert_true(addr_parse(table[i].addr, &a));
		if (netset_contains(set, &a) != table[i].in)
			fail_msg("%s", table[i].addr);
	}
	assert_false(netset_contains(set, &(struct addr){.family = ADDR_NONE}));
	netset_free(&set);
	assert_null(set);
	netset_free(&set);
}

/* Whichever comes first, the wider one counts. */
static void
test_same_start(void **state)
{
	static const char *const orders[][4] = {
	    {"10.0.0.0", "10.0.0.0/8", "10.0.0.0/24", NULL},
	    {"10.0.0.0/24", "10.0.0.0", "10.0.0.0/8", NULL},
	    {"10.0.0.0/8", "10.0.0.0/24", "10.0.0.0", NULL},
	};
	struct addr a;

	(void)state;
	assert_true(addr_parse("10.9.9.9", &a));
	for (size_t i = 0; i < sizeof orders / sizeof orders[0]; i++) {
		struct netset *set = set_of(orders[i]);

		if (!netset_contains(set, &a))
			fail_msg("order %zu", i);
		netset_free(&set);
	}
}

static void
test_empty_and_all(void **state)
{
	static const char *const none[] = {NULL}, *const all4[] = {"0.0.0.0/0", NULL};
	struct netset *empty = set_of(none), *v4 = set_of(all4);
	struct addr a;

	(void)state;
	assert_true(addr_parse("192.0.2.7", &a));
	assert_false(netset_contains(empty, &a));
	assert_true(netset_contains(v4, &a));
	assert_true(addr_parse("255.255.255.255", &a));
	assert_true(netset_contains(v4, &a));
	assert_true(addr_parse("::1", &a));
	assert_false(netset_contains(v4, &a));
	netset_free(&empty);
	netset_free(&v4);
}

/* Few distinct bits, so that networks nest, touch and repeat. */
static struct addr
crowded_addr(uint64_t *x)
{
	bool v6 = next_random(x) % 2;
	struct addr a = {.family = v6 ? ADDR_V6 : ADDR_V4};
	unsigned last = v6 ? 15 : 3;

	a.b[0] = (uint8_t)(next_random(x) & 0x81);
	a.b[last] = (uint8_t)(next_random(x) & 0x0f);
	return a;
}

static void
test_same_as_each_in_turn(void **state)
{
	uint64_t x = SEED;

	(void)state;
	print_message("seed %#llx\n", (unsigned long long)x);
	for (int round = 0; round < 300; round++) {
		size_t n = (size_t)(next_random(&x) % NETS_MAX);
		struct netset *set = netset_new();
		struct net nets[NETS_MAX];
		char text[NET_TEXT_MAX];

		assert_non_null(set);
		for (size_t i = 0; i < n; i++) {
			struct addr a = crowded_addr(&x);
			unsigned all = a.family == ADDR_V4 ? 32 : 128;

			nets[i] = net_of(&a, all - (unsigned)(next_random(&x) % 5));
			assert_true(netset_add(set, &nets[i]));
		}
		netset_seal(set);
		for (int i = 0; i < 200; i++) {
			struct addr a = crowded_addr(&x);
			bool in = false;

			for (size_t j = 0; j < n; j++)
				in |= net_contains(&nets[j], &a);
			if (netset_contains(set, &a) != in)
				fail_msg("round %d: %s", round, addr_format(&a, text));
		}
		netset_free(&set);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lookup),
	    cmocka_unit_test(test_same_start),
	    cmocka_unit_test(test_empty_and_all),
	    cmocka_unit_test(test_same_as_each_in_turn),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
