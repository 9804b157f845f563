/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_watch.c - what of a zone is there to be looked at: decisions counted by what they were, the
 * last hour by minutes, who came most, how full it is; and these figures as text.
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "zone_fixture.h"

#include "../../store/zone_watch.h"
#include "clock.h"
#include "conf.h"
#include "http.h"
#include "metrics.h"

#define MINUTE (60 * SEC)

static struct watch_counts counts;

static struct verdict
verdict(enum action action, enum reason reason, const struct limit *l)
{
	return (struct verdict){.action = action, .reason = reason, .limit = l, .enforced = true};
}

static void
decide(struct zone *z, enum stage stage, struct verdict v, int n)
{
	for (int i = 0; i < n; i++)
		zone_watch_decision(z, stage, &v, true);
}

static unsigned
slot_of(const char *limit)
{
	for (unsigned i = 1; i < WATCH_SLOTS; i++)
		if (strcmp(counts.limits[i], limit) == 0)
			return i;
	fail_msg("no slot of %s", limit);
	return 0;
}

/* --- decisions ---------------------------------------------------------------------------------- */

static void
test_counts(void **state)
{
	struct zone *z = ((struct fixture *)*state)->z;
	struct limit l = bucket("connections", 60, 30, ACTION_REFUSE);
	struct verdict known = verdict(DO_ACCEPT, REASON_OK, NULL);

	decide(z, STAGE_CONNECT, verdict(DO_ACCEPT, REASON_OK, NULL), 3);
	decide(z, STAGE_CONNECT, verdict(DO_REFUSE, REASON_RATE, &l), 2);
	/* accepted after all: no limit had a part in it */
	decide(z, STAGE_RCPT, verdict(DO_ACCEPT, REASON_OK, &l), 1);
	known.grey = GREY_KNOWN;
	known.source = ANSWER_ZONE;
	decide(z, STAGE_RCPT, known, 4);
	zone_watch_shadow(z, STAGE_EOM, "quota-shadow");
	/* a word that this table does not know must not write elsewhere */
	decide(z, (enum stage)WATCH_STAGES, verdict(DO_ACCEPT, REASON_OK, NULL), 1);
	decide(z, STAGE_RCPT, verdict(DO_ACCEPT, (enum reason)WATCH_REASONS, NULL), 1);
	zone_watch_get(z, &counts);
	assert_int_equal(counts.decisions[0][DO_ACCEPT][STAGE_CONNECT][REASON_OK], 3);
	assert_int_equal(counts.decisions[0][DO_ACCEPT][STAGE_RCPT][REASON_OK], 5);
	assert_int_equal(
	    counts.decisions[slot_of("connections")][DO_REFUSE][STAGE_CONNECT][REASON_RATE], 2);
	assert_int_equal(counts.shadows[slot_of("quota-shadow")][STAGE_EOM], 1);
	assert_int_equal(counts.grey[GREY_KNOWN], 4);
	assert_int_equal(counts.sources[ANSWER_ZONE], 4);
	assert_int_equal(counts.sources[ANSWER_STORE], 6);
}

/* However many names there are, there are so many slots. */
static void
test_names_are_bounded(void **state)
{
	struct zone *z = ((struct fixture *)*state)->z;
	int64_t named = 0;

	for (int i = 0; i < 5 * WATCH_LIMITS; i++) {
		char name[32];
		struct limit l;

		snprintf(name, sizeof name, "limit-%d", i);
		l = bucket(name, 1, 1, ACTION_REFUSE);
		decide(z, STAGE_RCPT, verdict(DO_REFUSE, REASON_RATE, &l), 1);
	}
	zone_watch_get(z, &counts);
	for (unsigned s = 1; s <= WATCH_LIMITS; s++)
		named += counts.decisions[s][DO_REFUSE][STAGE_RCPT][REASON_RATE];
	assert_int_equal(named, WATCH_LIMITS);
	assert_int_equal(counts.decisions[slot_of("other")][DO_REFUSE][STAGE_RCPT][REASON_RATE],
	    4 * WATCH_LIMITS);
}

