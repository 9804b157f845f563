# SPDX-License-Identifier: BSD-2-Clause
"""What no MTA says: wrong lengths, wrong order, huge or poisonous values, a
thousand connections that say nothing. Afterwards weir serves as before, with
the same workers, no descriptor lost, and nothing false in its log or in Redis."""

import re
import resource
import socket
import struct
import time
from pathlib import Path

import pytest

import load
import rawmilter
from harness import proc
from rawmilter import RawMilter

CONF = """
limit connections { rate = "100000/1m" }
limit sessions { max = 5000 }
limit recipients { rate = "100000/1m" }
limit messages { rate = "100000/1m" }
greylist { enabled = true delay = 1h window = 1d reply = "451 4.7.1 Later" }
"""
IDLE = 1000
REPEAT = 5
THREADS_MAX = 64        # of a worker, whatever comes
OWN_DESCRIPTORS = 12    # links to Redis, and a loop's own, that both workers may open late


def descriptors(pids):
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in pids)


def threads(pid):
    return len(list(Path(f"/proc/{pid}/task").iterdir()))


class Victim:
    """A weir-milter, and whether it is still in its senses."""

    def __init__(self, weir, redis):
        self.weir = weir(CONF, redis=redis)
        self.spec = self.weir.socket
        self.workers = self.weir.wait_workers(2)
        self.redis = redis
        self.whole_session()
        self.descriptors = descriptors(self.workers)

    def raw(self, timeout=0.3):
        return RawMilter(self.spec, timeout=timeout)

    def whole_session(self):
        with RawMilter(self.spec) as session:
            assert session.open("203.0.113.9").code == rawmilter.CONTINUE
            assert session.mail().code == rawmilter.CONTINUE
            reply = session.rcpt("postmaster@example.test")
            assert reply.code == rawmilter.CONTINUE
            reply = session.rcpt("u@example.test")
            assert reply.text == "451 4.7.1 Later"
            assert session.quit()

    def check(self):
        for _ in range(4):
            self.whole_session()
        load.settle(self.weir)
        assert self.weir.workers() == self.workers, "a worker has died"
        proc.wait_for(lambda: descriptors(self.workers)
                      <= self.descriptors + OWN_DESCRIPTORS, what="all to be closed")
        assert all(threads(pid) <= THREADS_MAX for pid in self.workers)
        assert not self.weir.log("does not answer")
        for line in self.weir.log():
            assert line.startswith("weir-milter: ") and line.isascii(), line
            assert line.isprintable() and len(line) < 2000
        for key in self.redis.cmd("KEYS", "*"):
            assert re.fullmatch(
                r"weir:((open:)?(address|network)|pool|grey)"
                r":\{[0-9a-f.:/]+\}(:[0-9a-f.:/]+)?( [!-z|~]+ [!-z|~]+)?", key), key
            assert self.redis.cmd("TTL", key) != -1, f"{key} stays for ever"


@pytest.fixture
def victim(weir, redis):
    it = Victim(weir, redis)
    yield it
    it.check()


def packet(code, data=b"", length=None):
    size = 1 + len(data) if length is None else length
    return struct.pack("!I", size) + code.encode() + data


NEGOTIATE = packet("O", struct.pack("!III", 6, 0x1FF, 0x1FFFFF))
CONNECT = packet("C", load.connect_packet("192.0.2.1"))
MAIL = packet("M", b"<a@client.test>\0")
RCPT = packet("R", b"<u@example.test>\0")

