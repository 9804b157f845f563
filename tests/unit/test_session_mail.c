/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_session_mail.c - the messages of a session: what is counted once, what is asked again, and
 * what is kept of the client's words.
 */
#include "session_fixture.h"

/* A message is counted at its first recipient that gets in, once, and each message anew. */
static void
test_messages(void **state)
{
	struct scene c CLEAN = {0};

	(void)state;
	start(&c, "messages", "rate=5/1m");
	negotiate(&c);
	connect_from(&c, false);
	assert_int_equal(session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q), NEXT_CONTINUE);
	assert_int_equal(rcpt(&c, GREY_NONE, true), NEXT_REPLY); /* nothing was charged */
	assert_int_equal(rcpt(&c, GREY_NONE, false), NEXT_CONTINUE);
	assert_int_equal(session_rcpt(&c.s, &c.r, "<c@x>", false, "4F1", &c.q), NEXT_CONTINUE);
	assert_string_equal(c.s.queue_id, "4F1");
	assert_int_equal(session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q), NEXT_CONTINUE);
	assert_null(c.s.queue_id);
	assert_int_equal(session_rcpt(&c.s, &c.r, "<b@x>", false, "", &c.q), NEXT_ASK);
	assert_int_equal(
	    session_judge(&c.s, &c.r, STAGE_RCPT, "<b@x>", &c.q, NULL, &c.v), NEXT_CONTINUE);
	assert_int_equal(c.v.reason, REASON_NO_STORE);
}

/* Whether greylisting is asked for: the first recipient, the second, one of the next message. */
static void
test_greylist_is_asked(void **state)
{
	static const struct {
		const char *reply;
		enum grey_state grey;
		bool observe;
		enum next next;
		bool second, message;
	} table[] = {
	    {"421 4.7.1 x", GREY_NEW, false, NEXT_REPLY, true, true}, /* the session ends */
	    {"421 4.7.1 x", GREY_NEW, true, NEXT_CONTINUE, false, true},
	    {"421 4.7.1 x", GREY_PASSED, false, NEXT_CONTINUE, false, false},
	    {"421 4.7.1 x", GREY_KNOWN, false, NEXT_CONTINUE, false, false},
	    {"451 4.7.1 x", GREY_NEW, false, NEXT_REPLY, true, true},
	    {"451 4.7.1 x", GREY_EARLY, false, NEXT_REPLY, true, true},
	    {"451 4.7.1 x", GREY_NEW, true, NEXT_CONTINUE, true, true},
	    {"451 4.7.1 x", GREY_KNOWN, false, NEXT_CONTINUE, false, false},
	};
	char err[LIMIT_ERR_MAX];
	struct scene c CLEAN = {0};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		bool second, message;

		start(&c, "recipients", "rate=5/1m");
		c.r.greylist.enabled = true;
		c.r.observe = table[i].observe;
		assert_true(reply_parse(table[i].reply, &c.r.greylist.reply, err, sizeof err));
		negotiate(&c);
		connect_from(&c, false);
		session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q);
		if (rcpt(&c, table[i].grey, false) != table[i].next)
			fail_msg("row %zu: next", i);
		session_rcpt(&c.s, &c.r, "<c@x>", false, "", &c.q);
		second = c.q.grey.asked;
		session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q);
		session_rcpt(&c.s, &c.r, "<c@x>", false, "", &c.q);
		message = c.q.grey.asked;
		if (second != table[i].second || message != table[i].message)
			fail_msg("row %zu: second %d, message %d", i, second, message);
	}
	negotiate(&c);
	connect_from(&c, false);
	session_mail(&c.s, &c.r, "<a@example.org>", "ann", 0, &c.q);
	session_rcpt(&c.s, &c.r, "<c@x>", false, "", &c.q);
	assert_false(c.q.grey.asked); /* authenticated */
}

/* What is asked about bytes: the announced ones at the first recipient, those that came at the
 * end; nothing of one message is left to the next. */
