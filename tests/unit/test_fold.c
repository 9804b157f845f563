/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_fold.c - under which name a mailbox is counted that calls itself by many.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include <cmocka.h>

#include "weir/fold.h"

struct row {
	const char *name, *folded; /* folded NULL: as it is */
};

static void
check(const struct fold *how, bool sender, const struct row *table, size_t rows)
{
	char out[MAILBOX_MAX + 1];

	for (size_t i = 0; i < rows; i++) {
		const char *want = table[i].folded != NULL ? table[i].folded : table[i].name;

		memset(out, 0xa5, sizeof out);
		assert_ptr_equal(fold_mailbox(how, sender, table[i].name, out), out);
		if (strcmp(out, want) != 0)
			fail_msg("\"%s\" became \"%s\"", table[i].name, out);
	}
}

#define CHECK(how, sender, table) check(how, sender, table, sizeof table / sizeof table[0])

static const struct fold nothing, plus = {.delimiters = "+"}, unwrapping = {.unwrap = true},
				  all = {.delimiters = "+", .unwrap = true};

/* Always. */
static void
test_domains(void **state)
{
	static const struct row table[] = {
	    {"", NULL},
	    {"user", NULL},
	    {"User", NULL},
	    {"user@example.org", NULL},
	    {"User@Example.ORG", "User@example.org"},
	    {"a@B@Example.ORG", "a@B@example.org"},
	    {"user@", NULL},
	    {"@", NULL},
	    {"@Example.org", "@example.org"},
	    {"user@[IPv6:2001:DB8::1]", "user@[ipv6:2001:db8::1]"},
	    {"user@XN--Mller-KVA.example", "user@xn--mller-kva.example"},
	    /* U-labels, as the client typed them */
	    {"user@m\xc3\xbcller.example", "user@xn--mller-kva.example"},
	    {"user@M\xc3\x9cLLER.EXAMPLE", "user@xn--mller-kva.example"},
	    {"user@mu\xcc\x88ller.example", "user@xn--mller-kva.example"}, /* u, U+0308 */
	    {"user@m\xc3\xbcller\xe3\x80\x82"
	     "example",
		"user@xn--mller-kva.example"}, /* U+3002 */
	    {"user@m\xc3\xbcller.example\xe3\x80\x82", "user@xn--mller-kva.example"},
	    {"user@m\xc3\xbcller\xef\xbc\x8e"
	     "example",
		"user@xn--mller-kva.example"}, /* U+FF0E */
	    {"user@\xe4\xbe\x8b\xe3\x81\x88.\xe3\x83\x86\xe3\x82\xb9\xe3\x83\x88",
		"user@xn--r8jz45g.xn--zckzah"},
	    {"user@stra\xc3\x9f"
	     "e.example",
		"user@xn--strae-oqa.example"}, /* not strasse */
	    {"user@a_b.m\xc3\xbcller.example", "user@a_b.xn--mller-kva.example"},
	    /* the local part is the host's own business */
	    {"J\xc3\x96rg@Example.org", "J\xc3\x96rg@example.org"},
	    {"j\xc3\xb6rg@m\xc3\xbcller.example", "j\xc3\xb6rg@xn--mller-kva.example"},
	    /* neither UTF-8 nor a domain: small letters, and no more */
	    {"user@\xff\xfe.EXAMPLE", "user@\xff\xfe.example"},
	    {"user@\xc3", NULL},
	    {"user@\xc3.example\xc3", NULL},
	    {"user@\xf0\x9f\x98\x80.Example", "user@\xf0\x9f\x98\x80.example"}, /* an emoji */
	    {"user@\xe2\x80\xae"
	     "abc.\xc3\xbc",
		NULL}, /* right to left */
	    {"user@[\xc3\xbc]", NULL},
	    {"user@\xc3\xbc%41.x", NULL},
	    /* look-alikes of what means something: U+FF20 '@', U+FF5D '}', U+2102 is a C */
	    {"user@ex\xef\xbc\xa0m.example", NULL},
	    {"user@ex\xef\xbd\x9dm.example", NULL},
	    {"user@\xe3\x80\x82", NULL},
	    {"user@\xe2\x84\x82.example", "user@c.example"},
	};

	(void)state;
	CHECK(&nothing, true, table);
	CHECK(&nothing, false, table);
	CHECK(&all, true, table);
	CHECK(&all, false, table);
}

