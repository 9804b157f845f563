/*
 * ruleset.h - everything that plan and judge go by: limits, greylisting, exemptions, mode.
 *
 * A ruleset is built whole and then never changed, so threads share it without locks. A change
 * in Redis builds a new one beside it (ruleset_overlay) and the owner swaps the pointer.
 */
#ifndef WEIR_RULESET_H
#define WEIR_RULESET_H

#include "weir/addr.h"
#include "weir/limit.h"

/* More limits than this is a configuration that nobody can reason about. */
#define LIMITS_MAX 16

/* Redis' generation as text: an opaque token that changes with each change. */
#define GENERATION_MAX 24

struct greylist {
	bool enabled;
	int64_t delay_us; /* a retry counts from here on */
	int64_t window_us; /* ... until here (RFC 5321 4.5.4.1: at least 30 min above delay) */
	int64_t keep_us; /* a pool that passed stays known this long after its last message */
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
	struct greylist greylist;
	unsigned nlimits;
	struct limit limits[LIMITS_MAX];
};

/* The built-in limits and settings; exempt stays NULL (the configuration sets it). */
void ruleset_defaults(struct ruleset *r);

/* The limit of that name, or NULL. */
struct limit *ruleset_limit(struct ruleset *r, const char *name);

/* As above, and makes a new one at the end if there is none; NULL when full. */
struct limit *ruleset_limit_add(struct ruleset *r, const char *name);

/* limit_finish() on all, and greylist's own rules. err names the limit. */
bool ruleset_finish(struct ruleset *r, char *err, size_t errlen);

bool ruleset_exempt(const struct ruleset *r, const struct addr *client);

/* One entry of PREFIX:limits. Bytes as Redis sent them, NUL-terminated by the store. */
struct overlay_entry {
	const char *name;
	const char *words;
};

/* Called for each entry that is ignored. name may hold any bytes: escape it before printing. */
typedef void ruleset_report(void *ctx, const char *name, const char *why);

/*
 * base (the file's) + entries -> out. An entry that does not parse is reported and ignored: the
 * limit stays as prev (the ruleset in force; NULL = base) has it.
 */
void ruleset_overlay(const struct ruleset *base, const struct ruleset *prev, const char *generation,
    const struct overlay_entry *entries, unsigned nentries, struct ruleset *out,
    ruleset_report *report, void *ctx);

#endif
