/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * out.c - what a person reads: aligned, within the terminal, safe to print.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "weir/units.h"
#include "ctl.h"

#define COLUMNS_MAX 10
#define CELL_MAX 160
#define WIDTH_PIPED 80

void
out_result(const struct ctl *c, json_t *result, out_fn *print)
{
	if (c->json) {
		json_dumpf(result, stdout, JSON_INDENT(2) | JSON_PRESERVE_ORDER);
		putchar('\n');
	} else
		print(c, result);
	json_decref(result);
}

const char *
out_text(const json_t *j, const char *key)
{
	const char *s = json_string_value(json_object_get(j, key));

	return s != NULL ? s : "";
}

int64_t
out_whole(const json_t *j, const char *key)
{
	return json_integer_value(json_object_get(j, key));
}

const char *
out_duration(int64_t us, char out[32])
{
	static const struct {
		const char *name;
		int64_t s, max; /* spoken of below max of the unit */
	} units[] = {
	    {"s", 1, 120},
	    {"min", 60, 120},
	    {"h", 3600, 48},
	    {"d", 86400, INT64_MAX},
	};
	int64_t s = (us + USEC_PER_SEC - 1) / USEC_PER_SEC, m = (s + 30) / 60;

	if (us <= 0) {
		strcpy(out, "now");
		return out;
	}
	/* seconds up, so that "in 1 s" is not too early; what is longer to the nearest */
	if (m >= 120 && s < 48 * 3600) {
		snprintf(out, 32, m % 60 != 0 ? "%lld h %lld min" : "%lld h", (long long)(m / 60),
		    (long long)(m % 60));
		return out;
	}
	for (size_t i = 0; i < sizeof units / sizeof units[0]; i++)
		if (units[i].max == INT64_MAX || s < units[i].s * units[i].max) {
			snprintf(out, 32, "%lld %s", (long long)((s + units[i].s / 2) / units[i].s),
			    units[i].name);
			break;
		}
	return out;
}

const char *
out_listing(const struct listing *l, char out[64])
{
	char delay[UNITS_TEXT_MAX];

	if (l->delay_us != 0)
		snprintf(out, 64, "action=%s delay=%s", list_action_name(l->action),
		    units_duration_text(l->delay_us, delay));
	else
		snprintf(out, 64, "action=%s", list_action_name(l->action));
	return out;
}

const char *
out_figure(double n, bool bytes, char out[32])
{
	static const char units[] = " kMG";
	size_t i = 0;

	if (!bytes || n < 1024) {
		snprintf(out, 32, bytes ? "%.0f" : "%.1f", n);
		return out;
	}
	for (; n >= 1024 && units[i + 1] != '\0'; i++)
		n /= 1024;
	snprintf(out, 32, "%.1f%c", n, units[i]);
	return out;
}

const char *
out_safe(const char *text, size_t width, char *out, size_t outlen)
{
	size_t used = 0;

	for (; *text != '\0' && used + 1 < outlen && used < width; text++)
		out[used++] = *text >= ' ' && *text <= '~' ? *text : '?';
	out[used] = '\0';
	if (*text != '\0' && used >= 3)
		memcpy(out + used - 3, "...", 3);
	return out;
}

void
out_colour(const struct ctl *c, enum colour colour)
{
	static const char *const codes[] = {
	    [PLAIN] = "\033[0m",
	    [BOLD] = "\033[1m",
	    [RED] = "\033[31m",
	    [GREEN] = "\033[32m",
	    [YELLOW] = "\033[33m",
	};

	if (c->colour)
		fputs(codes[colour], stdout);
}

/* --- tables ------------------------------------------------------------------------------------ */

struct table {
	unsigned columns, rows, room;
	char (*cells)[CELL_MAX]; /* row 0 is the heads */
};

static char *
cell(const struct table *t, unsigned row, unsigned column)
{
	return t->cells[row * t->columns + column];
}

