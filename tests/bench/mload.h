/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mload.h - the load generator: it plays a Postfix that has many SMTP sessions, and asks a milter
 * about them. mload.c has the options and the loop, mload_session.c one session, mload_wire.c
 * the packets.
 */
#ifndef BENCH_MLOAD_H
#define BENCH_MLOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#include "hist.h"

/* What the SMTP client does next; think time comes before each from STEP_HELO on. */
enum step {
	STEP_NEGOTIATE,
	STEP_CONNECT,
	STEP_HELO,
	STEP_MAIL,
	STEP_RCPT,
	STEP_DATA,
	STEP_MESSAGE, /* headers, body and its end, without a pause as cleanup(8) sends them */
	STEP_QUIT,
	STEPS
};

#define BODY_MAX 65535

/* The stages for which a milter may ask for macros, as the protocol numbers them. */
enum { STAGES = 7 };

enum verdict {
	VERDICT_NONE,
	VERDICT_PASSED, /* all steps were answered with "continue" */
	VERDICT_ACCEPTED, /* at connect, so the milter was asked no more */
	VERDICT_421,
	VERDICT_4XX,
	VERDICT_5XX,
	VERDICT_HANGUP, /* the milter closed, or said what is no reply */
	VERDICT_NO_ROAD, /* connect() failed */
	VERDICTS
};

struct options {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	unsigned open; /* closed loop: so many sessions at a time; open loop: at the most */
	double rate; /* open loop: arrivals a second; 0 = closed loop */
	double warm, last; /* seconds before, and of, the measurement */
	double think_ms;
	uint64_t sessions; /* end after so many; 0 = by time */
	unsigned messages, recipients, headers;
	size_t body;
	uint64_t clients; /* different addresses; 0 = any of 2^64 */
	uint64_t seed;
	bool v6;
	const char *domain; /* the clients have names below it, four a domain; NULL = no names */
	bool new_senders; /* each message has a sender of its own */
	bool marks; /* say on standard error when the measurement begins and ends */
	bool probe; /* only say what the milter negotiates */
};

/* What a milter asked for. */
struct terms {
	uint32_t actions, steps;
	uint32_t macros[STAGES]; /* bits of the table in mload_wire.c */
};

struct session {
	int fd;
	enum step step;
	enum verdict verdict;
	enum step refused_at;
	bool waiting, writing, deaf, message_over;
	unsigned messages, recipients, accepted,
	    part; /* done so far; all but one of this message */
	uint64_t serial, client;
	int64_t due_ns; /* when this step should have begun */
	int64_t wait_ns; /* all that the MTA waited for the milter */
	int64_t timer_ns;
	uint32_t heap_at; /* 0 = no timer */
	struct terms terms;
	char *out;
	size_t out_len, out_size, out_sent, in_len;
	unsigned char in[4096];
};

struct stats {
	bool measuring;
	uint64_t ended, verdicts[VERDICTS], refused_at[STEPS];
	uint64_t backlog; /* connect() found the queue of a unix socket full and came again */
	struct hist steps[STEPS], wait, late;
};

extern struct options opt;
extern struct stats stats;

/* --- mload_wire.c */

/* Appends the macros and the command of this step, as far as the milter wants them. Returns
 * whether it will answer. */
bool wire_step(struct session *s, enum step step);

/* Reads what a milter answers to the negotiation; false when it is none. */
bool wire_terms(const unsigned char *p, size_t len, struct terms *t);

/* As a JSON object: what the last answer was. */
void wire_print_terms(void);

/* Whether all of the message is said, and what comes now is the answer to it. */
bool wire_message_said(const struct session *s);

/* --- mload_session.c */

/* A new session, which should have begun at due_ns. */
void session_begin(struct session *s, int64_t due_ns);

/* Its timer has come, or its socket can be read or written. */
void session_timer(struct session *s);
void session_event(struct session *s, uint32_t events);

/* Hangs up; what it did is not counted. */
void session_drop(struct session *s);

/* --- mload.c */

int64_t now_ns(void);
uint64_t random_next(void);

/* Calls session_timer() at this time; one timer a session. */
void timer_set(struct session *s, int64_t at_ns);
void timer_clear(struct session *s);
void watch(struct session *s, uint32_t events, bool first);

/* The session is over and may be used again. */
void session_over(struct session *s);

_Noreturn void die(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
