# SPDX-License-Identifier: BSD-2-Clause
"""Limits that are changed in Redis by hand while mail flows: two weir-milters
on one Redis obey the next moment, and nothing that somebody writes there can
hurt them."""

import threading
import time

import pytest

import load
import rawmilter
from harness import proc
from rawmilter import RawMilter

FILE_BURST = 2
CONF = """
limit connections {{ rate = "1/1h" burst = 2 }}
limit sessions {{ {sessions} }}
limit recipients {{ {recipients} }}
redis {{ url = "{url}" timeout = "250ms" }}
"""


class Pair:
    """Two weir-milters on one Redis."""

    def __init__(self, weir, redis, recipients="per = network", sessions="max = 1000"):
        conf = CONF.format(url=redis.url, recipients=recipients, sessions=sessions)
        self.redis = redis
        self.first = weir(conf)
        self.both = (self.first, weir(conf, socket=f"{self.first.socket}.2"))
        self.specs = [each.socket for each in self.both]
        self._clients = 0
        self._workers = [each.wait_workers(2) for each in self.both]

    def client(self):
        """One that has not been seen before."""
        self._clients += 1
        return f"198.51.{self._clients // 250}.{self._clients % 250 + 1}"

    def set(self, name, words):
        """As somebody with redis-cli would."""
        self.redis.cmd("HSET", "weir:limits", name, words)
        self.redis.cmd("INCR", "weir:generation")

    def unset(self, name):
        self.redis.cmd("HDEL", "weir:limits", name)
        self.redis.cmd("INCR", "weir:generation")

    def burst(self):
        """How many connections of a new client are let in, by turns; the same
        for a client of each of the two alone."""
        found = set()
        for order in (self.specs, self.specs[:1], self.specs[1:]):
            client, admitted = self.client(), 0
            while load.connects(order[admitted % len(order)], client) == [True]:
                admitted += 1
                assert admitted < 50
            found.add(admitted)
        assert len(found) == 1, "the two do not agree"
        return found.pop()

    def visit_all_workers(self):
        """Until each worker has taken a decision that began after this call."""
        for running, workers in zip(self.both, self._workers):
            load.settle(running)
            mark = running.mark()

            def visited(running=running, mark=mark):
                sessions = load.negotiated([running.socket], 8)
                load.ask_all(sessions, [(rawmilter.CONNECT, load.connect_packet(
                    self.client())) for _ in sessions])
                load.close_all(sessions)
                return {int(running.fields(line)["session"].partition(".")[0], 16)
                        for line in running.log()[mark:] if "session=" in line}
            proc.wait_for(lambda: visited() == set(workers), 10, "all workers")

    def check(self):
        """Nobody crashed, no line is forged, and Redis was there throughout."""
        for running, workers in zip(self.both, self._workers):
            load.settle(running)
            assert running.workers() == workers, "a worker has died"
            assert all(line.startswith("weir-milter: ") for line in running.log())
            assert not running.log("does not answer|source=zone")


@pytest.fixture
def pair(weir, redis):
    """start(...) -> Pair, checked at the end."""
    pairs = []

    def start(**options):
        pairs.append(Pair(weir, redis, **options))
        return pairs[-1]
    yield start
    for each in pairs:
        each.check()


def test_raise_lower_remove(pair):
    """The next decision of either goes by it."""
    p = pair()
    assert p.burst() == FILE_BURST
    for burst in (5, 1, 7):
        p.set("connections", f"burst={burst}")
        assert p.burst() == burst
    p.set("connections", "rate=120/1m burst=4")
    assert p.burst() == 4
    p.unset("connections")
    assert p.burst() == FILE_BURST


def test_raise_for_a_client_just_refused(pair):
    """Who was refused the moment before is refused unasked for up to a second."""
    p = pair()
    client = p.client()
    assert load.connects(p.specs[0], client, 4) == [True, True, False, False]
    assert load.connects(p.specs[1], client, 2) == [False, False]
    p.set("connections", "burst=4")
    changed = time.monotonic()
    for spec in p.specs:
        proc.wait_for(lambda spec=spec: load.connects(spec, client) == [True], 2)
    assert time.monotonic() - changed < 1.5
    assert load.connects(p.specs[0], client) == [False]


