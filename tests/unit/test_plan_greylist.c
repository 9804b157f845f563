/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_plan_greylist.c - whether greylisting is asked, and the key that stands for the triplet.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/request.h"
#include "weir/units.h"

#define PREFIX "{192.0.2.0/24} "

static struct ruleset
greylist_only(void)
{
	char err[LIMIT_ERR_MAX];
	struct ruleset r;

	ruleset_defaults(&r);
	r.nlimits = 0;
	r.greylist.enabled = true;
	if (!ruleset_finish(&r, err, sizeof err))
		fail_msg("%s", err);
	return r;
}

static struct facts
facts(const char *sender, const char *recipient)
{
	struct facts f = {
	    .stage = STAGE_RCPT, .name = "", .user = "", .sender = sender, .recipient = recipient};

	assert_true(addr_parse("192.0.2.7", &f.client));
	return f;
}

static const char *
key_of(const char *sender, const char *recipient, struct request *q)
{
	struct ruleset r = greylist_only();
	struct facts f = facts(sender, recipient);

	memset(q, 0xa5, sizeof *q);
	assert_true(plan_request(&r, &f, q));
	assert_true(q->grey.asked);
	assert_true(memchr(q->grey.key, '\0', sizeof q->grey.key) != NULL);
	return q->grey.key;
}

static void
test_question(void **state)
{
	struct request q;

	(void)state;
	key_of("a@example.org", "b@example.com", &q);
	assert_int_equal(q.nhits, 0);
	assert_int_equal(q.nrecords, 2);
	assert_int_equal(q.records[0].kind, PER_ADDRESS); /* which keeps the totals */
	assert_string_equal(q.records[0].key, "{192.0.2.0/24}:192.0.2.7");
	assert_int_equal(q.grey.record, 1);
	assert_int_equal(q.records[1].kind, PER_POOL);
	assert_string_equal(q.records[1].key, "{192.0.2.0/24}");
	assert_int_equal(q.grey.delay_us, 300 * USEC_PER_SEC);
	assert_int_equal(q.grey.window_us, INT64_C(86400) * USEC_PER_SEC);
	assert_false(q.grey.when_down);
	assert_false(q.grey.observed);
}

/* Whoever is only watched is held back by nobody, and is charged. */
static void
test_observed(void **state)
{
	struct ruleset r = greylist_only();
	struct facts f = facts("a@example.org", "b@example.com");
	struct request q;

	(void)state;
	r.observe = true;
	r.greylist.hold_when_down = true;
	memset(&q, 0xa5, sizeof q);
	assert_true(plan_request(&r, &f, &q));
	assert_true(q.grey.asked && q.grey.observed && q.grey.when_down);
}

static void
test_who_is_asked(void **state)
{
	static const struct {
		const char *recipient;
		enum stage stage;
		bool user, done, asked;
	} table[] = {
	    {"b@example.com", STAGE_RCPT, false, false, true},
	    {"b@example.com", STAGE_CONNECT, false, false, false},
	    {"b@example.com", STAGE_MAIL, false, false, false},
	    {"b@example.com", STAGE_RCPT, true, false, false},
	    {"b@example.com", STAGE_RCPT, false, true, false},
	    {"postmaster@example.com", STAGE_RCPT, false, false, false},
	    {"PostMaster@example.com", STAGE_RCPT, false, false, false},
	    {"postmaster", STAGE_RCPT, false, false, false},
	    {"abuse@example.com", STAGE_RCPT, false, false, false},
	    {"ABUSE@example.com", STAGE_RCPT, false, false, false},
	    {"abuse", STAGE_RCPT, false, false, false},
	    {"postmasters@example.com", STAGE_RCPT, false, false, true},
	    {"xabuse@example.com", STAGE_RCPT, false, false, true},
	    {"abus", STAGE_RCPT, false, false, true},
	    {"a", STAGE_RCPT, false, false, true},
	    {"", STAGE_RCPT, false, false, true},
	    {"b@postmaster", STAGE_RCPT, false, false, true},
	    {"abuse.b@example.com", STAGE_RCPT, false, false, true},
	};
	struct ruleset r = greylist_only();
	struct request q;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts("a@example.org", table[i].recipient);

		f.stage = table[i].stage;
		f.user = table[i].user ? "ann" : "";
		f.greylist_done = table[i].done;
		(void)plan_request(&r, &f, &q);
		if (q.grey.asked != table[i].asked)
			fail_msg("row %zu (%s)", i, table[i].recipient);
	}
	r.greylist.enabled = false;
	assert_false(plan_request(&r,
	    &(struct facts){.stage = STAGE_RCPT,
		.client.family = ADDR_V4,
		.user = "",
		.sender = "",
		.recipient = "b"},
	    &q));
}

