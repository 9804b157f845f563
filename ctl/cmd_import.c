/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_import.c - weirctl import: the lists of another greylisting program, as one change.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"
#include "import.h"

/* A hundred thousand lines; more is no list that somebody keeps. */
#define FILE_BYTES_MAX (8 * 1024 * 1024)
/* Beyond these a person looks for another way. */
#define NOTES_MAX 10000
#define NOTES_SHOWN 200

struct item {
	unsigned line, order;
	char *who;
	const char *words;
	bool there; /* Redis has an entry for this who */
};

struct note {
	unsigned line, order;
	char text[128], why[IMPORT_WHY_MAX];
};

struct importing {
	struct ctl *c;
	int64_t until_us;
	unsigned n, room, at;
	struct item *items; /* sorted by who, once the file is read */
	unsigned twice; /* said again in the same words */
	unsigned nnotes, notes_room, notes_dropped;
	struct note *notes;
};

static const struct format {
	const char *name;
	import_fn *read;
} formats[] = {
    {"postgrey-clients", import_postgrey_clients},
    {"postgrey-recipients", import_postgrey_recipients},
    {"milter-greylist", import_milter_greylist},
};

/* --- what the readers find ----------------------------------------------------------------------- */

static void
on_note(void *ctx, unsigned line, const char *text, const char *why)
{
	struct importing *m = ctx;
	struct note *note;

	if (m->nnotes == NOTES_MAX) {
		m->notes_dropped++;
		return;
	}
	if (m->nnotes == m->notes_room) {
		m->notes_room = m->notes_room != 0 ? 2 * m->notes_room : 64;
		m->notes = reallocarray(m->notes, m->notes_room, sizeof *m->notes);
		if (m->notes == NULL)
			ctl_die(CTL_REFUSED, "out of memory");
	}
	note = &m->notes[m->nnotes];
	note->line = line;
	note->order = m->nnotes++;
	out_safe(text, sizeof note->text - 1, note->text, sizeof note->text);
	snprintf(note->why, sizeof note->why, "%s", why);
}

static int
note_cmp(const void *a, const void *b)
{
	const struct note *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	return x->order < y->order ? -1 : 1;
}

/* By line: some are known only at the end of the file. */
static json_t *
notes_json(const struct importing *m)
{
	json_t *out = json_array();

	if (m->nnotes > 0)
		qsort(m->notes, m->nnotes, sizeof *m->notes, note_cmp);
	for (unsigned i = 0; i < m->nnotes; i++)
		json_array_append_new(out,
		    json_pack("{sI ss ss}", "line", (json_int_t)m->notes[i].line, "text",
			m->notes[i].text, "why", m->notes[i].why));
	return out;
}

