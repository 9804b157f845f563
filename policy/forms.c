/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forms.c - see forms.h.
 */
#include <string.h>

#include "weir/who.h"
#include "forms.h"

bool
forms_lower(const char *text, char *out, size_t outlen)
{
	size_t len = strnlen(text, outlen);

	if (len == outlen)
		return false;
	for (size_t i = 0; i <= len; i++)
		out[i] = (char)(text[i] >= 'A' && text[i] <= 'Z' ? text[i] | 0x20 : text[i]);
	return true;
}

/* The address, and without its extension. */
static bool
whole_forms(const char *text, const char *at, const char *plus, form_fn *fn, void *ctx)
{
	char bare[MAILBOX_MAX + 1];
	size_t len;

	if (fn(ctx, text))
		return true;
	if (plus == NULL)
		return false;
	len = (size_t)(plus - text);
	memcpy(bare, text, len);
	strcpy(bare + len, at);
	return fn(ctx, bare);
}

/* "@example.org", and then "@.org" for each domain above it. Overwrites the domain. */
static bool
domain_forms(char *at, form_fn *fn, void *ctx)
{
	if (fn(ctx, at))
		return true;
	for (char *dot = strchr(at + 1, '.'); dot != NULL; dot = strchr(dot + 1, '.')) {
		dot[-1] = '@';
		if (fn(ctx, dot - 1))
			return true;
	}
	return false;
}

/* "ann+x@", "ann@". */
static bool
local_forms(const char *text, size_t len, const char *plus, form_fn *fn, void *ctx)
{
	char local[MAILBOX_MAX + 2];

	memcpy(local, text, len);
	strcpy(local + len, "@");
	if (fn(ctx, local))
		return true;
	if (plus == NULL)
		return false;
	strcpy(local + (plus - text), "@");
	return fn(ctx, local);
}

bool
forms_of_address(const char *address, form_fn *fn, void *ctx)
{
	char text[MAILBOX_MAX + 1], *at;
	const char *plus;
	size_t len;

	if (address[0] == '\0')
		return fn(ctx, "<>");
	if (!forms_lower(address, text, sizeof text))
		return false;
	at = strrchr(text, '@');
	len = at != NULL ? (size_t)(at - text) : strlen(text);
	plus = memchr(text, '+', len);
	if (plus == text)
		plus = NULL;
	if (at != NULL && (whole_forms(text, at, plus, fn, ctx) || domain_forms(at, fn, ctx)))
		return true;
	return local_forms(text, len, plus, fn, ctx);
}

bool
forms_of_name(const char *name, form_fn *fn, void *ctx)
{
	char text[DOMAIN_MAX + 2];
	size_t len;

	if (!forms_lower(name, text, sizeof text))
		return false;
	len = strlen(text);
	if (len > 0 && text[len - 1] == '.')
		text[--len] = '\0';
	if (len == 0)
		return false;
	for (const char *p = text; p != NULL; p = strchr(p, '.')) {
		p += *p == '.';
		if (fn(ctx, p))
			return true;
	}
	return false;
}
