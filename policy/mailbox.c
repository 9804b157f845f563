/*
 * mailbox.c - one spelling for the many that SMTP allows for one mailbox.
 *
 * Both MTAs hand on what the client typed and accept "< u1@example.test >", <"u1"@example.test>,
 * <u1@example.test.>, <@relay:u1@example.test> and <u1(x)@example.test> alike: a counter that
 * took each for another mailbox could be evaded by anybody (RFC 5321 4.1.2, RFC 5322 3.2).
 * What comes out is a name for a counter, not an address to send to.
 */
#include <string.h>

#include "weir/facts.h"

/* '~' and 16 hex digits. */
#define HASH_TEXT 17

/* Walks over the characters that count. */
struct walk {
	const char *p, *end;
	unsigned comment; /* depth of parentheses */
};

static struct walk
walk_start(const char *text)
{
	struct walk w = {.p = text, .end = text + strlen(text)};
	const char *route;

	if (w.end - w.p >= 2 && w.p[0] == '<' && w.end[-1] == '>') {
		w.p++;
		w.end--;
	}
	while (w.p < w.end && (*w.p == ' ' || *w.p == '\t'))
		w.p++;
	/* a source route is to be ignored (RFC 5321 appendix C) */
	if (w.p < w.end && *w.p == '@' && (route = memchr(w.p, ':', (size_t)(w.end - w.p))) != NULL)
		w.p = route + 1;
	while (w.end > w.p && (w.end[-1] == ' ' || w.end[-1] == '\t' || w.end[-1] == '.'))
		w.end--;
	return w;
}

/* '\0' at the end. */
static char
walk_next(struct walk *w)
{
	while (w->p < w->end) {
		char c = *w->p++;

		if (c == '(')
			w->comment++;
		else if (c == ')' && w->comment > 0)
			w->comment--;
		else if (w->comment == 0 && c != ' ' && c != '\t' && c != '"' && c != '\\')
			return c;
	}
	return '\0';
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
	size_t length = 0, at = 0, domain, keep, used = 0, i = 0;
	uint64_t hash = UINT64_C(0xcbf29ce484222325);
	bool has_at = false, cut;
	char c;

	while ((c = walk_next(&w)) != '\0') {
		if (c == '@') {
			at = length;
			has_at = true;
		}
		/* FNV-1a: who makes two mailboxes collide harms himself */
		hash = (hash ^ (unsigned char)c) * UINT64_C(0x100000001b3);
		length++;
	}
	cut = length >= outlen;
	/* Of what is too long the domain stays, as far as there is room, and the local part goes. */
	domain = has_at && length - at < outlen - HASH_TEXT ? length - at : 0;
	keep = cut ? outlen - 1 - HASH_TEXT - domain : length;
	w = walk_start(text);
	for (; (c = walk_next(&w)) != '\0'; i++) {
		if (cut && i == keep)
			used += put_hash(out + used, hash);
		if (i < keep || (cut && i >= length - domain))
			out[used++] = c;
	}
	out[used] = '\0';
}
