/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sha1.h - the name under which Redis knows a script. Nothing here is a secret.
 */
#ifndef WEIR_STORE_SHA1_H
#define WEIR_STORE_SHA1_H

#define SHA1_TEXT_MAX 41 /* 40 lower-case hex digits and the NUL */

void sha1_text(const char *s, char out[SHA1_TEXT_MAX]);

#endif
