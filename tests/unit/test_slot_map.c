/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_slot_map.c - the slot of a key, and maps and redirections of a Redis Cluster, as they are and
 * as nobody should send them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "slot_map.h"

#define ID "ce17ef290bc1742b72530f4ac42b646d020cee0b"
#define HEAD(address, flags) ID " " address " " flags " - 0 0 1 connected"

static struct slot_map m;

/* As CLUSTER KEYSLOT of Redis 7.0.15 says. */
static void
slots(void **state)
{
	static const struct {
		const char *key;
		unsigned slot;
	} cases[] = {{"123456789", 0x31c3}, {"foo", 12182}, {"{foo}bar", 12182},
	    {"a{foo}{b}", 12182}, {"foo{}{bar}", 8363}, {"{user1000}.following", 3443},
	    {"user1000", 3443}};

	(void)state;
	for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
		if (slot_of(cases[i].key, strlen(cases[i].key)) != cases[i].slot)
			fail_msg(
			    "%s: %u", cases[i].key, slot_of(cases[i].key, strlen(cases[i].key)));
	/* an empty tag, and one that does not end, are none */
	assert_int_not_equal(slot_of("{}a", 3), slot_of("{}b", 3));
	assert_int_not_equal(slot_of("{a", 2), slot_of("a", 1));
}

static bool
reads(const char *text)
{
	return slot_map_read(&m, text, strlen(text), "192.0.2.9");
}

static void
map(void **state)
{
	(void)state;
	assert_true(
	    reads(HEAD("192.0.2.1:7001@17001,host", "master") " 0-5460 5462\n" HEAD(":7002@17002",
		"myself,master") " 5461 5463-16383 [93->-" ID "]\n" HEAD("2001:db8::1:7003@17003",
		"master,fail") " 10\n" HEAD("192.0.2.4:7004@17004", "slave") "\n" HEAD(":0@0",
		"master,noaddr") " 11\n" HEAD("192.0.2.5:7005@17005", "master") "\n"));
	assert_int_equal(m.n, 3);
	assert_int_equal(m.served, SLOTS);
	assert_string_equal(m.nodes[0].host, "192.0.2.1");
	assert_int_equal(m.nodes[0].port, 7001);
	assert_string_equal(m.nodes[1].host, "192.0.2.9"); /* it did not know its own */
	assert_string_equal(m.nodes[2].host, "2001:db8::1");
	assert_int_equal(m.node[0], 0);
	assert_int_equal(m.node[10], 2); /* two claim it: the later one */
	assert_int_equal(m.node[11], 0);
	assert_int_equal(m.node[5461], 1);
	assert_int_equal(m.node[5462], 0);
	/* a part that nobody serves */
	assert_true(reads(HEAD("192.0.2.1:7001@17001", "master") " 7"));
	assert_int_equal(m.served, 1);
	assert_int_equal(m.node[8], NODE_NONE);
}

static void
hostile(void **state)
{
	static const char *const texts[] = {"", "\n\n", "OK", "a b c d", HEAD("h:1@2", "master"),
	    HEAD("h:1@2", "master") " 0-16384", HEAD("h:1@2", "master") " 5-4",
	    HEAD("h:1@2", "master") " -5", HEAD("h:1@2", "master") " 1-",
	    HEAD("h:1@2", "master") " 99999999999999999999", HEAD("h:1@2", "master") " x",
	    HEAD("h:0@2", "master") " 1", HEAD("h:65536@2", "master") " 1",
	    HEAD("h@2", "master") " 1", HEAD("h/../x:1@2", "master") " 1",
	    HEAD("\x01:1@2", "master") " 1", HEAD("h:1@2", "mastery,slave") " 1"};
	char *giant;
	size_t len = 0;

	(void)state;
	for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
		if (reads(texts[i]))
			fail_msg("%s was taken", texts[i]);
	/* more nodes than there is room for, and a line of a megabyte */
	giant = malloc(2 << 20);
	for (unsigned i = 0; i <= NODES_MAX; i++)
		len += (size_t)sprintf(giant + len, HEAD("h:%u@2", "master") " %u\n", i + 1, i);
	assert_false(reads(giant));
	memset(giant, 'x', 1 << 20);
	giant[1 << 20] = '\0';
	assert_false(reads(giant));
	len = (size_t)sprintf(giant, HEAD("%s", "master") " 1", "");
	memset(giant, 'h', 300);
	assert_false(reads(giant));
	free(giant);
}

static void
redirections(void **state)
{
	static const char *const bad[] = {"", "5", "5 ", "16384 h:1", "x h:1", "5 h", "5 h:0",
	    "5 h:65536", "5 h:1 2", "5 h\n:1", "5 %s%n;:1", "-1 h:1", "5 :", " 5 h:1"};
	struct redis_place p;
	unsigned slot;

	(void)state;
	assert_true(slot_map_redirect("3999 192.0.2.1:6381", "asked", &slot, &p));
	assert_int_equal(slot, 3999);
	assert_string_equal(p.host, "192.0.2.1");
	assert_int_equal(p.port, 6381);
	assert_true(slot_map_redirect("0 :6381", "asked", &slot, &p));
	assert_string_equal(p.host, "asked");
	assert_true(slot_map_redirect("0 ?:6381", "asked", &slot, &p));
	assert_string_equal(p.host, "asked");
	assert_true(slot_map_redirect("16383 2001:db8::1:6381", "asked", &slot, &p));
	assert_string_equal(p.host, "2001:db8::1");
	for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
		if (slot_map_redirect(bad[i], "asked", &slot, &p))
			fail_msg("\"%s\" was taken", bad[i]);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(slots),
	    cmocka_unit_test(map),
	    cmocka_unit_test(hostile),
	    cmocka_unit_test(redirections),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
