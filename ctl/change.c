/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * change.c - the one way in which weirctl writes: read, make the new words, check them as the
 * milter would, and swap them in by a script that notices when somebody else was faster.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua.h"
#include "weir/units.h"
#include "ctl.h"

/* So many changes are kept for `limit history` and `limit rollback`. */
#define HISTORY_MAX 1000
/* Somebody else was faster so often: that is no person. */
#define TRIES_MAX 50

char ctl_leave[] = "";

char *
ctl_entry(const struct ctl *c, const char *words, int64_t until_us)
{
	char by[ENTRY_BY_MAX + 1], until[40] = "", reason[ENTRY_REASON_MAX + 16] = "";
	char *out;

	if (until_us != INT64_MAX)
		/* up: never shorter than was asked for */
		snprintf(until, sizeof until, " until=%" PRId64,
		    (until_us + USEC_PER_SEC - 1) / USEC_PER_SEC);
	if (c->reason[0] != '\0')
		snprintf(reason, sizeof reason, " reason=\"%s\"", c->reason);
	if (asprintf(&out, "%s%s by=%s%s", words, until, ctl_author(by), reason) < 0)
		ctl_die(CTL_REFUSED, "out of memory");
	if (strlen(out) > ENTRY_WORDS_MAX)
		ctl_die(CTL_USAGE, "that is too long for one entry");
	return out;
}

/* "KEY=VALUE" behind the words in out, the quotes put back that the shell has eaten. */
size_t
ctl_add_word(char *out, size_t outlen, size_t used, const char *word)
{
	static const char *const kept[] = {"until=", "by=", "reason="};
	const char *eq = strchr(word, '=');
	char safe[80];

	if (eq == NULL)
		ctl_die(
		    CTL_USAGE, "\"%s\" is not KEY=VALUE", out_safe(word, 60, safe, sizeof safe));
	for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
		if (strncmp(word, kept[i], strlen(kept[i])) == 0)
			ctl_die(CTL_USAGE,
			    "until, by and reason are no words of a limit: say \"for 2h\" at the "
			    "end, or -m REASON");
	if (used < outlen)
		used += (size_t)snprintf(out + used, outlen - used,
		    strchr(eq, ' ') != NULL && eq[1] != '"' ? "%s%.*s=\"%s\"" : "%s%.*s=%s",
		    used > 0 ? " " : "", (int)(eq - word), word, eq + 1);
	if (used >= outlen)
		ctl_die(CTL_USAGE, "that is too long for one entry");
	return used;
}

int64_t
ctl_take_for(int *argc, char **argv)
{
	char safe[64];
	int64_t us;

	if (*argc < 2 || strcmp(argv[*argc - 2], "for") != 0)
		return INT64_MAX;
	if (!units_duration(argv[*argc - 1], &us) || us < USEC_PER_SEC)
		ctl_die(CTL_USAGE, "for: \"%s\" is not a duration such as 30m, 2h or 1d",
		    out_safe(argv[*argc - 1], 40, safe, sizeof safe));
	*argc -= 2;
	return clock_real_us() + us;
}

/* What the milter would say to it, before it is written. */
static void
check(const struct rules *r, enum overlay_section s, const char *field, const char *entry)
{
	char words[ENTRY_WORDS_MAX + 1], err[LIMIT_ERR_MAX], safe[128];
	struct entry_meta meta;

	if (!entry_split(entry, &meta, words, err, sizeof err) ||
	    !ruleset_check_entry(&r->set, s, field, words, err, sizeof err))
		ctl_die(CTL_REFUSED, "%s: %s", out_safe(field, 100, safe, sizeof safe), err);
}

/* The new generation, or SOMEBODY_WAS_FASTER. */
#define SOMEBODY_WAS_FASTER (-1)

static int64_t
swap_in(struct ctl *c, const char *keys[4], int nargs, const char **args)
{
	redisReply *reply = ctl_eval(c, lua_change, 4, keys, nargs, args);
	int64_t generation = SOMEBODY_WAS_FASTER;

	if (reply->type == REDIS_REPLY_ARRAY && reply->elements >= 2 &&
	    reply->element[0]->type == REDIS_REPLY_INTEGER && reply->element[0]->integer == 1)
		generation = reply->element[1]->integer;
	freeReplyObject(reply);
	return generation;
}

/* As swap_in(), or CTL_NOTHING: there was nothing to change. */
static int64_t
attempt(struct ctl *c, enum overlay_section s, unsigned n, const char *const *fields, change_fn *fn,
    void *ctx)
{
	const char *keys[] = {"generation", "history", "format", section_name(s)};
	const char **args = calloc(4 + 3 * (size_t)n, sizeof *args);
	char **made = calloc(n, sizeof *made), by[ENTRY_BY_MAX + 1], keep[12];
	struct rules r;
	int64_t generation = CTL_NOTHING;
	int nargs = 0;

	if (args == NULL || made == NULL)
		ctl_die(CTL_REFUSED, "out of memory");
	rules_load(c, &r);
	if (r.overlay.format > OVERLAY_FORMAT)
		ctl_die(CTL_REFUSED, "nothing is changed: use the newer weirctl");
	snprintf(keep, sizeof keep, "%d", HISTORY_MAX);
	args[nargs++] = section_name(s);
	args[nargs++] = ctl_author(by);
	args[nargs++] = c->reason;
	args[nargs++] = keep;
	for (unsigned i = 0; i < n; i++) {
		const char *now = rules_words(&r, s, fields[i]);

		made[i] = fn(c, &r, fields[i], now, ctx);
		if (made[i] == ctl_leave)
			continue;
		if (made[i] != NULL)
			check(&r, s, fields[i], made[i]);
		args[nargs++] = fields[i];
		args[nargs++] = now != NULL ? now : "";
		args[nargs++] = made[i] != NULL ? made[i] : "";
	}
	if (nargs > 4)
		generation = swap_in(c, keys, nargs, args);
	for (unsigned i = 0; i < n; i++)
		if (made[i] != ctl_leave)
			free(made[i]);
	free(made);
	free(args);
	rules_free(&r);
	return generation;
}

int64_t
ctl_change(struct ctl *c, enum overlay_section s, unsigned n, const char *const *fields,
    change_fn *fn, void *ctx)
{
	for (int i = 0; i < TRIES_MAX; i++) {
		int64_t generation = attempt(c, s, n, fields, fn, ctx);

		if (generation != SOMEBODY_WAS_FASTER)
			return generation;
	}
	ctl_die(CTL_REFUSED, "somebody else keeps changing the same entry: try again");
}

static void
print_changed(const struct ctl *c, const json_t *result)
{
	out_colour(c, GREEN);
	printf("done");
	out_colour(c, PLAIN);
	printf(": in force everywhere, generation %" PRId64 "\n", out_whole(result, "generation"));
}

int
ctl_changed(struct ctl *c, int64_t generation)
{
	out_result(c, json_pack("{sI}", "generation", (json_int_t)generation), print_changed);
	return CTL_DONE;
}
