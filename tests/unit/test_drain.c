/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_drain.c - maintenance: whom an entry of Redis is about and until when, who is refused, and
 * that a session in progress knows nothing of it.
 */
#include "overlay_fixture.h"
#include "session_fixture.h"

#define NODE "mx1.example.test.1f3a9c00"

static void
test_names(void **state)
{
	static const struct {
		const char *name, *node;
		bool concerns;
	} table[] = {
	    {"all", NODE, true}, {"all", "", true}, {NODE, NODE, true},
	    {"mx1.example.test", NODE, true},
	    {"mx1.example.test", "mx1.example.test.00000000", true}, {"mx1.example", NODE, false},
	    {"mx1", NODE, false}, {"mx1.example.test.", NODE, false},
	    {"mx2.example.test", NODE, false}, {"mx1.example.test.1f3a9c01", NODE, false},
	    {"MX1.example.test", NODE, false}, {"mx1", "mx1.1f3a9c00", true},
	    {"mx1", "mx1-1f3a9c00", false}, {"mx1", "mx1.1f3a9c000", false},
	    {"", ".1f3a9c00", false}, {"mx1", "", false}, /* weirctl is no node */
	};

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		if (drain_concerns(table[i].name, table[i].node) != table[i].concerns)
			fail_msg("%s of %s", table[i].name, table[i].node);
}

/* What may stand in the hash; both in force and in weirctl's check before writing. */
static void
test_entries(void **state)
{
	static const struct {
		const char *name, *words, *says; /* NULL: it is good */
		int64_t until_s; /* of NODE; -1 = for good, 0 = not drained */
	} table[] = {
	    {"all", "action=drain", NULL, -1},
	    {"mx1.example.test", "action=drain", NULL, -1},
	    {NODE, "action=drain until=1800000050 by=ann reason=\"new disk\"", NULL, 1800000050},
	    {"mx1.example.test", "action=drain until=1800000000", NULL, 0}, /* over */
	    {"mx2.example.test", "action=drain", NULL, 0},
	    {"all", "action=block", "must be action=drain", 0},
	    {"all", "action=drain action=drain", "must be action=drain", 0},
	    {"all", "", "must be action=drain", 0},
	    {"all", "action=drain burst=5", "must be action=drain", 0},
	    {"mx 1", "action=drain", "not the name of a node", 0},
	    {"", "action=drain", "not the name of a node", 0},
	    {"mx1\n", "action=drain", "not the name of a node", 0},
	    {"a123456789b123456789c123456789d123456789e123456789f123456789g1234", "action=drain",
		"not the name of a node", 0},
	};
	struct ruleset base = defaults(), out;
	char err[LIMIT_ERR_MAX];

	(void)state;
	strcpy(base.node, NODE);
	for (size_t i = 0; i < COUNT(table); i++) {
		struct overlay_entry e = {table[i].name, table[i].words};
		struct overlay o = {.generation = "7"};
		struct reports said = {0};
		int64_t until = table[i].until_s < 0 ? INT64_MAX : table[i].until_s * USEC_PER_SEC;

		lay(&o, SECTION_DRAIN, &e, 1);
		assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
		assert_int_equal(said.n, table[i].says != NULL);
		if (table[i].says != NULL && strstr(said.text, table[i].says) == NULL)
			fail_msg("row %zu: %s", i, said.text);
		if (out.drain_until_us != until)
			fail_msg("row %zu: until %lld", i, (long long)out.drain_until_us);
		if (table[i].until_s > 0) {
			assert_true(out.valid_until_us == until);
			ruleset_deinit(&out);
			/* then it is over by itself */
			assert_true(ruleset_overlay(&base, &o, until, &out, report, &said));
			assert_true(out.drain_until_us == 0);
		}
		ruleset_deinit(&out);
		if (strchr(table[i].words, '=') == strrchr(table[i].words, '=') &&
		    ruleset_check_entry(&base, SECTION_DRAIN, table[i].name, table[i].words, err,
			sizeof err) != (table[i].says == NULL))
			fail_msg("row %zu: %s", i, err);
	}
}

/* Of several the longest counts, and an older drain does not stick. */
static void
test_several(void **state)
{
	static const struct overlay_entry entries[] = {
	    {"all", "action=drain until=1800000020"},
	    {"mx1.example.test", "action=drain until=1800000090"},
	    {"mx2.example.test", "action=drain"},
	};
	struct ruleset base = defaults(), out;
	struct overlay o = {.generation = "7"};
	struct reports said = {0};

	(void)state;
	strcpy(base.node, NODE);
	lay(&o, SECTION_DRAIN, entries, COUNT(entries));
	assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
	assert_true(out.drain_until_us == 1800000090 * USEC_PER_SEC);
	assert_true(out.valid_until_us == 1800000020 * USEC_PER_SEC);
	ruleset_deinit(&out);
	o = (struct overlay){.generation = "8"};
	base.drain_until_us = INT64_MAX;
	assert_true(ruleset_overlay(&base, &o, NOW, &out, report, &said));
	assert_true(out.drain_until_us == 0);
	ruleset_deinit(&out);
	assert_int_equal(said.n, 0);
}

