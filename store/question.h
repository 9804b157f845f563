/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * question.h - one question to Redis, as a machine that does no I/O: it says what is to be sent
 * and to which node, is told what came back, and says what that means. Whoever drives it has
 * the connections and does the waiting: redis.c blocks the thread that asks, an event loop goes on
 * with other things.
 *
 *	question_ask(&x, desk, request, now, &answer);
 *	while (!question_over(&x)) {
 *		while (question_send(&x, &send))
 *			... send.cmd goes to send.node
 *		... for a reply: question_reply(&x, send.part, reply)
 *		... for none:    question_lost(&x, send.part, ...)
 *		... nothing under way: come back at question_pause_us(&x)
 *	}
 *	status = question_end(&x);
 *	while (question_after(&x, &send))
 *		... send.cmd goes to send.node, and what is replied to it nobody wants
 *
 * A question has parts, all under way at once; a part may have to be sent again (NOSCRIPT, MOVED,
 * ASK, TRYAGAIN). Each question_send() is to be met with one question_reply() or question_lost(),
 * and each question_ that began with question_end(), whatever happened: a lease hangs on it.
 *
 * In a Cluster the records of a request may lie in several slots. Then each slot's part checks and
 * charges what is its own, and the answers are judged together: charged only if every part was.
 * What was charged though the whole was not is taken back by what question_after() sends.
 *
 * A question belongs to one thread at a time.
 */
#ifndef WEIR_STORE_QUESTION_H
#define WEIR_STORE_QUESTION_H

#include "ask.h"
#include "keeper.h"

/* What all questions of one store share; constant but for what its parts guard themselves. */
struct desk {
	struct site site;
	struct ask_names names;
	struct keeper *keeper;
	struct scout *scout; /* NULL: nothing to be found out */
};

/* One a record, and one for the correspondent. */
#define QUESTION_PARTS_MAX (REQUEST_RECORDS_MAX + 1)

enum question_kind { QUESTION_ASK, QUESTION_LOAD, QUESTION_PUBLISH, QUESTION_NEIGHBOURS };

enum part_state {
	PART_WAITS, /* for what another part says */
	PART_READY,
	PART_SENT,
	PART_DONE
};

struct question_part {
	enum part_state state;
	bool text; /* the script itself, as Redis did not know its name */
	bool asking; /* to a node that is about to have the slot */
	bool redirected; /* node is where the last one sent us; else the slot tells */
	bool answered;
	bool charged; /* QUESTION_ASK: what is its own */
	uint8_t tries; /* redirections */
	unsigned slot, node;
	int64_t sent_us, not_before_us;
	struct ask_part ask; /* QUESTION_ASK: empty = asks for the correspondent */
	enum ask_outcome outcome; /* if answered */
	char why[SITE_WHY_MAX];
};

struct question {
	struct desk *desk;
	enum question_kind kind;
	int64_t deadline_us; /* CLOCK_MONOTONIC: of all that is sent */
	unsigned nparts;
	struct question_part parts[QUESTION_PARTS_MAX];
	/* QUESTION_ASK */
	const struct request *request;
	struct answer *answer;
	int64_t now_us;
	uint64_t lease, renewals;
	bool correspondent; /* he is one */
	bool leased; /* a part has added the lease */
	unsigned after; /* what question_after() comes to; beyond nparts: all has been said */
	/* QUESTION_LOAD */
	const struct overlay *known;
	struct overlay *overlay;
	/* QUESTION_PUBLISH */
	const char *const *pairs;
	unsigned npairs;
	/* QUESTION_NEIGHBOURS */
	bool above;
	unsigned *nabove, *all;
};

/* What the arguments point to is borrowed until question_end(). If nothing can be asked (the
 * breaker is open, the time is over), the question is over at once. */
void question_ask(struct question *x, struct desk *d, const struct request *q, int64_t now_us,
    struct answer *out);
void question_load(struct question *x, struct desk *d, int64_t deadline_us,
    const struct overlay *known, struct overlay *out);
void question_publish(struct question *x, struct desk *d, const char *const *pairs, unsigned n);
void question_neighbours(
    struct question *x, struct desk *d, bool above, unsigned *nabove, unsigned *all);

struct question_send {
	unsigned part;
	unsigned node; /* see topology.h */
	unsigned skip; /* so many replies come before the one that counts */
	char *cmd; /* the caller's now; redisFreeCommand() */
	size_t len;
};
/* False: nothing is to be sent (now). */
bool question_send(struct question *x, struct question_send *out);
/* When there will be something to send, though no reply is waited for; 0: there will not. */
int64_t question_pause_us(const struct question *x);

/* r is freed here. */
void question_reply(struct question *x, unsigned part, redisReply *r);
/* No reply came, or will be waited for. counts: that is news, a failure for the breaker. */
void question_lost(struct question *x, unsigned part, bool counts, const char *why);

/* Nothing is under way, or to be sent. */
bool question_over(const struct question *x);

/* STORE_OK, or there is nothing in the answer but (STORE_STALE) the generation. */
enum store_status question_end(struct question *x);
/* What else is to be sent then, without waiting. The request is still borrowed. */
bool question_after(struct question *x, struct question_send *out);

/* --- question_parts.c: a request in parts ----------------------------------------------------- */

/* Makes the parts of x->request; 1 where all is in one place. */
void question_split(struct question *x);
/* A part is done: what follows from it for the others. */
void question_advance(struct question *x);
/* All parts were answered: judges them together, into x->answer. */
void question_merge(struct question *x);

#endif
