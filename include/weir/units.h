/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * units.h - how people write durations, sizes, rates and switches, in the file, in Redis and on
 * the command line alike.
 */
#ifndef WEIR_UNITS_H
#define WEIR_UNITS_H

#include <stdbool.h>
#include <stdint.h>

#define USEC_PER_MSEC INT64_C(1000)
#define USEC_PER_SEC INT64_C(1000000)

/* One of a counted thing. Levels are kept in millionths, so that a slow rate still drains. */
#define MICRO INT64_C(1000000)

/* A year bounds every duration, a thousand million every count: both far beyond sense, and
 * small enough that no arithmetic here can overflow. */
#define UNITS_DURATION_MAX (INT64_C(366) * 86400 * USEC_PER_SEC)
#define UNITS_COUNT_MAX INT64_C(1000000000)

/* "50ms", "30s", "5m", "2h", "1d", "1w" or a bare number of seconds, to microseconds. */
bool units_duration(const char *text, int64_t *us);

/* A whole number from 0 to UNITS_COUNT_MAX, nothing after it. */
bool units_count(const char *text, int64_t *n);

/* The digits at *text, which moves behind them. */
bool units_scan(const char **text, int64_t max, int64_t *n);

/* A whole number from 1 to UNITS_COUNT_MAX, or one with k, M or G up to max: then *sized
 * becomes true. */
bool units_figure(const char *text, int64_t max, int64_t *n, bool *sized);

/* "60/1m", "10/s", "100M/1h": such a figure in a period of at least 1 s. */
bool units_rate(const char *text, int64_t max, int64_t *n, int64_t *period_us, bool *sized);

/* "64k", "32M", "1G" or bytes; powers of 1024. */
bool units_size(const char *text, int64_t *bytes);

/* Room for what the two below write. */
#define UNITS_TEXT_MAX 24

/* What units_duration() reads as us, in the largest unit that fits: "10m", "36h", "1500ms". */
char *units_duration_text(int64_t us, char out[UNITS_TEXT_MAX]);

/* The same for units_figure(): "1000"; with k, M or G if sized and exact: "100M". */
char *units_figure_text(int64_t n, bool sized, char out[UNITS_TEXT_MAX]);

/* true/yes/on and false/no/off. */
bool units_bool(const char *text, bool *value);

#endif
