/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_host.c - what is read of the host: below a /proc of our own, in queues of our own, and from
 * commands that do not do what they should. And how the zone passes on what was made of it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "clock.h"
#include "host.h"
#include "queue_count.h"
#include "weir/zone.h"

static char root[] = "/tmp/weir-host.XXXXXX";

static void
put(const char *name, const char *text)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof path, "%s/%s", root, name);
	f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	assert_int_equal(fclose(f), 0);
}

static void
make(const char *name)
{
	char path[256];

	snprintf(path, sizeof path, "%s/%s", root, name);
	assert_int_equal(mkdir(path, 0700), 0);
}

static int
setup(void **state)
{
	(void)state;
	strcpy(strstr(root, ".") + 1, "XXXXXX");
	return mkdtemp(root) == NULL;
}

static int
teardown(void **state)
{
	char command[64];

	(void)state;
	snprintf(command, sizeof command, "rm -rf %s", root);
	return system(command);
}

/* --- /proc --------------------------------------------------------------------------------------- */

static void
test_running(void **state)
{
	static const struct {
		const char *text;
		int64_t n; /* -1: an error */
	} table[] = {
	    {"0.10 0.05 0.01 2/345 12345\n", 1},
	    {"0.10 0.05 0.01 1/345 12345\n", 0},
	    {"99.10 0.05 0.01 412/3450 12345\n", 411},
	    {"0.10 0.05 0.01 0/345 12345\n", 0},
	    {"", -1},
	    {"what\n", -1},
	    {"0.10 0.05 0.01 x/345 12345\n", -1},
	};
	char why[128] = "";
	int64_t n;

	(void)state;
	assert_false(host_running(root, &n, why, sizeof why));
	assert_non_null(strstr(why, "/loadavg: No such file"));
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		bool ok;

		put("loadavg", table[i].text);
		ok = host_running(root, &n, why, sizeof why);
		if (ok != (table[i].n >= 0) || (ok && n != table[i].n))
			fail_msg("row %zu: %d %lld", i, ok, (long long)n);
	}
	assert_non_null(strstr(why, "not what Linux writes there"));
	/* and this host's own */
	assert_true(host_running("/proc", &n, why, sizeof why));
	assert_in_range(n, 0, 100000);
}

static void
test_stalled(void **state)
{
	static const struct {
		const char *text;
		int64_t total;
	} table[] = {
	    {"some avg10=1.00 avg60=0.00 avg300=0.00 total=123456789012\n"
	     "full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n",
		INT64_C(123456789012)},
	    {"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", 0},
	    {"full avg10=0.00 avg60=0.00 avg300=0.00 total=5\n", -1},
	    {"some avg10=0.00\n", -1},
	    {"some total=x", -1},
	    {"some total=-5", -1},
	    {"", -1},
	};
	char why[128] = "";
	int64_t n;

	(void)state;
	/* a kernel without it, or one that was started with psi=0 */
	assert_false(host_stalled(root, HOST_IO, &n, why, sizeof why));
	assert_non_null(strstr(why, "/pressure/io: No such file"));
	make("pressure");
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		bool ok;

		put("pressure/memory", table[i].text);
		ok = host_stalled(root, HOST_MEMORY, &n, why, sizeof why);
		if (ok != (table[i].total >= 0) || (ok && n != table[i].total))
			fail_msg("row %zu: %d %lld", i, ok, (long long)n);
	}
	assert_false(host_stalled(root, HOST_CPU, &n, why, sizeof why));
}

/* --- queues -------------------------------------------------------------------------------------- */

static void
directory(struct conf *c, const char *name)
{
	snprintf(c->queue_directories[c->nqueue_directories++], CONF_PATH_MAX, "%s/%s", root, name);
}

static void
test_files(void **state)
{
	static struct conf c;
	char why[256] = "", link[64];

	(void)state;
	memset(&c, 0, sizeof c);
	make("q");
	directory(&c, "q");
	assert_int_equal(queue_count_files(&c, why, sizeof why), 0);
	put("q/a", "");
	put("q/.b", "");
	make("q/1");
	make("q/1/2");
	make("q/1/2/3");
	make("q/1/2/3/4");
	make("q/1/2/3/4/5");
	put("q/1/c", "");
	put("q/1/2/3/4/d", "");
	put("q/1/2/3/4/5/too-deep", "");
	/* neither loops nor other people's files */
	snprintf(link, sizeof link, "%s/q/loop", root);
	assert_int_equal(symlink("..", link), 0);
	assert_int_equal(queue_count_files(&c, why, sizeof why), 4);
	/* several are one queue */
	make("r");
	put("r/a", "");
	directory(&c, "r");
	assert_int_equal(queue_count_files(&c, why, sizeof why), 5);
	directory(&c, "none");
	assert_int_equal(queue_count_files(&c, why, sizeof why), -1);
	assert_non_null(strstr(why, "/none: No such file or directory"));
	put("none", "a file");
	assert_int_equal(queue_count_files(&c, why, sizeof why), -1);
	assert_non_null(strstr(why, "/none: Not a directory"));
}

