/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * conn_steps.c - what an MTA says on a connection, step by step, and what is decided and answered.
 */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "conn_private.h"
#include "decide.h"
#include "log.h"
#include "wants.h"
#include "weir/pool.h"

/* Decisions are large, and few are under way at once. */
#define SPARE_MAX 32

/* A decision that waits: for the store, or for new limits. */
struct asking {
	struct decision d;
	struct store_call call;
	struct conn *conn;
	struct asking *next;
	char *recipient;
};

/* --- sessions ----------------------------------------------------------------------------------- */

static void
begin_session(struct conn *c, struct plan_steps steps)
{
	char id[SESSION_ID_MAX];

	worker_session_begin(c->all->worker, id);
	session_init(&c->session, id, steps);
	c->begun = true;
}

void
conn_end_session(struct conn *c)
{
	if (!c->begun)
		return;
	c->begun = false;
	decide_close(c->all->worker, &c->session);
	session_deinit(&c->session);
	worker_session_end(c->all->worker);
}

static enum done
answer(struct conn *c, enum next next)
{
	struct conns *all = c->all;
	char *out = conn_room(c);

	if (next == NEXT_DONE)
		all->outlen += proto_accept(&c->proto, out);
	else if (next == NEXT_REPLY)
		all->outlen += proto_refuse(&c->proto, c->session.reply, out);
	else
		all->outlen += proto_continue(&c->proto, out);
	return c->ended ? HANG_UP : GO_ON;
}

/* --- decisions ------------------------------------------------------------------------------------ */

static struct asking *
asking_get(struct conn *c)
{
	struct conns *all = c->all;
	struct asking *a = all->spare;

	if (a != NULL) {
		all->spare = a->next;
		all->nspare--;
	} else
		a = malloc(sizeof *a);
	if (a == NULL)
		return NULL;
	a->conn = c;
	a->recipient = NULL;
	return a;
}

static void
asking_put(struct conns *all, struct asking *a)
{
	free(a->recipient);
	if (all->nspare == SPARE_MAX) {
		free(a);
		return;
	}
	a->next = all->spare;
	all->spare = a;
	all->nspare++;
}

/* The packet will not stay where it is. */
static enum done
wait_for(struct conn *c, struct asking *a)
{
	if (a->d.recipient[0] == '\0') {
		a->d.recipient = ""; /* an empty one may stand in the packet, too */
	} else if (a->recipient == NULL) {
		a->recipient = strdup(a->d.recipient);
		a->d.recipient = session_text(a->recipient);
	}
	c->asking = a;
	conn_wait(c);
	return WAIT;
}

static void on_answer(struct store_call *call, enum store_status status);

static enum done
decide(struct conn *c, struct asking *a, enum decision_step step)
{
	struct conns *all = c->all;
	enum next next;

	while (step == DECISION_ASK) {
		enum store_status status;

		a->call = (struct store_call){.q = &a->d.q, .out = &a->d.a, .done = on_answer};
		if (!store_submit(all->worker->store, &a->call, &status))
			return wait_for(c, a);
		step = decision_answered(&a->d, status);
	}
	if (step == DECISION_REFRESH) {
		a->next = all->stale;
		all->stale = a;
		refresher_ask(all->refresher, a->d.rules->generation, a->d.q.deadline_us);
		return wait_for(c, a);
	}
	c->asking = NULL;
	next = decision_end(&a->d);
	asking_put(all, a);
	return answer(c, next);
}

static void
go_on(struct asking *a, enum decision_step step)
{
	struct conn *c = a->conn;

	conn_resume(c, decide(c, a, step));
}

static void
on_answer(struct store_call *call, enum store_status status)
{
	struct asking *a = (struct asking *)((char *)call - offsetof(struct asking, call));

	go_on(a, decision_answered(&a->d, status));
}

void
conns_refreshed(struct conns *all)
{
	struct asking *a = all->stale, *next;
	bool fresh;

	if (!refresher_done(all->refresher, &fresh))
		return;
	all->stale = NULL;
	for (; a != NULL; a = next) {
		next = a->next;
		go_on(a, decision_again(&a->d, fresh));
	}
}

/* --- what the MTA says ---------------------------------------------------------------------------- */

static enum done
on_negotiate(struct conn *c, const struct proto_args *args)
{
	struct plan_steps steps = decide_steps(c->all->worker);
	struct proto_wants wants = wants_of(&steps);
	size_t len = proto_negotiate(&c->proto, args, &wants, conn_room(c));

	if (len == 0)
		return HANG_UP;
	c->all->outlen += len;
	begin_session(c, steps);
	return GO_ON;
}

