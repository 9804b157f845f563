/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_drain.c - weirctl drain: maintenance. New sessions are refused, those in progress go on to
 * their end.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "weir/units.h"
#include "ctl.h"

#define WORDS "action=drain"
#define NAMES_MAX 400

struct wanted {
	bool on;
	int64_t until_us;
};

static char *
make_entry(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	const struct wanted *w = ctx;

	(void)r;
	(void)field;
	(void)now;
	return w->on ? ctl_entry(c, WORDS, w->until_us) : NULL;
}

/* --- which nodes ----------------------------------------------------------------------------- */

static unsigned
concerned(const json_t *nodes, const char *who)
{
	const json_t *n;
	unsigned count = 0;
	size_t i;

	json_array_foreach(nodes, i, n) count += drain_concerns(who, out_text(n, "node"));
	return count;
}

/* A name that nobody has is more often mistyped than meant for later. */
static void
check_known(struct ctl *c, const char *who)
{
	json_t *nodes = ctl_nodes(c);
	char names[NAMES_MAX] = "none", safe[80];
	const json_t *n;
	size_t i, used = 0;

	json_array_foreach(nodes, i, n) if (used < sizeof names) used += (size_t)snprintf(
	    names + used, sizeof names - used, "%s%s", i > 0 ? ", " : "", out_text(n, "node"));
	if (concerned(nodes, who) == 0 && !c->yes)
		ctl_die(CTL_REFUSED,
		    "no weir-milter of that name uses this redis now (%s); say --yes if %s is "
		    "meant for later",
		    names, out_safe(who, 60, safe, sizeof safe));
	json_decref(nodes);
}

/* --- waiting ---------------------------------------------------------------------------------- */

static void
note_gone(const json_t *before, const json_t *now, const char *who)
{
	const json_t *b, *n;
	size_t i, k;

	json_array_foreach(before, i, b)
	{
		const char *name = out_text(b, "node");
		bool there = !drain_concerns(who, name);

		json_array_foreach(now, k, n) there =
		    there || strcmp(out_text(n, "node"), name) == 0;
		if (!there)
			fprintf(stderr,
			    "weirctl: note: %s no longer reports: it was stopped, or has lost "
			    "redis\n",
			    name);
	}
}

/* What is left on the nodes concerned; -1: not all of them have heard of it yet. Ends the program
 * when one has been told otherwise. */
static int64_t
sessions_left(const json_t *before, const json_t *nodes, const char *who)
{
	int64_t left = 0;
	bool heard = true;
	const json_t *n, *b;
	size_t i, k;

	json_array_foreach(nodes, i, n)
	{
		const char *name = out_text(n, "node");

		if (!drain_concerns(who, name))
			continue;
		left += out_whole(n, "sessions");
		if (strcmp(out_text(n, "drain"), "on") == 0)
			continue;
		heard = false;
		json_array_foreach(before, k, b) if (strcmp(out_text(b, "node"), name) == 0 &&
		    strcmp(out_text(b, "drain"), "on") == 0)
		    ctl_die(CTL_REFUSED, "%s takes new sessions again", name);
	}
	return heard ? left : -1;
}

static void
wait_for_none(struct ctl *c, const char *who, int64_t until_us)
{
	const struct timespec second = {.tv_sec = 1};
	json_t *before = json_array();
	int64_t said = -1;

	for (;;) {
		json_t *nodes = ctl_nodes(c);
		int64_t left;

		if (clock_real_us() >= until_us)
			ctl_die(CTL_REFUSED, "the time is over, and there were still sessions");
		left = sessions_left(before, nodes, who);
		note_gone(before, nodes, who);
		json_decref(before);
		before = nodes;
		if (left == 0)
			break;
		if (left > 0 && left != said && !c->json) {
			printf("%" PRId64 " session%s left\n", left, left == 1 ? "" : "s");
			fflush(stdout);
			said = left;
		}
		nanosleep(&second, NULL);
	}
	json_decref(before);
	if (!c->json)
		puts("no session is left");
}

/* --- the list ---------------------------------------------------------------------------------- */

static void
print_list(const struct ctl *c, const json_t *result)
{
	struct table *t;
	const json_t *e;
	size_t i;

	if (json_array_size(result) == 0) {
		puts("no host is drained in redis");
		return;
	}
	t = table_new(3, "NODE", "LEFT", "BY");
	json_array_foreach(result, i, e)
	{
		const json_t *until = json_object_get(e, "until");
		const char *reason = out_text(e, "reason");
		char left[32] = "until it is taken back", by[400];

		if (until != NULL)
			out_duration(
			    json_integer_value(until) * USEC_PER_SEC - clock_real_us(), left);
		snprintf(by, sizeof by, "%s%s%s", out_text(e, "by"), *reason != '\0' ? ": " : "",
		    reason);
		table_row(t, out_text(e, "node"), left, by);
	}
	table_print(c, t);
}

