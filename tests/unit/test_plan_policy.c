/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_plan_policy.c - what each stage costs which limit and how (charge, probe, note), for whom,
 * on which networks of a ladder and in which pool; and what the MTA is asked to show for it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <libpsl.h>

#include "weir/request.h"
#include "weir/units.h"

#define HOUR (3600 * USEC_PER_SEC)
#define DAY (24 * HOUR)

static psl_ctx_t *list;

static int
open_list(void **state)
{
	(void)state;
	list = psl_latest(NULL);
	return list == NULL;
}

static int
close_list(void **state)
{
	(void)state;
	psl_free(list);
	return 0;
}

/* "NAME WORDS" a limit. */
static void
add_limit(struct ruleset *r, const char *text)
{
	char err[LIMIT_ERR_MAX], name[LIMIT_NAME_MAX + 1] = "";
	size_t len = strcspn(text, " ");

	memcpy(name, text, len);
	if (!limit_set_words(ruleset_limit_add(r, name), text + len, err, sizeof err) ||
	    !ruleset_finish(r, err, sizeof err))
		fail_msg("%s: %s", text, err);
}

static struct ruleset
rules(const char *const *limits)
{
	struct ruleset r;

	ruleset_defaults(&r);
	r.nlimits = 0;
	r.psl = list;
	for (; limits != NULL && *limits != NULL; limits++)
		add_limit(&r, *limits);
	return r;
}

static struct facts
facts(enum stage stage)
{
	struct facts f = {.stage = stage,
	    .name = "",
	    .user = "",
	    .helo = "",
	    .sender = stage >= STAGE_MAIL ? "a@example.org" : "",
	    .recipient = stage == STAGE_RCPT ? "b@example.com" : ""};

	assert_true(addr_parse("192.0.2.7", &f.client));
	return f;
}

/* The only hit; NULL: none. */
static const struct hit *
hit_of(const struct ruleset *r, const struct facts *f, struct request *q)
{
	memset(q, 0xa5, sizeof *q);
	(void)plan_request(r, f, q);
	assert_true(q->nhits <= 1);
	return q->nhits == 1 ? &q->hits[0] : NULL;
}

/* --- costs ---------------------------------------------------------------------------------- */

/* The stages of a message in a row: what each count makes of them, "." for nothing, else charge,
 * probe or note and the cost. */
