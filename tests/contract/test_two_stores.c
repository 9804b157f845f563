/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_two_stores.c - the zone and Redis answer alike: random rules, random questions, a clock of
 * our own; each question goes to both, and all that they say is compared, as is the verdict.
 *
 *	WEIR_SEQUENCES=N    so many sequences (default 100000; with sanitizers fewer)
 *	WEIR_SEED=N|random  another run (default 1)
 *	WEIR_ONLY=N         only this sequence of it
 *	WEIR_JOBS=N         so many processes at once (default 3)
 *
 * A sequence that fails is made as short as it still fails, and printed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/wait.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "redis_fixture.h"
#include "sequence.h"
#include "site.h"
#include "store_fixture.h"
#include "weir/verdict.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SLOWER 5
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SLOWER 5
#endif
#endif
#ifndef SLOWER
#define SLOWER 1
#endif
#define SEQUENCES (100000 / SLOWER)
#define JOBS 3

static struct redis_fixture server;

/* --- what the questions have met ------------------------------------------------------------- */

/* Of a generator that never gets anywhere both stores would say the same. */
enum met {
	MET_REFUSED,
	MET_DEFERRED,
	MET_NOTED,
	MET_OBSERVED,
	MET_EXEMPT_OR_BLOCKED,
	MET_RATE,
	MET_QUOTA,
	MET_SESSIONS,
	MET_STRICT,
	MET_PROBE,
	MET_NOTE,
	MET_RUNG,
	MET_SKIPPED,
	MET_LEASE,
	MET_KNOWN,
	MET_TRAPPED,
	MET_GREY, /* and enum grey_state */
	METS = MET_GREY + GREY_CORRESPONDENT + 1
};

static const char *
met_name(unsigned m)
{
	static const char *const names[MET_GREY] = {"refused", "deferred", "noted", "observed",
	    "exempt or blocked", "over a rate", "over a quota", "over sessions",
	    "over a strict one", "over, probed", "over, noted", "over on a ladder", "skipped",
	    "leases", "known", "trapped"};

	return m < MET_GREY ? names[m] : grey_state_name((enum grey_state)(m - MET_GREY));
}

static void
meet_hit(unsigned long met[METS], const struct hit *h, const struct hit_answer *a)
{
	met[MET_SKIPPED] += a->skipped;
	if (!a->over)
		return;
	met[MET_RATE] += h->limit->rate != 0;
	met[MET_QUOTA] += h->limit->quota != 0;
	met[MET_SESSIONS] += h->limit->count == COUNT_SESSIONS;
	met[MET_STRICT] += hit_strict(h);
	met[MET_PROBE] += h->mode == HIT_PROBE;
	met[MET_NOTE] += h->mode == HIT_NOTE;
	met[MET_RUNG] += hit_times(h) > 1;
}

static void
meet(unsigned long met[METS], const struct request *q, const struct answer *a,
    const struct verdict *v)
{
	for (unsigned i = 0; i < q->nhits; i++)
		meet_hit(met, &q->hits[i], &a->hits[i]);
	met[MET_REFUSED] += v->action == DO_REFUSE;
	met[MET_DEFERRED] += v->action == DO_DEFER;
	met[MET_NOTED] += v->noted != 0;
	met[MET_OBSERVED] += v->action != DO_ACCEPT && !v->enforced;
	met[MET_EXEMPT_OR_BLOCKED] += v->reason == REASON_EXEMPT || v->reason == REASON_BLOCKED;
	met[MET_LEASE] += a->lease != 0;
	met[MET_KNOWN] += a->known;
	met[MET_TRAPPED] += a->blocked_us > 0;
	met[MET_GREY + a->grey]++;
}

/* --- both stores ---------------------------------------------------------------------------- */

#define OPEN_MAX STEPS_MAX

struct session {
	uint64_t zone, redis; /* leases */
	unsigned nkeys;
	char keys[LEASE_RECORDS_MAX][SITE_KEY_MAX];
};

