/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_limit.c - weirctl limit: list, set, unset, history, rollback. Shadows: cmd_shadow.c.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lua.h"
#include "weir/units.h"
#include "ctl.h"

#define HISTORY_SHOWN 20
#define CHANGES_SHOWN 10 /* of one entry: an import makes thousands */
#define HISTORY_MAX "1000"

/* --- list ---------------------------------------------------------------------------------------- */

static json_t *
seconds_json(int64_t us)
{
	if (us % USEC_PER_SEC == 0)
		return json_integer(us / USEC_PER_SEC);
	return json_real((double)us / (double)USEC_PER_SEC);
}

static void
add_figures(json_t *j, const struct limit *l)
{
	char text[LIMIT_FIGURES_MAX];

	json_object_set_new(j, "figures", json_string(limit_figures(l, 1, text)));
	if (l->count == COUNT_SESSIONS) {
		json_object_set_new(j, "max", json_integer(l->max));
		return;
	}
	if (l->quota != 0) {
		json_object_set_new(j, "quota", json_integer(l->quota));
		json_object_set_new(j, "window_seconds", seconds_json(l->window_us));
	} else {
		json_object_set_new(j, "rate", json_integer(l->rate));
		json_object_set_new(j, "period_seconds", seconds_json(l->period_us));
		json_object_set_new(j, "burst", json_integer(l->burst));
	}
	json_object_set_new(j, "strict", json_boolean(l->strict));
}

static void
add_ladder(json_t *j, const struct limit *l)
{
	json_t *ladder = json_array();
	char text[LIMIT_FIGURES_MAX];

	for (unsigned i = 0; i < l->nrungs; i++)
		json_array_append_new(ladder,
		    json_pack("{si si ss}", "bits", l->rungs[i].bits, "times", l->rungs[i].times,
			"figures", limit_figures(l, l->rungs[i].times, text)));
	json_object_set_new(j, "ladder", ladder);
}

json_t *
limit_json(const struct limit *l)
{
	json_t *j = json_pack("{ss ss ss ss sb ss}", "name", l->name, "count",
	    limit_count_name(l->count), "per", limit_per_name(l->per), "for",
	    limit_for_name(l->whom), "enabled", l->enabled, "action", limit_action_name(l->action));
	char net[NET_TEXT_MAX];

	if (l->whom == FOR_NETWORKS) {
		json_t *nets = json_array();

		for (unsigned i = 0; i < l->nnets; i++)
			json_array_append_new(nets, json_string(net_format(&l->nets[i], net)));
		json_object_set_new(j, "networks", nets);
	}
	add_figures(j, l);
	if (l->nrungs > 0)
		add_ladder(j, l);
	if (l->action != ACTION_LOG)
		json_object_set_new(j, "reply",
		    json_sprintf("%s %s %s", l->reply.code, l->reply.xcode, l->reply.text));
	return j;
}

/* Where it comes from: the entry in Redis that is in force for it, if any. */
static void
add_origin(json_t *j, const struct rules *r, const char *name)
{
	char temporary[LIMIT_NAME_MAX + sizeof ENTRY_TEMPORARY], words[ENTRY_WORDS_MAX + 1],
	    err[64];
	const char *fields[2] = {temporary, name};
	int64_t now = clock_real_us();

	snprintf(temporary, sizeof temporary, "%s%s", name, ENTRY_TEMPORARY);
	json_object_set_new(j, "from", json_string("file"));
	if (r->overlay.format > OVERLAY_FORMAT)
		return;
	for (int i = 0; i < 2; i++) {
		const char *entry = rules_words(r, SECTION_LIMITS, fields[i]);
		struct entry_meta m;

		if (entry == NULL || !entry_split(entry, &m, words, err, sizeof err) ||
		    m.until_us <= now ||
		    !ruleset_check_entry(
			&r->set, SECTION_LIMITS, fields[i], words, err, sizeof err))
			continue;
		json_object_set_new(j, "from", json_string("redis"));
		json_object_set_new(j, "by", json_string(m.by));
		json_object_set_new(j, "reason", json_string(m.reason));
		if (m.until_us != INT64_MAX)
			json_object_set_new(j, "until", json_integer(m.until_us / USEC_PER_SEC));
		return;
	}
}

