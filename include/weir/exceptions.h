/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exceptions.h - who is treated otherwise than the limits say: overrides for one limit, and the
 * lists: exempt and blocked clients, who is greylisted and who is not, spam traps. Built whole
 * from what the file and Redis hold, then only read.
 */
#ifndef WEIR_EXCEPTIONS_H
#define WEIR_EXCEPTIONS_H

#include "weir/limit.h"
#include "weir/who.h"

/* More overrides than these would be a directory, not exceptions: each look-up walks them. */
#define OVERRIDES_MAX 512
/* A look-up takes some binary searches, but every change of anything makes every weir-milter read
 * them all; see "Lists" in doc/architecture.md for what that costs. */
#define LISTED_MAX 8192

/* --- what a list says of somebody ------------------------------------------------------------- */

enum list_action {
	LIST_EXEMPT, /* neither limited nor greylisted */
	LIST_BLOCK, /* refused with 421 */
	LIST_NO_GREYLIST, /* limited, but not greylisted */
	LIST_GREYLIST, /* a recipient: greylisted, also where only those listed are */
	LIST_TRAP, /* a recipient that nobody writes to but spammers */
	LIST_ACTIONS
};

struct listing {
	enum list_action action; /* LIST_ACTIONS: not said yet */
	int64_t delay_us; /* LIST_GREYLIST: its own delay; 0 = that of all */
};

/* Senders give up after four or five days (RFC 5321 4.5.4.1). */
#define LIST_DELAY_MAX (INT64_C(4) * 86400 * USEC_PER_SEC)

const char *list_action_name(enum list_action a);
void listing_init(struct listing *l);
/* One word ("action", "greylist"). On false l is unchanged and err is one sentence. */
bool listing_set(struct listing *l, const char *key, const char *value, char *err, size_t errlen);
/* Whether it can be said of w, once all words are in. */
bool listing_finish(const struct listing *l, const struct who *w, char *err, size_t errlen);
/* All three: action=greylist delay=10m. */
bool listing_parse(
    const char *words, const struct who *w, struct listing *out, char *err, size_t errlen);

/* --- building --------------------------------------------------------------------------------- */

struct exceptions;

/* Room for so many to begin with; NULL: out of memory. */
struct exceptions *exceptions_new(unsigned overrides, unsigned listed);
void exceptions_free(struct exceptions **e);

/* l is copied; its name says which limit it replaces. An address, a network or a user. */
void exceptions_add_override(struct exceptions *e, const struct who *w, const struct limit *l);
/* Of several for the same who the last counts. */
void exceptions_add_listed(struct exceptions *e, const struct who *w, const struct listing *l);
/* All that `file` lists, marked as the file's; Redis' come after them. NULL: nothing. */
void exceptions_add_file(struct exceptions *e, const struct exceptions *file);
/* Sorts; call once before the look-ups. False: memory ran out somewhere. */
bool exceptions_seal(struct exceptions *e);

/* --- looking up; all take e == NULL ----------------------------------------------------------- */

/* The most specific override of l, or l. user "" = not authenticated. */
const struct limit *exceptions_limit(
    const struct exceptions *e, const struct limit *l, const struct addr *client, const char *user);

/* An entry of the lists; borrowed. */
struct listed_entry {
	enum who_kind kind;
	struct net net;
	const char *text; /* as struct who's */
	struct listing says;
	bool from_file;
	unsigned order; /* the later of two counts */
};
const char *listed_who(const struct listed_entry *l, char out[WHO_TEXT_MAX]);

/*
 * Of the clients' entries that say LIST_EXEMPT or LIST_BLOCK the most specific one: a user, an
 * address, the longest host name, the longest prefix. NULL: none.
 */
const struct listed_entry *exceptions_client(
    const struct exceptions *e, const struct addr *client, const char *user, const char *name);
enum listed { LISTED_NOT, LISTED_EXEMPT, LISTED_BLOCKED };
enum listed exceptions_listed(
    const struct exceptions *e, const struct addr *client, const char *user, const char *name);

/* The most specific entry of all that are about this recipient, whatever it says. */
const struct listed_entry *exceptions_recipient(const struct exceptions *e, const char *recipient);
/* Whether that is LIST_TRAP. */
bool exceptions_trap(const struct exceptions *e, const char *recipient);

/*
 * The entry that decides about greylisting this recipient: one with LIST_NO_GREYLIST about the
 * client or the sender, else the recipient's if it speaks of greylisting. NULL: none.
 */
const struct listed_entry *exceptions_greylist_entry(
    const struct exceptions *e, const struct facts *f);
enum grey_wish { GREY_WISH_NONE, GREY_WISH_OFF, GREY_WISH_ON };
/* *delay_us: with GREY_WISH_ON the recipient's own delay, 0 = that of all. */
enum grey_wish exceptions_greylist(
    const struct exceptions *e, const struct facts *f, int64_t *delay_us);

/* True when there is anything about users, so that the login must be asked for. */
bool exceptions_about_users(const struct exceptions *e);
/* ... about senders or recipients, so that they must be. */
bool exceptions_about_envelope(const struct exceptions *e);
/* ... about host names, so that the MTA must say which it has confirmed. */
bool exceptions_about_names(const struct exceptions *e);
/* ... about traps, so that it matters who wrote to one. */
bool exceptions_about_traps(const struct exceptions *e);
/* How many the lists hold. */
unsigned exceptions_count(const struct exceptions *e);
/* The i-th of them, in no order that means anything. */
const struct listed_entry *exceptions_at(const struct exceptions *e, unsigned i);
/* The longest time that any override of this kind of record takes to drain. */
int64_t exceptions_drain_us(const struct exceptions *e, enum limit_per per);

#endif
