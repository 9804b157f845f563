/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import.h - lists of other greylisting programs, made into entries of weir's.
 *
 * The readers take the text of a whole file and do no I/O, so that a unit test can be a table.
 * Whatever stands in the file is either an entry or a note: nothing is passed over in silence but
 * comments and what weir does anyway.
 */
#ifndef WEIR_CTL_IMPORT_H
#define WEIR_CTL_IMPORT_H

#include "weir/exceptions.h"

struct import {
	void *ctx;
	/* words: "action=no-greylist", as PREFIX:lists has them */
	void (*entry)(void *ctx, unsigned line, const struct who *who, const char *words);
	/* what could not be made into entries, or not all of it; text may hold any bytes */
	void (*note)(void *ctx, unsigned line, const char *text, const char *why);
};

/* text is written to. */
typedef void import_fn(const struct import *to, char *text);
import_fn import_postgrey_clients, import_postgrey_recipients, import_milter_greylist;

/* --- what they share -------------------------------------------------------------------------- */

#define IMPORT_WHY_MAX LIMIT_ERR_MAX
#define IMPORT_NO_GREYLIST "action=no-greylist"

/* "192.0.2.7", "2001:db8::/32"; host bits are taken off, as those programs do it. */
bool import_net(const char *text, struct who *out);

/* "name:" + a domain, "recipient:@" + a domain and the like. */
bool import_who(const char *prefix, const char *text, struct who *out, char why[IMPORT_WHY_MAX]);

/*
 * A regular expression (without its slashes) that says no more than an entry can: a fixed host
 * name or address, or all that ends in a fixed domain. kind: WHO_NAME, WHO_SENDER, WHO_RECIPIENT.
 * Returns how many entries it takes, 0 = it says something else.
 */
unsigned import_regex(const char *regex, enum who_kind kind, struct who out[2]);

#endif
