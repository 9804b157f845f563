# SPDX-License-Identifier: BSD-2-Clause
"""A long run of mixed mail and random faults, for scripts/soak.

traffic.py sends the mail, faults.py breaks and mends what is around it, sample.py writes
down each second what the processes use, judge.py says at the end what went wrong.
"""
