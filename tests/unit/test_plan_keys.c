/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_plan_keys.c - limits per user, sender, recipient, domain or HELO: who is counted under which
 * key, who under none, which of them make sense, and what the MTA has to tell for them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/request.h"
#include "weir/units.h"

static void
add_limit(struct ruleset *r, const char *name, const char *words)
{
	char err[LIMIT_ERR_MAX];

	if (!limit_set_words(ruleset_limit_add(r, name), words, err, sizeof err) ||
	    !ruleset_finish(r, err, sizeof err))
		fail_msg("%s %s: %s", name, words, err);
}

static struct ruleset
no_limits(void)
{
	struct ruleset r;

	ruleset_defaults(&r);
	r.nlimits = 0;
	return r;
}

static struct ruleset
one_limit(const char *per)
{
	struct ruleset r = no_limits();
	char words[64];

	snprintf(words, sizeof words, "count=recipients rate=60/1m per=%s", per);
	add_limit(&r, "mine", words);
	return r;
}

static struct facts
facts(void)
{
	struct facts f = {.stage = STAGE_RCPT,
	    .name = "",
	    .user = "ann",
	    .helo = "mail.example.org",
	    .sender = "a@example.org",
	    .recipient = "b@example.com"};

	assert_true(addr_parse("192.0.2.7", &f.client));
	return f;
}

/* The key of a limit per `per`; NULL: nothing is counted. */
static const char *
key_of(const char *per, const struct facts *f, struct request *q)
{
	struct ruleset r = one_limit(per);
	struct record alone;
	const struct record *own;

	memset(q, 0xa5, sizeof *q);
	if (!plan_request(&r, f, q)) {
		assert_int_equal(q->nhits, 0);
		assert_false(plan_record(&r, r.limits[0].per, f, &alone));
		return NULL;
	}
	/* the address's record comes first, whatever is counted: it keeps the totals */
	assert_string_equal(q->records[0].key, "{192.0.2.0/24}:192.0.2.7");
	assert_int_equal(q->nhits, 1);
	assert_int_equal(q->nrecords, 2);
	assert_int_equal(q->hits[0].record, 1);
	own = &q->records[1];
	assert_int_equal(own->kind, r.limits[0].per);
	assert_non_null(memchr(own->key, '\0', sizeof own->key));
	/* and by itself it is the same record */
	assert_true(plan_record(&r, own->kind, f, &alone));
	assert_string_equal(alone.key, own->key);
	assert_int_equal(alone.ttl_us, own->ttl_us);
	return own->key;
}

/* Sets the one word of the facts that `per` looks at. */
static void
say(struct facts *f, const char *per, const char *text)
{
	if (strcmp(per, "user") == 0)
		f->user = text;
	else if (strcmp(per, "helo") == 0)
		f->helo = text;
	else if (strncmp(per, "sender", 6) == 0)
		f->sender = text;
	else
		f->recipient = text;
}

static void
test_keys(void **state)
{
	static const struct {
		const char *per, *text;
		const char *key; /* NULL: not counted */
	} table[] = {
	    {"user", "ann", "{ann}"},
	    {"user", "Ann@Example.ORG", "{ann@example.org}"},
	    {"user", "", NULL},
	    {"sender", "a@example.org", "{a@example.org}"},
	    {"sender", "A.B+c@Example.ORG", "{a.b+c@example.org}"},
	    {"sender", "", "{<>}"},
	    {"sender", "root", "{root}"},
	    {"sender-domain", "a@Example.ORG", "{example.org}"},
	    {"sender-domain", "@relay.test:a@example.org", "{example.org}"},
	    {"sender-domain", "a@b@example.org", "{example.org}"},
	    {"sender-domain", "a@[192.0.2.1]", "{[192.0.2.1]}"},
	    {"sender-domain", "", NULL},
	    {"sender-domain", "root", NULL},
	    {"sender-domain", "a@", NULL},
	    {"sender-domain", "@", NULL},
	    {"recipient", "b@example.com", "{b@example.com}"},
	    {"recipient", "B@EXAMPLE.com", "{b@example.com}"},
	    {"recipient", "postmaster", "{postmaster}"},
	    {"recipient", "", NULL},
	    {"recipient-domain", "b@EXAMPLE.com", "{example.com}"},
	    {"recipient-domain", "postmaster", NULL},
	    {"recipient-domain", "b@", NULL},
	    {"recipient-domain", "", NULL},
	    {"helo", "Mail.Example.ORG", "{mail.example.org}"},
	    {"helo", "[192.0.2.7]", "{[192.0.2.7]}"},
	    {"helo", "", NULL},
	    /* nothing from outside can leave the braces, or be something else than text */
	    {"user", "}{all}", "{%7d%7ball%7d}"},
	    {"helo", "a b\tc\r\nd", "{a%20b%09c%0d%0ad}"},
	    {"sender", "50%41@x", "{50%2541@x}"},
	    {"sender", "\x7f\x01\xff", "{%7f%01%ff}"},
	    {"recipient", "*?[a-z]\\:\"'~@x", "{*?[a-z]\\:\"'~@x}"},
	    {"sender-domain", "a@x}:{y", "{x%7d:%7by}"},
	    {"recipient", "J\xc3\x96RG@x", "{j%c3%96rg@x}"},
	};
	struct request q;

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct facts f = facts();
		const char *key;

		say(&f, table[i].per, table[i].text);
		key = key_of(table[i].per, &f, &q);
		if ((key == NULL) != (table[i].key == NULL) ||
		    (key != NULL && strcmp(key, table[i].key) != 0))
			fail_msg("row %zu (%s \"%s\"): %s", i, table[i].per, table[i].text,
			    key != NULL ? key : "not counted");
	}
}

