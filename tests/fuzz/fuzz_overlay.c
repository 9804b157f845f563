/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_overlay.c - limits, overrides and lists as a hostile Redis might hold them: what comes
 * out is a ruleset as sound as the file's, and what was not rejected is in force.
 *
 * Input: a byte (whether an entry that is rejected had good words before), then a line an entry:
 * l, o, d or x (limits, overrides, drain, lists), the field, a tab, the value.
 *
 * Covers: policy/overlay.c policy/exceptions.c policy/ruleset.c
 */
#include "check_request.h"
#include "weir/entry.h"
#include "weir/verdict.h"

#define ENTRIES_MAX 64
#define NOW (INT64_C(1800000000) * USEC_PER_SEC)

static struct overlay_entry entries[SECTIONS][ENTRIES_MAX];

struct rejects {
	bool fall_back;
	bool rejected[SECTIONS][ENTRIES_MAX];
	const struct overlay *o;
};

static void
take_entry(struct input *in, struct overlay *o)
{
	uint8_t kind = input_byte(in);
	unsigned s = kind == 'l' ? SECTION_LIMITS
	    : kind == 'o'	 ? SECTION_OVERRIDES
	    : kind == 'd'	 ? SECTION_DRAIN
				 : SECTION_LISTS;
	char *line = input_line(in), *tab = strchr(line, '\t');

	if (o->n[s] < ENTRIES_MAX) {
		struct overlay_entry *e = &entries[s][o->n[s]++];

		e->words = strdup(tab != NULL ? tab + 1 : "");
		if (tab != NULL)
			*tab = '\0';
		e->name = strdup(line);
		o->total[s]++;
		CHECK(e->name != NULL && e->words != NULL);
	}
	free(line);
}

/* Which entry is meant tells its pointer: a name may stand there twice, as it cannot in Redis. */
static const char *
on_reject(void *ctx, enum overlay_section s, const char *name, const char *why)
{
	struct rejects *r = ctx;
	unsigned n = 0;

	CHECK(s < SECTIONS && is_sentence(why, LIMIT_ERR_MAX));
	while (n < r->o->n[s] && entries[s][n].name != name)
		n++;
	CHECK(n < r->o->n[s] && !r->rejected[s][n]);
	r->rejected[s][n] = true;
	return r->fall_back && n > 0 ? entries[s][n - 1].words : NULL;
}

static void
check_limits(const struct ruleset *r)
{
	char err[LIMIT_ERR_MAX];

	CHECK(r->nlimits <= LIMITS_MAX);
	for (unsigned i = 0; i < r->nlimits; i++) {
		struct limit l = r->limits[i];

		CHECK(limit_name_valid(l.name));
		CHECK(ruleset_limit((struct ruleset *)r, l.name) == &r->limits[i]);
		CHECK(limit_finish(&l, err, sizeof err));
		CHECK(memcmp(&l, &r->limits[i], sizeof l) == 0);
	}
}

static void
check_plan(const struct ruleset *r, const struct addr *client, const char *user)
{
	static const enum stage stages[] = {STAGE_CONNECT, STAGE_RCPT, STAGE_EOM};
	struct facts f = {.client = *client,
	    .name = "",
	    .bytes = 100,
	    .user = user,
	    .helo = "mail.example",
	    .sender = "a@example.com",
	    .recipient = "b@example.net"};

	for (int i = 0; i < 3; i++) {
		struct answer a = {.now_us = NOW};
		struct request q;
		struct verdict v;

		f.stage = stages[i];
		if (plan_request(r, &f, &q))
			check_request(&f, &q);
		for (unsigned h = 0; h < q.nhits; h++)
			a.hits[h].over = true;
		v = judge(r, &f, &q, &a);
		CHECK((v.action == DO_ACCEPT) == (v.reply == NULL));
		CHECK(v.reply == NULL || reply_closes(v.reply) == (v.action == DO_REFUSE));
	}
	(void)plan_steps(r);
	(void)plan_done(r, &f);
}

/* A client, or an envelope, that the entry is about. mailbox: room for an address. */
static struct facts
facts_of(const struct who *w, char mailbox[WHO_TEXT_MAX + 16])
{
	struct facts f = {.stage = STAGE_RCPT,
	    .name = "",
	    .user = "",
	    .helo = "",
	    .sender = "a@example.com",
	    .recipient = "b@example.net"};
	/* "LOCAL@", "@DOMAIN" and "@.DOMAIN" stand for more than one */
	size_t len = strlen(w->text);
	bool at_front = w->text[0] == '@', at_end = len > 0 && w->text[len - 1] == '@';

	CHECK(addr_parse("203.0.113.99", &f.client));
	snprintf(mailbox, WHO_TEXT_MAX + 16, "%s%s%s",
	    at_front ? (w->text[1] == '.' ? "a@b" : "a") : "",
	    w->text + (at_front && w->text[1] == '.'), at_end ? "example.com" : "");
	switch (w->kind) {
	case WHO_NET:
		f.client = w->net.base;
		break;
	case WHO_USER:
		f.user = w->text;
		break;
	case WHO_NAME:
		f.name = w->text;
		break;
	case WHO_SENDER:
		f.sender = strcmp(w->text, "<>") == 0 || w->text[0] == '\0' ? "" : mailbox;
		break;
	case WHO_RECIPIENT:
		f.recipient = mailbox;
		break;
	case WHO_KINDS:
		CHECK(false);
	}
	return f;
}