def test_history_is_kept(pair):
    """Lowering a limit does not forgive what has been used."""
    p = pair()
    p.set("connections", "burst=6")
    client = p.client()
    assert load.connects(p.specs[0], client, 3) == [True] * 3
    p.set("connections", "burst=3")
    assert load.connects(p.specs[1], client) == [False]
    p.set("connections", "burst=4")
    assert load.connects(p.specs[0], client, 2) == [True, False]


def test_switched_off_and_on(pair):
    p = pair()
    p.set("connections", "enabled=false")
    for spec in p.specs:
        assert load.connects(spec, p.client(), 10) == [True] * 10
    p.set("connections", "enabled=true")
    assert p.burst() == FILE_BURST


def test_switched_on_where_nothing_was_asked(pair):
    """While no limit needs Redis at all, a new one is found within a second."""
    p = pair(recipients="enabled = false", sessions="enabled = false")
    p.set("connections", "enabled=false")
    for spec in p.specs:
        assert load.connects(spec, p.client(), 10) == [True] * 10
    p.set("connections", "enabled=true")
    time.sleep(2)       # each worker looks by itself, once a second
    assert p.burst() == FILE_BURST


def messages(spec, client, count):
    """True for each message of a new session whose first recipient passed."""
    results = []
    with RawMilter(spec) as session:
        assert session.open(client).code in (rawmilter.CONTINUE, rawmilter.ACCEPT)
        for _ in range(count):
            if session.ended or session.mail() is None:
                return results
            results.append(session.rcpt().code == rawmilter.CONTINUE)
            if not results[-1]:
                break
            session.abort()
        session.quit()
    return results


def test_limit_only_in_redis(pair):
    """A limit that the file does not know works for the next session."""
    p = pair()
    p.set("connections", "burst=1000")
    p.set("letters", "count=messages per=network rate=1/1h burst=2")
    for number, spec in enumerate(p.specs):
        assert messages(spec, f"203.0.{number}.1", 5) == [True, True, False]
        assert messages(spec, f"203.0.{number}.2", 1) == [False]
    # one count for both
    assert messages(p.specs[0], "203.0.2.1", 1) == [True]
    assert messages(p.specs[1], "203.0.2.2", 5) == [True, False]


def test_limit_that_needs_other_steps(pair):
    """When the MTA has not been asked for MAIL and RCPT until now, sessions that
    begin a moment later have it."""
    p = pair(recipients="enabled = false", sessions="enabled = false")
    p.set("connections", "burst=1000")
    p.set("letters", "count=messages rate=1/1h burst=2")
    for spec in p.specs:
        proc.wait_for(lambda spec=spec: messages(spec, p.client(), 5)
                      == [True, True, False], what="the new steps")


@pytest.mark.parametrize("bad", [
    "burst=many", "burst=-1", "rate=5", "count=letters", "burst=5 reply=\"550 5.7.1 x\"",
    "burst=9 burst", "nonsense", "", "max=3", "burst=9 reply=\"421 4.7.0 100%\"",
    "burst=" + "9" * 5000])
def test_bad_value(pair, bad):
    """Ignored and said once by each of the two; the last good value stays."""
    p = pair()
    p.set("connections", "burst=4")
    p.visit_all_workers()
    p.set("connections", bad)
    assert p.burst() == 4
    p.visit_all_workers()
    p.redis.cmd("INCR", "weir:generation")
    assert p.burst() == 4
    for running in p.both:
        # worker 0 speaks for all; it looks once a second
        running.wait_log("limits: connections is ignored: ")
    p.set("connections", "burst=3")
    assert p.burst() == 3
    p.unset("connections")
    assert p.burst() == FILE_BURST
    for running in p.both:
        load.settle(running)
    assert [len(running.log(r"limits: \S+ is ignored: ")) for running in p.both] == [1, 1]


FORGED = "x\nweir-milter: NOQUEUE: action=refuse code=421 forged"


