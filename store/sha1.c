/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sha1.c - FIPS 180-4, for strings that fit in memory. Only names scripts (EVALSHA).
 */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "sha1.h"

static uint32_t
rol(uint32_t v, unsigned n)
{
	return v << n | v >> (32 - n);
}

static void
sha1_block(uint32_t h[5], const unsigned char p[64])
{
	uint32_t w[80], a = h[0], b = h[1], c = h[2], d = h[3], e = h[4];

	for (unsigned i = 0; i < 16; i++)
		w[i] = (uint32_t)p[4 * i] << 24 | (uint32_t)p[4 * i + 1] << 16 |
		    (uint32_t)p[4 * i + 2] << 8 | p[4 * i + 3];
	for (unsigned i = 16; i < 80; i++)
		w[i] = rol(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
	for (unsigned i = 0; i < 80; i++) {
		uint32_t f, k, t;

		if (i < 20) {
			f = (b & c) | (~b & d);
			k = 0x5a827999;
		} else if (i < 40) {
			f = b ^ c ^ d;
			k = 0x6ed9eba1;
		} else if (i < 60) {
			f = (b & c) | (b & d) | (c & d);
			k = 0x8f1bbcdc;
		} else {
			f = b ^ c ^ d;
			k = 0xca62c1d6;
		}
		t = rol(a, 5) + f + e + k + w[i];
		e = d;
		d = c;
		c = rol(b, 30);
		b = a;
		a = t;
	}
	h[0] += a;
	h[1] += b;
	h[2] += c;
	h[3] += d;
	h[4] += e;
}

void
sha1_text(const char *s, char out[SHA1_TEXT_MAX])
{
	uint32_t h[5] = {0x67452301, 0xefcdab89, 0x98badcfe, 0x10325476, 0xc3d2e1f0};
	size_t len = strlen(s), done = 0, rest;
	unsigned char last[128] = {0};
	uint64_t bits = (uint64_t)len * 8;

	for (; len - done >= 64; done += 64)
		sha1_block(h, (const unsigned char *)s + done);
	rest = len - done;
	memcpy(last, s + done, rest);
	last[rest] = 0x80;
	rest = rest < 56 ? 64 : 128;
	for (unsigned i = 0; i < 8; i++)
		last[rest - 1 - i] = (unsigned char)(bits >> (8 * i));
	sha1_block(h, last);
	if (rest == 128)
		sha1_block(h, last + 64);
	for (unsigned i = 0; i < 5; i++)
		snprintf(out + 8 * i, 9, "%08x", (unsigned)h[i]);
}