/* --- lists ---------------------------------------------------------------------------------- */

static void
list(struct ruleset *r, const char *text, enum list_action action, int64_t delay_us)
{
	char err[LIMIT_ERR_MAX];
	struct who w;

	if (r->exceptions == NULL)
		r->exceptions = exceptions_new(0, 0);
	assert_non_null(r->exceptions);
	assert_true(who_parse(text, &w, err, sizeof err));
	exceptions_add_listed(
	    r->exceptions, &w, &(struct listing){.action = action, .delay_us = delay_us});
	assert_true(exceptions_seal(r->exceptions));
}

/* Whether it is asked at all, by what the file says of everybody and the lists of somebody. */
static void
test_lists(void **state)
{
	static const struct {
		bool listed_only, accept_null;
		const char *sender, *recipient;
		bool asked;
	} table[] = {
	    {false, false, "a@example.org", "any@example.com", true},
	    {false, false, "a@example.org", "off@example.com", false},
	    {false, false, "a@example.org", "on@example.com", true},
	    {false, false, "a@free.example", "any@example.com", false},
	    {false, false, "a@free.example", "on@example.com", false},
	    {false, false, "", "any@example.com", true},
	    {true, false, "a@example.org", "any@example.com", false},
	    {true, false, "a@example.org", "off@example.com", false},
	    {true, false, "a@example.org", "on@example.com", true},
	    {true, false, "a@example.org", "trap@example.com", false},
	    {true, false, "a@free.example", "on@example.com", false},
	    {true, false, "", "on@example.com", true},
	    {false, true, "", "any@example.com", false},
	    {true, true, "", "on@example.com", false},
	    {false, true, "a@example.org", "any@example.com", true},
	    {true, false, "a@example.org", "postmaster@example.com", false},
	};
	struct ruleset r = greylist_only();
	struct request q;

	(void)state;
	list(&r, "recipient:off@example.com", LIST_NO_GREYLIST, 0);
	list(&r, "recipient:on@example.com", LIST_GREYLIST, 0);
	list(&r, "recipient:postmaster@example.com", LIST_GREYLIST, 0);
	list(&r, "recipient:trap@example.com", LIST_TRAP, 0);
	list(&r, "sender:@free.example", LIST_NO_GREYLIST, 0);
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts(table[i].sender, table[i].recipient);

		r.greylist.listed_only = table[i].listed_only;
		r.greylist.accept_null_sender = table[i].accept_null;
		(void)plan_request(&r, &f, &q);
		if (q.grey.asked != table[i].asked)
			fail_msg("row %zu (%s)", i, table[i].recipient);
		assert_int_equal(
		    q.pool.block_us, strncmp(f.recipient, "trap@", 5) == 0 ? r.trap_us : 0);
	}
	r.greylist.enabled = false;
	struct facts f = facts("a@example.org", "on@example.com");
	(void)plan_request(&r, &f, &q);
	assert_false(q.grey.asked);
	/* traps and senders want RCPT all the same */
	assert_true(plan_steps(&r).rcpt && plan_steps(&r).mail);
	ruleset_deinit(&r);
	assert_false(plan_steps(&r).rcpt || plan_steps(&r).mail);
}

/* A recipient's own delay; the window ends half an hour after it at the earliest. */
static void
test_own_delay(void **state)
{
	static const int64_t minute = 60 * USEC_PER_SEC;
	static const struct {
		int64_t own, delay, window; /* minutes */
	} table[] = {
	    {0, 5, 60},
	    {1, 1, 60},
	    {29, 29, 60},
	    {30, 30, 60},
	    {31, 31, 61},
	    {1440, 1440, 1470},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct ruleset r = greylist_only();
		struct facts f = facts("a@example.org", "slow@example.com");
		struct facts other = facts("a@example.org", "other@example.com");
		struct request q;

		r.greylist.window_us = 60 * minute;
		list(&r, "recipient:slow@example.com", LIST_GREYLIST, table[i].own * minute);
		assert_true(plan_request(&r, &f, &q) && q.grey.asked);
		assert_int_equal(q.grey.delay_us, table[i].delay * minute);
		assert_int_equal(q.grey.window_us, table[i].window * minute);
		assert_true(plan_request(&r, &other, &q) && q.grey.asked);
		assert_int_equal(q.grey.delay_us, 5 * minute);
		assert_int_equal(q.grey.window_us, 60 * minute);
		ruleset_deinit(&r);
	}
}

