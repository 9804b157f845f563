/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mta_postfix.h - what a Postfix is configured to do, as postconf(1) says it, and what of that is
 * about milters.
 */
#ifndef WEIR_CTL_MTA_POSTFIX_H
#define WEIR_CTL_MTA_POSTFIX_H

#include <jansson.h>

#include "conf.h"

#define MTA_PATH_MAX 512
#define MILTERS_MAX 16
#define SERVICES_MAX 64

/* One entry of smtpd_milters. */
struct milter_ref {
	char socket[SOCKET_TEXT_MAX]; /* as it is written */
	char action[32]; /* what happens without it */
	int64_t connect_us, command_us, content_us; /* 0 = not a time */
	int protocol;
	bool ours; /* it is weir.conf's socket */
};

struct milter_list {
	unsigned n;
	struct milter_ref m[MILTERS_MAX];
};

/* A line of master.cf that runs smtpd. */
struct postfix_service {
	char key[128]; /* "smtp/inet" */
	char name[112]; /* "smtp", "127.0.0.1:10026", "submission" */
	bool chroot;
};

struct postfix {
	char dir[MTA_PATH_MAX]; /* of main.cf */
	char *warnings; /* what postconf complains of */
	json_t *main; /* {NAME: value}, expanded */
	json_t *own; /* {"smtp/inet/NAME": value}: -o in master.cf */
	json_t *raw, *raw_own; /* the same as they are written, with $names */
	unsigned n;
	struct postfix_service services[SERVICES_MAX];
};

/* False: why is a sentence. postfix_free() either way. */
bool postfix_read(struct postfix *p, const char *dir, char *why, size_t whylen);
void postfix_free(struct postfix *p);

/* "" if there is no such parameter. s NULL: main.cf's. */
const char *postfix_get(const struct postfix *p, const struct postfix_service *s, const char *name);
/* Whether master.cf gives it for that service alone. */
bool postfix_own(const struct postfix *p, const struct postfix_service *s, const char *name);

/* The service's value of `name` as milters; conf tells which is ours. */
void postfix_milters(const struct postfix *p, const struct postfix_service *s, const char *name,
    const struct conf *conf, struct milter_list *out);
/* The next entry of such a list, without its braces; NULL at the end. *rest is consumed. */
char *milters_next(char **rest);
/* Whether a socket in Postfix' words is weir.conf's: written as that is, or leading there with
 * chroot or without. What is wrong with the way is another question. */
bool postfix_is_ours(const struct postfix *p, const char *text, const struct conf *conf);
/* Whether mail comes back there from a content filter. */
bool postfix_reinjected(const struct postfix *p, const struct postfix_service *s);
/* The place of ours in the list, from 0; -1 = it is not there. */
int milters_ours(const struct milter_list *l);

/* Where an smtpd of that kind looks for "unix:PATH", seen from outside. */
void postfix_unix_path(
    const struct postfix *p, bool chrooted, const char *path, char *out, size_t outlen);
/* weir.conf's socket as smtpd has to write it; false: an smtpd in a chroot cannot reach it. */
bool postfix_socket_for(
    const struct postfix *p, bool chrooted, const struct conf *conf, char *out, size_t outlen);

#endif
