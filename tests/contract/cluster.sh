#!/bin/sh
# SPDX-License-Identifier: BSD-2-Clause
# The contract of store.h once more, against a Redis Cluster of three nodes: the same cases, the
# same figures, though the records of a request lie in several slots there.
WEIR_TEST_CLUSTER=1
export WEIR_TEST_CLUSTER
for test in test_store test_store_policy test_accuracy; do
	"tests/contract/$test" || exit
done
