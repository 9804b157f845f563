/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * addr.h - client addresses, networks, and sets of networks.
 *
 * An IPv4-mapped IPv6 address (::ffff:192.0.2.7) is IPv4 everywhere in weir: a client must not
 * get a second allowance by reaching a dual-stack listener another way.
 *
 * Pure values; no function here allocates except netset_add(), none does I/O.
 */
#ifndef WEIR_ADDR_H
#define WEIR_ADDR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sockaddr;

/* 39 characters for IPv6, "/128", and the NUL. */
#define NET_TEXT_MAX 48

enum addr_family {
	ADDR_NONE = 0, /* no address: local submission, or an MTA that does not know it */
	ADDR_V4 = 4,
	ADDR_V6 = 6
};

struct addr {
	uint8_t family; /* enum addr_family */
	uint8_t b[16]; /* network order; IPv4 uses the first 4 */
};

struct net {
	struct addr base; /* host bits are zero */
	uint8_t bits; /* 0..32 or 0..128 */
};

/* False (and ADDR_NONE) for NULL and for families other than IPv4 and IPv6. */
bool addr_from_sockaddr(const struct sockaddr *sa, struct addr *out);

/* Dotted quad or RFC 4291 text, no brackets, no scope. */
bool addr_parse(const char *text, struct addr *out);

/* "192.0.2.0/24", "2001:db8::/32" or a bare address. False when host bits are set: a typing
 * mistake there exempts or limits the wrong clients. */
bool net_parse(const char *text, struct net *out);

/* The network of the given width around a; bits above the family's width mean all of it. */
struct net net_of(const struct addr *a, unsigned bits);

bool net_contains(const struct net *n, const struct addr *a);

/* A host network prints as the bare address; returns out. */
const char *net_format(const struct net *n, char out[NET_TEXT_MAX]);
const char *addr_format(const struct addr *a, char out[NET_TEXT_MAX]);

/*
 * A set of networks, built once and then only read (by any number of threads). A look-up is a
 * binary search over disjoint ranges, so a list of some thousand networks costs nothing.
 */
struct netset;
struct netset *netset_new(void);
bool netset_add(struct netset *set, const struct net *n); /* false: out of memory */
void netset_seal(struct netset *set); /* sort and merge; call before asking */
bool netset_contains(const struct netset *set, const struct addr *a);
void netset_free(struct netset **set);

#endif
