/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * clock.h - the clocks in microseconds, and waiting by them.
 */
#ifndef WEIR_STORE_CLOCK_H
#define WEIR_STORE_CLOCK_H

#include <pthread.h>
#include <stdint.h>
#include <time.h>

#include "weir/units.h"

static inline int64_t
clock_mono_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

static inline int64_t
clock_real_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_REALTIME, &ts);
	return ts.tv_sec * USEC_PER_SEC + ts.tv_nsec / 1000;
}

static inline struct timespec
clock_timespec(int64_t us)
{
	return (struct timespec){us / USEC_PER_SEC, us % USEC_PER_SEC * 1000};
}

/* Milliseconds from now for poll(2), rounded up, never negative. */
static inline int
clock_poll_ms(int64_t deadline_us)
{
	int64_t left = deadline_us - clock_mono_us();

	if (left <= 0)
		return 0;
	return left > 60 * USEC_PER_SEC ? 60000 : (int)((left + 999) / 1000);
}

/* A condition whose timed waits go by CLOCK_MONOTONIC. */
static inline void
clock_cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

#endif