/* By Redis' word or by the host's: a new session is refused and nothing is asked; later stages
 * go on as ever. */
static void
test_who_is_refused(void **state)
{
	static const char *const networks[] = {"198.51.100.0/24"};
	static const struct {
		bool redis, host;
		enum stage stage;
		const char *client;
		bool observe;
		enum action action;
		enum reason reason;
		bool asked;
	} table[] = {
	    {false, false, STAGE_CONNECT, "192.0.2.7", false, DO_ACCEPT, REASON_OK, true},
	    {true, false, STAGE_CONNECT, "192.0.2.7", false, DO_REFUSE, REASON_DRAIN, false},
	    {false, true, STAGE_CONNECT, "192.0.2.7", false, DO_REFUSE, REASON_DRAIN, false},
	    {true, true, STAGE_CONNECT, "2001:db8::1", true, DO_REFUSE, REASON_DRAIN, false},
	    {true, true, STAGE_CONNECT, "198.51.100.7", false, DO_ACCEPT, REASON_EXEMPT, false},
	    {true, true, STAGE_MAIL, "192.0.2.7", false, DO_ACCEPT, REASON_OK, false},
	    {true, true, STAGE_RCPT, "192.0.2.7", false, DO_ACCEPT, REASON_OK, true},
	};
	struct ruleset r = defaults();
	struct netset *exempt = netset_new();
	struct request q;
	struct answer a;
	struct net n;

	(void)state;
	assert_true(net_parse(networks[0], &n) && netset_add(exempt, &n));
	netset_seal(exempt);
	r.exempt = exempt;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct facts f = {.stage = table[i].stage,
		    .drain = table[i].host,
		    .name = "",
		    .user = "",
		    .helo = "",
		    .sender = "a@example.org",
		    .recipient = "b@example.com"};
		struct verdict v;
		bool asked;

		assert_true(addr_parse(table[i].client, &f.client));
		r.drain_until_us = table[i].redis ? INT64_MAX : 0;
		r.observe = table[i].observe;
		memset(&a, 0, sizeof a);
		asked = plan_request(&r, &f, &q);
		v = judge(&r, &f, asked ? &q : NULL, asked ? &a : NULL);
		if (asked != table[i].asked || v.action != table[i].action ||
		    v.reason != table[i].reason)
			fail_msg("row %zu: %s %s", i, action_name(v.action), reason_name(v.reason));
		assert_int_equal(v.enforced, !table[i].observe);
		if (v.reason == REASON_DRAIN) {
			assert_string_equal(v.reply->code, "421");
			assert_string_equal(v.reply->xcode, "4.3.2");
		}
	}
	netset_free(&exempt);
}

/* Told at connect even where refusals wait for HELO, and where nobody asked for HELO or MAIL. */
static void
test_session(void **state)
{
	struct scene c CLEAN = {0};

	(void)state;
	for (int helo = 0; helo < 2; helo++)
		for (int limits = 0; limits < 2; limits++) {
			start(&c, limits ? "connections" : NULL, "rate=5/1m");
			c.r.refuse_at_helo = helo;
			c.r.drain_until_us = INT64_MAX;
			negotiate(&c);
			assert_int_equal(connect_from(&c, false), NEXT_REPLY);
			assert_string_equal(c.s.reply->xcode, "4.3.2");
		}
	/* the host's word */
	start(&c, "messages", "rate=5/1m");
	negotiate(&c);
	c.s.drain = true;
	assert_int_equal(connect_from(&c, false), NEXT_REPLY);
	/* one that was in before */
	start(&c, "messages", "rate=5/1m");
	negotiate(&c);
	assert_int_equal(connect_from(&c, false), NEXT_CONTINUE);
	c.r.drain_until_us = INT64_MAX;
	c.s.drain = true;
	assert_int_equal(session_mail(&c.s, &c.r, "<a@example.org>", "", 0, &c.q), NEXT_CONTINUE);
	assert_int_equal(rcpt(&c, GREY_NONE, false), NEXT_CONTINUE);
	/* observed: the client sees nothing */
	start(&c, "messages", "rate=5/1m");
	c.r.drain_until_us = INT64_MAX;
	c.r.observe = true;
	negotiate(&c);
	assert_int_equal(connect_from(&c, false), NEXT_CONTINUE);
	assert_int_equal(c.v.reason, REASON_DRAIN);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_entries),
	    cmocka_unit_test(test_several),
	    cmocka_unit_test(test_who_is_refused),
	    cmocka_unit_test(test_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
