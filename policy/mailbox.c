/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mailbox.c - one spelling for the many that SMTP allows for one mailbox.
 *
 * Both MTAs hand on what the client typed and take "< u1@example.test >", <"u1"@example.test>,
 * <u1@example.test.(x)>, <@relay:u1@example.test>, foo<u1@example.test>, <<u1@example.test;>>
 * and list:u1@example.test; alike: a counter that took each for another mailbox could be evaded
 * by anybody (RFC 5321 4.1.2, RFC 5322 3.2 to 3.4, and what Postfix and Sendmail put up with).
 * What comes out is a name for a counter, not an address to send to: where two MTAs read a
 * spelling differently, it is enough that nobody can make many names of one mailbox.
 */
#include <string.h>

#include "weir/facts.h"

/* '~' and 16 hex digits. */
#define HASH_TEXT 17

/* Walks over the characters that count: no quotes, blanks, comments. */
struct walk {
	const char *p, *end;
	unsigned comment; /* depth of parentheses */
	bool quoted; /* within quotes */
	bool literal; /* the character last given was quoted or escaped: it is no syntax */
};

/* '\0' at the end. */
static char
walk_next(struct walk *w)
{
	while (w->p < w->end) {
		char c = *w->p++;

		w->literal = w->quoted;
		if (c == '\\' && w->p < w->end) {
			c = *w->p++;
			w->literal = true;
		} else if (w->comment > 0 || (c == '(' && !w->quoted)) {
			if (c == '(')
				w->comment++;
			else if (c == ')')
				w->comment--;
			continue;
		} else if (c == '"') {
			w->quoted = !w->quoted;
			continue;
		}
		if (w->comment == 0 && c != ' ' && c != '\t' && c != '"' && c != '\\')
			return c;
	}
	return '\0';
}

/* What stands in the last angle brackets, or the whole. */
static struct walk
walk_start(const char *text)
{
	struct walk whole = {.p = text, .end = text + strlen(text)}, inner = whole;
	bool open = false;
	char c;

	while ((c = walk_next(&whole)) != '\0') {
		if (c == '<' && !whole.literal) {
			inner = (struct walk){.p = whole.p, .end = whole.end};
			open = true;
		} else if (c == '>' && !whole.literal && open) {
			inner.end = whole.p - 1;
			open = false;
		}
	}
	return inner;
}

/* Where the name lies among the characters that count. */
struct extent {
	size_t start, end;
	size_t at; /* the last '@'; end when there is none */
};

/* A source route (to be ignored, RFC 5321 appendix C) and the name of a group end in a colon;
 * a colon behind the last '@' belongs to an IPv6 address. Separators and dots at the end, and
 * separators in front, are nothing to either MTA. */
static struct extent
find_extent(struct walk w)
{
	struct extent x = {0, 0, 0};
	size_t i = 0, start = 0;
	bool has_at = false;
	char c;

	for (; (c = walk_next(&w)) != '\0'; i++) {
		if (c == ':' || (i == start && (c == ',' || c == ';')))
			start = i + 1;
		else if (c == '@') {
			x.at = i;
			x.start = start;
			has_at = true;
		}
		if (c != '.' && c != ',' && c != ';')
			x.end = i + 1;
	}
	if (!has_at)
		x.start = start;
	if (x.end < x.start)
		x.end = x.start;
	if (!has_at || x.at < x.start)
		x.at = x.end;
	return x;
}

/* FNV-1a: who makes two mailboxes collide harms himself. */
static uint64_t
hash_name(struct walk w, const struct extent *x)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	char c;

	for (size_t i = 0; (c = walk_next(&w)) != '\0' && i < x->end; i++)
		if (i >= x->start)
			hash = (hash ^ (unsigned char)c) * UINT64_C(0x100000001b3);
	return hash;
}

static size_t
put_hash(char *out, uint64_t h)
{
	*out++ = '~';
	for (int shift = 60; shift >= 0; shift -= 4)
		*out++ = "0123456789abcdef"[(h >> shift) & 15];
	return HASH_TEXT;
}

void
mailbox_name(const char *text, char *out, size_t outlen)
{
	struct walk w = walk_start(text);
	struct extent x = find_extent(w);
	size_t length = x.end - x.start, domain = x.end - x.at, keep = length, used = 0;
	bool cut = length >= outlen;
	uint64_t hash = 0;
	char c;

	/* Of what is too long the domain stays, as far as there is room, and the local part goes. */
	if (domain >= outlen - HASH_TEXT)
		domain = 0;
	if (cut) {
		keep = outlen - 1 - HASH_TEXT - domain;
		hash = hash_name(w, &x);
	}
	for (size_t i = 0; (c = walk_next(&w)) != '\0' && i < x.end; i++) {
		if (i < x.start)
			continue;
		if (cut && i - x.start == keep)
			used += put_hash(out + used, hash);
		if (i - x.start < keep || (cut && i >= x.end - domain))
			out[used++] = c;
	}
	out[used] = '\0';
}
