/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * main.c - weir-milter(8): options, and the way into the background; or, after a reload, into the
 * place of the master of before.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <syslog.h>
#include <unistd.h>

#include "conf.h"
#include "log.h"
#include "master.h"
#include "privileges.h"
#include "socket.h"
#include "takeover.h"

#ifndef WEIR_CONF
#define WEIR_CONF "/etc/weir/weir.conf"
#endif

struct options {
	const char *file, *socket, *pid_file, *user;
	bool foreground, check, verbose;
	int handover_fd; /* -1: this is a start, no reload */
};

static void
usage(FILE *out)
{
	fprintf(out,
	    "usage: weir-milter [-c FILE] [-p SOCKET] [-f] [-n] [-P PIDFILE] "
	    "[-u USER[:GROUP]] [-v] [-V]\n");
}

static int
no_handover(void)
{
	fprintf(stderr, "weir-milter: " HANDOVER_OPTION " is for a reload only\n");
	return 2;
}

/* Returns -1 to go on, or the exit status. */
static int
read_options(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt(argc, argv, "c:p:fnP:u:vVhH:")) != -1)
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
		case 'H': /* HANDOVER_OPTION: only a master gives it */
			o->handover_fd = atoi(optarg);
			if (o->handover_fd <= STDERR_FILENO)
				return no_handover();
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
apply_options(const struct options *o, struct conf *c, FILE *errors)
{
	char err[512];

	if (o->socket != NULL && !socket_parse(o->socket, &c->socket, err, sizeof err)) {
		fprintf(errors, "weir-milter: -p: %s\n", err);
		return false;
	}
	if ((o->user != NULL && strlen(o->user) >= sizeof c->user) ||
	    (o->pid_file != NULL && strlen(o->pid_file) >= sizeof c->pid_file)) {
		fprintf(errors, "weir-milter: -u or -P: too long\n");
		return false;
	}
	if (o->user != NULL)
		strcpy(c->user, o->user);
	if (o->pid_file != NULL)
		strcpy(c->pid_file, o->pid_file);
	c->verbose = c->verbose || o->verbose;
	return true;
}

/* Root writes it, maybe into a directory of somebody else: through no link, and into a file of its
 * own only. */
