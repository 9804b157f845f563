/*
 * test_session_mail.c - the messages of a session: what is counted once, what is asked again, and
 * what is kept of the client's words.
 */
#include "session_fixture.h"

/* A message is counted at its first recipient that gets in, once, and each message anew. */
static void
test_messages(void **state)
{
	struct scene c;

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
	assert_string_equal(c.s.queue_id, "");
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
	struct scene c;

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
	session_init(&c.s, "s2", plan_steps(&c.r));
	connect_from(&c, false);
	session_mail(&c.s, &c.r, "<a@example.org>", "ann", 0, &c.q);
	session_rcpt(&c.s, &c.r, "<c@x>", false, "", &c.q);
	assert_false(c.q.grey.asked); /* authenticated */
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
	struct scene c;

	(void)state;
	start(&c, NULL, NULL);
	c.r.greylist.enabled = true;
	negotiate(&c);
	connect_from(&c, false);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		session_mail(&c.s, &c.r, table[i].given, "", 0, &c.q);
		assert_string_equal(c.s.sender, table[i].kept);
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
	struct scene c;

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
	assert_int_equal(strlen(c.s.sender), MAILBOX_MAX);
	assert_int_equal(session_rcpt(&c.s, &c.r, text, false, text, &c.q), NEXT_ASK);
	assert_int_equal(strlen(c.s.queue_id), SESSION_QUEUE_MAX);
	assert_true(strlen(c.q.grey.key) < GREY_KEY_MAX);
	text[0] = '<';
	text[sizeof text - 2] = '>';
	session_mail(&c.s, &c.r, text, "", 0, &c.q);
	assert_int_equal(c.s.sender[0], 'x');
	assert_int_equal(strlen(c.s.sender), MAILBOX_MAX);
	/* exactly as long as there is room */
	memset(text, 'y', MAILBOX_MAX);
	text[MAILBOX_MAX] = '\0';
	session_mail(&c.s, &c.r, text, "", 0, &c.q);
	assert_string_equal(c.s.sender, text);
	assert_string_equal(c.s.user, "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_messages),
	    cmocka_unit_test(test_greylist_is_asked),
	    cmocka_unit_test(test_brackets),
	    cmocka_unit_test(test_over_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