static void
test_costs(void **state)
{
	static const struct moment {
		enum stage stage;
		bool rejected, counted;
		int64_t bytes;
	} moments[] = {
	    {STAGE_CONNECT, false, false, 0}, {STAGE_HELO, false, false, 0},
	    {STAGE_MAIL, false, false, 0}, {STAGE_MAIL, false, false, 700}, /* announced */
	    {STAGE_RCPT, true, false, 700}, /* refused by the MTA */
	    {STAGE_RCPT, false, false, 0}, {STAGE_RCPT, false, false, 700},
	    {STAGE_RCPT, false, true, 700}, /* the second recipient */
	    {STAGE_RCPT, true, true, 700}, {STAGE_EOM, false, true, 0},
	    {STAGE_EOM, false, true, 900}, /* came */
	};
	static const struct {
		const char *limit, *want;
	} table[] = {
	    {"connections rate=5/1m", "c1 . . . . . . . . . ."},
	    {"sessions max=5", "c1 . . . . . . . . . ."},
	    {"messages rate=5/1m", ". . . . . c1 c1 . . . ."},
	    {"recipients rate=5/1m", ". . . . . c1 c1 c1 . . ."},
	    {"recipients quota=5/1d", ". . . . . c1 c1 c1 . . ."},
	    {"rejected-recipients rate=5/1m", "p1 p1 p1 p1 n1 p1 p1 p1 n1 . ."},
	    {"rejected-recipients rate=5/1m action=defer", "p1 p1 p1 p1 n1 p1 p1 p1 n1 . ."},
	    {"rejected-recipients rate=5/1m action=log", ". . . . n1 . . . n1 . ."},
	    {"bytes rate=1000/1h", ". . . . . . p700 . . . c900"},
	    {"bytes quota=1000/1h", ". . . . . . p700 . . . c900"},
	    {"bytes rate=1000/1h action=log", ". . . . . . . . . . c900"},
	    {"connections rate=5/1m action=log", "c1 . . . . . . . . . ."},
	    {"messages rate=5/1m enabled=no", ". . . . . . . . . . ."},
	    /* per the envelope: what is not said yet has no record */
	    {"messages rate=5/1m per=sender", ". . . . . c1 c1 . . . ."},
	    {"rejected-recipients rate=5/1m per=sender", ". . p1 p1 n1 p1 p1 p1 n1 . ."},
	    {"rejected-recipients rate=5/1m per=sender-domain", ". . p1 p1 n1 p1 p1 p1 n1 . ."},
	    {"rejected-recipients rate=5/1m per=user", ". . . . . . . . . . ."},
	    {"rejected-recipients rate=5/1m per=helo", ". . . . . . . . . . ."},
	    {"recipients rate=5/1m per=recipient", ". . . . . c1 c1 c1 . . ."},
	    {"bytes rate=1000/1h per=sender", ". . . . . . p700 . . . c900"},
	};
	static const char modes[] = {[HIT_CHARGE] = 'c', [HIT_PROBE] = 'p', [HIT_NOTE] = 'n'};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *const limits[] = {table[i].limit, NULL};
		struct ruleset r = rules(limits);
		char got[128] = "";

		for (size_t m = 0; m < sizeof moments / sizeof moments[0]; m++) {
			struct facts f = facts(moments[m].stage);
			const struct hit *h;
			struct request q;
			size_t len = strlen(got);

			f.rejected = moments[m].rejected;
			f.message_counted = moments[m].counted;
			f.bytes = moments[m].bytes;
			h = hit_of(&r, &f, &q);
			assert_int_equal(q.rejected, f.stage == STAGE_RCPT && moments[m].rejected);
			if (h == NULL)
				snprintf(got + len, sizeof got - len, "%s.", m > 0 ? " " : "");
			else
				snprintf(got + len, sizeof got - len, "%s%c%d", m > 0 ? " " : "",
				    modes[h->mode], (int)h->cost);
		}
		if (strcmp(got, table[i].want) != 0)
			fail_msg("%s: %s, not %s", table[i].limit, got, table[i].want);
	}
}

