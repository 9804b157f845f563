/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * cmd_doctor.c - weirctl doctor: looks at the machine as an expert would, and says what to write.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "doctor.h"

/* Where MTAs keep their files, unless -C says otherwise. */
#define POSTFIX_DIR "/etc/postfix"
#define SENDMAIL_DIR "/etc/mail"

enum needs { ANYTHING, POSTFIX, SENDMAIL, REDIS, SEND };

/* All that is looked at, in this order. Each name is a word for ever: scripts go by it. */
static const struct {
	const char *name, *what;
	enum needs needs;
	doctor_check *run;
} checks[] = {
    {"configuration", "weir.conf is valid", ANYTHING, doctor_configuration},
    {"mode", "refusals are enforced, and Redis is used", ANYTHING, doctor_mode},
    {"secrets", "Redis' password is not for everybody", ANYTHING, doctor_secrets},
    {"milter", "weir-milter answers on its socket", ANYTHING, doctor_milter},
    {"rights", "weir-milter does not run as root", ANYTHING, doctor_rights},
    {"descriptors", "weir-milter may open enough of them", ANYTHING, doctor_descriptors},
    {"mta", "the MTA's configuration can be read", ANYTHING, doctor_mta},
    {"postfix-attached", "Postfix asks weir", POSTFIX, doctor_postfix_attached},
    {"postfix-socket", "smtpd reaches weir's socket", POSTFIX, doctor_postfix_socket},
    {"postfix-order", "weir is the first of the milters", POSTFIX, doctor_postfix_order},
    {"postfix-action", "mail goes on while weir is away", POSTFIX, doctor_postfix_action},
    {"postfix-timeouts", "Postfix waits long enough, and not for ever", POSTFIX,
	doctor_postfix_timeouts},
    {"postfix-protocol", "the milter protocol is version 6", POSTFIX, doctor_postfix_protocol},
    {"postfix-local", "local mail is left alone", POSTFIX, doctor_postfix_local},
    {"postfix-reinjection", "nothing counts twice behind a content filter", POSTFIX,
	doctor_postfix_reinjection},
    {"postfix-maps", "no client is hidden from weir", POSTFIX, doctor_postfix_maps},
    {"postfix-listeners", "all listeners ask weir", POSTFIX, doctor_postfix_others},
    {"postfix-words", "no misspelt milter parameter", POSTFIX, doctor_postfix_words},
    {"sendmail-attached", "Sendmail knows weir", SENDMAIL, doctor_sendmail_attached},
    {"sendmail-used", "Sendmail asks weir", SENDMAIL, doctor_sendmail_used},
    {"sendmail-socket", "Sendmail takes weir's socket for safe", SENDMAIL, doctor_sendmail_socket},
    {"sendmail-inet", "the socket is a unix socket", SENDMAIL, doctor_sendmail_inet},
    {"sendmail-order", "weir is the first of the filters", SENDMAIL, doctor_sendmail_order},
    {"sendmail-flag", "mail goes on while weir is away", SENDMAIL, doctor_sendmail_flag},
    {"sendmail-timeouts", "Sendmail waits long enough, and not for ever", SENDMAIL,
	doctor_sendmail_timeouts},
    {"redis-answers", "Redis answers", ANYTHING, doctor_redis_answers},
    {"redis-version", "its version will do", REDIS, doctor_redis_version},
    {"redis-role", "it is a primary", REDIS, doctor_redis_role},
    {"redis-memory", "its memory is bounded, and limits are kept", REDIS, doctor_redis_memory},
    {"redis-persistence", "it keeps what it knows", REDIS, doctor_redis_persistence},
    {"redis-rights", "its user may do what weir does", REDIS, doctor_redis_rights},
    {"redis-latency", "it is fast enough", REDIS, doctor_redis_latency},
    {"clock", "its clock and ours agree", REDIS, doctor_clock},
    {"smtp", "clients see what they should", SEND, doctor_smtp},
};

void
doctor_say(struct doctor *d, enum doctor_level level, const char *why, const char *write,
    const char *fmt, ...)
{
	static const char *const levels[] = {"note", "wrong"};
	char what[1400], safe[1400], safer[1400];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(what, sizeof what, fmt, ap);
	va_end(ap);
	json_array_append_new(d->findings,
	    json_pack("{ss ss ss ss ss}", "check", d->check, "level", levels[level], "what",
		out_safe(what, sizeof safe - 1, safe, sizeof safe), "why", why, "write",
		out_safe(write, sizeof safer - 1, safer, sizeof safer)));
}

/* --- for people -------------------------------------------------------------------------------- */

static void
print_finding(const struct ctl *c, const json_t *f)
{
	bool wrong = strcmp(out_text(f, "level"), "wrong") == 0;

	out_colour(c, wrong ? RED : YELLOW);
	out_text_lines(c, wrong ? "WRONG  " : "note   ", out_text(f, "what"));
	out_colour(c, PLAIN);
	out_text_lines(c, "       why    ", out_text(f, "why"));
	if (out_text(f, "write")[0] != '\0')
		/* in one piece: it is there to be copied */
		printf("       write  %s\n", out_text(f, "write"));
}

