/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit.c - the words of a limit. What they must be as a whole: limit_finish.c.
 */
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
    [COUNT_REJECTED] = "rejected-recipients",
    [COUNT_BYTES] = "bytes",
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
    [PER_POOL] = "pool",
    NULL,
};
static const char *const for_names[] = {
    [FOR_EVERYONE] = "everyone",
    [FOR_STRANGERS] = "strangers",
    [FOR_KNOWN] = "known",
    [FOR_AUTHENTICATED] = "authenticated",
    [FOR_NETWORKS] = "networks",
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
	return per_names[p];
}

const char *
limit_for_name(enum limit_for f)
{
	return for_names[f];
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
	return p == PER_ADDRESS || p == PER_NETWORK || p == PER_ALL || p == PER_POOL;
}

bool
limit_name_valid(const char *name)
{
	/* fields of a record beside those of its limits (weir.redis(7)) */
	static const char *const taken[] = {"first", "last", "ok", "refused", "rejected", "refusal",
	    "known", "trust", "blocked", "triplets", "held", "waited", NULL};
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789-");

	return name_index(taken, name) < 0 && len > 0 && len <= LIMIT_NAME_MAX && name[len] == '\0';
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
		    "count is one of connections, sessions, messages, recipients, "
		    "rejected-recipients, bytes",
		    NULL);
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
		    "per is one of address, network, pool, all, user, sender, sender-domain, "
		    "recipient, recipient-domain, helo",
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

/* Networks, or a word; both fields are left alone on false. */
static bool
set_for(struct limit *l, const char *value, char *err, size_t errlen)
{
	int i = name_index(for_names, value);
	struct net nets[LIMIT_NETS_MAX];
	char text[NET_TEXT_MAX];
	uint8_t n = 0;

	if (i >= 0 && i != FOR_NETWORKS) {
		l->whom = (enum limit_for)i;
		l->nnets = 0;
		return true;
	}
	while (*(value += strspn(value, ", ")) != '\0') {
		size_t len = strcspn(value, ", ");

		if (n == LIMIT_NETS_MAX)
			return err_set(err, errlen, "for takes at most 8 networks", NULL);
		if (len < sizeof text) {
			memcpy(text, value, len);
			text[len] = '\0';
		}
		if (len >= sizeof text || !net_parse(text, &nets[n++]))
			return err_set(err, errlen,
			    "for is everyone, strangers, known, authenticated, or networks without "
			    "host bits such as \"192.0.2.0/24 2001:db8::/32\"",
			    NULL);
		value += len;
	}
	if (n == 0)
		return err_set(err, errlen, "for is empty", NULL);
	l->whom = FOR_NETWORKS;
	l->nnets = n;
	memcpy(l->nets, nets, n * sizeof nets[0]);
	return true;
}

/* "/56*4 /48*16": ever wider, and ever more. "off" takes it away. */
static bool
set_ladder(struct limit *l, const char *value, char *err, size_t errlen)
{
	static const char form[] = "ladder is written as \"/56*4 /48*16\": at most two IPv6 "
				   "networks from /127 to /16, each wider than the one before and "
				   "with a larger factor from 2 to 1000, or off";
	struct rung rungs[LADDER_MAX];
	struct rung last = {.bits = 128, .times = 1};
	uint8_t n = 0;

	if (strcmp(value, "off") == 0) {
		l->nrungs = 0;
		return true;
	}
	while (*(value += strspn(value, ", ")) != '\0') {
		int64_t bits, times;

		if (n == LADDER_MAX || *value++ != '/' || !units_scan(&value, 127, &bits) ||
		    *value++ != '*' || !units_scan(&value, 1000, &times) ||
		    (*value != '\0' && strchr(", ", *value) == NULL) || bits < 16 ||
		    bits >= last.bits || times <= last.times)
			return err_set(err, errlen, form, NULL);
		last = rungs[n++] = (struct rung){(uint16_t)bits, (uint16_t)times};
	}
	if (n == 0)
		return err_set(err, errlen, form, NULL);
	l->nrungs = n;
	memcpy(l->rungs, rungs, n * sizeof rungs[0]);
	return true;
}

enum { GAVE_RATE = 1, GAVE_QUOTA = 2, GAVE_BURST = 4 };

/* A quota takes the place of the rate of the layer below, and the other way round; in one layer
 * only one of them can be meant. */
static bool
one_kind(struct limit *l, unsigned given, char *err, size_t errlen)
{
	uint8_t gave = l->gave | (uint8_t)given;

	if ((gave & (GAVE_RATE | GAVE_QUOTA)) == (GAVE_RATE | GAVE_QUOTA))
		return err_set(
		    err, errlen, "a limit has a rate or a quota: for both make two limits", NULL);
	if ((gave & (GAVE_BURST | GAVE_QUOTA)) == (GAVE_BURST | GAVE_QUOTA))
		return err_set(err, errlen, "burst goes with rate; a quota has none", NULL);
	l->gave = gave;
	if (given == GAVE_RATE)
		l->quota = l->window_us = 0;
	else {
		l->rate = l->period_us = l->burst = 0;
		l->burst_given = false;
	}
	return true;
}

static bool
set_rate(struct limit *l, const char *value, char *err, size_t errlen)
{
	if (!units_rate(value, LIMIT_FIGURE_MAX, &l->rate, &l->period_us, &l->sized))
		return err_set(err, errlen,
		    "rate is a number and a period of at least 1 s, such as 60/1m", NULL);
	return one_kind(l, GAVE_RATE, err, errlen);
}

static bool
set_quota(struct limit *l, const char *value, char *err, size_t errlen)
{
	if (!units_rate(value, QUOTA_FIGURE_MAX, &l->quota, &l->window_us, &l->sized))
		return err_set(err, errlen,
		    "quota is a number and a time of at least 1 s, such as 1000/1d", NULL);
	return one_kind(l, GAVE_QUOTA, err, errlen);
}

static bool
set_burst(struct limit *l, const char *value, char *err, size_t errlen)
{
	int64_t n;

	if (!units_figure(value, LIMIT_FIGURE_MAX, &n, &l->sized))
		return err_set(err, errlen, "burst is a whole number from 1 to 1000000000", NULL);
	l->burst = n;
	l->burst_given = true;
	/* with a quota of the layer below it is limit_finish() that complains */
	l->gave |= GAVE_BURST;
	return true;
}

static bool
set_max(struct limit *l, const char *value, char *err, size_t errlen)
{
	int64_t n;

	if (!units_count(value, &n) || n < 1)
		return err_set(err, errlen, "max is a whole number from 1 to 1000000000", NULL);
	l->max = n;
	return true;
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
    {"for", set_for},
    {"ladder", set_ladder},
    {"rate", set_rate},
    {"burst", set_burst},
    {"quota", set_quota},
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
	    "unknown word; a limit has count, per, for, ladder, rate, burst, quota, max, strict, "
	    "action, reply, enabled",
	    NULL);
}

bool
limit_set_words(struct limit *l, const char *text, char *err, size_t errlen)
{
	struct limit changed = *l;
	char key[16], value[REPLY_TEXT_MAX + 32];

	changed.gave = 0;
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
	changed.gave = 0;
	*l = changed;
	return true;
}
