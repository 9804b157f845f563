/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import_milter_greylist.c - milter-greylist's greylist.conf: its lists, and the access rules that
 * are about one thing.
 *
 * There the first rule that matches decides, and a rule may have many conditions; here the most
 * specific entry does, and has one. What cannot be said that way is noted.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "import.h"
#include "weir/units.h"

/* --- tokens ----------------------------------------------------------------------------------- */

enum token_kind { TOKEN_WORD, TOKEN_QUOTED, TOKEN_REGEX, TOKEN_OPEN, TOKEN_CLOSE };

/* Points into the file's text; the text of a regular expression or a quotation without its ends. */
struct token {
	enum token_kind kind;
	unsigned line;
	size_t len;
	char *text;
};

struct tokens {
	unsigned n, room;
	struct token *list;
};

struct named_list {
	struct token name;
	struct token type; /* addr, rcpt, ... */
	struct tokens items;
	bool used;
};

struct reader {
	const struct import *to;
	char *at;
	unsigned line;
	struct tokens statement;
	struct named_list *lists;
	unsigned nlists;
	bool rcpt_greylists; /* "testmode": a bare rcpt line is about whom to greylist */
	bool ended; /* the default has been said */
	const char *broken; /* why the statement cannot be read to its end */
};

static bool
push(struct tokens *t, const struct token *new)
{
	if (t->n == t->room) {
		unsigned room = t->room != 0 ? 2 * t->room : 64;
		struct token *bigger = reallocarray(t->list, room, sizeof *bigger);

		if (bigger == NULL)
			return false;
		t->list = bigger;
		t->room = room;
	}
	t->list[t->n++] = *new;
	return true;
}

/* Over blanks, comments and continuations. False at the end of the line, or of the file. */
static bool
skip_blanks(struct reader *r, bool in_list)
{
	for (;;) {
		r->at += strspn(r->at, " \t\r\f\v");
		if (*r->at == '#')
			r->at += strcspn(r->at, "\n");
		else if (*r->at == '\\') { /* and all behind it, up to the end of the line */
			r->at += strcspn(r->at, "\n");
			if (*r->at == '\n') {
				r->at++;
				r->line++;
			}
			continue;
		}
		if (*r->at != '\n')
			return *r->at != '\0';
		if (!in_list)
			return false;
		r->at++;
		r->line++;
	}
}

/* From one delimiter to the next one on this line. */
static void
take_enclosed(struct reader *r, struct token *t, enum token_kind kind, const char *ends)
{
	char *end = t->text + 1 + strcspn(t->text + 1, ends);

	t->kind = kind;
	t->text++;
	t->len = (size_t)(end - t->text);
	r->at = *end != '\n' && *end != '\0' ? end + 1 : end;
	if (r->at == end)
		r->broken =
		    kind == TOKEN_QUOTED ? "a quotation mark is missing" : "a slash is missing";
}

static void
take_token(struct reader *r, struct token *t)
{
	*t = (struct token){.kind = TOKEN_WORD, .line = r->line, .text = r->at, .len = 1};
	if (*r->at == '"')
		take_enclosed(r, t, TOKEN_QUOTED, "\"\n");
	else if (*r->at == '/' && (r->at[1] < '0' || r->at[1] > '9'))
		take_enclosed(r, t, TOKEN_REGEX, "/\n");
	else if (*r->at == '{' || *r->at == '}') {
		t->kind = *r->at == '{' ? TOKEN_OPEN : TOKEN_CLOSE;
		r->at++;
	} else {
		t->len = strcspn(r->at, " \t\r\f\v\n{}\"\\");
		r->at += t->len;
	}
}

/* A statement: a line, or more if it is continued or has a list. False at the end of the file. */
static bool
take_statement(struct reader *r)
{
	unsigned depth = 0;
	struct token t;

	r->statement.n = 0;
	r->broken = NULL;
	while (*r->at == '\n' || !skip_blanks(r, false)) {
		if (*r->at == '\0')
			return false;
		r->at++;
		r->line++;
	}
	while (r->broken == NULL && skip_blanks(r, depth > 0)) {
		take_token(r, &t);
		if (t.kind == TOKEN_OPEN)
			depth++;
		else if (t.kind == TOKEN_CLOSE && depth > 0)
			depth--;
		if (!push(&r->statement, &t))
			r->broken = "out of memory";
	}
	if (depth > 0 && r->broken == NULL)
		r->broken = "a '}' is missing";
	if (r->broken != NULL) /* go on with the next line */
		r->at += strcspn(r->at, "\n");
	return true;
}

/* --- words ------------------------------------------------------------------------------------ */

/* Keywords come in any case, and may end in a colon. */
static bool
is_word(const struct token *t, const char *word)
{
	size_t len = strlen(word);

	if (t->kind != TOKEN_WORD || strncasecmp(t->text, word, len) != 0 || t->len < len)
		return false;
	return t->len == len || (t->len == len + 1 && t->text[len] == ':');
}

