#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""Measures weir, the null milter and the peers side by side; scripts/bench calls it.

    WEIR_BUILD=... tests/bench/run.py [--minutes M] [--quick] [--out FILE.json] [CASE...]

Rounds of all cells follow one another until the time is up; what is printed are medians over the
rounds, and ratios of one round with their spread. CASE: only these tables.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from weirbench import cases, extras, measure, report  # noqa: E402
from weirbench.systems import has_event_engine  # noqa: E402


def machine():
    cpu = next((line.partition(":")[2].strip() for line in open("/proc/cpuinfo")
                if line.startswith("model name")), platform.machine())
    return {"cpu": cpu, "cores": os.cpu_count(), "kernel": platform.release(),
            "when": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
            "load": os.getloadavg()[0]}


class Run:
    def __init__(self, options):
        self.options = options
        self.start = time.monotonic()
        self.end = self.start + options.minutes * 60
        self.event = has_event_engine()
        self.systems = cases.Systems(self.event)
        self.result = {"machine": machine(), "event": self.event, "quick": options.quick,
                       "cells": [], "extras": {}, "pings": {}}

    def left(self):
        return self.end - time.monotonic()

    def wanted(self, case):
        return not self.options.cases or case in self.options.cases

    def save(self):
        self.result["machine"]["load-after"] = os.getloadavg()[0]
        Path(self.options.out).write_text(json.dumps(self.result, indent=1) + "\n")

    def cell(self, cell, number):
        for name in cell.systems:
            system = self.systems.get(name)
            if cell.fresh is not None:
                self.systems.redis.cmd("SELECT", cell.fresh)
                self.systems.redis.cmd("FLUSHDB")
                self.systems.redis.cmd("SELECT", 0)
            got = measure.load(system, *cell.options)
            self.result["cells"].append({"round": number, "case": cell.case, "what": cell.what,
                                         "system": name, **got})
            self.save()
            if self.options.verbose:
                print(f"{number} {cell.case} {cell.what} {name}: {got['rate']:.0f}/s "
                      f"cpu {got['cpu_us']:.0f} us redis {got.get('redis_us', 0):.0f} us "
                      f"p99 {got['wait']['p99']:.2f} ms {got['verdicts']}", flush=True)

    def rounds(self):
        all_cells = [c for c in cases.cells(self.event, self.options.quick,
                                            "rspamd" in self.systems.peers)
                     if self.wanted(c.case)]
        number = 0
        while all_cells:
            for cell in all_cells:
                if number % cell.every:
                    continue
                if number > 0 and self.left() < cell.lasts * len(cell.systems):
                    return number
                self.cell(cell, number)
                if cell.case == "ordinary" and cell.what["open"] == 1:
                    self.result["pings"][str(number)] = extras.round_trip(self)
            number += 1
            self.save()
            if self.left() <= 0:
                return number
        return number

    def all(self):
        for name, measured in extras.EXTRAS.items():
            if self.wanted(name):
                self.result["extras"][name] = measured(self)
                self.save()
        self.rounds()
        self.save()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", default="bench.json")
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument("--table", action="store_true",
                        help="measure nothing: print the tables of --out again")
    parser.add_argument("--doc", help="put them into this file, between its two marks")
    parser.add_argument("cases", nargs="*")
    options = parser.parse_args()
    if options.table:
        result = json.loads(Path(options.out).read_text())
    else:
        result = measure_all(options)
    if options.doc:
        report.into_document(result, Path(options.doc))
    else:
        print(report.tables(result))


def measure_all(options):
    if options.minutes is None:
        options.minutes = 3 if options.quick else 12
    run = Run(options)
    try:
        run.all()
    finally:
        run.systems.stop()
    print(f"{time.monotonic() - run.start:.0f} s; all figures are in {options.out}\n")
    return run.result


if __name__ == "__main__":
    main()
