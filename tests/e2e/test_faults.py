# SPDX-License-Identifier: BSD-2-Clause
"""The fault matrix: each fault of Redis, of the line to it, of clocks and of logs, under a
steady load through Postfix and Sendmail at once. No 5xx, no lost message, no wrong verdict, no
reply later because of Redis than BAR, the breaker soon open, Redis soon used again, one line a
change.

Each cell says what it measured: $WEIR_FAULTS_TABLE names a file into which the table goes
(scripts/faults). What does not come from Redis is in test_faults_host.py."""

import os
import re
import struct
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import proc
from harness.redis import Redis
from harness.redis_proxy import RedisProxy
from harness.steady import CONF, Stalls, Steady
from harness.weir import Weir

BAR = 0.2               # seconds that a reply may be late because of Redis
BACK = 2.0              # until Redis is used again
CALLS = 3               # that may fail until nobody asks any more
TIMEOUT = 0.05
TRIES = 3               # of a cell, on a machine that is busy with other things
NOISE = 0.02            # a stall that makes a figure doubtful
LONG = int(os.environ.get("WEIR_FAULTS_LONG", "1"))     # times the sessions of each phase
SESSIONS = 6 * LONG
DOWN = r"redis \S+ does not answer \("
IS_BACK = r"redis \S+ is back after \d+ s"


class Fault:
    """start(cell) breaks it and end(cell) mends it. down: weir has to notice (None: it may).
    why: what it says. stores: places where a client was counted meanwhile. line: through a
    proxy. setup(cell): before weir starts. again: called over and over between. flaps: what
    weir tries Redis with may succeed meanwhile."""

    def __init__(self, start=None, end=None, down=True, why="", stores=2, line=False,
                 setup=None, again=None, options=None, logs=True, flaps=False):
        self.start, self.end = start or (lambda _: None), end or (lambda _: None)
        self.down, self.why, self.stores, self.line = down, why, stores, line
        self.setup, self.again, self.logs = setup, again, logs
        self.flaps = flaps
        self.options = options or (lambda _: {})


class Cell:
    """What one run has: redis, line (a proxy, or the redis), weir, and what came out."""

    def __init__(self, fault):
        self.fault = fault
        self.directory = proc.make_directory("fault")
        self.redis = Redis()
        self.line = self.redis
        self.complaints, self.figures = {}, {}

    def cmd(self, *words):
        return self.redis.cmd(*words)


def fill_memory(cell):
    cell.cmd("SET", "filler", "x" * 2000000)
    cell.cmd("CONFIG", "SET", "maxmemory", "1mb", "maxmemory-policy", "noeviction")


def free_memory(cell):
    cell.cmd("CONFIG", "SET", "maxmemory", "0")
    cell.cmd("DEL", "filler")


def save_much(cell):
    cell.cmd("DEBUG", "POPULATE", "1000", "filler", "10")


def load_slowly(cell):
    """Killed, and reads its database for two seconds."""
    cell.cmd("SAVE")
    cell.redis.config += ["key-load-delay 2000", "loading-process-events-interval-bytes 1024"]
    cell.redis.kill()
    cell.redis.start(wait=False)


def loaded(cell):
    proc.wait_for(cell.redis.answers, 20, "the database to be loaded")


def change_password(cell):
    cell.cmd("CONFIG", "SET", "requirepass", "another")
    cell.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")


def grow_log(cell):
    cell.cmd("CONFIG", "SET", "appendonly", "yes", "auto-aof-rewrite-percentage", "0")
    cell.cmd("DEBUG", "POPULATE", "100000", "filler", "100")


def rewrite_log(cell):
    if "aof_rewrite_in_progress:0" in cell.cmd("INFO", "persistence"):
        cell.cmd("BGREWRITEAOF")
    time.sleep(0.05)


def set_clock(cell, offset):
    with open(cell.directory / "clock", "r+b") as file:
        file.write(struct.pack("q", offset))


def shifted(cell):
    """The environment of a program whose wall clock set_clock() sets."""
    shim = cell.directory / "clock.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", shim,
                    Path(__file__).parent / "harness/clock_shim.c"], check=True)
    (cell.directory / "clock").write_bytes(bytes(8))
    return {"LD_PRELOAD": str(shim), "WEIR_CLOCK": f"{cell.directory}/clock"}


def redis_clock(cell):
    cell.redis.env = {**os.environ, **shifted(cell)}
    cell.redis.restart()
    set_clock(cell, 3600)
    proc.wait_for(lambda: int(cell.cmd("TIME")[0]) - time.time() > 3500, what="the shim")
    set_clock(cell, 0)


