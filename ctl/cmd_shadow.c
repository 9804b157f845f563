/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_shadow.c - weirctl limit shadow: a live limit gets another one beside it, with other
 * figures, that refuses nobody; and then, whom it would have refused.
 *
 * The shadow of NAME is an ordinary temporary limit, NAME-shadow, with action=log. Whom such a
 * limit would refuse is kept by Redis in the client's address record, NAME-shadow:over.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

#define SHADOW "-shadow"
#define NAME_MAX_LEN (LIMIT_NAME_MAX - (sizeof SHADOW - 1))
#define OVER ":over"
/* More was written by hand; a thousand million such clients can still be added up. */
#define ATTEMPTS_MAX INT64_C(1000000000)
#define ROWS_SHOWN 15
#define ROWS_MAX 1000

struct names {
	const char *live;
	char shadow[LIMIT_NAME_MAX + 1];
	char field[LIMIT_NAME_MAX + sizeof ENTRY_TEMPORARY]; /* of the hash of limits */
	char quota[LIMIT_NAME_MAX + sizeof QUOTA_FIELD]; /* of a record */
	char over[LIMIT_NAME_MAX + sizeof OVER]; /* of an address's */
};

static void
make_names(const char *live, struct names *n)
{
	if (!limit_name_valid(live))
		ctl_die(CTL_REFUSED, "not a limit's name ([a-z0-9-], at most 32)");
	if (strlen(live) > NAME_MAX_LEN)
		ctl_die(CTL_REFUSED,
		    "%s" SHADOW " would be no limit's name: %s has more than %zu characters", live,
		    live, NAME_MAX_LEN);
	n->live = live;
	snprintf(n->shadow, sizeof n->shadow, "%s%s", live, SHADOW);
	snprintf(n->field, sizeof n->field, "%s%s", n->shadow, ENTRY_TEMPORARY);
	snprintf(n->quota, sizeof n->quota, "%s%s", n->shadow, QUOTA_FIELD);
	snprintf(n->over, sizeof n->over, "%s%s", n->shadow, OVER);
}

static const struct limit *
live_limit(const struct rules *r, const struct names *n)
{
	const struct limit *l = ruleset_limit((struct ruleset *)&r->set, n->live);

	if (l == NULL)
		ctl_die(CTL_REFUSED, "there is no limit %s", n->live);
	return l;
}

/* --- beginning and ending --------------------------------------------------------------------- */

static void
read_words(int argc, char **argv, char words[ENTRY_WORDS_MAX + 1])
{
	static const char *const senseless[] = {"action=", "reply=", "enabled="};
	size_t used = 0;

	for (int i = 0; i < argc; i++) {
		for (size_t k = 0; k < sizeof senseless / sizeof senseless[0]; k++)
			if (strncmp(argv[i], senseless[k], strlen(senseless[k])) == 0)
				ctl_die(CTL_USAGE,
				    "a shadow refuses nobody: leave action, reply and enabled "
				    "away");
		used = ctl_add_word(words, ENTRY_WORDS_MAX, used, argv[i]);
	}
}

/* Whether both count the same and have the same figures, whatever follows from that. */
static bool
same(const struct limit *a, const struct limit *b)
{
	struct limit x = *a, y = *b;
	char xs[LIMIT_WORDS_MAX], ys[LIMIT_WORDS_MAX];

	x.action = y.action = ACTION_LOG;
	x.burst_given = x.rate != 0;
	y.burst_given = y.rate != 0;
	return strcmp(limit_words(&x, xs), limit_words(&y, ys)) == 0;
}

/* The live limit as `limit set` would make it of these words, but that it only logs. */
static void
make_candidate(const struct limit *live, const char *words, struct limit *out)
{
	char err[LIMIT_ERR_MAX];

	*out = *live;
	if (!limit_set_words(out, words, err, sizeof err))
		ctl_die(CTL_REFUSED, "%s: %s", live->name, err);
	out->action = ACTION_LOG;
	if (!limit_finish(out, err, sizeof err))
		ctl_die(CTL_REFUSED, "%s: %s", live->name, err);
	if (same(live, out))
		ctl_die(CTL_REFUSED, "that is what limit %s is now", live->name);
}

struct wanted {
	char words[LIMIT_WORDS_MAX];
	int64_t until_us;
};

static char *
make_entry(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	const struct wanted *w = ctx;

	(void)r;
	(void)field;
	(void)now;
	return w != NULL ? ctl_entry(c, w->words, w->until_us) : NULL;
}

