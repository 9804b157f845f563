# SPDX-License-Identifier: BSD-2-Clause
"""What scripts/bench is made of: systems.py starts what is measured, measure.py loads it and looks
at its processes, cases.py says what is measured, report.py makes tables of the results."""
