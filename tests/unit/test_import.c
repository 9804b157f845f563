/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_import.c - what other programs' lists become: entries, and notes of what could not.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "import.h"

#define COUNT(table) (unsigned)(sizeof(table) / sizeof((table)[0]))
#define NO " action=no-greylist\n"

/* Everything that a reader says: "LINE WHO WORDS" and "LINE! TEXT: WHY". */
struct said {
	unsigned entries, notes;
	char text[16384];
};

static void
say(struct said *s, const char *line)
{
	size_t used = strlen(s->text);

	snprintf(s->text + used, sizeof s->text - used, "%s", line);
}

static void
on_entry(void *ctx, unsigned line, const struct who *who, const char *words)
{
	char text[WHO_TEXT_MAX], entry[WHO_TEXT_MAX + 96], err[LIMIT_ERR_MAX];
	struct listing l;

	/* whatever comes out can be listed */
	if (!listing_parse(words, who, &l, err, sizeof err))
		fail_msg("%s %s: %s", who_format(who, text), words, err);
	snprintf(entry, sizeof entry, "%u %s %s\n", line, who_format(who, text), words);
	say(ctx, entry);
	((struct said *)ctx)->entries++;
}

static void
on_note(void *ctx, unsigned line, const char *text, const char *why)
{
	char note[1024];

	assert_true(why[0] != '\0');
	snprintf(note, sizeof note, "%u! %s: %s\n", line, text, why);
	say(ctx, note);
	((struct said *)ctx)->notes++;
}

static const struct said *
read_text(import_fn *fn, const char *text)
{
	static struct said said;
	const struct import to = {.ctx = &said, .entry = on_entry, .note = on_note};
	char *copy = strdup(text); /* so that one byte too far is seen */

	memset(&said, 0, sizeof said);
	assert_non_null(copy);
	fn(&to, copy);
	free(copy);
	return &said;
}

/* "+" and entries: exactly these; "!" and words: one note that has them, and no entry. */
struct row {
	const char *text, *want;
};

static void
check_rows(import_fn *fn, const struct row *rows, unsigned n)
{
	for (unsigned i = 0; i < n; i++) {
		const struct said *s = read_text(fn, rows[i].text);
		const char *want = rows[i].want + 1;
		bool good = rows[i].want[0] == '+'
		    ? strcmp(s->text, want) == 0
		    : s->notes == 1 && s->entries == 0 && strstr(s->text, want) != NULL;

		if (!good)
			fail_msg("row %u (%s): %s", i, rows[i].text, s->text);
	}
}

/* --- regular expressions -------------------------------------------------------------------- */

