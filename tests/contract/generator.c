/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * generator.c - see generator.h.
 */
#include <libpsl.h>
#include <stdlib.h>
#include <string.h>

#include "conf_words.h"
#include "generator.h"
#include "weir/units.h"

#define TRIES_MAX 100000

/* --- chance --------------------------------------------------------------------------------- */

/* SplitMix64. */
uint64_t
rng_next(struct rng *r)
{
	uint64_t z = r->state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

unsigned
rng_below(struct rng *r, unsigned n)
{
	return (unsigned)(rng_next(r) >> 32) % n;
}

bool
rng_percent(struct rng *r, unsigned percent)
{
	return rng_below(r, 100) < percent;
}

struct rng
rng_of(uint64_t seed, uint64_t n)
{
	struct rng r = {seed};

	r.state = rng_next(&r) ^ n;
	(void)rng_next(&r);
	return r;
}

/* --- the words ------------------------------------------------------------------------------ */

#define VALUES_MAX 12

struct word {
	const char *key;
	unsigned percent; /* how often it is said */
	const char *values[VALUES_MAX];
};

/* Figures are small, so that limits are reached, and some do not divide evenly. */
static const struct word limit_words_table[] = {
    {"count", 100,
	{"connections", "sessions", "messages", "recipients", "rejected-recipients", "bytes"}},
    {"per", 80,
	{"address", "network", "pool", "all", "user", "sender", "sender-domain", "recipient",
	    "recipient-domain", "helo"}},
    {"rate", 70, {"1/1s", "3/10s", "60/1m", "7/11m", "100/1h", "2/1d", "5k/1h"}},
    {"burst", 50, {"1", "2", "3", "5", "7", "10k"}},
    {"quota", 30, {"1/10s", "3/1m", "5/1h", "20/1m", "45/1h", "7/1d", "10k/1h"}},
    {"max", 30, {"1", "2", "3"}},
    {"for", 40,
	{"everyone", "strangers", "known", "authenticated", "\"192.0.2.0/24 2001:db8::/32\""}},
    {"ladder", 25, {"\"/56*2 /48*4\"", "/48*3", "\"/32*2\""}},
    {"action", 60, {"refuse", "defer", "log", "log"}},
    {"strict", 30, {"yes", "no"}},
    {NULL, 0, {NULL}},
};

/* What an override, or a change while mail flows, may say anew. */
static const char *const changeable[] = {"rate", "burst", "quota", "max", "action", "strict", NULL};

/* Of weir.conf. */
static const struct setting {
	const char *section;
	struct word word;
} settings[] = {
    {"", {"mode", 15, {"observe"}}},
    {"", {"address-v6", 15, {"128", "56"}}},
    {"", {"network-v4", 15, {"32", "16"}}},
    {"", {"network-v6", 15, {"48", "56"}}},
    {"", {"recipient-delimiter", 15, {"+"}}},
    {"", {"unwrap-senders", 15, {"true"}}},
    {"", {"trap-block", 15, {"1m", "1d"}}},
    {"greylist", {"enabled", 50, {"true"}}},
    {"greylist", {"delay", 50, {"1s", "1m", "1h"}}},
    {"greylist", {"window", 30, {"2h", "3d"}}},
    {"greylist", {"keep", 30, {"4d", "70d"}}},
    {"greylist", {"correspondents", 40, {"true"}}},
    {"greylist", {"embargo", 40, {"1/1h", "2/1m", "off"}}},
    {"known", {"messages", 70, {"0", "2", "2", "3"}}},
    {"known", {"over", 70, {"1s", "1s", "1m", "1h", "1d"}}},
    {"known", {"keep", 40, {"2d", "20d"}}},
    {"known", {"learn", 40, {"true"}}},
};
#define NSETTINGS (sizeof settings / sizeof settings[0])
_Static_assert(NSETTINGS <= RULES_SETTINGS_MAX, "they all fit");

static const char *
value_of(struct rng *r, const struct word *w)
{
	unsigned n = 0;

	while (n < VALUES_MAX && w->values[n] != NULL)
		n++;
	return w->values[rng_below(r, n)];
}

static void
add_word(char text[RULES_TEXT_MAX], const char *key, const char *value)
{
	size_t n = strlen(text);

	snprintf(text + n, RULES_TEXT_MAX - n, "%s%s=%s", n > 0 ? " " : "", key, value);
}

/* The first word is given: what is seldom sound shall not be seldom tried. */
static void
any_words(struct rng *r, const char *first, char text[RULES_TEXT_MAX])
{
	text[0] = '\0';
	add_word(text, limit_words_table[0].key, first);
	for (const struct word *w = limit_words_table + 1; w->key != NULL; w++)
		if (rng_percent(r, w->percent))
			add_word(text, w->key, value_of(r, w));
}

static void
other_words(struct rng *r, char text[RULES_TEXT_MAX])
{
	text[0] = '\0';
	for (const struct word *w = limit_words_table; w->key != NULL; w++)
		for (size_t i = 0; changeable[i] != NULL; i++)
			if (strcmp(changeable[i], w->key) == 0 && rng_percent(r, 35))
				add_word(text, w->key, value_of(r, w));
}

/* --- what they make ------------------------------------------------------------------------- */

/* The words of settings[], found once. */
static const struct conf_word *
setting_word(unsigned i)
{
	static const struct conf_word *found[NSETTINGS];

	if (found[i] == NULL)
		for (const struct conf_word *w = conf_words; w->name != NULL; w++)
			if (strcmp(w->section, settings[i].section) == 0 &&
			    strcmp(w->name, settings[i].word.key) == 0)
				found[i] = w;
	if (found[i] == NULL) {
		fprintf(stderr, "generator: no word %s\n", settings[i].word.key);
		exit(99);
	}
	return found[i];
}

static const psl_ctx_t *
public_suffixes(void)
{
	static psl_ctx_t *psl;

	if (psl == NULL)
		psl = psl_latest(NULL);
	return psl;
}

/* The file's layer, without limits. */
static bool
build_settings(const struct rules *rules, struct ruleset *out)
{
	static struct conf c;
	char err[256];

	if (c.exempt == NULL)
		conf_defaults(&c);
	ruleset_defaults(&c.rules);
	c.rules.nlimits = 0;
	c.rules.psl = public_suffixes();
	strcpy(c.rules.generation, "0");
	for (unsigned i = 0; i < rules->nsettings; i++)
		if (!conf_word_set(&c, setting_word(rules->settings[i].word), NULL,
			rules->settings[i].value, err, sizeof err))
			return false;
	*out = c.rules;
	return ruleset_finish(out, err, sizeof err);
}

static bool
build_limit(const char *name, const char *words, struct ruleset *out)
{
	char err[LIMIT_ERR_MAX];
	struct limit l;

	limit_init(&l, name);
	if (!limit_set_words(&l, words, err, sizeof err) || !limit_finish(&l, err, sizeof err) ||
	    !ruleset_ladders_fit(out, &l))
		return false;
	*ruleset_limit_add(out, name) = l;
	return true;
}

static bool
build_file(const struct rules *rules, struct ruleset *out)
{
	bool ok = build_settings(rules, out);

	for (unsigned i = 0; ok && i < rules->nlimits; i++)
		ok = rules->off[i] ||
		    build_limit(rules->limits[i].name, rules->limits[i].words, out);
	return ok;
}

static const char *
reject(void *ctx, enum overlay_section s, const char *name, const char *why)
{
	bool *rejected = ctx;

	(void)s;
	(void)name;
	(void)why;
	*rejected = true;
	return NULL;
}

/* True when every entry is sound. An entry about a limit that is left out is not, but harmless. */
static bool
build_overlay(
    const struct rules *rules, const struct ruleset *file, bool changes, struct ruleset *out)
{
	struct overlay_entry entries[SECTIONS][RULES_ENTRIES_MAX];
	struct overlay o = {.generation = "0", .format = OVERLAY_FORMAT};
	bool rejected = false;

	for (unsigned s = 0; s < SECTIONS; s++) {
		o.entries[s] = entries[s];
		for (unsigned i = 0; i < rules->nentries[s]; i++) {
			if (s == SECTION_LIMITS && !changes)
				break;
			entries[s][i].name = rules->entries[s][i].name;
			entries[s][i].words = rules->entries[s][i].words;
			o.total[s] = ++o.n[s];
		}
	}
	if (!ruleset_overlay(file, &o, 0, out, reject, &rejected))
		exit(99);
	return !rejected;
}

void
rules_build(const struct rules *rules, struct ruleset *now, struct ruleset *later)
{
	struct ruleset file;

	if (!build_file(rules, &file)) {
		fprintf(stderr, "generator: unsound rules\n");
		rules_print(rules, stderr);
		exit(99);
	}
	(void)build_overlay(rules, &file, false, now);
	(void)build_overlay(rules, &file, true, later);
}

/* --- making --------------------------------------------------------------------------------- */

static void
make_settings(struct rng *r, struct rules *out)
{
	out->nsettings = 0;
	for (unsigned i = 0; i < NSETTINGS; i++)
		if (rng_percent(r, settings[i].word.percent)) {
			out->settings[out->nsettings].word = i;
			out->settings[out->nsettings++].value = value_of(r, &settings[i].word);
		}
}

static void
make_limit(struct rng *r, struct rules *out, struct ruleset *file)
{
	const char *count = value_of(r, &limit_words_table[0]);
	unsigned n = out->nlimits++, tries = 0;

	/* one letter, so that a field of Redis holds little else */
	sprintf(out->limits[n].name, "%c", 'a' + (int)n);
	do {
		if (++tries == TRIES_MAX) {
			fprintf(stderr, "generator: no sound limit of %s found\n", count);
			exit(99);
		}
		any_words(r, count, out->limits[n].words);
	} while (!build_limit(out->limits[n].name, out->limits[n].words, file));
}

static void
make_file(struct rng *r, struct rules *out, struct ruleset *file)
{
	unsigned n = 1 + rng_below(r, RULES_LIMITS_MAX);

	do
		make_settings(r, out);
	while (!build_settings(out, file));
	while (out->nlimits < n)
		make_limit(r, out, file);
}

static const char *const whos[] = {
    "192.0.2.7", "192.0.2.0/24", "2001:db8:1::/48", "user:ann", "0.0.0.0/0", NULL};

/* Adds one entry, unless it is unsound. */
static void
make_entry(struct rng *r, struct rules *out, const struct ruleset *file, enum overlay_section s)
{
	unsigned limit = rng_below(r, out->nlimits);
	char name[LIMIT_NAME_MAX + 1];
	const char *who = whos[rng_below(r, sizeof whos / sizeof whos[0] - 1)];
	unsigned n = out->nentries[s]++;
	struct ruleset built;

	strcpy(name, out->limits[limit].name);
	if (s == SECTION_LISTS) {
		strcpy(out->entries[s][n].name, who);
		strcpy(out->entries[s][n].words,
		    rng_percent(r, 70) ? "action=exempt" : "action=block");
	} else {
		sprintf(out->entries[s][n].name, "%s%s%s", s == SECTION_LIMITS ? "" : who,
		    s == SECTION_LIMITS ? "" : " ", name);
		other_words(r, out->entries[s][n].words);
	}
	/* a hash holds a name once */
	for (unsigned i = 0; i < n; i++)
		if (strcmp(out->entries[s][i].name, out->entries[s][n].name) == 0)
			out->nentries[s] = n;
	if (!build_overlay(out, file, true, &built))
		out->nentries[s] = n;
	ruleset_deinit(&built);
}

void
rules_make(struct rng *r, bool changes, struct rules *out)
{
	struct ruleset file;

	memset(out, 0, sizeof *out);
	make_file(r, out, &file);
	for (unsigned i = 0; changes && i < RULES_ENTRIES_MAX; i++)
		make_entry(r, out, &file, SECTION_LIMITS);
	for (unsigned i = 0; i < RULES_ENTRIES_MAX; i++) {
		if (rng_percent(r, 15))
			make_entry(r, out, &file, SECTION_OVERRIDES);
		if (rng_percent(r, 3))
			make_entry(r, out, &file, SECTION_LISTS);
	}
}

void
rules_print(const struct rules *rules, FILE *out)
{
	for (unsigned i = 0; i < rules->nsettings; i++)
		fprintf(out, "  %s %s = %s\n", settings[rules->settings[i].word].section,
		    settings[rules->settings[i].word].word.key, rules->settings[i].value);
	for (unsigned i = 0; i < rules->nlimits; i++)
		if (!rules->off[i])
			fprintf(
			    out, "  limit %s: %s\n", rules->limits[i].name, rules->limits[i].words);
	for (unsigned s = 0; s < SECTIONS; s++)
		for (unsigned i = 0; i < rules->nentries[s]; i++)
			fprintf(out, "  %s %s: %s\n", section_name((enum overlay_section)s),
			    rules->entries[s][i].name, rules->entries[s][i].words);
}

/* --- questions ------------------------------------------------------------------------------ */

static const char *const clients[] = {"192.0.2.7", "2001:db8:1:2::1", "192.0.2.8",
    "2001:db8:1:3::1", "192.0.3.9", "2001:db8:1:2::2", "198.51.100.1", "2001:db8:2::1"};
static const char *const names[] = {
    "", "mx1.example.org", "mx2.example.org", "mail.example.net", "dip0-192-0-2-7.dyn.example.com"};
static const char *const users[] = {"", "ann", "", "", "bob"};
static const char *const helos[] = {"mx1.example.org", "", "localhost"};
static const char *const senders[] = {"a@client.test", "b@client.test", "", "a+x@client.test",
    "u1@example.test", "prvs=0123abcdef=a@client.test"};
static const char *const recipients[] = {"u1@example.test", "a@client.test", "u2@example.test",
    "u1+tag@example.test", "postmaster@example.test", "v"};
static const int64_t sizes[] = {100, 5000, 0, 20000, 3};

#define PICK(table) \
	(uint8_t) rng_below(r, \
	    variety < sizeof(table) / sizeof(table)[0] ? variety \
						       : sizeof(table) / sizeof(table)[0])

struct who_asks
who_make(struct rng *r, unsigned variety)
{
	static const enum stage stages[] = {STAGE_CONNECT, STAGE_CONNECT, STAGE_CONNECT, STAGE_MAIL,
	    STAGE_RCPT, STAGE_RCPT, STAGE_RCPT, STAGE_RCPT, STAGE_RCPT, STAGE_EOM};
	struct who_asks w = {
	    .stage = stages[rng_below(r, sizeof stages / sizeof stages[0])],
	    .client = PICK(clients),
	    .name = PICK(names),
	    .user = PICK(users),
	    .helo = PICK(helos),
	    .sender = PICK(senders),
	    .recipient = PICK(recipients),
	    .bytes = PICK(sizes),
	    .message_counted = rng_percent(r, 25),
	    .greylist_done = rng_percent(r, 10),
	    .rejected = rng_percent(r, 15),
	};

	/* at connect nobody is authenticated yet */
	if (w.stage == STAGE_CONNECT)
		w.user = 0;
	return w;
}

struct who_asks
who_at(const struct who_asks *w, const struct who_asks *other)
{
	struct who_asks at = *w;

	at.stage = other->stage;
	at.message_counted = other->message_counted;
	at.rejected = other->rejected;
	if (at.stage == STAGE_CONNECT)
		at.user = 0;
	return at;
}

struct facts
who_facts(const struct who_asks *w)
{
	struct facts f = {
	    .stage = w->stage,
	    .name = names[w->name],
	    .user = users[w->user],
	    .helo = helos[w->helo],
	    .sender = senders[w->sender],
	    .recipient = recipients[w->recipient],
	    .bytes = sizes[w->bytes],
	    .message_counted = w->message_counted,
	    .greylist_done = w->greylist_done,
	    .rejected = w->rejected,
	};

	if (!addr_parse(clients[w->client], &f.client))
		exit(99);
	return f;
}

void
who_print(const struct who_asks *w, FILE *out)
{
	struct facts f = who_facts(w);

	fprintf(out, "%s client=%s name=%s user=%s helo=%s from=%s to=%s bytes=%lld%s%s%s",
	    stage_name(f.stage), clients[w->client], f.name, f.user, f.helo, f.sender, f.recipient,
	    (long long)f.bytes, f.message_counted ? " counted" : "",
	    f.greylist_done ? " grey-done" : "", f.rejected ? " rejected" : "");
}
