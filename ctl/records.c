/* SPDX-License-Identifier: BSD-2-Clause */
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

/* What is longer is not weir's: a quota has 42 pairs of 16 and at most 13 digits. */
#define FIELD_MAX 2048
/* 16 digits, as store/lua/ask.lua has it. */
#define TRUST_NUMBER_MAX INT64_C(10000000000000000)
#define NUMBERS_MAX (2 * QUOTA_CHUNKS)
/* More than weir ever counts; in millionths it still fits. */
#define QUOTA_MOST (2 * QUOTA_FIGURE_MAX)

/* The numbers of a field, all that there is of them; 0 when it holds anything else. */
static unsigned
numbers(const char *text, int64_t out[NUMBERS_MAX])
{
	unsigned n = 0;

	if (text == NULL)
		return 0;
	for (text += strspn(text, " "); *text != '\0'; text += strspn(text, " "))
		if (n == NUMBERS_MAX || !units_scan(&text, INT64_MAX / 2, &out[n++]) ||
		    (*text != ' ' && *text != '\0'))
			return 0;
	return n;
}

int64_t
record_number(const json_t *fields, const char *name)
{
	int64_t v[NUMBERS_MAX];

	return numbers(json_string_value(json_object_get(fields, name)), v) == 1 ? v[0] : 0;
}

bool
record_pair(const char *text, int64_t *a, int64_t *b)
{
	int64_t v[NUMBERS_MAX];

	if (numbers(text, v) != 2)
		return false;
	*a = v[0];
	*b = v[1];
	return true;
}

bool
record_quota(const char *text, int64_t window_us, int64_t now_us, struct quota *q)
{
	int64_t v[NUMBERS_MAX];
	unsigned n = numbers(text, v);

	q->n = 0;
	if (n == 0 || n % 2 != 0)
		return false;
	for (unsigned i = 0; i < n; i += 2)
		if (v[i + 1] <= QUOTA_MOST)
			q->chunk[q->n++] = (struct quota_chunk){v[i], v[i + 1]};
	(void)quota_expire(q, now_us, window_us);
	return true;
}

bool
record_level(const struct client_record *r, const struct limit *l, int64_t times, int64_t now_us,
    int64_t *level)
{
	char field[LIMIT_NAME_MAX + sizeof QUOTA_FIELD];
	int64_t was, at;
	const char *text;
	struct quota q;

	snprintf(field, sizeof field, "%s%s", l->name, l->quota != 0 ? QUOTA_FIELD : "");
	text = json_string_value(json_object_get(r->fields, field));
	if (l->quota != 0) {
		if (!record_quota(text, l->window_us, now_us, &q))
			return false;
		*level = quota_used(&q) < QUOTA_MOST ? quota_used(&q) * MICRO : QUOTA_MOST * MICRO;
		return true;
	}
	if (l->rate == 0 || !record_pair(text, &was, &at))
		return false;
	*level = bucket_drained(was, now_us - at, l->rate * times, l->period_us);
	return true;
}

bool
record_trust(const char *text, struct trust *t)
{
	int64_t v[NUMBERS_MAX];

	memset(t, 0, sizeof *t);
	if (numbers(text, v) != 5)
		return false;
	for (size_t i = 0; i < 5; i++)
		if (v[i] >= TRUST_NUMBER_MAX)
			return false;
	*t = (struct trust){v[0], v[1], v[2], v[3], v[4]};
	return true;
}

bool
record_known(
    const struct ruleset *set, const json_t *fields, int64_t now_us, struct trust *t, bool *passed)
{
	const char *trust = json_string_value(json_object_get(fields, "trust"));
	int64_t last = record_number(fields, "known");

	(void)record_trust(trust, t);
	trust_fade(t, &set->trust, now_us);
	*passed = set->greylist.enabled && last > 0 &&
	    (last > now_us || now_us - last < set->greylist.keep_us);
	return trust_known(t, &set->trust, *passed);
}

int64_t
record_times(const struct ruleset *set, const struct client_record *r, const struct limit *l)
{
	bool placed = r->kind == PER_ADDRESS || r->kind == PER_NETWORK;
	struct net n;

	if (!placed)
		return l->per == r->kind;
	if (!net_parse(r->who, &n))
		return 0;
	for (unsigned i = 0; l->whom == FOR_NETWORKS; i++) {
		if (i == l->nnets)
			return 0;
		if (net_contains(&l->nets[i], &n.base))
			break;
	}
	if (r->kind == PER_ADDRESS)
		return l->per == PER_ADDRESS;
	if (l->per == PER_NETWORK &&
	    n.bits == (n.base.family == ADDR_V4 ? set->network_v4 : set->network_v6))
		return 1;
	for (unsigned i = 0; i < l->nrungs && n.base.family == ADDR_V6; i++)
		if (l->rungs[i].bits == n.bits &&
		    n.bits < (l->per == PER_ADDRESS ? set->address_v6 : set->network_v6))
			return l->rungs[i].times;
	return 0;
}

