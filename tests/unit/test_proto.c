/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_proto.c - the milter protocol byte by byte: what may come in which order, what it carries,
 * what is answered, and what ends the connection.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "macros.h"
#include "wants.h"

#define COUNT(a) (sizeof(a) / sizeof(a)[0])

/* A packet as an MTA sends it; freed by the caller, so that one byte too far is seen. */
static char *
packet(char command, const void *data, size_t len, struct proto_packet *k)
{
	uint32_t size = htonl((uint32_t)len + 1);
	char *bytes = malloc(len + PROTO_HEAD);

	memcpy(bytes, &size, sizeof size);
	bytes[4] = command;
	if (len > 0)
		memcpy(bytes + PROTO_HEAD, data, len);
	assert_int_equal(proto_packet(bytes, len + PROTO_HEAD, k), PROTO_WHOLE);
	assert_int_equal(k->whole, len + PROTO_HEAD);
	assert_int_equal(k->len, len);
	return bytes;
}

static enum proto_event
take(struct proto *p, char command, const void *data, size_t len)
{
	struct proto_args a;
	struct proto_packet k;
	char *bytes = packet(command, data, len, &k);
	enum proto_event e = proto_take(p, &k, &a);

	free(bytes);
	return e;
}

static size_t
negotiate(struct proto *p, uint32_t version, uint32_t actions, uint32_t steps,
    const struct proto_wants *wants, char out[PROTO_ANSWER_MAX])
{
	const uint32_t offer[] = {htonl(version), htonl(actions), htonl(steps)};
	struct proto_packet k;
	char *bytes = packet('O', offer, sizeof offer, &k);
	struct proto_args a;
	size_t len;

	proto_init(p);
	assert_int_equal(proto_take(p, &k, &a), PROTO_NEGOTIATE);
	len = proto_negotiate(p, &a, wants, out);
	free(bytes);
	return len;
}

/* --- packets --------------------------------------------------------------------------------- */