static void
test_bytes(void **state)
{
	static const struct {
		int64_t announced, came[3]; /* -1: no more */
		int64_t asked, charged; /* 0: nothing is asked */
	} table[] = {
	    {0, {-1}, 0, 0},
	    {700, {-1}, 700, 0}, /* an empty message, whatever was said */
	    {700, {0, -1}, 700, 0},
	    {0, {40, 50, -1}, 0, 90},
	    {700, {40, 50, -1}, 700, 90},
	    {90, {40, 50, 900}, 90, 990},
	    {0, {-1}, 0, 0},
	};
	struct scene c CLEAN = {0};

	(void)state;
	start(&c, "bytes", "rate=1000/1h");
	negotiate(&c);
	assert_true(c.s.steps.bytes);
	connect_from(&c, false);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		enum next next;

		session_mail(&c.s, &c.r, "<a@example.org>", "", table[i].announced, &c.q);
		next = session_rcpt(&c.s, &c.r, "<b@x>", false, "", &c.q);
		assert_int_equal(next, table[i].asked > 0 ? NEXT_ASK : NEXT_CONTINUE);
		if (next == NEXT_ASK) {
			assert_int_equal(c.q.hits[0].cost, table[i].asked);
			assert_int_equal(c.q.hits[0].mode, HIT_PROBE);
			assert_int_equal(answer(&c, STAGE_RCPT, false), NEXT_CONTINUE);
			/* the second recipient is the same message */
			assert_int_equal(
			    session_rcpt(&c.s, &c.r, "<c@x>", false, "", &c.q), NEXT_CONTINUE);
		}
		for (int n = 0; n < 3 && table[i].came[n] >= 0; n++)
			session_data(&c.s, table[i].came[n]);
		next = session_eom(&c.s, &c.r, &c.q);
		if (next != (table[i].charged > 0 ? NEXT_ASK : NEXT_CONTINUE) ||
		    (next == NEXT_ASK && c.q.hits[0].cost != table[i].charged))
			fail_msg("row %zu", i);
		if (next == NEXT_ASK) {
			assert_int_equal(c.q.hits[0].mode, HIT_CHARGE);
			assert_int_equal(answer(&c, STAGE_EOM, true), NEXT_REPLY);
		}
	}
	/* one that was begun and never ended */
	session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q);
	session_data(&c.s, 500);
	session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q);
	session_data(&c.s, 7);
	assert_int_equal(session_eom(&c.s, &c.r, &c.q), NEXT_ASK);
	assert_int_equal(c.q.hits[0].cost, 7);
}

/* What the MTA refuses is noted and not answered; MAIL is asked about from then on, and only in
 * such a session. */
static void
test_rejected(void **state)
{
	struct scene c CLEAN = {0};

	(void)state;
	start(&c, "rejected-recipients", "rate=5/1h");
	negotiate(&c);
	assert_true(c.s.steps.rejected);
	connect_from(&c, false);
	for (int i = 0; i < 2; i++)
		assert_int_equal(
		    session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q), NEXT_CONTINUE);
	assert_int_equal(session_rcpt(&c.s, &c.r, "<b@x>", true, "", &c.q), NEXT_ASK);
	assert_int_equal(c.q.hits[0].mode, HIT_NOTE);
	assert_true(c.q.rejected);
	assert_int_equal(answer(&c, STAGE_RCPT, true), NEXT_CONTINUE);
	/* it was no first recipient of the message */
	assert_false(c.s.message_counted);
	assert_int_equal(session_rcpt(&c.s, &c.r, "<c@x>", false, "", &c.q), NEXT_ASK);
	assert_int_equal(c.q.hits[0].mode, HIT_PROBE);
	assert_false(c.q.rejected);
	assert_int_equal(answer(&c, STAGE_RCPT, false), NEXT_CONTINUE);
	assert_true(c.s.message_counted);
	/* the end of the message is the client's whose message it is */
	assert_int_equal(session_rcpt(&c.s, &c.r, "<b@x>", true, "", &c.q), NEXT_ASK);
	assert_int_equal(session_eom(&c.s, &c.r, &c.q), NEXT_CONTINUE);
	assert_int_equal(session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q), NEXT_ASK);
	assert_int_equal(c.q.hits[0].mode, HIT_PROBE);
	assert_int_equal(answer(&c, STAGE_MAIL, true), NEXT_REPLY);
	negotiate(&c);
	connect_from(&c, false);
	assert_int_equal(session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q), NEXT_CONTINUE);
}

