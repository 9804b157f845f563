/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_replay.c - plan, ask, judge over a log, for one ruleset and for two.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "maillog_fixture.h"
#include "replay.h"

#define ZONE (INT64_C(1) << 20)

/* A ruleset with just these limits: "NAME WORDS" each, NULL ends. */
static struct ruleset
rules(const char *const *limits)
{
	struct ruleset r;
	char err[LIMIT_ERR_MAX] = "";

	ruleset_defaults(&r);
	r.nlimits = 0;
	for (; limits != NULL && *limits != NULL; limits++) {
		char name[LIMIT_NAME_MAX + 1];
		size_t len = strcspn(*limits, " ");
		struct limit *l;

		snprintf(name, sizeof name, "%.*s", (int)len, *limits);
		l = ruleset_limit_add(&r, name);
		assert_true(limit_set_words(l, *limits + len + 1, err, sizeof err));
	}
	assert_true(ruleset_finish(&r, err, sizeof err));
	return r;
}

#define RULES(...) rules((const char *const[]){__VA_ARGS__, NULL})

static struct replay *
start(const struct ruleset *now, const struct ruleset *candidate, struct log_writer *log)
{
	struct replay *r = replay_new(now, candidate, ZONE);

	assert_non_null(r);
	*log = (struct log_writer){.fn = traffic_event, .ctx = r->traffic};
	return r;
}

#define TALLY(t, n, g) \
	do { \
		assert_int_equal((t).refused, n); \
		assert_int_equal((t).good, g); \
	} while (0)

static void
test_connections(void **state)
{
	struct ruleset now = RULES("connections rate=1/1h burst=30"),
		       candidate = RULES("connections rate=1/1h burst=10");
	struct log_writer log;
	struct replay *r = start(&now, &candidate, &log);

	(void)state;
	for (int i = 0; i < 40; i++)
		write_message(&log, 7, "192.0.2.7", "a@b", 1);
	traffic_finish(r->traffic);
	TALLY(r->trials[0].sessions, 10, 10);
	TALLY(r->trials[1].sessions, 30, 30);
	TALLY(r->trials[0].causes[CAUSE_LIMIT], 10, 10);
	TALLY(r->trials[1].causes[CAUSE_LIMIT], 30, 30);
	/* what they had to say is lost with them, and is not charged to anything */
	TALLY(r->trials[1].messages, 30, 30);
	TALLY(r->trials[1].causes[CAUSE_SESSION], 30, 30);
	TALLY(r->cross_sessions[1], 0, 0);
	TALLY(r->cross_sessions[2], 20, 20);
	TALLY(r->cross_sessions[3], 10, 10);
	TALLY(r->cross_messages[2], 20, 20);
	assert_int_equal(r->trials[0].sessions.reason[0], 10);
	assert_int_equal(r->trials[0].sessions.reason[1], 0);
	assert_string_equal(replay_cause_name(&r->trials[0], CAUSE_LIMIT), "connections");
	replay_free(&r);
	assert_null(r);
}

/* The log's clock drains the buckets: one a minute is let in again. */
static void
test_clock(void **state)
{
	struct ruleset now = RULES("connections rate=1/1m burst=2");
	struct log_writer log;
	struct replay *r = start(&now, NULL, &log);

	(void)state;
	for (int i = 0; i < 6; i++) {
		log.s = i * 30;
		write_message(&log, 7, "192.0.2.7", "a@b", 1);
	}
	traffic_finish(r->traffic);
	/* at 0, 30: 2; at 60: 1 + 1; 90: full; 120: in; 150: full */
	TALLY(r->trials[0].sessions, 2, 2);
	replay_free(&r);
}

static void
session(struct log_writer *log, int pid, bool begin)
{
	char tag[32];

	snprintf(tag, sizeof tag, "postfix/smtpd[%d]", pid);
	write_log(log, tag, "%s from unknown[192.0.2.7]", begin ? "connect" : "disconnect");
}

