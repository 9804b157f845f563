/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis_url.c - where Redis is, as people write it.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "weir/redis.h"
#include "weir/units.h"

#define TIMEOUT_DEFAULT (50 * USEC_PER_MSEC)
#define DB_MAX 65535

void
redis_options_defaults(struct redis_options *o)
{
	memset(o, 0, sizeof *o);
	strcpy(o->host, "127.0.0.1");
	o->port = REDIS_PORT;
	strcpy(o->prefix, "weir");
	o->timeout_us = TIMEOUT_DEFAULT;
}

/* Always false. Never given any part of the URL: it may hold a password. */
static bool
wrong(char *err, size_t errlen, const char *why)
{
	snprintf(err, errlen, "%s", why);
	return false;
}

/* A number of at most five digits from 0 to max, and nothing else. */
static bool
small_number(const char *s, size_t len, int max, int *out)
{
	int v = 0;

	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (s[i] - '0');
	}
	if (v > max)
		return false;
	*out = v;
	return true;
}

static int
hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* %XX becomes the byte; false when that is malformed, a NUL, or too long. */
static bool
decode(const char *s, size_t len, char *out, size_t outlen)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = s[i];

		if (c == '%') {
			if (len - i < 3 || hex(s[i + 1]) < 0 || hex(s[i + 2]) < 0)
				return false;
			c = (char)(hex(s[i + 1]) << 4 | hex(s[i + 2]));
			i += 2;
		}
		if (c == '\0' || n + 1 >= outlen)
			return false;
		out[n++] = c;
	}
	out[n] = '\0';
	return true;
}

/* user:password, either of them escaped; user may be empty. */
static bool
credentials(struct redis_options *o, const char *s, size_t len, char *err, size_t errlen)
{
	const char *colon = memchr(s, ':', len);
	size_t user = colon != NULL ? (size_t)(colon - s) : 0;

	if (colon == NULL)
		return wrong(
		    err, errlen, "no ':' before the '@': write user:password@ or :password@");
	if (!decode(s, user, o->user, sizeof o->user) ||
	    !decode(colon + 1, len - user - 1, o->password, sizeof o->password))
		return wrong(
		    err, errlen, "user or password too long, or a '%' without two hex digits");
	if (o->password[0] == '\0')
		return wrong(err, errlen, "the password is empty");
	return true;
}

/* A host name, an IPv4 address, or an IPv6 address (with scope) that stood in brackets. */
static bool
host_valid(const char *s, size_t len, bool bracketed)
{
	const char *also = bracketed ? ":.%" : "-._";

	for (size_t i = 0; i < len; i++)
		if (s[i] == '\0' || (!isalnum((unsigned char)s[i]) && strchr(also, s[i]) == NULL))
			return false;
	return len > 0 && len <= REDIS_HOST_MAX;
}

/* host, host:port, [v6], [v6]:port; port: where none is given */
static bool
host_port(struct redis_place *p, const char *s, size_t len, int port, char *err, size_t errlen)
{
	bool bracketed = len > 0 && s[0] == '[';
	const char *host = s + (bracketed ? 1 : 0);
	const char *stop = memchr(host, bracketed ? ']' : ':', len - (bracketed ? 1 : 0));
	const char *end = s + len, *rest;
	size_t n;

	if (bracketed && stop == NULL)
		return wrong(err, errlen, "'[' without ']'");
	n = (size_t)((stop != NULL ? stop : end) - host);
	rest = stop == NULL ? end : stop + (bracketed ? 1 : 0);
	if (!host_valid(host, n, bracketed))
		return wrong(err, errlen, "no valid host name or address (IPv6 needs brackets)");
	memcpy(p->host, host, n);
	p->host[n] = '\0';
	p->port = port;
	if (rest == end)
		return true;
	if (*rest != ':' || !small_number(rest + 1, (size_t)(end - rest - 1), 65535, &p->port) ||
	    p->port == 0)
		return wrong(err, errlen, "the port is not a number from 1 to 65535");
	return true;
}

bool
redis_options_place(struct redis_place *p, const char *text, int port, char *err, size_t errlen)
{
	struct redis_place to;

	if (!host_port(&to, text, strlen(text), port, err, errlen))
		return false;
	*p = to;
	return true;
}

/* One, or several with commas. */
static bool
places(struct redis_options *o, const char *s, size_t len, int port, char *err, size_t errlen)
{
	const char *end = s + len;

	for (o->nplaces = 0; s <= end; o->nplaces++) {
		const char *comma = memchr(s, ',', (size_t)(end - s));
		const char *stop = comma != NULL ? comma : end;

		if (o->nplaces == REDIS_PLACES_MAX)
			return wrong(err, errlen, "more than 16 hosts");
		if (!host_port(&o->places[o->nplaces], s, (size_t)(stop - s), port, err, errlen))
			return false;
		s = stop + 1;
	}
	return true;
}

static bool
database(struct redis_options *o, const char *s, char *err, size_t errlen)
{
	if (*s == '\0' || small_number(s, strlen(s), DB_MAX, &o->db))
		return true;
	return wrong(err, errlen, "what follows the '/' is not the number of a database");
}

/* What follows a sentinel's hosts: master, and perhaps /db. */
static bool
master(struct redis_options *o, const char *s, char *err, size_t errlen)
{
	size_t len = strcspn(s, "/");

	if (len == 0 || len > REDIS_MASTER_MAX)
		return wrong(err, errlen, "write redis-sentinel://host[:port][,...]/MASTER[/db]");
	for (size_t i = 0; i < len; i++)
		if (s[i] <= ' ' || s[i] > '~')
			return wrong(err, errlen, "the master's name is not printable");
	memcpy(o->master, s, len);
	o->master[len] = '\0';
	return database(o, s[len] == '/' ? s + len + 1 : "", err, errlen);
}

