/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_replay.c - weirctl replay: what the limits in force would have done to the mail of a log,
 * and what others would have.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "conf_words.h"
#include "ctl.h"
#include "replay.h"

#define CLIENTS_SHOWN 10

static const char *const good_names[GOODS] = {"delivered", "known", "authenticated"};

/* --- the candidate --------------------------------------------------------------------------------- */

struct order {
	unsigned nfiles;
	char **files;
	bool candidate;
	json_t *words; /* what was asked for */
};

static void
refuse_word(const char *what, const char *err)
{
	char safe[120];

	ctl_die(CTL_USAGE, "%s: %s", out_safe(what, 100, safe, sizeof safe), err);
}

/* KEY=VALUE at the front of argv; false when there is none. */
static bool
split_word(const char *arg, char *key, size_t keylen, const char **value)
{
	const char *equals = strchr(arg, '=');

	if (equals == NULL || equals == arg || (size_t)(equals - arg) >= keylen)
		return false;
	snprintf(key, keylen, "%.*s", (int)(equals - arg), arg);
	*value = equals + 1;
	return true;
}

/* -l NAME KEY=VALUE...: over the limit of that name, or a new one. Returns the arguments used. */
static int
take_limit(struct ruleset *r, int argc, char **argv)
{
	char err[LIMIT_ERR_MAX], key[32];
	const char *value;
	struct limit *l;
	int i = 1;

	if (argc < 1 || !limit_name_valid(argv[0]))
		ctl_die(CTL_USAGE, "-l wants the name of a limit, then KEY=VALUE...");
	l = ruleset_limit_add(r, argv[0]);
	if (l == NULL)
		ctl_die(CTL_USAGE, "more than %d limits", LIMITS_MAX);
	for (; i < argc && split_word(argv[i], key, sizeof key, &value); i++)
		if (!limit_set(l, key, value, err, sizeof err))
			refuse_word(argv[i], err);
	if (i == 1)
		ctl_die(CTL_USAGE, "-l %s wants KEY=VALUE...", argv[0]);
	return i;
}

/* -g KEY=VALUE...: the words of the file's section greylist. */
static int
take_greylist(const struct ctl *c, struct ruleset *r, int argc, char **argv)
{
	struct conf conf = c->conf;
	const char *value;
	char err[512], key[32];
	int i = 0;

	conf.rules = *r;
	for (; i < argc && split_word(argv[i], key, sizeof key, &value); i++) {
		const struct conf_word *w = conf_words;

		while (w->name != NULL &&
		    (strcmp(w->section, "greylist") != 0 || strcmp(w->name, key) != 0))
			w++;
		if (w->name == NULL)
			refuse_word(argv[i], "greylisting has no such word, see weir.conf(5)");
		if (!conf_word_set(&conf, w, "", value, err, sizeof err))
			refuse_word(argv[i], err);
	}
	if (i == 0)
		ctl_die(CTL_USAGE, "-g wants KEY=VALUE..., such as enabled=true");
	*r = conf.rules;
	return i;
}

static bool
read_order(const struct ctl *c, int argc, char **argv, struct order *o, struct ruleset *candidate)
{
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];

	*o = (struct order){.files = argv + 1, .words = json_array()};
	for (int i = 1; i < argc;) {
		bool limit = strcmp(argv[i], "-l") == 0;
		int used;

		if (!limit && strcmp(argv[i], "-g") != 0) {
			if (argv[i][0] == '-' && argv[i][1] != '\0')
				return false;
			o->files[o->nfiles++] = argv[i++];
			continue;
		}
		o->candidate = true;
		used = limit ? take_limit(candidate, argc - i - 1, argv + i + 1)
			     : take_greylist(c, candidate, argc - i - 1, argv + i + 1);
		for (int k = i; k <= i + used; k++)
			json_array_append_new(o->words, json_string(argv[k]));
		i += used + 1;
	}
	if (!ruleset_finish(candidate, err, sizeof err))
		ctl_die(CTL_USAGE, "%s", err);
	return o->nfiles > 0;
}

/* --- the result ------------------------------------------------------------------------------------ */