static void
check_listed(const struct ruleset *r, const struct who *w, const struct facts *f, const char *words)
{
	char err[LIMIT_ERR_MAX];
	struct listing l;

	listing_init(&l);
	CHECK(listing_parse(words, w, &l, err, sizeof err));
	CHECK(exceptions_count(r->exceptions) > 0);
	if (l.action == LIST_EXEMPT || l.action == LIST_BLOCK)
		CHECK(exceptions_listed(r->exceptions, &f->client, f->user, f->name) != LISTED_NOT);
	if (l.action == LIST_TRAP)
		CHECK(exceptions_about_traps(r->exceptions));
}

/* An entry that was taken is found by whom it is about. */
static void
check_entry(
    const struct ruleset *r, enum overlay_section s, const struct overlay_entry *e, bool rejected)
{
	char words[ENTRY_WORDS_MAX + 1], err[LIMIT_ERR_MAX], text[WHO_TEXT_MAX], back[WHO_TEXT_MAX];
	const char *blank = strrchr(e->name, ' ');
	char mailbox[WHO_TEXT_MAX + 16];
	struct entry_meta meta;
	struct who who, again;
	struct facts f;

	if (!entry_split(e->words, &meta, words, err, sizeof err)) {
		CHECK(rejected);
		return;
	}
	if (!ruleset_check_entry(r, s, e->name, words, err, sizeof err))
		CHECK(is_sentence(err, sizeof err));
	if (rejected || meta.until_us <= NOW)
		return;
	CHECK(r->valid_until_us <= meta.until_us);
	if (s == SECTION_LIMITS) {
		struct limit *l;

		snprintf(text, sizeof text, "%.*s", (int)strcspn(e->name, ":"), e->name);
		l = ruleset_limit((struct ruleset *)r, text);
		CHECK(l != NULL);
		return;
	}
	if (s == SECTION_DRAIN) {
		if (drain_concerns(e->name, r->node))
			CHECK(r->drain_until_us >= meta.until_us);
		return;
	}
	snprintf(text, sizeof text, "%.*s",
	    (int)(s == SECTION_OVERRIDES ? blank - e->name : (long)strlen(e->name)), e->name);
	CHECK(who_parse(text, &who, err, sizeof err));
	CHECK(who_parse(who_format(&who, back), &again, err, sizeof err));
	CHECK(memcmp(&who, &again, sizeof who) == 0);
	f = facts_of(&who, mailbox);
	CHECK(who_matches(&again, &f));
	if (s == SECTION_LISTS)
		check_listed(r, &who, &f, words);
	else {
		const struct limit *l = ruleset_limit((struct ruleset *)r, blank + 1);
		const struct limit *other = exceptions_limit(r->exceptions, l, &f.client, f.user);

		CHECK(other != l && strcmp(other->name, l->name) == 0);
		CHECK(other->count == l->count && other->per == l->per);
	}
	check_plan(r, &f.client, f.user);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct overlay o = {.generation = "7", .format = OVERLAY_FORMAT};
	struct rejects rejects = {.fall_back = (input_byte(&in) & 1) != 0, .o = &o};
	struct ruleset base, out;
	char err[LIMIT_ERR_MAX];
	struct addr client;

	ruleset_defaults(&base);
	base.greylist.enabled = true;
	strcpy(base.node, "mx1.0123abcd");
	CHECK(ruleset_finish(&base, err, sizeof err));
	for (unsigned s = 0; s < SECTIONS; s++)
		o.entries[s] = entries[s];
	while (input_left(&in))
		take_entry(&in, &o);
	CHECK(ruleset_overlay(&base, &o, NOW, &out, on_reject, &rejects));
	CHECK(strcmp(out.generation, "7") == 0);
	CHECK(out.valid_until_us > NOW);
	check_limits(&out);
	CHECK(addr_parse("192.0.2.1", &client));
	check_plan(&out, &client, "ann");
	for (unsigned s = 0; s < SECTIONS; s++)
		for (unsigned i = 0; i < o.n[s]; i++)
			check_entry(
			    &out, (enum overlay_section)s, &entries[s][i], rejects.rejected[s][i]);
	ruleset_deinit(&out);
	for (unsigned s = 0; s < SECTIONS; s++)
		for (unsigned i = 0; i < o.n[s]; i++) {
			free((char *)entries[s][i].name);
			free((char *)entries[s][i].words);
		}
	return 0;
}
