/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * attach_postfix.c - weirctl attach postfix: weir in front of smtpd_milters, and not where mail
 * comes back from a content filter.
 *
 * postconf makes the change, parameter by parameter. What each was before is kept in UNDO_FILE
 * beside main.cf, so that it can be taken back although other things were changed meanwhile.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "attach.h"
#include "mta_postfix.h"
#include "run.h"

#define UNDO_FILE "weir-attach.json"
#define VALUE_MAX 2048
#define THEN "postfix reload, and then weirctl doctor"
#define OPTIONS "connect_timeout=5s, command_timeout=5s, content_timeout=10s, default_action=accept"

/* {"key", "own": in master.cf, "before": text or null, "after": text or null} */

static void
add_change(json_t *changes, const char *key, bool own, const json_t *before, const char *after)
{
	json_array_append_new(changes,
	    json_pack("{ss sb sO? ss?}", "key", key, "own", own, "before", before, "after", after));
}

/* What smtpd_milters is to be: weir, and behind it all the others as they are written. False: it
 * is so already. */
static bool
wanted_milters(
    const struct postfix *p, const struct conf *conf, bool chrooted, char *out, size_t outlen)
{
	const char *now = json_string_value(json_object_get(p->raw, "smtpd_milters"));
	char socket[SOCKET_TEXT_MAX], *text = strdup(now != NULL ? now : ""), *rest = text;
	struct milter_list l;
	bool found = false;
	size_t used;

	postfix_milters(p, NULL, "smtpd_milters", conf, &l);
	if (milters_ours(&l) == 0 && strcmp(l.m[0].action, "accept") == 0) {
		free(text);
		return false;
	}
	if (!postfix_socket_for(p, chrooted, conf, socket, sizeof socket))
		ctl_die(CTL_REFUSED,
		    "smtpd runs in a chroot and cannot reach %s: in weir.conf write socket = "
		    "\"unix:%s/weir/milter.sock\" and start weir-milter anew",
		    conf->socket.text, postfix_get(p, NULL, "queue_directory"));
	used = (size_t)snprintf(out, outlen, "{ %s, " OPTIONS " }", socket);
	for (char *t = milters_next(&rest); t != NULL; t = milters_next(&rest)) {
		char first[SOCKET_TEXT_MAX];
		bool braces = t > text && t[-1] == '{';

		snprintf(first, sizeof first, "%.*s", (int)strcspn(t + strspn(t, " \t"), ", \t"),
		    t + strspn(t, " \t"));
		if (strchr(first, '$') == NULL && postfix_is_ours(p, first, conf)) {
			found = true;
			continue;
		}
		if (used < outlen)
			used += (size_t)snprintf(
			    out + used, outlen - used, braces ? ", {%s}" : ", %s", t);
	}
	free(text);
	if (milters_ours(&l) >= 0 && !found)
		ctl_die(CTL_REFUSED,
		    "weir stands in smtpd_milters by a $name: put it first there by hand");
	if (used >= outlen)
		ctl_die(CTL_REFUSED, "smtpd_milters is too long");
	return true;
}

static json_t *
find_changes(const struct postfix *p, const struct conf *conf)
{
	json_t *changes = json_array();
	char value[VALUE_MAX], key[256];
	bool chrooted = false;

	for (unsigned i = 0; i < p->n; i++)
		chrooted = chrooted || p->services[i].chroot;
	if (wanted_milters(p, conf, chrooted, value, sizeof value))
		add_change(changes, "smtpd_milters", false,
		    json_object_get(p->raw, "smtpd_milters"), value);
	for (unsigned i = 0; i < p->n; i++) {
		const struct postfix_service *s = &p->services[i];

		if (!postfix_reinjected(p, s) || postfix_own(p, s, "smtpd_milters"))
			continue;
		snprintf(key, sizeof key, "%s/smtpd_milters", s->key);
		add_change(changes, key, true, json_object_get(p->raw_own, key), "");
	}
	return changes;
}

/* --- making it ---------------------------------------------------------------------------------- */

static void
set_parameter(const struct postfix *p, const json_t *change, const char *which)
{
	const char *value = json_string_value(json_object_get(change, which));
	bool own = json_is_true(json_object_get(change, "own"));
	char word[VALUE_MAX + 256], why[200];
	const char *argv[] = {"postconf", "-c", p->dir, NULL, word, NULL};
	struct run r;
	bool done;

	if (value != NULL)
		snprintf(word, sizeof word, "%s=%s", out_text(change, "key"), value);
	else
		snprintf(word, sizeof word, "%s", out_text(change, "key"));
	argv[3] = value != NULL ? (own ? "-P" : "-e") : own ? "-PX" : "-X";
	done = run_program(&r, argv);
	snprintf(why, sizeof why, "%.*s", (int)strcspn(r.err, "\n"), r.err);
	run_free(&r);
	if (!done)
		ctl_die(CTL_REFUSED, "postconf cannot change %s: %s", out_text(change, "key"), why);
}

