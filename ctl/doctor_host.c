/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor_host.c - weirctl doctor on this host: the configuration, and weir-milter itself.
 */
#include <errno.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "weir/units.h"
#include "doctor.h"
#include "milter_probe.h"

/* A worker has Redis, the zone, the log, pipes, and libmilter's own. */
#define OWN_DESCRIPTORS 64

void
doctor_configuration(struct doctor *d)
{
	if (d->c->conf_trouble[0] == '\0')
		return;
	doctor_say(d, DOCTOR_WRONG,
	    "weir-milter does not start with it, and a reload is refused; all that follows is "
	    "about the built-in settings",
	    "weir-milter -n -c FILE, until it has nothing to say", "%s", d->c->conf_trouble);
}

void
doctor_mode(struct doctor *d)
{
	if (d->c->conf.rules.observe)
		doctor_say(d, DOCTOR_NOTE,
		    "all is decided, counted and logged, and nobody is refused", "mode = enforce",
		    "mode = observe");
	if (!d->c->conf.use_redis)
		doctor_say(d, DOCTOR_NOTE,
		    "this host counts by itself: weirctl cannot change limits, and other hosts do "
		    "not know what happens here",
		    "redis { url = \"redis://127.0.0.1:6379/0\" }", "no Redis is configured");
}

/* A password in the file itself, and the file for all to read. */
void
doctor_secrets(struct doctor *d)
{
	const struct conf *conf = &d->c->conf;
	const char *file = conf->password_file[0] != '\0' ? conf->password_file : d->c->conf_file;
	struct stat st;

	if (conf->redis.password[0] == '\0' || file == NULL || stat(file, &st) != 0 ||
	    (st.st_mode & S_IROTH) == 0)
		return;
	doctor_say(d, DOCTOR_WRONG,
	    "with Redis' password every user of this host can change limits and counters",
	    "chmod o-r, and chgrp to the group that weir-milter runs as",
	    "everybody may read %s, which has Redis' password in it", file);
}

void
doctor_mta(struct doctor *d)
{
	if (d->mta_trouble[0] != '\0')
		doctor_say(d, DOCTOR_WRONG, "what it does with weir cannot be looked at",
		    "weirctl doctor -C DIRECTORY: where its main.cf or sendmail.cf is", "%s",
		    d->mta_trouble);
}

/* Somebody answers as a milter where weir.conf says. */
void
doctor_milter(struct doctor *d)
{
	const struct socket_spec *s = &d->c->conf.socket;
	bool local = s->addr.ss_family == AF_UNIX;
	struct milter_probe p = {.inet = s};
	char why[300];

	if (local)
		p.path = ((const struct sockaddr_un *)&s->addr)->sun_path;
	if (milter_probe(&p, &d->milter, why, sizeof why))
		return;
	if (geteuid() != 0 && strstr(why, strerror(EACCES)) != NULL)
		doctor_say(d, DOCTOR_NOTE, "only root can look at all of it", "sudo weirctl doctor",
		    "%s: %s", s->text, why);
	else
		doctor_say(d, DOCTOR_WRONG,
		    "the MTA goes on without weir, or puts mail off, as it was told to",
		    "start weir-milter; its log says why if it does not stay", "%s: %s", s->text,
		    why);
}

/* --- the process that listens ----------------------------------------------------------------- */

static pid_t
from_pid_file(const struct doctor *d)
{
	long pid = 0;
	FILE *f = d->c->conf.pid_file[0] != '\0' ? fopen(d->c->conf.pid_file, "re") : NULL;

	if (f != NULL) {
		if (fscanf(f, "%ld", &pid) != 1)
			pid = 0;
		fclose(f);
	}
	return (pid_t)pid;
}

static FILE *
open_proc(pid_t pid, const char *name)
{
	char path[64];

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	return fopen(path, "re");
}

/* "Name:  1 2 3", or 0. */
static bool
proc_number(FILE *f, const char *name, unsigned column, long *out)
{
	char line[256];
	size_t len = strlen(name);

	while (fgets(line, sizeof line, f) != NULL) {
		char *p = line + len;

		if (strncmp(line, name, len) != 0)
			continue;
		for (*out = strtol(p, &p, 10); column > 0; column--)
			*out = strtol(p, &p, 10);
		return true;
	}
	return false;
}

static pid_t
milter_pid(const struct doctor *d)
{
	return d->milter != 0 ? d->milter : from_pid_file(d);
}

void
doctor_rights(struct doctor *d)
{
	pid_t pid = milter_pid(d);
	FILE *f = pid != 0 ? open_proc(pid, "status") : NULL;
	long uid = -1;

	if (f == NULL)
		return;
	if (proc_number(f, "Uid:", 1, &uid) && uid == 0)
		doctor_say(d, DOCTOR_WRONG,
		    "whoever finds a hole in it owns the host; it needs root only to open its "
		    "socket",
		    "user = \"weir\"", "weir-milter (pid %d) runs as root", (int)pid);
	fclose(f);
}

/* The most sessions that an MTA opens at once. */
static long
sessions_max(const struct doctor *d)
{
	if (d->postfix != NULL)
		return atol(postfix_get(d->postfix, NULL, "default_process_limit"));
	return 0;
}

void
doctor_descriptors(struct doctor *d)
{
	pid_t pid = milter_pid(d);
	FILE *f = pid != 0 ? open_proc(pid, "limits") : NULL;
	long hard = 0, need = sessions_max(d) + OWN_DESCRIPTORS;

	if (f == NULL)
		return;
	/* weir-milter takes the hard limit by itself */
	if (proc_number(f, "Max open files", 1, &hard) && hard > 0 && hard < need)
		doctor_say(d, DOCTOR_WRONG,
		    "each session needs one, and all of them can come to one worker; without one "
		    "the MTA waits in vain",
		    "LimitNOFILE=65536 in the unit, or `ulimit -Hn 65536` before it starts",
		    "weir-milter may open %ld descriptors, and the MTA can open %ld sessions", hard,
		    need - OWN_DESCRIPTORS);
	fclose(f);
}
