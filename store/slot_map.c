/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * slot_map.c - see slot_map.h.
 */
#include <ctype.h>
#include <stdlib.h>
#include <string.h>

#include "slot_map.h"

/* --- the slot of a key -------------------------------------------------------------------- */

/* CRC-16/XMODEM, four bits at a time. */
static unsigned
crc16(const char *s, size_t len)
{
	static const uint16_t table[16] = {0x0000, 0x1021, 0x2042, 0x3063, 0x4084, 0x50a5, 0x60c6,
	    0x70e7, 0x8108, 0x9129, 0xa14a, 0xb16b, 0xc18c, 0xd1ad, 0xe1ce, 0xf1ef};
	unsigned crc = 0;

	for (size_t i = 0; i < len; i++) {
		unsigned c = (unsigned char)s[i];

		crc = (crc << 4 ^ table[(crc >> 12 ^ c >> 4) & 15]) & 0xffff;
		crc = (crc << 4 ^ table[(crc >> 12 ^ c) & 15]) & 0xffff;
	}
	return crc;
}

unsigned
slot_of(const char *key, size_t len)
{
	const char *open = memchr(key, '{', len), *close = NULL;

	if (open != NULL)
		close = memchr(open + 1, '}', len - (size_t)(open + 1 - key));
	if (close != NULL && close > open + 1)
		return crc16(open + 1, (size_t)(close - open - 1)) % SLOTS;
	return crc16(key, len) % SLOTS;
}

/* --- places ------------------------------------------------------------------------------- */

/* A number up to max, and nothing else. */
static bool
number(const char *s, size_t len, unsigned max, unsigned *out)
{
	unsigned v = 0;

	if (len == 0 || len > 5)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s[i] - '0');
	}
	*out = v;
	return v <= max;
}

bool
slot_map_place(const char *text, size_t len, const char *asked, struct redis_place *out)
{
	const char *colon = len > 0 ? memrchr(text, ':', len) : NULL;
	size_t host = colon != NULL ? (size_t)(colon - text) : 0;
	unsigned port;

	if (colon == NULL || host > REDIS_HOST_MAX ||
	    !number(colon + 1, len - host - 1, 65535, &port) || port == 0)
		return false;
	for (size_t i = 0; i < host; i++)
		if (!isalnum((unsigned char)text[i]) && strchr(":.%-_?", text[i]) == NULL)
			return false;
	if (host == 0 || (host == 1 && text[0] == '?')) {
		text = asked;
		host = strlen(asked);
	}
	if (host == 0 || host > REDIS_HOST_MAX)
		return false;
	memcpy(out->host, text, host);
	out->host[host] = '\0';
	out->port = (int)port;
	return true;
}

bool
slot_map_redirect(const char *text, const char *asked, unsigned *slot, struct redis_place *out)
{
	size_t len = strcspn(text, " ");

	if (text[len] != ' ' || !number(text, len, SLOTS - 1, slot))
		return false;
	text += len + 1;
	return slot_map_place(text, strlen(text), asked, out);
}

/* --- CLUSTER NODES ------------------------------------------------------------------------ */

struct word {
	const char *s;
	size_t len;
};

/* The next word of the line, false: there is none. */
static bool
next_word(const char **at, const char *end, struct word *w)
{
	while (*at < end && **at == ' ')
		(*at)++;
	w->s = *at;
	while (*at < end && **at != ' ')
		(*at)++;
	w->len = (size_t)(*at - w->s);
	return w->len > 0;
}

static bool
has_flag(const struct word *flags, const char *flag)
{
	size_t n = strlen(flag);

	for (size_t i = 0; i + n <= flags->len; i++)
		if (memcmp(flags->s + i, flag, n) == 0 && (i == 0 || flags->s[i - 1] == ',') &&
		    (i + n == flags->len || flags->s[i + n] == ','))
			return true;
	return false;
}

/* "5" or "0-5460"; "[93->-NODE]" is under way, and still here. */
static bool
take_slots(struct slot_map *m, const struct word *w, unsigned node)
{
	const char *dash = memchr(w->s, '-', w->len);
	size_t len = dash != NULL ? (size_t)(dash - w->s) : w->len;
	unsigned first, last;

	if (w->s[0] == '[')
		return true;
	if (!number(w->s, len, SLOTS - 1, &first))
		return false;
	last = first;
	if (dash != NULL && !number(dash + 1, w->len - len - 1, SLOTS - 1, &last))
		return false;
	for (unsigned i = first; i <= last; i++) {
		m->served += m->node[i] == NODE_NONE;
		m->node[i] = (uint8_t)node;
	}
	return first <= last;
}

/* id host:port@cport[,hostname] flags master ping pong epoch link slot ... */
static bool
read_line(struct slot_map *m, const char *at, const char *end, const char *asked)
{
	enum { ID, ADDRESS, FLAGS, MASTER, PING, PONG, EPOCH, LINK, HEAD };
	struct word head[HEAD], slot;
	size_t len;

	for (int i = 0; i < HEAD; i++)
		if (!next_word(&at, end, &head[i]))
			return false;
	if (!has_flag(&head[FLAGS], "master") || has_flag(&head[FLAGS], "noaddr"))
		return true;
	if (!next_word(&at, end, &slot)) /* a primary without slots is asked nothing */
		return true;
	if (m->n == NODES_MAX)
		return false;
	for (len = 0; len < head[ADDRESS].len; len++)
		if (head[ADDRESS].s[len] == '@' || head[ADDRESS].s[len] == ',')
			break;
	if (!slot_map_place(head[ADDRESS].s, len, asked, &m->nodes[m->n]))
		return false;
	m->n++;
	do
		if (!take_slots(m, &slot, m->n - 1))
			return false;
	while (next_word(&at, end, &slot));
	return true;
}

bool
slot_map_read(struct slot_map *m, const char *text, size_t len, const char *asked)
{
	const char *end = text + len;

	m->n = m->served = 0;
	memset(m->node, NODE_NONE, sizeof m->node);
	while (text < end) {
		const char *newline = memchr(text, '\n', (size_t)(end - text));
		const char *stop = newline != NULL ? newline : end;

		if (stop > text && stop[-1] == '\r')
			stop--;
		if (stop > text && !read_line(m, text, stop, asked))
			return false;
		text = newline != NULL ? newline + 1 : end;
	}
	return m->served > 0;
}
