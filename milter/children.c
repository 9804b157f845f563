/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * children.c - see children.h.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <syslog.h>
#include <unistd.h>

#include "children.h"
#include "log.h"

/* Who was told to end at once has so long. */
#define CUT_MS 1500
/* A worker that dies young is started again after 100 ms, 200 ms, ... up to 30 s. */
#define BACKOFF_FIRST_MS 100
#define BACKOFF_MAX_MS 30000
#define YOUNG_MS 10000

void
children_init(struct children *all, unsigned own, const struct handover *h)
{
	bool taken[ZONE_WORKERS_MAX] = {false};
	unsigned old = h != NULL ? h->nchildren : 0, place = 0;

	memset(all, 0, sizeof *all);
	if (own + old > ZONE_WORKERS_MAX) /* the trial has seen to that */
		own = ZONE_WORKERS_MAX - old;
	all->own = own;
	all->n = own + old;
	for (unsigned i = 0; i < old; i++) {
		const struct handover_child *from = &h->children[i];

		all->child[own + i] = (struct child){.pid = from->pid,
		    .control = from->control,
		    .place = from->place,
		    .foreign = from->foreign,
		    .ready = true,
		    .draining = from->draining,
		    .deaf = from->draining && from->control >= 0,
		    .end_ms = from->end_ms};
		if (!from->foreign && from->place < ZONE_WORKERS_MAX)
			taken[from->place] = true;
	}
	for (unsigned i = 0; i < own; i++) {
		while (taken[place])
			place++;
		all->child[i] = (struct child){.control = -1, .place = place++};
	}
}

unsigned
children_running(const struct children *all)
{
	unsigned n = 0;

	for (unsigned i = 0; i < all->n; i++)
		n += all->child[i].pid != 0;
	return n;
}

bool
children_ready(const struct children *all)
{
	for (unsigned i = 0; i < all->own; i++)
		if (all->child[i].pid == 0 || !all->child[i].ready)
			return false;
	return all->own > 0;
}

bool
children_old_serve(const struct children *all)
{
	for (unsigned i = all->own; i < all->n; i++)
		if (all->child[i].pid != 0 && !all->child[i].deaf)
			return true;
	return false;
}

void
children_tell(const struct children *all, struct watch_workers *out)
{
	out->wanted = all->own;
	out->ready = out->before = 0;
	out->serving = false;
	for (unsigned i = 0; i < all->n; i++) {
		const struct child *c = &all->child[i];
		bool serves = c->pid != 0 && c->ready && !c->draining;

		out->serving = out->serving || serves;
		if (i < all->own)
			out->ready += serves;
		else
			out->before += c->pid != 0;
	}
}

struct child *
children_find(struct children *all, pid_t pid)
{
	for (unsigned i = 0; i < all->n; i++)
		if (all->child[i].pid == pid)
			return &all->child[i];
	return NULL;
}

void
child_drain(struct child *c, char word, int64_t end_ms)
{
	if (c->pid == 0 || c->control < 0)
		return;
	/* one that is gone is reaped soon; one that does not read has its time limited */
	if (write(c->control, &word, 1) < 0 && errno != EPIPE)
		log_line(
		    LOG_ERR, "worker (pid %d) cannot be told: %s", (int)c->pid, strerror(errno));
	if (!c->draining || end_ms < c->end_ms)
		c->end_ms = end_ms;
	c->draining = true;
}

void
child_cut(struct child *c, int64_t now_ms)
{
	if (c->pid == 0 || c->control < 0)
		return;
	close(c->control);
	c->control = -1;
	c->draining = true;
	c->deaf = false; /* only its end will show it */
	c->end_ms = now_ms + CUT_MS;
}

void
children_expire(struct children *all, int64_t now_ms)
{
	for (unsigned i = 0; i < all->n; i++) {
		struct child *c = &all->child[i];

		if (c->pid == 0 || !c->draining || now_ms < c->end_ms)
			continue;
		if (c->control < 0) {
			kill(c->pid, SIGKILL);
			continue;
		}
		log_line(LOG_NOTICE, "worker (pid %d): drain-timeout: its last sessions are cut",
		    (int)c->pid);
		child_cut(c, now_ms);
	}
}

void
children_gone(struct children *all, struct child *c, int64_t now_ms)
{
	if (c->control >= 0)
		close(c->control);
	if ((unsigned)(c - all->child) >= all->own) {
		*c = all->child[--all->n];
		return;
	}
	if (now_ms - c->started_ms >= YOUNG_MS)
		c->backoff_ms = 0;
	*c = (struct child){.control = -1,
	    .place = c->place,
	    .restart_ms = now_ms + c->backoff_ms,
	    .backoff_ms = c->backoff_ms == 0	      ? BACKOFF_FIRST_MS
		: c->backoff_ms >= BACKOFF_MAX_MS / 2 ? BACKOFF_MAX_MS
						      : 2 * c->backoff_ms};
}

void
children_hand_over(const struct children *all, struct handover *h)
{
	h->nchildren = 0;
	for (unsigned i = 0; i < all->n; i++) {
		const struct child *c = &all->child[i];

		if (c->pid != 0)
			h->children[h->nchildren++] = (struct handover_child){.pid = c->pid,
			    .control = c->control,
			    .place = c->place,
			    .foreign = c->foreign,
			    .draining = c->draining,
			    .end_ms = c->end_ms};
	}
}