/* "redis for 2 h, ann@mx1" */
static void
origin_text(const json_t *l, char *out, size_t outlen)
{
	char left[32];

	if (json_object_get(l, "until") != NULL)
		snprintf(out, outlen, "redis for %s, %s",
		    out_duration(out_whole(l, "until") * USEC_PER_SEC - clock_real_us(), left),
		    out_text(l, "by"));
	else
		snprintf(out, outlen, "%s%s%s", out_text(l, "from"),
		    out_text(l, "by")[0] != '\0' ? ", " : "", out_text(l, "by"));
}

static const char *
whom_text(const json_t *l, char *out, size_t outlen)
{
	const json_t *net;
	size_t i, used = 0;

	if (json_object_get(l, "networks") == NULL)
		return out_text(l, "for");
	json_array_foreach(json_object_get(l, "networks"), i, net) if (used < outlen) used +=
	    (size_t)snprintf(
		out + used, outlen - used, "%s%s", i > 0 ? " " : "", json_string_value(net));
	return out;
}

/* A row for the limit, and one for each wider network of its ladder. */
static void
limit_rows(struct table *t, const json_t *l, bool whom)
{
	bool enabled = json_is_true(json_object_get(l, "enabled"));
	char name[80], figures[LIMIT_FIGURES_MAX + 16], from[200],
	    nets[LIMIT_NETS_MAX * NET_TEXT_MAX];
	const json_t *rung;
	size_t i;

	snprintf(name, sizeof name,
	    strcmp(out_text(l, "name"), out_text(l, "count")) == 0 ? "%s" : "%s (%s)",
	    out_text(l, "name"), out_text(l, "count"));
	snprintf(figures, sizeof figures, "%s%s", enabled ? out_text(l, "figures") : "off",
	    enabled && json_is_true(json_object_get(l, "strict")) ? " strict" : "");
	origin_text(l, from, sizeof from);
	if (whom)
		table_row(t, name, out_text(l, "per"), figures, whom_text(l, nets, sizeof nets),
		    out_text(l, "action"), from);
	else
		table_row(t, name, out_text(l, "per"), figures, out_text(l, "action"), from);
	json_array_foreach(json_object_get(l, "ladder"), i, rung)
	{
		char width[16];

		if (!enabled)
			break;
		snprintf(width, sizeof width, "/%" PRId64, out_whole(rung, "bits"));
		if (whom)
			table_row(t, "", width, out_text(rung, "figures"), "", "", "");
		else
			table_row(t, "", width, out_text(rung, "figures"), "", "");
	}
}

static void
print_list(const struct ctl *c, const json_t *result)
{
	const json_t *limits = json_object_get(result, "limits"), *l;
	struct table *t;
	bool whom = false;
	size_t i;

	json_array_foreach(limits, i, l) whom =
	    whom || strcmp(out_text(l, "for"), limit_for_name(FOR_EVERYONE)) != 0;
	t = whom ? table_new(6, "NAME", "PER", "LIMIT", "FOR", "DOES", "FROM")
		 : table_new(5, "NAME", "PER", "LIMIT", "DOES", "FROM");
	json_array_foreach(limits, i, l) limit_rows(t, l, whom);
	table_print(c, t);
	json_array_foreach(json_object_get(result, "ignored"), i, l)
	{
		out_colour(c, RED);
		out_line(c, "ignored in redis: %s%s%s:", out_text(l, "section"),
		    out_text(l, "name")[0] != '\0' ? " " : "", out_text(l, "name"));
		out_line(c, "    %s", out_text(l, "why"));
		out_colour(c, PLAIN);
	}
	printf("generation %s\n", out_text(result, "generation"));
}