static void
test_postfix(void **state)
{
	static struct conf c;
	char why[256] = "";

	(void)state;
	memset(&c, 0, sizeof c);
	make("q");
	directory(&c, "q");
	make("q/incoming");
	put("q/x", "");
	put("q/incoming/a", "");
	assert_int_equal(queue_count_files(&c, why, sizeof why), 2);
	make("q/active");
	make("q/active/A");
	put("q/active/A/b", "");
	make("q/deferred");
	put("q/deferred/c", "");
	assert_int_equal(queue_count_files(&c, why, sizeof why), 2);
}

static void
test_bound(void **state)
{
	static struct conf c;
	char why[256] = "", path[128];

	(void)state;
	memset(&c, 0, sizeof c);
	make("q");
	directory(&c, "q");
	put("q/0", "");
	/* links to one file are as many entries, and make no inode */
	for (int i = 1; i <= CONF_QUEUE_FILES_MAX + 5; i++) {
		char first[64];

		/* some file systems allow 32000 to one file */
		snprintf(first, sizeof first, "%s/q/%d", root, i / 30000 * 30000);
		snprintf(path, sizeof path, "%s/q/%d", root, i);
		if (i % 30000 == 0)
			put(path + strlen(root) + 1, "");
		else
			assert_int_equal(link(first, path), 0);
	}
	assert_int_equal(queue_count_files(&c, why, sizeof why), CONF_QUEUE_FILES_MAX);
}

/* Ticks for at most so long, and returns what there is then. */
static int64_t
tick(struct queue_count *q, int64_t us)
{
	int64_t end = clock_mono_us() + us;

	while (!queue_count_tick(q, clock_mono_us()) && clock_mono_us() < end)
		usleep(5000);
	return q->messages;
}

static void
test_tick(void **state)
{
	static struct conf c;
	struct queue_count q;

	(void)state;
	memset(&c, 0, sizeof c);
	make("q");
	put("q/a", "");
	directory(&c, "q");
	queue_count_init(&q, &c);
	assert_int_equal(tick(&q, 10 * USEC_PER_SEC), 1);
	put("q/b", "");
	/* once a second, and not at once */
	assert_int_equal(tick(&q, 300 * USEC_PER_MSEC), 1);
	assert_int_equal(tick(&q, 10 * USEC_PER_SEC), 2);
	snprintf(c.queue_directories[0], CONF_PATH_MAX, "%s/none", root);
	assert_int_equal(tick(&q, 10 * USEC_PER_SEC), -1);
	assert_non_null(strstr(q.why, "/none: No such file"));
	queue_count_end(&q);
	queue_count_end(&q);
	while (waitpid(-1, NULL, WNOHANG) > 0)
		;
}

/* --- the zone ------------------------------------------------------------------------------------ */

static void
test_zone(void **state)
{
	struct zone *z = zone_new(ZONE_SIZE_MIN, 1);
	struct zone_load in = {.level = 2,
			     .own = 1,
			     .signal = LOAD_QUEUE,
			     .value = 5,
			     .mark = 4,
			     .since_us = 3},
			 out;
	int64_t now = 1000 * USEC_PER_SEC;

	(void)state;
	assert_non_null(z);
	assert_int_equal(zone_load_level(z, now), 0);
	in.values[LOAD_PSI_IO] = LOAD_MISSING;
	zone_load_set(z, &in, now);
	zone_load_get(z, &out);
	assert_int_equal(out.level, 2);
	assert_int_equal(out.own, 1);
	assert_int_equal(out.signal, LOAD_QUEUE);
	assert_int_equal(out.value, 5);
	assert_int_equal(out.mark, 4);
	assert_int_equal(out.since_us, 3);
	assert_memory_equal(in.values, out.values, sizeof in.values);
	assert_int_equal(zone_load_level(z, now), 2);
	assert_int_equal(zone_load_level(z, now + ZONE_LOAD_LIFE_US - 1), 2);
	/* nobody measures any more */
	assert_int_equal(zone_load_level(z, now + ZONE_LOAD_LIFE_US), 0);

	zone_neighbours_set(z, 2, 3, now);
	assert_int_equal(zone_neighbours_share(z, now), 66666);
	assert_int_equal(zone_neighbours_share(z, now + ZONE_NEIGHBOURS_LIFE_US - 1), 66666);
	assert_int_equal(zone_neighbours_share(z, now + ZONE_NEIGHBOURS_LIFE_US), LOAD_MISSING);
	zone_neighbours_set(z, 0, 0, now);
	assert_int_equal(zone_neighbours_share(z, now), LOAD_MISSING);
	zone_free(&z);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	    T(test_running),
	    T(test_stalled),
	    T(test_files),
	    T(test_postfix),
	    T(test_bound),
	    T(test_tick),
	    T(test_zone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
