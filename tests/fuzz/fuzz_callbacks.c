/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_callbacks.c - what an MTA, or who plays one, can make libmilter call: any sequence of
 * callbacks with any arguments, for three sessions in turns, through the engine to the zone.
 * Every answer is an allowed one, every reply a sound 4xx, nothing is left at the end.
 *
 * Input: a byte of settings, then events: if it is not the first one's, the session (0 to 2), and
 * a letter. n (negotiate): actions and steps, 4 bytes each; c (connect): a byte of family
 * and flags, 18 bytes of address, name; h: HELO; m, r: so many arguments (a byte), lines; H
 * (header): name, value; o (end of header), e (end of message); b (body): 2 bytes of length; a
 * (abort); x (close), and the next session; M (macro): which (a byte), value; f: what of libmilter
 * fails from now on.
 *
 * libmilter sees to it that a session is negotiated once and connects once, and so does this.
 *
 * Covers: milter/engine_libmilter.c milter/decide.c milter/session.c
 */
#include <arpa/inet.h>
#include <libpsl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "engine.h"
#include "fake_libmilter.h"
#include "log.h"

#define SESSIONS 3
#define PROGRAM "weir-milter: "

ssize_t __real_write(int, const void *, size_t);
ssize_t __wrap_write(int, const void *, size_t);

/* A line of the log is one line, and ours. */
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
	free(line);
	return (ssize_t)len;
}

/* --- the worker ------------------------------------------------------------------------------ */

static const struct {
	const char *name, *words;
} limits[] = {
    {"connections", "per=address rate=4/1h"},
    {"sessions", "per=address max=2"},
    {"site", "count=sessions per=all max=2 action=defer"},
    {"messages", "per=user rate=2/1h"},
    {"senders", "count=messages per=sender rate=3/1h action=defer"},
    {"recipients", "per=recipient rate=2/1h"},
    {"helos", "count=messages per=helo rate=3/1h action=log"},
    {"bytes", "per=pool quota=10k/1h"},
    {"guesses", "count=rejected-recipients per=network rate=2/1h"},
};

/* One for each byte of settings: rulesets in force are counted and live on. */
static struct setting {
	struct conf conf;
	struct snapshots *snapshots;
} * settings[256];

static psl_ctx_t *psl;
static struct worker worker;

static struct setting *
make_setting(uint8_t how)
{
	struct setting *s = fuzz_alloc(sizeof *s);
	struct ruleset *r = &s->conf.rules;
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];

	memset(s, 0, sizeof *s);
	ruleset_defaults(r);
	if (psl == NULL)
		psl = psl_latest(NULL);
	r->psl = psl;
	r->observe = (how & 1) != 0;
	r->refuse_at_helo = (how & 2) != 0;
	r->greylist.enabled = (how & 4) != 0;
	if (how & 8)
		CHECK(reply_parse("451 4.7.1 Later", &r->greylist.reply, err, sizeof err));
	if (how & 64)
		r->learn = true;
	for (size_t i = 0; i < sizeof limits / sizeof limits[0]; i++)
		if (((how & 16) == 0 || i % 2 == 0) && ((how & 128) == 0 || i > 2))
			CHECK(limit_set_words(ruleset_limit_add(r, limits[i].name), limits[i].words,
			    err, sizeof err));
	CHECK(ruleset_finish(r, err, sizeof err));
	s->conf.idle_timeout_us = 7200 * USEC_PER_SEC;
	redis_options_defaults(&s->conf.redis);
	s->snapshots = snapshots_new(r, false);
	CHECK(s->snapshots != NULL);
	return s;
}

/* Once: what it registers stays. It looks at the socket, and nobody ever connects. */
static void
register_engine(void)
{
	struct sockaddr_in sin = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	static int fd = -1;

	if (fd >= 0)
		return;
	fd = socket(AF_INET, SOCK_STREAM, 0);
	CHECK(fd >= 0 && bind(fd, (struct sockaddr *)&sin, sizeof sin) == 0);
	CHECK(listen(fd, 1) == 0);
	CHECK(engine_libmilter.run(&worker, fd));
}

