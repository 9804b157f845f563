/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog.c - the bytes of a mail log: files, gzip and standard input, line by line, in one
 * buffer of fixed size.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <zlib.h>

#include "maillog.h"

#define BUFFER (256 * 1024)

struct maillog {
	unsigned n, current; /* files */
	char *const *paths;
	int64_t *sizes; /* on disk; -1 = unknown */
	int64_t before; /* bytes on disk of the files that are done */
	gzFile gz;
	struct maillog_figures figures;
	char trouble[256];
	size_t from, to; /* what is left in buffer */
	bool skipping; /* in the rest of a line that is too long */
	char line[MAILLOG_LINE_MAX + 1];
	char buffer[BUFFER];
};

static bool
is_stdin(const char *path)
{
	return strcmp(path, "-") == 0;
}

static bool
open_current(struct maillog *m)
{
	const char *path = m->paths[m->current];
	int fd = is_stdin(path) ? dup(STDIN_FILENO) : -1;

	m->gz = is_stdin(path) ? (fd >= 0 ? gzdopen(fd, "rb") : NULL) : gzopen(path, "rbe");
	if (m->gz == NULL) {
		if (fd >= 0)
			close(fd);
		return false;
	}
	(void)gzbuffer(m->gz, BUFFER);
	return true;
}

/* That a file is there and is a file, before anything is counted. */
static bool
look_at(struct maillog *m, unsigned i, int64_t *reference_s, char *err, size_t errlen)
{
	struct stat st;
	const char *path = m->paths[i];

	m->sizes[i] = -1;
	if ((is_stdin(path) ? fstat(STDIN_FILENO, &st) : stat(path, &st)) != 0 ||
	    (!is_stdin(path) && access(path, R_OK) != 0)) {
		snprintf(err, errlen, "%s: %s", path, strerror(errno));
		return false;
	}
	if (S_ISDIR(st.st_mode)) {
		snprintf(err, errlen, "%s: is a directory", path);
		return false;
	}
	if (S_ISREG(st.st_mode) && !is_stdin(path))
		m->sizes[i] = st.st_size;
	/* the first date stands in the first file */
	if (i == 0 && S_ISREG(st.st_mode))
		*reference_s = st.st_mtime;
	return true;
}

struct maillog *
maillog_open(unsigned n, char *const *paths, int64_t *reference_s, char *err, size_t errlen)
{
	struct maillog *m = calloc(1, sizeof *m);

	*reference_s = time(NULL);
	if (m != NULL)
		m->sizes = calloc(n, sizeof *m->sizes);
	if (m == NULL || m->sizes == NULL) {
		snprintf(err, errlen, "out of memory");
		maillog_close(&m);
		return NULL;
	}
	m->n = n;
	m->paths = paths;
	for (unsigned i = 0; i < n; i++)
		if (!look_at(m, i, reference_s, err, errlen)) {
			maillog_close(&m);
			return NULL;
		}
	if (!open_current(m)) {
		snprintf(err, errlen, "%s: %s", paths[0], strerror(errno));
		maillog_close(&m);
	}
	return m;
}

static void
note_trouble(struct maillog *m, const char *what)
{
	if (m->trouble[0] == '\0')
		snprintf(m->trouble, sizeof m->trouble, "%s: %s", m->paths[m->current], what);
}

/* The current file is done; false when it was the last. */
static bool
next_file(struct maillog *m)
{
	if (m->gz != NULL && gzclose(m->gz) == Z_BUF_ERROR)
		note_trouble(m, "ends in the middle of its compressed data");
	m->gz = NULL;
	if (m->sizes[m->current] > 0)
		m->before += m->sizes[m->current];
	while (++m->current < m->n) {
		if (open_current(m))
			return true;
		note_trouble(m, strerror(errno));
	}
	return false;
}

static bool
fill(struct maillog *m)
{
	int n;

	if (m->gz == NULL)
		return false;
	n = gzread(m->gz, m->buffer, BUFFER);
	if (n < 0) {
		int code;
		const char *why = gzerror(m->gz, &code);

		note_trouble(m, code == Z_ERRNO ? strerror(errno) : why);
	}
	m->from = 0;
	m->to = n > 0 ? (size_t)n : 0;
	m->figures.bytes += (int64_t)m->to;
	return m->to > 0;
}

/* Takes what fits; the rest of an over-long line is dropped. */
static size_t
keep(struct maillog *m, size_t used, const char *from, size_t n)
{
	size_t room = MAILLOG_LINE_MAX - used;

	if (m->skipping)
		return used;
	if (n > room) {
		m->skipping = true;
		m->figures.cut++;
		n = room;
	}
	memcpy(m->line + used, from, n);
	return used + n;
}

static char *
finish_line(struct maillog *m, size_t used)
{
	while (used > 0 && m->line[used - 1] == '\r')
		used--;
	m->line[used] = '\0';
	m->skipping = false;
	m->figures.lines++;
	return m->line;
}

char *
maillog_next(struct maillog *m)
{
	size_t used = 0;
	bool begun = false;

	for (;;) {
		const char *start, *end;

		if (m->from == m->to && !fill(m)) {
			/* a last line that nobody has finished; none goes on in the next file */
			if (begun)
				return finish_line(m, used);
			if (!next_file(m))
				return NULL;
			continue;
		}
		begun = true;
		start = m->buffer + m->from;
		end = memchr(start, '\n', m->to - m->from);
		if (end != NULL) {
			used = keep(m, used, start, (size_t)(end - start));
			m->from += (size_t)(end - start) + 1;
			return finish_line(m, used);
		}
		used = keep(m, used, start, m->to - m->from);
		m->from = m->to;
	}
}

const char *
maillog_trouble(const struct maillog *m)
{
	return m->trouble;
}

struct maillog_figures
maillog_figures(const struct maillog *m)
{
	struct maillog_figures f = m->figures;
	int64_t all = 0, done = m->before;

	f.percent = -1;
	for (unsigned i = 0; i < m->n; i++) {
		if (m->sizes[i] < 0)
			return f;
		all += m->sizes[i];
	}
	if (m->gz != NULL)
		done += gzoffset(m->gz);
	if (all > 0)
		f.percent = done >= all ? 100 : done * 100 / all;
	return f;
}

void
maillog_close(struct maillog **m)
{
	if (*m == NULL)
		return;
	if ((*m)->gz != NULL)
		(void)gzclose((*m)->gz);
	free((*m)->sizes);
	free(*m);
	*m = NULL;
}
