/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_plan.c - which counters a question is about, under which keys, and what the MTA has to tell.
 * Greylisting's part: test_plan_greylist.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/request.h"
#include "weir/units.h"

/* "NAME WORDS" a limit. */
static struct ruleset
rules(const char *const *limits)
{
	char err[LIMIT_ERR_MAX], name[LIMIT_NAME_MAX + 1] = "";
	struct ruleset r;

	ruleset_defaults(&r);
	r.nlimits = 0;
	strcpy(r.generation, "42");
	for (; *limits != NULL; limits++) {
		size_t len = strcspn(*limits, " ");

		memcpy(name, *limits, len);
		name[len] = '\0';
		if (!limit_set_words(ruleset_limit_add(&r, name), *limits + len, err, sizeof err))
			fail_msg("%s: %s", *limits, err);
	}
	if (!ruleset_finish(&r, err, sizeof err))
		fail_msg("%s", err);
	return r;
}

static struct facts
facts(enum stage stage, const char *client)
{
	struct facts f = {.stage = stage,
	    .name = "",
	    .user = "",
	    .sender = "a@example.org",
	    .recipient = "b@example.com"};

	assert_true(addr_parse(client, &f.client));
	return f;
}

static void
test_record_keys(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m",
	    "x count=connections "
	    "per=network rate=60/1m",
	    "y count=connections per=all rate=60/1m", NULL};
	static const struct {
		const char *client;
		unsigned address_v6, network_v4, network_v6;
		const char *address, *network;
	} table[] = {
	    {"192.0.2.7", 64, 24, 64, "{192.0.2.0/24}:192.0.2.7", "{192.0.2.0/24}"},
	    {"::ffff:192.0.2.7", 64, 24, 64, "{192.0.2.0/24}:192.0.2.7", "{192.0.2.0/24}"},
	    {"192.0.2.7", 64, 32, 64, "{192.0.2.7}", "{192.0.2.7}"},
	    {"192.0.2.7", 64, 0, 64, "{0.0.0.0/0}:192.0.2.7", "{0.0.0.0/0}"},
	    {"2001:db8::7", 64, 24, 64, "{2001:db8::/48}:2001:db8::/64",
		"{2001:db8::/48}:2001:db8::/64"},
	    {"2001:db8::7", 128, 24, 64, "{2001:db8::/48}:2001:db8::7",
		"{2001:db8::/48}:2001:db8::/64"},
	    /* the tag is a /48, or the widest if that is wider */
	    {"2001:db8::7", 64, 24, 48, "{2001:db8::/48}:2001:db8::/64", "{2001:db8::/48}"},
	    {"2001:db8::7", 40, 24, 64, "{2001:db8::/40}", "{2001:db8::/40}:2001:db8::/64"},
	    {"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 127, 24, 126,
		"{ffff:ffff:ffff::/48}:ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127",
		"{ffff:ffff:ffff::/48}:ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffc/126"},
	};
	struct ruleset r = rules(limits);
	struct request q;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts(STAGE_CONNECT, table[i].client);

		r.address_v6 = table[i].address_v6;
		r.network_v4 = table[i].network_v4;
		r.network_v6 = table[i].network_v6;
		assert_true(plan_request(&r, &f, &q));
		assert_int_equal(q.nrecords, 3);
		assert_int_equal(q.hits[0].record, 0);
		assert_string_equal(q.records[q.hits[0].record].key, table[i].address);
		assert_string_equal(q.records[q.hits[1].record].key, table[i].network);
		assert_string_equal(q.records[q.hits[2].record].key, "{all}");
		assert_int_equal(q.records[q.hits[1].record].kind, PER_NETWORK);
	}
}

