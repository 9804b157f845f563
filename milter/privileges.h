/*
 * privileges.h - who the program runs as: USER[:GROUP] looked up, compared, become.
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

/* Becomes it, for good. */
bool privileges_become(const struct identity *id, char *err, size_t errlen);

#endif