/* Processes that count at once lose nothing, also not while they name a limit. */
static void
test_counts_of_many(void **state)
{
	enum { PROCESSES = 4, EACH = 20000 };
	struct zone *z = ((struct fixture *)*state)->z;
	const struct net who = {.base = {.family = ADDR_V4, .b = {192, 0, 2, 7}}, .bits = 32};
	struct top_entry top[4];
	int64_t sum = 0;

	struct verdict first = verdict(DO_ACCEPT, REASON_OK, NULL);

	/* only newcomers can be left out */
	zone_top_add(z, TOP_ADDRESSES, &who, "x", false, &first, T0);
	for (int p = 0; p < PROCESSES; p++)
		if (fork() == 0) {
			for (int i = 0; i < EACH; i++) {
				char name[16];
				struct limit l;
				struct verdict v;

				snprintf(name, sizeof name, "l%d", i % 8);
				l = bucket(name, 1, 1, ACTION_REFUSE);
				v = verdict(DO_REFUSE, REASON_RATE, &l);
				zone_watch_decision(z, STAGE_RCPT, &v, true);
				zone_top_add(z, TOP_ADDRESSES, &who, "x", false, &v, T0);
			}
			_exit(0);
		}
	for (int p = 0; p < PROCESSES; p++)
		wait(NULL);
	zone_watch_get(z, &counts);
	for (unsigned s = 1; s < WATCH_SLOTS; s++)
		sum += counts.decisions[s][DO_REFUSE][STAGE_RCPT][REASON_RATE];
	assert_int_equal(sum, PROCESSES * EACH);
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, false, T0, top, 4), 1);
	assert_int_equal(top[0].refused, PROCESSES * EACH);
	assert_int_equal(top[0].decisions, PROCESSES * EACH + 1);
}

/* --- the last hour --------------------------------------------------------------------------------- */

static void
note(struct zone *z, int64_t now)
{
	zone_watch_get(z, &counts);
	zone_watch_note(z, &counts, now);
}

static void
test_hour(void **state)
{
	struct zone *z = ((struct fixture *)*state)->z;
	struct limit l = bucket("messages", 1, 1, ACTION_REFUSE);
	struct watch_minute hour[WATCH_MINUTES];
	int64_t now = T0 / MINUTE * MINUTE + 5 * SEC;

	/* before anybody looked */
	decide(z, STAGE_RCPT, verdict(DO_ACCEPT, REASON_OK, NULL), 1000);
	note(z, now);
	decide(z, STAGE_RCPT, verdict(DO_ACCEPT, REASON_OK, NULL), 3);
	decide(z, STAGE_RCPT, verdict(DO_REFUSE, REASON_RATE, &l), 2);
	note(z, now + 50 * SEC);
	decide(z, STAGE_RCPT, verdict(DO_REFUSE, REASON_GREYLIST, NULL), 7);
	decide(z, STAGE_CONNECT, verdict(DO_REFUSE, REASON_LOAD, NULL), 1);
	note(z, now + MINUTE);
	/* nobody looked for five minutes */
	decide(z, STAGE_RCPT, verdict(DO_ACCEPT, REASON_OK, NULL), 11);
	note(z, now + 6 * MINUTE);
	zone_watch_hour(z, now + 6 * MINUTE, hour);
	assert_int_equal(hour[WATCH_MINUTES - 7].accepted, 3);
	assert_int_equal(hour[WATCH_MINUTES - 7].limits[slot_of("messages")], 2);
	assert_int_equal(hour[WATCH_MINUTES - 6].held, 7);
	assert_int_equal(hour[WATCH_MINUTES - 6].other, 1);
	assert_int_equal(hour[WATCH_MINUTES - 6].accepted, 0);
	assert_int_equal(hour[WATCH_MINUTES - 2].accepted, 0);
	assert_int_equal(hour[WATCH_MINUTES - 1].accepted, 11);
	/* an hour later none of it is left */
	for (int m = 7; m < 7 + WATCH_MINUTES; m++)
		note(z, now + m * MINUTE);
	zone_watch_hour(z, now + (6 + WATCH_MINUTES) * MINUTE, hour);
	for (unsigned i = 0; i < WATCH_MINUTES; i++)
		assert_int_equal(hour[i].accepted + hour[i].held + hour[i].other, 0);
	/* a clock that went far back shows nothing rather than nonsense */
	zone_watch_hour(z, now - 86400 * SEC, hour);
	assert_int_equal(hour[WATCH_MINUTES - 1].accepted, 0);
}

