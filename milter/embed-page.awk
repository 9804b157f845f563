# SPDX-License-Identifier: BSD-2-Clause
# embed-page.awk - turns milter/page/head.html, page.css, ... into `const char page_head[]`,
# page_css, ..., C on standard output. Named after the file, or if that is "page" after its ending.

function finish() {
	if (name != "")
		print "    \"\";"
}

BEGIN {
	print "/* Made by embed-page.awk from milter/page; do not edit. */"
	print "#include \"page_text.h\""
}

FNR == 1 {
	finish()
	name = FILENAME
	sub(/^.*\//, "", name)
	ending = name
	sub(/^.*\./, "", ending)
	sub(/\..*$/, "", name)
	if (name == "page")
		name = ending
	printf "\nconst char page_%s[] =\n", name
}

{
	sub(/^[ \t]+/, "")
	gsub(/\\/, "\\\\")
	gsub(/"/, "\\\"")
	print "    \"" $0 "\\n\""
}

END {
	finish()
}
