/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ruleset.h - everything that plan and judge go by: limits, greylisting, exemptions, mode.
 *
 * A ruleset is built whole and then never changed, so threads share it without locks. A change
 * in Redis builds a new one beside it (ruleset_overlay) and the owner swaps the pointer.
 */
#ifndef WEIR_RULESET_H
#define WEIR_RULESET_H

#include "weir/addr.h"
#include "weir/exceptions.h"
#include "weir/fold.h"
#include "weir/limit.h"
#include "weir/load.h"
#include "weir/trust.h"
#include "weir/units.h"

/* More limits than this is a configuration that nobody can reason about. */
#define LIMITS_MAX 16

/* Different widths of networks in all ladders together; each is a record to look at. */
#define LADDER_WIDTHS_MAX 4

/* Redis' generation as text: an opaque token that changes with each change. */
#define GENERATION_MAX 24

/* RFC 5321 4.5.4.1 lets a sender wait 30 minutes and more between tries: a window that ends
 * earlier after the delay would lock correct senders out for ever. */
#define GREY_WINDOW_SLACK (1800 * USEC_PER_SEC)

/* "mx1.example.test.1f3a9c00": a host's name, and what tells its starts apart. */
#define RULESET_NODE_MAX 64

struct greylist {
	bool enabled;
	int64_t delay_us; /* a retry counts from here on */
	int64_t window_us; /* ... until here (RFC 5321 4.5.4.1: at least 30 min above delay) */
	int64_t keep_us; /* a pool that passed stays known this long after its last message */
	bool correspondents; /* who an authenticated user wrote to is not held back */
	int64_t embargo, embargo_us; /* so many new triplets in such a time a pool; 0 = any */
	bool listed_only; /* only recipients that are listed with action=greylist are asked about */
	bool accept_null_sender; /* mail from <> is never held */
	bool hold_when_down; /* Redis down: go on with the zone's memory (true) or accept (false) */
	struct reply reply; /* 421: one decision a message. 451: one a recipient */
};

struct ruleset {
	char generation[GENERATION_MAX + 1]; /* what each ask carries; "" = Redis not read yet */
	bool observe; /* decide, charge and log all; refuse nothing */
	bool refuse_at_helo; /* connect-time refusals wait for HELO, for our text */
	unsigned address_v6; /* IPv6 counts per this prefix where IPv4 counts per address */
	unsigned network_v4, network_v6; /* width of "network" */
	const struct netset *exempt; /* owned by the configuration, outlives every ruleset */
	struct reply block_reply; /* for clients that a list, or a trap, blocks */
	bool learn; /* keep what clients earn also while no verdict hangs on it */
	struct trust_rule trust; /* who is known */
	int64_t trap_us; /* who writes to a trap is blocked for so long */
	struct fold fold; /* under which names mailboxes are counted */
	const struct psl_ctx_st *psl; /* pool.h's list, owned likewise; NULL = there is none */
	char node[RULESET_NODE_MAX + 1]; /* this weir-milter among those on one Redis; "" = none */
	int64_t drain_until_us; /* Redis wants no new sessions here until then; 0 = it does */
	struct reply drain_reply;
	struct load_rules load; /* from when on this host is too busy, and for whom */
	struct greylist greylist;
	int64_t valid_until_us; /* an entry of Redis expires then: build anew. INT64_MAX = never */
	/* NULL = none. The file's are the configuration's own; those that ruleset_overlay() makes
	 * belong to that ruleset. */
	struct exceptions *exceptions;
	unsigned nlimits;
	struct limit limits[LIMITS_MAX];
};

/* The built-in limits and settings; exempt and psl stay NULL (the configuration sets them). */
void ruleset_defaults(struct ruleset *r);

/* The limit of that name, or NULL. */
struct limit *ruleset_limit(struct ruleset *r, const char *name);

/* As above, and makes a new one at the end if there is none; NULL when full. */
struct limit *ruleset_limit_add(struct ruleset *r, const char *name);

/* False: with l in place of its like, more than LADDER_WIDTHS_MAX networks would be counted. */
bool ruleset_ladders_fit(const struct ruleset *r, const struct limit *l);

