/*
 * session.c - see session.h.
 */
#include <stdio.h>
#include <string.h>

#include "session.h"

void
session_init(struct session *s, const char *id, struct plan_steps steps)
{
	memset(s, 0, sizeof *s);
	snprintf(s->id, sizeof s->id, "%s", id);
	s->steps = steps;
}

static void
session_facts(const struct session *s, enum stage stage, const char *recipient, struct facts *f)
{
	f->stage = stage;
	f->client = s->client;
	f->name = s->name_confirmed ? s->name : "";
	f->level = s->level;
	f->spared = s->spared;
	f->user = s->user;
	f->helo = s->helo;
	f->drain = s->drain;
	f->message_counted = s->message_counted;
	f->greylist_done = s->greylist_known || s->greylist_message;
	f->sender = s->sender;
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
	snprintf(s->name, sizeof s->name, "%s", name);
	if (session_plan(s, r, STAGE_CONNECT, "", q))
		return NEXT_ASK;
	return NEXT_CONTINUE;
}

enum next
session_helo(struct session *s, const char *helo)
{
	snprintf(s->helo, sizeof s->helo, "%s", helo);
	/* a deferral must not be said here: Postfix would greet and then repeat it at MAIL, and
	 * Sendmail would answer EHLO without its extensions; doc/mta.md */
	return s->pending && reply_closes(&s->reply) ? NEXT_REPLY : NEXT_CONTINUE;
}

enum next
session_mail(struct session *s, const struct ruleset *r, const char *sender, const char *user,
    int64_t bytes, struct request *q)
{
	if (s->pending)
		return NEXT_REPLY;
	mailbox_name(sender, s->sender, sizeof s->sender);
	s->queue_id[0] = '\0';
	snprintf(s->user, sizeof s->user, "%s", user);
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
	snprintf(s->queue_id, sizeof s->queue_id, "%s", queue_id);
	s->rejected = rejected;
	s->had_rejected = s->had_rejected || rejected;
	return session_plan(s, r, STAGE_RCPT, recipient, q) ? NEXT_ASK : NEXT_CONTINUE;
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
		s->reply = *v->reply;
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