/* Which limits are hit at which stage. */
static void
test_hits(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m", "sessions max=5",
	    "messages rate=60/1m", "recipients rate=60/1m per=network",
	    "off count=recipients rate=60/1m enabled=no", NULL};
	static const struct {
		enum stage stage;
		bool message_counted;
		const char *hits[3];
		unsigned nrecords;
	} table[] = {
	    {STAGE_CONNECT, false, {"connections", "sessions", NULL}, 1},
	    {STAGE_HELO, false, {NULL}, 1},
	    {STAGE_MAIL, false, {NULL}, 1},
	    {STAGE_RCPT, false, {"messages", "recipients", NULL}, 2},
	    {STAGE_RCPT, true, {"recipients", NULL}, 2},
	};
	struct ruleset r = rules(limits);
	struct request q;

	(void)state;
	memset(&q, 0xa5, sizeof q); /* whatever was there before */
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts(table[i].stage, "192.0.2.7");
		unsigned n = 0;

		f.message_counted = table[i].message_counted;
		if (plan_request(&r, &f, &q) != (table[i].hits[0] != NULL))
			fail_msg("row %zu", i);
		/* the address's record first: it keeps the totals */
		assert_int_equal(q.records[0].kind, PER_ADDRESS);
		assert_string_equal(q.records[0].key, "{192.0.2.0/24}:192.0.2.7");
		assert_false(q.peek);
		for (; table[i].hits[n] != NULL; n++) {
			assert_string_equal(q.hits[n].limit->name, table[i].hits[n]);
			assert_int_equal(q.hits[n].cost, 1);
		}
		assert_int_equal(q.nhits, n);
		assert_int_equal(q.nrecords, table[i].nrecords);
		assert_int_equal(q.deadline_us, 0);
		assert_string_equal(q.generation, "42");
		assert_false(q.grey.asked);
	}
}

static void
test_record_life(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m",
	    "x count=recipients rate=1/1d "
	    "burst=10",
	    "y count=recipients rate=1/1d burst=99 enabled=no",
	    "z count=connections per=network rate=60/1m", NULL};
	struct ruleset r = rules(limits);
	struct facts f = facts(STAGE_CONNECT, "192.0.2.7");
	struct request q;

	(void)state;
	assert_true(plan_request(&r, &f, &q));
	/* as long as the slowest bucket of the record, asked now or not; at least an hour */
	assert_int_equal(q.records[0].ttl_us, INT64_C(10) * 86400 * USEC_PER_SEC);
	assert_int_equal(q.records[1].ttl_us, INT64_C(3600) * USEC_PER_SEC);
}

static void
test_exempt_asks_nothing(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m", NULL};
	struct ruleset r = rules(limits);
	struct facts f = facts(STAGE_CONNECT, "192.0.2.7");
	struct netset *set = netset_new();
	struct request q;
	struct net n;

	(void)state;
	assert_true(net_parse("192.0.2.0/24", &n) && netset_add(set, &n));
	netset_seal(set);
	r.exempt = set;
	assert_false(plan_request(&r, &f, &q));
	assert_int_equal(q.nhits + q.nrecords, 0);
	assert_true(plan_done(&r, &f));
	f.client.family = ADDR_NONE;
	r.exempt = NULL;
	assert_false(plan_request(&r, &f, &q));
	assert_true(plan_done(&r, &f));
	netset_free(&set);
}

/* --- what Redis lays over it --------------------------------------------------------------- */

static struct who
who(const char *text)
{
	char err[LIMIT_ERR_MAX];
	struct who w;

	if (!who_parse(text, &w, err, sizeof err))
		fail_msg("%s: %s", text, err);
	return w;
}

static void
add_override(struct ruleset *r, const char *text, const char *name, const char *words)
{
	struct limit l = *ruleset_limit(r, name);
	struct who w = who(text);
	char err[LIMIT_ERR_MAX];

	if (!limit_set_words(&l, words, err, sizeof err) || !limit_finish(&l, err, sizeof err))
		fail_msg("%s: %s", words, err);
	exceptions_add_override(r->exceptions, &w, &l);
}