def jump(cell):
    """An hour ahead, then an hour behind, in the middle of everything."""
    for offset in (3600, -3600, 0):
        set_clock(cell, offset)
        time.sleep(0.15)


FAULTS = {
    "killed": Fault(lambda c: c.redis.kill(), lambda c: c.redis.start(), why="onnect", stores=3),
    "stopped": Fault(lambda c: c.redis.freeze(), lambda c: c.redis.thaw(), why="timeout"),
    "restarted empty": Fault(lambda c: c.redis.restart(), down=None, stores=3),
    "loading": Fault(load_slowly, loaded, setup=save_much, down=True, stores=3),
    "out of memory": Fault(fill_memory, free_memory, why="OOM"),
    "read-only": Fault(lambda c: c.cmd("REPLICAOF", "127.0.0.1", 1),
                       lambda c: c.cmd("REPLICAOF", "NO", "ONE"), why="READONLY"),
    "200 ms slow": Fault(lambda c: c.line.slow(0.2), lambda c: c.line.good(), why="timeout",
                         line=True),
    "5 s slow": Fault(lambda c: c.line.slow(5), lambda c: c.line.good(), why="timeout", line=True),
    "half-open": Fault(lambda c: c.line.silent(), lambda c: c.line.good(), why="timeout",
                       line=True),
    "backlog full": Fault(lambda c: c.line.unreachable(), lambda c: c.line.good(),
                          why="timeout", line=True),
    "password changed": Fault(change_password,
                              lambda c: c.cmd("CONFIG", "SET", "requirepass", ""), why="NOAUTH"),
    "answers cut": Fault(lambda c: (c.line.cut(), c.cmd("CLIENT", "KILL", "TYPE", "normal",
                                                        "SKIPME", "yes")),
                         lambda c: c.line.good(), line=True, stores=3, flaps=True),
    "answers of wrong type": Fault(lambda c: c.line.lie(), lambda c: c.line.good(), line=True,
                                   stores=3, flaps=True),
    "scripts flushed": Fault(again=lambda c: c.cmd("SCRIPT", "FLUSH"), down=False, stores=1),
    "clock of Redis": Fault(setup=redis_clock, start=jump, down=False, stores=2),
    "clock of this host": Fault(options=lambda c: {"env": shifted(c)}, start=jump,
                                down=False, stores=1),
    "AOF rewrite": Fault(setup=grow_log, again=rewrite_log, down=False, stores=1),
    "disk full for logs": Fault(options=lambda c: {"log_to": "/dev/full"}, logs=False,
                                start=lambda c: c.redis.freeze(),
                                end=lambda c: c.redis.thaw()),
}


class Repeat:
    """Calls work(cell) over and over."""

    def __init__(self, work, cell):
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work, cell))

    def _run(self, work, cell):
        while not self._stop.is_set():
            work(cell)
            time.sleep(0.002)

    def __enter__(self):
        self._thread.start()

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def go_through(cell, mails):
    fault, weir = cell.fault, cell.weir
    for mail in mails:
        mail.wait(SESSIONS)
    for mail in mails:
        mail.phase = "fault"
    start, mark = time.monotonic(), weir.mark()
    fault.start(cell)
    if fault.down and fault.logs:
        line = weir.wait_log(DOWN, since=mark)
        cell.figures["opened"] = time.monotonic() - start
        if fault.why not in line:
            cell.complaints["weir"].append(f"{fault.why} is not in {line}")
    with Repeat(fault.again or (lambda _: time.sleep(0.05)), cell):
        for mail in mails:
            mail.wait(SESSIONS)
    fault.end(cell)
    mended = time.monotonic()
    if fault.logs and (fault.down or weir.log(DOWN)):
        weir.wait_log(IS_BACK, timeout=BACK + 3, since=mark)
        cell.figures["back"] = max(0.0, time.monotonic() - mended)
    elif fault.down:
        time.sleep(1)
    for mail in mails:
        mail.phase = "after"
    for mail in mails:
        mail.wait(SESSIONS)


