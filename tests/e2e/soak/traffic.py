# SPDX-License-Identifier: BSD-2-Clause
"""Who sends mail in a soak, and what each is told.

Some speak SMTP to Postfix and Sendmail: polite clients that come back when they are put
off, floods, guessers of addresses, big messages, logins, lists of recipients, slow ones,
and some that go away in the middle. Others speak the milter protocol itself, from a wide
range of addresses, and not always well. All that each does follows from the seed.
"""

import random
import threading
import time

from harness import mta as mtas
from harness.auth import plain
from harness.smtp import Client
from rawmilter import CONTINUE, RawMilter, REJECT, DISCARD, REPLY

KNOWN = [f"127.201.{n}.5" for n in range(12)]       # come again and again
FLOODERS = [f"127.202.{n}.5" for n in range(4)]
GUESSERS = [f"127.203.{n}.5" for n in range(4)]
USERS = ["ann", "bob", "cy"]
GREY = 2.5              # a little more than the delay of greylisting
GIVE_UP = 30.0          # seconds without a reply


class Books:
    """What was measured and found, by all threads."""

    def __init__(self, start):
        self._start = start
        self._lock = threading.Lock()
        self.replies = []               # (when, "smtp"|"milter"|"noop", seconds)
        self.counts = {}
        self.accepted = []              # recipients whose message got 250
        self.findings = []
        self._number = 0

    def now(self):
        return time.monotonic() - self._start

    def reply(self, what, seconds):
        with self._lock:
            self.replies.append((self.now(), what, seconds))

    def count(self, name, by=1):
        with self._lock:
            self.counts[name] = self.counts.get(name, 0) + by

    def recipient(self):
        """One that no other message has."""
        with self._lock:
            self._number += 1
            return f"soak-{self._number}@{mtas.DOMAIN}"

    def accept(self, recipients):
        with self._lock:
            self.accepted += recipients

    def find(self, what):
        with self._lock:
            self.findings.append(f"at {self.now():.1f} s: {what}")


class Measured(Client):
    """Each reply is timed, and none but those that are said to be may be a 5xx."""

    def __init__(self, books, mta, source):
        self.books = books
        self.may_fail = False
        self.what = "smtp"
        self.sent = time.monotonic()
        super().__init__(mta.host, mta.port, source=source, timeout=GIVE_UP)

    def send_bytes(self, data):
        self.sent = time.monotonic()
        return super().send_bytes(data)

    def read(self, timeout=None):
        reply = super().read(timeout)
        if reply is None:
            return None
        self.books.reply(self.what, time.monotonic() - self.sent)
        if reply.code >= 500 and not self.may_fail:
            self.books.find(f"a 5xx:\n{self.transcript}")
        return reply

    def noop(self):
        """What no milter is asked about: how fast the machine is by itself."""
        self.what = "noop"
        try:
            return super().noop()
        finally:
            self.what = "smtp"


