/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_log_escape.c - values in log lines: always in one piece, always printable, and what is
 * not cut can be read back.
 *
 * Input: two bytes (room for the value), then the value.
 *
 * Covers: milter/log.c:log_escape
 */
#include "fuzz.h"
#include "log.h"

/* What the escapes stand for; false if it is none of ours. */
static bool
read_back(const char *s, char *out)
{
	static const char digits[] = "0123456789abcdef";

	while (*s != '\0') {
		const char *high, *low;

		if (*s != '\\') {
			*out++ = *s++;
			continue;
		}
		if (s[1] != 'x' || s[2] == '\0' || s[3] == '\0')
			return false;
		high = strchr(digits, s[2]);
		low = strchr(digits, s[3]);
		if (high == NULL || low == NULL)
			return false;
		*out++ = (char)((high - digits) << 4 | (low - digits));
		s += 4;
	}
	*out = '\0';
	return true;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct input in = {data, data + size};
	size_t room = 8 + input_number(&in, 2) % (2 * LOG_VALUE_MAX);
	char *value = input_rest(&in), *out = fuzz_alloc(room), *back = fuzz_alloc(room + 1);
	size_t len;

	memset(out, 0x5a, room);
	CHECK(log_escape(value, out, room) == out);
	len = strnlen(out, room);
	CHECK(len < room);
	CHECK(is_printable(out) && strpbrk(out, " \"=") == NULL);
	if (len < 3 || strcmp(out + len - 3, "...") != 0) {
		CHECK(read_back(out, back) && strcmp(back, value) == 0);
	} else if (!read_back(out, back) || strcmp(back, value) != 0) {
		/* cut, between two characters, and not before it had to be */
		CHECK(len + 5 >= room);
		out[len - 3] = '\0';
		CHECK(read_back(out, back) && strncmp(back, value, strlen(back)) == 0);
		CHECK(strlen(value) > strlen(back));
	}
	free(value);
	free(out);
	free(back);
	return 0;
}
