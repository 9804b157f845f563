/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_traffic.c - from the lines of a log to what weir-milter would have been asked.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "maillog_fixture.h"
#include "traffic.h"

/* --- a recorder ---------------------------------------------------------------------------------- */

struct recorder {
	char text[8192];
	size_t used;
	unsigned connects, messages, ends;
	bool refuse; /* as a trial that refuses all */
	struct traffic *traffic;
	struct log_writer log;
};

static void record(struct recorder *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
record(struct recorder *r, const char *fmt, ...)
{
	size_t room = sizeof r->text - r->used;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(r->text + r->used, room, fmt, ap);
	va_end(ap);
	r->used += (size_t)n < room ? (size_t)n : room - 1;
}

static long long
since(int64_t now_us)
{
	return (long long)(now_us / USEC_PER_SEC - NOVEMBER);
}

static const char *
addr_text(const struct addr *a)
{
	static char text[NET_TEXT_MAX];

	return a->family != ADDR_NONE ? addr_format(a, text) : "?";
}

static const char *
good_text(unsigned good)
{
	static char text[4];
	size_t n = 0;

	if ((good & GOOD_DELIVERED) != 0)
		text[n++] = 'd';
	if ((good & GOOD_KNOWN) != 0)
		text[n++] = 'k';
	if ((good & GOOD_AUTHENTICATED) != 0)
		text[n++] = 'a';
	text[n] = '\0';
	return text;
}

static void
on_connect(void *ctx, struct mail_session *s, int64_t now_us)
{
	struct recorder *r = ctx;

	r->connects++;
	s->trial[0].cause = r->refuse;
	record(r, "%lld connect %s %s\n", since(now_us), addr_text(&s->client), good_text(s->good));
}

static void
on_message(void *ctx, struct mail_session *s, struct mail_message *m,
    const struct mail_recipients *to, int64_t now_us)
{
	struct recorder *r = ctx;

	assert_true(to->named <= to->all);
	r->messages++;
	record(r, "%lld message %s <%s> to", since(now_us), addr_text(&s->client),
	    m->sender_told ? m->sender : "?");
	assert_true(m->sender_told || m->sender[0] == '?');
	for (int i = 0; i < to->named; i++)
		record(r, " %s", to->names[i]);
	record(r, " of %d %s\n", to->all, good_text(m->good));
}

static void
on_end(void *ctx, struct mail_session *s)
{
	struct recorder *r = ctx;

	r->ends++;
	record(r, "end %s\n", addr_text(&s->client));
}

static void
on_good_session(void *ctx, struct mail_session *s, unsigned bits)
{
	record(ctx, "session %s %s\n", addr_text(&s->client), good_text(bits));
}

static void
on_good_message(void *ctx, struct mail_message *m, unsigned bits)
{
	(void)ctx;
	(void)m;
	(void)bits;
}

static struct recorder *
start(void)
{
	static const struct traffic_ops ops = {
	    on_connect, on_message, on_end, on_good_session, on_good_message, NULL};
	static struct recorder r;

	memset(&r, 0, sizeof r);
	r.traffic = traffic_new(&ops, &r);
	assert_non_null(r.traffic);
	r.log = (struct log_writer){.fn = traffic_event, .ctx = r.traffic};
	return &r;
}

static const char *
finish(struct recorder *r)
{
	traffic_finish(r->traffic);
	traffic_free(&r->traffic);
	return r->text;
}

/* --- Postfix ------------------------------------------------------------------------------------- */

#define SMTPD "postfix/smtpd[7]"
#define QMGR "postfix/qmgr[1]"
#define LMTP "postfix/lmtp[2]"
#define CLIENT "c.example[192.0.2.7]"

struct line {
	int64_t s;
	const char *tag, *text;
};

struct scene {
	const char *what;
	struct line lines[16];
	const char *says;
};

static void
play(const struct scene *scenes, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct recorder *r = start();

		for (const struct line *l = scenes[i].lines; l->tag != NULL; l++) {
			r->log.s = l->s;
			write_line(&r->log, l->tag, l->text);
		}
		if (strcmp(finish(r), scenes[i].says) != 0)
			print_message("scene: %s\n", scenes[i].what);
		assert_string_equal(r->text, scenes[i].says);
	}
}

