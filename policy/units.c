/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * units.c - durations, sizes, rates and switches as people write them.
 *
 * One scanner for "number, then unit"; each kind is a table of units.
 */
#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "weir/units.h"

struct unit {
	const char *name;
	int64_t factor;
};

static const struct unit duration_units[] = {
    {"ms", USEC_PER_MSEC},
    {"s", USEC_PER_SEC},
    {"m", 60 * USEC_PER_SEC},
    {"h", 3600 * USEC_PER_SEC},
    {"d", 86400 * USEC_PER_SEC},
    {"w", 7 * 86400 * USEC_PER_SEC},
    {"", USEC_PER_SEC},
    {NULL, 0},
};

static const struct unit size_units[] = {
    {"k", INT64_C(1) << 10},
    {"M", INT64_C(1) << 20},
    {"G", INT64_C(1) << 30},
    {"", 1},
    {NULL, 0},
};

/* Digits only: strtoll() would let blanks and signs in. Stops behind the last digit. */
static bool
scan_number(const char **text, int64_t limit, int64_t *n)
{
	const char *p = *text;
	int64_t v = 0;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++) {
		int64_t digit = *p - '0';

		if (v > (limit - digit) / 10)
			return false;
		v = v * 10 + digit;
	}
	*text = p;
	*n = v;
	return true;
}

static bool
scan_unit(const char *text, const struct unit *units, int64_t *factor)
{
	for (; units->name != NULL; units++)
		if (strcasecmp(text, units->name) == 0) {
			*factor = units->factor;
			return true;
		}
	return false;
}

static bool
scan_quantity(const char *text, const struct unit *units, int64_t max, int64_t *out)
{
	int64_t n, factor;

	if (!scan_number(&text, max, &n) || !scan_unit(text, units, &factor) || n > max / factor)
		return false;
	*out = n * factor;
	return true;
}

bool
units_duration(const char *text, int64_t *us)
{
	return scan_quantity(text, duration_units, UNITS_DURATION_MAX, us);
}

bool
units_size(const char *text, int64_t *bytes)
{
	return scan_quantity(text, size_units, INT64_MAX / 2, bytes);
}

bool
units_count(const char *text, int64_t *n)
{
	int64_t v;

	if (!scan_number(&text, UNITS_COUNT_MAX, &v) || *text != '\0')
		return false;
	*n = v;
	return true;
}

bool
units_scan(const char **text, int64_t max, int64_t *n)
{
	return scan_number(text, max, n);
}

/* A number, and k, M or G behind it where bytes are counted. */
static bool
scan_figure(const char **text, int64_t max, int64_t *n, bool *sized)
{
	char unit[2] = "";
	int64_t v, factor;

	if (!scan_number(text, max, &v))
		return false;
	if (**text != '\0' && strchr("kKmMgG", **text) != NULL)
		unit[0] = *(*text)++;
	if (!scan_unit(unit, size_units, &factor) || v > max / factor || v < 1)
		return false;
	if (unit[0] == '\0' && v > UNITS_COUNT_MAX)
		return false;
	*n = v * factor;
	*sized = *sized || unit[0] != '\0';
	return true;
}

bool
units_figure(const char *text, int64_t max, int64_t *n, bool *sized)
{
	int64_t v;
	bool s = *sized;

	if (!scan_figure(&text, max, &v, &s) || *text != '\0')
		return false;
	*n = v;
	*sized = s;
	return true;
}

bool
units_rate(const char *text, int64_t max, int64_t *n, int64_t *period_us, bool *sized)
{
	int64_t count, factor, period = 1;
	bool s = *sized;

	if (!scan_figure(&text, max, &count, &s) || *text++ != '/')
		return false;
	/* "10/s" is one second, so the number may be left out, but not the unit with it */
	if (*text == '\0')
		return false;
	if (*text >= '0' && *text <= '9' && !scan_number(&text, UNITS_DURATION_MAX, &period))
		return false;
	if (!scan_unit(text, duration_units, &factor) || period > UNITS_DURATION_MAX / factor)
		return false;
	period *= factor;
	if (period < USEC_PER_SEC)
		return false;
	*n = count;
	*period_us = period;
	*sized = s;
	return true;
}

/* --- and back ------------------------------------------------------------------------------ */

static char *
write_quantity(int64_t n, const char *unit, char out[UNITS_TEXT_MAX])
{
	char digits[UNITS_TEXT_MAX], *p = digits + sizeof digits;

	*--p = '\0';
	do
		*--p = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	strcpy(out, p);
	return strcat(out, unit);
}

/* Units stand from the smallest to the largest, up to the one without a name. Not in weeks: people
 * say 7d and 35d. */
static char *
write_exactly(int64_t n, const struct unit *units, const char *rest, char out[UNITS_TEXT_MAX])
{
	const struct unit *best = NULL;

	for (; n != 0 && units->name[0] != '\0'; units++)
		if (n % units->factor == 0 && units->name[0] != 'w')
			best = units;
	if (best == NULL)
		return write_quantity(n, rest, out);
	return write_quantity(n / best->factor, best->name, out);
}

char *
units_duration_text(int64_t us, char out[UNITS_TEXT_MAX])
{
	/* what is finer than the finest unit was never read */
	return write_exactly(us - us % USEC_PER_MSEC, duration_units, "s", out);
}

char *
units_figure_text(int64_t n, bool sized, char out[UNITS_TEXT_MAX])
{
	return sized ? write_exactly(n, size_units, "", out) : write_quantity(n, "", out);
}

bool
units_bool(const char *text, bool *value)
{
	static const char *const yes[] = {"true", "yes", "on", NULL};
	static const char *const no[] = {"false", "no", "off", NULL};

	for (size_t i = 0; yes[i] != NULL; i++) {
		if (strcasecmp(text, yes[i]) == 0) {
			*value = true;
			return true;
		}
		if (strcasecmp(text, no[i]) == 0) {
			*value = false;
			return true;
		}
	}
	return false;
}