static void
open_worker(uint8_t how)
{
	if (settings[how] == NULL)
		settings[how] = make_setting(how);
	log_open(true, (how & 32) != 0);
	worker = (struct worker){.conf = &settings[how]->conf,
	    .snapshots = settings[how]->snapshots,
	    .zone = zone_new(ZONE_SIZE_MIN, 1),
	    .workers = 1};
	CHECK(worker.zone != NULL);
	worker.store = zone_store_open(worker.zone, 0);
	CHECK(worker.store != NULL);
	register_engine();
}

static void
close_worker(void)
{
	struct zone_open open;

	zone_open_get(worker.zone, &open);
	CHECK(open.sessions == 0 && zone_sessions(worker.zone) == 0);
	CHECK(worker.open == 0 && worker.in_flight == 0);
	log_fold_flush(true);
	store_close(&worker.store);
	zone_free(&worker.zone);
}

/* --- the MTA ----------------------------------------------------------------------------------- */

struct peer {
	SMFICTX ctx;
	bool negotiated, connected;
	unsigned long steps; /* as agreed */
};

/* What came back from a callback after which the MTA waits, or (unheard) does not. */
static void
check_answer(struct peer *p, sfsistat got, bool connecting, unsigned long unheard)
{
	CHECK((got == SMFIS_TEMPFAIL) == p->ctx.replied);
	switch (got) {
	case SMFIS_CONTINUE:
		CHECK((p->steps & unheard) == 0 || p->ctx.priv == NULL);
		break;
	case SMFIS_ACCEPT:
		CHECK(connecting);
		break;
	case SMFIS_TEMPFAIL:
		CHECK(!worker.conf->rules.observe);
		break;
	case SMFIS_NOREPLY:
		CHECK((p->steps & unheard) != 0);
		break;
	default:
		CHECK(!"an allowed answer");
	}
	p->ctx.replied = false;
}

static void
negotiate(struct peer *p, struct input *in)
{
	unsigned long actions = input_number(in, 4), steps = input_number(in, 4);
	unsigned long out[4] = {~0ul, ~0ul, ~0ul, ~0ul};

	if (p->negotiated)
		return;
	p->negotiated = p->ctx.negotiating = true;
	CHECK(fake_callbacks.xxfi_negotiate(&p->ctx, actions, steps, 0, 0, &out[0], &out[1],
		  &out[2], &out[3]) == SMFIS_CONTINUE);
	p->ctx.negotiating = false;
	CHECK((out[0] & ~actions) == 0 && (out[1] & ~steps) == 0 && out[2] == 0 && out[3] == 0);
	p->steps = out[1];
}

/* The address, of its own size and of any alignment; NULL as of `sendmail -bs`. */
static void
connects(struct peer *p, struct input *in)
{
	static const struct {
		sa_family_t family;
		size_t size;
	} kinds[] = {{AF_INET, sizeof(struct sockaddr_in)}, {AF_INET6, sizeof(struct sockaddr_in6)},
	    {AF_UNIX, 110}, {AF_UNSPEC, 16}};
	uint8_t what = input_byte(in);
	size_t size = kinds[what & 3].size;
	uint8_t bytes[18];
	char *at = fuzz_alloc(size + 1), *name;
	_SOCK_ADDR *sa = (_SOCK_ADDR *)(void *)(at + (what >> 2 & 1));

	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = input_byte(in);
	name = input_line(in);
	memset(at, 0, size + 1);
	memcpy((char *)sa, &kinds[what & 3].family, sizeof(sa_family_t));
	if ((what & 3) == 0)
		memcpy((char *)sa + offsetof(struct sockaddr_in, sin_addr), bytes, 4);
	else if ((what & 3) == 1)
		memcpy((char *)sa + offsetof(struct sockaddr_in6, sin6_addr), bytes, 16);
	if (!p->connected)
		check_answer(p,
		    fake_callbacks.xxfi_connect(
			&p->ctx, what & 8 ? NULL : name, what & 16 ? NULL : sa),
		    true, 0);
	p->connected = true;
	free(name);
	free(at);
}