/* --- who came most ------------------------------------------------------------------------------ */

static struct net
client(unsigned n)
{
	return (struct net){.base = {.family = ADDR_V4,
				.b = {10, (uint8_t)(n >> 16), (uint8_t)(n >> 8), (uint8_t)n}},
	    .bits = 32};
}

/* Ten that matter among a hundred thousand that do not: all ten are found, none with less than it
 * had, and an hour later they are forgotten. */
static void
test_top(void **state)
{
	enum { MANY = 100000, HEAVY = 10, TIMES = 3000 };
	struct zone *z = ((struct fixture *)*state)->z;
	struct limit l = bucket("connections", 1, 1, ACTION_REFUSE);
	struct verdict ok = verdict(DO_ACCEPT, REASON_OK, NULL),
		       refused = verdict(DO_REFUSE, REASON_RATE, &l);
	static struct top_entry top[50];

	for (unsigned i = 0; i < MANY; i++) {
		struct net one = client(i + 1000);

		zone_top_add(z, TOP_ADDRESSES, &one, "", false, &ok, T0);
		for (unsigned k = 0; i % (MANY / TIMES) == 0 && k < HEAVY; k++) {
			struct net heavy = client(k);

			zone_top_add(z, TOP_ADDRESSES, &heavy, "flood.example", true, &refused, T0);
		}
	}
	assert_int_equal(zone_top_get(z, TOP_NETWORKS, true, T0, top, 50), 0);
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, false, T0, top, 50), HEAVY);
	for (unsigned i = 0; i < HEAVY; i++) {
		assert_true(top[i].who.base.b[3] < HEAVY && top[i].who.base.b[2] == 0);
		assert_in_range(top[i].refused, TIMES * 9 / 10, TIMES + 50);
		assert_true(top[i].decisions >= TIMES);
		assert_string_equal(top[i].name, "flood.example");
		assert_string_equal(top[i].limit, "connections");
		assert_int_equal(top[i].reason, REASON_RATE);
		assert_true(top[i].confirmed);
	}
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, true, T0, top, 50), 50);
	for (unsigned i = 0; i < HEAVY; i++)
		assert_true(top[i].refused > 0);
	/* what each table holds of one client becomes one */
	refused.reason = REASON_GREYLIST;
	for (unsigned i = 0; i < 5; i++) {
		struct net heavy = client(0);

		zone_top_add(z, TOP_ADDRESSES, &heavy, "", false, &refused, T0 + 1200 * SEC);
	}
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, false, T0 + 1200 * SEC, top, 50), HEAVY);
	assert_int_equal(top[0].who.base.b[3], 0);
	assert_int_equal(top[0].held, 5);
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, true, T0 + 2 * 3600 * SEC, top, 50), 0);
	/* the same table again, seven times ten minutes later */
	zone_top_add(z, TOP_ADDRESSES, &top[0].who, "", false, &ok, T0 + 4200 * SEC);
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, true, T0 + 4200 * SEC, top, 50), HEAVY > 0);
}

/* A worker that died with a set's lock, or while it emptied a table, stops it for a second. */
static void
test_top_after_death(void **state)
{
	struct zone *z = ((struct fixture *)*state)->z;
	struct top_table *t = &zone_watch(z)->top[TOP_ADDRESSES][T0 / TOP_SPAN_US % TOP_SPANS];
	struct verdict ok = verdict(DO_ACCEPT, REASON_OK, NULL);
	struct net one = client(1);
	struct top_entry top[2];

	atomic_store(&t->span, -clock_mono_us());
	zone_top_add(z, TOP_ADDRESSES, &one, "", false, &ok, T0);
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, true, T0, top, 2), 0);
	atomic_store(&t->span, -(clock_mono_us() - 2 * SEC));
	for (unsigned i = 0; i < TOP_SETS; i++)
		atomic_store(&t->set[i].locked_us, clock_mono_us() - 2 * SEC);
	zone_top_add(z, TOP_ADDRESSES, &one, "", false, &ok, T0);
	assert_int_equal(zone_top_get(z, TOP_ADDRESSES, true, T0, top, 2), 1);
}

