/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ctl.h - what the commands of weirctl(8) share.
 *
 * Each command gathers its result as JSON (jansson); -j prints that, and without it the same
 * data are laid out for a person, so the two can never tell different stories. Errors end the
 * program with one sentence: a command line has nobody to hand them to.
 */
#ifndef WEIR_CTL_H
#define WEIR_CTL_H

#include <hiredis/hiredis.h>
#include <jansson.h>

#include "clock.h"
#include "conf.h"
#include "weir/entry.h"
#include "weir/quota.h"
#include "weir/verdict.h"

enum ctl_exit {
	CTL_DONE = 0,
	CTL_REFUSED = 1, /* refused, or not found */
	CTL_USAGE = 2,
	CTL_NO_REDIS = 3
};

struct ctl {
	struct conf conf; /* file, and -r over it */
	const char *conf_file; /* NULL = none */
	char conf_trouble[512]; /* why it cannot be used; only doctor goes on then */
	bool json, yes;
	bool terminal, colour; /* of standard output */
	const char *reason; /* -m, "" = none */
	struct link *link; /* redis.c's; NULL until ctl_call() */
};

/* One sentence on standard error, then exit(status). */
void ctl_die(enum ctl_exit status, const char *fmt, ...)
    __attribute__((format(printf, 2, 3), noreturn));

/* --- redis.c: talking to Redis; all end the program when it cannot be reached ----------------- */

/* Whether it is there; if not, why in words. For who must go on without it. */
bool ctl_redis_answers(struct ctl *c, char *why, size_t whylen);
/* Any reply but an error; an error ends the program with what it means. Free it. */
redisReply *ctl_call(struct ctl *c, int argc, const char **argv);
/* As redisCommand()'s format. */
redisReply *ctl_callf(struct ctl *c, const char *fmt, ...);
/* For who must go on: an error is a reply, too, and NULL is no answer. */
redisReply *ctl_tryf(struct ctl *c, const char *fmt, ...);
/* As ctl_callf(), but NULL when the key is of another type: one bad key must not hide the others. */
redisReply *ctl_lookf(struct ctl *c, const char *fmt, ...);
#define CTL_CURSOR_MAX 32
/* The next keys that match: cursor is "0" at the beginning, and "0" again when these were the last.
 * All nodes of a Cluster, one after another. {cursor, {key, ...}}; free it. */
redisReply *ctl_scan(struct ctl *c, char cursor[CTL_CURSOR_MAX], const char *pattern);
/* To the node that the last keys came from: several commands, and then as many replies. Errors are
 * replies here. */
void ctl_push(struct ctl *c, int argc, const char **argv);
redisReply *ctl_pull(struct ctl *c);
void ctl_hang_up(struct ctl *c);
void ctl_wrong_key(const char *key) __attribute__((noreturn));
/* EVAL of script: keys are completed with the prefix. */
redisReply *ctl_eval(
    struct ctl *c, const char *script, int nkeys, const char **keys, int nargs, const char **args);
/* PREFIX:name into out (CTL_KEY_MAX). */
#define CTL_KEY_MAX (REDIS_PREFIX_MAX + GREY_KEY_MAX + 64)
const char *ctl_key(const struct ctl *c, const char *name, char out[CTL_KEY_MAX]);
/* "root@mx1": who is to blame. */
const char *ctl_author(char out[ENTRY_BY_MAX + 1]);

/* --- rules.c: what is in force ------------------------------------------------------------------ */

struct rules {
	struct overlay overlay; /* as Redis has it */
	struct ruleset set; /* what every weir-milter makes of it */
	json_t *ignored; /* [{section, name, why}] */
	json_t *before; /* what the history knows of each entry; NULL until one was ignored */
	struct store *store; /* for peeking */
	struct zone *zone;
};

/* The recorded changes, newest first; at most so many, 0 = all. Decref it. */
json_t *ctl_history(struct ctl *c, int newest);

void rules_load(struct ctl *c, struct rules *r);
/* The same, but if no Redis is configured or none answers, what the file says: then said in one
 * sentence on standard error, r->overlay.generation is "", and r has no store. */
void rules_load_or_file(struct ctl *c, struct rules *r);
void rules_free(struct rules *r);
/* The words of an entry as they are in Redis; NULL = none. */
const char *rules_words(const struct rules *r, enum overlay_section s, const char *name);

/* --- change.c ----------------------------------------------------------------------------------- */

/* What a field is to be, made from what it is now (NULL = none). NULL = remove it, ctl_leave =
 * leave it alone. Called again when somebody else was faster. The result is malloced. */
