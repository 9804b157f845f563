/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fake_libmilter.h - libmilter as engine_libmilter.c sees it, without a socket or a thread: the
 * callbacks that it registers can be called, and what it does in them is looked at.
 */
#ifndef WEIR_FUZZ_FAKE_LIBMILTER_H
#define WEIR_FUZZ_FAKE_LIBMILTER_H

#include <libmilter/mfapi.h>
#include <stdbool.h>

#include "fuzz.h"

#define FAKE_MACROS 8

struct smfi_str {
	void *priv;
	struct {
		char *name, *value; /* owned; value NULL = it has none */
	} macros[FAKE_MACROS];
	bool negotiating; /* smfi_setsymlist() is in its place */
	bool no_priv, no_reply; /* the next such call fails */
	bool replied; /* ... in this callback, and all of it was sound */
};

/* What was registered; engine_libmilter.run() returns once it has. */
extern struct smfiDesc fake_callbacks;

void fake_macro(SMFICTX *ctx, unsigned slot, char *name, char *value);
void fake_clear(SMFICTX *ctx);

#endif
