/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * redis.c - weirctl's own connections, on the store's wires: to one Redis, to the master that
 * sentinels name, or to the node of a Cluster that has the key. Bounded by a second, and one
 * sentence when it fails.
 */
#include <pwd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "scout.h"
#include "weir/units.h"
#include "wire.h"
#include "ctl.h"

/* A person waits; a script must not hang. */
#define CALL_TIMEOUT_US (900 * USEC_PER_MSEC)
/* A slot that is being moved is there in a moment. */
#define TRYAGAIN_US (10 * USEC_PER_MSEC)
#define REDIRECTIONS_MAX 50

struct link {
	struct zone *zone; /* the topology wants one */
	struct site site;
	struct scout *scout;
	unsigned node; /* that the last keys came from */
	struct wire wires[NODES_MAX];
};

/* --- what went wrong, in words ------------------------------------------------------------ */

/* "redis at mx1 port 6379: why" */
static void
describe(const struct ctl *c, const char *why, char *out, size_t outlen)
{
	const struct redis_options *o = &c->conf.redis;
	char text[REDIS_TEXT_MAX];

	if (o->kind != REDIS_ALONE)
		snprintf(out, outlen, "redis %s: %s", redis_options_text(o, text), why);
	else if (o->port != 0)
		snprintf(out, outlen, "redis at %s port %d: %s", o->host, o->port, why);
	else
		snprintf(out, outlen, "redis at %s: %s", o->host, why);
}

static void
no_redis(const struct ctl *c, const char *why)
{
	char text[512];

	describe(c, why, text, sizeof text);
	ctl_die(CTL_NO_REDIS, "%s", text);
}

struct meaning {
	const char *start;
	enum ctl_exit status;
	const char *means;
};

/* What Redis' error means for the one who typed the command; NULL: no more than it says. */
static const struct meaning *
meaning_of(const char *error)
{
	static const struct meaning known[] = {
	    {"NOAUTH", CTL_NO_REDIS, "it wants a password"},
	    {"WRONGPASS", CTL_NO_REDIS, "it does not take this password"},
	    {"CLUSTERDOWN", CTL_NO_REDIS, "a part of the cluster is down"},
	    {"MASTERDOWN", CTL_NO_REDIS, "it is a replica and has lost its primary"},
	    {"ERR The user executing the script", CTL_REFUSED,
		"this Redis user has no right to do that"},
	    {"NOPERM", CTL_REFUSED, "this Redis user has no right to do that"},
	    {"READONLY", CTL_REFUSED, "it is a replica and cannot be written to: name the primary"},
	    {"LOADING", CTL_NO_REDIS, "it is still loading its data: try again in a moment"},
	    {"OOM", CTL_REFUSED, "it has no memory left (maxmemory)"},
	    {"WRONGTYPE", CTL_REFUSED, "a key holds something else than weir's: see weir.redis(7)"},
	};

	for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
		if (strncmp(error, known[i].start, strlen(known[i].start)) == 0)
			return &known[i];
	return NULL;
}

static void
check_reply(const struct ctl *c, const redisReply *r)
{
	const struct meaning *m;
	char safe[200];

	if (r->type != REDIS_REPLY_ERROR)
		return;
	if (strncmp(r->str, "WRONGKEY ", 9) == 0)
		ctl_wrong_key(r->str + 9);
	m = meaning_of(r->str);
	if (m != NULL && m->status == CTL_NO_REDIS)
		no_redis(c, m->means);
	if (m != NULL)
		ctl_die(CTL_REFUSED, "redis: %s", m->means);
	ctl_die(CTL_REFUSED, "redis: %s", out_safe(r->str, sizeof safe - 1, safe, sizeof safe));
}

/* What a wire says of its end: "AUTH: WRONGPASS", "connect: Connection refused", "timeout". */
static const char *
wire_trouble(const char *why, char out[WIRE_WHY_MAX])
{
	const char *colon = strstr(why, ": "), *rest = colon != NULL ? colon + 2 : why;
	const struct meaning *m = meaning_of(rest);

	if (m != NULL)
		return m->means;
	if (strcmp(why, "timeout") == 0)
		return "does not answer";
	if (strncmp(why, "AUTH: ERR", 9) == 0)
		return "it does not take this login";
	if (strncmp(why, "connect: ", 9) == 0)
		why = rest;
	return out_safe(why, WIRE_WHY_MAX - 1, out, WIRE_WHY_MAX);
}

void
ctl_wrong_key(const char *key)
{
	char safe[CTL_KEY_MAX];

	ctl_die(CTL_REFUSED, "the key %s holds something else than weir's: delete it",
	    out_safe(key, sizeof safe - 1, safe, sizeof safe));
}

