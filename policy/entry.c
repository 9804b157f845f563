/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * entry.c - see entry.h.
 */
#include <string.h>

#include "weir/entry.h"
#include "weir/units.h"
#include "err.h"

/* 2286-11-20: far enough, and no product of it overflows. */
#define UNTIL_MAX INT64_C(9999999999)

bool
entry_next(const char **text, char *key, size_t keylen, char *value, size_t valuelen)
{
	const char *p = *text + strspn(*text, " "), *end, *next;
	size_t len = strcspn(p, "= ");

	*text = p;
	if (p[len] != '=' || len == 0 || len >= keylen)
		return false;
	memcpy(key, p, len);
	key[len] = '\0';
	p += len + 1;
	if (*p == '"') {
		end = strchr(++p, '"');
		if (end == NULL || (end[1] != ' ' && end[1] != '\0'))
			return false;
		next = end + 1;
	} else
		next = end = p + strcspn(p, " ");
	len = (size_t)(end - p);
	if (len == 0 || len >= valuelen)
		return false;
	memcpy(value, p, len);
	value[len] = '\0';
	*text = next + strspn(next, " ");
	return true;
}

static bool
take_until(const char *value, struct entry_meta *m)
{
	int64_t s = 0;

	for (; *value >= '0' && *value <= '9' && s <= UNTIL_MAX; value++)
		s = s * 10 + (*value - '0');
	if (*value != '\0' || s > UNTIL_MAX)
		return false;
	m->until_us = s * USEC_PER_SEC;
	return true;
}

/* Who wrote it and why is told, never acted upon: cut is good enough. */
static void
copy_cut(char *out, const char *value, size_t max)
{
	size_t len = strnlen(value, max);

	memcpy(out, value, len);
	out[len] = '\0';
}

bool
entry_split(const char *text, struct entry_meta *m, char words[ENTRY_WORDS_MAX + 1], char *err,
    size_t errlen)
{
	char key[32], value[ENTRY_WORDS_MAX + 1];
	size_t used = 0;

	memset(m, 0, sizeof *m);
	m->until_us = INT64_MAX;
	words[0] = '\0';
	if (strlen(text) > ENTRY_WORDS_MAX)
		return err_set(err, errlen, "too long", NULL);
	text += strspn(text, " ");
	while (*text != '\0') {
		const char *start = text;

		if (!entry_next(&text, key, sizeof key, value, sizeof value))
			return err_set(err, errlen,
			    "not written as KEY=VALUE KEY=VALUE, such as rate=60/1m burst=30",
			    NULL);
		if (strcmp(key, "until") == 0) {
			if (!take_until(value, m))
				return err_set(
				    err, errlen, "until is a time in seconds since 1970", NULL);
		} else if (strcmp(key, "by") == 0)
			copy_cut(m->by, value, ENTRY_BY_MAX);
		else if (strcmp(key, "reason") == 0)
			copy_cut(m->reason, value, ENTRY_REASON_MAX);
		else {
			/* as it stands, quotes and all */
			memcpy(words + used, start, (size_t)(text - start));
			used += (size_t)(text - start);
			words[used] = '\0';
		}
	}
	while (used > 0 && words[used - 1] == ' ')
		words[--used] = '\0';
	return true;
}
