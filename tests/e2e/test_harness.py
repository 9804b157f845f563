# SPDX-License-Identifier: BSD-2-Clause
"""The harness itself, without weir: servers start, and both MTAs put a
milter's refusals on the wire as doc/ says they do."""

import socket
import struct
import threading

import pytest

import rawmilter
from harness import proc
from harness.redis import RedisError
from harness.smtp import Client


class ScriptedMilter:
    """A milter that gives each step (a letter of the protocol) the packet that
    script names, and "continue" to the rest. It keeps the steps it was asked."""

    def __init__(self, spec, script):
        self.script = script
        self.seen = []
        path = proc.parse_socket(spec)
        self.listener = socket.socket(socket.AF_UNIX)
        self.path = path
        proc.Path(path).unlink(missing_ok=True)
        self.listener.bind(path)
        proc.Path(path).chmod(0o666)
        self.listener.listen(50)
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                sock = self.listener.accept()[0]
            except OSError:
                return
            threading.Thread(target=self._serve, args=(sock,), daemon=True).start()

    def _serve(self, sock):
        stream = sock.makefile("rwb")
        while len(head := stream.read(4)) == 4:
            packet = stream.read(struct.unpack("!I", head)[0])
            step = chr(packet[0])
            if step == "O":
                answer = b"O" + struct.pack("!III", 6, 0, 0x3F0)
            elif step in "DA":
                continue
            elif step == "Q":
                break
            else:
                self.seen.append(step)
                answer = self.script.get(step, b"c")
            stream.write(struct.pack("!I", len(answer)) + answer)
            stream.flush()
        stream.close()
        sock.close()

    def stop(self):
        # close() alone would leave accept() sleeping, and the socket listening.
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()


@pytest.fixture
def scripted(milter_socket):
    running = []

    def start(script):
        running.append(ScriptedMilter(milter_socket, script))
        return running[-1]
    yield start
    for milter in running:
        milter.stop()


TEXT = "421 4.7.0 come back later"
REFUSE = b"y" + TEXT.encode() + b"\0"


def test_polite_session(mta, sources):
    """Nobody on the milter's socket: mail goes on, and QUIT ends with 221."""
    with mta.connect(next(sources)) as client:
        transcript = client.send_message()
        assert transcript.codes() == [220, 250, 250, 250, 354, 250, 221]
        assert client.closed()


def test_unknown_recipient_and_relay(mta, sources):
    with mta.connect(next(sources)) as client:
        client.ehlo()
        client.mail()
        assert client.rcpt("unknown@example.test").code == 550
        assert client.rcpt("u@elsewhere.test").code in (550, 554)
        assert client.rcpt("u@example.test").code == 250


def test_ipv6_and_starttls(mta):
    with mta.connect("::1") as client:
        client.ehlo()
        assert client.starttls() == 220
        assert client.ehlo() == 250
        assert client.quit() == 221


def test_421_at_connect(mta, scripted, sources):
    milter = scripted({"C": REFUSE})
    with mta.connect(next(sources)) as client:
        expected = {
            "postfix": "421 mx.example.test Service unavailable - try again later",
            "sendmail": "421 4.7.0 mx.example.test closing connection"}
        assert client.greeting == expected[mta.name]
        assert client.closed()
    assert milter.seen == ["C"]


@pytest.mark.parametrize("step, before", [
    ("H", [220]), ("M", [220, 250]), ("R", [220, 250, 250])])
def test_421_later(mta, scripted, sources, step, before):
    scripted({step: REFUSE})
    with mta.connect(next(sources)) as client:
        transcript = client.send_message()
        assert transcript.codes() == before + [421]
        assert transcript.server()[-1] == TEXT
        assert client.ended in ("EOF", "RST")


def test_421_after_dot(mta, scripted, sources):
    scripted({"E": REFUSE})
    with mta.connect(next(sources)) as client:
        transcript = client.send_message()
        assert transcript.codes() == [220, 250, 250, 250, 354, 421]
        assert transcript.server()[-1] == TEXT


def test_pipelined_421(mta, scripted, sources):
    """The replies before the 421 arrive, none after it."""
    scripted({"R": REFUSE})
    with mta.connect(next(sources)) as client:
        client.ehlo()
        replies = client.pipeline("MAIL FROM:<a@client.test>",
                                  "RCPT TO:<u1@example.test>",
                                  "RCPT TO:<u2@example.test>", "DATA")
        assert [reply.code for reply in replies] == [250, 421]
        assert client.closed()


def test_451_leaves_the_session_open(mta, scripted, sources):
    scripted({"R": b"y451 4.7.1 Greylisted\0"})
    with mta.connect(next(sources)) as client:
        client.ehlo()
        client.mail()
        assert client.rcpt() == "451 4.7.1 Greylisted"
        assert client.still_open()
        assert client.quit() == 221


def test_proxy_and_xclient(postfix):
    with postfix.connect_proxy("192.0.2.99") as client:
        assert client.send_message().codes()[-1] == 221
    with postfix.connect_proxy(("2001:db8::99", 4000)) as client:
        assert client.greeting == 220
    with postfix.connect_xclient("192.0.2.45", "c.example.org") as client:
        assert client.send_message().codes()[-1] == 221
    for who in (r"unknown\[192\.0\.2\.99\]", r"\[2001:db8::99\]",
                r"client=c\.example\.org\[192\.0\.2\.45\]"):
        postfix.wait_log(who)


def test_default_actions(new_postfix, new_sendmail, milter_socket):
    """No milter there, and an MTA told not to accept mail then."""
    postfix = new_postfix([milter_socket], default_action="tempfail")
    with postfix.connect() as client:
        client.ehlo()
        assert client.mail() == "451 4.7.1 Service unavailable - try again later"
    sendmail = new_sendmail([milter_socket], flag="T")
    with sendmail.connect() as client:
        client.ehlo()
        assert client.mail() == "451 4.3.2 Please try again later"
    sendmail = new_sendmail([milter_socket], flag="4")
    with sendmail.connect() as client:
        assert client.greeting == 421 and client.closed()


def test_raw_milter(scripted, milter_socket):
    milter = scripted({"R": REFUSE})
    with rawmilter.RawMilter(milter_socket) as raw:
        assert raw.open("192.0.2.1").code == rawmilter.CONTINUE
        assert raw.mail().code == rawmilter.CONTINUE
        assert raw.rcpt().text == TEXT
        assert raw.data() is None           # negotiated away
        assert raw.quit()
    assert milter.seen == ["C", "M", "R"]


def test_redis(redis):
    assert redis.cmd("SET", "a", "ü") == "OK" and redis.cmd("GET", "a") == "ü"
    redis.cmd("HSET", "h", "x", 1, "y", 2)
    assert redis.hash("h") == {"x": "1", "y": "2"}
    with pytest.raises(RedisError):
        redis.cmd("NOSUCH")
    redis.freeze()
    with pytest.raises(OSError):
        redis.cmd("PING", timeout=0.1)
    redis.thaw()
    redis.restart()
    assert redis.cmd("DBSIZE") == 0


def test_redis_with_password(new_redis):
    server = new_redis(unix=False, password="secret", acl=["weir on >pw ~weir* +@all"])
    assert server.cmd("ACL", "WHOAMI") == "default"
    with socket.create_connection((server.host, server.port), 2) as link:
        link.sendall(b"PING\r\n")
        assert link.recv(100).startswith(b"-NOAUTH")


def test_client_times_out():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with pytest.raises(TimeoutError):
            Client("127.0.0.1", silent.getsockname()[1], timeout=0.1)
