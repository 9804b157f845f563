/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_session.c - the beginning of a session: what is decided at connect, when it is told, and
 * whether the MTA has to go on asking.
 */
#include "session_fixture.h"

/* When a refusal or a deferral that was decided at connect is told. */
static void
test_pending(void **state)
{
	static const struct {
		const char *words;
		bool at_helo, over;
		enum next connect, helo, mail;
	} table[] = {
	    {"rate=5/1m", false, true, NEXT_REPLY, NEXT_CONTINUE, NEXT_CONTINUE},
	    {"rate=5/1m", false, false, NEXT_DONE, NEXT_CONTINUE, NEXT_CONTINUE},
	    {"rate=5/1m", true, true, NEXT_CONTINUE, NEXT_REPLY, NEXT_REPLY},
	    {"rate=5/1m", true, false, NEXT_DONE, NEXT_CONTINUE, NEXT_CONTINUE},
	    {"rate=5/1m action=defer", false, true, NEXT_CONTINUE, NEXT_CONTINUE, NEXT_REPLY},
	    {"rate=5/1m action=defer", true, true, NEXT_CONTINUE, NEXT_CONTINUE, NEXT_REPLY},
	    {"rate=5/1m action=log", true, true, NEXT_DONE, NEXT_CONTINUE, NEXT_CONTINUE},
	};
	struct scene c CLEAN = {0};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		enum next connect, helo, mail, again;

		start(&c, "connections", table[i].words);
		c.r.refuse_at_helo = table[i].at_helo;
		negotiate(&c);
		connect = connect_from(&c, table[i].over);
		helo = session_helo(&c.s, "");
		mail = session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q);
		again = session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q);
		if (connect != table[i].connect || helo != table[i].helo || mail != table[i].mail ||
		    again != mail)
			fail_msg("row %zu: %d %d %d", i, (int)connect, (int)helo, (int)mail);
		if (mail == NEXT_REPLY)
			assert_string_equal(c.s.reply->text, c.r.limits[0].reply.text);
	}
}

/* A limit that is younger than the session: what the MTA was not asked for cannot be told. */
static void
test_not_told_without_the_step(void **state)
{
	struct scene c CLEAN = {0};

	(void)state;
	start(&c, NULL, NULL);
	negotiate(&c);
	start(&c, "connections", "rate=5/1m action=defer");
	assert_int_equal(connect_from(&c, true), NEXT_CONTINUE);
	assert_false(c.s.pending);
	/* but a refusal can, in the MTA's words */
	start(&c, NULL, NULL);
	negotiate(&c);
	start(&c, "connections", "rate=5/1m");
	c.r.refuse_at_helo = true;
	assert_int_equal(connect_from(&c, true), NEXT_REPLY);
	assert_false(c.s.pending);
}

static void
test_done(void **state)
{
	static const struct {
		const char *name, *words;
		bool greylist, observe, over;
		enum next want;
	} table[] = {
	    {"connections", "rate=5/1m", false, false, false, NEXT_DONE},
	    {"connections", "rate=5/1m", true, false, false, NEXT_CONTINUE},
	    {"connections", "rate=5/1m", false, true, true, NEXT_DONE},
	    {"connections", "rate=5/1m", true, true, true, NEXT_CONTINUE},
	    {"sessions", "max=5", false, false, false, NEXT_CONTINUE}, /* its end matters */
	    {"messages", "rate=5/1m", false, false, false, NEXT_CONTINUE},
	    {NULL, NULL, false, false, false, NEXT_DONE},
	};
	struct scene c CLEAN = {0};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		start(&c, table[i].name, table[i].words);
		c.r.greylist.enabled = table[i].greylist;
		c.r.observe = table[i].observe;
		negotiate(&c);
		if (connect_from(&c, table[i].over) != table[i].want)
			fail_msg("row %zu", i);
	}
	start(&c, "messages", "rate=5/1m");
	negotiate(&c);
	assert_int_equal(
	    session_connect(&c.s, &c.r, &(struct addr){.family = ADDR_NONE}, "", false, &c.q),
	    NEXT_CONTINUE);
	assert_int_equal(session_judge(&c.s, &c.r, STAGE_CONNECT, "", NULL, NULL, &c.v), NEXT_DONE);
	assert_int_equal(c.v.reason, REASON_EXEMPT);
}

static void
test_lease_is_kept(void **state)
{
	struct scene c CLEAN = {0};

	(void)state;
	start(&c, "sessions", "max=5");
	negotiate(&c);
	c.a.lease = 77;
	connect_from(&c, false);
	assert_int_equal(c.s.lease, 77);
	c.a.lease = 0;
	answer(&c, STAGE_RCPT, false);
	assert_int_equal(c.s.lease, 77);
}

/* The limits change between plan and answer. */
static void
test_stale_plan(void **state)
{
	struct scene c CLEAN = {0};

	(void)state;
	start(&c, "connections", "rate=5/1m");
	negotiate(&c);
	assert_int_equal(connect_from(&c, false), NEXT_DONE);
	session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q);
	start(&c, "recipients", "rate=5/1m");
	assert_true(addr_parse("192.0.2.7", &c.s.client));
	assert_true(session_plan(&c.s, &c.r, STAGE_RCPT, "<b@x>", &c.q));
	assert_string_equal(c.q.hits[0].limit->name, "recipients");
	c.r.limits[0].enabled = false;
	assert_false(session_plan(&c.s, &c.r, STAGE_RCPT, "<b@x>", &c.q));
	assert_int_equal(
	    session_judge(&c.s, &c.r, STAGE_RCPT, "<b@x>", NULL, NULL, &c.v), NEXT_CONTINUE);
	assert_int_equal(c.v.reason, REASON_OK);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_pending),
	    cmocka_unit_test(test_not_told_without_the_step),
	    cmocka_unit_test(test_done),
	    cmocka_unit_test(test_lease_is_kept),
	    cmocka_unit_test(test_stale_plan),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
