/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * pool.h - which clients are one sender: those whose confirmed name lies in the same domain that
 * somebody can register. A large sender retries from any of its hosts, in any of its networks.
 *
 * No DNS here: whether a name is confirmed (address -> name -> the same address) is for the MTA to
 * say. Names are whatever the owner of the address wrote into its reverse zone: any bytes, any
 * length. No function here allocates.
 */
#ifndef WEIR_POOL_H
#define WEIR_POOL_H

#include "weir/addr.h"

/* Longer domains are no pool. */
#define POOL_NAME_MAX 100

/* libpsl's psl_ctx_t; its header is for those who open the list. */
struct psl_ctx_st;

/* name: as given to xxfi_connect. client_resolve: the macro of that name, "" = not sent. */
bool name_confirmed(const char *name, const char *client_resolve);

/*
 * Whether the name looks like one that a provider gives to its customers' lines and rented hosts:
 * they have nothing in common but the provider. name in small letters; domain: its end, that
 * somebody has registered, and whose words therefore say nothing of the host.
 */
bool name_dynamic(const struct addr *client, const char *name, const char *domain);

/*
 * The pool of a client whose name is confirmed: the registrable domain, small letters, A-labels.
 * False: the client's network is its pool. psl is only read, by any number of threads; NULL: there
 * is no list, so no name is a pool.
 */
bool pool_name(const struct psl_ctx_st *psl, const struct addr *client, const char *name,
    char out[POOL_NAME_MAX + 1]);

#endif
