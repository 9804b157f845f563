/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_metrics.c - weirctl metrics: the figures of the weir-milter on this host, from where
 * option metrics has it serve them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "ctl.h"

#define WAIT_MS 900
#define ANSWER_MAX (4 << 20)

static void
no_answer(const struct ctl *c, const char *why)
{
	ctl_die(CTL_REFUSED, "no metrics at %s: %s", c->conf.metrics.text, why);
}

static int
open_connection(const struct ctl *c)
{
	const struct timeval wait = {.tv_usec = WAIT_MS * 1000};
	const struct socket_spec *s = &c->conf.metrics;
	int fd = socket(s->addr.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait) != 0 ||
	    connect(fd, (const struct sockaddr *)&s->addr, s->len) != 0)
		no_answer(c,
		    errno == ECONNREFUSED || errno == ENOENT ? "weir-milter does not run, or not "
							       "with this configuration"
							     : strerror(errno));
	return fd;
}

/* All that comes; malloced, and ends in NUL. */
static char *
read_answer(const struct ctl *c, int fd)
{
	static const char ask[] = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
	char *text = malloc(ANSWER_MAX + 1);
	size_t used = 0;
	ssize_t n = write(fd, ask, sizeof ask - 1);

	if (text == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	while (n > 0 && used < ANSWER_MAX) {
		n = read(fd, text + used, ANSWER_MAX - used);
		used += n > 0 ? (size_t)n : 0;
	}
	if (n < 0)
		no_answer(c, errno == EAGAIN ? "it does not answer" : strerror(errno));
	text[used] = '\0';
	return text;
}

static char *
body_of(const struct ctl *c, char *answer)
{
	char *body = strstr(answer, "\r\n\r\n");

	if (strncmp(answer, "HTTP/1.", 7) != 0 || body == NULL)
		no_answer(c, "something else answers there");
	if (strncmp(answer + 8, " 200 ", 5) != 0)
		no_answer(c, "it refuses to tell");
	return body + 4;
}

/* {a="x",b="y"} */
static json_t *
labels_json(char *p)
{
	json_t *out = json_object();

	while (*p != '\0' && *p != '}') {
		char *name = ++p, *value, *end;

		value = strstr(name, "=\"");
		end = value != NULL ? strchr(value + 2, '"') : NULL;
		if (end == NULL)
			break;
		*value = *end = '\0';
		json_object_set_new(out, name, json_string(value + 2));
		p = end + 1;
	}
	return out;
}

static json_t *
samples_json(char *body)
{
	json_t *out = json_array();
	char *line;

	while ((line = strsep(&body, "\n")) != NULL) {
		char *value = strrchr(line, ' '), *brace;

		if (line[0] == '#' || value == NULL)
			continue;
		*value++ = '\0';
		brace = strchr(line, '{');
		json_array_append_new(out,
		    json_pack("{so so sf}", "labels",
			brace != NULL ? labels_json(brace) : json_object(), "name",
			json_stringn(line, brace != NULL ? (size_t)(brace - line) : strlen(line)),
			"value", strtod(value, NULL)));
	}
	return out;
}

static void
print_nothing(const struct ctl *c, const json_t *result)
{
	(void)c;
	(void)result;
}

int
cmd_metrics(struct ctl *c, int argc, char **argv)
{
	char *answer, *body;
	int fd;

	(void)argv;
	if (argc != 1)
		return CTL_USAGE;
	if (!c->conf.use_metrics)
		ctl_die(CTL_REFUSED,
		    "metrics are off: say metrics = \"127.0.0.1:9117\" in weir.conf, and reload");
	fd = open_connection(c);
	answer = read_answer(c, fd);
	close(fd);
	body = body_of(c, answer);
	if (c->json)
		out_result(c, samples_json(body), print_nothing);
	else
		fputs(body, stdout);
	free(answer);
	return CTL_DONE;
}
