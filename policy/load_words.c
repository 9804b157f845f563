/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * load_words.c - the marks of load levels as people write and read them.
 */
#include <string.h>
#include <strings.h>

#include "weir/load.h"
#include "weir/units.h"
#include "err.h"

#define THOUSAND 1000

enum unit { UNIT_COUNT, UNIT_DECIMAL, UNIT_PERCENT, UNIT_DURATION, UNIT_WORD };

static const struct {
	const char *name;
	enum unit unit;
} signals[LOAD_SIGNALS] = {
    [LOAD_SESSIONS] = {"sessions", UNIT_COUNT},
    [LOAD_RUN_QUEUE] = {"run-queue", UNIT_DECIMAL},
    [LOAD_PSI_CPU] = {"psi-cpu", UNIT_PERCENT},
    [LOAD_PSI_MEMORY] = {"psi-memory", UNIT_PERCENT},
    [LOAD_PSI_IO] = {"psi-io", UNIT_PERCENT},
    [LOAD_REDIS_LATENCY] = {"redis-latency", UNIT_DURATION},
    [LOAD_QUEUE] = {"queue", UNIT_COUNT},
    [LOAD_NEIGHBOURS] = {"neighbours", UNIT_WORD},
};

const char *
load_signal_name(enum load_signal s)
{
	return signals[s].name;
}

void
load_rules_defaults(struct load_rules *r)
{
	char err[128];

	memset(r, 0, sizeof *r);
	/* RFC 3463 3.4: X.3.2 is the system that takes no messages now */
	(void)reply_parse("421 4.3.2 Too busy, please try again later", &r->reply, err, sizeof err);
	/* RFC 8314 and RFC 6409: who submits is known by his login, and that comes later */
	(void)load_spare(r, "465", err, sizeof err);
	(void)load_spare(r, "587", err, sizeof err);
}

/* --- reading ----------------------------------------------------------------------------------- */

/* "12", and with decimal "1.25": at most three digits behind the point. In thousandths. */
static bool
scan_thousandths(const char **text, bool decimal, int64_t *out)
{
	int64_t whole, part, factor = THOUSAND;
	const char *start;

	if (!units_scan(text, UNITS_COUNT_MAX, &whole))
		return false;
	*out = whole * THOUSAND;
	if (!decimal || **text != '.')
		return true;
	start = ++*text;
	if (!units_scan(text, THOUSAND, &part) || *text - start > 3)
		return false;
	for (; start < *text; start++)
		factor /= 10;
	*out += part * factor;
	return true;
}

static bool
parse_value(enum unit u, const char *word, int64_t *out)
{
	int64_t us;

	switch (u) {
	case UNIT_DURATION: /* microseconds are thousandths of a millisecond */
		if (!units_duration(word, &us) || us > 60 * USEC_PER_SEC)
			return false;
		*out = us;
		return true;
	case UNIT_PERCENT:
		if (!scan_thousandths(&word, true, out) || *word++ != '%' || *out > 100 * THOUSAND)
			return false;
		break;
	case UNIT_COUNT:
	case UNIT_DECIMAL:
		if (!scan_thousandths(&word, u == UNIT_DECIMAL, out))
			return false;
		break;
	case UNIT_WORD:
		return false;
	}
	return *word == '\0';
}

/* The words between blanks, up to max; a comma is one by itself. */
#define WORDS_MAX 6
#define WORD_MAX 24

static unsigned
split(const char *text, char words[WORDS_MAX][WORD_MAX])
{
	unsigned n = 0;

	for (;;) {
		size_t len;

		text += strspn(text, " \t");
		if (*text == '\0')
			return n;
		len = *text == ',' ? 1 : strcspn(text, " \t,");
		if (n == WORDS_MAX || len >= WORD_MAX)
			return WORDS_MAX + 1;
		memcpy(words[n], text, len);
		words[n++][len] = '\0';
		text += len;
	}
}

static const char *const examples[] = {
    [UNIT_COUNT] = "\"400 300\"",
    [UNIT_DECIMAL] = "\"4 2\" or \"1.5 0.5\"",
    [UNIT_PERCENT] = "\"40% 20%\"",
    [UNIT_DURATION] = "\"20ms 5ms\"",
};

