/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * privileges.h - who the program runs as (USER[:GROUP] looked up, compared, become), and what it
 * gives up for good.
 */
#ifndef WEIR_MILTER_PRIVILEGES_H
#define WEIR_MILTER_PRIVILEGES_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "conf.h"

struct identity {
	char name[2 * CONF_NAME_MAX]; /* the user's; "" = whoever we are */
	uid_t uid;
	gid_t gid;
};

/* who: "USER", "USER:GROUP" or "". False: there is no such; err is one sentence. */
bool privileges_find(const char *who, struct identity *out, char *err, size_t errlen);

/* Whether we are that already. */
bool privileges_are(const struct identity *id);

/* Becomes it, for good: with its groups, and with no way back. */
bool privileges_become(const struct identity *id, char *err, size_t errlen);

/*
 * No core dump and no debugger of the same user sees what is in memory: the password of Redis,
 * addresses. Root still can. Call it before anything secret is read, as exec takes it back.
 */
void privileges_hide(void);

/*
 * Once all that needs rights is open. No program that is started from now on has more rights than
 * we have, whatever its owner and mode; no capability is left, unless we are root on purpose.
 */
bool privileges_confine(char *err, size_t errlen);

#endif
