/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.c - the domain that stands for a client, or none if its name is a number that a provider
 * has given it.
 *
 * To miss a dynamic name lets strangers share a pool; to take a mail server's name for one only
 * puts it back to its network. Both happen, so the tests hold real shapes of both.
 */
#include <libpsl.h>
#include <string.h>

#include "weir/pool.h"

/* RFC 1035 2.3.4, as text without the dot at the end. */
#define HOST_MAX 253
#define LABEL_MAX 63

/* --- the name ------------------------------------------------------------------------------ */

bool
name_confirmed(const char *name, const char *client_resolve)
{
	/* Both MTAs hand over "[192.0.2.7]" in place of a name that is not confirmed, and Postfix'
	 * macros say "unknown" (seen with Postfix 3.7.11 and Sendmail 8.17.1). */
	if (name[0] == '\0' || name[0] == '[' || strcmp(name, "unknown") == 0)
		return false;
	return client_resolve[0] == '\0' || strcmp(client_resolve, "OK") == 0;
}

static bool
is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool
is_letter(char c)
{
	return c >= 'a' && c <= 'z';
}

/* Small letters and no dot at the end. False: not the name of a host. */
static bool
host_name(const char *name, char out[HOST_MAX + 1])
{
	size_t len = 0, label = 0;
	bool number = true; /* the last label: an address, or nothing that exists */

	for (; name[len] != '\0'; len++) {
		char c = name[len];

		if (c >= 'A' && c <= 'Z')
			c = (char)(c | 0x20);
		if (c == '.') {
			if (label == 0)
				return false;
			if (name[len + 1] == '\0')
				break;
			label = 0;
			number = true;
		} else if (is_letter(c) || is_digit(c) || c == '-' || c == '_') {
			if (++label > LABEL_MAX)
				return false;
			number = number && is_digit(c);
		} else
			return false;
		if (len == HOST_MAX)
			return false;
		out[len] = c;
	}
	out[len] = '\0';
	return label > 0 && !number;
}

/* --- the address in the name --------------------------------------------------------------- */

/* The numbers of a name from left to right: of decimal digits, or of hexadecimal ones between
 * separators. */
#define NUMBERS_MAX 128 /* HOST_MAX bytes have no more */
#define NO_NUMBER (-1)

struct numbers {
	unsigned n;
	int32_t v[NUMBERS_MAX];
};

static void
numbers_add(struct numbers *m, int32_t v)
{
	if (m->n < NUMBERS_MAX)
		m->v[m->n++] = v;
}

/* "c-073-2-3-4.x9" -> 73 2 3 4 9 */
static void
decimal_numbers(const char *name, struct numbers *out)
{
	out->n = 0;
	while (*name != '\0') {
		size_t len = 0;
		int32_t v = 0;

		for (; is_digit(name[len]); len++)
			v = v < 1000 ? v * 10 + (name[len] - '0') : v;
		if (len > 0)
			numbers_add(out, v);
		name += len > 0 ? len : 1;
	}
}

