/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ask.h - the two scripts' protocol: a request becomes a command, a reply becomes an answer.
 *
 * A reply is hostile until shown otherwise: each function checks type, length and range of all
 * that it reads.
 */
#ifndef WEIR_STORE_ASK_H
#define WEIR_STORE_ASK_H

#include <hiredis/hiredis.h>

#include "sha1.h"
#include "site.h"

enum ask_outcome {
	ASK_OK,
	ASK_STALE,
	ASK_NOSCRIPT, /* ask again with the script's text */
	ASK_WRONGKEY, /* somebody put another type at one of our keys; why names it */
	ASK_BAD /* Redis is of no use now; why tells */
};

struct ask_names {
	char ask[SHA1_TEXT_MAX], load[SHA1_TEXT_MAX], neighbours[SHA1_TEXT_MAX];
};
void ask_names_init(struct ask_names *n);

/* What the others have said of a question that has to be asked in parts. */
enum ask_elsewhere {
	ASK_NOTHING_YET,
	ASK_REFUSED, /* somebody refuses: charge nothing */
	ASK_HELD, /* greylisting holds back */
	/* Afterwards. This part has charged, and the whole was not to be: take that back. */
	ASK_UNDO_REFUSED,
	ASK_UNDO_OVERRAN, /* refused by a rate or quota, which tells against a pool */
	ASK_UNDO_HELD,
	/* Nothing to take back, but the pool earns something. */
	ASK_SETTLE_CHARGED,
	ASK_SETTLE_REFUSED,
	ASK_SETTLE_OVERRAN,
	ASK_UNDO_HELD_OVERRAN
};

enum ask_told { ASK_TOLD_NOT, ASK_TOLD_KNOWN, ASK_TOLD_STRANGER };

/* A part of a request: of each record all that is asked of it. In a Cluster one script reaches
 * the records of one slot only, and not the generation. */
struct ask_part {
	bool whole; /* all in one step, with the generation; the rest is 0 */
	uint32_t records; /* a bit for each of the request's */
	enum ask_elsewhere elsewhere;
	enum ask_told told; /* of the pool, where another part asks for it */
	bool later; /* what the pool earns is told when all parts have answered */
	bool correspondent; /* the sender is known to be one */
	const char *refusal; /* of an undo: the limit that refused, "" = none */
};
_Static_assert(REQUEST_RECORDS_MAX <= 32, "a bit for each record");

static inline bool
ask_part_has(const struct ask_part *p, unsigned record)
{
	return p->whole || (p->records >> record & 1) != 0;
}

/* A formatted command, freed with redisFreeCommand(); NULL: out of memory. text: carry the
 * whole script instead of its name. lease 0: the session is looked up but not counted. */
char *ask_part_command(const struct site *s, const struct ask_names *n, bool text,
    const struct request *q, const struct ask_part *p, int64_t now_us, uint64_t lease, size_t *len);
/* Fills in what is the part's. */
enum ask_outcome ask_part_answer(const redisReply *r, const struct request *q,
    const struct ask_part *p, struct answer *out, char why[SITE_WHY_MAX]);
/* The same of a request in one step. */
char *ask_command(const struct site *s, const struct ask_names *n, bool text,
    const struct request *q, int64_t now_us, uint64_t lease, size_t *len);
enum ask_outcome ask_answer(
    const redisReply *r, const struct request *q, struct answer *out, char why[SITE_WHY_MAX]);

/* Whether a local user wrote to the sender: GET, which a Cluster keeps elsewhere. */
char *ask_correspondent_command(const struct site *s, const struct request *q, size_t *len);
enum ask_outcome ask_correspondent(
    const redisReply *r, const struct request *q, int64_t now_us, bool *is, char why[SITE_WHY_MAX]);
/* That one has now. */
char *ask_wrote_command(const struct site *s, const struct request *q, int64_t now_us, size_t *len);

char *ask_load_command(const struct site *s, const struct ask_names *n, bool text,
    const struct overlay *known, size_t *len);
/* On ASK_OK the overlay is to be freed with overlay_free(). */
enum ask_outcome ask_overlay(const redisReply *r, struct overlay *out, char why[SITE_WHY_MAX]);

/* HSET PREFIX:node:NODE of at most PUBLISH_PAIRS_MAX pairs, or (life) its PEXPIRE. */
#define PUBLISH_PAIRS_MAX 32
char *ask_publish_command(
    const struct site *s, bool life, const char *const *pairs, unsigned n, size_t *len);

char *ask_neighbours_command(
    const struct site *s, const struct ask_names *n, bool text, bool above, size_t *len);
enum ask_outcome ask_neighbours(
    const redisReply *r, unsigned *above, unsigned *all, char why[SITE_WHY_MAX]);

#endif
