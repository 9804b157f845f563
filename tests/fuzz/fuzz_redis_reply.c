/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_redis_reply.c - what a hostile Redis may answer: any bytes on the connection end as an
 * answer in range, an overlay that is sound memory, or an error; never worse. And the commands
 * that ask are what Redis can read.
 *
 * Input: a byte (which request was asked, how the bytes are cut into packets), then the bytes
 * that Redis sends.
 *
 * Covers: store/ask.c store/wire.c
 */
#include <sys/socket.h>
#include <unistd.h>

#include "ask.h"
#include "fuzz.h"
#include "weir/store.h"
#include "weir/units.h"
#include "wire.h"

int __wrap_socket(int, int, int);
int __wrap_connect(int, const struct sockaddr *, socklen_t);

/* The other end of the connection that wire.c opens. */
static int redis = -1;

int
__wrap_socket(int domain, int type, int protocol)
{
	int pair[2];

	(void)domain;
	(void)protocol;
	CHECK(socketpair(AF_UNIX, type, 0, pair) == 0);
	redis = pair[1];
	return pair[0];
}

int
__wrap_connect(int fd, const struct sockaddr *sa, socklen_t len)
{
	(void)fd;
	CHECK(sa->sa_family == AF_UNIX && len > 0);
	return 0;
}

/* --- the question --------------------------------------------------------------------------- */

static struct limit
make_limit(const char *name, const char *words)
{
	char err[LIMIT_ERR_MAX];
	struct limit l;

	limit_init(&l, name);
	CHECK(limit_set_words(&l, words, err, sizeof err) && limit_finish(&l, err, sizeof err));
	return l;
}

/* Of the first two bits: a bucket, sessions, a quota, a bucket and sessions; bit 2: greylisting
 * and the pool. */
static void
make_request(struct request *q, uint8_t what, const struct limit l[3])
{
	memset(q, 0, sizeof *q);
	q->nrecords = 1;
	q->records[0].kind = PER_ADDRESS;
	strcpy(q->records[0].key, "{192.0.2.0/24}:192.0.2.7");
	for (unsigned i = 0; i < 3; i++)
		if ((what & 3) == i || ((what & 3) == 3 && i < 2))
			q->hits[q->nhits++] = (struct hit){.limit = &l[i], .cost = 1};
	q->grey.asked = q->pool.asked = (what & 4) != 0;
}

/* --- the answer ----------------------------------------------------------------------------- */

static void
check_answer(const struct request *q, const struct answer *a)
{
	CHECK(a->now_us >= 0 && a->lease == 0);
	CHECK(a->grey <= GREY_CORRESPONDENT && q->grey.asked == (a->grey != GREY_NONE));
	CHECK(a->grey_wait_us >= 0 && a->grey_wait_us <= UNITS_DURATION_MAX);
	CHECK(a->blocked_us >= 0 && (q->pool.asked || !a->known));
	for (unsigned i = 0; i < q->nhits; i++) {
		const struct hit_answer *h = &a->hits[i];

		CHECK(h->used >= 0 && h->used <= (INT64_C(1) << 43) * MICRO);
		CHECK(h->over == (h->used > hit_ceiling(&q->hits[i]) * MICRO));
		CHECK(!h->skipped || (h->used == 0 && h->wait_us == 0));
		CHECK(h->wait_us >= 0 && h->wait_us <= UNITS_DURATION_MAX);
	}
}

static size_t
check_text(const char *s, size_t max)
{
	CHECK(s != NULL && strlen(s) <= max);
	return strlen(s);
}

static void
check_overlay(const struct overlay *o, unsigned times)
{
	static const unsigned most[SECTIONS] = {
	    OVERLAY_LIMITS_MAX, OVERRIDES_MAX, LISTED_MAX, OVERLAY_DRAIN_MAX};
	size_t bytes = 0;

	check_text(o->generation, GENERATION_MAX);
	CHECK(o->format >= 0);
	for (unsigned s = 0; s < SECTIONS; s++) {
		CHECK(o->n[s] <= most[s] * times && o->total[s] >= -1);
		for (unsigned i = 0; i < o->n[s]; i++) {
			const struct overlay_entry *e = &o->entries[s][i];

			bytes += check_text(e->name, 1024);
			bytes += check_text(e->words, 1024);
			CHECK(i == 0 || strcmp(e[-1].name, e->name) <= 0);
			if (i > 0 && strcmp(e[-1].name, e->name) < 0)
				CHECK(overlay_words(o, (enum overlay_section)s, e->name) != NULL);
		}
	}
	CHECK(bytes <= WIRE_BYTES_MAX * times);
}

/* What came before, and what this makes of it if it tells of changes. */
static struct overlay known;

static void
merge(const struct overlay *o)
{
	struct overlay merged;

	if (known.entries[0] != NULL && o->changes) {
		CHECK(overlay_merge(&known, o, &merged));
		check_overlay(&merged, 2);
		overlay_free(&merged);
	}
}

