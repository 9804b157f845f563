# SPDX-License-Identifier: BSD-2-Clause
"""scripts/soak: a run of seconds, so that the script itself cannot rot, and what its
judge has to find in figures that were tampered with."""

import csv
import os
import random
import re
import shutil
import subprocess
import types

import pytest

from harness import proc
from harness.ctl import find_weirctl
from harness.weir import find_program
from soak import judge

HOUR = 3600
SECONDS = 16            # of the short run


def test_short_run(tmp_path):
    """Mail of all kinds, through both MTAs, while a good many things break."""
    done = subprocess.run(
        [proc.SOURCE / "scripts/soak", f"{SECONDS / 60:.4f}", "--seed", "11", "--rate", "45",
         "--pause", "1", "--stall", "8", "--out", tmp_path / "out"],
        env={**os.environ, "WEIR_MILTER": find_program("weir-milter"),
             "WEIRCTL": find_weirctl()},
        capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr
    assert "soak: seed 11," in done.stdout and "soak: 0 findings in " in done.stdout
    rows = list(csv.DictReader(open(tmp_path / "out/soak.csv")))
    assert len(rows) >= SECONDS / 2
    assert all(int(row["calm_workers"]) == 2 for row in rows)
    assert sum(int(row["accepted"]) for row in rows) > 10
    assert sum(int(row["refused"]) for row in rows) > 10
    assert len((tmp_path / "out/events.txt").read_text().splitlines()) >= 6
    if shutil.which("gnuplot"):
        assert (tmp_path / "out/soak.svg").read_text().rstrip().endswith("</svg>")


def test_usage():
    done = subprocess.run([proc.SOURCE / "scripts/soak"], capture_output=True, text=True,
                          check=False)
    assert done.returncode == 2 and done.stderr.startswith("usage: scripts/soak MINUTES")


def figures(**change):
    """A node of a master and a worker for an hour; change: what(t) -> more."""
    noise = random.Random(1)
    samples = []
    for t in range(0, HOUR, 5):
        usage = {"rss": 5000, "private": 900 + noise.randrange(40) + min(t, 300) // 3,
                 "fds": 12 + noise.randrange(6), "threads": 7}
        for what, more in change.items():
            usage[what] += more(t)
        samples.append((t, usage))
    return types.SimpleNamespace(masters={"calm": 1}, processes={("calm", 2): samples},
                                 sums={"calm": samples})


@pytest.mark.parametrize("what, more", [
    ("private", lambda t: t * 0.2), ("private", lambda t: 600 if t > 2700 else 0 if t < 1800 else 300),
    ("fds", lambda t: t // 200), ("threads", lambda t: t // 400)])
def test_growth_is_found(what, more):
    findings, report = judge.memory(figures(**{what: more}), HOUR)
    assert any(f"calm worker 2 {what}" in f for f in findings), report
    assert all(what in f for f in findings)


@pytest.mark.parametrize("more", [
    lambda t: 0,
    lambda t: 5000 if 3000 < t < 3200 else 0,       # a peak
    lambda t: 400 * (t // 600 % 2),                 # a wave
    lambda t: -t * 0.1, lambda t: min(t, 1200)],    # of the beginning only
    ids=["nothing", "peak", "wave", "less", "warm-up"])
def test_no_growth(more):
    findings, _ = judge.memory(figures(private=more), HOUR)
    assert not findings


def replies(milter=lambda t: 1.0, noop=lambda t: 1.0):
    noise = random.Random(2)
    return [(t, what, base * factor(t) * noise.uniform(0.5, 2) / 1000)
            for t in range(HOUR) for what, base, factor in
            (("smtp", 20, lambda t: 1.0), ("milter", 5, milter), ("noop", 0.5, noop))]


def test_latency():
    assert judge.latency(replies(), HOUR, 2.0)[0] == []
    slower, _ = judge.latency(replies(milter=lambda t: 1 + t / 500), HOUR, 2.0)
    assert slower and all("milter" in f for f in slower)
    # what slows down everything is not weir's
    busy, _ = judge.latency(replies(milter=lambda t: 1 + t / 1500, noop=lambda t: 1 + t / 1500),
                            HOUR, 2.0)
    assert busy == []
    stall, _ = judge.latency(replies() + [(100, "smtp", 2.5)], HOUR, 2.0)
    assert len(stall) == 1 and "stalls: 1 " in stall[0]


def test_recovery():
    """One reply of 50 ms in nearly every second, and no fault: nobody asks Redis any more."""
    events = [(t, t + 4, "redis_stopped") for t in range(0, HOUR, 30)]
    good = [(t + .5, "milter", 0.001) for t in range(HOUR)]
    during = [(t + .5, "milter", 0.051) for begin, _, _ in events for t in range(begin, begin + 4)]
    busy = [(t + .7, "milter", 0.080) for t in range(0, HOUR, 4)]
    assert judge.recovery(good + during + busy, events, HOUR)[0] == []
    stuck = [(t + .7, "milter", 0.0503) for t in range(2400, 2700) if t % 20]
    found, _ = judge.recovery(good + during + stuck, events, HOUR)
    assert len(found) == 1 and "in vain" in found[0]


def test_delivery():
    assert judge.delivery(["a", "b"], ["b", "a", "unasked"])[0] == []
    assert "1 of 2 accepted messages were lost: ['b']" in judge.delivery(["a", "b"], ["a"])[0][0]
    assert "came twice: ['a']" in judge.delivery(["a"], ["a", "a"])[0][0]


@pytest.mark.parametrize("line", [
    "==1==ERROR: AddressSanitizer: heap-use-after-free", "x.c:1:2: runtime error: overflow",
    "worker 0 (pid 7) was killed by signal 11: starting another",
    "worker 0 (pid 7) was killed by signal 6", "worker 1 (pid 8) ended with status 1",
    "worker 0 (pid 7) was killed by signal 9\nworker 0 (pid 9) was killed by signal 9"])
def test_crashes(line):
    log = [*line.split("\n"), "worker (pid 5) of before the reload has ended"]
    weir = types.SimpleNamespace(log=lambda p: [l for l in log if re.search(p, l)])
    assert judge.crashes({"shaken": weir}, {"shaken": 1})[0]
    log[:] = ["worker 0 (pid 7) was killed by signal 9: starting another", "stopped"]
    assert judge.crashes({"shaken": weir}, {"shaken": 1})[0] == []
    assert judge.crashes({"calm": weir}, {"shaken": 1})[0]


def test_variety():
    counts = {f"postfix {what}": 1 for what in judge.NEEDED}
    counts.update({"milter whole": 1, "milter part": 1, "milter odd": 1})
    assert judge.variety(counts, ["postfix"])[0] == []
    del counts["postfix flood"]
    assert judge.variety(counts, ["postfix"])[0] == ["never happened: postfix flood"]
