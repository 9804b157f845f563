/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * notify.c - see notify.h. One datagram says all; libsystemd would be a large library for it.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "clock.h"
#include "notify.h"
#include "weir/units.h"

static void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Whether it arrives changes nothing here. */
static void
say(const char *fmt, ...)
{
	const char *path = getenv("NOTIFY_SOCKET");
	struct sockaddr_un to = {.sun_family = AF_UNIX};
	char text[512];
	va_list ap;
	size_t len;
	int fd;

	if (path == NULL || (path[0] != '/' && path[0] != '@') ||
	    (len = strlen(path)) >= sizeof to.sun_path)
		return;
	memcpy(to.sun_path, path, len);
	if (path[0] == '@') /* the abstract name space */
		to.sun_path[0] = '\0';
	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return;
	(void)sendto(fd, text, strlen(text), MSG_NOSIGNAL, (const struct sockaddr *)&to,
	    (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
	close(fd);
}

void
notify_ready(const char *status)
{
	say("READY=1\nSTATUS=%s", status);
}

void
notify_reloading(void)
{
	say("RELOADING=1\nMONOTONIC_USEC=%" PRId64 "\nSTATUS=trying the new configuration",
	    clock_mono_us());
}

void
notify_stopping(int64_t within_ms)
{
	say("STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64 "\nSTATUS=the last sessions may end",
	    within_ms * USEC_PER_MSEC);
}
