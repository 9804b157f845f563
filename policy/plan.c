/*
 * plan.c - the first step of the road: which counters matter for this question.
 */
#include <string.h>

#include "weir/request.h"
#include "weir/units.h"

/* A record outlives its buckets by this much at least, so that an administrator who looks into
 * Redis still finds the client that was refused a while ago. */
#define RECORD_TTL_MIN (3600 * USEC_PER_SEC)

const char *
stage_name(enum stage s)
{
	static const char *const names[] = {
	    [STAGE_CONNECT] = "connect",
	    [STAGE_HELO] = "helo",
	    [STAGE_MAIL] = "mail",
	    [STAGE_RCPT] = "rcpt",
	};

	return names[s];
}

/* --- text in keys -------------------------------------------------------------------------- */

static unsigned char
lower(char c)
{
	return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

/* FNV-1a: only tells over-long addresses apart; who makes two collide harms himself. */
static uint64_t
text_hash(const char *s)
{
	uint64_t h = UINT64_C(0xcbf29ce484222325);

	for (; *s != '\0'; s++)
		h = (h ^ lower(*s)) * UINT64_C(0x100000001b3);
	return h;
}

static char
hex_digit(unsigned v)
{
	return "0123456789abcdef"[v & 15];
}

/* Lower case, and %XX for all that could confuse a key, a person or a log. Returns the end. */
static char *
text_part(char *out, const char *s)
{
	char *start = out, *end = out + TEXT_PART_MAX;
	const char *whole = s;

	if (*s == '\0') {
		strcpy(out, "<>");
		return out + 2;
	}
	for (; *s != '\0' && out + 3 <= end; s++) {
		unsigned char c = lower(*s);

		if (c > 0x20 && c < 0x7f && c != '%' && c != '{' && c != '}')
			*out++ = (char)c;
		else {
			*out++ = '%';
			*out++ = hex_digit(c >> 4);
			*out++ = hex_digit(c);
		}
	}
	if (*s != '\0') {
		uint64_t h = text_hash(whole);

		out = start + TEXT_PART_MAX - 17;
		*out++ = '~';
		for (int shift = 60; shift >= 0; shift -= 4)
			*out++ = hex_digit((unsigned)(h >> shift));
	}
	*out = '\0';
	return out;
}

/* --- record keys --------------------------------------------------------------------------- */

/* The bits that make one "address" or "network" of the client's family. */
static unsigned
mask_bits(const struct ruleset *r, enum limit_per kind, const struct addr *client)
{
	if (client->family == ADDR_V4)
		return kind == PER_ADDRESS ? 32 : r->network_v4;
	return kind == PER_ADDRESS ? r->address_v6 : r->network_v6;
}

/* "{TAG}" or "{TAG}:TEXT"; both parts are at most NET_TEXT_MAX, so it always fits. */
static void
client_key(
    const struct ruleset *r, enum limit_per kind, const struct addr *client, char out[NET_KEY_MAX])
{
	char tag[NET_TEXT_MAX], text[NET_TEXT_MAX];
	unsigned address = mask_bits(r, PER_ADDRESS, client);
	unsigned network = mask_bits(r, PER_NETWORK, client);
	unsigned own = mask_bits(r, kind, client);
	struct net n;

	if (kind == PER_ALL) {
		strcpy(out, "{all}");
		return;
	}
	n = net_of(client, address < network ? address : network);
	net_format(&n, tag);
	n = net_of(client, own);
	net_format(&n, text);
	strcpy(out, "{");
	strcat(out, tag);
	strcat(out, "}");
	if (strcmp(tag, text) != 0) {
		strcat(out, ":");
		strcat(out, text);
	}
}

/* One life time for all that is kept in a record, whichever limit writes it: the longest. */
static int64_t
record_ttl(const struct ruleset *r, enum limit_per kind)
{
	int64_t ttl = kind == PER_POOL ? r->greylist.keep_us : RECORD_TTL_MIN;

	for (unsigned i = 0; i < r->nlimits; i++)
		if (r->limits[i].enabled && r->limits[i].per == kind &&
		    limit_drain_us(&r->limits[i]) > ttl)
			ttl = limit_drain_us(&r->limits[i]);
	if (exceptions_drain_us(r->exceptions, kind) > ttl)
		ttl = exceptions_drain_us(r->exceptions, kind);
	return ttl;
}

void
plan_client_record(
    const struct ruleset *r, enum limit_per kind, const struct addr *client, struct record *out)
{
	out->kind = kind;
	client_key(r, kind, client, out->key);
	out->ttl_us = record_ttl(r, kind);
}

/* What stands behind the last '@'; "" when there is none. */
static const char *
domain_of(const char *address)
{
	const char *at = strrchr(address, '@');

	return at != NULL ? at + 1 : "";
}

bool
plan_record(const struct ruleset *r, enum limit_per kind, const struct facts *f, struct record *out)
{
	const char *text = "";

	switch (kind) {
	case PER_ADDRESS:
	case PER_NETWORK:
	case PER_ALL:
	case PER_POOL:
	case PERS:
		plan_client_record(r, kind, &f->client, out);
		return true;
	case PER_USER:
		text = f->user;
		break;
	case PER_SENDER:
		text = f->sender[0] != '\0' ? f->sender : "<>";
		break;
	case PER_SENDER_DOMAIN:
		text = domain_of(f->sender);
		break;
	case PER_RECIPIENT:
		text = f->recipient;
		break;
	case PER_RECIPIENT_DOMAIN:
		text = domain_of(f->recipient);
		break;
	case PER_HELO:
		text = f->helo;
		break;
	}
	if (text[0] == '\0')
		return false;
	out->kind = kind;
	out->key[0] = '{';
	strcpy(text_part(out->key + 1, text), "}");
	out->ttl_us = record_ttl(r, kind);
	return true;
}

#define NO_RECORD UINT8_MAX

/* The index of the record of this kind, made at its first use. */
static uint8_t
request_record(
    const struct ruleset *r, const struct facts *f, enum limit_per kind, struct request *q)
{
	for (unsigned i = 0; i < q->nrecords; i++)
		if (q->records[i].kind == kind)
			return (uint8_t)i;
	if (!plan_record(r, kind, f, &q->records[q->nrecords]))
		return NO_RECORD;
	return (uint8_t)q->nrecords++;
}

/* --- limits -------------------------------------------------------------------------------- */

/* What this question costs a limit; 0 = the limit has no part in it. A message is counted at
 * its first recipient: before, the MTA may still refuse all of it, and greylisting comes first. */
static int64_t
hit_cost(const struct limit *l, const struct facts *f)
{
	if (!l->enabled)
		return 0;
	switch (l->count) {
	case COUNT_CONNECTIONS:
	case COUNT_SESSIONS:
		return f->stage == STAGE_CONNECT;
	case COUNT_MESSAGES:
		return f->stage == STAGE_RCPT && !f->message_counted;
	case COUNT_RECIPIENTS:
		return f->stage == STAGE_RCPT;
	}
	return 0;
}

static void
plan_hits(const struct ruleset *r, const struct facts *f, struct request *q)
{
	/* always first: it keeps the client's totals and its last refusal, whatever is charged */
	(void)request_record(r, f, PER_ADDRESS, q);
	for (unsigned i = 0; i < r->nlimits; i++) {
		const struct limit *l =
		    exceptions_limit(r->exceptions, &r->limits[i], &f->client, f->user);
		int64_t cost = hit_cost(l, f);
		struct hit *h = &q->hits[q->nhits];

		if (cost == 0)
			continue;
		h->limit = l;
		h->cost = cost;
		h->record = request_record(r, f, l->per, q);
		/* without a login, a domain, a HELO nothing is counted per such */
		if (h->record != NO_RECORD)
			q->nhits++;
	}
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
	char *p;

	if (!g->enabled || f->stage != STAGE_RCPT || f->user[0] != '\0' || f->greylist_done ||
	    free_recipient(f->recipient))
		return;
	ask->asked = true;
	ask->observed = r->observe;
	ask->when_down = g->hold_when_down;
	ask->record = request_record(r, f, PER_POOL, q);
	ask->delay_us = g->delay_us;
	ask->window_us = g->window_us;
	ask->keep_us = g->keep_us;
	strcpy(ask->key, q->records[ask->record].key);
	p = ask->key + strlen(ask->key);
	*p++ = ' ';
	p = text_part(p, f->sender);
	*p++ = ' ';
	text_part(p, f->recipient);
}

bool
plan_drained(const struct ruleset *r, const struct facts *f)
{
	return f->stage == STAGE_CONNECT && (f->drain || r->drain_until_us != 0);
}

/* --- the whole ----------------------------------------------------------------------------- */

bool
plan_request(const struct ruleset *r, const struct facts *f, struct request *q)
{
	q->deadline_us = 0;
	q->peek = false;
	q->nrecords = q->nhits = 0;
	q->grey.asked = false;
	memcpy(q->generation, r->generation, sizeof q->generation);
	if (ruleset_blocked(r, &f->client, f->user))
		return false;
	if (ruleset_exempt(r, &f->client, f->user)) {
		/* Exempt by Redis: asks nothing but whether that still holds. */
		if (exceptions_listed(r->exceptions, &f->client, f->user) != LISTED_EXEMPT)
			return false;
		(void)request_record(r, f, PER_ADDRESS, q);
		return true;
	}
	if (plan_drained(r, f))
		return false;
	plan_hits(r, f, q);
	plan_greylist(r, f, q);
	return q->nhits > 0 || q->grey.asked;
}

struct plan_steps
plan_steps(const struct ruleset *r)
{
	struct plan_steps s = {
	    .rcpt = r->greylist.enabled || exceptions_about_users(r->exceptions)};

	for (unsigned i = 0; i < r->nlimits; i++) {
		const struct limit *l = &r->limits[i];

		if (!l->enabled)
			continue;
		if (l->per == PER_HELO)
			s.helo = true;
		if (!limit_at_connect(l)) {
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
	/* without MAIL nobody knows where a message begins, nor who is authenticated */
	if (s.rcpt)
		s.mail = true;
	return s;
}

bool
plan_done(const struct ruleset *r, const struct facts *f)
{
	struct plan_steps s = plan_steps(r);

	return ruleset_exempt(r, &f->client, f->user) || (!s.rcpt && !s.close);
}
