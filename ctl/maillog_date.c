/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * maillog_date.c - the head of a line: when, where, and which program.
 *
 * A date of syslog has no year and is local time. The year is the one that brings it nearest to
 * the line before; for the first line, the latest that is not after the time of the file.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "maillog.h"
#include "weir/units.h"

#define DAY_S INT64_C(86400)

/* --- numbers ----------------------------------------------------------------------------------- */

/* n digits at p, from min to max; -1 if they are not. */
static int
digits(const char *p, int n, int min, int max)
{
	int v = 0;

	for (int i = 0; i < n; i++) {
		if (p[i] < '0' || p[i] > '9')
			return -1;
		v = v * 10 + (p[i] - '0');
	}
	return v >= min && v <= max ? v : -1;
}

/* "HH:MM:SS" to seconds; -1 if it is none. A leap second is the next one. */
static int
clock_seconds(const char *p)
{
	int h = digits(p, 2, 0, 23), m, s;

	if (h < 0 || p[2] != ':')
		return -1;
	m = digits(p + 3, 2, 0, 59);
	if (m < 0 || p[5] != ':')
		return -1;
	s = digits(p + 6, 2, 0, 60);
	return s < 0 ? -1 : h * 3600 + m * 60 + s;
}

static bool
leap_year(int y)
{
	return (y % 4 == 0 && y % 100 != 0) || y % 400 == 0;
}

static int
month_days(int y, int m)
{
	static const int days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};

	return m == 2 && leap_year(y) ? 29 : days[m - 1];
}

/* Days since 1970 of a date from 1970 on. */
static int32_t
day_number(int y, int m, int d)
{
	int years = y - 1970, before = y - 1;
	int leaps = before / 4 - before / 100 + before / 400 - (1969 / 4 - 1969 / 100 + 1969 / 400);
	int32_t n = years * 365 + leaps + d - 1;

	for (int i = 1; i < m; i++)
		n += month_days(y, i);
	return n;
}

/* --- RFC 3339 ---------------------------------------------------------------------------------- */

/* "Z", "+01:00", "+0100": what is to be taken off, in seconds. */
static char *
zone_offset(char *p, int *offset)
{
	int sign = *p == '-' ? -1 : 1, h, m;

	*offset = 0;
	if (*p == 'Z' || *p == 'z')
		return p + 1;
	if (*p != '+' && *p != '-')
		return p;
	h = digits(p + 1, 2, 0, 23);
	if (h < 0)
		return NULL;
	p += 3;
	if (*p == ':')
		p++;
	m = digits(p, 2, 0, 59);
	if (m < 0)
		return NULL;
	*offset = sign * (h * 3600 + m * 60);
	return p + 2;
}

static char *
rfc3339(char *p, int64_t *time_us, int32_t *day)
{
	int y = digits(p, 4, 1970, 2261), m, d, s, offset;
	int64_t us = 0, unit = 100000;

	if (y < 0 || p[4] != '-' || (m = digits(p + 5, 2, 1, 12)) < 0 || p[7] != '-' ||
	    (d = digits(p + 8, 2, 1, month_days(y, m))) < 0 || (p[10] != 'T' && p[10] != 't') ||
	    (s = clock_seconds(p + 11)) < 0)
		return NULL;
	p += 19;
	if (*p == '.')
		for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
			us += unit * (*p - '0');
	p = zone_offset(p, &offset);
	if (p == NULL)
		return NULL;
	*day = day_number(y, m, d);
	*time_us = (*day * DAY_S + s - offset) * USEC_PER_SEC + us;
	return *time_us > 0 ? p : NULL;
}

/* --- syslog ------------------------------------------------------------------------------------ */

static int
month_of(const char *p)
{
	static const char names[] = "JanFebMarAprMayJunJulAugSepOctNovDec";

	for (int i = 0; i < 12; i++)
		if (strncmp(p, names + 3 * i, 3) == 0)
			return i + 1;
	return -1;
}

/* The start of that hour in local time; -1: there is no such date in this year. */
static int64_t
local_hour(int year, int month, int day, int hour)
{
	struct tm tm = {.tm_year = year - 1900,
	    .tm_mon = month - 1,
	    .tm_mday = day,
	    .tm_hour = hour,
	    .tm_isdst = -1};

	return day > month_days(year, month) ? -1 : (int64_t)mktime(&tm);
}

