/*
 * exceptions.h - who is treated otherwise than the limits say: overrides for one limit, exempt
 * and blocked clients. Built whole from what Redis holds, then only read.
 */
#ifndef WEIR_EXCEPTIONS_H
#define WEIR_EXCEPTIONS_H

#include "weir/addr.h"
#include "weir/limit.h"

#define USER_MAX 128
#define WHO_TEXT_MAX (USER_MAX + 8)

/* More than these would be a directory, not exceptions; each look-up walks those that match. */
#define OVERRIDES_MAX 512
#define LISTED_MAX 2048

/* An address, a network, or "user:NAME" (a SASL login). */
struct who {
	bool is_user;
	struct net net;
	char user[USER_MAX + 1];
};

bool who_parse(const char *text, struct who *out, char *err, size_t errlen);
const char *who_format(const struct who *w, char out[WHO_TEXT_MAX]);
/* A narrower network is more specific than a wider one, and a user than any network. */
bool who_matches(const struct who *w, const struct addr *client, const char *user);

enum listed { LISTED_NOT, LISTED_EXEMPT, LISTED_BLOCKED };

struct exceptions;

/* Room for so many; NULL: out of memory. */
struct exceptions *exceptions_new(unsigned overrides, unsigned listed);
void exceptions_free(struct exceptions **e);

/* l is copied; its name says which limit it replaces. */
void exceptions_add_override(struct exceptions *e, const struct who *w, const struct limit *l);
void exceptions_add_listed(struct exceptions *e, const struct who *w, enum listed what);
/* Sorts; call once before the look-ups. */
void exceptions_seal(struct exceptions *e);

/* All take e == NULL. The most specific entry counts. user "" = not authenticated. */
const struct limit *exceptions_limit(
    const struct exceptions *e, const struct limit *l, const struct addr *client, const char *user);
enum listed exceptions_listed(
    const struct exceptions *e, const struct addr *client, const char *user);
/* True when there is anything about users, so that the login must be asked for. */
bool exceptions_about_users(const struct exceptions *e);
/* The longest time that any override of this kind of record takes to drain. */
int64_t exceptions_drain_us(const struct exceptions *e, enum limit_per per);

#endif
