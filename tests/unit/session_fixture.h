/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session_fixture.h - one session under a few limits, and whoever answers it, for test_session*.c.
 */
#ifndef WEIR_SESSION_FIXTURE_H
#define WEIR_SESSION_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "weir/units.h"
#include "session.h"

/* A session under some limits, and the last question and answer. */
struct scene {
	struct ruleset r;
	struct session s;
	struct request q;
	struct answer a;
	struct verdict v;
};

static inline void
clean(struct scene *c)
{
	session_deinit(&c->s);
}
#define CLEAN __attribute__((cleanup(clean)))

/* *c is all zeros, or has been started before. */
static inline void
start(struct scene *c, const char *name, const char *words)
{
	char err[LIMIT_ERR_MAX];

	clean(c);
	memset(c, 0, sizeof *c);
	ruleset_defaults(&c->r);
	c->r.nlimits = 0;
	if (name != NULL &&
	    (!limit_set_words(ruleset_limit_add(&c->r, name), words, err, sizeof err) ||
		!ruleset_finish(&c->r, err, sizeof err)))
		fail_msg("%s", err);
}

static inline void
negotiate(struct scene *c)
{
	session_deinit(&c->s);
	session_init(&c->s, "s1", plan_steps(&c->r));
}

static inline enum next
answer(struct scene *c, enum stage stage, bool over)
{
	c->a.hits[0].over = over;
	return session_judge(&c->s, &c->r, stage, "b", &c->q, &c->a, &c->v);
}

static inline enum next
connect_from(struct scene *c, bool over)
{
	struct addr a;

	assert_true(addr_parse("192.0.2.7", &a));
	if (session_connect(&c->s, &c->r, &a, "mx.example.org", true, &c->q) == NEXT_ASK)
		return answer(c, STAGE_CONNECT, over);
	return session_judge(&c->s, &c->r, STAGE_CONNECT, "", NULL, NULL, &c->v);
}

/* NEXT_ASK does not come back: the answer is given with it. */
static inline enum next
rcpt(struct scene *c, enum grey_state grey, bool over)
{
	assert_int_equal(
	    session_rcpt(&c->s, &c->r, "<b@example.com>", false, "4F1", &c->q), NEXT_ASK);
	c->a.grey = c->q.grey.asked ? grey : GREY_NONE;
	return answer(c, STAGE_RCPT, over);
}

#endif
