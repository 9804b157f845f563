/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * traffic_private.h - what traffic.c (lines to sessions and messages) and traffic_steps.c (their
 * time) share.
 */
#ifndef WEIR_CTL_TRAFFIC_PRIVATE_H
#define WEIR_CTL_TRAFFIC_PRIVATE_H

#include "siphash.h"
#include "traffic.h"

enum step_kind { STEP_CONNECT, STEP_MESSAGE, STEP_REJECTED, STEP_END };

struct step {
	int64_t time_us;
	enum step_kind kind;
	struct lru_ref session, message;
};

/* A name in the list of a message. */
struct recipient {
	uint32_t next; /* 0 = the last */
	char name[TRAFFIC_RECIPIENT_MAX + 1];
};

struct traffic {
	const struct traffic_ops *ops;
	void *ctx;
	struct siphash_key secret;
	struct traffic_figures figures;
	int64_t now_us; /* the log's clock; never goes back */
	int64_t shift_us; /* what the clock was set back by, in all */
	struct lru *sessions, *messages, *clients;
	uint64_t unnamed; /* messages without a queue id or a sender so far */
	struct step *steps; /* a ring, oldest at `first` */
	uint32_t first, nsteps;
	struct recipient *recipients; /* from 1 */
	uint32_t recipients_used, recipients_free;
	const char *names[MAIL_NRCPT_MAX];
};

/* --- traffic_steps.c ------------------------------------------------------------------------- */

/* The names that a message goes to. Without room, a name is one of those that are not told. */
bool traffic_has_recipient(const struct traffic *t, const struct mail_message *m, const char *name);
void traffic_add_recipient(struct traffic *t, struct mail_message *m, const char *name);
void traffic_drop_recipients(struct traffic *t, struct mail_message *m);

/* Something that weir-milter would be told now; its time comes when the log has been read further
 * ahead. m: of STEP_MESSAGE, else NULL. */
void traffic_add_step(
    struct traffic *t, enum step_kind kind, struct mail_session *s, struct mail_message *m);
/* The time of all those up to us has come. */
void traffic_steps_until(struct traffic *t, int64_t us);
/* Whatever waits comes now, as long as the oldest of a full table waits. */
void traffic_make_room(struct traffic *t);

/* The message that was waited for is complete, or given up. */
void traffic_unpark(struct traffic *t, struct mail_session *s, struct mail_message *m);
/* Tells of the end, once. */
void traffic_end(struct traffic *t, struct mail_session *s);
/* Nothing more will be heard of a message that was decided. */
bool traffic_is_over(const struct mail_message *m);
void traffic_drop_message(struct traffic *t, struct mail_message *m);

#endif