static void
test_tags(void **state)
{
	static const struct row one[] = {
	    {"user+tag@Example.org", "user@example.org"},
	    {"user+@example.org", "user@example.org"},
	    {"user+a+b@example.org", "user@example.org"},
	    {"user+tag", "user"},
	    {"user+@", "user@"},
	    {"a@b+c@example.org", "a@b@example.org"},
	    {"us+er@x@example.org", "us@example.org"},
	    {"user@ex+ample.org", NULL},
	    {"user-tag@example.org", NULL},
	    {"+@example.org", NULL},
	    {"+tag@example.org", NULL},
	    {"++@example.org", NULL},
	    {"+", NULL},
	    {"@+", NULL},
	    {"", NULL},
	    {"postmaster+x@example.org", "postmaster@example.org"},
	    {"owner-list+x@example.org", "owner-list@example.org"},
	    /* a wrapped address has no tag in front of its wrapping's end */
	    {"SRS0+abcd=XY=example.org=user@relay.example", NULL},
	    {"srs1+abcd=relay.example=+efgh=XY=example.org=user@other.example", NULL},
	    {"prvs=0123a1b2c3=user+tag@example.org", NULL},
	    {"srs0user+tag@example.org", "srs0user@example.org"},
	    {"srs0@example.org", NULL},
	    {"srs2+tag@example.org", "srs2@example.org"},
	};
	static const struct row several[] = {
	    {"user+tag@example.org", "user@example.org"},
	    {"user-tag@example.org", "user@example.org"},
	    {"user-a+b@example.org", "user@example.org"},
	    {"user+a-b@example.org", "user@example.org"},
	    {"-user@example.org", NULL},
	    /* as in Postfix: owner-LIST and LIST-request are names of lists */
	    {"owner-list@example.org", NULL},
	    {"Owner-list-x@example.org", NULL},
	    {"list-request@example.org", NULL},
	    {"my-list-Request@example.org", NULL},
	    {"-request@example.org", NULL},
	    {"request-list@example.org", "request@example.org"},
	    {"list-requests@example.org", "list@example.org"},
	    {"MAILER-DAEMON@example.org", NULL},
	    {"double-bounce@example.org", NULL},
	    {"mailer-daemons@example.org", "mailer@example.org"},
	    {"mailer-daemon-x@example.org", "mailer@example.org"},
	};
	const struct fold both = {.delimiters = "+-"};

	(void)state;
	CHECK(&plus, true, one);
	CHECK(&plus, false, one);
	CHECK(&both, true, several);
	CHECK(&both, false, several);
	for (size_t i = 0; i < sizeof several / sizeof several[0]; i++) {
		const struct row off = {several[i].name, NULL};

		check(&nothing, true, &off, 1);
		check(&unwrapping, true, &off, 1);
	}
}

static const struct row wrapped[] = {
    /* BATV */
    {"prvs=0123a1b2c3=user@Example.org", "user@example.org"},
    {"PRVS=0123A1B2C3=User@example.org", "User@example.org"},
    {"prvs=0123a1b2c=user@example.org", "user@example.org"},
    {"prvs=0123a1b2c3=a=b@example.org", "a=b@example.org"},
    {"prvs=0123a1b2c3=a/b@example.org", "a/b@example.org"},
    {"prvs=user=0123a1b2c3@example.org", "user@example.org"},
    {"prvs=user/0123a1b2c3@example.org", "user@example.org"},
    {"prvs=a=b=0123a1b2c3@example.org", "a=b@example.org"},
    {"prvs=0123a1b2c3=user", "user"},
    {"btv1==0123a1b2c3d==user@example.org", "user@example.org"},
    {"BTV1==0==user@example.org", "user@example.org"},
    {"btv1==0123==a==b@example.org", "a==b@example.org"},
    /* SRS */
    {"SRS0=abcd=XY=Example.org=user@relay.example", "user@example.org"},
    {"srs0=AbC+/=XY=example.org=User@relay.example", "User@example.org"},
    {"SRS0+abcd=XY=example.org=user@relay.example", "user@example.org"},
    {"SRS0-abcd=XY=example.org=user@relay.example", "user@example.org"},
    {"SRS0=abcd=XY=example.org=a=b@relay.example", "a=b@example.org"},
    {"SRS0=abcd=XY=m\xc3\xbcller.example=user@relay.example", "user@xn--mller-kva.example"},
    {"SRS0=abcd=XY=example.org=user", "user@example.org"},
    {"SRS1=abcd=relay.example==efgh=XY=example.org=user@other.example", "user@example.org"},
    {"SRS1+abcd=relay.example=+efgh=XY=example.org=user@other.example", "user@example.org"},
    {"SRS1=abcd=relay.example=-efgh=XY=example.org=user@other.example", "user@example.org"},
    /* one in the other: a signed address that was forwarded */
    {"SRS0=abcd=XY=example.org=prvs=0123a1b2c3=user@relay.example", "user@example.org"},
    {"prvs=0123a1b2c3=SRS0=abcd=XY=example.org=user@relay.example", "user@example.org"},
    {"prvs=00000000=prvs=11111111=prvs=22222222=user@x.example", "user@x.example"},
    /* ... but not for ever */
    {"prvs=00000000=prvs=11111111=prvs=22222222=prvs=33333333=prvs=44444444=user@x.example",
	"prvs=44444444=user@x.example"},
};

