/*
 * main.c - weirctl(8): options, and the table of commands.
 */
#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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
    {"drain", "[NODE|all on|off [for D] [-w]]", "refuse new sessions for maintenance", cmd_drain},
    {"clear", "WHO", "forget the counters of a client", cmd_clear},
    {"greylist", "list|pass WHO|forget WHO", "what greylisting knows", cmd_greylist},
    {"replay", "LOG... [-l NAME KEY=VALUE...] [-g KEY=VALUE...]",
	"whom these limits would have refused", cmd_replay},
    {"suggest", "LOG...", "what clients did, limits that fit", cmd_suggest},
    {NULL, NULL, NULL, NULL},
};

/* These look at a log; without Redis they go by the file. */
static bool
works_offline(const char *command)
{
	return strcmp(command, "replay") == 0 || strcmp(command, "suggest") == 0;
}

static void
usage(FILE *out)
{
	fprintf(out, "usage: weirctl [-c FILE] [-r REDIS-URL] [-j] [-y] [-m REASON] COMMAND\n\n");
	for (const struct command *k = commands; k->name != NULL; k++) {
		char left[72];

		snprintf(left, sizeof left, "%s %s", k->name, k->args);
		if (strlen(left) > 38)
			fprintf(out, "  %s\n  %-38s %s\n", left, "", k->help);
		else
			fprintf(out, "  %-38s %s\n", left, k->help);
	}
	fprintf(out,
	    "\nWHO is an address, a network, user:NAME, name:DOMAIN, sender:ADDRESS or\n"
	    "recipient:ADDRESS; ADDRESS is ann@example.org, @example.org, @.example.org\n"
	    "(below it) or ann@. D is a duration such as 2h. FORMAT is postgrey-clients,\n"
	    "postgrey-recipients or milter-greylist.\n"
	    "COUNT is connections, messages, recipients, rejected-recipients or bytes.\n"
	    "weirctl(8) has examples.\n");
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
	exit(status);
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
	const char *file = NULL, *url = NULL;
	char err[512], safe[64];
	json_t *utf8;
	int o, status = CTL_USAGE;

	c.reason = "";
	opterr = 0; /* getopt would print what was typed */
	/* "+": what follows the command is the command's */
	while ((o = getopt_long(argc, argv, "+c:r:m:jyhV", longs, NULL)) != -1)
		switch (o) {
		case 'c':
			file = optarg;
			break;
		case 'r':
			url = optarg;
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
	if (!conf_read(&c.conf, file, stderr))
		return CTL_REFUSED;
	if (url != NULL && !redis_options_url(&c.conf.redis, url, err, sizeof err))
		ctl_die(CTL_USAGE, "-r: %s", err);
	if (url != NULL && !redis_options_check(&c.conf.redis, err, sizeof err))
		ctl_die(CTL_REFUSED, "-r: %s", err);
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
		usage(stderr);
	}
	ctl_hang_up(&c);
	conf_free(&c.conf);
	if (fflush(stdout) != 0)
		return CTL_REFUSED;
	return status;
}
