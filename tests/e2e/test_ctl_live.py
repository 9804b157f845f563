# SPDX-License-Identifier: BSD-2-Clause
"""What weirctl changes, mail obeys: at the next decision for limits, overrides and
exemptions, within a second where a weir-milter remembers something by itself."""

import subprocess
import threading
import time

import pytest

import load
import rawmilter
from harness import proc
from harness.ctl import Ctl, outlive_memory, starter
from rawmilter import RawMilter

CONF = """
limit connections { rate = "1/1h" burst = 2 }
limit sessions { enabled = false }
limit recipients { rate = "1/1h" burst = 3 }
"""
GREYLIST = 'greylist { enabled = true delay = "1h" }\n'
BLOCKED = "421 4.7.1 Not accepted from your address for now"
SECOND = 1.0
SLACK = 0.7             # what a busy host may add


@pytest.fixture
def start(weir, redis):
    """start(conf) -> (a weir-milter, weirctl with the same file)."""
    return starter(weir, redis)


def visit(mta, source):
    """221: welcomed, and QUIT answered with it; 421: refused."""
    with mta.connect(source) as client:
        if client.greeting == 421:
            assert client.closed()
            return 421
        assert client.greeting == 220 and client.ehlo() == 250
        assert client.quit() == 221
        return 221


def within_a_second(question, what):
    start = time.monotonic()
    proc.wait_for(question, SECOND + SLACK, what, every=0.05)
    return time.monotonic() - start


def test_override_for_one_client(mta, start, sources):
    """Refused, overridden, and welcome at the very next connection."""
    _, ctl = start(CONF)
    source, other = next(sources), next(sources)
    for client in (source, other):
        assert [visit(mta, client) for _ in range(3)] == [221, 221, 421]
    outlive_memory()
    ctl("override", "set", source, "connections", "burst=4")
    assert [visit(mta, source) for _ in range(3)] == [221, 221, 421]
    assert visit(mta, other) == 421
    ctl("unlist", source)
    assert visit(mta, source) == 421
    outlive_memory()
    network = source.rpartition(".")[0] + ".0/24"
    ctl("override", "set", network, "connections", "enabled=false")
    assert [visit(mta, source) for _ in range(3)] == [221] * 3


def test_limit_for_all(mta, start, sources):
    _, ctl = start(CONF)
    first, second, third = (next(sources) for _ in range(3))
    assert [visit(mta, first) for _ in range(3)] == [221, 221, 421]
    outlive_memory()
    ctl("limit set connections burst=4")
    assert [visit(mta, first) for _ in range(3)] == [221, 221, 421]
    assert visit(mta, second) == 221
    ctl("limit set connections burst=1")
    assert visit(mta, second) == 421 and [visit(mta, third) for _ in range(2)] == [221, 421]
    outlive_memory()
    ctl("limit unset connections")
    assert [visit(mta, third) for _ in range(2)] == [221, 421]


def test_temporary(mta, start, sources):
    """`for 2s` ends by itself, everywhere, after two to three seconds; what was set for good
    lies below it."""
    _, ctl = start(CONF)
    source = next(sources)
    ctl("limit set connections burst=1")
    assert [visit(mta, source) for _ in range(2)] == [221, 421]
    outlive_memory()
    before = time.time()
    ctl("limit set connections burst=1000 for 2s")
    until = ctl.json("limit")["limits"][0]["until"]
    assert before + 2 <= until <= time.time() + 3
    assert [visit(mta, source) for _ in range(2)] == [221] * 2
    proc.wait_for(lambda: visit(mta, source) == 421, 5, "the end of it", every=0.05)
    assert until <= time.time() <= until + SLACK
    limit = ctl.json("limit")["limits"][0]
    assert limit["burst"] == 1 and "until" not in limit