static void
test_escaping(void **state)
{
	static const struct {
		const char *sender, *recipient, *want;
	} table[] = {
	    {"a@example.org", "b@example.com", "a@example.org b@example.com"},
	    {"A@Example.ORG", "B@EXAMPLE.com", "a@example.org b@example.com"},
	    {"", "b", "<> b"},
	    {"a b", "c", "a%20b c"},
	    {"a\nb\r\t", "c", "a%0ab%0d%09 c"},
	    {"100%", "c", "100%25 c"},
	    {"{all}", "c", "%7ball%7d c"},
	    {"a\x7f\x80\xff", "c", "a%7f%80%ff c"},
	    {"a\x01[@\\]^_`", "c", "a%01[@\\]^_` c"},
	    {"\"q q\"@x", "c", "\"q%20q\"@x c"},
	};
	struct request q;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *key = key_of(table[i].sender, table[i].recipient, &q);

		assert_memory_equal(key, PREFIX, strlen(PREFIX));
		assert_string_equal(key + strlen(PREFIX), table[i].want);
	}
}

/* Every length around the bound, of bytes that take one character and of bytes that take three. */
static void
test_lengths(void **state)
{
	char sender[TEXT_PART_MAX + 20];
	struct request q;

	(void)state;
	for (size_t plain = 0; plain < sizeof sender; plain++)
		for (size_t len = plain > 0 ? plain : 1; len < sizeof sender; len += 1 + len / 90) {
			size_t want = plain + 3 * (len - plain), part;
			const char *key;

			memset(sender, 'x', plain);
			memset(sender + plain, '\n', len - plain);
			sender[len] = '\0';
			key = key_of(sender, sender, &q) + strlen(PREFIX);
			part = strcspn(key, " ");
			assert_int_equal(strlen(key), 2 * part + 1);
			assert_memory_equal(key, key + part + 1, part);
			if (want + 2 <= TEXT_PART_MAX)
				assert_int_equal(part, want);
			else
				assert_in_range(part, TEXT_PART_MAX - 2, TEXT_PART_MAX);
		}
}

/* 10 kB of sender and recipient, and the longest record there is: within the bound, and told apart
 * by the hash. */
static void
test_over_long(void **state)
{
	static char one[10241], two[10241];
	struct ruleset r = greylist_only();
	struct facts f = facts(one, two);
	struct request p, q;
	size_t part;

	(void)state;
	memset(one, 'x', sizeof one - 1);
	memset(two, 'x', sizeof two - 1);
	two[10000] = 'y';
	r.network_v6 = 126;
	r.address_v6 = 125;
	assert_true(addr_parse("ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", &f.client));
	assert_true(plan_request(&r, &f, &q));
	assert_true(strlen(q.records[q.grey.record].key) < RECORD_KEY_MAX);
	assert_true(strlen(q.grey.key) < GREY_KEY_MAX);
	assert_int_equal(
	    strlen(q.grey.key), strlen(q.records[q.grey.record].key) + 2 + 2 * TEXT_PART_MAX);
	key_of(one, "c", &p);
	key_of(two, "c", &q);
	assert_string_not_equal(p.grey.key, q.grey.key);
	part = strlen(PREFIX) + TEXT_PART_MAX - 17;
	assert_memory_equal(p.grey.key, q.grey.key, part);
	assert_int_equal(p.grey.key[part], '~');
	assert_int_equal(strspn(p.grey.key + part + 1, "0123456789abcdef"), 16);
	key_of(one, "c", &q);
	assert_string_equal(p.grey.key, q.grey.key);
	/* a retry in other case is the same sender, however long */
	memset(two, 'X', sizeof two - 1);
	key_of(two, "c", &q);
	assert_string_equal(p.grey.key, q.grey.key);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_question),
	    cmocka_unit_test(test_observed),
	    cmocka_unit_test(test_who_is_asked),
	    cmocka_unit_test(test_lists),
	    cmocka_unit_test(test_own_delay),
	    cmocka_unit_test(test_escaping),
	    cmocka_unit_test(test_lengths),
	    cmocka_unit_test(test_over_long),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