static void
envelope(struct peer *p, struct input *in, sfsistat (*callback)(SMFICTX *, char **))
{
	unsigned n = input_byte(in) & 7;
	char *argv[8] = {NULL};

	for (unsigned i = 0; i < n; i++)
		argv[i] = input_line(in);
	check_answer(p, callback(&p->ctx, argv), false, 0);
	for (unsigned i = 0; i < n; i++)
		free(argv[i]);
}

static void
content(struct peer *p, struct input *in, uint8_t what)
{
	char *name = NULL, *value = NULL;
	size_t len;

	if (what == 'H') {
		name = input_line(in);
		value = input_line(in);
		check_answer(
		    p, fake_callbacks.xxfi_header(&p->ctx, name, value), false, SMFIP_NR_HDR);
	} else if (what == 'b') {
		len = input_number(in, 2);
		name = fuzz_alloc(len);
		memset(name, 'x', len);
		check_answer(p, fake_callbacks.xxfi_body(&p->ctx, (unsigned char *)name, len),
		    false, SMFIP_NR_BODY);
	} else if (what == 'o')
		check_answer(p, fake_callbacks.xxfi_eoh(&p->ctx), false, SMFIP_NR_EOH);
	else
		check_answer(p, fake_callbacks.xxfi_eom(&p->ctx), false, 0);
	free(name);
	free(value);
}

static void
macro(struct peer *p, struct input *in)
{
	static const char *const names[] = {"i", "{auth_authen}", "{client_resolve}",
	    "{daemon_name}", "{daemon_port}", "{rcpt_mailer}", "{rcpt_host}", "j"};
	uint8_t which = input_byte(in);
	char *value = input_line(in), *name = strdup(names[which & 7]);

	if (which & 8) { /* it has none */
		free(value);
		value = NULL;
	}
	fake_macro(&p->ctx, which & 7, name, value);
}

static void
closes(struct peer *p)
{
	CHECK(fake_callbacks.xxfi_close(&p->ctx) == SMFIS_CONTINUE);
	CHECK(p->ctx.priv == NULL && !p->ctx.replied);
	fake_clear(&p->ctx);
	memset(p, 0, sizeof *p);
}

static void
event(struct peer *p, struct input *in, uint8_t what)
{
	char *text;

	switch (what) {
	case 'n':
		negotiate(p, in);
		break;
	case 'c':
		connects(p, in);
		break;
	case 'h':
		text = input_line(in);
		check_answer(
		    p, fake_callbacks.xxfi_helo(&p->ctx, text[0] == '\1' ? NULL : text), false, 0);
		free(text);
		break;
	case 'm':
		envelope(p, in, fake_callbacks.xxfi_envfrom);
		break;
	case 'r':
		envelope(p, in, fake_callbacks.xxfi_envrcpt);
		break;
	case 'H':
	case 'o':
	case 'b':
	case 'e':
		content(p, in, what);
		break;
	case 'a':
		if (fake_callbacks.xxfi_abort != NULL)
			(void)fake_callbacks.xxfi_abort(&p->ctx);
		break;
	case 'M':
		macro(p, in);
		break;
	case 'f':
		what = input_byte(in);
		p->ctx.no_priv = (what & 1) != 0;
		p->ctx.no_reply = (what & 2) != 0;
		break;
	case 'x':
		closes(p);
		break;
	}
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	struct peer peers[SESSIONS];

	memset(peers, 0, sizeof peers);
	open_worker(input_byte(&in));
	while (input_left(&in)) {
		uint8_t what = input_byte(&in);
		struct peer *p = &peers[0];

		if (what >= '0' && what < '0' + SESSIONS) {
			p = &peers[what - '0'];
			what = input_byte(&in);
		}
		event(p, &in, what);
	}
	for (unsigned i = 0; i < SESSIONS; i++)
		closes(&peers[i]);
	close_worker();
	return 0;
}
