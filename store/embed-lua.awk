# SPDX-License-Identifier: BSD-2-Clause
# embed-lua.awk - turns store/lua/NAME.lua into `const char lua_NAME[]`, C on standard output.
#
#	awk -f embed-lua.awk lua/ask.lua lua/load.lua > lua.c
#
# Comments and indentation are left out (every byte is hashed by Redis once and sent on a
# NOSCRIPT); the lines stay, so that line numbers in Redis' errors are those of the file.

function finish() {
	if (name != "")
		print "    \"\";"
}

BEGIN {
	print "/* Made by embed-lua.awk from the .lua files; do not edit. */"
	print "#include \"lua.h\""
}

FNR == 1 {
	finish()
	name = FILENAME
	sub(/^.*\//, "", name)
	sub(/\.lua$/, "", name)
	printf "\nconst char lua_%s[] =\n", name
}

{
	sub(/^[ \t]+/, "")
	if ($0 ~ /^--/)
		$0 = ""
	gsub(/\\/, "\\\\")
	gsub(/"/, "\\\"")
	printf "    \"%s\\n\"\n", $0
}

END {
	finish()
}
