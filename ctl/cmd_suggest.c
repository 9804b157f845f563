/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_suggest.c - weirctl suggest: what the clients of a log did, and limits that fit it.
 */
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ctl.h"
#include "demand.h"

#define BAR_WIDTH 36

#define KNOWN (1U << DEMAND_KNOWN)
#define STRANGERS (1U << DEMAND_GOOD | 1U << DEMAND_OTHER)
#define GOOD_ONES (1U << DEMAND_KNOWN | 1U << DEMAND_GOOD)
#define EVERYONE (KNOWN | STRANGERS)

/* Below so many known senders their one in a thousand says nothing: all good ones are asked. */
#define KNOWN_ENOUGH 100
/* Nobody is held to less: two or three of anything happen by chance. */
#define PROPOSED_MIN 10

/* --- the proposal ---------------------------------------------------------------------------------- */

/* Two digits are enough for a limit that a person will remember. */
static int64_t
round_up(int64_t n)
{
	int64_t unit = 1;

	while (n / unit >= 100)
		unit *= 10;
	return (n + unit - 1) / unit * unit;
}

/* The largest figure that such a limit takes; bytes are told in units. */
static int64_t
most_of(const struct limit *l)
{
	if (l->count != COUNT_BYTES)
		return UNITS_COUNT_MAX;
	return (l->quota != 0 ? QUOTA_FIGURE_MAX : LIMIT_FIGURE_MAX) / DEMAND_UNIT;
}

/* Above what all but one in a thousand of the good senders ever did; NULL: nothing to go by. */
static json_t *
propose(const struct limit *l, const struct demand_histogram *h)
{
	bool all = l->per == PER_ALL;
	bool known = demand_samples(h, KNOWN) >= KNOWN_ENOUGH;
	unsigned basis = all ? EVERYONE : known ? KNOWN : GOOD_ONES;
	const char *who = known ? "known" : "good";
	const char *unit = l->count == COUNT_BYTES ? "k" : "";
	int64_t need = demand_quantile(h, basis, all ? 1.0 : 0.999);
	int64_t value = round_up(all ? 2 * need : need + (need + 3) / 4);
	int64_t good = demand_samples(h, GOOD_ONES);
	char period[UNITS_TEXT_MAX], any[48] = "at once";
	json_t *j;

	if (need == 0)
		return NULL;
	if (value < PROPOSED_MIN)
		value = PROPOSED_MIN;
	if (value > most_of(l))
		value = most_of(l);
	(void)units_duration_text(l->quota != 0 ? l->window_us : l->period_us, period);
	if (l->count != COUNT_SESSIONS)
		snprintf(any, sizeof any, "in any %s", period);
	j = json_pack("{sI sI}", "value", (json_int_t)value, "need", (json_int_t)need);
	if (l->count == COUNT_SESSIONS)
		json_object_set_new(j, "words", json_sprintf("max=%" PRId64, value));
	else if (l->quota != 0)
		json_object_set_new(
		    j, "words", json_sprintf("quota=%" PRId64 "%s/%s", value, unit, period));
	else
		json_object_set_new(j, "words",
		    json_sprintf("rate=%" PRId64 "%s/%s burst=%" PRId64 "%s", value, unit, period,
			value, unit));
	if (all)
		json_object_set_new(j, "reason",
		    json_sprintf(
			"twice the most that all together did %s (%" PRId64 ")", any, need));
	else if (value == PROPOSED_MIN)
		json_object_set_new(j, "reason",
		    json_sprintf("999 of 1000 %s senders did not do more than %" PRId64
				 " %s; less than %d would hit somebody by chance",
			who, need, any, PROPOSED_MIN));
	else
		json_object_set_new(j, "reason",
		    json_sprintf("a quarter above what 999 of 1000 %s senders did %s (%" PRId64 ")",
			who, any, need));
	if (all)
		return j;
	json_object_set_new(j, "good_above", json_integer(demand_above(h, GOOD_ONES, value)));
	json_object_set_new(j, "good_share",
	    json_real(good > 0 ? (double)demand_above(h, GOOD_ONES, value) / (double)good : 0));
	json_object_set_new(
	    j, "others_above", json_integer(demand_above(h, 1U << DEMAND_OTHER, value)));
	return j;
}

