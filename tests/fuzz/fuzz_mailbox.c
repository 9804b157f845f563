/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_mailbox.c - the name under which a mailbox is counted: it always fits, holds nothing that
 * SMTP lets a client vary, and is the same for each spelling of a mailbox.
 *
 * Input: two bytes (room for the name), a byte (where the second half begins), then text; once
 * as it stands, and once as a plain mailbox with bytes that say how to spell it.
 *
 * Covers: policy/mailbox.c
 */
#include "fuzz.h"
#include "weir/facts.h"

#define SPELLING_MAX 4096

static void
check_text(const char *text, size_t room)
{
	char *name = fuzz_alloc(room), *whole = fuzz_alloc(strlen(text) + 64);

	memset(name, 0x5a, room);
	mailbox_name(text, name, room);
	CHECK(strnlen(name, room) < room);
	CHECK(strpbrk(name, " \t\"\\") == NULL);
	mailbox_name(text, whole, strlen(text) + 64);
	CHECK(strlen(whole) <= strlen(text));
	if (strlen(whole) < room)
		CHECK(strcmp(whole, name) == 0);
	else
		CHECK(strlen(name) == room - 1 && strchr(name, '~') != NULL);
	free(name);
	free(whole);
}

/* --- spellings ----------------------------------------------------------------------------- */

struct spelling {
	char s[SPELLING_MAX];
	size_t n;
	struct input *how;
};

static void
put(struct spelling *w, const char *s)
{
	size_t len = strlen(s);

	if (w->n + len < sizeof w->s) {
		memcpy(w->s + w->n, s, len + 1);
		w->n += len;
	}
}

/* Blanks and comments, wherever RFC 5322 lets them stand (CFWS). */
static void
put_cfws(struct spelling *w)
{
	static const char *const filling[] = {
	    "", "", "", "", " ", "\t", "()", "(x)", "(a.b@c)", "(a(b)c)", " (x) ", "(:)", "(@a:)"};
	uint8_t how = input_byte(w->how);

	put(w, filling[how % (sizeof filling / sizeof filling[0])]);
}

/* A dot-string, as it is, or quoted, with backslashes between. */
static void
put_local(struct spelling *w, const char *local)
{
	bool quoted = (input_byte(w->how) & 1) != 0;

	if (quoted)
		put(w, "\"");
	for (; *local != '\0'; local++) {
		if (quoted && (input_byte(w->how) & 3) == 1)
			put(w, "\\");
		put(w, (char[]){*local, '\0'});
	}
	if (quoted)
		put(w, "\"");
}

static void
put_one_of(struct spelling *w, const char *const *texts, unsigned n)
{
	put(w, texts[input_byte(w->how) % n]);
}

/* What may stand before and behind a mailbox, see policy/mailbox.c. */
static void
spell(struct spelling *w, const char *local, const char *domain)
{
	static const char *const before[] = {"", "", "", "foo", "\"foo\"", "\"<\"", "list:", "<",
	    "<a@b.test>", "<a@b.test ", "a@b.test"};
	static const char *const behind[] = {"", "", "", ";", ",", ">", "x", ";>", " ;", "> ,"};
	static const char *const routes[] = {"", "", "", "@relay.test,@b.test:", "@a:@b:", ",", ";",
	    "list:", "@[IPv6:2001:db8::1]:", "(c)@relay.test:", "\"@a\":"};
	static const char *const ends[] = {"", "", "", ".", "..", ";", ",", ".;"};
	uint8_t form = input_byte(w->how);
	bool brackets = (form & 1) != 0;

	w->n = 0;
	if (brackets) {
		put_one_of(w, before, sizeof before / sizeof before[0]);
		put_cfws(w);
		put(w, "<");
	}
	put_cfws(w);
	put_one_of(w, routes, sizeof routes / sizeof routes[0]);
	put_cfws(w);
	put_local(w, local);
	put_cfws(w);
	put(w, "@");
	put_cfws(w);
	put(w, domain);
	put_cfws(w);
	put_one_of(w, ends, sizeof ends / sizeof ends[0]);
	put_cfws(w);
	if (brackets) {
		put(w, ">");
		put_cfws(w);
		put_one_of(w, behind, sizeof behind / sizeof behind[0]);
	}
}

static void
check_spellings(struct input *mailbox, struct input *how)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789-+=_";
	char local[65] = "u", domain[128] = "d", plain[200], name[MAILBOX_MAX + 1];
	struct spelling w = {.how = how};
	size_t l = 1, d = 1;

	for (unsigned n = 1 + input_byte(mailbox) % 60; n > 0; n--)
		local[l++] = letters[input_byte(mailbox) % (sizeof letters - 1)];
	for (unsigned n = 1 + input_byte(mailbox) % 100; n > 0; n--) {
		uint8_t b = input_byte(mailbox);

		/* labels with a dot between two of them */
		domain[d] = b >= 0xc0 && domain[d - 1] != '.' && n > 1
		    ? '.'
		    : letters[b % (sizeof letters - 1)];
		d++;
	}
	local[l] = domain[d] = '\0';
	snprintf(plain, sizeof plain, "%s@%s", local, domain);
	do {
		spell(&w, local, domain);
		mailbox_name(w.s, name, sizeof name);
		if (strcmp(name, plain) != 0)
			fprintf(stderr, "%s gives %s\n", w.s, name);
		CHECK(strcmp(name, plain) == 0);
	} while (input_left(how));
}

/* What is syntax elsewhere is a letter in quotes: it takes nothing away from the domain, by which
 * others may be counted. */
static void
check_quoted(const char *text)
{
	char *address = fuzz_alloc(2 * strlen(text) + 32), name[MAILBOX_MAX + 1];
	size_t n = 0, len;

	address[n++] = '<';
	address[n++] = '"';
	for (; *text != '\0' && n < MAILBOX_MAX / 2; text++) {
		if (*text == '"' || *text == '\\')
			address[n++] = '\\';
		address[n++] = *text;
	}
	strcpy(address + n, "\"@example.test>");
	mailbox_name(address, name, sizeof name);
	len = strlen(name);
	CHECK(len >= 13 && strcmp(name + len - 13, "@example.test") == 0);
	free(address);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size}, mailbox;
	size_t room = 32 + input_number(&in, 2) % 400;
	uint8_t half = input_byte(&in);
	char *text;

	mailbox = in;
	in.p += half < in.end - in.p ? half : in.end - in.p;
	check_spellings(&mailbox, &in);
	in.p = in.end - size + (size < 3 ? size : 3);
	text = input_rest(&in);
	check_text(text, room);
	check_quoted(text);
	free(text);
	return 0;
}
