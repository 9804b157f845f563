/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_status.c - weirctl status: what each weir-milter on this Redis says of itself.
 *
 * Each publishes PREFIX:node:NODE every few seconds (store/publish.c); the key expires when it
 * is gone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

/* Some of them may look like numbers, and do not always. */
static bool
is_text(const char *field)
{
	return strcmp(field, "generation") == 0 || strcmp(field, "load_value") == 0 ||
	    strcmp(field, "load_mark") == 0;
}

static void
add_node(struct ctl *c, json_t *nodes, const char *key, size_t skip)
{
	redisReply *r = ctl_lookf(c, "HGETALL %s", key);
	json_t *node = json_object();
	char name[128];

	json_object_set_new(
	    node, "node", json_string(out_safe(key + skip, 100, name, sizeof name)));
	for (size_t i = 0; r != NULL && r->type == REDIS_REPLY_ARRAY && i + 1 < r->elements;
	     i += 2) {
		char field[64], value[128], *end;
		long long n;

		out_safe(r->element[i]->str, 60, field, sizeof field);
		out_safe(r->element[i + 1]->str, 120, value, sizeof value);
		n = strtoll(value, &end, 10);
		json_object_set_new(node, field,
		    *end == '\0' && end != value && !is_text(field) ? json_integer(n)
								    : json_string(value));
	}
	if (r != NULL)
		freeReplyObject(r);
	if (json_object_size(node) > 1)
		json_array_append(nodes, node);
	json_decref(node);
}

static void
print_sessions(const json_t *n)
{
	int64_t workers = out_whole(n, "draining_workers");

	printf("  sessions open       %" PRId64, out_whole(n, "sessions"));
	if (workers > 0)
		printf(", %" PRId64 " of them in %" PRId64 " worker%s of before a reload",
		    out_whole(n, "draining_sessions"), workers, workers == 1 ? "" : "s");
	putchar('\n');
}

static void
print_drain(const struct ctl *c, const json_t *n, int64_t now)
{
	int64_t until = out_whole(n, "drain_until") * USEC_PER_SEC;
	char left[32];

	out_colour(c, YELLOW);
	printf("  maintenance         new sessions are refused ");
	if (until > 0)
		printf("for %s more", out_duration(until - now, left));
	else
		printf("until it is taken back");
	out_colour(c, PLAIN);
	putchar('\n');
}

/* Nothing of a weir-milter that has no marks. */
static void
print_load(const struct ctl *c, const json_t *n, int64_t now)
{
	static const char *const whom[] = {"", "strangers are refused", "all are refused"};
	int64_t level = out_whole(n, "load_level");
	char since[32];

	if (level < 1 && out_text(n, "load_values")[0] == '\0')
		return;
	printf("  load level          ");
	if (level >= 1 && level <= 2) {
		out_colour(c, YELLOW);
		printf("%" PRId64 ": %s for %s, %s %s (mark %s)", level, whom[level],
		    out_duration(now - out_whole(n, "load_since"), since),
		    out_text(n, "load_signal"), out_text(n, "load_value"),
		    out_text(n, "load_mark"));
		out_colour(c, PLAIN);
	} else
		printf("%" PRId64, level);
	printf("; %" PRId64 " refused\n  load                %s\n", out_whole(n, "load_refused"),
	    out_text(n, "load_values"));
}

static void
print_status(const struct ctl *c, const json_t *result)
{
	const json_t *nodes = json_object_get(result, "nodes"), *n;
	int64_t now = clock_real_us();
	size_t i;

	printf("generation in redis %s\n", out_text(result, "generation"));
	if (json_array_size(nodes) == 0)
		puts("no weir-milter is using this redis (or none has for ten seconds)");
	json_array_foreach(nodes, i, n)
	{
		char up[32], since[32];

		putchar('\n');
		out_colour(c, BOLD);
		printf("%s", out_text(n, "node"));
		out_colour(c, PLAIN);
		printf("  weir %s, up %s, %" PRId64 " workers%s, mode %s\n", out_text(n, "version"),
		    out_duration(now - out_whole(n, "started"), up), out_whole(n, "workers"),
		    strcmp(out_text(n, "engine"), "event") == 0 ? ", engine event" : "",
		    out_text(n, "mode"));
		print_sessions(n);
		if (strcmp(out_text(n, "drain"), "on") == 0)
			print_drain(c, n, now);
		print_load(c, n, now);
		printf("  decisions           %" PRId64 "/s, %" PRId64 " in all\n",
		    out_whole(n, "decisions_per_s"), out_whole(n, "decisions"));
		printf("  refused or deferred %" PRId64 "/s, %" PRId64 " in all\n",
		    out_whole(n, "refused_per_s"), out_whole(n, "refused"));
		if (out_whole(n, "shadowed") > 0)
			printf("  shadow limits       would have refused %" PRId64 " in all\n",
			    out_whole(n, "shadowed"));
		printf("  redis round trip    p50 %" PRId64 " us, p99 %" PRId64 " us\n",
		    out_whole(n, "p50_us"), out_whole(n, "p99_us"));
		printf("  redis lost          %" PRId64 " times", out_whole(n, "breaker_opened"));
		if (out_whole(n, "breaker_last") > 0)
			printf(", last %s ago",
			    out_duration(now - out_whole(n, "breaker_last"), since));
		printf("\n  generation          %s", out_text(n, "generation"));
		if (strcmp(out_text(n, "generation"), out_text(result, "generation")) != 0) {
			out_colour(c, YELLOW);
			printf("  (not yet the one in redis)");
			out_colour(c, PLAIN);
		}
		putchar('\n');
	}
}

json_t *
ctl_nodes(struct ctl *c)
{
	char pattern[CTL_KEY_MAX], cursor[CTL_CURSOR_MAX] = "0";
	json_t *nodes = json_array();

	ctl_key(c, "node:*", pattern);
	do {
		redisReply *r = ctl_scan(c, cursor, pattern);

		for (size_t i = 0; i < r->element[1]->elements; i++)
			add_node(c, nodes, r->element[1]->element[i]->str, strlen(pattern) - 1);
		freeReplyObject(r);
	} while (strcmp(cursor, "0") != 0);
	return nodes;
}

int
cmd_status(struct ctl *c, int argc, char **argv)
{
	char key[CTL_KEY_MAX], safe[64];
	json_t *nodes;
	redisReply *r;

	(void)argv;
	if (argc != 1)
		return CTL_USAGE;
	nodes = ctl_nodes(c);
	r = ctl_lookf(c, "GET %s", ctl_key(c, "generation", key));
	out_result(c,
	    json_pack("{ss so}", "generation",
		r != NULL && r->type == REDIS_REPLY_STRING ? out_safe(r->str, 24, safe, sizeof safe)
							   : "0",
		"nodes", nodes),
	    print_status);
	if (r != NULL)
		freeReplyObject(r);
	return CTL_DONE;
}