static bool
is_any(const struct token *t, const char *const *words)
{
	for (; *words != NULL; words++)
		if (is_word(t, *words))
			return true;
	return false;
}

static void
token_text(const struct token *t, char *out, size_t outlen)
{
	snprintf(out, outlen, "%.*s", t->len < outlen ? (int)t->len : (int)outlen - 1, t->text);
}

/* The statement again, on one line, cut. */
static void
note(const struct reader *r, const char *why)
{
	const struct tokens *s = &r->statement;
	char text[128];
	size_t used = 0;

	for (unsigned i = 0; i < s->n && used + 1 < sizeof text; i++) {
		static const char *const around[] = {[TOKEN_QUOTED] = "\"", [TOKEN_REGEX] = "/"};
		enum token_kind kind = s->list[i].kind;
		const char *mark = kind == TOKEN_QUOTED || kind == TOKEN_REGEX ? around[kind] : "";
		int len = s->list[i].len < sizeof text ? (int)s->list[i].len : (int)sizeof text;

		used += (size_t)snprintf(text + used, sizeof text - used, "%s%s%.*s%s",
		    i > 0 ? " " : "", mark, len, s->list[i].text, mark);
	}
	r->to->note(r->to->ctx, s->n > 0 ? s->list[0].line : r->line, text, why);
}

static void
note_token(const struct reader *r, const struct token *t, const char *why)
{
	char text[128];

	token_text(t, text, sizeof text);
	r->to->note(r->to->ctx, t->line, text, why);
}

/* --- one thing that a rule is about ----------------------------------------------------------- */

enum about { ABOUT_ADDR, ABOUT_DOMAIN, ABOUT_FROM, ABOUT_RCPT, ABOUT_NOTHING };

static enum about
about(const struct token *t)
{
	static const struct {
		const char *word;
		enum about about;
	} words[] = {
	    {"addr", ABOUT_ADDR},
	    {"domain", ABOUT_DOMAIN},
	    {"from", ABOUT_FROM},
	    {"rawfrom", ABOUT_FROM},
	    {"rcpt", ABOUT_RCPT},
	};

	for (size_t i = 0; i < sizeof words / sizeof words[0]; i++)
		if (is_word(t, words[i].word))
			return words[i].about;
	return ABOUT_NOTHING;
}

/* The value of a clause, or an item of a list, becomes an entry. mask: "/24" on its own, or NULL. */
static void
take_value(const struct reader *r, enum about what, const struct token *t, const struct token *mask,
    const char *words)
{
	static const enum who_kind kinds[] = {[ABOUT_ADDR] = WHO_NET,
	    [ABOUT_DOMAIN] = WHO_NAME,
	    [ABOUT_FROM] = WHO_SENDER,
	    [ABOUT_RCPT] = WHO_RECIPIENT};
	static const char *const prefixes[] = {
	    [ABOUT_DOMAIN] = "name:", [ABOUT_FROM] = "sender:", [ABOUT_RCPT] = "recipient:"};
	char text[MAILBOX_MAX + 64], why[IMPORT_WHY_MAX] = "not an address";
	struct who who[2];
	unsigned n = 0;

	token_text(t, text, sizeof text);
	if (mask != NULL)
		token_text(mask, text + strlen(text), sizeof text - strlen(text));
	if (what == ABOUT_ADDR)
		n = t->kind == TOKEN_WORD && import_net(text, &who[0]);
	else if (t->kind == TOKEN_REGEX) {
		n = import_regex(text, kinds[what], who);
		snprintf(why, sizeof why, "%s",
		    "a regular expression that is more than a domain or an address");
	} else
		n = import_who(prefixes[what], text, &who[0], why);
	for (unsigned i = 0; i < n; i++)
		r->to->entry(r->to->ctx, t->line, &who[i], words);
	if (n == 0)
		note_token(r, t, why);
}

static bool
is_mask(const struct token *t)
{
	return t->kind == TOKEN_WORD && t->text[0] == '/';
}

static void
take_list(struct reader *r, const struct token *name, enum about *what, struct named_list **out)
{
	*out = NULL;
	*what = ABOUT_NOTHING;
	for (unsigned i = 0; i < r->nlists; i++) {
		struct named_list *l = &r->lists[i];

		if (l->name.len == name->len && memcmp(l->name.text, name->text, name->len) == 0) {
			l->used = true;
			*out = l;
			*what = about(&l->type);
		}
	}
}

static void
take_items(const struct reader *r, const struct named_list *l, enum about what, const char *words)
{
	const struct tokens *items = &l->items;

	for (unsigned i = 0; i < items->n; i++) {
		bool mask = i + 1 < items->n && is_mask(&items->list[i + 1]);

		take_value(r, what, &items->list[i], mask ? &items->list[i + 1] : NULL, words);
		i += mask;
	}
}

