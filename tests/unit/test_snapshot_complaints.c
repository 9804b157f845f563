/*
 * test_snapshot_complaints.c - entries in Redis that are ignored: logged once, by one worker, and
 * without letting them forge a line.
 */
#include <stdio.h>
#include <unistd.h>

#include "snapshot_fixture.h"

/* What is written to standard error by a refresh from the generation in force. */
static const char *
said_by_refresh(struct snapshots *s)
{
	static char text[8192];
	const struct ruleset *r = snapshot_get(s);
	FILE *tape = tmpfile();
	int real = dup(STDERR_FILENO);
	bool done;
	ssize_t len;

	assert_non_null(tape);
	assert_true(dup2(fileno(tape), STDERR_FILENO) >= 0);
	done = snapshot_refresh(s, &fake.store, r->generation, 0);
	(void)dup2(real, STDERR_FILENO);
	close(real);
	len = pread(fileno(tape), text, sizeof text - 1, 0);
	fclose(tape);
	snapshot_put(s, r);
	assert_true(done && len >= 0);
	text[len] = '\0';
	return text;
}

static void
test_complaints(void **state)
{
	struct snapshots *s = fresh(true);
	const char *said;

	(void)state;
	redis_holds("1", "connections", "rate=120/1m");
	assert_string_equal(said_by_refresh(s), "");
	redis_holds("2", "connections", "rate=fast");
	said = said_by_refresh(s);
	assert_non_null(strstr(said, "redis: limit connections ignored: rate is"));
	assert_non_null(strstr(said, "generation 2 is in force"));
	assert_int_equal(rate_in_force(s), 120);
	/* as before: nothing new to say of it */
	redis_holds("3", "connections", "rate=faster");
	assert_null(strstr(said_by_refresh(s), "ignored"));
	assert_int_equal(rate_in_force(s), 120);
	/* wrong in another way, then right, then wrong again */
	redis_holds("4", "connections", "burst=0");
	assert_non_null(strstr(said_by_refresh(s), "ignored: burst is"));
	redis_holds("5", "connections", "burst=7");
	assert_null(strstr(said_by_refresh(s), "ignored"));
	redis_holds("6", "connections", "burst=0");
	assert_non_null(strstr(said_by_refresh(s), "ignored: burst is"));
	/* a name that would forge a line */
	redis_holds("7\n", "x\nweir-milter: action=accept", "rate=5/1m");
	said = said_by_refresh(s);
	assert_null(strstr(said, "\nweir-milter: action"));
	assert_non_null(strstr(said, "limit x\\x0aweir"));
	assert_non_null(strstr(said, "generation 7\\x0a is"));
}

static void
test_quiet_worker(void **state)
{
	struct snapshots *s = fresh(false);

	(void)state;
	redis_holds("1", "connections", "rate=fast");
	assert_string_equal(said_by_refresh(s), "");
}

int
main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_complaints),
	    cmocka_unit_test(test_quiet_worker),
	};

	log_open(true, false);
	return cmocka_run_group_tests(tests, NULL, NULL) != 0;
}
