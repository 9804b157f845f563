/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog_text.h - the pieces that lines of both MTAs are made of. All cut the line in place.
 */
#ifndef WEIR_CTL_MAILLOG_TEXT_H
#define WEIR_CTL_MAILLOG_TEXT_H

#include "maillog.h"

/* An event about this line with nothing told yet. */
struct mail_event mail_event_of(const struct log_line *line, enum mail_kind kind, bool ends_told);

/* Takes "<address>" off *p and returns the address; "" and *p unmoved when there is none. */
char *text_angle(char **p);

/* What follows word in text; NULL when text does not begin with it. */
char *text_after(char *text, const char *word);

/* Takes "QUEUE-ID: " off *p. NULL: *p does not begin with one. */
char *text_queue_id(char **p);

/* A whole number at p, at most max; -1 when there is none. */
int64_t text_number(const char *p, int64_t max);

/* "name[addr]", "name [addr]", "[IPv6:addr]", with whatever behind it. False: no brackets. */
bool text_client(char *p, struct mail_event *e);

#endif
