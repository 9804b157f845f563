/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf_words.c - what each word of weir.conf(5) means: one setter and one line in the table each.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "weir/units.h"
#include "conf_load.h"
#include "conf_words.h"

/* Beyond this a worker for each would only fight for the cores. */
#define WORKERS_LIMIT CONF_WORKERS_MAX
/* Sendmail gives a milter 10 s; a quarter of a second for Redis keeps us far away from it. */
#define REDIS_TIMEOUT_MIN (1 * USEC_PER_MSEC)
#define REDIS_TIMEOUT_MAX (250 * USEC_PER_MSEC)

static bool
refuse(char *err, size_t errlen, const char *why)
{
	snprintf(err, errlen, "%s", why);
	return false;
}

static bool
copy_text(char *out, size_t outlen, const char *value, char *err, size_t errlen)
{
	if (strlen(value) >= outlen)
		return refuse(err, errlen, "too long");
	/* it will be repeated in messages of one line */
	for (const char *p = value; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			return refuse(err, errlen, "holds a control character");
	strcpy(out, value);
	return true;
}

static bool
set_number(unsigned *out, const char *value, unsigned min, unsigned max, char *err, size_t errlen)
{
	int64_t n;

	if (!units_count(value, &n) || n < min || n > max) {
		snprintf(err, errlen, "must be a number from %u to %u", min, max);
		return false;
	}
	*out = (unsigned)n;
	return true;
}

/* --- general ------------------------------------------------------------------------------- */

#define SETTER(name) \
	static bool set_##name( \
	    struct conf *c, const char *title, const char *value, char *err, size_t errlen)
#define UNUSED(x) ((void)(x))

SETTER(socket)
{
	UNUSED(title);
	return socket_parse(value, &c->socket, err, errlen);
}

SETTER(socket_owner)
{
	UNUSED(title);
	return copy_text(c->socket_owner, sizeof c->socket_owner, value, err, errlen);
}

SETTER(socket_group)
{
	UNUSED(title);
	return copy_text(c->socket_group, sizeof c->socket_group, value, err, errlen);
}

SETTER(socket_mode)
{
	char *end;
	unsigned long mode = strtoul(value, &end, 8);

	UNUSED(title);
	if (*value == '\0' || *end != '\0' || mode > 0777)
		return refuse(err, errlen, "must be an octal mode such as 0660");
	c->socket_mode = (mode_t)mode;
	return true;
}

SETTER(user)
{
	UNUSED(title);
	return copy_text(c->user, sizeof c->user, value, err, errlen);
}

SETTER(pid_file)
{
	UNUSED(title);
	return copy_text(c->pid_file, sizeof c->pid_file, value, err, errlen);
}

SETTER(workers)
{
	UNUSED(title);
	return set_number(&c->workers, value, 1, WORKERS_LIMIT, err, errlen);
}

SETTER(zone_size)
{
	int64_t size;

	UNUSED(title);
	if (!units_size(value, &size) || size < ZONE_SIZE_MIN || size > ZONE_SIZE_MAX)
		return refuse(err, errlen, "must be a size from 256k to 64G, such as 32M");
	c->zone_size = size;
	return true;
}

/* Beyond a day a session that nobody speaks in has long been given up by its MTA. */
SETTER(drain_timeout)
{
	int64_t us;

	UNUSED(title);
	if (!units_duration(value, &us) || us > 86400 * USEC_PER_SEC)
		return refuse(err, errlen, "must be a duration of at most 1d, such as 5m");
	c->drain_timeout_us = us;
	return true;
}

SETTER(idle_timeout)
{
	int64_t us;

	UNUSED(title);
	if (!units_duration(value, &us) || us < USEC_PER_SEC || us > 86400 * USEC_PER_SEC)
		return refuse(err, errlen, "must be a duration from 1s to 1d, such as 7210s");
	c->idle_timeout_us = us;
	return true;
}

static const char *const engines[] = {
    [ENGINE_LIBMILTER] = "libmilter",
    [ENGINE_EVENT] = "event",
};

const char *
conf_engine_name(enum conf_engine e)
{
	return engines[e];
}