/* --- the rest ------------------------------------------------------------------------------------ */

static void
test_usage(void **state)
{
	enum { CLIENTS = 2000 };
	struct fixture *f = *state;
	struct limit l = bucket("connections", 60, 30, ACTION_REFUSE);
	struct zone_usage use;

	for (int i = 0; i < CLIENTS; i++) {
		char key[64];
		struct request q;

		snprintf(key, sizeof key, "{10.0.%d.0/24}:10.0.%d.%d", i / 256, i / 256, i % 256);
		q = simple(key, &l);
		(void)put(f, &q, T0);
	}
	zone_usage_get(f->z, &use);
	/* this zone is small enough to be looked at whole */
	assert_int_equal(use.entries[USE_BUCKET], live_entries(f->z));
	assert_in_range(use.entries[USE_BUCKET], CLIENTS * 9 / 10, CLIENTS);
	assert_int_equal(use.entries[USE_SESSIONS] + use.entries[USE_TRIPLET], 0);
	assert_int_equal(use.most, ZONE_SIZE_MIN / 32);
	assert_in_range(use.evictions, CLIENTS - use.entries[USE_BUCKET],
	    CLIENTS - use.entries[USE_BUCKET] + 1);
	for (int i = 0; i < 4 * ZONE_SIZE_MIN / 32; i++) {
		char key[64];
		struct request q;

		snprintf(key, sizeof key, "{k%d}", i);
		q = simple(key, &l);
		(void)put(f, &q, T0);
	}
	zone_usage_get(f->z, &use);
	assert_true(use.evictions > 2 * ZONE_SIZE_MIN / 32);
	assert_true(use.entries[USE_BUCKET] > use.most * 9 / 10);
}

static void
test_generations(void **state)
{
	struct zone *z = ((struct fixture *)*state)->z;
	int64_t oldest, newest;

	assert_false(zone_watch_generations(z, &oldest, &newest));
	zone_watch_generation_set(z, 0, "7");
	zone_watch_generation_set(z, 1, "9");
	zone_watch_generation_set(z, 2, "1"); /* no such worker */
	assert_true(zone_watch_generations(z, &oldest, &newest));
	assert_true(oldest == 7 && newest == 9);
	zone_worker_drains(z, 0);
	assert_true(zone_watch_generations(z, &oldest, &newest));
	assert_true(oldest == 9 && newest == 9);
	zone_watch_generation_set(z, 1, "x9");
	assert_false(zone_watch_generations(z, &oldest, &newest));
	zone_watch_generation_set(z, 1, "9");
	zone_worker_started(z, 1);
	assert_false(zone_watch_generations(z, &oldest, &newest));
}

/* --- as text --------------------------------------------------------------------------------------- */

static char *
written(struct zone *z, bool open)
{
	static struct conf conf;
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	assert_true(conf_read(&conf, NULL, stderr));
	conf.use_redis = true;
	zone_watch_get(z, &counts);
	metrics_write(f, open, &conf, &conf.rules, z, &counts, clock_mono_us());
	fclose(f);
	conf_free(&conf);
	return text;
}

static void
expect(const char *text, const char *line)
{
	if (strstr(text, line) == NULL)
		fail_msg("no \"%s\" in:\n%s", line, text);
}

