/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conf.c - weir.conf(5): libconfuse does the grammar, the table in conf_words.c says what each
 * word means.
 *
 * Every value is read as text and handed to its word while libconfuse stands on its line, so
 * that each error names the line that is wrong.
 */
#include <confuse.h>
#include <errno.h>
#include <libpsl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "weir/units.h"
#include "conf.h"
#include "conf_load.h"
#include "conf_words.h"

#define DEFAULT_SOCKET "inet:127.0.0.1:8890"
#define DEFAULT_ZONE_SIZE (INT64_C(32) << 20)
#define DEFAULT_SOCKET_MODE 0660
#define DEFAULT_DRAIN_TIMEOUT (300 * USEC_PER_SEC)
/* libmilter's own: just above the two hours that an MTA may take for a command */
#define DEFAULT_IDLE_TIMEOUT (7210 * USEC_PER_SEC)
/* weir-milter or weirctl, in front of each complaint */
#define PROGRAM program_invocation_short_name
#define ERR_MAX 512
#define WORDS_MAX 40 /* in one section */
#define SECTIONS_MAX 8 /* and what marks the end */
/* More belong into Redis, where they can be read without a restart. */
#define LISTS_MAX 1000
#define END_OF_FILE "end-of-file"

/* libconfuse's callbacks carry no context of ours. Start-up is single-threaded. */
static struct {
	struct conf *conf;
	FILE *errors;
	unsigned nerrors;
	bool exempt_given; /* replaces the default, be it empty */
	bool password_written; /* in the file itself */
} reading;

static const char *
conf_section(const cfg_t *section)
{
	/* libconfuse calls what is outside of any section "root" */
	return strcmp(section->name, "root") == 0 ? "" : section->name;
}

static const struct conf_word *
find_word(const char *section, const char *name)
{
	for (const struct conf_word *w = conf_words; w->name != NULL; w++)
		if (strcmp(w->section, section) == 0 && strcmp(w->name, name) == 0)
			return w;
	return NULL;
}

static int
on_value(cfg_t *section, cfg_opt_t *opt)
{
	const struct conf_word *w = find_word(conf_section(section), opt->name);
	unsigned n = cfg_opt_size(opt);
	char err[ERR_MAX] = "";
	const char *value = n > 0 ? cfg_opt_getnstr(opt, n - 1) : NULL;

	if (w == NULL || value == NULL ||
	    conf_word_set(reading.conf, w, cfg_title(section), value, err, sizeof err))
		return 0;
	cfg_error(section, "%s: %s", opt->name, err);
	return -1;
}

/* list "WHO" { ... } is complete. */
static int
on_list(cfg_t *root, cfg_t *section)
{
	struct conf *c = reading.conf;
	char err[LIMIT_ERR_MAX] = "";
	struct who who;

	if (exceptions_count(c->lists) == LISTS_MAX) {
		cfg_error(root, "more than %d lists: keep them in Redis (weirctl(8))", LISTS_MAX);
		return -1;
	}
	if (!who_parse(cfg_title(section), &who, err, sizeof err) ||
	    !listing_finish(&c->list_words, &who, err, sizeof err)) {
		cfg_error(root, "list %s: %s", cfg_title(section), err);
		return -1;
	}
	exceptions_add_listed(c->lists, &who, &c->list_words);
	listing_init(&c->list_words);
	return 0;
}

/* The closing brace of a section: what only the whole can tell, while the line is at hand. */
static int
on_section(cfg_t *root, cfg_opt_t *opt)
{
	cfg_t *section = cfg_opt_getnsec(opt, cfg_opt_size(opt) - 1);
	char err[LIMIT_ERR_MAX] = "";
	struct limit *l, whole;

	if (strcmp(opt->name, "greylist") == 0 || strcmp(opt->name, "known") == 0) {
		const struct ruleset *r = &reading.conf->rules;

		if (*opt->name == 'g' ? greylist_finish(&r->greylist, err, sizeof err)
				      : trust_finish(&r->trust, err, sizeof err))
			return 0;
		cfg_error(root, "%s", err);
		return -1;
	}
	if (strcmp(opt->name, "load") == 0) {
		/* spare = {} spares nobody, and is not the same as saying nothing */
		if ((cfg_getopt(section, "spare")->flags & CFGF_MODIFIED) != 0 &&
		    !reading.conf->load_spare_given)
			reading.conf->rules.load.nspare = 0;
		if (conf_load_finish(reading.conf, err, sizeof err))
			return 0;
		cfg_error(root, "%s", err);
		return -1;
	}
	if (strcmp(opt->name, "list") == 0)
		return on_list(root, section);
	if (strcmp(opt->name, "limit") != 0)
		return 0;
	l = ruleset_limit(&reading.conf->rules, cfg_title(section));
	if (l == NULL) {
		cfg_error(root, "limit %s: is empty", cfg_title(section));
		return -1;
	}
	whole = *l;
	if (limit_finish(&whole, err, sizeof err))
		return 0;
	cfg_error(root, "limit %s: %s", l->name, err);
	return -1;
}