static void
test_regex(void **state)
{
	static const struct {
		enum who_kind kind;
		const char *regex, *want; /* entries with blanks between them */
	} table[] = {
	    {WHO_NAME, "\\.example\\.com$", "name:example.com"},
	    {WHO_NAME, "^.*\\.example\\.com$", "name:example.com"},
	    {WHO_NAME, ".*\\.example\\.com$", "name:example.com"},
	    {WHO_NAME, "^.+\\.example\\.com$", "name:example.com"},
	    {WHO_NAME, "^.*?\\.example\\.com$", "name:example.com"},
	    {WHO_NAME, "(^|\\.)example\\.com$", "name:example.com"},
	    {WHO_NAME, "(?:^|\\.)example\\.com$", "name:example.com"},
	    {WHO_NAME, "^(.*\\.)?example\\.com$", "name:example.com"},
	    {WHO_NAME, "^mail\\.example\\.com$", "name:mail.example.com"},
	    {WHO_NAME, "^Mail\\-1\\.Example\\.COM$", "name:mail-1.example.com"},
	    {WHO_NAME, "example\\.com$", ""}, /* badexample.com */
	    {WHO_NAME, ".*example\\.com$", ""},
	    {WHO_NAME, "^mail\\.example\\.com", ""},
	    {WHO_NAME, "\\.example\\.com", ""},
	    {WHO_NAME, "\\.example.com$", ""}, /* a dot that is any character */
	    {WHO_NAME, "^mail.*\\.example\\.com$", ""},
	    {WHO_NAME, "^mail[12]\\.example\\.com$", ""},
	    {WHO_NAME, "^mail\\d+\\.example\\.com$", ""},
	    {WHO_NAME, "^(mail|mx)\\.example\\.com$", ""},
	    {WHO_NAME, "^mai?l\\.example\\.com$", ""},
	    {WHO_NAME, "^mail\\.example\\.com$|x", ""},
	    {WHO_NAME, "^ann@example\\.com$", ""},
	    {WHO_NAME, "@example\\.com$", ""},
	    {WHO_NAME, "\\.$", ""},
	    {WHO_NAME, "^$", ""},
	    {WHO_NAME, "$", ""},
	    {WHO_NAME, "", ""},
	    {WHO_NAME, ".*", ""},
	    {WHO_NAME, "^", ""},
	    {WHO_NAME, "\\", ""},
	    {WHO_NAME, "a\\", ""},
	    {WHO_NAME, "^a..b$", ""},
	    {WHO_RECIPIENT, "@example\\.org$", "recipient:@example.org"},
	    {WHO_RECIPIENT, "^.*@example\\.org$", "recipient:@example.org"},
	    {WHO_RECIPIENT, ".+\\@example\\.org$", "recipient:@example.org"},
	    {WHO_RECIPIENT, "^ann@example\\.org$", "recipient:ann@example.org"},
	    {WHO_RECIPIENT, "^ann\\+x\\@example\\.org$", "recipient:ann+x@example.org"},
	    {WHO_RECIPIENT, "^postmaster@", "recipient:postmaster@"},
	    {WHO_RECIPIENT, "^postmaster@.*", "recipient:postmaster@"},
	    {WHO_RECIPIENT, "^postmaster@.*$", "recipient:postmaster@"},
	    {WHO_RECIPIENT, "\\.example\\.org$", "recipient:@.example.org"},
	    {WHO_RECIPIENT, "@.*\\.example\\.org$", "recipient:@.example.org"},
	    {WHO_RECIPIENT, "[@.]example\\.org$", "recipient:@example.org recipient:@.example.org"},
	    {WHO_RECIPIENT, "(@|\\.)example\\.org$",
		"recipient:@example.org recipient:@.example.org"},
	    {WHO_RECIPIENT, "@(.*\\.)?example\\.org$",
		"recipient:@example.org recipient:@.example.org"},
	    {WHO_SENDER, "@example\\.org$", "sender:@example.org"},
	    {WHO_RECIPIENT, "example\\.org$", ""},
	    {WHO_RECIPIENT, "ann@example\\.org$", ""}, /* joann@ */
	    {WHO_RECIPIENT, "@.*otherdomain\\.org$", ""},
	    {WHO_RECIPIENT, "@example\\.org", ""}, /* @example.org.evil.example */
	    {WHO_RECIPIENT, "^ann@example\\.org", ""},
	    {WHO_RECIPIENT, "^ann$", ""},
	    {WHO_RECIPIENT, "^ann", ""},
	    {WHO_RECIPIENT, "^ann@$", ""},
	    {WHO_RECIPIENT, "postmaster@", ""},
	    {WHO_RECIPIENT, "^@example\\.org$", ""},
	    {WHO_RECIPIENT, "^.*@.*$", ""},
	    {WHO_RECIPIENT, ".*", ""},
	    {WHO_RECIPIENT, "@", ""},
	    {WHO_RECIPIENT, "@$", ""},
	    {WHO_RECIPIENT, "[@.]a@example\\.org$", ""},
	    {WHO_RECIPIENT, "(^|\\.)example\\.org$", ""},
	};
	static char huge[5000];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct who who[2];
		unsigned n = import_regex(table[i].regex, table[i].kind, who);
		char got[2 * WHO_TEXT_MAX] = "", text[WHO_TEXT_MAX];

		for (unsigned k = 0; k < n; k++) {
			strcat(got, k > 0 ? " " : "");
			strcat(got, who_format(&who[k], text));
		}
		if (strcmp(got, table[i].want) != 0)
			fail_msg("row %zu (%s): \"%s\"", i, table[i].regex, got);
	}
	for (size_t len = 0; len < sizeof huge - 1; len += 7) {
		struct who who[2];

		memset(huge, 'x', len);
		memcpy(huge + len, "$", 2);
		assert_int_equal(import_regex(huge, WHO_RECIPIENT, who), 0);
		(void)import_regex(huge, WHO_NAME, who);
	}
}

