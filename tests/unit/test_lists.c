/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_lists.c - what the lists say: their words, and which entry decides about greylisting and
 * about traps. Exempt and blocked clients: test_exceptions.c.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/exceptions.h"
#include "weir/units.h"

#define COUNT(table) (unsigned)(sizeof(table) / sizeof((table)[0]))
#define MINUTE (60 * USEC_PER_SEC)

/* --- words ---------------------------------------------------------------------------------- */

static void
test_words(void **state)
{
	static const struct {
		const char *who, *words;
		enum list_action action;
		int64_t delay_us;
	} table[] = {
	    {"192.0.2.7", "action=exempt", LIST_EXEMPT, 0},
	    {"192.0.2.0/24", "action=block", LIST_BLOCK, 0},
	    {"192.0.2.0/24", "action=no-greylist", LIST_NO_GREYLIST, 0},
	    {"user:ann", "action=\"block\"", LIST_BLOCK, 0},
	    {"user:ann", "action=no-greylist", LIST_NO_GREYLIST, 0},
	    {"name:example.org", "action=exempt", LIST_EXEMPT, 0},
	    {"name:example.org", "action=no-greylist", LIST_NO_GREYLIST, 0},
	    {"sender:<>", "action=no-greylist", LIST_NO_GREYLIST, 0},
	    {"sender:@example.org", "action=no-greylist", LIST_NO_GREYLIST, 0},
	    {"recipient:a@b", "action=no-greylist", LIST_NO_GREYLIST, 0},
	    {"recipient:a@b", "action=greylist", LIST_GREYLIST, 0},
	    {"recipient:@b", "action=greylist delay=10m", LIST_GREYLIST, 10 * MINUTE},
	    {"recipient:a@", "delay=1s action=greylist", LIST_GREYLIST, USEC_PER_SEC},
	    {"recipient:a@b", "action=greylist delay=4d", LIST_GREYLIST, 5760 * MINUTE},
	    {"recipient:a@b", "action=greylist delay=300", LIST_GREYLIST, 5 * MINUTE},
	    {"recipient:@.b", "action=trap", LIST_TRAP, 0},
	};
	char err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct listing l;
		struct who w;

		assert_true(who_parse(table[i].who, &w, err, sizeof err));
		if (!listing_parse(table[i].words, &w, &l, err, sizeof err))
			fail_msg("row %zu (%s %s): %s", i, table[i].who, table[i].words, err);
		if (l.action != table[i].action || l.delay_us != table[i].delay_us)
			fail_msg("row %zu: %d %lld", i, l.action, (long long)l.delay_us);
	}
	/* the names are the words */
	for (int a = 0; a < LIST_ACTIONS; a++) {
		struct listing l;

		listing_init(&l);
		assert_true(listing_set(
		    &l, "action", list_action_name((enum list_action)a), err, sizeof err));
		assert_int_equal(l.action, a);
	}
}

