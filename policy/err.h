/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * err.h - one-sentence errors without stdio: libpolicy links nothing that can do I/O.
 */
#ifndef WEIR_POLICY_ERR_H
#define WEIR_POLICY_ERR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>

/* Joins the strings up to a NULL into err, cutting what does not fit. Returns false, so that
 * a function can `return err_set(...)`. */
bool err_set(char *err, size_t errlen, ...) __attribute__((sentinel));

#endif
