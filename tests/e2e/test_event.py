# SPDX-License-Identifier: BSD-2-Clause
"""What the event engine can and libmilter cannot: a slow Redis makes nobody wait for others, no
descriptor left is no reason to spin, time-outs are exact, half a packet holds nothing up."""

import functools
import re
import resource
import socket
import struct
import threading
import time
from pathlib import Path

import pytest

import load
import rawmilter
from harness import proc
from harness.weir import PATIENT, patience
from rawmilter import RawMilter

MANY = 'rate = "100000/1h"'
CONF = ("engine = event\nworkers = 1\nlimit sessions { enabled = false }\n"
        f"limit connections {{ enabled = false }}\nlimit recipients {{ {MANY} }}\n")
ATONCE = 60
DELAY = 0.1


class FarRedis:
    """A way to Redis on which each answer takes a while; of many under way at once none
    waits for another."""

    def __init__(self, redis, delay=DELAY):
        self.redis, self.delay = redis, delay
        self.path = proc.make_run_directory("far") / "redis.sock"
        self.url = f"unix:{self.path}"
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(str(self.path))
        self._sock.listen(16)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()

    def _accept(self):
        while True:
            try:
                near, _ = self._sock.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            far.connect(self.redis.path)
            threading.Thread(target=self._pump, args=(near, far, 0), daemon=True).start()
            threading.Thread(target=self._pump, args=(far, near, self.delay),
                             daemon=True).start()

    @staticmethod
    def _pump(source, sink, delay):
        def later(data):
            try:
                sink.sendall(data)
            except OSError:
                pass
        while True:
            try:
                data = source.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                break
            if delay:
                threading.Timer(delay, later, (data,)).start()
            else:
                later(data)
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass


def undisturbed(test):
    """Once more, if the machine was too busy to answer a question in time."""
    @functools.wraps(test)
    def attempts(weir, redis):
        for last in (False, False, True):
            milters = []

            def start(*args, **options):
                milters.append(weir(*args, **options))
                return milters[-1]
            try:
                return test(start, redis)
            except AssertionError:
                if last or not any(m.log("source=zone|does not answer") for m in milters):
                    raise
                for milter in milters:
                    milter.stop()
                redis.cmd("FLUSHALL")
        return None
    return attempts


