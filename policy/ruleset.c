/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ruleset.c - the built-in limits, and the whole that limits and greylisting make.
 */
#include <string.h>

#include "weir/ruleset.h"
#include "weir/units.h"
#include "err.h"

/*
 * What a small mail server can run unseen. 60 connections a minute and 20 at once from one
 * address is more than any single sender was seen to need, yet a tenth of what one bot opens;
 * 300 recipients in 10 minutes from a /24 lets a mailing list through (burst) and stops a run.
 * weir.conf(5) explains them to the administrator.
 */
static const struct {
	const char *name, *words;
} builtin_limits[] = {
    {"connections", "count=connections per=address rate=60/1m"},
    {"sessions", "count=sessions per=address max=20"},
    {"recipients", "count=recipients per=network rate=300/10m"},
};

#define MINUTE (60 * USEC_PER_SEC)
#define DAY (1440 * MINUTE)

void
ruleset_defaults(struct ruleset *r)
{
	char err[LIMIT_ERR_MAX];

	memset(r, 0, sizeof *r);
	r->address_v6 = 64;
	r->network_v4 = 24;
	r->network_v6 = 64;
	r->valid_until_us = INT64_MAX;
	/* RFC 3463 3.4: X.3.2 is the system that takes no messages now */
	(void)reply_parse("421 4.3.2 Down for maintenance, please try again later", &r->drain_reply,
	    err, sizeof err);
	(void)reply_parse(
	    "421 4.7.1 Not accepted from your address for now", &r->block_reply, err, sizeof err);
	r->greylist.delay_us = 5 * MINUTE;
	r->greylist.window_us = DAY;
	r->greylist.keep_us = 35 * DAY;
	/* a pool that never passes cannot have more waiting than this: Redis' memory is bounded,
	 * and one that does pass is not asked any more */
	r->greylist.embargo = 1000;
	r->greylist.embargo_us = 60 * MINUTE;
	r->trust.messages = 20;
	r->trust.over_us = 7 * DAY;
	r->trust.keep_us = 35 * DAY;
	r->trap_us = 60 * MINUTE;
	(void)reply_parse(
	    "421 4.7.1 Greylisted, please try again later", &r->greylist.reply, err, sizeof err);
	load_rules_defaults(&r->load);
	for (size_t i = 0; i < sizeof builtin_limits / sizeof builtin_limits[0]; i++) {
		struct limit *l = ruleset_limit_add(r, builtin_limits[i].name);

		(void)limit_set_words(l, builtin_limits[i].words, err, sizeof err);
	}
}

struct limit *
ruleset_limit(struct ruleset *r, const char *name)
{
	for (unsigned i = 0; i < r->nlimits; i++)
		if (strcmp(r->limits[i].name, name) == 0)
			return &r->limits[i];
	return NULL;
}

struct limit *
ruleset_limit_add(struct ruleset *r, const char *name)
{
	struct limit *l = ruleset_limit(r, name);

	if (l != NULL)
		return l;
	if (r->nlimits == LIMITS_MAX)
		return NULL;
	l = &r->limits[r->nlimits++];
	limit_init(l, name);
	return l;
}

static bool
add_width(uint8_t widths[LADDER_WIDTHS_MAX], unsigned *n, uint8_t bits)
{
	for (unsigned i = 0; i < *n; i++)
		if (widths[i] == bits)
			return true;
	if (*n == LADDER_WIDTHS_MAX)
		return false;
	widths[(*n)++] = bits;
	return true;
}

bool
ruleset_ladders_fit(const struct ruleset *r, const struct limit *l)
{
	uint8_t widths[LADDER_WIDTHS_MAX];
	unsigned n = 0;
	bool fits = true;

	for (unsigned k = 0; k < l->nrungs; k++)
		fits = fits && add_width(widths, &n, l->rungs[k].bits);
	for (unsigned i = 0; i < r->nlimits; i++)
		for (unsigned k = 0; k < r->limits[i].nrungs; k++)
			if (strcmp(r->limits[i].name, l->name) != 0)
				fits = fits && add_width(widths, &n, r->limits[i].rungs[k].bits);
	return fits;
}

bool
ruleset_needs_trust(const struct ruleset *r)
{
	for (unsigned i = 0; i < r->nlimits; i++)
		if (limit_wants_trust(&r->limits[i]))
			return true;
	return exceptions_about_traps(r->exceptions);
}

bool
ruleset_learns(const struct ruleset *r)
{
	return r->learn || r->greylist.enabled || load_wanted(&r->load) || ruleset_needs_trust(r);
}

bool
greylist_finish(const struct greylist *g, char *err, size_t errlen)
{
	if (!g->enabled)
		return true;
	if (g->window_us < g->delay_us + GREY_WINDOW_SLACK)
		return err_set(err, errlen,
		    "greylist: window must be at least 30 minutes longer than delay "
		    "(RFC 5321 4.5.4.1)",
		    NULL);
	if (g->keep_us < g->window_us)
		return err_set(err, errlen, "greylist: keep must not be shorter than window", NULL);
	return true;
}

/* Half of what fades while it is earned could never be earned. */
bool
trust_finish(const struct trust_rule *t, char *err, size_t errlen)
{
	if (t->messages != 0 && t->keep_us < 2 * t->over_us)
		return err_set(err, errlen,
		    "known: keep must be at least twice as long as over: what is earned fades in "
		    "it",
		    NULL);
	return true;
}

bool
ruleset_finish(struct ruleset *r, char *err, size_t errlen)
{
	char why[LIMIT_ERR_MAX];

	for (unsigned i = 0; i < r->nlimits; i++)
		if (!limit_finish(&r->limits[i], why, sizeof why))
			return err_set(err, errlen, "limit ", r->limits[i].name, ": ", why, NULL);
	for (unsigned i = 0; i < r->nlimits; i++)
		if (!ruleset_ladders_fit(r, &r->limits[i]))
			return err_set(
			    err, errlen, "limit ", r->limits[i].name, ": ", LADDERS_TOO_WIDE, NULL);
	return greylist_finish(&r->greylist, err, errlen) && trust_finish(&r->trust, err, errlen);
}

bool
ruleset_exempt(const struct ruleset *r, const struct facts *f)
{
	enum listed l;

	/* no address is local submission: nobody floods through the host's own sendmail(1) */
	if (f->client.family == ADDR_NONE)
		return true;
	l = exceptions_listed(r->exceptions, &f->client, f->user, f->name);
	return l == LISTED_EXEMPT ||
	    (l == LISTED_NOT && r->exempt != NULL && netset_contains(r->exempt, &f->client));
}

bool
ruleset_blocked(const struct ruleset *r, const struct facts *f)
{
	return f->client.family != ADDR_NONE &&
	    exceptions_listed(r->exceptions, &f->client, f->user, f->name) == LISTED_BLOCKED;
}

void
ruleset_deinit(struct ruleset *r)
{
	exceptions_free(&r->exceptions);
}