static const struct scene postfix_scenes[] = {
    {"a message",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {2, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=2 (queue active)"},
	    {3, SMTPD, "disconnect from " CLIENT " rcpt=2 commands=4"},
	    {4, LMTP, "AAAAA: to=<u1@x>, status=sent (ok)"},
	    {5, LMTP, "AAAAA: to=<u2@x>, status=deferred (no)"},
	},
	"session 192.0.2.7 d\n"
	"0 connect 192.0.2.7 d\n1 message 192.0.2.7 <a@b> to u1@x u2@x of 2 d\nend 192.0.2.7\n"},
    {"recipients are known a minute ahead and no further",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {2, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=3 (queue active)"},
	    {60, LMTP, "AAAAA: to=<u1@x>, status=deferred (no)"},
	    {62, LMTP, "AAAAA: to=<u2@x>, status=sent (ok)"},
	    {63, SMTPD, "disconnect from " CLIENT " rcpt=3 commands=4"},
	},
	"0 connect 192.0.2.7 \n1 message 192.0.2.7 <a@b> to u1@x of 3 \n"
	"session 192.0.2.7 d\nend 192.0.2.7\n"},
    {"given up after three recipients",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {2, SMTPD, "lost connection after RCPT from " CLIENT},
	    {3, SMTPD, "disconnect from " CLIENT " mail=1 rcpt=3/4 commands=5"},
	},
	"0 connect 192.0.2.7 \n1 message 192.0.2.7 <?> to of 3 \nend 192.0.2.7\n"},
    {"reset, and another message",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {2, SMTPD, "BBBBB: client=" CLIENT},
	    {3, QMGR, "BBBBB: from=<c@d>, size=9, nrcpt=1 (queue active)"},
	    {4, SMTPD, "disconnect from " CLIENT " mail=2 rcpt=2 commands=6"},
	},
	"0 connect 192.0.2.7 \n1 message 192.0.2.7 <?> to of 1 \n"
	"2 message 192.0.2.7 <c@d> to of 1 \nend 192.0.2.7\n"},
    {"two sessions at once",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, "postfix/smtpd[8]", "connect from d.example[192.0.2.8]"},
	    {2, "postfix/smtpd[8]", "BBBBB: client=d.example[192.0.2.8]"},
	    {3, SMTPD, "AAAAA: client=" CLIENT},
	    {4, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=1 (queue active)"},
	    {5, QMGR, "BBBBB: from=<c@d>, size=9, nrcpt=1 (queue active)"},
	    {6, SMTPD, "disconnect from " CLIENT},
	    {7, "postfix/smtpd[8]", "disconnect from d.example[192.0.2.8]"},
	},
	"0 connect 192.0.2.7 \n1 connect 192.0.2.8 \n2 message 192.0.2.8 <c@d> to of 1 \n"
	"3 message 192.0.2.7 <a@b> to of 1 \nend 192.0.2.7\nend 192.0.2.8\n"},
    {"a queue id is used again at once",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {2, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=1 (queue active)"},
	    {3, LMTP, "AAAAA: to=<u1@x>, status=sent (ok)"},
	    {3, QMGR, "AAAAA: removed"},
	    {4, SMTPD, "AAAAA: client=" CLIENT},
	    {5, QMGR, "AAAAA: from=<c@d>, size=9, nrcpt=1 (queue active)"},
	    {6, LMTP, "AAAAA: to=<u2@x>, status=bounced (no)"},
	    {7, SMTPD, "disconnect from " CLIENT},
	},
	"session 192.0.2.7 d\n0 connect 192.0.2.7 d\n1 message 192.0.2.7 <a@b> to u1@x of 1 d\n"
	"4 message 192.0.2.7 <c@d> to u2@x of 1 \nend 192.0.2.7\n"},
    {"a message that takes ten minutes to come",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {300, "postfix/smtpd[8]", "connect from d.example[192.0.2.8]"},
	    {600, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=1 (queue active)"},
	    {601, SMTPD, "disconnect from " CLIENT},
	    {602, "postfix/smtpd[8]", "disconnect from d.example[192.0.2.8]"},
	},
	"0 connect 192.0.2.7 \n300 connect 192.0.2.8 \n600 message 192.0.2.7 <a@b> to of 1 \n"
	"end 192.0.2.7\nend 192.0.2.8\n"},
    {"what an alias made of a recipient is he alone",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {2, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=3 (queue active)"},
	    {3, LMTP, "AAAAA: to=<u7@x>, orig_to=<list@x>, status=sent (ok)"},
	    {3, LMTP, "AAAAA: to=<u8@x>, orig_to=<list@x>, status=sent (ok)"},
	    {3, LMTP, "AAAAA: to=<u9@x>, status=sent (ok)"},
	    {4, SMTPD, "disconnect from " CLIENT},
	},
	"session 192.0.2.7 d\n0 connect 192.0.2.7 d\n"
	"1 message 192.0.2.7 <a@b> to list@x u9@x of 2 d\nend 192.0.2.7\n"},
    {"recipients that a milter refused",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD,
		"NOQUEUE: milter-reject: RCPT from " CLIENT ": 451 x; from=<a@b> to=<u1@x> p"},
	    {2, SMTPD,
		"NOQUEUE: milter-reject: RCPT from " CLIENT ": 451 x; from=<a@b> to=<u2@x> p"},
	    {3, SMTPD,
		"NOQUEUE: milter-reject: RCPT from " CLIENT ": 451 x; from=<a@b> to=<u1@x> p"},
	    {4, SMTPD,
		"NOQUEUE: milter-reject: RCPT from " CLIENT ": 451 x; from=<c@d> to=<u3@x> p"},
	    {5, SMTPD, "AAAAA: client=" CLIENT},
	    {6, SMTPD, "AAAAA: milter-reject: RCPT from " CLIENT ": 421 x; from=<a@b> to=<u4@x> p"},
	    {7, SMTPD, "disconnect from " CLIENT " rcpt=2/7 commands=9"},
	},
	"0 connect 192.0.2.7 \n1 message 192.0.2.7 <a@b> to u1@x u2@x of 2 \n"
	"3 message 192.0.2.7 <a@b> to u1@x of 1 \n4 message 192.0.2.7 <c@d> to u3@x of 1 \n"
	"5 message 192.0.2.7 <a@b> to u4@x of 3 \nend 192.0.2.7\n"},
    {"stopped at its end",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {1, SMTPD, "AAAAA: client=" CLIENT},
	    {2, "postfix/cleanup[3]",
		"AAAAA: milter-reject: END-OF-MESSAGE from " CLIENT
		": 5.7.1 x; from=<a@b> to=<u1@x> proto=ESMTP"},
	    {3, SMTPD, "disconnect from " CLIENT " rcpt=2 commands=4"},
	},
	"0 connect 192.0.2.7 \n1 message 192.0.2.7 <a@b> to u1@x of 2 \nend 192.0.2.7\n"},
    {"XCLIENT: another client, another session",
	{
	    {0, SMTPD, "connect from unknown[127.0.0.1]"},
	    {1, SMTPD, "AAAAA: client=" CLIENT ", sasl_method=XCLIENT, sasl_username=ann"},
	    {2, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=1 (queue active)"},
	    {3, SMTPD, "disconnect from " CLIENT},
	},
	"session 192.0.2.7 a\n0 connect 127.0.0.1 \nend 127.0.0.1\n1 connect 192.0.2.7 a\n"
	"1 message 192.0.2.7 <a@b> to of 1 a\nend 192.0.2.7\n"},
    {"its process died, another has its number",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {9, SMTPD, "connect from " CLIENT},
	    {10, SMTPD, "disconnect from " CLIENT},
	},
	"0 connect 192.0.2.7 \nend 192.0.2.7\n9 connect 192.0.2.7 \nend 192.0.2.7\n"},
    {"turned away: no milter was asked",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {0, SMTPD, "warning: Connection rate limit exceeded: 7 from " CLIENT " for service x"},
	    {0, SMTPD, "disconnect from " CLIENT " commands=0/0"},
	},
	""},
    {"the log begins in the middle",
	{
	    {0, QMGR, "ZZZZZ: from=<old@b>, size=9, nrcpt=1 (queue active)"},
	    {0, LMTP, "ZZZZZ: to=<u1@x>, status=sent (ok)"},
	    {1, SMTPD, "disconnect from d.example[192.0.2.8]"},
	    {2, SMTPD, "AAAAA: client=" CLIENT},
	    {3, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=1 (queue active)"},
	},
	"1 connect 192.0.2.8 \nend 192.0.2.8\n2 connect 192.0.2.7 \n"
	"2 message 192.0.2.7 <a@b> to of 1 \nend 192.0.2.7\n"},
    {"and ends in the middle",
	{
	    {0, SMTPD, "connect from " CLIENT},
	    {500, SMTPD, "AAAAA: client=" CLIENT},
	},
	"0 connect 192.0.2.7 \n500 message 192.0.2.7 <?> to of 1 \nend 192.0.2.7\n"},
    {"a client without an address",
	{
	    {0, SMTPD, "connect from unknown[unknown]"},
	    {1, SMTPD, "disconnect from unknown[unknown]"},
	},
	"0 connect ? \nend ?\n"},
};

