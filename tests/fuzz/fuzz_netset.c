/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_netset.c - a set of networks says the same as looking at each of them.
 *
 * Input: records of a byte (what follows), a width, and an address.
 *
 * Covers: policy/netset.c
 */
#include "fuzz.h"
#include "weir/addr.h"

#define NETS_MAX 256

/* Bit 0: IPv6. Bits 1 and 2: how many bytes are given, the rest are zero, so that networks
 * touch and nest. Bit 3: not an address at all. */
static struct addr
take_addr(struct input *in, uint8_t what)
{
	struct addr a = {.family = what & 1 ? ADDR_V6 : ADDR_V4};
	unsigned n = what >> 1 & 3;

	n = what & 1 ? 1u << (n * 4 / 3) : 1 + n;
	for (unsigned i = 0; i < n; i++)
		a.b[i] = input_byte(in);
	if (what & 8)
		a.family = ADDR_NONE;
	return a;
}

static bool
in_any(const struct net *nets, unsigned n, const struct addr *a)
{
	for (unsigned i = 0; i < n; i++)
		if (net_contains(&nets[i], a))
			return true;
	return false;
}

/* Asks of an address and of what lies right beside it. */
static void
ask(const struct netset *set, const struct net *nets, unsigned n, struct addr a)
{
	CHECK(netset_contains(set, &a) == in_any(nets, n, &a));
	for (int by = -1; by <= 1; by += 2) {
		struct addr near = a;
		unsigned at = a.family == ADDR_V4 ? 4 : 16;

		while (at-- > 0) {
			near.b[at] = (uint8_t)(near.b[at] + by);
			if (near.b[at] != (by > 0 ? 0 : 0xff))
				break;
		}
		CHECK(netset_contains(set, &near) == in_any(nets, n, &near));
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct netset *set = netset_new();
	struct net nets[NETS_MAX];
	unsigned n = 0;

	CHECK(set != NULL);
	while (n < NETS_MAX && input_left(&in)) {
		uint8_t what = input_byte(&in), bits = input_byte(&in);
		struct addr a = take_addr(&in, what & 7);

		/* the rest of the input are questions */
		if (what & 0x80)
			break;
		nets[n] = net_of(&a, bits);
		CHECK(netset_add(set, &nets[n]));
		n++;
	}
	netset_seal(set);
	for (unsigned i = 0; i < n; i++) {
		struct addr last = nets[i].base;

		for (unsigned b = nets[i].bits; b < (last.family == ADDR_V4 ? 32u : 128u); b++)
			last.b[b / 8] |= (uint8_t)(0x80 >> b % 8);
		ask(set, nets, n, nets[i].base);
		ask(set, nets, n, last);
	}
	while (input_left(&in)) {
		uint8_t what = input_byte(&in);

		ask(set, nets, n, take_addr(&in, what & 15));
	}
	netset_free(&set);
	CHECK(set == NULL);
	return 0;
}