/* Open sessions are counted up and down. */
static void
test_sessions(void **state)
{
	struct ruleset now = RULES("sessions max=2");
	struct log_writer log;
	struct replay *r = start(&now, NULL, &log);

	(void)state;
	for (int round = 0; round < 3; round++) {
		for (int i = 0; i < 4; i++)
			session(&log, i, true);
		for (int i = 0; i < 4; i++)
			session(&log, i, false);
		log.s += 10;
	}
	traffic_finish(r->traffic);
	TALLY(r->trials[0].sessions, 6, 0);
	replay_free(&r);
}

/* A 421 at RCPT cuts the session off: what follows in it is lost, and it is open no more. */
static void
test_cut_off(void **state)
{
	struct ruleset now = RULES("recipients per=address rate=1/1h burst=3", "sessions max=1");
	struct log_writer log;
	struct replay *r = start(&now, NULL, &log);

	(void)state;
	write_log(&log, "postfix/smtpd[7]", "connect from unknown[192.0.2.7]");
	for (int i = 0; i < 3; i++) {
		write_log(&log, "postfix/smtpd[7]", "AAAA%d: client=unknown[192.0.2.7]", i);
		write_log(&log, "postfix/qmgr[1]",
		    "AAAA%d: from=<a@b>, size=9, nrcpt=2 (queue active)", i);
	}
	/* the second message was cut off at its second recipient, so this one finds room */
	write_log(&log, "postfix/smtpd[8]", "connect from unknown[192.0.2.7]");
	write_log(&log, "postfix/smtpd[8]", "disconnect from unknown[192.0.2.7]");
	write_log(&log, "postfix/smtpd[7]", "disconnect from unknown[192.0.2.7]");
	traffic_finish(r->traffic);
	TALLY(r->trials[0].sessions, 0, 0);
	TALLY(r->trials[0].messages, 2, 0);
	TALLY(r->trials[0].causes[CAUSE_LIMIT], 1, 0);
	TALLY(r->trials[0].causes[CAUSE_SESSION], 1, 0);
	replay_free(&r);
}

/* With a 451 the session goes on. */
static void
test_put_off(void **state)
{
	struct ruleset now = RULES("messages per=address rate=1/1h burst=1 action=defer");
	struct log_writer log;
	struct replay *r = start(&now, NULL, &log);

	(void)state;
	write_log(&log, "postfix/smtpd[7]", "connect from unknown[192.0.2.7]");
	for (int i = 0; i < 3; i++) {
		write_log(&log, "postfix/smtpd[7]", "AAAA%d: client=unknown[192.0.2.7]", i);
		write_log(&log, "postfix/qmgr[1]",
		    "AAAA%d: from=<a@b>, size=9, nrcpt=1 (queue active)", i);
	}
	traffic_finish(r->traffic);
	TALLY(r->trials[0].messages, 2, 0);
	TALLY(r->trials[0].causes[CAUSE_LIMIT], 2, 0);
	TALLY(r->trials[0].causes[CAUSE_SESSION], 0, 0);
	replay_free(&r);
}

/* A message costs one, however many recipients it has. */
static void
test_messages(void **state)
{
	struct ruleset now = RULES("messages per=address rate=1/1h burst=2");
	struct log_writer log;
	struct replay *r = start(&now, NULL, &log);

	(void)state;
	for (int i = 0; i < 3; i++)
		write_message(&log, 7, "192.0.2.7", "a@b", 5);
	traffic_finish(r->traffic);
	TALLY(r->trials[0].messages, 1, 1);
	replay_free(&r);
}

