/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_addr.c - addresses and networks from text and from sockaddrs: what is read can be
 * printed, and reads the same again.
 *
 * Covers: policy/addr.c
 */
#include <netinet/in.h>
#include <sys/socket.h>

#include "fuzz.h"
#include "weir/addr.h"

static unsigned
all_bits(const struct addr *a)
{
	return a->family == ADDR_V4 ? 32 : 128;
}

/* Comes back the same from its own text, and is IPv4 if it can be. */
static void
check_addr(const struct addr *a)
{
	static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff}, zeros[12];
	char *text = fuzz_alloc(NET_TEXT_MAX);
	struct addr again;

	CHECK(a->family == ADDR_V4 || a->family == ADDR_V6);
	if (a->family == ADDR_V4)
		CHECK(memcmp(a->b + 4, zeros, sizeof zeros) == 0);
	else
		CHECK(memcmp(a->b, mapped, sizeof mapped) != 0);
	CHECK(addr_format(a, text) == text);
	CHECK(strnlen(text, NET_TEXT_MAX) < NET_TEXT_MAX && is_printable(text));
	CHECK(addr_parse(text, &again));
	CHECK(memcmp(&again, a, sizeof again) == 0);
	free(text);
}

static void
check_net(const struct net *n)
{
	char *text = fuzz_alloc(NET_TEXT_MAX);
	struct net again = net_of(&n->base, n->bits);

	check_addr(&n->base);
	CHECK(n->bits <= all_bits(&n->base));
	CHECK(memcmp(&again, n, sizeof again) == 0);
	CHECK(net_contains(n, &n->base));
	CHECK(net_format(n, text) == text);
	CHECK(strnlen(text, NET_TEXT_MAX) < NET_TEXT_MAX);
	CHECK(net_parse(text, &again));
	CHECK(memcmp(&again, n, sizeof again) == 0);
	free(text);
}

static void
check_text(const char *text)
{
	struct addr a;
	struct net n;

	if (addr_parse(text, &a)) {
		check_addr(&a);
		/* a bare address is a network of one */
		CHECK(net_parse(text, &n) && n.bits == all_bits(&a));
		CHECK(memcmp(&n.base, &a, sizeof a) == 0);
	} else
		CHECK(a.family == ADDR_NONE);
	if (net_parse(text, &n))
		check_net(&n);
}

/* The network of one width: it holds what has the same first bits, and nothing else. */
static void
check_width(const struct addr *a, unsigned bits, unsigned flip)
{
	struct net n = net_of(a, bits);
	struct addr other = *a;

	check_net(&n);
	CHECK(n.bits == (bits < all_bits(a) ? bits : all_bits(a)));
	CHECK(net_contains(&n, a));
	flip %= all_bits(a);
	other.b[flip / 8] ^= (uint8_t)(0x80 >> flip % 8);
	CHECK(net_contains(&n, &other) == (flip >= n.bits));
	other.family = a->family == ADDR_V4 ? ADDR_V6 : ADDR_V4;
	CHECK(!net_contains(&n, &other));
	other.family = ADDR_NONE;
	CHECK(!net_contains(&n, &other));
}

static void
check_widths(const struct addr *a, unsigned flip)
{
	for (unsigned bits = 0; bits <= all_bits(a) + 1; bits++)
		check_width(a, bits, flip);
}

static void
check_sockaddr(const uint8_t *data, size_t size)
{
	struct sockaddr_in sin = {.sin_family = AF_INET};
	struct sockaddr_in6 sin6 = {.sin6_family = AF_INET6};
	struct addr a;
	/* of any alignment, as libmilter hands them out */
	char *at = fuzz_alloc(sizeof sin6 + 1);

	CHECK(!addr_from_sockaddr(NULL, &a) && a.family == ADDR_NONE);
	if (size >= 5) {
		memcpy(&sin.sin_addr, data, 4);
		memcpy(at + 1, &sin, sizeof sin);
		CHECK(addr_from_sockaddr((const struct sockaddr *)(void *)(at + 1), &a));
		CHECK(a.family == ADDR_V4);
		check_addr(&a);
		check_widths(&a, data[4]);
	}
	if (size >= 17) {
		memcpy(&sin6.sin6_addr, data, 16);
		memcpy(at + 1, &sin6, sizeof sin6);
		CHECK(addr_from_sockaddr((const struct sockaddr *)(void *)(at + 1), &a));
		check_addr(&a);
		check_widths(&a, data[16]);
	}
	free(at);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	char *text = input_rest(&in);

	check_text(text);
	free(text);
	check_sockaddr(data, size);
	return 0;
}
