/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * siphash.h - SipHash-2-4, 64 bits: a hash that nobody without the secret can aim.
 *
 * Pure; any thread.
 */
#ifndef WEIR_SIPHASH_H
#define WEIR_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
	uint64_t k0, k1; /* the 16 bytes of the secret, read as little-endian words */
};

uint64_t siphash(const struct siphash_key *secret, const void *data, size_t len);

#endif
