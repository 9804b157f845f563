/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * entry.h - how a change is written in Redis: the words of the setting itself, and beside them
 * until, by and reason.
 *
 *	rate=120/1m burst=60 until=1795460545 by=ann@mx1 reason="newsletter day"
 */
#ifndef WEIR_ENTRY_H
#define WEIR_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ENTRY_BY_MAX 80
#define ENTRY_REASON_MAX 200
/* The longest value that is looked at; beyond it nobody typed it. */
#define ENTRY_WORDS_MAX 1023
/* A field NAME:temporary lies over the field NAME until its time is over. */
#define ENTRY_TEMPORARY ":temporary"

struct entry_meta {
	int64_t until_us; /* since 1970; INT64_MAX = for good */
	char by[ENTRY_BY_MAX + 1];
	char reason[ENTRY_REASON_MAX + 1];
};

/* Takes KEY=VALUE (VALUE may stand in double quotes) off *text. False at the end of the text
 * (*text then points to its NUL) and at what is not of this form. */
bool entry_next(const char **text, char *key, size_t keylen, char *value, size_t valuelen);

/* Splits text into the setting's own words and the rest. False: err is one sentence. */
bool entry_split(const char *text, struct entry_meta *meta, char words[ENTRY_WORDS_MAX + 1],
    char *err, size_t errlen);

#endif
