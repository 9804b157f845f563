# SPDX-License-Identifier: BSD-2-Clause
"""What is not a cell: measured once, each in its own way."""

import json
import os
import re
import subprocess
import time

from . import peers
from .measure import run_generator
from .systems import Redis, Weir, build, mload, stamp_cpu

OPEN_IDLE = 5000
CLIENTS = 20000


def round_trip(run):
    """The bare round trip to the Redis of the benchmark: the median of three."""
    found = []
    for _ in range(3):
        done = subprocess.run([build("tests/bench/redis_rtt"), "0.5", run.systems.redis.unix_url],
                              capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout)["ping"])
    return sorted(found, key=lambda ping: ping["p50"])[1]


THREE = """\
limit connections { per = address  rate = "60/1m" }
limit messages { per = address  rate = "60/1m" }
limit recipients { per = address  rate = "300/10m" }
limit sessions { enabled = false }
"""


def redis_memory(_):
    """Bytes of Redis for each client after one session with one message."""
    found = {}
    for name, conf, clients in (
            ("three limits per address", THREE, 0),
            ("the built-in limits, 256 in a network", "", CLIENTS),
            ("the built-in limits, each in a network of its own", "", 0)):
        redis = Redis().start()
        weir = Weir("weir", redis=redis, conf=conf, known=False).start()
        mload(weir, "-n", 10, "-c", 1)

        def used():
            return int(re.search(r"used_memory:(\d+)", redis.cmd("INFO", "memory"))[1])
        before = used()
        mload(weir, "-n", CLIENTS, "-c", 64, "-d", 60, "-a", clients)
        time.sleep(1.0)         # the keeper releases the leases
        found[name] = (used() - before) / CLIENTS
        weir.stop()
        redis.stop()
    return found


def idle_memory(run):
    """Bytes of the milter's processes for each session that is open and silent."""
    found = {}
    for name in ("null", "weir", *(["weir-event"] if run.event else [])):
        system = run.systems.get(name)
        before = system.memory()
        _, (during, _) = run_generator(
            [build("tests/bench/mload"), "-M", "-c", OPEN_IDLE, "-r", OPEN_IDLE / 2, "-t", 600000,
             "-w", 3, "-d", 0.3, system.socket], system.memory)
        found[name] = (during - before) * 1024 / OPEN_IDLE
        time.sleep(0.5)
    return found


def through_postfix(run):
    """Messages a second that smtp-source delivers through a Postfix without a milter, and through
    one with weir, each in a session of its own."""
    if os.geteuid() != 0:
        return None
    from harness.postfix import TREE, Postfix
    names = ["weir", *(["weir-event"] if run.event else [])]
    systems = {"no milter": [], **{n: [run.systems.get(n).socket] for n in names}}
    messages, rounds = (300, 2) if run.options.quick else (800, 4)
    found = {name: [] for name in systems}
    servers = {name: Postfix(milters=milters).start() for name, milters in systems.items()}

    def deliver(server, n):
        start = time.monotonic()
        subprocess.run(
            [f"{TREE}/usr/sbin/smtp-source", "-s", "16", "-m", str(n), "-l", "2048", "-f",
             "a@client.test", "-t", "u1@example.test", f"127.0.0.1:{server.port}"],
            env=server.env, check=True, capture_output=True, timeout=120)
        return n / (time.monotonic() - start)
    for server in servers.values():     # greylisting: the first ones come back
        for _ in range(3):
            try:
                deliver(server, 20)
            except subprocess.CalledProcessError:
                time.sleep(1.1)
    for _ in range(rounds):
        for name, server in servers.items():
            found[name].append(deliver(server, messages))
    for server in servers.values():
        server.stop()
    return found


def postgrey(run):
    """Decisions a second of postgrey, which has no session around them."""
    if not peers.installed("postgrey"):
        return None
    system = peers.Postgrey("postgrey").start()
    found = []
    for triplets in (1000, 0):
        for c in (1, 16, 64):
            pid = system.process.pid
            before, start = stamp_cpu(pid), time.monotonic()
            got = peers.policy(system, c, 0.7 if run.options.quick else 1.5, triplets)
            got["cpu"] = (stamp_cpu(pid) - before) / (time.monotonic() - start)
            found.append({"open": c, "new": triplets == 0, **got})
    system.stop()
    return found


def idle_cpu(run):
    """Share of a processor that weir, its Redis and nothing else to do take."""
    found = {}
    for name in ("weir", *(["weir-event"] if run.event else [])):
        pids = run.systems.get(name).pids()
        before = sum(map(stamp_cpu, pids))
        time.sleep(2)
        found[name] = (sum(map(stamp_cpu, pids)) - before) / 2
    return found


EXTRAS = {"round-trip": round_trip, "idle-cpu": idle_cpu, "idle-memory": idle_memory,
          "redis-memory": redis_memory, "postfix": through_postfix, "postgrey": postgrey}