/* What a limit counts per: senders, users, recipients. */
static void
test_kinds(void **state)
{
	static const struct {
		const char *limit;
		int refused;
	} table[] = {
	    {"messages per=sender rate=1/1h burst=2", 3}, /* a@b: 5 */
	    {"messages per=sender-domain rate=1/1h burst=2", 4},
	    {"messages per=user rate=1/1h burst=2", 0},
	    {"recipients per=recipient rate=1/1h burst=2", 4}, /* u1: 6 */
	    {"recipients per=network rate=1/1h burst=2", 4},
	    {"recipients per=helo rate=1/1h burst=1", 0},
	    {"recipients per=all rate=1/1h burst=5", 1},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct ruleset now = RULES(table[i].limit);
		struct log_writer log;
		struct replay *r = start(&now, NULL, &log);
		char client[32];

		for (int k = 0; k < 5; k++) {
			snprintf(client, sizeof client, "192.0.2.%d", k + 1);
			write_message(&log, 7, client, "a@b", 1);
		}
		write_message(&log, 7, "192.0.2.1", "c@b", 1);
		traffic_finish(r->traffic);
		if (r->trials[0].messages.refused != table[i].refused)
			print_message("%s\n", table[i].limit);
		assert_int_equal(r->trials[0].messages.refused, table[i].refused);
		replay_free(&r);
	}
}

/* Only logged: nobody is refused, and it is counted. */
static void
test_shadow(void **state)
{
	struct ruleset now = RULES("connections rate=1/1h burst=2 action=log");
	struct log_writer log;
	struct replay *r = start(&now, NULL, &log);

	(void)state;
	for (int i = 0; i < 5; i++)
		write_message(&log, 7, "192.0.2.7", "a@b", 1);
	traffic_finish(r->traffic);
	TALLY(r->trials[0].sessions, 0, 0);
	assert_int_equal(r->trials[0].noted[0], 3);
	replay_free(&r);
}

/* mode = observe refuses nobody; the question here is whom enforcing would refuse. */
static void
test_observe(void **state)
{
	struct ruleset now = RULES("connections rate=1/1h burst=2");
	struct log_writer log;
	struct replay *r;

	(void)state;
	now.observe = true;
	r = start(&now, NULL, &log);
	for (int i = 0; i < 5; i++)
		write_message(&log, 7, "192.0.2.7", "a@b", 1);
	traffic_finish(r->traffic);
	TALLY(r->trials[0].sessions, 3, 3);
	replay_free(&r);
	/* whom greylisting holds back costs nothing, as if enforced */
	now = RULES("messages per=address rate=1/1h burst=1");
	now.observe = now.greylist.enabled = true;
	r = start(&now, NULL, &log);
	write_message(&log, 7, "192.0.2.7", "a@b", 1);
	write_message(&log, 7, "192.0.2.7", "c@d", 1);
	traffic_finish(r->traffic);
	TALLY(r->trials[0].causes[CAUSE_GREYLIST], 2, 2);
	TALLY(r->trials[0].causes[CAUSE_LIMIT], 0, 0);
	replay_free(&r);
}

/* Good turns out later, and is counted once for each reason. */
static void
test_good(void **state)
{
	struct ruleset now = RULES("connections rate=1/1d burst=1");
	struct log_writer log;
	struct replay *r = start(&now, NULL, &log);
	const struct mail_client *c;
	struct addr a;

	(void)state;
	session(&log, 1, true);
	session(&log, 1, false);
	write_log(&log, "postfix/smtpd[2]", "connect from unknown[192.0.2.7]");
	write_log(&log, "postfix/smtpd[2]", "AAAAA: client=unknown[192.0.2.7], sasl_username=ann");
	write_log(&log, "postfix/qmgr[1]", "AAAAA: from=<a@b>, size=9, nrcpt=2 (queue active)");
	write_log(&log, "postfix/smtpd[2]", "disconnect from unknown[192.0.2.7]");
	/* refused, and nothing good is ever heard of it */
	session(&log, 3, true);
	session(&log, 3, false);
	log.s = 7200;
	write_log(&log, "postfix/lmtp[1]", "AAAAA: to=<u1@x>, status=sent (ok)");
	write_log(&log, "postfix/lmtp[1]", "AAAAA: to=<u2@x>, status=sent (ok)");
	traffic_finish(r->traffic);
	TALLY(r->trials[0].sessions, 2, 1);
	TALLY(r->trials[0].messages, 1, 1);
	assert_int_equal(r->trials[0].sessions.reason[0], 1); /* delivered */
	assert_int_equal(r->trials[0].sessions.reason[1], 0); /* known */
	assert_int_equal(r->trials[0].sessions.reason[2], 1); /* authenticated */
	assert_true(addr_parse("192.0.2.7", &a));
	c = traffic_client(r->traffic, &a);
	assert_non_null(c);
	assert_int_equal(c->refused[0], 3);
	assert_int_equal(c->good, 2);
	replay_free(&r);
}

