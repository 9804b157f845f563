/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_reply.c - what may stand in a reply to a client: never more than both MTAs pass on.
 *
 * Covers: policy/reply.c
 */
#include "fuzz.h"
#include "weir/reply.h"

#define ERR_ROOM 256

static void
check_reply(const struct reply *r)
{
	const char *x = r->xcode;

	CHECK(strcmp(r->code, "421") == 0 || strcmp(r->code, "451") == 0 ||
	    strcmp(r->code, "452") == 0);
	CHECK(reply_closes(r) == (r->code[1] == '2'));
	CHECK(strnlen(r->xcode, sizeof r->xcode) < sizeof r->xcode);
	CHECK(*x == '4');
	for (int part = 0; part < 2; part++) { /* RFC 3463: 4.SUBJECT.DETAIL */
		size_t digits;

		x++;
		CHECK(*x == '.');
		digits = strspn(x + 1, "0123456789");
		CHECK(digits >= 1 && digits <= 3);
		x += digits;
	}
	CHECK(x[1] == '\0');
	CHECK(strnlen(r->text, sizeof r->text) < sizeof r->text);
	CHECK(r->text[0] != '\0' && r->text[0] != ' ');
	/* no CR, LF or other control character, no 8-bit, and nothing that Sendmail would expand */
	CHECK(is_printable(r->text) && strchr(r->text, '%') == NULL);
	/* RFC 5321 4.5.3.1.5: 512 octets, CRLF among them */
	CHECK(strlen(r->code) + 1 + strlen(r->xcode) + 1 + strlen(r->text) + 2 <= 512);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	char *line = input_rest(&in), *err = fuzz_alloc(ERR_ROOM), text[512];
	struct reply r, before, again;

	memset(&r, 0x5a, sizeof r);
	before = r;
	if (reply_parse(line, &r, err, ERR_ROOM)) {
		check_reply(&r);
		snprintf(text, sizeof text, "%s %s %s", r.code, r.xcode, r.text);
		CHECK(reply_parse(text, &again, err, ERR_ROOM));
		CHECK(memcmp(&r, &again, sizeof r) == 0);
	} else {
		CHECK(memcmp(&r, &before, sizeof r) == 0);
		CHECK(is_sentence(err, ERR_ROOM));
	}
	free(line);
	free(err);
	return 0;
}
