/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * proto.c - see proto.h.
 *
 * One table says which commands there are, what they carry, and to which state they lead; another
 * which states may follow each other. Both are the order that libmilter keeps to, so that an MTA
 * finds the same partner.
 */
#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

#include "proto.h"

#define VERSION_MIN 2
#define VERSION_MAX 6
#define OFFER_LEN 12
/* What an MTA that offers nothing has always had. */
#define OLD_ACTIONS 0xf
#define OLD_STEPS 0x3f
/* Between an MTA and libmilter only: larger packets, which we do not take. */
#define INTERNAL_STEPS UINT32_C(0x70000000)
/* What can be done without the MTA's help: a reply that it waits for is made. */
#define MADE_STEPS \
	(PROTO_NR_CONNECT | PROTO_NR_HELO | PROTO_NR_MAIL | PROTO_NR_RCPT | PROTO_NR_DATA | \
	    PROTO_NR_UNKNOWN | PROTO_NR_HEADERS | PROTO_NR_EOH | PROTO_NR_BODY)

/* --- the order of a session --------------------------------------------------------------------- */

enum state {
	ST_INIT,
	ST_NEGOTIATED,
	ST_CONNECT,
	ST_HELO,
	ST_MAIL,
	ST_RCPT,
	ST_DATA,
	ST_HEADER,
	ST_EOH,
	ST_BODY,
	ST_EOM,
	ST_QUIT,
	ST_ABORT,
	ST_UNKNOWN,
	ST_NEXT,
	STATES,
	ST_SAME /* no state of its own */
};

#define ONE(s) (1u << (s))

static const uint16_t follows[STATES] = {
    [ST_INIT] = ONE(ST_NEGOTIATED),
    [ST_NEGOTIATED] = ONE(ST_CONNECT) | ONE(ST_UNKNOWN),
    [ST_CONNECT] = ONE(ST_HELO) | ONE(ST_MAIL) | ONE(ST_UNKNOWN),
    [ST_HELO] = ONE(ST_HELO) | ONE(ST_MAIL) | ONE(ST_UNKNOWN),
    [ST_MAIL] = ONE(ST_RCPT) | ONE(ST_ABORT) | ONE(ST_UNKNOWN),
    [ST_RCPT] = ONE(ST_RCPT) | ONE(ST_DATA) | ONE(ST_HEADER) | ONE(ST_EOH) | ONE(ST_BODY) |
	ONE(ST_EOM) | ONE(ST_ABORT) | ONE(ST_UNKNOWN),
    [ST_DATA] = ONE(ST_HEADER) | ONE(ST_EOH) | ONE(ST_ABORT),
    [ST_HEADER] = ONE(ST_HEADER) | ONE(ST_EOH) | ONE(ST_ABORT),
    [ST_EOH] = ONE(ST_BODY) | ONE(ST_EOM) | ONE(ST_ABORT),
    [ST_BODY] = ONE(ST_BODY) | ONE(ST_EOM) | ONE(ST_ABORT),
    [ST_EOM] = ONE(ST_MAIL) | ONE(ST_UNKNOWN),
    [ST_UNKNOWN] = ONE(ST_HELO) | ONE(ST_MAIL) | ONE(ST_RCPT) | ONE(ST_DATA) | ONE(ST_BODY) |
	ONE(ST_ABORT) | ONE(ST_UNKNOWN),
    [ST_NEXT] = ONE(ST_CONNECT) | ONE(ST_UNKNOWN),
};

/* A step that the MTA does not tell of may be passed over. */
static const struct {
	uint32_t step;
	uint8_t state;
} optional[] = {
    {PROTO_NO_CONNECT, ST_CONNECT},
    {PROTO_NO_HELO, ST_HELO},
    {PROTO_NO_MAIL, ST_MAIL},
    {PROTO_NO_RCPT, ST_RCPT},
    {PROTO_NO_DATA, ST_DATA},
    {PROTO_NO_HEADERS, ST_HEADER},
    {PROTO_NO_EOH, ST_EOH},
    {PROTO_NO_BODY, ST_BODY},
    {PROTO_NO_UNKNOWN, ST_UNKNOWN},
};