/* A client comes back once after greylisting held it, and is known then. */
static void
test_greylist(void **state)
{
	struct ruleset now = RULES("connections rate=1000/1s"), grey = now;
	struct log_writer log;
	struct replay *r;

	(void)state;
	grey.greylist.enabled = true;
	r = start(&now, &grey, &log);
	write_message(&log, 7, "192.0.2.7", "a@b", 1); /* held */
	log.s = 60;
	write_message(&log, 7, "192.0.2.7", "a@b", 1); /* too early */
	write_message(&log, 7, "192.0.2.7", "c@d", 1); /* another pair */
	log.s = 601; /* delay and five minutes after the first: its network is known */
	write_message(&log, 7, "192.0.2.8", "e@f", 1);
	write_message(&log, 7, "198.51.100.8", "e@f", 1);
	traffic_finish(r->traffic);
	TALLY(r->trials[0].messages, 0, 0);
	TALLY(r->trials[1].messages, 4, 4);
	TALLY(r->trials[1].causes[CAUSE_GREYLIST], 4, 4);
	assert_int_equal(r->trials[1].came_back, 1);
	assert_string_equal(replay_cause_name(&r->trials[1], CAUSE_GREYLIST), "greylist");
	replay_free(&r);
}

static void
test_exceptions(void **state)
{
	struct ruleset now = RULES("connections rate=1/1h burst=1");
	char err[LIMIT_ERR_MAX];
	struct log_writer log;
	struct replay *r;
	struct limit more = now.limits[0];
	struct who w;

	(void)state;
	now.exceptions = exceptions_new(1, 2);
	assert_non_null(now.exceptions);
	assert_true(who_parse("192.0.2.1", &w, err, sizeof err));
	exceptions_add_listed(now.exceptions, &w, &(struct listing){.action = LIST_EXEMPT});
	assert_true(who_parse("192.0.2.2", &w, err, sizeof err));
	exceptions_add_listed(now.exceptions, &w, &(struct listing){.action = LIST_BLOCK});
	assert_true(who_parse("192.0.2.3", &w, err, sizeof err));
	more.burst = 3;
	exceptions_add_override(now.exceptions, &w, &more);
	exceptions_seal(now.exceptions);
	r = start(&now, NULL, &log);
	for (int i = 0; i < 5; i++) {
		write_message(&log, 7, "192.0.2.1", "a@b", 1);
		write_message(&log, 7, "192.0.2.2", "a@b", 1);
		write_message(&log, 7, "192.0.2.3", "a@b", 1);
		write_message(&log, 7, "192.0.2.4", "a@b", 1);
	}
	traffic_finish(r->traffic);
	TALLY(r->trials[0].causes[CAUSE_BLOCKED], 5, 5);
	TALLY(r->trials[0].causes[CAUSE_LIMIT], 2 + 4, 2 + 4);
	replay_free(&r);
	exceptions_free(&now.exceptions);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_connections),
	    cmocka_unit_test(test_clock),
	    cmocka_unit_test(test_sessions),
	    cmocka_unit_test(test_cut_off),
	    cmocka_unit_test(test_put_off),
	    cmocka_unit_test(test_messages),
	    cmocka_unit_test(test_kinds),
	    cmocka_unit_test(test_shadow),
	    cmocka_unit_test(test_observe),
	    cmocka_unit_test(test_good),
	    cmocka_unit_test(test_greylist),
	    cmocka_unit_test(test_exceptions),
	};

	utc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
