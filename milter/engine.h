/*
 * engine.h - moves bytes between the MTA and the session. Nothing else knows which engine runs.
 */
#ifndef WEIR_MILTER_ENGINE_H
#define WEIR_MILTER_ENGINE_H

#include "worker.h"

/*
 * Serves the sessions that arrive on the listening socket; calls worker_ready() first. It need
 * not return: the process ends around it. False: it could not even start; why has been logged.
 */
bool engine_run(struct worker *w, int listen_fd);

#endif