static void
test_lengths(void **state)
{
	static const struct {
		const char *bytes;
		size_t len;
		enum proto_got got;
		size_t whole;
	} table[] = {
	    {"", 0, PROTO_PART, 0},
	    {"\0\0\0\1", 4, PROTO_PART, 0},
	    {"\0\0\0\1Q", 5, PROTO_WHOLE, 5},
	    {"\0\0\0\1QX", 6, PROTO_WHOLE, 5},
	    {"\0\0\0\2H", 5, PROTO_PART, 6},
	    {"\0\0\0\0Q", 5, PROTO_BAD, 0},
	    {"\0\1\0\0B", 5, PROTO_PART, 65540},
	    {"\0\1\0\1B", 5, PROTO_BAD, 0},
	    {"\x80\0\0\0B", 5, PROTO_BAD, 0},
	    {"\xff\xff\xff\xff"
	     "B",
		5, PROTO_BAD, 0},
	    {"GET / HTTP/1.0", 14, PROTO_BAD, 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct proto_packet k;

		if (proto_packet(table[i].bytes, table[i].len, &k) != table[i].got ||
		    (table[i].got != PROTO_BAD && k.whole != table[i].whole))
			fail_msg("row %zu", i);
	}
}

/* --- order ------------------------------------------------------------------------------------ */

static char
letter(enum proto_event e)
{
	return "-!ODCHMRTLNBEUKQ"[e];
}

/* Commands and what becomes of them: themselves, "-" passed over, "!" the end. As libmilter. */
static void
test_order(void **state)
{
	static const struct {
		uint32_t steps;
		const char *commands, *events;
	} table[] = {
	    {0, "CHMRTLNBEQ", "CHMRTLNBEQ"},
	    {0, "CHMRRRTLLLNBBBEMRTNEQ", "CHMRRRTLLLNBBBEMRTNEQ"},
	    {0x3f3, "CMREMREQ", "CMREMREQ"},
	    {0x37f, "CEQ", "CEQ"},
	    {0, "RMRTQ", "-MRTQ"},
	    {0, "CRMRQ", "C-MRQ"},
	    {0, "CCM", "C-M"},
	    {0, "CHHUHMR", "CHHUHMR"},
	    {0, "CMRAMRAAMQ", "CMR-MR--MQ"},
	    {0, "CMATLNBE", "CM------"},
	    {0, "CMRTAMR", "CMRT-MR"},
	    {0, "CHQ", "CHQ"},
	    {0, "KCK", "KCK"},
	    {0, "CMKCHMRKKCM", "CMKCHMRKKCM"},
	    {0, "OCO", "---"},
	    {0, "CM?", "CM!"},
	    {0, "C\1", "C!"},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		const struct proto_wants wants = {.steps = table[i].steps};
		char out[PROTO_ANSWER_MAX], got[32] = "";
		struct proto p;
		size_t n = 0;

		assert_true(negotiate(&p, 6, 0x1ff, 0x1fffff, &wants, out) > 0);
		for (const char *c = table[i].commands; *c != '\0'; c++) {
			static const char client[] = "mx\0004\0\031192.0.2.7";
			const char *data = *c == 'C' ? client : *c == 'L' ? "a\0b" : "twelve bytes";
			size_t len = *c == 'C'		  ? sizeof client
			    : *c == 'L'			  ? 4
			    : strchr("TNAKQ", *c) != NULL ? 0
							  : 13;
			enum proto_event e = take(&p, *c, data, len);

			/* an abort needs no answer, wherever it comes */
			got[n++] = *c == 'A' && e == PROTO_NOTHING ? '-' : letter(e);
		}
		if (strcmp(got, table[i].events) != 0)
			fail_msg("%s: %s, not %s", table[i].commands, got, table[i].events);
	}
}

/* Before negotiation there is a message, but no client. */
static void
test_without_negotiation(void **state)
{
	struct proto p;

	(void)state;
	proto_init(&p);
	assert_int_equal(take(&p, 'C', "x\0U", 3), PROTO_NOTHING);
	assert_int_equal(take(&p, 'M', "<>", 3), PROTO_MAIL);
	assert_int_equal(take(&p, 'K', NULL, 0), PROTO_NOTHING);
	assert_false(p.agreed);
	assert_int_equal(take(&p, 'O', "123456789012", 12), PROTO_NOTHING);
}

/* --- arguments ---------------------------------------------------------------------------------- */

static void
test_connect(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		const char *client; /* NULL: an error, "": none */
	} table[] = {
#define DATA(s) s, sizeof(s) - 1
	    {DATA("mx\0004\0\031192.0.2.7\0"), "192.0.2.7"},
	    {DATA("\0004\0\031192.0.2.7\0"), "192.0.2.7"},
	    {DATA("mx\0006\0\031IPv6:2001:db8::1\0"), "2001:db8::1"},
	    {DATA("mx\0006\0\031"
		  "2001:db8::1\0"),
		"2001:db8::1"},
	    {DATA("mx\0006\0\031::ffff:192.0.2.7\0"), "192.0.2.7"},
	    {DATA("mx\0U"), ""},
	    {DATA("mx\0L\0\0/run/x\0"), ""},
	    {DATA("mx\0Z\0\0/run/x\0"), NULL},
	    {DATA("mx\0004\0\031192.0.2.7"), NULL},
	    {DATA("mx\0004\0\031unknown\0"), NULL},
	    {DATA("mx\0004\0\31\0"), NULL},
	    {DATA("mx\0004\0\31"), NULL},
	    {DATA("mx\0004"), NULL},
	    {DATA("mx\0"), NULL},
	    {DATA("mx"), NULL},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		const struct proto_wants wants = {0};
		char out[PROTO_ANSWER_MAX], text[NET_TEXT_MAX] = "";
		struct proto_packet k;
		struct proto_args a;
		struct proto p;
		enum proto_event e;
		char *bytes;

		assert_true(negotiate(&p, 6, 0x1ff, 0x1fffff, &wants, out) > 0);
		bytes = packet('C', table[i].data, table[i].len, &k);
		e = proto_take(&p, &k, &a);
		if (e != (table[i].client != NULL ? PROTO_CONNECT : PROTO_ERROR))
			fail_msg("row %zu: %d", i, (int)e);
		if (e == PROTO_CONNECT) {
			assert_string_equal(a.text, table[i].data);
			if (a.client.family != ADDR_NONE)
				addr_format(&a.client, text);
			assert_string_equal(text, table[i].client);
		}
		free(bytes);
	}
}

