/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_list.c - weirctl override, exempt, block, greylist on and off, trap, unlist, lists: exceptions
 * for single clients, senders and recipients.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

struct wanted {
	const char *words;
	int64_t until_us;
};

static char *
make_entry(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	const struct wanted *w = ctx;

	(void)r;
	(void)field;
	(void)now;
	return ctl_entry(c, w->words, w->until_us);
}

static char *
make_nothing(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	(void)c;
	(void)r;
	(void)field;
	(void)now;
	(void)ctx;
	return NULL;
}

/* As weir writes it: 2001:DB8::1/128 and 2001:db8::1 are the same client. */
static void
canonical_who(const char *text, struct who *w, char out[WHO_TEXT_MAX])
{
	char err[LIMIT_ERR_MAX], safe[80];
	json_t *utf8;

	if (!who_parse(text, w, err, sizeof err))
		ctl_die(CTL_REFUSED, "\"%s\": %s", out_safe(text, 60, safe, sizeof safe), err);
	who_format(w, out);
	/* the history is JSON */
	utf8 = json_string(out);
	if (utf8 == NULL)
		ctl_die(CTL_REFUSED, "\"%s\": a user's name is written in UTF-8",
		    out_safe(out, 60, safe, sizeof safe));
	json_decref(utf8);
}

int
cmd_override(struct ctl *c, int argc, char **argv)
{
	char who[WHO_TEXT_MAX], field[WHO_TEXT_MAX + LIMIT_NAME_MAX + 2], words[ENTRY_WORDS_MAX];
	const char *fields[1] = {field};
	struct wanted w = {.words = words, .until_us = ctl_take_for(&argc, argv)};
	struct who parsed;
	size_t used = 0;

	if (argc < 5 || strcmp(argv[1], "set") != 0)
		return CTL_USAGE;
	canonical_who(argv[2], &parsed, who);
	if (!limit_name_valid(argv[3]))
		ctl_die(CTL_REFUSED, "not a limit's name ([a-z0-9-], at most 32)");
	snprintf(field, sizeof field, "%s %s", who, argv[3]);
	for (int i = 4; i < argc; i++)
		used = ctl_add_word(words, sizeof words, used, argv[i]);
	return ctl_changed(c, ctl_change(c, SECTION_OVERRIDES, 1, fields, make_entry, &w));
}

static int
list_who(struct ctl *c, const char *text, const char *words, int64_t until_us)
{
	struct wanted w = {.words = words, .until_us = until_us};
	char who[WHO_TEXT_MAX];
	const char *fields[1] = {who};
	struct who parsed;

	canonical_who(text, &parsed, who);
	if (!c->yes) {
		if (parsed.kind == WHO_NET && parsed.net.bits == 0)
			ctl_die(CTL_REFUSED, "%s is everybody; say --yes if that is meant", who);
		if (parsed.kind == WHO_NAME && strchr(parsed.text, '.') == NULL)
			ctl_die(CTL_REFUSED,
			    "%s is every host below .%s; say --yes if that is meant", who,
			    parsed.text);
	}
	return ctl_changed(c, ctl_change(c, SECTION_LISTS, 1, fields, make_entry, &w));
}

int
cmd_exempt(struct ctl *c, int argc, char **argv)
{
	int64_t until_us = ctl_take_for(&argc, argv);

	return argc == 2 ? list_who(c, argv[1], "action=exempt", until_us) : CTL_USAGE;
}

int
cmd_block(struct ctl *c, int argc, char **argv)
{
	int64_t until_us = ctl_take_for(&argc, argv);

	return argc == 2 ? list_who(c, argv[1], "action=block", until_us) : CTL_USAGE;
}