static bool
reachable(const struct proto *p, unsigned from, unsigned to)
{
	for (;;) {
		if ((follows[from] & ONE(to)) != 0)
			return true;
		if (++from == STATES || (p->skipped & ONE(from)) == 0)
			return false;
	}
}

/* What does not follow may still begin a message, and the end may come at any time. False: it is
 * passed over. */
static bool
move(struct proto *p, unsigned to)
{
	if (!reachable(p, p->state, to) && to != ST_QUIT && (to != ST_NEXT || !p->agreed)) {
		p->state = ST_HELO;
		if (!reachable(p, ST_HELO, to))
			return false;
	}
	p->state = (uint8_t)to;
	return true;
}

/* --- the commands ------------------------------------------------------------------------------- */

typedef bool take_fn(const struct proto_packet *k, struct proto_args *a);

static uint32_t
number(const char *at)
{
	uint32_t n;

	memcpy(&n, at, sizeof n);
	return ntohl(n);
}

static bool
take_offer(const struct proto_packet *k, struct proto_args *a)
{
	a->version = number(k->data);
	a->actions = number(k->data + 4);
	a->steps = number(k->data + 8);
	return true;
}

const char *
proto_text(const char **at, const char *end)
{
	const char *text = *at;
	const char *stop = text < end ? memchr(text, '\0', (size_t)(end - text)) : NULL;

	if (stop == NULL)
		return NULL;
	*at = stop + 1;
	return text;
}

/* What it is for does not matter to us: silently nothing, as by libmilter. */
static bool
take_macros(const struct proto_packet *k, struct proto_args *a)
{
	static const char letters[] = "CHMRTEN";
	const char *stage = memchr(letters, k->data[0], sizeof letters - 1);

	a->params = k->data + 1;
	a->end = k->data + k->len;
	a->stage = stage != NULL ? (enum proto_stage)(stage - letters) : PROTO_STAGES;
	return true;
}

static bool
take_client(char family, const char *text, struct addr *out)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6};

	switch (family) {
	case '4':
		return inet_aton(text, &v4.sin_addr) == 1 &&
		    addr_from_sockaddr((const struct sockaddr *)&v4, out);
	case '6':
		if (strncasecmp(text, "IPv6:", 5) == 0)
			text += 5;
		return inet_pton(AF_INET6, text, &v6.sin6_addr) == 1 &&
		    addr_from_sockaddr((const struct sockaddr *)&v6, out);
	case 'L': /* a socket of this host */
		return true;
	default:
		return false;
	}
}

/* NAME 0 FAMILY, and unless that is U: PORT (2) ADDRESS 0 */
static bool
take_connect(const struct proto_packet *k, struct proto_args *a)
{
	const char *at = k->data, *end = k->data + k->len;
	char family;

	memset(&a->client, 0, sizeof a->client);
	a->text = proto_text(&at, end);
	if (a->text == NULL || at == end)
		return false;
	family = *at++;
	if (family == 'U')
		return true;
	if (end - at < 3 || end[-1] != '\0')
		return false;
	return take_client(family, at + 2, &a->client);
}

static bool
take_helo(const struct proto_packet *k, struct proto_args *a)
{
	a->text = k->data;
	return k->data[k->len - 1] == '\0';
}

static bool
take_address(const struct proto_packet *k, struct proto_args *a)
{
	a->params = k->data;
	a->end = k->data + k->len;
	a->text = proto_text(&a->params, a->end);
	return a->text != NULL;
}

/* NAME 0 VALUE 0, counted as "Name: value CR LF". */
static bool
take_header(const struct proto_packet *k, struct proto_args *a)
{
	const char *value;

	if (k->data[k->len - 1] != '\0')
		return false;
	value = memchr(k->data + 1, '\0', k->len - 1);
	if (value == NULL || ++value == k->data + k->len)
		return false;
	a->bytes = strlen(k->data) + strlen(value) + 4;
	return true;
}

