/*
 * exceptions.c - see exceptions.h.
 *
 * Two arrays, most specific first. Nearly every client matches nothing, and a netset over all
 * networks says so in a few steps.
 */
#include <stdlib.h>
#include <string.h>

#include "weir/exceptions.h"
#include "err.h"

#define USER_PREFIX "user:"

struct override {
	struct who who;
	struct limit limit;
};

struct entry {
	struct who who;
	enum listed what;
};

struct exceptions {
	unsigned noverrides, nlisted;
	struct override *overrides;
	struct entry *listed;
	struct netset *networks; /* of all entries */
	bool about_users;
};

bool
who_parse(const char *text, struct who *out, char *err, size_t errlen)
{
	memset(out, 0, sizeof *out);
	if (strncmp(text, USER_PREFIX, sizeof USER_PREFIX - 1) == 0) {
		const char *name = text + sizeof USER_PREFIX - 1;

		if (*name == '\0' || strlen(name) > USER_MAX)
			return err_set(err, errlen, "a user is written as user:NAME", NULL);
		for (const char *p = name; *p != '\0'; p++)
			if ((unsigned char)*p <= 0x20 || (unsigned char)*p == 0x7f)
				return err_set(err, errlen,
				    "a user's name has no blanks or control characters", NULL);
		out->is_user = true;
		strcpy(out->user, name);
		return true;
	}
	if (!net_parse(text, &out->net))
		return err_set(err, errlen,
		    "must be an address, a network without host bits (192.0.2.0/24), or "
		    "user:NAME",
		    NULL);
	return true;
}

const char *
who_format(const struct who *w, char out[WHO_TEXT_MAX])
{
	if (!w->is_user)
		return net_format(&w->net, out);
	strcpy(out, USER_PREFIX);
	strcat(out, w->user);
	return out;
}

bool
who_matches(const struct who *w, const struct addr *client, const char *user)
{
	if (w->is_user)
		return user[0] != '\0' && strcmp(w->user, user) == 0;
	return net_contains(&w->net, client);
}

static int
who_cmp(const struct who *a, const struct who *b)
{
	if (a->is_user != b->is_user)
		return a->is_user ? -1 : 1;
	if (a->is_user)
		return strcmp(a->user, b->user);
	if (a->net.bits != b->net.bits)
		return a->net.bits > b->net.bits ? -1 : 1;
	return memcmp(&a->net.base, &b->net.base, sizeof a->net.base);
}

static int
override_cmp(const void *a, const void *b)
{
	return who_cmp(&((const struct override *)a)->who, &((const struct override *)b)->who);
}

static int
entry_cmp(const void *a, const void *b)
{
	return who_cmp(&((const struct entry *)a)->who, &((const struct entry *)b)->who);
}

struct exceptions *
exceptions_new(unsigned overrides, unsigned listed)
{
	struct exceptions *e = calloc(1, sizeof *e);

	if (e == NULL)
		return NULL;
	/* calloc(0) may give NULL, which must not look like a failure */
	e->overrides = calloc(overrides + 1, sizeof *e->overrides);
	e->listed = calloc(listed + 1, sizeof *e->listed);
	e->networks = netset_new();
	if (e->overrides == NULL || e->listed == NULL || e->networks == NULL)
		exceptions_free(&e);
	return e;
}

void
exceptions_free(struct exceptions **e)
{
	if (*e == NULL)
		return;
	free((*e)->overrides);
	free((*e)->listed);
	netset_free(&(*e)->networks);
	free(*e);
	*e = NULL;
}

static void
note_who(struct exceptions *e, const struct who *w)
{
	if (w->is_user)
		e->about_users = true;
	else
		(void)netset_add(e->networks, &w->net);
}

void
exceptions_add_override(struct exceptions *e, const struct who *w, const struct limit *l)
{
	struct override *o = &e->overrides[e->noverrides++];

	o->who = *w;
	o->limit = *l;
	note_who(e, w);
}

void
exceptions_add_listed(struct exceptions *e, const struct who *w, enum listed what)
{
	struct entry *l = &e->listed[e->nlisted++];

	l->who = *w;
	l->what = what;
	note_who(e, w);
}

void
exceptions_seal(struct exceptions *e)
{
	qsort(e->overrides, e->noverrides, sizeof *e->overrides, override_cmp);
	qsort(e->listed, e->nlisted, sizeof *e->listed, entry_cmp);
	netset_seal(e->networks);
}

/* False: nothing here can be about this client. */
static bool
may_match(const struct exceptions *e, const struct addr *client, const char *user)
{
	if (e == NULL)
		return false;
	return (e->about_users && user[0] != '\0') || netset_contains(e->networks, client);
}

const struct limit *
exceptions_limit(
    const struct exceptions *e, const struct limit *l, const struct addr *client, const char *user)
{
	if (!may_match(e, client, user))
		return l;
	for (unsigned i = 0; i < e->noverrides; i++) {
		const struct override *o = &e->overrides[i];

		if (strcmp(o->limit.name, l->name) == 0 && who_matches(&o->who, client, user))
			return &o->limit;
	}
	return l;
}

enum listed
exceptions_listed(const struct exceptions *e, const struct addr *client, const char *user)
{
	if (!may_match(e, client, user))
		return LISTED_NOT;
	for (unsigned i = 0; i < e->nlisted; i++)
		if (who_matches(&e->listed[i].who, client, user))
			return e->listed[i].what;
	return LISTED_NOT;
}

bool
exceptions_about_users(const struct exceptions *e)
{
	return e != NULL && e->about_users;
}

int64_t
exceptions_drain_us(const struct exceptions *e, enum limit_per per)
{
	int64_t longest = 0;

	for (unsigned i = 0; e != NULL && i < e->noverrides; i++) {
		int64_t drain = limit_drain_us(&e->overrides[i].limit);

		if (e->overrides[i].limit.per == per && drain > longest)
			longest = drain;
	}
	return longest;
}
