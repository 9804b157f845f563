/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog_text.c - whose line it is, and the pieces that lines of both MTAs are made of.
 */
#include <string.h>

#include "maillog_text.h"

struct mail_event
mail_event_of(const struct log_line *line, enum mail_kind kind, bool ends_told)
{
	return (struct mail_event){
	    .kind = kind,
	    .time_us = line->time_us,
	    .day = line->day,
	    .ends_told = ends_told,
	    .host = line->host,
	    .pid = line->pid,
	    .queue_id = "",
	    .name = "",
	    .user = "",
	    .sender = "",
	    .recipient = "",
	    .size = -1,
	    .nrcpt = -1,
	};
}

char *
text_after(char *text, const char *word)
{
	size_t len = strlen(word);

	return strncmp(text, word, len) == 0 ? text + len : NULL;
}

/* The bracket that closes the one before p: not one in a quoted local part. NULL: none. */
static char *
closing(char *p)
{
	bool quoted = false;

	for (; *p != '\0'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '"')
			quoted = !quoted;
		else if (*p == '>' && !quoted)
			return p;
	}
	return NULL;
}

char *
text_angle(char **p)
{
	char *start = *p + 1, *end;

	if (**p != '<')
		return *p + strlen(*p);
	end = closing(start);
	/* a quote that nobody closes */
	if (end == NULL)
		end = strchr(start, '>');
	if (end == NULL)
		return *p + strlen(*p);
	*end = '\0';
	*p = end + 1;
	return start;
}

char *
text_queue_id(char **p)
{
	char *id = *p;
	size_t len = strspn(id, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz");

	if (len < 5 || len > 64 || id[len] != ':' || id[len + 1] != ' ')
		return NULL;
	id[len] = '\0';
	*p = id + len + 2;
	return id;
}

int64_t
text_number(const char *p, int64_t max)
{
	int64_t n = 0;

	if (*p < '0' || *p > '9')
		return -1;
	for (; *p >= '0' && *p <= '9'; p++) {
		n = n * 10 + (*p - '0');
		if (n > max)
			return max;
	}
	return n;
}

bool
text_client(char *p, struct mail_event *e)
{
	char *open = strchr(p, '['), *end;
	char *name = p, *after;

	end = open != NULL ? strchr(open, ']') : NULL;
	if (end == NULL)
		return false;
	*end = '\0';
	e->client_told = true;
	after = text_after(open + 1, "IPv6:");
	if (!addr_parse(after != NULL ? after : open + 1, &e->client))
		e->client.family = ADDR_NONE;
	while (open > name && open[-1] == ' ')
		open--;
	*open = '\0';
	/* "user@name": what the client's identd said */
	if (strrchr(name, '@') != NULL)
		name = strrchr(name, '@') + 1;
	/* "unknown" is Postfix' word for having none */
	e->name = strcmp(name, "unknown") == 0 ? "" : name;
	return true;
}

enum mail_program
mail_parse(const struct log_line *line, mail_event_fn *fn, void *ctx)
{
	if (mail_postfix(line, fn, ctx))
		return MAIL_POSTFIX;
	return mail_sendmail(line, fn, ctx) ? MAIL_SENDMAIL : MAIL_OTHER;
}