static void
test_refused_words(void **state)
{
	static const struct {
		const char *who, *words, *says;
	} table[] = {
	    /* what makes no sense of somebody */
	    {"name:example.org", "action=block", "block the address or network"},
	    {"sender:a@b", "action=exempt", "anybody can write this sender's address"},
	    {"sender:a@b", "action=block", "anybody can write this sender's address"},
	    {"sender:a@b", "action=greylist", "is for recipients"},
	    {"sender:a@b", "action=trap", "a trap is a recipient"},
	    {"recipient:a@b", "action=exempt", "clients are exempt or blocked"},
	    {"recipient:a@b", "action=block", "clients are exempt or blocked"},
	    {"192.0.2.7", "action=greylist", "is for recipients"},
	    {"192.0.2.7", "action=trap", "a trap is a recipient"},
	    {"user:ann", "action=greylist", "is for recipients"},
	    {"name:a.b", "action=greylist delay=5m", "is for recipients"},
	    {"192.0.2.7", "action=exempt delay=5m", "delay goes with action=greylist only"},
	    {"recipient:a@b", "action=no-greylist delay=5m", "delay goes with action=greylist"},
	    {"recipient:a@b", "action=trap delay=5m", "delay goes with action=greylist"},
	    /* what is no entry at all */
	    {"recipient:a@b", "delay=5m", "must say action="},
	    {"recipient:a@b", "", "must say action="},
	    {"recipient:a@b", "greylist", "must say action="},
	    {"recipient:a@b", "action=", "must say action="},
	    {"192.0.2.7", "action=refuse", "action is exempt, block"},
	    {"192.0.2.7", "action=Block", "action is exempt, block"},
	    {"192.0.2.7", "action=blocked", "action is exempt, block"},
	    {"192.0.2.7", "action=block action=block", "twice"},
	    {"recipient:a@b", "delay=5m delay=6m action=greylist", "twice"},
	    {"192.0.2.7", "action=block rate=5/1m", "action and delay only"},
	    {"192.0.2.7", "Action=block", "action and delay only"},
	    {"192.0.2.7", "action=block and more", "must say action="},
	    {"recipient:a@b", "action=greylist delay=0", "delay is a duration from 1s to 4d"},
	    {"recipient:a@b", "action=greylist delay=999ms", "delay is a duration from 1s to 4d"},
	    {"recipient:a@b", "action=greylist delay=345601", "delay is a duration from 1s to 4d"},
	    {"recipient:a@b", "action=greylist delay=-1", "delay is a duration from 1s to 4d"},
	    {"recipient:a@b", "action=greylist delay=soon", "delay is a duration from 1s to 4d"},
	};
	char err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++) {
		struct listing l;
		struct who w;

		assert_true(who_parse(table[i].who, &w, err, sizeof err));
		err[0] = '\0';
		if (listing_parse(table[i].words, &w, &l, err, sizeof err) ||
		    strstr(err, table[i].says) == NULL)
			fail_msg("row %zu (%s %s): %s", i, table[i].who, table[i].words, err);
	}
}

/* --- which entry decides -------------------------------------------------------------------- */

static struct exceptions *
lists(const char *const *entries, unsigned n, unsigned turn)
{
	struct exceptions *e = exceptions_new(0, n);
	char text[WHO_TEXT_MAX + 64], err[LIMIT_ERR_MAX];

	assert_non_null(e);
	for (unsigned i = 0; i < n; i++) {
		struct listing l;
		struct who w;
		char *words;

		snprintf(text, sizeof text, "%s", entries[(i + turn) % n]);
		words = strchr(text, ' ');
		assert_non_null(words);
		*words++ = '\0';
		if (!who_parse(text, &w, err, sizeof err) ||
		    !listing_parse(words, &w, &l, err, sizeof err))
			fail_msg("%s: %s", text, err);
		exceptions_add_listed(e, &w, &l);
	}
	assert_true(exceptions_seal(e));
	return e;
}

static const char *const entries[] = {
    "192.0.2.0/24 action=no-greylist",
    "192.0.2.9 action=exempt", /* says nothing of greylisting */
    "2001:db8::/32 action=no-greylist",
    "198.51.100.0/24 action=block",
    "user:ann action=no-greylist",
    "name:lists.example.net action=no-greylist",
    "sender:<> action=no-greylist",
    "sender:bounces@lists.example action=no-greylist",
    "sender:@partner.example action=no-greylist",
    "sender:@.partner.example action=no-greylist",
    "sender:vip@ action=no-greylist",
    "recipient:ann@example.org action=greylist delay=10m",
    "recipient:ann+now@example.org action=no-greylist",
    "recipient:bob@example.org action=no-greylist",
    "recipient:@example.org action=greylist",
    "recipient:@quick.example action=no-greylist",
    "recipient:slow@quick.example action=greylist delay=1h",
    "recipient:@.example.com action=greylist delay=2m",
    "recipient:@.deep.example.com action=no-greylist",
    "recipient:info@ action=greylist delay=20m",
    "recipient:@trap.example action=trap",
    "recipient:old@example.org action=trap",
    "recipient:info@trap.example action=no-greylist",
};