static void on_error(cfg_t *cfg, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

static void
on_error(cfg_t *cfg, const char *fmt, va_list ap)
{
	char text[ERR_MAX];

	/* it may repeat what stands in the file, and that may be anything */
	vsnprintf(text, sizeof text, fmt, ap);
	for (char *p = text; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	if (strstr(text, "'" END_OF_FILE "'") != NULL)
		strcpy(text, "premature end of file: a '}' is missing");
	fprintf(reading.errors, "%s: %s:%d: %s\n", PROGRAM, cfg->filename, cfg->line, text);
	reading.nerrors++;
}

/* libconfuse's option array for a section of our table. */
static void
section_opts(const char *section, cfg_opt_t opts[WORDS_MAX])
{
	const cfg_opt_t end = CFG_END();
	size_t n = 0;

	for (const struct conf_word *w = conf_words;
	     w->name != NULL && n < WORDS_MAX - SECTIONS_MAX; w++) {
		const cfg_opt_t text = CFG_STR(w->name, NULL, CFGF_NODEFAULT);
		const cfg_opt_t list = CFG_STR_LIST(w->name, NULL, CFGF_NODEFAULT);

		if (strcmp(w->section, section) == 0)
			opts[n++] = w->list ? list : text;
	}
	if (section[0] == '\0') {
		static cfg_opt_t redis[WORDS_MAX], greylist[WORDS_MAX], limit[WORDS_MAX],
		    known[WORDS_MAX], load[WORDS_MAX], list[WORDS_MAX];
		const cfg_opt_t sections[] = {
		    CFG_SEC("redis", redis, CFGF_NODEFAULT),
		    CFG_SEC("greylist", greylist, CFGF_NODEFAULT),
		    CFG_SEC("known", known, CFGF_NODEFAULT),
		    CFG_SEC("load", load, CFGF_NODEFAULT),
		    CFG_SEC("limit", limit, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		    CFG_SEC("list", list, CFGF_MULTI | CFGF_TITLE | CFGF_NO_TITLE_DUPES),
		    CFG_STR(END_OF_FILE, NULL, CFGF_NODEFAULT),
		};

		section_opts("redis", redis);
		section_opts("greylist", greylist);
		section_opts("known", known);
		section_opts("load", load);
		section_opts("limit", limit);
		section_opts("list", list);
		for (size_t i = 0; i < sizeof sections / sizeof sections[0]; i++)
			opts[n++] = sections[i];
	}
	opts[n] = end;
}

/* The file, with END_OF_FILE set behind it: libconfuse takes the end of the file for the end of
 * any section, too. EILSEQ: bytes that no text has. Freed by the caller. */
static bool
read_whole(const char *file, char **text)
{
	FILE *f = fopen(file, "re");
	size_t room = 0;
	ssize_t len;

	if (f == NULL)
		return false;
	errno = 0;
	len = getdelim(text, &room, '\0', f);
	if (len < 0 && !ferror(f)) { /* empty */
		free(*text);
		*text = strdup("");
		len = 0;
	} else if (len > 0 && (*text)[len - 1] == '\0' && !feof(f)) {
		errno = EILSEQ;
		len = -1;
	}
	fclose(f);
	if (len >= 0) {
		char *whole = NULL;

		if (asprintf(&whole, "%s%s" END_OF_FILE " = 1", *text,
			len > 0 && (*text)[len - 1] != '\n' ? "\n" : "") < 0)
			whole = NULL;
		free(*text);
		*text = whole;
	}
	return len >= 0 && *text != NULL;
}

static int
parse_text(cfg_t *cfg, char *text)
{
	FILE *f = fmemopen(text, strlen(text), "r");
	int rc;

	if (f == NULL)
		return CFG_FILE_ERROR;
	rc = cfg_parse_fp(cfg, f);
	fclose(f);
	return rc;
}

static bool
parse_file(struct conf *c, const char *file, FILE *errors)
{
	cfg_opt_t opts[WORDS_MAX];
	char path[64], *text = NULL;
	cfg_t *cfg;
	bool whole;
	int rc;

	section_opts("", opts);
	cfg = cfg_init(opts, CFGF_NONE);
	if (cfg == NULL) {
		fprintf(errors, "%s: out of memory\n", PROGRAM);
		return false;
	}
	reading.conf = c;
	reading.errors = errors;
	cfg_set_error_function(cfg, on_error);
	for (const struct conf_word *w = conf_words; w->name != NULL; w++) {
		snprintf(path, sizeof path, "%s%s%s", w->section, *w->section != '\0' ? "|" : "",
		    w->name);
		cfg_set_validate_func(cfg, path, on_value);
	}
	cfg_set_validate_func(cfg, "limit", on_section);
	cfg_set_validate_func(cfg, "list", on_section);
	cfg_set_validate_func(cfg, "greylist", on_section);
	cfg_set_validate_func(cfg, "known", on_section);
	cfg_set_validate_func(cfg, "load", on_section);
	reading.nerrors = 0;
	cfg->filename = strdup(file);
	whole = cfg->filename != NULL && read_whole(file, &text);
	rc = whole ? parse_text(cfg, text) : CFG_FILE_ERROR;
	if (rc == CFG_FILE_ERROR)
		fprintf(errors, "%s: %s: %s\n", PROGRAM, file, strerror(errno));
	else if (rc != CFG_SUCCESS && reading.nerrors == 0)
		fprintf(errors, "%s: %s: not a configuration file\n", PROGRAM, file);
	if (whole) {
		/* not one that the environment has put there */
		reading.password_written = c->redis.password[0] != '\0' &&
		    (strstr(text, "${") == NULL || strstr(text, c->redis.password) != NULL);
		explicit_bzero(text, strlen(text));
	}
	free(text);
	/* exempt = {} exempts nobody, and is not the same as saying nothing */
	reading.exempt_given = (cfg_getopt(cfg, "exempt")->flags & CFGF_MODIFIED) != 0;
	cfg_free(cfg);
	return rc == CFG_SUCCESS;
}

static void
warn_of_readers(const char *file, FILE *errors)
{
	struct stat st;

	if (stat(file, &st) == 0 && (st.st_mode & S_IRWXO) != 0)
		fprintf(errors,
		    "%s: warning: %s has a password in it and can be read by everybody: chmod o= "
		    "it, or use password-file\n",
		    PROGRAM, file);
}

/* The first line of the file. Not in weir.conf itself, which more people may read. */
static bool
read_password(const char *word, const char *path, char out[REDIS_SECRET_MAX + 1], FILE *errors)
{
	FILE *f = fopen(path, "re");
	struct stat st;
	char *line = NULL;
	size_t room = 0;
	ssize_t len;
	bool ok = false;

	if (f == NULL) {
		fprintf(errors, "%s: %s %s: %s\n", PROGRAM, word, path, strerror(errno));
		return false;
	}
	if (fstat(fileno(f), &st) == 0 && (st.st_mode & S_IRWXO) != 0)
		fprintf(
		    errors, "%s: warning: %s %s can be read by everybody\n", PROGRAM, word, path);
	len = getline(&line, &room, f);
	if (len > 0 && line[len - 1] == '\n')
		line[--len] = '\0';
	if (len <= 0)
		fprintf(errors, "%s: %s %s is empty\n", PROGRAM, word, path);
	else if (len > REDIS_SECRET_MAX)
		fprintf(errors, "%s: %s %s: the password is too long\n", PROGRAM, word, path);
	else {
		strcpy(out, line);
		ok = true;
	}
	if (line != NULL)
		explicit_bzero(line, room);
	free(line);
	fclose(f);
	return ok;
}

/* What only the whole redis section can tell. */
static bool
finish_redis(struct conf *c, const char *file, FILE *errors)
{
	struct redis_options *o = &c->redis;
	char why[LIMIT_ERR_MAX + REDIS_PATH_MAX];
	const char *wrong = NULL;

	if (c->redis_where > 1)
		wrong = "give one of url, cluster and sentinels";
	else if (c->use_redis && o->kind == REDIS_SENTINEL && o->master[0] == '\0')
		wrong = "sentinels need to be asked for a master: master = \"NAME\"";
	else if (o->master[0] != '\0' && o->kind != REDIS_SENTINEL)
		wrong = "master is a word for sentinels";
	else if (o->tls.on && o->kind == REDIS_ALONE && o->port == 0)
		wrong = "a unix socket needs no TLS";
	else if ((o->tls.cert[0] != '\0') != (o->tls.key[0] != '\0'))
		wrong = "cert and key go together";
	else if (!o->tls.on &&
	    (o->tls.ca[0] != '\0' || o->tls.cert[0] != '\0' || o->tls.server_name[0] != '\0'))
		wrong = "ca, cert, key and server-name need tls = true (or a rediss: URL)";
	else if (!redis_options_check(o, why, sizeof why))
		wrong = why;
	if (wrong != NULL)
		fprintf(errors, "%s: %s: redis: %s\n", PROGRAM, file != NULL ? file : "built-in",
		    wrong);
	return wrong == NULL;
}

void
conf_defaults(struct conf *c)
{
	char err[ERR_MAX];

	memset(c, 0, sizeof *c);
	ruleset_defaults(&c->rules);
	redis_options_defaults(&c->redis);
	(void)socket_parse(DEFAULT_SOCKET, &c->socket, err, sizeof err);
	c->socket_mode = DEFAULT_SOCKET_MODE;
	c->zone_size = DEFAULT_ZONE_SIZE;
	c->drain_timeout_us = DEFAULT_DRAIN_TIMEOUT;
	c->idle_timeout_us = DEFAULT_IDLE_TIMEOUT;
	c->exempt = netset_new();
	c->lists = exceptions_new(0, 0);
	listing_init(&c->list_words);
}

static bool
add_default_exempt(struct netset *set)
{
	static const char *const loopback[] = {"127.0.0.0/8", "::1", NULL};
	struct net n;

	for (size_t i = 0; loopback[i] != NULL; i++)
		if (!net_parse(loopback[i], &n) || !netset_add(set, &n))
			return false;
	return true;
}

/* The public suffix list: that of the host (Debian's package publicsuffix), or what is built into
 * libpsl if that is newer. */
static void
open_psl(struct conf *c)
{
	c->psl = psl_latest(NULL);
	c->rules.psl = c->psl;
}

bool
conf_read(struct conf *c, const char *file, FILE *errors)
{
	char err[LIMIT_ERR_MAX + LIMIT_NAME_MAX + 16];

	conf_defaults(c);
	if (c->exempt == NULL || c->lists == NULL) {
		fprintf(errors, "%s: out of memory\n", PROGRAM);
		return false;
	}
	reading.exempt_given = false;
	reading.password_written = false;
	if (file != NULL && !parse_file(c, file, errors))
		return false;
	if (!reading.exempt_given && !add_default_exempt(c->exempt)) {
		fprintf(errors, "%s: out of memory\n", PROGRAM);
		return false;
	}
	if (reading.password_written)
		warn_of_readers(file, errors);
	if (c->password_file[0] != '\0' &&
	    !read_password("password-file", c->password_file, c->redis.password, errors))
		return false;
	if (c->sentinel_password_file[0] != '\0' &&
	    !read_password("sentinel-password-file", c->sentinel_password_file,
		c->redis.sentinel_password, errors))
		return false;
	if (!finish_redis(c, file, errors))
		return false;
	if (c->redis.user[0] != '\0' && c->redis.password[0] == '\0') {
		fprintf(errors, "%s: %s: redis user %s has no password: say password-file\n",
		    PROGRAM, file, c->redis.user);
		return false;
	}
	if (c->use_metrics && !c->metrics_anywhere && !socket_is_local(&c->metrics)) {
		fprintf(errors,
		    "%s: %s: metrics: other hosts can reach %s, and nobody is asked for a "
		    "password: use 127.0.0.1, [::1] or a unix socket, or say metrics-anywhere = "
		    "true\n",
		    PROGRAM, file != NULL ? file : "built-in", c->metrics.text);
		return false;
	}
	netset_seal(c->exempt);
	c->rules.exempt = c->exempt;
	open_psl(c);
	if (!exceptions_seal(c->lists)) {
		fprintf(errors, "%s: out of memory\n", PROGRAM);
		return false;
	}
	if (exceptions_count(c->lists) > 0)
		c->rules.exceptions = c->lists;
	if (!ruleset_finish(&c->rules, err, sizeof err)) {
		fprintf(errors, "%s: %s: %s\n", PROGRAM, file != NULL ? file : "built-in", err);
		return false;
	}
	return true;
}

static void
print_limit(const struct limit *l, FILE *out)
{
	char net[NET_TEXT_MAX], figures[LIMIT_FIGURES_MAX];

	fprintf(out, "limit %s: ", l->name);
	if (!l->enabled) {
		fprintf(out, "off\n");
		return;
	}
	fprintf(out, "%s per %s, %s", limit_count_name(l->count), limit_per_name(l->per),
	    limit_figures(l, 1, figures));
	for (unsigned i = 0; i < l->nrungs; i++)
		fprintf(out, ", per /%u %s", l->rungs[i].bits,
		    limit_figures(l, l->rungs[i].times, figures));
	if (l->strict)
		fprintf(out, " (strict)");
	if (l->whom != FOR_EVERYONE)
		fprintf(out, ", for %s", limit_for_name(l->whom));
	for (unsigned i = 0; i < l->nnets; i++)
		fprintf(out, " %s", net_format(&l->nets[i], net));
	fprintf(out, ": %s", limit_action_name(l->action));
	if (l->action != ACTION_LOG)
		fprintf(out, " \"%s %s %s\"", l->reply.code, l->reply.xcode, l->reply.text);
	fputc('\n', out);
}

static void
print_list(const struct listed_entry *l, FILE *out)
{
	char who[WHO_TEXT_MAX];

	fprintf(out, "list %s: %s", listed_who(l, who), list_action_name(l->says.action));
	if (l->says.delay_us != 0)
		fprintf(out, ", delay %lld s", (long long)(l->says.delay_us / USEC_PER_SEC));
	fputc('\n', out);
}

void
conf_print(const struct conf *c, FILE *out)
{
	char over[UNITS_TEXT_MAX], keep[UNITS_TEXT_MAX];

	fprintf(out, "socket: %s\nmode: %s\nstore: ", c->socket.text,
	    c->rules.observe ? "observe (nothing is refused)" : "enforce");
	if (!c->use_redis)
		fprintf(out, "this host's memory (no redis section)\n");
	else if (c->redis.kind != REDIS_ALONE)
		fprintf(out, "redis %s%s, by %u %s%s\n",
		    c->redis.kind == REDIS_CLUSTER ? "cluster" : "master ", c->redis.master,
		    c->redis.nplaces, c->redis.kind == REDIS_CLUSTER ? "of its nodes" : "sentinels",
		    c->redis.tls.on ? ", TLS" : "");
	else if (c->redis.port != 0)
		fprintf(out, "redis at %s port %d%s\n", c->redis.host, c->redis.port,
		    c->redis.tls.on ? ", TLS" : "");
	else
		fprintf(out, "redis at %s\n", c->redis.host);
	if (c->engine != ENGINE_LIBMILTER)
		fprintf(out, "engine: %s\n", conf_engine_name(c->engine));
	if (c->use_metrics)
		fprintf(out, "metrics: %s\n", c->metrics.text);
	for (unsigned i = 0; i < c->rules.nlimits; i++)
		print_limit(&c->rules.limits[i], out);
	if (c->rules.greylist.enabled)
		fprintf(out, "greylist: delay %lld s%s%s\n",
		    (long long)(c->rules.greylist.delay_us / USEC_PER_SEC),
		    c->rules.greylist.listed_only ? ", listed recipients only" : "",
		    c->rules.greylist.accept_null_sender ? ", null sender accepted" : "");
	else
		fprintf(out, "greylist: off\n");
	conf_load_print(c, out);
	if (!ruleset_learns(&c->rules))
		fprintf(out, "known: not kept\n");
	else if (c->rules.trust.messages == 0)
		fprintf(out, "known: who passed greylisting\n");
	else
		fprintf(out, "known: %lld messages over %s, kept %s\n",
		    (long long)c->rules.trust.messages,
		    units_duration_text(c->rules.trust.over_us, over),
		    units_duration_text(c->rules.trust.keep_us, keep));
	if (c->rules.fold.delimiters[0] != '\0')
		fprintf(out, "recipient-delimiter: %s\n", c->rules.fold.delimiters);
	if (c->rules.fold.unwrap)
		fprintf(out, "unwrap-senders: true\n");
	for (unsigned i = 0; i < exceptions_count(c->lists); i++)
		print_list(exceptions_at(c->lists, i), out);
}

void
conf_store_mark(const struct conf *c, char out[CONF_STORE_MARK_MAX])
{
	char where[REDIS_TEXT_MAX];

	if (!c->use_redis)
		snprintf(out, CONF_STORE_MARK_MAX, "memory");
	else
		snprintf(out, CONF_STORE_MARK_MAX, "redis %s %d %s",
		    redis_options_text(&c->redis, where), c->redis.db, c->redis.prefix);
	for (char *p = out; *p != '\0'; p++)
		if ((unsigned char)*p < 0x20)
			*p = '?';
}

void
conf_free(struct conf *c)
{
	netset_free(&c->exempt);
	psl_free(c->psl);
	c->psl = NULL;
	exceptions_free(&c->lists);
	explicit_bzero(c->redis.password, sizeof c->redis.password);
	explicit_bzero(c->redis.sentinel_password, sizeof c->redis.sentinel_password);
}