static bool
take_eoh(const struct proto_packet *k, struct proto_args *a)
{
	(void)k;
	a->bytes = 2;
	return true;
}

static bool
take_body(const struct proto_packet *k, struct proto_args *a)
{
	a->bytes = k->len;
	return true;
}

static bool
take_nothing(const struct proto_packet *k, struct proto_args *a)
{
	(void)k;
	(void)a;
	return true;
}

static const struct command {
	char letter;
	uint8_t state; /* enum state */
	uint8_t event; /* enum proto_event */
	uint16_t min, max; /* bytes that it carries */
	uint32_t unheard; /* the step's bit "waits for no reply" */
	take_fn *take;
} commands[] = {
    {'O', ST_NEGOTIATED, PROTO_NEGOTIATE, OFFER_LEN, PROTO_DATA_MAX, 0, take_offer},
    {'D', ST_SAME, PROTO_MACROS, 1, PROTO_DATA_MAX, 0, take_macros},
    {'C', ST_CONNECT, PROTO_CONNECT, 1, PROTO_DATA_MAX, PROTO_NR_CONNECT, take_connect},
    {'H', ST_HELO, PROTO_HELO, 1, PROTO_DATA_MAX, PROTO_NR_HELO, take_helo},
    {'M', ST_MAIL, PROTO_MAIL, 1, PROTO_DATA_MAX, PROTO_NR_MAIL, take_address},
    {'R', ST_RCPT, PROTO_RCPT, 1, PROTO_DATA_MAX, PROTO_NR_RCPT, take_address},
    {'T', ST_DATA, PROTO_DATA, 0, PROTO_DATA_MAX, PROTO_NR_DATA, take_nothing},
    {'L', ST_HEADER, PROTO_HEADER, 1, PROTO_DATA_MAX, PROTO_NR_HEADERS, take_header},
    {'N', ST_EOH, PROTO_EOH, 0, PROTO_DATA_MAX, PROTO_NR_EOH, take_eoh},
    {'B', ST_BODY, PROTO_BODY, 1, PROTO_DATA_MAX, PROTO_NR_BODY, take_body},
    {'E', ST_EOM, PROTO_EOM, 0, PROTO_DATA_MAX, 0, take_body},
    {'U', ST_UNKNOWN, PROTO_UNKNOWN, 1, PROTO_DATA_MAX, PROTO_NR_UNKNOWN, take_nothing},
    {'A', ST_ABORT, PROTO_NOTHING, 0, PROTO_DATA_MAX, 0, take_nothing},
    {'K', ST_NEXT, PROTO_NEXT, 0, PROTO_DATA_MAX, 0, take_nothing},
    {'Q', ST_QUIT, PROTO_QUIT, 0, PROTO_DATA_MAX, 0, take_nothing},
};
#define COMMANDS (sizeof commands / sizeof commands[0])

static const struct command *
command_of(char letter)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].letter == letter)
			return &commands[i];
	return NULL;
}

/* --- packets and events ------------------------------------------------------------------------- */

void
proto_init(struct proto *p)
{
	memset(p, 0, sizeof *p);
}

enum proto_got
proto_packet(const char *bytes, size_t len, struct proto_packet *out)
{
	uint32_t size;

	out->whole = 0;
	out->opaque = false;
	if (len < PROTO_HEAD)
		return PROTO_PART;
	size = number(bytes);
	if (size < 1 || size - 1 > PROTO_DATA_MAX)
		return PROTO_BAD;
	out->command = bytes[4];
	out->data = bytes + PROTO_HEAD;
	out->len = size - 1;
	out->whole = size + 4;
	out->opaque = out->command == 'B';
	return len < out->whole ? PROTO_PART : PROTO_WHOLE;
}

