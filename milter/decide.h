/*
 * decide.h - the whole road for an engine that may block: plan, ask, judge, log.
 *
 * Each call returns within the Redis timeout, plus what the scheduler adds. Thread-safe for
 * different sessions.
 */
#ifndef WEIR_MILTER_DECIDE_H
#define WEIR_MILTER_DECIDE_H

#include "session.h"
#include "worker.h"

/* What the MTA should report of the session that is about to begin. */
struct plan_steps decide_steps(struct worker *w);

/* Before decide_connect(): which of the MTA's daemons it came to, "" = not said. */
void decide_daemon(struct worker *w, struct session *s, const char *name, const char *port);

/* Arguments as of session.h. */
enum next decide_connect(struct worker *w, struct session *s, const struct addr *client,
    const char *name, bool confirmed);
enum next decide_mail(
    struct worker *w, struct session *s, const char *sender, const char *user, int64_t bytes);
enum next decide_rcpt(struct worker *w, struct session *s, const char *recipient, bool rejected,
    const char *queue_id);
enum next decide_eom(struct worker *w, struct session *s);

/* The session is over, however it ended. */
void decide_close(struct worker *w, struct session *s);

#endif
