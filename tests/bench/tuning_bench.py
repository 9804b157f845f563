#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""How much a hundred changes of a limit a second cost the mail that flows meanwhile.

    WEIR_MILTER=... WEIRCTL=... tests/bench/tuning_bench.py [ROUNDS [SECONDS]]

Sessions give recipients one after another; each is a decision that asks Redis. Counted are
decisions per second in three states, by turns in each round: nobody changes anything; a
weirctl a time sets a limit, 100 times a second; the same is done by hand over one connection
(which leaves out what starting the programs costs the host). Printed: the median of each, and
the ratio to none with its spread over the rounds.
"""

import multiprocessing
import statistics
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from harness.ctl import Ctl  # noqa: E402
from harness.redis import Redis  # noqa: E402
from harness.weir import Weir  # noqa: E402
import rawmilter  # noqa: E402

CONF = """
limit connections { enabled = false }
limit sessions { enabled = false }
limit recipients { rate = "1000000/1s" burst = 1000000000 }
"""
SESSIONS, BATCH, CHANGES = 8, 50, 100
WORDS = ["burst=1000000000", "burst=999999999"]


class Session(threading.Thread):
    """Recipients without end; BATCH of them are under way at a time."""

    def __init__(self, spec, number, stop):
        super().__init__(daemon=True)
        self.milter = rawmilter.RawMilter(spec)
        self.milter.open(f"10.0.{number}.1")
        self.milter.mail()
        self.stop, self.decisions = stop, 0

    def run(self):
        body = rawmilter.RCPT.encode() + b"<u@example.test>\0"
        batch = (struct.pack("!I", len(body)) + body) * BATCH
        answer = struct.pack("!I", 1) + rawmilter.CONTINUE.encode()
        while not self.stop.is_set():
            self.milter.send_bytes(batch)
            data = self.milter._read_exactly(BATCH * len(answer))
            assert data == answer * BATCH, data and data[:200]
            self.decisions += BATCH


class Changes:
    """change(n) CHANGES times a second, by a process of its own; late ones are made up for."""

    def __init__(self, change):
        self.change = change
        self._done, self._stop = multiprocessing.Value("q"), multiprocessing.Event()
        self._process = multiprocessing.Process(target=self._work, daemon=True)

    @property
    def done(self):
        return self._done.value

    def start(self):
        self._process.start()

    def stop(self):
        self._stop.set()
        self._process.join()

    def _work(self):
        start = time.monotonic()
        while not self._stop.is_set():
            due = start + self.done / CHANGES - time.monotonic()
            if due > 0:
                time.sleep(due)
            self.change(self.done)
            self._done.value += 1


def measure(sessions, change, seconds):
    """(decisions per second, changes per second)."""
    changes = Changes(change) if change else None
    if changes:
        changes.start()
    time.sleep(0.2)
    before, start = sum(s.decisions for s in sessions), time.monotonic()
    changed = changes.done if changes else 0
    time.sleep(seconds)
    took = time.monotonic() - start
    rate = (sum(s.decisions for s in sessions) - before) / took
    changed = (changes.done - changed) / took if changes else 0
    if changes:
        changes.stop()
    return rate, changed


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 2.0
    redis = Redis().start()
    weir = Weir(CONF, redis=redis, verbose=False).start()
    ctl = Ctl(None, "-y", conf=weir.conf)

    def by_weirctl(number):
        subprocess.run([*ctl.argv, "limit", "set", "recipients", WORDS[number % 2]],
                       stdout=subprocess.DEVNULL, check=True)

    link = Redis(unix=False)            # a client of its own, of the same server
    link.port = redis.port

    def by_hand(number):
        link.cmd("HSET", "weir:limits", "recipients", WORDS[number % 2])
        link.cmd("INCR", "weir:generation")

    states = {"none": None, "weirctl": by_weirctl, "by hand": by_hand}
    found = {name: [] for name in states}
    stop = threading.Event()
    sessions = [Session(weir.socket, number, stop) for number in range(SESSIONS)]
    for session in sessions:
        session.start()
    try:
        measure(sessions, None, seconds)        # warm
        for _ in range(rounds):
            for name, change in states.items():
                found[name].append(measure(sessions, change, seconds))
        lost = weir.log("does not answer")
    finally:
        stop.set()
        for session in sessions:
            session.join(5)
        weir.stop()
        redis.stop()
    for name, values in found.items():
        rates = [rate for rate, _ in values]
        ratios = sorted(rate / none for rate, (none, _) in zip(rates, found["none"]))
        print(f"{name:8}  {statistics.median(rates):9.0f} decisions/s  "
              f"{statistics.median(c for _, c in values):5.0f} changes/s  "
              f"ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")
    print(f"{rounds} rounds of {seconds:g} s; Redis was lost {len(lost)} times")


if __name__ == "__main__":
    main()
