/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * nodes.c - see nodes.h. hiredis' own blocking calls: nobody's mail waits for this.
 */
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#include "nodes.h"

/* NULL, and the connection is of no use, if it is no reply of this type. */
static redisReply *
call(redisContext *c, int type, int argc, const char **argv)
{
	redisReply *r = redisCommandArgv(c, argc, argv, NULL);

	if (r != NULL && r->type == type)
		return r;
	if (r != NULL)
		freeReplyObject(r);
	return NULL;
}

static bool
ok(redisContext *c, int argc, const char **argv)
{
	redisReply *r = call(c, REDIS_REPLY_STATUS, argc, argv);

	if (r != NULL)
		freeReplyObject(r);
	return r != NULL;
}

static bool
log_in(redisContext *c, const struct redis_options *o)
{
	char db[12];
	const char *both[] = {"AUTH", o->user, o->password}, *only[] = {"AUTH", o->password},
		   *select[] = {"SELECT", db};

	snprintf(db, sizeof db, "%d", o->db);
	if (o->password[0] != '\0' && !(o->user[0] != '\0' ? ok(c, 3, both) : ok(c, 2, only)))
		return false;
	return o->db == 0 || ok(c, 2, select);
}

static bool
is_text(const redisReply *r)
{
	return r->type == REDIS_REPLY_STRING && strlen(r->str) == r->len;
}

static void
read_node(
    redisContext *c, const struct redis_options *o, const char *node, nodes_field *fn, void *ctx)
{
	char key[REDIS_PREFIX_MAX + RULESET_NODE_MAX + 16];
	const char *get[] = {"HGETALL", key};
	redisReply *r;

	snprintf(key, sizeof key, "%s:node:%s", o->prefix, node);
	r = call(c, REDIS_REPLY_ARRAY, 2, get);
	for (size_t i = 0; r != NULL && i + 1 < r->elements; i += 2)
		if (is_text(r->element[i]) && is_text(r->element[i + 1]))
			fn(ctx, node, r->element[i]->str, r->element[i + 1]->str);
	if (r != NULL)
		freeReplyObject(r);
}

static bool
read_all(redisContext *c, const struct redis_options *o, nodes_field *fn, void *ctx)
{
	char key[REDIS_PREFIX_MAX + 16], last[12];
	const char *range[] = {"ZRANGE", key, "0", last};
	redisReply *r;

	snprintf(key, sizeof key, "%s:nodes", o->prefix);
	snprintf(last, sizeof last, "%d", NODES_MAX - 1);
	r = call(c, REDIS_REPLY_ARRAY, 4, range);
	if (r == NULL)
		return false;
	for (size_t i = 0; i < r->elements; i++)
		if (is_text(r->element[i]) && r->element[i]->len <= RULESET_NODE_MAX)
			read_node(c, o, r->element[i]->str, fn, ctx);
	freeReplyObject(r);
	return true;
}

bool
nodes_read(const struct redis_options *o, int64_t timeout_us, nodes_field *fn, void *ctx)
{
	const struct timeval wait = {
	    .tv_sec = timeout_us / USEC_PER_SEC, .tv_usec = timeout_us % USEC_PER_SEC};
	redisContext *c;
	bool good;

	/* hiredis' own connection reaches a Redis that stands alone, and without TLS */
	if (o->kind != REDIS_ALONE || o->tls.on)
		return false;
	c = o->port != 0 ? redisConnectWithTimeout(o->host, o->port, wait)
			 : redisConnectUnixWithTimeout(o->host, wait);
	good = c != NULL && c->err == 0 && redisSetTimeout(c, wait) == REDIS_OK && log_in(c, o) &&
	    read_all(c, o, fn, ctx);

	if (c != NULL)
		redisFree(c);
	return good;
}
