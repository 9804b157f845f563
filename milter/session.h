/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.h - what one SMTP session has said, and which step of the road is due.
 *
 * Knows no engine and no store. An engine reports events; each gives back one of enum next. For
 * NEXT_ASK it carries the request to the store and comes back with session_judge(); what to
 * tell the client then stands in session.reply.
 *
 * Owned by the engine; never used by two threads at once. The struct itself is some 200 bytes;
 * the texts in it are allocated as long as they are, so that thousands of open sessions cost
 * little, and cut at the lengths below.
 */
#ifndef WEIR_MILTER_SESSION_H
#define WEIR_MILTER_SESSION_H

#include "weir/verdict.h"

#define SESSION_ID_MAX 24
#define SESSION_NAME_MAX 255
#define SESSION_QUEUE_MAX 64

enum next {
	NEXT_CONTINUE, /* nothing to say; go on telling */
	NEXT_DONE, /* nothing will be decided any more: the MTA need not ask again */
	NEXT_ASK, /* the request wants an answer */
	NEXT_REPLY /* session.reply is for the client */
};

struct session {
	char id[SESSION_ID_MAX];
	struct plan_steps steps; /* what the MTA was asked to report; decided at negotiation */
	struct addr client;
	char *name; /* of texts NULL = not said: session_text() */
	unsigned level; /* the host's load when it connected */
	bool spared; /* it came to a daemon that level 1 does not touch */
	bool name_confirmed; /* the MTA says so: forward and reverse look-up agree */
	char *helo;
	char *sender;
	char *queue_id;
	char *user; /* SASL login of the message */
	int64_t bytes; /* of the message: announced, from DATA on counted */
	bool data; /* bytes are counted */
	bool drain; /* the engine knows that this host takes no new sessions; set before connect */
	bool message_counted;
	bool rejected; /* the recipient in question: the MTA refuses it itself */
	bool had_rejected; /* ... and at least one before */
	bool greylist_message; /* the decision for this message is taken */
	bool greylist_known; /* ... for the whole session: the pool has passed */
	bool pending; /* refused at connect, to be told later (reply is set) */
	unsigned long engine; /* the engine's own flags */
	uint64_t lease; /* store_release() it when the session ends; 0 = none */
	struct reply *reply; /* NULL until there is one */
};

static inline const char *
session_text(const char *text)
{
	return text != NULL ? text : "";
}

void session_init(struct session *s, const char *id, struct plan_steps steps);
/* Frees what it holds; one that is all zeros holds nothing. */
void session_deinit(struct session *s);

/* name: as the MTA gives it. q is filled when NEXT_ASK comes back. */
enum next session_connect(struct session *s, const struct ruleset *r, const struct addr *client,
    const char *name, bool confirmed, struct request *q);
/* A refusal that waited is told here; no question of its own. */
enum next session_helo(struct session *s, const char *helo);
/* sender with or without angle brackets; user: SASL login or ""; bytes: announced, or 0. */
enum next session_mail(struct session *s, const struct ruleset *r, const char *sender,
    const char *user, int64_t bytes, struct request *q);
/* rejected: the MTA refuses this recipient; session_judge() then never comes to NEXT_REPLY. */
enum next session_rcpt(struct session *s, const struct ruleset *r, const char *recipient,
    bool rejected, const char *queue_id, struct request *q);
/* True, with the number, if this parameter of MAIL is SIZE= (RFC 1870). */
bool session_size(const char *param, int64_t *bytes);
/* So much more of the message has come. */
void session_data(struct session *s, int64_t bytes);
/* All of it has. */
enum next session_eom(struct session *s, const struct ruleset *r, struct request *q);

/* The question of the stage once more, after the ruleset has changed. False: nothing is left
 * to ask. recipient as given to session_rcpt(). */
bool session_plan(const struct session *s, const struct ruleset *r, enum stage stage,
    const char *recipient, struct request *q);

/*
 * The answer has come (NULL: no store answered at all; q NULL: nothing was asked). Fills *v for
 * the log and remembers what follows for the rest of the session.
 */
enum next session_judge(struct session *s, const struct ruleset *r, enum stage stage,
    const char *recipient, const struct request *q, const struct answer *a, struct verdict *v);

#endif