static int
list(struct ctl *c)
{
	struct rules r;
	json_t *limits = json_array();
	char safe[64];

	rules_load(c, &r);
	for (unsigned i = 0; i < r.set.nlimits; i++) {
		json_t *j = limit_json(&r.set.limits[i]);

		add_origin(j, &r, r.set.limits[i].name);
		json_array_append_new(limits, j);
	}
	out_result(c,
	    json_pack("{ss so sO}", "generation",
		out_safe(r.overlay.generation, 60, safe, sizeof safe), "limits", limits, "ignored",
		r.ignored),
	    print_list);
	rules_free(&r);
	return CTL_DONE;
}

/* --- set ------------------------------------------------------------------------------------------ */

struct new_words {
	int argc;
	char **argv;
	int64_t until_us;
};

static bool
says(const struct new_words *w, const char *key)
{
	size_t len = strlen(key);

	for (int i = 0; i < w->argc; i++)
		if (strncmp(w->argv[i], key, len) == 0 && w->argv[i][len] == '=')
			return true;
	return false;
}

/* A quota takes the place of a rate and its burst, and the other way round. */
static bool
is_replaced(const struct new_words *w, const char *key)
{
	if (says(w, key))
		return true;
	if (strcmp(key, "rate") == 0 || strcmp(key, "burst") == 0)
		return says(w, "quota");
	return strcmp(key, "quota") == 0 && says(w, "rate");
}

/* The words that are there, with those on the command line in place of their like. */
static char *
merge(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	const struct new_words *w = ctx;
	char old[ENTRY_WORDS_MAX + 1] = "", words[2 * ENTRY_WORDS_MAX] = "", err[128];
	struct entry_meta m;
	const char *p = old;
	char key[32], value[ENTRY_WORDS_MAX + 1];
	size_t used = 0;

	(void)r;
	(void)field;
	if (now != NULL && entry_split(now, &m, old, err, sizeof err) &&
	    m.until_us <= clock_real_us())
		old[0] = '\0';
	while (entry_next(&p, key, sizeof key, value, sizeof value))
		if (!is_replaced(w, key))
			used += (size_t)snprintf(words + used, sizeof words - used,
			    strchr(value, ' ') != NULL ? "%s%s=\"%s\"" : "%s%s=%s",
			    used > 0 ? " " : "", key, value);
	for (int i = 0; i < w->argc; i++)
		used = ctl_add_word(words, sizeof words, used, w->argv[i]);
	if (used >= ENTRY_WORDS_MAX)
		ctl_die(CTL_USAGE, "that is too long for one entry");
	return ctl_entry(c, words, w->until_us);
}

/* Whom the change would refuse although the limit of now lets them: says so, and asks. */
static void
warn_impact(struct ctl *c, const char *name, const struct new_words *w)
{
	char err[LIMIT_ERR_MAX], *entry, words[ENTRY_WORDS_MAX + 1];
	const struct limit *before;
	struct limit after;
	struct entry_meta m;
	struct rules r;

	rules_load(c, &r);
	before = ruleset_limit(&r.set, name);
	entry = merge(c, &r, name, rules_words(&r, SECTION_LIMITS, name), (void *)w);
	if (before != NULL) {
		after = *before;
		if (entry_split(entry, &m, words, err, sizeof err) &&
		    limit_set_words(&after, words, err, sizeof err) &&
		    limit_finish(&after, err, sizeof err))
			impact_warn(c, &r.set, before, &after);
	}
	free(entry);
	rules_free(&r);
}

