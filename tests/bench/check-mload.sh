#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# check-mload.sh - the load generator and the null milter understand each other: what was
# negotiated is obeyed, every session comes to its end, and what the milter answers is counted.
set -u

dir=$(mktemp -d) || exit 1
sock=unix:$dir/null.sock
milter=
trap 'test -z "$milter" || kill $milter 2>/dev/null; rm -rf "$dir"' EXIT
bad=0

# start OPTION...: a null milter that listens
start() {
	test -z "$milter" || { kill $milter 2>/dev/null; wait $milter 2>/dev/null; }
	tests/bench/null_milter "$@" $sock 2>"$dir/log" &
	milter=$!
	for _ in 1 2 3 4 5 6 7 8 9 10; do
		tests/bench/mload -P -d 1 $sock >"$dir/terms" 2>/dev/null && return
		sleep 0.1
	done
	echo "check-mload: the null milter does not answer"; cat "$dir/log"
	exit 1
}
# expect TEXT... : each is part of the last output
expect() {
	for text in "$@"; do
		grep -qF -- "$text" "$dir/out" && continue
		echo "check-mload: not in the output of mload $last: $text"; cat "$dir/out"
		bad=1
	done
}
load() {
	last="$*"
	tests/bench/mload -d 20 "$@" $sock >"$dir/out" 2>&1 || bad=1
}
# steps NAME...: these and no others were answered
steps() {
	got=$(sed 's/.*"steps"://' "$dir/out" | grep -o '"[a-z]*": {"n"' | tr -dc 'a-z\n ' | sed 's/n$//' | tr -d ' ' | tr '\n' ' ')
	test "$got" = "$* " && return
	echo "check-mload: mload $last: steps answered: $got"; cat "$dir/out"
	bad=1
}

# all steps, each answered; three messages of two recipients
start -w 2
load -n 50 -c 8 -m 3 -R 2
expect '"sessions": 50,' '"verdicts": {"passed": 50}' '"refused": {}' '"unanswered": 0,' \
	'"rcpt": {"n": 300,' '"mail": {"n": 150,' '"message": {"n": 150,'
steps negotiate connect helo mail rcpt data message

# nothing but connect, MAIL, RCPT and the end; all macros but one switched off
start -w 1 -n 0x372 -m '0={client_resolve}' -m 3=i
grep -qF '"steps": 882, "macros": ["{client_resolve}", "", "", "i"' "$dir/terms" || {
	echo "check-mload: negotiated: $(cat "$dir/terms")"; bad=1
}
load -n 50 -c 8 -6 -D example.com -s
expect '"sessions": 50,' '"verdicts": {"passed": 50}'
steps negotiate connect mail rcpt message

# MAIL, headers and body are sent but not answered; think time, arrivals
start -n 0xc4080
load -n 40 -r 400 -t 5
expect '"sessions": 40,' '"verdicts": {"passed": 40}' '"late": {"n": 240,'
steps negotiate connect helo rcpt data message

# refused when they connect
start -r '421 4.7.0 no'
load -n 50 -a 1
expect '"sessions": 50,' '"verdicts": {"421": 50}' '"refused": {"connect": 50}'
steps negotiate connect

# let through there, and asked no more
start -a
load -n 50 -m 4
expect '"verdicts": {"accepted": 50}'
steps negotiate connect

# a milter that dies is not a milter that accepts
kill $milter
wait $milter 2>/dev/null
milter=
load -n 5
grep -q '"sessions": 5,.*"\(hangup\|no-road\)"' "$dir/out" && ! grep -q 'passed\|accepted' "$dir/out" || {
	echo "check-mload: a dead milter:"; cat "$dir/out"; bad=1
}
exit $bad