static void
test_postfix(void **state)
{
	(void)state;
	play(postfix_scenes, sizeof postfix_scenes / sizeof postfix_scenes[0]);
}

/* --- Sendmail ------------------------------------------------------------------------------------ */

#define MTA "sm-mta[7]"

static const struct scene sendmail_scenes[] = {
    {"two messages of one process",
	{
	    {0, MTA, "AAAAA: from=<a@b>, size=9, class=0, nrcpts=2, relay=c [192.0.2.7]"},
	    {1, "sm-mta[8]", "AAAAA: to=<u1@x>,<u2@x>, delay=0, stat=Sent"},
	    {30, MTA, "BBBBB: from=<c@d>, size=9, class=0, nrcpts=1, relay=c [192.0.2.7]"},
	    {31, "sm-mta[9]", "BBBBB: to=<u3@x>, delay=0, stat=Deferred"},
	},
	"session 192.0.2.7 d\n0 connect 192.0.2.7 d\n"
	"0 message 192.0.2.7 <a@b> to u1@x u2@x of 2 d\n"
	"30 message 192.0.2.7 <c@d> to u3@x of 1 \nend 192.0.2.7\n"},
    {"silence for a minute ends a session, and it is the same when it speaks again; after ten "
     "minutes it is another",
	{
	    {0, MTA, "AAAAA: from=<a@b>, size=9, class=0, nrcpts=1, relay=c [192.0.2.7]"},
	    {90, MTA, "BBBBB: from=<c@d>, size=9, class=0, nrcpts=1, relay=c [192.0.2.7]"},
	    {800, MTA, "CCCCC: from=<e@f>, size=9, class=0, nrcpts=1, relay=c [192.0.2.7]"},
	},
	"0 connect 192.0.2.7 \n0 message 192.0.2.7 <a@b> to of 1 \nend 192.0.2.7\n"
	"90 message 192.0.2.7 <c@d> to of 1 \n"
	"800 connect 192.0.2.7 \n800 message 192.0.2.7 <e@f> to of 1 \nend 192.0.2.7\n"},
    {"nothing but a rejected recipient",
	{
	    {0, MTA, "AAAAA: ruleset=check_rcpt, arg1=<u1@x>, relay=c [192.0.2.7], reject=550 x"},
	    {1, MTA, "AAAAA: from=<a@b>, size=0, class=0, nrcpts=0, relay=c [192.0.2.7]"},
	},
	"0 connect 192.0.2.7 \nend 192.0.2.7\n"},
    {"recipients that a milter put off, and cut off",
	{
	    {0, MTA, "AAAAA: Milter: to=<u1@x>, reject=451 4.7.1 wait"},
	    {0, MTA, "AAAAA: Milter: to=<u2@x>, reject=451 4.7.1 wait"},
	    {1, MTA, "AAAAA: from=<a@b>, size=0, class=0, nrcpts=0, relay=c [192.0.2.7]"},
	    {2, MTA, "BBBBB: Milter: to=<u5@x>, reject=421 4.7.1 too many"},
	    {3, MTA, "BBBBB: from=<a@b>, size=0, class=0, nrcpts=4, relay=c [192.0.2.7]"},
	},
	"1 connect 192.0.2.7 \n1 message 192.0.2.7 <a@b> to u1@x u2@x of 2 \n"
	"3 message 192.0.2.7 <a@b> to u5@x of 4 \nend 192.0.2.7\n"},
    {"authenticated",
	{
	    {0, MTA, "AUTH=server, relay=c [192.0.2.7], authid=ann, mech=PLAIN, bits=0"},
	    {1, MTA, "AAAAA: from=<a@b>, size=9, class=0, nrcpts=1, relay=c [192.0.2.7]"},
	},
	"session 192.0.2.7 a\n0 connect 192.0.2.7 a\n"
	"1 message 192.0.2.7 <a@b> to of 1 a\nend 192.0.2.7\n"},
    {"this host's own mail",
	{
	    {0, MTA, "AAAAA: from=root, size=9, class=0, nrcpts=1, relay=root@localhost"},
	    {1, MTA, "AAAAA: to=<u1@x>, delay=0, stat=Sent"},
	},
	""},
    {"turned away",
	{
	    {0, MTA,
		"ruleset=check_relay, arg1=c, arg2=192.0.2.7, relay=c [192.0.2.7], reject=421 x"},
	    {1, MTA,
		"AAAAA: c [192.0.2.7] did not issue MAIL/EXPN/VRFY/ETRN during connection to v4"},
	},
	""},
};

