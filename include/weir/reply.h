/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.h - the SMTP reply that a client gets to see: code, enhanced code, text.
 *
 * What may stand in one is decided when it is read, never when it is sent, because the MTAs
 * punish mistakes late and hard: an unescaped '%' makes Sendmail answer a permanent 550, a
 * class mismatch makes libmilter drop the text, more than 980 bytes or a CR make it fail,
 * UTF-8 arrives as garbage, and Sendmail puts "<address>... " before the text of a 450. See doc/mta.md.
 */
#ifndef WEIR_REPLY_H
#define WEIR_REPLY_H

#include <stdbool.h>
#include <stddef.h>

/* RFC 5321 4.5.3.1.5: a reply line is at most 512 octets with CRLF; "421 4.7.0 " takes 10
 * ("4.999.999" would take 14), CRLF 2, and Sendmail may lead with the host's name. */
#define REPLY_TEXT_MAX 400
#define REPLY_XCODE_MAX 12

struct reply {
	char code[4]; /* "421", "451" or "452" */
	char xcode[REPLY_XCODE_MAX]; /* "4.7.0" (RFC 3463) */
	char text[REPLY_TEXT_MAX + 1]; /* printable ASCII, no '%' */
};

/*
 * Reads "421 4.7.0 Some text". Only temporary codes that both MTAs pass on unchanged are let
 * through: weir never loses mail with a 5xx. On false, err holds one sentence.
 */
bool reply_parse(const char *line, struct reply *out, char *err, size_t errlen);

/* 421 closes the session; any other code leaves it open. */
bool reply_closes(const struct reply *r);

#endif