/* Whatever a client announces or sends: figures stay where the stores count exactly. */
static void
test_huge_messages(void **state)
{
	static const struct {
		const char *limit;
		int64_t bytes, cost;
	} table[] = {
	    {"bytes rate=1000/1h", 1000, 1000},
	    {"bytes rate=1000/1h", 1001, 1001},
	    {"bytes rate=1000/1h", 1002, 1001},
	    {"bytes rate=1000/1h", INT64_MAX, 1001},
	    {"bytes rate=1000/1h burst=5000", 9000, 5001},
	    {"bytes quota=1G/1d", INT64_MAX, (INT64_C(1) << 30) + 1},
	    {"bytes quota=2048G/1d", INT64_MAX, QUOTA_FIGURE_MAX + 1},
	    {"bytes rate=1000/1h", -1, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		for (int stage = STAGE_RCPT; stage <= STAGE_EOM; stage++) {
			const char *const limits[] = {table[i].limit, NULL};
			struct ruleset r = rules(limits);
			struct facts f = facts((enum stage)stage);
			const struct hit *h;
			struct request q;

			f.bytes = table[i].bytes;
			h = hit_of(&r, &f, &q);
			if ((h != NULL ? h->cost : 0) != table[i].cost)
				fail_msg("row %zu", i);
		}
}

/* --- for whom ------------------------------------------------------------------------------- */

/* What can be told without a store; strangers and known are then the store's. */
static void
test_for(void **state)
{
	static const struct {
		const char *whom, *client, *user;
		bool hit;
	} table[] = {
	    {"everyone", "192.0.2.7", "", true},
	    {"everyone", "192.0.2.7", "ann", true},
	    {"strangers", "192.0.2.7", "", true},
	    {"strangers", "192.0.2.7", "ann", false},
	    {"known", "192.0.2.7", "", true},
	    {"known", "192.0.2.7", "ann", true},
	    {"authenticated", "192.0.2.7", "", false},
	    {"authenticated", "192.0.2.7", "ann", true},
	    {"192.0.2.0/24", "192.0.2.7", "", true},
	    {"192.0.2.0/24", "192.0.2.7", "ann", true},
	    {"192.0.2.0/24", "192.0.3.7", "", false},
	    {"192.0.2.0/24", "2001:db8::1", "", false},
	    {"192.0.2.0/24", "::ffff:192.0.2.9", "", true},
	    {"192.0.2.0/24,2001:db8::/32", "2001:db8:ffff::1", "", true},
	    {"192.0.2.0/24,2001:db8::/32", "2001:db9::1", "", false},
	};
	char text[128];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *const limits[] = {text, NULL};
		struct facts f = facts(STAGE_RCPT);
		struct ruleset r;
		struct request q;

		snprintf(text, sizeof text, "messages rate=5/1m for=%s", table[i].whom);
		r = rules(limits);
		assert_true(addr_parse(table[i].client, &f.client));
		f.user = table[i].user;
		if ((hit_of(&r, &f, &q) != NULL) != table[i].hit)
			fail_msg(
			    "row %zu: %s, %s %s", i, table[i].whom, table[i].client, table[i].user);
		/* the pool is asked about where that matters: not of who is authenticated */
		assert_int_equal(q.pool.asked, limit_wants_trust(&r.limits[0]) && !*f.user);
	}
}

/* --- ladders -------------------------------------------------------------------------------- */

/* "KEY xTIMES" for each hit of an IPv6 client. */
static void
ladder(const char *words, const char *client, unsigned address_v6, char *got, size_t len)
{
	const char *const limits[] = {words, NULL};
	struct ruleset r = rules(limits);
	struct facts f = facts(STAGE_RCPT);
	struct request q;

	r.address_v6 = address_v6;
	assert_true(addr_parse(client, &f.client));
	got[0] = '\0';
	assert_true(plan_request(&r, &f, &q));
	for (unsigned i = 0; i < q.nhits; i++) {
		const struct hit *h = &q.hits[i];

		assert_int_equal(hit_ceiling(h), 7 * hit_times(h));
		assert_int_equal(hit_rate(h), 5 * hit_times(h));
		assert_int_equal(hit_most(h), 2 * 7 * hit_times(h));
		assert_int_equal(q.records[h->record].kind, i == 0 ? r.limits[0].per : PER_NETWORK);
		snprintf(got + strlen(got), len - strlen(got), "%s%s x%d", i > 0 ? ", " : "",
		    q.records[h->record].key, (int)hit_times(h));
	}
}

static void
test_ladder(void **state)
{
#define LADDER "messages rate=5/1m burst=7 "
	static const struct {
		const char *words, *client;
		unsigned address_v6;
		const char *want;
	} table[] = {
	    {LADDER "ladder=\"/56*4 /48*16\"", "2001:db8:1:203::5", 64,
		"{2001:db8:1::/48}:2001:db8:1:203::/64 x1, {2001:db8:1::/48}:2001:db8:1:200::/56 "
		"x4, {2001:db8:1::/48} x16"},
	    {LADDER "ladder=\"/56*4,/48*16\"", "192.0.2.7", 64, "{192.0.2.0/24}:192.0.2.7 x1"},
	    {LADDER "ladder=\"/56*4\"", "::ffff:192.0.2.7", 64, "{192.0.2.0/24}:192.0.2.7 x1"},
	    {LADDER "per=network ladder=\"/32*9\"", "2001:db8:1:203::5", 64,
		"{2001:db8:1::/48}:2001:db8:1:203::/64 x1, {2001:db8::/32} x9"},
	    /* single addresses of a /64: four rungs in all */
	    {LADDER "ladder=\"/64*3 /56*9\"", "2001:db8:1:203::5", 128,
		"{2001:db8:1::/48}:2001:db8:1:203::5 x1, {2001:db8:1::/48}:2001:db8:1:203::/64 "
		"x3, {2001:db8:1::/48}:2001:db8:1:200::/56 x9"},
	    /* a rung that is no wider than the address itself is none */
	    {LADDER "ladder=\"/64*3 /56*9\"", "2001:db8:1:203::5", 64,
		"{2001:db8:1::/48}:2001:db8:1:203::/64 x1, {2001:db8:1::/48}:2001:db8:1:200::/56 "
		"x9"},
	    {LADDER "ladder=\"/64*3 /56*9\"", "2001:db8:1:203::5", 56,
		"{2001:db8:1::/48}:2001:db8:1:200::/56 x1"},
	    {LADDER "ladder=off", "2001:db8:1:203::5", 64,
		"{2001:db8:1::/48}:2001:db8:1:203::/64 x1"},
	};
	char got[512];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		ladder(table[i].words, table[i].client, table[i].address_v6, got, sizeof got);
		if (strcmp(got, table[i].want) != 0)
			fail_msg("row %zu: %s", i, got);
	}
}