/* "{TAG}:TEXT" or "{TAG}", as policy/plan.c makes it. */
bool
record_who(const char *key, size_t len, char out[RECORD_KEY_MAX])
{
	const char *end = memchr(key, '}', len);

	if (key[0] != '{' || end == NULL || len >= RECORD_KEY_MAX)
		return false;
	if ((size_t)(end - key) + 1 < len && end[1] == ':')
		snprintf(
		    out, RECORD_KEY_MAX, "%.*s", (int)(len - (size_t)(end - key) - 2), end + 2);
	else
		snprintf(out, RECORD_KEY_MAX, "%.*s", (int)(end - key) - 1, key + 1);
	out_safe(out, RECORD_KEY_MAX - 1, out, RECORD_KEY_MAX);
	return true;
}

static json_t *
hash_fields(const redisReply *hash)
{
	json_t *fields = json_object();

	if (hash->type != REDIS_REPLY_ARRAY)
		return fields;
	for (size_t i = 0; i + 1 < hash->elements; i += 2) {
		char name[128], value[FIELD_MAX];

		out_safe(hash->element[i]->str, sizeof name - 1, name, sizeof name);
		out_safe(hash->element[i + 1]->str, sizeof value - 1, value, sizeof value);
		json_object_set_new(fields, name, json_string(value));
	}
	return fields;
}

json_t *
record_read(struct ctl *c, enum limit_per kind, const char *record_key, char key[CTL_KEY_MAX])
{
	char name[CTL_KEY_MAX];
	redisReply *hash;
	json_t *fields;

	snprintf(name, sizeof name, "%s:%s", limit_per_name(kind), record_key);
	hash = ctl_callf(c, "HGETALL %s", ctl_key(c, name, key));
	fields = hash_fields(hash);
	freeReplyObject(hash);
	return fields;
}

static bool
is_quota(const char *field)
{
	const char *colon = strchr(field, ':');

	return colon != NULL && strcmp(colon, QUOTA_FIELD) == 0;
}

/* When something was last charged: records of networks, users, ... keep no `last`. */
static int64_t
last_charge(const json_t *fields)
{
	const char *name;
	json_t *value;
	int64_t last = 0;

	json_object_foreach((json_t *)fields, name, value)
	{
		int64_t v[NUMBERS_MAX], at = 0;
		unsigned n = numbers(json_string_value(value), v);

		if (strcmp(name, "trust") == 0 && n == 5)
			at = v[3];
		else if (strcmp(name, "known") == 0 && n == 1)
			at = v[0];
		else if (is_quota(name) && n % 2 == 0 && n > 0)
			at = v[n - 2];
		else if (n == 2)
			at = v[1];
		if (at > last)
			last = at;
	}
	return last;
}

static bool
read_record(struct client_record *r, const redisReply *hash)
{
	const char *refusal;

	r->fields = hash_fields(hash);
	r->first_us = record_number(r->fields, "first");
	r->last_us = record_number(r->fields, "last");
	if (r->last_us == 0)
		r->last_us = last_charge(r->fields);
	r->ok = record_number(r->fields, "ok");
	r->refused = record_number(r->fields, "refused");
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
		ctl_push(c, 2, (const char *[]){"HGETALL", keys->element[i]->str});
	for (size_t i = 0; i < keys->elements; i++) {
		const char *key = keys->element[i]->str + skip;
		struct client_record r = {.kind = kind};
		redisReply *hash = ctl_pull(c);

		if (go_on && record_who(key, strlen(key), r.who)) {
			strcpy(r.key, key);
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
	char pattern[CTL_KEY_MAX], cursor[CTL_CURSOR_MAX] = "0";
	bool go_on = true;

	ctl_key(c, limit_per_name(kind), pattern);
	strcat(pattern, ":{*");
	do {
		redisReply *r = ctl_scan(c, cursor, pattern);

		go_on = read_step(c, r->element[1], kind, strlen(pattern) - 2, fn, ctx);
		freeReplyObject(r);
	} while (go_on && strcmp(cursor, "0") != 0);
}

static bool
is_record(const char *key)
{
	for (int kind = 0; kind < PERS; kind++) {
		const char *name = limit_per_name((enum limit_per)kind);
		size_t len = strlen(name);

		if (strncmp(key, name, len) == 0 && strncmp(key + len, ":{", 2) == 0)
			return true;
	}
	return false;
}

/* Returns how many replies are to come. */
static unsigned
append_hdel(
    struct ctl *c, const redisReply *keys, size_t skip, unsigned n, const char *const *fields)
{
	const char *argv[2 + FORGET_MAX] = {"HDEL"};
	unsigned sent = 0;

	for (unsigned i = 0; i < n; i++)
		argv[2 + i] = fields[i];
	for (size_t i = 0; i < keys->elements; i++) {
		argv[1] = keys->element[i]->str;
		if (!is_record(argv[1] + skip))
			continue;
		ctl_push(c, (int)(2 + n), argv);
		sent++;
	}
	return sent;
}

void
records_forget(struct ctl *c, unsigned n, const char *const *fields)
{
	char pattern[CTL_KEY_MAX], cursor[CTL_CURSOR_MAX] = "0";

	ctl_key(c, "*", pattern);
	do {
		redisReply *r = ctl_scan(c, cursor, pattern);
		unsigned sent;

		sent = append_hdel(c, r->element[1], strlen(pattern) - 1, n, fields);
		freeReplyObject(r);
		while (sent-- > 0) {
			/* a key of another type is not weir's, and has no field */
			freeReplyObject(ctl_pull(c));
		}
	} while (strcmp(cursor, "0") != 0);
}
