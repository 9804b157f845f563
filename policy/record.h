/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * record.h - keys of records, for plan.c.
 */
#ifndef WEIR_POLICY_RECORD_H
#define WEIR_POLICY_RECORD_H

#include "weir/request.h"

/* The bits that make one "address" or "network" of the client's family. */
unsigned record_bits(const struct ruleset *r, enum limit_per kind, const struct addr *client);

/* "{TAG}" or "{TAG}:TEXT" of the client's network of `own` bits. */
void record_net_key(
    const struct ruleset *r, unsigned own, const struct addr *client, char out[NET_KEY_MAX]);

/* Lower case, and %XX for all that could confuse a key, a person or a log; at most
 * TEXT_PART_MAX. Returns the end. */
char *record_text(char *out, const char *s);

/* "{TEXT}". */
void record_mailbox_key(const char *text, char out[MAILBOX_KEY_MAX]);

/* One life time for all that limits keep in a record of this kind: the longest. */
int64_t record_ttl(const struct ruleset *r, enum limit_per kind);

#endif
