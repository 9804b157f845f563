/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * request.h - plan: facts + ruleset -> what has to be asked of the store, in one round trip.
 *
 * A request names records (one per client, network, ...: the unit that Redis keeps as one hash)
 * and hits (one limit charged to one record). The store answers it whole, in one atomic step:
 * either every enforced hit fits and all are charged, or none is. Limits with action=log are
 * charged by themselves.
 *
 * Plain value on the caller's stack, about 8 kB. Limits are borrowed from the ruleset.
 */
#ifndef WEIR_REQUEST_H
#define WEIR_REQUEST_H

#include "weir/facts.h"
#include "weir/ruleset.h"
#include "weir/trust.h"

#define REQUEST_HITS_MAX (LIMITS_MAX * (1 + LADDER_MAX))
/* One of each kind, and the wider networks of ladders. */
#define REQUEST_RECORDS_MAX (PERS + LADDER_WIDTHS_MAX)

/* "{TAG}:TEXT", or "{TAG}" where both are the same. All keys of one client share the tag, its
 * widest network, so that they live in one slot of a Redis Cluster. */
#define NET_KEY_MAX 112

/* "{TEXT}" for users, senders, ...: lower case, escaped, cut as below. Their own slot. */
#define TEXT_PART_MAX 255
#define RECORD_KEY_MAX (TEXT_PART_MAX + 3)

/* "{TEXT}" of one mailbox. */
#define MAILBOX_KEY_MAX (TEXT_PART_MAX + 3)

/* "RECORD-KEY SENDER RECIPIENT", sender and recipient in lower case and escaped; what would be
 * longer than TEXT_PART_MAX is cut and ends in a hash of the whole. */
#define GREY_KEY_MAX (RECORD_KEY_MAX + 2 * TEXT_PART_MAX + 2)

struct record {
	enum limit_per kind; /* Redis key: PREFIX:address:{192.0.2.0/24}:192.0.2.7 */
	char key[RECORD_KEY_MAX];
	int64_t ttl_us; /* kept this long after its last charge; never 0. A pool's at least as long
			 * as what greylisting and trust hold of it */
};

enum hit_mode {
	HIT_CHARGE, /* checked, and charged if all fits; a shadow by itself */
	HIT_PROBE, /* checked whether so much would fit, and never charged */
	HIT_NOTE /* charged whatever the rest, and refuses nothing: it has happened already */
};

struct hit {
	const struct limit *limit;
	uint8_t record; /* index into records */
	enum hit_mode mode;
	uint16_t times; /* on a ladder: the limit's figures times this. 0 and 1 are once */
	int64_t cost; /* things, not millionths; 1 for sessions */
};

static inline int64_t
hit_times(const struct hit *h)
{
	return h->times > 1 ? h->times : 1;
}

/* What may not be passed, and what drains in the limit's period. */
static inline int64_t
hit_ceiling(const struct hit *h)
{
	return limit_ceiling(h->limit) * hit_times(h);
}

static inline int64_t
hit_rate(const struct hit *h)
{
	return h->limit->rate * hit_times(h);
}

/* An attempt that is refused, or has happened already, fills a limit no further than this. */
static inline int64_t
hit_most(const struct hit *h)
{
	return STRICT_BURSTS * hit_ceiling(h);
}

/* True when refused attempts are charged, too. */
static inline bool
hit_strict(const struct hit *h)
{
	return h->limit->strict && h->mode == HIT_CHARGE;
}

/* What is known of the pool: asked when something hangs on it. */
struct pool_question {
	bool asked;
	bool known_only; /* the host is busy: of a stranger nothing is charged or written */
	uint8_t record; /* the pool's */
	enum trust_event event;
	int64_t block_us; /* a trap was hit: the pool is blocked for so long from now; 0 = no */
	int64_t passed_us; /* a pass of greylisting makes known for so long; 0: it does not */
	struct trust_rule rule;
};

struct grey_question {
	bool asked;
	uint8_t record; /* the pool's */
	bool correspondents; /* who a local user wrote to passes: look for `sender` */
	bool observed; /* mode observe: who is held back is not, so all is charged */
	bool when_down; /* Redis silent: ask the zone's memory; else let pass unasked */
	int64_t delay_us, window_us, keep_us;
	int64_t embargo, embargo_us; /* so many new triplets in such a time a pool; 0 = any */
	char key[GREY_KEY_MAX];
	char sender[MAILBOX_KEY_MAX];
};

struct request {
	char generation[GENERATION_MAX + 1];
	int64_t deadline_us; /* CLOCK_MONOTONIC; the store answers by then. 0: its own timeout */
	bool peek; /* only look: nothing is charged or written, whatever the generation */
	bool rejected; /* it tells of a recipient that the MTA refused */
	unsigned nrecords, nhits;
	uint8_t bits[REQUEST_RECORDS_MAX]; /* of an IPv6 network; 0 = the record of its kind */
	struct record records[REQUEST_RECORDS_MAX];
	struct hit hits[REQUEST_HITS_MAX];
	struct pool_question pool;
	struct grey_question grey;
	int64_t wrote_us; /* a local user writes to `wrote`: remembered for so long; 0 = nobody */
	char wrote[MAILBOX_KEY_MAX];
};

/* False when there is nothing to ask: the verdict is accept. deadline_us is left 0. */
bool plan_request(const struct ruleset *r, const struct facts *f, struct request *out);

/* This session is new, and it is a time of maintenance, by Redis' word or by the host's: whoever
 * is not exempt is refused, and nothing is asked. */
bool plan_drained(const struct ruleset *r, const struct facts *f);

/* This session is new, and the host has no time but for the exempt: nothing is asked. */
bool plan_overloaded(const struct ruleset *r, const struct facts *f);

/* The record of one kind that these facts are counted in. False: there is none (no login, no
 * domain, no HELO). */
bool plan_record(
    const struct ruleset *r, enum limit_per kind, const struct facts *f, struct record *out);
/* The same for the kinds that the address alone determines; the pool of one without a name. */
void plan_client_record(
    const struct ruleset *r, enum limit_per kind, const struct addr *client, struct record *out);

/* What the milter must see of a session under this ruleset. */
struct plan_steps {
	bool helo, mail, rcpt;
	bool name; /* whether the MTA has confirmed the client's name */
	bool daemon; /* which of the MTA's daemons it came to */
	bool rejected; /* recipients that the MTA refuses */
	bool bytes; /* the whole message, to count its bytes */
	bool close; /* the end of the session matters (open sessions are counted) */
};
struct plan_steps plan_steps(const struct ruleset *r);

/* True when nothing later in the session can be decided either, so that the MTA need not ask
 * again: an exempt client, or limits that look at connections only. */
bool plan_done(const struct ruleset *r, const struct facts *f);

#endif