STREAMS = {
    "nothing": b"",
    "length 0": struct.pack("!I", 0),
    "length 0 later": NEGOTIATE + struct.pack("!I", 0) * 100,
    "length 4 GB": NEGOTIATE + packet("C", b"x" * 100, length=0xFFFFFFFF),
    "length 2 GB": NEGOTIATE + packet("M", b"x" * 100, length=0x80000000),
    "length 1 MB, 1 MB": NEGOTIATE + packet("M", b"x" * 1000000),
    "length too short": NEGOTIATE + packet("C", b"x" * 100, length=3) + CONNECT,
    "half a length": NEGOTIATE + b"\0\0",
    "half a packet": NEGOTIATE + CONNECT[:-5],
    "half of negotiation": NEGOTIATE[:9],
    "no negotiation": CONNECT + MAIL + RCPT,
    "negotiation, empty": packet("O") + CONNECT,
    "negotiation, short": packet("O", b"\0\0\0\6\0\0") + CONNECT,
    "negotiation, long": packet("O", b"\0\0\0\6" * 1000) + CONNECT,
    "negotiation, twice": NEGOTIATE * 2 + CONNECT,
    "version 0": packet("O", struct.pack("!III", 0, 0, 0)) + CONNECT,
    "version 1": packet("O", struct.pack("!III", 1, 0, 0)) + CONNECT,
    "version 4 G": packet("O", b"\xff" * 12) + CONNECT,
    "mail before connect": NEGOTIATE + MAIL + RCPT,
    "rcpt first": NEGOTIATE + RCPT,
    "rcpt before mail": NEGOTIATE + CONNECT + RCPT + MAIL,
    "connect twice": NEGOTIATE + CONNECT * 2 + MAIL + RCPT,
    "mail twice": NEGOTIATE + CONNECT + MAIL * 3 + RCPT,
    "all that was not asked for": NEGOTIATE + CONNECT + MAIL + RCPT + packet("T")
        + packet("L", b"a\0b\0") + packet("N") + packet("B", b"x") + packet("E"),
    "abort and quit": NEGOTIATE + packet("A") * 50 + packet("Q") + CONNECT,
    "new session, often": NEGOTIATE + (CONNECT + packet("K")) * 50 + CONNECT,
    "unknown letters": NEGOTIATE + b"".join(
        packet(chr(code)) for code in range(1, 128) if chr(code) not in "QA"),
    "connect, empty": NEGOTIATE + packet("C") + MAIL,
    "connect, no address": NEGOTIATE + packet("C", b"x\0" + b"4\0\1") + MAIL,
    "connect, odd family": NEGOTIATE + packet("C", b"x\0Z\0\1abc\0") + MAIL,
    "connect, bad address": NEGOTIATE + packet("C", b"x\0004\0\1999.1.1.1\0") + MAIL,
    "connect, unix": NEGOTIATE + packet("C", b"x\0L\0\0/tmp/x\0") + MAIL + RCPT,
    "connect, name without end": NEGOTIATE + packet("C", b"x" * 5000) + MAIL,
    "mail, empty": NEGOTIATE + CONNECT + packet("M") + RCPT,
    "mail, no NUL": NEGOTIATE + CONNECT + packet("M", b"<a@b>") + RCPT,
    "mail, many arguments": NEGOTIATE + CONNECT + packet("M", b"x\0" * 30000) + RCPT,
    "rcpt, empty": NEGOTIATE + CONNECT + MAIL + packet("R"),
    "macros, empty": NEGOTIATE + packet("D") + packet("DC") + CONNECT,
    "macros, 100 kB": NEGOTIATE + packet("D", b"Ci\0" + b"q" * 100000 + b"\0") + CONNECT,
    "macros, 60 kB": NEGOTIATE + CONNECT + MAIL
        + packet("D", b"Ri\0" + b"q" * 60000 + b"\0") + RCPT,
    "HTTP": b"GET / HTTP/1.0\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x55" * 200,
}


@pytest.mark.parametrize("stream", STREAMS.values(), ids=STREAMS)
def test_stream(victim, stream):
    """All at once, and then: go away at once, say no more, or go away by RST."""
    for end in REPEAT * ("close", "shutdown", "reset"):
        session = victim.raw()
        session.send_bytes(stream)
        if end == "shutdown":
            try:
                session.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
            assert session.closed(), "the connection stays open for ever"
        session.reset() if end == "reset" else session.close()


