/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * rules.c - what is in force: the same store and the same overlay that weir-milter uses.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "weir/units.h"
#include "ctl.h"

/* A person can wait longer than an MTA. */
#define STORE_TIMEOUT_US (900 * USEC_PER_MSEC)

json_t *
ctl_history(struct ctl *c, int newest)
{
	char key[CTL_KEY_MAX];
	redisReply *r = ctl_lookf(
	    c, "LRANGE %s 0 %d", ctl_key(c, "history", key), newest > 0 ? newest - 1 : -1);
	json_t *history = json_array();

	if (r == NULL)
		ctl_wrong_key(key);
	for (size_t i = 0; r->type == REDIS_REPLY_ARRAY && i < r->elements; i++) {
		json_t *entry = json_loads(r->element[i]->str, 0, NULL);

		/* what somebody else pushed there is not ours to show */
		if (json_is_object(entry))
			json_array_append(history, entry);
		json_decref(entry);
	}
	freeReplyObject(r);
	return history;
}

struct rejecting {
	struct ctl *c;
	struct rules *rules;
};

/* Of the history "SECTION FIELD" -> the words that the newest change made of it. */
static json_t *
last_words(struct ctl *c)
{
	json_t *history = ctl_history(c, 0), *out = json_object(), *entry, *change;
	char key[ENTRY_WORDS_MAX + 32];
	size_t i, k;

	json_array_foreach(history, i, entry)
	{
		json_array_foreach(json_object_get(entry, "changes"), k, change)
		{
			snprintf(key, sizeof key, "%s %s", out_text(change, "section"),
			    out_text(change, "field"));
			if (json_object_get(out, key) == NULL)
				json_object_set(out, key, json_object_get(change, "new"));
		}
	}
	json_decref(history);
	return out;
}

/* What weirctl last wrote there, if nothing has taken it away since: a weir-milter that saw it
 * goes on with it. Those that started later, or never saw it, have the layer below. */
static const char *
words_before(struct rejecting *k, enum overlay_section s, const char *name)
{
	char key[ENTRY_WORDS_MAX + 32];
	const char *words;

	if (k->rules->before == NULL)
		k->rules->before = last_words(k->c);
	snprintf(key, sizeof key, "%s %s", section_name(s), name);
	words = out_text(k->rules->before, key);
	return words[0] != '\0' ? words : NULL;
}

static const char *
on_reject(void *ctx, enum overlay_section s, const char *name, const char *why)
{
	struct rejecting *k = ctx;
	char safe[256];

	json_array_append_new(k->rules->ignored,
	    json_pack("{ss ss ss}", "section", section_name(s), "name",
		out_safe(name, sizeof safe - 1, safe, sizeof safe), "why", why));
	return words_before(k, s, name);
}

static void
on_notice(void *ctx, int priority, const char *line)
{
	(void)ctx;
	(void)priority;
	fprintf(stderr, "weirctl: %s\n", line);
}

/* What is wrong with all of a section. */
static void
add_whole(struct rules *r, enum overlay_section s)
{
	char why[96];

	if (r->overlay.total[s] < 0)
		snprintf(why, sizeof why, "the key is no hash: delete it");
	else if (r->overlay.total[s] > r->overlay.n[s])
		snprintf(why, sizeof why, "%lld entries are too many: only the first %u count",
		    (long long)r->overlay.total[s], r->overlay.n[s]);
	else
		return;
	json_array_append_new(r->ignored,
	    json_pack("{ss ss ss}", "section", section_name(s), "name", "", "why", why));
}

void
rules_load(struct ctl *c, struct rules *r)
{
	static bool said;
	struct rejecting k = {.c = c, .rules = r};
	struct redis_options o = c->conf.redis;
	redisReply *hello;

	memset(r, 0, sizeof *r);
	/* our own connection first: it knows how to say what is wrong */
	hello = ctl_callf(c, "PING");
	freeReplyObject(hello);
	o.timeout_us = STORE_TIMEOUT_US;
	r->zone = zone_new(ZONE_SIZE_MIN, 1);
	if (r->zone != NULL)
		r->store = redis_store_open(&o, r->zone, 0, "weirctl", on_notice, NULL);
	if (r->store == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	if (store_load(r->store, 0, NULL, &r->overlay) != STORE_OK)
		ctl_die(CTL_REFUSED, "the limits in redis cannot be read");
	r->ignored = json_array();
	if (!ruleset_overlay(&c->conf.rules, &r->overlay, clock_real_us(), &r->set, on_reject, &k))
		ctl_die(CTL_REFUSED, "out of memory");
	for (int s = 0; s < SECTIONS; s++)
		add_whole(r, (enum overlay_section)s);
	if (r->overlay.format > OVERLAY_FORMAT && !said)
		fprintf(stderr,
		    "weirctl: warning: redis holds format %lld of a newer weir; this "
		    "one knows %d and keeps to the file\n",
		    (long long)r->overlay.format, OVERLAY_FORMAT);
	said = r->overlay.format > OVERLAY_FORMAT;
}

void
rules_load_or_file(struct ctl *c, struct rules *r)
{
	char why[256];

	if (c->conf.use_redis && ctl_redis_answers(c, why, sizeof why)) {
		rules_load(c, r);
		return;
	}
	if (c->conf.use_redis)
		fprintf(stderr, "weirctl: note: %s; these are the limits of the file\n", why);
	memset(r, 0, sizeof *r);
	r->set = c->conf.rules;
	r->ignored = json_array();
}

void
rules_free(struct rules *r)
{
	store_close(&r->store);
	zone_free(&r->zone);
	overlay_free(&r->overlay);
	ruleset_deinit(&r->set);
	json_decref(r->ignored);
	json_decref(r->before);
}

const char *
rules_words(const struct rules *r, enum overlay_section s, const char *name)
{
	return overlay_words(&r->overlay, s, name);
}