static int64_t
change(struct ctl *c, const struct names *n, struct wanted *w)
{
	const char *fields[1] = {n->field};

	return ctl_change(c, SECTION_LIMITS, 1, fields, make_entry, w);
}

static int
begin(struct ctl *c, const struct names *n, int argc, char **argv)
{
	const char *leftover[] = {n->shadow, n->quota, n->over};
	struct wanted w = {.until_us = ctl_take_for(&argc, argv)};
	char words[ENTRY_WORDS_MAX + 1] = "", err[LIMIT_ERR_MAX];
	const struct limit *live;
	struct limit candidate;
	struct rules r;

	if (argc == 0)
		return CTL_USAGE;
	if (w.until_us == INT64_MAX)
		ctl_die(CTL_USAGE, "say for how long at the end, such as \"for 1d\"");
	read_words(argc, argv, words);
	rules_load(c, &r);
	live = live_limit(&r, n);
	if (!live->enabled)
		ctl_die(CTL_REFUSED, "limit %s is off: there is nothing to compare with", n->live);
	make_candidate(live, words, &candidate);
	limit_words(&candidate, w.words);
	if (ruleset_limit(&c->conf.rules, n->shadow) != NULL ||
	    rules_words(&r, SECTION_LIMITS, n->shadow) != NULL)
		ctl_die(
		    CTL_REFUSED, "there is a limit %s already, and it is not a shadow", n->shadow);
	if (!ruleset_check_entry(&r.set, SECTION_LIMITS, n->field, w.words, err, sizeof err))
		ctl_die(CTL_REFUSED, "%s: %s", n->shadow, err);
	/* an earlier one ends first, or it would go on writing what is removed below */
	if (rules_words(&r, SECTION_LIMITS, n->field) != NULL)
		(void)change(c, n, NULL);
	rules_free(&r);
	records_forget(c, 3, leftover);
	return ctl_changed(c, change(c, n, &w));
}

static int
end(struct ctl *c, const struct names *n)
{
	struct rules r;
	bool there;

	rules_load(c, &r);
	there = rules_words(&r, SECTION_LIMITS, n->field) != NULL;
	rules_free(&r);
	if (!there)
		ctl_die(CTL_REFUSED, "limit %s has no shadow now", n->live);
	return ctl_changed(c, change(c, n, NULL));
}

/* --- what it found ------------------------------------------------------------------------------ */

#define TIME_MAX INT64_C(10000000000)

/* One run of a shadow; times in seconds since 1970, 0 = not known. */
struct run {
	char words[ENTRY_WORDS_MAX + 1];
	int64_t since, until, ended; /* ended 0: it runs */
};

/* The words and the end of an entry; false when it says neither. */
static bool
read_entry(const char *entry, struct run *run)
{
	struct entry_meta m;
	char err[64];

	if (!entry_split(entry, &m, run->words, err, sizeof err))
		return false;
	run->until = m.until_us == INT64_MAX ? 0 : m.until_us / USEC_PER_SEC;
	return true;
}

/* The history can be written by hand, too. */
static int64_t
time_of(const json_t *entry)
{
	int64_t s = out_whole(entry, "time");

	return s > 0 && s < TIME_MAX ? s : 0;
}

/* From the history, newest first: when it began and, if it was taken away, when that was. */
static bool
find_in_history(struct ctl *c, const struct names *n, const char *entry, struct run *run)
{
	json_t *history = ctl_history(c, 0);
	const json_t *e, *change;
	bool found = false;
	size_t i, k;

	json_array_foreach(history, i, e)
	{
		json_array_foreach(json_object_get(e, "changes"), k, change)
		{
			const char *new = out_text(change, "new");

			if (found || strcmp(out_text(change, "field"), n->field) != 0)
				continue;
			if (new[0] == '\0')
				run->ended = run->ended != 0 ? run->ended : time_of(e);
			else if (entry != NULL && strcmp(entry, new) != 0)
				found = true; /* changed by hand since: nobody knows when */
			else {
				run->since = time_of(e);
				found = read_entry(new, run);
			}
		}
	}
	json_decref(history);
	return found;
}

