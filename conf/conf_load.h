/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf_load.h - the words of `load { ... }`, and what must be true of them together.
 */
#ifndef WEIR_CONF_CONF_LOAD_H
#define WEIR_CONF_CONF_LOAD_H

#include "conf.h"

/* As setters of conf_words.h. */
bool conf_load_queue_directory(
    struct conf *c, const char *title, const char *value, char *err, size_t errlen);
bool conf_load_queue_command(
    struct conf *c, const char *title, const char *value, char *err, size_t errlen);
bool conf_load_spare(
    struct conf *c, const char *title, const char *value, char *err, size_t errlen);
bool conf_load_reply(
    struct conf *c, const char *title, const char *value, char *err, size_t errlen);

/* One setter for all signals: word is the name of one. */
bool conf_load_marks(struct conf *c, const char *word, const char *value, char *err, size_t errlen);

/* At the end of the section. */
bool conf_load_finish(const struct conf *c, char *err, size_t errlen);

/* For -n; nothing when no signal has marks. */
void conf_load_print(const struct conf *c, FILE *out);

#endif