/* --- postgrey ------------------------------------------------------------------------------- */

static void
test_postgrey_clients(void **state)
{
	static const struct row rows[] = {
	    {"", "+"},
	    {"\n\n  \t\n# only a comment\n", "+"},
	    {"shop.example", "+1 name:shop.example" NO},
	    {"Shop.Example\r\n", "+1 name:shop.example" NO},
	    {"\n# no retry\n  mx1.shop.example\t# why\n", "+3 name:mx1.shop.example" NO},
	    {"a_b.example", "+1 name:a_b.example" NO},
	    {"198.51.100.7", "+1 198.51.100.7" NO},
	    {"198.51.100.0/24", "+1 198.51.100.0/24" NO},
	    {"198.51.100.7/24", "+1 198.51.100.0/24" NO},
	    {"198.51.100", "+1 198.51.100.0/24" NO},
	    {"198.51", "+1 198.51.0.0/16" NO},
	    {"2001:db8::1", "+1 2001:db8::1" NO},
	    {"2001:db8::1/32", "+1 2001:db8::/32" NO},
	    {"::ffff:192.0.2.7", "+1 192.0.2.7" NO},
	    {"::ffff:192.0.2.7/120", "+1 192.0.2.0/24" NO},
	    {"/^.*\\.shop\\.example$/", "+1 name:shop.example" NO},
	    {"/^mail\\d+\\.shop\\.example$/", "!1! /^mail"},
	    {"a.example\nb.example\na.example\n",
		"+1 name:a.example" NO "2 name:b.example" NO "3 name:a.example" NO},
	    {"300.1.1.1", "!not an address"},
	    {"198.51.100.7/33", "!not an address"},
	    {"198.51.100.7/", "!not an address"},
	    {"198.51.100.7/-1", "!not an address"},
	    {"198.51.100.7/4294967328", "!not an address"},
	    {"198.51.100.", "!not an address"},
	    {"198", "!not an address"},
	    {"1.2.3.4.5", "!not an address"},
	    {"2001:db8::/129", "!not an address"},
	    {"::ffff:192.0.2.7/24", "!not an address"},
	    {"2001:db8::g", "!not an address"},
	    {"/", "!not an address"},
	    {"//", "!not an address"},
	    {"/x", "!not an address"},
	    {".shop.example", "!a host name is written as"},
	    {"shop..example", "!a host name is written as"},
	    {"*.shop.example", "!a host name is written as"},
	    {"sh\xc3\xb6p.example", "!a host name is written as"},
	    {"shop.example other.example", "!1! shop.example other.example: there are blanks"},
	    {"/a b/", "!there are blanks"},
	};

	(void)state;
	check_rows(import_postgrey_clients, rows, COUNT(rows));
}

static void
test_postgrey_recipients(void **state)
{
	static const struct row rows[] = {
	    {"# who does not want it\n\npostmaster@\nabuse@\n",
		"+3 recipient:postmaster@" NO "4 recipient:abuse@" NO},
	    {"Ann@Example.org", "+1 recipient:ann@example.org" NO},
	    {"example.org", "+1 recipient:@example.org" NO "1 recipient:@.example.org" NO},
	    {"@example.org", "+1 recipient:@example.org" NO},
	    {"/@example\\.org$/", "+1 recipient:@example.org" NO},
	    {"/^.*@(.*\\.)?example\\.org$/",
		"+1 recipient:@example.org" NO "1 recipient:@.example.org" NO},
	    {"/^user\\d+@/", "!regular expression"},
	    {"a@b@c", "!a recipient is written as"},
	    {"ann@example..org", "!a recipient is written as"},
	    {"<ann@example.org>", "!a recipient is written as"},
	    {"@", "!a recipient is written as"},
	    {"exa mple.org", "!there are blanks"},
	    {"-", "+1 recipient:@-" NO "1 recipient:@.-" NO},
	    {"a..b", "!a recipient is written as"},
	};

	(void)state;
	check_rows(import_postgrey_recipients, rows, COUNT(rows));
}

/* --- milter-greylist ------------------------------------------------------------------------ */

