/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mload_wire.c - the milter protocol, version 6, as Postfix 3.7 speaks it (milter8.c): it sends
 * the macros of a step in one piece with the step, and even when the milter does not want the
 * step; it writes only when it has to wait for a reply.
 */
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mload.h"

#define PROTOCOL 6
#define ACTIONS_ALL 0x1ffu
#define STEPS_ALL 0x1fffffu

/* command, "do not send it", "I do not answer it", stage of its macros */
static const struct {
	char command;
	uint32_t no, silent;
	int stage;
} kinds[] = {
    [STEP_NEGOTIATE] = {'O', 0, 0, -1},
    [STEP_CONNECT] = {'C', 0x1, 0x1000, 0},
    [STEP_HELO] = {'H', 0x2, 0x2000, 1},
    [STEP_MAIL] = {'M', 0x4, 0x4000, 2},
    [STEP_RCPT] = {'R', 0x8, 0x8000, 3},
    [STEP_DATA] = {'T', 0x200, 0x10000, 4},
    [STEP_MESSAGE] = {'E', 0, 0, 5},
    [STEP_QUIT] = {'Q', 0, 0, -1},
};
#define HEADER_NO 0x20u
#define HEADER_SILENT 0x80u
#define EOH_NO 0x40u
#define EOH_SILENT 0x40000u
#define BODY_NO 0x10u
#define BODY_SILENT 0x80000u
#define STAGE_EOH 6

/* What Postfix knows of each name; NULL: it depends on the session. */
static const struct {
	const char *name, *value;
} macros[] = {
    {"j", "mx.example.test"},
    {"{daemon_name}", "mx.example.test"},
    {"{daemon_addr}", "192.0.2.25"},
    {"{daemon_port}", "25"},
    {"v", "Postfix 3.7.11"},
    {"{client_resolve}", "OK"},
    {"{client_addr}", NULL},
    {"{client_name}", NULL},
    {"{mail_addr}", NULL},
    {"{mail_host}", "client.test"},
    {"{mail_mailer}", "smtp"},
    {"{rcpt_addr}", NULL},
    {"{rcpt_host}", "example.test"},
    {"{rcpt_mailer}", "relay"},
    {"i", NULL},
};
enum { M_CLIENT_ADDR = 6, M_CLIENT_NAME = 7, M_MAIL_ADDR = 8, M_RCPT_ADDR = 11, M_QUEUE_ID = 14 };
#define MACROS (sizeof macros / sizeof macros[0])
#define BIT(i) (1u << (i))

/* The defaults of its milter_*_macros, as far as they have a value without TLS or login. */
static const uint32_t macros_default[STAGES] = {
    BIT(0) | BIT(1) | BIT(2) | BIT(4),
    0,
    BIT(8) | BIT(9) | BIT(10) | BIT(14),
    BIT(11) | BIT(12) | BIT(13) | BIT(14),
    BIT(14),
    BIT(14),
    BIT(14),
};

/* --- bytes --------------------------------------------------------------------------------- */

static char *
room(struct session *s, size_t n)
{
	if (s->out_len + n > s->out_size) {
		s->out_size = (s->out_len + n) * 2 + 1024;
		s->out = realloc(s->out, s->out_size);
		if (s->out == NULL)
			die("out of memory");
	}
	return s->out + s->out_len;
}

static void
put(struct session *s, const void *p, size_t n)
{
	memcpy(room(s, n), p, n);
	s->out_len += n;
}

static void
put_text(struct session *s, const char *text)
{
	put(s, text, strlen(text) + 1);
}

static void
put_u32(struct session *s, uint32_t v)
{
	v = htonl(v);
	put(s, &v, sizeof v);
}

/* Begins a packet; packet_end() writes its length. */
static size_t
packet(struct session *s, char command)
{
	size_t at = s->out_len;

	put_u32(s, 0);
	put(s, &command, 1);
	return at;
}

static void
packet_end(struct session *s, size_t at)
{
	uint32_t len = htonl((uint32_t)(s->out_len - at - 4));

	memcpy(s->out + at, &len, sizeof len);
}

/* --- what this session says ------------------------------------------------------------------ */

/* 198.18.0.0/15 is for benchmarks (RFC 2544); who wants more gets 10.0.0.0/8 as well, and all of
 * 2001:db8::/32, a client a /64. */
