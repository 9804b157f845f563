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
 *	}
 *	status = question_end(&x);
 *
 * A question has parts, all under way at once; a part may have to be sent again (NOSCRIPT). Each
 * question_send() is to be met with one question_reply() or question_lost(), and each question_
 * that began with question_end(), whatever happened: a lease hangs on it.
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
};

#define QUESTION_PARTS_MAX 2

enum question_kind { QUESTION_ASK, QUESTION_LOAD, QUESTION_PUBLISH, QUESTION_NEIGHBOURS };

enum part_state { PART_READY, PART_SENT, PART_DONE };

struct question_part {
	enum part_state state;
	bool text; /* the script itself, as Redis did not know its name */
	bool answered;
	unsigned node;
	int64_t sent_us;
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
	unsigned node; /* always 0: there is one */
	unsigned skip; /* so many replies come before the one that counts */
	char *cmd; /* the caller's now; redisFreeCommand() */
	size_t len;
};
/* False: nothing is to be sent (now). */
bool question_send(struct question *x, struct question_send *out);

/* r is freed here. */
void question_reply(struct question *x, unsigned part, redisReply *r);
/* No reply came, or will be waited for. counts: that is news, a failure for the breaker. */
void question_lost(struct question *x, unsigned part, bool counts, const char *why);

/* Nothing is under way, or to be sent. */
bool question_over(const struct question *x);

/* STORE_OK, or there is nothing in the answer but (STORE_STALE) the generation. */
enum store_status question_end(struct question *x);

#endif