/* Who is one mailbox by what the administrator says, and by the form of its domain; logins and
 * HELO names are none. */
static void
test_folded(void **state)
{
	static const struct {
		const char *per, *text;
		const char *plain; /* as nobody said anything */
		const char *tags, *unwrapped; /* NULL: the same */
	} table[] = {
	    {"sender", "Ann+tag@Example.org", "{ann+tag@example.org}", "{ann@example.org}", NULL},
	    {"recipient", "Bob+tag@example.com", "{bob+tag@example.com}", "{bob@example.com}",
		NULL},
	    {"user", "ann+tag@example.org", "{ann+tag@example.org}", NULL, NULL},
	    {"helo", "m\xc3\xbcller+tag.example", "{m%c3%bcller+tag.example}", NULL, NULL},
	    {"sender", "ann@M\xc3\x9cller.example", "{ann@xn--mller-kva.example}", NULL, NULL},
	    {"sender-domain", "ann@M\xc3\x9cller.example", "{xn--mller-kva.example}", NULL, NULL},
	    {"recipient", "bob@m\xc3\xbcller.example", "{bob@xn--mller-kva.example}", NULL, NULL},
	    {"recipient-domain", "bob@m\xc3\xbcller.example", "{xn--mller-kva.example}", NULL,
		NULL},
	    {"sender", "prvs=0123a1b2c3=ann@example.org", "{prvs=0123a1b2c3=ann@example.org}", NULL,
		"{ann@example.org}"},
	    {"sender", "SRS0=ab=XY=example.org=ann@relay.example",
		"{srs0=ab=xy=example.org=ann@relay.example}", NULL, "{ann@example.org}"},
	    {"sender-domain", "SRS0=ab=XY=example.org=ann@relay.example", "{relay.example}", NULL,
		"{example.org}"},
	    {"recipient", "prvs=0123a1b2c3=bob@example.com", "{prvs=0123a1b2c3=bob@example.com}",
		NULL, NULL},
	    {"sender", "", "{<>}", NULL, NULL},
	    {"sender", "+tag@example.org", "{+tag@example.org}", NULL, NULL},
	    {"recipient", "", NULL, NULL, NULL},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		for (int how = 0; how < 3; how++) {
			struct ruleset r = one_limit(table[i].per);
			const char *want = how == 1 ? table[i].tags : table[i].unwrapped;
			struct facts f = facts();
			struct record rec;
			bool counted;

			if (how == 1)
				strcpy(r.fold.delimiters, "+");
			r.fold.unwrap = how == 2;
			if (how == 0 || want == NULL)
				want = table[i].plain;
			say(&f, table[i].per, table[i].text);
			counted = plan_record(&r, r.limits[0].per, &f, &rec);
			if (counted != (want != NULL) || (counted && strcmp(rec.key, want) != 0))
				fail_msg("row %zu, %d: %s", i, how, counted ? rec.key : "none");
		}
}

/* Greylisting knows a mailbox by the same name, and postmaster with a tag is postmaster. */
static void
test_folded_triplets(void **state)
{
	struct ruleset r = no_limits();
	struct facts f = facts();
	struct request q;

	(void)state;
	r.greylist.enabled = true;
	f.user = "";
	f.sender = "SRS0=ab=XY=M\xc3\x9cller.example=ann+1@relay.example";
	f.recipient = "Bob+2@B\xc3\xbc"
		      "cher.example";
	assert_true(plan_request(&r, &f, &q));
	assert_string_equal(q.grey.key,
	    "{192.0.2.0/24} srs0=ab=xy=m%c3%9cller.example=ann+1@relay.example "
	    "bob+2@xn--bcher-kva.example");
	strcpy(r.fold.delimiters, "+");
	r.fold.unwrap = true;
	assert_true(plan_request(&r, &f, &q));
	assert_string_equal(
	    q.grey.key, "{192.0.2.0/24} ann@xn--mller-kva.example bob@xn--bcher-kva.example");
	f.recipient = "Postmaster+2@example.com";
	(void)plan_request(&r, &f, &q);
	assert_false(q.grey.asked);
	r.fold.delimiters[0] = '\0';
	(void)plan_request(&r, &f, &q);
	assert_true(q.grey.asked);
}

/* What is too long is cut, and told apart by its hash. */
static void
test_long_keys(void **state)
{
	static const struct {
		char c;
		size_t len;
		bool cut;
	} table[] = {
	    {'x', 252, false},
	    {'x', 253, false},
	    {'x', 254, true},
	    {'x', 255, true},
	    {'x', 256, true},
	    {'x', 10000, true},
	    {' ', 84, false},
	    {' ', 85, false},
	    {' ', 86, true},
	    {'\xff', 10000, true},
	};
	static char text[10001], other[10001];
	struct request q, q2;
	struct facts f = facts();

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		const char *key, *key2;
		size_t len;

		memset(text, table[i].c, table[i].len);
		text[table[i].len] = '\0';
		strcpy(other, text);
		f.helo = text;
		key = key_of("helo", &f, &q);
		len = strlen(key);
		assert_true(key[0] == '{' && key[len - 1] == '}' && len <= TEXT_PART_MAX + 2);
		assert_int_equal(strcspn(key + 1, "{}"), len - 2);
		assert_int_equal(strspn(key, "{}%~0123456789abcdefx"), len);
		if ((len == TEXT_PART_MAX + 2 && key[len - 18] == '~') != table[i].cut)
			fail_msg("row %zu: %s", i, key);
		/* the last byte counts, its case does not */
		other[table[i].len - 1] = 'y';
		f.helo = other;
		key2 = key_of("helo", &f, &q2);
		assert_string_not_equal(key, key2);
		other[table[i].len - 1] = 'Y';
		assert_string_equal(key2, key_of("helo", &f, &q));
	}
}

