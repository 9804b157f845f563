/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.c - whose counters a question is about: the keys of records, and how long they are kept.
 */
#include <string.h>

#include "weir/pool.h"
#include "weir/units.h"
#include "record.h"

/* A record outlives its buckets by this much at least, so that an administrator who looks into
 * Redis still finds the client that was refused a while ago. */
#define RECORD_TTL_MIN (3600 * USEC_PER_SEC)

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
char *
record_text(char *out, const char *s)
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
unsigned
record_bits(const struct ruleset *r, enum limit_per kind, const struct addr *client)
{
	if (client->family == ADDR_V4)
		return kind == PER_ADDRESS ? 32 : r->network_v4;
	return kind == PER_ADDRESS ? r->address_v6 : r->network_v6;
}

/* What one site of the world is given (RFC 6177). The tag of every key of an IPv6 client, so that
 * a ladder, which may come and go, changes no key. */
#define SITE_BITS 48

static unsigned
tag_bits(const struct ruleset *r, const struct addr *client)
{
	unsigned address = record_bits(r, PER_ADDRESS, client);
	unsigned bits = record_bits(r, PER_NETWORK, client);

	if (address < bits)
		bits = address;
	return client->family == ADDR_V6 && SITE_BITS < bits ? SITE_BITS : bits;
}

/* "{TAG}" or "{TAG}:TEXT" of the client's network of `own` bits; both parts are at most
 * NET_TEXT_MAX, so it always fits. */
void
record_net_key(
    const struct ruleset *r, unsigned own, const struct addr *client, char out[NET_KEY_MAX])
{
	char tag[NET_TEXT_MAX], text[NET_TEXT_MAX];
	unsigned bits = tag_bits(r, client);
	struct net n;

	n = net_of(client, bits < own ? bits : own);
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
int64_t
record_ttl(const struct ruleset *r, enum limit_per kind)
{
	int64_t ttl = RECORD_TTL_MIN;

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
	if (kind == PER_ALL)
		strcpy(out->key, "{all}");
	else
		record_net_key(r, record_bits(r, kind, client), client, out->key);
	out->ttl_us = record_ttl(r, kind);
}

void
record_mailbox_key(const char *text, char out[MAILBOX_KEY_MAX])
{
	out[0] = '{';
	strcpy(record_text(out + 1, text), "}");
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
	char folded[MAILBOX_MAX + 1], pool[POOL_NAME_MAX + 1];
	const char *text = "";

	switch (kind) {
	case PER_ADDRESS:
	case PER_NETWORK:
	case PER_ALL:
	case PERS:
		plan_client_record(r, kind, &f->client, out);
		return true;
	case PER_POOL:
		if (f->name[0] != '\0' && pool_name(r->psl, &f->client, f->name, pool)) {
			text = pool;
			break;
		}
		plan_client_record(r, kind, &f->client, out);
		return true;
	case PER_USER:
		text = f->user;
		break;
	case PER_SENDER:
		text =
		    f->sender[0] != '\0' ? fold_mailbox(&r->fold, true, f->sender, folded) : "<>";
		break;
	case PER_SENDER_DOMAIN:
		text = domain_of(fold_mailbox(&r->fold, true, f->sender, folded));
		break;
	case PER_RECIPIENT:
		text = fold_mailbox(&r->fold, false, f->recipient, folded);
		break;
	case PER_RECIPIENT_DOMAIN:
		text = domain_of(fold_mailbox(&r->fold, false, f->recipient, folded));
		break;
	case PER_HELO:
		text = f->helo;
		break;
	}
	if (text[0] == '\0')
		return false;
	out->kind = kind;
	record_mailbox_key(text, out->key);
	out->ttl_us = record_ttl(r, kind);
	return true;
}
