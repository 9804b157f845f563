/*
 * records.c - walks over what Redis knows of clients, without ever holding Redis up: SCAN in
 * small steps, and the hashes of a step in one pipeline.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "weir/units.h"
#include "ctl.h"

#define SCAN_STEP 500

static int64_t
number(const json_t *fields, const char *name)
{
	const char *text = json_string_value(json_object_get(fields, name));

	return text != NULL ? strtoll(text, NULL, 10) : 0;
}

bool
record_level(const struct client_record *r, const struct limit *l, int64_t now_us, int64_t *level)
{
	const char *text = json_string_value(json_object_get(r->fields, l->name));
	long long was, at;

	if (text == NULL || sscanf(text, "%lld %lld", &was, &at) != 2 || was < 0)
		return false;
	*level = bucket_drained(was, now_us - at, l->rate, l->period_us);
	return true;
}

/* "{TAG}:TEXT" or "{TAG}", as policy/plan.c makes it. */
static bool
split_key(const char *key, struct client_record *r)
{
	const char *end = strchr(key, '}');

	if (key[0] != '{' || end == NULL || strlen(key) >= sizeof r->key)
		return false;
	strcpy(r->key, key);
	if (end[1] == ':')
		strcpy(r->who, end + 2);
	else {
		memcpy(r->who, key + 1, (size_t)(end - key) - 1);
		r->who[end - key - 1] = '\0';
	}
	return true;
}

static json_t *
hash_fields(const redisReply *hash)
{
	json_t *fields = json_object();

	if (hash->type != REDIS_REPLY_ARRAY)
		return fields;
	for (size_t i = 0; i + 1 < hash->elements; i += 2) {
		char name[128], value[256];

		out_safe(hash->element[i]->str, sizeof name - 1, name, sizeof name);
		out_safe(hash->element[i + 1]->str, sizeof value - 1, value, sizeof value);
		json_object_set_new(fields, name, json_string(value));
	}
	return fields;
}

/* When a bucket was last charged: records of networks, users, ... keep no `last`. */
static int64_t
last_charge(const json_t *fields)
{
	const char *name;
	json_t *value;
	int64_t last = 0;

	json_object_foreach((json_t *)fields, name, value)
	{
		long long level, at;
		int end = 0;

		if (sscanf(json_string_value(value), "%lld %lld%n", &level, &at, &end) == 2 &&
		    json_string_value(value)[end] == '\0' && at > last)
			last = at;
	}
	return last;
}

static bool
read_record(struct client_record *r, const redisReply *hash)
{
	const char *refusal;

	r->fields = hash_fields(hash);
	r->first_us = number(r->fields, "first");
	r->last_us = number(r->fields, "last");
	if (r->last_us == 0)
		r->last_us = last_charge(r->fields);
	r->ok = number(r->fields, "ok");
	r->refused = number(r->fields, "refused");
	r->refusal[0] = '\0';
	r->refusal_us = 0;
	refusal = json_string_value(json_object_get(r->fields, "refusal"));
	if (refusal != NULL) {
		const char *blank = strchr(refusal, ' ');
		size_t len = blank != NULL ? (size_t)(blank - refusal) : 0;

		if (len > 0 && len < sizeof r->refusal) {
			memcpy(r->refusal, refusal, len);
			r->refusal[len] = '\0';
			r->refusal_us = strtoll(blank + 1, NULL, 10);
		}
	}
	return json_object_size(r->fields) > 0;
}

/* The keys of one SCAN step. False: fn wants no more. */
static bool
read_step(struct ctl *c, const redisReply *keys, enum limit_per kind, size_t skip, record_fn *fn,
    void *ctx)
{
	bool go_on = true;

	for (size_t i = 0; i < keys->elements; i++)
		redisAppendCommand(c->redis, "HGETALL %s", keys->element[i]->str);
	for (size_t i = 0; i < keys->elements; i++) {
		struct client_record r = {.kind = kind};
		redisReply *hash = NULL;

		if (redisGetReply(c->redis, (void **)&hash) != REDIS_OK)
			ctl_die(CTL_NO_REDIS, "redis: %s", c->redis->errstr);
		if (go_on && split_key(keys->element[i]->str + skip, &r)) {
			if (read_record(&r, hash))
				go_on = fn(ctx, &r);
			json_decref(r.fields);
		}
		freeReplyObject(hash);
	}
	return go_on;
}

void
records_each(struct ctl *c, enum limit_per kind, record_fn *fn, void *ctx)
{
	char pattern[CTL_KEY_MAX], cursor[32] = "0";
	bool go_on = true;

	ctl_key(c, limit_per_name(kind), pattern);
	strcat(pattern, ":{*");
	do {
		redisReply *r =
		    ctl_callf(c, "SCAN %s MATCH %s COUNT %d", cursor, pattern, SCAN_STEP);

		if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
		    r->element[0]->type != REDIS_REPLY_STRING ||
		    r->element[1]->type != REDIS_REPLY_ARRAY)
			ctl_die(CTL_REFUSED, "redis: SCAN gave something odd");
		snprintf(cursor, sizeof cursor, "%s", r->element[0]->str);
		go_on = read_step(c, r->element[1], kind, strlen(pattern) - 2, fn, ctx);
		freeReplyObject(r);
	} while (go_on && strcmp(cursor, "0") != 0);
}
