/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tls.h - TLS for a wire, by OpenSSL over memory: the wire keeps its socket that never blocks, and
 * this turns what is to be sent, and what has come, into bytes of the other kind.
 *
 * The peer's certificate is always checked, and its name too. Without OpenSSL (configure says so)
 * tls_new() fails and says what to do.
 */
#ifndef WEIR_STORE_TLS_H
#define WEIR_STORE_TLS_H

#include <stdbool.h>
#include <stddef.h>

#include "weir/redis.h"

/* What all connections of a site share. Any thread. */
struct tls;
struct tls *tls_new(const struct redis_tls *o, char *err, size_t errlen);
void tls_free(struct tls **t);

/* One connection's. */
struct tls_wire;
/* host: who is called; its name is expected unless server-name says otherwise. NULL: out of
 * memory. */
struct tls_wire *tls_wire_new(const struct tls *t, const char *host);
void tls_wire_free(struct tls_wire **w);

/* Goes on with the handshake as far as it can without hearing more. False: it has failed. */
bool tls_wire_shake(struct tls_wire *w, char *err, size_t errlen);
/* The handshake is done, and the peer is who he should be. */
bool tls_wire_ready(const struct tls_wire *w);

/* Plain text to be sent; ready only. */
bool tls_wire_push(struct tls_wire *w, const char *plain, size_t len);
/* Bytes for the socket; *out points to them until the next call. */
size_t tls_wire_pending(struct tls_wire *w, const char **out);
/* So many of them have gone. */
void tls_wire_sent(struct tls_wire *w, size_t n);

/* What came from the socket. */
bool tls_wire_feed(struct tls_wire *w, const char *bytes, size_t len);
/* Plain text of it; 0: no more for now; -1: broken, or the peer has closed. */
int tls_wire_take(struct tls_wire *w, char *out, size_t outlen, char *err, size_t errlen);

#endif