/* Where only a recipient makes sense, its bare address will do. */
static const char *
as_recipient(const char *text, char out[WHO_TEXT_MAX])
{
	static const char prefix[] = "recipient:";

	if (strncmp(text, prefix, sizeof prefix - 1) == 0 || strchr(text, '@') == NULL ||
	    strncmp(text, "sender:", 7) == 0 || strncmp(text, "user:", 5) == 0)
		return text;
	snprintf(out, WHO_TEXT_MAX, "%s%s", prefix, text);
	return out;
}

int
cmd_trap(struct ctl *c, int argc, char **argv)
{
	int64_t until_us = ctl_take_for(&argc, argv);
	char who[WHO_TEXT_MAX];

	if (argc != 2)
		return CTL_USAGE;
	return list_who(c, as_recipient(argv[1], who), "action=trap", until_us);
}

int
list_greylist(struct ctl *c, int argc, char **argv)
{
	int64_t until_us = ctl_take_for(&argc, argv);
	char who[WHO_TEXT_MAX], words[ENTRY_WORDS_MAX] = "action=greylist";
	size_t used = strlen(words);

	if (argc < 3)
		return CTL_USAGE;
	if (strcmp(argv[1], "off") == 0)
		return argc == 3 ? list_who(c, argv[2], "action=no-greylist", until_us) : CTL_USAGE;
	for (int i = 3; i < argc; i++)
		used = ctl_add_word(words, sizeof words, used, argv[i]);
	return list_who(c, as_recipient(argv[2], who), words, until_us);
}

/* The client an entry is about: all of a list's field, what stands before the last blank of an
 * override's. */
static bool
entry_is_about(enum overlay_section s, const char *field, const char *who)
{
	size_t len = strlen(who);

	if (strncmp(field, who, len) != 0)
		return false;
	return s == SECTION_LISTS ? field[len] == '\0'
				  : field[len] == ' ' && strchr(field + len + 1, ' ') == NULL;
}

static bool
is_in_file(const struct ruleset *file, const char *who)
{
	char text[WHO_TEXT_MAX];

	for (unsigned i = 0; i < exceptions_count(file->exceptions); i++)
		if (strcmp(listed_who(exceptions_at(file->exceptions, i), text), who) == 0)
			return true;
	return false;
}

int
cmd_unlist(struct ctl *c, int argc, char **argv)
{
	static const enum overlay_section sections[] = {SECTION_LISTS, SECTION_OVERRIDES};
	char who[WHO_TEXT_MAX], safe[WHO_TEXT_MAX];
	struct who parsed;
	struct rules r;
	int64_t generation = 0;
	bool in_file;

	if (argc != 2)
		return CTL_USAGE;
	canonical_who(argv[1], &parsed, who);
	rules_load(c, &r);
	for (size_t k = 0; k < sizeof sections / sizeof sections[0]; k++) {
		enum overlay_section s = sections[k];
		const char *fields[LIMITS_MAX + 1];
		unsigned n = 0;

		for (unsigned i = 0; i < r.overlay.n[s] && n < LIMITS_MAX; i++)
			if (entry_is_about(s, r.overlay.entries[s][i].name, who))
				fields[n++] = r.overlay.entries[s][i].name;
		if (n > 0)
			generation = ctl_change(c, s, n, fields, make_nothing, NULL);
	}
	in_file = is_in_file(&c->conf.rules, who);
	rules_free(&r);
	if (generation == 0 && in_file)
		ctl_die(CTL_REFUSED, "%s is listed in the configuration file: change it there",
		    out_safe(who, sizeof safe - 1, safe, sizeof safe));
	if (generation == 0)
		ctl_die(CTL_REFUSED, "nothing is listed for %s",
		    out_safe(who, sizeof safe - 1, safe, sizeof safe));
	return ctl_changed(c, generation);
}

/* --- lists ---------------------------------------------------------------------------------------- */