static json_t *
tally_json(const struct tally *t)
{
	json_t *j =
	    json_pack("{sI sI}", "refused", (json_int_t)t->refused, "good", (json_int_t)t->good);

	for (int i = 0; i < GOODS; i++)
		json_object_set_new(j, good_names[i], json_integer(t->reason[i]));
	return j;
}

static json_t *
trial_json(const struct trial *t)
{
	json_t *causes = json_array();

	for (unsigned k = CAUSE_LIMIT; k < CAUSES; k++) {
		bool limit = k < CAUSE_LIMIT + LIMITS_MAX;
		const struct limit *l = limit ? &t->rules.limits[k - CAUSE_LIMIT] : NULL;
		json_t *j;

		if (limit ? k - CAUSE_LIMIT >= t->rules.nlimits || !l->enabled
			  : t->causes[k].refused == 0)
			continue;
		j = tally_json(&t->causes[k]);
		json_object_set_new(j, "cause", json_string(replay_cause_name(t, k)));
		if (limit) {
			json_object_set_new(j, "count", json_string(limit_count_name(l->count)));
			json_object_set_new(j, "per", json_string(limit_per_name(l->per)));
			json_object_set_new(j, "action", json_string(limit_action_name(l->action)));
			json_object_set_new(j, "logged", json_integer(t->noted[k - CAUSE_LIMIT]));
		}
		json_array_append_new(causes, j);
	}
	return json_pack("{so so so sI}", "connections", tally_json(&t->sessions), "messages",
	    tally_json(&t->messages), "causes", causes, "greylist_came_back",
	    (json_int_t)t->came_back);
}

static int64_t
weight(const struct replay *r, const struct mail_client *c)
{
	int64_t now = c->refused[0], candidate = c->refused[1];

	if (r->ntrials == 1)
		return now;
	return now > candidate ? now - candidate : candidate - now;
}

/* Those with most refusals; of two trials those whom it makes the greatest difference. */
static json_t *
clients_json(struct replay *r)
{
	const struct mail_client *top[CLIENTS_SHOWN] = {NULL}, *c = NULL;
	json_t *out = json_array();
	char text[NET_TEXT_MAX], name[TRAFFIC_NAME_MAX + 1];

	while ((c = traffic_next_client(r->traffic, c)) != NULL) {
		unsigned i = CLIENTS_SHOWN;

		for (; i > 0 && (top[i - 1] == NULL || weight(r, top[i - 1]) < weight(r, c)); i--)
			if (i < CLIENTS_SHOWN)
				top[i] = top[i - 1];
		if (i < CLIENTS_SHOWN && weight(r, c) > 0)
			top[i] = c;
	}
	for (unsigned i = 0; i < CLIENTS_SHOWN && top[i] != NULL; i++) {
		json_t *j = json_pack("{ss ss sI sI}", "client", addr_format(&top[i]->client, text),
		    "name", out_safe(top[i]->name, sizeof name - 1, name, sizeof name), "now",
		    (json_int_t)top[i]->refused[0], "good", (json_int_t)top[i]->good);

		if (r->ntrials > 1)
			json_object_set_new(j, "candidate", json_integer(top[i]->refused[1]));
		json_array_append_new(out, j);
	}
	return out;
}

static json_t *
cross_json(const struct tally t[CROSS])
{
	return json_pack("{so so so}", "only_now", tally_json(&t[1]), "only_candidate",
	    tally_json(&t[2]), "both", tally_json(&t[3]));
}

