/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * who.h - whom an entry of the lists is about, as people write it.
 *
 *	192.0.2.7  192.0.2.0/24     a client's address or network
 *	user:NAME                   its SASL login
 *	name:DOMAIN                 its forward-confirmed host name: DOMAIN or anything below it
 *	sender:ADDRESS              a mail address; also sender:<>, the null sender
 *	recipient:ADDRESS
 *
 * ADDRESS is ann@example.org, @example.org (that domain), @.example.org (the domains below it) or
 * ann@ (in any domain). Letters are the same in either case, but for a login's.
 */
#ifndef WEIR_WHO_H
#define WEIR_WHO_H

#include "weir/facts.h"

#define USER_MAX 128
/* RFC 1035 2.3.4, as text. */
#define DOMAIN_MAX 253
/* "recipient:" and the NUL. */
#define WHO_TEXT_MAX (MAILBOX_MAX + 11)

enum who_kind { WHO_NET, WHO_USER, WHO_NAME, WHO_SENDER, WHO_RECIPIENT, WHO_KINDS };

struct who {
	enum who_kind kind;
	struct net net; /* WHO_NET */
	char
	    text[MAILBOX_MAX + 1]; /* the others: what stands behind the colon, as it is compared */
};

/* On false, err is one sentence. */
bool who_parse(const char *text, struct who *out, char *err, size_t errlen);
/* The one spelling of it; returns out. */
const char *who_format(const struct who *w, char out[WHO_TEXT_MAX]);
/* The sender counts from MAIL on, the recipient at RCPT. */
bool who_matches(const struct who *w, const struct facts *f);

#endif