def test_lists(mta, start, sources):
    """exempt and block, and back."""
    _, ctl = start(CONF)
    source = next(sources)
    assert [visit(mta, source) for _ in range(3)] == [221, 221, 421]
    outlive_memory()
    ctl("exempt", source)
    assert [visit(mta, source) for _ in range(3)] == [221] * 3
    ctl("block", source)
    within_a_second(lambda: visit(mta, source) == 421, "the block")
    ctl("exempt", source)
    within_a_second(lambda: visit(mta, source) == 221, "the exemption")
    ctl("unlist", source)
    assert visit(mta, source) == 421
    ctl.refused("unlist", source, says="nothing is listed for " + source)


def test_clear(mta, start, sources):
    """A refusal is lifted within a second, for an address and for a network."""
    _, ctl = start(CONF)
    source = next(sources)
    for who in (source, source.rpartition(".")[0] + ".0/24"):
        assert [visit(mta, source) for _ in range(3)] == [221, 221, 421]
        ctl("clear", who)
        within_a_second(lambda: visit(mta, source) == 221, "the clearing")
        assert visit(mta, source) == 221
        ctl("clear", who)
        time.sleep(SECOND)


def rcpt(mta, source):
    with mta.connect(source) as client:
        client.ehlo()
        client.mail()
        code = client.rcpt().code
        if code == 250:
            assert client.rset() == 250 and client.quit() == 221
        return code


def test_greylist(mta, start, sources):
    """pass lets a client's mail in at once; forget makes it wait again."""
    _, ctl = start("limit connections { enabled = false }\n" + GREYLIST)
    source = next(sources)
    assert [rcpt(mta, source) for _ in range(2)] == [421, 421]
    waiting = ctl.json("greylist list")["waiting"]
    assert [(w["sender"], w["recipient"], w["tries"]) for w in waiting] == \
        [("a@client.test", "u1@example.test", 2)]
    ctl("greylist", "pass", source)
    assert [rcpt(mta, source) for _ in range(2)] == [250, 250]
    assert len(ctl.json("greylist list")["known"]) == 1
    ctl("greylist", "forget", source)
    assert ctl.json("greylist list") == {"waiting": [], "known": []}
    assert rcpt(mta, source) == 421
    ctl("greylist", "forget", source)
    ctl.refused("greylist", "forget", source, says="knows nothing of")


def test_block_text(start):
    """The sentence that a blocked client reads, and one that was inside already."""
    milter, ctl = start(CONF)
    with RawMilter(milter.socket) as inside:
        assert inside.open("192.0.2.9").code == rawmilter.CONTINUE
        ctl("block 192.0.2.0/24")
        reply = RawMilter(milter.socket).open("192.0.2.7")
        assert reply.text == BLOCKED
        inside.mail()
        assert inside.rcpt().text == BLOCKED
    milter.wait_log("reason=blocked .*client=192.0.2.7")


# --- status ------------------------------------------------------------------------------------

def test_status(start, redis):
    """Two weir-milters; one that ends is gone when its ten seconds are over."""
    assert "no weir-milter is using this redis" in Ctl(redis.url)("status").out
    first, ctl = start(CONF)
    start(CONF, socket=f"{first.socket}.2")

    def nodes():
        return ctl.json("status")["nodes"]
    proc.wait_for(lambda: len(nodes()) == 2, 5, "both")
    sessions = load.fill([first.socket], "192.0.2.1", 2)
    assert load.connects(first.socket, "192.0.2.1") == [False]
    ctl("limit set connections burst=50")
    wanted = {"version", "engine", "mode", "generation", "started", "workers", "sessions",
              "decisions", "refused", "shadowed", "decisions_per_s", "refused_per_s",
              "breaker_opened", "p50_us", "p99_us", "node", "breaker_last", "draining_workers", "draining_sessions",
              "drain", "drain_until", "load_values", "load_level", "load_own", "load_signal",
              "load_value", "load_mark", "load_since", "load_refused"}
    proc.wait_for(lambda: {n["generation"] for n in nodes()} == {"1"}, 10, "the news")
    assert all(set(n) == wanted for n in nodes())
    assert sorted((n["decisions"], n["refused"], n["workers"]) for n in nodes()) == \
        [(0, 0, 2), (3, 1, 2)]
    text = ctl("status").out
    assert text.count("redis round trip") == 2 and "not yet" not in text
    load.close_all(sessions)
    first.stop()
    lives = sorted(redis.cmd("PTTL", key) for key in redis.cmd("KEYS", "weir:node:*"))
    assert len(lives) == 2 and 0 < lives[0] <= lives[1] <= 10000
    gone = next(n["node"] for n in nodes() if n["decisions"] == 3)
    redis.cmd("PEXPIRE", f"weir:node:{gone}", 1)
    proc.wait_for(lambda: len(nodes()) == 1, 2, "the first's end")