static void
print_all(const struct ctl *c, const json_t *result)
{
	const json_t *check, *f;
	size_t i, k, wrong = 0;

	json_array_foreach(json_object_get(result, "checks"), i, check)
	{
		bool said = false;

		json_array_foreach(json_object_get(result, "findings"), k, f)
		{
			if (strcmp(out_text(f, "check"), out_text(check, "check")) != 0)
				continue;
			said = true;
			wrong += strcmp(out_text(f, "level"), "wrong") == 0;
			print_finding(c, f);
		}
		if (!said) {
			out_colour(c, GREEN);
			printf("ok     ");
			out_colour(c, PLAIN);
			puts(out_text(check, "what"));
		}
	}
	if (json_array_size(json_object_get(result, "smtp")) > 0)
		doctor_smtp_print(c, json_object_get(result, "smtp"));
	if (wrong == 0)
		puts("nothing is wrong");
	else
		printf("%zu to mend\n", wrong);
}

/* --- what to look at ---------------------------------------------------------------------------- */

static bool
has_file(const char *dir, const char *name)
{
	char path[MTA_PATH_MAX + 32];

	snprintf(path, sizeof path, "%s/%s", dir, name);
	return access(path, F_OK) == 0;
}

static void
read_mta(struct doctor *d, const char *kind, const char *dir, struct postfix *p, struct sendmail *s)
{
	bool any = kind == NULL;
	const char *postfix = dir != NULL ? dir : POSTFIX_DIR;
	const char *sendmail = dir != NULL ? dir : SENDMAIL_DIR;

	if ((any && has_file(postfix, "main.cf")) || (!any && strcmp(kind, "postfix") == 0)) {
		if (postfix_read(p, postfix, d->mta_trouble, sizeof d->mta_trouble))
			d->postfix = p;
	} else if ((any && has_file(sendmail, "sendmail.cf")) || !any) {
		if (sendmail_read(s, sendmail, &d->c->conf, d->mta_trouble, sizeof d->mta_trouble))
			d->sendmail = s;
	} else
		snprintf(d->mta_trouble, sizeof d->mta_trouble,
		    "there is no main.cf in %s, and no sendmail.cf in %s", postfix, sendmail);
}

static bool
applies(const struct doctor *d, enum needs needs)
{
	switch (needs) {
	case POSTFIX:
		return d->postfix != NULL;
	case SENDMAIL:
		return d->sendmail != NULL;
	case REDIS:
		return d->redis;
	case SEND:
		return d->send != NULL;
	default:
		return true;
	}
}

/* True when nothing is wrong. */
static bool
run_checks(struct doctor *d, json_t *result)
{
	json_t *done = json_array(), *f;
	bool good = true;
	size_t i;

	for (size_t k = 0; k < sizeof checks / sizeof checks[0]; k++) {
		if (!applies(d, checks[k].needs) ||
		    (checks[k].run == doctor_redis_answers && !d->c->conf.use_redis))
			continue;
		d->check = checks[k].name;
		checks[k].run(d);
		json_array_append_new(
		    done, json_pack("{ss ss}", "check", checks[k].name, "what", checks[k].what));
	}
	json_array_foreach(d->findings, i, f) good =
	    good && strcmp(out_text(f, "level"), "wrong") != 0;
	json_object_set_new(result, "checks", done);
	json_object_set_new(result, "findings", d->findings);
	json_object_set_new(result, "smtp", d->smtp);
	return good;
}

int
cmd_doctor(struct ctl *c, int argc, char **argv)
{
	struct doctor d = {.c = c, .to = "postmaster"};
	static struct postfix p;
	static struct sendmail s;
	const char *kind = NULL, *dir = NULL;
	json_t *result;
	bool good;

	for (int i = 1; i < argc; i++) {
		bool more = i + 1 < argc;

		if (strcmp(argv[i], "postfix") == 0 || strcmp(argv[i], "sendmail") == 0)
			kind = argv[i];
		else if (strcmp(argv[i], "-C") == 0 && more)
			dir = argv[++i];
		else if (strcmp(argv[i], "--from") == 0 && more)
			d.from = argv[++i];
		else if (strcmp(argv[i], "--to") == 0 && more &&
		    strpbrk(argv[i + 1], "\r\n<>") == NULL)
			d.to = argv[++i];
		else if (strcmp(argv[i], "--send") == 0)
			d.send = more && argv[i + 1][0] != '-' && strchr(argv[i + 1], ':') != NULL
			    ? argv[++i]
			    : "127.0.0.1:25";
		else
			return CTL_USAGE;
	}
	if (dir != NULL && strlen(dir) >= MTA_PATH_MAX)
		ctl_die(CTL_USAGE, "-C: too long for a directory");
	d.findings = json_array();
	d.smtp = json_array();
	result = json_object();
	read_mta(&d, kind, dir, &p, &s);
	if (c->conf.use_redis)
		d.redis = ctl_redis_answers(c, d.redis_trouble, sizeof d.redis_trouble);
	good = run_checks(&d, result);
	if (d.postfix != NULL)
		postfix_free(&p);
	out_result(c, result, print_all);
	return good ? CTL_DONE : CTL_REFUSED;
}