static void
test_wraps(void **state)
{
	static const struct row hostile[] = {
	    {"prvs=@example.org", NULL},
	    {"prvs==@example.org", NULL},
	    {"prvs==user@example.org", NULL},
	    {"prvs=user@example.org", NULL},
	    {"prvs=0123a1b2c3=@example.org", NULL},
	    {"prvs=0123a1b2c3@example.org", NULL},
	    {"prvs==0123a1b2c3@example.org", NULL},
	    {"prvs=/0123a1b2c3@example.org", NULL},
	    {"prvs=0123a1b=user@example.org", NULL}, /* 7 */
	    {"prvs=0123456789abc=user@example.org", NULL}, /* 13 */
	    {"prvs=a123456789=user@example.org", NULL},
	    {"prvs=0123x1b2c3=user@example.org", NULL},
	    {"prvs=0123a1b2c3", NULL},
	    {"prvs=", NULL},
	    {"prvs", NULL},
	    {"prvs0123a1b2c3=user@example.org", NULL},
	    {"xprvs=0123a1b2c3=user@example.org", NULL},
	    {"user@prvs=0123a1b2c3=x.example", NULL},
	    {"btv1==@example.org", NULL},
	    {"btv1====user@example.org", NULL},
	    {"btv1==0123==@example.org", NULL},
	    {"btv1==0123=user@example.org", NULL},
	    {"btv1==0123x==user@example.org", NULL},
	    {"btv1==0123@example==user", NULL},
	    {"btv1==0123", NULL},
	    {"btv1=0123==user@example.org", NULL},
	    {"SRS0=@relay.example", NULL},
	    {"SRS0=====@relay.example", NULL},
	    {"SRS0=abcd@relay.example", NULL},
	    {"SRS0=abcd=XY@relay.example", NULL},
	    {"SRS0=abcd=XY=example.org@relay.example", NULL},
	    {"SRS0=abcd=XY=example.org=@relay.example", NULL},
	    {"SRS0=abcd=XY==user@relay.example", NULL},
	    {"SRS0=abcd==example.org=user@relay.example", NULL},
	    {"SRS0==XY=example.org=user@relay.example", NULL},
	    {"SRS0=abcd=XY=ex{all}.org=user@relay.example", NULL},
	    {"SRS0=abcd=XY=ex@mple.org=user@relay.example", NULL},
	    {"SRS0*abcd=XY=example.org=user@relay.example", NULL},
	    {"SRS0", NULL},
	    {"SRS0=", NULL},
	    {"SRS1=", NULL},
	    {"SRS1=abcd=relay.example==@other.example", NULL},
	    {"SRS1=abcd=relay.example=@other.example", NULL},
	    {"SRS1=abcd==relay.example==efgh=XY=example.org=user@other.example", NULL},
	    {"SRS1=abcd=relay.example=efgh=XY=example.org=user@other.example", NULL},
	    {"SRS1=abcd=relay.example==efgh=XY=example.org=@other.example", NULL},
	    {"SRS2=abcd=XY=example.org=user@relay.example", NULL},
	    /* VERP: to whom the list wrote is not who wrote */
	    {"list-bounces=user=example.org@lists.example", NULL},
	    {"list-return-17-user=example.org@lists.example", NULL},
	    {"", NULL},
	};

	(void)state;
	CHECK(&unwrapping, true, wrapped);
	CHECK(&all, true, wrapped);
	CHECK(&unwrapping, true, hostile);
	for (size_t i = 0; i < sizeof wrapped / sizeof wrapped[0]; i++) {
		char out[MAILBOX_MAX + 1];

		/* only when told so, and of senders only */
		(void)fold_mailbox(&plus, true, wrapped[i].name, out);
		assert_int_equal(strcasecmp(out, wrapped[i].name), 0);
		(void)fold_mailbox(&unwrapping, false, wrapped[i].name, out);
		assert_int_equal(strcasecmp(out, wrapped[i].name), 0);
	}
}

