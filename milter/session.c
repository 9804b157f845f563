/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * session.c - see session.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "session.h"

/* --- texts -------------------------------------------------------------------------------- */

static void
forget(char **text)
{
	free(*text);
	*text = NULL;
}

/* Without memory it has not been said. */
static void
remember(char **text, const char *value, size_t max)
{
	forget(text);
	if (*value != '\0')
		*text = strndup(value, max);
}

void
session_init(struct session *s, const char *id, struct plan_steps steps)
{
	memset(s, 0, sizeof *s);
	snprintf(s->id, sizeof s->id, "%s", id);
	s->steps = steps;
}

void
session_deinit(struct session *s)
{
	forget(&s->name);
	forget(&s->helo);
	forget(&s->sender);
	forget(&s->queue_id);
	forget(&s->user);
	free(s->reply);
	s->reply = NULL;
}

/* False: no memory, so that it cannot be said. */
static bool
keep_reply(struct session *s, const struct reply *r)
{
	if (s->reply == NULL)
		s->reply = malloc(sizeof *s->reply);
	if (s->reply == NULL)
		return false;
	*s->reply = *r;
	return true;
}

/* --- the road ----------------------------------------------------------------------------- */

static void
session_facts(const struct session *s, enum stage stage, const char *recipient, struct facts *f)
{
	f->stage = stage;
	f->client = s->client;
	f->name = s->name_confirmed ? session_text(s->name) : "";
	f->level = s->level;
	f->spared = s->spared;
	f->user = session_text(s->user);
	f->helo = session_text(s->helo);
	f->drain = s->drain;
	f->message_counted = s->message_counted;
	f->greylist_done = s->greylist_known || s->greylist_message;
	f->sender = session_text(s->sender);
	f->recipient = recipient;
	f->rejected = s->rejected;
	f->bytes = s->bytes;
}

bool
session_plan(const struct session *s, const struct ruleset *r, enum stage stage,
    const char *recipient, struct request *q)
{
	char bare[MAILBOX_MAX + 1];
	struct facts f;

	mailbox_name(recipient, bare, sizeof bare);
	session_facts(s, stage, bare, &f);
	return plan_request(r, &f, q);
}

enum next
session_connect(struct session *s, const struct ruleset *r, const struct addr *client,
    const char *name, bool confirmed, struct request *q)
{
	s->client = *client;
	s->name_confirmed = confirmed;
	remember(&s->name, name, SESSION_NAME_MAX);
	if (session_plan(s, r, STAGE_CONNECT, "", q))
		return NEXT_ASK;
	return NEXT_CONTINUE;
}

enum next
session_helo(struct session *s, const char *helo)
{
	remember(&s->helo, helo, SESSION_NAME_MAX);
	/* a deferral must not be said here: Postfix would greet and then repeat it at MAIL, and
	 * Sendmail would answer EHLO without its extensions; doc/mta.md */
	return s->pending && reply_closes(s->reply) ? NEXT_REPLY : NEXT_CONTINUE;
}

enum next
session_mail(struct session *s, const struct ruleset *r, const char *sender, const char *user,
    int64_t bytes, struct request *q)
{
	char bare[MAILBOX_MAX + 1];

	if (s->pending)
		return NEXT_REPLY;
	mailbox_name(sender, bare, sizeof bare);
	remember(&s->sender, bare, MAILBOX_MAX);
	forget(&s->queue_id);
	remember(&s->user, user, USER_MAX);
	/* here and not at abort: there is none after a milter's own refusal (doc/mta.md) */
	s->message_counted = s->rejected = s->data = false;
	s->greylist_message = false;
	s->bytes = bytes;
	/* who only tries recipients that do not exist gets no further than to the next message */
	if (s->had_rejected && session_plan(s, r, STAGE_MAIL, "", q))
		return NEXT_ASK;
	return NEXT_CONTINUE;
}

enum next
session_rcpt(struct session *s, const struct ruleset *r, const char *recipient, bool rejected,
    const char *queue_id, struct request *q)
{
	remember(&s->queue_id, queue_id, SESSION_QUEUE_MAX);
	s->rejected = rejected;
	s->had_rejected = s->had_rejected || rejected;
	return session_plan(s, r, STAGE_RCPT, recipient, q) ? NEXT_ASK : NEXT_CONTINUE;
}

bool
session_size(const char *param, int64_t *bytes)
{
	const char *p = param + 5;

	if (strncasecmp(param, "SIZE=", 5) != 0)
		return false;
	for (*bytes = 0; *p >= '0' && *p <= '9' && *bytes < QUOTA_FIGURE_MAX; p++)
		*bytes = *bytes * 10 + (*p - '0');
	return true;
}

void
session_data(struct session *s, int64_t bytes)
{
	/* what was announced ends with the first byte that comes */
	if (!s->data) {
		s->data = true;
		s->bytes = 0;
	}
	s->bytes += bytes;
}

enum next
session_eom(struct session *s, const struct ruleset *r, struct request *q)
{
	s->rejected = false;
	/* of the announced size alone nothing is charged: a message without a byte has none */
	if (!s->data)
		s->bytes = 0;
	s->data = false;
	return session_plan(s, r, STAGE_EOM, "", q) ? NEXT_ASK : NEXT_CONTINUE;
}

/* When the client is told what was decided at connect. */
static enum next
tell_at_connect(struct session *s, const struct ruleset *r, const struct verdict *v)
{
	if (v->action == DO_REFUSE && !r->refuse_at_helo)
		return NEXT_REPLY;
	/* no text of ours is worth the work of a session on a host that is busy, or to be left
	 * alone */
	if (v->reason == REASON_DRAIN || v->reason == REASON_LOAD)
		return NEXT_REPLY;
	/* Where the MTA was not asked for a later step (the limit is younger than this session, or
	 * a list blocks and no limit looks at more), a 421 is said at once, with the MTA's words; a
	 * deferral cannot be said then, and what cannot be said must not be done either. */
	if (v->action == DO_REFUSE && !s->steps.mail)
		return NEXT_REPLY;
	s->pending = s->steps.mail;
	return NEXT_CONTINUE;
}

enum next
session_judge(struct session *s, const struct ruleset *r, enum stage stage, const char *recipient,
    const struct request *q, const struct answer *a, struct verdict *v)
{
	struct facts f;

	session_facts(s, stage, recipient, &f);
	*v = judge(r, &f, q, a);
	if (a != NULL && a->lease != 0)
		s->lease = a->lease;
	/* the MTA does not listen to what we say of a recipient that it refuses */
	if (s->rejected && stage == STAGE_RCPT)
		return NEXT_CONTINUE;
	if (v->action != DO_ACCEPT && v->enforced) {
		if (!keep_reply(s, v->reply))
			return NEXT_CONTINUE;
		return stage == STAGE_CONNECT ? tell_at_connect(s, r, v) : NEXT_REPLY;
	}
	if (stage == STAGE_CONNECT)
		return plan_done(r, &f) ? NEXT_DONE : NEXT_CONTINUE;
	if (stage == STAGE_RCPT)
		s->message_counted = true;
	if (v->grey == GREY_PASSED || v->grey == GREY_KNOWN)
		s->greylist_known = true;
	/* with a 421 one decision covers the message; with a 451 each recipient has its own */
	if (v->grey != GREY_NONE && reply_closes(&r->greylist.reply))
		s->greylist_message = true;
	return NEXT_CONTINUE;
}
