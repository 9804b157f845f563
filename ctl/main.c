/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c - weirctl(8): options, and the table of commands.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "ctl.h"

#ifndef WEIR_CONF
#define WEIR_CONF "/etc/weir/weir.conf"
#endif

static const struct command {
	const char *name, *args, *help;
	int (*run)(struct ctl *c, int argc, char **argv);
} commands[] = {
    {"limit", "[list]", "the limits in force, and their origin", cmd_limit},
    {"limit", "set NAME KEY=VALUE... [for D]", "change a limit for all, at once", cmd_limit},
    {"limit", "unset NAME", "back to what the file says", cmd_limit},
    {"limit", "shadow NAME KEY=VALUE... for D", "try out other figures beside it", cmd_limit},
    {"limit", "shadow NAME [off]", "whom these would have refused", cmd_limit},
    {"limit", "history", "who changed what, and when", cmd_limit},
    {"limit", "rollback N", "put all back to generation N", cmd_limit},
    {"override", "set WHO LIMIT KEY=VALUE... [for D]", "another limit for one client",
	cmd_override},
    {"exempt", "WHO [for D]", "never limit or greylist this client", cmd_exempt},
    {"block", "WHO [for D]", "refuse this client with 421", cmd_block},
    {"greylist", "off WHO [for D]", "never greylist it", cmd_greylist},
    {"greylist", "on RECIPIENT [delay=D] [for D]", "opt in, or a delay of its own", cmd_greylist},
    {"trap", "RECIPIENT [for D]", "nobody writes there but spammers", cmd_trap},
    {"unlist", "WHO", "take all of this back", cmd_unlist},
    {"lists", "", "who is listed or overridden", cmd_lists},
    {"import", "FORMAT FILE [-n] [for D]", "take another program's lists over", cmd_import},
    {"why", "ADDRESS [name N] [sender S] [recipient R] [user U] [helo H]",
	"what would happen now, and why", cmd_why},
    {"top", "[-n N] [by refused|COUNT]", "the busiest clients", cmd_top},
    {"status", "", "every weir-milter on this Redis", cmd_status},
    {"metrics", "", "all figures of this host, for Prometheus", cmd_metrics},
    {"drain", "[NODE|all on|off [for D] [-w]]", "refuse new sessions for maintenance", cmd_drain},
    {"clear", "WHO", "forget the counters of a client", cmd_clear},
    {"greylist", "list|pass WHO|forget WHO", "what greylisting knows", cmd_greylist},
    {"replay", "LOG... [-l NAME KEY=VALUE...] [-g KEY=VALUE...]",
	"whom these limits would have refused", cmd_replay},
    {"suggest", "LOG...", "what clients did, limits that fit", cmd_suggest},
    {"doctor", "[postfix|sendmail] [-C DIR] [--send [HOST:PORT]]",
	"what is wrong on this host, and what to write", cmd_doctor},
    {"attach", "postfix|sendmail [-C DIR] [--apply|--undo]", "have the MTA ask weir", cmd_attach},
    {NULL, NULL, NULL, NULL},
};

/* These look at a log, at the MTA or at this host; without Redis they go by the file. */
static bool
works_offline(const char *command)
{
	static const char *const names[] = {"replay", "suggest", "doctor", "attach", "metrics"};

	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(command, names[i]) == 0)
			return true;
	return false;
}

/* The file's complaints go to standard error and end the program; doctor keeps them and goes on
 * with what is built in. */
