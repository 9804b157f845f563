/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mta_sendmail.h - the milters that a sendmail.cf names.
 */
#ifndef WEIR_CTL_MTA_SENDMAIL_H
#define WEIR_CTL_MTA_SENDMAIL_H

#include "mta_postfix.h"

/* An X line. */
struct sendmail_milter {
	char name[64];
	struct milter_ref ref; /* action: the letter behind F=, "" = none; content_us: E */
	int64_t reply_us; /* R */
};

struct sendmail {
	char dir[MTA_PATH_MAX];
	unsigned n;
	struct sendmail_milter m[MILTERS_MAX];
	char filters[512]; /* O InputMailFilters: names, in their order */
	unsigned ndaemons;
	char daemons[MILTERS_MAX][512]; /* O DaemonPortOptions */
};

/* DIR/sendmail.cf. False: why is a sentence. */
bool sendmail_read(
    struct sendmail *s, const char *dir, const struct conf *conf, char *why, size_t whylen);
/* Ours, or NULL. */
const struct sendmail_milter *sendmail_ours(const struct sendmail *s);
/* The place of that name in a list of names, from 0; -1 = it is not there. */
int sendmail_place(const char *filters, const char *name);

#endif
