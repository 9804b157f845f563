/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fuzz_milter_live.c - plays an MTA that has lost its mind against a running weir-milter: sessions
 * of real ones (tests/fuzz/sessions, made by tests/fuzz/record), mutated, one after another.
 *
 *	fuzz_milter_live SOCKET-PATH DIRECTORY SESSIONS SEED
 *
 * Each is sent whole, or in pieces, or cut by closing. What comes back has to be sound: packets
 * that a milter may send, no reply but a 4xx of printable text, and the end of the connection
 * within WAIT_MS of ours. The same seed sends the same sessions. Exit status 1: findings, told on
 * standard error with the number of the session (FIRST in the environment begins there).
 *
 * libmilter (8.17.1) runs over the end of a macro packet with a name that has no value, and may die
 * of it; no MTA sends one. Streams that have such a packet are mutated anew, unless MACROS=any.
 */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define PROCESSES 8
#define RECORDED_MAX 32
#define PACKETS_MAX 256
#define STREAM_MAX (1 << 20)
#define WAIT_MS 30000

struct packet {
	uint8_t *data; /* command and what it carries */
	size_t len;
	int64_t lie; /* added to the length that is sent */
};

struct session {
	struct packet packet[PACKETS_MAX];
	unsigned n;
};

static struct session recorded[RECORDED_MAX];
static unsigned nrecorded;
static bool any_macros;

/* --- chance ---------------------------------------------------------------------------------- */

static uint64_t dice;

static uint64_t
roll(uint64_t below)
{
	/* splitmix64 */
	uint64_t z = dice += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return below > 0 ? (z ^ z >> 31) % below : 0;
}

/* --- what was recorded ----------------------------------------------------------------------- */

static void
add_packet(struct session *s, unsigned at, const uint8_t *data, size_t len)
{
	struct packet p = {fuzz_alloc(len), len, 0};

	if (s->n == PACKETS_MAX) {
		free(p.data);
		return;
	}
	memcpy(p.data, data, len);
	memmove(&s->packet[at + 1], &s->packet[at], (s->n - at) * sizeof p);
	s->packet[at] = p;
	s->n++;
}

static void
clear(struct session *s)
{
	for (unsigned i = 0; i < s->n; i++)
		free(s->packet[i].data);
	s->n = 0;
}

static void
read_recorded(const char *path)
{
	static uint8_t data[STREAM_MAX];
	FILE *f = fopen(path, "rb");
	size_t size, at = 0;

	CHECK(f != NULL && nrecorded < RECORDED_MAX);
	size = fread(data, 1, sizeof data, f);
	fclose(f);
	while (at + 4 < size) {
		uint32_t len;

		memcpy(&len, data + at, 4);
		len = ntohl(len);
		CHECK(len > 0 && at + 4 + len <= size);
		add_packet(&recorded[nrecorded], recorded[nrecorded].n, data + at + 4, len);
		at += 4 + len;
	}
	nrecorded += recorded[nrecorded].n > 0;
}

static void
read_directory(const char *path)
{
	struct dirent **names;
	int n = scandir(path, &names, NULL, alphasort);
	char file[4096];

	CHECK(n > 0);
	for (int i = 0; i < n; i++) {
		snprintf(file, sizeof file, "%s/%s", path, names[i]->d_name);
		if (names[i]->d_name[0] != '.')
			read_recorded(file);
		free(names[i]);
	}
	free(names);
	CHECK(nrecorded > 0);
}

/* --- mutations ------------------------------------------------------------------------------- */

static const char *const poison[] = {"%s%n%n%x%999999d", "a\nweir-milter: NOQUEUE: action=refuse",
    "\r\n421 4.7.0 forged", "\x1b[2J\x07\x08", "weir:limits", "{tag}*?[a-z]", "}{all}{",
    "\xff\xfe\x80\xc3", "x y=z \"'\\", "<>", "@", ".", "::ffff:1.2.3.4", "IPv6:::1", "999.1.1.1",
    "4294967296", "-1", "", "SIZE=99999999999999999999999", "SIZE=-1", "postmaster@", "error"};

static void
resize(struct packet *p, size_t at, size_t cut, const void *with, size_t len)
{
	uint8_t *fresh = fuzz_alloc(p->len - cut + len);

	memcpy(fresh, p->data, at);
	memcpy(fresh + at, with, len);
	memcpy(fresh + at + len, p->data + at + cut, p->len - at - cut);
	free(p->data);
	p->data = fresh;
	p->len = p->len - cut + len;
}

/* One string of the packet becomes another. */
static void
poison_string(struct packet *p)
{
	static uint8_t large[70000];
	size_t at = 1 + roll(p->len), end;
	const char *with = poison[roll(sizeof poison / sizeof poison[0])];

	while (at > 1 && p->data[at - 1] != '\0')
		at--;
	if (at > p->len)
		at = p->len;
	for (end = at; end < p->len && p->data[end] != '\0';)
		end++;
	if (roll(20) == 0) {
		size_t len = roll(2) ? roll(sizeof large) : roll(2000);

		memset(large, (int)('a' + roll(26)), sizeof large);
		resize(p, at, end - at, large, len);
	} else
		resize(p, at, end - at, with, strlen(with));
}