/* --- what the client says ------------------------------------------------------------------ */

static void
test_brackets(void **state)
{
	static const struct {
		const char *given, *kept;
	} table[] = {
	    {"<a@example.org>", "a@example.org"},
	    {"a@example.org", "a@example.org"},
	    {"<>", ""},
	    {"", ""},
	    {"<", ""},
	    {">", ">"},
	    {"<a", "a"},
	    {"a>", "a>"},
	    {"<<a>>", "a"},
	};
	struct scene c CLEAN = {0};

	(void)state;
	start(&c, NULL, NULL);
	c.r.greylist.enabled = true;
	negotiate(&c);
	connect_from(&c, false);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		session_mail(&c.s, &c.r, table[i].given, "", 0, &c.q);
		assert_string_equal(session_text(c.s.sender), table[i].kept);
	}
	session_mail(&c.s, &c.r, "<>", "", 0, &c.q);
	session_rcpt(&c.s, &c.r, "<Postmaster@example.com>", false, "", &c.q);
	assert_false(c.q.grey.asked);
	session_rcpt(&c.s, &c.r, "<B@example.com>", false, "", &c.q);
	assert_string_equal(c.q.grey.key, "{192.0.2.0/24} <> b@example.com");
}

/* 10 kB of everything: cut, and nothing beside it is touched. */
static void
test_over_long(void **state)
{
	char text[10241];
	struct addr a = {.family = ADDR_V4, .b = {192, 0, 2, 7}};
	struct scene c CLEAN = {0};

	(void)state;
	memset(text, 'x', sizeof text - 1);
	text[sizeof text - 1] = '\0';
	start(&c, "messages", "rate=5/1m");
	c.r.greylist.enabled = true;
	session_init(&c.s, text, plan_steps(&c.r));
	assert_int_equal(strlen(c.s.id), SESSION_ID_MAX - 1);
	session_connect(&c.s, &c.r, &a, text, true, &c.q);
	assert_int_equal(strlen(c.s.name), SESSION_NAME_MAX);
	session_mail(&c.s, &c.r, text, "", 0, &c.q);
	assert_int_equal(strlen(session_text(c.s.sender)), MAILBOX_MAX);
	assert_int_equal(session_rcpt(&c.s, &c.r, text, false, text, &c.q), NEXT_ASK);
	assert_int_equal(strlen(c.s.queue_id), SESSION_QUEUE_MAX);
	assert_true(strlen(c.q.grey.key) < GREY_KEY_MAX);
	text[0] = '<';
	text[sizeof text - 2] = '>';
	session_mail(&c.s, &c.r, text, "", 0, &c.q);
	assert_int_equal(session_text(c.s.sender)[0], 'x');
	assert_int_equal(strlen(session_text(c.s.sender)), MAILBOX_MAX);
	/* exactly as long as there is room */
	memset(text, 'y', MAILBOX_MAX);
	text[MAILBOX_MAX] = '\0';
	session_mail(&c.s, &c.r, text, "", 0, &c.q);
	assert_string_equal(session_text(c.s.sender), text);
	assert_null(c.s.user);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_messages),
	    cmocka_unit_test(test_greylist_is_asked),
	    cmocka_unit_test(test_bytes),
	    cmocka_unit_test(test_rejected),
	    cmocka_unit_test(test_brackets),
	    cmocka_unit_test(test_over_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
