/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fold.c - see fold.h. Each step makes the name shorter or leaves its length, but for A-labels.
 */
#include <idn2.h>
#include <string.h>
#include <strings.h>

#include "weir/fold.h"

/* A signed address can be forwarded, and forwarded again. */
#define WRAPS_MAX 4

static bool
begins(const char *text, const char *with)
{
	return strncasecmp(text, with, strlen(with)) == 0;
}

static bool
is_one_of(char c, const char *set)
{
	return c != '\0' && strchr(set, c) != NULL;
}

/* Where the local part ends: at the last '@', as in domain_of(). */
static char *
local_end(char *name)
{
	char *at = strrchr(name, '@');

	return at != NULL ? at : name + strlen(name);
}

/* --- BATV ---------------------------------------------------------------------------------- */

/* Key number, day and a hash: "0123a1b2c3"; some have a digit less or more. */
static bool
is_batv_tag(const char *s, const char *end)
{
	size_t len = (size_t)(end - s);

	return len >= 8 && len <= 12 && s[0] >= '0' && s[0] <= '9' &&
	    strspn(s, "0123456789abcdefABCDEF") >= len;
}

/* Leaves keep..end and what begins at at. */
static bool
keep(char *name, const char *part, const char *end, const char *at)
{
	size_t len = (size_t)(end - part);

	if (len == 0)
		return false;
	memmove(name, part, len);
	memmove(name + len, at, strlen(at) + 1);
	return true;
}

/* draft-levine-smtp-batv: prvs=TAG=user. Seen as well: prvs=user=TAG, prvs=user/TAG. */
static bool
unwrap_prvs(char *name, const char *at)
{
	const char *rest = name + strlen("prvs=");
	const char *first = memchr(rest, '=', (size_t)(at - rest));
	const char *last = at;

	if (first != NULL && is_batv_tag(rest, first))
		return keep(name, first + 1, at, at);
	while (last > rest && last[-1] != '=' && last[-1] != '/')
		last--;
	return last > rest && is_batv_tag(last, at) && keep(name, rest, last - 1, at);
}

/* Barracuda's: btv1==TAG==user */
static bool
unwrap_btv1(char *name, const char *at)
{
	const char *tag = name + strlen("btv1==");
	size_t len = strspn(tag, "0123456789abcdefABCDEF");

	return len > 0 && begins(tag + len, "==") && keep(name, tag + len + 2, at, at);
}

/* --- SRS ----------------------------------------------------------------------------------- */

/* One part of it up to its '='. NULL: it is empty, or has no end. */
static const char *
part_end(const char *part, const char *at)
{
	const char *end = part < at ? memchr(part, '=', (size_t)(at - part)) : NULL;

	return end != part ? end : NULL;
}