SETTER(engine)
{
	UNUSED(title);
	for (unsigned i = 0; i < sizeof engines / sizeof engines[0]; i++)
		if (strcmp(value, engines[i]) == 0) {
			c->engine = (enum conf_engine)i;
			return true;
		}
	return refuse(err, errlen, "must be libmilter or event");
}

SETTER(verbose)
{
	UNUSED(title);
	return units_bool(value, &c->verbose) || refuse(err, errlen, "must be true or false");
}

/* HOST:PORT is what one writes for HTTP: here it needs no "inet:" in front. */
SETTER(metrics)
{
	static const char *const kinds[] = {"unix:", "local:", "inet:", "inet6:"};
	char text[SOCKET_TEXT_MAX + 8];
	const char *kind = "inet:";

	UNUSED(title);
	c->use_metrics = strcmp(value, "off") != 0;
	if (!c->use_metrics)
		return true;
	for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
		if (strncmp(value, kinds[i], strlen(kinds[i])) == 0)
			kind = "";
	snprintf(text, sizeof text, "%s%.*s", kind, SOCKET_TEXT_MAX, value);
	return socket_parse(text, &c->metrics, err, errlen);
}

SETTER(metrics_anywhere)
{
	UNUSED(title);
	return units_bool(value, &c->metrics_anywhere) ||
	    refuse(err, errlen, "must be true or false");
}

SETTER(mode)
{
	UNUSED(title);
	c->rules.observe = strcmp(value, "observe") == 0;
	return c->rules.observe || strcmp(value, "enforce") == 0 ||
	    refuse(err, errlen, "must be enforce or observe");
}

SETTER(refuse_at)
{
	UNUSED(title);
	c->rules.refuse_at_helo = strcmp(value, "helo") == 0;
	return c->rules.refuse_at_helo || strcmp(value, "connect") == 0 ||
	    refuse(err, errlen, "must be connect or helo");
}

/* A /0 would make one client of the whole world; per = all says that more clearly. */
SETTER(address_v6)
{
	UNUSED(title);
	return set_number(&c->rules.address_v6, value, 16, 128, err, errlen);
}

SETTER(network_v4)
{
	UNUSED(title);
	return set_number(&c->rules.network_v4, value, 8, 32, err, errlen);
}

SETTER(network_v6)
{
	UNUSED(title);
	return set_number(&c->rules.network_v6, value, 16, 128, err, errlen);
}

SETTER(exempt)
{
	struct net n;

	UNUSED(title);
	if (!net_parse(value, &n))
		return refuse(err, errlen,
		    "must be addresses or networks without host bits, such as \"192.0.2.0/24\"");
	return netset_add(c->exempt, &n) || refuse(err, errlen, "out of memory");
}

SETTER(recipient_delimiter)
{
	/* what RFC 5321 allows without quotes, and no letter: a mistake would fold strangers */
	size_t len = strspn(value, "!#$%&'*+-./=?^_`{|}~");

	UNUSED(title);
	if (value[len] != '\0' || len > FOLD_DELIMITERS_MAX) {
		snprintf(err, errlen, "must be at most %d characters such as \"+\" or \"+-\"",
		    FOLD_DELIMITERS_MAX);
		return false;
	}
	strcpy(c->rules.fold.delimiters, value);
	return true;
}

SETTER(unwrap_senders)
{
	UNUSED(title);
	return units_bool(value, &c->rules.fold.unwrap) ||
	    refuse(err, errlen, "must be true or false");
}

/* --- redis --------------------------------------------------------------------------------- */

SETTER(redis_url)
{
	UNUSED(title);
	c->use_redis = true;
	c->redis_where++;
	return redis_options_url(&c->redis, value, err, errlen);
}

static bool
add_place(
    struct conf *c, enum redis_kind kind, const char *value, int port, char *err, size_t errlen)
{
	struct redis_options *o = &c->redis;

	if (!c->use_redis || o->kind != kind) {
		c->use_redis = true;
		c->redis_where++;
		o->kind = kind;
		o->nplaces = 0;
	}
	if (o->nplaces == REDIS_PLACES_MAX)
		return refuse(err, errlen, "may not be more than 16");
	return redis_options_place(&o->places[o->nplaces++], value, port, err, errlen);
}