static void
test_rules(void **state)
{
	static const struct row rows[] = {
	    {"racl whitelist addr 192.0.2.0/24", "+1 192.0.2.0/24" NO},
	    {"racl whitelist addr 127.0.0.1/8", "+1 127.0.0.0/8" NO},
	    {"racl whitelist addr 192.0.2.0 /24", "+1 192.0.2.0/24" NO},
	    {"racl whitelist addr ::1 # ours", "+1 ::1" NO},
	    {"acl whitelist addr 192.0.2.7", "+1 192.0.2.7" NO},
	    {"RACL WhiteList: ADDR: 192.0.2.7", "+1 192.0.2.7" NO},
	    {"racl \"x y\" whitelist domain Shop.Example", "+1 name:shop.example" NO},
	    {"racl whitelist domain /\\.shop\\.example$/", "+1 name:shop.example" NO},
	    {"racl whitelist from a@shop.example", "+1 sender:a@shop.example" NO},
	    {"racl whitelist rawfrom a@shop.example nolog", "+1 sender:a@shop.example" NO},
	    {"racl whitelist rcpt Ann@example.org", "+1 recipient:ann@example.org" NO},
	    {"racl whitelist rcpt /@example\\.org$/", "+1 recipient:@example.org" NO},
	    {"racl greylist rcpt ann@example.org",
		"+1 recipient:ann@example.org action=greylist\n"},
	    {"racl greylist rcpt ann@example.org delay 15m",
		"+1 recipient:ann@example.org action=greylist delay=15m\n"},
	    {"racl greylist \\ # goes on\n  rcpt ann@example.org \\\n delay 90\n",
		"+2 recipient:ann@example.org action=greylist delay=90\n"},
	    {"racl blacklist addr 203.0.113.9", "+1 203.0.113.9 action=block\n"},
	    {"racl greylist default", "+"},
	    {"addr 192.0.2.0/24\ndomain shop.example\nfrom a@b.example\nrcpt c@d.example\n",
		"+1 192.0.2.0/24" NO "2 name:shop.example" NO "3 sender:a@b.example" NO
		"4 recipient:c@d.example" NO},
	    {"testmode\nrcpt c@d.example\n", "+2 recipient:c@d.example action=greylist\n"},
	    {"domainexact\n", "+"},
	    /* imported, but not wholly */
	    {"racl greylist rcpt ann@example.org delay 15m autowhite 3d",
		"+1 recipient:ann@example.org action=greylist delay=15m\n"
		"1! racl greylist rcpt ann@example.org delay 15m autowhite 3d: imported without "
		"what weir has for all only: see greylist in weir.conf\n"},
	    {"racl whitelist addr 192.0.2.7 addheader \"X: y\" , 1",
		"+1 192.0.2.7" NO "1! racl whitelist addr 192.0.2.7 addheader \"X: y\" , 1: "
		"imported without what weir has for all only: see greylist in weir.conf\n"},
	    /* not at all */
	    {"racl whitelist default", "!recipients = listed"},
	    {"racl greylist default delay 1h", "!delay, keep and reply"},
	    {"racl blacklist default", "!does not refuse everybody"},
	    {"racl whitelist addr 192.0.2.7 domain a.example", "!has one condition"},
	    {"racl whitelist addr 192.0.2.7 addr 192.0.2.8", "!has one condition"},
	    {"racl whitelist not addr 192.0.2.7", "!cannot say \"not\""},
	    {"racl whitelist no addr 192.0.2.7", "!cannot say \"not\""},
	    {"racl whitelist ! addr 192.0.2.7", "!cannot say \"not\""},
	    {"racl whitelist !addr 192.0.2.7", "!cannot say \"not\""},
	    {"racl whitelist spf pass", "!that weir does not know"},
	    {"racl whitelist addr 192.0.2.7 spf", "!that weir does not know"},
	    {"racl whitelist tls /./", "!that weir does not know"},
	    {"racl whitelist $prop \"x\"", "!that weir does not know"},
	    {"racl whitelist", "!no condition"},
	    {"racl whitelist nolog", "!no condition"},
	    {"racl whitelist addr", "!a value is missing"},
	    {"racl whitelist addr {", "!a '}' is missing"},
	    {"racl whitelist addr }", "!not an address"},
	    {"racl whitelist addr shop.example", "!not an address"},
	    {"racl whitelist addr \"192.0.2.7\"", "!not an address"},
	    {"racl whitelist domain /shop/", "!regular expression"},
	    {"racl whitelist domain /shop", "!a slash is missing"},
	    {"racl whitelist rcpt nobody", "!a recipient is written as"},
	    {"racl whitelist from nobody", "!a sender is written as"},
	    {"racl continue addr 192.0.2.7", "!decides nothing"},
	    {"racl", "!decides nothing"},
	    {"racl \"only a name\"", "!decides nothing"},
	    {"racl greylist addr 192.0.2.7", "!weir greylists all clients"},
	    {"racl greylist domain a.example", "!weir greylists all clients"},
	    {"racl greylist from a@b.example", "!weir greylists all clients"},
	    {"racl blacklist domain a.example", "!addresses and networks only"},
	    {"racl blacklist from a@b.example", "!addresses and networks only"},
	    {"racl blacklist rcpt a@b.example", "!addresses and networks only"},
	    {"racl greylist rcpt a@b.example delay 5d", "!the delay is not"},
	    {"racl greylist rcpt a@b.example delay -5", "!the delay is not"},
	    {"racl greylist rcpt a@b.example delay soon", "!the delay is not"},
	    {"racl whitelist list \"nowhere\"", "!no such list"},
	    {"dacl blacklist body /x/", "!contents of messages"},
	    {"greylist 1h", "!say delay"},
	    {"autowhite 3d", "!say keep"},
	    {"timeout 5d", "!say window"},
	    {"subnetmatch /24", "!say network-v4"},
	    {"delayedreject", "!null-sender = accept"},
	    {"socket \"/x\" 660", "!1! socket \"/x\" 660: a setting"},
	    {"\x01\xff", "!a setting"},
	    {"\"x", "!a quotation mark is missing"},
	    {"addr", "!not understood"},
	    {"addr 192.0.2.7 192.0.2.8", "!not understood"},
	    {"{", "!a '}' is missing"},
	    {"}", "!a setting"},
	    {"/", "!a slash is missing"},
	};

	(void)state;
	check_rows(import_milter_greylist, rows, COUNT(rows));
}