/* What the log cannot tell and these limits would want to know. */
static void
add_notes(const struct replay *r, const json_t *log, json_t *notes)
{
	bool helo = false, recipients = false, sessions = false;

	for (unsigned k = 0; k < r->ntrials; k++) {
		const struct ruleset *s = &r->trials[k].rules;

		recipients = recipients || s->greylist.enabled;
		for (unsigned i = 0; i < s->nlimits; i++) {
			const struct limit *l = &s->limits[i];

			if (!l->enabled)
				continue;
			helo = helo || l->per == PER_HELO;
			sessions = sessions || l->count == COUNT_SESSIONS;
			recipients =
			    recipients || l->per == PER_RECIPIENT || l->per == PER_RECIPIENT_DOMAIN;
		}
	}
	if (helo)
		json_array_append_new(notes,
		    json_string("logs do not tell HELO names: limits per helo are not replayed"));
	if (sessions && !json_is_true(json_object_get(log, "session_ends_told")))
		json_array_append_new(notes,
		    json_string("Sendmail does not log when sessions end: open sessions are "
				"underestimated"));
	if (recipients && out_whole(log, "recipients_unnamed") > 0)
		json_array_append_new(notes,
		    json_sprintf("the log does not name %" PRId64 " of %" PRId64
				 " recipients: they count for no recipient, and are not greylisted",
			out_whole(log, "recipients_unnamed"), out_whole(log, "recipients")));
}

/* --- for people -------------------------------------------------------------------------------------- */

static void
number(char out[32], const json_t *tally, const char *key)
{
	snprintf(out, 32, "%" PRId64, out_whole(tally, key));
}

/* A row of the table: name, and what each trial did. */
static void
add_row(struct table *t, const char *name, const json_t *now, const json_t *candidate, bool two)
{
	char a[4][32];
	static const char *const keys[] = {"refused", "good"};

	for (int i = 0; i < 2; i++) {
		number(a[i], now, keys[i]);
		number(a[i + 2], candidate, keys[i]);
		if (now == NULL)
			strcpy(a[i], "-");
		if (candidate == NULL)
			strcpy(a[i + 2], "-");
	}
	if (two)
		table_row(t, name, a[0], a[1], a[2], a[3]);
	else {
		char more[3][32];

		for (int i = 0; i < GOODS; i++)
			number(more[i], now, good_names[i]);
		table_row(t, name, a[0], a[1], more[0], more[1], more[2]);
	}
}

static const json_t *
find_cause(const json_t *trial, const char *name)
{
	const json_t *j;
	size_t i;

	json_array_foreach(json_object_get(trial, "causes"), i, j)
	{
		if (strcmp(out_text(j, "cause"), name) == 0)
			return j;
	}
	return NULL;
}

static const char *
row_name(const json_t *cause, char out[96])
{
	/* what a limit with action=log would have done is in no other column */
	if (out_whole(cause, "logged") > 0)
		snprintf(out, 96, "  %s (logs %" PRId64 ")", out_text(cause, "cause"),
		    out_whole(cause, "logged"));
	else
		snprintf(out, 96, "  %s", out_text(cause, "cause"));
	return out;
}

static void
print_refusals(const struct ctl *c, const json_t *r)
{
	const json_t *now = json_object_get(r, "now"), *candidate = json_object_get(r, "candidate");
	bool two = candidate != NULL;
	struct table *t = two
	    ? table_new(5, "", "NOW", "GOOD", "CANDIDATE", "GOOD")
	    : table_new(6, "", "REFUSED", "GOOD", "DELIVERED", "KNOWN", "AUTHENTICATED");
	const json_t *j;
	char name[96];
	size_t i;

	add_row(t, "connections", json_object_get(now, "connections"),
	    json_object_get(candidate, "connections"), two);
	add_row(t, "messages", json_object_get(now, "messages"),
	    json_object_get(candidate, "messages"), two);
	json_array_foreach(json_object_get(now, "causes"), i, j)
	    add_row(t, row_name(j, name), j, find_cause(candidate, out_text(j, "cause")), two);
	json_array_foreach(json_object_get(candidate, "causes"), i, j)
	{
		if (find_cause(now, out_text(j, "cause")) == NULL)
			add_row(t, row_name(j, name), NULL, j, two);
	}
	table_print(c, t);
}

static void
print_difference(const struct ctl *c, const json_t *difference)
{
	static const char *const parts[] = {"connections", "messages"},
				 *const ways[] = {"only_now", "only_candidate", "both"};
	struct table *t =
	    table_new(7, "", "NOW ONLY", "GOOD", "CANDIDATE ONLY", "GOOD", "BOTH", "GOOD");

	for (int i = 0; i < 2; i++) {
		char a[6][32];

		for (int k = 0; k < 3; k++) {
			const json_t *j =
			    json_object_get(json_object_get(difference, parts[i]), ways[k]);

			number(a[2 * k], j, "refused");
			number(a[2 * k + 1], j, "good");
		}
		table_row(t, parts[i], a[0], a[1], a[2], a[3], a[4], a[5]);
	}
	table_print(c, t);
}

