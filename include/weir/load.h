/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * load.h - how busy the host is, as one level: 0 normal, 1 strangers are refused at connect, 2 all
 * but the exempt are.
 *
 * Each signal has marks: at `high` it asks for the level at once, and it lets go when it has been
 * at `low` or below for LOAD_HOLD_US. The level is the highest that any signal asks for.
 *
 * Who refuses strangers sees his load fall, lets them in again, and is flooded again: a level that
 * comes back soon after it went lasts twice as long each time, up to LOAD_HOLD_MAX_US, for as
 * long as many are refused. When the flood ends that ends at once.
 *
 * Pure: the values and the time come from the caller. All values are in thousandths of what
 * people read: sessions, processes a core, percent, milliseconds, messages.
 */
#ifndef WEIR_LOAD_H
#define WEIR_LOAD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "weir/reply.h"
#include "weir/units.h"

enum load_signal {
	LOAD_SESSIONS, /* open */
	LOAD_RUN_QUEUE, /* processes that run or could, a core */
	LOAD_PSI_CPU, /* percent of the time in which something waited for it */
	LOAD_PSI_MEMORY,
	LOAD_PSI_IO,
	LOAD_REDIS_LATENCY, /* ms, the 95th of 100 */
	LOAD_QUEUE, /* messages in the MTA's queue */
	LOAD_NEIGHBOURS, /* percent of all weir-milters on this Redis that ask for a level themselves */
	LOAD_SIGNALS
};

/* As in weir.conf(5) and in the log. */
const char *load_signal_name(enum load_signal s);

#define LOAD_LEVEL_MAX 2
#define LOAD_MISSING (-1)

/* high 0: none. Else low < high. */
struct load_mark {
	int64_t high, low;
};

#define LOAD_SPARE_MAX 16
#define LOAD_DAEMON_MAX 63
/* "100%", "1.234": the number of people, with its unit. */
#define LOAD_VALUE_MAX 24

struct load_rules {
	struct load_mark marks[LOAD_SIGNALS][LOAD_LEVEL_MAX];
	unsigned nspare;
	char spare[LOAD_SPARE_MAX][LOAD_DAEMON_MAX + 1]; /* daemons' names or ports */
	struct reply reply; /* a 421 */
};

/* No signal, the ports of submission spared. */
void load_rules_defaults(struct load_rules *r);

/* "HIGH LOW", or "HIGH LOW, HIGH LOW" for levels 1 and 2, in the signal's unit; of LOAD_NEIGHBOURS
 * "majority" or "ignore". On false nothing is changed and err is one sentence. */
bool load_set(struct load_rules *r, enum load_signal s, const char *text, char *err, size_t errlen);

/* One more daemon that level 1 does not touch. */
bool load_spare(struct load_rules *r, const char *daemon, char *err, size_t errlen);
/* name and port as the MTA says them, "" = it does not. */
bool load_spares(const struct load_rules *r, const char *name, const char *port);

/* True when the level can ever be another than 0. */
bool load_wanted(const struct load_rules *r);
bool load_wants(const struct load_rules *r, enum load_signal s);

/* The value as people read it: "412", "52.3%", "1.25ms". */
char *load_format(enum load_signal s, int64_t value, char out[LOAD_VALUE_MAX]);

/* --- the level --------------------------------------------------------------------------------- */

/* A signal lets go after so long at its low mark; a level that neighbours ask for ends at once. */
#define LOAD_HOLD_US (5 * USEC_PER_SEC)
#define LOAD_HOLD_MAX_US (60 * USEC_PER_SEC)
/* A level that comes back within this time has come back too soon. */
#define LOAD_RELAPSE_US (10 * USEC_PER_SEC)

struct load_ask { /* one signal's, for one level */
	bool on;
	bool calm; /* at or below low, since: */
	int64_t calm_us;
};

struct load {
	unsigned level;
	unsigned own; /* without the neighbours' word: what they are told */
	/* What keeps the level, or at level 0 what let go last: */
	enum load_signal signal;
	int64_t value, mark;
	int64_t since_us; /* of the level */

	/* load.c's own */
	bool begun;
	int64_t now_us;
	struct load_ask ask[LOAD_SIGNALS][LOAD_LEVEL_MAX];
	bool up; /* own is above 0, since up_us; else since down_us it is not (0: never was) */
	int64_t up_us, down_us, hold_us;
	int64_t refused; /* of the last update */
	double refusing, refusing_most; /* a second */
};

/*
 * What the host measures at now_us. values: LOAD_MISSING where a signal is not there, which never
 * asks for anything. refused: clients that the level has cost so far. now_us may go back.
 * True when the level has changed.
 */
bool load_update(struct load *l, const struct load_rules *r, const int64_t values[LOAD_SIGNALS],
    int64_t refused, int64_t now_us);

/* Goes on from a level that stood before, as after a reload: no time of low load has passed. */
void load_resume(struct load *l, unsigned level, enum load_signal signal, int64_t now_us);

#endif