struct pair {
	struct site site; /* only for keys and members */
	struct bench bench; /* Redis */
	redisContext *c; /* beside it, for what only a test does */
	struct zone *zone;
	struct store *in_zone;
	int64_t opened_us; /* CLOCK_MONOTONIC */
	int64_t now_us;
	int64_t aged_us; /* when Redis' keys were made to be older */
	bool later; /* the changed limits are in force */
	int64_t told_us; /* to wait, in the last answer */
	unsigned nopen;
	struct session open[OPEN_MAX];
	unsigned long asked;
	unsigned long met[METS];
};

/* For good: a Redis that does not answer is no test. An integer, or 0. */
static long long
command(struct pair *p, const char *format, ...)
{
	va_list ap;
	redisReply *r;
	long long n;

	va_start(ap, format);
	r = redisvCommand(p->c, format, ap);
	va_end(ap);
	if (r == NULL || r->type == REDIS_REPLY_ERROR) {
		fprintf(stderr, "%s: %s\n", format, r != NULL ? r->str : p->c->errstr);
		exit(99);
	}
	n = r->type == REDIS_REPLY_INTEGER ? r->integer : 0;
	freeReplyObject(r);
	return n;
}

static void
pair_open(struct pair *p, unsigned job)
{
	char url[176];

	memset(p, 0, sizeof *p);
	p->opened_us = mono_us();
	snprintf(url, sizeof url, "%s?db=%u", server.url, job);
	bench_open(&p->bench, url, "", 0);
	p->c = redisConnectUnix(server.path);
	if (p->c == NULL || p->c->err != 0 ||
	    !site_init(&p->site, &p->bench.options, p->bench.zone, 0, "node", NULL, NULL))
		exit(99);
	command(p, "SELECT %u", job);
}

static void
pair_close(struct pair *p)
{
	redisFree(p->c);
	site_clear(&p->site);
	bench_close(&p->bench);
}

/* The keeper renews open sessions by Redis' clock, and might do so between a release and ours:
 * none lives long enough for that. */
static void
pair_refresh(struct pair *p, unsigned job)
{
	unsigned long asked = p->asked, met[METS];

	if (mono_us() - p->opened_us < LEASE_TTL_US / 3 - 10 * SEC)
		return;
	memcpy(met, p->met, sizeof met);
	pair_close(p);
	pair_open(p, job);
	memcpy(p->met, met, sizeof met);
	p->asked = asked;
}

/* Both empty, at the beginning of time. */
static void
pair_begin(struct pair *p)
{
	command(p, "FLUSHDB");
	p->zone = zone_new(4 * ZONE_SIZE_MIN, 1); /* nothing is ever pushed out */
	p->in_zone = p->zone != NULL ? zone_store_open(p->zone, 0) : NULL;
	if (p->in_zone == NULL)
		exit(99);
	p->now_us = p->aged_us = T0;
	p->later = false;
	p->told_us = 0;
}

static void
release(struct pair *p)
{
	struct session *s = &p->open[0];
	char member[SITE_MEMBER_MAX];

	if (p->nopen == 0)
		return;
	store_release(p->in_zone, s->zone);
	store_release(p->bench.store, s->redis);
	/* the store tells Redis some time later, from another thread; the test cannot wait */
	site_member(&p->site, s->redis, member);
	for (unsigned i = 0; i < s->nkeys; i++)
		command(p, "ZREM %s %s", s->keys[i], member);
	p->nopen--;
	memmove(p->open, p->open + 1, p->nopen * sizeof p->open[0]);
}

static void
pair_end(struct pair *p)
{
	while (p->nopen > 0)
		release(p);
	store_close(&p->in_zone);
	zone_free(&p->zone);
}

static void
remember(struct pair *p, const struct request *q, uint64_t zone, uint64_t redis)
{
	struct session *s = &p->open[p->nopen++];

	*s = (struct session){.zone = zone, .redis = redis};
	for (unsigned i = 0; i < q->nrecords && s->nkeys < LEASE_RECORDS_MAX; i++)
		for (unsigned h = 0; h < q->nhits; h++)
			if (q->hits[h].record == i && q->hits[h].limit->count == COUNT_SESSIONS) {
				site_open_key(&p->site, q->records[i].kind, q->records[i].key,
				    s->keys[s->nkeys++]);
				break;
			}
}

