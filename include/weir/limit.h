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

#include "weir/reply.h"

#define LIMIT_NAME_MAX 32
#define LIMIT_ERR_MAX 256

enum limit_count { COUNT_CONNECTIONS, COUNT_SESSIONS, COUNT_MESSAGES, COUNT_RECIPIENTS };

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
	PER_POOL, /* greylisting's record; no limit counts per pool yet */
	PERS
};

/* What is known at connect: addresses, not envelopes. */
bool limit_per_is_client(enum limit_per p);

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
	int64_t rate; /* this many ... */
	int64_t period_us; /* ... in this time; both 0 for sessions */
	int64_t burst; /* bucket size */
	bool burst_given; /* else it follows the rate's number */
	bool strict; /* refused attempts are charged too, up to STRICT_BURSTS times the burst */
	int64_t max; /* open at once; sessions only */
	struct reply reply;
	bool reply_given; /* else limit_finish() chooses by count and action */
};

const char *limit_count_name(enum limit_count c);
const char *limit_per_name(enum limit_per p);
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

/* Time for a bucket to drain that is as full as it gets; 0 for sessions. */
int64_t limit_drain_us(const struct limit *l);

/* True for the counts that are asked when a client connects. */
bool limit_at_connect(const struct limit *l);

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