static void
find_run(struct ctl *c, const struct rules *r, const struct names *n, struct run *run)
{
	const char *entry = rules_words(r, SECTION_LIMITS, n->field);
	int64_t now = clock_real_us() / USEC_PER_SEC;
	bool found;

	memset(run, 0, sizeof *run);
	found = find_in_history(c, n, entry, run);
	if (entry != NULL) {
		found = read_entry(entry, run);
		run->ended = 0;
	}
	if (!found)
		ctl_die(CTL_REFUSED,
		    "limit %s has no shadow; one is made by: limit shadow %s KEY=VALUE... for 1d",
		    n->live, n->live);
	if (run->until != 0 && run->until <= now && (run->ended == 0 || run->ended > run->until))
		run->ended = run->until;
}

struct row {
	char who[RECORD_KEY_MAX];
	int64_t attempts, last_us, ok, refused;
	bool known, good;
};

struct report {
	const struct ruleset *set;
	const struct names *names;
	int64_t now_us, since_us;
	json_t *known; /* keys of pools -> true */
	int64_t seen, clients, attempts, good, live; /* live: clients that the live limit refused */
	unsigned n;
	struct row rows[ROWS_MAX]; /* the most attempts first */
};

static bool
add_known(void *ctx, const struct client_record *r)
{
	struct report *p = ctx;
	struct trust t;
	bool passed;

	if (record_known(p->set, r->fields, p->now_us, &t, &passed))
		json_object_set_new(p->known, r->key, json_true());
	return true;
}

static bool
pool_is_known(const struct report *p, const char *who)
{
	struct record pool;
	struct net n;

	if (!net_parse(who, &n))
		return false;
	plan_client_record(p->set, PER_POOL, &n.base, &pool);
	return json_object_get(p->known, pool.key) != NULL;
}

static void
insert(struct report *p, const struct row *row)
{
	unsigned i = p->n < ROWS_MAX ? p->n++ : ROWS_MAX - 1;

	if (i == ROWS_MAX - 1 && p->n == ROWS_MAX && p->rows[i].attempts >= row->attempts)
		return;
	for (; i > 0 && p->rows[i - 1].attempts < row->attempts; i--)
		p->rows[i] = p->rows[i - 1];
	p->rows[i] = *row;
}

static bool
add_client(void *ctx, const struct client_record *r)
{
	const char *over;
	struct report *p = ctx;
	struct row row = {.ok = r->ok, .refused = r->refused};
	int64_t count, at;

	if (r->last_us < p->since_us)
		return true;
	p->seen++;
	p->live += strcmp(r->refusal, p->names->live) == 0 && r->refusal_us >= p->since_us;
	over = json_string_value(json_object_get(r->fields, p->names->over));
	if (!record_pair(over, &count, &at) || count == 0 || at < p->since_us)
		return true;
	strcpy(row.who, r->who);
	row.attempts = count;
	row.last_us = at;
	row.known = pool_is_known(p, r->who);
	row.good = row.known || r->ok > r->refused;
	p->clients++;
	p->attempts += count < ATTEMPTS_MAX ? count : ATTEMPTS_MAX;
	p->good += row.good;
	insert(p, &row);
	return true;
}

static json_t *
rows_json(const struct report *p)
{
	json_t *rows = json_array();

	for (unsigned i = 0; i < p->n; i++) {
		const struct row *k = &p->rows[i];

		json_array_append_new(rows,
		    json_pack("{ss sI sI sI sI sb sb}", "who", k->who, "attempts",
			(json_int_t)k->attempts, "last_seconds",
			(json_int_t)(k->last_us / USEC_PER_SEC), "accepted", (json_int_t)k->ok,
			"refused", (json_int_t)k->refused, "known", k->known, "good", k->good));
	}
	return rows;
}

/* --- for people ------------------------------------------------------------------------------- */

static void
print_limit(const struct ctl *c, const char *which, const json_t *l)
{
	bool everyone = strcmp(out_text(l, "for"), limit_for_name(FOR_EVERYONE)) == 0;
	const json_t *rung;
	size_t i;

	out_line(c, "  %-9s %s per %s, %s%s%s%s", which, out_text(l, "count"), out_text(l, "per"),
	    out_text(l, "figures"), json_is_true(json_object_get(l, "strict")) ? " strict" : "",
	    everyone ? "" : ", for ", everyone ? "" : out_text(l, "for"));
	json_array_foreach(json_object_get(l, "ladder"), i, rung) out_line(c,
	    "            per /%" PRId64 " %s", out_whole(rung, "bits"), out_text(rung, "figures"));
}