static void
print_lists(const struct ctl *c, const json_t *result)
{
	struct table *t;
	const json_t *e;
	size_t i;

	if (json_array_size(result) == 0) {
		puts("nobody is exempt, blocked or overridden in redis");
		return;
	}
	t = table_new(4, "WHO", "WHAT", "LEFT", "BY");
	json_array_foreach(result, i, e)
	{
		const json_t *until = json_object_get(e, "until");
		const char *reason = out_text(e, "reason");
		char left[32], by[400];

		if (until != NULL)
			out_duration(
			    json_integer_value(until) * USEC_PER_SEC - clock_real_us(), left);
		else
			strcpy(left, "for good");
		snprintf(by, sizeof by, "%s%s%s", out_text(e, "by"), *reason != '\0' ? ": " : "",
		    reason);
		table_row(t, out_text(e, "who"), out_text(e, "what"), left,
		    strcmp(out_text(e, "from"), "file") == 0 ? "the file" : by);
	}
	table_print(c, t);
}

/* "greylist delay=15m" */
static const char *
without_action(const char *words)
{
	return strncmp(words, "action=", 7) == 0 ? words + 7 : words;
}

static void
add_entry(json_t *out, enum overlay_section s, const struct overlay_entry *e)
{
	char words[ENTRY_WORDS_MAX + 1], err[64], who[WHO_TEXT_MAX + LIMIT_NAME_MAX + 2], what[400];
	struct entry_meta m;
	json_t *j;

	if (!entry_split(e->words, &m, words, err, sizeof err) || m.until_us <= clock_real_us())
		return;
	out_safe(e->name, sizeof who - 1, who, sizeof who);
	if (s == SECTION_LISTS)
		out_safe(without_action(words), 60, what, sizeof what);
	else {
		char *blank = strrchr(who, ' '), safe[300];

		out_safe(words, 290, safe, sizeof safe);
		snprintf(what, sizeof what, "%s %s", blank != NULL ? blank + 1 : "?", safe);
		if (blank != NULL)
			*blank = '\0';
	}
	j = json_pack("{ss ss ss ss ss ss}", "section", section_name(s), "who", who, "what", what,
	    "by", m.by, "reason", m.reason, "from", "redis");
	if (j == NULL) /* bytes that are no UTF-8, put there by hand */
		j = json_pack("{ss ss ss ss ss ss}", "section", section_name(s), "who", who, "what",
		    what, "by", "?", "reason", "?", "from", "redis");
	if (m.until_us != INT64_MAX)
		json_object_set_new(j, "until", json_integer(m.until_us / USEC_PER_SEC));
	json_array_append_new(out, j);
}

/* What the file lists and Redis does not lie over. */
static void
add_file(json_t *out, const struct exceptions *all)
{
	for (unsigned i = 0; i < exceptions_count(all); i++) {
		const struct listed_entry *l = exceptions_at(all, i);
		char who[WHO_TEXT_MAX], safe[WHO_TEXT_MAX], words[64];

		if (!l->from_file)
			continue;
		out_safe(listed_who(l, who), sizeof safe - 1, safe, sizeof safe);
		json_array_append_new(out,
		    json_pack("{ss ss ss ss ss ss}", "section", section_name(SECTION_LISTS), "who",
			safe, "what", without_action(out_listing(&l->says, words)), "by", "",
			"reason", "", "from", "file"));
	}
}

int
cmd_lists(struct ctl *c, int argc, char **argv)
{
	json_t *out;
	struct rules r;

	(void)argv;
	if (argc != 1)
		return CTL_USAGE;
	out = json_array();
	rules_load(c, &r);
	for (unsigned i = 0; i < r.overlay.n[SECTION_LISTS]; i++)
		add_entry(out, SECTION_LISTS, &r.overlay.entries[SECTION_LISTS][i]);
	for (unsigned i = 0; i < r.overlay.n[SECTION_OVERRIDES]; i++)
		add_entry(out, SECTION_OVERRIDES, &r.overlay.entries[SECTION_OVERRIDES][i]);
	add_file(out, r.set.exceptions);
	rules_free(&r);
	out_result(c, out, print_lists);
	return CTL_DONE;
}
