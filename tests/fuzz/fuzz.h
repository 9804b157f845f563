/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz.h - what the fuzz targets share. A target is one function that takes any bytes, gives
 * them to weir, and CHECKs what has to hold of whatever comes back.
 *
 * Linked with clang's libFuzzer it searches (tests/fuzz/run); linked with standalone.c it runs
 * over its corpus, with any compiler, as a part of `make check`.
 *
 * The comment on top of each target has a line "Covers:" with the sources it is about.
 */
#ifndef WEIR_FUZZ_H
#define WEIR_FUZZ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define CHECK(cond) \
	do { \
		if (!(cond)) { \
			fprintf(stderr, "%s:%d: does not hold: %s\n", __FILE__, __LINE__, #cond); \
			abort(); \
		} \
	} while (0)

/* Bytes that are taken from the front; at their end come zeros. */
struct input {
	const uint8_t *p, *end;
};

static inline uint8_t
input_byte(struct input *in)
{
	return in->p < in->end ? *in->p++ : 0;
}

static inline uint64_t
input_number(struct input *in, unsigned bytes)
{
	uint64_t v = 0;

	while (bytes-- > 0)
		v = v << 8 | input_byte(in);
	return v;
}

/* Memory of exactly this size, so that AddressSanitizer sees each byte beyond it. */
static inline void *
fuzz_alloc(size_t size)
{
	void *p = malloc(size > 0 ? size : 1);

	if (p == NULL)
		abort();
	return p;
}

/* The bytes up to `stop` (which is taken too) or the end as a string, without NULs. Freed by the
 * caller. */
static inline char *
input_until(struct input *in, uint8_t stop)
{
	size_t left = (size_t)(in->end - in->p), n = 0;
	const uint8_t *at = left > 0 ? memchr(in->p, stop, left) : NULL;
	size_t len = at != NULL ? (size_t)(at - in->p) : left;
	char *text = fuzz_alloc(len + 1), *exact;

	for (size_t i = 0; i < len; i++)
		if (in->p[i] != '\0')
			text[n++] = (char)in->p[i];
	text[n] = '\0';
	in->p += len + (at != NULL ? 1 : 0);
	exact = fuzz_alloc(n + 1);
	memcpy(exact, text, n + 1);
	free(text);
	return exact;
}

static inline char *
input_line(struct input *in)
{
	return input_until(in, '\n');
}

/* What is left, as a string. */
static inline char *
input_rest(struct input *in)
{
	return input_until(in, '\0');
}

static inline bool
input_left(const struct input *in)
{
	return in->p < in->end;
}

/* Printable ASCII, blanks among it. */
static inline bool
is_printable(const char *s)
{
	for (; *s != '\0'; s++)
		if (*s < 0x20 || *s > 0x7e)
			return false;
	return true;
}

/* One sentence for a person, that can be logged as it stands. */
static inline bool
is_sentence(const char *s, size_t room)
{
	return strnlen(s, room) < room && s[0] != '\0' && is_printable(s);
}

#endif
