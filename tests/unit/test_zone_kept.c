/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_zone_kept.c - a zone outlives its programs: mapped again behind its descriptor, or refused
 * if another weir made it; and the workers that come, drain, and go.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include "zone_fixture.h"

/* Counters, leases and statistics are those of before, at whatever address. */
static void
test_mapped_again(void **state)
{
	struct limit l = bucket("connections", 60, 30, ACTION_REFUSE);
	struct limit open = sessions("sessions", 10, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	int fd = zone_create(2 * ZONE_SIZE_MIN, 3);
	struct zone *first = zone_attach(fd), *second;
	struct store *s = zone_store_open(first, 2);
	struct answer a;
	uint64_t lease;

	(void)state;
	assert_true(fcntl(fd, F_GETFD) == FD_CLOEXEC);
	add_hit(&q, 0, &open, 1);
	assert_int_equal(store_ask(s, &q, T0, &a), STORE_OK);
	lease = a.lease;
	zone_stat_add(first, ZONE_DECISIONS, 7);
	zone_worker_session(first, 2, 1);
	zone_drain_set(first, ZONE_DRAIN_SIGNAL, T0);
	second = zone_attach(fd); /* while the first is mapped: at another address */
	assert_non_null(second);
	assert_ptr_not_equal(first, second);
	store_close(&s);
	zone_free(&first);
	s = zone_store_open(second, 0);
	assert_int_equal(zone_size(second), 2 * ZONE_SIZE_MIN);
	assert_int_equal(zone_sessions(second), 1);
	assert_int_equal(zone_stat(second, ZONE_DECISIONS), 7);
	assert_true(zone_drain_until(second) == T0);
	assert_int_equal(store_ask(s, &q, T0, &a), STORE_OK);
	assert_int_equal(a.hits[0].used, 2 * MICRO);
	assert_int_equal(a.hits[1].used, 2 * MICRO);
	store_release(s, lease); /* of a worker before, in another mapping */
	assert_int_equal(zone_sessions(second), 1);
	store_close(&s);
	zone_free(&second);
	close(fd);
}

/* One byte of what tells a layout is enough; and nothing is mapped beyond what there is. */
static void
test_of_another_weir(void **state)
{
	static const struct {
		const char *what;
		size_t at;
	} table[] = {
	    {"magic", offsetof(struct zone, magic)},
	    {"layout", offsetof(struct zone, layout)},
	    {"head", offsetof(struct zone, head_size)},
	    {"table", offsetof(struct zone, table_size)},
	    {"set", offsetof(struct zone, set_size)},
	    {"size", offsetof(struct zone, size) + 2},
	    {"mapped", offsetof(struct zone, mapped)},
	    {"sets", offsetof(struct zone, nsets)},
	    {"where sets are", offsetof(struct zone, sets_at)},
	    {"where leases are", offsetof(struct zone, leases_at)},
	    {"workers", offsetof(struct zone, workers)},
	};
	int fd = zone_create(ZONE_SIZE_MIN, 2), short_fd, empty;
	struct zone *z = zone_attach(fd);

	(void)state;
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++) {
		unsigned char *byte = (unsigned char *)z + table[i].at;
		struct zone *other;

		*byte ^= 1;
		errno = 0;
		other = zone_attach(fd);
		if (other != NULL || errno != EINVAL)
			fail_msg("%s", table[i].what);
		*byte ^= 1;
	}
	short_fd = memfd_create("short", 0);
	assert_int_equal(write(short_fd, z, sizeof *z), sizeof *z);
	assert_null(zone_attach(short_fd));
	empty = memfd_create("empty", 0);
	assert_null(zone_attach(empty));
	assert_null(zone_attach(-1));
	assert_true(ftruncate(fd, 4096) != 0); /* nobody can take pages away */
	zone_free(&z);
	z = zone_attach(fd);
	assert_non_null(z);
	zone_free(&z);
	close(fd);
	close(short_fd);
	close(empty);
}

static void
expect_open(struct zone *z, unsigned all, unsigned draining, unsigned theirs)
{
	struct zone_open open;

	zone_open_get(z, &open);
	assert_int_equal(open.sessions, all);
	assert_int_equal(open.draining, draining);
	assert_int_equal(open.draining_sessions, theirs);
}

static void
test_workers(void **state)
{
	struct zone *z = zone_new(ZONE_SIZE_MIN, 4);

	(void)state;
	for (int i = 0; i < 5; i++)
		zone_worker_session(z, 0, 1);
	zone_worker_session(z, 1, 1);
	zone_worker_session(z, 1, 1);
	zone_worker_session(z, 1, -1);
	zone_worker_session(z, 4, 1); /* no such */
	expect_open(z, 6, 0, 0);
	zone_worker_drains(z, 0);
	expect_open(z, 6, 1, 5);
	zone_worker_drains(z, 1);
	zone_worker_session(z, 0, -1);
	expect_open(z, 5, 2, 5);
	zone_worker_died(z, 0, false);
	expect_open(z, 1, 1, 1);
	zone_worker_started(z, 1);
	expect_open(z, 0, 0, 0);
	zone_free(&z);
}

/* What a worker without a successor leaves is somebody's to tell, and once. */
static void
test_orphans(void **state)
{
	struct fixture *f = *state;
	struct limit l = sessions("sessions", 10, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	unsigned who = 99;

	assert_false(zone_orphan_any(f->z) || zone_orphan_take(f->z, &who));
	assert_true(zone_lease_take(f->z, 1, &q) != 0);
	zone_worker_died(f->z, 0, true); /* had none */
	assert_false(zone_orphan_any(f->z));
	zone_worker_died(f->z, 1, true);
	assert_true(zone_orphan_any(f->z));
	assert_true(zone_orphan_take(f->z, &who));
	assert_int_equal(who, 1);
	assert_false(zone_orphan_any(f->z) || zone_orphan_take(f->z, &who));
	zone_orphan_return(f->z, 1);
	assert_true(zone_orphan_any(f->z));
	/* a new one in its place sees to it itself */
	zone_worker_started(f->z, 1);
	assert_false(zone_orphan_any(f->z));
	/* nobody needs to be told where there is no Redis */
	zone_worker_died(f->z, 1, false);
	assert_false(zone_orphan_any(f->z));
}

static void
test_drain(void **state)
{
	struct fixture *f = *state;

	assert_true(zone_drain_until(f->z) == 0);
	zone_drain_set(f->z, ZONE_DRAIN_REDIS, T0);
	assert_true(zone_drain_until(f->z) == T0);
	zone_drain_set(f->z, ZONE_DRAIN_SIGNAL, INT64_MAX);
	assert_true(zone_drain_until(f->z) == INT64_MAX);
	assert_true(zone_drain_get(f->z, ZONE_DRAIN_REDIS) == T0);
	zone_drain_set(f->z, ZONE_DRAIN_REDIS, 0);
	assert_true(zone_drain_until(f->z) == INT64_MAX);
	zone_drain_set(f->z, ZONE_DRAIN_SIGNAL, 0);
	assert_true(zone_drain_until(f->z) == 0);
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_mapped_again),
	    cmocka_unit_test(test_of_another_weir),
	    cmocka_unit_test(test_workers),
	    ZONE_TEST(test_orphans),
	    ZONE_TEST(test_drain),
	};

	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