/* What Redis does by its own clock: it forgets keys. 1: one is so near its end that nobody can
 * tell, as some of Redis' own time has passed, too. */
#define UNSURE_MS "2000"
static const char forget[] =
    "local unsure = 0 "
    "for _, k in ipairs(redis.call('KEYS', '*')) do "
    "  local ttl = redis.call('PTTL', k) "
    "  if ttl >= 0 and not string.find(k, '^weir:open:') then "
    "    local left = ttl - ARGV[1] "
    "    if math.abs(left) < " UNSURE_MS " then unsure = 1 end "
    "    if left > 0 then redis.call('PEXPIRE', k, left) else redis.call('DEL', k) end "
    "  end "
    "end "
    "return unsure";

/* Time passes in both; open sessions are renewed, as the keeper does by Redis' clock. False:
 * whether Redis still knows a key is a matter of chance. */
static bool
pass_time(struct pair *p, bool ages, int64_t by_us)
{
	char member[SITE_MEMBER_MAX];
	bool sure = true;

	if (ages && by_us < 0)
		by_us = 0;
	p->now_us += by_us;
	if (ages && p->now_us - p->aged_us >= SEC) {
		sure = command(p, "EVAL %s 0 %lld", forget,
			   (long long)((p->now_us - p->aged_us) / 1000)) == 0;
		p->aged_us = p->now_us;
	}
	for (unsigned i = 0; i < p->nopen; i++)
		for (unsigned k = 0; k < p->open[i].nkeys; k++) {
			site_member(&p->site, p->open[i].redis, member);
			command(p, "ZADD %s %lld %s", p->open[i].keys[k],
			    (long long)(p->now_us + LEASE_TTL_US), member);
		}
	return sure;
}

/* --- comparing ------------------------------------------------------------------------------ */

#define DIFFERS(what, a, b) DIFFERS_OF("", what, a, b)
#define DIFFERS_OF(whose, what, a, b) \
	do { \
		long long x = (long long)(a), y = (long long)(b); \
		if (x != y) { \
			snprintf(why, whylen, "%s%s: zone %lld, redis %lld", whose, what, x, y); \
			return true; \
		} \
	} while (0)

static bool
answers_differ(const struct request *q, const struct answer *z, const struct answer *r, char *why,
    size_t whylen)
{
	char limit[LIMIT_NAME_MAX + 40];

	DIFFERS("now", z->now_us, r->now_us);
	DIFFERS("source", z->source, r->source);
	for (unsigned i = 0; i < q->nhits; i++) {
		const struct hit_answer *a = &z->hits[i], *b = &r->hits[i];

		snprintf(limit, sizeof limit, "limit %s times %lld, ", q->hits[i].limit->name,
		    (long long)hit_times(&q->hits[i]));
		DIFFERS_OF(limit, "used", a->used, b->used);
		DIFFERS_OF(limit, "over", a->over, b->over);
		DIFFERS_OF(limit, "skipped", a->skipped, b->skipped);
		DIFFERS_OF(limit, "wait", a->wait_us, b->wait_us);
	}
	DIFFERS("known", z->known, r->known);
	DIFFERS("blocked", z->blocked_us, r->blocked_us);
	DIFFERS("grey", z->grey, r->grey);
	DIFFERS("grey wait", z->grey_wait_us, r->grey_wait_us);
	DIFFERS("charged", z->charged, r->charged);
	DIFFERS("lease", z->lease != 0, r->lease != 0);
	return false;
}

static bool
verdicts_differ(const struct verdict *z, const struct verdict *r, char *why, size_t whylen)
{
	DIFFERS("action", z->action, r->action);
	DIFFERS("reason", z->reason, r->reason);
	DIFFERS("enforced", z->enforced, r->enforced);
	DIFFERS("which limit", (intptr_t)z->limit, (intptr_t)r->limit);
	DIFFERS("which reply", (intptr_t)z->reply, (intptr_t)r->reply);
	DIFFERS("used=", z->used, r->used);
	DIFFERS("of=", z->of, r->of);
	DIFFERS("retry=", z->retry_us, r->retry_us);
	DIFFERS("grey=", z->grey, r->grey);
	DIFFERS("noted", z->noted, r->noted);
	return false;
}

