/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_handover.c - what one master leaves to the next: written, read, refused if it makes no
 * sense; the workers it takes over, and their places; the listening socket that falls silent.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "children.h"
#include "listener.h"
#include "socket.h"
#include "worker.h"

#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* --- text ------------------------------------------------------------------------------------ */

static bool
cloexec(int fd)
{
	return fcntl(fd, F_GETFD) == FD_CLOEXEC;
}

static void
test_there_and_back(void **state)
{
	static struct handover h, back;
	int fds[2], fd;

	(void)state;
	assert_int_equal(pipe(fds), 0);
	h = (struct handover){.nsockets = 2,
	    .sockets = {fds[0], fds[1]},
	    .zone_fd = fds[0],
	    .metrics_fd = fds[1],
	    .node = "mx1.example.test.1f3a9c00",
	    .started_us = 1800000000123456,
	    .drain_ms = 300000,
	    .drained = true,
	    .pid_file = "/run/a file\nchild 1 1 1 1 1 1",
	    .store = "redis 127.0.0.1 6379 0 weir",
	    .nchildren = 3};
	h.children[0] = (struct handover_child){.pid = 4711, .control = fds[0], .place = 7};
	h.children[1] = (struct handover_child){
	    .pid = 4712, .control = -1, .place = 255, .foreign = true, .end_ms = INT64_MAX};
	h.children[2] = (struct handover_child){
	    .pid = 4713, .control = fds[1], .draining = true, .end_ms = 12345};
	fd = handover_write(&h);
	assert_true(fd >= 0 && cloexec(fd));
	for (int i = 0; i < 2; i++) { /* the one who tries it out reads it, too */
		assert_true(handover_read(fd, &back));
		assert_memory_equal(back.children, h.children, sizeof h.children);
		assert_memory_equal(back.sockets, h.sockets, sizeof h.sockets);
		assert_int_equal(back.nsockets, 2);
		assert_int_equal(back.zone_fd, h.zone_fd);
		assert_int_equal(back.metrics_fd, h.metrics_fd);
		assert_int_equal(back.nchildren, 3);
		assert_true(back.started_us == h.started_us && back.drain_ms == h.drain_ms);
		assert_true(back.drained);
		assert_string_equal(back.node, h.node);
		assert_string_equal(back.store, h.store);
		/* a name cannot become a child */
		assert_string_equal(back.pid_file, "/run/a file?child 1 1 1 1 1 1");
	}
	handover_keep(&h, true);
	assert_true(!cloexec(fds[0]) && !cloexec(fds[1]));
	assert_true(handover_read(fd, &back)); /* and they are ours alone again */
	assert_true(cloexec(fds[0]) && cloexec(fds[1]));
	close(fd);
	close(fds[0]);
	close(fds[1]);
}

static bool
reads(const char *text)
{
	static struct handover h;
	int fd = memfd_create("test", 0);
	bool good;

	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	good = handover_read(fd, &h);
	close(fd);
	return good;
}

#define HEAD "weir-milter hands over\n"
#define GOOD HEAD "zone 0\nnode n\nsocket 0\n"

static void
test_nonsense(void **state)
{
	static const char *const bad[] = {"", "\n", "hello\n", HEAD,
	    "zone 0\nnode n\nsocket 0\n", /* no head */
	    HEAD "zone 0\nsocket 0\n", HEAD "node n\nsocket 0\n", HEAD "zone 0\nnode n\n",
	    HEAD "zone 999\nnode n\nsocket 0\n", HEAD "zone 0\nnode n\nsocket 999\n",
	    HEAD "zone 0\nnode n\nsocket -1\n", GOOD "child\nchild 1 2 3\n", GOOD "child x\n",
	    GOOD "child 0 0 0 0 0 0\n", GOOD "child 1 0 0 0 0 0\n", GOOD "child -1 0 0 0 0 0\n",
	    GOOD "child 99 999 0 0 0 0\n", GOOD "child 99 -2 0 0 0 0\n",
	    GOOD
	    "socket 0\nsocket 0\nsocket 0\nsocket 0\nsocket 0\nsocket 0\nsocket 0\nsocket 0\n"};
	char many[16384] = GOOD;

	(void)state;
	/* what a later version adds is left alone */
	assert_true(reads(GOOD "colour blue\nchild 99 0 0 0 0 0\nempty\n\n"));
	for (size_t i = 0; i < COUNT(bad); i++)
		if (reads(bad[i]))
			fail_msg("row %zu was taken", i);
	for (int i = 0; i <= ZONE_WORKERS_MAX; i++)
		strcat(many, "child 99 0 0 0 0 0\n");
	assert_false(reads(many));
	assert_false(handover_read(-1, &(struct handover){0}));
}

