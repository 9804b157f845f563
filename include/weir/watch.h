/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * watch.h - what of a zone is there to be looked at: every decision counted by what it was, the
 * last hour by minutes, and who came most.
 *
 * All of it is of fixed size and lies in the zone, so it is that of all workers, and survives each
 * of them and a reload. Counting takes no lock, and never waits for whoever looks: what is read
 * while others count may miss what happened in this moment.
 */
#ifndef WEIR_WATCH_H
#define WEIR_WATCH_H

#include "weir/verdict.h"
#include "weir/zone.h"

/* --- decisions ------------------------------------------------------------------------------ */

/* Limits that are counted by name, in the life of a zone; those beyond count as one, "other". */
#define WATCH_LIMITS 32
/* No limit (0), the named ones, "other". */
#define WATCH_SLOTS (WATCH_LIMITS + 2)

#define WATCH_ACTIONS (DO_DEFER + 1)
#define WATCH_STAGES (STAGE_EOM + 1)
#define WATCH_REASONS (REASON_NO_STORE + 1)
#define WATCH_GREYS (GREY_CORRESPONDENT + 1)
#define WATCH_SOURCES (ANSWER_ZONE + 1)

/* One verdict; asked: a store has had a part in it. */
void zone_watch_decision(struct zone *z, enum stage stage, const struct verdict *v, bool asked);
/* A limit with action=log was exceeded. */
void zone_watch_shadow(struct zone *z, enum stage stage, const char *limit);

struct watch_counts {
	/* "" = a slot that nobody uses; [0] is "" and in use. Two slots may have the same name:
	 * add them up. */
	char limits[WATCH_SLOTS][LIMIT_NAME_MAX + 1];
	int64_t decisions[WATCH_SLOTS][WATCH_ACTIONS][WATCH_STAGES][WATCH_REASONS];
	int64_t shadows[WATCH_SLOTS][WATCH_STAGES];
	int64_t grey[WATCH_GREYS], sources[WATCH_SOURCES];
};
/* 50 kB. */
void zone_watch_get(struct zone *z, struct watch_counts *out);

/* --- the last hour ---------------------------------------------------------------------------- */

#define WATCH_MINUTES 60

struct watch_minute {
	int64_t accepted;
	int64_t held; /* by greylisting */
	int64_t other; /* refused by no limit: blocked, load, drain, trap */
	int64_t limits[WATCH_SLOTS]; /* refused or deferred by each */
};

/* What c has become by now_us (1970). Only one process may note; at least once a minute, or what
 * it missed counts for the minute in which it comes back. */
void zone_watch_note(struct zone *z, const struct watch_counts *c, int64_t now_us);
/* out[WATCH_MINUTES - 1] is the minute of now_us, the one before it the minute before. */
void zone_watch_hour(struct zone *z, int64_t now_us, struct watch_minute out[WATCH_MINUTES]);

/* --- who came most ------------------------------------------------------------------------------ */

enum top_kind { TOP_ADDRESSES, TOP_NETWORKS, TOP_KINDS };

#define TOP_NAME_MAX 63

/* Of the last hour (the last 50 to 60 minutes). */
struct top_entry {
	struct net who;
	char name[TOP_NAME_MAX + 1]; /* as the client's DNS says: any bytes. Of addresses only */
	bool confirmed; /* the MTA trusts the name */
	int64_t decisions, refused, held; /* held: by greylisting; not among the refused */
	int64_t error; /* decisions may be so many too high, never too low */
	int64_t last_us; /* since 1970 */
	enum reason reason; /* of the last refusal; REASON_OK = none was seen */
	char limit[LIMIT_NAME_MAX + 1]; /* which refused it last; "" = none */
};

/* Whether anybody wants to know; nothing is kept while not. */
void zone_top_want(struct zone *z, bool wanted);
bool zone_top_wanted(struct zone *z);

/* One decision about a client. name "" = not known. */
void zone_top_add(struct zone *z, enum top_kind kind, const struct net *who, const char *name,
    bool confirmed, const struct verdict *v, int64_t now_us);

/*
 * At most max of them, those first that were refused most (by_all: that came most). Returns how
 * many. Not reentrant: for one thread of one process.
 */
unsigned zone_top_get(struct zone *z, enum top_kind kind, bool by_all, int64_t now_us,
    struct top_entry *out, unsigned max);

/* --- the rest ----------------------------------------------------------------------------------- */

/* What the master knows of its workers. */
struct watch_workers {
	unsigned wanted; /* on the configuration in force */
	unsigned ready; /* of these */
	unsigned before; /* of an earlier configuration, and still there */
	bool serving; /* somebody takes new sessions */
	int64_t ended; /* so many have ended that should not have */
	int64_t conf_us; /* the configuration in force was taken then; since 1970 */
	int64_t started_us; /* the first of these masters was started then */
};
void zone_watch_workers_set(struct zone *z, const struct watch_workers *w);
void zone_watch_workers_get(struct zone *z, struct watch_workers *out);

/* The generation of Redis that a worker goes by; -1 = none, or no number. */
void zone_watch_generation_set(struct zone *z, unsigned worker, const char *generation);
/* Of the workers that take new sessions. False: none has said. */
bool zone_watch_generations(struct zone *z, int64_t *oldest, int64_t *newest);

/* What is in the table: an estimate from at most ZONE_USE_PAGES pages of it. */
#define ZONE_USE_PAGES 256
enum zone_use {
	USE_BUCKET,
	USE_SESSIONS,
	USE_REFUSAL,
	USE_KNOWN,
	USE_TRIPLET,
	USE_TRUST,
	USE_BLOCKED,
	USE_WROTE,
	USES
};
const char *zone_use_name(enum zone_use u);
struct zone_usage {
	int64_t entries[USES]; /* those of yesterday count until their place is wanted */
	int64_t most; /* there is room for */
	int64_t evictions; /* live ones that had to go since the start */
};
void zone_usage_get(struct zone *z, struct zone_usage *out);

#endif