/* Which counts may be counted for whom. */
static void
test_sense(void **state)
{
	static const struct {
		const char *per, *allowed; /* of c(onnections) s(essions) m(essages) r(ecipients) */
	} table[] = {
	    {"address", "csmr"},
	    {"network", "csmr"},
	    {"all", "csmr"},
	    {"user", "mr"},
	    {"sender", "mr"},
	    {"sender-domain", "mr"},
	    {"recipient", "r"},
	    {"recipient-domain", "r"},
	    {"helo", "mr"},
	};
	static const struct {
		const char *count, *figures, *why;
	} counts[] = {
	    {"connections", "rate=5/1m", "counted at connect"},
	    {"sessions", "max=5", "counted at connect"},
	    {"messages", "rate=5/1m", "count recipients per "},
	    {"recipients", "rate=5/1m", "never"},
	};
	char words[96], err[LIMIT_ERR_MAX];

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		for (size_t c = 0; c < sizeof counts / sizeof counts[0]; c++) {
			bool want = strchr(table[i].allowed, counts[c].count[0]) != NULL;
			struct limit l;

			limit_init(&l, "x");
			err[0] = '\0';
			snprintf(words, sizeof words, "count=%s per=%s %s", counts[c].count,
			    table[i].per, counts[c].figures);
			assert_true(limit_set_words(&l, words, err, sizeof err));
			assert_string_equal(limit_per_name(l.per), table[i].per);
			assert_int_equal(limit_per_is_client(l.per), strlen(table[i].allowed) == 4);
			if (limit_finish(&l, err, sizeof err) != want ||
			    (!want && strstr(err, counts[c].why) == NULL))
				fail_msg("%s: %s", words, err);
			/* switched off it harms nobody */
			l.enabled = false;
			assert_true(limit_finish(&l, err, sizeof err));
		}
}

static const char *const all_pers[] = {"address", "network", "all", "user", "sender",
    "sender-domain", "recipient", "recipient-domain", "helo"};
#define ALL_PERS (sizeof all_pers / sizeof all_pers[0])