enum proto_event
proto_take(struct proto *p, const struct proto_packet *k, struct proto_args *a)
{
	const struct command *c = command_of(k->command);

	if (c == NULL || k->len < c->min || k->len > c->max)
		return PROTO_ERROR;
	if (c->state != ST_SAME && !move(p, c->state))
		return PROTO_NOTHING;
	return c->take(k, a) ? (enum proto_event)c->event : PROTO_ERROR;
}

/* --- answers ------------------------------------------------------------------------------------ */

static size_t
finish(char out[PROTO_ANSWER_MAX], char letter, size_t datalen)
{
	uint32_t size = htonl((uint32_t)(datalen + 1));

	memcpy(out, &size, sizeof size);
	out[4] = letter;
	return PROTO_HEAD + datalen;
}

static void
put_number(char *at, uint32_t n)
{
	n = htonl(n);
	memcpy(at, &n, sizeof n);
}

size_t
proto_negotiate(struct proto *p, const struct proto_args *offer, const struct proto_wants *wants,
    char out[PROTO_ANSWER_MAX])
{
	uint32_t actions = offer->actions != 0 ? offer->actions : OLD_ACTIONS;
	size_t used = PROTO_HEAD + OFFER_LEN;

	if (offer->version < VERSION_MIN || offer->version > INT32_MAX)
		return 0;
	p->agreed = true;
	p->offered = (offer->steps != 0 ? offer->steps : OLD_STEPS) & ~INTERNAL_STEPS;
	p->steps = wants->steps & (p->offered | MADE_STEPS);
	for (size_t i = 0; i < sizeof optional / sizeof optional[0]; i++)
		if ((p->steps & optional[i].step) != 0)
			p->skipped |= (uint16_t)ONE(optional[i].state);
	put_number(out + PROTO_HEAD, offer->version < VERSION_MAX ? offer->version : VERSION_MAX);
	put_number(out + PROTO_HEAD + 4, actions & PROTO_SET_MACROS);
	put_number(out + PROTO_HEAD + 8, p->steps & p->offered);
	for (uint32_t i = 0; i < PROTO_STAGES; i++) {
		size_t len = wants->macros[i] != NULL ? strlen(wants->macros[i]) + 1 : 0;

		if (len == 0 || used + 4 + len > PROTO_ANSWER_MAX)
			continue;
		put_number(out + used, i);
		memcpy(out + used + 4, wants->macros[i], len);
		used += 4 + len;
	}
	return finish(out, 'O', used - PROTO_HEAD);
}

static uint32_t
unheard_in(const struct proto *p)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (commands[i].state == p->state)
			return commands[i].unheard & p->steps;
	return 0;
}

size_t
proto_continue(const struct proto *p, char out[PROTO_ANSWER_MAX])
{
	uint32_t unheard = unheard_in(p);

	if (unheard != 0 && (p->offered & unheard) != 0)
		return 0;
	return finish(out, 'c', 0);
}

size_t
proto_accept(struct proto *p, char out[PROTO_ANSWER_MAX])
{
	size_t len = unheard_in(p) != 0 ? proto_continue(p, out) : finish(out, 'a', 0);

	p->state = ST_HELO;
	return len;
}

static size_t
put_reply(const struct reply *r, char out[PROTO_ANSWER_MAX])
{
	const char *const words[] = {r->code, r->xcode, r->text};
	size_t used = PROTO_HEAD;

	for (size_t i = 0; i < 3; i++) {
		size_t len = strlen(words[i]);

		memcpy(out + used, words[i], len);
		used += len;
		out[used++] = i < 2 ? ' ' : '\0';
	}
	return finish(out, 'y', used - PROTO_HEAD);
}

size_t
proto_refuse(struct proto *p, const struct reply *r, char out[PROTO_ANSWER_MAX])
{
	size_t len = unheard_in(p) != 0 ? proto_continue(p, out) : put_reply(r, out);

	/* after a recipient that is refused others may come */
	if (p->state != ST_RCPT && p->state != ST_UNKNOWN)
		p->state = ST_HELO;
	return len;
}