static void
apply(const struct postfix *p, const json_t *changes)
{
	char path[MTA_PATH_MAX + 32], *text;
	const json_t *change;
	json_t *all;
	size_t i;

	snprintf(path, sizeof path, "%s/master.cf", p->dir);
	attach_backup(path);
	snprintf(path, sizeof path, "%s/main.cf", p->dir);
	attach_backup(path);
	snprintf(path, sizeof path, "%s/" UNDO_FILE, p->dir);
	all = json_load_file(path, 0, NULL);
	if (!json_is_array(all))
		all = json_array();
	/* the oldest last: undo goes back step by step */
	json_array_foreach(changes, i, change)
	    json_array_insert(all, 0, (json_t *)(uintptr_t)change);
	text = json_dumps(all, JSON_INDENT(2));
	json_decref(all);
	if (text == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	attach_write(path, text);
	free(text);
	json_array_foreach(changes, i, change) set_parameter(p, change, "after");
}

static json_t *
read_undo(const struct postfix *p, char *path, size_t len)
{
	json_t *all;

	snprintf(path, len, "%s/" UNDO_FILE, p->dir);
	all = json_load_file(path, 0, NULL);
	if (!json_is_array(all) || json_array_size(all) == 0)
		ctl_die(CTL_REFUSED, "%s: nothing to undo", path);
	return all;
}

static void
check_unchanged(const struct postfix *p, const json_t *changes)
{
	const json_t *change, *other;
	size_t i, k;

	json_array_foreach(changes, i, change)
	{
		bool own = json_is_true(json_object_get(change, "own"));
		const char *key = out_text(change, "key");
		const char *now =
		    json_string_value(json_object_get(own ? p->raw_own : p->raw, key));
		bool newest = true;

		json_array_foreach(changes, k, other) newest =
		    newest && (k >= i || strcmp(out_text(other, "key"), key) != 0);
		if (newest && strcmp(now != NULL ? now : "", out_text(change, "after")) != 0)
			ctl_die(CTL_REFUSED,
			    "%s was changed since: take weir out by hand, and remove %s/" UNDO_FILE,
			    key, p->dir);
	}
}

/* --- showing it --------------------------------------------------------------------------------- */

static void
add_line(char **out, size_t *len, char sign, const json_t *change, const char *value)
{
	bool own = json_is_true(json_object_get(change, "own"));
	char *more;

	if (value == NULL ||
	    asprintf(&more, "%s%c %s = %s%s\n", *out != NULL ? *out : "", sign,
		out_text(change, "key"), value, own ? "   (master.cf)" : "") < 0)
		return;
	free(*out);
	*out = more;
	*len = strlen(more);
}

static char *
diff_text(const json_t *changes, const char *from, const char *to)
{
	const json_t *change;
	char *out = NULL;
	size_t i, len = 0;

	json_array_foreach(changes, i, change)
	{
		add_line(&out, &len, '-', change, json_string_value(json_object_get(change, from)));
		add_line(&out, &len, '+', change, json_string_value(json_object_get(change, to)));
	}
	return out;
}

json_t *
attach_postfix(const struct attach *a)
{
	char why[400], path[MTA_PATH_MAX + 32], *diff;
	struct postfix p;
	const json_t *change;
	json_t *changes, *result;
	size_t i;

	if (!postfix_read(&p, a->dir, why, sizeof why))
		ctl_die(CTL_REFUSED, "%s", why);
	changes = a->undo ? read_undo(&p, path, sizeof path) : find_changes(&p, &a->c->conf);
	diff =
	    a->undo ? diff_text(changes, "after", "before") : diff_text(changes, "before", "after");
	if (a->undo) {
		check_unchanged(&p, changes);
		json_array_foreach(changes, i, change) set_parameter(&p, change, "before");
		if (unlink(path) != 0)
			ctl_die(CTL_REFUSED, "%s: %s", path, strerror(errno));
	} else if (a->apply && diff != NULL)
		apply(&p, changes);
	result = json_pack("{ss ss ss}", "diff", diff != NULL ? diff : "", "why",
	    diff == NULL ? "Postfix asks weir already, first of all"
		: a->undo
		? "As it was before."
		: "weir stands first: Postfix asks its milters in this order, and none behind "
		  "one that refused. default_action=accept: mail goes on, uncounted, while "
		  "weir is not there.",
	    "then", THEN);
	free(diff);
	json_decref(changes);
	postfix_free(&p);
	return result;
}
