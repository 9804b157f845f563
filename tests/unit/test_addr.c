/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_addr.c - addresses, networks and sets of networks: reading, masking, printing, looking up.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "weir/addr.h"

#define SEED UINT64_C(0x9e3779b97f4a7c15)
#define ROUNDS 20000

static uint64_t
next_random(uint64_t *x)
{
	*x ^= *x << 13;
	*x ^= *x >> 7;
	*x ^= *x << 17;
	return *x;
}

static struct addr
parsed(const char *text)
{
	struct addr a;

	if (!addr_parse(text, &a))
		fail_msg("%s does not parse", text);
	return a;
}

static struct net
parsed_net(const char *text)
{
	struct net n;

	if (!net_parse(text, &n))
		fail_msg("%s does not parse", text);
	return n;
}

static void
test_addr_text(void **state)
{
	static const struct {
		const char *in, *out; /* NULL: refused */
	} table[] = {
	    {"192.0.2.7", "192.0.2.7"},
	    {"0.0.0.0", "0.0.0.0"},
	    {"::ffff:192.0.2.7", "192.0.2.7"},
	    {"::FFFF:c000:0207", "192.0.2.7"},
	    {"2001:DB8:0:0::1", "2001:db8::1"},
	    {"::", "::"},
	    {"::192.0.2.7", "::192.0.2.7"},
	    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"},
	    {"", NULL},
	    {"192.0.2", NULL},
	    {"192.0.2.256", NULL},
	    {"192.0.2.7 ", NULL},
	    {"192.0.2.0/24", NULL},
	    {"[2001:db8::1]", NULL},
	    {"fe80::1%eth0", NULL},
	    {"2001:db8:::1", NULL},
	    {"IPv6:2001:db8::1", NULL},
	};
	char text[NET_TEXT_MAX];
	struct addr a;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (addr_parse(table[i].in, &a) != (table[i].out != NULL))
			fail_msg("addr_parse(\"%s\")", table[i].in);
		if (table[i].out != NULL)
			assert_string_equal(addr_format(&a, text), table[i].out);
		else
			assert_int_equal(a.family, ADDR_NONE);
	}
	assert_string_equal(addr_format(&(struct addr){.family = ADDR_NONE}, text), "unknown");
}

static void
test_from_sockaddr(void **state)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
	struct sockaddr other = {.sa_family = AF_UNIX};
	char odd[sizeof sin + 1], text[NET_TEXT_MAX];
	struct addr a;

	(void)state;
	assert_int_equal(inet_pton(AF_INET, "192.0.2.7", &sin.sin_addr), 1);
	memcpy(odd + 1, &sin, sizeof sin); /* at any alignment */
	assert_true(addr_from_sockaddr((const struct sockaddr *)(void *)&sin, &a));
	assert_string_equal(addr_format(&a, text), "192.0.2.7");
	assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.7", &sin6.sin6_addr), 1);
	assert_true(addr_from_sockaddr((const struct sockaddr *)(void *)&sin6, &a));
	assert_int_equal(a.family, ADDR_V4);
	assert_string_equal(addr_format(&a, text), "192.0.2.7");
	assert_int_equal(inet_pton(AF_INET6, "2001:db8::7", &sin6.sin6_addr), 1);
	assert_true(addr_from_sockaddr((const struct sockaddr *)(void *)&sin6, &a));
	assert_string_equal(addr_format(&a, text), "2001:db8::7");
	assert_false(addr_from_sockaddr(&other, &a));
	assert_int_equal(a.family, ADDR_NONE);
	assert_false(addr_from_sockaddr(NULL, &a));
	assert_int_equal(a.family, ADDR_NONE);
}

