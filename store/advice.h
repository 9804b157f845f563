/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * advice.h - Redis' settings that are dangerous for what weir keeps there: found and told, a line
 * each, once a host and again after a change. For the keeper's thread: nobody waits for it.
 */
#ifndef WEIR_STORE_ADVICE_H
#define WEIR_STORE_ADVICE_H

#include "site.h"
#include "wire.h"

struct advice {
	int64_t next_us; /* monotonic */
	bool denied, config_denied; /* Redis does not let us look, or only at INFO */
};

/* What INFO tells, and CONFIG GET save. */
struct advice_facts {
	int64_t maxmemory;
	char policy[32];
	bool saves; /* also when it cannot be told */
};

/* Reads the sections memory and persistence of INFO; either may be NULL. now_s: seconds since
 * 1970. False: that is none. */
bool advice_read(
    const char *memory, const char *persistence, int64_t now_s, struct advice_facts *out);

/* Bits, one a finding; advise as in struct redis_options. */
unsigned advice_findings(const struct advice_facts *f, unsigned advise);
/* In words, for the lowest bit. */
const char *advice_text(unsigned findings);

/* It is time, and no other worker does it. */
bool advice_due(struct advice *a, const struct site *s, int64_t now_us);
/* Asks, and says what is new. False: the wire is broken. */
bool advice_look(struct advice *a, const struct site *s, struct wire *w, const atomic_bool *stop);

#endif