def cpu(pid):
    """Seconds of processor time."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def in_mail(spec, count):
    """Sessions that have said MAIL, each of an address of its own."""
    sessions = load.negotiated([spec], count)
    load.ask_all(sessions, [("C", load.connect_packet(f"198.51.{n // 250}.{n % 250}"))
                            for n in range(count)])
    for session in sessions:
        session.mail()
    return sessions


@pytest.fixture(autouse=True)
def descriptors():
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@undisturbed
def test_slow_redis(weir, redis):
    """Sixty recipients at once, each answered after 0.1 s: all have theirs soon after, and
    of Redis. (libmilter queues them behind each other: seconds.)"""
    with FarRedis(redis) as far:
        far.process = None
        milter = weir(CONF, redis=far, **PATIENT)
        sessions = in_mail(milter.socket, ATONCE)
        sessions[0].rcpt()              # the script is known, the connection open
        start = time.monotonic()
        replies = load.ask_all(sessions, [("R", b"<u@example.test>\0")] * ATONCE)
        took = time.monotonic() - start
        assert {reply.code for reply in replies} == {rawmilter.CONTINUE}
        assert DELAY <= took < DELAY + 0.9
        load.settle(milter)
        assert not milter.log("source=zone|does not answer")


@undisturbed
def test_what_comes_meanwhile_waits(weir, redis):
    """A whole session in one write: its steps are answered in their order, each once the
    one before is."""
    with FarRedis(redis) as far:
        milter = weir(CONF + 'limit recipients-2 { count = recipients rate = "2/1h" burst = 2\n'
                      ' action = defer reply = "451 4.7.1 Two" }', redis=far, **PATIENT)
        with RawMilter(milter.socket) as session:
            session.negotiate()
            session.send_bytes(b"".join(
                struct.pack("!I", 1 + len(data)) + step + data for step, data in (
                    (b"C", load.connect_packet("192.0.2.1")), (b"M", b"<a@client.test>\0"),
                    (b"R", b"<u1@example.test>\0"), (b"R", b"<u2@example.test>\0"),
                    (b"R", b"<u3@example.test>\0"), (b"E", b""), (b"A", b""),
                    (b"M", b"<b@client.test>\0"), (b"Q", b""))))
            codes = [reply.code if reply else None for reply in
                     (session.read() for _ in range(8))]
            assert codes == ["c", "c", "c", "c", "y", "c", "c", None]


@undisturbed
def test_gone_while_it_waits(weir, redis):
    """Who goes away in the midst of a question is not counted as open for ever, and
    nothing is answered to whoever gets his descriptor."""
    with FarRedis(redis) as far:
        milter = weir("engine = event\nworkers = 1\nlimit sessions { max = 1000 }\n",
                      redis=far, **PATIENT)
        load.connects(milter.socket, "203.0.113.1")
        for end in ("close", "reset", "quit"):
            sessions = load.negotiated([milter.socket], 20)
            for session in sessions:
                session.send("C", load.connect_packet("192.0.2.1"))
                if end == "quit":
                    session.send("Q")
                else:
                    getattr(session, end)()
            others = load.negotiated([milter.socket], 20)
            replies = load.ask_all(others, [("C", load.connect_packet("192.0.2.2"))] * 20)
            assert {reply.code for reply in replies} == {rawmilter.CONTINUE}
            for session in others:
                session.close()
        for address in ("192.0.2.1", "192.0.2.2"):
            proc.wait_for(lambda a=address: redis.cmd(
                "ZCARD", f"weir:open:address:{{192.0.2.0/24}}:{a}") == 0, what="none open")
        # each of them was decided: the log has a line for all 120
        load.settle(milter)
        assert len(milter.log(r"stage=connect .*client=192\.0\.2\.[12] ")) == 120


@undisturbed
def test_limits_change_meanwhile(weir, redis):
    """Sixty sessions ask while the limits have just changed: all of them are decided by the
    new ones, and none waits for another."""
    with FarRedis(redis, 0.03) as far:
        milter = weir(CONF, redis=far, **PATIENT)
        sessions = in_mail(milter.socket, ATONCE)
        sessions[0].rcpt()
        redis.cmd("HSET", "weir:limits", "recipients", 'rate=1/1h burst=1 per=all '
                  'action=defer reply="451 4.7.1 New"')
        redis.cmd("INCR", "weir:generation")
        start = time.monotonic()
        replies = load.ask_all(sessions, [("R", b"<u@example.test>\0")] * ATONCE)
        took = time.monotonic() - start
        texts = [reply.text for reply in replies]
        assert texts.count("451 4.7.1 New") == ATONCE - 1 and took < 1, texts
        milter.wait_log("limits: generation 1 is in force")


def test_no_descriptors_left(weir):
    """New ones wait, those that are there go on, weir does not spin; it says so once."""
    milter = weir(CONF, prefix=["prlimit", "--nofile=64:64"])
    pid, = milter.wait_workers(1)
    first = RawMilter(milter.socket)
    assert first.open("192.0.2.1").code == rawmilter.CONTINUE
    waiting = [RawMilter(milter.socket) for _ in range(100)]
    for session in waiting:
        session.send("O", struct.pack("!III", 6, 0x1FF, 0x1FFFFF))
    milter.wait_log("cannot accept more sessions")
    used = cpu(pid)
    for _ in range(10):
        time.sleep(0.1)
        assert first.mail().code == rawmilter.CONTINUE
    assert cpu(pid) - used < 0.2 * patience()
    for session in waiting[:50]:
        session.close()
    for session in waiting[50:]:
        assert session.read_packet().code == "O"
        session.close()
    assert len(milter.log("cannot accept more sessions")) == 1
    first.close()
    load.connects(milter.socket, "192.0.2.1")


def test_idle_timeout(weir):
    """In time, and counted from the last word. (libmilter looks every ten minutes.)"""
    milter = weir(CONF + "idle-timeout = 1s\n")
    since, took = {}, {}

    def begin(name, *words):
        session = RawMilter(milter.socket, timeout=10)
        since[name] = time.monotonic()
        if words:
            session.open("192.0.2.1")
            since[name] = time.monotonic()
            session.send(*words, length=1000)
        return session

    def wait(name, session):
        assert session.closed(timeout=10)
        took[name] = time.monotonic() - since[name]

    def drip(session):
        for _ in range(30):
            time.sleep(0.1)
            if not session.send_bytes(b"\0"):
                return
    busy = RawMilter(milter.socket)
    busy.open("192.0.2.1")
    half = "M", b"<a@client.test>\0"
    sessions = [("nothing said", begin("nothing said")), ("half", begin("half", *half)),
                ("dripping", begin("dripping", *half))]
    threads = [threading.Thread(target=wait, args=one) for one in sessions]
    threads.append(threading.Thread(target=drip, args=(sessions[2][1],)))
    for thread in threads:
        thread.start()
    for _ in range(5):
        time.sleep(0.4)
        since["busy"] = time.monotonic()
        assert busy.mail().code == rawmilter.CONTINUE
    wait("busy", busy)
    for thread in threads:
        thread.join(10)
    assert len(took) == 4 and all(0.9 < seconds < 3 for seconds in took.values()), took
    assert milter.workers()


def test_half_packets_in_one_burst(weir):
    """Three hundred MTAs stop in the middle of a packet at once: the others do not notice."""
    milter = weir(CONF)
    packet = struct.pack("!I", 1 + 16) + b"M<a@client.test>\0"
    sessions = load.negotiated([milter.socket], 300)
    for session in sessions:
        assert session.connect("192.0.2.1").code == rawmilter.CONTINUE
    for session in sessions:
        session.send_bytes(packet[:9])
    took = []
    for _ in range(20):
        start = time.monotonic()
        load.connects(milter.socket, "192.0.2.2")
        took.append(time.monotonic() - start)
    assert sorted(took)[10] < 0.2 * patience(), took
    for session in sessions:
        session.send_bytes(packet[9:])
    assert all(session.read().code == rawmilter.CONTINUE for session in sessions)
    pid, = milter.wait_workers(1)
    assert len(list(Path(f"/proc/{pid}/task").iterdir())) <= 3


def resident(pid):
    """What it has in memory, what it shares included."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"(?m)^VmRSS:\s+(\d+)", text)[1]) * 1024