@pytest.mark.parametrize("fields", [
    {FORGED: "burst=1"}, {"new": f"burst=1 reply={FORGED}"}, {"new": "x" * 100000},
    {"x" * 100000: "burst=1"}, {"new": b"rate=1/1m\0burst=1", b"a\0b": "burst=1"},
    {"": ""}, {"%s%n%s": "%s%n%s"}, {b"\xff\xfe": b"\xff\x1b[31m"}, {"a" * 33: "burst=1"},
    {f"zz{number}\n": "x\n" * 10 for number in range(1000)},
    {f"z-{number}": "count=messages rate=1000000/1m" for number in range(1000)}],
    ids=["newline", "newline-value", "long-value", "long-name", "nul", "empty", "format",
         "bytes", "name", "many", "many-good"])
def test_hostile_entries(pair, fields):
    """Names and values that nobody would write by mistake."""
    p = pair()
    words = [word for field in fields.items() for word in field]
    p.redis.cmd("HSET", "weir:limits", *words)
    p.set("connections", "burst=3")
    assert p.burst() == 3
    p.visit_all_workers()
    for running in p.both:
        running.wait_log("limits: generation|ignored")
        assert not running.log("^weir-milter: NOQUEUE: action=refuse code=421 forged")
        assert all(len(line) < 2000 and line.isprintable() for line in running.log())


@pytest.mark.parametrize("spoil", [
    ("HSET", "weir:generation", "a", "b"), ("LPUSH", "weir:generation", "1"),
    ("SET", "weir:generation", "two words\nweir-milter: x"),
    ("SET", "weir:generation", "g" * 10000), ("SET", "weir:generation", b"\0\xff"),
    ("SET", "weir:generation", ""), ("SET", "weir:generation", "-1")],
    ids=["hash", "list", "text", "long", "bytes", "empty", "negative"])
def test_odd_generation(pair, spoil):
    """It is only a token: the limits hold, and one that can be counted up again
    brings the changes."""
    p = pair()
    p.set("connections", "burst=4")
    assert p.burst() == 4
    p.redis.cmd("DEL", "weir:generation")
    p.redis.cmd(*spoil)
    assert p.burst() == 4
    p.redis.cmd("SET", "weir:generation", "77")
    p.set("connections", "burst=3")
    assert p.burst() == 3


def test_limits_of_wrong_type(pair):
    """The limits of the file go on; what stands there is left alone."""
    p = pair()
    p.redis.cmd("SET", "weir:limits", "precious")
    p.redis.cmd("INCR", "weir:generation")
    client = p.client()
    results = load.connects(p.specs[0], client, 2 * FILE_BURST)
    assert results == [True] * FILE_BURST + [False] * FILE_BURST
    assert p.redis.cmd("GET", "weir:limits") == "precious"
    p.redis.cmd("DEL", "weir:limits")
    p.set("connections", "burst=5")
    assert p.burst() == 5


class Connects:
    """Threads that connect again and again as one client, through both."""

    def __init__(self, specs, client):
        self.results = []               # (when it was asked, when answered, let in)
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(spec, client))
                         for spec in specs * 2]

    def _work(self, spec, client):
        while not self._stop.is_set():
            with RawMilter(spec) as session:
                session.negotiate()
                start = time.monotonic()
                reply = session.connect(client)
                self.results.append((start, time.monotonic(),
                                     reply.code == rawmilter.CONTINUE))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def more(self, count=40):
        goal = len(self.results) + count
        proc.wait_for(lambda: len(self.results) >= goal, 20)


REMEMBERED = 1.1    # seconds: ZONE_REFUSAL_US and some


@pytest.mark.parametrize("change", ["lower", "raise"])
def test_no_decision_by_the_old_limit(pair, change):
    """Once INCR has returned no decision that begins then goes by the old limit,
    however many are under way; a refusal that is remembered ends within a second."""
    p = pair()
    high, low = "rate=1000000/1s burst=1000000", "rate=1/1h burst=1"
    for _ in range(3):
        p.set("connections", high if change == "lower" else low)
        client = p.client()
        load.connects(p.specs[0], client)
        with Connects(p.specs, client) as connects:
            connects.more()
            started = time.monotonic()
            p.set("connections", low if change == "lower" else high)
            if change == "raise":
                time.sleep(REMEMBERED)
            ended = time.monotonic()
            connects.more()
        before = [let for _, answered, let in connects.results if answered < started]
        after = [let for asked, _, let in connects.results if asked > ended]
        assert set(before) == {change == "lower"} and set(after) == {change == "raise"}, \
            f"{after.count(change == 'lower')} of {len(after)} by the old limit"