extern char ctl_leave[];
typedef char *change_fn(
    struct ctl *c, const struct rules *r, const char *field, const char *now, void *ctx);

/* Reads, changes and records n fields of a section as one step. Returns the new generation, or
 * CTL_NOTHING when all were left alone. */
#define CTL_NOTHING 0
int64_t ctl_change(struct ctl *c, enum overlay_section s, unsigned n, const char *const *fields,
    change_fn *fn, void *ctx);

/* Says so. Returns CTL_DONE. */
int ctl_changed(struct ctl *c, int64_t generation);

/* "for DURATION" at the end of argv: shortens *argc and gives the time it ends, else
 * INT64_MAX. Ends the program with usage when it is malformed. */
int64_t ctl_take_for(int *argc, char **argv);

size_t ctl_add_word(char *out, size_t outlen, size_t used, const char *word);

/* Words, and behind them until, by and reason. Malloced. */
char *ctl_entry(const struct ctl *c, const char *words, int64_t until_us);

/* --- out.c: for people -------------------------------------------------------------------------- */

/* Prints the result: as JSON with -j, else by the given function. Frees it. */
typedef void out_fn(const struct ctl *c, const json_t *result);
void out_result(const struct ctl *c, json_t *result, out_fn *print);

/* A member of a JSON object; "" and 0 when it is not there. */
const char *out_text(const json_t *j, const char *key);
int64_t out_whole(const json_t *j, const char *key);

/* "12 s", "5 min", "2 h 10 min", "35 d". */
const char *out_duration(int64_t us, char out[32]);
/* "action=greylist delay=15m": an entry's words. */
const char *out_listing(const struct listing *l, char out[64]);
/* "2.5", or of bytes "1.4M". */
const char *out_figure(double n, bool bytes, char out[32]);
/* Printable, at most width columns, "?" for what is not. */
const char *out_safe(const char *text, size_t width, char *out, size_t outlen);