/* Two ladders that name the same network share its record, and a limit per network that network's
 * own; the records of all limits there may be still have room. */
static void
test_ladders_share(void **state)
{
	static const char *const limits[] = {"messages rate=5/1m ladder=\"/56*4 /48*16\"",
	    "recipients rate=5/1m per=network ladder=\"/56*2 /40*8\"",
	    "slow count=messages per=address rate=1/1d burst=9 ladder=/44*2", NULL};
	struct ruleset r = rules(limits);
	struct facts f = facts(STAGE_RCPT);
	unsigned used[REQUEST_RECORDS_MAX] = {0};
	struct request q;

	(void)state;
	assert_true(addr_parse("2001:db8:1:203::5", &f.client));
	f.user = "ann";
	f.helo = "mx";
	assert_true(plan_request(&r, &f, &q));
	assert_int_equal(q.nhits, 8);
	/* address, network, and four widths */
	assert_int_equal(q.nrecords, 6);
	for (unsigned i = 0; i < q.nhits; i++)
		used[q.hits[i].record]++;
	assert_int_equal(used[q.hits[1].record], 2); /* the /56 of both */
	assert_int_equal(q.hits[1].record, q.hits[4].record);
	/* a rung is kept as long as whoever may count in it */
	for (unsigned i = 0; i < q.nrecords; i++)
		assert_int_equal(q.records[i].ttl_us,
		    q.bits[i] != 0 || q.records[i].kind == PER_ADDRESS ? 9 * DAY : HOUR);
	assert_string_equal(q.records[q.hits[2].record].key, "{2001:db8:1::/48}");
	assert_string_equal(q.records[q.hits[5].record].key, "{2001:db8::/40}");
	assert_string_equal(q.records[q.hits[7].record].key, "{2001:db8::/44}");
	add_limit(&r, "u count=messages per=user rate=1/1m");
	add_limit(&r, "s count=messages per=sender rate=1/1m");
	add_limit(&r, "sd count=messages per=sender-domain rate=1/1m");
	add_limit(&r, "r count=recipients per=recipient rate=1/1m");
	add_limit(&r, "rd count=recipients per=recipient-domain rate=1/1m");
	add_limit(&r, "h count=messages per=helo rate=1/1m");
	add_limit(&r, "p count=messages per=pool rate=1/1m");
	add_limit(&r, "a count=messages per=all rate=1/1m");
	assert_true(plan_request(&r, &f, &q));
	assert_int_equal(q.nrecords, REQUEST_RECORDS_MAX);
	assert_int_equal(q.nhits, 16);
}

/* --- pools ---------------------------------------------------------------------------------- */