@pytest.mark.parametrize("stage", ["connect", "rcpt"])
def test_memory_of_idle_sessions(weir, stage):
    """Two kilobytes each, the lease of a session that is counted included. (The counters of
    clients are in the zone, whose size is fixed: here it is one client.)"""
    milter = weir("engine = event\nworkers = 1\nlimit sessions { max = 100000 }\n"
                  f"limit connections {{ {MANY} }}\nlimit recipients {{ {MANY} }}\n", verbose=False)
    pid, = milter.wait_workers(1)

    def open_some(count):
        sessions = load.negotiated([milter.socket], count)
        for session in sessions:
            session.connect("192.0.2.1", name="mx17.example.test")
            session.helo("client.example.test")
            if stage == "rcpt":
                session.mail("somebody@client.example.test")
                session.rcpt("u@example.test", macros={"i": "4F1A2B3C4D"})
        return sessions
    some = open_some(200)
    before = resident(pid)
    more = open_some(3000)
    each = (resident(pid) - before) / len(more)
    for session in some + more:
        session.close()
    assert each <= 2048 * patience(), each


def test_sendmail_over_tcp(weir, new_sendmail, sources):
    """Sendmail sends macros and command in two, and waits with the second until the first
    has been acknowledged: with libmilter, for 40 ms at each step."""
    spec = f"inet:127.0.0.1:{proc.free_port()}"
    weir("engine = event\n" + "".join(
        f"limit {name} {{ per = address {MANY} }}\n"
        for name in ("connections", "messages", "recipients")), socket=spec)
    sendmail = new_sendmail([spec])
    best = 1.0
    for _ in range(5):
        start = time.monotonic()
        with sendmail.connect(next(sources)) as client:
            client.ehlo()
            assert client.mail() == 250 and client.rcpt() == 250
            best = min(best, time.monotonic() - start)
    assert best < 0.06, best
