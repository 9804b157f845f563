#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# check-policy-pure.sh [ARCHIVE] - proves that libpolicy does no I/O and asks no clock: what it calls
# is its own, or stands in the list below.
#
# Holds for what gcc and clang make of it, with _FORTIFY_SOURCE, sanitizers, coverage or the stack
# protector. With -flto the objects must be fat ones.
set -u

archive=${1:-libpolicy.a}
nm=${NM:-nm}

# Memory and text, in process; what compilers put in their place; the two that read and print an
# address; floor and ceil of the bucket. inet_pton() and inet_ntop() open nothing. libpsl looks a name
# up in a list that somebody else has opened; libidn2 computes, and its tables are constants.
allowed='
bcmp memchr memcmp memcpy memmove memset mempcpy
stpcpy stpncpy strcasecmp strcat strchr strcmp strcpy strcspn strlen strncasecmp strncat strncmp
strncpy strnlen strpbrk strrchr strspn strstr
calloc free malloc qsort realloc
ceil floor
inet_ntop inet_pton
psl_registrable_domain
idn2_free idn2_to_ascii_8z
'

if ! symbols=$("$nm" -A "$archive"); then
	echo "check-policy-pure: cannot read $archive" >&2
	exit 1
fi
printf '%s\n' "$symbols" | awk -v allowed="$allowed" -v archive="$archive" '
BEGIN {
	n = split(allowed, names, /[ \n]+/)
	for (i = 1; i <= n; i++)
		ok[names[i]] = 1
}
NF < 2 {
	next
}
# ARCHIVE:OBJECT: [VALUE] TYPE NAME; the name of the archive may hold blanks
{
	name = $NF
	sub(/@.*/, "", name)
	type = $(NF - 1)
	if (type != "U" && type != "w" && type != "v") {
		if (type ~ /^[A-Z]$/) {
			defined[name] = 1
			ndefined++
		}
		next
	}
	object = substr($0, length(archive) + 2)
	sub(/:.*/, "", object)
	users[name] = users[name] " " object
}
# What a compiler adds without being asked for by the source.
function runtime(name) {
	if (name ~ /^__(asan|ubsan|tsan|msan|hwasan|sanitizer|sancov|gcov|llvm)_/)
		return 1
	if (name ~ /^__(start|stop)___(sancov|llvm)/)
		return 1
	return name == "__stack_chk_fail" || name == "__stack_chk_guard" ||
	    name == "_GLOBAL_OFFSET_TABLE_"
}
# __memcpy_chk is memcpy with a look at the size.
function plain(name) {
	if (name ~ /^__.*_chk$/) {
		sub(/^__/, "", name)
		sub(/_chk$/, "", name)
	}
	return name
}
END {
	if (ndefined == 0) {
		print "check-policy-pure: " archive " defines nothing that nm can see"
		exit 1
	}
	for (name in users) {
		if (name in defined || runtime(name) || plain(name) in ok)
			continue
		print "check-policy-pure: " name " is called from" users[name]
		bad = 1
	}
	exit bad
}' >&2
