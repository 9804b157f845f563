/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * import_postgrey.c - postgrey's whitelist_clients and whitelist_recipients: one pattern a line.
 */
#include <stdio.h>
#include <string.h>

#include "import.h"

#define BLANKS " \t\r\f\v"
#define NOT_A_DOMAIN "a regular expression that is more than a domain or an address"

typedef void line_fn(const struct import *to, unsigned number, const char *line);

/* Calls fn with what is left of each line without comment and blanks around it. */
static void
each_line(const struct import *to, char *text, line_fn *fn)
{
	unsigned number = 1;

	for (char *next; text != NULL; text = next, number++) {
		char *end;

		next = strchr(text, '\n');
		if (next != NULL)
			*next++ = '\0';
		text[strcspn(text, "#")] = '\0';
		text += strspn(text, BLANKS);
		end = text + strlen(text);
		while (end > text && strchr(BLANKS, end[-1]) != NULL)
			*--end = '\0';
		if (*text == '\0')
			continue;
		if (text[strcspn(text, BLANKS)] != '\0')
			to->note(to->ctx, number, text, "there are blanks in it");
		else
			fn(to, number, text);
	}
}

/* "/regexp/", at least one character between the slashes; copies what stands there. */
static bool
take_regex(const char *line, char *out, size_t outlen)
{
	size_t len = strlen(line);

	if (len < 3 || line[0] != '/' || line[len - 1] != '/')
		return false;
	/* what is too long for an entry anyway is cut, and then means nothing */
	snprintf(out, outlen, "%.*s", len - 2 < outlen ? (int)len - 2 : 1, line + 1);
	return true;
}

static void
regex_line(const struct import *to, unsigned number, const char *line, const char *regex,
    enum who_kind kind)
{
	struct who who[2];
	unsigned n = import_regex(regex, kind, who);

	for (unsigned i = 0; i < n; i++)
		to->entry(to->ctx, number, &who[i], IMPORT_NO_GREYLIST);
	if (n == 0)
		to->note(to->ctx, number, line, NOT_A_DOMAIN);
}

/* "10.0.3" is 10.0.3.0/24, "10.0" is 10.0.0.0/16. */
static bool
partial_address(const char *line, struct who *out)
{
	char whole[NET_TEXT_MAX];
	unsigned dots = 0;

	for (const char *p = line; *p != '\0'; p++)
		dots += *p == '.';
	if (dots == 2)
		snprintf(whole, sizeof whole, "%s.0/24", line);
	else if (dots == 1)
		snprintf(whole, sizeof whole, "%s.0.0/16", line);
	else
		return false;
	return import_net(whole, out);
}

static void
client_line(const struct import *to, unsigned number, const char *line)
{
	char regex[1024], why[IMPORT_WHY_MAX];
	struct who who;

	if (take_regex(line, regex, sizeof regex))
		regex_line(to, number, line, regex, WHO_NAME);
	else if (import_net(line, &who) || partial_address(line, &who))
		to->entry(to->ctx, number, &who, IMPORT_NO_GREYLIST);
	else if (line[strspn(line, "0123456789./:")] == '\0' || strchr(line, ':') != NULL ||
	    strchr(line, '/') != NULL)
		to->note(to->ctx, number, line, "not an address, and no host name either");
	else if (import_who("name:", line, &who, why))
		to->entry(to->ctx, number, &who, IMPORT_NO_GREYLIST);
	else
		to->note(to->ctx, number, line, why);
}

void
import_postgrey_clients(const struct import *to, char *text)
{
	each_line(to, text, client_line);
}

/* A domain stands for itself and for those below it. */
static void
recipient_line(const struct import *to, unsigned number, const char *line)
{
	static const char *const prefixes[] = {"recipient:@", "recipient:@."};
	char regex[1024], why[IMPORT_WHY_MAX];
	struct who who;

	if (take_regex(line, regex, sizeof regex)) {
		regex_line(to, number, line, regex, WHO_RECIPIENT);
		return;
	}
	if (strchr(line, '@') != NULL) {
		if (import_who("recipient:", line, &who, why))
			to->entry(to->ctx, number, &who, IMPORT_NO_GREYLIST);
		else
			to->note(to->ctx, number, line, why);
		return;
	}
	for (int i = 0; i < 2; i++)
		if (import_who(prefixes[i], line, &who, why))
			to->entry(to->ctx, number, &who, IMPORT_NO_GREYLIST);
		else {
			to->note(to->ctx, number, line, why);
			break;
		}
}

void
import_postgrey_recipients(const struct import *to, char *text)
{
	each_line(to, text, recipient_line);
}