static void
print_times(const json_t *r)
{
	int64_t now = clock_real_us(), since = out_whole(r, "since"), until = out_whole(r, "until");
	char text[32];

	printf("shadow of limit %s: ", out_text(r, "limit"));
	if (since != 0)
		printf("began %s ago", out_duration(now - since * USEC_PER_SEC, text));
	else
		printf("began nobody knows when");
	if (out_whole(r, "ended") != 0)
		printf(", ended %s ago\n",
		    out_duration(now - out_whole(r, "ended") * USEC_PER_SEC, text));
	else if (until != 0)
		printf(", runs for %s yet\n", out_duration(until * USEC_PER_SEC - now, text));
	else
		putchar('\n');
}

static void
print_rows(const struct ctl *c, const json_t *rows)
{
	struct table *t = table_new(6, "WHO", "TIMES", "LAST", "ACCEPTED", "REFUSED", "IS");
	int64_t now = clock_real_us();
	const json_t *k;
	size_t i;

	json_array_foreach(rows, i, k)
	{
		char times[24], ago[32], last[40], ok[24], refused[24];

		if (i == ROWS_SHOWN)
			break;
		snprintf(times, sizeof times, "%" PRId64, out_whole(k, "attempts"));
		snprintf(last, sizeof last, "%s ago",
		    out_duration(now - out_whole(k, "last_seconds") * USEC_PER_SEC, ago));
		snprintf(ok, sizeof ok, "%" PRId64, out_whole(k, "accepted"));
		snprintf(refused, sizeof refused, "%" PRId64, out_whole(k, "refused"));
		table_row(t, out_text(k, "who"), times, last, ok, refused,
		    json_is_true(json_object_get(k, "known"))	   ? "known"
			: json_is_true(json_object_get(k, "good")) ? "good"
								   : "-");
	}
	table_print(c, t);
}

static void
print_report(const struct ctl *c, const json_t *r)
{
	print_times(r);
	print_limit(c, "live", json_object_get(r, "live"));
	print_limit(c, "candidate", json_object_get(r, "candidate"));
	printf("%" PRId64 " of %" PRId64 " clients were last refused by the live limit\n",
	    out_whole(r, "live_refused"), out_whole(r, "seen"));
	printf("%" PRId64 " would have been refused by the candidate, %" PRId64 " times; %" PRId64
	       " of these are good\n",
	    out_whole(r, "clients"), out_whole(r, "attempts"), out_whole(r, "good"));
	if (out_whole(r, "clients") > 0)
		print_rows(c, json_object_get(r, "top"));
}

static int
report(struct ctl *c, const struct names *n)
{
	static struct report p; /* the rows are too much for a stack */
	const struct limit *live;
	struct limit candidate;
	char err[LIMIT_ERR_MAX];
	struct rules r;
	struct run run;
	json_t *out;

	rules_load(c, &r);
	live = live_limit(&r, n);
	find_run(c, &r, n, &run);
	limit_init(&candidate, n->shadow);
	if (!limit_set_words(&candidate, run.words, err, sizeof err) ||
	    !limit_finish(&candidate, err, sizeof err))
		ctl_die(CTL_REFUSED, "%s: %s", n->shadow, err);
	p = (struct report){.set = &r.set,
	    .names = n,
	    .now_us = clock_real_us(),
	    .since_us = run.since * USEC_PER_SEC,
	    .known = json_object()};
	if (ruleset_learns(&r.set))
		records_each(c, PER_POOL, add_known, &p);
	records_each(c, PER_ADDRESS, add_client, &p);
	json_decref(p.known);
	out = json_pack("{ss ss so so sI sI sI sI sI so}", "limit", n->live, "shadow", n->shadow,
	    "live", limit_json(live), "candidate", limit_json(&candidate), "seen",
	    (json_int_t)p.seen, "live_refused", (json_int_t)p.live, "clients",
	    (json_int_t)p.clients, "attempts", (json_int_t)p.attempts, "good", (json_int_t)p.good,
	    "top", rows_json(&p));
	if (run.since != 0)
		json_object_set_new(out, "since", json_integer(run.since));
	if (run.until != 0)
		json_object_set_new(out, "until", json_integer(run.until));
	if (run.ended != 0)
		json_object_set_new(out, "ended", json_integer(run.ended));
	out_result(c, out, print_report);
	rules_free(&r);
	return CTL_DONE;
}

int
limit_shadow(struct ctl *c, int argc, char **argv)
{
	struct names n;

	make_names(argv[0], &n);
	if (argc == 1)
		return report(c, &n);
	if (argc == 2 && strcmp(argv[1], "off") == 0)
		return end(c, &n);
	return begin(c, &n, argc - 1, argv + 1);
}