static void
mutate_bytes(struct packet *p)
{
	uint8_t bytes[16];
	size_t at = roll(p->len + 1), n = 1 + roll(sizeof bytes);

	for (unsigned i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)roll(256);
	switch (roll(5)) {
	case 0:
		if (at < p->len)
			p->data[at] ^= (uint8_t)(1u << roll(8));
		break;
	case 1:
		if (at < p->len)
			p->data[at] = roll(2) ? 0 : bytes[0];
		break;
	case 2:
		resize(p, at, 0, bytes, n);
		break;
	case 3:
		resize(p, at, n < p->len - at ? n : p->len - at, bytes, 0);
		break;
	default:
		poison_string(p);
	}
}

static void
mutate(struct session *s)
{
	static const char letters[] = "ABCDEHKLMNOQRTU";
	static const int64_t lies[] = {-1, 1, -4, 4, 255, 65535, 0x7fffffff, 0xffffffff, -65536};
	unsigned at = (unsigned)roll(s->n);
	struct packet *p = &s->packet[at];
	const struct session *other = &recorded[roll(nrecorded)];

	switch (roll(12)) {
	case 0: /* once more */
		add_packet(s, at, p->data, p->len);
		break;
	case 1: /* not at all */
		free(p->data);
		memmove(p, p + 1, (s->n - at - 1) * sizeof *p);
		s->n--;
		break;
	case 2: { /* in another order */
		struct packet was = *p, *to = &s->packet[roll(s->n)];

		*p = *to;
		*to = was;
		break;
	}
	case 3: /* of another session */
		p = (struct packet *)&other->packet[roll(other->n)];
		add_packet(s, at, p->data, p->len);
		break;
	case 4:
		if (p->len > 0)
			p->data[0] = (uint8_t)(roll(4) ? letters[roll(sizeof letters - 1)]
						       : (char)roll(256));
		break;
	case 5:
		p->lie = lies[roll(sizeof lies / sizeof lies[0])];
		break;
	default:
		mutate_bytes(p);
	}
}

/* Comes from somewhere else, or the limits would end most sessions where they begin. */
static void
move_client(struct session *s)
{
	char text[32];

	for (unsigned i = 0; i < s->n; i++) {
		struct packet *p = &s->packet[i];
		uint8_t *at = p->data[0] == 'C' ? memchr(p->data, '\0', p->len) : NULL;

		/* name, NUL, '4', port, address, NUL */
		if (at == NULL || (size_t)(at - p->data) + 4 >= p->len)
			continue;
		snprintf(text, sizeof text, "10.%u.%u.%u", (unsigned)roll(256), (unsigned)roll(256),
		    (unsigned)roll(256));
		resize(p, (size_t)(at - p->data) + 4, p->len - (size_t)(at - p->data) - 5, text,
		    strlen(text));
	}
}

static size_t
stream_of(const struct session *s, uint8_t *out)
{
	size_t len = 0;

	for (unsigned i = 0; i < s->n; i++) {
		uint32_t said = htonl((uint32_t)((int64_t)s->packet[i].len + s->packet[i].lie));

		if (len + 4 + s->packet[i].len > STREAM_MAX)
			break;
		memcpy(out + len, &said, 4);
		memcpy(out + len + 4, s->packet[i].data, s->packet[i].len);
		len += 4 + s->packet[i].len;
	}
	return len;
}

/* As libmilter takes it apart, which reads five bytes whatever they say, and takes a length that is
 * negative for none: a macro packet has to hold names and values, each with its end. */
static bool
kills_libmilter(const uint8_t *data, size_t size)
{
	for (size_t at = 0; at + 5 <= size;) {
		uint8_t command = data[at + 4];
		unsigned strings = 0;
		uint32_t len;
		int32_t rest;

		memcpy(&len, data + at, 4);
		rest = (int32_t)(ntohl(len) - 1);
		at += 5;
		if (rest <= 0)
			continue;
		if ((size_t)rest > size - at)
			return false; /* never complete */
		for (int32_t i = 1; i < rest && command == 'D'; i++)
			strings += data[at + (size_t)i] == '\0';
		if (command == 'D' && rest > 1 &&
		    (strings % 2 != 0 || data[at + (size_t)rest - 1] != '\0'))
			return true;
		at += (size_t)rest;
	}
	return false;
}

/* --- the other side --------------------------------------------------------------------------- */

