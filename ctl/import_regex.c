/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import_regex.c - the regular expressions that people write for a domain, and other parts that
 * the readers of foreign lists share.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "import.h"

bool
import_net(const char *text, struct who *out)
{
	char address[NET_TEXT_MAX], *end;
	const char *slash = strchr(text, '/');
	size_t len = slash != NULL ? (size_t)(slash - text) : strlen(text);
	unsigned long bits = 128;
	struct addr a;

	memset(out, 0, sizeof *out);
	if (len >= sizeof address)
		return false;
	memcpy(address, text, len);
	address[len] = '\0';
	if (!addr_parse(address, &a))
		return false;
	if (slash != NULL) {
		/* at most three digits, so that nothing overflows */
		bits = strtoul(slash + 1, &end, 10);
		if (strspn(slash + 1, "0123456789") == 0 || end - slash > 4 || *end != '\0' ||
		    bits > (strchr(address, ':') != NULL ? 128 : 32))
			return false;
		/* an IPv4 address written as IPv6 is IPv4 */
		if (strchr(address, ':') != NULL && a.family == ADDR_V4) {
			if (bits < 96)
				return false;
			bits -= 96;
		}
	}
	out->kind = WHO_NET;
	out->net = net_of(&a, (unsigned)bits);
	return true;
}

bool
import_who(const char *prefix, const char *text, struct who *out, char why[IMPORT_WHY_MAX])
{
	char whole[WHO_TEXT_MAX + 1];

	if ((size_t)snprintf(whole, sizeof whole, "%s%s", prefix, text) >= sizeof whole) {
		snprintf(why, IMPORT_WHY_MAX, "too long");
		return false;
	}
	return who_parse(whole, out, why, IMPORT_WHY_MAX);
}

/* --- regular expressions ---------------------------------------------------------------------- */

/* What such an expression comes down to. */
struct fixed {
	bool start, end; /* nothing may stand before the text, or behind it */
	char edge; /* '.': before it the start or a dot; '@': an at sign or a dot; '\0': neither */
	char text[MAILBOX_MAX + 1];
};

/* True, and *p behind it, when the expression goes on with one of these. */
static bool
skip(const char **p, const char *const *any)
{
	for (; *any != NULL; any++)
		if (strncmp(*p, *any, strlen(*any)) == 0) {
			*p += strlen(*any);
			return true;
		}
	return false;
}

static void
read_start(const char **p, struct fixed *f)
{
	static const char *const anything[] = {".*?", ".*", ".+", NULL};
	static const char *const label[] = {"(^|\\.)", "(?:^|\\.)", "(.*\\.)?", "(?:.*\\.)?", NULL};
	static const char *const domain[] = {"[@.]", "[.@]", "(@|\\.)", "(?:@|\\.)", "[@\\.]",
	    "@(.*\\.)?", "@(.+\\.)?", "@(?:.*\\.)?", NULL};
	static const char *const below[] = {"@.*\\.", "@.+\\.", NULL};

	if (**p == '^') {
		f->start = true;
		(*p)++;
	}
	/* behind "^" only the whole text may begin with a label of its own */
	if (skip(p, label)) {
		f->start = false;
		f->edge = '.';
		return;
	}
	if (skip(p, anything))
		f->start = false;
	if (f->start)
		return;
	if (skip(p, domain))
		f->edge = '@';
	else if (skip(p, below))
		*p -= 2; /* the dot is the text's */
}

/* The text itself; *p behind it. False: it is longer than any entry. */
static bool
read_text(const char **p, struct fixed *f)
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
				    "0123456789@_=-";
	static const char escaped[] = ".-@_/+";
	size_t n = 0;

	for (;; (*p)++) {
		if (n + 1 == sizeof f->text)
			return false;
		if (**p == '\\' && (*p)[1] != '\0' && strchr(escaped, (*p)[1]) != NULL)
			(*p)++;
		else if (**p == '\0' || strchr(plain, **p) == NULL)
			break;
		f->text[n++] = **p;
	}
	f->text[n] = '\0';
	return n > 0;
}

static bool
read_fixed(const char *regex, struct fixed *f)
{
	const char *p = regex;

	memset(f, 0, sizeof *f);
	read_start(&p, f);
	if (!read_text(&p, f))
		return false;
	f->end = strcmp(p, "$") == 0;
	return f->end || *p == '\0' || strcmp(p, ".*") == 0 || strcmp(p, ".*$") == 0;
}

static unsigned
one(const char *prefix, const char *text, struct who *out)
{
	char why[IMPORT_WHY_MAX];

	return import_who(prefix, text, out, why) ? 1 : 0;
}

static unsigned
fixed_name(const struct fixed *f, struct who out[2])
{
	if (!f->end || f->edge == '@')
		return 0;
	/* what ends in "example.org" may be badexample.org */
	if (f->start || f->edge == '.')
		return one("name:", f->text, out);
	return f->text[0] == '.' ? one("name:", f->text + 1, out) : 0;
}

static unsigned
fixed_address(const struct fixed *f, const char *prefix, struct who out[2])
{
	const char *at = strchr(f->text, '@');
	char domain[32];
	unsigned n;

	if (f->edge == '.')
		return 0;
	if (f->edge == '@') {
		if (!f->end || at != NULL)
			return 0;
		snprintf(domain, sizeof domain, "%s@", prefix);
		n = one(domain, f->text, &out[0]);
		snprintf(domain, sizeof domain, "%s@.", prefix);
		return n == 1 && one(domain, f->text, &out[1]) == 1 ? 2 : 0;
	}
	if (f->start)
		/* ^ann@example\.org$ and ^ann@ */
		return at != NULL && at > f->text && (at[1] == '\0') != f->end
		    ? one(prefix, f->text, out)
		    : 0;
	if (!f->end)
		return 0;
	if (f->text[0] == '@')
		return one(prefix, f->text, out);
	snprintf(domain, sizeof domain, "%s@", prefix);
	return f->text[0] == '.' && at == NULL ? one(domain, f->text, out) : 0;
}

unsigned
import_regex(const char *regex, enum who_kind kind, struct who out[2])
{
	struct fixed f;

	if (!read_fixed(regex, &f))
		return 0;
	if (kind == WHO_NAME)
		return fixed_name(&f, out);
	return fixed_address(&f, kind == WHO_SENDER ? "sender:" : "recipient:", out);
}
