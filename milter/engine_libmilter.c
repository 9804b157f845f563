/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * engine_libmilter.c - the engine on libmilter; the only file that includes its header.
 *
 * libmilter's callbacks of one session come one after another but from changing threads, so all
 * state is in the session. Debian's libmilter serves many sessions with few threads and starves
 * when callbacks block: decide.h keeps each short.
 */
#include <errno.h>
#include <libmilter/mfapi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <syslog.h>

#include "decide.h"
#include "engine.h"
#include "listener.h"
#include "log.h"
#include "room.h"
#include "wants.h"
#include "weir/pool.h"

/* libmilter's callbacks have no context for the process; set once before smfi_main(). */
static struct worker *worker;

static struct listener listener;

/* Who accepts is libmilter, so that there is a descriptor for it has to be seen to here. */
static struct {
	pthread_mutex_t lock; /* of all, and whether the listener is paused */
	struct room room;
	bool silent;
} door = {.lock = PTHREAD_MUTEX_INITIALIZER};

static bool
look(struct worker *w)
{
	bool crowded;

	pthread_mutex_lock(&door.lock);
	if (!door.silent)
		room_look(&door.room, &listener, w->number);
	crowded = door.room.short_of && !door.silent;
	pthread_mutex_unlock(&door.lock);
	return crowded;
}

/* What libmilter is told for each of the session's answers. */
static sfsistat
obey(SMFICTX *ctx, const struct session *s, enum next next)
{
	switch (next) {
	case NEXT_DONE:
		return SMFIS_ACCEPT;
	case NEXT_REPLY:
		/* never a bare TEMPFAIL: it would be a 451 with the MTA's words */
		if (smfi_setreply(ctx, (char *)s->reply->code, (char *)s->reply->xcode,
			(char *)s->reply->text) == MI_SUCCESS)
			return SMFIS_TEMPFAIL;
		log_line(LOG_ERR, "libmilter does not take the reply \"%s %s %s\": accepted",
		    s->reply->code, s->reply->xcode, s->reply->text);
		return SMFIS_CONTINUE;
	case NEXT_ASK:
	case NEXT_CONTINUE:
		break;
	}
	return SMFIS_CONTINUE;
}

static const char *
macro(SMFICTX *ctx, const char *name)
{
	const char *value = smfi_getsymval(ctx, (char *)name);

	return value != NULL ? value : "";
}

/* wants.c goes by the protocol's own names. */
_Static_assert(PROTO_NO_HELO == SMFIP_NOHELO && PROTO_NO_RCPT == SMFIP_NORCPT &&
	PROTO_NO_DATA == SMFIP_NODATA && PROTO_NR_BODY == SMFIP_NR_BODY &&
	PROTO_REJECTED == SMFIP_RCPT_REJ && PROTO_SET_MACROS == SMFIF_SETSYMLIST &&
	PROTO_AT_RCPT == SMFIM_ENVRCPT && PROTO_AT_EOH == SMFIM_EOH,
    "one protocol");

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long f2,
    unsigned long f3, unsigned long *out_actions, unsigned long *out_steps, unsigned long *out_f2,
    unsigned long *out_f3)
{
	struct plan_steps steps_wanted = decide_steps(worker);
	struct proto_wants want = wants_of(&steps_wanted);
	struct session *s;
	char id[SESSION_ID_MAX];

	(void)f2;
	(void)f3;
	*out_actions = actions & SMFIF_SETSYMLIST;
	*out_steps = steps & want.steps;
	*out_f2 = *out_f3 = 0;
	for (int stage = 0; stage < PROTO_STAGES; stage++)
		(void)smfi_setsymlist(ctx, stage, (char *)want.macros[stage]);
	s = malloc(sizeof *s);
	if (s == NULL)
		return SMFIS_CONTINUE; /* every callback lives without a session, too */
	if (smfi_setpriv(ctx, s) != MI_SUCCESS) {
		free(s);
		return SMFIS_CONTINUE;
	}
	worker_session_begin(worker, id);
	(void)look(worker);
	session_init(s, id, steps_wanted);
	s->engine = *out_steps;
	return SMFIS_CONTINUE;
}

static sfsistat
on_connect(SMFICTX *ctx, char *name, _SOCK_ADDR *sa)
{
	struct session *s = smfi_getpriv(ctx);
	struct addr client;

	if (s == NULL)
		return SMFIS_ACCEPT;
	(void)addr_from_sockaddr(sa, &client);
	if (name == NULL)
		name = "";
	if (s->steps.daemon)
		decide_daemon(worker, s, macro(ctx, "{daemon_name}"), macro(ctx, "{daemon_port}"));
	return obey(ctx, s,
	    decide_connect(
		worker, s, &client, name, name_confirmed(name, macro(ctx, "{client_resolve}"))));
}

static sfsistat
on_helo(SMFICTX *ctx, char *helo)
{
	struct session *s = smfi_getpriv(ctx);

	return s == NULL ? SMFIS_CONTINUE : obey(ctx, s, session_helo(s, helo != NULL ? helo : ""));
}

/* SIZE= among the parameters of MAIL; 0 = not said. */
static int64_t
announced(char *const *params)
{
	int64_t bytes = 0;

	while (*params != NULL && !session_size(*params, &bytes))
		params++;
	return bytes;
}