/* Another session on the same connection, as it was negotiated. */
static enum done
on_next(struct conn *c)
{
	struct plan_steps steps = c->session.steps;

	conn_end_session(c);
	macros_clear(&c->macros);
	begin_session(c, steps);
	return GO_ON;
}

static enum done
on_connect(struct conn *c, struct asking *a, const struct proto_args *args)
{
	struct worker *w = c->all->worker;
	const struct macros *m = &c->macros;
	struct session *s = &c->session;

	if (s->steps.daemon)
		decide_daemon(
		    w, s, macros_get(m, MACRO_DAEMON_NAME), macros_get(m, MACRO_DAEMON_PORT));
	return decide(c, a,
	    decision_connect(&a->d, w, s, &args->client, args->text,
		name_confirmed(args->text, macros_get(m, MACRO_CLIENT_RESOLVE))));
}

static enum done
on_mail(struct conn *c, struct asking *a, struct proto_args *args)
{
	const char *param;
	int64_t bytes = 0;

	while ((param = proto_text(&args->params, args->end)) != NULL)
		if (session_size(param, &bytes))
			break;
	return decide(c, a,
	    decision_mail(&a->d, c->all->worker, &c->session, args->text,
		macros_get(&c->macros, MACRO_AUTH_AUTHEN), bytes));
}

static enum done
on_rcpt(struct conn *c, struct asking *a, const struct proto_args *args)
{
	const struct macros *m = &c->macros;

	return decide(c, a,
	    decision_rcpt(&a->d, c->all->worker, &c->session, args->text,
		wants_rejected(macros_get(m, MACRO_RCPT_MAILER)), macros_get(m, MACRO_QUEUE_ID)));
}

/* Those events about which there may be something to decide. */
static enum done
on_step(struct conn *c, enum proto_event event, struct proto_args *args)
{
	const struct macros *m = &c->macros;
	struct asking *a;

	/* an MTA that has not negotiated has no session here */
	if (!c->begun ||
	    (event == PROTO_RCPT &&
		wants_passed_over(wants_rejected(macros_get(m, MACRO_RCPT_MAILER)),
		    macros_get(m, MACRO_RCPT_HOST))))
		return answer(c, NEXT_CONTINUE);
	a = asking_get(c);
	if (a == NULL)
		return HANG_UP;
	switch (event) {
	case PROTO_CONNECT:
		return on_connect(c, a, args);
	case PROTO_MAIL:
		return on_mail(c, a, args);
	case PROTO_RCPT:
		return on_rcpt(c, a, args);
	default:
		return decide(c, a, decision_eom(&a->d, c->all->worker, &c->session));
	}
}

enum done
conn_obey(struct conn *c, const struct proto_packet *k)
{
	struct proto_args args;
	enum proto_event event = proto_take(&c->proto, k, &args);

	switch (event) {
	case PROTO_NOTHING:
		return GO_ON;
	case PROTO_ERROR:
		break;
	case PROTO_NEGOTIATE:
		return on_negotiate(c, &args);
	case PROTO_MACROS:
		macros_put(&c->macros, args.stage, args.params, args.end);
		return GO_ON;
	case PROTO_CONNECT:
		macros_reach(&c->macros, PROTO_AT_CONNECT);
		return on_step(c, event, &args);
	case PROTO_HELO:
		macros_reach(&c->macros, PROTO_AT_HELO);
		return answer(c, c->begun ? session_helo(&c->session, args.text) : NEXT_CONTINUE);
	case PROTO_MAIL:
		macros_reach(&c->macros, PROTO_AT_MAIL);
		return on_step(c, event, &args);
	case PROTO_RCPT:
		macros_reach(&c->macros, PROTO_AT_RCPT);
		return on_step(c, event, &args);
	case PROTO_EOM:
		if (args.bytes > 0)
			session_data(&c->session, (int64_t)args.bytes);
		if (!c->session.steps.bytes)
			return answer(c, NEXT_CONTINUE);
		return on_step(c, event, &args);
	case PROTO_HEADER:
	case PROTO_EOH:
	case PROTO_BODY:
		session_data(&c->session, (int64_t)args.bytes);
		return answer(c, NEXT_CONTINUE);
	case PROTO_DATA:
	case PROTO_UNKNOWN:
		return answer(c, NEXT_CONTINUE);
	case PROTO_NEXT:
		return on_next(c);
	case PROTO_QUIT:
		return HANG_UP;
	}
	log_folded(
	    "milter", "an MTA has sent what is no milter protocol: its connection is closed", "");
	return HANG_UP;
}