/* --- connections -------------------------------------------------------------------------- */

static void
on_notice(void *ctx, int priority, const char *line)
{
	(void)ctx;
	(void)priority;
	fprintf(stderr, "weirctl: %s\n", line);
}

static struct link *
link_of(struct ctl *c)
{
	struct link *l = c->link;

	if (l != NULL)
		return l;
	l = calloc(1, sizeof *l);
	if (l == NULL || (l->zone = zone_new(ZONE_SIZE_MIN, 1)) == NULL ||
	    !site_init(&l->site, &c->conf.redis, l->zone, 0, "weirctl", on_notice, NULL) ||
	    !scout_start(&l->site, &l->scout))
		ctl_die(CTL_REFUSED, "out of memory");
	for (unsigned i = 0; i < NODES_MAX; i++) {
		wire_init(&l->wires[i]);
		l->wires[i].nested = true;
	}
	c->link = l;
	return l;
}

void
ctl_hang_up(struct ctl *c)
{
	struct link *l = c->link;

	if (l == NULL)
		return;
	scout_free(&l->scout);
	for (unsigned i = 0; i < NODES_MAX; i++)
		wire_close(&l->wires[i]);
	site_clear(&l->site);
	zone_free(&l->zone);
	free(l);
	c->link = NULL;
}

static bool
is_open(struct link *l, unsigned node)
{
	struct target *t = topology_target(l->site.topology, node);
	struct wire *w = &l->wires[node];

	return (wire_is_open(w) && w->place == target_place(t)) ||
	    wire_open(w, t, &l->site.options);
}

/* --- commands ----------------------------------------------------------------------------- */

/* The i-th word of a formatted command, NULL: it has fewer. */
static const char *
word_of(const char *cmd, unsigned i, size_t *len)
{
	const char *p = strchr(cmd, '$');

	for (; p != NULL; i--) {
		*len = strtoul(p + 1, NULL, 10);
		p = strchr(p, '\n');
		if (p == NULL || i == 0)
			return p != NULL ? p + 1 : NULL;
		p += 1 + *len + 2;
		if (*p != '$')
			return NULL;
	}
	return NULL;
}

/* The slot of its key; of a command without one (PING) whichever is served. */
static unsigned
slot_of_command(const struct link *l, const char *cmd)
{
	size_t len = 0;
	const char *name = word_of(cmd, 0, &len), *key;
	bool eval = name != NULL && len == 4 && memcmp(name, "EVAL", 4) == 0;
	unsigned slot = 0;

	key = word_of(cmd, eval ? 3 : 1, &len);
	if (key != NULL)
		return slot_of(key, len);
	while (slot < SLOTS - 1 && topology_slot(l->site.topology, slot) == NODE_NONE)
		slot++;
	return slot;
}

/* Sends it to the node and waits. NULL: why. */
static redisReply *
call_node(struct link *l, unsigned node, const char *cmd, size_t len, bool asking,
    int64_t deadline_us, char why[WIRE_WHY_MAX])
{
	static const char ask[] = "*1\r\n$6\r\nASKING\r\n";
	struct wire *w = &l->wires[node];
	redisReply *r = NULL;

	if (is_open(l, node) && (!asking || wire_push(w, ask, sizeof ask - 1)) &&
	    wire_push(w, cmd, len)) {
		r = wire_wait(w, deadline_us, NULL);
		if (r != NULL && asking) {
			freeReplyObject(r);
			r = wire_wait(w, deadline_us, NULL);
		}
	}
	if (r == NULL) {
		snprintf(why, WIRE_WHY_MAX, "%s", w->why);
		wire_close(w);
	}
	return r;
}

static const char nowhere[] = "none of the hosts named for it answers, or knows where it is";

