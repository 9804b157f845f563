/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mta_postfix.c - see mta_postfix.h. postconf does the reading: it knows defaults, $names and
 * both files better than we ever would.
 */
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "weir/units.h"
#include "mta_postfix.h"
#include "run.h"

/* --- reading ----------------------------------------------------------------------------------- */

/* "NAME = value" lines into an object. */
static json_t *
read_values(char *text)
{
	json_t *values = json_object();
	char *save;

	for (char *line = strtok_r(text, "\n", &save); line != NULL;
	     line = strtok_r(NULL, "\n", &save)) {
		char *eq = strstr(line, " =");

		if (eq == NULL)
			continue;
		*eq = '\0';
		json_object_set_new(values, line, json_string(eq + 2 + strspn(eq + 2, " ")));
	}
	return values;
}

/* The lines of postconf -M: name type private unpriv chroot wakeup maxproc command. */
static void
read_services(struct postfix *p, char *text)
{
	char *save;

	for (char *line = strtok_r(text, "\n", &save); line != NULL && p->n < SERVICES_MAX;
	     line = strtok_r(NULL, "\n", &save)) {
		struct postfix_service *s = &p->services[p->n];
		char name[100], type[12], chrooted[4], command[64];

		if (sscanf(line, "%99s %11s %*s %*s %3s %*s %*s %63s", name, type, chrooted,
			command) != 4 ||
		    strcmp(command, "smtpd") != 0)
			continue;
		snprintf(s->name, sizeof s->name, "%s", name);
		snprintf(s->key, sizeof s->key, "%s/%s", name, type);
		s->chroot = chrooted[0] == 'y';
		p->n++;
	}
}

static bool
postconf(const struct postfix *p, struct run *r, const char *a, const char *b)
{
	const char *argv[] = {"postconf", "-c", p->dir, a, b, NULL};

	return run_program(r, argv);
}

enum { MAIN, OWN, SERVICES, RAW, RAW_OWN, PARTS };

bool
postfix_read(struct postfix *p, const char *dir, char *why, size_t whylen)
{
	static const char *const args[PARTS][2] = {[MAIN] = {"-x", NULL},
	    [OWN] = {"-x", "-P"},
	    [SERVICES] = {"-M", NULL},
	    [RAW] = {"-n", NULL},
	    [RAW_OWN] = {"-P", NULL}};
	struct run r[PARTS];
	bool good = true;

	memset(p, 0, sizeof *p);
	snprintf(p->dir, sizeof p->dir, "%s", dir);
	memset(r, 0, sizeof r);
	for (int i = 0; i < PARTS && good; i++) {
		good = postconf(p, &r[i], args[i][0], args[i][1]);
		if (!good && r[i].status == 127)
			snprintf(why, whylen, "there is no program postconf in PATH");
		else if (!good)
			snprintf(why, whylen, "postconf -c %s: %.200s", dir,
			    r[i].err[0] != '\0' ? r[i].err : "it did not end well");
	}
	if (good) {
		p->warnings = strdup(r[RAW].err);
		p->main = read_values(r[MAIN].out);
		p->own = read_values(r[OWN].out);
		p->raw = read_values(r[RAW].out);
		p->raw_own = read_values(r[RAW_OWN].out);
		read_services(p, r[SERVICES].out);
	}
	for (int i = 0; i < PARTS; i++)
		run_free(&r[i]);
	if (!good)
		why[strcspn(why, "\n")] = '\0';
	return good;
}

void
postfix_free(struct postfix *p)
{
	free(p->warnings);
	json_decref(p->main);
	json_decref(p->own);
	json_decref(p->raw);
	json_decref(p->raw_own);
	memset(p, 0, sizeof *p);
}

static const json_t *
own_value(const struct postfix *p, const struct postfix_service *s, const char *name)
{
	char key[256];

	if (s == NULL)
		return NULL;
	snprintf(key, sizeof key, "%s/%s", s->key, name);
	return json_object_get(p->own, key);
}

bool
postfix_own(const struct postfix *p, const struct postfix_service *s, const char *name)
{
	return own_value(p, s, name) != NULL;
}

const char *
postfix_get(const struct postfix *p, const struct postfix_service *s, const char *name)
{
	const json_t *own = own_value(p, s, name);
	const char *value = json_string_value(own != NULL ? own : json_object_get(p->main, name));

	return value != NULL ? value : "";
}

/* --- milters ----------------------------------------------------------------------------------- */

void
postfix_unix_path(
    const struct postfix *p, bool chrooted, const char *path, char *out, size_t outlen)
{
	/* smtpd's working directory is the queue's, with chroot and without */
	if (path[0] != '/' || chrooted)
		snprintf(out, outlen, "%s/%s", postfix_get(p, NULL, "queue_directory"),
		    path + strspn(path, "/"));
	else
		snprintf(out, outlen, "%s", path);
}

static bool
same_file(const char *a, const char *b)
{
	struct stat sa, sb;

	return strcmp(a, b) == 0 ||
	    (stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev &&
		sa.st_ino == sb.st_ino);
}

static int
port_of(const struct socket_spec *s)
{
	if (s->addr.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)&s->addr)->sin_port);
	if (s->addr.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)&s->addr)->sin6_port);
	return 0;
}