def test_macro_without_value(victim):
    """libmilter (8.17.1) may run over the end of such a list and die of it. No
    MTA sends one; if somebody does, the next worker goes on."""
    with victim.raw() as session:
        session.send_bytes(NEGOTIATE + packet("D", b"C{x}\0") + CONNECT + MAIL + RCPT)
        session.closed(0.3)

    def alive():
        return [pid for pid in victim.weir.workers()
                if "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()]
    proc.wait_for(lambda: len(alive()) == 2)
    victim.workers = alive()


def test_stream_in_pieces(victim):
    """A session byte by byte is a session."""
    with victim.raw(timeout=5) as session:
        session.negotiate()
        for byte in CONNECT + MAIL:
            session.send_bytes(bytes([byte]))
        assert [session.read().code for _ in range(2)] == ["c", "c"]


@pytest.mark.parametrize("version, actions, steps", [
    (2, 0x3F, 0x7F), (2, 0x0F, 0x3F), (3, 0x3F, 0xFF), (4, 0x3F, 0x1FF),
    (6, 0x1FF, 0x3FF), (6, 0x1FF, 0x1FFFFF), (7, 0xFFFF, 0x1FFFFF)])
def test_older_and_newer_mtas(victim, version, actions, steps):
    """Who offers less is served; weir wants nothing that was not offered."""
    with victim.raw(timeout=5) as session:
        agreed, wanted_actions, wanted_steps = session.negotiate(version, actions, steps)
        assert agreed <= version and not wanted_actions & ~actions
        assert not wanted_steps & ~steps
        assert session.connect("192.0.2.1").code == rawmilter.CONTINUE
        helo = session.helo()
        assert helo is None or helo.code == rawmilter.CONTINUE
        assert session.mail().code == rawmilter.CONTINUE
        assert session.rcpt().text == "451 4.7.1 Later"
        assert session.rcpt("abuse@example.test").code == rawmilter.CONTINUE
        for step in (session.data, session.header, session.eoh, session.body, session.eom):
            reply = step()
            assert reply is None or reply.code == rawmilter.CONTINUE
        assert session.quit()


POISON = {
    "newline": b"a\nweir-milter: NOQUEUE: action=refuse code=421@x.test",
    "CRLF": b"a\r\n421 4.7.0 forged@x.test", "escape": b"\x1b[2Ja\x07\x08@x.test",
    "format": b"%s%n%n%x%999999d@x.test", "glob": b"*?[a-z]\\@x.test",
    "braces": b"}{all}{@x.test", "blanks": b"a action=refuse code=421 x=\"@x.test",
    "bytes": bytes(range(128, 256)) + b"@x.test", "del": b"\x7f\x01\x02@x.test",
    "UTF-8": "jörg@exämple.test\u202e".encode(), "60 kB": b"a" * 60000 + b"@x.test",
    "colons": b"weir:limits:{a}@x.test", "empty": b"", "tab": b"\t\x0b\x0c@x.test",
}


@pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
def test_poison(victim, poison):
    """As name, HELO, sender, recipient and queue id: one line a decision, and
    none that says something else."""
    with victim.raw(timeout=5) as session:
        session.negotiate()
        session.macro("C", {"i": poison})
        session.command("C", poison[:60000] + load.connect_packet("192.0.2.1")[11:])
        session.helo(poison)
        assert session.mail(b"<" + poison + b">").code == rawmilter.CONTINUE
        session.macro("R", {"i": poison})
        for recipient in (b"<" + poison + b">", poison):
            assert session.rcpt(recipient).text == "451 4.7.1 Later"
        assert session.quit()
    load.settle(victim.weir)
    lines = [line for line in victim.weir.log("action=")
             if not re.search(" client=(203.0.113.9|100.64.[0-9.]+) name=", line)]
    actions = [victim.weir.fields(line)["action"] for line in lines]
    assert actions == ["accept", "defer", "defer"], lines
    assert all(" client=192.0.2.1 " in line for line in lines)


def test_nul_inside(victim):
    """A NUL ends the word: what is behind it is an option, not an address."""
    with victim.raw(timeout=5) as session:
        session.open("192.0.2.1")
        assert session.mail(b"<a@x.test>\0forged=1").code == rawmilter.CONTINUE
        assert session.rcpt(b"<u@x.test>\0\0\0to=forged").text == "451 4.7.1 Later"
    load.settle(victim.weir)
    assert not victim.weir.log("forged")


def test_idle_connections(victim):
    """A thousand that say nothing take nothing from those who speak, and leave
    nothing behind."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    idle = [victim.raw() for _ in range(IDLE)]
    for session in idle[::2]:
        session.send_bytes(NEGOTIATE)
    for session in idle[::50]:
        # Each of these keeps one of libmilter's threads waiting. One by one: those that come in
        # the same moment it queues behind each other, with whoever else is there (doc/mta.md).
        session.send_bytes(CONNECT[:20])
        time.sleep(0.02)
    for _ in range(5):
        victim.whole_session()
    assert descriptors(victim.workers) >= IDLE
    proc.wait_for(lambda: all(threads(pid) <= THREADS_MAX for pid in victim.workers),
                  what="fewer threads")
    for session in idle:
        session.close()


def test_open_sessions_go_with_their_connections(victim):
    """However a connection ends, its session is no longer counted."""
    for end in (RawMilter.quit, RawMilter.close, RawMilter.reset):
        sessions = load.fill([victim.spec], "192.0.2.1", 20)
        key, = victim.redis.cmd("KEYS", "weir:open:address:*192.0.2.1")
        assert victim.redis.cmd("ZCARD", key) == 20
        for session in sessions:
            end(session)
        proc.wait_for(lambda key=key: victim.redis.cmd("ZCARD", key) == 0)
