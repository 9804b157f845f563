/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * thread.h - background threads that take no signal from the program around them.
 */
#ifndef WEIR_STORE_THREAD_H
#define WEIR_STORE_THREAD_H

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>

static inline bool
thread_start(pthread_t *t, void *(*fn)(void *), void *arg)
{
	sigset_t all, before;
	bool ok;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	ok = pthread_create(t, NULL, fn, arg) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return ok;
}

#endif
