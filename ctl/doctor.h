/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * doctor.h - weirctl doctor: what is shared by its checks.
 *
 * A check looks at one thing and says what it found: what, why that matters, and the line to
 * write. One that says nothing has found nothing wrong. All checks stand in the table of
 * cmd_doctor.c; doctor_*.c have them by topic.
 */
#ifndef WEIR_CTL_DOCTOR_H
#define WEIR_CTL_DOCTOR_H

#include "ctl.h"
#include "mta_postfix.h"
#include "mta_sendmail.h"

enum doctor_level {
	DOCTOR_NOTE, /* to know; nothing is wrong */
	DOCTOR_WRONG /* to mend; the exit status says so */
};

struct doctor {
	struct ctl *c;
	const struct postfix *postfix; /* NULL: there is none, or not that one is asked about */
	const struct sendmail *sendmail;
	char mta_trouble[512]; /* why one that was asked about cannot be read */
	bool redis; /* false: not configured, or it does not answer */
	char redis_trouble[300];
	pid_t milter; /* who listens on our socket; 0 = not found out */
	/* --send: where the MTA listens, from which address to ask, and about whom */
	const char *send, *from, *to;
	/* what the running check is called, and where its findings go */
	const char *check;
	json_t *findings, *smtp;
};

/* why: why it matters. write: what to write, and where; "" = nothing. */
void doctor_say(struct doctor *d, enum doctor_level level, const char *why, const char *write,
    const char *fmt, ...) __attribute__((format(printf, 5, 6)));

/* The time in which any answer of weir's comes, whatever Redis does. */
#define DOCTOR_ANSWER_US (2 * USEC_PER_SEC)

typedef void doctor_check(struct doctor *d);

/* doctor_host.c: the configuration, the process */
doctor_check doctor_configuration, doctor_mode, doctor_secrets, doctor_milter, doctor_rights,
    doctor_descriptors, doctor_mta;
/* doctor_postfix.c */
doctor_check doctor_postfix_attached, doctor_postfix_order, doctor_postfix_socket,
    doctor_postfix_action, doctor_postfix_timeouts, doctor_postfix_protocol, doctor_postfix_local,
    doctor_postfix_reinjection, doctor_postfix_maps, doctor_postfix_others, doctor_postfix_words;
/* doctor_sendmail.c */
doctor_check doctor_sendmail_attached, doctor_sendmail_used, doctor_sendmail_order,
    doctor_sendmail_flag, doctor_sendmail_timeouts, doctor_sendmail_socket, doctor_sendmail_inet;
/* doctor_redis.c */
doctor_check doctor_redis_answers, doctor_redis_version, doctor_redis_role, doctor_redis_memory,
    doctor_redis_persistence, doctor_redis_rights, doctor_redis_latency, doctor_clock;
/* doctor_send.c */
doctor_check doctor_smtp;

/* The conversations of --send, for people. */
void doctor_smtp_print(const struct ctl *c, const json_t *smtp);

#endif