static int64_t
apart(int64_t a, int64_t b)
{
	return a > b ? a - b : b - a;
}

/* Nearest to the last line, or for the first one the latest that is not after the reference (a
 * day of grace for clocks and zones). */
static int
choose_year(const struct log_dates *d, int month, int mday, int hour)
{
	int64_t near = d->last_s != 0 ? d->last_s : d->reference_s, best = INT64_MAX;
	time_t t = (time_t)near;
	struct tm tm;
	int chosen = -1;

	if (localtime_r(&t, &tm) == NULL)
		return -1;
	/* eight years: a 29 February can be that far away */
	for (int year = tm.tm_year + 1900 + 1; year >= tm.tm_year + 1900 - 8; year--) {
		int64_t s = local_hour(year, month, mday, hour);

		if (s <= 0 || (d->last_s == 0 && s > d->reference_s + DAY_S))
			continue;
		if (apart(s, near) < best) {
			best = apart(s, near);
			chosen = year;
		}
	}
	return chosen;
}

static char *
syslog_date(struct log_dates *d, char *p, int64_t *time_us, int32_t *day)
{
	int s;

	if (p[0] < 'A' || p[0] > 'S' || strnlen(p, 15) < 15 || p[3] != ' ' || p[6] != ' ')
		return NULL;
	s = clock_seconds(p + 7);
	if (s < 0)
		return NULL;
	if (memcmp(d->hour, p, 10) != 0) {
		int month = month_of(p), hour = s / 3600, year;
		int mday = p[4] == ' ' ? digits(p + 5, 1, 1, 9) : digits(p + 4, 2, 1, 31);

		if (month < 0 || mday < 0)
			return NULL;
		year = choose_year(d, month, mday, hour);
		if (year < 0)
			return NULL;
		memcpy(d->hour, p, 10);
		d->hour_s = local_hour(year, month, mday, hour);
		d->hour_day = day_number(year, month, mday);
	}
	*day = d->hour_day;
	*time_us = (d->hour_s + s % 3600) * USEC_PER_SEC;
	return p + 15;
}

char *
log_date(struct log_dates *d, char *text, int64_t *time_us, int32_t *day)
{
	char *end = text[0] >= '0' && text[0] <= '9' ? rfc3339(text, time_us, day)
						     : syslog_date(d, text, time_us, day);

	if (end == NULL || *end != ' ')
		return NULL;
	d->last_s = *time_us / USEC_PER_SEC;
	return end + 1;
}

/* --- the head ---------------------------------------------------------------------------------- */

/* "<22>": a line that was caught before syslogd took it off. */
static char *
skip_priority(char *p)
{
	size_t n;

	if (*p != '<')
		return p;
	n = strspn(p + 1, "0123456789");
	return n > 0 && n <= 3 && p[1 + n] == '>' ? p + n + 2 : p;
}

/* "tag[pid]:" */
static bool
take_tag(char *tag, struct log_line *out)
{
	size_t len = strlen(tag);
	char *bracket;

	if (len < 2 || tag[len - 1] != ':')
		return false;
	tag[--len] = '\0';
	out->tag = tag;
	bracket = strchr(tag, '[');
	if (bracket != NULL && tag[len - 1] == ']') {
		tag[len - 1] = '\0';
		*bracket = '\0';
		out->pid = bracket + 1;
	}
	return true;
}

static char *
take_word(char **p)
{
	char *word = *p, *end = strchr(word, ' ');

	if (end == NULL)
		return NULL;
	*end = '\0';
	*p = end + 1;
	return word;
}

bool
log_line(struct log_dates *d, char *line, struct log_line *out)
{
	static char none[1];
	char *p = log_date(d, skip_priority(line), &out->time_us, &out->day), *word;

	if (p == NULL)
		return false;
	out->host = out->pid = none;
	word = take_word(&p);
	/* "<mail.info>" of FreeBSD's syslogd */
	if (word != NULL && word[0] == '<')
		word = take_word(&p);
	if (word == NULL)
		return false;
	if (!take_tag(word, out)) {
		out->host = word;
		word = take_word(&p);
		if (word == NULL || !take_tag(word, out))
			return false;
	}
	/* "[ID 801593 mail.info] " of Solaris */
	if (strncmp(p, "[ID ", 4) == 0 && strstr(p, "] ") != NULL)
		p = strstr(p, "] ") + 2;
	out->text = p;
	return true;
}
