"""What is not a cell: measured once, each in its own way; and the peers."""

import json
import subprocess

from .systems import build, mload


def peers():
    """name -> how to make it, of those that are installed."""
    return {}


def round_trip(run):
    """The bare round trip to the Redis of the benchmark, three times a second."""
    redis = run.systems.redis
    found = []
    for _ in range(3):
        done = subprocess.run([build("tests/bench/redis_rtt"), "0.5", redis.unix_url],
                              capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout)["ping"])
    return sorted(found, key=lambda ping: ping["p50"])[1]


EXTRAS = {"round-trip": round_trip}