static void
add_row(struct table *t, va_list ap)
{
	if (t->rows == t->room) {
		t->room = t->room != 0 ? 2 * t->room : 16;
		t->cells = reallocarray(t->cells, (size_t)t->room * t->columns, sizeof *t->cells);
		if (t->cells == NULL)
			ctl_die(CTL_REFUSED, "out of memory");
	}
	for (unsigned i = 0; i < t->columns; i++)
		out_safe(va_arg(ap, const char *), CELL_MAX - 1, cell(t, t->rows, i), CELL_MAX);
	t->rows++;
}

struct table *
table_new(unsigned columns, ...)
{
	struct table *t = calloc(1, sizeof *t);
	va_list ap;

	if (t == NULL || columns > COLUMNS_MAX)
		ctl_die(CTL_REFUSED, "out of memory");
	t->columns = columns;
	va_start(ap, columns);
	add_row(t, ap);
	va_end(ap);
	return t;
}

void
table_row(struct table *t, ...)
{
	va_list ap;

	va_start(ap, t);
	add_row(t, ap);
	va_end(ap);
}

unsigned
out_width(const struct ctl *c)
{
	struct winsize w;

	if (c->terminal && ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) == 0 && w.ws_col >= 40)
		return w.ws_col;
	return WIDTH_PIPED;
}

void
out_line(const struct ctl *c, const char *fmt, ...)
{
	char line[2048], safe[2048];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof line, fmt, ap);
	va_end(ap);
	puts(out_safe(line, out_width(c), safe, sizeof safe));
}

void
out_text_lines(const struct ctl *c, const char *lead, const char *text)
{
	size_t indent = strlen(lead), width = out_width(c) - indent;

	for (bool first = true; *text != '\0'; first = false) {
		size_t n = strlen(text);
		char line[512];

		if (n > width) {
			for (n = width; n > 0 && text[n] != ' '; n--)
				;
			if (n == 0)
				n = width;
		}
		snprintf(
		    line, sizeof line, "%*s%.*s", (int)indent, first ? lead : "", (int)n, text);
		out_line(c, "%s", line);
		text += n;
		text += strspn(text, " ");
	}
}

/* The last column takes what is left and is cut; the others are as wide as their contents. */
static void
measure(const struct ctl *c, const struct table *t, unsigned widths[COLUMNS_MAX])
{
	unsigned used = 0, left;

	for (unsigned i = 0; i < t->columns; i++) {
		widths[i] = 0;
		for (unsigned row = 0; row < t->rows; row++)
			if (strlen(cell(t, row, i)) > widths[i])
				widths[i] = (unsigned)strlen(cell(t, row, i));
		if (i + 1 < t->columns)
			used += widths[i] + 2;
	}
	while (used + 8 > out_width(c)) {
		unsigned widest = 0;

		for (unsigned i = 1; i + 1 < t->columns; i++)
			if (widths[i] > widths[widest])
				widest = i;
		if (t->columns < 2 || widths[widest] <= 8)
			break;
		widths[widest]--;
		used--;
	}
	left = out_width(c) > used + 8 ? out_width(c) - used : 8;
	if (widths[t->columns - 1] > left)
		widths[t->columns - 1] = left;
}

void
table_print(const struct ctl *c, struct table *t)
{
	unsigned widths[COLUMNS_MAX];
	char text[CELL_MAX];

	measure(c, t, widths);
	for (unsigned row = 0; row < t->rows; row++) {
		if (row == 0)
			out_colour(c, BOLD);
		for (unsigned i = 0; i + 1 < t->columns; i++)
			printf("%-*s  ", (int)widths[i],
			    out_safe(cell(t, row, i), widths[i], text, sizeof text));
		puts(out_safe(
		    cell(t, row, t->columns - 1), widths[t->columns - 1], text, sizeof text));
		if (row == 0)
			out_colour(c, PLAIN);
	}
	free(t->cells);
	free(t);
}