/* --- children --------------------------------------------------------------------------------- */

/* Each own one has a place that none of before in this zone has. */
static void
test_places(void **state)
{
	static struct children all;
	static struct handover h, next;
	bool taken[ZONE_WORKERS_MAX] = {false};

	(void)state;
	h.nchildren = 4;
	h.children[0] = (struct handover_child){.pid = 11, .control = -1, .place = 0};
	h.children[1] = (struct handover_child){.pid = 12, .control = -1, .place = 2};
	h.children[2] =
	    (struct handover_child){.pid = 13, .control = -1, .place = 1, .foreign = true};
	h.children[3] = (struct handover_child){.pid = 14, .control = -1, .place = 3};
	children_init(&all, 3, &h);
	assert_int_equal(all.own, 3);
	assert_int_equal(all.n, 7);
	assert_int_equal(children_running(&all), 4);
	for (unsigned i = 0; i < all.n; i++) {
		if (all.child[i].foreign)
			continue;
		assert_false(taken[all.child[i].place]);
		taken[all.child[i].place] = true;
	}
	assert_true(taken[0] && taken[1] && taken[2] && taken[3] && taken[4] && taken[5]);
	children_hand_over(&all, &next);
	assert_memory_equal(next.children, h.children, sizeof h.children);
	/* one of before that is gone leaves the table, one of ours stays in its place */
	children_gone(&all, children_find(&all, 12), 0);
	assert_int_equal(all.n, 6);
	assert_null(children_find(&all, 12));
	assert_non_null(children_find(&all, 14));
	all.child[1].pid = 99;
	unsigned place = all.child[1].place;
	children_gone(&all, children_find(&all, 99), 5000);
	assert_int_equal(all.n, 6);
	assert_int_equal(all.child[1].pid, 0);
	assert_int_equal(all.child[1].place, place);
	/* as many as there can be */
	h.nchildren = ZONE_WORKERS_MAX - CONF_WORKERS_MAX;
	for (unsigned i = 0; i < h.nchildren; i++)
		h.children[i] = (struct handover_child){
		    .pid = (pid_t)(100 + i), .control = -1, .place = ZONE_WORKERS_MAX - 1 - i};
	children_init(&all, CONF_WORKERS_MAX, &h);
	assert_int_equal(all.n, ZONE_WORKERS_MAX);
	for (unsigned i = 0; i < all.own; i++)
		assert_in_range(all.child[i].place, 0, CONF_WORKERS_MAX - 1);
}

/* The pauses grow to half a minute, and one that lived long enough starts anew. */
static void
test_backoff(void **state)
{
	static const int64_t pauses[] = {
	    0, 100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 30000, 30000};
	static struct children all;
	struct child *c = &all.child[0];
	int64_t now = 1000;

	(void)state;
	children_init(&all, 1, NULL);
	for (size_t i = 0; i < COUNT(pauses); i++) {
		c->pid = 42;
		c->started_ms = now;
		children_gone(&all, c, now + 9999);
		assert_true(c->restart_ms == now + 9999 + pauses[i]);
		now = c->restart_ms;
	}
	c->pid = 42;
	c->started_ms = now;
	children_gone(&all, c, now + 10000);
	assert_true(c->restart_ms == now + 10000);
}

static pid_t
sleeper(void)
{
	pid_t pid = fork();

	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			pause();
	}
	return pid;
}