/* What is set for good does not show while something temporary lies over it. */
static void
note_temporary(struct ctl *c, const char *name)
{
	char field[LIMIT_NAME_MAX + sizeof ENTRY_TEMPORARY], words[ENTRY_WORDS_MAX + 1], err[64];
	struct entry_meta m;
	const char *entry;
	struct rules r;
	char left[32], safe[2][104];

	snprintf(field, sizeof field, "%s%s", name, ENTRY_TEMPORARY);
	rules_load(c, &r);
	entry = rules_words(&r, SECTION_LIMITS, field);
	if (entry != NULL && entry_split(entry, &m, words, err, sizeof err) &&
	    m.until_us > clock_real_us())
		fprintf(stderr,
		    "weirctl: note: for %s \"%s\" of %s still lies over it (limit unset %s ends "
		    "both)\n",
		    out_duration(m.until_us - clock_real_us(), left),
		    out_safe(words, 100, safe[0], sizeof safe[0]),
		    out_safe(m.by, 90, safe[1], sizeof safe[1]), name);
	rules_free(&r);
}

static int
set(struct ctl *c, const char *name, int argc, char **argv)
{
	struct new_words w = {.until_us = ctl_take_for(&argc, argv)};
	char field[LIMIT_NAME_MAX + sizeof ENTRY_TEMPORARY];
	const char *fields[1] = {field};
	int64_t generation;

	w.argc = argc;
	w.argv = argv;
	if (argc < 1)
		return CTL_USAGE;
	if (!limit_name_valid(name))
		ctl_die(CTL_REFUSED, "not a limit's name ([a-z0-9-], at most 32)");
	snprintf(field, sizeof field, "%s%s", name, w.until_us != INT64_MAX ? ENTRY_TEMPORARY : "");
	warn_impact(c, name, &w);
	generation = ctl_change(c, SECTION_LIMITS, 1, fields, merge, &w);
	if (w.until_us == INT64_MAX)
		note_temporary(c, name);
	return ctl_changed(c, generation);
}

/* --- unset ---------------------------------------------------------------------------------------- */

static char *
remove_entry(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	bool *found = ctx;

	(void)c;
	(void)r;
	(void)field;
	*found = *found || now != NULL;
	return NULL;
}

static int
unset(struct ctl *c, const char *name)
{
	char temporary[LIMIT_NAME_MAX + sizeof ENTRY_TEMPORARY];
	const char *fields[2] = {name, temporary};
	struct rules r;
	bool found = false;

	if (!limit_name_valid(name))
		ctl_die(CTL_REFUSED, "not a limit's name ([a-z0-9-], at most 32)");
	snprintf(temporary, sizeof temporary, "%s%s", name, ENTRY_TEMPORARY);
	rules_load(c, &r);
	if (r.overlay.total[SECTION_LIMITS] < 0) {
		char key[CTL_KEY_MAX];

		ctl_wrong_key(ctl_key(c, "limits", key));
	}
	found = rules_words(&r, SECTION_LIMITS, name) != NULL ||
	    rules_words(&r, SECTION_LIMITS, temporary) != NULL;
	rules_free(&r);
	if (!found)
		ctl_die(
		    CTL_REFUSED, "redis has nothing for limit %s: the file's is in force", name);
	return ctl_changed(c, ctl_change(c, SECTION_LIMITS, 2, fields, remove_entry, &found));
}

/* --- history and rollback --------------------------------------------------------------------------- */

static void
print_change(const struct ctl *c, const json_t *change)
{
	const char *parts[2] = {out_text(change, "old"), out_text(change, "new")};
	char safe[2][200], field[128];

	for (int i = 0; i < 2; i++) {
		struct entry_meta m;
		char words[ENTRY_WORDS_MAX + 1], err[64];

		if (parts[i][0] == '\0')
			strcpy(safe[i], "-");
		else if (entry_split(parts[i], &m, words, err, sizeof err))
			out_safe(words, 199, safe[i], sizeof safe[i]);
		else
			out_safe(parts[i], 199, safe[i], sizeof safe[i]);
	}
	out_line(c, "      %s %s: %s -> %s", out_text(change, "section"),
	    out_safe(out_text(change, "field"), 100, field, sizeof field), safe[0], safe[1]);
}

