/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf.h - weir.conf(5): read once and then never changed. weir-milter lives by it; weirctl
 * learns from it where Redis is and what the file's limits are.
 *
 * Built by conf_read() from built-in defaults and the file; the command line is laid over it by
 * main.c. The milter's master owns it; workers inherit it by fork.
 */
#ifndef WEIR_CONF_CONF_H
#define WEIR_CONF_CONF_H

#include <stdbool.h>
#include <stdio.h>
#include <sys/types.h>

#include "weir/redis.h"
#include "weir/ruleset.h"
#include "socket_spec.h"

#define CONF_NAME_MAX 64
#define CONF_PATH_MAX 1024
#define CONF_QUEUE_DIRECTORIES_MAX 8
/* More files than this are not counted: it is this many. */
#define CONF_QUEUE_FILES_MAX 100000
/* A quarter of what a zone has room for: after a reload old ones live beside the new ones. */
#define CONF_WORKERS_MAX 64

/* Who speaks with the MTA. */
enum conf_engine { ENGINE_LIBMILTER, ENGINE_EVENT };

struct conf {
	struct socket_spec socket;
	char socket_owner[CONF_NAME_MAX], socket_group[CONF_NAME_MAX];
	mode_t socket_mode;
	char user[2 * CONF_NAME_MAX]; /* USER[:GROUP], "" = stay */
	char pid_file[CONF_PATH_MAX];
	unsigned workers; /* 0 = number of cores, at least 2 */
	int64_t zone_size;
	int64_t drain_timeout_us; /* for the last sessions of a worker that stops; 0 = cut them */
	enum conf_engine engine;
	int64_t idle_timeout_us; /* a session of which the MTA says nothing for so long is over */
	bool verbose;
	bool use_metrics;
	bool metrics_anywhere; /* also where other hosts can reach it */
	struct socket_spec metrics; /* if use_metrics */
	bool use_redis;
	unsigned redis_where; /* how many words say where it is: one may */
	struct redis_options redis;
	char password_file[CONF_PATH_MAX], sentinel_password_file[CONF_PATH_MAX];
	/* Where the length of the MTA's queue is found: either of them, or neither. */
	unsigned nqueue_directories;
	char queue_directories[CONF_QUEUE_DIRECTORIES_MAX][CONF_PATH_MAX];
	char queue_command[CONF_PATH_MAX];
	bool load_spare_given; /* the file says which daemons rules.load spares */
	struct netset *exempt; /* rules.exempt points here */
	struct psl_ctx_st *psl; /* rules.psl points here; NULL = this host has no list */
	struct exceptions *lists; /* rules.exceptions points here, if it holds any */
	struct listing list_words; /* of the list section that is being read */
	struct ruleset rules; /* the file's layer, finished */
};

void conf_defaults(struct conf *c);

/* "libmilter", "event" */
const char *conf_engine_name(enum conf_engine e);

/* file NULL: built-in defaults. On false one or more lines "FILE:LINE: what to do" have gone to
 * errors. */
bool conf_read(struct conf *c, const char *file, FILE *errors);

/* What is in force, for -n. */
void conf_print(const struct conf *c, FILE *out);

/* What the zone's counters and leases are about: with another Redis they are about something
 * else. No password in it, and one line. */
#define CONF_STORE_MARK_MAX (REDIS_TEXT_MAX + REDIS_PREFIX_MAX + 64)
void conf_store_mark(const struct conf *c, char out[CONF_STORE_MARK_MAX]);

void conf_free(struct conf *c);

#endif