static void
test_text(void **state)
{
	struct zone *z = ((struct fixture *)*state)->z;
	struct limit l = bucket("connections", 60, 30, ACTION_REFUSE);
	char *text;

	decide(z, STAGE_CONNECT, verdict(DO_REFUSE, REASON_RATE, &l), 2);
	zone_latency_add(z, 100);
	zone_latency_add(z, 3000);
	zone_latency_add(z, 5000000);
	text = written(z, false);
	expect(text, "# TYPE weir_decisions_total counter\n");
	expect(text,
	    "\nweir_decisions_total{action=\"refuse\",reason=\"rate\",limit=\"connections\","
	    "stage=\"connect\"} 2\n");
	/* there before its first event */
	expect(text,
	    "\nweir_decisions_total{action=\"refuse\",reason=\"rate\",limit=\"recipients\","
	    "stage=\"rcpt\"} 0\n");
	expect(text, "weir_redis_round_trip_seconds_bucket{le=\"0.000064\"} 0\n");
	expect(text, "weir_redis_round_trip_seconds_bucket{le=\"0.000128\"} 1\n");
	expect(text, "weir_redis_round_trip_seconds_bucket{le=\"0.004096\"} 2\n");
	expect(text, "weir_redis_round_trip_seconds_bucket{le=\"1.048576\"} 2\n");
	expect(text, "weir_redis_round_trip_seconds_bucket{le=\"+Inf\"} 3\n");
	expect(text, "weir_redis_round_trip_seconds_sum 5.003100\n");
	expect(text, "weir_redis_round_trip_seconds_count 3\n");
	assert_null(strstr(text, "# EOF"));
	free(text);
	text = written(z, true);
	expect(text, "# TYPE weir_decisions counter\n");
	expect(text, "\nweir_decisions_total{");
	assert_string_equal(text + strlen(text) - 6, "# EOF\n");
	free(text);
	assert_true(metrics_wants_open(
	    "application/openmetrics-text;version=1.0.0;q=0.75,text/plain;version=0.0.4;q=0.5"));
	assert_false(metrics_wants_open("text/plain"));
}

/* --- HTTP ------------------------------------------------------------------------------------------ */

static void
test_hosts(void **state)
{
	static const char *const good[] = {"localhost", "LOCALHOST:9117", "127.0.0.1",
	    "127.0.0.1:9117", "127.3.2.1:1", "[::1]", "[::1]:9117", "localhost:"};
	static const char *const bad[] = {"", "evil.example", "evil.example:9117",
	    "127.0.0.1.evil.example", "localhost.evil.example:80", "[::1].evil.example", "[::1",
	    "128.0.0.1", "127.0.0.1:80.evil.example", "localhost:80:80", "0.0.0.0", "[::]",
	    "192.0.2.1", "::1", "127.0.0.1 evil", " localhost",
	    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};

	(void)state;
	for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
		if (!http_host_is_local(good[i]))
			fail_msg("%s", good[i]);
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (http_host_is_local(bad[i]))
			fail_msg("%s", bad[i]);
	assert_false(http_host_is_local(NULL));
}

static void
test_parameters(void **state)
{
	char out[16];

	(void)state;
	assert_true(http_parameter("client=192.0.2.7", "client", out, sizeof out));
	assert_string_equal(out, "192.0.2.7");
	assert_true(http_parameter("a=1&client=2001%3Adb8&b=", "client", out, sizeof out));
	assert_string_equal(out, "2001:db8");
	assert_true(http_parameter("a=1&b=", "b", out, sizeof out));
	assert_string_equal(out, "");
	assert_false(http_parameter("", "client", out, sizeof out));
	assert_false(http_parameter("clients=1&xclient=2", "client", out, sizeof out));
	assert_false(http_parameter("client=12345678901234567", "client", out, sizeof out));
	assert_false(http_parameter("client=1%002", "client", out, sizeof out));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    ZONE_TEST(test_counts),
	    ZONE_TEST(test_names_are_bounded),
	    ZONE_TEST(test_counts_of_many),
	    ZONE_TEST(test_hour),
	    ZONE_TEST(test_top),
	    ZONE_TEST(test_top_after_death),
	    ZONE_TEST(test_usage),
	    ZONE_TEST(test_generations),
	    ZONE_TEST(test_text),
	    cmocka_unit_test(test_hosts),
	    cmocka_unit_test(test_parameters),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
