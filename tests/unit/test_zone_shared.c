/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * test_zone_shared.c - what workers share: leases and the breaker, and what becomes of them when
 * processes race or die.
 */
#include <sched.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "zone_fixture.h"

/* --- leases ------------------------------------------------------------------------------ */

struct tally {
	struct zone *z;
	unsigned open, released;
	uint64_t last;
	struct lease lease;
};

static void
tally_one(void *ctx, enum lease_state state, const struct lease *l)
{
	struct tally *t = ctx;

	t->open += state == LEASE_OPEN;
	t->released += state == LEASE_RELEASED;
	t->last = l->id;
	t->lease = *l;
	zone_lease_end(t->z, 1, false); /* no lock is held: calling back is allowed */
}

static struct tally
tally(struct zone *z, unsigned worker)
{
	struct tally t = {.z = z};

	zone_lease_each(z, worker, tally_one, &t);
	return t;
}

static void
test_lease_life(void **state)
{
	struct fixture *f = *state;
	struct limit l = sessions("sessions", 10, ACTION_REFUSE),
		     b = bucket("b", 1, 1, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &b);
	uint64_t id, next;
	struct tally t;

	assert_int_equal(zone_lease_take(f->z, 1, &q), 0); /* no sessions hits */
	add_hit(&q, 0, &l, 1);
	add_hit(&q, add_record(&q, PER_NETWORK, "{192.0.2.0/24}:192.0.2.0/24"), &l, 1);
	id = zone_lease_take(f->z, 1, &q);
	assert_true(id != 0);
	assert_int_equal(zone_sessions(f->z), 1);
	assert_int_equal(tally(f->z, 0).open, 0);
	t = tally(f->z, 1);
	assert_int_equal(t.open, 1);
	assert_true(t.last == id);
	assert_int_equal(t.lease.nrecords, 2);
	assert_int_equal(t.lease.records[1].kind, PER_NETWORK);
	assert_string_equal(t.lease.records[1].key, "{192.0.2.0/24}:192.0.2.0/24");

	zone_lease_forget(f->z, id); /* only what has ended can be forgotten */
	assert_int_equal(zone_sessions(f->z), 1);
	zone_lease_end(f->z, id, true);
	zone_lease_end(f->z, id, true);
	assert_int_equal(zone_sessions(f->z), 0);
	t = tally(f->z, 1);
	assert_int_equal(t.open, 0);
	assert_int_equal(t.released, 1);
	zone_lease_forget(f->z, id);
	assert_int_equal(tally(f->z, 1).released, 0);

	next = zone_lease_take(f->z, 1, &q); /* the same slot, and not the same id */
	assert_true(next != id && next != 0);
	zone_lease_end(f->z, id, false);
	zone_lease_forget(f->z, id);
	zone_lease_count(f->z, id);
	assert_int_equal(zone_sessions(f->z), 1);
	zone_lease_end(f->z, next, false);
	assert_int_equal(tally(f->z, 1).open, 0);
	for (uint64_t wild = 0; wild < 64; wild++)
		zone_lease_end(f->z, UINT64_MAX - wild, true);
}

/* Slots lie side by side: one that is taken again must leave the next as it is. */
static void
test_lease_neighbours(void **state)
{
	static const enum limit_per kinds[] = {PER_ADDRESS, PER_NETWORK, PER_ALL};
	struct fixture *f = *state;
	struct limit l = sessions("sessions", 10, ACTION_REFUSE);
	struct request q = {.generation = "7"};
	uint64_t ids[3];

	for (unsigned i = 0; i < 3; i++) {
		unsigned r = add_record(&q, kinds[i], "{n}");

		/* a request on a stack is not zero behind its texts */
		memset(q.records[r].key + 4, 0x5a, sizeof(q.records[r].key) - 4);
		add_hit(&q, r, &l, 1);
	}
	for (unsigned i = 0; i < 3; i++)
		ids[i] = put(f, &q, T0).lease;
	zone_lease_end(f->z, ids[0], false);
	ids[0] = put(f, &q, T0).lease;
	zone_lease_end(f->z, ids[1], false);
	assert_int_equal(zone_sessions(f->z), 2);
	assert_int_equal(tally(f->z, 0).open, 2);
	zone_lease_end(f->z, ids[2], false);
	zone_lease_end(f->z, ids[0], false);
	assert_int_equal(zone_sessions(f->z), 0);
	assert_int_equal(put(f, &q, T0).hits[2].used, MICRO);
}

