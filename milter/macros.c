/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * macros.c - see macros.h.
 *
 * What is kept is one string of entries: a byte that says which row of the table, the value, NUL.
 */
#include <stdlib.h>
#include <string.h>

#include "macros.h"

/* Of the same macro the one that came at the latest stage counts. */
static const struct {
	const char *name;
	uint8_t macro, stage, max;
} rows[] = {
    {"{client_resolve}", MACRO_CLIENT_RESOLVE, PROTO_AT_CONNECT, 15},
    {"{daemon_name}", MACRO_DAEMON_NAME, PROTO_AT_CONNECT, 64},
    {"{daemon_port}", MACRO_DAEMON_PORT, PROTO_AT_CONNECT, 15},
    {"{auth_authen}", MACRO_AUTH_AUTHEN, PROTO_AT_MAIL, 129},
    {"i", MACRO_QUEUE_ID, PROTO_AT_MAIL, 65},
    {"i", MACRO_QUEUE_ID, PROTO_AT_RCPT, 65},
    {"{rcpt_mailer}", MACRO_RCPT_MAILER, PROTO_AT_RCPT, 15},
    {"{rcpt_host}", MACRO_RCPT_HOST, PROTO_AT_RCPT, 15},
};
#define ROWS (sizeof rows / sizeof rows[0])
#define ROOM (15 + 64 + 15 + 129 + 65 + 65 + 15 + 15 + 2 * ROWS)

static size_t
row_of(enum proto_stage stage, const char *name)
{
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].stage == stage &&
		    (strcmp(rows[i].name, name) == 0 ||
			(rows[i].name[1] == '\0' && name[0] == '{' && name[1] == rows[i].name[0] &&
			    strcmp(name + 2, "}") == 0)))
			return i;
	return ROWS;
}

/* Those of stages from first to last go. */
static void
forget(struct macros *m, unsigned first, unsigned last)
{
	uint16_t left = 0;

	for (uint16_t at = 0; at < m->len;) {
		uint16_t len = (uint16_t)(strlen(m->kept + at + 1) + 2);
		unsigned stage = rows[(unsigned char)m->kept[at]].stage;

		if (stage < first || stage > last) {
			memmove(m->kept + left, m->kept + at, len);
			left = (uint16_t)(left + len);
		}
		at = (uint16_t)(at + len);
	}
	m->len = left;
	if (left == 0)
		macros_clear(m);
}

void
macros_put(struct macros *m, enum proto_stage stage, const char *list, const char *end)
{
	char fresh[ROOM], *grown;
	uint16_t len = 0;
	bool seen[ROWS] = {false};
	const char *name, *value;

	if (memchr(list, '\0', (size_t)(end - list)) == NULL)
		return;
	forget(m, stage, stage);
	while (
	    (name = proto_text(&list, end)) != NULL && (value = proto_text(&list, end)) != NULL) {
		size_t row = row_of(stage, name), n;

		if (row == ROWS || seen[row])
			continue;
		seen[row] = true;
		n = strnlen(value, rows[row].max);
		fresh[len] = (char)row;
		memcpy(fresh + len + 1, value, n);
		fresh[len + 1 + n] = '\0';
		len = (uint16_t)(len + n + 2);
	}
	if (len == 0 || (grown = realloc(m->kept, (size_t)m->len + len)) == NULL)
		return;
	memcpy(grown + m->len, fresh, len);
	m->kept = grown;
	m->len = (uint16_t)(m->len + len);
}

void
macros_reach(struct macros *m, enum proto_stage stage)
{
	if (m->len > 0)
		forget(m, stage + 1u, PROTO_STAGES);
}

const char *
macros_get(const struct macros *m, enum macro which)
{
	const char *found = "";
	unsigned stage = 0;

	for (uint16_t at = 0; at < m->len;) {
		const char *value = m->kept + at + 1;
		size_t row = (unsigned char)m->kept[at];

		if (rows[row].macro == which && rows[row].stage >= stage) {
			stage = rows[row].stage;
			found = value;
		}
		at = (uint16_t)(at + strlen(value) + 2);
	}
	return found;
}

void
macros_clear(struct macros *m)
{
	free(m->kept);
	m->kept = NULL;
	m->len = 0;
}
