/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * lua.h - the scripts of lua/, as text; lua.c is made from them by embed-lua.awk.
 */
#ifndef WEIR_STORE_LUA_H
#define WEIR_STORE_LUA_H

extern const char lua_ask[];
extern const char lua_load[];
extern const char lua_neighbours[];
extern const char lua_probe[];
extern const char lua_change[];
extern const char lua_rollback[];

#endif
