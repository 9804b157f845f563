/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * netset.c - a set of networks as disjoint sorted ranges.
 */
#include <stdlib.h>
#include <string.h>

#include "weir/addr.h"

struct range {
	uint8_t family;
	uint8_t first[16], last[16];
};

struct netset {
	size_t n, room;
	struct range *ranges;
};

struct netset *
netset_new(void)
{
	return calloc(1, sizeof(struct netset));
}

static struct range
range_of(const struct net *n)
{
	struct range r = {.family = n->base.family};
	unsigned bytes = n->base.family == ADDR_V4 ? 4 : 16;

	memcpy(r.first, n->base.b, 16);
	memcpy(r.last, n->base.b, 16);
	for (unsigned i = 0; i < bytes; i++) {
		unsigned keep = n->bits > i * 8 ? n->bits - i * 8 : 0;

		if (keep < 8)
			r.last[i] |= (uint8_t)(0xffu >> keep);
	}
	return r;
}

bool
netset_add(struct netset *set, const struct net *n)
{
	if (set->n == set->room) {
		size_t room = set->room != 0 ? set->room * 2 : 16;
		struct range *bigger = realloc(set->ranges, room * sizeof *bigger);

		if (bigger == NULL)
			return false;
		set->ranges = bigger;
		set->room = room;
	}
	set->ranges[set->n++] = range_of(n);
	return true;
}

static int
range_cmp(const void *a, const void *b)
{
	const struct range *x = a, *y = b;
	int c;

	if (x->family != y->family)
		return x->family < y->family ? -1 : 1;
	c = memcmp(x->first, y->first, 16);
	/* of those that start alike the widest first: it holds the others */
	return c != 0 ? c : memcmp(y->last, x->last, 16);
}

void
netset_seal(struct netset *set)
{
	size_t kept = 0;

	if (set->n == 0)
		return;
	qsort(set->ranges, set->n, sizeof *set->ranges, range_cmp);
	/* networks nest or are disjoint, so a range that starts inside the last one adds nothing */
	for (size_t i = 1; i < set->n; i++) {
		const struct range *last = &set->ranges[kept], *r = &set->ranges[i];

		if (r->family == last->family && memcmp(r->first, last->last, 16) <= 0)
			continue;
		set->ranges[++kept] = *r;
	}
	set->n = kept + 1;
}

bool
netset_contains(const struct netset *set, const struct addr *a)
{
	size_t low = 0, high = set->n;

	if (a->family == ADDR_NONE)
		return false;
	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct range *r = &set->ranges[mid];

		if (a->family < r->family ||
		    (a->family == r->family && memcmp(a->b, r->first, 16) < 0))
			high = mid;
		else if (a->family > r->family || memcmp(a->b, r->last, 16) > 0)
			low = mid + 1;
		else
			return true;
	}
	return false;
}

void
netset_free(struct netset **set)
{
	if (*set != NULL)
		free((*set)->ranges);
	free(*set);
	*set = NULL;
}
