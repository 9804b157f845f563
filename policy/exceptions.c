/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * exceptions.c - see exceptions.h.
 *
 * Overrides: an array, most specific first. Nearly every client matches nothing, and a netset over
 * all networks says so in a few steps.
 *
 * Lists: one sorted array, searched once for each text or prefix length under which an entry about
 * the client, the sender or the recipient may stand.
 */
#include <stdlib.h>
#include <string.h>

#include "weir/exceptions.h"
#include "forms.h"

struct override {
	struct who who;
	struct limit limit;
};

/* Texts are copied here; blocks, because entries point into them. */
#define TEXT_BLOCK 65536
struct texts {
	struct texts *next;
	size_t used;
	char bytes[TEXT_BLOCK];
};

/* Prefix lengths that are there: bit i of [0] for IPv4, of [1] for IPv6. */
struct lengths {
	uint64_t bits[3];
};

struct exceptions {
	unsigned noverrides, overrides_room;
	struct override *overrides;
	struct netset *networks; /* of the overrides */
	unsigned nlisted, listed_room, next_order;
	struct listed_entry *listed;
	struct texts *texts;
	unsigned count[WHO_KINDS]; /* of the lists */
	struct lengths v4, v6;
	bool users_overridden, traps;
	bool failed; /* memory ran out */
};

/* --- building ------------------------------------------------------------------------------- */

static int
who_cmp(const struct who *a, const struct who *b)
{
	bool a_user = a->kind == WHO_USER, b_user = b->kind == WHO_USER;

	if (a_user != b_user)
		return a_user ? -1 : 1;
	if (a_user)
		return strcmp(a->text, b->text);
	if (a->net.bits != b->net.bits)
		return a->net.bits > b->net.bits ? -1 : 1;
	return memcmp(&a->net.base, &b->net.base, sizeof a->net.base);
}

static int
override_cmp(const void *a, const void *b)
{
	return who_cmp(&((const struct override *)a)->who, &((const struct override *)b)->who);
}

/* What an entry is about, without what it says. */
static int
listed_cmp(const struct listed_entry *a, const struct listed_entry *b)
{
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	if (a->kind != WHO_NET)
		return strcmp(a->text, b->text);
	if (a->net.bits != b->net.bits)
		return a->net.bits < b->net.bits ? -1 : 1;
	return memcmp(&a->net.base, &b->net.base, sizeof a->net.base);
}

/* Of two about the same the later one first. */
static int
entry_cmp(const void *a, const void *b)
{
	const struct listed_entry *x = a, *y = b;
	int c = listed_cmp(x, y);

	return c != 0 ? c : x->order > y->order ? -1 : 1;
}

struct exceptions *
exceptions_new(unsigned overrides, unsigned listed)
{
	struct exceptions *e = calloc(1, sizeof *e);

	if (e == NULL)
		return NULL;
	/* calloc(0) may give NULL, which must not look like a failure */
	e->overrides_room = overrides + 1;
	e->listed_room = listed + 1;
	e->overrides = calloc(e->overrides_room, sizeof *e->overrides);
	e->listed = calloc(e->listed_room, sizeof *e->listed);
	e->networks = netset_new();
	if (e->overrides == NULL || e->listed == NULL || e->networks == NULL)
		exceptions_free(&e);
	return e;
}

void
exceptions_free(struct exceptions **e)
{
	struct texts *t;

	if (*e == NULL)
		return;
	while ((t = (*e)->texts) != NULL) {
		(*e)->texts = t->next;
		free(t);
	}
	free((*e)->overrides);
	free((*e)->listed);
	netset_free(&(*e)->networks);
	free(*e);
	*e = NULL;
}

/* Room for one more in an array; false (and e->failed) when there is no memory. */
static bool
more_room(struct exceptions *e, void **array, unsigned n, unsigned *room, size_t size)
{
	void *bigger;

	if (n < *room)
		return true;
	bigger = realloc(*array, (size_t)*room * 2 * size);
	if (bigger == NULL) {
		e->failed = true;
		return false;
	}
	*array = bigger;
	*room *= 2;
	return true;
}

void
exceptions_add_override(struct exceptions *e, const struct who *w, const struct limit *l)
{
	void *array = e->overrides;
	struct override *o;

	if (!more_room(e, &array, e->noverrides, &e->overrides_room, sizeof *e->overrides))
		return;
	e->overrides = array;
	o = &e->overrides[e->noverrides++];
	o->who = *w;
	o->limit = *l;
	if (w->kind == WHO_USER)
		e->users_overridden = true;
	else if (!netset_add(e->networks, &w->net))
		e->failed = true;
}

