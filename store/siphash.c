/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * siphash.c - SipHash-2-4 after Aumasson and Bernstein, "SipHash: a fast short-input PRF" (2012).
 */
#include "siphash.h"

struct state {
	uint64_t a, b, c, d; /* v0..v3 of the paper */
};

static inline uint64_t
rotate(uint64_t x, unsigned by)
{
	return (x << by) | (x >> (64 - by));
}

static inline void
mix(struct state *s)
{
	s->a += s->b;
	s->c += s->d;
	s->b = rotate(s->b, 13) ^ s->a;
	s->d = rotate(s->d, 16) ^ s->c;
	s->a = rotate(s->a, 32);
	s->c += s->b;
	s->a += s->d;
	s->b = rotate(s->b, 17) ^ s->c;
	s->d = rotate(s->d, 21) ^ s->a;
	s->c = rotate(s->c, 32);
}

static inline void
absorb(struct state *s, uint64_t word)
{
	s->d ^= word;
	mix(s);
	mix(s);
	s->a ^= word;
}

/* Up to eight bytes, little-endian; compilers make one load of it where that is right. */
static inline uint64_t
word_at(const uint8_t *p, size_t n)
{
	uint64_t w = 0;

	for (size_t i = 0; i < n; i++)
		w |= (uint64_t)p[i] << (8 * i);
	return w;
}

uint64_t
siphash(const struct siphash_key *secret, const void *data, size_t len)
{
	const uint8_t *p = data;
	struct state s = {
	    .a = secret->k0 ^ UINT64_C(0x736f6d6570736575),
	    .b = secret->k1 ^ UINT64_C(0x646f72616e646f6d),
	    .c = secret->k0 ^ UINT64_C(0x6c7967656e657261),
	    .d = secret->k1 ^ UINT64_C(0x7465646279746573),
	};
	size_t left = len;

	for (; left >= 8; left -= 8, p += 8)
		absorb(&s, word_at(p, 8));
	absorb(&s, word_at(p, left) | (uint64_t)(len & 0xff) << 56);

	s.c ^= 0xff;
	for (int i = 0; i < 4; i++)
		mix(&s);
	return s.a ^ s.b ^ s.c ^ s.d;
}
