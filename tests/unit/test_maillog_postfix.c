/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_maillog_postfix.c - what lines of Postfix 3.7 say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "maillog_fixture.h"

struct shape {
	const char *text, *says;
};

/* Each with "Nov 23 21:14:57 mx postfix/" before it. */
static const struct shape shapes[] = {
    {"smtpd[17]: connect from c.example[192.0.2.7]", "connect mx/17 c.example[192.0.2.7]"},
    {"smtpd[17]: connect from unknown[192.0.2.7]", "connect mx/17 [192.0.2.7]"},
    {"smtpd[17]: connect from unknown[2001:db8::7]", "connect mx/17 [2001:db8::7]"},
    {"smtpd[17]: connect from unknown[192.0.2.7]:47079", "connect mx/17 [192.0.2.7]"},
    {"smtpd[17]: connect from unknown[unknown]", "connect mx/17 [?]"},
    {"submission/smtpd[17]: connect from unknown[192.0.2.7]", "connect mx/17 [192.0.2.7]"},
    {"smtps/smtpd[17]: connect from unknown[192.0.2.7]", "connect mx/17 [192.0.2.7]"},
    {"smtpd[17]: disconnect from c.example[192.0.2.7] ehlo=1 mail=2 rcpt=3/5 data=2 quit=1 "
     "commands=9/11",
	"disconnect mx/17 c.example[192.0.2.7] nrcpt=3"},
    {"smtpd[17]: disconnect from c.example[192.0.2.7] quit=1 commands=1",
	"disconnect mx/17 c.example[192.0.2.7] nrcpt=0"},
    /* Postfix 2 says no more */
    {"smtpd[17]: disconnect from c.example[192.0.2.7]", "disconnect mx/17 c.example[192.0.2.7]"},
    {"smtpd[17]: lost connection after RCPT from c.example[192.0.2.7]", ""},
    {"smtpd[17]: warning: Connection rate limit exceeded: 7 from unknown[192.0.2.7]:44019 for "
     "service 127.0.0.1:10390",
	"turned-away mx/17 [192.0.2.7]"},
    {"smtpd[17]: warning: Connection concurrency limit exceeded: 51 from c.example[192.0.2.7] for "
     "service smtp",
	"turned-away mx/17 c.example[192.0.2.7]"},
    {"smtpd[17]: NOQUEUE: reject: CONNECT from unknown[192.0.2.7]: 554 5.7.1 "
     "<unknown[192.0.2.7]>: Client host rejected: Access denied; proto=SMTP",
	"turned-away mx/17 [192.0.2.7]"},

    {"smtpd[17]: 0A965AA2316: client=c.example[192.0.2.7]",
	"begin mx/17 0A965AA2316 c.example[192.0.2.7]"},
    {"smtpd[17]: 4jYK0j1Vt1z1d2t0: client=unknown[192.0.2.7]:54297",
	"begin mx/17 4jYK0j1Vt1z1d2t0 [192.0.2.7]"},
    {"smtpd[17]: 0A965AA2316: client=c.example[192.0.2.7], sasl_method=PLAIN, "
     "sasl_username=ann@x",
	"begin mx/17 0A965AA2316 c.example[192.0.2.7] user=ann@x"},
    {"smtpd[17]: 0A965AA2316: client=c.example[192.0.2.7]:1234, sasl_method=PLAIN, "
     "sasl_username=ann, sasl_sender=<a@b>",
	"begin mx/17 0A965AA2316 c.example[192.0.2.7] user=ann"},
    {"smtpd[17]: NOQUEUE: client=c.example[192.0.2.7]", "begin mx/17 c.example[192.0.2.7]"},
    {"cleanup[18]: 0A965AA2316: message-id=<x@client.test>", ""},
    {"qmgr[19]: 0A965AA2316: from=<a@client.test>, size=171, nrcpt=2 (queue active)",
	"envelope mx/19 0A965AA2316 from=a@client.test size=171 nrcpt=2"},
    {"qmgr[19]: 0A965AA2316: from=<>, size=0, nrcpt=1 (queue active)",
	"envelope mx/19 0A965AA2316 size=0 nrcpt=1"},
    {"qmgr[19]: 0A965AA2316: from=<\"a b <x>, size=9\"@client.test>, size=197, nrcpt=1 (queue "
     "active)",
	"envelope mx/19 0A965AA2316 from=\"a b <x>, size=9\"@client.test size=197 nrcpt=1"},
    {"qmgr[19]: 0A965AA2316: from=<a@b>, status=expired, returned to sender", ""},
    {"qmgr[19]: 0A965AA2316: removed", "removed mx/19 0A965AA2316"},

    {"discard[20]: 0A965AA2316: to=<u1@example.test>, relay=none, delay=0.02, "
     "delays=0.01/0.01/0/0, dsn=2.0.0, status=sent (example.test)",
	"delivery mx/20 0A965AA2316 to=u1@example.test sent"},
    {"local[20]: 0A965AA2316: to=<u7@example.test>, orig_to=<list@example.test>, relay=local, "
     "delay=0, delays=0/0/0/0, dsn=2.0.0, status=sent (delivered to mailbox)",
	"delivery mx/20 0A965AA2316 to=list@example.test aliased sent"},
    {"smtp[20]: 0A965AA2316: to=<\"q, r\"@example.test>, relay=x[192.0.2.1]:25, delay=9, "
     "dsn=4.4.1, status=deferred (connect to x: Connection timed out)",
	"delivery mx/20 0A965AA2316 to=\"q, r\"@example.test deferred"},
    {"error[20]: 0A965AA2316: to=<u@example.test>, relay=none, dsn=5.0.0, status=bounced "
     "(status=sent said nobody)",
	"delivery mx/20 0A965AA2316 to=u@example.test bounced"},
    {"relay/smtp[20]: 0A965AA2316: to=<u@example.test>, relay=x, status=sent (250 ok)",
	"delivery mx/20 0A965AA2316 to=u@example.test sent"},

    {"smtpd[17]: NOQUEUE: reject: RCPT from c.example[192.0.2.7]: 550 5.1.1 <u9@example.test>: "
     "Recipient address rejected: User unknown; from=<b@client.test> to=<u9@example.test> "
     "proto=ESMTP helo=<client.test>",
	"rejected mx/17 c.example[192.0.2.7] from=b@client.test to=u9@example.test"},
    {"smtpd[17]: 0A965AA2316: reject: RCPT from c.example[192.0.2.7]:99: 554 5.7.1 Relay access "
     "denied; from=<> to=<x@y> proto=SMTP",
	"rejected mx/17 0A965AA2316 c.example[192.0.2.7] to=x@y"},
    {"smtpd[17]: NOQUEUE: reject_warning: RCPT from c.example[192.0.2.7]: 550 x; from=<a> to=<b>",
	""},
    {"smtpd[17]: NOQUEUE: reject: MAIL from c.example[192.0.2.7]: 554 x; from=<a@b> proto=SMTP",
	""},
    {"smtpd[17]: 0A965AA2316: reject: DATA from c.example[192.0.2.7]: 554 5.7.1 x; from=<a@b> "
     "to=<c@d> proto=ESMTP helo=<h>",
	"stopped mx/17 0A965AA2316 from=a@b to=c@d"},
    {"smtpd[17]: NOQUEUE: milter-reject: CONNECT from c.example[192.0.2.7]: 421 4.7.0 Too many; "
     "proto=SMTP",
	""},
    {"smtpd[17]: NOQUEUE: milter-reject: RCPT from c.example[192.0.2.7]: 451 4.7.1 Please wait; "
     "from=<a@b> to=<c@d> proto=ESMTP helo=<h>",
	"attempt mx/17 c.example[192.0.2.7] from=a@b to=c@d"},
    {"smtpd[17]: 0A965AA2316: milter-reject: RCPT from c.example[192.0.2.7]: 421 4.7.1 Too many; "
     "from=<a@b> to=<c@d> proto=ESMTP helo=<h>",
	"attempt mx/17 0A965AA2316 c.example[192.0.2.7] from=a@b to=c@d"},
    {"cleanup[18]: 0A965AA2316: milter-reject: END-OF-MESSAGE from c.example[192.0.2.7]: 5.7.1 "
     "Spam; from=<a@b> to=<c@d> proto=ESMTP helo=<h>",
	"stopped mx/18 0A965AA2316 from=a@b to=c@d"},
    {"cleanup[18]: 0A965AA2316: reject: header Subject: bad from c.example[192.0.2.7]; from=<a@b> "
     "to=<c@d> proto=ESMTP helo=<h>: 5.7.1 no way",
	"stopped mx/18 0A965AA2316 from=a@b to=c@d"},

    {"postscreen[21]: CONNECT from [192.0.2.7]:4711 to [192.0.2.1]:25", ""},
    {"anvil[21]: statistics: max connection rate 1/60s for (smtp:192.0.2.7) at Nov 23 21:14:57",
	""},
    {"master[1]: daemon started -- version 3.7.11", ""},

    /* cut anywhere */
    {"smtpd[17]: ", ""},
    {"smtpd[17]: connect from ", ""},
    {"smtpd[17]: connect from c.example[192.0.2", ""},
    {"smtpd[17]: 0A965AA2316: clien", ""},
    {"smtpd[17]: 0A965AA2316:", ""},
    {"smtpd[17]: NOQUEUE: reject: RCPT from c.example[192.0.2.7]: 550 5.1.1 <u9",
	"rejected mx/17 c.example[192.0.2.7]"},
    {"smtpd[17]: NOQUEUE: reject: RCPT from c.example[192.0.2.7]: 550 x; from=<b@clie",
	"rejected mx/17 c.example[192.0.2.7]"},
    {"qmgr[19]: 0A965AA2316: from=<a@client.test>, size=17", ""},
    {"qmgr[19]: 0A965AA2316: from=<a@client.te", ""},
    {"qmgr[19]: 0A965AA2316: from=<\"a@client.test>, size=1, nrcpt=1 (queue active)",
	"envelope mx/19 0A965AA2316 from=\"a@client.test size=1 nrcpt=1"},
    {"lmtp[20]: 0A965AA2316: to=<u1@exam", ""},
    {"lmtp[20]: 0A965AA2316: to=<u1@example.test>, relay=none, status=",
	"delivery mx/20 "
	"0A965AA2316 to=u1@example.test bounced"},
    /* figures out of reach */
    {"qmgr[19]: 0A965AA2316: from=<a@b>, size=99999999999999999999999, nrcpt=99999999999999 "
     "(queue active)",
	"envelope mx/19 0A965AA2316 from=a@b size=576460752303423487 nrcpt=10000"},
    {"qmgr[19]: 0A965AA2316: from=<a@b>, size=-1, nrcpt=0 (queue active)", ""},
};

