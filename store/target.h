/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * target.h - where Redis is: socket addresses, found without ever making a question wait for
 * the name service.
 *
 * A path or a numeric address is ready at once. A host name is looked up by a thread of its
 * own, which nobody joins: getaddrinfo() cannot be stopped. All calls from any thread.
 */
#ifndef WEIR_STORE_TARGET_H
#define WEIR_STORE_TARGET_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#include "tls.h"
#include "weir/redis.h"

#define TARGET_ADDRS_MAX 4

struct target_addr {
	socklen_t len;
	struct sockaddr_storage sa;
};

struct target;

/* tls (NULL: none) is borrowed. host is copied; "": nowhere yet. Starts a look-up where one is
 * needed, and gives it wait_us to end. */
struct target *target_new(const char *host, int port, const struct tls *tls, int64_t wait_us);

/* What is known now; 0 = the name has not been resolved (yet). place, if not NULL, becomes
 * target_place(). */
unsigned target_addrs(struct target *t, struct target_addr out[TARGET_ADDRS_MAX], uint64_t *place);

/* It is elsewhere from now on: what is connected to the place before serves nobody. */
void target_set(struct target *t, const char *host, int port);
/* Changes with each target_set(). */
uint64_t target_place(const struct target *t);
/* Where it is now: "host:port". */
void target_text(struct target *t, char out[REDIS_PLACE_TEXT_MAX]);
void target_host(struct target *t, char out[REDIS_HOST_MAX + 1]);
bool target_is(struct target *t, const char *host, int port);

/* TLS for a connection to where it is now; false: out of memory. */
bool target_tls(struct target *t, struct tls_wire **out);

/* Looks the name up again, unless that happened a moment ago. Does not wait. */
void target_refresh(struct target *t);

void target_free(struct target **t);

#endif
