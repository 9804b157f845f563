/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * master.h - the master process: starts the workers, restarts those that die, replaces them all on
 * a reload, stops them all.
 */
#ifndef WEIR_MILTER_MASTER_H
#define WEIR_MILTER_MASTER_H

#include "conf.h"
#include "reload.h"

/* Every signal that the master waits for is blocked by this; call it before any thread. */
void master_block_signals(void);

/*
 * Serves on listen_fd until SIGTERM or SIGINT, then returns the process' exit status with no
 * worker left and the socket's file removed. Names the node in conf->rules. launch: how a reload
 * starts the program again.
 */
int master_run(struct conf *conf, int listen_fd, const struct launch *launch);

/*
 * The same after exec, with what a master before this one has left. conf NULL: it cannot be used
 * (that has been logged); then the workers of before go on until a reload mends it.
 */
int master_take_over(struct conf *conf, const struct handover *h, const struct launch *launch);

#endif