SETTER(redis_cluster)
{
	UNUSED(title);
	return add_place(c, REDIS_CLUSTER, value, REDIS_PORT, err, errlen);
}

SETTER(redis_sentinels)
{
	UNUSED(title);
	return add_place(c, REDIS_SENTINEL, value, REDIS_SENTINEL_PORT, err, errlen);
}

SETTER(redis_master)
{
	UNUSED(title);
	for (const char *p = value; *p != '\0'; p++)
		if (*p <= ' ' || *p > '~')
			return refuse(err, errlen, "must be printable, without blanks");
	return copy_text(c->redis.master, sizeof c->redis.master, value, err, errlen);
}

SETTER(redis_user)
{
	UNUSED(title);
	return copy_text(c->redis.user, sizeof c->redis.user, value, err, errlen);
}

SETTER(redis_sentinel_user)
{
	UNUSED(title);
	return copy_text(c->redis.sentinel_user, sizeof c->redis.sentinel_user, value, err, errlen);
}

SETTER(redis_sentinel_password_file)
{
	UNUSED(title);
	return copy_text(
	    c->sentinel_password_file, sizeof c->sentinel_password_file, value, err, errlen);
}

SETTER(redis_tls)
{
	UNUSED(title);
	return units_bool(value, &c->redis.tls.on) || refuse(err, errlen, "must be true or false");
}

SETTER(redis_ca)
{
	UNUSED(title);
	return copy_text(c->redis.tls.ca, sizeof c->redis.tls.ca, value, err, errlen);
}

SETTER(redis_cert)
{
	UNUSED(title);
	return copy_text(c->redis.tls.cert, sizeof c->redis.tls.cert, value, err, errlen);
}

SETTER(redis_key)
{
	UNUSED(title);
	return copy_text(c->redis.tls.key, sizeof c->redis.tls.key, value, err, errlen);
}

SETTER(redis_server_name)
{
	UNUSED(title);
	return copy_text(
	    c->redis.tls.server_name, sizeof c->redis.tls.server_name, value, err, errlen);
}

SETTER(redis_password_file)
{
	UNUSED(title);
	return copy_text(c->password_file, sizeof c->password_file, value, err, errlen);
}

SETTER(redis_timeout)
{
	int64_t us;

	UNUSED(title);
	if (!units_duration(value, &us) || us < REDIS_TIMEOUT_MIN || us > REDIS_TIMEOUT_MAX)
		return refuse(err, errlen, "must be from 1ms to 250ms");
	c->redis.timeout_us = us;
	return true;
}

