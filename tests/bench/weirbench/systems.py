# SPDX-License-Identifier: BSD-2-Clause
"""What is measured: weir in its forms, the null milter, and the peers. Each runs alone in a
process group with all its files in a temporary directory, and ends with the benchmark."""

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "e2e"))
from harness import proc  # noqa: E402
from harness.redis import Redis  # noqa: E402,F401

BENCH = Path(__file__).resolve().parents[1]

# Limits on connections, sessions, messages and recipients, none of which is ever reached, and
# greylisting: the ordinary work of weir, with nothing to refuse.
LIMITS = """\
limit connections { per = address  rate = "900000000/1m" }
limit sessions { per = address  max = 1000000 }
limit messages { per = address  rate = "900000000/1m" }
limit recipients { per = network  rate = "900000000/1m" }
"""
GREYLIST = 'greylist { enabled = true  delay = "%s"  embargo = off }\n'
ORDINARY = LIMITS + GREYLIST % "1s"
FLOOD = 'limit connections { per = address  rate = "1/1h" }\nlimit sessions { enabled = false }\n'


def build(name):
    """A program of the build directory; $WEIR_MILTER may name another weir-milter."""
    if name == "weir-milter" and os.environ.get("WEIR_MILTER"):
        return proc.need(os.environ["WEIR_MILTER"])
    return proc.need(Path(os.environ["WEIR_BUILD"]) / name)


def stamp_cpu(pid):
    """Seconds of processor time of one process, with all threads that it ever had."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def children(pid):
    """Its direct children; threads come and go while we look."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            found += map(int, (task / "children").read_text().split())
        except OSError:
            pass
    return found


def memory_kb(pid):
    """Proportional set size in kB: memory that workers share counts once among them."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"(?m)^Pss:\s+(\d+)", text)[1])


class System:
    """name: the row in the tables; socket: where the generator goes; redis: whose commands and
    processor time belong to it."""

    redis = None
    options = ()            # more words for the generator

    def __init__(self, name):
        self.name = name
        self.directory = proc.make_run_directory("bench")
        self.socket = f"unix:{self.directory}/milter.sock"
        self.process = None
        self.log = self.directory / "log"

    def _run(self, argv, env=None):
        self.process = proc.Process(argv, env=env, stdout=open(self.log, "ab"),
                                    stderr=subprocess.STDOUT)
        path = self.socket.removeprefix("unix:")
        try:
            proc.wait_for(lambda: os.path.exists(path) or not self.process.alive(), 20, self.name)
            assert self.process.alive()
        except (TimeoutError, AssertionError):
            raise RuntimeError(f"{self.name} did not start:\n{self.log.read_text()}") from None
        return self

    def pids(self):
        """All its processes; milters keep those that they have."""
        found, new = [], [self.process.pid]
        while new:
            pid = new.pop()
            found.append(pid)
            new += children(pid)
        return found

    def memory(self):
        return sum(map(memory_kb, self.pids()))

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def warm(self):
        """Brings it to the state in which it is measured."""


class Weir(System):
    """engine: libmilter or event. url: of its Redis; None: the zone. prefix: in Redis."""

    def __init__(self, name, engine="libmilter", redis=None, url=None, workers=2, conf=ORDINARY,
                 inet=False, known=True):
        super().__init__(name)
        self.redis = redis
        self.known = known
        if inet:
            self.socket = f"inet:127.0.0.1:{proc.free_port()}"
        text = (f'socket = "{self.socket}"\nsocket-mode = "0666"\nworkers = {workers}\n'
                f'exempt = {{}}\ndrain-timeout = 0\n{conf}')
        if engine != "libmilter":
            text += f"engine = {engine}\n"
        if redis:
            # 250ms: what a busy machine delays is not to be answered by the zone instead
            text += (f'redis {{ url = "{url or redis.unix_url}"  prefix = "{name}"  '
                     'timeout = "250ms" }\n')
        self.conf = self.directory / "weir.conf"
        self.conf.write_text(text)

    def start(self):
        argv = [build("weir-milter"), "-f", "-c", self.conf]
        if not self.socket.startswith("inet:"):
            return self._run(argv)
        self.process = proc.Process(argv, stdout=open(self.log, "ab"), stderr=subprocess.STDOUT)
        port = int(self.socket.rpartition(":")[2])
        proc.wait_for(lambda: proc.listening(port), 20, self.name)
        return self

    def warm(self):
        """Every client becomes known: it is held back once and comes back later."""
        if self.known:
            mload(self, "-n", 2000, "-c", 16, "-D", "example.com", "-d", 30)
            time.sleep(1.1)
            for _ in range(2):
                got = mload(self, "-n", 1000, "-c", 16, "-D", "example.com", "-d", 30)
            if got["verdicts"] != {"passed": 1000}:
                raise RuntimeError(f"{self.name}: not all clients are known: {got['verdicts']}")


def has_event_engine():
    """Whether this weir-milter knows `engine = event`."""
    directory = proc.make_directory("bench")
    conf = directory / "weir.conf"
    conf.write_text("engine = event\n")
    return subprocess.run([build("weir-milter"), "-n", "-c", conf], capture_output=True,
                          check=False).returncode == 0


class Null(System):
    """A libmilter that does nothing, with the steps and macros of another milter."""

    def __init__(self, name, like, workers=2, refuse=False, inet=False):
        super().__init__(name)
        if inet:
            self.socket = f"inet:127.0.0.1:{proc.free_port()}"
        self.argv = [build("tests/bench/null_milter"), "-w", workers]
        if refuse:
            self.argv += ["-r", "421 4.7.0 Too many connections, please try again later"]
        self.like = like

    def start(self):
        terms = json.loads(subprocess.run(
            [build("tests/bench/mload"), "-P", self.like.socket], capture_output=True,
            check=True).stdout)
        self.argv += ["-n", hex(terms["steps"])]
        for stage, macros in enumerate(terms["macros"]):
            if macros:
                self.argv += ["-m", f"{stage}={macros}"]
        if not self.socket.startswith("inet:"):
            return self._run([*self.argv, self.socket])
        self.process = proc.Process([*self.argv, self.socket])
        proc.wait_for(lambda: proc.listening(int(self.socket.rpartition(":")[2])), 20, self.name)
        return self


def mload(system, *options):
    """The generator's words, nothing else measured."""
    done = subprocess.run([build("tests/bench/mload"), *map(str, options), system.socket],
                          capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"mload on {system.name}: {done.stderr}")
    return json.loads(done.stdout)


class FarRedis:
    """A Redis that is so many milliseconds away."""

    def __init__(self, redis, round_trip_ms):
        self.directory = proc.make_run_directory("bench")
        self.path = self.directory / "redis.sock"
        self.url = f"unix:{self.path}"
        self.process = proc.Process([build("tests/bench/delay_proxy"), round_trip_ms, self.url,
                                     f"unix:{redis.path}"])
        proc.wait_for(self.path.exists, 5, "delay_proxy")

    def stop(self):
        self.process.stop()
