/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_ruleset.c - the built-in limits, and the rules that hold for all of a ruleset. What Redis
 * lays over it: test_ruleset_overlay.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "weir/ruleset.h"
#include "weir/units.h"

static struct ruleset
defaults(void)
{
	char err[LIMIT_ERR_MAX];
	struct ruleset r;

	ruleset_defaults(&r);
	if (!ruleset_finish(&r, err, sizeof err))
		fail_msg("%s", err);
	return r;
}

static void
test_defaults(void **state)
{
	struct ruleset r = defaults();

	(void)state;
	assert_int_equal(r.nlimits, 3);
	assert_int_equal(ruleset_limit(&r, "connections")->burst, 60);
	assert_int_equal(ruleset_limit(&r, "sessions")->max, 20);
	assert_int_equal(ruleset_limit(&r, "recipients")->per, PER_NETWORK);
	assert_null(ruleset_limit(&r, "messages"));
	for (unsigned i = 0; i < r.nlimits; i++) {
		assert_int_equal(r.limits[i].action, ACTION_REFUSE);
		assert_string_equal(r.limits[i].reply.code, "421");
	}
	assert_false(r.greylist.enabled || r.observe);
	assert_true(reply_closes(&r.greylist.reply));
	assert_string_equal(r.generation, "");
	assert_true(r.valid_until_us == INT64_MAX);
	assert_null(r.exceptions);
	assert_true(reply_closes(&r.block_reply));
	assert_int_equal(r.address_v6, 64);
	assert_int_equal(r.network_v4, 24);
	assert_int_equal(r.network_v6, 64);
}

static void
test_finish_names_the_limit(void **state)
{
	struct ruleset r = defaults();
	char err[LIMIT_ERR_MAX];

	(void)state;
	ruleset_limit(&r, "sessions")->max = 0;
	assert_false(ruleset_finish(&r, err, sizeof err));
	assert_non_null(strstr(err, "limit sessions: "));
}

static void
test_greylist_rules(void **state)
{
	static const struct {
		bool enabled;
		int64_t delay_s, window_s, keep_s;
		const char *says;
	} table[] = {
	    {true, 300, 86400, 86400, NULL},
	    {true, 300, 2100, 86400, NULL},
	    {true, 300, 2099, 86400, "30 minutes"},
	    {true, 300, 86400, 86399, "keep"},
	    {false, 300, 0, 0, NULL},
	};
	char err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct ruleset r = defaults();

		strcpy(err, "nothing");
		r.greylist.enabled = table[i].enabled;
		r.greylist.delay_us = table[i].delay_s * USEC_PER_SEC;
		r.greylist.window_us = table[i].window_s * USEC_PER_SEC;
		r.greylist.keep_us = table[i].keep_s * USEC_PER_SEC;
		if (ruleset_finish(&r, err, sizeof err) != (table[i].says == NULL) ||
		    (table[i].says != NULL && strstr(err, table[i].says) == NULL))
			fail_msg("row %zu says: %s", i, err);
	}
}

/* By the client's address and login alone. */
static bool
exempt(const struct ruleset *r, const struct addr *client, const char *user)
{
	const struct facts f = {.client = *client, .user = user, .name = ""};

	return ruleset_exempt(r, &f);
}

static bool
blocked(const struct ruleset *r, const struct addr *client, const char *user)
{
	const struct facts f = {.client = *client, .user = user, .name = ""};

	return ruleset_blocked(r, &f);
}

static void
test_exempt(void **state)
{
	struct netset *set = netset_new();
	struct ruleset r = defaults();
	struct addr a;
	struct net n;

	(void)state;
	assert_true(addr_parse("192.0.2.7", &a));
	assert_true(exempt(&r, &(struct addr){.family = ADDR_NONE}, ""));
	assert_false(exempt(&r, &a, ""));
	assert_true(net_parse("192.0.2.0/24", &n) && netset_add(set, &n));
	netset_seal(set);
	r.exempt = set;
	assert_true(exempt(&r, &a, ""));
	assert_true(addr_parse("192.0.3.7", &a));
	assert_false(exempt(&r, &a, ""));
	assert_false(blocked(&r, &a, ""));
	netset_free(&set);
}

/* The file's list gives way to what Redis says of the client: the nearer entry counts. */
static void
test_listed(void **state)
{
	static const struct {
		const char *client, *user;
		bool exempt, blocked;
	} table[] = {
	    {"192.0.2.7", "", true, false}, /* by the file */
	    {"192.0.2.66", "", false, true}, /* blocked within it */
	    {"198.51.100.1", "", false, true},
	    {"198.51.100.7", "", true, false}, /* exempt within a block */
	    {"198.51.100.1", "ann", true, false},
	    {"198.51.100.7", "bob", false, true},
	    {"203.0.113.1", "", false, false},
	    {"203.0.113.1", "bob", false, true},
	};
	static const struct {
		const char *who;
		enum list_action what;
	} lists[] = {
	    {"192.0.2.66", LIST_BLOCK},
	    {"198.51.100.0/24", LIST_BLOCK},
	    {"198.51.100.7", LIST_EXEMPT},
	    {"user:ann", LIST_EXEMPT},
	    {"user:bob", LIST_BLOCK},
	};
	struct netset *set = netset_new();
	struct ruleset r = defaults();
	char err[LIMIT_ERR_MAX];
	struct addr a;
	struct net n;

	(void)state;
	assert_true(net_parse("192.0.2.0/24", &n) && netset_add(set, &n));
	netset_seal(set);
	r.exempt = set;
	r.exceptions = exceptions_new(0, sizeof lists / sizeof lists[0]);
	assert_non_null(r.exceptions);
	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++) {
		struct who w;

		assert_true(who_parse(lists[i].who, &w, err, sizeof err));
		exceptions_add_listed(r.exceptions, &w, &(struct listing){.action = lists[i].what});
	}
	assert_true(exceptions_seal(r.exceptions));
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		assert_true(addr_parse(table[i].client, &a));
		if (exempt(&r, &a, table[i].user) != table[i].exempt ||
		    blocked(&r, &a, table[i].user) != table[i].blocked)
			fail_msg("row %zu (%s %s)", i, table[i].client, table[i].user);
	}
	/* the host's own mail, whoever sent it */
	assert_true(exempt(&r, &(struct addr){.family = ADDR_NONE}, "bob"));
	assert_false(blocked(&r, &(struct addr){.family = ADDR_NONE}, "bob"));
	ruleset_deinit(&r);
	assert_null(r.exceptions);
	ruleset_deinit(&r);
	netset_free(&set);
}

static void
test_limit_add(void **state)
{
	struct ruleset r;
	char name[] = "limit-?";

	(void)state;
	memset(&r, 0, sizeof r);
	for (int i = 0; i < LIMITS_MAX; i++) {
		name[6] = (char)('a' + i);
		assert_non_null(ruleset_limit_add(&r, name));
	}
	assert_null(ruleset_limit_add(&r, "another"));
	assert_ptr_equal(ruleset_limit_add(&r, "limit-c"), &r.limits[2]);
	assert_int_equal(r.nlimits, LIMITS_MAX);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_defaults),
	    cmocka_unit_test(test_finish_names_the_limit),
	    cmocka_unit_test(test_greylist_rules),
	    cmocka_unit_test(test_exempt),
	    cmocka_unit_test(test_listed),
	    cmocka_unit_test(test_limit_add),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