static bool
set_neighbours(struct load_rules *r, const char *text, char *err, size_t errlen)
{
	struct load_mark *m = &r->marks[LOAD_NEIGHBOURS][0];

	if (strcmp(text, "ignore") == 0)
		*m = (struct load_mark){0, 0};
	else if (strcmp(text, "majority") == 0)
		*m = (struct load_mark){50 * THOUSAND + 1, 50 * THOUSAND}; /* more than half */
	else
		return err_set(err, errlen, "must be majority or ignore", NULL);
	return true;
}

bool
load_set(struct load_rules *r, enum load_signal s, const char *text, char *err, size_t errlen)
{
	char words[WORDS_MAX][WORD_MAX];
	struct load_mark marks[LOAD_LEVEL_MAX] = {{0, 0}, {0, 0}};
	enum unit u = signals[s].unit;
	unsigned n;
	bool good;

	if (u == UNIT_WORD)
		return set_neighbours(r, text, err, errlen);
	if (strcmp(text, "off") == 0) {
		memcpy(r->marks[s], marks, sizeof marks);
		return true;
	}
	n = split(text, words);
	good = (n == 2 || (n == 5 && strcmp(words[2], ",") == 0)) &&
	    parse_value(u, words[0], &marks[0].high) && parse_value(u, words[1], &marks[0].low);
	if (good && n == 5)
		good = parse_value(u, words[3], &marks[1].high) &&
		    parse_value(u, words[4], &marks[1].low);
	if (!good)
		return err_set(err, errlen, "must be a high and a low mark such as ", examples[u],
		    ", for level 2 a second pair behind a comma", NULL);
	if (marks[0].low >= marks[0].high || (n == 5 && marks[1].low >= marks[1].high))
		return err_set(err, errlen,
		    "the high mark comes first, and the low one must be below it", NULL);
	if (n == 5 && (marks[1].high <= marks[0].high || marks[1].low < marks[0].low))
		return err_set(
		    err, errlen, "the marks of level 2 must not lie below those of level 1", NULL);
	memcpy(r->marks[s], marks, sizeof marks);
	return true;
}

/* --- spared daemons ------------------------------------------------------------------------------ */

bool
load_spare(struct load_rules *r, const char *daemon, char *err, size_t errlen)
{
	size_t len = strlen(daemon);

	if (len == 0 || len > LOAD_DAEMON_MAX)
		return err_set(
		    err, errlen, "must be a daemon's name or a port, at most 63 characters", NULL);
	for (const char *p = daemon; *p != '\0'; p++)
		if ((unsigned char)*p <= ' ' || *p == 0x7f)
			return err_set(err, errlen, "a daemon's name has no blanks", NULL);
	if (load_spares(r, daemon, daemon))
		return true;
	if (r->nspare == LOAD_SPARE_MAX)
		return err_set(err, errlen, "more than 16 daemons", NULL);
	strcpy(r->spare[r->nspare++], daemon);
	return true;
}

bool
load_spares(const struct load_rules *r, const char *name, const char *port)
{
	for (unsigned i = 0; i < r->nspare; i++)
		if (strcasecmp(r->spare[i], name) == 0 || strcmp(r->spare[i], port) == 0)
			return true;
	return false;
}

/* --- writing ------------------------------------------------------------------------------------- */

char *
load_format(enum load_signal s, int64_t value, char out[LOAD_VALUE_MAX])
{
	static const char *const units[] = {
	    [UNIT_COUNT] = "",
	    [UNIT_DECIMAL] = "",
	    [UNIT_PERCENT] = "%",
	    [UNIT_DURATION] = "ms",
	    [UNIT_WORD] = "%",
	};
	char text[LOAD_VALUE_MAX], *p = text + sizeof text;
	int64_t part, whole;

	if (value < 0) {
		strcpy(out, "missing");
		return out;
	}
	part = value % THOUSAND;
	whole = value / THOUSAND;
	*--p = '\0';
	/* a share is exact enough to a tenth, and a count has no parts */
	if (signals[s].unit == UNIT_COUNT)
		part = 0;
	else if (signals[s].unit != UNIT_DURATION)
		part -= part % 10;
	if (part != 0) {
		for (int i = 0; i < 3; i++, part /= 10)
			if (p[0] != '\0' || part % 10 != 0)
				*--p = (char)('0' + part % 10);
		*--p = '.';
	}
	do
		*--p = (char)('0' + whole % 10);
	while ((whole /= 10) != 0);
	strcpy(out, p);
	strcat(out, units[signals[s].unit]);
	return out;
}
