/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * topology.c - see topology.h.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "topology.h"

struct node {
	struct target *target;
	_Atomic unsigned breaker;
	_Atomic bool serves;
};

struct topology {
	enum redis_kind kind;
	const struct tls *tls;
	struct zone *zone;
	pthread_mutex_t lock; /* of all changes */
	atomic_bool known;
	_Atomic unsigned n; /* grows after the node is complete */
	struct node nodes[NODES_MAX];
	_Atomic uint8_t slots[SLOTS];
};

struct topology *
topology_new(const struct redis_options *o, const struct tls *tls, struct zone *z, int64_t wait_us)
{
	struct topology *t = calloc(1, sizeof *t);

	if (t == NULL)
		return NULL;
	t->kind = o->kind;
	t->tls = tls;
	t->zone = z;
	pthread_mutex_init(&t->lock, NULL);
	if (o->kind == REDIS_CLUSTER) {
		for (unsigned i = 0; i < SLOTS; i++)
			atomic_init(&t->slots[i], NODE_NONE);
		return t;
	}
	t->nodes[0].target = o->kind == REDIS_ALONE ? target_new(o->host, o->port, tls, wait_us)
						    : target_new("", REDIS_PORT, tls, 0);
	if (t->nodes[0].target == NULL) {
		topology_free(&t);
		return NULL;
	}
	t->nodes[0].serves = true;
	t->known = o->kind == REDIS_ALONE;
	t->n = 1;
	return t;
}

void
topology_free(struct topology **t)
{
	if (*t == NULL)
		return;
	for (unsigned i = 0; i < NODES_MAX; i++)
		target_free(&(*t)->nodes[i].target);
	pthread_mutex_destroy(&(*t)->lock);
	free(*t);
	*t = NULL;
}

unsigned
topology_slot(const struct topology *t, unsigned slot)
{
	if (t->kind != REDIS_CLUSTER)
		return 0;
	return atomic_load_explicit(&t->slots[slot], memory_order_acquire);
}

unsigned
topology_nodes(const struct topology *t)
{
	return t->n;
}

bool
topology_serves(const struct topology *t, unsigned node)
{
	return node < t->n && t->nodes[node].serves;
}

struct target *
topology_target(const struct topology *t, unsigned node)
{
	return t->nodes[node].target;
}

unsigned
topology_breaker(const struct topology *t, unsigned node)
{
	return node == NODE_NONE ? 0 : t->nodes[node].breaker;
}

bool
topology_known(const struct topology *t)
{
	return t->known;
}

/* Locked. One that serves nothing; NODE_NONE: all do. */
static unsigned
idle_node(const struct topology *t)
{
	for (unsigned i = 0; i < t->n; i++)
		if (!t->nodes[i].serves)
			return i;
	return NODE_NONE;
}

/* Locked. */
static unsigned
find(struct topology *t, const struct redis_place *p)
{
	char name[REDIS_PLACE_TEXT_MAX];
	unsigned i;

	for (i = 0; i < t->n; i++)
		if (target_is(t->nodes[i].target, p->host, p->port))
			return i;
	redis_place_text(p->host, p->port, name);
	if (i < NODES_MAX) {
		t->nodes[i].target = target_new(p->host, p->port, t->tls, 0);
		if (t->nodes[i].target == NULL)
			return NODE_NONE;
	} else {
		i = idle_node(t);
		if (i == NODE_NONE)
			return i;
		target_set(t->nodes[i].target, p->host, p->port);
	}
	t->nodes[i].breaker = zone_breaker_of(t->zone, name);
	if (i == t->n)
		t->n = i + 1;
	return i;
}

unsigned
topology_find(struct topology *t, const struct redis_place *p)
{
	unsigned node;

	pthread_mutex_lock(&t->lock);
	node = find(t, p);
	pthread_mutex_unlock(&t->lock);
	return node;
}

void
topology_moved(struct topology *t, unsigned slot, unsigned node)
{
	pthread_mutex_lock(&t->lock);
	t->nodes[node].serves = true;
	atomic_store_explicit(&t->slots[slot], (uint8_t)node, memory_order_release);
	pthread_mutex_unlock(&t->lock);
}

void
topology_found(struct topology *t, const struct redis_place *p)
{
	if (!target_is(t->nodes[0].target, p->host, p->port))
		target_set(t->nodes[0].target, p->host, p->port);
	t->known = true;
}

void
topology_apply(struct topology *t, const struct slot_map *m)
{
	uint8_t number[NODES_MAX];
	bool serves[NODES_MAX] = {false};

	pthread_mutex_lock(&t->lock);
	/* first those that are here already: a newcomer may take the place of who serves nothing */
	for (unsigned i = 0; i < m->n; i++) {
		number[i] = NODE_NONE;
		for (unsigned k = 0; k < t->n; k++)
			if (target_is(t->nodes[k].target, m->nodes[i].host, m->nodes[i].port)) {
				number[i] = (uint8_t)k;
				serves[k] = true;
			}
	}
	for (unsigned k = 0; k < t->n; k++)
		t->nodes[k].serves = serves[k];
	for (unsigned i = 0; i < m->n; i++) {
		if (number[i] == NODE_NONE)
			number[i] = (uint8_t)find(t, &m->nodes[i]);
		if (number[i] != NODE_NONE)
			t->nodes[number[i]].serves = true;
	}
	for (unsigned i = 0; i < SLOTS; i++)
		atomic_store_explicit(&t->slots[i],
		    m->node[i] == NODE_NONE ? NODE_NONE : number[m->node[i]], memory_order_release);
	t->known = true;
	pthread_mutex_unlock(&t->lock);
}
