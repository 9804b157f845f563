/*
 * limit.c - the words of a limit, and the arithmetic of its bucket.
 */
#include <math.h>
#include <string.h>

#include "weir/entry.h"
#include "weir/limit.h"
#include "weir/units.h"
#include "err.h"

static const char *const count_names[] = {
    [COUNT_CONNECTIONS] = "connections",
    [COUNT_SESSIONS] = "sessions",
    [COUNT_MESSAGES] = "messages",
    [COUNT_RECIPIENTS] = "recipients",
    NULL,
};
static const char *const per_names[] = {
    [PER_ADDRESS] = "address",
    [PER_NETWORK] = "network",
    [PER_ALL] = "all",
    [PER_USER] = "user",
    [PER_SENDER] = "sender",
    [PER_SENDER_DOMAIN] = "sender-domain",
    [PER_RECIPIENT] = "recipient",
    [PER_RECIPIENT_DOMAIN] = "recipient-domain",
    [PER_HELO] = "helo",
    NULL,
};
static const char *const action_names[] = {
    [ACTION_REFUSE] = "refuse",
    [ACTION_DEFER] = "defer",
    [ACTION_LOG] = "log",
    NULL,
};

const char *
limit_count_name(enum limit_count c)
{
	return count_names[c];
}

const char *
limit_per_name(enum limit_per p)
{
	return p == PER_POOL ? "pool" : per_names[p];
}

const char *
limit_action_name(enum limit_action a)
{
	return action_names[a];
}

static int
name_index(const char *const *names, const char *name)
{
	for (int i = 0; names[i] != NULL; i++)
		if (strcmp(names[i], name) == 0)
			return i;
	return -1;
}

bool
limit_per_is_client(enum limit_per p)
{
	return p == PER_ADDRESS || p == PER_NETWORK || p == PER_ALL;
}

bool
limit_name_valid(const char *name)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return len > 0 && len <= LIMIT_NAME_MAX && name[len] == '\0';
}

void
limit_init(struct limit *l, const char *name)
{
	int i = name_index(count_names, name);

	memset(l, 0, sizeof *l);
	l->enabled = true;
	strncpy(l->name, name, LIMIT_NAME_MAX);
	if (i >= 0) {
		l->count = (enum limit_count)i;
		l->count_given = true;
	}
}

/* --- one function a word; the table below says which ------------------------------------- */

static bool
set_count(struct limit *l, const char *value, char *err, size_t errlen)
{
	int i = name_index(count_names, value);

	if (i < 0)
		return err_set(err, errlen,
		    "count is one of connections, sessions, messages, recipients", NULL);
	l->count = (enum limit_count)i;
	l->count_given = true;
	return true;
}

static bool
set_per(struct limit *l, const char *value, char *err, size_t errlen)
{
	int i = name_index(per_names, value);

	if (i < 0)
		return err_set(err, errlen,
		    "per is one of address, network, all, user, sender, sender-domain, recipient, "
		    "recipient-domain, helo",
		    NULL);
	l->per = (enum limit_per)i;
	return true;
}

static bool
set_action(struct limit *l, const char *value, char *err, size_t errlen)
{
	int i = name_index(action_names, value);

	if (i < 0)
		return err_set(err, errlen, "action is one of refuse, defer, log", NULL);
	l->action = (enum limit_action)i;
	return true;
}

static bool
set_rate(struct limit *l, const char *value, char *err, size_t errlen)
{
	if (!units_rate(value, &l->rate, &l->period_us))
		return err_set(err, errlen,
		    "rate is a number and a period of at least 1 s, such as 60/1m", NULL);
	return true;
}

static bool
set_positive(int64_t *field, const char *name, const char *value, char *err, size_t errlen)
{
	int64_t n;

	if (!units_count(value, &n) || n < 1)
		return err_set(err, errlen, name, " is a whole number from 1 to 1000000000", NULL);
	*field = n;
	return true;
}

static bool
set_burst(struct limit *l, const char *value, char *err, size_t errlen)
{
	if (!set_positive(&l->burst, "burst", value, err, errlen))
		return false;
	l->burst_given = true;
	return true;
}

static bool
set_max(struct limit *l, const char *value, char *err, size_t errlen)
{
	return set_positive(&l->max, "max", value, err, errlen);
}

static bool
set_reply(struct limit *l, const char *value, char *err, size_t errlen)
{
	if (!reply_parse(value, &l->reply, err, errlen))
		return false;
	l->reply_given = true;
	return true;
}

static bool
set_enabled(struct limit *l, const char *value, char *err, size_t errlen)
{
	if (!units_bool(value, &l->enabled))
		return err_set(err, errlen, "enabled is true or false", NULL);
	return true;
}

static bool
set_strict(struct limit *l, const char *value, char *err, size_t errlen)
{
	if (!units_bool(value, &l->strict))
		return err_set(err, errlen, "strict is true or false", NULL);
	return true;
}

static const struct {
	const char *key;
	bool (*set)(struct limit *, const char *value, char *err, size_t errlen);
} words[] = {
    {"count", set_count},
    {"per", set_per},
    {"rate", set_rate},
    {"burst", set_burst},
    {"max", set_max},
    {"action", set_action},
    {"reply", set_reply},
    {"strict", set_strict},
    {"enabled", set_enabled},
};