static void
test_lease_count(void **state)
{
	struct fixture *f = *state;
	struct limit l = sessions("sessions", 2, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	uint64_t a = zone_lease_take(f->z, 0, &q), b = zone_lease_take(f->z, 0, &q);

	/* Taken alone, they do not count in the zone; the chain has Redis count them. */
	assert_int_equal(live_entries(f->z), 0);
	zone_lease_count(f->z, a);
	zone_lease_count(f->z, a);
	zone_lease_count(f->z, b);
	assert_int_equal(put(f, &q, T0).hits[0].used, 3 * MICRO);
	zone_lease_end(f->z, a, true);
	assert_int_equal(put(f, &q, T0).hits[0].used, 2 * MICRO);
}

static void
test_worker_died(void **state)
{
	struct fixture *f = *state;
	struct store *s1 = zone_store_open(f->z, 1);
	struct limit l = sessions("sessions", 1000, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	struct answer a;
	uint64_t kept;

	kept = put(f, &q, T0).lease;
	for (int i = 0; i < 100; i++)
		assert_int_equal(store_ask(s1, &q, T0, &a), STORE_OK);
	zone_lease_end(f->z, a.lease, true);
	assert_int_equal(zone_sessions(f->z), 100);
	zone_worker_died(f->z, 1, true);
	assert_int_equal(zone_sessions(f->z), 1);
	assert_int_equal(tally(f->z, 1).released, 100);
	zone_worker_died(f->z, 1, true);
	assert_int_equal(tally(f->z, 1).released, 100);
	zone_worker_died(f->z, 1, false);
	assert_int_equal(tally(f->z, 1).released, 0);
	assert_int_equal(put(f, &q, T0).hits[0].used, 2 * MICRO);
	store_release(f->s, kept);
	assert_int_equal(tally(f->z, 0).open, 1);
	store_close(&s1);
}

static void
test_lease_table_full(void **state)
{
	struct fixture *f = *state;
	struct limit l = sessions("sessions", INT32_MAX, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	uint64_t middle = 0, again;
	struct answer a;

	for (unsigned i = 0; i < ZONE_LEASES; i++) {
		a = put(f, &q, T0);
		assert_true(a.lease != 0);
		if (i == 5000)
			middle = a.lease;
	}
	a = put(f, &q, T0);
	assert_true(a.charged); /* served, and not counted */
	assert_int_equal(a.lease, 0);
	assert_int_equal(put(f, &q, T0).hits[0].used, (ZONE_LEASES + 1) * MICRO);
	assert_int_equal(zone_sessions(f->z), ZONE_LEASES);
	assert_int_equal(tally(f->z, 0).open, ZONE_LEASES);
	store_release(f->s, middle);
	again = put(f, &q, T0).lease;
	assert_true(again != 0 && again != middle);
	zone_worker_died(f->z, 0, false);
	assert_int_equal(live_entries(f->z), 0);
	assert_int_equal(zone_sessions(f->z), 0);
}

/* --- breaker ----------------------------------------------------------------------------- */

static void
test_breaker(void **state)
{
	struct fixture *f = *state;

	assert_false(zone_breaker_open(f->z));
	assert_int_equal(zone_breaker_since(f->z), 0);
	assert_false(zone_breaker_ok(f->z));
	for (int i = 1; i < BREAKER_FAILURES; i++)
		assert_false(zone_breaker_failed(f->z, T0));
	assert_false(zone_breaker_ok(f->z)); /* in a row, so this starts again */
	for (int i = 1; i < BREAKER_FAILURES; i++)
		assert_false(zone_breaker_failed(f->z, T0 + 1));
	assert_false(zone_breaker_open(f->z));
	assert_int_equal(zone_breaker_since(f->z), 0);
	assert_true(zone_breaker_failed(f->z, T0 + 2));
	assert_true(zone_breaker_open(f->z));
	assert_false(zone_breaker_failed(f->z, T0 + 3));
	assert_int_equal(zone_breaker_since(f->z), T0 + 2);
	assert_true(zone_breaker_ok(f->z));
	assert_false(zone_breaker_ok(f->z));
	assert_false(zone_breaker_open(f->z));
}

/* --- races and deaths -------------------------------------------------------------------- */

#define PROCESSES 4
#define THREADS 4
#define ROUNDS 500

struct board {
	_Atomic unsigned admitted, leases, opened, ready, stop;
};

struct runner {
	struct zone *z;
	struct board *board;
	unsigned worker;
};

static struct board *
board_new(void)
{
	struct board *b =
	    mmap(NULL, sizeof(*b), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	assert_true(b != MAP_FAILED);
	return b;
}

static void *
run_limit(void *arg)
{
	struct runner *r = arg;
	struct store *s = zone_store_open(r->z, r->worker);
	struct limit l = bucket("connections", 60, 50, ACTION_REFUSE);
	struct limit net = bucket("network", 60, 60, ACTION_REFUSE);
	struct limit open = sessions("sessions", 70, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	struct answer a;

	add_hit(&q, add_record(&q, PER_NETWORK, "{192.0.2.0/24}:192.0.2.0/24"), &net, 1);
	add_hit(&q, 0, &open, 1);
	atomic_fetch_add(&r->board->ready, 1);
	while (atomic_load(&r->board->ready) < PROCESSES * THREADS)
		sched_yield();
	for (int i = 0; i < ROUNDS; i++) {
		store_ask(s, &q, T0, &a);
		atomic_fetch_add(&r->board->admitted, a.charged);
		atomic_fetch_add(&r->board->leases, a.lease != 0);
		if (a.charged)
			store_release(s, a.lease);
		atomic_fetch_add(&r->board->opened, zone_breaker_failed(r->z, T0));
	}
	store_close(&s);
	return NULL;
}

static void
run_threads(struct runner *r, void *(*body)(void *))
{
	pthread_t t[THREADS];

	for (int i = 0; i < THREADS; i++)
		if (pthread_create(&t[i], NULL, body, r) != 0)
			_exit(1);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
}

static void
test_exactly_the_burst_gets_in(void **state)
{
	struct zone *z = zone_new(ZONE_SIZE_MIN, PROCESSES);
	struct board *b = board_new();
	int status;

	(void)state;
	assert_non_null(z);
	for (unsigned i = 0; i < PROCESSES; i++) {
		if (fork() == 0) {
			run_threads(&(struct runner){.z = z, .board = b, .worker = i}, run_limit);
			_exit(0);
		}
	}
	for (int i = 0; i < PROCESSES; i++) {
		assert_true(wait(&status) > 0);
		assert_int_equal(status, 0);
	}
	assert_int_equal(b->admitted, 50);
	assert_int_equal(b->leases, 50);
	assert_int_equal(b->opened, 1);
	assert_int_equal(zone_sessions(z), 0);
	assert_int_equal(live_entries(z), 2);
	munmap(b, sizeof(*b));
	zone_free(&z);
}

static void
wait_for(pid_t pid)
{
	int status;

	assert_int_equal(waitpid(pid, &status, 0), pid);
}

static void
test_death_with_locks_held(void **state)
{
	struct fixture *f = *state;
	struct limit l = sessions("sessions", 10, ACTION_REFUSE);
	struct request q = simple("{192.0.2.0/24}:192.0.2.7", &l);
	uint64_t first = put(f, &q, T0).lease;
	uint64_t key = zone_key(f->z, ENTRY_SESSIONS, PER_ADDRESS, q.records[0].key, "");
	uint64_t held = UINT32_MAX | zone_shard(f->z, key); /* TSan cannot bear all 64 */
	pid_t pid = fork();

	if (pid == 0) {
		struct lease_table *t = &zone_leases(f->z)[0];

		zone_lock(f->z, held);
		pthread_mutex_lock(&f->z->worker[0].lock);
		/* Killed while it took slot 1: the bit is set, the rest is not done yet. */
		t->used[0] |= 2;
		f->z->worker[0].open++;
		raise(SIGKILL);
	}
	wait_for(pid);
	alarm(20); /* hanging is failing */
	assert_int_equal(put(f, &q, T0).hits[0].used, 2 * MICRO);
	assert_int_equal(zone_sessions(f->z), 2);
	store_release(f->s, first);
	assert_int_equal(tally(f->z, 0).open, 1);
	zone_lock(f->z, held);
	zone_unlock(f->z, held);
	zone_worker_died(f->z, 0, false);
	assert_int_equal(zone_sessions(f->z), 0);
	assert_int_equal(live_entries(f->z), 0);
	alarm(0);
}

/* Sessions of a few clients come and go for ever. */
static void *
run_churn(void *arg)
{
	struct runner *r = arg;
	struct store *s = zone_store_open(r->z, r->worker);
	struct limit l = bucket("connections", 1000000, 1000000, ACTION_REFUSE);
	struct limit open = sessions("sessions", 1000000, ACTION_REFUSE);
	struct request q = simple("", &l);
	struct answer a;

	add_hit(&q, 0, &open, 1);
	for (unsigned i = 0; !atomic_load(&r->board->stop); i++) {
		snprintf(q.records[0].key, sizeof(q.records[0].key), "{10.0.0.0/8}:%u", i % 7);
		store_ask(s, &q, T0, &a);
		store_release(s, a.lease);
		atomic_store_explicit(&r->board->ready, 1, memory_order_relaxed);
	}
	store_close(&s);
	return NULL;
}

static pid_t
start_churn(struct zone *z, struct board *b, unsigned worker)
{
	pid_t pid = fork();

	if (pid == 0) {
		run_threads(&(struct runner){.z = z, .board = b, .worker = worker}, run_churn);
		_exit(0);
	}
	return pid;
}

static void
test_killed_at_random(void **state)
{
	struct fixture *f = *state;
	struct board *b = board_new();
	pid_t lasting = start_churn(f->z, b, 0);

	alarm(60);
	for (int i = 0; i < 200; i++) {
		pid_t pid;

		atomic_store(&b->ready, 0);
		pid = start_churn(f->z, b, 1);
		while (!atomic_load(&b->ready))
			sched_yield();
		for (int spin = 0; spin < i % 20; spin++) /* so that it dies here and there */
			sched_yield();
		kill(pid, SIGKILL);
		wait_for(pid);
		zone_worker_died(f->z, 1, false);
		assert_int_equal(tally(f->z, 1).open, 0);
		assert_int_equal(tally(f->z, 1).released, 0);
	}
	atomic_store(&b->stop, 1);
	wait_for(lasting);
	alarm(0);
	assert_int_equal(zone_sessions(f->z), 0);
	/* No client stays counted: what is left are the buckets. */
	for (uint64_t i = 0; i < f->z->nsets; i++)
		for (unsigned j = 0; j < ZONE_WAYS; j++)
			assert_true(zone_sets(f->z)[i].way[j].key == 0 ||
			    zone_sets(f->z)[i].way[j].kind != ENTRY_SESSIONS);
	munmap(b, sizeof(*b));
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    ZONE_TEST(test_lease_life),
	    ZONE_TEST(test_lease_neighbours),
	    ZONE_TEST(test_lease_count),
	    ZONE_TEST(test_worker_died),
	    ZONE_TEST(test_lease_table_full),
	    ZONE_TEST(test_breaker),
	    cmocka_unit_test(test_exactly_the_burst_gets_in),
	    ZONE_TEST(test_death_with_locks_held),
	    ZONE_TEST(test_killed_at_random),
	};

	return cmocka_run_group_tests_name("zone_shared", tests, NULL, NULL);
}
