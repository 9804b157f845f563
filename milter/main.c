/*
 * main.c - weir-milter(8): options, privileges, and into the background.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <syslog.h>
#include <unistd.h>

#include "conf.h"
#include "log.h"
#include "master.h"
#include "socket.h"

#ifndef WEIR_CONF
#define WEIR_CONF "/etc/weir/weir.conf"
#endif

struct options {
	const char *file, *socket, *pid_file, *user;
	bool foreground, check, verbose;
};

static void
usage(FILE *out)
{
	fprintf(out,
	    "usage: weir-milter [-c FILE] [-p SOCKET] [-f] [-n] [-P PIDFILE] "
	    "[-u USER[:GROUP]] [-v] [-V]\n");
}

/* Returns -1 to go on, or the exit status. */
static int
read_options(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt(argc, argv, "c:p:fnP:u:vVh")) != -1)
		switch (c) {
		case 'c':
			o->file = optarg;
			break;
		case 'p':
			o->socket = optarg;
			break;
		case 'f':
			o->foreground = true;
			break;
		case 'n':
			o->check = true;
			break;
		case 'P':
			o->pid_file = optarg;
			break;
		case 'u':
			o->user = optarg;
			break;
		case 'v':
			o->verbose = true;
			break;
		case 'V':
			printf("weir-milter %s\n", PACKAGE_VERSION);
			return EXIT_SUCCESS;
		case 'h':
			usage(stdout);
			return EXIT_SUCCESS;
		default:
			usage(stderr);
			return 2;
		}
	if (optind < argc) {
		fprintf(stderr, "weir-milter: \"%s\" is too much\n", argv[optind]);
		usage(stderr);
		return 2;
	}
	/* the usual place, if there is one; without it the built-in limits hold */
	if (o->file == NULL && access(WEIR_CONF, F_OK) == 0)
		o->file = WEIR_CONF;
	return -1;
}

/* The command line lies over the file. */
static bool
apply_options(const struct options *o, struct conf *c)
{
	char err[512];

	if (o->socket != NULL && !socket_parse(o->socket, &c->socket, err, sizeof err)) {
		fprintf(stderr, "weir-milter: -p: %s\n", err);
		return false;
	}
	if ((o->user != NULL && strlen(o->user) >= sizeof c->user) ||
	    (o->pid_file != NULL && strlen(o->pid_file) >= sizeof c->pid_file)) {
		fprintf(stderr, "weir-milter: -u or -P: too long\n");
		return false;
	}
	if (o->user != NULL)
		strcpy(c->user, o->user);
	if (o->pid_file != NULL)
		strcpy(c->pid_file, o->pid_file);
	c->verbose = c->verbose || o->verbose;
	return true;
}

static bool
write_pid(const char *path)
{
	FILE *f = path[0] != '\0' ? fopen(path, "we") : NULL;

	if (path[0] == '\0')
		return true;
	if (f == NULL || fprintf(f, "%d\n", (int)getpid()) < 0 || fclose(f) != 0) {
		fprintf(stderr, "weir-milter: %s: %s\n", path, strerror(errno));
		return false;
	}
	return true;
}

/* One descriptor a session, and libmilter spins when there are none left. */
static void
raise_descriptors(void)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) != 0 || lim.rlim_cur == lim.rlim_max)
		return;
	lim.rlim_cur = lim.rlim_max;
	(void)setrlimit(RLIMIT_NOFILE, &lim);
}

static bool
drop_privileges(const char *who)
{
	char name[2 * CONF_NAME_MAX], *group;
	const struct passwd *pw;
	gid_t gid;

	if (who[0] == '\0')
		return true;
	strcpy(name, who);
	group = strchr(name, ':');
	if (group != NULL)
		*group++ = '\0';
	pw = getpwnam(name);
	if (pw == NULL) {
		fprintf(stderr, "weir-milter: user %s does not exist\n", name);
		return false;
	}
	gid = pw->pw_gid;
	if (group != NULL) {
		const struct group *gr = getgrnam(group);

		if (gr == NULL) {
			fprintf(stderr, "weir-milter: group %s does not exist\n", group);
			return false;
		}
		gid = gr->gr_gid;
	}
	if (geteuid() == pw->pw_uid && getegid() == gid)
		return true;
	if (initgroups(name, gid) != 0 || setgid(gid) != 0 || setuid(pw->pw_uid) != 0) {
		fprintf(stderr, "weir-milter: cannot become %s: %s\n", who, strerror(errno));
		return false;
	}
	return true;
}

/*
 * Into the background, but not yet out of the user's sight: the parent waits, with standard error
 * still open, until background_done() says that the start has succeeded. Returns the pipe, -1
 * with -f; does not return in the parent.
 */
static int
background_begin(bool foreground)
{
	int fds[2];
	char ready;
	pid_t pid;

	if (foreground)
		return -1;
	if (pipe2(fds, O_CLOEXEC) != 0 || (pid = fork()) < 0) {
		fprintf(stderr, "weir-milter: %s\n", strerror(errno));
		exit(EXIT_FAILURE);
	}
	if (pid == 0) {
		close(fds[0]);
		(void)setsid();
		return fds[1];
	}
	close(fds[1]);
	_exit(read(fds[0], &ready, 1) == 1 ? EXIT_SUCCESS : EXIT_FAILURE);
}

static void
background_done(int pipe_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (pipe_fd < 0)
		return;
	for (int fd = 0; null >= 0 && fd <= 2; fd++)
		(void)dup2(null, fd);
	if (null > 2)
		close(null);
	if (chdir("/") != 0 || write(pipe_fd, "", 1) != 1)
		log_line(LOG_WARNING, "going into the background: %s", strerror(errno));
	close(pipe_fd);
}

int
main(int argc, char **argv)
{
	static struct conf conf; /* 10 kB, and workers keep a pointer to it */
	struct options o = {0};
	char err[512];
	int status, fd, waiting;

	/* a log that is gone must not end us */
	signal(SIGPIPE, SIG_IGN);
	status = read_options(argc, argv, &o);
	if (status >= 0)
		return status;
	if (!conf_read(&conf, o.file, stderr) || !apply_options(&o, &conf))
		return EXIT_FAILURE;
	if (o.check) {
		printf("%s: good\n", o.file != NULL ? o.file : "built-in configuration");
		conf_print(&conf, stdout);
		return EXIT_SUCCESS;
	}
	raise_descriptors();
	fd = socket_open(
	    &conf.socket, conf.socket_owner, conf.socket_group, conf.socket_mode, err, sizeof err);
	if (fd < 0) {
		fprintf(stderr, "weir-milter: %s\n", err);
		return EXIT_FAILURE;
	}
	waiting = background_begin(o.foreground);
	log_open(o.foreground, conf.verbose);
	master_block_signals();
	if (!write_pid(conf.pid_file) || !drop_privileges(conf.user)) {
		socket_remove(&conf.socket);
		return EXIT_FAILURE;
	}
	background_done(waiting);
	if (geteuid() == 0)
		log_line(LOG_WARNING, "running as root; set user in the configuration or use -u");
	status = master_run(&conf, fd);
	socket_remove(&conf.socket);
	if (conf.pid_file[0] != '\0')
		(void)unlink(conf.pid_file);
	conf_free(&conf);
	return status;
}
