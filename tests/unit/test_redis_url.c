/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_redis_url.c - where Redis is, as people write it, and as they mistype it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "weir/redis.h"
#include "weir/units.h"

static void
good(void **state)
{
	static const struct {
		const char *url, *host;
		int port, db;
		const char *user, *password;
	} cases[] = {
	    {"redis://localhost", "localhost", 6379, 0, "", ""},
	    {"redis://localhost/", "localhost", 6379, 0, "", ""},
	    {"redis://192.0.2.1:7000/5", "192.0.2.1", 7000, 5, "", ""},
	    {"redis://[2001:db8::1]", "2001:db8::1", 6379, 0, "", ""},
	    {"redis://[2001:db8::1]:7000/1", "2001:db8::1", 7000, 1, "", ""},
	    {"redis://[fe80::1%eth0]:7000", "fe80::1%eth0", 7000, 0, "", ""},
	    {"redis://:pw@db.example.net", "db.example.net", 6379, 0, "", "pw"},
	    {"redis://weir:p%40%3a%2Fw@h:1/2", "h", 1, 2, "weir", "p@:/w"},
	    {"redis://weir:a@b:c@h", "h", 6379, 0, "weir", "a@b:c"},
	    {"redis://weir:a/b@h/3", "h", 6379, 3, "weir", "a/b"},
	    {"unix:/run/redis/redis.sock", "/run/redis/redis.sock", 0, 0, "", ""},
	    {"unix:///run/redis.sock?db=12", "/run/redis.sock", 0, 12, "", ""},
	};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
		struct redis_options o;
		char err[128] = "";

		redis_options_defaults(&o);
		if (!redis_options_url(&o, cases[i].url, err, sizeof err))
			fail_msg("%s: %s", cases[i].url, err);
		assert_string_equal(o.host, cases[i].host);
		assert_int_equal(o.port, cases[i].port);
		assert_int_equal(o.db, cases[i].db);
		assert_string_equal(o.user, cases[i].user);
		assert_string_equal(o.password, cases[i].password);
	}
}

static void
bad(void **state)
{
	static const char *const urls[] = {"", "localhost", "redis:", "redis://", "redis:///1",
	    "redis://:6379", "redis://h:", "redis://h:0", "redis://h:65536", "redis://h:1x",
	    "redis://h:-1", "redis://h/x", "redis://h/1/2", "redis://h/-1", "redis://h/99999",
	    "redis://h h", "redis://h\n", "redis://2001:db8::1", "redis://[2001:db8::1",
	    "redis://[]", "redis://[::1]x", "redis://S3CRET@h", "redis://u:@h",
	    "redis://u:S3CRET%4@h", "redis://u:S3CRET%00@h", "redis://u:S3CRET@", "http://h",
	    "redis://u:S3CRET@h:port", "rediss://u:S3CRET@h:x", "redis-cluster://u:S3CRET@h,",
	    "redis-cluster://h/1", "redis-sentinel://u:S3CRET@h", "redis-sentinel://h/",
	    "unix:", "unix:redis.sock", "unix:/s?", "unix:/s?db=", "unix:/s?db=x",
	    "unix:/s?password=S3CRET", NULL};

	(void)state;
	for (size_t i = 0; urls[i] != NULL; i++) {
		struct redis_options o, before;
		char err[128] = "";

		redis_options_defaults(&o);
		before = o;
		if (redis_options_url(&o, urls[i], err, sizeof err))
			fail_msg("%s was taken", urls[i]);
		assert_memory_equal(&o, &before, sizeof o);
		assert_true(err[0] != '\0');
		assert_null(strstr(err, "S3CRET"));
	}
}

static void
too_long(void **state)
{
	struct redis_options o;
	char url[1024], err[128], part[600];

	(void)state;
	redis_options_defaults(&o);
	memset(part, 'a', sizeof part);
	for (int len = 100; len < 600; len += 1) {
		snprintf(url, sizeof url, "redis://%.*s", len, part);
		assert_int_equal(redis_options_url(&o, url, err, sizeof err), len <= 255);
		snprintf(url, sizeof url, "redis://u:%.*s@h", len, part);
		assert_int_equal(redis_options_url(&o, url, err, sizeof err), len <= 255);
		snprintf(url, sizeof url, "unix:/%.*s", len, part);
		assert_int_equal(redis_options_url(&o, url, err, sizeof err), len <= 106);
	}
}

static void
defaults(void **state)
{
	struct redis_options o;
	char err[128];

	(void)state;
	redis_options_defaults(&o);
	assert_string_equal(o.prefix, "weir");
	assert_int_equal(o.timeout_us, 50 * USEC_PER_MSEC);
	assert_string_equal(o.host, "127.0.0.1");
	assert_int_equal(o.port, 6379);
	/* what the URL does not say stays as it was */
	strcpy(o.password, "from-a-file");
	assert_true(redis_options_url(&o, "redis://h:1", err, sizeof err));
	assert_string_equal(o.password, "from-a-file");
}

static void
several(void **state)
{
	struct redis_options o;
	char err[128], text[REDIS_TEXT_MAX];

	(void)state;
	redis_options_defaults(&o);
	assert_true(
	    redis_options_url(&o, "redis-cluster://u:p@a,[2001:db8::1]:7001", err, sizeof err));
	assert_int_equal(o.kind, REDIS_CLUSTER);
	assert_int_equal(o.nplaces, 2);
	assert_string_equal(o.places[0].host, "a");
	assert_int_equal(o.places[0].port, 6379);
	assert_string_equal(o.places[1].host, "2001:db8::1");
	assert_int_equal(o.places[1].port, 7001);
	assert_string_equal(o.password, "p");
	assert_false(o.tls.on);
	assert_string_equal(redis_options_text(&o, text), "cluster a:6379");
	assert_true(redis_options_url(&o, "rediss-sentinel://a,b:1/mail/3", err, sizeof err));
	assert_int_equal(o.kind, REDIS_SENTINEL);
	assert_int_equal(o.places[0].port, 26379);
	assert_string_equal(o.master, "mail");
	assert_int_equal(o.db, 3);
	assert_true(o.tls.on);
	assert_string_equal(redis_options_text(&o, text), "mail");
	assert_true(redis_options_url(&o, "unix:/s", err, sizeof err));
	assert_int_equal(o.kind, REDIS_ALONE);
	assert_false(o.tls.on);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(good),
	    cmocka_unit_test(bad),
	    cmocka_unit_test(several),
	    cmocka_unit_test(too_long),
	    cmocka_unit_test(defaults),
	};

	return cmocka_run_group_tests_name("redis_url", tests, NULL, NULL);
}
