/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * traffic.h - what happened, in the order in which weir-milter would have been asked.
 *
 *	events of the log -> sessions and messages -> connect, message, end; and later: good
 *
 * The lines about one message are spread over many seconds: who its recipients are is told when
 * they are delivered, after the message was taken in. So the log is read TRAFFIC_AHEAD_US ahead:
 * a question is put at its own time on the log's clock, when what the next minute says of it is
 * known.
 *
 * All tables are of fixed size and forget what was not heard of for longest.
 */
#ifndef WEIR_CTL_TRAFFIC_H
#define WEIR_CTL_TRAFFIC_H

#include "lru.h"
#include "maillog.h"
#include "weir/exceptions.h"
#include "weir/facts.h"
#include "weir/units.h"

#define TRAFFIC_AHEAD_US (60 * USEC_PER_SEC)
/* A line so much older than the one before it is late; more, and the clock was set back. */
#define TRAFFIC_LATE_US (60 * USEC_PER_SEC)
/* A Sendmail process that was silent so long is another session when it speaks again. */
#define TRAFFIC_SILENT_US (600 * USEC_PER_SEC)

#define TRAFFIC_SESSIONS 65536
#define TRAFFIC_MESSAGES 131072
#define TRAFFIC_CLIENTS 262144
#define TRAFFIC_STEPS 262144
#define TRAFFIC_RECIPIENTS 262144

/* Rulesets that can be tried in one pass. */
#define TRIALS 2

/* Why somebody is a good sender. */
enum good {
	GOOD_DELIVERED = 1, /* a message of his was delivered */
	GOOD_KNOWN = 2, /* on two different days or more before */
	GOOD_AUTHENTICATED = 4
};
#define GOODS 3

/* A longer host name is none: what is left of it would be another's domain. */
#define TRAFFIC_NAME_MAX 127
/* Longer mailboxes are counted under a shortened name (mailbox_name()). */
#define TRAFFIC_SENDER_MAX 127
#define TRAFFIC_RECIPIENT_MAX 59

/* One for each trial, for who tries. Zero at the start. */
struct session_trial {
	uint64_t lease;
	uint8_t cause; /* why it was refused at connect; 0 = it was not */
	bool over; /* refused, at connect or later: nothing of it comes through any more */
	bool greylist_known;
};

struct mail_session {
	struct lru_link link;
	int64_t last_us;
	struct addr client;
	char name[TRAFFIC_NAME_MAX + 1];
	char user[USER_MAX + 1];
	uint8_t good; /* enum good, as far as known yet */
	bool ends_told; /* the log tells its end */
	bool unseen; /* the MTA turned it away: no milter was asked */
	bool ending; /* its end was read */
	bool ended; /* ... and its time has come: end() was called */
	unsigned waiting; /* steps that have not come yet */
	unsigned messages; /* of which more may be heard */
	int rcpt_told; /* recipients that were accepted in it; -1 = not told */
	int rcpt_done; /* ... that were counted already */
	struct lru_ref current; /* the last message begun */
	struct lru_ref attempt; /* one without queue id, all of whose recipients were refused */
	struct session_trial trial[TRIALS];
};

struct mail_message {
	struct lru_link link;
	struct lru_ref session;
	struct addr client;
	/* As it is counted. Whom the log does not name is a sender that nobody else is. */
	char sender[TRAFFIC_SENDER_MAX + 1];
	bool sender_told;
	int64_t size; /* -1 = not told */
	uint32_t recipients; /* list of those whose name is known, and its end */
	uint32_t last_recipient;
	int listed, attempts; /* in the list; of these refused by a milter */
	int nrcpt; /* as the MTA says; -1 = it did not */
	int named; /* recipients of nrcpt that have been named */
	int settled; /* recipients that were delivered or bounced */
	uint8_t good;
	bool authenticated, complete, queued, parked, decided, removed;
	uint8_t cause[TRIALS]; /* why it was held back */
};

struct mail_client {
	struct lru_link link;
	struct addr client;
	char name[TRAFFIC_NAME_MAX + 1];
	int32_t day; /* of the first delivery */
	bool delivered, known;
	uint32_t refused[TRIALS]; /* sessions and messages, for who tries */
	uint32_t good; /* of these by any trial: good ones */
};

/* What a message is asked with. */
struct mail_recipients {
	const char *const *names; /* as they are counted */
	int named;
	int all; /* named, and those of whom the log says no name */
};

struct traffic_ops {
	void (*connect)(void *ctx, struct mail_session *s, int64_t now_us);
	void (*message)(void *ctx, struct mail_session *s, struct mail_message *m,
	    const struct mail_recipients *r, int64_t now_us);
	void (*end)(void *ctx, struct mail_session *s);
	/* These bits of good have been added. Before and after connect() and message(). */
	void (*good_session)(void *ctx, struct mail_session *s, unsigned bits);
	void (*good_message)(void *ctx, struct mail_message *m, unsigned bits);
	/* The MTA rejected a recipient itself. NULL: not wanted. */
	void (*rejected)(void *ctx, struct mail_session *s, int64_t now_us);
};

struct traffic_figures {
	int64_t first_us, last_us; /* of the lines of an MTA; 0 = none */
	int64_t sessions, messages, recipients;
	int64_t nameless; /* recipients whose name the log does not tell, or too late */
	int64_t delivered; /* messages with a recipient who got it */
	int64_t authenticated; /* messages */
	int64_t rejected; /* recipients that the MTA rejected */
	int64_t turned_away; /* clients that the MTA refused before a milter was asked */
	int64_t clients;
	int64_t set_back; /* how often the clock of the log was set back */
	int64_t forgotten; /* sessions and messages that had to be forgotten in the middle */
	bool ends_missing; /* some sessions' ends are not logged (Sendmail) */
};

struct traffic;

/* NULL: out of memory. ops and ctx are borrowed. */
struct traffic *traffic_new(const struct traffic_ops *ops, void *ctx);
void traffic_free(struct traffic **t);

/* A mail_event_fn. */
void traffic_event(void *traffic, const struct mail_event *e);
/* The log is over: what still waits comes now. */
void traffic_finish(struct traffic *t);

struct traffic_figures traffic_figures(const struct traffic *t);
/* The client of that address; NULL when it is forgotten, or has no address. */
struct mail_client *traffic_client(struct traffic *t, const struct addr *a);
/* All of them that are remembered, in turn: NULL begins, and ends. */
struct mail_client *traffic_next_client(struct traffic *t, const struct mail_client *c);
/* What a question about them is asked with: m NULL at connect; s NULL when it is forgotten. The
 * recipient is for the caller to fill in. All that a log can tell comes in here. */
struct facts traffic_facts(const struct mail_session *s, const struct mail_message *m);
/* The session of a message; NULL when it is forgotten. */
struct mail_session *traffic_session(struct traffic *t, const struct mail_message *m);

#endif
