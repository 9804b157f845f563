/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * listing.c - the words of an entry of the lists, in the file as in Redis.
 */
#include <string.h>

#include "weir/entry.h"
#include "weir/exceptions.h"
#include "weir/units.h"
#include "err.h"

static const char *const actions[] = {
    [LIST_EXEMPT] = "exempt",
    [LIST_BLOCK] = "block",
    [LIST_NO_GREYLIST] = "no-greylist",
    [LIST_GREYLIST] = "greylist",
    [LIST_TRAP] = "trap",
};

const char *
list_action_name(enum list_action a)
{
	return actions[a];
}

void
listing_init(struct listing *l)
{
	l->action = LIST_ACTIONS;
	l->delay_us = 0;
}

bool
listing_set(struct listing *l, const char *key, const char *value, char *err, size_t errlen)
{
	int64_t us;

	if (strcmp(key, "action") == 0) {
		for (int a = 0; a < LIST_ACTIONS; a++)
			if (strcmp(value, actions[a]) == 0) {
				l->action = (enum list_action)a;
				return true;
			}
		return err_set(
		    err, errlen, "action is exempt, block, no-greylist, greylist or trap", NULL);
	}
	if (strcmp(key, "delay") == 0) {
		if (!units_duration(value, &us) || us < USEC_PER_SEC || us > LIST_DELAY_MAX)
			return err_set(err, errlen, "delay is a duration from 1s to 4d", NULL);
		l->delay_us = us;
		return true;
	}
	return err_set(
	    err, errlen, "an entry of the lists has the words action and delay only", NULL);
}

bool
listing_finish(const struct listing *l, const struct who *w, char *err, size_t errlen)
{
	const char *why = NULL;

	if (l->action == LIST_ACTIONS)
		return err_set(err, errlen,
		    "must say action=exempt, block, no-greylist, greylist or trap", NULL);
	if (l->delay_us != 0 && l->action != LIST_GREYLIST)
		return err_set(err, errlen, "delay goes with action=greylist only", NULL);
	if (l->action == LIST_EXEMPT || l->action == LIST_BLOCK) {
		if (w->kind == WHO_SENDER)
			why = "anybody can write this sender's address: no client is exempt or "
			      "blocked for it";
		else if (w->kind == WHO_RECIPIENT)
			why = "clients are exempt or blocked, not recipients: those take "
			      "no-greylist, greylist and trap";
		else if (w->kind == WHO_NAME && l->action == LIST_BLOCK)
			why = "who is blocked by name drops the name: block the address or network";
	} else if (l->action != LIST_NO_GREYLIST && w->kind != WHO_RECIPIENT)
		why = l->action == LIST_TRAP
		    ? "a trap is a recipient"
		    : "action=greylist is for recipients: to greylist others again, take their "
		      "entry away";
	return why == NULL || err_set(err, errlen, why, NULL);
}

bool
listing_parse(const char *words, const struct who *w, struct listing *out, char *err, size_t errlen)
{
	char key[16], value[32];
	bool seen_action = false, seen_delay = false;

	listing_init(out);
	while (entry_next(&words, key, sizeof key, value, sizeof value)) {
		bool *seen = strcmp(key, "action") == 0 ? &seen_action : &seen_delay;

		if (*seen)
			return err_set(err, errlen, "says a word twice", NULL);
		if (!listing_set(out, key, value, err, errlen))
			return false;
		*seen = true;
	}
	if (*words != '\0')
		return err_set(err, errlen,
		    "must say action=exempt, block, no-greylist, greylist or trap", NULL);
	return listing_finish(out, w, err, errlen);
}
