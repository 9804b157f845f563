/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_session.c - a whole SMTP session of a hostile client: through session, plan, the zone and
 * judge to the lines in the log. Requests are sound, the log cannot be forged, and what was
 * counted as open is not at the end.
 *
 * Input: a byte of settings, then events: a letter and lines. c (connect): a byte and an
 * address, name; h (HELO): name; m (MAIL): sender, login; r (RCPT), R (one that the MTA refuses):
 * recipient, queue id; d (DATA): text; e: its end; t: two bytes of seconds that pass; q: the end,
 * and the next session.
 *
 * Covers: milter/session.c milter/decision_log.c milter/log.c policy/plan.c policy/judge.c
 */
#include <libpsl.h>
#include <unistd.h>

#include "ask.h"
#include "check_request.h"
#include "decision_log.h"
#include "log.h"
#include "weir/zone.h"

ssize_t __real_write(int, const void *, size_t);
ssize_t __wrap_write(int, const void *, size_t);

/* --- the log -------------------------------------------------------------------------------- */

#define PROGRAM "weir-milter: "

/* "ID: KEY=VALUE KEY=VALUE ...": each key once, and what is no value is ours. */
static void
check_line(char *line)
{
	static const char *const keys[] = {"action", "code", "stage", "reason", "limit", "grey",
	    "client", "name", "pool", "from", "to", "mode", "source", "used", "of", "retry",
	    "session", "repeated", NULL};
	unsigned seen = 0, words = 0;

	for (char *w = strtok(line, " "); w != NULL; w = strtok(NULL, " "), words++) {
		char *value = strchr(w, '=');
		unsigned k = 0;

		if (words == 0) {
			CHECK(value == NULL && w[strlen(w) - 1] == ':');
			continue;
		}
		CHECK(value != NULL && strchr(value + 1, '=') == NULL);
		*value = '\0';
		while (keys[k] != NULL && strcmp(keys[k], w) != 0)
			k++;
		CHECK(keys[k] != NULL && (seen & 1u << k) == 0);
		CHECK((words == 1) == (k == 0));
		seen |= 1u << k;
	}
	CHECK(words > 3);
}

ssize_t
__wrap_write(int fd, const void *buf, size_t len)
{
	char *line;

	if (fd != STDERR_FILENO)
		return __real_write(fd, buf, len);
	CHECK(len > sizeof PROGRAM && memcmp(buf, PROGRAM, sizeof PROGRAM - 1) == 0);
	line = strndup(buf, len);
	CHECK(line != NULL && strlen(line) == len && line[len - 1] == '\n');
	line[len - 1] = '\0';
	CHECK(is_printable(line));
	check_line(line + sizeof PROGRAM - 1);
	free(line);
	return (ssize_t)len;
}

/* --- the command for Redis ------------------------------------------------------------------- */

/* All that the request says, in one array that Redis can read. */
static void
check_command(const struct site *s, const struct ask_names *n, const struct request *q)
{
	size_t len = 0, sets = 0;
	char *cmd = ask_command(s, n, false, q, 1, UINT64_MAX, &len);
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	redisReply *r;

	CHECK(cmd != NULL && reader != NULL);
	CHECK(redisReaderFeed(reader, cmd, len) == REDIS_OK);
	CHECK(redisReaderGetReply(reader, &reply) == REDIS_OK && reply != NULL);
	CHECK(reader->pos == reader->len);
	r = reply;
	CHECK(r->type == REDIS_REPLY_ARRAY && r->elements > 3);
	sets = strtoul(r->element[2]->str, NULL, 10) - 1 - q->nrecords - q->grey.asked;
	CHECK(sets <= q->nrecords);
	for (size_t i = 0; i < r->elements; i++) {
		CHECK(r->element[i]->type == REDIS_REPLY_STRING);
		CHECK(r->element[i]->len < SITE_KEY_MAX && is_printable(r->element[i]->str));
	}
	freeReplyObject(r);
	redisReaderFree(reader);
	redisFreeCommand(cmd);
}

