/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * policy_load.c - loads a server of Postfix' policy protocol (postgrey): so many connections, on
 * each one question after the other, as smtpd(8) keeps its connections. Prints as JSON how fast
 * it was. One decision here is what a greylisting milter does at RCPT; there is no session
 * around it, so the server has less to do than a milter.
 */
#include <errno.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "hist.h"

#define NS 1000000000LL
#define OPEN_MAX 1000

struct link {
	int64_t asked_ns;
	size_t len;
	char reply[1024];
};

static struct pollfd fds[OPEN_MAX];
static struct link links[OPEN_MAX];
static uint64_t serial, passed, held, other;
static unsigned triplets;

static _Noreturn void
die(const char *what)
{
	fprintf(stderr, "policy_load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static int64_t
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * NS + t.tv_nsec;
}

static void
ask(unsigned i)
{
	uint64_t n = triplets != 0 ? serial % triplets : serial;
	unsigned c = (unsigned)(n % 1000);
	char text[1024];
	int len;

	serial++;
	len = snprintf(text, sizeof text,
	    "request=smtpd_access_policy\nprotocol_state=RCPT\nprotocol_name=ESMTP\n"
	    "client_address=198.18.%u.%u\nclient_name=mx%u.d%u.example.com\n"
	    "reverse_client_name=mx%u.d%u.example.com\nhelo_name=mx%u.d%u.example.com\n"
	    "sender=user%llu@client.test\nrecipient=u0@example.test\nrecipient_count=0\n"
	    "queue_id=\ninstance=%llx.0\nsize=2500\netrn_domain=\nstress=\nsasl_method=\n"
	    "sasl_username=\nsasl_sender=\nccert_subject=\nccert_issuer=\nccert_fingerprint=\n"
	    "encryption_protocol=\nencryption_cipher=\nencryption_keysize=0\npolicy_context=\n\n",
	    c >> 8, c & 255, c % 4, c / 4, c % 4, c / 4, c % 4, c / 4, (unsigned long long)n,
	    (unsigned long long)serial);
	links[i].asked_ns = now_ns();
	links[i].len = 0;
	if (send(fds[i].fd, text, (size_t)len, MSG_NOSIGNAL) != len)
		die("send");
}

/* True when the answer is there. */
static bool
answered(unsigned i)
{
	struct link *l = &links[i];
	ssize_t n = recv(fds[i].fd, l->reply + l->len, sizeof l->reply - 1 - l->len, 0);

	if (n <= 0)
		die("the server hung up");
	l->len += (size_t)n;
	l->reply[l->len] = '\0';
	if (strstr(l->reply, "\n\n") == NULL)
		return false;
	if (strncmp(l->reply, "action=DUNNO", 12) == 0 ||
	    strncmp(l->reply, "action=PREPEND", 14) == 0)
		passed++;
	else if (strncmp(l->reply, "action=DEFER", 12) == 0)
		held++;
	else
		other++;
	return true;
}

int
main(int argc, char **argv)
{
	static struct hist wait;
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	unsigned open = 16;
	double last = 2, warm = 0.3;
	int64_t start, measure, end;
	int c;

	while ((c = getopt(argc, argv, "c:d:w:k:")) != -1) {
		if (c == 'c')
			open = (unsigned)atoi(optarg);
		else if (c == 'd')
			last = atof(optarg);
		else if (c == 'w')
			warm = atof(optarg);
		else if (c == 'k')
			triplets = (unsigned)atoi(optarg);
		else
			return 2;
	}
	if (optind + 1 != argc || strncmp(argv[optind], "unix:", 5) != 0 || open == 0 ||
	    open > OPEN_MAX) {
		fputs(
		    "usage: policy_load [-c CONNECTIONS] [-w, -d SECONDS] [-k TRIPLETS] unix:PATH\n"
		    "-k 0: every question is about a new triplet\n",
		    stderr);
		return 2;
	}
	snprintf(un.sun_path, sizeof un.sun_path, "%s", argv[optind] + 5);
	for (unsigned i = 0; i < open; i++) {
		fds[i].fd = socket(AF_UNIX, SOCK_STREAM, 0);
		fds[i].events = POLLIN;
		if (fds[i].fd < 0 || connect(fds[i].fd, (struct sockaddr *)&un, sizeof un) != 0)
			die(argv[optind]);
	}
	start = now_ns();
	measure = start + (int64_t)(warm * NS);
	end = measure + (int64_t)(last * NS);
	for (unsigned i = 0; i < open; i++)
		ask(i);
	for (int64_t now = start; now < end;) {
		if (poll(fds, open, (int)((end - now) / 1000000) + 1) < 0)
			die("poll");
		for (unsigned i = 0; i < open; i++) {
			if (fds[i].revents == 0 || !answered(i))
				continue;
			now = now_ns();
			if (now >= measure)
				hist_add(&wait, now - links[i].asked_ns);
			ask(i);
		}
		now = now_ns();
	}
	printf("{\"decisions\": %llu, \"rate\": %.1f, \"passed\": %llu, \"held\": %llu, "
	       "\"other\": %llu, ",
	    (unsigned long long)wait.n, (double)wait.n / last, (unsigned long long)passed,
	    (unsigned long long)held, (unsigned long long)other);
	hist_print(&wait, "wait");
	printf("}\n");
	return 0;
}
