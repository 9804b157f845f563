/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf_words.h - the table of all words of the configuration file.
 */
#ifndef WEIR_CONF_CONF_WORDS_H
#define WEIR_CONF_CONF_WORDS_H

#include "conf.h"

struct conf_word {
	const char *section; /* "" = outside of any */
	const char *name;
	/* title: of a section that has one. NULL: a word of a limit or list, or a signal of load. */
	bool (*set)(struct conf *c, const char *title, const char *value, char *err, size_t errlen);
	bool list; /* takes { "a", "b" }; set is called for each */
};

extern const struct conf_word conf_words[]; /* ends with name == NULL */

/* On false, err is one sentence without the word's name. */
bool conf_word_set(struct conf *c, const struct conf_word *w, const char *title, const char *value,
    char *err, size_t errlen);

#endif
