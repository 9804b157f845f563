/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach.h - weirctl attach: what the two MTAs have in common.
 */
#ifndef WEIR_CTL_ATTACH_H
#define WEIR_CTL_ATTACH_H

#include "ctl.h"

struct attach {
	struct ctl *c;
	const char *dir; /* of the MTA's configuration */
	bool apply, undo;
};

/* What there is to change, or was changed: {"mta", "directory", "diff", "why", "then"}; applied is
 * added. NULL "diff": nothing. Both end the program with one sentence if it cannot be done. */
json_t *attach_postfix(const struct attach *a);
json_t *attach_sendmail(const struct attach *a);

/* Beside the file, once: FILE.before-weir. */
void attach_backup(const char *path);
/* All of a file, or NULL with errno; malloced. */
char *attach_read(const char *path);
/* In place of what is there, with its owner and mode, in one step. */
void attach_write(const char *path, const char *text);

#endif
