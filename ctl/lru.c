/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lru.c - see lru.h. Places are numbered from 1; 0 ends a list.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "lru.h"

struct lru {
	size_t element;
	uint32_t places, used; /* used: places that were ever given out */
	uint32_t free; /* list of those that came back */
	uint32_t oldest, newest;
	uint32_t serial;
	uint32_t mask; /* of heads */
	uint32_t *heads;
	char *memory;
	lru_forget_fn *forget;
	void *ctx;
};

static void *
map(size_t bytes)
{
	void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return p != MAP_FAILED ? p : NULL;
}

static struct lru_link *
at(const struct lru *l, uint32_t place)
{
	return (struct lru_link *)(void *)(l->memory + (size_t)place * l->element);
}

static uint32_t
place_of(const struct lru *l, const void *element)
{
	return (uint32_t)((size_t)((const char *)element - l->memory) / l->element);
}

struct lru *
lru_new(size_t element, uint32_t places, lru_forget_fn *forget, void *ctx)
{
	struct lru *l = calloc(1, sizeof *l);
	uint32_t heads = 1;

	if (l == NULL)
		return NULL;
	while (heads < places)
		heads *= 2;
	l->element = (element + 15) / 16 * 16;
	l->places = places;
	l->mask = heads - 1;
	l->forget = forget;
	l->ctx = ctx;
	l->heads = map(heads * sizeof *l->heads);
	l->memory = map(((size_t)places + 1) * l->element);
	if (l->heads == NULL || l->memory == NULL)
		lru_delete(&l);
	return l;
}

void
lru_delete(struct lru **l)
{
	if (*l == NULL)
		return;
	if ((*l)->heads != NULL)
		munmap((*l)->heads, ((size_t)(*l)->mask + 1) * sizeof *(*l)->heads);
	if ((*l)->memory != NULL)
		munmap((*l)->memory, ((size_t)(*l)->places + 1) * (*l)->element);
	free(*l);
	*l = NULL;
}

/* --- the order of use ---------------------------------------------------------------------------- */

static void
unlink_used(struct lru *l, struct lru_link *k)
{
	if (k->older != 0)
		at(l, k->older)->newer = k->newer;
	else
		l->oldest = k->newer;
	if (k->newer != 0)
		at(l, k->newer)->older = k->older;
	else
		l->newest = k->older;
}

static void
link_newest(struct lru *l, struct lru_link *k)
{
	uint32_t place = place_of(l, k);

	k->older = l->newest;
	k->newer = 0;
	if (l->newest != 0)
		at(l, l->newest)->newer = place;
	else
		l->oldest = place;
	l->newest = place;
}

/* --- keys ------------------------------------------------------------------------------------------ */

static uint32_t *
head_of(const struct lru *l, uint64_t key)
{
	return &l->heads[(uint32_t)key & l->mask];
}

void *
lru_find(struct lru *l, uint64_t key)
{
	for (uint32_t i = *head_of(l, key); i != 0; i = at(l, i)->next) {
		struct lru_link *k = at(l, i);

		if (k->key != key)
			continue;
		if (l->newest != i) {
			unlink_used(l, k);
			link_newest(l, k);
		}
		return k;
	}
	return NULL;
}

void
lru_unkey(struct lru *l, void *element)
{
	struct lru_link *k = element;
	uint32_t place = place_of(l, k), *i = head_of(l, k->key);

	if (!k->keyed)
		return;
	while (*i != place)
		i = &at(l, *i)->next;
	*i = k->next;
	k->keyed = false;
}

/* --- places ---------------------------------------------------------------------------------------- */

void
lru_free(struct lru *l, void *element)
{
	struct lru_link *k = element;

	lru_unkey(l, k);
	unlink_used(l, k);
	k->serial = 0;
	k->next = l->free;
	l->free = place_of(l, k);
}

/* Those that came back first, so that memory is touched only as far as it was ever needed. */
static uint32_t
take_place(struct lru *l)
{
	uint32_t place;

	if (lru_full(l)) {
		if (l->forget != NULL)
			l->forget(l->ctx, at(l, l->oldest));
		lru_free(l, at(l, l->oldest));
	}
	place = l->free;
	if (place == 0)
		return ++l->used;
	l->free = at(l, place)->next;
	return place;
}

void *
lru_add(struct lru *l, uint64_t key)
{
	uint32_t place = take_place(l), *head = head_of(l, key);
	struct lru_link *k = at(l, place);

	memset(k, 0, l->element);
	k->key = key;
	if (++l->serial == 0)
		l->serial = 1;
	k->serial = l->serial;
	k->keyed = true;
	k->next = *head;
	*head = place;
	link_newest(l, k);
	return k;
}

struct lru_ref
lru_ref_of(const struct lru *l, const void *element)
{
	const struct lru_link *k = element;

	return (struct lru_ref){.place = place_of(l, k), .serial = k->serial};
}

void *
lru_at(struct lru *l, struct lru_ref ref)
{
	struct lru_link *k;

	if (ref.serial == 0 || ref.place == 0 || ref.place > l->used)
		return NULL;
	k = at(l, ref.place);
	return k->serial == ref.serial ? k : NULL;
}

void *
lru_oldest(struct lru *l)
{
	return l->oldest != 0 ? at(l, l->oldest) : NULL;
}

void *
lru_newer(struct lru *l, const void *element)
{
	const struct lru_link *k = element;

	return k->newer != 0 ? at(l, k->newer) : NULL;
}

bool
lru_full(const struct lru *l)
{
	return l->free == 0 && l->used == l->places;
}
