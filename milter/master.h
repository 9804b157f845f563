/*
 * master.h - the master process: starts the workers, restarts those that die, stops them all.
 */
#ifndef WEIR_MILTER_MASTER_H
#define WEIR_MILTER_MASTER_H

#include "conf.h"

/* Every signal that the master waits for is blocked by this; call it before any thread. */
void master_block_signals(void);

/* Runs until SIGTERM or SIGINT, then returns the process' exit status with no worker left. */
int master_run(const struct conf *conf, int listen_fd);

#endif
