/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf_load.c - see conf_load.h.
 */
#include <string.h>

#include "conf_load.h"

static bool
refuse(char *err, size_t errlen, const char *why)
{
	snprintf(err, errlen, "%s", why);
	return false;
}

bool
conf_load_marks(struct conf *c, const char *word, const char *value, char *err, size_t errlen)
{
	for (unsigned s = 0; s < LOAD_SIGNALS; s++)
		if (strcmp(load_signal_name((enum load_signal)s), word) == 0)
			return load_set(&c->rules.load, (enum load_signal)s, value, err, errlen);
	return refuse(err, errlen, "is no signal");
}

bool
conf_load_queue_directory(
    struct conf *c, const char *title, const char *value, char *err, size_t errlen)
{
	(void)title;
	if (value[0] != '/')
		return refuse(err, errlen, "must be an absolute path");
	if (strlen(value) >= CONF_PATH_MAX)
		return refuse(err, errlen, "too long");
	/* libconfuse says the last of a list twice */
	for (unsigned i = 0; i < c->nqueue_directories; i++)
		if (strcmp(c->queue_directories[i], value) == 0)
			return true;
	if (c->nqueue_directories == CONF_QUEUE_DIRECTORIES_MAX) {
		snprintf(err, errlen, "more than %d directories", CONF_QUEUE_DIRECTORIES_MAX);
		return false;
	}
	strcpy(c->queue_directories[c->nqueue_directories++], value);
	return true;
}

bool
conf_load_queue_command(
    struct conf *c, const char *title, const char *value, char *err, size_t errlen)
{
	(void)title;
	if (value[0] == '\0')
		return refuse(err, errlen, "must be a command that prints a number");
	if (strlen(value) >= sizeof c->queue_command)
		return refuse(err, errlen, "too long");
	strcpy(c->queue_command, value);
	return true;
}

bool
conf_load_spare(struct conf *c, const char *title, const char *value, char *err, size_t errlen)
{
	(void)title;
	/* the first one replaces the default */
	if (!c->load_spare_given)
		c->rules.load.nspare = 0;
	c->load_spare_given = true;
	return load_spare(&c->rules.load, value, err, errlen);
}

bool
conf_load_reply(struct conf *c, const char *title, const char *value, char *err, size_t errlen)
{
	struct reply r;

	(void)title;
	if (!reply_parse(value, &r, err, errlen))
		return false;
	if (!reply_closes(&r))
		return refuse(
		    err, errlen, "must begin with 421: a session that stays open is a load, too");
	c->rules.load.reply = r;
	return true;
}

bool
conf_load_finish(const struct conf *c, char *err, size_t errlen)
{
	bool counted = c->nqueue_directories > 0, asked = c->queue_command[0] != '\0';

	if (counted && asked)
		return refuse(err, errlen, "load: queue-directory or queue-command, not both");
	if (load_wants(&c->rules.load, LOAD_QUEUE) && !counted && !asked)
		return refuse(err, errlen, "load: queue needs queue-directory or queue-command");
	for (unsigned i = 0; counted && i < LOAD_LEVEL_MAX; i++)
		if (c->rules.load.marks[LOAD_QUEUE][i].high > CONF_QUEUE_FILES_MAX * INT64_C(1000))
			return refuse(err, errlen,
			    "load: queue-directory counts no more than 100000 files: a mark above "
			    "that is never reached");
	return true;
}

void
conf_load_print(const struct conf *c, FILE *out)
{
	const struct load_rules *l = &c->rules.load;
	char high[LOAD_VALUE_MAX], low[LOAD_VALUE_MAX];

	for (unsigned s = 0; s < LOAD_SIGNALS; s++) {
		enum load_signal signal = (enum load_signal)s;

		if (!load_wants(l, signal))
			continue;
		if (signal == LOAD_NEIGHBOURS) {
			fprintf(out, "load neighbours: majority\n");
			continue;
		}
		fprintf(out, "load %s:", load_signal_name(signal));
		for (unsigned i = 0; i < LOAD_LEVEL_MAX && l->marks[s][i].high > 0; i++)
			fprintf(out, "%s level %u from %s on, until %s", i > 0 ? ";" : "", i + 1,
			    load_format(signal, l->marks[s][i].high, high),
			    load_format(signal, l->marks[s][i].low, low));
		fputc('\n', out);
	}
	if (!load_wanted(l))
		return;
	fprintf(out, "load spare:");
	for (unsigned i = 0; i < l->nspare; i++)
		fprintf(out, " %s", l->spare[i]);
	fprintf(out, "%s\nload reply: \"%s %s %s\"\n", l->nspare == 0 ? " nobody" : "",
	    l->reply.code, l->reply.xcode, l->reply.text);
}
