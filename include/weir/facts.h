/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * facts.h - what is known when the MTA asks. The session fills it; plan and judge read it.
 *
 * Strings are borrowed from the session for the time of one question, are never NULL, and hold
 * whatever the client sent: nothing in policy may trust their form or length.
 */
#ifndef WEIR_FACTS_H
#define WEIR_FACTS_H

#include "weir/addr.h"

enum stage {
	STAGE_CONNECT,
	STAGE_HELO,
	STAGE_MAIL, /* asked only when the MTA has refused recipients in this session */
	STAGE_RCPT,
	STAGE_EOM /* asked only when bytes are counted */
};

struct facts {
	enum stage stage;
	struct addr client;
	const char *name; /* the client's host name if the MTA has confirmed it, else "" */
	unsigned level; /* at STAGE_CONNECT: the host's load (load.h) */
	bool spared; /* ... and the client came to a daemon that level 1 does not touch */
	const char *user; /* SASL login, as the MTA says at MAIL; "" = not authenticated */
	bool drain; /* at STAGE_CONNECT: this host takes no new sessions now */
	bool message_counted; /* this transaction has been charged to the messages limits */
	bool greylist_done; /* nothing more to ask of greylisting in this message */
	const char *helo; /* "" = not said, or not asked for */
	const char *sender; /* "" is the null reverse-path */
	const char *recipient; /* at STAGE_RCPT */
	bool rejected; /* at STAGE_RCPT: the MTA itself refuses it; what we say is not heard */
	int64_t bytes; /* of the message: as the client announced (0: not), at STAGE_EOM as it is */
};

const char *stage_name(enum stage s);

/* RFC 5321 4.5.3.1: 64 + 1 + 255. */
#define MAILBOX_MAX 320

/* A mailbox as the client wrote it, with or without angle brackets, to the name under which it
 * is counted: no quotes, blanks, comments, source route or dots at the end. Always fits; what is
 * too long loses the middle of its local part for a hash. outlen at least 32. */
void mailbox_name(const char *text, char *out, size_t outlen);

#endif
