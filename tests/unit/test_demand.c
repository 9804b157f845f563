/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_demand.c - how much each client wanted at most, and the histograms of that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "demand.h"
#include "maillog_fixture.h"

#define EVERYONE (1U << DEMAND_KNOWN | 1U << DEMAND_GOOD | 1U << DEMAND_OTHER)

static struct demand *
start(const char *words, struct log_writer *log)
{
	static struct ruleset r;
	char err[LIMIT_ERR_MAX], name[16];
	struct demand *d;

	ruleset_defaults(&r);
	r.nlimits = 0;
	snprintf(name, sizeof name, "%.*s", (int)strcspn(words, " "), words);
	assert_true(limit_set_words(
	    ruleset_limit_add(&r, name), words + strlen(name) + 1, err, sizeof err));
	assert_true(ruleset_finish(&r, err, sizeof err));
	d = demand_new(&r);
	assert_non_null(d);
	*log = (struct log_writer){.fn = traffic_event, .ctx = demand_traffic(d)};
	return d;
}

static const struct demand_histogram *
finish(struct demand *d)
{
	traffic_finish(demand_traffic(d));
	demand_finish(d);
	return demand_of(d, 0);
}

/* --- classes ------------------------------------------------------------------------------------- */

static void
test_classes(void **state)
{
	(void)state;
	for (int64_t v = 0; v < 64; v++) {
		assert_int_equal(demand_class(v), v);
		assert_int_equal(demand_class_end((unsigned)v), v);
	}
	/* no gap, and never wider than a 32nd */
	for (unsigned c = 64; c < DEMAND_CLASSES; c++) {
		int64_t from = demand_class_end(c - 1) + 1, to = demand_class_end(c);

		assert_int_equal(demand_class(from), c);
		assert_int_equal(demand_class(to), c);
		assert_true(to >= from && (to - from + 1) * 32 <= from);
	}
	assert_int_equal(demand_class(INT64_MAX), DEMAND_CLASSES - 1);
}

static void
test_quantiles(void **state)
{
	static struct demand_histogram h;

	(void)state;
	memset(&h, 0, sizeof h);
	assert_int_equal(demand_quantile(&h, EVERYONE, 0.5), 0);
	h.n[DEMAND_OTHER][3] = 990;
	h.n[DEMAND_OTHER][10] = 9;
	h.n[DEMAND_OTHER][demand_class(1000)] = 1;
	h.max[DEMAND_OTHER] = 1000;
	h.n[DEMAND_KNOWN][5] = 1;
	h.max[DEMAND_KNOWN] = 5;
	assert_int_equal(demand_samples(&h, EVERYONE), 1001);
	assert_int_equal(demand_samples(&h, 1U << DEMAND_OTHER), 1000);
	assert_int_equal(demand_quantile(&h, 1U << DEMAND_OTHER, 0.5), 3);
	assert_int_equal(demand_quantile(&h, 1U << DEMAND_OTHER, 0.99), 3);
	assert_int_equal(demand_quantile(&h, 1U << DEMAND_OTHER, 0.991), 10);
	assert_int_equal(demand_quantile(&h, 1U << DEMAND_OTHER, 0.999), 10);
	/* the true most, not the end of its class */
	assert_int_equal(demand_quantile(&h, 1U << DEMAND_OTHER, 1.0), 1000);
	assert_int_equal(demand_quantile(&h, 1U << DEMAND_KNOWN, 0.999), 5);
	assert_int_equal(demand_above(&h, EVERYONE, 9), 10);
	assert_int_equal(demand_above(&h, EVERYONE, 10), 1);
	assert_int_equal(demand_above(&h, EVERYONE, 5000), 0);
}

/* --- peaks --------------------------------------------------------------------------------------- */

static void
test_peaks(void **state)
{
	static const struct {
		const char *limit;
		int at[8]; /* seconds of its connections; -1 ends */
		int64_t peak;
	} table[] = {
	    {"connections rate=60/1m", {0, 0, 0, 0, -1}, 4},
	    {"connections rate=60/1m", {0, 10, 20, 30, 40, 50, -1}, 6},
	    /* in any minute, not in any of the clock's */
	    {"connections rate=60/1m", {40, 50, 70, 80, -1}, 4},
	    /* three seconds longer may still count, more may not */
	    {"connections rate=60/1m", {0, 64, 128, 192, -1}, 1},
	    {"connections rate=60/1m", {0, 0, 0, 500, 500, 1000, -1}, 3},
	    {"connections rate=60/1h", {0, 600, 1200, 1800, 3000, -1}, 5},
	    {"connections rate=60/1s", {0, 1, 2, 3, 3, 4, -1}, 3},
	    {"connections rate=9999/1d", {0, 80000, 160000, 160001, -1}, 3},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct log_writer log;
		struct demand *d = start(table[i].limit, &log);
		const struct demand_histogram *h;

		for (const int *s = table[i].at; *s >= 0; s++) {
			log.s = *s;
			write_message(&log, 7, "192.0.2.7", "a@b", 1);
		}
		h = finish(d);
		if (demand_quantile(h, EVERYONE, 1.0) != table[i].peak)
			print_message("case %zu\n", i);
		assert_int_equal(demand_quantile(h, EVERYONE, 1.0), table[i].peak);
		assert_int_equal(demand_samples(h, EVERYONE), 1);
		demand_free(&d);
	}
}

