/*
 * privileges.c - see privileges.h.
 */
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "privileges.h"

bool
privileges_find(const char *who, struct identity *out, char *err, size_t errlen)
{
	const struct passwd *pw;
	const struct group *gr;
	char *group;

	snprintf(out->name, sizeof out->name, "%s", who);
	if (out->name[0] == '\0')
		return true;
	group = strchr(out->name, ':');
	if (group != NULL)
		*group++ = '\0';
	pw = getpwnam(out->name);
	if (pw == NULL) {
		snprintf(err, errlen, "user %s does not exist", out->name);
		return false;
	}
	out->uid = pw->pw_uid;
	out->gid = pw->pw_gid;
	if (group == NULL)
		return true;
	gr = getgrnam(group);
	if (gr == NULL) {
		snprintf(err, errlen, "group %s does not exist", group);
		return false;
	}
	out->gid = gr->gr_gid;
	return true;
}

bool
privileges_are(const struct identity *id)
{
	return id->name[0] == '\0' || (geteuid() == id->uid && getegid() == id->gid);
}

bool
privileges_become(const struct identity *id, char *err, size_t errlen)
{
	if (privileges_are(id))
		return true;
	if (initgroups(id->name, id->gid) == 0 && setgid(id->gid) == 0 && setuid(id->uid) == 0)
		return true;
	snprintf(err, errlen, "cannot become %s: %s", id->name, strerror(errno));
	return false;
}