/* NULL: why. */
static redisReply *
call_slot(struct link *l, unsigned slot, const char *cmd, size_t len, char why[WIRE_WHY_MAX])
{
	struct topology *t = l->site.topology;
	int64_t deadline = clock_mono_us() + CALL_TIMEOUT_US;
	unsigned node = topology_slot(t, slot);
	bool asking = false;

	snprintf(why, WIRE_WHY_MAX, "%s", nowhere);
	for (int i = 0; i < REDIRECTIONS_MAX && node != NODE_NONE; i++) {
		redisReply *r = call_node(l, node, cmd, len, asking, deadline, why);
		char asked[REDIS_HOST_MAX + 1];
		struct redis_place place;
		unsigned moved;

		if (r == NULL || r->type != REDIS_REPLY_ERROR ||
		    l->site.options.kind != REDIS_CLUSTER)
			return r;
		target_host(topology_target(t, node), asked);
		asking = strncmp(r->str, "ASK ", 4) == 0;
		if (strncmp(r->str, "TRYAGAIN", 8) == 0) {
			usleep(TRYAGAIN_US);
			node = topology_slot(t, slot);
		} else if (asking || strncmp(r->str, "MOVED ", 6) == 0) {
			if (!slot_map_redirect(r->str + (asking ? 4 : 6), asked, &moved, &place) ||
			    moved != slot || (node = topology_find(t, &place)) == NODE_NONE)
				return r;
			if (!asking)
				topology_moved(t, slot, node);
		} else
			return r;
		freeReplyObject(r);
		snprintf(why, WIRE_WHY_MAX, "does not answer: its slots are being moved");
	}
	return NULL;
}

/* Frees cmd. Ends the program when there is no reply. */
static redisReply *
call(struct ctl *c, char *cmd, int len)
{
	struct link *l = link_of(c);
	char why[WIRE_WHY_MAX], safe[WIRE_WHY_MAX];
	redisReply *r;

	if (len < 0)
		ctl_die(CTL_REFUSED, "out of memory");
	r = call_slot(l, slot_of_command(l, cmd), cmd, (size_t)len, why);
	redisFreeCommand(cmd);
	if (r == NULL)
		no_redis(c, wire_trouble(why, safe));
	return r;
}

bool
ctl_redis_answers(struct ctl *c, char *why, size_t whylen)
{
	static const char ping[] = "*1\r\n$4\r\nPING\r\n";
	struct link *l = link_of(c);
	char trouble[WIRE_WHY_MAX], safe[WIRE_WHY_MAX];
	redisReply *r = call_slot(l, slot_of_command(l, ping), ping, sizeof ping - 1, trouble);
	/* weir-milter's own user need not have PING; that is an answer, too */
	bool ok = r != NULL && (r->type != REDIS_REPLY_ERROR || strncmp(r->str, "NOPERM", 6) == 0);

	if (r != NULL && !ok)
		snprintf(trouble, sizeof trouble, "%s", r->str);
	freeReplyObject(r);
	if (!ok)
		describe(c, wire_trouble(trouble, safe), why, whylen);
	return ok;
}

redisReply *
ctl_call(struct ctl *c, int argc, const char **argv)
{
	char *cmd;
	int len = redisFormatCommandArgv(&cmd, argc, argv, NULL);
	redisReply *r = call(c, cmd, len);

	check_reply(c, r);
	return r;
}

/* Ends the program when there is no reply. */
static redisReply *
call_format(struct ctl *c, const char *fmt, va_list ap)
{
	char *cmd;
	int len = redisvFormatCommand(&cmd, fmt, ap);

	return call(c, cmd, len);
}

redisReply *
ctl_callf(struct ctl *c, const char *fmt, ...)
{
	redisReply *r;
	va_list ap;

	va_start(ap, fmt);
	r = call_format(c, fmt, ap);
	va_end(ap);
	check_reply(c, r);
	return r;
}

redisReply *
ctl_tryf(struct ctl *c, const char *fmt, ...)
{
	struct link *l = link_of(c);
	char why[WIRE_WHY_MAX];
	redisReply *r;
	va_list ap;
	char *cmd;
	int len;

	va_start(ap, fmt);
	len = redisvFormatCommand(&cmd, fmt, ap);
	va_end(ap);
	if (len < 0)
		return NULL;
	r = call_slot(l, slot_of_command(l, cmd), cmd, (size_t)len, why);
	redisFreeCommand(cmd);
	return r;
}

redisReply *
ctl_lookf(struct ctl *c, const char *fmt, ...)
{
	redisReply *r;
	va_list ap;

	va_start(ap, fmt);
	r = call_format(c, fmt, ap);
	va_end(ap);
	if (r->type == REDIS_REPLY_ERROR && strncmp(r->str, "WRONGTYPE", 9) == 0) {
		freeReplyObject(r);
		return NULL;
	}
	check_reply(c, r);
	return r;
}

/* --- walking over all keys ---------------------------------------------------------------- */

#define SCAN_STEP "500"
/* A cursor: the next node, from its beginning. */
#define NEXT_NODE "+"

/* The first serving node from n on, NODE_NONE: there is none. */
static unsigned
serving(const struct link *l, unsigned n)
{
	for (; n < topology_nodes(l->site.topology); n++)
		if (topology_serves(l->site.topology, n))
			return n;
	return NODE_NONE;
}

