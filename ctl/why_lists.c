/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * why_lists.c - for weirctl why: the exceptions that match a client and its message, those of the
 * file too, and which of them decide.
 */
#include <string.h>

#include "ctl.h"

/* The entries of the lists that are asked about these facts. */
struct deciding {
	char client[WHO_TEXT_MAX], greylist[WHO_TEXT_MAX], recipient[WHO_TEXT_MAX];
};

static void
name_entry(const struct listed_entry *l, char out[WHO_TEXT_MAX])
{
	out[0] = '\0';
	if (l != NULL)
		listed_who(l, out);
}

static void
find_deciding(const struct ruleset *r, const struct facts *f, struct deciding *d)
{
	name_entry(exceptions_client(r->exceptions, &f->client, f->user, f->name), d->client);
	name_entry(exceptions_greylist_entry(r->exceptions, f), d->greylist);
	name_entry(exceptions_recipient(r->exceptions, f->recipient), d->recipient);
}

static bool
decides(const struct deciding *d, const struct who *w)
{
	char text[WHO_TEXT_MAX];

	who_format(w, text);
	return strcmp(text, d->client) == 0 || strcmp(text, d->greylist) == 0 ||
	    strcmp(text, d->recipient) == 0;
}

/* Whether an entry of Redis counts for these facts, and whom it is about. */
static bool
counts(const struct rules *r, enum overlay_section s, const struct overlay_entry *e,
    const struct facts *f, struct who *who)
{
	char text[WHO_TEXT_MAX + LIMIT_NAME_MAX + 2], err[LIMIT_ERR_MAX];
	char words[ENTRY_WORDS_MAX + 1], *blank;
	struct entry_meta meta;

	/* what is over, or cannot be used, does not */
	if (!entry_split(e->words, &meta, words, err, sizeof err) ||
	    meta.until_us <= clock_real_us() ||
	    !ruleset_check_entry(&r->set, s, e->name, words, err, sizeof err))
		return false;
	snprintf(text, sizeof text, "%s", e->name);
	blank = s == SECTION_OVERRIDES ? strrchr(text, ' ') : NULL;
	if (blank != NULL)
		*blank = '\0';
	return who_parse(text, who, err, sizeof err) && who_matches(who, f);
}

static void
add_redis(const struct rules *r, const struct facts *f, const struct deciding *d, json_t *out)
{
	if (r->overlay.format > OVERLAY_FORMAT)
		return;
	for (int k = SECTION_OVERRIDES; k <= SECTION_LISTS; k++)
		for (unsigned i = 0; i < r->overlay.n[k]; i++) {
			const struct overlay_entry *e = &r->overlay.entries[k][i];
			char name[WHO_TEXT_MAX + LIMIT_NAME_MAX + 2], safe[400];
			struct who w;
			json_t *j;

			if (!counts(r, (enum overlay_section)k, e, f, &w))
				continue;
			j = json_pack("{ss ss ss ss}", "section", section_name(k), "entry",
			    out_safe(e->name, sizeof name - 1, name, sizeof name), "words",
			    out_safe(e->words, 390, safe, sizeof safe), "from", "redis");
			if (k == SECTION_LISTS)
				json_object_set_new(j, "decides", json_boolean(decides(d, &w)));
			json_array_append_new(out, j);
		}
}

static void
add_file(const struct rules *r, const struct facts *f, const struct deciding *d, json_t *out)
{
	for (unsigned i = 0; i < exceptions_count(r->set.exceptions); i++) {
		const struct listed_entry *l = exceptions_at(r->set.exceptions, i);
		char text[WHO_TEXT_MAX], err[LIMIT_ERR_MAX], words[64];
		struct who w;

		if (!l->from_file || !who_parse(listed_who(l, text), &w, err, sizeof err) ||
		    !who_matches(&w, f))
			continue;
		json_array_append_new(out,
		    json_pack("{ss ss ss ss sb}", "section", section_name(SECTION_LISTS), "entry",
			text, "words", out_listing(&l->says, words), "from", "file", "decides",
			decides(d, &w)));
	}
}

json_t *
why_lists(const struct rules *r, const struct facts *f)
{
	json_t *out = json_array();
	struct deciding d;

	find_deciding(&r->set, f, &d);
	add_redis(r, f, &d, out);
	add_file(r, f, &d, out);
	return out;
}

void
why_greylist(const struct rules *r, const struct facts *f, json_t *out)
{
	const struct listed_entry *l = exceptions_greylist_entry(r->set.exceptions, f);
	char text[WHO_TEXT_MAX], words[64];

	if (l != NULL && r->set.greylist.enabled)
		json_object_set_new(out, "greylist_entry",
		    json_pack("{ss ss}", "who", listed_who(l, text), "words",
			out_listing(&l->says, words)));
	if (exceptions_trap(r->set.exceptions, f->recipient))
		json_object_set_new(out, "trap",
		    json_string(
			listed_who(exceptions_recipient(r->set.exceptions, f->recipient), text)));
}