static void
test_pools(void **state)
{
	static const char *const limits[] = {"messages rate=5/1m per=pool", NULL};
	static const struct {
		const char *client, *name; /* "": not confirmed */
		bool psl;
		const char *key, *triplet;
	} table[] = {
	    {"192.0.2.7", "mx1.mail.example.org", true, "{example.org}",
		"{example.org} a@example.org b@example.com"},
	    {"198.51.100.9", "MX2.Example.ORG.", true, "{example.org}",
		"{example.org} a@example.org b@example.com"},
	    {"2001:db8::7", "mx3.example.org", true, "{example.org}",
		"{example.org} a@example.org b@example.com"},
	    {"192.0.2.7", "mail.example.co.uk", true, "{example.co.uk}",
		"{example.co.uk} a@example.org b@example.com"},
	    /* its network: no name, a provider's line, no registered domain, no list */
	    {"192.0.2.7", "", true, "{192.0.2.0/24}", "{192.0.2.0/24} a@example.org b@example.com"},
	    {"192.0.2.7", "192-0-2-7.dsl.example.org", true, "{192.0.2.0/24}",
		"{192.0.2.0/24} a@example.org b@example.com"},
	    {"192.0.2.7", "org", true, "{192.0.2.0/24}",
		"{192.0.2.0/24} a@example.org b@example.com"},
	    {"192.0.2.7", "mx.example.org", false, "{192.0.2.0/24}",
		"{192.0.2.0/24} a@example.org b@example.com"},
	    {"2001:db8:1:2::7", "", true, "{2001:db8:1::/48}:2001:db8:1:2::/64",
		"{2001:db8:1::/48}:2001:db8:1:2::/64 a@example.org b@example.com"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct ruleset r = rules(limits);
		struct facts f = facts(STAGE_RCPT);
		struct record alone;
		const struct hit *h;
		struct request q;

		r.greylist.enabled = true;
		if (!table[i].psl)
			r.psl = NULL;
		assert_true(addr_parse(table[i].client, &f.client));
		f.name = table[i].name;
		h = hit_of(&r, &f, &q);
		assert_non_null(h);
		if (strcmp(q.records[h->record].key, table[i].key) != 0 ||
		    strcmp(q.grey.key, table[i].triplet) != 0)
			fail_msg("row %zu: %s, %s", i, q.records[h->record].key, q.grey.key);
		assert_int_equal(q.records[h->record].kind, PER_POOL);
		/* greylisting, trust and the limit speak of one record */
		assert_int_equal(q.grey.record, h->record);
		assert_int_equal(q.pool.record, h->record);
		assert_true(plan_record(&r, PER_POOL, &f, &alone));
		assert_string_equal(alone.key, table[i].key);
	}
}

/* What is asked about the pool, and which event is told with it. */
static void
test_pool_question(void **state)
{
	enum { LEARN = 1, GREY = 2, STRANGERS = 4 };
	static const struct {
		int what;
		enum stage stage;
		bool rejected, counted;
		const char *user;
		bool asked;
		enum trust_event event;
	} table[] = {
	    {0, STAGE_CONNECT, false, false, "", false, TRUST_LOOK},
	    {0, STAGE_RCPT, false, false, "", false, TRUST_LOOK},
	    {LEARN, STAGE_CONNECT, false, false, "", false, TRUST_LOOK},
	    {LEARN, STAGE_MAIL, false, false, "", false, TRUST_LOOK},
	    {LEARN, STAGE_RCPT, false, false, "", true, TRUST_MESSAGE},
	    {LEARN, STAGE_RCPT, false, true, "", false, TRUST_LOOK},
	    {LEARN, STAGE_RCPT, true, false, "", true, TRUST_REJECTED},
	    {LEARN, STAGE_RCPT, true, true, "", true, TRUST_REJECTED},
	    {LEARN, STAGE_RCPT, false, false, "ann", false, TRUST_LOOK},
	    {LEARN, STAGE_RCPT, true, false, "ann", false, TRUST_LOOK},
	    {LEARN, STAGE_EOM, false, true, "", false, TRUST_LOOK},
	    {GREY, STAGE_CONNECT, false, false, "", false, TRUST_LOOK},
	    {GREY, STAGE_RCPT, false, false, "", true, TRUST_MESSAGE},
	    {GREY, STAGE_RCPT, true, false, "", true, TRUST_REJECTED},
	    {STRANGERS, STAGE_CONNECT, false, false, "", true, TRUST_LOOK},
	    {STRANGERS, STAGE_RCPT, false, false, "", true, TRUST_MESSAGE},
	    {STRANGERS, STAGE_RCPT, false, true, "", true, TRUST_LOOK},
	    {STRANGERS, STAGE_RCPT, false, false, "ann", false, TRUST_LOOK},
	    {STRANGERS, STAGE_EOM, false, true, "", true, TRUST_LOOK},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		static const char *const strangers[] = {
		    "x count=connections rate=5/1m for=strangers",
		    "y count=recipients rate=5/1m for=known", NULL};
		static const char *const everyone[] = {
		    "x count=connections rate=5/1m", "y count=recipients rate=5/1m", NULL};
		struct ruleset r = rules((table[i].what & STRANGERS) ? strangers : everyone);
		struct facts f = facts(table[i].stage);
		struct request q;

		r.learn = (table[i].what & LEARN) != 0;
		r.greylist.enabled = (table[i].what & GREY) != 0;
		f.rejected = table[i].rejected;
		f.message_counted = table[i].counted;
		f.user = table[i].user;
		memset(&q, 0xa5, sizeof q);
		(void)plan_request(&r, &f, &q);
		if (q.pool.asked != table[i].asked ||
		    (q.pool.asked && q.pool.event != table[i].event))
			fail_msg("row %zu", i);
		assert_int_equal(q.pool.block_us, 0);
		if (!q.pool.asked)
			continue;
		assert_int_equal(q.pool.rule.messages, 20);
		assert_int_equal(q.pool.rule.over_us, 7 * DAY);
		assert_int_equal(q.pool.rule.keep_us, 35 * DAY);
		/* a pass makes known only where there is greylisting */
		assert_int_equal(q.pool.passed_us, (table[i].what & GREY) ? 35 * DAY : 0);
	}
}

/* Who is remembered as a correspondent, and who is looked for. */
static void
test_correspondents(void **state)
{
	static const struct {
		bool enabled, correspondents, rejected;
		const char *user, *sender, *recipient;
		const char *looks, *wrote; /* NULL: no */
	} table[] = {
	    {true, true, false, "", "A@Example.org", "b@x.example", "{a@example.org}", NULL},
	    {true, true, false, "", "", "b@x.example", NULL, NULL},
	    {true, false, false, "", "a@example.org", "b@x.example", NULL, NULL},
	    {true, true, false, "ann", "ann@x.example", "B+1@Example.org", NULL,
		"{b+1@example.org}"},
	    {true, true, false, "ann", "", "b@example.org", NULL, "{b@example.org}"},
	    {true, true, false, "ann", "ann@x.example", "", NULL, NULL},
	    {true, true, true, "ann", "ann@x.example", "b@example.org", NULL, NULL},
	    {true, false, false, "ann", "ann@x.example", "b@example.org", NULL, NULL},
	    {false, true, false, "ann", "ann@x.example", "b@example.org", NULL, NULL},
	    {false, true, false, "", "a@example.org", "b@x.example", NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct ruleset r = rules(NULL);
		struct facts f = facts(STAGE_RCPT);
		struct request q;
		bool asked;

		r.greylist.enabled = table[i].enabled;
		r.greylist.correspondents = table[i].correspondents;
		r.greylist.embargo = 9;
		r.greylist.embargo_us = HOUR;
		f.rejected = table[i].rejected;
		f.user = table[i].user;
		f.sender = table[i].sender;
		f.recipient = table[i].recipient;
		memset(&q, 0xa5, sizeof q);
		asked = plan_request(&r, &f, &q);
		if (q.grey.asked) {
			assert_int_equal(q.grey.correspondents, table[i].looks != NULL);
			assert_int_equal(q.grey.embargo, 9);
			assert_int_equal(q.grey.embargo_us, HOUR);
		}
		if (table[i].looks != NULL)
			assert_string_equal(q.grey.sender, table[i].looks);
		if ((q.wrote_us > 0) != (table[i].wrote != NULL))
			fail_msg("row %zu", i);
		if (table[i].wrote != NULL) {
			/* worth a question of its own: no limit is there */
			assert_true(asked);
			assert_string_equal(q.wrote, table[i].wrote);
			assert_int_equal(q.wrote_us, 35 * DAY);
		}
	}
}

/* --- what the MTA is asked to show ------------------------------------------------------------ */

static void
test_steps(void **state)
{
	enum { GREY = 1, LEARN = 2, AT_HELO = 4 };
	static const struct {
		const char *limit;
		int what;
		/* of h(elo) m(ail) r(cpt) n(ame) R(ejected) b(ytes) c(lose) d(one at connect) */
		const char *want;
	} table[] = {
	    {"connections rate=5/1m", 0, "d"},
	    {"connections rate=5/1m per=pool", 0, "nd"},
	    {"connections rate=5/1m for=strangers", 0, "mrnR"},
	    {"connections rate=5/1m for=known enabled=no", 0, "d"},
	    {"connections rate=5/1m for=192.0.2.0/24", 0, "d"},
	    {"connections rate=5/1m", LEARN, "mrnR"},
	    {"connections rate=5/1m", GREY, "mrnR"},
	    {"sessions max=5 per=pool", 0, "nc"},
	    {"messages rate=5/1m for=authenticated", 0, "mr"},
	    {"messages rate=5/1m per=helo", 0, "hmr"},
	    {"messages rate=5/1m per=pool", 0, "mrn"},
	    {"rejected-recipients rate=5/1m", 0, "mrR"},
	    {"rejected-recipients rate=5/1m action=log", 0, "mrR"},
	    {"rejected-recipients rate=5/1m", AT_HELO, "hmrR"},
	    {"rejected-recipients rate=5/1m action=defer", AT_HELO, "mrR"},
	    {"rejected-recipients rate=5/1m per=pool", 0, "mrnR"},
	    {"rejected-recipients rate=5/1m enabled=no", 0, "d"},
	    {"bytes rate=1M/1h", 0, "mrb"},
	    {"bytes rate=1M/1h action=log", 0, "mrb"},
	    {"bytes rate=1M/1h per=helo", 0, "hmrb"},
	    {"bytes rate=1M/1h", GREY, "mrnRb"},
	    {"bytes rate=1M/1h enabled=no", 0, "d"},
	};
	const struct facts f = facts(STAGE_CONNECT);

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *const limits[] = {table[i].limit, NULL};
		struct ruleset r = rules(limits);
		char got[16] = "";
		struct plan_steps s;

		r.greylist.enabled = (table[i].what & GREY) != 0;
		r.learn = (table[i].what & LEARN) != 0;
		r.refuse_at_helo = (table[i].what & AT_HELO) != 0;
		s = plan_steps(&r);
		strcat(got, s.helo ? "h" : "");
		strcat(got, s.mail ? "m" : "");
		strcat(got, s.rcpt ? "r" : "");
		strcat(got, s.name ? "n" : "");
		strcat(got, s.rejected ? "R" : "");
		strcat(got, s.bytes ? "b" : "");
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
	    cmocka_unit_test(test_costs),
	    cmocka_unit_test(test_huge_messages),
	    cmocka_unit_test(test_for),
	    cmocka_unit_test(test_ladder),
	    cmocka_unit_test(test_ladders_share),
	    cmocka_unit_test(test_pools),
	    cmocka_unit_test(test_pool_question),
	    cmocka_unit_test(test_correspondents),
	    cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, open_list, close_list) != 0;
}