static void
check_reply(const redisReply *r, const struct request *q)
{
	char why[SITE_WHY_MAX] = "";
	struct overlay overlay;
	unsigned above = 0, all = 0;
	struct answer *a = fuzz_alloc(sizeof *a);

	memset(a, 0, sizeof *a);
	switch (ask_answer(r, q, a, why)) {
	case ASK_OK:
		check_answer(q, a);
		break;
	case ASK_STALE:
		check_text(a->generation, GENERATION_MAX);
		break;
	case ASK_NOSCRIPT:
		break;
	case ASK_WRONGKEY:
	case ASK_BAD:
		check_text(why, SITE_WHY_MAX - 1);
		break;
	}
	free(a);
	CHECK(ask_neighbours(r, &above, &all, why) == ASK_OK || (above == 0 && all == 0));
	CHECK(above <= all && all <= UNITS_COUNT_MAX);
	if (ask_overlay(r, &overlay, why) == ASK_OK) {
		check_overlay(&overlay, 1);
		merge(&overlay);
		overlay_free(&known);
		known = overlay;
	} else
		overlay_free(&overlay);
}

/* --- the commands --------------------------------------------------------------------------- */

/* One array of texts, as Redis reads it. Frees it. */
static void
check_command(char *cmd, size_t len)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	redisReply *r;

	CHECK(cmd != NULL && reader != NULL);
	CHECK(redisReaderFeed(reader, cmd, len) == REDIS_OK);
	CHECK(redisReaderGetReply(reader, &reply) == REDIS_OK && reply != NULL);
	CHECK(reader->pos == reader->len);
	r = reply;
	CHECK(r->type == REDIS_REPLY_ARRAY && r->elements >= 3);
	for (size_t i = 0; i < r->elements; i++)
		CHECK(r->element[i]->type == REDIS_REPLY_STRING);
	freeReplyObject(r);
	redisReaderFree(reader);
	redisFreeCommand(cmd);
}

static void
check_commands(const struct request *q, const struct redis_options *o)
{
	static const char *const pairs[] = {"name", "value"};
	struct ask_names names;
	struct site s;
	size_t len = 0;
	char *cmd;

	CHECK(site_init(&s, o, NULL, 0, "node", NULL, NULL));
	ask_names_init(&names);
	for (int text = 0; text < 2; text++) {
		cmd = ask_command(&s, &names, text == 1, q, 0, (uint64_t)text, &len);
		check_command(cmd, len);
		cmd = ask_load_command(&s, &names, text == 1, NULL, &len);
		check_command(cmd, len);
		cmd = ask_neighbours_command(&s, &names, text == 1, text == 1, &len);
		check_command(cmd, len);
		cmd = ask_publish_command(&s, text == 1, pairs, 1, &len);
		check_command(cmd, len);
	}
	site_clear(&s);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	uint8_t what = input_byte(&in);
	size_t left = (size_t)(in.end - in.p),
	       cut = what >> 3 != 0 ? left * (what >> 3) / 32 : left;
	struct limit limits[3];
	struct redis_options o;
	struct target *target;
	struct request q;
	struct wire w;
	redisReply *r;

	if (left > 65536)
		return 0; /* would not fit the socket */
	limits[0] = make_limit("connections", "count=connections rate=60/1m burst=3");
	limits[1] = make_limit("sessions", "count=sessions max=3");
	limits[2] = make_limit("connections", "quota=1000/1d");
	make_request(&q, what, limits);
	redis_options_defaults(&o);
	strcpy(o.host, "/redis");
	o.port = 0;
	if (size == 1) /* no need to do it each time: only this byte is in it */
		check_commands(&q, &o);
	target = target_new(o.host, o.port, NULL, 0);
	CHECK(target != NULL);
	wire_init(&w);
	CHECK(wire_open(&w, target, &o));
	CHECK(write(redis, in.p, cut) == (ssize_t)cut);
	(void)wire_receive(&w);
	while (wire_reply(&w, &r) == 1) {
		check_reply(r, &q);
		freeReplyObject(r);
	}
	/* wire_reply() said that nothing more is there; the second packet may say otherwise */
	if (wire_is_open(&w) && w.reader->err == 0) {
		CHECK(write(redis, in.p + cut, left - cut) == (ssize_t)(left - cut));
		shutdown(redis, SHUT_WR);
		while ((r = wire_wait(&w, INT64_MAX, NULL)) != NULL) {
			check_reply(r, &q);
			freeReplyObject(r);
		}
		CHECK(w.why[0] != '\0' && strlen(w.why) < WIRE_WHY_MAX);
	}
	overlay_free(&known);
	wire_close(&w);
	close(redis);
	target_free(&target);
	return 0;
}
