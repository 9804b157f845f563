/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_attach.c - weirctl attach: shows the change that has an MTA ask weir, makes it, undoes it.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "attach.h"

#define FILE_MAX (4 << 20)

char *
attach_read(const char *path)
{
	FILE *f = fopen(path, "re");
	char *text;
	size_t n;

	if (f == NULL)
		return NULL;
	text = malloc(FILE_MAX + 1);
	if (text == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	n = fread(text, 1, FILE_MAX, f);
	text[n] = '\0';
	fclose(f);
	if (n == FILE_MAX || strlen(text) != n)
		ctl_die(CTL_REFUSED, "%s is no configuration file", path);
	return text;
}

void
attach_write(const char *path, const char *text)
{
	char other[1200];
	struct stat st;
	bool good;
	FILE *f;
	int fd;

	snprintf(other, sizeof other, "%s.XXXXXX", path);
	fd = mkostemp(other, O_CLOEXEC);
	f = fd >= 0 ? fdopen(fd, "w") : NULL;
	if (f == NULL)
		ctl_die(CTL_REFUSED, "%s: %s", other, strerror(errno));
	good = stat(path, &st) != 0 ||
	    (fchmod(fd, st.st_mode & 07777) == 0 && fchown(fd, st.st_uid, st.st_gid) == 0);
	good = fputs(text, f) >= 0 && fflush(f) == 0 && fsync(fd) == 0 && good;
	if (fclose(f) != 0 || !good || rename(other, path) != 0) {
		int error = errno;

		unlink(other);
		ctl_die(CTL_REFUSED, "%s: %s", path, strerror(error));
	}
}

void
attach_backup(const char *path)
{
	char other[1200], *text;
	struct stat st;

	snprintf(other, sizeof other, "%s.before-weir", path);
	if (access(other, F_OK) == 0)
		return;
	text = attach_read(path);
	if (text == NULL)
		ctl_die(CTL_REFUSED, "%s: %s", path, strerror(errno));
	attach_write(other, text);
	/* as closed as the file itself */
	if (stat(path, &st) == 0)
		(void)chmod(other, st.st_mode & 07777);
	free(text);
}

static void
print_change(const struct ctl *c, const json_t *r)
{
	const char *diff = out_text(r, "diff"), *verb = out_text(r, "done");
	char line[512], safe[512];

	if (diff[0] == '\0') {
		out_text_lines(c, "", out_text(r, "why"));
		return;
	}
	for (const char *p = diff; *p != '\0'; p += strcspn(p, "\n"), p += *p == '\n') {
		snprintf(line, sizeof line, "%.*s", (int)strcspn(p, "\n"), p);
		out_colour(c, *p == '+' ? GREEN : *p == '-' ? RED : PLAIN);
		printf("%s", out_safe(line, sizeof safe - 1, safe, sizeof safe));
		out_colour(c, PLAIN);
		putchar('\n');
	}
	putchar('\n');
	out_text_lines(c, "", out_text(r, "why"));
	if (verb[0] != '\0')
		printf("%s; now: %s\n", verb, out_text(r, "then"));
	else
		printf("nothing is changed yet: weirctl attach %s --apply, then %s\n",
		    out_text(r, "mta"), out_text(r, "then"));
}

int
cmd_attach(struct ctl *c, int argc, char **argv)
{
	struct attach a = {.c = c};
	const char *mta = argc > 1 ? argv[1] : "";
	bool postfix = strcmp(mta, "postfix") == 0;
	json_t *result;

	if (!postfix && strcmp(mta, "sendmail") != 0)
		return CTL_USAGE;
	a.dir = postfix ? "/etc/postfix" : "/etc/mail";
	for (int i = 2; i < argc; i++)
		if (strcmp(argv[i], "--apply") == 0)
			a.apply = true;
		else if (strcmp(argv[i], "--undo") == 0)
			a.undo = true;
		else if (strcmp(argv[i], "-C") == 0 && i + 1 < argc)
			a.dir = argv[++i];
		else
			return CTL_USAGE;
	if (a.apply && a.undo)
		return CTL_USAGE;
	if (strlen(a.dir) > 500)
		ctl_die(CTL_USAGE, "-C: too long for a directory");
	result = postfix ? attach_postfix(&a) : attach_sendmail(&a);
	json_object_set_new(result, "mta", json_string(mta));
	json_object_set_new(result, "directory", json_string(a.dir));
	if (out_text(result, "diff")[0] != '\0' && (a.apply || a.undo))
		json_object_set_new(result, "done", json_string(a.apply ? "applied" : "undone"));
	out_result(c, result, print_change);
	return CTL_DONE;
}