static void
test_net_text(void **state)
{
	static const struct {
		const char *in, *out;
	} table[] = {
	    {"192.0.2.0/24", "192.0.2.0/24"},
	    {"192.0.2.7", "192.0.2.7"},
	    {"192.0.2.7/32", "192.0.2.7"},
	    {"0.0.0.0/0", "0.0.0.0/0"},
	    {"192.0.2.128/25", "192.0.2.128/25"},
	    {"2001:db8::/32", "2001:db8::/32"},
	    {"2001:db8::1/128", "2001:db8::1"},
	    {"::/0", "::/0"},
	    {"::1", "::1"},
	    {"8000::/1", "8000::/1"},
	    {"2001:db8::/127", "2001:db8::/127"},
	    {"::ffff:192.0.2.0/120", "192.0.2.0/24"},
	    {"::ffff:0:0/96", "0.0.0.0/0"},
	    {"192.0.2.1/24", NULL}, /* host bits */
	    {"2001:db8::1/64", NULL},
	    {"192.0.2.128/24", NULL},
	    {"192.0.2.0/33", NULL},
	    {"2001:db8::/129", NULL},
	    {"::ffff:0:0/95", NULL},
	    {"192.0.2.0/", NULL},
	    {"192.0.2.0/-1", NULL},
	    {"192.0.2.0/+24", NULL},
	    {"192.0.2.0/24/24", NULL},
	    {"192.0.2.0/255.255.255.0", NULL},
	    {"192.0.2.0/4294967320", NULL},
	    {"/24", NULL},
	    {"", NULL},
	    {"0000000000000000000000000000000000000000000000000000000000/8", NULL},
	};
	char text[NET_TEXT_MAX];
	struct net n;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		if (net_parse(table[i].in, &n) != (table[i].out != NULL))
			fail_msg("net_parse(\"%s\")", table[i].in);
		if (table[i].out != NULL)
			assert_string_equal(net_format(&n, text), table[i].out);
	}
}

/* Any address, any width: the network holds it, prints, and reads back as itself. */
static void
test_net_round_trip(void **state)
{
	uint64_t x = SEED;
	char text[NET_TEXT_MAX];

	(void)state;
	print_message("seed %#llx\n", (unsigned long long)x);
	for (int i = 0; i < ROUNDS; i++) {
		bool v6 = next_random(&x) & 1;
		unsigned all = v6 ? 128 : 32, bits = (unsigned)(next_random(&x) % (all + 8));
		struct addr a = {.family = v6 ? ADDR_V6 : ADDR_V4}, same, out;
		struct net n, again;

		for (unsigned b = 0; b < all / 8; b++)
			a.b[b] = (uint8_t)next_random(&x);
		assert_true(addr_parse(addr_format(&a, text), &same));
		assert_memory_equal(&a, &same, sizeof a);
		n = net_of(&a, bits);
		assert_int_equal(n.bits, bits < all ? bits : all);
		assert_true(net_contains(&n, &a));
		assert_true(net_parse(net_format(&n, text), &again));
		assert_memory_equal(&n, &again, sizeof n);
		if (n.bits == 0)
			continue;
		/* the last bit of the network decides, the first of the host does not */
		out = a;
		out.b[(n.bits - 1) / 8] ^= (uint8_t)(0x80u >> ((n.bits - 1) % 8));
		assert_false(net_contains(&n, &out));
		if (n.bits == all)
			continue;
		out = a;
		out.b[n.bits / 8] ^= (uint8_t)(0x80u >> (n.bits % 8));
		assert_true(net_contains(&n, &out));
	}
}

static void
test_families_stay_apart(void **state)
{
	struct addr v4 = parsed("0.0.0.1"), v6 = parsed("::1"), none = {.family = ADDR_NONE};
	struct net all4 = parsed_net("0.0.0.0/0"), all6 = parsed_net("::/0");

	(void)state;
	assert_true(net_contains(&all4, &v4));
	assert_false(net_contains(&all4, &v6));
	assert_true(net_contains(&all6, &v6));
	assert_false(net_contains(&all6, &v4));
	assert_false(net_contains(&all4, &none));
	assert_false(net_contains(&all6, &none));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_addr_text),
	    cmocka_unit_test(test_from_sockaddr),
	    cmocka_unit_test(test_net_text),
	    cmocka_unit_test(test_net_round_trip),
	    cmocka_unit_test(test_families_stay_apart),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