static void
test_sendmail(void **state)
{
	(void)state;
	play(sendmail_scenes, sizeof sendmail_scenes / sizeof sendmail_scenes[0]);
}

/* --- who is known -------------------------------------------------------------------------------- */

static void
test_known(void **state)
{
	struct recorder *r = start();
	const int64_t hour = 3600;

	(void)state;
	/* 21:14, and twice more on the same day */
	write_message(&r->log, 7, "192.0.2.7", "a@b", 1);
	r->log.s = hour;
	write_message(&r->log, 7, "192.0.2.7", "a@b", 1);
	/* a day later: at its end he is known, as he is from then on */
	r->log.s = 10 * hour;
	write_message(&r->log, 7, "192.0.2.7", "a@b", 1);
	r->log.s = 11 * hour;
	write_log(&r->log, "postfix/smtpd[7]", "connect from unknown[192.0.2.7]");
	write_log(&r->log, "postfix/smtpd[7]", "disconnect from unknown[192.0.2.7]");
	/* another is not */
	write_log(&r->log, "postfix/smtpd[7]", "connect from unknown[192.0.2.8]");
	assert_string_equal(finish(r),
	    "session 192.0.2.7 d\n"
	    "0 connect 192.0.2.7 d\n0 message 192.0.2.7 <a@b> to u1@example.test of 1 d\n"
	    "end 192.0.2.7\n"
	    "session 192.0.2.7 d\n"
	    "3600 connect 192.0.2.7 d\n3600 message 192.0.2.7 <a@b> to u1@example.test of 1 d\n"
	    "end 192.0.2.7\n"
	    "session 192.0.2.7 dk\n"
	    "36000 connect 192.0.2.7 dk\n"
	    "36000 message 192.0.2.7 <a@b> to u1@example.test of 1 dk\nend 192.0.2.7\n"
	    "session 192.0.2.7 k\n"
	    "39600 connect 192.0.2.7 k\nend 192.0.2.7\n"
	    "39600 connect 192.0.2.8 \nend 192.0.2.8\n");
}