SETTER(redis_prefix)
{
	size_t len =
	    strspn(value, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-:");

	UNUSED(title);
	if (len == 0 || value[len] != '\0')
		return refuse(err, errlen, "may hold letters, digits and ._-: only");
	return copy_text(c->redis.prefix, sizeof c->redis.prefix, value, err, errlen);
}

/* --- greylist ------------------------------------------------------------------------------ */

SETTER(grey_enabled)
{
	UNUSED(title);
	return units_bool(value, &c->rules.greylist.enabled) ||
	    refuse(err, errlen, "must be true or false");
}

static bool
set_grey_duration(int64_t *out, const char *value, char *err, size_t errlen)
{
	int64_t us;

	if (!units_duration(value, &us) || us < USEC_PER_SEC)
		return refuse(err, errlen, "must be a duration such as 5m, 1d or 35d");
	*out = us;
	return true;
}

SETTER(grey_delay)
{
	UNUSED(title);
	return set_grey_duration(&c->rules.greylist.delay_us, value, err, errlen);
}

SETTER(grey_window)
{
	UNUSED(title);
	return set_grey_duration(&c->rules.greylist.window_us, value, err, errlen);
}

SETTER(grey_keep)
{
	UNUSED(title);
	return set_grey_duration(&c->rules.greylist.keep_us, value, err, errlen);
}

SETTER(grey_reply)
{
	UNUSED(title);
	return reply_parse(value, &c->rules.greylist.reply, err, errlen);
}

SETTER(grey_when_down)
{
	UNUSED(title);
	c->rules.greylist.hold_when_down = strcmp(value, "hold") == 0;
	return c->rules.greylist.hold_when_down || strcmp(value, "accept") == 0 ||
	    refuse(err, errlen, "must be accept or hold");
}

SETTER(grey_correspondents)
{
	UNUSED(title);
	return units_bool(value, &c->rules.greylist.correspondents) ||
	    refuse(err, errlen, "must be true or false");
}

SETTER(grey_embargo)
{
	struct greylist *g = &c->rules.greylist;
	bool sized = false;

	UNUSED(title);
	if (strcmp(value, "off") == 0) {
		g->embargo = g->embargo_us = 0;
		return true;
	}
	return (units_rate(value, UNITS_COUNT_MAX, &g->embargo, &g->embargo_us, &sized) &&
		   !sized) ||
	    refuse(err, errlen, "must be a number and a time such as 1000/1h, or off");
}

SETTER(trap_block)
{
	int64_t us;

	UNUSED(title);
	if (!units_duration(value, &us) || us < USEC_PER_SEC)
		return refuse(err, errlen, "must be a duration such as 1h or 1d");
	c->rules.trap_us = us;
	return true;
}

/* --- known --------------------------------------------------------------------------------- */

/* One message would buy trust at once; figures beyond are no longer kept exactly. */
#define KNOWN_MESSAGES_MIN 2
#define KNOWN_MESSAGES_MAX 1000000

SETTER(known_messages)
{
	int64_t n;

	UNUSED(title);
	if (!units_count(value, &n) || (n != 0 && n < KNOWN_MESSAGES_MIN) || n > KNOWN_MESSAGES_MAX)
		return refuse(err, errlen,
		    "must be a number from 2 to 1000000, or 0: then only greylisting makes known");
	c->rules.trust.messages = n;
	return true;
}

SETTER(known_over)
{
	UNUSED(title);
	return set_grey_duration(&c->rules.trust.over_us, value, err, errlen);
}

SETTER(known_keep)
{
	UNUSED(title);
	return set_grey_duration(&c->rules.trust.keep_us, value, err, errlen);
}

SETTER(known_learn)
{
	UNUSED(title);
	return units_bool(value, &c->rules.learn) || refuse(err, errlen, "must be true or false");
}

SETTER(grey_recipients)
{
	UNUSED(title);
	c->rules.greylist.listed_only = strcmp(value, "listed") == 0;
	return c->rules.greylist.listed_only || strcmp(value, "all") == 0 ||
	    refuse(err, errlen, "must be all or listed");
}

SETTER(grey_null_sender)
{
	UNUSED(title);
	c->rules.greylist.accept_null_sender = strcmp(value, "accept") == 0;
	return c->rules.greylist.accept_null_sender || strcmp(value, "greylist") == 0 ||
	    refuse(err, errlen, "must be greylist or accept");
}

/* --- limit NAME { ... } -------------------------------------------------------------------- */

/* limit_set() knows the words of a limit, here and in Redis. */
static bool
set_limit_word(struct conf *c, const char *title, const char *word, const char *value, char *err,
    size_t errlen)
{
	struct limit *l;

	if (!limit_name_valid(title))
		return refuse(err, errlen,
		    "a limit's name has small letters, digits and '-' only, at most 32");
	l = ruleset_limit_add(&c->rules, title);
	if (l == NULL) {
		snprintf(err, errlen, "more than %d limits", LIMITS_MAX);
		return false;
	}
	return limit_set(l, word, value, err, errlen);
}

/* --- list "WHO" { ... } ------------------------------------------------------------------------ */

/* listing_set() knows the words of an entry, here and in Redis. */
static bool
set_list_word(struct conf *c, const char *word, const char *value, char *err, size_t errlen)
{
	return listing_set(&c->list_words, word, value, err, errlen);
}

/* --- the tables ------------------------------------------------------------------------------ */

const struct conf_word conf_words[] = {
    {"", "socket", set_socket, false},
    {"", "socket-owner", set_socket_owner, false},
    {"", "socket-group", set_socket_group, false},
    {"", "socket-mode", set_socket_mode, false},
    {"", "user", set_user, false},
    {"", "pid-file", set_pid_file, false},
    {"", "workers", set_workers, false},
    {"", "zone-size", set_zone_size, false},
    {"", "drain-timeout", set_drain_timeout, false},
    {"", "idle-timeout", set_idle_timeout, false},
    {"", "engine", set_engine, false},
    {"", "verbose", set_verbose, false},
    {"", "metrics", set_metrics, false},
    {"", "metrics-anywhere", set_metrics_anywhere, false},
    {"", "mode", set_mode, false},
    {"", "refuse-at", set_refuse_at, false},
    {"", "address-v6", set_address_v6, false},
    {"", "network-v4", set_network_v4, false},
    {"", "network-v6", set_network_v6, false},
    {"", "exempt", set_exempt, true},
    {"", "trap-block", set_trap_block, false},
    {"", "recipient-delimiter", set_recipient_delimiter, false},
    {"", "unwrap-senders", set_unwrap_senders, false},
    {"redis", "url", set_redis_url, false},
    {"redis", "cluster", set_redis_cluster, true},
    {"redis", "sentinels", set_redis_sentinels, true},
    {"redis", "master", set_redis_master, false},
    {"redis", "user", set_redis_user, false},
    {"redis", "password-file", set_redis_password_file, false},
    {"redis", "sentinel-user", set_redis_sentinel_user, false},
    {"redis", "sentinel-password-file", set_redis_sentinel_password_file, false},
    {"redis", "tls", set_redis_tls, false},
    {"redis", "ca", set_redis_ca, false},
    {"redis", "cert", set_redis_cert, false},
    {"redis", "key", set_redis_key, false},
    {"redis", "server-name", set_redis_server_name, false},
    {"redis", "timeout", set_redis_timeout, false},
    {"redis", "prefix", set_redis_prefix, false},
    {"greylist", "enabled", set_grey_enabled, false},
    {"greylist", "delay", set_grey_delay, false},
    {"greylist", "window", set_grey_window, false},
    {"greylist", "keep", set_grey_keep, false},
    {"greylist", "reply", set_grey_reply, false},
    {"greylist", "when-down", set_grey_when_down, false},
    {"greylist", "correspondents", set_grey_correspondents, false},
    {"greylist", "embargo", set_grey_embargo, false},
    {"known", "messages", set_known_messages, false},
    {"known", "over", set_known_over, false},
    {"known", "keep", set_known_keep, false},
    {"known", "learn", set_known_learn, false},
    {"load", "sessions", NULL, false},
    {"load", "run-queue", NULL, false},
    {"load", "psi-cpu", NULL, false},
    {"load", "psi-memory", NULL, false},
    {"load", "psi-io", NULL, false},
    {"load", "redis-latency", NULL, false},
    {"load", "queue", NULL, false},
    {"load", "neighbours", NULL, false},
    {"load", "queue-directory", conf_load_queue_directory, true},
    {"load", "queue-command", conf_load_queue_command, false},
    {"load", "spare", conf_load_spare, true},
    {"load", "reply", conf_load_reply, false},
    {"greylist", "recipients", set_grey_recipients, false},
    {"greylist", "null-sender", set_grey_null_sender, false},
    {"limit", "count", NULL, false},
    {"limit", "per", NULL, false},
    {"limit", "for", NULL, false},
    {"limit", "ladder", NULL, false},
    {"limit", "rate", NULL, false},
    {"limit", "burst", NULL, false},
    {"limit", "quota", NULL, false},
    {"limit", "max", NULL, false},
    {"limit", "strict", NULL, false},
    {"limit", "action", NULL, false},
    {"limit", "reply", NULL, false},
    {"limit", "enabled", NULL, false},
    {"list", "action", NULL, false},
    {"list", "delay", NULL, false},
    {NULL, NULL, NULL, false},
};

bool
conf_word_set(struct conf *c, const struct conf_word *w, const char *title, const char *value,
    char *err, size_t errlen)
{
	if (w->set != NULL)
		return w->set(c, title, value, err, errlen);
	if (strcmp(w->section, "load") == 0)
		return conf_load_marks(c, w->name, value, err, errlen);
	if (strcmp(w->section, "list") == 0)
		return set_list_word(c, w->name, value, err, errlen);
	return set_limit_word(c, title, w->name, value, err, errlen);
}