bool
limit_set(struct limit *l, const char *key, const char *value, char *err, size_t errlen)
{
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strcmp(key, words[i].key) == 0)
			return words[i].set(l, value, err, errlen);
	return err_set(err, errlen,
	    "unknown word; a limit has count, per, rate, burst, max, strict, action, reply, "
	    "enabled",
	    NULL);
}

bool
limit_set_words(struct limit *l, const char *text, char *err, size_t errlen)
{
	struct limit changed = *l;
	char key[16], value[REPLY_TEXT_MAX + 32];

	text += strspn(text, " ");
	if (*text == '\0')
		return err_set(err, errlen, "empty", NULL);
	while (*text != '\0') {
		if (!entry_next(&text, key, sizeof key, value, sizeof value))
			return err_set(err, errlen,
			    "a limit is written as KEY=VALUE KEY=VALUE, such as rate=60/1m "
			    "burst=30",
			    NULL);
		if (!limit_set(&changed, key, value, err, errlen))
			return false;
	}
	*l = changed;
	return true;
}

/* --- the whole ----------------------------------------------------------------------------- */

/* 4.7.0 and "too many" are Postfix's own words at connect; 4.7.1 is policy (RFC 3463). */
static const struct {
	const char *xcode, *text;
} stock_replies[] = {
    [COUNT_CONNECTIONS] = {"4.7.0", "Too many connections from your address, try again later"},
    [COUNT_SESSIONS] = {"4.7.0", "Too many open sessions from your address, try again later"},
    [COUNT_MESSAGES] = {"4.7.1", "Too many messages, try again later"},
    [COUNT_RECIPIENTS] = {"4.7.1", "Too many recipients, try again later"},
};

static void
stock_reply(struct limit *l)
{
	strcpy(l->reply.code, l->action == ACTION_DEFER ? "451" : "421");
	strcpy(l->reply.xcode, stock_replies[l->count].xcode);
	strcpy(l->reply.text, stock_replies[l->count].text);
}

/* Whether what is counted is known for the one it is counted for. */
static bool
senseful(const struct limit *l, char *err, size_t errlen)
{
	if (limit_at_connect(l) && !limit_per_is_client(l->per))
		return err_set(err, errlen, limit_count_name(l->count),
		    " are counted at connect, where only the address is known: per is address, "
		    "network or all",
		    NULL);
	if (l->count == COUNT_MESSAGES &&
	    (l->per == PER_RECIPIENT || l->per == PER_RECIPIENT_DOMAIN))
		return err_set(err, errlen, "a message has many recipients: count recipients per ",
		    limit_per_name(l->per), NULL);
	return true;
}

bool
limit_finish(struct limit *l, char *err, size_t errlen)
{
	if (!l->enabled)
		return true;
	if (!l->count_given)
		return err_set(err, errlen, "says no count (what it counts)", NULL);
	if (!senseful(l, err, errlen))
		return false;
	if (l->count == COUNT_SESSIONS) {
		if (l->max == 0)
			return err_set(err, errlen, "a limit of sessions needs max", NULL);
		if (l->strict)
			return err_set(err, errlen,
			    "strict is for rates: a session that is refused is not open", NULL);
		if (l->rate != 0 || l->burst_given)
			return err_set(
			    err, errlen, "a limit of sessions has max, not rate or burst", NULL);
	} else {
		if (l->rate == 0)
			return err_set(err, errlen, "a limit of ", limit_count_name(l->count),
			    " needs a rate", NULL);
		if (l->max != 0)
			return err_set(err, errlen, "max is for sessions; ",
			    limit_count_name(l->count), " have rate and burst", NULL);
		if (!l->burst_given)
			l->burst = l->rate;
		if (limit_drain_us(l) >= UNITS_DURATION_MAX)
			return err_set(err, errlen,
			    "at this rate the burst would take over a year to drain", NULL);
	}
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
limit_drain_us(const struct limit *l)
{
	int64_t full = l->burst * MICRO * (l->strict ? STRICT_BURSTS : 1);

	return l->rate == 0 ? 0 : bucket_wait(full, l->rate, l->period_us);
}

bool
limit_at_connect(const struct limit *l)
{
	return l->count == COUNT_CONNECTIONS || l->count == COUNT_SESSIONS;
}

/* --- the bucket ---------------------------------------------------------------------------- */

int64_t
bucket_drained(int64_t level, int64_t dt_us, int64_t rate, int64_t period_us)
{
	double gone;

	if (dt_us <= 0)
		return level;
	/* store/lua/ask.lua does the same operations in the same order */
	gone = floor((double)dt_us * (double)rate * 1000000.0 / (double)period_us);
	return gone >= (double)level ? 0 : level - (int64_t)gone;
}

int64_t
bucket_wait(int64_t excess, int64_t rate, int64_t period_us)
{
	double wait;

	if (excess <= 0)
		return 0;
	wait = ceil((double)excess * (double)period_us / ((double)rate * 1000000.0));
	return wait < (double)UNITS_DURATION_MAX ? (int64_t)wait : UNITS_DURATION_MAX;
}
