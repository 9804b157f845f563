/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_maillog_sendmail.c - what lines of Sendmail 8.17 say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "maillog_fixture.h"

#define ID "6ANLVNkr014056"

static const struct {
	const char *text, *says;
} shapes[] = {
    {ID ": from=<a@client.test>, size=20, class=0, nrcpts=2, msgid=<x@mx>, proto=ESMTP, "
	"daemon=v4, relay=c3.client.test [192.0.2.7]",
	"envelope mx/5 " ID " c3.client.test[192.0.2.7] from=a@client.test size=20 nrcpt=2"},
    {ID ": from=<>, size=20, class=0, nrcpts=1, proto=ESMTP, daemon=v6, relay=localhost "
	"[IPv6:0:0:0:0:0:0:0:1]",
	"envelope mx/5 " ID " localhost[::1] size=20 nrcpt=1"},
    {ID ": from=a@client.test, size=20, class=0, nrcpts=1, daemon=v4, relay=[192.0.2.7]",
	"envelope mx/5 " ID " [192.0.2.7] from=a@client.test size=20 nrcpt=1"},
    {ID ": from=<a@b>, size=0, class=0, nrcpts=0, relay=c.example [192.0.2.7] (may be forged)",
	"envelope mx/5 " ID " [192.0.2.7] from=a@b size=0 nrcpt=0"},
    {ID ": from=<a@b>, size=1, class=0, nrcpts=1, relay=ann@c.example [192.0.2.7]",
	"envelope mx/5 " ID " c.example[192.0.2.7] from=a@b size=1 nrcpt=1"},
    /* what a stranger puts into his Message-ID is not where it comes from */
    {ID ": from=<a@b>, size=1, class=0, nrcpts=1, msgid=<x, relay=evil [198.51.100.1]>, "
	"relay=c.example [192.0.2.7]",
	"envelope mx/5 " ID " c.example[192.0.2.7] from=a@b size=1 nrcpt=1"},
    /* ... nor into his address */
    {ID ": from=<\"x, size=9, nrcpts=9\"@b>, size=1, class=0, nrcpts=1, relay=[192.0.2.7]",
	"envelope mx/5 " ID " [192.0.2.7] from=\"x, size=9, nrcpts=9\"@b size=1 nrcpt=1"},
    /* this host's own mail has no client */
    {ID ": from=root, size=20, class=0, nrcpts=1, msgid=<x@mx>, relay=root@localhost", ""},
    /* sendmail itself cuts what is long */
    {ID ": from=<aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, size=20, class=0, nrcpts=1, relay=[192.0.2.7]",
	"envelope mx/5 " ID " [192.0.2.7] from=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa size=20 nrcpt=1"},

    {ID ": to=<u1@example.test>, delay=00:00:00, xdelay=00:00:00, mailer=sink, pri=60020, "
	"relay=example.test, dsn=2.0.0, stat=Sent",
	"delivery mx/5 " ID " to=u1@example.test sent"},
    {ID ": to=<u1@example.test>,<\"q, r\"@example.test>,u3@example.test, delay=00:00:01, "
	"mailer=esmtp, dsn=2.0.0, stat=Sent (ok Message accepted for delivery)",
	"delivery mx/5 " ID " to=u1@example.test sent; delivery mx/5 " ID
	" to=\"q, r\"@example.test sent; delivery mx/5 " ID " to=u3@example.test sent"},
    {ID ": to=\"|/usr/bin/procmail -x, y\", ctladdr=<list@example.test> (1/0), delay=00:00:01, "
	"stat=Sent",
	"delivery mx/5 " ID " to=\"|/usr/bin/procmail -x, y\" sent"},
    {ID ": to=root,postmaster, delay=00:00:01, stat=Deferred: Connection refused",
	"delivery mx/5 " ID " to=root deferred; delivery mx/5 " ID " to=postmaster deferred"},
    {ID ": to=<u1@example.test>, delay=00:00:00, dsn=5.1.1, stat=User unknown (stat=Sent)",
	"delivery mx/5 " ID " to=u1@example.test bounced"},

    {ID ": ruleset=check_rcpt, arg1=<x@elsewhere.test>, relay=c.example [192.0.2.7], reject=550 "
	"5.7.1 <x@elsewhere.test>... Relaying denied [198.51.100.1]",
	"rejected mx/5 " ID " c.example[192.0.2.7] to=x@elsewhere.test"},
    {"ruleset=check_relay, arg1=c.example, arg2=192.0.2.7, relay=c.example [192.0.2.7], reject=421 "
     "4.3.2 Connection rate limit exceeded.",
	"turned-away mx/5 c.example[192.0.2.7]"},
    {ID ": ruleset=check_mail, arg1=<a@b>, relay=c.example [192.0.2.7], reject=553 5.1.8 x",
	"sight mx/5 " ID " c.example[192.0.2.7]"},
    {ID ": <u9@example.test>... User unknown", "rejected mx/5 " ID " to=u9@example.test"},

    {ID ": Milter: to=<u3@example.test>, reject=421 4.7.1 Too many recipients",
	"attempt mx/5 " ID " to=u3@example.test counted"},
    {ID ": Milter: to=<u1@example.test>, reject=451 4.7.1 Please wait",
	"attempt mx/5 " ID " to=u1@example.test"},
    {ID ": Milter: from=<a@b>, reject=451 4.7.0 Too many connections", ""},
    {ID ": Milter: connect: host=c.example, addr=192.0.2.7, shutdown",
	"sight mx/5 " ID " c.example[192.0.2.7]"},
    {ID ": Milter: connect: host=[192.0.2.7], addr=192.0.2.7, rejecting commands",
	"sight mx/5 " ID " [192.0.2.7]"},

    {"NOQUEUE: connect from c.example [192.0.2.7]", "connect mx/5 c.example[192.0.2.7]"},
    {ID ": lost input channel from [192.0.2.7] to v4 after rcpt", "sight mx/5 " ID " [192.0.2.7]"},
    {ID ": [192.0.2.7] did not issue MAIL/EXPN/VRFY/ETRN during connection to v4",
	"sight mx/5 " ID " [192.0.2.7]"},
    {"NOQUEUE: c.example [192.0.2.7] did not issue MAIL/EXPN/VRFY/ETRN during connection to MTA",
	"sight mx/5 c.example[192.0.2.7]"},
    {"STARTTLS=server, relay=c.example [192.0.2.7], version=TLSv1.3, verify=NO, cipher=x, "
     "bits=256/256",
	"sight mx/5 c.example[192.0.2.7]"},
    {"STARTTLS=client, relay=mx.example, version=TLSv1.3, verify=NO, cipher=x, bits=256/256", ""},
    {"AUTH=server, relay=c.example [192.0.2.7], authid=ann@x, mech=PLAIN, bits=0",
	"auth mx/5 c.example[192.0.2.7] user=ann@x"},
    {"AUTH=server, relay=c.example [192.0.2.7], authid=ann, mech=x, mech=PLAIN, bits=0",
	"auth mx/5 c.example[192.0.2.7] user=ann, mech=x"},
    {ID ": collect: premature EOM: Connection reset by [192.0.2.7]", ""},
    {ID ": done; delay=00:00:00, ntries=1", ""},
    {"starting daemon (8.17.1.9): SMTP", ""},

    /* cut anywhere */
    {ID ": from=<a@client.test>, size=20, class=0, nrcpts=2, msgid=<x@mx>, pro", ""},
    {ID ": from=<a@client.test>, size=20, class=0, nrc", ""},
    {ID ": to=<u1@example.te", ""},
    {ID ": to=<u1@example.test>,<u2, delay=00:00:00, stat=Sent",
	"delivery mx/5 " ID " to=u1@example.test sent"},
    {ID ": to=<<<<<<,,,<>,,stat=Sent, stat=Sent", "delivery mx/5 " ID " to=<<<<<,,,< sent"},
    {ID ": ruleset=check_rcpt, arg1=<x@else", ""},
    {ID ":", ""},
    {ID ": <", ""},
    {"AUTH=server, relay=", ""},
    {"", "no line"},
};