static bool
is_domain(const char *s, const char *end)
{
	for (; s < end; s++)
		if (!((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z') ||
			(*s >= '0' && *s <= '9') || is_one_of(*s, "-._") ||
			(unsigned char)*s >= 0x80))
			return false;
	return true;
}

/* "HASH=DAY=domain=user", up to at, becomes user@domain. */
static bool
unwrap_srs0(char *name, const char *hash, const char *at)
{
	const char *day = part_end(hash, at);
	const char *domain = day != NULL ? part_end(day + 1, at) : NULL;
	const char *user = domain != NULL ? part_end(domain + 1, at) : NULL;
	char whole[MAILBOX_MAX + 1];
	size_t len;

	if (user == NULL || user + 1 == at || !is_domain(domain + 1, user))
		return false;
	len = (size_t)(at - (user + 1));
	memcpy(whole, user + 1, len);
	whole[len++] = '@';
	memcpy(whole + len, domain + 1, (size_t)(user - (domain + 1)));
	whole[len + (size_t)(user - (domain + 1))] = '\0';
	strcpy(name, whole);
	return true;
}

/* "HASH=forwarder=" and what followed the first forwarder's SRS0 */
static bool
unwrap_srs1(char *name, const char *hash, const char *at)
{
	const char *forwarder = part_end(hash, at);
	const char *end = forwarder != NULL ? part_end(forwarder + 1, at) : NULL;

	return end != NULL && is_one_of(end[1], "=+-") && unwrap_srs0(name, end + 2, at);
}

/* --- all of them --------------------------------------------------------------------------- */

enum wrap { WRAP_NONE, WRAP_PRVS, WRAP_BTV1, WRAP_SRS0, WRAP_SRS1 };

static enum wrap
wrap_of(const char *name)
{
	if (begins(name, "prvs="))
		return WRAP_PRVS;
	if (begins(name, "btv1=="))
		return WRAP_BTV1;
	if (begins(name, "srs0") && is_one_of(name[4], "=+-"))
		return WRAP_SRS0;
	if (begins(name, "srs1") && is_one_of(name[4], "=+-"))
		return WRAP_SRS1;
	return WRAP_NONE;
}

static bool
unwrap(char *name)
{
	const char *at = local_end(name);

	switch (wrap_of(name)) {
	case WRAP_NONE:
		break;
	case WRAP_PRVS:
		return unwrap_prvs(name, at);
	case WRAP_BTV1:
		return unwrap_btv1(name, at);
	case WRAP_SRS0:
		return unwrap_srs0(name, name + 5, at);
	case WRAP_SRS1:
		return unwrap_srs1(name, name + 5, at);
	}
	return false;
}

/* As Postfix splits an address, so that what it delivers to one mailbox is one. */
static void
cut_tag(char *name, const char *delimiters)
{
	char *at = local_end(name);
	size_t len = (size_t)(at - name), user = strcspn(name, delimiters);

	if (user == 0 || user >= len)
		return;
	/* the '+' of "SRS0+" begins no tag */
	if (wrap_of(name) != WRAP_NONE)
		return;
	if (strchr(delimiters, '-') != NULL &&
	    ((len == 13 && begins(name, "mailer-daemon")) ||
		(len == 13 && begins(name, "double-bounce")) || begins(name, "owner-") ||
		(len > 8 && begins(at - 8, "-request"))))
		return;
	memmove(name + user, at, strlen(at) + 1);
}

/* --- the domain ---------------------------------------------------------------------------- */

/* ASCII only; the name of a host. Unicode has look-alikes of all characters, '@' among them. */
static bool
is_host(const char *s, size_t len)
{
	return len > 0 && strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789-._") >= len;
}

/* Small letters; U-labels as A-labels. room: for the domain, its NUL not counted. */
static void
fold_domain(char *domain, size_t room)
{
	bool ascii = true;
	char *alabels = NULL;
	size_t len;

	for (char *p = domain; *p != '\0'; p++) {
		if (*p >= 'A' && *p <= 'Z')
			*p = (char)(*p | 0x20);
		ascii = ascii && (unsigned char)*p < 0x80;
	}
	if (ascii)
		return;
	/* not with STD3 rules: libidn2 then leaves characters out, and makes another domain */
	if (idn2_to_ascii_8z(domain, &alabels, IDN2_NONTRANSITIONAL) != IDN2_OK)
		return;
	len = strlen(alabels);
	while (len > 0 && alabels[len - 1] == '.') /* U+3002 is a dot, too */
		len--;
	if (is_host(alabels, len) && len <= room) {
		memcpy(domain, alabels, len);
		domain[len] = '\0';
	}
	idn2_free(alabels);
}

const char *
fold_mailbox(const struct fold *how, bool sender, const char *name, char out[MAILBOX_MAX + 1])
{
	size_t len = strlen(name);
	char *at;

	if (len > MAILBOX_MAX)
		return name;
	memcpy(out, name, len + 1);
	for (int i = 0; sender && how->unwrap && i < WRAPS_MAX && unwrap(out); i++)
		;
	if (how->delimiters[0] != '\0')
		cut_tag(out, how->delimiters);
	at = local_end(out);
	if (*at == '@')
		fold_domain(at + 1, MAILBOX_MAX - (size_t)(at + 1 - out));
	return out;
}
