/*
 * request.h - plan: facts + ruleset -> what has to be asked of the store, in one round trip.
 *
 * A request names records (one per client, network, ...: the unit that Redis keeps as one hash)
 * and hits (one limit charged to one record). The store answers it whole, in one atomic step:
 * either every enforced hit fits and all are charged, or none is. Limits with action=log are
 * charged by themselves.
 *
 * Plain value on the caller's stack, about 3 kB. Limits are borrowed from the ruleset.
 */
#ifndef WEIR_REQUEST_H
#define WEIR_REQUEST_H

#include "weir/facts.h"
#include "weir/ruleset.h"

#define REQUEST_HITS_MAX LIMITS_MAX
#define REQUEST_RECORDS_MAX PERS /* one of each kind */

/* "{TAG}:TEXT", or "{TAG}" where both are the same. All keys of one client share the tag, its
 * widest network, so that they live in one slot of a Redis Cluster. */
#define NET_KEY_MAX 112

/* "{TEXT}" for users, senders, ...: lower case, escaped, cut as below. Their own slot. */
#define TEXT_PART_MAX 255
#define RECORD_KEY_MAX (TEXT_PART_MAX + 3)

/* "RECORD-KEY SENDER RECIPIENT", sender and recipient in lower case and escaped; what would be
 * longer than TEXT_PART_MAX is cut and ends in a hash of the whole. */
#define GREY_KEY_MAX (NET_KEY_MAX + 2 * TEXT_PART_MAX + 2)

struct record {
	enum limit_per kind; /* Redis key: PREFIX:address:{192.0.2.0/24}:192.0.2.7 */
	char key[RECORD_KEY_MAX];
	int64_t ttl_us; /* kept this long after its last charge; never 0 */
};

struct hit {
	const struct limit *limit;
	uint8_t record; /* index into records */
	int64_t cost; /* things, not millionths; 1 for sessions */
};

struct grey_question {
	bool asked;
	uint8_t record; /* the pool's */
	bool observed; /* mode observe: who is held back is not, so all is charged */
	bool when_down; /* Redis silent: ask the zone's memory; else let pass unasked */
	int64_t delay_us, window_us, keep_us;
	char key[GREY_KEY_MAX];
};

struct request {
	char generation[GENERATION_MAX + 1];
	int64_t deadline_us; /* CLOCK_MONOTONIC; the store answers by then. 0: its own timeout */
	bool peek; /* only look: nothing is charged or written, whatever the generation */
	unsigned nrecords, nhits;
	struct record records[REQUEST_RECORDS_MAX];
	struct hit hits[REQUEST_HITS_MAX];
	struct grey_question grey;
};

/* False when there is nothing to ask: the verdict is accept. deadline_us is left 0. */
bool plan_request(const struct ruleset *r, const struct facts *f, struct request *out);

/* This session is new, and it is a time of maintenance, by Redis' word or by the host's: whoever
 * is not exempt is refused, and nothing is asked. */
bool plan_drained(const struct ruleset *r, const struct facts *f);

/* The record of one kind that these facts are counted in. False: there is none (no login, no
 * domain, no HELO). */
bool plan_record(
    const struct ruleset *r, enum limit_per kind, const struct facts *f, struct record *out);
/* The same for the kinds that a client alone determines. */
void plan_client_record(
    const struct ruleset *r, enum limit_per kind, const struct addr *client, struct record *out);

/* What the milter must see of a session under this ruleset. */
struct plan_steps {
	bool helo, mail, rcpt;
	bool close; /* the end of the session matters (open sessions are counted) */
};
struct plan_steps plan_steps(const struct ruleset *r);

/* True when nothing later in the session can be decided either, so that the MTA need not ask
 * again: an exempt client, or limits that look at connections only. */
bool plan_done(const struct ruleset *r, const struct facts *f);

#endif