static const char *
unsound(const uint8_t *data, size_t size)
{
	for (size_t at = 0; at < size;) {
		uint32_t len;
		const char *text;

		if (size - at < 5)
			return "half a packet";
		memcpy(&len, data + at, 4);
		len = ntohl(len);
		at += 4;
		if (len == 0 || len > size - at)
			return "half a packet";
		text = (const char *)data + at + 1;
		if (strchr("Oacty", data[at]) == NULL)
			return "an answer that weir never gives";
		if (data[at] == 'y') {
			if (data[at + len - 1] != '\0' || strlen(text) != len - 2)
				return "a reply without an end";
			if (!is_printable(text) || strchr(text, '%') != NULL)
				return "a reply that is not printable";
			if (strncmp(text, "421 4.", 6) != 0 && strncmp(text, "451 4.", 6) != 0 &&
			    strncmp(text, "452 4.", 6) != 0)
				return "a reply that is no 4xx";
		}
		at += len;
	}
	return NULL;
}

static int64_t
now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000) + ts.tv_nsec / 1000000;
}

static int
dial(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	CHECK(strlen(path) < sizeof un.sun_path);
	strcpy(un.sun_path, path);
	for (int i = 0; i < 1000; i++) {
		if (connect(fd, (struct sockaddr *)&un, sizeof un) == 0)
			return fd;
		usleep(10000);
	}
	close(fd);
	return -1;
}

/* Sends in pieces while it reads what comes; returns what was wrong. */
static const char *
converse(int fd, const uint8_t *data, size_t size, bool leave)
{
	static uint8_t got[STREAM_MAX];
	size_t sent = 0, have = 0, piece = roll(3) == 0 ? 1 + roll(200) : size;
	int64_t end = now_ms() + WAIT_MS;
	bool shut = false, broken = false;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (!shut && (sent >= size || broken)) {
			if (leave)
				return NULL;
			shutdown(fd, SHUT_WR);
			shut = true;
		}
		if (!shut)
			p.events |= POLLOUT;
		if (poll(&p, 1, 100) < 0)
			return "poll";
		if (now_ms() > end)
			return "the connection stays open";
		if (p.revents & POLLOUT) {
			n = send(fd, data + sent, size - sent < piece ? size - sent : piece,
			    MSG_NOSIGNAL | MSG_DONTWAIT);
			if (n > 0)
				sent += (size_t)n;
			else if (n < 0 && errno != EAGAIN)
				broken = true;
		}
		if (!(p.revents & (POLLIN | POLLHUP | POLLERR)))
			continue;
		n = recv(fd, got + have, sizeof got - have, MSG_DONTWAIT);
		if (n > 0)
			have += (size_t)n;
		else if (n == 0)
			return unsound(got, have);
		else if (errno == ECONNRESET) /* it went with words of ours unread */
			return NULL;
		if (have == sizeof got)
			return "more than anybody wants to know";
	}
}

static bool
session(const char *path, uint64_t seed, unsigned long number)
{
	static uint8_t stream[STREAM_MAX];
	struct session s = {.n = 0};
	const char *wrong;
	size_t size;
	int fd;

	dice = seed * 1000003 + number;
	do {
		const struct session *from = &recorded[roll(nrecorded)];

		clear(&s);
		for (unsigned i = 0; i < from->n; i++)
			add_packet(&s, i, from->packet[i].data, from->packet[i].len);
		if (roll(8) > 0)
			move_client(&s);
		for (uint64_t n = roll(6); n > 0 && s.n > 0; n--)
			mutate(&s);
		size = stream_of(&s, stream);
		if (roll(8) == 0)
			size = roll(size + 1);
	} while (!any_macros && kills_libmilter(stream, size));
	clear(&s);
	fd = dial(path);
	wrong = fd < 0 ? "it does not accept" : converse(fd, stream, size, roll(16) == 0);
	if (fd >= 0)
		close(fd);
	if (wrong != NULL)
		fprintf(stderr, "session %lu: %s\n", number, wrong);
	return wrong == NULL;
}

static int
share(const char *path, uint64_t seed, unsigned long first, unsigned long all)
{
	unsigned long findings = 0;

	for (unsigned long i = first; i < all && findings < 5; i += PROCESSES)
		findings += !session(path, seed, i);
	return findings > 0;
}

int
main(int argc, char **argv)
{
	unsigned long all, begin = getenv("FIRST") ? strtoul(getenv("FIRST"), NULL, 10) : 0;
	int64_t start = now_ms();
	uint64_t seed;
	int failed = 0, status;

	if (argc != 5) {
		fprintf(stderr, "usage: fuzz_milter_live SOCKET-PATH DIRECTORY SESSIONS SEED\n");
		return 2;
	}
	any_macros = getenv("MACROS") != NULL && strcmp(getenv("MACROS"), "any") == 0;
	read_directory(argv[2]);
	all = strtoul(argv[3], NULL, 10);
	seed = strtoull(argv[4], NULL, 10);
	for (unsigned i = 0; i < PROCESSES; i++)
		if (fork() == 0)
			_exit(share(argv[1], seed, begin + i, begin + all));
	while (wait(&status) > 0)
		failed += status != 0;
	printf("%lu mutated sessions of %u recorded ones, seed %llu: %.1f s, %s\n", all, nrecorded,
	    (unsigned long long)seed, (double)(now_ms() - start) / 1000,
	    failed ? "findings" : "no finding");
	return failed ? 1 : 0;
}