static void
print_clients(const struct ctl *c, const json_t *clients, bool two)
{
	struct table *t = two ? table_new(5, "CLIENT", "NOW", "CANDIDATE", "GOOD", "NAME")
			      : table_new(4, "CLIENT", "REFUSED", "GOOD", "NAME");
	const json_t *j;
	size_t i;

	json_array_foreach(clients, i, j)
	{
		char now[32], candidate[32], good[32];

		number(now, j, "now");
		number(candidate, j, "candidate");
		number(good, j, "good");
		if (two)
			table_row(
			    t, out_text(j, "client"), now, candidate, good, out_text(j, "name"));
		else
			table_row(t, out_text(j, "client"), now, good, out_text(j, "name"));
	}
	table_print(c, t);
}

static void
print_replay(const struct ctl *c, const json_t *r)
{
	bool two = json_object_get(r, "candidate") != NULL;
	const json_t *word, *note;
	char text[2048];
	size_t i, used;

	log_print(c, json_object_get(r, "log"));
	used = (size_t)snprintf(text, sizeof text, "limits of %s%s%s", out_text(r, "limits"),
	    out_text(r, "generation")[0] != '\0' ? ", generation " : "", out_text(r, "generation"));
	if (two)
		used += (size_t)snprintf(text + used, sizeof text - used, "; candidate:");
	json_array_foreach(json_object_get(r, "words"), i, word) if (used < sizeof text) used +=
	    (size_t)snprintf(text + used, sizeof text - used, " %s", json_string_value(word));
	out_text_lines(c, "", text);
	putchar('\n');
	print_refusals(c, r);
	if (two) {
		putchar('\n');
		print_difference(c, json_object_get(r, "difference"));
	}
	if (json_array_size(json_object_get(r, "clients")) > 0) {
		putchar('\n');
		print_clients(c, json_object_get(r, "clients"), two);
	}
	if (json_array_size(json_object_get(r, "notes")) > 0)
		putchar('\n');
	json_array_foreach(json_object_get(r, "notes"), i, note)
	    out_text_lines(c, "note: ", json_string_value(note));
}

/* --- the command ------------------------------------------------------------------------------------- */

int
cmd_replay(struct ctl *c, int argc, char **argv)
{
	struct rules rules;
	struct ruleset candidate;
	struct order order;
	struct replay *r;
	json_t *log, *out, *notes;
	char safe[64];

	if (argc < 2)
		return CTL_USAGE;
	rules_load_or_file(c, &rules);
	candidate = rules.set;
	if (!read_order(c, argc, argv, &order, &candidate)) {
		json_decref(order.words);
		rules_free(&rules);
		return CTL_USAGE;
	}
	r = replay_new(&rules.set, order.candidate ? &candidate : NULL, c->conf.zone_size);
	if (r == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	log = log_read(order.nfiles, order.files, r->traffic);
	notes = json_array();
	add_notes(r, log, notes);
	out = json_pack("{so ss ss so}", "log", log, "limits",
	    rules.store != NULL ? "redis and the file" : "the file", "generation",
	    out_safe(rules.overlay.generation, 60, safe, sizeof safe), "now",
	    trial_json(&r->trials[0]));
	if (order.candidate) {
		json_object_set(out, "words", order.words);
		json_object_set_new(out, "candidate", trial_json(&r->trials[1]));
		json_object_set_new(out, "difference",
		    json_pack("{so so}", "connections", cross_json(r->cross_sessions), "messages",
			cross_json(r->cross_messages)));
	}
	json_object_set_new(out, "clients", clients_json(r));
	json_object_set_new(out, "notes", notes);
	json_object_set(out, "ignored", rules.ignored);
	out_result(c, out, print_replay);
	json_decref(order.words);
	replay_free(&r);
	rules_free(&rules);
	return CTL_DONE;
}