#define LADDERS_TOO_WIDE \
	"the ladders of all limits have more than 4 different networks: each is one more to count"

/* True when a verdict can hang on what is known of a client's pool. */
bool ruleset_needs_trust(const struct ruleset *r);
/* True when what clients earn is kept: as above, if told so, and where the pools' records are
 * written anyway, which is greylisting's case. */
bool ruleset_learns(const struct ruleset *r);

/* Checks what only the whole can tell. */
bool greylist_finish(const struct greylist *g, char *err, size_t errlen);
bool trust_finish(const struct trust_rule *t, char *err, size_t errlen);

/* limit_finish() on all, and greylist_finish(). err names the limit. */
bool ruleset_finish(struct ruleset *r, char *err, size_t errlen);

/* In the file's `exempt`, on a list, or without an address. Of the facts the client, its name and
 * its user count. */
bool ruleset_exempt(const struct ruleset *r, const struct facts *f);
bool ruleset_blocked(const struct ruleset *r, const struct facts *f);

/* --- what Redis lays over it ------------------------------------------------------------------ */

/* The version of keys and words that this weir understands (PREFIX:format). */
#define OVERLAY_FORMAT 1
/* Entries of PREFIX:limits that are read; more than LIMITS_MAX, so that one too many is
 * reported and not silently missed. */
#define OVERLAY_LIMITS_MAX 64

enum overlay_section {
	SECTION_LIMITS, /* NAME or NAME:temporary -> words of a limit */
	SECTION_OVERRIDES, /* "WHO NAME" -> words of a limit */
	SECTION_LISTS, /* WHO -> words of struct listing */
	SECTION_DRAIN, /* NODE, its host's name, or all -> action=drain */
	SECTIONS
};

/* "limits", "overrides", "lists", "drain": the name of the hash after PREFIX. */
const char *section_name(enum overlay_section s);

/* Entries of PREFIX:drain that are read. */
#define OVERLAY_DRAIN_MAX 256
/* Drains every node. */
#define DRAIN_ALL "all"
/* Whether an entry of that name is about this node: "all", its name, or that of its host. */
bool drain_concerns(const char *name, const char *node);

/* One field of such a hash, as Redis sent it, NUL-terminated by the store. */
struct overlay_entry {
	const char *name;
	const char *words;
};

struct overlay {
	char generation[GENERATION_MAX + 1];
	bool changes; /* only what differs from the known one; words "" = gone */
	int64_t format; /* above OVERLAY_FORMAT: written by a newer weir, and left alone */
	unsigned n[SECTIONS];
	int64_t total[SECTIONS]; /* in Redis: more than n when too many, -1 when it is no hash */
	struct overlay_entry *entries[SECTIONS]; /* each sorted by name */
};

/* True when every entry that Redis counts is there. */
bool overlay_is_whole(const struct overlay *o);

/* What stands there for that name; NULL = nothing. */
const char *overlay_words(const struct overlay *o, enum overlay_section s, const char *name);

/*
 * Called for each entry that cannot be used. name may hold any bytes: escape it before printing.
 * Returns the words that were good for this name before (they stay in force), or NULL.
 */
typedef const char *ruleset_reject(
    void *ctx, enum overlay_section s, const char *name, const char *why);

/*
 * base (the file's) + overlay -> out, at the time now_us (entries whose `until` has passed count
 * for nothing). What Redis lists lies over what the file lists for the same who. False: out of
 * memory. out wants ruleset_deinit().
 */
bool ruleset_overlay(const struct ruleset *base, const struct overlay *o, int64_t now_us,
    struct ruleset *out, ruleset_reject *reject, void *ctx);

/* Frees what ruleset_overlay() allocated. */
void ruleset_deinit(struct ruleset *r);

/*
 * Whether the entry could be used over r, in the words that weir-milter logs: what weirctl asks
 * before it writes. words: without until, by, reason.
 */
bool ruleset_check_entry(const struct ruleset *r, enum overlay_section s, const char *name,
    const char *words, char *err, size_t errlen);

#endif
