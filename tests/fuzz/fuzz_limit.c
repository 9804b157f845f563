/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_limit.c - the words of a limit, and the entries in Redis that hold them: what is taken is
 * in range, means the same when it is written out and read again, and makes a bucket whose
 * arithmetic holds.
 *
 * Input: a line (the limit's name), then the words.
 *
 * Covers: policy/limit.c policy/limit_finish.c policy/bucket.c policy/entry.c policy/units.c
 */
#include <inttypes.h>
#include <stdarg.h>

#include "fuzz.h"
#include "weir/entry.h"
#include "weir/limit.h"
#include "weir/units.h"

#define WORDS_ROOM 1200

static void put(char *out, size_t *n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

static void
put(char *out, size_t *n, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	*n += (size_t)vsnprintf(out + *n, WORDS_ROOM - *n, fmt, ap);
	va_end(ap);
	CHECK(*n < WORDS_ROOM);
}

/* As units_figure() reads it: what is larger than a plain number can be was given in k. */
static void
put_figure(char *out, size_t *n, const char *key, int64_t v)
{
	if (v > UNITS_COUNT_MAX) {
		CHECK(v % 1024 == 0);
		put(out, n, " %s=%" PRId64 "k", key, v / 1024);
	} else
		put(out, n, " %s=%" PRId64, key, v);
}

static void
put_whom(char *out, size_t *n, const struct limit *l)
{
	char net[NET_TEXT_MAX];

	if (l->whom != FOR_NETWORKS) {
		put(out, n, " for=%s", limit_for_name(l->whom));
		return;
	}
	for (unsigned i = 0; i < l->nnets; i++)
		put(out, n, "%s%s", i == 0 ? " for=\"" : ", ", net_format(&l->nets[i], net));
	put(out, n, "\"");
}

/* A finished limit in words; false when a word cannot hold it (a quote in the reply). */
static bool
write_words(const struct limit *l, char *out)
{
	size_t n = 0;

	put(out, &n, "count=%s per=%s action=%s strict=%s", limit_count_name(l->count),
	    limit_per_name(l->per), limit_action_name(l->action), l->strict ? "yes" : "off");
	put_whom(out, &n, l);
	for (unsigned i = 0; i < l->nrungs; i++)
		put(out, &n, "%s/%u*%u%s", i == 0 ? " ladder=\"" : " ", l->rungs[i].bits,
		    l->rungs[i].times, i + 1 == l->nrungs ? "\"" : "");
	if (l->rate > 0) {
		put_figure(out, &n, "rate", l->rate);
		put(out, &n, "/%" PRId64 "ms", l->period_us / USEC_PER_MSEC);
		put_figure(out, &n, "burst", l->burst);
	}
	if (l->quota > 0) {
		put_figure(out, &n, "quota", l->quota);
		put(out, &n, "/%" PRId64 "ms", l->window_us / USEC_PER_MSEC);
	}
	if (l->max > 0)
		put_figure(out, &n, "max", l->max);
	put(out, &n, " reply=\"%s %s %s\"", l->reply.code, l->reply.xcode, l->reply.text);
	return strchr(l->reply.text, '"') == NULL;
}

/* Equal in all that they do; how they came about is another matter. */
static bool
same_limit(const struct limit *a, const struct limit *b)
{
	if (strcmp(a->name, b->name) != 0 || a->enabled != b->enabled || a->count != b->count ||
	    a->per != b->per || a->action != b->action || a->whom != b->whom ||
	    a->nnets != b->nnets || a->nrungs != b->nrungs ||
	    memcmp(a->nets, b->nets, a->nnets * sizeof a->nets[0]) != 0)
		return false;
	for (unsigned i = 0; i < a->nrungs; i++)
		if (a->rungs[i].bits != b->rungs[i].bits || a->rungs[i].times != b->rungs[i].times)
			return false;
	return a->rate == b->rate && a->period_us == b->period_us && a->burst == b->burst &&
	    a->quota == b->quota && a->window_us == b->window_us && a->strict == b->strict &&
	    a->max == b->max && memcmp(&a->reply, &b->reply, sizeof a->reply) == 0;
}

/* bucket_drained() and bucket_wait() of this limit, at some level and after some time. */
static void
check_bucket(const struct limit *l, int64_t level, int64_t dt_us)
{
	int64_t full = l->burst * MICRO, wait, left;
	long double exact;

	level = level % (full * (l->strict ? STRICT_BURSTS : 1) + 1);
	dt_us = dt_us % UNITS_DURATION_MAX;
	left = bucket_drained(level, dt_us, l->rate, l->period_us);
	CHECK(left >= 0 && left <= level);
	/* never more than the rate, nor less by more than the last digit of a double */
	exact = (long double)dt_us * l->rate * MICRO / l->period_us;
	CHECK((long double)(level - left) <= exact * (1 + 0x1p-50L));
	if (left > 0)
		CHECK((long double)(level - left) >= exact * (1 - 0x1p-50L) - 1);
	CHECK(bucket_drained(level, -dt_us, l->rate, l->period_us) == level);
	wait = bucket_wait(level, l->rate, l->period_us);
	CHECK(wait >= 0 && wait <= UNITS_DURATION_MAX);
	CHECK((wait == 0) == (level == 0));
	/* who waits as he is told finds it empty (to a millionth of a thing, which is what doubles
	 * lose above 2^53), and not much earlier */
	CHECK(bucket_drained(level, wait, l->rate, l->period_us) <= 1 + (level >> 50));
	if (wait > 2)
		CHECK(bucket_drained(level, wait - 2, l->rate, l->period_us) > 0 || level >> 40);
}

static void
check_figures(const struct limit *l, struct input *in)
{
	int64_t times = l->nrungs > 0 ? l->rungs[l->nrungs - 1].times : 1;

	CHECK(limit_ceiling(l) >= 1 && limit_ceiling(l) * times <= QUOTA_FIGURE_MAX);
	CHECK((l->rate != 0) + (l->quota != 0) + (l->max != 0) == 1);
	CHECK((l->max != 0) == (l->count == COUNT_SESSIONS));
	if (l->count != COUNT_BYTES)
		CHECK(limit_ceiling(l) * times <= UNITS_COUNT_MAX);
	if (l->max != 0)
		CHECK(limit_drain_us(l) == 0);
	else
		CHECK(limit_drain_us(l) > 0 && limit_drain_us(l) <= UNITS_DURATION_MAX);
	if (l->quota != 0)
		CHECK(l->window_us >= USEC_PER_SEC && l->burst == 0);
	if (l->rate == 0)
		return;
	CHECK(l->rate * times <= LIMIT_FIGURE_MAX && l->burst * times <= LIMIT_FIGURE_MAX);
	CHECK(l->period_us >= USEC_PER_SEC && l->period_us <= UNITS_DURATION_MAX);
	for (int i = 0; i < 4; i++) {
		int64_t level = (int64_t)(input_number(in, 8) >> 2);

		check_bucket(l, level, (int64_t)(input_number(in, 8) >> 2));
	}
}

static void
check_networks(const struct limit *l)
{
	struct rung last = {.bits = 128, .times = 1};

	CHECK(l->nnets <= LIMIT_NETS_MAX && l->nrungs <= LADDER_MAX);
	CHECK((l->whom == FOR_NETWORKS) == (l->nnets > 0));
	for (unsigned i = 0; i < l->nrungs; i++) {
		CHECK(l->rungs[i].bits < last.bits && l->rungs[i].times > last.times);
		last = l->rungs[i];
	}
}

static void
check_finished(const struct limit *l, struct input *in)
{
	char words[WORDS_ROOM], err[LIMIT_ERR_MAX];
	struct limit again;

	if (!l->enabled)
		return;
	check_figures(l, in);
	check_networks(l);
	if (l->action == ACTION_REFUSE)
		CHECK(reply_closes(&l->reply));
	if (l->action == ACTION_DEFER)
		CHECK(!reply_closes(&l->reply));
	CHECK(!limit_at_connect(l) || limit_per_is_client(l->per));
	if (!write_words(l, words))
		return;
	limit_init(&again, l->name);
	CHECK(limit_set_words(&again, words, err, sizeof err));
	CHECK(limit_finish(&again, err, sizeof err));
	CHECK(same_limit(&again, l));
}

/* Reads words over an empty limit; true when it is whole. */
static bool
read_words(const char *name, const char *words, struct limit *out)
{
	char *err = fuzz_alloc(LIMIT_ERR_MAX);
	struct limit before;
	bool ok;

	limit_init(out, name);
	before = *out;
	ok = limit_set_words(out, words, err, LIMIT_ERR_MAX);
	if (!ok) {
		CHECK(memcmp(&before, out, sizeof before) == 0);
		CHECK(is_sentence(err, LIMIT_ERR_MAX));
	} else {
		ok = limit_finish(out, err, LIMIT_ERR_MAX);
		CHECK(ok || is_sentence(err, LIMIT_ERR_MAX));
	}
	free(err);
	return ok;
}

/* The same words as Redis holds them, beside until, by and reason. */
static void
check_entry(const char *name, const char *text, const struct limit *l, bool read)
{
	char *words = fuzz_alloc(ENTRY_WORDS_MAX + 1), *again = fuzz_alloc(ENTRY_WORDS_MAX + 1);
	char *err = fuzz_alloc(LIMIT_ERR_MAX);
	struct entry_meta meta, none;
	struct limit split;

	if (!entry_split(text, &meta, words, err, LIMIT_ERR_MAX)) {
		CHECK(is_sentence(err, LIMIT_ERR_MAX));
		CHECK(!read || strlen(text) > ENTRY_WORDS_MAX);
	} else {
		CHECK(strlen(words) <= ENTRY_WORDS_MAX && strlen(words) <= strlen(text));
		CHECK(meta.until_us >= 0);
		CHECK(strlen(meta.by) <= ENTRY_BY_MAX && strlen(meta.reason) <= ENTRY_REASON_MAX);
		/* what is left holds nothing of the three, and splits into itself */
		CHECK(entry_split(words, &none, again, err, LIMIT_ERR_MAX));
		CHECK(strcmp(words, again) == 0);
		CHECK(none.until_us == INT64_MAX && none.by[0] == '\0' && none.reason[0] == '\0');
		if (read) {
			CHECK(read_words(name, words, &split));
			CHECK(same_limit(&split, l));
		}
	}
	free(words);
	free(again);
	free(err);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	char *name = input_line(&in), *text = input_line(&in);
	struct limit l;
	bool ok;

	if (!limit_name_valid(name))
		strcpy(name, ""); /* what limit_init() is never given */
	ok = read_words(name, text, &l);
	if (ok)
		check_finished(&l, &in);
	check_entry(name, text, &l, ok);
	free(name);
	free(text);
	return 0;
}
