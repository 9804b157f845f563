/*
 * fuzz_limit.c - the words of a limit, and the entries in Redis that hold them: what is taken is
 * in range, means the same when it is written out and read again, and makes a bucket whose
 * arithmetic holds.
 *
 * Input: a line (the limit's name), then the words.
 *
 * Covers: policy/limit.c policy/entry.c policy/units.c
 */
#include <inttypes.h>
#include <math.h>

#include "fuzz.h"
#include "weir/entry.h"
#include "weir/limit.h"
#include "weir/units.h"

#define WORDS_ROOM 1200

/* A finished limit in words; false when a word cannot hold it (a quote in the reply). */
static bool
write_words(const struct limit *l, char *out)
{
	size_t n = (size_t)snprintf(out, WORDS_ROOM, "count=%s per=%s action=%s strict=%s",
	    limit_count_name(l->count), limit_per_name(l->per), limit_action_name(l->action),
	    l->strict ? "yes" : "off");

	if (l->rate > 0)
		n += (size_t)snprintf(out + n, WORDS_ROOM - n, " rate=%" PRId64 "/%" PRId64 "ms",
		    l->rate, l->period_us / USEC_PER_MSEC);
	if (l->burst > 0)
		n += (size_t)snprintf(out + n, WORDS_ROOM - n, " burst=%" PRId64, l->burst);
	if (l->max > 0)
		n += (size_t)snprintf(out + n, WORDS_ROOM - n, " max=%" PRId64, l->max);
	n += (size_t)snprintf(out + n, WORDS_ROOM - n, " reply=\"%s %s %s\"", l->reply.code,
	    l->reply.xcode, l->reply.text);
	CHECK(n < WORDS_ROOM);
	return strchr(l->reply.text, '"') == NULL;
}

/* Equal in all that they do; how they came about is another matter. */
static bool
same_limit(const struct limit *a, const struct limit *b)
{
	return strcmp(a->name, b->name) == 0 && a->enabled == b->enabled && a->count == b->count &&
	    a->per == b->per && a->action == b->action && a->rate == b->rate &&
	    a->period_us == b->period_us && a->burst == b->burst && a->strict == b->strict &&
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
check_finished(const struct limit *l, struct input *in)
{
	char words[WORDS_ROOM], err[LIMIT_ERR_MAX];
	struct limit again;

	if (!l->enabled)
		return;
	if (l->count == COUNT_SESSIONS) {
		CHECK(l->max >= 1 && l->max <= UNITS_COUNT_MAX && l->rate == 0);
		CHECK(limit_drain_us(l) == 0);
	} else {
		CHECK(l->rate >= 1 && l->rate <= UNITS_COUNT_MAX && l->max == 0);
		CHECK(l->period_us >= USEC_PER_SEC && l->period_us <= UNITS_DURATION_MAX);
		CHECK(l->burst >= 1 && l->burst <= UNITS_COUNT_MAX);
		CHECK(limit_drain_us(l) > 0 && limit_drain_us(l) < UNITS_DURATION_MAX);
		for (int i = 0; i < 4; i++) {
			int64_t level = (int64_t)(input_number(in, 8) >> 2);

			check_bucket(l, level, (int64_t)(input_number(in, 8) >> 2));
		}
	}
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