/* The hit is the client's own limit: its figures, and whether it is there at all. */
static void
test_overrides(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m", "recipients rate=60/1m",
	    "extra count=recipients rate=5/1m enabled=no", NULL};
	static const struct {
		enum stage stage;
		const char *client, *user;
		const char *hits; /* "NAME RATE NAME RATE" */
	} table[] = {
	    {STAGE_CONNECT, "192.0.2.7", "", "connections 7"},
	    {STAGE_CONNECT, "192.0.2.8", "", "connections 24"},
	    {STAGE_CONNECT, "192.0.3.8", "", "connections 60"},
	    {STAGE_CONNECT, "198.51.100.1", "", ""}, /* switched off for it */
	    {STAGE_CONNECT, "2001:db8::9", "", "connections 48"},
	    {STAGE_RCPT, "192.0.2.7", "", "recipients 60"},
	    {STAGE_RCPT, "192.0.2.7", "ann", "recipients 500"},
	    {STAGE_RCPT, "192.0.3.8", "ann", "recipients 500"},
	    {STAGE_RCPT, "192.0.3.8", "bob", "recipients 60"},
	    {STAGE_RCPT, "198.51.100.1", "", "recipients 60 extra 9"}, /* and on for it */
	};
	struct ruleset r = rules(limits);
	struct request q;

	(void)state;
	r.exceptions = exceptions_new(6, 0);
	assert_non_null(r.exceptions);
	add_override(&r, "192.0.2.0/24", "connections", "rate=24/1m");
	add_override(&r, "192.0.2.7", "connections", "rate=7/1m");
	add_override(&r, "198.51.100.0/24", "connections", "enabled=no");
	add_override(&r, "2001:db8::/48", "connections", "rate=48/1m");
	add_override(&r, "user:ann", "recipients", "rate=500/1m");
	add_override(&r, "198.51.100.1", "extra", "rate=9/1m enabled=yes");
	assert_true(exceptions_seal(r.exceptions));
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts(table[i].stage, table[i].client);
		char got[128] = "";

		f.user = table[i].user;
		assert_int_equal(plan_request(&r, &f, &q), table[i].hits[0] != '\0');
		for (unsigned h = 0; h < q.nhits; h++)
			snprintf(got + strlen(got), sizeof got - strlen(got), "%s%s %d",
			    h > 0 ? " " : "", q.hits[h].limit->name, (int)q.hits[h].limit->rate);
		if (strcmp(got, table[i].hits) != 0)
			fail_msg("row %zu (%s %s): %s", i, table[i].client, table[i].user, got);
	}
	/* users' recipients must be seen */
	assert_true(plan_steps(&r).mail && plan_steps(&r).rcpt);
	ruleset_deinit(&r);
}

/* A record lives as long as the slowest of all who may be counted in it. */
static void
test_overrides_in_the_life(void **state)
{
	static const char *const limits[] = {
	    "connections rate=60/1m", "x count=connections per=network rate=60/1m", NULL};
	struct ruleset r = rules(limits);
	struct facts f = facts(STAGE_CONNECT, "192.0.2.7");
	struct request q;

	(void)state;
	r.exceptions = exceptions_new(1, 0);
	assert_non_null(r.exceptions);
	add_override(&r, "198.51.100.1", "connections", "rate=1/1d burst=3");
	assert_true(exceptions_seal(r.exceptions));
	assert_true(plan_request(&r, &f, &q));
	assert_int_equal(q.records[0].ttl_us, INT64_C(3) * 86400 * USEC_PER_SEC);
	assert_int_equal(q.records[1].ttl_us, INT64_C(3600) * USEC_PER_SEC);
	ruleset_deinit(&r);
}

