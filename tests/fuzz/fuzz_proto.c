/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_proto.c - what an MTA, or somebody who can reach the milter socket, sends: packets, their
 * order, what they carry, and the answers. Also whatever it cuts into pieces.
 *
 * First byte: which steps and macros weir wants; the rest is the stream.
 *
 * Covers: milter/proto.c milter/macros.c milter/wants.c
 */
#include "fuzz.h"
#include "macros.h"
#include "wants.h"

struct peer {
	struct proto proto;
	struct macros macros;
	struct proto_wants wants;
};

static void
check_text(const char *text, const struct proto_packet *k)
{
	CHECK(text >= k->data && text < k->data + k->len);
	CHECK(memchr(text, '\0', (size_t)(k->data + k->len - text)) != NULL);
}

static void
check_params(struct proto_args *a, const struct proto_packet *k)
{
	const char *param;

	CHECK(a->params >= k->data && a->end == k->data + k->len);
	while ((param = proto_text(&a->params, a->end)) != NULL)
		check_text(param, k);
}

static void
check_answer(const char *out, size_t len)
{
	struct proto_packet k;

	CHECK(len == 0 || proto_packet(out, len, &k) == PROTO_WHOLE);
	CHECK(len == 0 || k.whole == len);
}

static void
check_macros(struct peer *p)
{
	for (int m = MACRO_CLIENT_RESOLVE; m <= MACRO_RCPT_HOST; m++)
		CHECK(strlen(macros_get(&p->macros, (enum macro)m)) <= 129);
	CHECK(p->macros.len <= 400);
	CHECK((p->macros.kept == NULL) == (p->macros.len == 0));
}

static void
negotiate(struct peer *p, const struct proto_args *a, char out[PROTO_ANSWER_MAX])
{
	size_t len = proto_negotiate(&p->proto, a, &p->wants, out);

	check_answer(out, len);
	if (len == 0)
		return;
	/* nothing but what was offered or can be made */
	CHECK((p->proto.steps & ~p->wants.steps) == 0);
	CHECK((p->proto.steps & ~p->proto.offered & 0x37f) == 0);
}

/* False: the connection ends. */
static bool
obey(struct peer *p, const struct proto_packet *k)
{
	static const struct reply refusal = {"421", "4.7.0", "Too many"};
	char out[PROTO_ANSWER_MAX];
	struct proto_args a;
	enum proto_event e = proto_take(&p->proto, k, &a);

	switch (e) {
	case PROTO_NOTHING:
	case PROTO_NEXT:
		return true;
	case PROTO_ERROR:
	case PROTO_QUIT:
		return false;
	case PROTO_NEGOTIATE:
		CHECK(!p->proto.agreed);
		negotiate(p, &a, out);
		return p->proto.agreed;
	case PROTO_MACROS:
		macros_put(&p->macros, a.stage, a.params, a.end);
		check_macros(p);
		check_params(&a, k);
		return true;
	case PROTO_CONNECT:
		CHECK(p->proto.agreed);
		check_text(a.text, k);
		macros_reach(&p->macros, PROTO_AT_CONNECT);
		break;
	case PROTO_HELO:
		check_text(a.text, k);
		break;
	case PROTO_MAIL:
	case PROTO_RCPT:
		check_text(a.text, k);
		check_params(&a, k);
		macros_reach(&p->macros, e == PROTO_MAIL ? PROTO_AT_MAIL : PROTO_AT_RCPT);
		break;
	case PROTO_HEADER:
		CHECK(a.bytes >= 4 && a.bytes <= k->len + 2);
		break;
	case PROTO_BODY:
	case PROTO_EOM:
		CHECK(a.bytes == k->len);
		break;
	case PROTO_EOH:
	case PROTO_DATA:
	case PROTO_UNKNOWN:
		break;
	}
	check_macros(p);
	if (k->len % 7 == 3)
		check_answer(out, proto_refuse(&p->proto, &refusal, out));
	else if (k->len % 7 == 5)
		check_answer(out, proto_accept(&p->proto, out));
	else
		check_answer(out, proto_continue(&p->proto, out));
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t what = size > 0 ? data[0] : 0;
	const struct plan_steps steps = {.helo = what & 1,
	    .mail = what & 2,
	    .rcpt = what & 4,
	    .name = what & 8,
	    .daemon = what & 16,
	    .rejected = what & 32,
	    .bytes = what & 64};
	struct peer p = {.wants = wants_of(&steps)};
	size_t at = 1;
	bool goes_on = true;

	proto_init(&p.proto);
	while (goes_on && at < size) {
		const char *here = (const char *)data + at;
		struct proto_packet k;
		enum proto_got got = proto_packet(here, size - at, &k);

		CHECK(k.whole <= PROTO_HEAD + PROTO_DATA_MAX);
		if (got == PROTO_WHOLE) {
			/* where it ends memory ends */
			char *exact = fuzz_alloc(k.whole);

			memcpy(exact, here, k.whole);
			k.data = exact + PROTO_HEAD;
			goes_on = obey(&p, &k);
			free(exact);
		} else
			goes_on = got == PROTO_PART && k.opaque && obey(&p, &k);
		at += k.whole;
	}
	macros_clear(&p.macros);
	return 0;
}
