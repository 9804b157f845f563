/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * who.c - see who.h.
 */
#include <string.h>

#include "weir/who.h"
#include "err.h"
#include "forms.h"

static const struct {
	const char *prefix;
	enum who_kind kind;
} prefixes[] = {
    {"user:", WHO_USER},
    {"name:", WHO_NAME},
    {"sender:", WHO_SENDER},
    {"recipient:", WHO_RECIPIENT},
};

#define PREFIXES (sizeof prefixes / sizeof prefixes[0])

static bool
parse_user(const char *name, struct who *out, char *err, size_t errlen)
{
	if (*name == '\0' || strlen(name) > USER_MAX)
		return err_set(err, errlen, "a user is written as user:NAME", NULL);
	for (const char *p = name; *p != '\0'; p++)
		if ((unsigned char)*p <= 0x20 || (unsigned char)*p == 0x7f)
			return err_set(
			    err, errlen, "a user's name has no blanks or control characters", NULL);
	strcpy(out->text, name);
	return true;
}

#define DOMAIN_CHARS "abcdefghijklmnopqrstuvwxyz0123456789-_."
#define LABEL_MAX 63

/* In lower case already. */
static bool
domain_valid(const char *domain)
{
	size_t len = strspn(domain, DOMAIN_CHARS), label;

	if (len == 0 || len > DOMAIN_MAX || domain[len] != '\0')
		return false;
	for (const char *p = domain;; p += label + 1) {
		label = strcspn(p, ".");
		if (label == 0 || label > LABEL_MAX)
			return false;
		if (p[label] == '\0')
			return true;
	}
}

static bool
parse_name(const char *name, struct who *out, char *err, size_t errlen)
{
	if (!forms_lower(name, out->text, sizeof out->text) || !domain_valid(out->text))
		return err_set(err, errlen,
		    "a host name is written as name:mx.example.org, in ASCII (xn--...)", NULL);
	return true;
}

/* What mailbox_name() leaves of a local part (RFC 5321: at most 64 bytes). */
static bool
local_valid(const char *local, size_t len)
{
	if (len == 0 || len > 64)
		return false;
	for (size_t i = 0; i < len; i++)
		if ((unsigned char)local[i] <= 0x20 || strchr("<>()\"\\@\x7f", local[i]) != NULL)
			return false;
	return true;
}

static bool
parse_address(const char *address, enum who_kind kind, struct who *out, char *err, size_t errlen)
{
	const char *at, *domain;

	if (strcmp(address, "<>") == 0 && kind == WHO_SENDER) {
		strcpy(out->text, address);
		return true;
	}
	if (forms_lower(address, out->text, sizeof out->text) &&
	    (at = strrchr(out->text, '@')) != NULL) {
		size_t local = (size_t)(at - out->text);

		domain = at + 1;
		if (local == 0 && *domain == '.')
			domain++;
		if ((local == 0 || local_valid(out->text, local)) &&
		    (domain_valid(domain) || (local > 0 && *domain == '\0')))
			return true;
	}
	return err_set(err, errlen, "a ", kind == WHO_SENDER ? "sender" : "recipient",
	    " is written as ann@example.org, @example.org, @.example.org (the domains below it) or "
	    "ann@ (in any domain), without quotes and brackets, the domain in ASCII (xn--...)",
	    NULL);
}

bool
who_parse(const char *text, struct who *out, char *err, size_t errlen)
{
	memset(out, 0, sizeof *out);
	for (size_t i = 0; i < PREFIXES; i++) {
		size_t len = strlen(prefixes[i].prefix);

		if (strncmp(text, prefixes[i].prefix, len) != 0)
			continue;
		out->kind = prefixes[i].kind;
		if (out->kind == WHO_USER)
			return parse_user(text + len, out, err, errlen);
		if (out->kind == WHO_NAME)
			return parse_name(text + len, out, err, errlen);
		return parse_address(text + len, out->kind, out, err, errlen);
	}
	if (!net_parse(text, &out->net))
		return err_set(err, errlen,
		    "must be an address, a network without host bits (192.0.2.0/24), user:NAME, "
		    "name:DOMAIN, sender:ADDRESS or recipient:ADDRESS",
		    NULL);
	return true;
}

const char *
who_format(const struct who *w, char out[WHO_TEXT_MAX])
{
	if (w->kind == WHO_NET)
		return net_format(&w->net, out);
	for (size_t i = 0; i < PREFIXES; i++)
		if (prefixes[i].kind == w->kind)
			strcpy(out, prefixes[i].prefix);
	strcat(out, w->text);
	return out;
}

static bool
same_text(void *ctx, const char *text)
{
	return strcmp(ctx, text) == 0;
}

bool
who_matches(const struct who *w, const struct facts *f)
{
	void *text = (void *)w->text; /* same_text() only reads it */

	switch (w->kind) {
	case WHO_NET:
		return net_contains(&w->net, &f->client);
	case WHO_USER:
		return f->user[0] != '\0' && strcmp(w->text, f->user) == 0;
	case WHO_NAME:
		return forms_of_name(f->name, same_text, text);
	case WHO_SENDER:
		return (f->stage == STAGE_MAIL || f->stage == STAGE_RCPT) &&
		    forms_of_address(f->sender, same_text, text);
	case WHO_RECIPIENT:
		return f->stage == STAGE_RCPT && f->recipient[0] != '\0' &&
		    forms_of_address(f->recipient, same_text, text);
	case WHO_KINDS:
		break;
	}
	return false;
}
