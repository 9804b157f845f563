/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_maillog.c - the bytes and the dates of a mail log.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include "maillog_fixture.h"

/* --- dates ------------------------------------------------------------------------------------- */

/* Seconds since 1970, or -1. */
static int64_t
date(struct log_dates *d, const char *text, int32_t *day)
{
	char line[128];
	int64_t us;

	snprintf(line, sizeof line, "%s", text);
	return log_date(d, line, &us, day) != NULL ? us / USEC_PER_SEC : -1;
}

static void
test_one_date(void **state)
{
	static const struct {
		const char *text;
		int64_t s;
		int32_t day;
	} table[] = {
	    {"Nov 23 21:14:57 x", NOVEMBER, 20780},
	    {"Nov  3 01:02:03 x", NOVEMBER - 20 * 86400 - 72774, 20760},
	    {"2026-11-23T21:14:57Z x", NOVEMBER, 20780},
	    {"2026-11-23T21:14:57.123456Z x", NOVEMBER, 20780},
	    {"2026-11-23T22:14:57+01:00 x", NOVEMBER, 20780},
	    {"2026-11-24T02:44:57+0530 x", NOVEMBER, 20781},
	    {"2026-11-23T14:14:57.9-07:00 x", NOVEMBER, 20780},
	    {"2024-02-29T00:00:00Z x", 1709164800, 19782},
	    {"2000-03-01T00:00:00Z x", 951868800, 11017},
	    {"2100-03-01T00:00:00Z x", INT64_C(4107542400), 47541},
	    {"2016-12-31T23:59:60Z x", 1483228800, 17166},
	    {"Nov 23 24:14:57 x", -1, 0},
	    {"Nov 23 21:60:57 x", -1, 0},
	    {"Nov 23 21:14:61 x", -1, 0},
	    {"Nov 32 21:14:57 x", -1, 0},
	    {"Nov 00 21:14:57 x", -1, 0},
	    {"Feb 30 21:14:57 x", -1, 0},
	    {"Nox 23 21:14:57 x", -1, 0},
	    {"Nov 23 21:14:57", -1, 0},
	    {"Nov 23 21:14:5", -1, 0},
	    {"Nov", -1, 0},
	    {"", -1, 0},
	    {"2026-13-23T21:14:57Z x", -1, 0},
	    {"2026-02-29T21:14:57Z x", -1, 0},
	    {"2026-11-23T21:14:57+25:00 x", -1, 0},
	    {"2026-11-23T21:14:57X x", -1, 0},
	    {"2026-11-23 21:14:57 x", -1, 0},
	    {"9999-11-23T21:14:57Z x", -1, 0},
	    {"2026-11-23T21:14:57+", -1, 0},
	    {"\xff\xfe\x80 x", -1, 0},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct log_dates d = {.reference_s = NOVEMBER};
		int32_t day = 0;

		if (date(&d, table[i].text, &day) != table[i].s)
			print_message("%s\n", table[i].text);
		d = (struct log_dates){.reference_s = NOVEMBER};
		assert_int_equal(date(&d, table[i].text, &day), table[i].s);
		if (table[i].s >= 0)
			assert_int_equal(day, table[i].day);
	}
}

static void
test_microseconds(void **state)
{
	struct log_dates d = {.reference_s = NOVEMBER};
	char line[] = "2026-11-23T21:14:57.12Z x";
	int64_t us;
	int32_t day;

	(void)state;
	assert_string_equal(log_date(&d, line, &us, &day), "x");
	assert_int_equal(us, NOVEMBER * USEC_PER_SEC + 120000);
}

/* The first line's year is the latest that the file's time allows. */
static void
test_first_year(void **state)
{
	static const struct {
		const char *text;
		int year;
	} table[] = {
	    {"Nov 23 21:14:57 x", 2026},
	    {"Nov 24 12:00:00 x", 2026}, /* a day of grace */
	    {"Nov 25 12:00:00 x", 2025},
	    {"Dec 31 23:59:59 x", 2025},
	    {"Jan  1 00:00:00 x", 2026},
	    {"Feb 29 12:00:00 x", 2024},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct log_dates d = {.reference_s = NOVEMBER};
		int32_t day;
		time_t t = (time_t)date(&d, table[i].text, &day);
		struct tm tm;

		assert_non_null(gmtime_r(&t, &tm));
		assert_int_equal(tm.tm_year + 1900, table[i].year);
	}
}

