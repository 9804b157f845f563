/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * reply.c - what may stand in a reply to the client.
 */
#include <string.h>

#include "weir/reply.h"
#include "err.h"

/* Why each other code is not offered is said to whoever tries. */
static const struct {
	const char *code, *why;
} refused_codes[] = {
    {"450", "450 is rewritten by Sendmail, which puts the address before the text: use 451"},
    {"454", "454 belongs to AUTH and STARTTLS (RFC 4954, RFC 3207): use 451"},
    {"455", "455 is about MAIL and RCPT parameters (RFC 5321 4.2.3): use 451"},
    {NULL, NULL},
};

static const char *const good_codes[] = {"421", "451", "452", NULL};

static bool
check_code(const char *code, char *err, size_t errlen)
{
	for (size_t i = 0; good_codes[i] != NULL; i++)
		if (strcmp(code, good_codes[i]) == 0)
			return true;
	for (size_t i = 0; refused_codes[i].code != NULL; i++)
		if (strcmp(code, refused_codes[i].code) == 0)
			return err_set(err, errlen, refused_codes[i].why, NULL);
	/* repeated only if it is a code: the sentence goes to logs and terminals */
	if (code[0] == '5' && strspn(code, "0123456789") == strlen(code))
		return err_set(err, errlen, "a ", code,
		    " would lose mail; weir only answers 421, 451 or 452", NULL);
	return err_set(err, errlen, "the code must be 421, 451 or 452", NULL);
}

/* Class 4 and two numbers of one to three digits (RFC 3463 section 2). */
static bool
check_xcode(const char *x)
{
	if (*x++ != '4')
		return false;
	for (int part = 0; part < 2; part++) {
		int digits = 0;

		if (*x++ != '.')
			return false;
		for (; *x >= '0' && *x <= '9'; x++)
			digits++;
		if (digits < 1 || digits > 3)
			return false;
	}
	return *x == '\0';
}

static bool
check_text(const char *text, char *err, size_t errlen)
{
	if (*text == '\0')
		return err_set(err, errlen, "the text is missing", NULL);
	for (const char *p = text; *p != '\0'; p++) {
		unsigned char c = (unsigned char)*p;

		if (c == '\n' || c == '\r')
			return err_set(err, errlen, "the text must be one line", NULL);
		if (c == '%')
			return err_set(err, errlen,
			    "'%' must not stand in the text: Sendmail would answer a permanent 550",
			    NULL);
		if (c >= 0x80)
			return err_set(err, errlen,
			    "the text must be ASCII: Sendmail cuts the high bit of each byte",
			    NULL);
		if (c < 0x20 || c == 0x7f)
			return err_set(err, errlen, "the text holds a control character", NULL);
	}
	if (strlen(text) > REPLY_TEXT_MAX)
		return err_set(err, errlen, "the text is too long (at most 400 characters)", NULL);
	return true;
}

/* Copies up to the next blank; false when nothing or too much stands there. */
static bool
take_word(const char **p, char *out, size_t outlen)
{
	size_t len = strcspn(*p, " \t\r\n");

	if (len == 0 || len >= outlen)
		return false;
	memcpy(out, *p, len);
	out[len] = '\0';
	*p += len;
	*p += strspn(*p, " ");
	return true;
}

bool
reply_parse(const char *line, struct reply *out, char *err, size_t errlen)
{
	struct reply r;

	memset(&r, 0, sizeof r);
	if (!take_word(&line, r.code, sizeof r.code))
		return err_set(err, errlen, "a reply reads \"421 4.7.0 text\"", NULL);
	if (!check_code(r.code, err, errlen))
		return false;
	if (!take_word(&line, r.xcode, sizeof r.xcode) || !check_xcode(r.xcode))
		return err_set(err, errlen, "after ", r.code,
		    " an enhanced code of the same class is needed, such as 4.7.0", NULL);
	if (!check_text(line, err, errlen))
		return false;
	strcpy(r.text, line);
	*out = r;
	return true;
}

bool
reply_closes(const struct reply *r)
{
	return strcmp(r->code, "421") == 0;
}
