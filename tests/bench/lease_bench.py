#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""How long open sessions stay miscounted after each way to die.

    WEIR_MILTER=... tests/bench/lease_bench.py

Two weir-milters on one Redis, a limit of 12 open sessions for one client, and 6 sessions open
through each. One thing dies; printed are the seconds until exactly as many new sessions get in as
there is room for, and whether one too many ever did before. At last a session through a weir-milter
on whose Redis nobody else is, for longer than a lease lives.
"""

import os
import sys
import time
from pathlib import Path
from signal import SIGKILL

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
import load  # noqa: E402
from harness.redis import Redis  # noqa: E402
from harness.weir import Weir  # noqa: E402

MAX, EACH = 12, 6
CONF = f"""
limit connections {{ enabled = false }}
limit recipients {{ enabled = false }}
limit sessions {{ max = {MAX} }}
"""
WAIT = 90
# A busy host would else have each weir-milter count for itself now and then.
WORDS = 'timeout = "250ms"'
CLIENT = "192.0.2.1"


def room(spec, most):
    """So many sessions are let in now; they end again."""
    held = []
    for _ in range(most + 1):
        session = load.RawMilter(spec)
        reply = session.open(CLIENT)
        held.append(session)
        if reply.code != load.rawmilter.CONTINUE:
            break
    load.close_all(held)
    return len(held) - 1


def settle(spec, expected, start):
    """Seconds until there is exactly that room; None: not within WAIT."""
    seen = 0
    while time.monotonic() - start < WAIT:
        time.sleep(0.5)         # ends are told a moment later
        seen = room(spec, MAX)
        if seen == expected:
            return time.monotonic() - start
    print(f"  there is room for {seen}, not {expected}")
    return None


def workers(milter):
    out = os.popen(f"pgrep -P {milter.process.popen.pid}").read().split()
    return [int(pid) for pid in out]


def one_worker(first, _second, _redis):
    os.kill(workers(first)[0], SIGKILL)
    return None                 # whose sessions those were is not known


def whole_weir(first, _second, _redis):
    first.kill()
    return MAX - EACH


def empty_redis(_first, _second, redis):
    redis.restart()             # it has forgotten everything
    return 0


def kept_redis(_first, _second, redis):
    redis.kill()
    time.sleep(2)
    redis.start()
    return 0


def trial(name, kill, persistent=False):
    redis = Redis(persistent=persistent)
    redis.start()
    first, second = (Weir(CONF, redis=redis, redis_words=WORDS) for _ in range(2))
    first.start()
    second.start()
    held = load.fill([first.socket], CLIENT, EACH) + load.fill([second.socket], CLIENT, EACH)
    assert room(second.socket, MAX) == 0
    start = time.monotonic()
    expected = kill(first, second, redis)
    if expected is None:        # which of the two had how many?
        expected = None
        while time.monotonic() - start < WAIT:
            time.sleep(0.5)
            expected = room(second.socket, MAX)
            if expected:
                break
        took = time.monotonic() - start
        print(f"{name:32} {took:5.1f} s; room for {expected} again")
    else:
        took = settle(second.socket, expected, start)
        print(f"{name:32} " + (f"{took:5.1f} s" if took is not None else f"not in {WAIT} s"))
    load.close_all(held, wait=False)
    for milter in (first, second):
        try:
            milter.stop()
        except Exception:
            pass
    redis.stop()


trial("kill -9 of a worker", one_worker)
trial("kill -9 of a whole weir-milter", whole_weir)
trial("kill -9 of Redis, empty after", empty_redis)
trial("kill -9 of Redis, with its data", kept_redis, persistent=True)

redis = Redis()
redis.start()
milter = Weir(CONF, redis=redis, redis_words=WORDS)
milter.start()
held = load.fill([milter.socket], CLIENT, MAX)
start = time.monotonic()
most = 0
while time.monotonic() - start < 130:
    time.sleep(5)
    most = max(most, room(milter.socket, MAX))
print(f"{MAX} sessions open for {time.monotonic() - start:.0f} s: room for {most} more meanwhile")
load.close_all(held)
milter.stop()
redis.stop()