/* Neither over nor unusable. */
static bool
holds(const struct rules *r, const struct overlay_entry *e, struct entry_meta *m)
{
	char words[ENTRY_WORDS_MAX + 1], err[LIMIT_ERR_MAX];

	return entry_split(e->words, m, words, err, sizeof err) && m->until_us > clock_real_us() &&
	    ruleset_check_entry(&r->set, SECTION_DRAIN, e->name, words, err, sizeof err);
}

static int
list(struct ctl *c)
{
	json_t *out = json_array();
	struct rules r;

	rules_load(c, &r);
	for (unsigned i = 0; i < r.overlay.n[SECTION_DRAIN]; i++) {
		const struct overlay_entry *e = &r.overlay.entries[SECTION_DRAIN][i];
		struct entry_meta m;
		json_t *j;

		if (!holds(&r, e, &m))
			continue;
		j = json_pack("{ss ss ss}", "node", e->name, "by", m.by, "reason", m.reason);
		if (j == NULL) /* bytes that are no UTF-8, put there by hand */
			j = json_pack("{ss ss ss}", "node", e->name, "by", "?", "reason", "?");
		if (m.until_us != INT64_MAX)
			json_object_set_new(j, "until", json_integer(m.until_us / USEC_PER_SEC));
		json_array_append_new(out, j);
	}
	rules_free(&r);
	out_result(c, out, print_list);
	return CTL_DONE;
}

/* --- the command -------------------------------------------------------------------------------- */

/* What another entry still says of the same host. */
static void
note_others(struct ctl *c, const char *who)
{
	json_t *nodes = ctl_nodes(c);
	const json_t *n;
	struct rules r;
	size_t i;

	rules_load(c, &r);
	json_array_foreach(nodes, i, n)
	{
		const char *node = out_text(n, "node");

		if (!drain_concerns(who, node))
			continue;
		for (unsigned k = 0; k < r.overlay.n[SECTION_DRAIN]; k++) {
			const struct overlay_entry *e = &r.overlay.entries[SECTION_DRAIN][k];
			struct entry_meta m;

			if (drain_concerns(e->name, node) && holds(&r, e, &m))
				fprintf(stderr,
				    "weirctl: note: %s is still drained by the entry %s\n", node,
				    e->name);
		}
	}
	rules_free(&r);
	json_decref(nodes);
}

static bool
is_drained(struct ctl *c, const char *who)
{
	struct rules r;
	bool is;

	rules_load(c, &r);
	is = rules_words(&r, SECTION_DRAIN, who) != NULL;
	rules_free(&r);
	return is;
}

int
cmd_drain(struct ctl *c, int argc, char **argv)
{
	bool wait = argc > 1 && strcmp(argv[argc - 1], "-w") == 0;
	char safe[80], err[LIMIT_ERR_MAX];
	const char *fields[1];
	struct wanted w;
	int64_t generation;

	if (argc == 1)
		return list(c);
	argc -= wait;
	w.until_us = ctl_take_for(&argc, argv);
	if (argc != 3)
		return CTL_USAGE;
	w.on = strcmp(argv[2], "on") == 0;
	if ((!w.on && strcmp(argv[2], "off") != 0) || (!w.on && (wait || w.until_us != INT64_MAX)))
		return CTL_USAGE;
	fields[0] = argv[1];
	/* here, so that a strange name does not reach the terminal or the history */
	if (!ruleset_check_entry(&c->conf.rules, SECTION_DRAIN, argv[1], WORDS, err, sizeof err))
		ctl_die(CTL_REFUSED, "\"%s\": %s", out_safe(argv[1], 60, safe, sizeof safe), err);
	if (w.on && strcmp(argv[1], DRAIN_ALL) != 0)
		check_known(c, argv[1]);
	if (!w.on && !is_drained(c, argv[1]))
		ctl_die(CTL_REFUSED, "%s is not drained in redis (weirctl drain shows who is)",
		    argv[1]);
	generation = ctl_change(c, SECTION_DRAIN, 1, fields, make_entry, &w);
	if (!w.on)
		note_others(c, argv[1]);
	if (!c->json && w.on)
		puts("new sessions are refused within a second");
	if (wait)
		wait_for_none(c, argv[1], w.until_us);
	return ctl_changed(c, generation);
}
