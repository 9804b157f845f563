/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * dash.h - the page to look at, and what it asks for as JSON. It only reads.
 *
 * What clients, the MTA or Redis have said stands in it as log_escape() writes it: printable
 * ASCII. The page puts it there as text, never as HTML.
 */
#ifndef WEIR_MILTER_DASH_H
#define WEIR_MILTER_DASH_H

#include "http.h"
#include "show.h"

/* Handlers; ctx is the struct show. */
http_handler dash_page; /* / */
http_handler dash_now; /* /api/now: all but the clients */
http_handler dash_top; /* /api/top?by=refused|all */
http_handler dash_why; /* /api/why?client=ADDRESS[&name=NAME] or ?client=NETWORK */

#endif