static void
test_lists(void **state)
{
	static const struct row rows[] = {
	    {"list \"ours\" addr { 192.0.2.0/24 10.0.0.1/8\t2001:db8::1 }\n"
	     "racl whitelist list \"ours\"\n",
		"+1 192.0.2.0/24" NO "1 10.0.0.0/8" NO "1 2001:db8::1" NO},
	    {"list \"no retry\" addr {   \\\n"
	     "\t198.51.100.1/32   \\ # an airline\n"
	     "\t198.51.100.2      \\\n"
	     "}\n"
	     "racl whitelist list \"no retry\"\n",
		"+2 198.51.100.1" NO "3 198.51.100.2" NO},
	    {"list \"l\" addr {\n 198.51.100.1 # one\n\n 198.51.100.2\n}\nracl blacklist list "
	     "\"l\"\n",
		"+2 198.51.100.1 action=block\n4 198.51.100.2 action=block\n"},
	    {"list \"grey\" rcpt { a@b.example /@c\\.example$/ }\nracl greylist list \"grey\" "
	     "delay "
	     "1h\n",
		"+1 recipient:a@b.example action=greylist delay=1h\n"
		"1 recipient:@c.example action=greylist delay=1h\n"},
	    {"list \"d\" domain { a.example b.example }\nracl whitelist list \"d\"\n",
		"+1 name:a.example" NO "1 name:b.example" NO},
	    {"list \"f\" from { a@b.example }\nracl whitelist list \"f\"\n",
		"+1 sender:a@b.example" NO},
	    /* what does not fit is noted at its own line */
	    {"list \"d\" domain {\n a.example\n /^x\\d/\n}\nracl whitelist list \"d\"\n",
		"+2 name:a.example" NO "3! ^x\\d: a regular expression that is more than a domain "
		"or an address\n"},
	    {"list \"h\" helo { \"x\" }\nracl whitelist list \"h\"\n", "!does not look at"},
	    {"list \"d\" domain { a.example }\n", "!no rule uses this list"},
	    {"list \"d\" domain { a.example }\nracl blacklist list \"d\"\n",
		"!addresses and networks only"},
	    {"list d domain { a.example }\n", "!not a list"},
	    {"list \"d\" domain\n", "!not a list"},
	    {"list \"d\" domain { a.example\n", "!a '}' is missing"},
	    /* a rule behind the default, and the file's end in odd places */
	    {"racl greylist default\nracl whitelist addr 192.0.2.7\n", "!never reached"},
	    {"racl whitelist addr 192.0.2.7 \\", "+1 192.0.2.7" NO},
	    {"racl whitelist addr 192.0.2.7 # \\\nracl whitelist addr 192.0.2.8",
		"+1 192.0.2.7" NO "2 192.0.2.8" NO},
	    {"\r\nracl whitelist addr 192.0.2.7\r\n", "+2 192.0.2.7" NO},
	};

	(void)state;
	check_rows(import_milter_greylist, rows, COUNT(rows));
}