/* The longest that the answer says to wait. */
static int64_t
told_to_wait(const struct request *q, const struct answer *a)
{
	int64_t wait = a->grey_wait_us;

	for (unsigned i = 0; i < q->nhits; i++)
		if (a->hits[i].wait_us > wait)
			wait = a->hits[i].wait_us;
	return a->blocked_us > wait ? a->blocked_us : wait;
}

/* Asks both; true when they differ. */
static bool
ask_both(struct pair *p, const struct ruleset *r, const struct step *step, char *why, size_t whylen)
{
	struct facts f = who_facts(&step->who);
	struct verdict in_zone, in_redis;
	struct answer z, a;
	struct request q;

	if (!plan_request(r, &f, &q))
		return false;
	q.peek = step->what == PEEK;
	if (step->what == TRAP && q.pool.asked)
		q.pool.block_us = r->trap_us;
	p->asked++;
	if (store_ask(p->in_zone, &q, p->now_us, &z) != STORE_OK ||
	    store_ask(p->bench.store, &q, p->now_us, &a) != STORE_OK) {
		snprintf(why, whylen, "no answer");
		return true;
	}
	p->told_us = told_to_wait(&q, &z);
	if (z.lease != 0 && a.lease != 0 && p->nopen < OPEN_MAX)
		remember(p, &q, z.lease, a.lease);
	if (answers_differ(&q, &z, &a, why, whylen))
		return true;
	in_zone = judge(r, &f, &q, &z);
	meet(p->met, &q, &z, &in_zone);
	in_redis = judge(r, &f, &q, &a);
	return verdicts_differ(&in_zone, &in_redis, why, whylen);
}

static int64_t
step_us(const struct pair *p, const struct ruleset *r, const struct step *step)
{
	return step->by_us + (step->wait ? p->told_us : 0) +
	    rules_time(r, step->of) * step->eighths / 8;
}

/* Runs it; the number of the step that differs, or -1. */
static int
sequence_run(struct pair *p, const struct sequence *s, char *why, size_t whylen)
{
	struct ruleset now, later;
	bool sure = true;
	int failed = -1;

	rules_build(&s->rules, &now, &later);
	pair_begin(p);
	for (unsigned i = 0; failed < 0 && sure && i < s->n; i++) {
		const struct step *step = &s->steps[i];

		switch (step->what) {
		case ASK:
		case PEEK:
		case TRAP:
			if (ask_both(p, p->later ? &later : &now, step, why, whylen))
				failed = (int)i;
			break;
		case RELEASE:
			release(p);
			break;
		case CLOCK:
			sure = pass_time(p, s->kind == AGES, step_us(p, &now, step));
			break;
		case CHANGE:
			p->later = !p->later;
			break;
		}
	}
	pair_end(p);
	ruleset_deinit(&now);
	ruleset_deinit(&later);
	return failed;
}

/* --- a sequence that fails ------------------------------------------------------------------ */

/* Leaves out whatever is not needed to fail. */
static void
sequence_shrink(struct pair *p, struct sequence *s)
{
	char why[160];
	bool shorter = true;

	while (shorter) {
		shorter = false;
		for (unsigned i = s->n; i-- > 0;) {
			struct sequence less = *s;

			less.n--;
			memmove(less.steps + i, less.steps + i + 1,
			    (less.n - i) * sizeof less.steps[0]);
			if (sequence_run(p, &less, why, sizeof why) >= 0) {
				*s = less;
				shorter = true;
			}
		}
		for (unsigned i = 0; i < s->rules.nlimits; i++) {
			struct sequence less = *s;

			less.rules.off[i] = true;
			if (!s->rules.off[i] && sequence_run(p, &less, why, sizeof why) >= 0) {
				*s = less;
				shorter = true;
			}
		}
	}
}

