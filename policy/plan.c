/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * plan.c - the first step of the road: which counters matter for this question.
 */
#include <string.h>

#include "weir/request.h"
#include "record.h"

const char *
stage_name(enum stage s)
{
	static const char *const names[] = {
	    [STAGE_CONNECT] = "connect",
	    [STAGE_HELO] = "helo",
	    [STAGE_MAIL] = "mail",
	    [STAGE_RCPT] = "rcpt",
	    [STAGE_EOM] = "eom",
	};

	return names[s];
}

/* --- records ----------------------------------------------------------------------------- */

#define NO_RECORD UINT8_MAX

/* The index of the record of an IPv6 client's network of so many bits, made at its first use: of
 * its "network", or of a ladder's. Where both are as wide they are one, or a session would be
 * counted twice in it. */
static uint8_t
network_record(const struct ruleset *r, const struct facts *f, unsigned bits, struct request *q)
{
	struct record *new = &q->records[q->nrecords];

	for (unsigned i = 0; i < q->nrecords; i++)
		if (q->bits[i] == bits)
			return (uint8_t)i;
	if (q->nrecords == REQUEST_RECORDS_MAX)
		return NO_RECORD; /* not with a ruleset whose ladders fit */
	new->kind = PER_NETWORK;
	record_net_key(r, bits, &f->client, new->key);
	new->ttl_us = record_ttl(r, PER_ADDRESS);
	if (record_ttl(r, PER_NETWORK) > new->ttl_us)
		new->ttl_us = record_ttl(r, PER_NETWORK);
	q->bits[q->nrecords] = (uint8_t)bits;
	return (uint8_t)q->nrecords++;
}

/* The same of the record of this kind. */
static uint8_t
request_record(
    const struct ruleset *r, const struct facts *f, enum limit_per kind, struct request *q)
{
	if (kind == PER_NETWORK && f->client.family == ADDR_V6)
		return network_record(r, f, record_bits(r, kind, &f->client), q);
	for (unsigned i = 0; i < q->nrecords; i++)
		if (q->records[i].kind == kind && q->bits[i] == 0)
			return (uint8_t)i;
	if (!plan_record(r, kind, f, &q->records[q->nrecords]))
		return NO_RECORD;
	q->bits[q->nrecords] = 0;
	return (uint8_t)q->nrecords++;
}

/* --- limits -------------------------------------------------------------------------------- */

/* What this question costs a limit, and how; cost 0 = the limit has no part in it. */
struct cost {
	int64_t things;
	enum hit_mode mode;
};

/*
 * A message is counted at its first recipient: before, the MTA may still refuse all of it, and
 * greylisting comes first. Its bytes are known at its end; where the client announced them
 * (RFC 1870), what would not fit is refused before it is sent. What the MTA rejected has
 * happened: it is noted then, and looked at wherever the client can be told.
 */
static struct cost
limit_cost(const struct limit *l, const struct facts *f)
{
	bool rcpt = f->stage == STAGE_RCPT && !f->rejected;
	/* a shadow is charged by itself; it has no second question to be asked */
	bool probes = l->action != ACTION_LOG;

	switch (l->count) {
	case COUNT_CONNECTIONS:
	case COUNT_SESSIONS:
		return (struct cost){f->stage == STAGE_CONNECT, HIT_CHARGE};
	case COUNT_MESSAGES:
		return (struct cost){rcpt && !f->message_counted, HIT_CHARGE};
	case COUNT_RECIPIENTS:
		return (struct cost){rcpt, HIT_CHARGE};
	case COUNT_REJECTED:
		if (f->stage == STAGE_RCPT && f->rejected)
			return (struct cost){1, HIT_NOTE};
		return (struct cost){probes && f->stage != STAGE_EOM, HIT_PROBE};
	case COUNT_BYTES:
		if (f->stage == STAGE_EOM)
			return (struct cost){f->bytes, HIT_CHARGE};
		return (struct cost){
		    probes && rcpt && !f->message_counted ? f->bytes : 0, HIT_PROBE};
	case COUNTS:
		break;
	}
	return (struct cost){0, HIT_CHARGE};
}

/* As far as it can be told without a store. */
static bool
limit_is_for(const struct limit *l, const struct facts *f)
{
	bool authenticated = f->user[0] != '\0';

	switch (l->whom) {
	case FOR_EVERYONE:
	case FOR_KNOWN:
		return true;
	case FOR_STRANGERS:
		return !authenticated;
	case FOR_AUTHENTICATED:
		return authenticated;
	case FOR_NETWORKS:
		break;
	}
	for (unsigned i = 0; i < l->nnets; i++)
		if (net_contains(&l->nets[i], &f->client))
			return true;
	return false;
}