/* Then each line is of the year that brings it nearest to the one before. */
static void
test_new_year(void **state)
{
	struct log_dates d = {.reference_s = NOVEMBER};
	int32_t day;
	int64_t eve = date(&d, "Dec 31 23:59:58 x", &day);

	(void)state;
	assert_int_equal(date(&d, "Jan  1 00:00:01 x", &day), eve + 3);
	/* a straggler */
	assert_int_equal(date(&d, "Dec 31 23:59:59 x", &day), eve + 1);
	assert_int_equal(date(&d, "Jan  1 00:00:02 x", &day), eve + 4);
	assert_int_equal(date(&d, "Jun 15 12:00:02 x", &day), eve + 4 + 165 * 86400 + 43200);
}

/* Local time, with summer time's end: the clock goes back, and goes on. */
static void
test_local_time(void **state)
{
	struct log_dates d = {.reference_s = NOVEMBER};
	int32_t day;
	int64_t noon;

	(void)state;
	setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3", 1);
	tzset();
	assert_int_equal(date(&d, "Nov 23 22:14:57 x", &day), NOVEMBER);
	assert_int_equal(day, 20780);
	noon = date(&d, "Oct 24 12:00:00 x", &day);
	assert_int_equal(date(&d, "Oct 25 12:00:00 x", &day), noon + 25 * 3600);
	utc();
}

/* --- the bytes --------------------------------------------------------------------------------- */

static char path[] = "/tmp/weir-test-maillog.XXXXXX";

static void
write_file(const char *data, size_t len)
{
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	assert_int_equal(fwrite(data, 1, len, f), len);
	assert_int_equal(fclose(f), 0);
}

static void
write_gzip(const char *data, size_t len, const char *mode)
{
	gzFile f = gzopen(path, mode);

	assert_non_null(f);
	assert_int_equal(gzwrite(f, data, (unsigned)len), (int)len);
	assert_int_equal(gzclose(f), Z_OK);
}

static struct maillog *
open_it(void)
{
	static char *paths[1] = {path};
	char err[256] = "";
	int64_t reference;
	struct maillog *m = maillog_open(1, paths, &reference, err, sizeof err);

	assert_string_equal(err, "");
	assert_non_null(m);
	return m;
}

/* All lines of the file, each in brackets. */
static const char *
lines_of(struct maillog *m)
{
	static char text[65536];
	size_t used = 0;
	const char *line;

	text[0] = '\0';
	while ((line = maillog_next(m)) != NULL)
		used += (size_t)snprintf(text + used, sizeof text - used, "[%.20s]", line);
	return text;
}

static void
test_lines(void **state)
{
	static const struct {
		const char *data;
		size_t len;
		const char *lines;
	} table[] = {
	    {"", 0, ""},
	    {"a", 1, "[a]"},
	    {"a\n", 2, "[a]"},
	    {"a\nb", 3, "[a][b]"},
	    {"\n\n", 2, "[][]"},
	    {"a\r\nb\r\n", 6, "[a][b]"},
	    {"a\0b\nc\n", 6, "[a][c]"},
	    {"\xff\xfe\x00\x01\nx\n", 7, "[\xff\xfe][x]"},
	};

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		struct maillog *m;

		write_file(table[i].data, table[i].len);
		m = open_it();
		assert_string_equal(lines_of(m), table[i].lines);
		assert_int_equal(maillog_figures(m).bytes, table[i].len);
		assert_string_equal(maillog_trouble(m), "");
		maillog_close(&m);
		assert_null(m);
	}
}

/* A line of a megabyte, across many fillings of the buffer, costs itself alone. */
static void
test_long_line(void **state)
{
	size_t len = 1 << 20;
	char *data = malloc(len + 64), *line;
	struct maillog *m;

	(void)state;
	assert_non_null(data);
	memset(data, 'x', len);
	memcpy(data, "first\n", 6);
	strcpy(data + len, "\nlast\n");
	write_file(data, strlen(data));
	m = open_it();
	assert_string_equal(maillog_next(m), "first");
	line = maillog_next(m);
	assert_int_equal(strlen(line), MAILLOG_LINE_MAX);
	assert_int_equal(strspn(line, "x"), MAILLOG_LINE_MAX);
	assert_string_equal(maillog_next(m), "last");
	assert_null(maillog_next(m));
	assert_int_equal(maillog_figures(m).cut, 1);
	assert_int_equal(maillog_figures(m).lines, 3);
	maillog_close(&m);
	/* one that just fits is whole */
	memset(data, 'y', MAILLOG_LINE_MAX);
	strcpy(data + MAILLOG_LINE_MAX, "\nlast\n");
	write_file(data, strlen(data));
	m = open_it();
	assert_int_equal(strlen(maillog_next(m)), MAILLOG_LINE_MAX);
	assert_string_equal(maillog_next(m), "last");
	assert_int_equal(maillog_figures(m).cut, 0);
	maillog_close(&m);
	free(data);
}