def judge(cell, mails):
    """Every bar of the matrix that does not hold."""
    fault, weir = cell.fault, cell.weir
    found = cell.complaints["weir"]
    for mail in mails:
        cell.complaints[mail.mta.name] = mail.complaints(BAR, fault.stores)
        cell.figures[mail.mta.name] = {
            "usual": mail.longest.get("before", 0.0), "longest": max(mail.longest.values()),
            "sessions": mail.sessions, "messages": len(mail.accepted), "refused": mail.refused}
        if not mail.refused:
            cell.complaints[mail.mta.name].append("nobody was refused")
        if not cell.cmd("KEYS", f"weir:address:*{mail.polite_last}"):
            found.append(f"{mail.polite_last}: Redis is not used again")
        if fault.logs:
            for source in mail.refused_sources:
                try:
                    weir.wait_log(rf"action=refuse code=421 .*reason=rate .*client={source} ")
                except AssertionError:
                    found.append(f"{source} was refused without a reason in the log:\n"
                                 + "\n".join(weir.log(rf"client={source} ")[-3:]))
    if not fault.logs:
        return
    went, came = weir.log(DOWN), weir.log(IS_BACK)
    cell.figures["lines"] = len(went), len(came)
    most = 4 * SESSIONS if fault.flaps else 1
    if len(went) != len(came) or len(went) > most or (
            fault.down is not None and bool(went) != fault.down):
        found.append(f"{len(went)} times down, {len(came)} times back:\n" + "\n".join((went + came)[:8]))
    if cell.figures.get("back", 0.0) > BACK:
        found.append(f"used again after {cell.figures['back']:.2f} s")
    # One call after another, each out of time at the latest, and what came between them.
    if cell.figures.get("opened", 0.0) > CALLS * TIMEOUT + 1.0:
        found.append(f"open after {cell.figures['opened']:.2f} s only")


def run(fault, socket, mtas, sources):
    cell = Cell(fault)
    cell.complaints["weir"] = []
    cell.redis.start()
    try:
        if fault.setup:
            fault.setup(cell)
        if fault.line:
            cell.line = RedisProxy(cell.redis)
        cell.weir = Weir(CONF, socket=socket, redis=cell.line, **fault.options(cell)).start()
        with Stalls() as stalls:
            mails = [Steady(mta, sources, stalls) for mta in mtas]
            try:
                with mails[0], mails[1]:
                    go_through(cell, mails)
                judge(cell, mails)
            except AssertionError as error:
                cell.complaints["weir"].append(str(error)[:3000])
        cell.noise = stalls.worst()
        cell.figures["noise"] = cell.noise
    finally:
        if hasattr(cell, "weir"):
            cell.weir.stop()
        if fault.line and cell.line is not cell.redis:
            cell.line.stop()
        cell.redis.thaw()
        cell.redis.stop()
    return cell


# --- the tests ------------------------------------------------------------------------------

_table = {}


@pytest.fixture(scope="module")
def addresses():
    """As `sources`, for a whole module: nobody else comes from these."""
    return (f"127.{150 + n // 62500}.{n // 250 % 250}.{n % 250 + 1}" for n in range(10 ** 6))


@pytest.fixture(scope="module", params=FAULTS)
def cell(request, milter_socket, postfix, sendmail, addresses):
    """The fault, gone through once for both MTAs. Bars are for a machine that has the time:
    what failed on a busy one is tried again, and a fault of weir's fails each time."""
    for _ in range(TRIES):
        done = run(FAULTS[request.param], milter_socket, (postfix, sendmail), addresses)
        if not any(done.complaints.values()) or done.noise < NOISE:
            break
    _table[request.param] = done.figures
    return done


@pytest.mark.parametrize("name", ["postfix", "sendmail", "weir"])
def test_fault(cell, name):
    """postfix, sendmail: what its clients saw. weir: its breaker, its log, its use of Redis."""
    assert not cell.complaints.get(name, ["not reached"]), "\n".join(
        cell.complaints.get(name, ["not reached"])) + "\n" + "\n".join(cell.weir.log()[-15:])


def row(name, figures):
    def ms(value):
        return f"{value * 1000:.0f}"
    cells = [name]
    for mta in ("postfix", "sendmail"):
        one = figures.get(mta)
        cells.append(f"{ms(one['longest'])} ({ms(one['usual'])})" if one else "-")
    messages = sum(figures.get(m, {}).get("messages", 0) for m in ("postfix", "sendmail"))
    cells.append(str(messages))
    for key in ("opened", "back"):
        cells.append(ms(figures[key]) if key in figures else "-")
    cells.append("{} + {}".format(*figures["lines"]) if "lines" in figures else "-")
    return "| " + " | ".join(cells) + f" | `test_faults.py -k '{name}'` |"


def test_write_table():
    """The last one: what was measured goes where $WEIR_FAULTS_TABLE says, between two marks."""
    path = os.environ.get("WEIR_FAULTS_TABLE")
    lines = [row(name, figures) for name, figures in _table.items()]
    assert all(line.count("|") == 9 for line in lines)
    if path:
        text = Path(path).read_text()
        new, count = re.subn(r"(?s)(<!-- measured -->\n).*(<!-- end -->)",
                             lambda m: m[1] + "\n".join(lines) + "\n" + m[2], text)
        assert count == 1, f"{path} has no marks"
        Path(path).write_text(new)
