/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * host.c - see host.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "host.h"

#define TEXT_MAX 512
#define PATH_SIZE 256

/* The file's beginning as a string. */
static bool
read_file(const char *path, char text[TEXT_MAX], char *why, size_t whylen)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? read(fd, text, TEXT_MAX - 1) : -1;
	int e = errno;

	if (fd >= 0)
		close(fd);
	if (n < 0) {
		snprintf(why, whylen, "%s: %s", path, strerror(e));
		return false;
	}
	text[n] = '\0';
	return true;
}

static bool
odd(const char *path, char *why, size_t whylen)
{
	snprintf(why, whylen, "%s: not what Linux writes there", path);
	return false;
}

bool
host_running(const char *proc, int64_t *out, char *why, size_t whylen)
{
	char path[PATH_SIZE], text[TEXT_MAX];
	unsigned running;

	/* not the averages: the shortest is one of a minute */
	snprintf(path, sizeof path, "%s/loadavg", proc);
	if (!read_file(path, text, why, whylen))
		return false;
	if (sscanf(text, "%*s %*s %*s %u/", &running) != 1)
		return odd(path, why, whylen);
	*out = running > 0 ? running - 1 : 0;
	return true;
}

bool
host_stalled(const char *proc, enum host_resource r, int64_t *out, char *why, size_t whylen)
{
	static const char *const files[] = {
	    [HOST_CPU] = "cpu",
	    [HOST_MEMORY] = "memory",
	    [HOST_IO] = "io",
	};
	char path[PATH_SIZE], text[TEXT_MAX];
	const char *total;

	snprintf(path, sizeof path, "%s/pressure/%s", proc, files[r]);
	if (!read_file(path, text, why, whylen))
		return false;
	/* "some avg10=0.00 avg60=0.00 avg300=0.00 total=0"; its averages are too slow as well */
	total = strncmp(text, "some ", 5) == 0 ? strstr(text, " total=") : NULL;
	if (total == NULL || sscanf(total, " total=%" SCNd64, out) != 1 || *out < 0)
		return odd(path, why, whylen);
	return true;
}