/* All kinds at once: each has one record, that limits of the same kind share. */
static void
test_all_at_once(void **state)
{
	struct ruleset r = no_limits();
	struct facts f = facts();
	struct request q;
	char name[16], words[64];

	(void)state;
	for (size_t i = 0; i < LIMITS_MAX; i++) {
		snprintf(name, sizeof name, "limit%zu", i);
		snprintf(words, sizeof words, "count=recipients rate=60/1m per=%s",
		    all_pers[i % ALL_PERS]);
		add_limit(&r, name, words);
	}
	r.greylist.enabled = true;
	f.user = "";
	memset(&q, 0xa5, sizeof q);
	assert_true(plan_request(&r, &f, &q));
	assert_int_equal(q.nrecords, ALL_PERS); /* the pool's instead of the user's */
	f.user = "ann";
	assert_true(plan_request(&r, &f, &q));
	assert_int_equal(q.nrecords, ALL_PERS);
	assert_true(q.nrecords < REQUEST_RECORDS_MAX);
	assert_int_equal(q.nhits, LIMITS_MAX);
	for (unsigned i = 0; i < q.nhits; i++) {
		assert_int_equal(q.hits[i].record, i % ALL_PERS);
		assert_int_equal(q.records[q.hits[i].record].kind, q.hits[i].limit->per);
	}
	/* who has none of it is counted as a client only */
	f.user = f.helo = f.sender = f.recipient = "";
	r.greylist.enabled = false;
	assert_true(plan_request(&r, &f, &q));
	assert_int_equal(q.nrecords, 4); /* and the null sender is a sender */
	assert_string_equal(q.records[q.nrecords - 1].key, "{<>}");
	for (unsigned i = 0; i < q.nhits; i++)
		assert_true(q.hits[i].record < q.nrecords);
}

static void
test_life(void **state)
{
	struct ruleset r = one_limit("sender");
	struct facts f = facts();
	struct record rec;

	(void)state;
	add_limit(&r, "slow", "count=messages per=sender rate=1/1d burst=3");
	add_limit(&r, "slower", "count=messages per=sender-domain rate=1/1d burst=9");
	add_limit(&r, "off", "count=messages per=sender rate=1/1d burst=99 enabled=no");
	assert_true(plan_record(&r, PER_SENDER, &f, &rec));
	assert_int_equal(rec.ttl_us, INT64_C(3) * 86400 * USEC_PER_SEC);
	assert_true(plan_record(&r, PER_HELO, &f, &rec));
	assert_int_equal(rec.ttl_us, INT64_C(3600) * USEC_PER_SEC);
}

/* The stages that a count belongs to are the same for whomever it is counted. */
static void
test_stages(void **state)
{
	struct ruleset r = no_limits();
	struct request q;

	(void)state;
	add_limit(&r, "m", "count=messages per=sender rate=60/1m");
	add_limit(&r, "r", "count=recipients per=recipient rate=60/1m");
	for (int stage = STAGE_CONNECT; stage <= STAGE_RCPT; stage++)
		for (int counted = 0; counted < 2; counted++) {
			struct facts f = facts();

			f.stage = (enum stage)stage;
			f.message_counted = counted;
			assert_int_equal(plan_request(&r, &f, &q), stage == STAGE_RCPT);
			assert_int_equal(q.nhits, stage == STAGE_RCPT ? 2 - counted : 0);
		}
}

/* HELO is asked for by limits per helo, MAIL and RCPT by all of these; and for none of them may
 * the MTA stop asking after the connect. */
static void
test_steps(void **state)
{
	const struct facts f = facts();

	(void)state;
	for (size_t i = 0; i < ALL_PERS; i++) {
		struct ruleset r = one_limit(all_pers[i]);
		struct plan_steps s = plan_steps(&r);

		assert_int_equal(s.helo, strcmp(all_pers[i], "helo") == 0);
		assert_true(s.mail && s.rcpt);
		assert_false(s.close || plan_done(&r, &f));
		r.limits[0].enabled = false;
		s = plan_steps(&r);
		assert_false(s.helo || s.mail || s.rcpt);
		assert_true(plan_done(&r, &f));
	}
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_keys),
	    cmocka_unit_test(test_folded),
	    cmocka_unit_test(test_folded_triplets),
	    cmocka_unit_test(test_long_keys),
	    cmocka_unit_test(test_sense),
	    cmocka_unit_test(test_all_at_once),
	    cmocka_unit_test(test_life),
	    cmocka_unit_test(test_stages),
	    cmocka_unit_test(test_steps),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
