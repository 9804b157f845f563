/*
 * redis_url.c - where Redis is, as people write it.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "weir/redis.h"
#include "weir/units.h"

#define PORT_DEFAULT 6379
#define TIMEOUT_DEFAULT (50 * USEC_PER_MSEC)
#define DB_MAX 65535

void
redis_options_defaults(struct redis_options *o)
{
	memset(o, 0, sizeof *o);
	strcpy(o->host, "127.0.0.1");
	o->port = PORT_DEFAULT;
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

/* host, host:port, [v6], [v6]:port */
static bool
host_port(struct redis_options *o, const char *s, size_t len, char *err, size_t errlen)
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
	memcpy(o->host, host, n);
	o->host[n] = '\0';
	o->port = PORT_DEFAULT;
	if (rest == end)
		return true;
	if (*rest != ':' || !small_number(rest + 1, (size_t)(end - rest - 1), 65535, &o->port) ||
	    o->port == 0)
		return wrong(err, errlen, "the port is not a number from 1 to 65535");
	return true;
}

static bool
url_redis(struct redis_options *o, const char *s, char *err, size_t errlen)
{
	/* an '@' in a password may stand unescaped: the last one before the path counts */
	const char *slash, *at = NULL;

	for (const char *p = s; *p != '\0'; p++)
		if (*p == '@')
			at = p;
	if (at != NULL) {
		if (!credentials(o, s, (size_t)(at - s), err, errlen))
			return false;
		s = at + 1;
	}
	slash = strchr(s, '/');
	if (!host_port(o, s, slash != NULL ? (size_t)(slash - s) : strlen(s), err, errlen))
		return false;
	if (slash != NULL && slash[1] != '\0' &&
	    !small_number(slash + 1, strlen(slash + 1), DB_MAX, &o->db))
		return wrong(err, errlen, "what follows the '/' is not the number of a database");
	return true;
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
	struct redis_options to = *o;
	bool ok;

	if (strncmp(url, "redis://", 8) == 0)
		ok = url_redis(&to, url + 8, err, errlen);
	else if (strncmp(url, "unix://", 7) == 0) /* an empty authority, as some write it */
		ok = url_unix(&to, url + 7, err, errlen);
	else if (strncmp(url, "unix:", 5) == 0)
		ok = url_unix(&to, url + 5, err, errlen);
	else if (strncmp(url, "rediss:", 7) == 0)
		ok = wrong(err, errlen, "no TLS here: let a tunnel (stunnel, WireGuard) do it");
	else
		ok = wrong(err, errlen,
		    "write redis://[user:password@]host[:port][/db] or unix:/path[?db=N]");
	if (ok)
		*o = to;
	explicit_bzero(&to, sizeof to);
	return ok;
}