static int
hex_value(char c)
{
	return is_digit(c) ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* "2a02-8071-1.dyn" -> 2a02 8071 1 NO_NUMBER */
static void
hex_numbers(const char *name, struct numbers *out)
{
	out->n = 0;
	while (*name != '\0') {
		size_t len = strcspn(name, "-._");
		int32_t v = len > 0 && len <= 4 ? 0 : NO_NUMBER;

		for (size_t i = 0; i < len && v != NO_NUMBER; i++)
			v = hex_value(name[i]) < 0 ? NO_NUMBER : v * 16 + hex_value(name[i]);
		if (len > 0)
			numbers_add(out, v);
		name += len > 0 ? len : 1;
	}
}

/* Whether count of parts, from first on in this direction (1 or -1), stand in a row. */
static bool
numbers_have(
    const struct numbers *m, const uint16_t *parts, int first, int direction, unsigned count)
{
	for (unsigned i = 0; i + count <= m->n; i++) {
		unsigned j = 0;

		while (j < count && m->v[i + j] == parts[first + direction * (int)j])
			j++;
		if (j == count)
			return true;
	}
	return false;
}

static bool
numbers_have_pair(const struct numbers *m, const uint16_t *parts, int first)
{
	return numbers_have(m, parts, first, 1, 2) || numbers_have(m, parts, first + 1, -1, 2);
}

/* The digits of v behind what is in out, with zeros in front up to width. */
static void
append_number(char *out, uint32_t v, size_t width, unsigned base)
{
	char digits[10];
	size_t n = 0;

	do
		digits[n++] = "0123456789abcdef"[v % base];
	while ((v /= base) != 0);
	out += strlen(out);
	for (; width > n; width--)
		*out++ = '0';
	while (n > 0)
		*out++ = digits[--n];
	*out = '\0';
}

/* whole: not as a part of a longer number. */
static bool
name_has(const char *name, const char *number, bool whole)
{
	size_t len = strlen(number);

	for (const char *p = name; (p = strstr(p, number)) != NULL; p++)
		if (!whole || ((p == name || !is_digit(p[-1])) && !is_digit(p[len])))
			return true;
	return false;
}

/* All octets without a separator, forward or backward: "126001002003", "126123", "7e010203". */
static bool
name_has_run(const char *name, const uint16_t octet[4], int first, int direction)
{
	char padded[16] = "", plain[16] = "", hex[16] = "";

	for (int i = 0; i < 4; i++) {
		uint16_t v = octet[first + direction * i];

		append_number(padded, v, 3, 10);
		append_number(plain, v, 1, 10);
		append_number(hex, v, 2, 16);
	}
	/* a shorter one is any number */
	return name_has(name, padded, false) || name_has(name, hex, false) ||
	    (strlen(plain) >= 7 && name_has(name, plain, true));
}

static bool
name_has_v4(const char *name, const uint8_t b[4])
{
	const uint16_t octet[4] = {b[0], b[1], b[2], b[3]};
	char integer[16] = "";
	struct numbers m;

	decimal_numbers(name, &m);
	/* Three suffice: the fourth may stand apart ("ip4.ip-1-2-3.eu"). Two do not: large senders
	 * number their hosts so ("a27-42.smtp-out"). Both halves, each by itself, do again
	 * ("lfbn-1-3-4.w1-2.abo"). */
	if (numbers_have(&m, octet, 0, 1, 3) || numbers_have(&m, octet, 1, 1, 3) ||
	    numbers_have(&m, octet, 2, -1, 3) || numbers_have(&m, octet, 3, -1, 3))
		return true;
	if (m.n >= 4 && numbers_have_pair(&m, octet, 0) && numbers_have_pair(&m, octet, 2))
		return true;
	append_number(integer,
	    (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | b[3], 1, 10);
	return name_has_run(name, octet, 0, 1) || name_has_run(name, octet, 3, -1) ||
	    name_has(name, integer, true);
}

/* So many hexadecimal digits of an address tell it from anything else: a /48. */
#define V6_DIGITS 12

static bool
name_has_v6(const char *name, const uint8_t b[16])
{
	char bare[HOST_MAX + 1], forward[V6_DIGITS + 1], backward[V6_DIGITS + 1];
	uint16_t part[8];
	size_t used = 0;
	struct numbers m;

	for (int i = 0; i < 8; i++)
		part[i] = (uint16_t)(b[2 * i] << 8 | b[2 * i + 1]);
	hex_numbers(name, &m);
	if (numbers_have(&m, part, 0, 1, 3) || numbers_have(&m, part, 4, 1, 4))
		return true;
	/* all 32 digits in a row, or backward with a dot between, or something like it */
	for (const char *p = name; *p != '\0' && used < HOST_MAX; p++)
		if (strchr("-._", *p) == NULL)
			bare[used++] = *p;
	bare[used] = '\0';
	for (int i = 0; i < V6_DIGITS; i++)
		forward[i] = backward[V6_DIGITS - 1 - i] =
		    "0123456789abcdef"[i % 2 == 0 ? b[i / 2] >> 4 : b[i / 2] & 15];
	forward[V6_DIGITS] = backward[V6_DIGITS] = '\0';
	return strstr(bare, forward) != NULL || strstr(bare, backward) != NULL;
}

/* --- words --------------------------------------------------------------------------------- */

enum word {
	WORD_NONE,
	WORD_LINE, /* how a customer's line works, or gets its address: no mail server's own name */
	WORD_CUSTOMER, /* may be a customer's host, but also how somebody counts its mail servers */
	WORD_MAIL /* sends mail by trade, and may well carry its address in its name */
};

static const struct {
	const char *text;
	enum word word;
} words[] = {
    /* how the address is given */
    {"dhcp", WORD_LINE},
    {"dyn", WORD_LINE},
    {"dynamic", WORD_LINE},
    {"dynamicip", WORD_LINE}, /* rima-tde.net */
    {"dyndsl", WORD_LINE},
    {"dynip", WORD_LINE},
    {"ipoe", WORD_LINE},
    {"ppp", WORD_LINE},
    {"pppoa", WORD_LINE},
    {"pppoe", WORD_LINE},
    /* what the line is */
    {"adsl", WORD_LINE},
    {"bras", WORD_LINE},
    {"bredband", WORD_LINE},
    {"broadband", WORD_LINE},
    {"cable", WORD_LINE},
    {"cablemodem", WORD_LINE},
    {"catv", WORD_LINE},
    {"cgn", WORD_LINE},
    {"cgnat", WORD_LINE},
    {"cpe", WORD_LINE},
    {"dial", WORD_LINE},
    {"dialin", WORD_LINE},
    {"dialup", WORD_LINE},
    {"dip", WORD_LINE}, /* t-ipconnect.de */
    {"dsl", WORD_LINE},
    {"dslb", WORD_LINE},
    {"ftth", WORD_LINE},
    {"fttb", WORD_LINE},
    {"gprs", WORD_LINE},
    {"gpon", WORD_LINE},
    {"hsdpa", WORD_LINE},
    {"lte", WORD_LINE},
    {"modem", WORD_LINE},
    {"resnet", WORD_LINE},
    {"sdsl", WORD_LINE},
    {"umts", WORD_LINE},
    {"vdsl", WORD_LINE},
    {"wifi", WORD_LINE},
    {"wimax", WORD_LINE},
    {"wlan", WORD_LINE},
    {"xdsl", WORD_LINE},
    /* whose it is; "static" is not here, nor "host" or "ip": they come with the address */
    {"abo", WORD_CUSTOMER}, /* wanadoo.fr, bbox.fr: abonne */
    {"client", WORD_CUSTOMER},
    {"clients", WORD_CUSTOMER},
    {"cust", WORD_CUSTOMER},
    {"customer", WORD_CUSTOMER},
    {"customers", WORD_CUSTOMER},
    {"fiber", WORD_CUSTOMER},
    {"fibra", WORD_CUSTOMER},
    {"fibre", WORD_CUSTOMER},
    {"home", WORD_CUSTOMER},
    {"mobile", WORD_CUSTOMER},
    {"nat", WORD_CUSTOMER},
    {"pool", WORD_CUSTOMER},
    {"pools", WORD_CUSTOMER},
    {"res", WORD_CUSTOMER},
    {"residential", WORD_CUSTOMER},
    {"subscriber", WORD_CUSTOMER},
    {"user", WORD_CUSTOMER},
    {"users", WORD_CUSTOMER},
    {"wireless", WORD_CUSTOMER},
    /* rented hosts, each somebody else's */
    {"vds", WORD_CUSTOMER},
    {"vmi", WORD_CUSTOMER}, /* contaboserver.net */
    {"vps", WORD_CUSTOMER},
    {"mout", WORD_MAIL}, /* gmx.net */
    {"mta", WORD_MAIL},
    {"mx", WORD_MAIL},
    {"outbound", WORD_MAIL},
    {"outgoing", WORD_MAIL},
    {"relay", WORD_MAIL},
};

static bool
has_part(const char *text, size_t len, const char *part)
{
	size_t n = strlen(part);

	for (size_t i = 0; i + n <= len; i++)
		if (memcmp(text + i, part, n) == 0)
			return true;
	return false;
}

static enum word
word_of(const char *text, size_t len)
{
	/* "mailout", "email", "smtpout", "consmtp" */
	if (has_part(text, len, "mail") || has_part(text, len, "smtp"))
		return WORD_MAIL;
	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (strncmp(text, words[i].text, len) == 0 && words[i].text[len] == '\0')
			return words[i].word;
	return WORD_NONE;
}

bool
name_dynamic(const struct addr *client, const char *name, const char *domain)
{
	size_t host = strlen(name) - strlen(domain);
	bool seen[WORD_MAIL + 1] = {false};

	/* a word is letters only: "dip0", "cust123" */
	for (size_t i = 0, len; i < host; i += len + 1) {
		for (len = 0; i + len < host && is_letter(name[i + len]); len++)
			;
		if (len > 0)
			seen[word_of(name + i, len)] = true;
	}
	if (seen[WORD_LINE])
		return true;
	/* "66-220-155-178.mail-mail.facebook.com" and "mail-pool-3.example.com" are mail servers */
	if (seen[WORD_MAIL])
		return false;
	/* the address may reach into the domain, if that is the provider's: "ip4.ip-1-2-3.eu" */
	return seen[WORD_CUSTOMER] || (client->family == ADDR_V4 && name_has_v4(name, client->b)) ||
	    (client->family == ADDR_V6 && name_has_v6(name, client->b));
}

/* --- the pool ------------------------------------------------------------------------------ */

bool
pool_name(const struct psl_ctx_st *psl, const struct addr *client, const char *name,
    char out[POOL_NAME_MAX + 1])
{
	char host[HOST_MAX + 1];
	const char *domain;

	if (psl == NULL || !host_name(name, host))
		return false;
	/* By both of the list's sections: who is under a private suffix (a hoster's, a cloud's) is
	 * a customer, and shares nothing with the next one. */
	domain = psl_registrable_domain(psl, host);
	if (domain == NULL || strlen(domain) > POOL_NAME_MAX || name_dynamic(client, host, domain))
		return false;
	strcpy(out, domain);
	return true;
}