/* --- rules ------------------------------------------------------------------------------------ */

enum rule_action { RULE_WHITELIST, RULE_GREYLIST, RULE_BLACKLIST, RULE_OTHER };

struct rule {
	enum rule_action action;
	unsigned nclauses;
	const struct token *clause; /* the keyword of the last one */
	const struct token *value, *mask;
	const struct token *delay;
	bool left_out; /* something that weir has for all only */
	const char *why; /* it cannot be imported; NULL: it can */
};

/* Reads the words behind the action. */
static void
read_rule(const struct tokens *s, unsigned i, struct rule *rule)
{
	static const char *const negations[] = {"no", "not", "!", NULL};
	static const char *const silent[] = {"nolog", "flushaddr", NULL};
	static const char *const with_value[] = {"autowhite", "code", "ecode", "msg", "report",
	    "addfooter", "subjtag", "maxpeek", "tarpit_scope", NULL};

	for (; i < s->n && rule->why == NULL; i++) {
		const struct token *t = &s->list[i];
		bool more = i + 1 < s->n;

		if (is_any(t, negations) || (t->kind == TOKEN_WORD && t->text[0] == '!'))
			rule->why = "weir's lists cannot say \"not\"";
		else if (about(t) != ABOUT_NOTHING || is_word(t, "list")) {
			if (!more)
				rule->why = "a value is missing";
			rule->nclauses++;
			rule->clause = t;
			rule->value = more ? &s->list[++i] : NULL;
			rule->mask =
			    i + 1 < s->n && is_mask(&s->list[i + 1]) ? &s->list[++i] : NULL;
		} else if (is_word(t, "delay") && more)
			rule->delay = &s->list[++i];
		else if (is_any(t, with_value)) {
			rule->left_out = true;
			i++;
		} else if (is_word(t, "addheader")) {
			rule->left_out = true;
			i++;
			/* and ",1" or ", 1" behind it */
			if (i + 1 < s->n && s->list[i + 1].text[0] == ',')
				i += s->list[i + 1].len == 1 ? 2 : 1;
		} else if (!is_any(t, silent))
			rule->why = "has a condition that weir does not know";
	}
	if (rule->why == NULL && rule->nclauses > 1)
		rule->why = "an entry of weir's lists has one condition";
	if (rule->why == NULL && rule->nclauses == 0)
		rule->why = "has no condition that weir knows";
}

/* The words of weir for it; "" and why if there are none. */
static const char *
rule_words(const struct rule *rule, enum about what, char out[64])
{
	char delay[32];
	int64_t us;

	out[0] = '\0';
	switch (rule->action) {
	case RULE_WHITELIST:
		strcpy(out, IMPORT_NO_GREYLIST);
		return NULL;
	case RULE_BLACKLIST:
		if (what != ABOUT_ADDR)
			return "weir blocks addresses and networks only";
		strcpy(out, "action=block");
		return NULL;
	case RULE_GREYLIST:
		if (what != ABOUT_RCPT)
			return "weir greylists all clients and senders that are not listed";
		strcpy(out, "action=greylist");
		if (rule->delay == NULL)
			return NULL;
		token_text(rule->delay, delay, sizeof delay);
		if (!units_duration(delay, &us) || us < USEC_PER_SEC || us > LIST_DELAY_MAX) {
			out[0] = '\0';
			return "the delay is not from 1s to 4d";
		}
		snprintf(out, 64, "action=greylist delay=%s", delay);
		return NULL;
	case RULE_OTHER:
		break;
	}
	return "decides nothing";
}

/* "racl ... default": what is for all stands in weir.conf. */
static void
take_default(struct reader *r, enum rule_action action, bool more)
{
	r->ended = true;
	if (action == RULE_WHITELIST)
		note(r, "say recipients = listed in the greylist section of weir.conf");
	else if (action == RULE_BLACKLIST)
		note(r, "weir does not refuse everybody");
	else if (more)
		note(r, "say delay, keep and reply in the greylist section of weir.conf");
}

