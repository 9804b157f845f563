/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * wants.c - see wants.h.
 */
#include <string.h>

#include "wants.h"

/* libmilter refuses an empty list, and the MTA sends its default where none is set: one macro
 * that costs nothing stands for "none". */
#define MACROS_NONE "i"

/* The steps that can be switched off, and when they are wanted; and what else the MTA is told. */
static uint32_t
steps_of(const struct plan_steps *want)
{
	uint32_t no = PROTO_NO_DATA | PROTO_NO_UNKNOWN;

	/* the message is only counted, so the MTA need not wait for us */
	no |= want->bytes ? PROTO_NR_HEADERS | PROTO_NR_EOH | PROTO_NR_BODY
			  : PROTO_NO_HEADERS | PROTO_NO_EOH | PROTO_NO_BODY;
	if (want->rejected)
		no |= PROTO_REJECTED;
	if (!want->helo)
		no |= PROTO_NO_HELO;
	if (!want->mail)
		no |= PROTO_NO_MAIL;
	if (!want->rcpt)
		no |= PROTO_NO_RCPT;
	return no;
}

struct proto_wants
wants_of(const struct plan_steps *want)
{
	static const char *const connect[] = {MACROS_NONE, "{client_resolve}",
	    "{daemon_name} {daemon_port}", "{client_resolve} {daemon_name} {daemon_port}"};
	struct proto_wants w = {.steps = steps_of(want)};

	for (int i = 0; i < PROTO_STAGES; i++)
		w.macros[i] = MACROS_NONE;
	w.macros[PROTO_AT_CONNECT] = connect[want->name + 2 * want->daemon];
	if (want->mail)
		w.macros[PROTO_AT_MAIL] = "{auth_authen}";
	/* queue id for the log */
	w.macros[PROTO_AT_RCPT] = want->rejected ? "i {rcpt_mailer} {rcpt_host}" : "i";
	return w;
}

bool
wants_rejected(const char *rcpt_mailer)
{
	/* both MTAs name this mailer for a recipient that they refuse */
	return strcmp(rcpt_mailer, "error") == 0;
}

bool
wants_passed_over(bool rejected, const char *rcpt_host)
{
	/* ... and its enhanced code as the host. Who is told to come back (DNS did not answer,
	 * another greylist) has guessed nothing, and does not hear us. */
	return rejected && rcpt_host[0] == '4';
}
