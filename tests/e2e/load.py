# SPDX-License-Identifier: BSD-2-Clause
"""Load for the end-to-end tests: many milter sessions at the same moment, and
polite SMTP clients in the background of a test.

    admitted, refused = rush([w1.socket, w2.socket], "192.0.2.1", 64)
    with SmtpLoad(postfix, sources) as load: load.wait(5); ...
    load.check(timeout=0.05)
"""

import itertools
import re
import struct
import threading
import time

import rawmilter
from rawmilter import RawMilter


def connect_packet(address, port=40000):
    """The body of the step "connect"."""
    family = b"6" if ":" in address else b"4"
    return (f"[{address}]".encode() + b"\0" + family + struct.pack("!H", port)
            + address.encode() + b"\0")


def negotiated(specs, count, timeout=10.0):
    """count sessions, by turns on each of specs, as far as the negotiation."""
    sessions = []
    for number in range(count):
        session = RawMilter(specs[number % len(specs)], timeout=timeout)
        assert session.negotiate()
        sessions.append(session)
    return sessions


def ask_all(sessions, packets):
    """Sends each session its packet before any reply is read. Returns the
    replies, in the order of the sessions."""
    for session, (step, body) in zip(sessions, packets):
        session.send(step, body)
    return [session.read() for session in sessions]


def sort(sessions, replies):
    """(those that were let in, those that got 421)."""
    admitted, refused = [], []
    for session, reply in zip(sessions, replies):
        assert reply is not None, "the milter hung up"
        if reply.code in (rawmilter.CONTINUE, rawmilter.ACCEPT):
            admitted.append(session)
        else:
            assert reply.text.startswith("421 "), reply
            refused.append(session)
    return admitted, refused


def rush(specs, address, count):
    """count sessions of one client connect at once; (admitted, refused)."""
    sessions = negotiated(specs, count)
    packet = (rawmilter.CONNECT, connect_packet(address))
    return sort(sessions, ask_all(sessions, [packet] * count))


def close_all(sessions, wait=True):
    """QUIT for all; with wait until the milter has closed each."""
    for session in sessions:
        session.send(rawmilter.QUIT)
    for session in sessions:
        if wait:
            session.closed()
        session.close()


def fill(specs, address, wanted, timeout=5.0):
    """Opens sessions one after another until so many are in; a refused one is
    tried again, as Redis hears of a session's end a moment later."""
    admitted, end = [], time.monotonic() + timeout
    while len(admitted) < wanted:
        session = RawMilter(specs[len(admitted) % len(specs)])
        reply = session.open(address)
        if reply.code == rawmilter.CONTINUE:
            admitted.append(session)
            continue
        close_all([session])
        assert time.monotonic() < end, f"{len(admitted)} of {wanted} were let in"
        time.sleep(0.02)
    return admitted


def connects(spec, address, count=1):
    """One session after another: True for each that was let in."""
    results = []
    for _ in range(count):
        with RawMilter(spec) as session:
            reply = session.open(address)
            assert reply is not None, "the milter hung up"
            results.append(reply.code in (rawmilter.CONTINUE, rawmilter.ACCEPT))
            assert results[-1] or reply.text.startswith("421 "), reply
            session.quit()
    return results


_nobody = itertools.count(1)


def settle(weir):
    """Until all that weir has logged by now is in weir.log(): a decision's line
    is written before its reply, and is read behind the earlier ones."""
    number = next(_nobody)
    address = f"100.64.{number // 250}.{number % 250}"
    connects(weir.socket, address)
    weir.wait_log(rf"stage=connect .*client={re.escape(address)} ")


class SmtpLoad:
    """Threads that each send one message a session, always from a new address,
    until the block ends. Keeps all codes, and how long the slowest reply took."""

    def __init__(self, mta, sources, threads=3):
        self.mta = mta
        self.codes = set()
        self.accepted = self.sessions = 0
        self.slowest = 0.0
        self.odd = []                   # transcripts that did not end with 221
        self.errors = []
        self._sources = sources
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work) for _ in range(threads)]
        self._sent = r"status=sent" if mta.name == "postfix" else r"stat=Sent"
        self._before = len(mta.log(self._sent))

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _work(self):
        while not self._stop.is_set():
            with self._lock:
                source = next(self._sources)
            try:
                self._session(source)
            except Exception as error:  # a thread has nobody else to tell
                with self._lock:
                    self.errors.append(repr(error))
                return

    def _session(self, source):
        slowest, accepted = 0.0, 0
        with self.mta.connect(source) as client:
            slowest = client.seconds
            for step in (client.ehlo, client.mail, client.rcpt, client.data, client.quit):
                reply = step()
                slowest = max(slowest, client.seconds)
                if reply is None or reply.code >= 400:
                    break
                accepted += step == client.data
            with self._lock:
                self.sessions += 1
                self.accepted += accepted
                self.slowest = max(self.slowest, slowest)
                self.codes.update(client.transcript.codes())
                if client.transcript.codes()[-1:] != [221]:
                    self.odd.append(str(client.transcript))

    def wait(self, more, timeout=20.0):
        """Until so many more sessions have ended."""
        end, goal = time.monotonic() + timeout, self.sessions + more
        while self.sessions < goal:
            assert not self.errors, self.errors
            assert time.monotonic() < end, f"{self.sessions} of {goal} sessions"
            time.sleep(0.02)

    def check(self, slack):
        """After the end: nothing but success, in time, and no message lost."""
        assert not self.errors and not self.odd, (self.errors, self.odd[:2])
        assert self.codes <= {220, 250, 354, 221}
        assert self.slowest < slack, f"a reply took {self.slowest} s"
        end = time.monotonic() + 10
        while True:
            sent = len(self.mta.log(self._sent)) - self._before
            if sent >= self.accepted or time.monotonic() > end:
                break
            time.sleep(0.05)
        assert sent == self.accepted, "accepted messages were lost"