static void
test_texts(void **state)
{
	static const struct {
		char command;
		const char *data;
		size_t len;
		const char *texts; /* with commas, NULL: an error */
		size_t bytes;
	} table[] = {
	    {'M', DATA("<a@b>\0SIZE=7\0BODY=8BITMIME\0"), "<a@b>,SIZE=7,BODY=8BITMIME", 0},
	    {'M', DATA("<>\0\0x\0rest without end"), "<>,,x", 0},
	    {'M', DATA("<a@b>"), NULL, 0},
	    {'R', DATA("\0"), "", 0},
	    {'H', DATA("mx\0"), "mx", 0},
	    {'H', DATA("mx"), NULL, 0},
	    {'L', DATA("Subject\0 test\0"), NULL, 16},
	    {'L', DATA("a\0\0"), NULL, 5},
	    {'L', DATA("\0a\0"), NULL, 0},
	    {'L', DATA("a\0"), NULL, 0},
	    {'L', DATA("a\0b"), NULL, 0},
	    {'L', DATA("\0"), NULL, 0},
	    {'N', DATA(""), NULL, 2},
	    {'B', DATA("twelve bytes"), NULL, 12},
	    {'E', DATA("twelve bytes"), NULL, 12},
	    {'E', DATA(""), NULL, 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct proto p = {.agreed = true};
		struct proto_packet k;
		struct proto_args a = {.bytes = 0};
		char *bytes = packet(table[i].command, table[i].data, table[i].len, &k);
		char got[128] = "";
		enum proto_event e;
		bool body = strchr("LNBE", table[i].command) != NULL;

		/* as near as it gets without a session */
		p.skipped = UINT16_MAX;
		e = proto_take(&p, &k, &a);
		if (body) {
			if (a.bytes != table[i].bytes ||
			    (table[i].bytes == 0 && table[i].command == 'L') != (e == PROTO_ERROR))
				fail_msg("row %zu: %zu bytes, event %d", i, a.bytes, (int)e);
		} else if (table[i].texts == NULL)
			assert_int_equal(e, PROTO_ERROR);
		else {
			const char *text;

			strcpy(got, a.text);
			while (table[i].command != 'H' &&
			    (text = proto_text(&a.params, a.end)) != NULL)
				strcat(strcat(got, ","), text);
			assert_string_equal(got, table[i].texts);
		}
		free(bytes);
	}
}

/* --- answers ------------------------------------------------------------------------------------ */

/* What is offered, what we want, and what is agreed. */
static void
test_negotiation(void **state)
{
	static const struct {
		uint32_t version, actions, steps, wanted;
		uint32_t say_version, say_actions, say_steps; /* 0: no agreement */
		uint32_t steps_here;
	} table[] = {
	    {6, 0x1ff, 0x1fffff, 0x37f, 6, 0x100, 0x37f, 0x37f},
	    {7, 0xffff, 0x7fffffff, 0x37f, 6, 0x100, 0x37f, 0x37f},
	    {2, 0x3f, 0x7f, 0x372, 2, 0, 0x72, 0x72},
	    {2, 0, 0, 0x372, 2, 0, 0x32, 0x32},
	    /* what we do not answer, but the MTA waits for: known here only */
	    {6, 0x1ff, 0x3ff, 0xc0380, 6, 0x100, 0x380, 0xc0380},
	    {1, 0x3f, 0x7f, 0x372, 0, 0, 0, 0},
	    {0, 0, 0, 0, 0, 0, 0, 0},
	    {UINT32_MAX, 0x3f, 0x7f, 0x372, 0, 0, 0, 0},
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		const struct proto_wants wants = {
		    .steps = table[i].wanted, .macros = {"{x}", NULL, NULL, "i {y}"}};
		char out[PROTO_ANSWER_MAX],
		    want[] = "\0\0\0\47O____________"
			     "\0\0\0\0{x}\0"
			     "\0\0\0\3i {y}";
		const uint32_t say[] = {htonl(table[i].say_version), htonl(table[i].say_actions),
		    htonl(table[i].say_steps)};
		struct proto p;
		size_t len =
		    negotiate(&p, table[i].version, table[i].actions, table[i].steps, &wants, out);

		if (table[i].say_version == 0) {
			assert_int_equal(len, 0);
			continue;
		}
		memcpy(want + 5, say, sizeof say);
		want[3] = (char)(sizeof want - 4);
		assert_int_equal(len, sizeof want);
		assert_memory_equal(out, want, len);
		assert_int_equal(p.steps, table[i].steps_here);
	}
}

static void
test_answers(void **state)
{
	static const struct reply refusal = {"421", "4.7.0", "Too many"};
	const struct proto_wants wants = {.steps = PROTO_NR_BODY | PROTO_NR_HEADERS};
	char out[PROTO_ANSWER_MAX];
	struct proto p;

	(void)state;
	assert_true(negotiate(&p, 6, 0x1ff, 0x1fffff, &wants, out) > 0);
	assert_int_equal(take(&p, 'C', "x\0U", 3), PROTO_CONNECT);
	assert_int_equal(proto_continue(&p, out), 5);
	assert_memory_equal(out, "\0\0\0\1c", 5);
	assert_int_equal(take(&p, 'M', "<>", 3), PROTO_MAIL);
	assert_int_equal(take(&p, 'R', "<>", 3), PROTO_RCPT);
	assert_int_equal(proto_refuse(&p, &refusal, out), 24);
	assert_memory_equal(out, "\0\0\0\24y421 4.7.0 Too many", 24);
	/* a recipient refused leaves the message, anything else ends it */
	assert_int_equal(take(&p, 'R', "<>", 3), PROTO_RCPT);
	assert_int_equal(take(&p, 'L', "a\0b", 4), PROTO_HEADER);
	assert_int_equal(proto_continue(&p, out), 0);
	assert_int_equal(take(&p, 'E', "", 0), PROTO_NOTHING);
	assert_int_equal(take(&p, 'M', "<>", 3), PROTO_MAIL);
	assert_int_equal(proto_refuse(&p, &refusal, out), 24);
	assert_int_equal(take(&p, 'R', "<>", 3), PROTO_NOTHING);
	assert_int_equal(take(&p, 'M', "<>", 3), PROTO_MAIL);
	assert_int_equal(proto_accept(&p, out), 5);
	assert_memory_equal(out, "\0\0\0\1a", 5);
	assert_int_equal(take(&p, 'R', "<>", 3), PROTO_NOTHING);
	/* an MTA that knows no silence gets its answer */
	assert_true(negotiate(&p, 2, 0x1ff, 0x7f, &wants, out) > 0);
	p.skipped = UINT16_MAX;
	assert_int_equal(take(&p, 'B', "x", 1), PROTO_BODY);
	assert_int_equal(proto_continue(&p, out), 5);
	assert_int_equal(proto_refuse(&p, &refusal, out), 5);
	assert_memory_equal(out, "\0\0\0\1c", 5);
}

/* The largest reply that the configuration takes. */
static void
test_longest_reply(void **state)
{
	struct reply r = {"451", "", ""};
	char out[PROTO_ANSWER_MAX];
	struct proto p = {.agreed = true};

	(void)state;
	memset(r.xcode, '7', sizeof r.xcode - 1);
	memset(r.text, 'x', sizeof r.text - 1);
	assert_int_equal(
	    proto_refuse(&p, &r, out), PROTO_HEAD + 4 + sizeof r.xcode + sizeof r.text);
}

/* --- macros ------------------------------------------------------------------------------------ */

static void
put(struct macros *m, enum proto_stage stage, const char *list, size_t len)
{
	char *exact = malloc(len + 1); /* not one byte behind it, but for len 0 */

	memcpy(exact, list, len);
	macros_put(m, stage, exact, exact + len);
	free(exact);
}
#define PUT(m, stage, list) put(m, stage, list, sizeof(list) - 1)

static void
test_macros(void **state)
{
	struct macros m = {0};

	(void)state;
	assert_string_equal(macros_get(&m, MACRO_QUEUE_ID), "");
	PUT(&m, PROTO_AT_CONNECT, "j\0mx\0{client_resolve}\0OK\0{daemon_name}\0smtp\0{x}\0y\0");
	assert_string_equal(macros_get(&m, MACRO_CLIENT_RESOLVE), "OK");
	assert_string_equal(macros_get(&m, MACRO_DAEMON_NAME), "smtp");
	assert_string_equal(macros_get(&m, MACRO_DAEMON_PORT), "");
	/* a list takes the place of the one before it */
	PUT(&m, PROTO_AT_CONNECT, "{daemon_port}\00025\0");
	assert_string_equal(macros_get(&m, MACRO_CLIENT_RESOLVE), "");
	assert_string_equal(macros_get(&m, MACRO_DAEMON_PORT), "25");
	/* but not one that is none */
	PUT(&m, PROTO_AT_CONNECT, "{daemon_port}");
	PUT(&m, PROTO_AT_CONNECT, "");
	assert_string_equal(macros_get(&m, MACRO_DAEMON_PORT), "25");
	/* the later stage counts, until another message begins */
	PUT(&m, PROTO_AT_MAIL, "i\0AA\0{auth_authen}\0ann\0");
	macros_reach(&m, PROTO_AT_MAIL);
	PUT(&m, PROTO_AT_RCPT, "{i}\0BB\0i\0CC\0{rcpt_mailer}\0error\0{rcpt_host}\0005.1.1\0");
	macros_reach(&m, PROTO_AT_RCPT);
	assert_string_equal(macros_get(&m, MACRO_QUEUE_ID), "BB");
	assert_true(wants_rejected(macros_get(&m, MACRO_RCPT_MAILER)));
	macros_reach(&m, PROTO_AT_MAIL);
	assert_string_equal(macros_get(&m, MACRO_QUEUE_ID), "AA");
	assert_string_equal(macros_get(&m, MACRO_AUTH_AUTHEN), "ann");
	assert_string_equal(macros_get(&m, MACRO_RCPT_MAILER), "");
	/* at stages where it means nothing, and with a name that has no value */
	PUT(&m, PROTO_AT_DATA, "i\0DD\0");
	PUT(&m, PROTO_STAGES, "i\0DD\0");
	PUT(&m, PROTO_AT_RCPT, "{rcpt_host}\0004.1.1\0i\0");
	assert_string_equal(macros_get(&m, MACRO_QUEUE_ID), "AA");
	assert_string_equal(macros_get(&m, MACRO_RCPT_HOST), "4.1.1");
	macros_reach(&m, PROTO_AT_CONNECT);
	assert_string_equal(macros_get(&m, MACRO_QUEUE_ID), "");
	macros_clear(&m);
	assert_null(m.kept);
}

/* What nobody asked for, and what is too long, is not kept. */
static void
test_macros_are_bounded(void **state)
{
	struct macros m = {0};
	static char list[60000];
	size_t len = 0;

	(void)state;
	for (unsigned i = 0; i < 2000; i++)
		len += (size_t)sprintf(list + len, "{m%u}%cvalue", i, 0) + 1;
	put(&m, PROTO_AT_RCPT, list, len);
	assert_null(m.kept);
	memset(list, 'x', sizeof list);
	memcpy(list, "i", 2);
	list[sizeof list - 1] = '\0';
	for (int i = 0; i < 100; i++) {
		put(&m, PROTO_AT_RCPT, list, sizeof list);
		put(&m, PROTO_AT_MAIL, list, sizeof list);
	}
	assert_int_equal(strlen(macros_get(&m, MACRO_QUEUE_ID)), 65);
	assert_int_equal(m.len, 2 * 67);
	macros_clear(&m);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_order),
	    cmocka_unit_test(test_without_negotiation),
	    cmocka_unit_test(test_connect),
	    cmocka_unit_test(test_texts),
	    cmocka_unit_test(test_negotiation),
	    cmocka_unit_test(test_answers),
	    cmocka_unit_test(test_longest_reply),
	    cmocka_unit_test(test_macros),
	    cmocka_unit_test(test_macros_are_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