static const char *
keep_text(struct exceptions *e, const char *text)
{
	size_t len = strlen(text) + 1; /* at most MAILBOX_MAX + 1 */
	struct texts *t = e->texts;
	char *kept;

	if (t == NULL || TEXT_BLOCK - t->used < len) {
		t = malloc(sizeof *t);
		if (t == NULL) {
			e->failed = true;
			return NULL;
		}
		t->next = e->texts;
		t->used = 0;
		e->texts = t;
	}
	kept = t->bytes + t->used;
	memcpy(kept, text, len);
	t->used += len;
	return kept;
}

static void
add_listed(struct exceptions *e, enum who_kind kind, const struct net *net, const char *text,
    const struct listing *says, bool from_file)
{
	void *array = e->listed;
	struct listed_entry *l;

	if (!more_room(e, &array, e->nlisted, &e->listed_room, sizeof *e->listed))
		return;
	e->listed = array;
	if (kind != WHO_NET && (text = keep_text(e, text)) == NULL)
		return;
	l = &e->listed[e->nlisted++];
	memset(l, 0, sizeof *l);
	l->kind = kind;
	l->net = *net;
	l->text = kind != WHO_NET ? text : NULL;
	l->says = *says;
	l->from_file = from_file;
	l->order = e->next_order++;
	e->traps = e->traps || says->action == LIST_TRAP;
}

void
exceptions_add_listed(struct exceptions *e, const struct who *w, const struct listing *l)
{
	add_listed(e, w->kind, &w->net, w->text, l, false);
}

void
exceptions_add_file(struct exceptions *e, const struct exceptions *file)
{
	for (unsigned i = 0; file != NULL && i < file->nlisted; i++) {
		const struct listed_entry *l = &file->listed[i];

		add_listed(e, l->kind, &l->net, l->text, &l->says, true);
	}
}

static struct lengths *
lengths_of(struct exceptions *e, uint8_t family)
{
	return family == ADDR_V4 ? &e->v4 : &e->v6;
}

bool
exceptions_seal(struct exceptions *e)
{
	unsigned kept = 0;

	qsort(e->overrides, e->noverrides, sizeof *e->overrides, override_cmp);
	netset_seal(e->networks);
	qsort(e->listed, e->nlisted, sizeof *e->listed, entry_cmp);
	for (unsigned i = 0; i < e->nlisted; i++) {
		const struct listed_entry *l = &e->listed[i];

		if (kept > 0 && listed_cmp(l, &e->listed[kept - 1]) == 0)
			continue;
		if (l->kind == WHO_NET)
			lengths_of(e, l->net.base.family)->bits[l->net.bits / 64] |= UINT64_C(1)
			    << l->net.bits % 64;
		e->count[l->kind]++;
		e->listed[kept++] = *l;
	}
	e->nlisted = kept;
	return !e->failed;
}

/* --- overrides ------------------------------------------------------------------------------ */