static void
test_gzip(void **state)
{
	struct maillog *m;

	(void)state;
	write_gzip("a\nb\n", 4, "wb");
	m = open_it();
	assert_string_equal(lines_of(m), "[a][b]");
	maillog_close(&m);
	/* as logrotate and cat make them: one gzip after another */
	write_gzip("a\n", 2, "wb");
	write_gzip("b\n", 2, "ab");
	m = open_it();
	assert_string_equal(lines_of(m), "[a][b]");
	assert_int_equal(maillog_figures(m).percent, 100);
	maillog_close(&m);
}

/* What can be read is read, and that it was not all is said. */
static void
test_damaged_gzip(void **state)
{
	char data[20000];
	unsigned random = 1;
	struct maillog *m;
	struct stat st;

	(void)state;
	for (size_t i = 0; i < sizeof data; i++) {
		random = random * 1103515245 + 12345;
		data[i] = i % 50 == 49 ? '\n' : (char)('a' + (random >> 16) % 26);
	}
	write_gzip(data, sizeof data, "wb");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(truncate(path, st.st_size / 2), 0);
	m = open_it();
	assert_true(strlen(lines_of(m)) > 1000);
	assert_non_null(strstr(maillog_trouble(m), "ends in the middle"));
	maillog_close(&m);

	write_file("\x1f\x8b\x08\x00garbage garbage garbage", 28);
	m = open_it();
	(void)lines_of(m);
	assert_true(strlen(maillog_trouble(m)) > strlen(path));
	maillog_close(&m);
}

static void
test_several_files(void **state)
{
	static char second[] = "/tmp/weir-test-maillog2.XXXXXX";
	char *paths[3] = {path, second, path}, err[256];
	int fd = mkstemp(second);
	int64_t reference;
	struct maillog *m;

	(void)state;
	assert_true(fd >= 0);
	assert_int_equal(write(fd, "c\nd", 3), 3);
	close(fd);
	write_gzip("a\nb", 3, "wb");
	m = maillog_open(3, paths, &reference, err, sizeof err);
	assert_non_null(m);
	assert_string_equal(maillog_next(m), "a");
	assert_true(maillog_figures(m).percent < 100);
	assert_string_equal(lines_of(m), "[b][c][d][a][b]");
	assert_int_equal(maillog_figures(m).percent, 100);
	maillog_close(&m);
	unlink(second);
}

static void
test_no_file(void **state)
{
	char *none[] = {"/nonexistent/mail.log"}, *directory[] = {"/tmp"};
	char err[256];
	int64_t reference;

	(void)state;
	assert_null(maillog_open(1, none, &reference, err, sizeof err));
	assert_string_equal(err, "/nonexistent/mail.log: No such file or directory");
	assert_null(maillog_open(1, directory, &reference, err, sizeof err));
	assert_string_equal(err, "/tmp: is a directory");
}

/* The time of the file is where its years count back from. */
static void
test_reference(void **state)
{
	struct timespec times[2] = {{.tv_sec = 1000}, {.tv_sec = 86400 * 365}};
	char *paths[1] = {path}, err[256];
	struct maillog *m;
	int64_t reference;

	(void)state;
	write_file("a\n", 2);
	assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
	m = maillog_open(1, paths, &reference, err, sizeof err);
	assert_non_null(m);
	assert_int_equal(reference, 86400 * 365);
	maillog_close(&m);
}

int
main(void)
{
	static const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_one_date),
	    cmocka_unit_test(test_microseconds),
	    cmocka_unit_test(test_first_year),
	    cmocka_unit_test(test_new_year),
	    cmocka_unit_test(test_local_time),
	    cmocka_unit_test(test_lines),
	    cmocka_unit_test(test_long_line),
	    cmocka_unit_test(test_gzip),
	    cmocka_unit_test(test_damaged_gzip),
	    cmocka_unit_test(test_several_files),
	    cmocka_unit_test(test_no_file),
	    cmocka_unit_test(test_reference),
	};
	int failed, fd;

	utc();
	fd = mkstemp(path);
	if (fd < 0)
		return 1;
	close(fd);
	failed = cmocka_run_group_tests(tests, NULL, NULL);
	unlink(path);
	return failed;
}
