#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# doc/security.md promises defences; each test that it names exists.
set -eu
top=${srcdir:-$(dirname "$0")/..}
bad=0 n=0
for named in $(grep -oE '(e2e|contract|unit|fuzz|packaging)/[a-z_]+\.(py|c)(::[a-z_0-9]+)?' \
    "$top/doc/security.md" | sort -u); do
    n=$((n + 1))
    file=$top/tests/${named%%::*} test=${named##*::}
    [ "$test" != "$named" ] || test=
    if [ ! -e "$file" ]; then
        echo "$named: no such file"
    elif [ -n "$test" ] && ! grep -qE "^(def $test\(|$test\()" "$file"; then
        echo "$named: no such test"
    else
        continue
    fi
    bad=1
done
[ "$n" -ge 20 ] || { echo "only $n tests are named: does the pattern still fit?"; bad=1; }
exit $bad