static void
print_history(const struct ctl *c, const json_t *result)
{
	const json_t *entry, *change;
	size_t i, k;

	if (json_array_size(result) == 0)
		puts("nothing has been changed with weirctl yet");
	json_array_foreach(result, i, entry)
	{
		const json_t *changes = json_object_get(entry, "changes");
		time_t at = (time_t)out_whole(entry, "time");
		struct tm tm;
		char when[32] = "?", by[100], reason[ENTRY_REASON_MAX + 1];

		if (localtime_r(&at, &tm) != NULL)
			strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
		out_colour(c, BOLD);
		printf("%4" PRId64 "  %s  %s", out_whole(entry, "n"), when,
		    out_safe(out_text(entry, "by"), 40, by, sizeof by));
		out_colour(c, PLAIN);
		if (out_text(entry, "reason")[0] != '\0')
			printf("  (%s)",
			    out_safe(out_text(entry, "reason"),
				out_width(c) > strlen(by) + 40 ? out_width(c) - strlen(by) - 31 : 9,
				reason, sizeof reason));
		putchar('\n');
		json_array_foreach(changes, k, change) if (k < CHANGES_SHOWN)
		    print_change(c, change);
		if (json_array_size(changes) > CHANGES_SHOWN)
			printf(
			    "      ... and %zu more\n", json_array_size(changes) - CHANGES_SHOWN);
	}
}

static int
history(struct ctl *c)
{
	out_result(c, ctl_history(c, c->json ? 0 : HISTORY_SHOWN), print_history);
	return CTL_DONE;
}

static int
rollback(struct ctl *c, const char *to)
{
	const char *keys[] = {
	    "generation", "history", "limits", "overrides", "lists", "format", "drain"};
	char by[ENTRY_BY_MAX + 1], reason[ENTRY_REASON_MAX + 32], safe[128];
	const char *args[] = {to, ctl_author(by), reason, HISTORY_MAX};
	int64_t n, generation;
	struct rules rules;
	redisReply *r;

	if (!units_count(to, &n))
		return CTL_USAGE;
	rules_load(c, &rules);
	if (rules.overlay.format > OVERLAY_FORMAT)
		ctl_die(CTL_REFUSED, "nothing is changed: use the newer weirctl");
	rules_free(&rules);
	snprintf(reason, sizeof reason, "rollback to %s%s%s", to, c->reason[0] != '\0' ? ": " : "",
	    c->reason);
	r = ctl_eval(c, lua_rollback, 7, keys, 4, args);
	if (r->type != REDIS_REPLY_ARRAY || r->elements < 1)
		ctl_die(CTL_REFUSED, "redis: unexpected reply");
	switch (r->element[0]->integer) {
	case 0:
		ctl_die(CTL_REFUSED,
		    "%s %s is not as the last recorded change left it (changed by hand?): nothing "
		    "is changed",
		    r->element[1]->str, out_safe(r->element[2]->str, 100, safe, sizeof safe));
	case 2:
		ctl_die(CTL_REFUSED, "nothing has changed since generation %s", to);
	case 3:
		ctl_die(CTL_REFUSED, "the history reaches back to generation %lld only",
		    (long long)r->element[1]->integer);
	default:
		break;
	}
	generation = r->element[1]->integer;
	freeReplyObject(r);
	return ctl_changed(c, generation);
}

int
cmd_limit(struct ctl *c, int argc, char **argv)
{
	if (argc == 1 || (argc == 2 && strcmp(argv[1], "list") == 0))
		return list(c);
	if (argc >= 4 && strcmp(argv[1], "set") == 0)
		return set(c, argv[2], argc - 3, argv + 3);
	if (argc == 3 && strcmp(argv[1], "unset") == 0)
		return unset(c, argv[2]);
	if (argc >= 3 && strcmp(argv[1], "shadow") == 0)
		return limit_shadow(c, argc - 2, argv + 2);
	if (argc == 2 && strcmp(argv[1], "history") == 0)
		return history(c);
	if (argc == 3 && strcmp(argv[1], "rollback") == 0)
		return rollback(c, argv[2]);
	return CTL_USAGE;
}