/* A refused session hears of a delivery days later; one that was let in need not. */
static void
test_good_later(void **state)
{
	for (int refuse = 0; refuse < 2; refuse++) {
		struct recorder *r = start();

		(void)state;
		r->refuse = refuse;
		write_log(&r->log, SMTPD, "connect from " CLIENT);
		write_log(&r->log, SMTPD, "AAAAA: client=" CLIENT);
		write_log(&r->log, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=1 (queue active)");
		write_log(&r->log, LMTP, "AAAAA: to=<u1@x>, status=deferred (no)");
		write_log(&r->log, SMTPD, "disconnect from " CLIENT);
		r->log.s = 3 * 86400;
		write_log(&r->log, LMTP, "AAAAA: to=<u1@x>, status=sent (ok)");
		assert_string_equal(finish(r),
		    refuse ? "0 connect 192.0.2.7 \n0 message 192.0.2.7 <a@b> to u1@x of 1 \n"
			     "end 192.0.2.7\nsession 192.0.2.7 d\n"
			   : "0 connect 192.0.2.7 \n0 message 192.0.2.7 <a@b> to u1@x of 1 \n"
			     "end 192.0.2.7\n");
	}
}

/* --- the clock ----------------------------------------------------------------------------------- */

static void
at(struct recorder *r, int64_t s, const char *client)
{
	r->log.s = s;
	write_log(&r->log, SMTPD, "connect from unknown[%s]", client);
	write_log(&r->log, SMTPD, "disconnect from unknown[%s]", client);
}

static void
test_clock(void **state)
{
	struct recorder *r = start();
	struct traffic_figures f;

	(void)state;
	at(r, 1000, "192.0.2.1");
	at(r, 960, "192.0.2.2"); /* late: now */
	at(r, 1010, "192.0.2.3");
	at(r, 10, "192.0.2.4"); /* set back by 1000 s: time goes on from here */
	at(r, 20, "192.0.2.5");
	at(r, -500, "192.0.2.6"); /* and again */
	at(r, 500, "192.0.2.7");
	f = traffic_figures(r->traffic);
	assert_int_equal(f.set_back, 2);
	assert_int_equal(f.first_us, (NOVEMBER + 1000) * USEC_PER_SEC);
	assert_int_equal(f.last_us, (NOVEMBER + 500) * USEC_PER_SEC);
	assert_string_equal(finish(r),
	    "1000 connect 192.0.2.1 \nend 192.0.2.1\n1000 connect 192.0.2.2 \nend 192.0.2.2\n"
	    "1010 connect 192.0.2.3 \nend 192.0.2.3\n1010 connect 192.0.2.4 \nend 192.0.2.4\n"
	    "1020 connect 192.0.2.5 \nend 192.0.2.5\n1020 connect 192.0.2.6 \nend 192.0.2.6\n"
	    "2020 connect 192.0.2.7 \nend 192.0.2.7\n");
}

/* From one end of time to the other, again and again: the clock stands still before it overflows
 * (the sanitizer looks). */
static void
test_clock_to_the_end(void **state)
{
	struct recorder *r = start();
	const int64_t centuries = INT64_C(230) * 365 * 86400;

	(void)state;
	for (int i = 0; i < 4000; i++) {
		at(r, centuries, "192.0.2.1");
		at(r, -centuries / 5, "192.0.2.2");
		r->used = 0;
	}
	assert_true(traffic_figures(r->traffic).set_back > 100);
	(void)finish(r);
	assert_int_equal(r->connects, 8000);
	assert_int_equal(r->ends, 8000);
}

/* --- more than there is room for ------------------------------------------------------------------ */

/* Each is asked about, and each that began ends, however little time there was to look ahead. */
static void
test_too_many_sessions(void **state)
{
	const unsigned n = 2 * TRAFFIC_SESSIONS + 1000;
	struct recorder *r = start();
	struct traffic_figures f;

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		char tag[32];

		snprintf(tag, sizeof tag, "postfix/smtpd[%u]", i);
		write_log(&r->log, tag, "connect from unknown[10.%u.%u.%u]", i >> 16, i >> 8 & 255,
		    i & 255);
	}
	f = traffic_figures(r->traffic);
	assert_true(f.forgotten > 0);
	(void)finish(r);
	assert_int_equal(r->connects, n);
	assert_int_equal(r->ends, n);
}

