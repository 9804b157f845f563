/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_replay.c - limits tried on a log: whatever the log says, the figures fit together, and no
 * session stays open.
 *
 * Input: a log.
 *
 * Covers: ctl/traffic.c ctl/replay.c ctl/lru.c
 */
#include <time.h>

#include "fuzz.h"
#include "replay.h"

static void
make_rules(struct ruleset *r, const char *const *words)
{
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];

	ruleset_defaults(r);
	for (; words[0] != NULL; words += 2)
		CHECK(limit_set_words(ruleset_limit_add(r, words[0]), words[1], err, sizeof err));
	r->greylist.enabled = true;
	CHECK(ruleset_finish(r, err, sizeof err));
}

static void
check_tally(const struct tally *t, int64_t most)
{
	CHECK(t->refused >= 0 && t->refused <= most);
	CHECK(t->good >= 0 && t->good <= t->refused);
	for (int i = 0; i < GOODS; i++)
		CHECK(t->reason[i] >= 0 && t->reason[i] <= t->good);
}

static void
check_replay(struct replay *r)
{
	struct traffic_figures f = traffic_figures(r->traffic);

	CHECK(f.sessions >= 0 && f.messages >= 0 && f.recipients >= 0 && f.clients >= 0);
	CHECK(f.authenticated >= 0 && f.authenticated <= f.messages);
	for (unsigned i = 0; i < r->ntrials; i++) {
		struct trial *t = &r->trials[i];

		check_tally(&t->sessions, f.sessions);
		check_tally(&t->messages, f.messages);
		CHECK(zone_sessions(t->zone) == 0);
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const now[] = {
	    "sessions", "max=1", "messages", "rate=1/1h per=sender", NULL};
	static const char *const candidate[] = {"connections", "rate=1/1h", "messages",
	    "rate=9/1h per=user", "recipients", "per=recipient-domain rate=2/1h action=log", NULL};
	struct log_dates dates = {.reference_s = INT64_C(1795468497)};
	struct input in = {data, data + size};
	static struct ruleset rules[2];
	struct replay *r;

	setenv("TZ", "UTC", 1);
	tzset();
	make_rules(&rules[0], now);
	make_rules(&rules[1], candidate);
	r = replay_new(&rules[0], &rules[1], ZONE_SIZE_MIN);
	CHECK(r != NULL);
	while (input_left(&in)) {
		char *text = input_line(&in);
		struct log_line line;

		if (log_line(&dates, text, &line))
			(void)mail_parse(&line, traffic_event, r->traffic);
		free(text);
	}
	traffic_finish(r->traffic);
	check_replay(r);
	replay_free(&r);
	return 0;
}
