/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * handover.c - see handover.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "handover.h"
#include "memfd.h"

#define FIRST_LINE "weir-milter hands over"

/* One line is one value. (What a newline was in then does not compare as the same, and that is
 * a reload refused, not a child taken from a file's name.) */
static void
put_text(FILE *f, const char *word, const char *value)
{
	fprintf(f, "%s ", word);
	for (; *value != '\0'; value++)
		fputc(*value == '\n' ? '?' : *value, f);
	fputc('\n', f);
}

int
handover_write(const struct handover *h)
{
	int fd = memfd_open("weir-handover"), e;
	FILE *f = fd >= 0 ? fdopen(dup(fd), "w") : NULL;
	bool ok;

	if (f == NULL) {
		e = errno;
		if (fd >= 0)
			close(fd);
		errno = e;
		return -1;
	}
	fprintf(f, FIRST_LINE "\nzone %d\nstarted %" PRId64 "\ndrain-ms %" PRId64 "\ndrained %d\n",
	    h->zone_fd, h->started_us, h->drain_ms, h->drained);
	put_text(f, "node", h->node);
	put_text(f, "pid-file", h->pid_file);
	put_text(f, "store", h->store);
	for (unsigned i = 0; i < h->nsockets; i++)
		fprintf(f, "socket %d\n", h->sockets[i]);
	if (h->metrics_fd > 0)
		fprintf(f, "metrics %d\n", h->metrics_fd);
	for (unsigned i = 0; i < h->nchildren; i++) {
		const struct handover_child *c = &h->children[i];

		fprintf(f, "child %d %d %u %d %d %" PRId64 "\n", (int)c->pid, c->control, c->place,
		    c->foreign, c->draining, c->end_ms);
	}
	ok = !ferror(f);
	if (fclose(f) == 0 && ok && lseek(fd, 0, SEEK_SET) == 0)
		return fd;
	e = errno;
	close(fd);
	errno = e;
	return -1;
}

static bool
is_open(int fd)
{
	return fd >= 0 && fcntl(fd, F_GETFD) >= 0;
}

static void
take_text(char *out, size_t outlen, const char *value)
{
	snprintf(out, outlen, "%s", value);
}

static bool
take_child(struct handover *h, const char *value)
{
	struct handover_child *c = &h->children[h->nchildren];
	int pid, foreign, draining;

	if (h->nchildren == ZONE_WORKERS_MAX ||
	    sscanf(value, "%d %d %u %d %d %" SCNd64, &pid, &c->control, &c->place, &foreign,
		&draining, &c->end_ms) != 6 ||
	    pid <= 1 || (c->control != -1 && !is_open(c->control)))
		return false;
	c->pid = pid;
	c->foreign = foreign != 0;
	c->draining = draining != 0;
	h->nchildren++;
	return true;
}

static bool
take_socket(struct handover *h, const char *value)
{
	int fd = atoi(value);

	if (h->nsockets == HANDOVER_SOCKETS_MAX || !is_open(fd))
		return false;
	h->sockets[h->nsockets++] = fd;
	return true;
}

static bool
take_line(struct handover *h, char *line)
{
	char *value = strchr(line, ' ');

	if (value == NULL)
		return true;
	*value++ = '\0';
	if (strcmp(line, "zone") == 0)
		h->zone_fd = atoi(value);
	else if (strcmp(line, "metrics") == 0 && is_open(atoi(value)))
		h->metrics_fd = atoi(value);
	else if (strcmp(line, "started") == 0)
		h->started_us = strtoll(value, NULL, 10);
	else if (strcmp(line, "drain-ms") == 0)
		h->drain_ms = strtoll(value, NULL, 10);
	else if (strcmp(line, "drained") == 0)
		h->drained = atoi(value) != 0;
	else if (strcmp(line, "node") == 0)
		take_text(h->node, sizeof h->node, value);
	else if (strcmp(line, "pid-file") == 0)
		take_text(h->pid_file, sizeof h->pid_file, value);
	else if (strcmp(line, "store") == 0)
		take_text(h->store, sizeof h->store, value);
	else if (strcmp(line, "socket") == 0)
		return take_socket(h, value);
	else if (strcmp(line, "child") == 0)
		return take_child(h, value);
	return true;
}

bool
handover_read(int fd, struct handover *h)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	FILE *f = copy >= 0 ? fdopen(copy, "r") : NULL;
	char *line = NULL;
	size_t room = 0;
	ssize_t len;
	bool ok;

	memset(h, 0, sizeof *h);
	h->zone_fd = -1;
	h->metrics_fd = -1;
	if (f == NULL)
		return false;
	/* the one that tried it out has read it before, and the offset is shared */
	ok = lseek(copy, 0, SEEK_SET) == 0 && getline(&line, &room, f) > 0 &&
	    strcmp(line, FIRST_LINE "\n") == 0;
	while (ok && (len = getline(&line, &room, f)) > 0) {
		line[len - 1] = '\0';
		ok = take_line(h, line);
	}
	free(line);
	fclose(f);
	ok = ok && h->nsockets > 0 && is_open(h->zone_fd) && h->node[0] != '\0';
	if (ok)
		handover_keep(h, false);
	return ok;
}

static void
keep_one(int fd, bool keep)
{
	if (fd >= 0)
		(void)fcntl(fd, F_SETFD, keep ? 0 : FD_CLOEXEC);
}

void
handover_keep(const struct handover *h, bool keep)
{
	for (unsigned i = 0; i < h->nsockets; i++)
		keep_one(h->sockets[i], keep);
	keep_one(h->zone_fd, keep);
	if (h->metrics_fd > 0)
		keep_one(h->metrics_fd, keep);
	for (unsigned i = 0; i < h->nchildren; i++)
		keep_one(h->children[i].control, keep);
}