static void
client_text(const struct session *s, char *to, size_t size)
{
	uint64_t c = s->client;

	if (opt.v6)
		snprintf(to, size, "2001:db8:%x:%x::1", (unsigned)(c >> 16 & 0xffff),
		    (unsigned)(c & 0xffff));
	else if (opt.clients != 0 && opt.clients <= 131072)
		snprintf(to, size, "198.%u.%u.%u", 18 + (unsigned)(c >> 16 & 1),
		    (unsigned)(c >> 8 & 255), (unsigned)(c & 255));
	else
		snprintf(to, size, "10.%u.%u.%u", (unsigned)(c >> 16 & 255),
		    (unsigned)(c >> 8 & 255), (unsigned)(c & 255));
}

static void
name_text(const struct session *s, char *to, size_t size)
{
	size_t n = 0;

	if (opt.domain != NULL) {
		snprintf(to, size, "mx%u.d%" PRIu64 ".%s", (unsigned)(s->client % 4), s->client / 4,
		    opt.domain);
		return;
	}
	to[n++] = '[';
	client_text(s, to + n, size - 2);
	n = strlen(to);
	to[n] = ']';
	to[n + 1] = '\0';
}

static void
sender_text(const struct session *s, char *to, size_t size)
{
	snprintf(to, size, "<user%" PRIu64 "@client.test>",
	    opt.new_senders ? s->serial * 100 + s->messages : s->client % 1000);
}

static void
recipient_text(const struct session *s, char *to, size_t size)
{
	snprintf(to, size, "<u%u@example.test>", s->recipients);
}

/* NULL = Postfix knows none, and says nothing. */
static const char *
macro_value(const struct session *s, unsigned i, enum step step, char *text, size_t size)
{
	switch (i) {
	case M_CLIENT_ADDR:
		client_text(s, text, size);
		return text;
	case M_CLIENT_NAME:
		name_text(s, text, size);
		return text;
	case M_MAIL_ADDR:
		sender_text(s, text, size);
		break;
	case M_RCPT_ADDR:
		recipient_text(s, text, size);
		break;
	case M_QUEUE_ID: /* from the second recipient on */
		if (step < STEP_RCPT || (step == STEP_RCPT && s->accepted == 0))
			return NULL;
		snprintf(text, size, "%010" PRIX64, s->serial * 16 + s->messages);
		return text;
	default:
		return macros[i].value;
	}
	/* without the angle brackets */
	text[strlen(text) - 1] = '\0';
	return text + 1;
}

static void
put_macros(struct session *s, int stage, enum step step, char command)
{
	uint32_t want = s->terms.macros[stage];
	size_t at = 0;

	for (unsigned i = 0; want != 0 && i < MACROS; i++) {
		char text[128];
		const char *value;

		if ((want & BIT(i)) == 0)
			continue;
		value = macro_value(s, i, step, text, sizeof text);
		if (value == NULL)
			continue;
		if (at == 0) {
			at = packet(s, 'D') + 1; /* + 1: 0 stands for "none" */
			put(s, &command, 1);
		}
		put_text(s, macros[i].name);
		put_text(s, value);
	}
	if (at != 0)
		packet_end(s, at - 1);
}

static void
put_command(struct session *s, enum step step)
{
	size_t at = packet(s, kinds[step].command);
	char text[128];
	uint16_t port = htons(40000);

	switch (step) {
	case STEP_NEGOTIATE:
		put_u32(s, PROTOCOL);
		put_u32(s, ACTIONS_ALL);
		put_u32(s, STEPS_ALL);
		break;
	case STEP_CONNECT:
		name_text(s, text, sizeof text);
		put_text(s, text);
		put(s, opt.v6 ? "6" : "4", 1);
		put(s, &port, sizeof port);
		client_text(s, text, sizeof text);
		put_text(s, text);
		break;
	case STEP_HELO:
		name_text(s, text, sizeof text);
		put_text(s, text);
		break;
	case STEP_MAIL:
		sender_text(s, text, sizeof text);
		put_text(s, text);
		put_text(s, "SIZE=2500");
		break;
	case STEP_RCPT:
		recipient_text(s, text, sizeof text);
		put_text(s, text);
		break;
	default:
		break;
	}
	packet_end(s, at);
}

/* --- a message --------------------------------------------------------------------------------- */