static void
test_shapes(void **state)
{
	char line[1024];

	(void)state;
	for (size_t i = 0; i < sizeof shapes / sizeof shapes[0]; i++) {
		snprintf(line, sizeof line, "Nov 23 21:14:57 mx postfix/%s", shapes[i].text);
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
		snprintf(line, sizeof line, "Nov 23 21:14:57 mx postfix/%s", shapes[i].text);
		say_every_cut(line);
	}
}

static void
test_whose_line(void **state)
{
	(void)state;
	/* syslog_name says what it likes */
	assert_string_equal(said_of("Nov 23 21:14:57 mx mx7/smtpd[1]: connect from a[192.0.2.7]"),
	    "connect mx/1 a[192.0.2.7]");
	assert_string_equal(
	    said_of("Nov 23 21:14:57 mx postfix-out/smtpd[1]: connect from a[192.0.2.7]"),
	    "connect mx/1 a[192.0.2.7]");
	/* OpenSMTPD's has no slash */
	assert_string_equal(
	    said_of("Nov 23 21:14:57 mx smtpd[1]: connect from a[192.0.2.7]"), "other");
	assert_string_equal(said_of("Nov 23 21:14:57 mx dovecot: imap-login: Login"), "other");
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_shapes),
	    cmocka_unit_test(test_cut_anywhere),
	    cmocka_unit_test(test_whose_line),
	};

	utc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