/* Columns there are: the terminal's, or 80. */
unsigned out_width(const struct ctl *c);
/* One line, cut to the width. */
void out_line(const struct ctl *c, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* A sentence on as many lines as it needs; lead stands before the first, blanks before the rest. */
void out_text_lines(const struct ctl *c, const char *lead, const char *text);

/* Rows of text, aligned, no wider than the terminal (80 when piped). */
struct table;
struct table *table_new(unsigned columns, ...); /* their heads, const char * */
void table_row(struct table *t, ...); /* as many const char * */
void table_print(const struct ctl *c, struct table *t); /* and frees it */

enum colour { PLAIN, BOLD, RED, GREEN, YELLOW };
void out_colour(const struct ctl *c, enum colour colour);

/* --- records.c: what Redis knows of clients --------------------------------------------------- */

struct client_record {
	enum limit_per kind;
	char key[RECORD_KEY_MAX]; /* with its tag */
	char who[RECORD_KEY_MAX]; /* without */
	int64_t first_us, last_us, ok, refused;
	char refusal[LIMIT_NAME_MAX + 1]; /* the limit that refused last; "" = none */
	int64_t refusal_us;
	json_t *fields; /* all of the hash, as text */
};
/* Calls fn for each record of that kind; stops when it returns false. */
typedef bool record_fn(void *ctx, const struct client_record *r);
void records_each(struct ctl *c, enum limit_per kind, record_fn *fn, void *ctx);
/* So many times a limit's figures are counted in this record: more than once in the wider
 * networks of its ladder, 0 = not at all. */
int64_t record_times(
    const struct ruleset *set, const struct client_record *r, const struct limit *l);
/* What is counted at now_us, in millionths; false: nothing, or it is no such limit's. */
bool record_level(const struct client_record *r, const struct limit *l, int64_t times,
    int64_t now_us, int64_t *level);
/* All of a record's fields, as text; key becomes its name in Redis. Decref it. */
json_t *record_read(
    struct ctl *c, enum limit_per kind, const char *record_key, char key[CTL_KEY_MAX]);
/* A field that is one number, a text that is two, none of them negative or near INT64_MAX; 0 and
 * false: it is not of that form. */
int64_t record_number(const json_t *fields, const char *name);
bool record_pair(const char *text, int64_t *a, int64_t *b);
/* The field of a quota: the limit's name, and this. */
#define QUOTA_FIELD ":quota"
bool record_quota(const char *text, int64_t window_us, int64_t now_us, struct quota *q);
/* Removes these fields (at most FORGET_MAX) from all records. */
#define FORGET_MAX 4
void records_forget(struct ctl *c, unsigned n, const char *const *fields);
/* Whether the pool with these fields is known at now_us, and why: t brought to that time, and
 * passed: by greylisting. */
bool record_known(
    const struct ruleset *set, const json_t *fields, int64_t now_us, struct trust *t, bool *passed);
/* A pool's field `trust`; false: all 0, it holds something else. */
bool record_trust(const char *text, struct trust *t);
/* The part of a record's key (of so many bytes) that a person wants to see. */
bool record_who(const char *key, size_t len, char out[RECORD_KEY_MAX]);

/* The pool of an address or network, or of a domain's hosts; ends the program if that is none. */
void ctl_pool(const struct rules *r, const struct who *w, struct record *out);

/* --- cmd_limit.c, cmd_shadow.c, impact.c ------------------------------------------------------- */

json_t *limit_json(const struct limit *l);
/* limit shadow: argv[0] is the name. */
int limit_shadow(struct ctl *c, int argc, char **argv);
/* Asks before a limit is made so small that it refuses who is within it now. */
void impact_warn(
    struct ctl *c, const struct ruleset *r, const struct limit *before, const struct limit *after);

/* --- why_client.c: what is known of a client, as weirctl why shows it --------------------------- */

/* Both add to what `why` gives: "record", "key" and "shadows"; "pool". */
void why_address(struct ctl *c, const struct rules *r, const struct facts *f, json_t *out);
void why_pool(
    struct ctl *c, const struct rules *r, const struct facts *f, int64_t now_us, json_t *out);
/* How many weir-milters are too busy for strangers, or for all: that is not asked about here. */
void why_load(struct ctl *c, json_t *out);
void why_print_load(const struct ctl *c, const json_t *why);
void why_print_address(const struct ctl *c, const json_t *why);
void why_print_pool(const struct ctl *c, const json_t *pool);

/* --- why_lists.c: exceptions, as weirctl why shows them ----------------------------------------- */

/* Those that match the facts. Decref it. */
json_t *why_lists(const struct rules *r, const struct facts *f);
/* The entry that decides about greylisting, and that the recipient is a trap; if they are. */
void why_greylist(const struct rules *r, const struct facts *f, json_t *out);

/* --- cmd_status.c: what each weir-milter says of itself ------------------------------------------- */

/* A list of objects with the fields of PREFIX:node:NODE and "node". Decref it. */
json_t *ctl_nodes(struct ctl *c);

/* --- cmd_limit.c ------------------------------------------------------------------------------- */

/* What a limit is: name, figures, action, reply. */
json_t *limit_json(const struct limit *l);

/* --- logread.c: mail logs --------------------------------------------------------------------- */

struct traffic;

/* Reads the log in these files through, with a progress bar on a terminal. What was read, for the
 * result: {"files", "lines", ...}. Ends the program when there is nothing of an MTA in it. */
json_t *log_read(unsigned n, char *const *paths, struct traffic *t);
/* The same for people. */
void log_print(const struct ctl *c, const json_t *log);

/* --- the commands ------------------------------------------------------------------------------- */

int cmd_limit(struct ctl *c, int argc, char **argv);
int cmd_override(struct ctl *c, int argc, char **argv);
int cmd_exempt(struct ctl *c, int argc, char **argv);
int cmd_block(struct ctl *c, int argc, char **argv);
int cmd_trap(struct ctl *c, int argc, char **argv);
int cmd_unlist(struct ctl *c, int argc, char **argv);
int cmd_lists(struct ctl *c, int argc, char **argv);
int cmd_import(struct ctl *c, int argc, char **argv);
int cmd_why(struct ctl *c, int argc, char **argv);
int cmd_top(struct ctl *c, int argc, char **argv);
int cmd_status(struct ctl *c, int argc, char **argv);
int cmd_metrics(struct ctl *c, int argc, char **argv);
int cmd_clear(struct ctl *c, int argc, char **argv);
int cmd_drain(struct ctl *c, int argc, char **argv);
int cmd_greylist(struct ctl *c, int argc, char **argv);
/* greylist on, greylist off */
int list_greylist(struct ctl *c, int argc, char **argv);
int cmd_replay(struct ctl *c, int argc, char **argv);
int cmd_suggest(struct ctl *c, int argc, char **argv);
int cmd_doctor(struct ctl *c, int argc, char **argv);
int cmd_attach(struct ctl *c, int argc, char **argv);

#endif