bool
postfix_is_ours(const struct postfix *p, const char *text, const struct conf *conf)
{
	const struct sockaddr_un *own = (const struct sockaddr_un *)&conf->socket.addr;
	struct socket_spec spec;
	char path[2 * MTA_PATH_MAX], err[256];
	bool inet = conf->socket.addr.ss_family != AF_UNIX;

	if (strncmp(text, "unix:", 5) == 0) {
		for (int chrooted = 0; !inet && chrooted < 2; chrooted++) {
			postfix_unix_path(p, chrooted != 0, text + 5, path, sizeof path);
			if (same_file(path, own->sun_path))
				return true;
		}
		return !inet && strcmp(text + 5, own->sun_path) == 0;
	}
	return inet && socket_parse(text, &spec, err, sizeof err) &&
	    port_of(&spec) == port_of(&conf->socket);
}

static void
set_time(int64_t *out, const char *text)
{
	if (!units_duration(text, out))
		*out = 0;
}

static void
set_option(struct milter_ref *m, char *word)
{
	char *eq = strchr(word, '=');
	const char *value;

	if (eq == NULL)
		return;
	*eq = '\0';
	value = eq + 1;
	if (strcmp(word, "default_action") == 0)
		snprintf(m->action, sizeof m->action, "%s", value);
	else if (strcmp(word, "connect_timeout") == 0)
		set_time(&m->connect_us, value);
	else if (strcmp(word, "command_timeout") == 0)
		set_time(&m->command_us, value);
	else if (strcmp(word, "content_timeout") == 0)
		set_time(&m->content_us, value);
	else if (strcmp(word, "protocol") == 0)
		m->protocol = atoi(value);
}

/* "SOCKET", or what stands in braces: "SOCKET, NAME=VALUE, ...". */
static void
add_milter(const struct postfix *p, const struct postfix_service *s, char *text,
    const struct conf *conf, struct milter_list *out)
{
	struct milter_ref *m = &out->m[out->n];
	char *save, *word = strtok_r(text, ", \t", &save);

	if (word == NULL || out->n == MILTERS_MAX)
		return;
	memset(m, 0, sizeof *m);
	snprintf(m->socket, sizeof m->socket, "%s", word);
	snprintf(m->action, sizeof m->action, "%s", postfix_get(p, s, "milter_default_action"));
	set_time(&m->connect_us, postfix_get(p, s, "milter_connect_timeout"));
	set_time(&m->command_us, postfix_get(p, s, "milter_command_timeout"));
	set_time(&m->content_us, postfix_get(p, s, "milter_content_timeout"));
	m->protocol = atoi(postfix_get(p, s, "milter_protocol"));
	while ((word = strtok_r(NULL, ", \t", &save)) != NULL)
		set_option(m, word);
	m->ours = postfix_is_ours(p, m->socket, conf);
	out->n++;
}

char *
milters_next(char **rest)
{
	char *t = *rest, *end;

	if (t == NULL || *(t += strspn(t, ", \t")) == '\0')
		return NULL;
	end = *t == '{' ? strchr(t, '}') : t + strcspn(t, ", \t");
	*rest = end != NULL && *end != '\0' ? end + 1 : NULL;
	if (end != NULL)
		*end = '\0';
	return *t == '{' ? t + 1 : t;
}

void
postfix_milters(const struct postfix *p, const struct postfix_service *s, const char *name,
    const struct conf *conf, struct milter_list *out)
{
	char *text = strdup(postfix_get(p, s, name)), *rest = text;

	out->n = 0;
	for (char *t = milters_next(&rest); t != NULL; t = milters_next(&rest))
		add_milter(p, s, t, conf, out);
	free(text);
}

int
milters_ours(const struct milter_list *l)
{
	for (unsigned i = 0; i < l->n; i++)
		if (l->m[i].ours)
			return (int)i;
	return -1;
}

static bool
filters(const struct postfix *p, const struct postfix_service *s)
{
	return postfix_get(p, s, "content_filter")[0] != '\0' ||
	    postfix_get(p, s, "smtpd_proxy_filter")[0] != '\0';
}

static bool
is_loopback(const char *name)
{
	return strncmp(name, "127.", 4) == 0 || strncmp(name, "[::1]", 5) == 0 ||
	    strncmp(name, "localhost:", 10) == 0;
}

bool
postfix_reinjected(const struct postfix *p, const struct postfix_service *s)
{
	bool filtered = false;

	for (unsigned i = 0; i < p->n; i++)
		filtered = filtered || filters(p, &p->services[i]);
	/* where the filter's mail comes back nothing is filtered again */
	return filtered && !filters(p, s) &&
	    (is_loopback(s->name) || postfix_own(p, s, "content_filter") ||
		postfix_own(p, s, "smtpd_proxy_filter")) &&
	    strstr(postfix_get(p, s, "receive_override_options"), "no_milters") == NULL;
}

bool
postfix_socket_for(
    const struct postfix *p, bool chrooted, const struct conf *conf, char *out, size_t outlen)
{
	const struct sockaddr_un *own = (const struct sockaddr_un *)&conf->socket.addr;
	const char *queue = postfix_get(p, NULL, "queue_directory");
	size_t len = strlen(queue);

	if (conf->socket.addr.ss_family == AF_UNIX) {
		if (strncmp(own->sun_path, queue, len) == 0 && own->sun_path[len] == '/')
			snprintf(out, outlen, "unix:%s", own->sun_path + len + 1);
		else
			snprintf(out, outlen, "unix:%s", own->sun_path);
		return !chrooted || own->sun_path[len] == '/';
	}
	/* Sendmail's way to write it is not Postfix's */
	if (strchr(conf->socket.text, '@') != NULL) {
		const char *at = strchr(conf->socket.text, '@');

		snprintf(out, outlen, "inet:%s:%d", at + 1, port_of(&conf->socket));
	} else
		snprintf(out, outlen, "%s", conf->socket.text);
	return true;
}