static bool
read_conf(struct ctl *c, bool go_on)
{
	char *text = NULL;
	size_t len = 0;
	FILE *errors = go_on ? open_memstream(&text, &len) : stderr;
	bool good;

	if (errors == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	good = conf_read(&c->conf, c->conf_file, errors);
	if (!go_on)
		return good;
	fclose(errors);
	if (!good) {
		snprintf(c->conf_trouble, sizeof c->conf_trouble, "%.*s", (int)strcspn(text, "\n"),
		    text);
		conf_free(&c->conf);
		good = conf_read(&c->conf, NULL, stderr);
	}
	free(text);
	return good;
}

/* What --help shows: a line a command, all on one screen. */
static const struct {
	const char *name, *help;
} overview[] = {
    {"limit", "the limits in force; set, unset, shadow, history, rollback"},
    {"override", "another limit for one client"},
    {"exempt", "never limit or greylist a client"},
    {"block", "refuse a client with 421"},
    {"greylist", "what greylisting knows; whom to leave alone"},
    {"trap", "a recipient that nobody writes to but spammers"},
    {"unlist", "take all of this back"},
    {"lists", "who is listed or overridden"},
    {"import", "take another program's lists over"},
    {"why", "what would happen to a client now, and why"},
    {"top", "the busiest clients"},
    {"status", "every weir-milter on this Redis"},
    {"metrics", "the figures of the weir-milter on this host"},
    {"drain", "refuse new sessions for maintenance"},
    {"clear", "forget the counters of a client"},
    {"replay", "whom limits would have refused, by a mail log"},
    {"suggest", "what clients did, by a mail log, and limits that fit"},
    {"doctor", "what is wrong on this host, and what to write"},
    {"attach", "have Postfix or Sendmail ask weir"},
};

static void
usage(FILE *out)
{
	fprintf(out, "usage: weirctl [-c FILE] [-r REDIS-URL] [-j] [-y] [-m REASON] COMMAND\n\n");
	for (size_t i = 0; i < sizeof overview / sizeof overview[0]; i++)
		fprintf(out, "  %-10s %s\n", overview[i].name, overview[i].help);
	fprintf(out,
	    "\nweirctl help COMMAND shows its words; weirctl(8) explains them, with examples.\n");
}

/* The forms of one command. False: there is none of that name. */
static bool
command_usage(FILE *out, const char *name)
{
	bool known = false;

	for (const struct command *k = commands; k->name != NULL; k++) {
		if (strcmp(k->name, name) != 0)
			continue;
		fprintf(out, "%s weirctl %s%s%s\n         %s\n",
		    known ? "      " : "usage:", k->name, k->args[0] != '\0' ? " " : "", k->args,
		    k->help);
		known = true;
	}
	if (known)
		fprintf(out,
		    "WHO is an address, a network, user:NAME, name:DOMAIN, sender:ADDRESS or\n"
		    "recipient:ADDRESS; ADDRESS is ann@example.org, @example.org, @.example.org\n"
		    "(below it) or ann@. D is a duration such as 2h. FORMAT is postgrey-clients,\n"
		    "postgrey-recipients or milter-greylist. COUNT is connections, messages,\n"
		    "recipients, rejected-recipients or bytes.\n");
	return known;
}

static int
cmd_help(int argc, char **argv)
{
	char safe[64];

	if (argc == 1) {
		usage(stdout);
		return CTL_DONE;
	}
	if (argc > 2 || !command_usage(stdout, argv[1]))
		ctl_die(CTL_USAGE, "there is no command \"%s\": weirctl --help has all",
		    out_safe(argv[1], 60, safe, sizeof safe));
	return CTL_DONE;
}

void
ctl_die(enum ctl_exit status, const char *fmt, ...)
{
	va_list ap;

	fflush(stdout);
	fputs("weirctl: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	/* at once: what callers hold goes with the process, and is no leak to look for */
	fflush(NULL);
	_exit((int)status);
}

/* What follows -r. Whoever lists the processes of this host reads the command line, so a password
 * does not stay there; but it has been there. */
static const char *
take_url(char *word)
{
	static char *url; /* kept to the end */
	char *at = strrchr(word, '@');

	free(url);
	url = strdup(word);
	if (url == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	if (at == NULL || strncmp(word, "redis://", 8) != 0)
		return url;
	memset(word, '*', (size_t)(at - word));
	fprintf(stderr,
	    "weirctl: warning: other users could read this password: put the URL into "
	    "$WEIR_REDIS_URL, or use password-file\n");
	return url;
}

int
main(int argc, char **argv)
{
	static const struct option longs[] = {
	    {"yes", no_argument, NULL, 'y'},
	    {"json", no_argument, NULL, 'j'},
	    {"help", no_argument, NULL, 'h'},
	    {"version", no_argument, NULL, 'V'},
	    {NULL, 0, NULL, 0},
	};
	static struct ctl c;
	const char *file = NULL, *url = NULL, *from;
	char err[512], safe[64];
	json_t *utf8;
	int o, status = CTL_USAGE;

	/* no core dump has a password in it */
	(void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	c.reason = "";
	opterr = 0; /* getopt would print what was typed */
	/* "+": what follows the command is the command's */
	while ((o = getopt_long(argc, argv, "+c:r:m:jyhV", longs, NULL)) != -1)
		switch (o) {
		case 'c':
			file = optarg;
			break;
		case 'r':
			url = take_url(optarg);
			break;
		case 'm':
			c.reason = optarg;
			break;
		case 'j':
			c.json = true;
			break;
		case 'y':
			c.yes = true;
			break;
		case 'V':
			printf("weirctl %s\n", PACKAGE_VERSION);
			return CTL_DONE;
		case 'h':
			usage(stdout);
			return CTL_DONE;
		default:
			fprintf(stderr, "weirctl: cannot make sense of the options\n");
			usage(stderr);
			return CTL_USAGE;
		}
	if (optind == argc) {
		usage(stderr);
		return CTL_USAGE;
	}
	if (strcmp(argv[optind], "help") == 0)
		return cmd_help(argc - optind, argv + optind);
	utf8 = json_string(c.reason);
	for (const char *p = c.reason; *p != '\0'; p++)
		if ((unsigned char)*p < ' ' || *p == '\x7f' || *p == '"')
			json_decref(utf8), utf8 = NULL;
	if (utf8 == NULL || strlen(c.reason) > ENTRY_REASON_MAX)
		ctl_die(CTL_USAGE, "a reason is one line of at most %d bytes without quotes",
		    ENTRY_REASON_MAX);
	json_decref(utf8);
	c.terminal = isatty(STDOUT_FILENO) != 0;
	c.colour = c.terminal && getenv("NO_COLOR") == NULL && !c.json;
	if (file == NULL && access(WEIR_CONF, R_OK) == 0)
		file = WEIR_CONF;
	c.conf_file = file;
	if (!read_conf(&c, strcmp(argv[optind], "doctor") == 0))
		return CTL_REFUSED;
	from = url != NULL ? "-r" : "WEIR_REDIS_URL";
	if (url == NULL && (url = getenv(from)) != NULL && url[0] == '\0')
		url = NULL;
	if (url != NULL) { /* the configuration's password is for its own Redis */
		c.conf.redis.user[0] = '\0';
		c.conf.redis.password[0] = '\0';
	}
	if (url != NULL && !redis_options_url(&c.conf.redis, url, err, sizeof err))
		ctl_die(CTL_USAGE, "%s: %s", from, err);
	if (url != NULL && !redis_options_check(&c.conf.redis, err, sizeof err))
		ctl_die(CTL_REFUSED, "%s: %s", from, err);
	if (url != NULL)
		c.conf.use_redis = true;
	if (url == NULL && !c.conf.use_redis && strcmp(argv[optind], "drain") == 0)
		ctl_die(CTL_USAGE,
		    "no redis section in %s: without Redis SIGUSR1 to weir-milter's master (its "
		    "pid-file) drains this host, SIGUSR2 ends that; or say -r",
		    file != NULL ? file : "the (missing) configuration");
	if (!c.conf.use_redis && !works_offline(argv[optind]))
		ctl_die(CTL_USAGE, "no redis section in %s: say -r redis://HOST or -r unix:/PATH",
		    file != NULL ? file : "the (missing) configuration");
	for (const struct command *k = commands; k->name != NULL; k++)
		if (strcmp(argv[optind], k->name) == 0) {
			status = k->run(&c, argc - optind, argv + optind);
			break;
		}
	if (status == CTL_USAGE) {
		fprintf(stderr, "weirctl: cannot make sense of \"%s%s\"\n",
		    out_safe(argv[optind], 60, safe, sizeof safe), argc > optind + 1 ? " ..." : "");
		if (!command_usage(stderr, argv[optind]))
			usage(stderr);
	}
	ctl_hang_up(&c);
	conf_free(&c.conf);
	if (fflush(stdout) != 0)
		return CTL_REFUSED;
	return status;
}