# --- two of them, under load ---------------------------------------------------------------------

class Fresh:
    """Threads that let one client after the other connect, each new, through both."""

    def __init__(self, specs):
        self.specs, self.failed, self.clients = specs, [], 0
        self.seen = []          # (asked first, how many of three were let in)
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(6)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _work(self):
        try:
            while not self._stop.is_set():
                with self._lock:
                    self.clients += 1
                    client = f"10.{self.clients >> 8 & 255}.{self.clients & 255}.1"
                start = time.monotonic()
                admitted = sum(load.connects(self.specs[i % 2], client)[0] for i in range(3))
                self.seen.append((start, time.monotonic(), admitted))
        except Exception as error:  # a thread has nobody else to tell
            self.failed.append(repr(error))

    def more(self, count=40):
        goal = len(self.seen) + count
        proc.wait_for(lambda: self.failed or len(self.seen) >= goal, 20, "traffic")


def test_no_decision_by_an_old_limit(start):
    """Two weir-milters under load, and the burst goes up and down: a client whose
    first connection begins after weirctl has returned gets exactly as many in as the new
    limit says, until weirctl is called again."""
    first, ctl = start(CONF, verbose=False)
    second, _ = start(CONF, socket=f"{first.socket}.2", verbose=False)
    spans = []
    with Fresh([first.socket, second.socket]) as traffic:
        traffic.more()
        for burst in (1, 3, 1, 2, 1, 3):
            ctl("limit", "set", "connections", f"burst={burst}")
            start = time.monotonic()
            traffic.more()
            spans.append((burst, start, time.monotonic()))
    assert traffic.failed == []
    for burst, start, end in spans:
        got = [let for began, ended, let in traffic.seen if start < began and ended < end]
        assert len(got) >= 20 and set(got) == {burst}, (burst, got)
    assert ctl.json("limit")["generation"] == "6"


def test_a_hundred_changes(start, redis):
    """Changes one after another as fast as it goes: mail flows, none is lost."""
    milter, ctl = start(CONF, verbose=False)
    with Fresh([milter.socket] * 2) as traffic:
        for number in range(100):
            ctl("limit", "set", "connections", f"burst={number % 3 + 1}")
        traffic.more(5)
    assert traffic.failed == [] and not milter.log("does not answer")
    assert redis.cmd("GET", "weir:generation") == "100"
    assert load.connects(milter.socket, "192.0.2.1", 2) == [True, False]


def test_weirctl_that_is_killed(start, redis):
    """A change is made whole or not at all."""
    _, ctl = start(CONF)
    for number in range(20):
        process = ctl.popen("limit", "set", "connections", f"burst={number + 1}")
        try:
            process.wait(0.0005 * number)
        except subprocess.TimeoutExpired:
            process.kill()
        process.communicate()
    history = ctl.json("limit history")
    assert redis.cmd("GET", "weir:generation") == (str(len(history)) if history else None)
    if history:
        assert redis.hash("weir:limits")["connections"] == history[0]["changes"][0]["new"]
