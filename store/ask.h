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

/* A formatted command, freed with redisFreeCommand(); NULL: out of memory. text: carry the
 * whole script instead of its name. lease 0: the session is looked up but not counted. */
char *ask_command(const struct site *s, const struct ask_names *n, bool text,
    const struct request *q, int64_t now_us, uint64_t lease, size_t *len);
enum ask_outcome ask_answer(
    const redisReply *r, const struct request *q, struct answer *out, char why[SITE_WHY_MAX]);

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
