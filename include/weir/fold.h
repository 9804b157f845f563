/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fold.h - one counter for a mailbox that calls itself by many names: with a tag, wrapped by a
 * signature or by a forwarder, in Unicode or in ASCII.
 */
#ifndef WEIR_FOLD_H
#define WEIR_FOLD_H

#include "weir/facts.h"

#define FOLD_DELIMITERS_MAX 8

struct fold {
	/* Each of these characters ends the name of a mailbox ("user+tag"), as in Postfix'
	 * recipient_delimiter; "" = none does. */
	char delimiters[FOLD_DELIMITERS_MAX + 1];
	bool unwrap; /* senders: BATV and SRS, for the address that they wrap */
};

/*
 * name: what mailbox_name() gives. Returns out: "" for "", else a name under which the mailbox is
 * counted; its domain is in small letters, an internationalised one in A-labels. What does not
 * have the form that it claims stays as it is. A name longer than MAILBOX_MAX is returned itself.
 * Allocates for a domain that is not ASCII only, and frees it.
 */
const char *fold_mailbox(
    const struct fold *how, bool sender, const char *name, char out[MAILBOX_MAX + 1]);

#endif