/* Told, then cut, then killed; each in its time. */
static void
test_deadlines(void **state)
{
	static struct children all;
	struct child *c;
	int fds[2], status;
	char word[4];

	(void)state;
	children_init(&all, 1, NULL);
	c = &all.child[0];
	*c = (struct child){.pid = sleeper()}; /* which has no copy of what comes next */
	assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
	c->control = fds[1];
	assert_false(children_ready(&all));
	c->ready = true;
	assert_true(children_ready(&all));
	child_drain(c, WORKER_DRAIN, 5000);
	assert_true(c->draining && c->end_ms == 5000);
	child_drain(c, WORKER_FINISH, 9000); /* an earlier end stays */
	assert_true(c->end_ms == 5000);
	child_drain(c, WORKER_FINISH, 4000);
	assert_true(c->end_ms == 4000);
	assert_int_equal(read(fds[0], word, sizeof word), 3);
	assert_memory_equal(word, "dff", 3);
	children_expire(&all, 3999);
	assert_true(read(fds[0], word, 1) < 0 && errno == EAGAIN);
	children_expire(&all, 4000);
	assert_int_equal(read(fds[0], word, 1), 0); /* closed */
	assert_true(c->control == -1 && c->end_ms > 4000);
	children_expire(&all, c->end_ms - 1);
	assert_int_equal(waitpid(c->pid, &status, WNOHANG), 0);
	children_expire(&all, c->end_ms);
	assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
	assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	children_gone(&all, c, 0);
	assert_true(!c->draining && c->control == -1);
	child_drain(c, WORKER_DRAIN, 1); /* not running: nothing to tell */
	child_cut(c, 1);
	assert_false(c->draining);
	close(fds[0]);
}

/* --- the socket that falls silent -------------------------------------------------------------- */

static atomic_bool thread_known;

/* Waits in poll() and accepts, as libmilter does; says what became of it. */
static void *
accept_once(void *arg)
{
	struct listener *l = arg;
	struct pollfd p = {.fd = l->fd, .events = POLLIN};
	static int error;
	int n, fd;

	listener_thread(l);
	atomic_store(&thread_known, true);
	n = poll(&p, 1, 5000);
	error = n < 0 ? errno : 0;
	fd = accept(l->fd, NULL, NULL);
	if (fd >= 0)
		error = 0;
	else if (n >= 0)
		error = errno;
	return &error;
}

static int
connect_to(const struct sockaddr_storage *a, socklen_t len)
{
	int fd = socket(a->ss_family, SOCK_STREAM, 0);

	if (connect(fd, (const struct sockaddr *)a, len) == 0)
		return fd;
	close(fd);
	return -1;
}

/* Others who have the socket go on; who waits here is woken at once; what was accepted counts. */
static void
test_silence(void **state)
{
	static const char *const specs[] = {
	    "unix:", "inet:127.0.0.1:", "inet:0.0.0.0:", "inet:[::1]:"};
	char directory[] = "/tmp/weir-handover.XXXXXX";

	(void)state;
	assert_non_null(mkdtemp(directory));
	for (size_t i = 0; i < COUNT(specs); i++) {
		char text[256], err[256];
		struct socket_spec s;
		struct listener l;
		struct pollfd p;
		pthread_t thread;
		void *error;
		int other, first, second, accepted, unrelated;

		/* the process id is as good a port as any below the ephemeral ones */
		if (i == 0)
			snprintf(text, sizeof text, "%s%s/milter.sock", specs[i], directory);
		else
			snprintf(text, sizeof text, "%s%u", specs[i],
			    10000 + (unsigned)getpid() % 20000);
		assert_true(socket_parse(text, &s, err, sizeof err));
		other = socket_open(&s, "", "", 0600, err, sizeof err);
		if (other < 0)
			fail_msg("%s: %s", text, err);
		assert_true(socket_is(other, &s));
		assert_true(listener_init(&l, dup(other)));
		assert_int_equal(listener_connections(&l), 0);
		first = connect_to(&s.addr, s.len);
		assert_true(first >= 0);
		unrelated = connect_to(&s.addr, s.len); /* our end of it does not count */
		accepted = accept(l.fd, NULL, NULL);
		close(accept(l.fd, NULL, NULL));
		assert_true(accepted >= 0);
		assert_int_equal(listener_connections(&l), 1);
		assert_int_equal(pthread_create(&thread, NULL, accept_once, &l), 0);
		while (!atomic_exchange(&thread_known, false))
			usleep(1000);
		usleep(20000); /* it is in poll() by then, or will find the new one */
		listener_silence(&l);
		assert_int_equal(pthread_join(thread, &error), 0);
		assert_true(*(int *)error == EINTR || *(int *)error == EAGAIN);
		/* now as libmilter goes on */
		p = (struct pollfd){.fd = l.fd, .events = POLLIN};
		second = connect_to(&s.addr, s.len);
		assert_true(second >= 0);
		assert_int_equal(poll(&p, 1, 50), 0);
		assert_true(accept(l.fd, NULL, NULL) < 0 && errno == EAGAIN);
		assert_true(cloexec(l.fd));
		/* what was accepted is still there, and the other one gets the new one */
		assert_int_equal(listener_connections(&l), 1);
		close(accepted);
		assert_int_equal(listener_connections(&l), 0);
		accepted = accept(other, NULL, NULL);
		assert_true(accepted >= 0);
		assert_int_equal(listener_connections(&l), 1);
		close(accepted);
		close(first);
		close(second);
		close(unrelated);
		close(l.fd);
		socket_remove_own(other);
		assert_true(i > 0 || access(directory, F_OK) == 0);
		close(other);
	}
	assert_int_equal(rmdir(directory), 0);
}

