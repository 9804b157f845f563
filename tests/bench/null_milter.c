/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * null_milter.c - a milter on libmilter that does nothing: what any milter on libmilter costs.
 *
 * It asks the MTA for the same steps and macros as the milter that it is measured against (-n, -m,
 * from `mload -P`), and runs as many processes on one inherited socket (-w) as weir does. With -r
 * it refuses every client when he connects, with -a it accepts everything there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <libmilter/mfapi.h>
#include <netdb.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define MACRO_LISTS 7
#define WORKERS_MAX 64

static unsigned long unwanted;
static const char *macros[MACRO_LISTS];
static char *refusal[3]; /* code, enhanced code, text */
static sfsistat at_connect = SMFIS_CONTINUE;

static _Noreturn void
die(const char *what, const char *why)
{
	fprintf(stderr, "null_milter: %s: %s\n", what, why);
	exit(1);
}

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long f2,
    unsigned long f3, unsigned long *out_actions, unsigned long *out_steps, unsigned long *out_f2,
    unsigned long *out_f3)
{
	(void)f2;
	(void)f3;
	*out_actions = actions & SMFIF_SETSYMLIST;
	*out_steps = steps & unwanted;
	*out_f2 = *out_f3 = 0;
	for (int i = 0; i < MACRO_LISTS; i++)
		if (macros[i] != NULL)
			(void)smfi_setsymlist(ctx, i, (char *)macros[i]);
	return SMFIS_CONTINUE;
}

static sfsistat
answer(unsigned long silent)
{
	return (unwanted & silent) != 0 ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat
on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *sa)
{
	(void)name;
	(void)sa;
	if (at_connect == SMFIS_TEMPFAIL &&
	    smfi_setreply(ctx, refusal[0], refusal[1], refusal[2]) != MI_SUCCESS)
		return SMFIS_REJECT;
	return at_connect != SMFIS_CONTINUE ? at_connect : answer(SMFIP_NR_CONN);
}

static sfsistat
on_helo(SMFICTX *ctx, char *name)
{
	(void)ctx;
	(void)name;
	return answer(SMFIP_NR_HELO);
}

static sfsistat
on_mail(SMFICTX *ctx, char **args)
{
	(void)ctx;
	(void)args;
	return answer(SMFIP_NR_MAIL);
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **args)
{
	(void)ctx;
	(void)args;
	return answer(SMFIP_NR_RCPT);
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
	(void)ctx;
	(void)name;
	(void)value;
	return answer(SMFIP_NR_HDR);
}

static sfsistat
on_eoh(SMFICTX *ctx)
{
	(void)ctx;
	return answer(SMFIP_NR_EOH);
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *chunk, size_t len)
{
	(void)ctx;
	(void)chunk;
	(void)len;
	return answer(SMFIP_NR_BODY);
}

static sfsistat
on_end(SMFICTX *ctx)
{
	(void)ctx;
	return SMFIS_CONTINUE;
}

/* A listening socket as weir's master makes it. */
static int
listen_on(const char *spec)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	const char *port = strrchr(spec, ':');
	char host[256];
	int fd, on = 1;

	if (strncmp(spec, "unix:", 5) == 0) {
		snprintf(un.sun_path, sizeof un.sun_path, "%s", spec + 5);
		(void)unlink(un.sun_path);
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof un) != 0)
			die(spec, strerror(errno));
	} else {
		if (strncmp(spec, "inet:", 5) != 0 || port == spec + 4)
			die(spec, "not a socket");
		snprintf(host, sizeof host, "%.*s", (int)(port - spec - 5), spec + 5);
		if (getaddrinfo(host, port + 1, &hints, &found) != 0)
			die(spec, "no such host");
		fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
		    bind(fd, found->ai_addr, found->ai_addrlen) != 0)
			die(spec, strerror(errno));
		freeaddrinfo(found);
	}
	if (listen(fd, SOMAXCONN) != 0)
		die(spec, strerror(errno));
	return fd;
}

static int
serve(int fd)
{
	struct smfiDesc desc = {
	    .xxfi_name = "null",
	    .xxfi_version = SMFI_VERSION,
	    .xxfi_connect = on_connect,
	    .xxfi_helo = on_helo,
	    .xxfi_envfrom = on_mail,
	    .xxfi_envrcpt = on_rcpt,
	    .xxfi_header = on_header,
	    .xxfi_eoh = on_eoh,
	    .xxfi_body = on_body,
	    .xxfi_eom = on_end,
	    .xxfi_close = on_end,
	    .xxfi_negotiate = on_negotiate,
	};
	char conn[32];

	snprintf(conn, sizeof conn, "fd:%d", fd);
	if (smfi_register(desc) != MI_SUCCESS || smfi_setconn(conn) != MI_SUCCESS ||
	    smfi_opensocket(0) != MI_SUCCESS)
		die(conn, "libmilter does not take it");
	return smfi_main() == MI_SUCCESS ? 0 : 1;
}

/* Ends with its first worker, or with SIGTERM; then the others get theirs from the kernel. */
static int
oversee(unsigned workers, int fd)
{
	for (unsigned i = 0; i < workers; i++) {
		pid_t pid = fork();

		if (pid < 0)
			die("fork", strerror(errno));
		if (pid == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGTERM);
			exit(serve(fd));
		}
	}
	(void)wait(NULL);
	return 1;
}

static const char usage[] =
    "usage: null_milter [options] unix:PATH|inet:HOST:PORT\n"
    "  -n BITS   steps that it does not want, or does not answer, as in the protocol\n"
    "  -m I=LIST macros of stage I (0 to 6), such as -m '3=i {rcpt_mailer}'\n"
    "  -w N      processes (1)\n"
    "  -r TEXT   refuse every client, such as -r '421 4.7.0 no'\n"
    "  -a        accept every client at connect\n";

static _Noreturn void
misused(void)
{
	fputs(usage, stderr);
	exit(2);
}

/* "421 4.7.0 text" in its three parts. */
static void
parse_refusal(char *text)
{
	for (int i = 0; i < 3; i++) {
		refusal[i] = text;
		text = i < 2 ? strchr(text, ' ') : NULL;
		if (text != NULL)
			*text++ = '\0';
		else if (i < 2)
			misused();
	}
	at_connect = SMFIS_TEMPFAIL;
}

int
main(int argc, char **argv)
{
	struct rlimit files;
	unsigned long workers = 1;
	int c;

	while ((c = getopt(argc, argv, "n:m:w:r:a")) != -1) {
		switch (c) {
		case 'n':
			unwanted = strtoul(optarg, NULL, 0);
			break;
		case 'm':
			if (optarg[0] < '0' || optarg[0] >= '0' + MACRO_LISTS || optarg[1] != '=')
				misused();
			macros[optarg[0] - '0'] = optarg + 2;
			break;
		case 'w':
			workers = strtoul(optarg, NULL, 10);
			break;
		case 'r':
			parse_refusal(optarg);
			break;
		case 'a':
			at_connect = SMFIS_ACCEPT;
			break;
		default:
			misused();
		}
	}
	if (optind + 1 != argc || workers == 0 || workers > WORKERS_MAX)
		misused();
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	return oversee((unsigned)workers, listen_on(argv[optind]));
}