static void
on_entry(void *ctx, unsigned line, const struct who *who, const char *words)
{
	struct importing *m = ctx;
	char text[WHO_TEXT_MAX];
	json_t *utf8 = json_string(who_format(who, text));

	if (utf8 == NULL) {
		on_note(m, line, text, "not written in UTF-8");
		return;
	}
	json_decref(utf8);
	if (who->kind == WHO_NET && who->net.bits == 0) {
		on_note(m, line, text, "is everybody");
		return;
	}
	if (m->n == m->room) {
		m->room = m->room != 0 ? 2 * m->room : 256;
		m->items = reallocarray(m->items, m->room, sizeof *m->items);
		if (m->items == NULL)
			ctl_die(CTL_REFUSED, "out of memory");
	}
	m->items[m->n] =
	    (struct item){.line = line, .order = m->n, .who = strdup(text), .words = strdup(words)};
	if (m->items[m->n].who == NULL || m->items[m->n].words == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	m->n++;
}

static int
item_cmp(const void *a, const void *b)
{
	const struct item *x = a, *y = b;
	int c = strcmp(x->who, y->who);

	return c != 0 ? c : x->order < y->order ? -1 : 1;
}

static void
item_free(struct item *i)
{
	free(i->who);
	free((char *)i->words);
}

/* Of several about the same the first counts, as it does there. */
static void
drop_duplicates(struct importing *m)
{
	unsigned kept = 0;

	if (m->n > 0)
		qsort(m->items, m->n, sizeof *m->items, item_cmp);
	for (unsigned i = 0; i < m->n; i++) {
		struct item *first = kept > 0 ? &m->items[kept - 1] : NULL;
		char why[80];

		if (first == NULL || strcmp(first->who, m->items[i].who) != 0) {
			m->items[kept++] = m->items[i];
			continue;
		}
		if (strcmp(first->words, m->items[i].words) == 0)
			m->twice++;
		else {
			snprintf(why, sizeof why, "line %u says something else of it, and counts",
			    first->line);
			on_note(m, m->items[i].line, m->items[i].who, why);
		}
		item_free(&m->items[i]);
	}
	m->n = kept;
}

/* --- the file ------------------------------------------------------------------------------------- */

static char *
read_file(const char *name)
{
	FILE *f = strcmp(name, "-") == 0 ? stdin : fopen(name, "re");
	char *text = malloc(FILE_BYTES_MAX + 1), safe[80];
	size_t len;

	if (text == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	out_safe(name, sizeof safe - 1, safe, sizeof safe);
	if (f == NULL)
		ctl_die(CTL_REFUSED, "%s: %s", safe, strerror(errno));
	errno = 0;
	len = fread(text, 1, FILE_BYTES_MAX + 1, f);
	if (ferror(f) != 0)
		ctl_die(CTL_REFUSED, "%s: %s", safe, strerror(errno));
	if (len > FILE_BYTES_MAX)
		ctl_die(CTL_REFUSED, "%s: is larger than %d MB: no list that weir could hold", safe,
		    FILE_BYTES_MAX >> 20);
	if (memchr(text, '\0', len) != NULL)
		ctl_die(CTL_REFUSED, "%s: is no text", safe);
	text[len] = '\0';
	if (f != stdin)
		fclose(f);
	return text;
}

/* --- the change ------------------------------------------------------------------------------------ */

/* An entry that is over is none. */
static bool
is_live(const char *entry)
{
	char words[ENTRY_WORDS_MAX + 1], err[LIMIT_ERR_MAX];
	struct entry_meta meta;

	return entry != NULL &&
	    (!entry_split(entry, &meta, words, err, sizeof err) || meta.until_us > clock_real_us());
}

/* What is there already is left alone. */
static char *
make_item(struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx)
{
	struct importing *m = ctx;
	struct item *i;

	(void)r;
	if (field == m->items[0].who)
		m->at = 0;
	i = &m->items[m->at++];
	i->there = is_live(now);
	return i->there ? ctl_leave : ctl_entry(c, i->words, m->until_us);
}

/* Looks what would be new, and refuses what would be too much. */
static unsigned
count_new(struct importing *m)
{
	struct rules r;
	unsigned new = 0;
	long long total;

	rules_load(m->c, &r);
	for (unsigned i = 0; i < m->n; i++) {
		m->items[i].there = is_live(rules_words(&r, SECTION_LISTS, m->items[i].who));
		new += !m->items[i].there;
	}
	total = (long long)r.overlay.total[SECTION_LISTS];
	rules_free(&r);
	if (new > 0 && total + new > LISTED_MAX)
		ctl_die(CTL_REFUSED,
		    "%u new entries, and %lld in redis, are more than the %d that weir reads: "
		    "nothing is imported",
		    new, total, LISTED_MAX);
	return new;
}

static int64_t
change(struct importing *m)
{
	const char **fields = calloc(m->n, sizeof *fields);
	int64_t generation;

	if (fields == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	for (unsigned i = 0; i < m->n; i++)
		fields[i] = m->items[i].who;
	generation = ctl_change(m->c, SECTION_LISTS, m->n, fields, make_item, m);
	free(fields);
	return generation;
}

/* --- what is said of it ----------------------------------------------------------------------------- */

static void
print_notes(const json_t *result)
{
	const json_t *notes = json_object_get(result, "notes"), *e;
	size_t dropped = (size_t)out_whole(result, "notes_dropped"), n = json_array_size(notes), i;

	if (n == 0)
		return;
	printf("not understood, or not all of it:\n");
	json_array_foreach(notes, i, e)
	{
		if (i == NOTES_SHOWN)
			break;
		printf("  %s:%" PRId64 ": %s: %s\n", out_text(result, "file"), out_whole(e, "line"),
		    out_text(e, "text"), out_text(e, "why"));
	}
	if (n > NOTES_SHOWN)
		printf("  ... and %zu more (-j shows %s)\n", n + dropped - NOTES_SHOWN,
		    dropped > 0 ? "ten thousand" : "all");
}

static void
print_import(const struct ctl *c, const json_t *result)
{
	int64_t generation = out_whole(result, "generation"), there = out_whole(result, "there"),
		twice = out_whole(result, "twice");
	bool dry = json_is_true(json_object_get(result, "dry_run"));
	const json_t *e;
	size_t i;

	if (dry)
		json_array_foreach(json_object_get(result, "entries"), i, e)
		    printf("%s %s\n", out_text(e, "who"), out_text(e, "words"));
	out_colour(c, GREEN);
	printf(dry ? "would be imported" : "imported");
	out_colour(c, PLAIN);
	printf(": %zu", json_array_size(json_object_get(result, "entries")));
	if (there > 0)
		printf("; there already, and left alone: %" PRId64, there);
	if (twice > 0)
		printf("; said twice: %" PRId64, twice);
	putchar('\n');
	print_notes(result);
	if (generation > 0)
		printf("in force everywhere, generation %" PRId64
		       "; back again: weirctl limit rollback %" PRId64 "\n",
		    generation, generation - 1);
}

static json_t *
result_json(const struct importing *m, const char *file, bool dry, int64_t generation)
{
	char safe[80];
	json_t *entries = json_array(), *out;
	unsigned there = 0;

	for (unsigned i = 0; i < m->n; i++) {
		const struct item *k = &m->items[i];

		there += k->there;
		if (!k->there)
			json_array_append_new(entries,
			    json_pack("{sI ss ss}", "line", (json_int_t)k->line, "who", k->who,
				"words", k->words));
	}
	out = json_pack("{ss sb so sI sI so sI}", "file",
	    out_safe(file, sizeof safe - 1, safe, sizeof safe), "dry_run", dry, "entries", entries,
	    "there", (json_int_t)there, "twice", (json_int_t)m->twice, "notes", notes_json(m),
	    "notes_dropped", (json_int_t)m->notes_dropped);
	if (generation != CTL_NOTHING)
		json_object_set_new(out, "generation", json_integer(generation));
	return out;
}

/* --- the command ------------------------------------------------------------------------------------ */

static bool
take_dry_run(int *argc, char **argv)
{
	for (int i = 1; i < *argc; i++)
		if (strcmp(argv[i], "-n") == 0) {
			memmove(&argv[i], &argv[i + 1], (size_t)(*argc - i - 1) * sizeof *argv);
			(*argc)--;
			return true;
		}
	return false;
}

int
cmd_import(struct ctl *c, int argc, char **argv)
{
	bool dry = take_dry_run(&argc, argv);
	struct importing m = {.c = c, .until_us = ctl_take_for(&argc, argv)};
	const struct import to = {.ctx = &m, .entry = on_entry, .note = on_note};
	const struct format *format = NULL;
	char reason[64], *text;
	int64_t generation = CTL_NOTHING;
	bool found;

	for (size_t i = 0; argc == 3 && i < sizeof formats / sizeof formats[0]; i++)
		if (strcmp(argv[1], formats[i].name) == 0)
			format = &formats[i];
	if (format == NULL)
		return CTL_USAGE;
	snprintf(reason, sizeof reason, "import %s", format->name);
	if (c->reason[0] == '\0')
		c->reason = reason;
	text = read_file(argv[2]);
	format->read(&to, text);
	free(text);
	drop_duplicates(&m);
	if (count_new(&m) > 0 && !dry)
		generation = change(&m);
	found = m.n > 0;
	out_result(c, result_json(&m, argv[2], dry, generation), print_import);
	for (unsigned i = 0; i < m.n; i++)
		item_free(&m.items[i]);
	free(m.items);
	free(m.notes);
	return found ? CTL_DONE : CTL_REFUSED;
}