static void
complain(struct pair *p, struct sequence *s, uint64_t seed, uint64_t number, const char *first)
{
	char why[160] = "";
	int step;

	sequence_shrink(p, s);
	step = sequence_run(p, s, why, sizeof why);
	fprintf(stderr, "sequence %llu of seed %llu: the stores differ at step %d: %s\n",
	    (unsigned long long)number, (unsigned long long)seed, step,
	    step >= 0 ? why : "not again, but before");
	if (step < 0)
		fprintf(stderr, "  %s\n", first);
	sequence_print(s, stderr);
}

/* --- the run -------------------------------------------------------------------------------- */

static uint64_t
from_environment(const char *name, uint64_t otherwise)
{
	const char *text = getenv(name);
	uint64_t n = otherwise;

	if (text != NULL && strcmp(text, "random") == 0) {
		if (getrandom(&n, 4, 0) != 4)
			exit(99);
		return n & UINT32_MAX;
	}
	return text != NULL && *text != '\0' ? strtoull(text, NULL, 10) : otherwise;
}

struct totals {
	unsigned long sequences, asked, met[METS];
};

static void
totals_add(struct totals *to, const struct totals *t)
{
	for (unsigned i = 0; i < METS; i++)
		to->met[i] += t->met[i];
	to->sequences += t->sequences;
	to->asked += t->asked;
}

/* Prints it; false when something was never met. */
static bool
totals_print(const struct totals *t)
{
	bool all = true;

	for (unsigned i = 0; i < METS; i++) {
		print_message("%s%s %lu", i % 6 == 0 ? "\n  " : ", ", met_name(i), t->met[i]);
		all = all && t->met[i] > 0;
	}
	print_message("\n");
	return all;
}

/* Every jobs-th sequence; true when none fails. */
static bool
run_job(uint64_t seed, uint64_t from, uint64_t to, unsigned job, unsigned jobs, struct totals *t)
{
	struct sequence s;
	struct pair p;
	char why[160];
	bool ok = true;

	pair_open(&p, job);
	for (uint64_t i = from + job; ok && i < to; i += jobs) {
		struct rng r = rng_of(seed, i);

		pair_refresh(&p, job);
		sequence_make(&r, &s);
		if (sequence_run(&p, &s, why, sizeof why) >= 0) {
			complain(&p, &s, seed, i, why);
			ok = false;
		}
		t->sequences++;
	}
	t->asked = p.asked;
	memcpy(t->met, p.met, sizeof t->met);
	pair_close(&p);
	return ok;
}

static void
two_stores(void **state)
{
	uint64_t seed = from_environment("WEIR_SEED", 1);
	uint64_t from = from_environment("WEIR_ONLY", 0);
	uint64_t to =
	    getenv("WEIR_ONLY") != NULL ? from + 1 : from_environment("WEIR_SEQUENCES", SEQUENCES);
	unsigned jobs = (unsigned)from_environment("WEIR_JOBS", JOBS), failed = 0;
	struct totals *t =
	    mmap(NULL, sizeof *t * 64, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int64_t start = mono_us();
	pid_t parent = getpid();
	bool met_all;

	(void)state;
	assert_true(t != MAP_FAILED);
	jobs = jobs < 1 ? 1 : jobs > 15 ? 15 : jobs; /* Redis has 16 databases */
	fflush(NULL);
	for (unsigned i = 0; i < jobs; i++) {
		pid_t pid = fork();

		assert_true(pid >= 0);
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(99);
			_exit(run_job(seed, from, to, i, jobs, &t[i]) ? 0 : 1);
		}
	}
	for (unsigned i = 0; i < jobs; i++) {
		int status = 0;

		/* the server is a child, too; it is not expected to end */
		assert_true(wait(&status) > 0);
		failed += status != 0;
	}
	for (unsigned i = 1; i < jobs; i++)
		totals_add(&t[0], &t[i]);
	print_message("seed %llu: %lu sequences, %lu questions to both, %.1f s",
	    (unsigned long long)seed, t[0].sequences, t[0].asked,
	    (double)(mono_us() - start) / 1e6);
	met_all = totals_print(&t[0]);
	assert_int_equal(failed, 0);
	assert_true(met_all || t[0].sequences < 10000);
	munmap(t, sizeof *t * 64);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(two_stores)};

	return redis_fixture_tests(&server, "two stores", tests, 1);
}
