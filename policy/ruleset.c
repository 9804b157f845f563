/*
 * ruleset.c - the built-in limits, and how the layers lie over each other.
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
    {"connections", "count=connections per=address rate=60/1m burst=60"},
    {"sessions", "count=sessions per=address max=20"},
    {"recipients", "count=recipients per=network rate=300/10m burst=300"},
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
	r->greylist.delay_us = 5 * MINUTE;
	r->greylist.window_us = DAY;
	r->greylist.keep_us = 35 * DAY;
	(void)reply_parse(
	    "421 4.7.1 Greylisted, please try again later", &r->greylist.reply, err, sizeof err);
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

/* RFC 5321 4.5.4.1 lets a sender wait 30 minutes and more between tries: a window that ends
 * earlier would lock correct senders out for ever. */
#define GREY_WINDOW_SLACK (30 * MINUTE)

static bool
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

bool
ruleset_finish(struct ruleset *r, char *err, size_t errlen)
{
	char why[LIMIT_ERR_MAX];

	for (unsigned i = 0; i < r->nlimits; i++)
		if (!limit_finish(&r->limits[i], why, sizeof why))
			return err_set(err, errlen, "limit ", r->limits[i].name, ": ", why, NULL);
	return greylist_finish(&r->greylist, err, errlen);
}

bool
ruleset_exempt(const struct ruleset *r, const struct addr *client)
{
	/* no address is local submission: nobody floods through the host's own sendmail(1) */
	return client->family == ADDR_NONE ||
	    (r->exempt != NULL && netset_contains(r->exempt, client));
}

/* Puts prev's idea of the limit (or none) into out. */
static void
keep_previous(struct ruleset *out, const struct ruleset *prev, const char *name)
{
	for (unsigned i = 0; i < prev->nlimits; i++)
		if (strcmp(prev->limits[i].name, name) == 0) {
			struct limit *l = ruleset_limit_add(out, name);

			if (l != NULL)
				*l = prev->limits[i];
			return;
		}
}

/* Why the entry cannot be used, in err; or true, and *l is the finished limit. */
static bool
overlay_limit(struct limit *l, const struct overlay_entry *e, char *err, size_t errlen)
{
	return limit_set_words(l, e->words, err, errlen) && limit_finish(l, err, errlen);
}

void
ruleset_overlay(const struct ruleset *base, const struct ruleset *prev, const char *generation,
    const struct overlay_entry *entries, unsigned nentries, struct ruleset *out,
    ruleset_report *report, void *ctx)
{
	char err[LIMIT_ERR_MAX];

	*out = *base;
	memset(out->generation, 0, sizeof out->generation);
	strncpy(out->generation, generation, GENERATION_MAX);
	for (unsigned i = 0; i < nentries; i++) {
		const struct overlay_entry *e = &entries[i];
		struct limit changed, *slot;

		if (!limit_name_valid(e->name)) {
			report(ctx, e->name, "not a limit's name ([a-z0-9-], at most 32)");
			continue;
		}
		slot = ruleset_limit(out, e->name);
		if (slot == NULL && out->nlimits == LIMITS_MAX) {
			report(ctx, e->name, "too many limits (at most 16)");
			continue;
		}
		if (slot != NULL)
			changed = *slot;
		else
			limit_init(&changed, e->name);
		if (overlay_limit(&changed, e, err, sizeof err)) {
			slot = ruleset_limit_add(out, e->name);
			*slot = changed;
		} else {
			report(ctx, e->name, err);
			keep_previous(out, prev != NULL ? prev : base, e->name);
		}
	}
}