static bool
url_redis(struct redis_options *o, enum redis_kind kind, const char *s, char *err, size_t errlen)
{
	/* an '@' in a password may stand unescaped: the last one before the path counts */
	const char *slash, *at = NULL, *path;
	struct redis_place one;
	size_t len;

	for (const char *p = s; *p != '\0'; p++)
		if (*p == '@')
			at = p;
	if (at != NULL) {
		if (!credentials(o, s, (size_t)(at - s), err, errlen))
			return false;
		s = at + 1;
	}
	slash = strchr(s, '/');
	len = slash != NULL ? (size_t)(slash - s) : strlen(s);
	path = slash != NULL ? slash + 1 : "";
	o->kind = kind;
	o->nplaces = 0;
	if (kind == REDIS_SENTINEL)
		return places(o, s, len, REDIS_SENTINEL_PORT, err, errlen) &&
		    master(o, path, err, errlen);
	if (kind == REDIS_CLUSTER) {
		if (*path != '\0')
			return wrong(err, errlen, "a Redis Cluster has no numbered databases");
		o->db = 0;
		return places(o, s, len, REDIS_PORT, err, errlen);
	}
	if (!host_port(&one, s, len, REDIS_PORT, err, errlen))
		return false;
	memcpy(o->host, one.host, sizeof o->host);
	o->port = one.port;
	return database(o, path, err, errlen);
}

static bool
url_unix(struct redis_options *o, const char *s, char *err, size_t errlen)
{
	const char *query = strchr(s, '?');
	size_t len = query != NULL ? (size_t)(query - s) : strlen(s);

	if (len == 0 || s[0] != '/')
		return wrong(err, errlen, "the path of the unix socket must begin with '/'");
	if (len >= sizeof((struct sockaddr_un *)NULL)->sun_path)
		return wrong(err, errlen, "the path of the unix socket is longer than 107 bytes");
	memcpy(o->host, s, len);
	o->host[len] = '\0';
	o->port = 0;
	o->kind = REDIS_ALONE;
	o->nplaces = 0;
	o->tls.on = false;
	if (query == NULL)
		return true;
	if (strncmp(query, "?db=", 4) != 0 ||
	    !small_number(query + 4, strlen(query + 4), DB_MAX, &o->db))
		return wrong(err, errlen, "only ?db=NUMBER may follow the path of the unix socket");
	return true;
}

bool
redis_options_url(struct redis_options *o, const char *url, char *err, size_t errlen)
{
	static const struct {
		const char *scheme;
		enum redis_kind kind;
		bool tls, local;
	} schemes[] = {
	    {"redis://", REDIS_ALONE, false, false},
	    {"rediss://", REDIS_ALONE, true, false},
	    {"redis-cluster://", REDIS_CLUSTER, false, false},
	    {"rediss-cluster://", REDIS_CLUSTER, true, false},
	    {"redis-sentinel://", REDIS_SENTINEL, false, false},
	    {"rediss-sentinel://", REDIS_SENTINEL, true, false},
	    {"unix://", REDIS_ALONE, false, true}, /* an empty authority, as some write it */
	    {"unix:", REDIS_ALONE, false, true},
	};
	struct redis_options to = *o;
	bool ok = false, known = false;

	for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
		size_t len = strlen(schemes[i].scheme);

		if (strncmp(url, schemes[i].scheme, len) != 0)
			continue;
		to.tls.on = o->tls.on || schemes[i].tls;
		ok = schemes[i].local ? url_unix(&to, url + len, err, errlen)
				      : url_redis(&to, schemes[i].kind, url + len, err, errlen);
		known = true;
		break;
	}
	if (!known)
		wrong(err, errlen,
		    "write redis://[user:password@]host[:port][/db] or unix:/path[?db=N]");
	if (ok)
		*o = to;
	explicit_bzero(&to, sizeof to);
	return ok;
}

char *
redis_place_text(const char *host, int port, char out[REDIS_PLACE_TEXT_MAX])
{
	if (port == 0)
		snprintf(out, REDIS_PLACE_TEXT_MAX, "unix:%s", host);
	else
		snprintf(
		    out, REDIS_PLACE_TEXT_MAX, strchr(host, ':') ? "[%s]:%d" : "%s:%d", host, port);
	return out;
}

char *
redis_options_text(const struct redis_options *o, char out[REDIS_TEXT_MAX])
{
	char place[REDIS_PLACE_TEXT_MAX];

	if (o->kind == REDIS_ALONE)
		return redis_place_text(o->host, o->port, out);
	redis_place_text(o->places[0].host, o->places[0].port, place);
	if (o->kind == REDIS_CLUSTER)
		snprintf(out, REDIS_TEXT_MAX, "cluster %s", place);
	else
		snprintf(out, REDIS_TEXT_MAX, "%s", o->master);
	return out;
}

const char *
redis_prefix(const struct redis_options *o, const char *name, char out[REDIS_PREFIX_MAX + 3])
{
	static const char *const together[] = {
	    "generation", "history", "format", "limits", "overrides", "lists", "drain"};
	bool tagged = false;

	for (size_t i = 0; i < sizeof together / sizeof together[0]; i++)
		tagged = tagged || strcmp(name, together[i]) == 0;
	snprintf(out, REDIS_PREFIX_MAX + 3, tagged && o->kind == REDIS_CLUSTER ? "{%s}" : "%s",
	    o->prefix);
	return out;
}
