/*
 * overlay.c - the one thing that all of a store's users do with an overlay.
 */
#include <stdlib.h>
#include <string.h>

#include "weir/store.h"

void
overlay_free(struct overlay *o)
{
	/* all sections, names and words lie in one block, which begins with the first */
	free(o->entries[0]);
	memset(o, 0, sizeof *o);
}
