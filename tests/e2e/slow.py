# SPDX-License-Identifier: BSD-2-Clause
"""Slow SMTP clients: a number of sessions that are always in progress, each held
for a while at another stage, through an MTA whose milter must not be lost.

    with SlowLoad(mta, sources, 50) as load: load.warm_up(); ...
    load.check()
"""

import threading
import time

# Where a session is held; each session at one of them.
STAGES = ("connected", "greeted", "mail", "rcpt", "data", "sent", "second mail", "reset")


class SlowLoad:
    """threads sessions at any time, from ever new addresses."""

    def __init__(self, mta, sources, threads=50, hold=2.0):
        self.mta = mta
        self.hold = hold
        self.threads = threads
        self.open = 0                   # sessions between greeting and QUIT
        self.sessions = self.recipients = self.messages = 0     # that were begun
        self.held = set()               # stages at which sessions were held
        self.codes = set()
        self.bad = []                   # transcripts with a failure, and errors
        self._since = self._area = 0.0  # of the count over time, since warm_up()
        self._sources = sources
        self._last = time.monotonic()
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._workers = [threading.Thread(target=self._work) for _ in range(threads)]

    def __enter__(self):
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for worker in self._workers:
            worker.join(30)

    def _work(self):
        while not self._stop.is_set():
            with self._lock:
                source, stage = next(self._sources), STAGES[self.sessions % len(STAGES)]
                # not all alike, or they would all come to their end at once
                hold = self.hold * (0.6 + self.sessions % 9 / 10)
                self.sessions += 1
            try:
                self._session(source, stage, hold)
            except Exception as error:  # a thread has nobody else to tell
                with self._lock:
                    self.bad.append(repr(error))
                return

    def _count(self, by):
        with self._lock:
            self._add_up()
            self.open += by

    def _add_up(self):
        now = time.monotonic()
        self._area += self.open * (now - self._last)
        self._last = now

    def average(self):
        """How many were in progress since warm_up()."""
        with self._lock:
            self._add_up()
            return self._area / (self._last - self._since)

    def _session(self, source, stage, hold):
        with self.mta.connect(source, timeout=20) as client:
            self._count(1)
            try:
                self._talk(client, stage, hold)
            finally:
                self._count(-1)
            with self._lock:
                self.codes.update(client.transcript.codes())
                if client.transcript.codes()[-1:] != [221] or not client.closed():
                    self.bad.append(f"{source} held at {stage}\n{client.transcript}")

    def _talk(self, client, stage, hold):
        def wait(here):
            if here != stage or failed:
                return
            with self._lock:
                self.held.add(here)
            time.sleep(hold)

        def say(reply):
            nonlocal failed
            failed = failed or reply is None or reply.code >= 400

        failed = client.greeting is None or client.greeting.code >= 400
        wait("connected")
        say(client.ehlo())
        wait("greeted")
        for number in (1, 2):
            if failed:
                return
            say(client.mail(f"a{number}@client.test"))
            wait("mail" if number == 1 else "second mail")
            for name in ("u1", "u2"):
                if failed:
                    return
                with self._lock:
                    self.recipients += 1
                say(client.rcpt(f"{name}@example.test"))
            wait("rcpt" if number == 1 else "reset")
            if number == 2 and stage == "reset":
                say(client.rset())
                break
            say(client.command("DATA"))
            wait("data" if number == 1 else "")
            if failed:
                return
            with self._lock:
                self.messages += 1
            say(client.dot("Subject: test\r\n\r\ntest"))
            wait("sent" if number == 1 else "")
        say(client.quit())

    def warm_up(self, timeout=20):
        """Until all are in progress at once, and each stage was reached."""
        end = time.monotonic() + timeout
        while not self.bad and time.monotonic() < end:
            with self._lock:
                if self.open >= self.threads * 0.9 and len(self.held) == len(STAGES):
                    self._last = self._since = time.monotonic()
                    self._area = 0.0
                    return
            time.sleep(0.01)
        raise AssertionError(f"{self.open} sessions, held at {self.held}: {self.bad[:2]}")

    def check(self):
        """After the end: no failure, and no connection that was dropped."""
        assert not self.bad, f"{len(self.bad)} of {self.sessions}:\n" + "\n".join(self.bad[:3])
        assert self.codes == {220, 250, 354, 221}
        assert len(self.held) == len(STAGES)
