/*
 * engine_libmilter.c - the engine on libmilter; the only file that includes its header.
 *
 * libmilter's callbacks of one session come one after another but from changing threads, so all
 * state is in the session. Debian's libmilter serves many sessions with few threads and starves
 * when callbacks block: decide.h keeps each short.
 */
#include <libmilter/mfapi.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <syslog.h>

#include "decide.h"
#include "engine.h"
#include "log.h"
#include "weir/pool.h"

/* libmilter's callbacks have no context for the process; set once before smfi_main(). */
static struct worker *worker;

/* What libmilter is told for each of the session's answers. */
static sfsistat
obey(SMFICTX *ctx, const struct session *s, enum next next)
{
	switch (next) {
	case NEXT_DONE:
		return SMFIS_ACCEPT;
	case NEXT_REPLY:
		/* never a bare TEMPFAIL: it would be a 451 with the MTA's words */
		if (smfi_setreply(ctx, (char *)s->reply.code, (char *)s->reply.xcode,
			(char *)s->reply.text) == MI_SUCCESS)
			return SMFIS_TEMPFAIL;
		log_line(LOG_ERR, "libmilter does not take the reply \"%s %s %s\": accepted",
		    s->reply.code, s->reply.xcode, s->reply.text);
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

/* The steps that can be switched off, and when they are wanted; and what else the MTA is told. */
static unsigned long
steps_flags(const struct plan_steps *want)
{
	unsigned long no = SMFIP_NODATA | SMFIP_NOUNKNOWN;

	/* the message is only counted, so the MTA need not wait for us */
	no |= want->bytes ? SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY
			  : SMFIP_NOHDRS | SMFIP_NOEOH | SMFIP_NOBODY;
	if (want->rejected)
		no |= SMFIP_RCPT_REJ;
	if (!want->helo)
		no |= SMFIP_NOHELO;
	if (!want->mail)
		no |= SMFIP_NOMAIL;
	if (!want->rcpt)
		no |= SMFIP_NORCPT;
	return no;
}

/* libmilter refuses an empty list, and the MTA sends its default where none is set: one macro
 * that costs nothing stands for "none". */
#define MACROS_NONE "i"

static void
ask_macros(SMFICTX *ctx, const struct plan_steps *want)
{
	static const char *const connect[] = {MACROS_NONE, "{client_resolve}",
	    "{daemon_name} {daemon_port}", "{client_resolve} {daemon_name} {daemon_port}"};
	const struct {
		int stage;
		const char *macros;
	} lists[] = {
	    {SMFIM_CONNECT, connect[want->name + 2 * want->daemon]},
	    {SMFIM_HELO, MACROS_NONE},
	    {SMFIM_ENVFROM, want->mail ? "{auth_authen}" : MACROS_NONE},
	    /* queue id for the log */
	    {SMFIM_ENVRCPT, want->rejected ? "i {rcpt_mailer} {rcpt_host}" : "i"},
	    {SMFIM_DATA, MACROS_NONE},
	    {SMFIM_EOH, MACROS_NONE},
	    {SMFIM_EOM, MACROS_NONE},
	};

	for (size_t i = 0; i < sizeof lists / sizeof lists[0]; i++)
		(void)smfi_setsymlist(ctx, lists[i].stage, (char *)lists[i].macros);
}

static sfsistat
on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long steps, unsigned long f2,
    unsigned long f3, unsigned long *out_actions, unsigned long *out_steps, unsigned long *out_f2,
    unsigned long *out_f3)
{
	struct plan_steps want = decide_steps(worker);
	struct session *s;
	char id[SESSION_ID_MAX];

	(void)f2;
	(void)f3;
	*out_actions = actions & SMFIF_SETSYMLIST;
	*out_steps = steps & steps_flags(&want);
	*out_f2 = *out_f3 = 0;
	ask_macros(ctx, &want);
	s = malloc(sizeof *s);
	if (s == NULL)
		return SMFIS_CONTINUE; /* every callback lives without a session, too */
	if (smfi_setpriv(ctx, s) != MI_SUCCESS) {
		free(s);
		return SMFIS_CONTINUE;
	}
	worker_session_begin(worker, id);
	session_init(s, id, want);
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

/* SIZE= among the parameters of MAIL (RFC 1870); 0 = not said. */
static int64_t
announced(char *const *params)
{
	for (; *params != NULL; params++) {
		const char *p = *params;
		int64_t size = 0;

		if (strncasecmp(p, "SIZE=", 5) != 0)
			continue;
		for (p += 5; *p >= '0' && *p <= '9' && size < QUOTA_FIGURE_MAX; p++)
			size = size * 10 + (*p - '0');
		return size;
	}
	return 0;
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
	/* both MTAs name this mailer for a recipient that they refuse (SMFIP_RCPT_REJ) */
	bool rejected = strcmp(macro(ctx, "{rcpt_mailer}"), "error") == 0;

	if (s == NULL || argv[0] == NULL)
		return SMFIS_CONTINUE;
	/* ... and its enhanced code as the host. Who is told to come back (DNS did not answer,
	 * another greylist) has guessed nothing, and does not hear us. */
	if (rejected && macro(ctx, "{rcpt_host}")[0] == '4')
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
	(void)smfi_setpriv(ctx, NULL);
	free(s);
	worker_session_end(worker);
	return SMFIS_CONTINUE;
}

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

bool
engine_run(struct worker *w, int listen_fd)
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
	snprintf(conn, sizeof conn, "fd:%d", listen_fd);
	if (smfi_register(desc) != MI_SUCCESS || smfi_setconn(conn) != MI_SUCCESS ||
	    smfi_opensocket(false) != MI_SUCCESS) {
		log_line(LOG_ERR,
		    "libmilter does not take over an open socket (%s); "
		    "Debian's libmilter does, see doc/dependencies.md",
		    conn);
		return false;
	}
	small_stacks();
	worker_ready(w);
	return smfi_main() == MI_SUCCESS;
}
