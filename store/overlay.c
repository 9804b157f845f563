/*
 * overlay.c - the one thing that all of a store's users do with an overlay.
 */
#include <stdlib.h>
#include <string.h>

#include "weir/store.h"

void
overlay_free(struct overlay *o)
{
	/* names and words lie in the same block, behind the entries */
	free(o->entries);
	memset(o, 0, sizeof *o);
}