/* --- the result -------------------------------------------------------------------------------------- */

static json_t *
group_json(const struct demand_histogram *h, unsigned groups)
{
	return json_pack("{sI sI sI sI sI}", "clients", (json_int_t)demand_samples(h, groups),
	    "p50", (json_int_t)demand_quantile(h, groups, 0.5), "p99",
	    (json_int_t)demand_quantile(h, groups, 0.99), "p999",
	    (json_int_t)demand_quantile(h, groups, 0.999), "max",
	    (json_int_t)demand_quantile(h, groups, 1.0));
}

/* 1, 2-3, 4-7, ...: as far as there is somebody. */
static json_t *
histogram_json(const struct demand_histogram *h)
{
	json_t *out = json_array();
	int64_t max = demand_quantile(h, EVERYONE, 1.0);

	for (int64_t from = 1; from <= max; from *= 2) {
		int64_t to = 2 * from - 1;

		json_array_append_new(out,
		    json_pack("{sI sI sI sI}", "from", (json_int_t)from, "to", (json_int_t)to,
			"known",
			(json_int_t)(demand_above(h, KNOWN, from - 1) - demand_above(h, KNOWN, to)),
			"strangers",
			(json_int_t)(demand_above(h, STRANGERS, from - 1) -
			    demand_above(h, STRANGERS, to))));
	}
	return out;
}

static json_t *
suggest_json(const struct limit *l, const struct demand_histogram *h)
{
	json_t *j = limit_json(l), *proposal = propose(l, h);

	/* what the figures below are so many of */
	json_object_set_new(j, "unit", json_integer(l->count == COUNT_BYTES ? DEMAND_UNIT : 1));
	json_object_set_new(j, "known", group_json(h, KNOWN));
	json_object_set_new(j, "strangers", group_json(h, STRANGERS));
	json_object_set_new(j, "good", group_json(h, GOOD_ONES));
	json_object_set_new(j, "histogram", histogram_json(h));
	if (proposal != NULL)
		json_object_set_new(j, "proposal", proposal);
	return j;
}

/* --- for people -------------------------------------------------------------------------------------- */

static bool
can_draw(void)
{
	return setlocale(LC_CTYPE, "") != NULL && strcmp(nl_langinfo(CODESET), "UTF-8") == 0;
}

static int
bar_length(int64_t n, int64_t most)
{
	int64_t length = most > 0 ? n * BAR_WIDTH / most : 0;

	return n > 0 && length == 0 ? 1 : (int)length;
}

static void
draw(const json_t *row, int64_t most, bool blocks)
{
	int64_t known = out_whole(row, "known"), strangers = out_whole(row, "strangers");
	int whole = bar_length(known + strangers, most);
	int dark =
	    known + strangers > 0 ? bar_length(known, known + strangers) * whole / BAR_WIDTH : 0;

	if (known > 0 && dark == 0)
		dark = 1;
	for (int i = 0; i < whole; i++)
		fputs(i < dark ? (blocks ? "\xe2\x96\x88" : "#") : (blocks ? "\xe2\x96\x91" : ":"),
		    stdout);
	for (int i = whole; i < BAR_WIDTH; i++)
		putchar(' ');
}

static void
print_histogram(const json_t *l, bool blocks)
{
	const json_t *rows = json_object_get(l, "histogram"), *row;
	int64_t most = 0, value = out_whole(json_object_get(l, "proposal"), "value");
	size_t i;

	json_array_foreach(rows, i, row)
	{
		int64_t n = out_whole(row, "known") + out_whole(row, "strangers");

		if (n > most)
			most = n;
	}
	json_array_foreach(rows, i, row)
	{
		int64_t from = out_whole(row, "from"), to = out_whole(row, "to");
		char range[48];

		snprintf(range, sizeof range, from == to ? "%" PRId64 : "%" PRId64 "-%" PRId64,
		    from, to);
		printf("  %13s ", range);
		draw(row, most, blocks);
		printf(" %" PRId64 " + %" PRId64 "%s\n", out_whole(row, "known"),
		    out_whole(row, "strangers"), value >= from && value <= to ? "  <-" : "");
	}
}

