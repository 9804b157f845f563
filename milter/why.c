/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * why.c - see why.h.
 */
#include <string.h>

#include "clock.h"
#include "log.h"
#include "why.h"

static const struct {
	const char *name;
	enum stage stage;
	bool message_counted;
} steps[] = {
    {"connection", STAGE_CONNECT, false},
    {"message", STAGE_RCPT, false},
    {"recipient", STAGE_RCPT, true},
};

/* What a person wants to see of a key: the part behind the tag, or the tag if there is no other. */
static void
key_text(const char *key, char out[RECORD_KEY_MAX])
{
	const char *end = strchr(key, '}');

	if (end != NULL && end[1] == ':')
		snprintf(out, RECORD_KEY_MAX, "%s", end + 2);
	else if (end != NULL && key[0] == '{')
		snprintf(out, RECORD_KEY_MAX, "%.*s", (int)(end - key - 1), key + 1);
	else
		snprintf(out, RECORD_KEY_MAX, "%s", key);
}

static bool
told_before(const struct why *w, const struct hit *h, const char *who)
{
	for (unsigned i = 0; i < w->ncounters; i++)
		if (w->counters[i].limit == h->limit && strcmp(w->counters[i].who, who) == 0)
			return true;
	return false;
}

static void
add_counter(struct why *w, const struct request *q, const struct answer *a, unsigned i)
{
	const struct hit *h = &q->hits[i];
	const struct record *rec = &q->records[h->record];
	struct why_counter *to = &w->counters[w->ncounters];
	int64_t used = a->hits[i].used - h->cost * MICRO; /* nothing is charged */
	char who[RECORD_KEY_MAX];

	key_text(rec->key, who);
	/* whose sender, recipient or user it would be nobody has said */
	if (w->ncounters == WHY_COUNTERS_MAX || a->hits[i].skipped ||
	    !(limit_per_is_client(rec->kind) || rec->kind == PER_ALL) || told_before(w, h, who))
		return;
	to->limit = h->limit;
	to->kind = rec->kind;
	strcpy(to->who, who);
	to->used = used > 0 ? (double)used / (double)MICRO : 0;
	to->of = hit_ceiling(h);
	to->over = a->hits[i].over;
	to->wait_us = a->hits[i].wait_us;
	w->ncounters++;
}

void
why_client(struct show *s, const struct ruleset *r, const struct addr *client, const char *name,
    struct why *out)
{
	memset(out, 0, sizeof *out);
	for (size_t i = 0; i < sizeof steps / sizeof steps[0]; i++) {
		const struct facts f = {.stage = steps[i].stage,
		    .client = *client,
		    .name = name,
		    .level = zone_load_level(s->zone, clock_mono_us()),
		    .user = "",
		    .drain = zone_drain_until(s->zone) > clock_real_us(),
		    .message_counted = steps[i].message_counted,
		    /* it hangs on sender and recipient */
		    .greylist_done = true,
		    .helo = "",
		    .sender = "",
		    .recipient = ""};
		struct request q;
		struct answer a;
		bool asked = plan_request(r, &f, &q), answered = asked && show_ask(s, &q, &a);

		out->steps[out->nsteps].name = steps[i].name;
		out->steps[out->nsteps++].verdict =
		    judge(r, &f, asked ? &q : NULL, answered ? &a : NULL);
		out->answered = out->answered || answered || !asked;
		if (!answered)
			continue;
		out->source = a.source;
		out->known_asked = out->known_asked || q.pool.asked;
		out->known = out->known || a.known;
		for (unsigned k = 0; k < q.nhits; k++)
			add_counter(out, &q, &a, k);
	}
}

static json_int_t
seconds(int64_t us)
{
	return (us + USEC_PER_SEC - 1) / USEC_PER_SEC;
}

static json_t *
step_json(const char *name, const struct verdict *v)
{
	return json_pack("{ss ss ss ss sI sb ss}", "step", name, "action", action_name(v->action),
	    "reason", reason_name(v->reason), "limit", v->limit != NULL ? v->limit->name : "",
	    "retry_seconds", seconds(v->retry_us), "enforced", v->enforced, "reply",
	    v->reply != NULL ? v->reply->code : "");
}

static json_t *
counter_json(const struct why_counter *c)
{
	char figures[LIMIT_FIGURES_MAX], who[RECORD_KEY_MAX];

	return json_pack("{ss ss ss ss ss ss sf sI sb sI}", "limit", c->limit->name, "count",
	    limit_count_name(c->limit->count), "per", limit_per_name(c->kind), "figures",
	    limit_figures(c->limit, 1, figures), "action", limit_action_name(c->limit->action),
	    "who", log_escape(c->who, who, sizeof who), "used", c->used, "of", (json_int_t)c->of,
	    "over", c->over, "wait_seconds", seconds(c->wait_us));
}

json_t *
why_json(const struct why *w)
{
	json_t *counters = json_array(), *next = json_array();

	for (unsigned i = 0; i < w->nsteps; i++)
		json_array_append_new(next, step_json(w->steps[i].name, &w->steps[i].verdict));
	for (unsigned i = 0; i < w->ncounters; i++)
		json_array_append_new(counters, counter_json(&w->counters[i]));
	return json_pack("{sb ss so so so}", "answered", w->answered, "source",
	    answer_source_name(w->source), "known",
	    w->known_asked ? json_boolean(w->known) : json_null(), "next", next, "counters",
	    counters);
}