static void
test_open_sessions(void **state)
{
	struct log_writer log;
	struct demand *d = start("sessions max=20", &log);
	const struct demand_histogram *h;
	char tag[32];

	(void)state;
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < 20; i++) {
			/* five open, then five fewer, ... */
			snprintf(tag, sizeof tag, "postfix/smtpd[%d]", i % 5);
			write_log(&log, tag, "%s from unknown[192.0.2.7]",
			    i / 5 % 2 == 0 ? "connect" : "disconnect");
		}
	h = finish(d);
	assert_int_equal(demand_samples(h, EVERYONE), 1);
	assert_int_equal(demand_quantile(h, EVERYONE, 1.0), 5);
	demand_free(&d);
}

/* A sample for each whom the limit counts for: these are recipients. */
static void
test_recipients(void **state)
{
	struct log_writer log;
	struct demand *d = start("recipients per=recipient rate=60/1m", &log);
	const struct demand_histogram *h;

	(void)state;
	write_message(&log, 7, "192.0.2.7", "a@b", 3); /* u1, u2, u3 */
	write_message(&log, 7, "192.0.2.8", "a@b", 1); /* u1 */
	h = finish(d);
	assert_int_equal(demand_samples(h, EVERYONE), 3);
	assert_int_equal(demand_above(h, EVERYONE, 1), 1);
	assert_int_equal(demand_quantile(h, EVERYONE, 1.0), 2);
	demand_free(&d);
}

/* --- groups -------------------------------------------------------------------------------------- */

static void
test_groups(void **state)
{
	struct log_writer log;
	struct demand *d = start("connections rate=60/1m", &log);
	const struct demand_histogram *h;

	(void)state;
	/* known: two days */
	write_message(&log, 7, "192.0.2.1", "a@b", 1);
	/* good: one day, and not at once */
	write_log(&log, "postfix/smtpd[7]", "connect from unknown[192.0.2.2]");
	write_log(&log, "postfix/smtpd[7]", "AAAAA: client=unknown[192.0.2.2]");
	write_log(&log, "postfix/qmgr[1]", "AAAAA: from=<a@b>, size=9, nrcpt=1 (queue active)");
	write_log(&log, "postfix/smtpd[7]", "disconnect from unknown[192.0.2.2]");
	/* neither */
	write_log(&log, "postfix/smtpd[7]", "connect from unknown[192.0.2.3]");
	write_log(&log, "postfix/smtpd[7]", "disconnect from unknown[192.0.2.3]");
	/* known: authenticated */
	write_log(&log, "postfix/smtpd[7]", "connect from unknown[192.0.2.4]");
	write_log(&log, "postfix/smtpd[7]", "BBBBB: client=unknown[192.0.2.4], sasl_username=ann");
	write_log(&log, "postfix/smtpd[7]", "disconnect from unknown[192.0.2.4]");
	/* later than the log is read ahead */
	log.s = 100;
	write_log(&log, "postfix/lmtp[1]", "AAAAA: to=<u1@x>, status=sent (ok)");
	log.s = 86400;
	write_message(&log, 7, "192.0.2.1", "a@b", 1);
	h = finish(d);
	assert_int_equal(demand_samples(h, 1U << DEMAND_KNOWN), 2);
	assert_int_equal(demand_samples(h, 1U << DEMAND_GOOD), 1);
	assert_int_equal(demand_samples(h, 1U << DEMAND_OTHER), 1);
	demand_free(&d);
}

/* The same for what is counted of messages. */
static void
test_good_senders(void **state)
{
	struct log_writer log;
	struct demand *d = start("messages per=sender rate=60/1m", &log);
	const struct demand_histogram *h;

	(void)state;
	write_log(&log, "postfix/smtpd[7]", "connect from unknown[192.0.2.2]");
	for (int i = 0; i < 2; i++) {
		write_log(&log, "postfix/smtpd[7]", "AAAA%d: client=unknown[192.0.2.2]", i);
		write_log(&log, "postfix/qmgr[1]",
		    "AAAA%d: from=<%d@b>, size=9, nrcpt=1 (queue active)", i, i);
	}
	write_log(&log, "postfix/smtpd[7]", "disconnect from unknown[192.0.2.2]");
	log.s = 100;
	write_log(&log, "postfix/lmtp[1]", "AAAA1: to=<u1@x>, status=sent (ok)");
	h = finish(d);
	assert_int_equal(demand_samples(h, 1U << DEMAND_GOOD), 1);
	assert_int_equal(demand_samples(h, 1U << DEMAND_OTHER), 1);
	demand_free(&d);
}

/* Of more keys than are kept each is a sample all the same. */
static void
test_too_many_keys(void **state)
{
	const unsigned n = DEMAND_KEYS + 5000;
	struct log_writer log;
	struct demand *d = start("connections rate=60/1m", &log);

	(void)state;
	for (unsigned i = 0; i < n; i++) {
		write_log(&log, "postfix/smtpd[7]", "connect from unknown[10.%u.%u.%u]", i >> 16,
		    i >> 8 & 255, i & 255);
		write_log(&log, "postfix/smtpd[7]", "disconnect from unknown[10.%u.%u.%u]", i >> 16,
		    i >> 8 & 255, i & 255);
	}
	assert_int_equal(demand_samples(finish(d), EVERYONE), n);
	demand_free(&d);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_classes),
	    cmocka_unit_test(test_quantiles),
	    cmocka_unit_test(test_peaks),
	    cmocka_unit_test(test_open_sessions),
	    cmocka_unit_test(test_recipients),
	    cmocka_unit_test(test_groups),
	    cmocka_unit_test(test_good_senders),
	    cmocka_unit_test(test_too_many_keys),
	};

	utc();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
