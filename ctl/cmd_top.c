/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_top.c - weirctl top: who is counted most, and who is refused most, now.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "weir/units.h"
#include "ctl.h"

#define ROWS_DEFAULT 15
#define ROWS_LIMIT 1000
#define REFRESH_S 2

struct row {
	enum limit_per kind;
	char who[RECORD_KEY_MAX], refusal[LIMIT_NAME_MAX + 1];
	const struct limit *limit; /* the one that is nearest to its ceiling; NULL = none */
	double level; /* of it */
	int64_t of, ok, refused, last_us;
};

struct top {
	const struct ruleset *set;
	int by; /* enum limit_count, or -1: refused */
	int64_t now_us;
	unsigned n, max, seen;
	struct row rows[ROWS_LIMIT];
};

static double
weight(const struct top *t, const struct row *r)
{
	return t->by < 0 ? (double)r->refused : r->level;
}

/* Puts the row where it belongs; the smallest falls off. */
static void
insert(struct top *t, const struct row *r)
{
	unsigned i = t->n;

	if (weight(t, r) <= 0)
		return;
	if (t->n == t->max) {
		if (weight(t, r) <= weight(t, &t->rows[t->max - 1]))
			return;
		i = t->max - 1;
	} else
		t->n++;
	for (; i > 0 && weight(t, &t->rows[i - 1]) < weight(t, r); i--)
		t->rows[i] = t->rows[i - 1];
	t->rows[i] = *r;
}

static bool
consider(void *ctx, const struct client_record *rec)
{
	struct top *t = ctx;
	struct row r = {
	    .kind = rec->kind, .ok = rec->ok, .refused = rec->refused, .last_us = rec->last_us};

	strcpy(r.who, rec->who);
	strcpy(r.refusal, rec->refusal);
	for (unsigned i = 0; i < t->set->nlimits; i++) {
		const struct limit *l = &t->set->limits[i];
		int64_t times = record_times(t->set, rec, l), of = limit_ceiling(l) * times, level;

		if (!l->enabled || times == 0 || l->count == COUNT_SESSIONS ||
		    (t->by >= 0 && (int)l->count != t->by) ||
		    !record_level(rec, l, times, t->now_us, &level))
			continue;
		if (r.limit == NULL ||
		    (double)level / (double)of > r.level * MICRO / (double)r.of) {
			r.limit = l;
			r.level = (double)level / (double)MICRO;
			r.of = of;
		}
	}
	t->seen++;
	insert(t, &r);
	return true;
}

static json_t *
gather(struct ctl *c, struct top *t)
{
	json_t *rows = json_array();
	struct rules r;

	rules_load(c, &r);
	t->set = &r.set;
	t->n = t->seen = 0;
	t->now_us = clock_real_us();
	for (int kind = 0; kind < PERS; kind++)
		records_each(c, (enum limit_per)kind, consider, t);
	for (unsigned i = 0; i < t->n; i++) {
		const struct row *k = &t->rows[i];

		json_array_append_new(rows,
		    json_pack("{ss ss ss ss sf sI sI sI sI ss}", "kind", limit_per_name(k->kind),
			"who", k->who, "limit", k->limit != NULL ? k->limit->name : "", "count",
			k->limit != NULL ? limit_count_name(k->limit->count) : "", "used", k->level,
			"of", (json_int_t)k->of, "accepted", (json_int_t)k->ok, "refused",
			(json_int_t)k->refused, "last_seconds",
			(json_int_t)(k->last_us / USEC_PER_SEC), "refused_by", k->refusal));
	}
	rules_free(&r);
	return json_pack("{so sI ss}", "rows", rows, "records", (json_int_t)t->seen, "by",
	    t->by < 0 ? "refused" : limit_count_name((enum limit_count)t->by));
}

static void
print_top(const struct ctl *c, const json_t *result)
{
	struct table *t =
	    table_new(7, "WHO", "KIND", "USED/OF", "ACCEPTED", "REFUSED", "SEEN", "BY LIMIT");
	int64_t now = clock_real_us();
	const json_t *r;
	size_t i;

	json_array_foreach(json_object_get(result, "rows"), i, r)
	{
		bool bytes = strcmp(out_text(r, "count"), limit_count_name(COUNT_BYTES)) == 0;
		char used[64], ok[24], refused[24], ago[32], seen[40], level[32],
		    of[UNITS_TEXT_MAX];

		snprintf(used, sizeof used, "%s/%s",
		    out_figure(json_real_value(json_object_get(r, "used")), bytes, level),
		    units_figure_text(out_whole(r, "of"), bytes, of));
		snprintf(ok, sizeof ok, "%" PRId64, out_whole(r, "accepted"));
		snprintf(refused, sizeof refused, "%" PRId64, out_whole(r, "refused"));
		snprintf(seen, sizeof seen, "%s ago",
		    out_duration(now - out_whole(r, "last_seconds") * USEC_PER_SEC, ago));
		table_row(t, out_text(r, "who"), out_text(r, "kind"), used, ok, refused, seen,
		    out_text(r, "refused_by"));
	}
	table_print(c, t);
	printf("by %s; %" PRId64 " records in redis\n", out_text(result, "by"),
	    out_whole(result, "records"));
}

static bool
read_by(const char *word, int *by)
{
	if (strcmp(word, "refused") == 0) {
		*by = -1;
		return true;
	}
	/* what is open now is in no record */
	for (int i = 0; i < COUNTS; i++)
		if (i != COUNT_SESSIONS &&
		    strcmp(word, limit_count_name((enum limit_count)i)) == 0) {
			*by = i;
			return true;
		}
	return false;
}

int
cmd_top(struct ctl *c, int argc, char **argv)
{
	static struct top t; /* the rows are too much for a stack */
	int64_t n = ROWS_DEFAULT;

	t.by = -1;
	for (int i = 1; i < argc; i += 2) {
		if (i + 1 == argc)
			return CTL_USAGE;
		if (strcmp(argv[i], "-n") == 0) {
			if (!units_count(argv[i + 1], &n) || n < 1 || n > ROWS_LIMIT)
				ctl_die(CTL_USAGE, "-n takes a number from 1 to %d", ROWS_LIMIT);
		} else if (strcmp(argv[i], "by") != 0 || !read_by(argv[i + 1], &t.by))
			return CTL_USAGE;
	}
	t.max = (unsigned)n;
	if (!c->terminal || c->json) {
		out_result(c, gather(c, &t), print_top);
		return CTL_DONE;
	}
	for (;;) { /* until ^C, as top(1) */
		json_t *result = gather(c, &t);

		fputs("\033[H\033[2J", stdout);
		out_result(c, result, print_top);
		fflush(stdout);
		sleep(REFRESH_S);
	}
}
