/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * decision_log.c - see decision_log.h.
 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "weir/units.h"
#include "decision_log.h"
#include "log.h"

struct text {
	size_t used;
	char s[LOG_LINE_MAX];
};

static void append(struct text *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

static void
append(struct text *t, const char *fmt, ...)
{
	size_t room = sizeof t->s - t->used;
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = vsnprintf(t->s + t->used, room, fmt, ap);
	va_end(ap);
	if (len > 0)
		t->used += (size_t)len < room ? (size_t)len : room - 1;
}

static void
append_value(struct text *t, const char *key, const char *value)
{
	char safe[LOG_VALUE_MAX];

	append(t, " %s=%s", key, log_escape(value, safe, sizeof safe));
}

/* The pool, where it took part: "{mail.example}" is mail.example, a network stands after its
 * tag if it is not the tag. */
static void
append_pool(struct text *t, const struct request *q)
{
	for (unsigned i = 0; q != NULL && i < q->nrecords; i++) {
		const char *key = q->records[i].key, *end = strchr(key, '}');

		if (q->records[i].kind != PER_POOL || end == NULL)
			continue;
		if (end[1] == ':')
			append(t, " pool=%s", end + 2);
		else
			append(t, " pool=%.*s", (int)(end - key - 1), key + 1);
	}
}

/* Who it is about: the same for all that one client does in one transaction. */
static void
append_who(struct text *t, const struct session *s, enum stage stage, const char *recipient,
    const struct request *q)
{
	char client[NET_TEXT_MAX];

	append(t, " client=%s", addr_format(&s->client, client));
	append_value(t, "name", session_text(s->name));
	append_pool(t, q);
	if (stage == STAGE_CONNECT || stage == STAGE_HELO)
		return;
	append(t, " from=<");
	{
		char safe[LOG_VALUE_MAX];

		append(t, "%s>", log_escape(session_text(s->sender), safe, sizeof safe));
	}
	if (stage == STAGE_RCPT)
		append_value(t, "to", recipient);
}

static void
append_figures(struct text *t, const struct session *s, const struct verdict *v)
{
	if (v->limit != NULL)
		append(t, " used=%lld of=%lld", (long long)v->used, (long long)v->of);
	if (v->retry_us > 0)
		append(t, " retry=%llds",
		    (long long)((v->retry_us + USEC_PER_SEC - 1) / USEC_PER_SEC));
	append(t, " session=%s", s->id);
}

static void
write_line(const struct session *s, enum stage stage, const char *recipient,
    const struct request *q, const char *action, const struct verdict *v)
{
	struct text what = {.used = 0}, rest = {.used = 0};
	char id[SESSION_QUEUE_MAX * 4 + 1];

	append(&what, "action=%s", action);
	if (v->reply != NULL)
		append(&what, " code=%s", v->reply->code);
	append(&what, " stage=%s reason=%s", stage_name(stage), reason_name(v->reason));
	if (v->reason == REASON_LOAD)
		append(&what, " level=%u", v->level);
	if (v->limit != NULL)
		append(&what, " limit=%s", v->limit->name);
	if (v->grey != GREY_NONE)
		append(&what, " grey=%s", grey_state_name(v->grey));
	append_who(&what, s, stage, recipient, q);
	if (!v->enforced)
		append(&what, " mode=observe");
	if (v->source != ANSWER_STORE)
		append(&what, " source=%s", answer_source_name(v->source));
	append_figures(&rest, s, v);
	log_escape(s->queue_id != NULL ? s->queue_id : "NOQUEUE", id, sizeof id);
	if (v->action == DO_ACCEPT && v->limit == NULL)
		log_line(LOG_INFO, "%s: %s%s", id, what.s, rest.s);
	else
		log_folded(id, what.s, rest.s);
}

void
decision_log(const struct session *s, enum stage stage, const char *recipient,
    const struct request *q, const struct answer *a, const struct verdict *v)
{
	for (unsigned i = 0; v->noted != 0 && i < q->nhits; i++) {
		struct verdict noted = {.enforced = true, .source = v->source};

		if ((v->noted & (UINT64_C(1) << i)) == 0)
			continue;
		judge_figures(&q->hits[i], &a->hits[i], &noted);
		write_line(s, stage, recipient, q, limit_action_name(ACTION_LOG), &noted);
	}
	if (v->action != DO_ACCEPT || log_verbose())
		write_line(s, stage, recipient, q, action_name(v->action), v);
}