static sfsistat
on_mail(SMFICTX *ctx, char **argv)
{
	struct session *s = smfi_getpriv(ctx);

	if (s == NULL || argv[0] == NULL)
		return SMFIS_CONTINUE;
	return obey(ctx, s,
	    decide_mail(worker, s, argv[0], macro(ctx, "{auth_authen}"), announced(argv + 1)));
}

static sfsistat
on_rcpt(SMFICTX *ctx, char **argv)
{
	struct session *s = smfi_getpriv(ctx);
	bool rejected = wants_rejected(macro(ctx, "{rcpt_mailer}"));

	if (s == NULL || argv[0] == NULL || wants_passed_over(rejected, macro(ctx, "{rcpt_host}")))
		return SMFIS_CONTINUE;
	return obey(ctx, s, decide_rcpt(worker, s, argv[0], rejected, macro(ctx, "i")));
}

/* What the MTA waits for after a piece of a message. */
static sfsistat
counted(SMFICTX *ctx, unsigned long unheard, size_t bytes)
{
	struct session *s = smfi_getpriv(ctx);

	if (s == NULL)
		return SMFIS_CONTINUE;
	session_data(s, (int64_t)bytes);
	return (s->engine & unheard) != 0 ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat
on_header(SMFICTX *ctx, char *name, char *value)
{
	/* "Name: value CR LF" */
	return counted(ctx, SMFIP_NR_HDR, strlen(name) + strlen(value) + 4);
}

static sfsistat
on_eoh(SMFICTX *ctx)
{
	return counted(ctx, SMFIP_NR_EOH, 2);
}

static sfsistat
on_body(SMFICTX *ctx, unsigned char *chunk, size_t len)
{
	(void)chunk;
	return counted(ctx, SMFIP_NR_BODY, len);
}

static sfsistat
on_eom(SMFICTX *ctx)
{
	struct session *s = smfi_getpriv(ctx);

	return s == NULL || !s->steps.bytes ? SMFIS_CONTINUE : obey(ctx, s, decide_eom(worker, s));
}

static sfsistat
on_close(SMFICTX *ctx)
{
	struct session *s = smfi_getpriv(ctx);

	if (s == NULL)
		return SMFIS_CONTINUE;
	decide_close(worker, s);
	session_deinit(s);
	(void)smfi_setpriv(ctx, NULL);
	free(s);
	worker_session_end(worker);
	return SMFIS_CONTINUE;
}

/* libmilter does not say when it has started, but ends at once when it cannot: on a reload the
 * workers of before go on until this one is seen to live. */
#define READY_US (30 * USEC_PER_MSEC)

/*
 * Debian's libmilter starts a thread whenever none is idle, and ends those it has too many of: a
 * third of a thread a session and more. glibc keeps 40 MB of stacks for the next ones, which are
 * five of the usual size, and all others come from mmap(). We need a tenth of this one.
 */
#define STACK_SIZE (256 * 1024)

static void
small_stacks(void)
{
	pthread_attr_t attr;

	if (pthread_attr_init(&attr) != 0)
		return;
	if (pthread_attr_setstacksize(&attr, STACK_SIZE) == 0)
		(void)pthread_setattr_default_np(&attr);
	(void)pthread_attr_destroy(&attr);
}

static bool
run(struct worker *w, int listen_fd)
{
	struct smfiDesc desc = {
	    .xxfi_name = "weir",
	    .xxfi_version = SMFI_VERSION,
	    .xxfi_flags = 0, /* we change no message */
	    .xxfi_connect = on_connect,
	    .xxfi_helo = on_helo,
	    .xxfi_envfrom = on_mail,
	    .xxfi_envrcpt = on_rcpt,
	    .xxfi_header = on_header,
	    .xxfi_eoh = on_eoh,
	    .xxfi_body = on_body,
	    .xxfi_eom = on_eom,
	    .xxfi_close = on_close,
	    .xxfi_negotiate = on_negotiate,
	};
	char conn[32];

	worker = w;
	if (!listener_init(&listener, listen_fd)) {
		log_line(LOG_ERR, "the milter socket is none: %s", strerror(errno));
		return false;
	}
	listener_thread(&listener);
	room_init(&door.room);
	snprintf(conn, sizeof conn, "fd:%d", listen_fd);
	if (smfi_register(desc) != MI_SUCCESS || smfi_setconn(conn) != MI_SUCCESS ||
	    smfi_settimeout((int)(w->conf->idle_timeout_us / USEC_PER_SEC)) != MI_SUCCESS ||
	    smfi_opensocket(false) != MI_SUCCESS) {
		log_line(LOG_ERR,
		    "libmilter does not take over an open socket (%s); "
		    "Debian's libmilter does, see doc/dependencies.md",
		    conn);
		return false;
	}
	small_stacks();
	worker_ready(w, READY_US);
	return smfi_main() == MI_SUCCESS;
}

static void
silence(void)
{
	pthread_mutex_lock(&door.lock);
	door.silent = true;
	listener_silence(&listener);
	pthread_mutex_unlock(&door.lock);
}

static int
connections(void)
{
	return listener_connections(&listener);
}

/* Its threads stay, but without a decision they have nothing to ask. */
static bool
stop(void)
{
	return true;
}

const struct engine engine_libmilter = {
    .run = run,
    .silence = silence,
    .look = look,
    .connections = connections,
    .stop = stop,
};