redisReply *
ctl_scan(struct ctl *c, char cursor[CTL_CURSOR_MAX], const char *pattern)
{
	struct link *l = link_of(c);
	const char *argv[] = {"SCAN", cursor, "MATCH", pattern, "COUNT", SCAN_STEP};
	char why[WIRE_WHY_MAX], safe[WIRE_WHY_MAX], *cmd;
	redisReply *r;
	int len;

	if (strcmp(cursor, "0") == 0)
		l->node = serving(l, 0);
	else if (strcmp(cursor, NEXT_NODE) == 0) {
		l->node = serving(l, l->node + 1);
		argv[1] = "0";
	}
	if (l->node == NODE_NONE)
		no_redis(c, nowhere);
	len = redisFormatCommandArgv(&cmd, 6, argv, NULL);
	if (len < 0)
		ctl_die(CTL_REFUSED, "out of memory");
	r = call_node(l, l->node, cmd, (size_t)len, false, clock_mono_us() + CALL_TIMEOUT_US, why);
	redisFreeCommand(cmd);
	if (r == NULL)
		no_redis(c, wire_trouble(why, safe));
	check_reply(c, r);
	if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
	    r->element[0]->type != REDIS_REPLY_STRING || r->element[1]->type != REDIS_REPLY_ARRAY)
		ctl_die(CTL_REFUSED, "redis: SCAN gave something odd");
	snprintf(cursor, CTL_CURSOR_MAX, "%s", r->element[0]->str);
	if (strcmp(cursor, "0") == 0 && serving(l, l->node + 1) != NODE_NONE)
		snprintf(cursor, CTL_CURSOR_MAX, NEXT_NODE);
	return r;
}

void
ctl_push(struct ctl *c, int argc, const char **argv)
{
	struct link *l = link_of(c);
	char *cmd;
	int len = redisFormatCommandArgv(&cmd, argc, argv, NULL);

	if (len < 0 || !wire_push(&l->wires[l->node], cmd, (size_t)len))
		ctl_die(CTL_REFUSED, "out of memory");
	redisFreeCommand(cmd);
}

redisReply *
ctl_pull(struct ctl *c)
{
	struct link *l = link_of(c);
	struct wire *w = &l->wires[l->node];
	redisReply *r = wire_wait(w, clock_mono_us() + CALL_TIMEOUT_US, NULL);
	char safe[WIRE_WHY_MAX];

	if (r == NULL)
		no_redis(c, wire_trouble(w->why, safe));
	return r;
}

redisReply *
ctl_eval(
    struct ctl *c, const char *script, int nkeys, const char **keys, int nargs, const char **args)
{
	const char **argv = calloc((size_t)(3 + nkeys + nargs), sizeof *argv);
	char(*full)[CTL_KEY_MAX] = calloc((size_t)nkeys, sizeof *full);
	char count[12];
	redisReply *r;
	int n = 0;

	if (argv == NULL || full == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	snprintf(count, sizeof count, "%d", nkeys);
	argv[n++] = "EVAL";
	argv[n++] = script;
	argv[n++] = count;
	for (int i = 0; i < nkeys; i++)
		argv[n++] = ctl_key(c, keys[i], full[i]);
	for (int i = 0; i < nargs; i++)
		argv[n++] = args[i];
	r = ctl_call(c, n, argv);
	free(full);
	free(argv);
	return r;
}

const char *
ctl_key(const struct ctl *c, const char *name, char out[CTL_KEY_MAX])
{
	char prefix[REDIS_PREFIX_MAX + 3];

	snprintf(out, CTL_KEY_MAX, "%s:%s", redis_prefix(&c->conf.redis, name, prefix), name);
	return out;
}

/* Only what may stand in an entry without quotes. */
static void
plain(char *s)
{
	for (; *s != '\0'; s++)
		if (*s <= ' ' || *s > '~' || strchr("\"=\\@", *s) != NULL)
			*s = '-';
}

const char *
ctl_author(char out[ENTRY_BY_MAX + 1])
{
	const char *name = getenv("SUDO_USER");
	const struct passwd *pw = getpwuid(getuid());
	char user[40], host[40] = "";

	if (name == NULL || *name == '\0' || getuid() != 0)
		name = pw != NULL ? pw->pw_name : "unknown";
	snprintf(user, sizeof user, "%s", name);
	(void)gethostname(host, sizeof host - 1);
	plain(user);
	plain(host);
	snprintf(out, ENTRY_BY_MAX + 1, "%s@%s", user, host);
	return out;
}
