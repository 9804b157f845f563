/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * overlay.c - what all of a store's users do with an overlay: take changes in, free it.
 */
#include <stdlib.h>
#include <string.h>

#include "weir/store.h"

void
overlay_free(struct overlay *o)
{
	/* all sections, names and words lie in one block, which begins with the first */
	free(o->entries[0]);
	memset(o, 0, sizeof *o);
}

/* --- changes --------------------------------------------------------------------------------- */

/* Walked through twice: to count, and to copy. */
struct merge {
	struct overlay_entry *at; /* NULL: only count */
	char *text;
	size_t entries, bytes;
};

static const char *
put_text(struct merge *m, const char *s)
{
	size_t len = strlen(s) + 1;
	const char *kept = m->text;

	m->bytes += len;
	if (m->at != NULL) {
		memcpy(m->text, s, len);
		m->text += len;
	}
	return kept;
}

static void
put_entry(struct merge *m, const struct overlay_entry *e)
{
	struct overlay_entry copy;

	copy.name = put_text(m, e->name);
	copy.words = put_text(m, e->words);
	m->entries++;
	if (m->at != NULL)
		*m->at++ = copy;
}

/* Both are sorted by name; of one name the change counts. */
static void
merge_section(struct merge *m, const struct overlay *known, const struct overlay *changes, int s)
{
	unsigned k = 0, c = 0;

	while (k < known->n[s] || c < changes->n[s]) {
		const struct overlay_entry *old = k < known->n[s] ? &known->entries[s][k] : NULL;
		const struct overlay_entry *new =
		    c < changes->n[s] ? &changes->entries[s][c] : NULL;
		int order = old == NULL ? 1 : new == NULL ? -1 : strcmp(old->name, new->name);

		if (order < 0)
			put_entry(m, old);
		else if (new->words[0] != '\0')
			put_entry(m, new);
		k += order <= 0;
		c += order >= 0;
	}
}

bool
overlay_merge(const struct overlay *known, const struct overlay *changes, struct overlay *out)
{
	struct merge m = {0};

	*out = *changes;
	out->changes = false;
	for (int s = 0; s < SECTIONS; s++)
		merge_section(&m, known, changes, s);
	/* as store_load() does it: one block, which the first section's pointer owns */
	out->entries[0] = calloc(1, (m.entries + 1) * sizeof *m.at + m.bytes);
	if (out->entries[0] == NULL)
		return false;
	m.at = out->entries[0];
	m.text = (char *)(m.at + m.entries + 1);
	for (int s = 0; s < SECTIONS; s++) {
		out->entries[s] = m.at;
		merge_section(&m, known, changes, s);
		out->n[s] = (unsigned)(m.at - out->entries[s]);
	}
	return true;
}
