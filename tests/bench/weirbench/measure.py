# SPDX-License-Identifier: BSD-2-Clause
"""One measurement: the generator loads a system, and what its processes and its Redis used in
that time is read when the generator says that the time begins and ends."""

import json
import re
import subprocess
import time

from .systems import build, stamp_cpu


class Redis:
    """What a redis-server has done up to now."""

    def __init__(self, redis):
        text = redis.cmd("INFO", "cpu") + redis.cmd("INFO", "commandstats")
        self.cpu = sum(float(x) for x in re.findall(r"(?m)^used_cpu_(?:sys|user):([\d.]+)", text))
        # what a client sent; commands of a script are not among them
        self.calls = {name: int(calls) for name, calls in re.findall(
            r"(?m)^cmdstat_([\w|]+):calls=(\d+)", text)}
        self.asked = sum(self.calls.get(name, 0) for name in ("evalsha", "eval", "fcall"))


def run_generator(argv, read):
    """Runs a generator with -M; returns its JSON and read() at both ends of the measurement."""
    child = subprocess.Popen([str(word) for word in argv], stdout=subprocess.PIPE,
                             stderr=subprocess.PIPE, text=True)
    readings, complaint = [], ""
    for line in child.stderr:
        if line.strip() in ("measuring", "measured"):
            readings.append(read())
        else:
            complaint += line
    out = child.stdout.read()
    if child.wait() != 0 or len(readings) != 2:
        raise RuntimeError(f"{' '.join(map(str, argv))}: {complaint or out}")
    return json.loads(out), readings


def load(system, *options):
    """The result of the generator, and in microseconds a session: cpu_us of the system, redis_us
    of its Redis; asks: scripts that it was asked to run, a session."""
    pids = []

    def read():
        if not pids:            # not before: workers may be younger than the socket
            pids.extend(system.pids())
        return (time.monotonic(), sum(map(stamp_cpu, pids)),
                Redis(system.redis) if system.redis else None)

    out, (before, after) = run_generator(
        [build("tests/bench/mload"), "-M", *options, *system.options, system.socket], read)
    n = max(1, out["sessions"])
    out["cpu_us"] = (after[1] - before[1]) * 1e6 / n
    out["cpu_share"] = (after[1] - before[1]) / (after[0] - before[0])
    if system.redis:
        out["redis_us"] = (after[2].cpu - before[2].cpu) * 1e6 / n
        out["asks"] = (after[2].asked - before[2].asked) / n
    return out
