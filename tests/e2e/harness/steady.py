# SPDX-License-Identifier: BSD-2-Clause
"""A steady load of SMTP clients, some within their limits and some above, that knows of each
reply whether it was right.

    with Stalls() as stalls, Steady(mta, sources, stalls) as mail:
        mail.wait(6); ...; mail.phase = "fault"; ...
    mail.complaints(...)
"""

import re
import threading
import time

# Of a client within its limits; a flood has more, and each address of a guesser, too.
SESSIONS = RECIPIENTS = 10
CONF = f"""
limit connections {{ per = address rate = "1/1h" burst = {SESSIONS} }}
limit recipients {{ per = address rate = "1/1h" burst = {RECIPIENTS} }}
limit messages {{ rate = "1000/1h" }}
"""
TOO_MANY = "421 4.7.1 Too many recipients, try again later"
THREADS = 3
FEW = 3                 # calls that come too late on a busy machine; the zone counts them


class Stalls:
    """How long this machine, busy with other things, kept everybody waiting."""

    def __init__(self):
        self._found = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()

    def _watch(self):
        while not self._stop.is_set():
            start = time.monotonic()
            time.sleep(0.002)
            end = time.monotonic()
            if end - start > 0.01:
                self._found.append((start, end))

    def within(self, start, end):
        return sum(max(0.0, min(b, end) - max(a, start)) for a, b in list(self._found))

    def worst(self):
        return max((b - a for a, b in self._found), default=0.0)


class Steady:
    """Polite clients (THREADS at once, each address as often as it may), one that connects
    without end, and one that asks for recipients without end, each address once."""

    def __init__(self, mta, sources, stalls):
        self.mta = mta
        self.phase = "before"
        self.sessions = 0               # of polite clients
        self.accepted = set()           # the recipients of accepted messages
        self.longest = {}               # phase -> seconds, without the machine's stalls
        self.let_in = {}                # phase -> how often the flood was
        self.let_rcpt = []              # (phases, accepted recipients) of each guesser
        self.refused = 0
        self.wrong, self.fives, self.errors = [], [], []
        self.flood_source = next(sources)
        self.polite_last = None         # a client that comes once more after the fault
        self.refused_sources = set()   # who has to stand in weir's log
        self._stalls = stalls
        self._sources = sources
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._mark = mta.mark()
        self._threads = [threading.Thread(target=self._run, args=(work,)) for work in
                         [self._polite] * THREADS + [self._flood, self._guess]]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, work):
        try:
            work()
        except Exception as error:  # a thread has nobody else to tell
            self.errors.append(repr(error))

    def _source(self):
        with self._lock:
            return next(self._sources)

    def _say(self, step, *args):
        """One step of a session, timed; (its reply, or the new client)."""
        phase, start = self.phase, time.monotonic()
        got = step(*args)
        end = time.monotonic()
        with self._lock:
            if end - start > self.longest.get(phase, 0.0):
                net = end - start - self._stalls.within(start, end)
                self.longest[phase] = max(net, self.longest.get(phase, 0.0))
            reply = getattr(got, "greeting", got)
            if reply is not None and reply.code >= 500:
                self.fives.append(str(reply))
        return got

    def _polite(self):
        while not self._stop.is_set():
            source = self._source()
            for number in range(SESSIONS):
                if self._stop.is_set():
                    return
                self._polite_session(source, f"{source}.{number}@example.test")
                time.sleep(0.01)

    def _polite_session(self, source, recipient):
        with self._say(self.mta.connect, source) as client:
            steps = ((client.ehlo,), (client.mail,), (client.rcpt, recipient),
                     (client.data,), (client.quit,))
            good = client.greeting is not None and client.greeting.code == 220
            for step in steps if good else ():
                reply = self._say(*step)
                good = reply is not None and reply.code < 400
                if not good:
                    break
                if step[0] == client.data:
                    with self._lock:
                        self.accepted.add(recipient)
            with self._lock:
                self.sessions += 1
                self.polite_last = source
                if not good:
                    self.wrong.append(f"{source} is within its limits:\n{client.transcript}")

    def _flood(self):
        while not self._stop.is_set():
            phase = self.phase
            with self._say(self.mta.connect, self.flood_source) as client:
                code = client.greeting.code if client.greeting else 0
                if code == 220:
                    with self._lock:
                        self.let_in[phase] = self.let_in.get(phase, 0) + 1
                    self._say(client.quit)
                elif code == 421:
                    self.refused += 1
                    self.refused_sources.add(self.flood_source)
                else:
                    self.wrong.append(f"flood:\n{client.transcript}")
            time.sleep(0.02)

    def _guess(self):
        while not self._stop.is_set():
            source, phase, count = self._source(), self.phase, 0
            with self._say(self.mta.connect, source) as client:
                self._say(client.ehlo)
                self._say(client.mail)
                while (reply := self._say(client.rcpt, f"u{count}@example.test")) == 250:
                    count += 1
                    if count > 4 * RECIPIENTS:
                        break
                with self._lock:
                    self.let_rcpt.append(({phase, self.phase}, count))
                    if reply != 250 and reply != TOO_MANY:
                        self.wrong.append(f"guesser:\n{client.transcript}")
                    if reply == TOO_MANY:
                        self.refused += 1
                        self.refused_sources.add(source)
            time.sleep(0.05)

    def wait(self, more, timeout=20.0):
        """Until so many more polite sessions have ended."""
        end, goal = time.monotonic() + timeout, self.sessions + more
        while self.sessions < goal:
            assert not self.errors, self.errors
            assert time.monotonic() < end, f"{self.sessions} of {goal} sessions"
            time.sleep(0.005)

    def lost(self, timeout=10.0):
        """How many accepted messages never reached the sink, and how many came twice."""
        sent = (r"to=<(127\.[^>]*)>.*status=sent" if self.mta.name == "postfix"
                else r"to=<(127\.[^>]*)>.*stat=Sent")
        end = time.monotonic() + timeout
        while True:
            found = [m[1] for line in self.mta.log()[self._mark:]
                     if (m := re.search(sent, line))]
            missing = self.accepted - set(found)
            if not missing or time.monotonic() > end:
                return len(missing), len(found) - len(set(found))
            time.sleep(0.05)

    def complaints(self, bar, stores):
        """What was wrong. bar: seconds that Redis may delay a reply by. stores: how many
        places a client was counted in, each of which begins empty."""
        found = self.errors + [f"5xx: {text}" for text in self.fives[:2]] + self.wrong[:2]
        usual = self.longest.get("before", 0.0)
        for phase, longest in self.longest.items():
            if longest > bar + 2 * usual:
                found.append(f"{phase}: a reply took {longest:.3f} s, usually {usual:.3f} s")
        total = sum(self.let_in.values())
        if not SESSIONS <= total <= SESSIONS * stores:
            found.append(f"the flood was let in {self.let_in} times")
        for phases, count in self.let_rcpt:
            disturbed = "fault" in phases or len(phases) > 1
            most = RECIPIENTS * stores if disturbed else RECIPIENTS + FEW
            if not RECIPIENTS <= count <= most:
                found.append(f"{count} recipients in {phases}")
        lost, twice = self.lost()
        if lost or twice:
            found.append(f"{lost} messages lost, {twice} delivered twice")
        return found