/* A header or a piece of the body; true when the milter answers it. */
static bool
put_piece(struct session *s, char command, uint32_t no, uint32_t silent, const char *a,
    const char *b, size_t b_len)
{
	size_t at;

	if ((s->terms.steps & no) != 0)
		return false;
	at = packet(s, command);
	if (a != NULL)
		put_text(s, a);
	if (b != NULL)
		put(s, b, b_len);
	packet_end(s, at);
	return (s->terms.steps & silent) == 0;
}

/* All that can be said before the milter answers: it may want to answer each header. */
static void
put_message(struct session *s)
{
	static char body[BODY_MAX];
	static const char value[] = "something as long as headers are, with a date and an address";
	bool answered = false;

	if (body[0] == '\0')
		memset(body, 'x', sizeof body);
	while (!answered && s->part < opt.headers + 2) {
		unsigned part = s->part++;

		if (part < opt.headers) {
			answered = put_piece(
			    s, 'L', HEADER_NO, HEADER_SILENT, "Received", value, sizeof value);
		} else if (part == opt.headers) {
			put_macros(s, STAGE_EOH, STEP_MESSAGE, 'N');
			answered = put_piece(s, 'N', EOH_NO, EOH_SILENT, NULL, NULL, 0);
		} else if (opt.body > 0) {
			answered = put_piece(s, 'B', BODY_NO, BODY_SILENT, NULL, body, opt.body);
		}
	}
	if (answered)
		return;
	s->part++;
	put_macros(s, kinds[STEP_MESSAGE].stage, STEP_MESSAGE, 'E');
	put_command(s, STEP_MESSAGE);
}

bool
wire_message_said(const struct session *s)
{
	return s->part == opt.headers + 3;
}

bool
wire_step(struct session *s, enum step step)
{
	if (step == STEP_MESSAGE) {
		put_message(s);
		return true;
	}
	if (kinds[step].stage >= 0)
		put_macros(s, kinds[step].stage, step, kinds[step].command);
	if ((s->terms.steps & kinds[step].no) != 0)
		return false;
	put_command(s, step);
	return step != STEP_QUIT && (s->terms.steps & kinds[step].silent) == 0;
}

/* --- what the milter wants --------------------------------------------------------------------- */

static uint32_t
u32_at(const unsigned char *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* The bits of the names in a list; a name of which Postfix knows nothing has none. */
static uint32_t
macro_bits(const char *list)
{
	char copy[256], *save = NULL;
	uint32_t bits = 0;

	snprintf(copy, sizeof copy, "%s", list);
	for (char *name = strtok_r(copy, " ,", &save); name != NULL;
	     name = strtok_r(NULL, " ,", &save))
		for (unsigned i = 0; i < MACROS; i++)
			if (strcmp(name, macros[i].name) == 0)
				bits |= BIT(i);
	return bits;
}

/* The last answer to a negotiation: the milter says the same each time, but after a reload. */
static struct {
	unsigned char packet[1024];
	size_t len;
	struct terms terms;
	char list[STAGES][256];
} last;

static bool
read_terms(const unsigned char *p, size_t len)
{
	struct terms *t = &last.terms;
	size_t at = 13;

	if (len < at || len > sizeof last.packet || p[0] != 'O')
		return false;
	memset(&last, 0, sizeof last);
	memcpy(t->macros, macros_default, sizeof t->macros);
	t->actions = u32_at(p + 5);
	t->steps = u32_at(p + 9);
	while (at + 5 <= len) {
		uint32_t stage = u32_at(p + at);
		const char *text = (const char *)p + at + 4;
		size_t n = strnlen(text, len - at - 4);

		if (stage >= STAGES || at + 4 + n == len || n >= sizeof last.list[0])
			return false;
		memcpy(last.list[stage], text, n + 1);
		t->macros[stage] = macro_bits(text);
		at += 4 + n + 1;
	}
	memcpy(last.packet, p, len);
	last.len = len;
	return true;
}

bool
wire_terms(const unsigned char *p, size_t len, struct terms *t)
{
	if ((len != last.len || memcmp(p, last.packet, len) != 0) && !read_terms(p, len))
		return false;
	*t = last.terms;
	return true;
}

void
wire_print_terms(void)
{
	printf(
	    "{\"actions\": %u, \"steps\": %u, \"macros\": [", last.terms.actions, last.terms.steps);
	for (int i = 0; i < STAGES; i++)
		printf("%s\"%s\"", i > 0 ? ", " : "", last.list[i]);
	printf("]}\n");
}
