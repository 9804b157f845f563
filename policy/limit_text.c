/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * limit_text.c - a limit in words: the way back from limit_set().
 */
#include <string.h>

#include "weir/limit.h"
#include "weir/units.h"

static void
add_word(char *out, const char *key, const char *value)
{
	if (out[0] != '\0')
		strcat(out, " ");
	strcat(out, key);
	strcat(out, "=");
	strcat(out, value);
}

/* "60/1m" */
static char *
per_time(const struct limit *l, int64_t n, int64_t us, char out[2 * UNITS_TEXT_MAX])
{
	char time[UNITS_TEXT_MAX];

	units_figure_text(n, l->count == COUNT_BYTES, out);
	strcat(out, "/");
	return strcat(out, units_duration_text(us, time));
}

static void
add_whom(const struct limit *l, char out[LIMIT_WORDS_MAX])
{
	char net[NET_TEXT_MAX];

	if (l->whom != FOR_NETWORKS) {
		add_word(out, "for", limit_for_name(l->whom));
		return;
	}
	add_word(out, "for", "\"");
	for (unsigned i = 0; i < l->nnets; i++) {
		if (i > 0)
			strcat(out, " ");
		strcat(out, net_format(&l->nets[i], net));
	}
	strcat(out, "\"");
}

static void
add_ladder(const struct limit *l, char out[LIMIT_WORDS_MAX])
{
	char text[UNITS_TEXT_MAX];

	add_word(out, "ladder", "\"");
	for (unsigned i = 0; i < l->nrungs; i++) {
		strcat(out, i > 0 ? " /" : "/");
		strcat(out, units_figure_text(l->rungs[i].bits, false, text));
		strcat(out, "*");
		strcat(out, units_figure_text(l->rungs[i].times, false, text));
	}
	strcat(out, "\"");
}

char *
limit_words(const struct limit *l, char out[LIMIT_WORDS_MAX])
{
	char text[2 * UNITS_TEXT_MAX];
	bool sized = l->count == COUNT_BYTES;

	out[0] = '\0';
	add_word(out, "count", limit_count_name(l->count));
	add_word(out, "per", limit_per_name(l->per));
	if (l->whom != FOR_EVERYONE)
		add_whom(l, out);
	if (l->nrungs > 0)
		add_ladder(l, out);
	if (l->rate != 0)
		add_word(out, "rate", per_time(l, l->rate, l->period_us, text));
	if (l->burst_given)
		add_word(out, "burst", units_figure_text(l->burst, sized, text));
	if (l->quota != 0)
		add_word(out, "quota", per_time(l, l->quota, l->window_us, text));
	if (l->max != 0)
		add_word(out, "max", units_figure_text(l->max, false, text));
	if (l->strict)
		add_word(out, "strict", "true");
	add_word(out, "action", limit_action_name(l->action));
	if (!l->enabled)
		add_word(out, "enabled", "false");
	return out;
}

char *
limit_figures(const struct limit *l, int64_t times, char out[LIMIT_FIGURES_MAX])
{
	bool sized = l->count == COUNT_BYTES;
	char burst[UNITS_TEXT_MAX];

	if (l->count == COUNT_SESSIONS) {
		strcpy(out, "max ");
		units_figure_text(l->max * times, false, out + 4);
	} else if (l->quota != 0)
		per_time(l, l->quota * times, l->window_us, out);
	else {
		per_time(l, l->rate * times, l->period_us, out);
		strcat(out, " burst ");
		strcat(out, units_figure_text(l->burst * times, sized, burst));
	}
	return out;
}
