# SPDX-License-Identifier: BSD-2-Clause
"""Mutated sessions of real MTAs against a running weir-milter (tests/fuzz/fuzz_milter_live.c):
nothing that it answers is unsound, no worker dies, nothing false stands in the log, memory
and descriptors stay as they were, and afterwards it serves and counts as ever.

WEIR_FUZZ_SESSIONS   so many (a bounded few; scripts/fuzz live: 100,000)
WEIR_FUZZ_SEED       42
WEIR_FUZZ_CONF       more lines of configuration, such as engine = event
WEIR_FUZZ_MACROS     any: also macro packets of which libmilter dies
WEIR_FUZZ_CLIENT     the program; else that beside weir-milter
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

import load
from harness import proc
from harness.weir import PATIENT, find_program
from rawmilter import RawMilter

SESSIONS = int(os.environ.get("WEIR_FUZZ_SESSIONS", 1500))
SEED = os.environ.get("WEIR_FUZZ_SEED", "42")
CONF = """
limit connections { rate = "100/1m" burst = 5 }
limit sessions { max = 50 }
limit bytes { per = address rate = "1M/1h" }
limit guesses { count = rejected-recipients per = address rate = "100/1h" }
limit helos { count = messages per = helo rate = "10/1m" action = log }
limit senders { count = messages per = sender rate = "10/1m" action = defer }
limit pools { count = recipients per = pool rate = "1000/1m" }
greylist { enabled = true delay = 1h window = 1d reply = "451 4.7.1 Later" }
load { sessions = "5000 4000" }
""" + os.environ.get("WEIR_FUZZ_CONF", "")
# Freed memory is kept back by AddressSanitizer, 256 MB of it: that is no growth of weir's.
ENV = {"ASAN_OPTIONS": "quarantine_size_mb=4:thread_local_quarantine_size_kb=16:"
                       "malloc_context_size=4"}
CLIENT = "203.0.113.77"


def client_program():
    beside = Path(find_program("weir-milter")).parent / "tests/fuzz/fuzz_milter_live"
    return os.environ.get("WEIR_FUZZ_CLIENT") or proc.need(beside)


def resident(pids):
    """KB of all."""
    return sum(int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])
               for pid in pids)


def descriptors(pids):
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


def other(milter):
    """What is no decision, a sanitizer's report for instance."""
    return "\n".join(line for line in milter.log() if " action=" not in line)[:20000]


def run(milter, first, count):
    path = proc.parse_socket(milter.socket)
    return subprocess.run(
        [client_program(), str(path), str(proc.SOURCE / "tests/fuzz/sessions"), str(count), SEED],
        env={**os.environ, "FIRST": str(first),
             "MACROS": os.environ.get("WEIR_FUZZ_MACROS", "")},
        capture_output=True, text=True, check=False)


@pytest.mark.parametrize("redis_or_not", ["redis", "zone"])
def test_mutated_sessions(weir, redis, redis_or_not):
    with_redis = redis if redis_or_not == "redis" else None
    milter = weir(CONF, redis=with_redis, env=ENV, verbose=False,
                  **(PATIENT if with_redis else {}))
    workers = milter.wait_workers(2)
    count = SESSIONS if with_redis else SESSIONS // 3
    warm = count // 4
    outcome = run(milter, 0, warm)
    assert outcome.returncode == 0, outcome.stderr + other(milter)
    assert milter.workers() == workers, other(milter)
    before = resident(workers), descriptors(workers)
    outcome = run(milter, warm, count - warm)
    assert outcome.returncode == 0, outcome.stderr + other(milter)

    # the same workers, and nobody is counted as open
    assert milter.workers() == workers, other(milter)
    if with_redis:
        proc.wait_for(lambda: not [key for key in redis.cmd("KEYS", "weir:open:*")
                                   if redis.cmd("ZCARD", key)], 10, "the end of all sessions")
    proc.wait_for(lambda: descriptors(workers) <= before[1] + 6, 10, "all to be closed")
    after = resident(workers), descriptors(workers)
    print(f"{outcome.stdout.strip()} and {warm} before; resident {before[0]} KB -> {after[0]} KB, "
          f"descriptors {before[1]} -> {after[1]}")
    # arenas of libmilter's threads, and of the zone what was touched
    assert after[0] <= before[0] * 1.2 + 24 * 1024

    if milter.log("does not answer"):       # a busy machine: then not what is tested here
        proc.wait_for(lambda: len(milter.log("is back after")) >= len(
            milter.log("does not answer")), 10, "Redis")
    # it counts as ever, and the rest of the session is served
    assert load.connects(milter.socket, CLIENT, 7) == [True] * 5 + [False] * 2
    with RawMilter(milter.socket) as session:
        assert session.open("203.0.113.78").code == "c"
        assert session.helo().code == "c" and session.mail().code == "c"
        assert session.rcpt("abuse@example.test").code == "c"
        assert session.rcpt("u@example.test").text == "451 4.7.1 Later"
        assert session.quit()

    # and nothing false is in the log
    bad = [line for line in milter.log() if not line.startswith("weir-milter: ")
           or not (line.isascii() and line.isprintable()) or len(line) > 2000]
    assert not bad, bad[:3]
    for key in redis.cmd("KEYS", "*") if with_redis else []:
        assert redis.cmd("TTL", key) != -1, f"{key} stays for ever"
