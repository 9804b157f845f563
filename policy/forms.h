/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * forms.h - under which texts an entry about a mail address or a host name may stand.
 */
#ifndef WEIR_POLICY_FORMS_H
#define WEIR_POLICY_FORMS_H

#include <stdbool.h>
#include <stddef.h>

/* True ends the walk. */
typedef bool form_fn(void *ctx, const char *text);

/*
 * Calls fn with each text, in lower case, the most specific first: ann+x@example.org,
 * ann@example.org, @example.org, @.org, ann+x@, ann@; for "" only <>. As Postfix looks into its
 * tables (access(5)). Returns what the last call did; false for what is longer than any entry.
 */
bool forms_of_address(const char *address, form_fn *fn, void *ctx);

/* mx.example.org, example.org, org. */
bool forms_of_name(const char *name, form_fn *fn, void *ctx);

/* Lower case in ASCII, into out; false when it does not fit. */
bool forms_lower(const char *text, char *out, size_t outlen);

#endif
