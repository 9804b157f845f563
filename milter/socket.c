/*
 * socket.c - see socket.h.
 */
#include <errno.h>
#include <grp.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "weir/units.h"
#include "socket.h"

static bool
fail(char *err, size_t errlen, const char *what, const char *text)
{
	snprintf(err, errlen, "%s: \"%s\"", what, text);
	return false;
}

static bool
parse_unix(const char *path, struct socket_spec *out, char *err, size_t errlen)
{
	struct sockaddr_un *sun = (struct sockaddr_un *)&out->addr;

	if (path[0] != '/')
		return fail(err, errlen, "the path of a unix socket must be absolute", path);
	if (strlen(path) >= sizeof sun->sun_path)
		return fail(err, errlen, "the path of a unix socket is at most 107 bytes", path);
	sun->sun_family = AF_UNIX;
	strcpy(sun->sun_path, path);
	out->len = sizeof *sun;
	return true;
}

static bool
resolve(int family, const char *host, const char *port, struct socket_spec *out, char *err,
    size_t errlen)
{
	struct addrinfo hints = {.ai_family = family, .ai_socktype = SOCK_STREAM}, *found;
	int rc = getaddrinfo(host, port, &hints, &found);

	if (rc != 0) {
		snprintf(err, errlen, "host \"%s\": %s", host, gai_strerror(rc));
		return false;
	}
	memcpy(&out->addr, found->ai_addr, found->ai_addrlen);
	out->len = found->ai_addrlen;
	freeaddrinfo(found);
	return true;
}

/* PORT@HOST or HOST:PORT; an address without a host would mean "everywhere", and nobody wants
 * to offer a milter to the world by leaving out a word. */
static bool
parse_inet(int family, const char *text, struct socket_spec *out, char *err, size_t errlen)
{
	const char *at = strchr(text, '@'), *colon = strrchr(text, ':');
	char host[SOCKET_TEXT_MAX], port[SOCKET_TEXT_MAX];
	int64_t number;
	size_t len;

	if (at != NULL) {
		snprintf(port, sizeof port, "%.*s", (int)(at - text), text);
		snprintf(host, sizeof host, "%s", at + 1);
	} else if (colon != NULL) {
		snprintf(host, sizeof host, "%.*s", (int)(colon - text), text);
		snprintf(port, sizeof port, "%s", colon + 1);
	} else
		return fail(err, errlen, "say where to listen, such as inet:8890@127.0.0.1", text);
	len = strlen(host);
	if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
		memmove(host, host + 1, len - 2);
		host[len - 2] = '\0';
	} else if (at == NULL && strchr(host, ':') != NULL)
		return fail(
		    err, errlen, "write an IPv6 address in brackets: inet:[::1]:8890", text);
	if (!units_count(port, &number) || number < 1 || number > 65535)
		return fail(err, errlen, "a port is a number from 1 to 65535", port);
	if (host[0] == '\0')
		return fail(err, errlen, "the host is missing", text);
	return resolve(family, host, port, out, err, errlen);
}

bool
socket_parse(const char *text, struct socket_spec *out, char *err, size_t errlen)
{
	static const struct {
		const char *prefix;
		int family;
	} kinds[] = {
	    {"unix:", AF_UNIX},
	    {"local:", AF_UNIX},
	    {"inet:", AF_UNSPEC},
	    {"inet6:", AF_INET6},
	};

	memset(out, 0, sizeof *out);
	if (strlen(text) >= sizeof out->text)
		return fail(err, errlen, "too long for a socket", "...");
	strcpy(out->text, text);
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
		size_t len = strlen(kinds[i].prefix);

		if (strncmp(text, kinds[i].prefix, len) != 0)
			continue;
		if (kinds[i].family == AF_UNIX)
			return parse_unix(text + len, out, err, errlen);
		return parse_inet(kinds[i].family, text + len, out, err, errlen);
	}
	return fail(
	    err, errlen, "a socket is unix:PATH, inet:PORT@HOST or inet:HOST:PORT, not", text);
}

/* --- opening ------------------------------------------------------------------------------- */

static const char *
unix_path(const struct socket_spec *s)
{
	return s->addr.ss_family == AF_UNIX ? ((const struct sockaddr_un *)&s->addr)->sun_path
					    : NULL;
}

/* Makes room for bind(): true when nothing is in the way (any more). */
static bool
clear_stale(const struct socket_spec *s, char *err, size_t errlen)
{
	const char *path = unix_path(s);
	struct stat st;
	int fd, rc;

	if (lstat(path, &st) != 0)
		return true; /* whatever is wrong, bind() says it better */
	if (!S_ISSOCK(st.st_mode))
		return fail(err, errlen, "exists and is not a socket", path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return fail(err, errlen, strerror(errno), path);
	rc = connect(fd, (const struct sockaddr *)&s->addr, s->len);
	close(fd);
	/* a full backlog (EAGAIN) is somebody alive too */
	if (rc == 0 || errno == EAGAIN)
		return fail(err, errlen, "somebody already listens there", path);
	if (unlink(path) != 0)
		return fail(err, errlen, strerror(errno), path);
	return true;
}

static bool
set_owner(
    const char *path, const char *owner, const char *group, mode_t mode, char *err, size_t errlen)
{
	uid_t uid = (uid_t)-1;
	gid_t gid = (gid_t)-1;

	if (owner[0] != '\0') {
		const struct passwd *pw = getpwnam(owner);

		if (pw == NULL)
			return fail(err, errlen, "socket-owner: no such user", owner);
		uid = pw->pw_uid;
	}
	if (group[0] != '\0') {
		const struct group *gr = getgrnam(group);

		if (gr == NULL)
			return fail(err, errlen, "socket-group: no such group", group);
		gid = gr->gr_gid;
	}
	if (chown(path, uid, gid) != 0 || chmod(path, mode) != 0)
		return fail(err, errlen, strerror(errno), path);
	return true;
}

static bool
bind_and_listen(int fd, const struct socket_spec *s, const char *owner, const char *group,
    mode_t mode, char *err, size_t errlen)
{
	const char *path = unix_path(s);
	int one = 1, rc;
	mode_t old;

	if (path == NULL)
		(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	/* nobody may connect between bind() and chmod() */
	old = umask(0777);
	rc = bind(fd, (const struct sockaddr *)&s->addr, s->len);
	umask(old);
	if (rc != 0)
		return fail(err, errlen, strerror(errno), s->text);
	if ((path != NULL && !set_owner(path, owner, group, mode, err, errlen)) ||
	    (listen(fd, SOMAXCONN) != 0 && !fail(err, errlen, strerror(errno), s->text))) {
		socket_remove(s);
		return false;
	}
	return true;
}

int
socket_open(const struct socket_spec *s, const char *owner, const char *group, mode_t mode,
    char *err, size_t errlen)
{
	int fd;

	if (unix_path(s) != NULL && !clear_stale(s, err, errlen))
		return -1;
	fd = socket(s->addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		fail(err, errlen, strerror(errno), s->text);
		return -1;
	}
	if (!bind_and_listen(fd, s, owner, group, mode, err, errlen)) {
		close(fd);
		return -1;
	}
	return fd;
}

void
socket_remove(const struct socket_spec *s)
{
	const char *path = unix_path(s);

	if (path != NULL)
		(void)unlink(path);
}