/* Who is exempt by Redis is charged nothing, but asks whether that still holds. */
static void
test_listed(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m", "messages rate=60/1m", NULL};
	static const struct {
		const char *client, *user;
		enum stage stage;
		bool asks;
		unsigned hits;
		bool done;
	} table[] = {
	    {"192.0.2.7", "", STAGE_CONNECT, true, 0, true},
	    {"192.0.2.8", "", STAGE_CONNECT, false, 0, false}, /* blocked */
	    {"192.0.2.8", "ann", STAGE_RCPT, true, 0, true},
	    {"198.51.100.1", "ann", STAGE_RCPT, true, 0, true},
	    {"198.51.100.1", "bob", STAGE_RCPT, false, 0, false},
	    {"198.51.100.1", "", STAGE_RCPT, true, 1, false},
	    {"198.51.100.1", "", STAGE_CONNECT, true, 1, false},
	    {"203.0.113.1", "", STAGE_CONNECT, false, 0, true}, /* by the file */
	    {"203.0.113.1", "ann", STAGE_RCPT, true, 0, true},
	};
	static const struct {
		const char *who;
		enum list_action what;
	} lists[] = {
	    {"192.0.2.0/24", LIST_BLOCK},
	    {"192.0.2.7", LIST_EXEMPT},
	    {"user:ann", LIST_EXEMPT},
	    {"user:bob", LIST_BLOCK},
	};
	struct ruleset r = rules(limits);
	struct netset *file = netset_new();
	struct request q;
	struct net n;

	(void)state;
	assert_true(net_parse("203.0.113.0/24", &n) && netset_add(file, &n));
	netset_seal(file);
	r.exempt = file;
	r.exceptions = exceptions_new(0, 4);
	assert_non_null(r.exceptions);
	for (int i = 0; i < 4; i++) {
		struct who w = who(lists[i].who);

		exceptions_add_listed(r.exceptions, &w, &(struct listing){.action = lists[i].what});
	}
	assert_true(exceptions_seal(r.exceptions));
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts(table[i].stage, table[i].client);

		f.user = table[i].user;
		memset(&q, 0xa5, sizeof q);
		if (plan_request(&r, &f, &q) != table[i].asks || plan_done(&r, &f) != table[i].done)
			fail_msg("row %zu (%s %s)", i, table[i].client, table[i].user);
		assert_int_equal(q.nhits, table[i].hits);
		assert_int_equal(q.nrecords, table[i].asks);
		assert_string_equal(q.generation, "42");
		assert_false(q.peek || q.grey.asked);
	}
	ruleset_deinit(&r);
	netset_free(&file);
}

/* Who is exempt by the file's lists asks nothing: Redis has no part in it. */
static void
test_listed_by_the_file(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m", NULL};
	static const char *const who_text[] = {"192.0.2.7", "name:partner.example"};
	struct facts f = facts(STAGE_CONNECT, "192.0.2.7");
	struct request q;

	(void)state;
	f.name = "mx.partner.example";
	for (int i = 0; i < 2; i++) {
		struct exceptions *file = exceptions_new(0, 0);
		struct ruleset r = rules(limits);
		struct who w = who(who_text[i]);

		assert_non_null(file);
		exceptions_add_listed(file, &w, &(struct listing){.action = LIST_EXEMPT});
		assert_true(exceptions_seal(file));
		assert_true(plan_request(&r, &f, &q));
		r.exceptions = exceptions_new(0, 0);
		assert_non_null(r.exceptions);
		exceptions_add_file(r.exceptions, file);
		assert_true(exceptions_seal(r.exceptions));
		assert_false(plan_request(&r, &f, &q));
		assert_true(plan_done(&r, &f));
		f.name = "mx.other.example";
		assert_int_equal(plan_request(&r, &f, &q), i);
		f.name = "mx.partner.example";
		ruleset_deinit(&r);
		exceptions_free(&file);
	}
}

/* Nothing but entries about users makes the recipients matter. */
static void
test_users_need_their_recipients(void **state)
{
	static const char *const limits[] = {"connections rate=60/1m", NULL};
	struct facts f = facts(STAGE_CONNECT, "198.51.100.1");

	(void)state;
	for (int user = 0; user < 2; user++) {
		struct ruleset r = rules(limits);
		struct who w = who(user ? "user:bob" : "192.0.2.7");

		r.exceptions = exceptions_new(0, 1);
		assert_non_null(r.exceptions);
		exceptions_add_listed(r.exceptions, &w, &(struct listing){.action = LIST_BLOCK});
		assert_true(exceptions_seal(r.exceptions));
		assert_int_equal(plan_steps(&r).rcpt, user);
		assert_int_equal(plan_steps(&r).mail, user);
		assert_int_equal(plan_done(&r, &f), !user);
		ruleset_deinit(&r);
	}
}

/* What the MTA is asked to report, and whether it may stop after the connect. */
/* A network that is a rung of one limit and "network" of another is one record: in two of them a
 * session would be counted twice. */
