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

#include "weir/redis.h"

#define TARGET_ADDRS_MAX 4

struct target_addr {
	socklen_t len;
	struct sockaddr_storage sa;
};

struct target;

/* o is copied. Starts a look-up where one is needed, and gives it wait_us to end. */
struct target *target_new(const struct redis_options *o, int64_t wait_us);

/* What is known now; 0 = the name has not been resolved (yet). */
unsigned target_addrs(struct target *t, struct target_addr out[TARGET_ADDRS_MAX]);

/* Looks the name up again, unless that happened a moment ago. Does not wait. */
void target_refresh(struct target *t);

void target_free(struct target **t);

#endif
