/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit_finish.c - what the words of a limit must be as a whole, and what follows from them.
 */
#include <string.h>

#include "weir/limit.h"
#include "weir/units.h"
#include "err.h"

/* 4.7.0 and "too many" are Postfix's own words at connect; 4.7.1 is policy (RFC 3463). */
static const struct {
	const char *xcode, *text;
} stock_replies[] = {
    [COUNT_CONNECTIONS] = {"4.7.0", "Too many connections from your address, try again later"},
    [COUNT_SESSIONS] = {"4.7.0", "Too many open sessions from your address, try again later"},
    [COUNT_MESSAGES] = {"4.7.1", "Too many messages, try again later"},
    [COUNT_RECIPIENTS] = {"4.7.1", "Too many recipients, try again later"},
    [COUNT_REJECTED] = {"4.7.1", "Too many unknown recipients, try again later"},
    [COUNT_BYTES] = {"4.7.1", "Too much mail, try again later"},
};

static void
stock_reply(struct limit *l)
{
	strcpy(l->reply.code, l->action == ACTION_DEFER ? "451" : "421");
	strcpy(l->reply.xcode, stock_replies[l->count].xcode);
	strcpy(l->reply.text, stock_replies[l->count].text);
}

/* Whether what is counted is known for the one it is counted for, and for whom it is. */
static bool
senseful(const struct limit *l, char *err, size_t errlen)
{
	bool recipient = l->per == PER_RECIPIENT || l->per == PER_RECIPIENT_DOMAIN;

	if (limit_at_connect(l) && !limit_per_is_client(l->per))
		return err_set(err, errlen, limit_count_name(l->count),
		    " are counted at connect, where only the address is known: per is address, "
		    "network, pool or all",
		    NULL);
	if (limit_at_connect(l) && l->whom == FOR_AUTHENTICATED)
		return err_set(err, errlen, limit_count_name(l->count),
		    " are counted at connect, where nobody is authenticated yet", NULL);
	if (recipient && (l->count == COUNT_MESSAGES || l->count == COUNT_BYTES))
		return err_set(err, errlen, "a message has many recipients: count recipients per ",
		    limit_per_name(l->per), NULL);
	if (recipient && l->count == COUNT_REJECTED)
		return err_set(err, errlen,
		    "it would refuse those who write to the recipient for what others guessed: "
		    "count rejected-recipients per address, network, pool or sender",
		    NULL);
	if (l->per == PER_USER && l->whom == FOR_STRANGERS)
		return err_set(err, errlen, "an authenticated user is no stranger", NULL);
	if (l->nrungs > 0 && l->per != PER_ADDRESS && l->per != PER_NETWORK)
		return err_set(
		    err, errlen, "a ladder of networks is for per address or network", NULL);
	return true;
}

/* Figures that belong to another kind of limit, or are missing. */
static bool
figures(const struct limit *l, char *err, size_t errlen)
{
	const char *count = limit_count_name(l->count);

	if (l->count == COUNT_SESSIONS) {
		if (l->max == 0)
			return err_set(err, errlen, "a limit of sessions needs max", NULL);
		if (l->strict)
			return err_set(err, errlen,
			    "strict is for rates: a session that is refused is not open", NULL);
		if (l->rate != 0 || l->burst_given || l->quota != 0)
			return err_set(err, errlen,
			    "a limit of sessions has max, not rate, burst or quota", NULL);
		return true;
	}
	if (l->rate == 0 && l->quota == 0)
		return err_set(err, errlen, "a limit of ", count, " needs a rate or a quota", NULL);
	if (l->quota != 0 && l->burst_given)
		return err_set(err, errlen, "burst goes with rate; a quota has none", NULL);
	if (l->max != 0)
		return err_set(err, errlen, "max is for sessions; ", count,
		    " have rate and burst, or quota", NULL);
	if (l->sized && l->count != COUNT_BYTES)
		return err_set(err, errlen, "k, M and G are for bytes", NULL);
	return true;
}

static bool
within_bounds(const struct limit *l, char *err, size_t errlen)
{
	int64_t most = l->quota != 0 ? QUOTA_FIGURE_MAX : LIMIT_FIGURE_MAX;
	int64_t times = l->nrungs > 0 ? l->rungs[l->nrungs - 1].times : 1;

	if (l->count != COUNT_BYTES)
		most = UNITS_COUNT_MAX;
	if (limit_ceiling(l) > most / times || l->rate > most / times)
		return err_set(err, errlen,
		    l->count == COUNT_BYTES
			? "rate and burst of bytes end at 2G, a quota at 2048G, ladder included"
			: "figures end at 1000000000, ladder included",
		    NULL);
	if (limit_drain_us(l) >= UNITS_DURATION_MAX)
		return err_set(
		    err, errlen, "at this rate the burst would take over a year to drain", NULL);
	return true;
}

bool
limit_finish(struct limit *l, char *err, size_t errlen)
{
	if (!l->enabled)
		return true;
	if (!l->count_given)
		return err_set(err, errlen, "says no count (what it counts)", NULL);
	if (!senseful(l, err, errlen) || !figures(l, err, errlen))
		return false;
	if (l->rate != 0 && !l->burst_given)
		l->burst = l->rate;
	if (!within_bounds(l, err, errlen))
		return false;
	if (!l->reply_given)
		stock_reply(l);
	else if (l->action == ACTION_REFUSE && !reply_closes(&l->reply))
		return err_set(err, errlen,
		    "action=refuse ends the session, so its reply is a 421; for a 451 or 452 say "
		    "action=defer",
		    NULL);
	else if (l->action == ACTION_DEFER && reply_closes(&l->reply))
		return err_set(err, errlen,
		    "a 421 ends the session: say action=refuse, or give action=defer a 451 or 452",
		    NULL);
	return true;
}

int64_t
limit_ceiling(const struct limit *l)
{
	if (l->count == COUNT_SESSIONS)
		return l->max;
	return l->quota != 0 ? l->quota : l->burst;
}

int64_t
limit_drain_us(const struct limit *l)
{
	int64_t full =
	    l->burst * MICRO * (l->strict || l->count == COUNT_REJECTED ? STRICT_BURSTS : 1);

	if (l->quota != 0)
		return l->window_us;
	return l->rate == 0 ? 0 : bucket_wait(full, l->rate, l->period_us);
}

bool
limit_at_connect(const struct limit *l)
{
	return l->count == COUNT_CONNECTIONS || l->count == COUNT_SESSIONS;
}

bool
limit_wants_trust(const struct limit *l)
{
	return l->enabled && (l->whom == FOR_STRANGERS || l->whom == FOR_KNOWN);
}
