/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * privileges.c - see privileges.h.
 *
 * A system call filter may forbid what there is nothing to do for (systemd's @privileged): so
 * capabilities are looked at before they are dropped.
 */
#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
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

static bool
refuse(char *err, size_t errlen, const char *what, const char *why)
{
	snprintf(err, errlen, "%s: %s", what, why);
	return false;
}

/* While we may: a program with file capabilities could get these otherwise. */
static void
drop_bounding_set(void)
{
	for (unsigned long c = 0; prctl(PR_CAPBSET_READ, c, 0, 0, 0) >= 0; c++)
		(void)prctl(PR_CAPBSET_DROP, c, 0, 0, 0);
}

bool
privileges_become(const struct identity *id, char *err, size_t errlen)
{
	char what[sizeof id->name + 32];

	if (privileges_are(id))
		return true;
	snprintf(what, sizeof what, "cannot become %s", id->name);
	if (id->uid != 0)
		drop_bounding_set();
	if (initgroups(id->name, id->gid) != 0 || setgid(id->gid) != 0 || setuid(id->uid) != 0)
		return refuse(err, errlen, what, strerror(errno));
	if (id->uid != 0 && (setuid(0) == 0 || seteuid(0) == 0))
		return refuse(err, errlen, what, "the way back to root is open");
	return true;
}

void
privileges_hide(void)
{
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
}

static bool
drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct have[_LINUX_CAPABILITY_U32S_3],
	    none[_LINUX_CAPABILITY_U32S_3];

	memset(have, 0, sizeof have);
	memset(none, 0, sizeof none);
	if (syscall(SYS_capget, &head, have) == 0 && memcmp(have, none, sizeof none) == 0)
		return true;
	/* those that exec would hand on go with the inheritable ones */
	return syscall(SYS_capset, &head, none) == 0;
}

bool
privileges_confine(char *err, size_t errlen)
{
	privileges_hide(); /* setuid() lets the host decide anew */
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return refuse(err, errlen, "cannot give up new privileges", strerror(errno));
	if (geteuid() != 0 && !drop_capabilities())
		return refuse(err, errlen, "cannot drop capabilities", strerror(errno));
	return true;
}