class Smtp(threading.Thread):
    """One client after another, at an MTA."""

    KINDS = {"polite": 40, "stranger": 20, "flood": 3, "guesses": 4, "big": 4, "list": 6,
             "login": 8, "abort": 10, "slow": 5}

    def __init__(self, name, books, stop, seed, mta, pause):
        super().__init__(name=name, daemon=True)
        self.books, self.stop, self.mta, self.pause = books, stop, mta, pause
        self.random = random.Random(f"{seed}/{name}")

    def run(self):
        kinds, weights = list(self.KINDS), list(self.KINDS.values())
        first = self.random.sample(kinds, len(kinds))   # each once, then as they come
        while not self.stop.wait(self.random.expovariate(1 / self.pause)):
            kind = first.pop() if first else self.random.choices(kinds, weights)[0]
            self.books.count(f"{self.mta.name} {kind}")
            try:
                getattr(self, kind)()
            except Exception as error:
                self.books.find(f"{self.mta.name} {kind}: {error!r}")

    def _stranger(self):
        r = self.random
        return f"127.{r.randrange(1, 200)}.{r.randrange(256)}.{r.randrange(1, 255)}"

    def _text(self, size):
        return "Subject: soak\r\n\r\n" + "x" * 70 + ("\r\n" + "y" * 70) * (size // 72)

    def _session(self, source, recipients, size=200, hold=0.0, user=None):
        """A message; the code that ended it: 250, or that of a refusal."""
        with Measured(self.books, self.mta, source) as client:
            if client.greeting is None or client.greeting.code != 220:
                return self._ended(client, client.greeting)
            steps = [client.ehlo, client.noop, lambda: client.mail("soak@client.test")]
            if user:
                steps.insert(1, lambda: client.command(f"AUTH {plain(user)}"))
            for step in steps:
                reply = step()
                if reply is None or reply.code >= 400:
                    return self._ended(client, reply)
            good = []
            for recipient in recipients:
                reply = client.rcpt(recipient)
                if reply is None or reply.code == 421:
                    return self._ended(client, reply)
                if reply.code == 250:
                    good.append(recipient)
            self.stop.wait(hold)
            if not good:
                return self._ended(client, reply)
            reply = client.data(self._text(size))
            if reply is None:
                self.books.find(f"no reply to the message:\n{client.transcript}")
                return 0
            if reply.code == 250:
                self.books.accept(good)
            return self._ended(client, reply)

    def _ended(self, client, reply):
        code = reply.code if reply is not None else 0
        self.books.count(f"{self.mta.name} replies {code}")
        if code == 421:
            if not client.closed():
                self.books.find(f"open after 421:\n{client.transcript}")
        elif code:
            bye = client.quit()
            if bye is None or bye.code != 221:
                self.books.find(f"QUIT was not answered with 221:\n{client.transcript}")
        else:
            self.books.find(f"hung up without 421:\n{client.transcript}")
        return code

    def polite(self):
        self._until_accepted(self.random.choice(KNOWN))

    def stranger(self):
        self._until_accepted(self._stranger())

    def _until_accepted(self, source):
        for _ in range(3):
            if self._session(source, [self.books.recipient()]) == 250 or \
                    self.stop.wait(GREY):
                return

    def flood(self):
        source = self.random.choice(FLOODERS)
        for _ in range(30):
            with Measured(self.books, self.mta, source) as client:
                code = client.greeting.code if client.greeting is not None else 0
                self.books.count(f"{self.mta.name} floods {code}")
                if code == 220:
                    client.quit()
                elif code != 421:
                    self.books.find(f"a flood's greeting:\n{client.transcript}")

    def guesses(self):
        with Measured(self.books, self.mta, self.random.choice(GUESSERS)) as client:
            reply = client.greeting
            for step in (client.ehlo, client.mail):
                if reply is not None and reply.code < 400:
                    reply = step()
            client.may_fail = True      # by the MTA: nobody has these addresses
            for number in range(8):
                if reply is None or reply.code == 421:
                    return
                reply = client.rcpt(f"{mtas.UNKNOWN}-{number}@{mtas.DOMAIN}")
            client.quit()

    def big(self):
        self._session(self.random.choice(KNOWN), [self.books.recipient()],
                      size=self.random.randrange(100_000, 1_000_000))

    def list(self):
        self._session(self.random.choice(KNOWN), [self.books.recipient() for _ in range(12)])

    def login(self):
        self._session(self._stranger(), [self.books.recipient()],
                      user=self.random.choice(USERS))

    def slow(self):
        self._session(self.random.choice(KNOWN), [self.books.recipient()],
                      hold=self.random.uniform(0.5, 4))

    def abort(self):
        """Goes away after so many steps: politely, with FIN, with RST, or in a message."""
        with Measured(self.books, self.mta, self.random.choice(KNOWN)) as client:
            reply = client.greeting
            steps = [client.ehlo, client.mail, client.rcpt, client.rset, client.mail,
                     client.rcpt, lambda: client.command("DATA")]
            for step in steps[:self.random.randrange(len(steps) + 1)]:
                if reply is None or reply.code >= 400:
                    break
                reply = step()
            if reply is not None and reply.code == 354:
                client.send_bytes(b"Subject: cut off\r\n\r\nand n")
            if self.random.random() < 0.5:
                client.abort()


class Milter(threading.Thread):
    """Sessions of the milter protocol at both weir-milters. cut: those of this one may be
    cut off, as its workers are killed."""

    def __init__(self, name, books, stop, seed, weirs, cut, pause):
        super().__init__(name=name, daemon=True)
        self.books, self.stop, self.pause = books, stop, pause
        self.weirs, self.cut = weirs, cut
        self.random = random.Random(f"{seed}/{name}")

    def run(self):
        while not self.stop.wait(self.random.expovariate(1 / self.pause)):
            weir = self.random.choice(self.weirs)
            kind = self.random.choices(["whole", "part", "odd"], [60, 30, 10])[0]
            self.books.count(f"milter {kind}")
            try:
                with RawMilter(weir.socket, timeout=GIVE_UP) as session:
                    getattr(self, kind)(session, weir)
            except (BrokenPipeError, ConnectionError) as error:
                if weir is not self.cut:
                    self.books.find(f"milter {kind}: {error!r}")
            except Exception as error:
                self.books.find(f"milter {kind}: {error!r}")

    def _address(self):
        r = self.random
        if r.random() < 0.5:
            return f"2001:db8:{r.randrange(65536):x}:{r.randrange(65536):x}::{r.randrange(1, 9)}"
        return f"100.{r.randrange(64, 128)}.{r.randrange(256)}.{r.randrange(1, 255)}"

    def _say(self, session, weir, step):
        """False when that was the end."""
        start = time.monotonic()
        reply = step()
        if session.ended:
            if weir is not self.cut:
                self.books.find("a milter session was cut off")
            return False
        if reply is None:
            return True
        self.books.reply("milter", time.monotonic() - start)
        if reply.code in (REJECT, DISCARD) or \
                reply.code == REPLY and not reply.text.startswith("4"):
            self.books.find(f"a milter said {reply}")
        self.books.count(f"milter says {reply.code} {reply.text[:3]}".rstrip())
        return reply.code == CONTINUE

    def _steps(self, session):
        sender = f"u{self.random.randrange(1000)}@client.test"
        yield lambda: session.connect(self._address(), name=f"h{self.random.randrange(50)}.test")
        yield session.helo
        for _ in range(self.random.randrange(1, 4)):
            yield lambda: session.mail(sender, macros={"i": "SOAK", "{mail_addr}": sender})
            for number in range(self.random.randrange(1, 4)):
                yield lambda n=number: session.rcpt(f"u{n}@{mtas.DOMAIN}")
            yield session.data
            yield session.header
            yield session.eoh
            yield session.body
            yield session.eom

    def whole(self, session, weir):
        if session.negotiate() is None:
            return self._say(session, weir, lambda: None)
        for step in self._steps(session):
            if not self._say(session, weir, step):
                break
        return session.quit()

    def part(self, session, weir):
        """Left somewhere, or begun anew on the same connection."""
        if session.negotiate() is None:
            return
        left = self.random.randrange(12)
        for number, step in enumerate(self._steps(session)):
            if number == left or not self._say(session, weir, step):
                break
        if self.random.random() < 0.3:
            session.abort()
        if self.random.random() < 0.3:
            session.quit_new()          # libmilter does not answer behind that

    def odd(self, session, _weir):
        """What no MTA says; nobody waits for an answer."""
        r = self.random
        if r.random() < 0.7:
            session.negotiate()
        for _ in range(r.randrange(1, 6)):
            data = r.randbytes(r.randrange(200))
            session.send(r.choice("DCHMRTULNBEAQK?\0"), data,
                         length=r.choice([None, None, 0, 1, len(data) + 50]))
