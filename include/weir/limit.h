/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit.h - one limit: it counts something per something, and says what happens above it.
 *
 * The same words serve the configuration file, Redis and the command line; limit_set() is the
 * one place that reads them. A limit is a plain value: copied, never shared while it changes.
 */
#ifndef WEIR_LIMIT_H
#define WEIR_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/addr.h"
#include "weir/reply.h"
#include "weir/units.h"

#define LIMIT_NAME_MAX 32
#define LIMIT_ERR_MAX 256

enum limit_count {
	COUNT_CONNECTIONS,
	COUNT_SESSIONS,
	COUNT_MESSAGES,
	COUNT_RECIPIENTS,
	COUNT_REJECTED, /* recipients that the MTA itself refused */
	COUNT_BYTES, /* of messages, at their end */
	COUNTS
};

/* Whose counter is charged. The names double as the kind of a record (see request.h). */
enum limit_per {
	PER_ADDRESS,
	PER_NETWORK,
	PER_ALL,
	PER_USER, /* SASL login; who is not authenticated is not counted */
	PER_SENDER, /* "<>" for bounces */
	PER_SENDER_DOMAIN,
	PER_RECIPIENT,
	PER_RECIPIENT_DOMAIN,
	PER_HELO,
	PER_POOL, /* hosts of one sender: see pool.h. Also the record of greylisting and trust */
	PERS
};

/* What is known at connect: where the client comes from, not its envelopes. */
bool limit_per_is_client(enum limit_per p);

/* Whom a limit is for. */
enum limit_for {
	FOR_EVERYONE,
	FOR_STRANGERS, /* neither known (see trust.h) nor authenticated */
	FOR_KNOWN,
	FOR_AUTHENTICATED,
	FOR_NETWORKS
};
#define LIMIT_NETS_MAX 8

/* Wider IPv6 networks that are counted at the same time, each with so many times the figures. */
#define LADDER_MAX 2
struct rung {
	uint16_t bits, times; /* no padding: limits are compared as bytes */
};

enum limit_action {
	ACTION_REFUSE, /* 421: the session ends */
	ACTION_DEFER, /* 451/452: the session lives on */
	ACTION_LOG /* a shadow: charged by itself, reported, never enforced */
};

struct limit {
	char name[LIMIT_NAME_MAX + 1]; /* [a-z0-9-]+ */
	bool enabled;
	enum limit_count count;
	bool count_given; /* by a word, or by the limit's name ("messages" counts messages) */
	enum limit_per per;
	enum limit_action action;
	enum limit_for whom;
	uint8_t nnets, nrungs;
	struct net nets[LIMIT_NETS_MAX]; /* FOR_NETWORKS */
	struct rung rungs[LADDER_MAX]; /* per address or network, IPv6; each wider than the last */
	int64_t rate; /* this many ... */
	int64_t period_us; /* ... in this time; both 0 for sessions and quotas */
	int64_t burst; /* bucket size */
	bool burst_given; /* else it follows the rate's number */
	bool sized; /* a figure was written with k, M or G */
	uint8_t gave; /* limit.c's: rate, quota, burst, whichever this layer has said */
	bool strict; /* refused attempts are charged too, up to STRICT_BURSTS times the burst */
	int64_t max; /* open at once; sessions only */
	int64_t quota; /* at most so many ... */
	int64_t window_us; /* ... in any time of this length; both 0 for rates and sessions */
	struct reply reply;
	bool reply_given; /* else limit_finish() chooses by count and action */
};

const char *limit_count_name(enum limit_count c);
const char *limit_per_name(enum limit_per p);
const char *limit_for_name(enum limit_for f);
const char *limit_action_name(enum limit_action a);

/* True when the name may be used: in a log line, as a Redis field, on a command line. */
bool limit_name_valid(const char *name);

/* An enabled limit without figures. */
void limit_init(struct limit *l, const char *name);

/* Sets one word ("rate", "60/1m"). On false the limit is unchanged and err is one sentence. */
bool limit_set(struct limit *l, const char *key, const char *value, char *err, size_t errlen);

/* Sets several, as Redis holds them: rate=120/1m burst=60 reply="421 4.7.1 slow down".
 * On false the limit is unchanged. */
bool limit_set_words(struct limit *l, const char *words, char *err, size_t errlen);

/* Checks what only the whole can tell (sessions without max, a 451 for refuse, ...) and fills
 * what follows from the rest. To be called once all words are in. */
bool limit_finish(struct limit *l, char *err, size_t errlen);

/* The words that make this limit out of limit_init(): what limit_set_words() reads. Without its
 * reply, and without the figures that follow from others. */
#define LIMIT_WORDS_MAX 768
char *limit_words(const struct limit *l, char out[LIMIT_WORDS_MAX]);

/* Its figures for people, `times` as much of it: "60/1m burst 30", "1000/1d", "max 20". */
#define LIMIT_FIGURES_MAX (3 * UNITS_TEXT_MAX)
char *limit_figures(const struct limit *l, int64_t times, char out[LIMIT_FIGURES_MAX]);

/* The figure that may not be passed: burst, quota or max, in whole things. */
int64_t limit_ceiling(const struct limit *l);

/* Time until nothing is left of what was charged, at the most; 0 for sessions. */
int64_t limit_drain_us(const struct limit *l);

/* True for the counts that are asked when a client connects. */
bool limit_at_connect(const struct limit *l);

/* True when whom it is for can only be told by the store. */
bool limit_wants_trust(const struct limit *l);

/* Largest burst or rate; three times of it in millionths are still exact in a double. */
#define LIMIT_FIGURE_MAX (INT64_C(1) << 31)
/* Quotas are kept in whole things; three times of it in millionths fit 64 bits. */
#define QUOTA_FIGURE_MAX (INT64_C(1) << 41)

/* A strict bucket is filled by refused attempts no further than this, so that a client that has
 * come to its senses is let in again after a time that can be told. */
#define STRICT_BURSTS 2

/*
 * Leaky bucket, in double so that C and Redis' Lua give the same figure to the last digit.
 * level and the result are in millionths; dt_us < 0 (the clock went back) drains nothing.
 */
int64_t bucket_drained(int64_t level, int64_t dt_us, int64_t rate, int64_t period_us);
/* How long until `excess` millionths have drained, rounded up; at most UNITS_DURATION_MAX. */
int64_t bucket_wait(int64_t excess, int64_t rate, int64_t period_us);

#endif