static void
test_rung_as_wide_as_network(void **state)
{
	static const char *const orders[][3] = {
	    {"a count=sessions per=network max=5", "b count=sessions max=2 ladder=/56*2", NULL},
	    {"b count=sessions max=2 ladder=/56*2", "a count=sessions per=network max=5", NULL},
	};

	(void)state;
	for (size_t i = 0; i < 2; i++) {
		struct ruleset r = rules(orders[i]);
		struct facts f = facts(STAGE_CONNECT, "2001:db8::7");
		struct request q;

		r.network_v6 = 56;
		assert_true(plan_request(&r, &f, &q));
		assert_int_equal(q.nrecords, 2);
		assert_int_equal(q.nhits, 3);
		assert_string_equal(q.records[1].key, "{2001:db8::/48}:2001:db8::/56");
		r.network_v6 = 64;
		assert_true(plan_request(&r, &f, &q));
		assert_int_equal(q.nrecords, 3);
	}
}

/* Wherever a limit is for strangers or known clients, the pool is asked: a store that is not asked
 * takes everybody for known. */
static void
test_trust_is_asked_for(void **state)
{
	static const char *const limits[] = {"bytes quota=1M/1d for=strangers", NULL};
	struct ruleset r = rules(limits);
	struct facts f = facts(STAGE_EOM, "192.0.2.7");
	struct request q;

	(void)state;
	f.bytes = 1000;
	assert_true(plan_request(&r, &f, &q));
	assert_int_equal(q.nhits, 1);
	assert_true(q.pool.asked);
	assert_int_equal(q.pool.event, TRUST_LOOK);
	f.user = "ann";
	assert_false(plan_request(&r, &f, &q));
}

static void
test_steps(void **state)
{
	static const struct {
		const char *limit;
		bool greylist, at_helo;
		const char *want; /* of h(elo) m(ail) r(cpt) c(lose) d(one) */
	} table[] = {
	    {"connections rate=5/1m", false, false, "d"},
	    {"connections rate=5/1m", false, true, "hmd"},
	    {"connections rate=5/1m action=defer", false, false, "md"},
	    {"connections rate=5/1m action=defer", false, true, "md"},
	    {"connections rate=5/1m action=log", false, true, "d"},
	    {"connections rate=5/1m enabled=no", true, true, "mr"},
	    {"sessions max=5", false, false, "c"},
	    {"sessions max=5 enabled=no", false, false, "d"},
	    {"messages rate=5/1m", false, false, "mr"},
	    {"recipients rate=5/1m", false, true, "mr"},
	    {"recipients rate=5/1m action=log", false, false, "mr"},
	    {"connections rate=5/1m", true, false, "mr"},
	};
	const struct facts f = facts(STAGE_CONNECT, "192.0.2.7");

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *const limits[] = {table[i].limit, NULL};
		struct ruleset r = rules(limits);
		char got[8] = "";
		struct plan_steps s;

		r.greylist.enabled = table[i].greylist;
		r.refuse_at_helo = table[i].at_helo;
		s = plan_steps(&r);
		strcat(got, s.helo ? "h" : "");
		strcat(got, s.mail ? "m" : "");
		strcat(got, s.rcpt ? "r" : "");
		strcat(got, s.close ? "c" : "");
		strcat(got, plan_done(&r, &f) ? "d" : "");
		if (strcmp(got, table[i].want) != 0)
			fail_msg("row %zu (%s): %s, not %s", i, table[i].limit, got, table[i].want);
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_record_keys),
	    cmocka_unit_test(test_hits),
	    cmocka_unit_test(test_record_life),
	    cmocka_unit_test(test_exempt_asks_nothing),
	    cmocka_unit_test(test_overrides),
	    cmocka_unit_test(test_overrides_in_the_life),
	    cmocka_unit_test(test_listed),
	    cmocka_unit_test(test_listed_by_the_file),
	    cmocka_unit_test(test_users_need_their_recipients),
	    cmocka_unit_test(test_rung_as_wide_as_network),
	    cmocka_unit_test(test_trust_is_asked_for),
	    cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