static void
test_greylist(void **state)
{
	static const struct {
		const char *client, *user, *name, *sender, *recipient;
		const char *who; /* that decides; NULL: nobody */
		enum grey_wish wish;
		int64_t delay_us;
	} table[] = {
	    /* the recipient: address, domain, domains above, local part */
	    {"203.0.113.1", "", "", "a@b", "ann@example.org", "recipient:ann@example.org",
		GREY_WISH_ON, 10 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "ANN+x@Example.org", "recipient:ann@example.org",
		GREY_WISH_ON, 10 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "ann+now@example.org", "recipient:ann+now@example.org",
		GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "a@b", "bob@example.org", "recipient:bob@example.org",
		GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "a@b", "joe@example.org", "recipient:@example.org",
		GREY_WISH_ON, 0},
	    {"203.0.113.1", "", "", "a@b", "info@example.org", "recipient:@example.org",
		GREY_WISH_ON, 0},
	    {"203.0.113.1", "", "", "a@b", "joe@quick.example", "recipient:@quick.example",
		GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "a@b", "slow@quick.example", "recipient:slow@quick.example",
		GREY_WISH_ON, 60 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "joe@sub.quick.example", NULL, GREY_WISH_NONE, 0},
	    {"203.0.113.1", "", "", "a@b", "joe@example.com", NULL, GREY_WISH_NONE, 0},
	    {"203.0.113.1", "", "", "a@b", "joe@a.example.com", "recipient:@.example.com",
		GREY_WISH_ON, 2 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "joe@a.b.example.com", "recipient:@.example.com",
		GREY_WISH_ON, 2 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "joe@deep.example.com", "recipient:@.example.com",
		GREY_WISH_ON, 2 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "joe@x.deep.example.com", "recipient:@.deep.example.com",
		GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "a@b", "info@a.example.com", "recipient:@.example.com",
		GREY_WISH_ON, 2 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "Info@other.example", "recipient:info@", GREY_WISH_ON,
		20 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "info+x@other.example", "recipient:info@", GREY_WISH_ON,
		20 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "info", "recipient:info@", GREY_WISH_ON, 20 * MINUTE},
	    {"203.0.113.1", "", "", "a@b", "joe@other.example", NULL, GREY_WISH_NONE, 0},
	    {"203.0.113.1", "", "", "a@b", "", NULL, GREY_WISH_NONE, 0},
	    /* a trap says nothing of greylisting, and hides what is less specific */
	    {"203.0.113.1", "", "", "a@b", "old@example.org", NULL, GREY_WISH_NONE, 0},
	    {"203.0.113.1", "", "", "a@b", "joe@trap.example", NULL, GREY_WISH_NONE, 0},
	    {"203.0.113.1", "", "", "a@b", "info@trap.example", "recipient:info@trap.example",
		GREY_WISH_OFF, 0},
	    /* the client and the sender before the recipient */
	    {"192.0.2.1", "", "", "a@b", "ann@example.org", "192.0.2.0/24", GREY_WISH_OFF, 0},
	    {"192.0.2.9", "", "", "a@b", "ann@example.org", "192.0.2.0/24", GREY_WISH_OFF, 0},
	    {"2001:db8::9", "", "", "a@b", "ann@example.org", "2001:db8::/32", GREY_WISH_OFF, 0},
	    {"198.51.100.1", "", "", "a@b", "joe@other.example", NULL, GREY_WISH_NONE, 0},
	    {"203.0.113.1", "ann", "", "a@b", "ann@example.org", "user:ann", GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "mx1.LISTS.example.net", "a@b", "ann@example.org",
		"name:lists.example.net", GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "example.net", "a@b", "bob@x.example", NULL, GREY_WISH_NONE, 0},
	    {"203.0.113.1", "", "", "", "ann@example.org", "sender:<>", GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "bounces+17-ann=example.org@lists.example", "ann@example.org",
		"sender:bounces@lists.example", GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "other@lists.example", "joe@other.example", NULL,
		GREY_WISH_NONE, 0},
	    {"203.0.113.1", "", "", "x@Partner.example", "ann@example.org",
		"sender:@partner.example", GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "x@a.b.partner.example", "ann@example.org",
		"sender:@.partner.example", GREY_WISH_OFF, 0},
	    {"203.0.113.1", "", "", "vip@anywhere", "ann@example.org", "sender:vip@", GREY_WISH_OFF,
		0},
	    {"", "", "", "a@b", "bob@example.org", "recipient:bob@example.org", GREY_WISH_OFF, 0},
	};

	(void)state;
	for (unsigned turn = 0; turn < COUNT(entries); turn++) {
		struct exceptions *e = lists(entries, COUNT(entries), turn);

		for (size_t i = 0; i < COUNT(table); i++) {
			struct facts f = {.stage = STAGE_RCPT,
			    .user = table[i].user,
			    .name = table[i].name,
			    .sender = table[i].sender,
			    .recipient = table[i].recipient};
			const struct listed_entry *l;
			char text[WHO_TEXT_MAX];
			int64_t delay_us = -1;

			if (table[i].client[0] != '\0')
				assert_true(addr_parse(table[i].client, &f.client));
			l = exceptions_greylist_entry(e, &f);
			if ((l == NULL) != (table[i].who == NULL) ||
			    (l != NULL && strcmp(listed_who(l, text), table[i].who) != 0))
				fail_msg("turn %u, row %zu: %s", turn, i,
				    l != NULL ? listed_who(l, text) : "none");
			if (exceptions_greylist(e, &f, &delay_us) != table[i].wish ||
			    delay_us != table[i].delay_us)
				fail_msg("turn %u, row %zu: %lld", turn, i, (long long)delay_us);
		}
		exceptions_free(&e);
	}
}