/* --- the milter ----------------------------------------------------------------------------- */

static const struct {
	const char *name, *words;
} limits[] = {
    {"connections", "per=address rate=4/1m"},
    {"sessions", "per=address max=3"},
    {"site", "count=sessions per=all max=5 action=defer"},
    {"networks", "count=connections per=network rate=9/1h action=log"},
    {"messages", "per=user rate=2/1m"},
    {"senders", "count=messages per=sender rate=3/1m strict=yes"},
    {"sender-domains", "count=recipients per=sender-domain rate=5/1m action=defer"},
    {"recipients", "per=recipient rate=2/1h"},
    {"recipient-domains", "count=recipients per=recipient-domain rate=7/1h"},
    {"helos", "count=messages per=helo rate=3/1m action=log"},
    {"days", "count=recipients per=address quota=9/1d ladder=\"/56*2 /48*4\""},
    {"bytes", "per=pool quota=10k/1h action=defer for=strangers"},
    {"guesses", "count=rejected-recipients per=network rate=2/1h for=strangers"},
    {"trusted", "count=recipients per=pool rate=50/1h for=known"},
};

static psl_ctx_t *psl;
static struct ask_names names;

struct milter {
	struct ruleset rules;
	struct zone *zone;
	struct store *store;
	struct site site;
	struct session session;
	bool connected;
	int64_t now_us;
};

static void
open_milter(struct milter *m, uint8_t settings)
{
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];
	char node[SITE_NODE_MAX + 1] = "";
	struct ruleset *r = &m->rules;
	struct redis_options o;

	memset(m, 0, sizeof *m);
	if (psl == NULL)
		psl = psl_latest(NULL);
	ruleset_defaults(r);
	r->psl = psl;
	r->observe = (settings & 1) != 0;
	r->refuse_at_helo = (settings & 2) != 0;
	r->greylist.enabled = (settings & 4) != 0;
	if (settings & 8)
		CHECK(reply_parse("451 4.7.1 Later", &r->greylist.reply, err, sizeof err));
	if (settings & 16)
		r->address_v6 = 128;
	if (settings & 64) {
		r->greylist.correspondents = r->fold.unwrap = true;
		r->greylist.embargo = 2;
		strcpy(r->fold.delimiters, "+");
	}
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
		CHECK(limit_set_words(
		    ruleset_limit_add(r, limits[i].name), limits[i].words, err, sizeof err));
	CHECK(ruleset_finish(r, err, sizeof err));
	log_open(true, (settings & 32) != 0);
	m->zone = zone_new(ZONE_SIZE_MIN, 1);
	CHECK(m->zone != NULL);
	m->store = zone_store_open(m->zone, 0);
	CHECK(m->store != NULL);
	redis_options_defaults(&o);
	o.port = 0;
	memset(o.prefix, 'p', REDIS_PREFIX_MAX);
	memset(node, 'n', SITE_NODE_MAX);
	CHECK(site_init(&m->site, &o, m->zone, 0, node, NULL, NULL));
	if (names.ask[0] == '\0')
		ask_names_init(&names);
	m->now_us = INT64_C(1800000000) * USEC_PER_SEC;
}

static void
close_milter(struct milter *m)
{
	store_release(m->store, m->session.lease);
	session_deinit(&m->session);
	CHECK(zone_sessions(m->zone) == 0);
	log_fold_flush(true);
	store_close(&m->store);
	site_clear(&m->site);
	zone_free(&m->zone);
}

static void
check_verdict(const struct milter *m, const struct request *q, const struct verdict *v)
{
	CHECK((v->action == DO_ACCEPT) == (v->reply == NULL));
	CHECK(v->enforced == !m->rules.observe);
	CHECK(v->retry_us >= 0 && v->used >= 0);
	if (v->limit != NULL)
		CHECK(v->used > v->of && v->limit->action != ACTION_LOG);
	if (q == NULL)
		CHECK(v->noted == 0);
}

