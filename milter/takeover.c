/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * takeover.c - see takeover.h.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "privileges.h"
#include "socket.h"
#include "takeover.h"

unsigned
takeover_workers(const struct conf *c)
{
	long cores = sysconf(_SC_NPROCESSORS_ONLN);

	if (c->workers != 0)
		return c->workers;
	if (cores < 2)
		return 2;
	return cores < CONF_WORKERS_MAX ? (unsigned)cores : CONF_WORKERS_MAX;
}

static bool
refuse(char *err, size_t errlen, const char *why)
{
	snprintf(err, errlen, "%s", why);
	return false;
}

/* What only a start as root can do, or what is tied to the process that goes on. */
static bool
unchangeable(const struct conf *c, const struct handover *h, char *err, size_t errlen)
{
	struct identity id;

	if (!privileges_find(c->user, &id, err, errlen))
		return true;
	if (!privileges_are(&id)) {
		refuse(err, errlen, "user cannot be changed by a reload: restart weir-milter");
		return true;
	}
	if (strcmp(c->pid_file, h->pid_file) != 0) {
		refuse(err, errlen, "pid-file cannot be changed by a reload: restart weir-milter");
		return true;
	}
	return false;
}

/* Those of before live on beside the new ones, each with a place in the zone. */
static bool
room(const struct conf *c, const struct handover *h, char *err, size_t errlen)
{
	if (h->nchildren + takeover_workers(c) <= ZONE_WORKERS_MAX)
		return true;
	snprintf(err, errlen,
	    "%u workers of before are still there, as their last sessions have not ended: try "
	    "again later",
	    h->nchildren);
	return false;
}

static bool
take_zone(
    struct takeover *t, const struct conf *c, const struct handover *h, char *err, size_t errlen)
{
	char mark[CONF_STORE_MARK_MAX];
	struct zone *z = zone_attach(h->zone_fd);

	conf_store_mark(c, mark);
	t->new_zone = z == NULL || zone_size(z) != c->zone_size || strcmp(mark, h->store) != 0;
	zone_free(&z);
	t->zone_fd = h->zone_fd;
	if (t->new_zone)
		t->zone_fd = zone_create(c->zone_size, ZONE_WORKERS_MAX);
	if (t->zone_fd >= 0)
		return true;
	snprintf(err, errlen, "no shared memory of zone-size: %s", strerror(errno));
	return false;
}

static bool
take_socket(
    struct takeover *t, const struct conf *c, const struct handover *h, char *err, size_t errlen)
{
	for (unsigned i = 0; i < h->nsockets; i++)
		if (socket_is(h->sockets[i], &c->socket)) {
			t->listen_fd = h->sockets[i];
			return true;
		}
	if (h->nsockets == HANDOVER_SOCKETS_MAX)
		return refuse(err, errlen,
		    "the sockets of the reloads before are still in use: try again later");
	t->new_socket = true;
	t->listen_fd =
	    socket_open(&c->socket, c->socket_owner, c->socket_group, c->socket_mode, err, errlen);
	return t->listen_fd >= 0;
}

bool
takeover_prepare(
    struct takeover *t, const struct conf *c, const struct handover *h, char *err, size_t errlen)
{
	memset(t, 0, sizeof *t);
	if (unchangeable(c, h, err, errlen) || !room(c, h, err, errlen) ||
	    !take_zone(t, c, h, err, errlen))
		return false;
	if (take_socket(t, c, h, err, errlen))
		return true;
	if (t->new_zone)
		close(t->zone_fd);
	return false;
}

void
takeover_undo(const struct takeover *t, const struct conf *c)
{
	if (t->new_zone)
		close(t->zone_fd);
	if (!t->new_socket)
		return;
	socket_remove(&c->socket);
	close(t->listen_fd);
}