/* --- whatever somebody calls a list --------------------------------------------------------- */

static unsigned
next(unsigned *seed)
{
	*seed = *seed * 1103515245 + 12345;
	return *seed >> 16 & 0x7fff;
}

/* Bits and pieces at random: never a byte too far, always an end. */
static void
test_garbage(void **state)
{
	static const char *const pieces[] = {"racl ", "whitelist ", "greylist ", "list ", "\"x\" ",
	    "\"", "addr ", "rcpt ", "{ ", "} ", "/", "/x/ ", "\\", "\n", "#", "192.0.2.7", "/24 ",
	    "a@b.example ", "delay ", "5m ", "default", "not ", ",", " ", "\r", "\xff", "\x01", "@",
	    ".example", "addheader ", "acl ", "domain "};
	static import_fn *const fns[] = {
	    import_postgrey_clients, import_postgrey_recipients, import_milter_greylist};
	unsigned seed = 7;
	char text[400];

	(void)state;
	for (unsigned i = 0; i < 20000; i++) {
		unsigned n = next(&seed) % 25;

		text[0] = '\0';
		while (n-- > 0)
			strcat(text, pieces[next(&seed) % COUNT(pieces)]);
		for (size_t k = 0; k < COUNT(fns); k++)
			(void)read_text(fns[k], text);
	}
}

struct count {
	unsigned entries, notes;
};

static void
count_entry(void *ctx, unsigned line, const struct who *who, const char *words)
{
	(void)line;
	(void)who;
	(void)words;
	((struct count *)ctx)->entries++;
}

static void
count_note(void *ctx, unsigned line, const char *text, const char *why)
{
	(void)line;
	(void)why;
	/* cut, however long it was */
	assert_true(strnlen(text, 2000001) <= 2000000);
	((struct count *)ctx)->notes++;
}

/* A line of a megabyte, a hundred thousand lines, a list of as many. */
static void
test_large(void **state)
{
	static const size_t size = 2000000;
	struct count c = {0};
	const struct import to = {.ctx = &c, .entry = count_entry, .note = count_note};
	char *text = malloc(size + 1);
	size_t used = 0;

	(void)state;
	assert_non_null(text);
	for (int k = 0; k < 3; k++) {
		static import_fn *const fns[] = {
		    import_postgrey_clients, import_postgrey_recipients, import_milter_greylist};

		memset(text, 'x', size);
		text[size] = '\0';
		fns[k](&to, text);
		assert_true(c.entries == 0 && c.notes == (unsigned)k + 1);
	}
	for (unsigned i = 0; i < 100000; i++)
		used += (size_t)snprintf(text + used, size - used, "h%u.example\n", i);
	import_postgrey_clients(&to, text);
	assert_int_equal(c.entries, 100000);
	used = (size_t)snprintf(text, size, "list \"l\" rcpt {\n");
	for (unsigned i = 0; i < 100000; i++)
		used += (size_t)snprintf(text + used, size - used, "u%u@b.c\n", i);
	snprintf(text + used, size - used, "}\nracl whitelist list \"l\"\n");
	import_milter_greylist(&to, text);
	assert_int_equal(c.entries, 200000);
	assert_int_equal(c.notes, 3);
	free(text);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_regex),
	    cmocka_unit_test(test_postgrey_clients),
	    cmocka_unit_test(test_postgrey_recipients),
	    cmocka_unit_test(test_rules),
	    cmocka_unit_test(test_lists),
	    cmocka_unit_test(test_garbage),
	    cmocka_unit_test(test_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
