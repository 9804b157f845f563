/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * overlay_fixture.h - the built-in limits, what Redis holds over them, and what is said of it;
 * for test_ruleset_overlay.c and test_ruleset_exceptions.c.
 */
#ifndef WEIR_OVERLAY_FIXTURE_H
#define WEIR_OVERLAY_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/ruleset.h"
#include "weir/units.h"

#define COUNT(table) (unsigned)(sizeof(table) / sizeof((table)[0]))
#define NOW (INT64_C(1800000000) * USEC_PER_SEC)

/* What was reported, a line an entry: "SECTION: NAME: WHY"; and the words that were good before,
 * for one name. */
struct reports {
	unsigned n;
	char text[8192];
	const char *name, *good;
};

static inline const char *
report(void *ctx, enum overlay_section s, const char *name, const char *why)
{
	struct reports *r = ctx;
	size_t used = strlen(r->text);

	r->n++;
	snprintf(r->text + used, sizeof r->text - used, "%s: %s: %s\n", section_name(s), name, why);
	return r->name != NULL && strcmp(r->name, name) == 0 ? r->good : NULL;
}

static inline struct ruleset
defaults(void)
{
	char err[LIMIT_ERR_MAX];
	struct ruleset r;

	ruleset_defaults(&r);
	if (!ruleset_finish(&r, err, sizeof err))
		fail_msg("%s", err);
	return r;
}

/* By the client's address and login alone. */
static inline bool
exempt(const struct ruleset *r, const struct addr *client, const char *user)
{
	const struct facts f = {.client = *client, .user = user, .name = ""};

	return ruleset_exempt(r, &f);
}

static inline bool
blocked(const struct ruleset *r, const struct addr *client, const char *user)
{
	const struct facts f = {.client = *client, .user = user, .name = ""};

	return ruleset_blocked(r, &f);
}

static inline void
lay(struct overlay *o, enum overlay_section s, const struct overlay_entry *entries, unsigned n)
{
	o->entries[s] = (struct overlay_entry *)entries;
	o->n[s] = n;
	o->total[s] = n;
}

#endif