static void
test_trap(void **state)
{
	static const struct {
		const char *recipient;
		bool trap;
	} table[] = {
	    {"old@example.org", true},
	    {"OLD@EXAMPLE.ORG", true},
	    {"old+x@example.org", true},
	    {"older@example.org", false},
	    {"old@sub.example.org", false},
	    {"anybody@trap.example", true},
	    {"info@trap.example", false}, /* the address before the domain */
	    {"info+x@trap.example", false},
	    {"a@sub.trap.example", false},
	    {"ann@example.org", false},
	    {"", false},
	    {"old", false},
	    {"old@", false},
	};
	struct exceptions *e = lists(entries, COUNT(entries), 0);

	(void)state;
	for (size_t i = 0; i < COUNT(table); i++)
		if (exceptions_trap(e, table[i].recipient) != table[i].trap)
			fail_msg("row %zu (%s)", i, table[i].recipient);
	exceptions_free(&e);
}

static void
test_none(void **state)
{
	const struct facts f = {.stage = STAGE_RCPT, .user = "", .sender = "", .recipient = "a@b"};
	struct exceptions *e = exceptions_new(0, 0);
	int64_t delay_us = -1;

	(void)state;
	assert_non_null(e);
	assert_true(exceptions_seal(e));
	for (int i = 0; i < 2; i++) {
		assert_int_equal(exceptions_greylist(e, &f, &delay_us), GREY_WISH_NONE);
		assert_int_equal(delay_us, 0);
		exceptions_free(&e); /* and now with NULL */
	}
}

/* As many texts as there may be, the longest among them: each is found, and no other. */
static void
test_many(void **state)
{
	struct exceptions *e = exceptions_new(0, 0);
	char text[MAILBOX_MAX + 32], err[LIMIT_ERR_MAX];
	const struct listing says[] = {
	    {.action = LIST_GREYLIST, .delay_us = MINUTE}, {.action = LIST_NO_GREYLIST}};
	struct facts f = {.stage = STAGE_RCPT, .user = "", .name = "", .sender = "a@b"};
	int64_t delay_us;

	(void)state;
	assert_non_null(e);
	for (unsigned i = 0; i < LISTED_MAX; i++) {
		struct who w;

		snprintf(text, sizeof text, "recipient:%0*u@%060d.%060d.%060d.example",
		    i % 64 + 1 > 5 ? (int)(i % 64 + 1) : 5, i, 0, 0, 0);
		if (!who_parse(text, &w, err, sizeof err))
			fail_msg("%s: %s", text, err);
		exceptions_add_listed(e, &w, &says[i % 2]);
	}
	assert_true(exceptions_seal(e));
	assert_int_equal(exceptions_count(e), LISTED_MAX);
	for (unsigned i = 0; i < LISTED_MAX; i++) {
		snprintf(text, sizeof text, "%0*u@%060d.%060d.%060d.example",
		    i % 64 + 1 > 5 ? (int)(i % 64 + 1) : 5, i, 0, 0, 0);
		f.recipient = text;
		assert_int_equal(exceptions_greylist(e, &f, &delay_us),
		    i % 2 == 0 ? GREY_WISH_ON : GREY_WISH_OFF);
		assert_int_equal(delay_us, i % 2 == 0 ? MINUTE : 0);
		text[0] = 'x';
		assert_int_equal(exceptions_greylist(e, &f, &delay_us), GREY_WISH_NONE);
	}
	exceptions_free(&e);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_words),
	    cmocka_unit_test(test_refused_words),
	    cmocka_unit_test(test_greylist),
	    cmocka_unit_test(test_trap),
	    cmocka_unit_test(test_none),
	    cmocka_unit_test(test_many),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
