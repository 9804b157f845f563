/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mta_sendmail.c - see mta_sendmail.h.
 */
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "weir/units.h"
#include "mta_sendmail.h"

/* sendmail(8): what holds when T= does not say. */
#define DEFAULT_CONNECT "5m"
#define DEFAULT_REPLY "10s"
#define DEFAULT_END "5m"

/* The value of an equate such as S=... in the text of an X line, up to the next comma. */
static bool
equate(const char *text, char letter, char *out, size_t outlen)
{
	for (const char *p = text; *p != '\0'; p += strcspn(p, ","), p += *p == ',') {
		p += strspn(p, " \t");
		if (*p == letter && p[1 + strspn(p + 1, " \t")] == '=') {
			p = strchr(p, '=') + 1;
			p += strspn(p, " \t");
			snprintf(out, outlen, "%.*s", (int)strcspn(p, ", \t\r\n"), p);
			return true;
		}
	}
	if (outlen > 0)
		out[0] = '\0';
	return false;
}

/* T=C:5s;S:5s;R:8s;E:30s */
static void
read_timeout(const char *times, char letter, const char *otherwise, int64_t *out)
{
	char text[32];
	const char *found = times;

	while (found != NULL && !(found[0] == letter && found[1] == ':'))
		found = strchr(found, ';') != NULL ? strchr(found, ';') + 1 : NULL;
	snprintf(text, sizeof text, "%.*s", found != NULL ? (int)strcspn(found + 2, ";") : 31,
	    found != NULL ? found + 2 : otherwise);
	if (!units_duration(text, out))
		*out = 0;
}

static bool
is_ours(const char *text, const struct conf *conf)
{
	const struct sockaddr_un *own = (const struct sockaddr_un *)&conf->socket.addr;
	const struct sockaddr_in *a = (const struct sockaddr_in *)&conf->socket.addr;
	struct socket_spec spec;
	char err[256];

	if (!socket_parse(text, &spec, err, sizeof err))
		return false;
	if (spec.addr.ss_family == AF_UNIX || conf->socket.addr.ss_family == AF_UNIX)
		return spec.addr.ss_family == conf->socket.addr.ss_family &&
		    strcmp(((const struct sockaddr_un *)&spec.addr)->sun_path, own->sun_path) == 0;
	/* the port stands at the same place in both families */
	return ((const struct sockaddr_in *)&spec.addr)->sin_port == a->sin_port;
}

/* Xweir, S=local:/run/weir/milter.sock, T=C:5s;S:5s;R:8s;E:30s */
static void
read_milter(struct sendmail *s, const char *line, const struct conf *conf)
{
	struct sendmail_milter *m = &s->m[s->n];
	char times[128];

	if (s->n == MILTERS_MAX)
		return;
	memset(m, 0, sizeof *m);
	snprintf(m->name, sizeof m->name, "%.*s", (int)strcspn(line, ", \t"), line);
	line += strcspn(line, ",");
	(void)equate(line, 'S', m->ref.socket, sizeof m->ref.socket);
	(void)equate(line, 'F', m->ref.action, sizeof m->ref.action);
	(void)equate(line, 'T', times, sizeof times);
	read_timeout(times, 'C', DEFAULT_CONNECT, &m->ref.connect_us);
	read_timeout(times, 'R', DEFAULT_REPLY, &m->reply_us);
	read_timeout(times, 'E', DEFAULT_END, &m->ref.content_us);
	m->ref.ours = is_ours(m->ref.socket, conf);
	s->n++;
}

bool
sendmail_read(
    struct sendmail *s, const char *dir, const struct conf *conf, char *why, size_t whylen)
{
	char path[MTA_PATH_MAX + 16], line[2048];
	FILE *f;

	memset(s, 0, sizeof *s);
	snprintf(s->dir, sizeof s->dir, "%s", dir);
	snprintf(path, sizeof path, "%s/sendmail.cf", dir);
	f = fopen(path, "re");
	if (f == NULL) {
		snprintf(why, whylen, "%s: %s", path, strerror(errno));
		return false;
	}
	while (fgets(line, sizeof line, f) != NULL) {
		line[strcspn(line, "\r\n")] = '\0';
		if (line[0] == 'X')
			read_milter(s, line + 1, conf);
		else if (strncmp(line, "O InputMailFilters=", 19) == 0)
			snprintf(s->filters, sizeof s->filters, "%.511s", line + 19);
		else if (strncmp(line, "O DaemonPortOptions=", 20) == 0 &&
		    s->ndaemons < MILTERS_MAX)
			snprintf(
			    s->daemons[s->ndaemons++], sizeof s->daemons[0], "%.511s", line + 20);
	}
	fclose(f);
	return true;
}

const struct sendmail_milter *
sendmail_ours(const struct sendmail *s)
{
	for (unsigned i = 0; i < s->n; i++)
		if (s->m[i].ref.ours)
			return &s->m[i];
	return NULL;
}

int
sendmail_place(const char *filters, const char *name)
{
	size_t len = strlen(name);
	int place = 0;

	for (const char *p = filters; *(p += strspn(p, ",; \t")) != '\0'; place++) {
		size_t n = strcspn(p, ",; \t");

		if (n == len && strncmp(p, name, n) == 0)
			return place;
		p += n;
	}
	return -1;
}