static void
test_shapes(void **state)
{
	char line[1024];

	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		snprintf(line, sizeof line, "Nov 23 21:14:57 mx sm-mta[5]:%s%s",
		    shapes[i].text[0] != '\0' ? " " : "", shapes[i].text);
		if (strcmp(said_of(line), shapes[i].says) != 0)
			print_message("line: %s\n", shapes[i].text);
		assert_string_equal(said_of(line), shapes[i].says);
	}
}

static void
test_cut_anywhere(void **state)
{
	char line[1024];

	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		snprintf(line, sizeof line, "Nov 23 21:14:57 sendmail[5]: %s", shapes[i].text);
		say_every_cut(line);
	}
}

/* As caught on /dev/log, without a host; with Solaris' and FreeBSD's additions. */
static void
test_heads(void **state)
{
	static const char *const heads[] = {
	    "<22>Nov 23 21:14:57 sendmail[5]: ",
	    "Nov 23 21:14:57 sm-mta[5]: ",
	    "Nov 23 21:14:57 <mail.info> sm-mta[5]: ",
	    "Nov 23 21:14:57 sendmail[5]: [ID 801593 mail.info] ",
	};
	char line[256];

	(void)state;
	for (size_t i = 0; i < sizeof heads / sizeof heads[0]; i++) {
		snprintf(line, sizeof line, "%sNOQUEUE: connect from a [192.0.2.7]", heads[i]);
		assert_string_equal(said_of(line), "connect /5 a[192.0.2.7]");
	}
	assert_string_equal(
	    said_of("Nov 23 21:14:57 mx sm-mta: NOQUEUE: connect from a [192.0.2.7]"),
	    "connect mx/ a[192.0.2.7]");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_shapes),
	    cmocka_unit_test(test_cut_anywhere),
	    cmocka_unit_test(test_heads),
	};

	utc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