static bool
write_pid(const char *path)
{
	struct stat st;
	int fd;
	bool ok;

	if (path[0] == '\0')
		return true;
	fd = open(path, O_WRONLY | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);
	ok = fd >= 0 && fstat(fd, &st) == 0;
	if (ok && (!S_ISREG(st.st_mode) || st.st_nlink != 1)) {
		errno = EEXIST;
		ok = false;
	}
	ok = ok && ftruncate(fd, 0) == 0 && dprintf(fd, "%d\n", (int)getpid()) > 0;
	if (!ok)
		fprintf(stderr, "weir-milter: %s: %s\n", path, strerror(errno));
	if (fd >= 0)
		close(fd);
	return ok;
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

/* --- the program, to be started once more ----------------------------------------------------- */

/* What names the program now may name another one after an upgrade, and has to: the name that it
 * was started by, if that is complete. A reload gives a complete one. */
static const char *
program_path(const char *name, bool reload)
{
	static char path[PATH_MAX];
	struct stat named, own;
	ssize_t len;

	if (name[0] == '/' &&
	    (reload ||
		(stat(name, &named) == 0 && stat("/proc/self/exe", &own) == 0 &&
		    named.st_ino == own.st_ino && named.st_dev == own.st_dev)))
		return name;
	len = readlink("/proc/self/exe", path, sizeof path - 1);
	if (len <= 0)
		return name;
	path[len] = '\0';
	return path;
}

/* In the background the working directory is another one. */
static bool
make_absolute(const char **path)
{
	char cwd[PATH_MAX], *whole;

	if (*path == NULL || (*path)[0] == '/' || (*path)[0] == '\0')
		return true;
	if (getcwd(cwd, sizeof cwd) == NULL || asprintf(&whole, "%s/%s", cwd, *path) < 0) {
		fprintf(stderr, "weir-milter: %s: %s\n", *path, strerror(errno));
		return false;
	}
	*path = whole; /* kept for ever */
	return true;
}

static bool
make_launch(const struct options *o, const char *name, struct launch *l)
{
	const char *file = o->file;
	bool good = make_absolute(&file);
	const struct {
		const char *option, *value;
	} with[] = {{"-c", file}, {"-p", o->socket}, {"-P", o->pid_file}, {"-u", o->user}};
	unsigned n = 0;

	l->program = program_path(name, o->handover_fd >= 0);
	for (size_t i = 0; i < sizeof with / sizeof with[0]; i++)
		if (with[i].value != NULL) {
			l->words[n++] = with[i].option;
			l->words[n++] = with[i].value;
		}
	if (o->foreground)
		l->words[n++] = "-f";
	if (o->verbose)
		l->words[n++] = "-v";
	l->words[n] = NULL;
	return good;
}

/* --- start and reload ------------------------------------------------------------------------- */

/* Not one that another weir-milter has written meanwhile. */
static void
remove_pid(const char *path)
{
	FILE *f = path[0] != '\0' ? fopen(path, "re") : NULL;
	int pid = 0;

	if (f == NULL)
		return;
	if (fscanf(f, "%d", &pid) == 1 && pid == (int)getpid())
		(void)unlink(path);
	fclose(f);
}

static int
start(const struct options *o, struct conf *conf, const struct launch *launch)
{
	struct identity id;
	char err[512];
	int fd, waiting, status;

	raise_descriptors();
	fd = socket_open(&conf->socket, conf->socket_owner, conf->socket_group, conf->socket_mode,
	    err, sizeof err);
	if (fd < 0) {
		fprintf(stderr, "weir-milter: %s\n", err);
		return EXIT_FAILURE;
	}
	waiting = background_begin(o->foreground);
	log_open(o->foreground, conf->verbose);
	master_block_signals();
	if (!write_pid(conf->pid_file)) {
		socket_remove(&conf->socket);
		return EXIT_FAILURE;
	}
	if (!privileges_find(conf->user, &id, err, sizeof err) ||
	    !privileges_become(&id, err, sizeof err) || !privileges_confine(err, sizeof err)) {
		fprintf(stderr, "weir-milter: %s\n", err);
		remove_pid(conf->pid_file);
		socket_remove(&conf->socket);
		return EXIT_FAILURE;
	}
	background_done(waiting);
	if (geteuid() == 0)
		log_line(LOG_WARNING, "running as root; set user in the configuration or use -u");
	status = master_run(conf, fd, launch);
	remove_pid(conf->pid_file);
	return status;
}

/* Would it do? Asked by the master that may become this program. */
static int
try_out(struct conf *conf, const struct handover *h)
{
	struct takeover t;
	char err[512];

	if (!takeover_prepare(&t, conf, h, err, sizeof err)) {
		fprintf(stderr, "weir-milter: %s\n", err);
		return EXIT_FAILURE;
	}
	takeover_undo(&t, conf);
	return EXIT_SUCCESS;
}

/* What is wrong goes to the log: there may be no standard error any more. */
static bool
read_conf_again(const struct options *o, struct conf *conf)
{
	char *text = NULL, *rest, *line;
	size_t len = 0;
	FILE *errors = open_memstream(&text, &len);
	bool good;

	if (errors == NULL)
		return false;
	good = conf_read(conf, o->file, errors) && apply_options(o, conf, errors);
	fclose(errors);
	log_open(o->foreground, good && conf->verbose);
	rest = text;
	while ((line = strsep(&rest, "\n")) != NULL)
		if (line[0] != '\0')
			log_line(good ? LOG_WARNING : LOG_ERR, "reload: %s", line);
	free(text);
	return good;
}

static int
reload(const struct options *o, struct conf *conf, const struct handover *h,
    const struct launch *launch)
{
	char err[128];
	int status;

	/* they are blocked already, unless this version waits for more */
	master_block_signals();
	/* as every start does; exec has kept nearly all of it */
	if (!privileges_confine(err, sizeof err))
		log_line(LOG_WARNING, "reload: %s", err);
	status = master_take_over(read_conf_again(o, conf) ? conf : NULL, h, launch);
	remove_pid(h->pid_file);
	return status;
}

int
main(int argc, char **argv)
{
	static struct conf conf; /* 10 kB, and workers keep a pointer to it */
	static struct handover h;
	struct options o = {.handover_fd = -1};
	struct launch launch;
	int status;

	/* a log that is gone must not end us */
	signal(SIGPIPE, SIG_IGN);
	privileges_hide();
	/* what is written is for all to read at most, whatever the one who starts us wants */
	umask(umask(0) | 022);
	status = read_options(argc, argv, &o);
	if (status >= 0)
		return status;
	if (!make_absolute(&o.pid_file) || !make_launch(&o, argv[0], &launch))
		return EXIT_FAILURE;
	if (o.handover_fd >= 0) {
		if (!handover_read(o.handover_fd, &h))
			return no_handover();
		close(o.handover_fd);
		if (!o.check)
			return reload(&o, &conf, &h, &launch);
	}
	if (!conf_read(&conf, o.file, stderr) || !apply_options(&o, &conf, stderr))
		return EXIT_FAILURE;
	if (o.check && o.handover_fd >= 0)
		return try_out(&conf, &h);
	if (o.check) {
		printf("%s: good\n", o.file != NULL ? o.file : "built-in configuration");
		conf_print(&conf, stdout);
		return EXIT_SUCCESS;
	}
	/* what the one who started us had open is not the daemon's */
	(void)syscall(SYS_close_range, STDERR_FILENO + 1, ~0U, 0);
	status = start(&o, &conf, &launch);
	conf_free(&conf);
	return status;
}