static void
add_hit(struct request *q, const struct limit *l, struct cost cost, unsigned times, uint8_t record)
{
	/* without a login, a domain, a HELO nothing is counted per such */
	if (record == NO_RECORD || q->nhits == REQUEST_HITS_MAX)
		return;
	q->hits[q->nhits++] = (struct hit){.limit = l,
	    .record = record,
	    .mode = cost.mode,
	    .times = (uint16_t)times,
	    .cost = cost.things};
	/* a message larger than the limit is one, however large: figures stay within bounds */
	if (cost.things > limit_ceiling(l) * times + 1)
		q->hits[q->nhits - 1].cost = limit_ceiling(l) * times + 1;
}

/* Before MAIL only the client is known; a sender that has not been said is not the null sender. A
 * HELO, a login are those of the last command before; without one a limit per such has no record. */
static void
plan_limit(const struct ruleset *r, const struct facts *f, const struct limit *l, struct request *q)
{
	struct cost cost = limit_cost(l, f);

	if (!l->enabled || cost.things <= 0 || !limit_is_for(l, f) ||
	    (f->stage < STAGE_MAIL && !limit_per_is_client(l->per)))
		return;
	add_hit(q, l, cost, 1, request_record(r, f, l->per, q));
	for (unsigned i = 0; i < l->nrungs && f->client.family == ADDR_V6; i++)
		if (l->rungs[i].bits < record_bits(r, l->per, &f->client))
			add_hit(q, l, cost, l->rungs[i].times,
			    network_record(r, f, l->rungs[i].bits, q));
}

static void
plan_hits(const struct ruleset *r, const struct facts *f, struct request *q)
{
	/* always first: it keeps the client's totals and its last refusal, whatever is charged */
	(void)request_record(r, f, PER_ADDRESS, q);
	for (unsigned i = 0; i < r->nlimits; i++)
		plan_limit(
		    r, f, exceptions_limit(r->exceptions, &r->limits[i], &f->client, f->user), q);
}

/* --- the pool ------------------------------------------------------------------------------ */

/* A busy host wants to know whom it has before it. */
static bool
known_matters(const struct facts *f)
{
	return f->stage == STAGE_CONNECT && f->level > 0 && !f->spared;
}

/* Asked where a verdict can hang on it, and where something is learnt. */
static void
plan_pool(const struct ruleset *r, const struct facts *f, struct request *q)
{
	struct pool_question *p = &q->pool;

	/* who is authenticated is known by himself, and earns nothing for his address */
	if (f->user[0] != '\0')
		return;
	p->event = TRUST_LOOK;
	if (f->stage == STAGE_RCPT && f->rejected)
		p->event = TRUST_REJECTED;
	else if (f->stage == STAGE_RCPT && !f->message_counted)
		p->event = TRUST_MESSAGE;
	/* also when the MTA refuses it: nobody has a trap's mailbox */
	if (f->stage == STAGE_RCPT && exceptions_trap(r->exceptions, f->recipient))
		p->block_us = r->trap_us;
	p->asked = ruleset_needs_trust(r) || known_matters(f) ||
	    (p->event != TRUST_LOOK && ruleset_learns(r));
	if (!p->asked)
		return;
	/* who is refused in observe mode goes on, and is charged like everybody */
	p->known_only = known_matters(f) && !r->observe;
	p->record = request_record(r, f, PER_POOL, q);
	p->rule = r->trust;
	p->passed_us = r->greylist.enabled ? r->greylist.keep_us : 0;
}

/* --- greylisting --------------------------------------------------------------------------- */

/* RFC 5321 4.5.1 and RFC 2142: the mailboxes that people write to when mail does not work. */
static bool
free_recipient(const char *rcpt)
{
	static const char *const locals[] = {"postmaster", "abuse", NULL};

	for (size_t i = 0; locals[i] != NULL; i++) {
		size_t len = strlen(locals[i]);
		size_t j = 0;

		while (j < len && (rcpt[j] | 0x20) == locals[i][j])
			j++;
		if (j == len && (rcpt[j] == '@' || rcpt[j] == '\0'))
			return true;
	}
	return false;
}

static void
plan_greylist(const struct ruleset *r, const struct facts *f, struct request *q)
{
	const struct greylist *g = &r->greylist;
	struct grey_question *ask = &q->grey;
	int64_t delay_us;
	char *p;

	if (!g->enabled || f->stage != STAGE_RCPT || f->rejected || f->user[0] != '\0' ||
	    f->greylist_done || (g->accept_null_sender && f->sender[0] == '\0') ||
	    free_recipient(f->recipient))
		return;
	switch (exceptions_greylist(r->exceptions, f, &delay_us)) {
	case GREY_WISH_OFF:
		return;
	case GREY_WISH_NONE:
		if (g->listed_only)
			return;
		break;
	case GREY_WISH_ON:
		break;
	}
	ask->asked = true;
	ask->embargo = g->embargo;
	ask->embargo_us = g->embargo_us;
	ask->correspondents = g->correspondents && f->sender[0] != '\0';
	if (ask->correspondents)
		record_mailbox_key(f->sender, ask->sender);
	ask->observed = r->observe;
	ask->when_down = g->hold_when_down;
	ask->record = request_record(r, f, PER_POOL, q);
	ask->delay_us = delay_us != 0 ? delay_us : g->delay_us;
	/* the file's window goes with the file's delay; one of the recipient's own may be longer */
	ask->window_us = g->window_us;
	if (ask->window_us < ask->delay_us + GREY_WINDOW_SLACK)
		ask->window_us = ask->delay_us + GREY_WINDOW_SLACK;
	ask->keep_us = g->keep_us;
	strcpy(ask->key, q->records[ask->record].key);
	p = ask->key + strlen(ask->key);
	*p++ = ' ';
	p = record_text(p, f->sender);
	*p++ = ' ';
	record_text(p, f->recipient);
}