static void
take_rule(struct reader *r)
{
	static const struct {
		const char *word;
		enum rule_action action;
	} actions[] = {{"whitelist", RULE_WHITELIST}, {"greylist", RULE_GREYLIST},
	    {"blacklist", RULE_BLACKLIST}, {"continue", RULE_OTHER}};
	const struct tokens *s = &r->statement;
	struct rule rule = {.action = RULE_OTHER};
	struct named_list *list = NULL;
	enum about what;
	unsigned i = 1;
	char words[64];

	if (i < s->n && s->list[i].kind == TOKEN_QUOTED)
		i++; /* its name */
	if (i < s->n)
		for (size_t k = 0; k < sizeof actions / sizeof actions[0]; k++)
			if (is_word(&s->list[i], actions[k].word))
				rule.action = actions[k].action;
	if (r->ended) {
		note(r, "stands behind the default, where it is never reached");
		return;
	}
	if (rule.action != RULE_OTHER && i + 1 < s->n && is_word(&s->list[i + 1], "default")) {
		take_default(r, rule.action, i + 2 < s->n);
		return;
	}
	if (rule.action == RULE_OTHER)
		rule.why = "decides nothing by itself";
	else
		read_rule(s, i + 1, &rule);
	if (rule.why != NULL) {
		note(r, rule.why);
		return;
	}
	what = about(rule.clause);
	if (is_word(rule.clause, "list")) {
		take_list(r, rule.value, &what, &list);
		if (what == ABOUT_NOTHING) {
			note(r,
			    list == NULL ? "there is no such list"
					 : "it is a list of what weir does not look at");
			return;
		}
	}
	rule.why = rule_words(&rule, what, words);
	if (rule.why != NULL) {
		note(r, rule.why);
		return;
	}
	if (list != NULL)
		take_items(r, list, what, words);
	else
		take_value(r, what, rule.value, rule.mask, words);
	if (rule.left_out)
		note(r, "imported without what weir has for all only: see greylist in weir.conf");
}

/* --- other statements ------------------------------------------------------------------------- */

/* list "NAME" TYPE { ITEM ... } */
static void
take_list_definition(struct reader *r)
{
	struct tokens *s = &r->statement;
	struct named_list l, *bigger;

	if (s->n < 5 || s->list[1].kind != TOKEN_QUOTED || s->list[3].kind != TOKEN_OPEN ||
	    s->list[s->n - 1].kind != TOKEN_CLOSE) {
		note(r, "not a list");
		return;
	}
	bigger = reallocarray(r->lists, r->nlists + 1, sizeof *bigger);
	if (bigger == NULL) {
		note(r, "out of memory");
		return;
	}
	r->lists = bigger;
	l = (struct named_list){.name = s->list[1], .type = s->list[2]};
	for (unsigned i = 4; i + 1 < s->n; i++)
		if (!push(&l.items, &s->list[i]))
			note(r, "out of memory");
	r->lists[r->nlists++] = l;
}

/* "addr 192.0.2.0/24" and the like, from before there were rules: whitelisted. */
static void
take_bare(struct reader *r, enum about what)
{
	const struct tokens *s = &r->statement;
	bool mask = s->n == 3 && is_mask(&s->list[2]);

	if (s->n != 2 && !mask)
		note(r, "not understood");
	else
		take_value(r, what, &s->list[1], mask ? &s->list[2] : NULL,
		    what == ABOUT_RCPT && r->rcpt_greylists ? "action=greylist"
							    : IMPORT_NO_GREYLIST);
}

/* Settings of milter-greylist that have their like in weir.conf. */
static const char *
setting_hint(const struct token *t)
{
	static const struct {
		const char *word, *hint;
	} hints[] = {
	    {"greylist", "say delay in the greylist section of weir.conf"},
	    {"autowhite", "say keep in the greylist section of weir.conf"},
	    {"timeout", "say window in the greylist section of weir.conf"},
	    {"subnetmatch", "say network-v4 in weir.conf"},
	    {"subnetmatch6", "say network-v6 in weir.conf"},
	    {"delayedreject", "say null-sender = accept in the greylist section of weir.conf"},
	    {"ratelimit", "say it as a limit in weir.conf"},
	    {"dacl", "is about the contents of messages, which weir does not look at"},
	};

	for (size_t i = 0; i < sizeof hints / sizeof hints[0]; i++)
		if (is_word(t, hints[i].word))
			return hints[i].hint;
	return "a setting, not a list";
}

static void
take(struct reader *r)
{
	const struct token *first = &r->statement.list[0];
	enum about what = about(first);

	if (r->broken != NULL)
		note(r, r->broken);
	else if (is_word(first, "racl") || is_word(first, "acl"))
		take_rule(r);
	else if (is_word(first, "list"))
		take_list_definition(r);
	else if (what != ABOUT_NOTHING)
		take_bare(r, what);
	else if (is_word(first, "testmode"))
		r->rcpt_greylists = true;
	else if (!is_word(first, "domainexact")) /* that is how weir does it */
		note(r, setting_hint(first));
}

void
import_milter_greylist(const struct import *to, char *text)
{
	struct reader r = {.to = to, .at = text, .line = 1};

	while (take_statement(&r))
		take(&r);
	for (unsigned i = 0; i < r.nlists; i++) {
		if (!r.lists[i].used)
			note_token(&r, &r.lists[i].name, "no rule uses this list");
		free(r.lists[i].items.list);
	}
	free(r.lists);
	free(r.statement.list);
}