static void
print_groups(const struct ctl *c, const json_t *l)
{
	static const char *const groups[] = {"known", "strangers"},
				 *const keys[] = {"clients", "p50", "p99", "p999", "max"};
	struct table *t = table_new(6, "", "CLIENTS", "P50", "P99", "P99.9", "MAX");

	for (int i = 0; i < 2; i++) {
		const json_t *g = json_object_get(l, groups[i]);
		char a[5][32];

		for (int k = 0; k < 5; k++)
			snprintf(a[k], sizeof a[k], "%" PRId64, out_whole(g, keys[k]));
		table_row(t, groups[i], a[0], a[1], a[2], a[3], a[4]);
	}
	table_print(c, t);
}

static void
print_proposal(const struct ctl *c, const json_t *l)
{
	const json_t *p = json_object_get(l, "proposal");

	if (p == NULL) {
		out_line(c, "nobody in this log had mail delivered: nothing to go by");
		return;
	}
	out_colour(c, BOLD);
	out_line(c, "weirctl limit set %s %s", out_text(l, "name"), out_text(p, "words"));
	out_colour(c, PLAIN);
	out_text_lines(c, "  ", out_text(p, "reason"));
	if (json_object_get(p, "good_share") != NULL)
		out_line(c,
		    "  good senders that were above it: %" PRId64 " of %" PRId64
		    " (%.2f%%), others: %" PRId64,
		    out_whole(p, "good_above"), out_whole(json_object_get(l, "good"), "clients"),
		    100 * json_real_value(json_object_get(p, "good_share")),
		    out_whole(p, "others_above"));
}

static void
print_suggest(const struct ctl *c, const json_t *r)
{
	bool blocks = can_draw();
	const json_t *l;
	size_t i;

	log_print(c, json_object_get(r, "log"));
	json_array_foreach(json_object_get(r, "limits"), i, l)
	{
		bool sessions = json_object_get(l, "max") != NULL;
		const char *span =
		    json_object_get(l, "quota") != NULL ? "window_seconds" : "period_seconds";
		char period[UNITS_TEXT_MAX];

		(void)units_duration_text(
		    (int64_t)(json_number_value(json_object_get(l, span)) * USEC_PER_SEC), period);
		putchar('\n');
		out_colour(c, BOLD);
		out_line(c, "%s: %s per %s, the most %s%s%s (now %s)", out_text(l, "name"),
		    out_text(l, "count"), out_text(l, "per"), sessions ? "open at once" : "in any ",
		    sessions ? "" : period, out_whole(l, "unit") > 1 ? ", in kilobytes" : "",
		    out_text(l, "figures"));
		out_colour(c, PLAIN);
		if (json_array_size(json_object_get(l, "histogram")) == 0) {
			out_line(c, "nothing of this in the log");
			continue;
		}
		print_groups(c, l);
		print_histogram(l, blocks);
		print_proposal(c, l);
	}
}

/* --- the command ------------------------------------------------------------------------------------- */

int
cmd_suggest(struct ctl *c, int argc, char **argv)
{
	json_t *limits, *log;
	struct rules rules;
	struct demand *d;

	if (argc < 2)
		return CTL_USAGE;
	for (int i = 1; i < argc; i++)
		if (argv[i][0] == '-' && argv[i][1] != '\0')
			return CTL_USAGE;
	rules_load_or_file(c, &rules);
	d = demand_new(&rules.set);
	if (d == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	log = log_read((unsigned)argc - 1, argv + 1, demand_traffic(d));
	demand_finish(d);
	limits = json_array();
	for (unsigned i = 0; i < rules.set.nlimits; i++)
		if (rules.set.limits[i].enabled)
			json_array_append_new(
			    limits, suggest_json(&rules.set.limits[i], demand_of(d, i)));
	out_result(c,
	    json_pack("{so ss so sO}", "log", log, "limits_of",
		rules.store != NULL ? "redis and the file" : "the file", "limits", limits,
		"ignored", rules.ignored),
	    print_suggest);
	demand_free(&d);
	rules_free(&rules);
	return CTL_DONE;
}