const struct limit *
exceptions_limit(
    const struct exceptions *e, const struct limit *l, const struct addr *client, const char *user)
{
	const struct facts f = {.client = *client, .user = user};

	if (e == NULL || e->noverrides == 0 ||
	    (!(e->users_overridden && user[0] != '\0') && !netset_contains(e->networks, client)))
		return l;
	for (unsigned i = 0; i < e->noverrides; i++) {
		const struct override *o = &e->overrides[i];

		if (strcmp(o->limit.name, l->name) == 0 && who_matches(&o->who, &f))
			return &o->limit;
	}
	return l;
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

/* --- lists ---------------------------------------------------------------------------------- */

/* What a look-up asks: only entries that say one of these count. */
#define SAYS(action) (1u << (action))
#define SAYS_ACCESS (SAYS(LIST_EXEMPT) | SAYS(LIST_BLOCK))
#define SAYS_ANYTHING (SAYS(LIST_ACTIONS) - 1)

struct search {
	const struct exceptions *e;
	enum who_kind kind;
	unsigned says;
	const struct listed_entry *found;
};

/* True when that very entry is there and has something to say. */
static bool
find_entry(struct search *s, const struct listed_entry *key)
{
	unsigned low = 0, high = s->e->nlisted;

	while (low < high) {
		unsigned mid = low + (high - low) / 2;
		int c = listed_cmp(key, &s->e->listed[mid]);

		if (c == 0) {
			if ((SAYS(s->e->listed[mid].says.action) & s->says) != 0)
				s->found = &s->e->listed[mid];
			return s->found != NULL;
		}
		if (c < 0)
			high = mid;
		else
			low = mid + 1;
	}
	return false;
}

static bool
find_text(void *ctx, const char *text)
{
	struct search *s = ctx;
	const struct listed_entry key = {.kind = s->kind, .text = text};

	return find_entry(s, &key);
}

/* The narrowest network from `most` bits down to `least`. */
static bool
find_net(struct search *s, const struct addr *client, int most, int least)
{
	const struct lengths *l = client->family == ADDR_V4 ? &s->e->v4 : &s->e->v6;

	for (int bits = most; bits >= least; bits--)
		if ((l->bits[bits / 64] >> bits % 64 & 1) != 0) {
			const struct listed_entry key = {
			    .kind = WHO_NET, .net = net_of(client, (unsigned)bits)};

			if (find_entry(s, &key))
				return true;
		}
	return false;
}

/* Only kinds that are there are looked for. */
static bool
begin(struct search *s, enum who_kind kind)
{
	s->kind = kind;
	return s->e->count[kind] > 0;
}

/* A user, an address, a host name, a network. */
static const struct listed_entry *
find_client(const struct exceptions *e, const struct addr *client, const char *user,
    const char *name, unsigned says)
{
	int host = client->family == ADDR_V4 ? 32 : 128;
	bool has_address = client->family != ADDR_NONE;
	struct search s = {.e = e, .says = says};

	if ((begin(&s, WHO_USER) && user[0] != '\0' && find_text(&s, user)) ||
	    (begin(&s, WHO_NET) && has_address && find_net(&s, client, host, host)) ||
	    (begin(&s, WHO_NAME) && forms_of_name(name, find_text, &s)) ||
	    (begin(&s, WHO_NET) && has_address && find_net(&s, client, host - 1, 0)))
		return s.found;
	return NULL;
}

static const struct listed_entry *
find_address(const struct exceptions *e, enum who_kind kind, const char *address, unsigned says)
{
	struct search s = {.e = e, .says = says};

	if (begin(&s, kind) && forms_of_address(address, find_text, &s))
		return s.found;
	return NULL;
}

const struct listed_entry *
exceptions_client(
    const struct exceptions *e, const struct addr *client, const char *user, const char *name)
{
	return e != NULL ? find_client(e, client, user, name, SAYS_ACCESS) : NULL;
}

enum listed
exceptions_listed(
    const struct exceptions *e, const struct addr *client, const char *user, const char *name)
{
	const struct listed_entry *l = exceptions_client(e, client, user, name);

	return l == NULL		    ? LISTED_NOT
	    : l->says.action == LIST_EXEMPT ? LISTED_EXEMPT
					    : LISTED_BLOCKED;
}

const struct listed_entry *
exceptions_recipient(const struct exceptions *e, const char *recipient)
{
	if (e == NULL || recipient[0] == '\0')
		return NULL;
	return find_address(e, WHO_RECIPIENT, recipient, SAYS_ANYTHING);
}

bool
exceptions_trap(const struct exceptions *e, const char *recipient)
{
	const struct listed_entry *l = exceptions_recipient(e, recipient);

	return l != NULL && l->says.action == LIST_TRAP;
}

const struct listed_entry *
exceptions_greylist_entry(const struct exceptions *e, const struct facts *f)
{
	const unsigned off = SAYS(LIST_NO_GREYLIST);
	const struct listed_entry *l;

	if (e == NULL)
		return NULL;
	if ((l = find_client(e, &f->client, f->user, f->name, off)) != NULL ||
	    (l = find_address(e, WHO_SENDER, f->sender, off)) != NULL)
		return l;
	l = exceptions_recipient(e, f->recipient);
	return l == NULL || l->says.action == LIST_TRAP ? NULL : l;
}

enum grey_wish
exceptions_greylist(const struct exceptions *e, const struct facts *f, int64_t *delay_us)
{
	const struct listed_entry *l = exceptions_greylist_entry(e, f);

	*delay_us = 0;
	if (l == NULL)
		return GREY_WISH_NONE;
	if (l->says.action == LIST_NO_GREYLIST)
		return GREY_WISH_OFF;
	*delay_us = l->says.delay_us;
	return GREY_WISH_ON;
}

const char *
listed_who(const struct listed_entry *l, char out[WHO_TEXT_MAX])
{
	struct who w = {.kind = l->kind, .net = l->net};

	if (l->text != NULL)
		strcpy(w.text, l->text);
	return who_format(&w, out);
}

bool
exceptions_about_users(const struct exceptions *e)
{
	return e != NULL && (e->users_overridden || e->count[WHO_USER] > 0);
}

bool
exceptions_about_envelope(const struct exceptions *e)
{
	return e != NULL && e->count[WHO_SENDER] + e->count[WHO_RECIPIENT] > 0;
}

bool
exceptions_about_names(const struct exceptions *e)
{
	return e != NULL && e->count[WHO_NAME] > 0;
}

bool
exceptions_about_traps(const struct exceptions *e)
{
	return e != NULL && e->traps;
}

unsigned
exceptions_count(const struct exceptions *e)
{
	return e != NULL ? e->nlisted : 0;
}

const struct listed_entry *
exceptions_at(const struct exceptions *e, unsigned i)
{
	return &e->listed[i];
}
