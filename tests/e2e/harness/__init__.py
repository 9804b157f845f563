# SPDX-License-Identifier: BSD-2-Clause
"""Private Redis, Postfix, Sendmail and weir-milter for the end-to-end tests.

Every class starts its server on loopback with all its files in a directory of
its own, and ends it when stopped, when pytest ends, and when pytest is killed.
Only the standard library is used, and Debian's own binaries (scripts/deps).
"""
