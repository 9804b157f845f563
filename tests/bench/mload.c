/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * mload.c - loads a milter as a Postfix would that has many SMTP sessions, and says as JSON how
 * fast it was and what it answered.
 *
 * Closed loop (-c): so many sessions are open, and where one ends the next begins. Open loop (-r):
 * sessions arrive at their times, whatever becomes of those before. What the MTA waits for is
 * measured from when a step should have begun, so a milter that stalls is charged for all that it
 * kept from beginning, too.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "mload.h"

#define NS 1000000000LL

struct options opt = {.open = 16,
    .warm = -1,
    .last = 2,
    .messages = 1,
    .recipients = 1,
    .headers = 10,
    .body = 2048,
    .clients = 1000};
struct stats stats;

static int epoll_fd;
static struct session *sessions, **idle, **heap; /* heap[1..timers], the next one first */
static unsigned nidle, timers;
static uint64_t begun;
static double cpu_before;

void
die(const char *format, ...)
{
	va_list ap;

	fputs("mload: ", stderr);
	va_start(ap, format);
	vfprintf(stderr, format, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(1);
}

int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

/* xorshift64* */
uint64_t
random_next(void)
{
	static uint64_t x;

	if (x == 0)
		x = (opt.seed + 1) * 0x9e3779b97f4a7c15u;
	x ^= x >> 12;
	x ^= x << 25;
	x ^= x >> 27;
	return x * 0x2545f4914f6cdd1du >> 16;
}

/* --- timers --------------------------------------------------------------------------------- */

static void
heap_put(struct session *s, unsigned at)
{
	heap[at] = s;
	s->heap_at = at;
}

static void
heap_up(struct session *s, unsigned at)
{
	for (; at > 1 && heap[at / 2]->timer_ns > s->timer_ns; at /= 2)
		heap_put(heap[at / 2], at);
	heap_put(s, at);
}

static void
heap_down(struct session *s, unsigned at)
{
	for (;;) {
		unsigned child = 2 * at;

		if (child + 1 <= timers && heap[child + 1]->timer_ns < heap[child]->timer_ns)
			child++;
		if (child > timers || heap[child]->timer_ns >= s->timer_ns)
			break;
		heap_put(heap[child], at);
		at = child;
	}
	heap_put(s, at);
}

void
timer_clear(struct session *s)
{
	unsigned at = s->heap_at;
	struct session *last;

	if (at == 0)
		return;
	s->heap_at = 0;
	last = heap[timers--];
	if (last == s)
		return;
	if (at > 1 && heap[at / 2]->timer_ns > last->timer_ns)
		heap_up(last, at);
	else
		heap_down(last, at);
}

void
timer_set(struct session *s, int64_t at_ns)
{
	timer_clear(s);
	s->timer_ns = at_ns;
	heap_up(s, ++timers);
}

void
watch(struct session *s, uint32_t events, bool first)
{
	struct epoll_event e = {.events = events, .data.ptr = s};

	if (epoll_ctl(epoll_fd, first ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, s->fd, &e) != 0)
		die("epoll_ctl: %s", strerror(errno));
}

/* --- the loop --------------------------------------------------------------------------------- */

void
session_over(struct session *s)
{
	idle[nidle++] = s;
}

static bool
may_begin(void)
{
	return nidle > 0 && (opt.sessions == 0 || begun < opt.sessions);
}

/* Begins what is due; returns when the next one is. */
static int64_t
begin_due(int64_t start, int64_t now, int64_t end)
{
	/* in a closed loop the first ones do not come all at once: they would stay in step */
	double cycle_ns = opt.think_ms * 6 * 1e6;
	double apart = opt.rate > 0 ? (double)NS / opt.rate : cycle_ns / opt.open;

	/* no more at a time: where nobody listens each is over at once */
	for (unsigned n = 0; may_begin() && n < opt.open; n++) {
		bool paced = opt.rate > 0 || begun < opt.open;
		int64_t due = paced ? start + (int64_t)(apart * (double)begun) : now;

		if (due > now)
			return due;
		begun++;
		session_begin(idle[--nidle], due);
	}
	return may_begin() ? now : end;
}

static void
run_timers(int64_t now)
{
	while (timers > 0 && heap[1]->timer_ns <= now) {
		struct session *s = heap[1];

		timer_clear(s);
		session_timer(s);
	}
}

static void
wait_events(int64_t until)
{
	struct epoll_event events[256];
	int64_t left = until - now_ns();
	struct timespec t = {0, 0};
	int n;

	if (left > 0) {
		t.tv_sec = left / NS;
		t.tv_nsec = left % NS;
	}
	n = epoll_pwait2(epoll_fd, events, 256, &t, NULL);
	if (n < 0 && errno != EINTR)
		die("epoll_pwait2: %s", strerror(errno));
	for (int i = 0; i < n; i++)
		session_event(events[i].data.ptr, events[i].events);
}

static double
cpu_seconds(void)
{
	struct rusage u;

	getrusage(RUSAGE_SELF, &u);
	return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
	    (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

/* Tells who measures the processes around us that the time begins, or has ended. */
static void
mark(const char *word)
{
	if (opt.marks)
		fprintf(stderr, "%s\n", word);
}

static void
loop(void)
{
	int64_t start = now_ns(), measure = start + (int64_t)(opt.warm * NS);
	int64_t end = measure + (int64_t)(opt.last * NS);

	for (;;) {
		int64_t now = now_ns(), next;

		if (!stats.measuring && now >= measure) {
			stats.measuring = true;
			cpu_before = cpu_seconds();
			mark("measuring");
		}
		run_timers(now);
		next = begin_due(start, now, end);
		if (now >= end || (opt.sessions != 0 && begun == opt.sessions && nidle == opt.open))
			break;
		if (timers > 0 && heap[1]->timer_ns < next)
			next = heap[1]->timer_ns;
		if (!stats.measuring && measure < next)
			next = measure;
		wait_events(next);
	}
}

/* --- what came of it --------------------------------------------------------------------------- */

static const char *const step_names[STEPS] = {
    "negotiate", "connect", "helo", "mail", "rcpt", "data", "message", "quit"};
static const char *const verdict_names[VERDICTS] = {
    "none", "passed", "accepted", "421", "4xx", "5xx", "hangup", "no-road"};

/* Sessions that wait for the milter now count for nothing above: how many, and how long the
 * oldest of them has waited. */
static unsigned
unanswered(int64_t now, double *oldest_ms)
{
	unsigned n = 0;

	*oldest_ms = 0;
	for (unsigned i = 0; i < opt.open; i++) {
		const struct session *s = &sessions[i];
		double ms = (double)(now - s->due_ns) / 1e6;

		if (s->fd < 0 || (!s->waiting && s->step != STEP_NEGOTIATE))
			continue;
		n++;
		if (ms > *oldest_ms)
			*oldest_ms = ms;
	}
	return n;
}

static void
print_counts(const char *name, const uint64_t *counts, const char *const *names, int n)
{
	const char *comma = "";

	printf("\"%s\": {", name);
	for (int i = 0; i < n; i++) {
		if (counts[i] == 0)
			continue;
		printf("%s\"%s\": %" PRIu64, comma, names[i], counts[i]);
		comma = ", ";
	}
	printf("}, ");
}

static void
print_result(double seconds, double cpu)
{
	double oldest;
	unsigned stuck = unanswered(now_ns(), &oldest);

	printf("{\"sessions\": %" PRIu64 ", \"seconds\": %.3f, \"rate\": %.1f, ", stats.ended,
	    seconds, (double)stats.ended / seconds);
	print_counts("verdicts", stats.verdicts, verdict_names, VERDICTS);
	print_counts("refused", stats.refused_at, step_names, STEPS);
	printf("\"open\": %u, \"unanswered\": %u, \"oldest\": %.1f, \"backlog\": %" PRIu64 ", ",
	    opt.open - nidle, stuck, oldest, stats.backlog);
	printf("\"generator_us\": %.1f, ", stats.ended ? cpu * 1e6 / (double)stats.ended : 0.0);
	hist_print(&stats.wait, "wait");
	printf(", ");
	hist_print(&stats.late, "late");
	printf(", \"steps\": {");
	for (int i = 0, some = 0; i < STEPS; i++) {
		if (stats.steps[i].n == 0)
			continue;
		printf("%s", some++ ? ", " : "");
		hist_print(&stats.steps[i], step_names[i]);
	}
	printf("}}\n");
}

/* --- options ------------------------------------------------------------------------------------ */

static const char usage[] =
    "usage: mload [options] unix:PATH|inet:HOST:PORT\n"
    "  -c N     sessions open at a time (16); with -r the most that may be (20000)\n"
    "  -r RATE  open loop: so many sessions arrive a second\n"
    "  -t MS    think time of the SMTP client before each step (0)\n"
    "  -w, -d S seconds of warming up (0.3; 0 with -n), of measuring (2)\n"
    "  -n N     end after so many sessions, if that is sooner\n"
    "  -m, -R N messages a session, recipients a message (1, 1)\n"
    "  -H N     headers (10);  -b BYTES  body (2048)\n"
    "  -a N     different client addresses (1000), 0 = any\n"
    "  -6       IPv6 addresses, each in a /64 of its own\n"
    "  -D NAME  clients have confirmed names, four of them one domain below NAME\n"
    "  -s       each message has a sender of its own\n"
    "  -S SEED  of the random addresses, and of the senders\n"
    "  -M       say \"measuring\" and \"measured\" on standard error\n"
    "  -P       print what the milter negotiates, and leave\n";

static double
figure(const char *text)
{
	char *end;
	double v = strtod(text, &end);

	if (end == text || *end != '\0' || !(v >= 0) || v > 1e12)
		die("not a number: %s\n%s", text, usage);
	return v;
}

static void
parse_socket(const char *spec)
{
	struct sockaddr_un *un = (struct sockaddr_un *)&opt.addr;
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
	char host[256];
	const char *port;

	if (strncmp(spec, "unix:", 5) == 0) {
		if (strlen(spec + 5) >= sizeof un->sun_path)
			die("path too long: %s", spec);
		un->sun_family = AF_UNIX;
		strcpy(un->sun_path, spec + 5);
		opt.addr_len = sizeof *un;
		return;
	}
	port = strrchr(spec, ':');
	if (strncmp(spec, "inet:", 5) != 0 || port == spec + 4)
		die("not a socket: %s\n%s", spec, usage);
	snprintf(host, sizeof host, "%.*s", (int)(port - spec - 5), spec + 5);
	if (getaddrinfo(host, port + 1, &hints, &found) != 0)
		die("no such host: %s", host);
	memcpy(&opt.addr, found->ai_addr, found->ai_addrlen);
	opt.addr_len = found->ai_addrlen;
	freeaddrinfo(found);
}

static void
parse_options(int argc, char **argv)
{
	bool open_given = false;
	int c;

	while ((c = getopt(argc, argv, "c:r:t:w:d:n:m:R:H:b:a:6D:sS:MP")) != -1) {
		switch (c) {
		case 'c':
			opt.open = (unsigned)figure(optarg);
			open_given = true;
			break;
		case 'r':
			opt.rate = figure(optarg);
			break;
		case 't':
			opt.think_ms = figure(optarg);
			break;
		case 'w':
			opt.warm = figure(optarg);
			break;
		case 'd':
			opt.last = figure(optarg);
			break;
		case 'n':
			opt.sessions = (uint64_t)figure(optarg);
			break;
		case 'm':
			opt.messages = (unsigned)figure(optarg);
			break;
		case 'R':
			opt.recipients = (unsigned)figure(optarg);
			break;
		case 'H':
			opt.headers = (unsigned)figure(optarg);
			break;
		case 'b':
			opt.body = (size_t)figure(optarg);
			break;
		case 'a':
			opt.clients = (uint64_t)figure(optarg);
			break;
		case '6':
			opt.v6 = true;
			break;
		case 'D':
			opt.domain = optarg;
			break;
		case 's':
			opt.new_senders = true;
			break;
		case 'S':
			opt.seed = (uint64_t)figure(optarg);
			break;
		case 'M':
			opt.marks = true;
			break;
		case 'P':
			opt.probe = true;
			break;
		default:
			fputs(usage, stderr);
			exit(2);
		}
	}
	if (optind + 1 != argc) {
		fputs(usage, stderr);
		exit(2);
	}
	if (opt.rate > 0 && !open_given)
		opt.open = 20000;
	if (opt.warm < 0)
		opt.warm = opt.sessions > 0 ? 0 : 0.3;
	if (opt.open == 0 || opt.open > 1000000 || opt.messages == 0 || opt.recipients == 0 ||
	    opt.body > BODY_MAX)
		die("impossible figures\n%s", usage);
	parse_socket(argv[optind]);
}

int
main(int argc, char **argv)
{
	struct rlimit files;
	double cpu;
	int64_t start;

	parse_options(argc, argv);
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	if (files.rlim_cur != RLIM_INFINITY && opt.open + 10 > files.rlim_cur)
		opt.open = (unsigned)files.rlim_cur - 10;
	sessions = calloc(opt.open, sizeof *sessions);
	idle = calloc(opt.open, sizeof *idle);
	heap = calloc(opt.open + 2, sizeof *heap);
	epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (sessions == NULL || idle == NULL || heap == NULL || epoll_fd < 0)
		die("no memory for %u sessions", opt.open);
	for (unsigned i = 0; i < opt.open; i++) {
		sessions[i].fd = -1;
		idle[nidle++] = &sessions[i];
	}
	start = now_ns();
	loop();
	cpu = cpu_seconds();
	mark("measured");
	if (opt.probe)
		die("the milter does not negotiate");
	print_result((double)(now_ns() - start) / 1e9 - opt.warm, cpu - cpu_before);
	for (unsigned i = 0; i < opt.open; i++) {
		session_drop(&sessions[i]);
		free(sessions[i].out);
	}
	free(sessions);
	free(idle);
	free(heap);
	return 0;
}
