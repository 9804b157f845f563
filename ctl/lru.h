/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lru.h - a table of fixed size that forgets what was not used for longest.
 *
 * All memory is mapped at the start and touched as it is needed, so that a log of any length, with
 * any number of clients in it, costs no more than the table. Keys are hashes with a secret
 * (siphash): nobody who writes into a log can aim at a chain.
 *
 * Elements are the caller's structs; a struct lru_link has to be their first member.
 */
#ifndef WEIR_CTL_LRU_H
#define WEIR_CTL_LRU_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct lru_link {
	uint64_t key;
	uint32_t serial; /* changes when the place is given to another; 0 = free */
	uint32_t next; /* in the chain of its hash, or of free places */
	uint32_t older, newer;
	bool keyed; /* can be found by its key */
};

/* Names an element for later; it may have been forgotten by then. Zero names none. */
struct lru_ref {
	uint32_t place, serial;
};

struct lru;

/* Called before an element is forgotten for another's sake. Must not touch the table. */
typedef void lru_forget_fn(void *ctx, void *element);

/* NULL: out of memory. */
struct lru *lru_new(size_t element, uint32_t places, lru_forget_fn *forget, void *ctx);
void lru_delete(struct lru **l);

/* NULL when it is not there; else it is now the newest. */
void *lru_find(struct lru *l, uint64_t key);
/* A new one, zero but for its link; the oldest goes if there is no room. */
void *lru_add(struct lru *l, uint64_t key);
/* It cannot be found by its key any more, and is still there. */
void lru_unkey(struct lru *l, void *element);
void lru_free(struct lru *l, void *element);

struct lru_ref lru_ref_of(const struct lru *l, const void *element);
/* NULL when it has been freed or forgotten. */
void *lru_at(struct lru *l, struct lru_ref ref);

/* The elements, oldest first: lru_oldest(), then lru_newer(); NULL at the end. */
void *lru_oldest(struct lru *l);
void *lru_newer(struct lru *l, const void *element);

/* Whether the next lru_add() has to forget one. */
bool lru_full(const struct lru *l);

#endif
