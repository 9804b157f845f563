#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# check-loop.sh - the faults of Redis once more, for a store that is asked by an event loop.
set -u

WEIR_TEST_LOOP=1
export WEIR_TEST_LOOP
for t in redis_faults redis_hostile redis_storm redis_store; do
	./tests/contract/test_$t || exit
done
