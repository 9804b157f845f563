/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fake_libmilter.c - see fake_libmilter.h. It holds weir to what the real one and the MTAs want.
 */
#include "fake_libmilter.h"

#define TEXT_MAX 980

struct smfiDesc fake_callbacks;

int
smfi_register(struct smfiDesc desc)
{
	fake_callbacks = desc;
	return MI_SUCCESS;
}

int
smfi_setconn(char *conn)
{
	CHECK(strncmp(conn, "fd:", 3) == 0);
	return MI_SUCCESS;
}

int
smfi_opensocket(int remove_old)
{
	CHECK(!remove_old); /* it would steal another's */
	return MI_SUCCESS;
}

int
smfi_settimeout(int seconds)
{
	CHECK(seconds > 0);
	return MI_SUCCESS;
}

int
smfi_main(void)
{
	return MI_SUCCESS;
}

char *
smfi_getsymval(SMFICTX *ctx, char *name)
{
	for (unsigned i = 0; i < FAKE_MACROS; i++)
		if (ctx->macros[i].name != NULL && strcmp(ctx->macros[i].name, name) == 0)
			return ctx->macros[i].value;
	return NULL;
}

int
smfi_setpriv(SMFICTX *ctx, void *priv)
{
	if (ctx->no_priv && priv != NULL)
		return MI_FAILURE;
	/* what was there before would be lost */
	CHECK(priv == NULL || ctx->priv == NULL);
	ctx->priv = priv;
	return MI_SUCCESS;
}

void *
smfi_getpriv(SMFICTX *ctx)
{
	return ctx->priv;
}

int
smfi_setsymlist(SMFICTX *ctx, int stage, char *macros)
{
	CHECK(ctx->negotiating);
	CHECK(stage >= SMFIM_FIRST && stage <= SMFIM_LAST);
	CHECK(macros[0] != '\0' && is_printable(macros));
	return MI_SUCCESS;
}

int
smfi_setreply(SMFICTX *ctx, char *code, char *xcode, char *text)
{
	CHECK(!ctx->replied);
	/* 450 has another meaning in Sendmail; no fault and no limit may ever be a 5xx */
	CHECK(strcmp(code, "421") == 0 || strcmp(code, "451") == 0 || strcmp(code, "452") == 0);
	CHECK(strncmp(xcode, "4.", 2) == 0 && strlen(xcode) >= 5 && strlen(xcode) <= 9);
	CHECK(strspn(xcode, "0123456789.") == strlen(xcode));
	CHECK(is_printable(text) && text[0] != '\0' && strlen(text) <= TEXT_MAX);
	CHECK(strchr(text, '%') == NULL);
	if (ctx->no_reply)
		return MI_FAILURE;
	ctx->replied = true;
	return MI_SUCCESS;
}

void
fake_macro(SMFICTX *ctx, unsigned slot, char *name, char *value)
{
	slot %= FAKE_MACROS;
	free(ctx->macros[slot].name);
	free(ctx->macros[slot].value);
	ctx->macros[slot].name = name;
	ctx->macros[slot].value = value;
}

void
fake_clear(SMFICTX *ctx)
{
	for (unsigned i = 0; i < FAKE_MACROS; i++)
		fake_macro(ctx, i, NULL, NULL);
}
