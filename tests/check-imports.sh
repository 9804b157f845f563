#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# check-imports.sh [SOURCE-DIRECTORY] - proves that includes go one way:
#
#	include <- policy <- store <- conf <- milter, ctl
#
# and that the headers of other people's libraries stay where they belong.
set -u

cd "${1:-$(dirname "$0")/..}" || exit 1

awk '
function complain(what) {
	print "check-imports: " FILENAME ":" FNR ": " what
	bad = 1
}
function exists(path,   line, there) {
	there = (getline line < path) >= 0
	close(path)
	return there
}
# Rooms from the bottom up; a file may include from its own and from those below.
BEGIN {
	nrooms = split("include policy store conf milter ctl", rooms, " ")
	for (i = 1; i <= nrooms; i++)
		level[rooms[i]] = i
	# all that the vocabulary and the pure part may have of the system
	n = split("arpa/inet.h float.h inttypes.h limits.h math.h netinet/in.h stdarg.h " \
	    "stdbool.h stddef.h stdint.h stdlib.h string.h strings.h sys/socket.h " \
	    "idn2.h libpsl.h", names, " ")
	for (i = 1; i <= n; i++)
		pure[names[i]] = 1
}
FNR == 1 {
	room = FILENAME
	sub(/\/.*/, "", room)
	files[room]++
}
/^[ \t]*#[ \t]*include/ {
	name = $0
	sub(/^[ \t]*#[ \t]*include[ \t]*/, "", name)
	quoted = name ~ /^"/
	if (name !~ /^"[^"]+"/ && name !~ /^<[^>]+>/) {
		complain("cannot tell what this includes")
		next
	}
	name = substr(name, 2)
	sub(/[">].*/, "", name)

	if (name ~ /^hiredis/ && room != "store" && room != "ctl")
		complain("<" name "> belongs to store/")
	if (name ~ /^libmilter\// && FILENAME != "milter/engine_libmilter.c")
		complain("<" name "> belongs to milter/engine_libmilter.c")
	if (name ~ /^event2\/http/ && FILENAME != "milter/http.c")
		complain("<" name "> belongs to milter/http.c")
	if (name ~ /^event2\// && FILENAME !~ /^(store\/(lane|redis)_event\.[ch]|milter\/(conn\.h|(engine_event|http|show)\.c))$/)
		complain("<" name "> belongs to the event engine, its road to Redis, and who shows the metrics")
	if (name ~ /^jansson\.h/ && room != "milter" && room != "ctl")
		complain("<" name "> belongs to milter/ and ctl/")
	if (name ~ /^confuse\.h/ && room != "conf")
		complain("<" name "> belongs to conf/")
	if (name ~ /^libpsl\.h/ && FILENAME != "policy/pool.c" && room != "conf")
		complain("<" name "> belongs to policy/pool.c and to conf/, which opens the list")
	else if (name ~ /^idn2\.h/ && FILENAME != "policy/fold.c")
		complain("<" name "> belongs to policy/fold.c")
	else if (!quoted && level[room] <= level["policy"] && !(name in pure))
		complain(room "/ has no use for <" name ">")
	if (!quoted)
		next

	if (name ~ /(^|\/)\.\.\//)
		complain("\"" name "\" leaves the room")
	if (name ~ /^weir\//)
		next
	if (room == "include")
		complain("include/ includes weir/ headers only, not \"" name "\"")
	# the lowest room that has it is meant; made headers stand in none
	for (i = 1; i <= nrooms; i++)
		if (name ~ "^" rooms[i] "/" || exists(rooms[i] "/" name)) {
			# milter and ctl stand side by side
			if (i > level[room] || (room == "ctl" && rooms[i] == "milter"))
				complain(room "/ must not include \"" name "\" of " rooms[i] "/")
			break
		}
}
END {
	for (i = 1; i <= nrooms; i++)
		if (files[rooms[i]] == 0) {
			print "check-imports: no source in " rooms[i] "/"
			bad = 1
		}
	exit bad
}' include/weir/*.h policy/*.[ch] store/*.[ch] conf/*.[ch] milter/*.[ch] \
    ctl/*.[ch] >&2