/* The socket in its place cannot be reached: not through its own port either. */
static void
test_silent_means_deaf(void **state)
{
	struct sockaddr_storage a;
	socklen_t len = sizeof a;
	struct socket_spec s;
	struct listener l;
	char err[256];
	int fd, rc;

	(void)state;
	assert_true(socket_parse("inet:127.0.0.1:1", &s, err, sizeof err));
	((struct sockaddr_in *)&s.addr)->sin_port = 0;
	fd = socket_open(&s, "", "", 0600, err, sizeof err);
	assert_true(fd >= 0 && listener_init(&l, fd));
	listener_thread(&l);
	listener_silence(&l);
	assert_int_equal(getsockname(l.fd, (struct sockaddr *)&a, &len), 0);
	assert_int_equal(a.ss_family, AF_INET);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	rc = connect(fd, (struct sockaddr *)&a, len);
	assert_true(rc < 0 && errno == EINPROGRESS);
	assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, 200), 0);
	close(fd);
	close(l.fd);
}

static void
test_same_socket(void **state)
{
	static const struct {
		const char *front, *behind; /* of the port */
		bool same;
	} table[] = {
	    {"inet:127.0.0.1:", "", true},
	    {"inet:", "@127.0.0.1", true},
	    {"inet:127.0.0.2:", "", false},
	    {"inet:0.0.0.0:", "", false},
	    {"inet:[::1]:", "", false},
	    {"unix:/tmp/", "", false},
	};
	unsigned port = 10000 + (unsigned)getpid() % 20000;
	char text[64], err[256];
	struct socket_spec s;
	int fd;

	(void)state;
	snprintf(text, sizeof text, "inet:127.0.0.1:%u", port);
	assert_true(socket_parse(text, &s, err, sizeof err));
	fd = socket_open(&s, "", "", 0600, err, sizeof err);
	assert_true(fd >= 0);
	for (size_t i = 0; i < COUNT(table); i++) {
		snprintf(text, sizeof text, "%s%u%s", table[i].front, port, table[i].behind);
		assert_true(socket_parse(text, &s, err, sizeof err));
		if (socket_is(fd, &s) != table[i].same)
			fail_msg("%s", text);
	}
	snprintf(text, sizeof text, "inet:127.0.0.1:%u", port + 1);
	assert_true(socket_parse(text, &s, err, sizeof err));
	assert_false(socket_is(fd, &s));
	close(fd);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_there_and_back),
	    cmocka_unit_test(test_nonsense),
	    cmocka_unit_test(test_places),
	    cmocka_unit_test(test_backoff),
	    cmocka_unit_test(test_deadlines),
	    cmocka_unit_test(test_silence),
	    cmocka_unit_test(test_silent_means_deaf),
	    cmocka_unit_test(test_same_socket),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