static void
test_too_many_messages(void **state)
{
	const unsigned n = TRAFFIC_MESSAGES + 1000;
	struct recorder *r = start();

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		write_log(&r->log, SMTPD, "connect from " CLIENT);
		write_log(&r->log, SMTPD, "%06X: client=" CLIENT, i);
		write_log(&r->log, QMGR, "%06X: from=<a@b>, size=9, nrcpt=3 (queue active)", i);
		write_log(&r->log, LMTP, "%06X: to=<u1@x>, status=deferred (no)", i);
		write_log(&r->log, LMTP, "%06X: to=<u2@x>, status=deferred (no)", i);
		write_log(&r->log, LMTP, "%06X: to=<u3@x>, status=deferred (no)", i);
		write_log(&r->log, SMTPD, "disconnect from " CLIENT);
	}
	(void)finish(r);
	assert_int_equal(r->connects, n);
	assert_int_equal(r->messages, n);
	assert_int_equal(r->ends, n);
}

static void
test_figures(void **state)
{
	struct recorder *r = start();
	struct traffic_figures f;

	(void)state;
	write_message(&r->log, 7, "192.0.2.7", "a@b", 3);
	write_message(&r->log, 7, "192.0.2.8", "a@b", 1);
	write_log(&r->log, SMTPD, "connect from " CLIENT);
	write_log(&r->log, SMTPD,
	    "NOQUEUE: reject: RCPT from " CLIENT ": 550 x; from=<a@b> to=<u1@x> proto=x");
	write_log(&r->log, SMTPD, "AAAAA: client=" CLIENT ", sasl_username=ann");
	write_log(&r->log, QMGR, "AAAAA: from=<a@b>, size=9, nrcpt=2 (queue active)");
	write_log(&r->log, SMTPD, "disconnect from " CLIENT);
	traffic_finish(r->traffic);
	f = traffic_figures(r->traffic);
	assert_int_equal(f.sessions, 3);
	assert_int_equal(f.clients, 2);
	assert_int_equal(f.messages, 3);
	assert_int_equal(f.recipients, 6);
	assert_int_equal(f.nameless, 2);
	assert_int_equal(f.delivered, 2);
	assert_int_equal(f.authenticated, 1);
	assert_int_equal(f.rejected, 1);
	assert_false(f.ends_missing);
	traffic_free(&r->traffic);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_postfix),
	    cmocka_unit_test(test_sendmail),
	    cmocka_unit_test(test_known),
	    cmocka_unit_test(test_good_later),
	    cmocka_unit_test(test_clock),
	    cmocka_unit_test(test_clock_to_the_end),
	    cmocka_unit_test(test_too_many_sessions),
	    cmocka_unit_test(test_too_many_messages),
	    cmocka_unit_test(test_figures),
	};

	utc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