/* As decide() in milter/decide.c, without its snapshots. */
static void
decide(struct milter *m, enum stage stage, const char *recipient, struct request *q, bool asked)
{
	struct session *s = &m->session;
	struct answer a = {.now_us = m->now_us};
	struct verdict v;
	enum next next;

	if (asked) {
		check_request(&(struct facts){.user = session_text(s->user)}, q);
		check_command(&m->site, &names, q);
		CHECK(store_ask(m->store, q, m->now_us, &a) == STORE_OK);
		CHECK(a.lease == 0 || s->lease == 0);
	}
	next =
	    session_judge(s, &m->rules, stage, recipient, asked ? q : NULL, asked ? &a : NULL, &v);
	check_verdict(m, asked ? q : NULL, &v);
	if (m->rules.observe)
		CHECK(next != NEXT_REPLY);
	if (next == NEXT_REPLY)
		CHECK(strcmp(s->reply->text, v.reply->text) == 0);
	if (stage == STAGE_RCPT && s->rejected)
		v.action = DO_ACCEPT;
	decision_log(s, stage, recipient, asked ? q : NULL, &a, &v);
}

static void
on_connect(struct milter *m, struct input *in)
{
	uint8_t what = input_byte(in);
	struct addr client = {.family = what & 1 ? ADDR_V6 : ADDR_V4};
	bool confirmed = (what & 2) != 0;
	char *name;
	struct request q;

	for (unsigned i = 0; i < (client.family == ADDR_V4 ? 4 : 16); i++)
		client.b[i] = input_byte(in);
	name = input_line(in);
	if (!m->connected) {
		m->connected = true;
		session_init(&m->session, "1.1", plan_steps(&m->rules));
		decide(m, STAGE_CONNECT, "", &q,
		    session_connect(&m->session, &m->rules, &client, name, confirmed, &q) ==
			NEXT_ASK);
	}
	free(name);
}

/* As decide_mail(), decide_rcpt() and decide_eom() there. */
static void
step(struct milter *m, uint8_t what, const char *one, const char *two)
{
	struct session *s = &m->session;
	struct request q;

	if (what == 'h')
		(void)session_helo(s, one);
	else if (what == 'm') {
		if (session_mail(s, &m->rules, one, two, (int64_t)strlen(one) * 100, &q) ==
		    NEXT_ASK)
			decide(m, STAGE_MAIL, "", &q, true);
	} else if (what == 'd')
		session_data(s, (int64_t)strlen(one) * 100);
	else if (what == 'e') {
		if (session_eom(s, &m->rules, &q) == NEXT_ASK)
			decide(m, STAGE_EOM, "", &q, true);
	} else {
		bool asked = session_rcpt(s, &m->rules, one, what == 'R', two, &q) == NEXT_ASK;

		if (asked || what == 'r')
			decide(m, STAGE_RCPT, one, &q, asked);
	}
}

static void
event(struct milter *m, struct input *in)
{
	uint8_t what = input_byte(in);
	char *one = NULL, *two = NULL;

	if (what == 'c')
		on_connect(m, in);
	else if (what == 'q') {
		store_release(m->store, m->session.lease);
		session_deinit(&m->session);
		m->session.lease = 0;
		m->connected = false;
	} else if (what == 't')
		m->now_us += (int64_t)input_number(in, 2) * USEC_PER_SEC;
	else if (m->connected && what != '\0' && strchr("hmrRde", what) != NULL) {
		one = input_line(in);
		if (what == 'm' || what == 'r' || what == 'R')
			two = input_line(in);
		step(m, what, one, two);
	}
	free(one);
	free(two);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct milter m;

	open_milter(&m, input_byte(&in));
	while (input_left(&in))
		event(&m, &in);
	close_milter(&m);
	return 0;
}