/* Who sends mail to somebody expects an answer (RFC 6647 leaves it to the site). Seen where
 * users submit through a weir that shares its store with the one that greylists. */
static void
plan_wrote(const struct ruleset *r, const struct facts *f, struct request *q)
{
	const struct greylist *g = &r->greylist;

	if (!g->enabled || !g->correspondents || f->stage != STAGE_RCPT || f->rejected ||
	    f->user[0] == '\0' || f->recipient[0] == '\0')
		return;
	q->wrote_us = g->keep_us;
	record_mailbox_key(f->recipient, q->wrote);
}

bool
plan_drained(const struct ruleset *r, const struct facts *f)
{
	return f->stage == STAGE_CONNECT && (f->drain || r->drain_until_us != 0);
}

/* --- the whole ----------------------------------------------------------------------------- */

static bool
wants_answer(const struct request *q)
{
	return q->nhits > 0 || q->grey.asked || q->pool.asked || q->wrote_us > 0;
}

bool
plan_overloaded(const struct ruleset *r, const struct facts *f)
{
	return f->stage == STAGE_CONNECT && f->level > 1 && !r->observe;
}

bool
plan_request(const struct ruleset *r, const struct facts *f, struct request *q)
{
	char sender[MAILBOX_MAX + 1], recipient[MAILBOX_MAX + 1];
	struct facts named; /* under the names that count */

	q->deadline_us = 0;
	q->peek = false;
	q->nrecords = q->nhits = 0;
	q->grey.asked = q->pool.asked = false;
	q->pool.known_only = false;
	q->pool.block_us = 0;
	q->wrote_us = 0;
	q->rejected = f->stage == STAGE_RCPT && f->rejected;
	memcpy(q->generation, r->generation, sizeof q->generation);
	named = *f;
	named.sender = fold_mailbox(&r->fold, true, f->sender, sender);
	named.recipient = fold_mailbox(&r->fold, false, f->recipient, recipient);
	f = &named;
	if (ruleset_blocked(r, f))
		return false;
	if (ruleset_exempt(r, f)) {
		const struct listed_entry *l =
		    exceptions_client(r->exceptions, &f->client, f->user, f->name);

		/* Exempt by Redis: asks nothing but whether that still holds. */
		if (l == NULL || l->from_file)
			return false;
		(void)request_record(r, f, PER_ADDRESS, q);
		return true;
	}
	if (plan_drained(r, f) || plan_overloaded(r, f))
		return false;
	plan_hits(r, f, q);
	plan_pool(r, f, q);
	plan_greylist(r, f, q);
	plan_wrote(r, f, q);
	return wants_answer(q);
}

struct plan_steps
plan_steps(const struct ruleset *r)
{
	struct plan_steps s = {.rcpt = r->greylist.enabled ||
		exceptions_about_users(r->exceptions) || exceptions_about_envelope(r->exceptions)};

	for (unsigned i = 0; i < r->nlimits; i++) {
		const struct limit *l = &r->limits[i];

		if (!l->enabled)
			continue;
		if (l->per == PER_HELO)
			s.helo = true;
		if (l->per == PER_POOL)
			s.name = true;
		if (l->count == COUNT_REJECTED)
			s.rejected = true;
		if (l->count == COUNT_BYTES)
			s.bytes = true;
		if (!limit_at_connect(l) && l->count != COUNT_REJECTED) {
			s.rcpt = true;
			continue;
		}
		if (l->count == COUNT_SESSIONS)
			s.close = true;
		/* a verdict that is not spoken at connect waits for HELO, at the latest for MAIL */
		if (l->action == ACTION_REFUSE && r->refuse_at_helo)
			s.helo = s.mail = true;
		if (l->action == ACTION_DEFER)
			s.mail = true;
	}
	if (ruleset_learns(r))
		s.name = s.rejected = true;
	/* whoever is let go at connect is not counted as open */
	if (load_wants(&r->load, LOAD_SESSIONS))
		s.close = true;
	s.daemon = load_wanted(&r->load) && r->load.nspare > 0;
	if (exceptions_about_names(r->exceptions))
		s.name = true;
	if (s.rejected || s.bytes)
		s.rcpt = true;
	/* without MAIL nobody knows where a message begins, nor who is authenticated */
	if (s.rcpt)
		s.mail = true;
	return s;
}

bool
plan_done(const struct ruleset *r, const struct facts *f)
{
	struct plan_steps s = plan_steps(r);

	return ruleset_exempt(r, f) || (!s.rcpt && !s.close);
}
