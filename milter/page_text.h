/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * page_text.h - the files of milter/page, as made into milter/page_text.c.
 */
#ifndef WEIR_MILTER_PAGE_TEXT_H
#define WEIR_MILTER_PAGE_TEXT_H

extern const char page_head[], page_css[], page_body[], page_js[];

#endif