static void
test_together(void **state)
{
	static const struct row table[] = {
	    {"prvs=0123a1b2c3=User+tag@M\xc3\xbcller.example", "User@xn--mller-kva.example"},
	    {"SRS0+abcd=XY=Example.org=user+tag@relay.example", "user@example.org"},
	    {"SRS0=abcd=XY=example.org=user+SRS0=x=y@relay.example", "user@example.org"},
	    {"list+user=example.org@lists.example", "list@lists.example"},
	    /* what is wrong is not mended by halves */
	    {"SRS0+abcd=XY==user+tag@relay.example", NULL},
	};

	(void)state;
	CHECK(&all, true, table);
}

/* length bytes of c, then tail. */
static const char *
long_name(char c, size_t length, const char *tail)
{
	static char text[70000];

	memset(text, c, length);
	strcpy(text + length, tail);
	return text;
}

static void
test_long(void **state)
{
	struct {
		char out[MAILBOX_MAX + 1];
		char fence[16];
	} box;
	const char *name;
	unsigned folded = 0, kept = 0;

	(void)state;
	memset(&box, 0x5a, sizeof box);
	for (size_t n = 0; n < 66000; n = n < 400 ? n + 1 : n * 3 / 2) {
		/* an A-label is longer: when it does not fit, the domain stays as it was */
		name = long_name('x', n, "@m\xc3\xbcller.EXAMPLE");
		if (strlen(name) > MAILBOX_MAX) {
			assert_ptr_equal(fold_mailbox(&all, true, name, box.out), name);
			continue;
		}
		assert_ptr_equal(fold_mailbox(&all, true, name, box.out), box.out);
		assert_int_equal(strspn(box.out, "x"), n);
		if (strcmp(box.out + n, "@xn--mller-kva.example") == 0)
			folded++;
		else {
			assert_string_equal(box.out + n, "@m\xc3\xbcller.example");
			assert_true(n + strlen("@xn--mller-kva.example") > MAILBOX_MAX);
			kept++;
		}
		name = long_name('=', n, "@example.org");
		(void)fold_mailbox(&all, true, name, box.out);
		name = long_name('\xc3', n, "");
		(void)fold_mailbox(&all, true, name, box.out);
		for (size_t i = 0; i < sizeof box.fence; i++)
			assert_int_equal(box.fence[i], 0x5a);
	}
	assert_int_equal(folded, MAILBOX_MAX - strlen("@xn--mller-kva.example") + 1);
	assert_int_equal(kept, strlen("@xn--mller-kva.example") - strlen("@m\xc3\xbcller.EXAMPLE"));
	/* 255 bytes of one label are no domain */
	name = long_name('x', 300, "");
	memcpy((char *)name, "u@\xc3\xbc", 4);
	assert_string_equal(fold_mailbox(&all, true, name, box.out), name);
}

/* Pieces of all forms in any order: nothing is read or written outside, what comes out is no
 * longer than it may be, and folding it again finds nothing more but further wraps. */
static void
test_noise(void **state)
{
	static const char *const pieces[] = {"prvs=", "btv1==", "SRS0=", "SRS1+", "SRS0-", "=",
	    "==", "+", "-", "/", "@", "0123456789", "abcd", "XY", "example.org", "user", "\xc3\xbc",
	    "\xe3\x80\x82", "\xff", "owner-", "-request", "."};
	const struct fold how = {.delimiters = "+-", .unwrap = true};
	uint32_t random = 4711;
	unsigned changed = 0;

	(void)state;
	for (unsigned round = 0; round < 200000; round++) {
		char name[MAILBOX_MAX + 1] = "", out[MAILBOX_MAX + 1];
		unsigned n;

		random = random * 1664525 + 1013904223;
		n = (random >> 16) % 16;
		while (n-- > 0) {
			random = random * 1664525 + 1013904223;
			strcat(name, pieces[(random >> 16) % (sizeof pieces / sizeof pieces[0])]);
		}
		assert_ptr_equal(fold_mailbox(&how, round % 2, name, out), out);
		assert_true(strlen(out) <= MAILBOX_MAX);
		assert_true((name[0] == '\0') == (out[0] == '\0'));
		changed += strcmp(name, out) != 0;
	}
	assert_true(changed > 10000);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_domains),
	    cmocka_unit_test(test_tags),
	    cmocka_unit_test(test_wraps),
	    cmocka_unit_test(test_together),
	    cmocka_unit_test(test_long),
	    cmocka_unit_test(test_noise),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
