/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * addr.c - addresses and networks: reading, masking, printing.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#include "weir/addr.h"
#include "weir/units.h"

#define V4_BITS 32
#define V6_BITS 128

static const uint8_t v4_mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

static unsigned
family_bits(const struct addr *a)
{
	return a->family == ADDR_V4 ? V4_BITS : V6_BITS;
}

static void
addr_from_v6(const uint8_t b[16], struct addr *out)
{
	if (memcmp(b, v4_mapped, sizeof v4_mapped) == 0) {
		out->family = ADDR_V4;
		memcpy(out->b, b + 12, 4);
	} else {
		out->family = ADDR_V6;
		memcpy(out->b, b, 16);
	}
}

bool
addr_from_sockaddr(const struct sockaddr *sa, struct addr *out)
{
	sa_family_t family;

	memset(out, 0, sizeof *out);
	if (sa == NULL)
		return false;
	/* copied, all of it: libmilter hands out pointers of any alignment */
	memcpy(&family, (const char *)sa + offsetof(struct sockaddr, sa_family), sizeof family);
	if (family == AF_INET) {
		struct sockaddr_in sin;

		memcpy(&sin, sa, sizeof sin);
		out->family = ADDR_V4;
		memcpy(out->b, &sin.sin_addr, 4);
		return true;
	}
	if (family == AF_INET6) {
		struct sockaddr_in6 sin6;

		memcpy(&sin6, sa, sizeof sin6);
		addr_from_v6(sin6.sin6_addr.s6_addr, out);
		return true;
	}
	return false;
}

bool
addr_parse(const char *text, struct addr *out)
{
	uint8_t b[16];

	memset(out, 0, sizeof *out);
	if (inet_pton(AF_INET, text, b) == 1) {
		out->family = ADDR_V4;
		memcpy(out->b, b, 4);
		return true;
	}
	if (inet_pton(AF_INET6, text, b) == 1) {
		addr_from_v6(b, out);
		return true;
	}
	return false;
}

struct net
net_of(const struct addr *a, unsigned bits)
{
	struct net n = {.base = *a};
	unsigned all = family_bits(a);

	n.bits = (uint8_t)(bits < all ? bits : all);
	for (unsigned i = 0; i < all / 8; i++) {
		unsigned keep = n.bits > i * 8 ? n.bits - i * 8 : 0;

		if (keep < 8)
			n.base.b[i] &= (uint8_t)(0xff00u >> keep);
	}
	return n;
}

bool
net_parse(const char *text, struct net *out)
{
	char base[NET_TEXT_MAX];
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	struct addr a;
	int64_t bits;

	if (len >= sizeof base)
		return false;
	memcpy(base, text, len);
	base[len] = '\0';
	if (!addr_parse(base, &a))
		return false;
	bits = family_bits(&a);
	if (slash != NULL) {
		int64_t given;

		if (!units_count(slash + 1, &given))
			return false;
		/* ::ffff:192.0.2.0/120 is 192.0.2.0/24, as the address itself is IPv4 */
		if (a.family == ADDR_V4 && strchr(base, ':') != NULL)
			given -= V6_BITS - V4_BITS;
		if (given < 0 || given > bits)
			return false;
		bits = given;
	}
	*out = net_of(&a, (unsigned)bits);
	return memcmp(out->base.b, a.b, sizeof a.b) == 0;
}

bool
net_contains(const struct net *n, const struct addr *a)
{
	struct net other;

	if (n->base.family != a->family || a->family == ADDR_NONE)
		return false;
	other = net_of(a, n->bits);
	return memcmp(other.base.b, n->base.b, sizeof n->base.b) == 0;
}

const char *
addr_format(const struct addr *a, char out[NET_TEXT_MAX])
{
	if (a->family == ADDR_NONE ||
	    inet_ntop(a->family == ADDR_V4 ? AF_INET : AF_INET6, a->b, out, NET_TEXT_MAX) == NULL)
		strcpy(out, "unknown");
	return out;
}

const char *
net_format(const struct net *n, char out[NET_TEXT_MAX])
{
	size_t len;

	addr_format(&n->base, out);
	if (n->base.family == ADDR_NONE || n->bits == family_bits(&n->base))
		return out;
	/* by hand: snprintf would pull stdio, and so I/O, into this library */
	len = strlen(out);
	out[len++] = '/';
	if (n->bits >= 100)
		out[len++] = (char)('0' + n->bits / 100);
	if (n->bits >= 10)
		out[len++] = (char)('0' + n->bits / 10 % 10);
	out[len++] = (char)('0' + n->bits % 10);
	out[len] = '\0';
	return out;
}
