/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * notify.h - tells the service manager how we are: systemd's Type=notify, see sd_notify(3).
 *
 * For the master; nothing happens where nobody wants to know ($NOTIFY_SOCKET).
 */
#ifndef WEIR_MILTER_NOTIFY_H
#define WEIR_MILTER_NOTIFY_H

#include <stdint.h>

/* The start, or a reload, is over: status is one line on how we are. */
void notify_ready(const char *status);

void notify_reloading(void);

/* We stop, and may take so long: more than the unit's TimeoutStopSec, if that is less. */
void notify_stopping(int64_t within_ms);

#endif
