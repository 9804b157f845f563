/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * tally.c - see tally.h.
 */
#include "clock.h"
#include "tally.h"
#include "weir/watch.h"

static void
count_shadows(struct zone *z, enum stage stage, const struct request *q, uint64_t noted)
{
	zone_stat_add(z, ZONE_SHADOWED, 1);
	for (unsigned i = 0; q != NULL && i < q->nhits; i++)
		if ((noted & (UINT64_C(1) << i)) != 0)
			zone_watch_shadow(z, stage, q->hits[i].limit->name);
}

/* As limits count them: IPv6 by the width that one client has. */
static void
count_client(
    struct zone *z, const struct session *s, const struct ruleset *r, const struct verdict *v)
{
	bool v6 = s->client.family == ADDR_V6;
	struct net address = net_of(&s->client, v6 ? r->address_v6 : 32);
	struct net network = net_of(&s->client, v6 ? r->network_v6 : r->network_v4);
	int64_t now = clock_real_us();

	if (s->client.family == ADDR_NONE)
		return;
	zone_top_add(z, TOP_ADDRESSES, &address, session_text(s->name), s->name_confirmed, v, now);
	zone_top_add(z, TOP_NETWORKS, &network, "", false, v, now);
}

void
tally(struct zone *z, const struct session *s, const struct ruleset *r, enum stage stage,
    const struct request *q, const struct verdict *v)
{
	zone_stat_add(z, ZONE_DECISIONS, 1);
	if (v->action != DO_ACCEPT)
		zone_stat_add(z, ZONE_REFUSED, 1);
	if (v->reason == REASON_LOAD)
		zone_stat_add(z, ZONE_SHED, 1);
	if (v->noted != 0)
		count_shadows(z, stage, q, v->noted);
	zone_watch_decision(z, stage, v, q != NULL);
	if (zone_top_wanted(z))
		count_client(z, s, r, v);
}
