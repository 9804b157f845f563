/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_fold.c - the one name of a mailbox with many: within its bounds, never empty where the
 * mailbox is not, and the same when it is folded again.
 *
 * Input: a byte (bit 0: a sender, bit 1: unwrap, the rest: delimiters), then the mailbox as a
 * client writes it.
 *
 * Covers: policy/fold.c
 */
#include "fuzz.h"
#include "weir/fold.h"

static void
check_folded(const struct fold *how, bool sender, const char *name)
{
	char *out = fuzz_alloc(MAILBOX_MAX + 1), *again = fuzz_alloc(MAILBOX_MAX + 1);
	const char *folded = fold_mailbox(how, sender, name, out), *twice, *at;

	if (strlen(name) > MAILBOX_MAX)
		CHECK(folded == name);
	else {
		CHECK(folded == out && strnlen(out, MAILBOX_MAX + 1) <= MAILBOX_MAX);
		CHECK((out[0] == '\0') == (name[0] == '\0'));
		at = strrchr(out, '@');
		for (const char *p = at; p != NULL && *p != '\0'; p++)
			CHECK(*p < 'A' || *p > 'Z');
		/* wraps are taken off one after another, but not for ever */
		twice = fold_mailbox(how, sender, out, again);
		if (!sender || !how->unwrap)
			CHECK(strcmp(twice, out) == 0);
	}
	free(out);
	free(again);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char delimiters[] = "!#$%&'*+-./=?^_`{|}~";
	struct input in = {data, data + size};
	uint8_t what = input_byte(&in);
	struct fold how = {.unwrap = (what & 2) != 0};
	char *text = input_rest(&in), name[MAILBOX_MAX + 1];

	for (unsigned i = 0; i < (what >> 2 & 3u); i++)
		how.delimiters[i] = delimiters[((what >> 4) + 7 * i) % (sizeof delimiters - 1)];
	/* as plan gives it, and as it never does */
	mailbox_name(text, name, sizeof name);
	check_folded(&how, (what & 1) != 0, name);
	check_folded(&how, (what & 1) != 0, text);
	free(text);
	return 0;
}
