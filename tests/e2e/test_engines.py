# SPDX-License-Identifier: BSD-2-Clause
"""Both engines say the same to an MTA, byte for byte: what real MTAs say to the libmilter engine is
written down and said again to the event engine, which has to answer with the same bytes."""

import socket

import pytest

import load
import test_hostile
from harness import proc
from harness.tap import Tap
from rawmilter import RawMilter



def off(but=""):
    return "".join(f"limit {name} {{ enabled = false }}\n"
                   for name in ("connections", "sessions", "recipients") if name != but)


OFF = off()
MANY = 'rate = "100000/1h" burst = 1000'

# name -> configuration; each asks for other steps and macros, or answers otherwise.
CONFS = {
    "built-in": "",
    "nothing": OFF,
    "connections": off("connections") + 'limit connections { rate = "2/1h" burst = 2 }',
    "own words": off("connections") + 'refuse-at = helo\n'
        'limit connections { rate = "2/1h" burst = 2 }',
    "deferred": off("connections") + 'limit connections { rate = "1/1h" burst = 1\n'
        ' action = defer }',
    "all": "limit sessions { max = 1000 }\n"
        + "".join(f"limit {name} {{ per = address {MANY} }}\n"
                  for name in ("connections", "messages", "recipients"))
        + 'limit helos { count = messages per = helo rate = "100/1h" }\n'
          'limit users { count = messages per = user rate = "100/1h" }\n'
          'limit pools { count = recipients per = pool rate = "1000/1h" }\n',
    "recipients": off("recipients") + 'limit recipients { rate = "3/1h" burst = 3 }',
    "recipients deferred": off("recipients") + 'limit recipients { rate = "3/1h" burst = 3\n'
        ' action = defer }',
    "rejected": OFF + 'limit guesses { count = rejected-recipients rate = "2/1h" burst = 2 }',
    "greylist": OFF + "greylist { enabled = true }",
    "greylist 451": OFF + 'greylist { enabled = true reply = "451 4.7.1 Later" }',
    "bytes": OFF + 'limit bytes { count = bytes rate = "1M/1h" burst = 100k }',
    "blocked": 'list "127.0.0.0/8" { action = block }',
    "exempt": "exempt = { 127.0.0.0/8 }",
}


def sessions(mta, sources):
    """What a day brings, in short."""
    source = next(sources)
    big = "Subject: big\r\n\r\n" + 2000 * ("x" * 70 + "\r\n")
    with mta.connect(source) as client:
        client.send_message()
    with mta.connect(source) as client:
        client.send_message(recipients=("u1@example.test", "u2@example.test"))
    with mta.connect(source) as client:
        client.ehlo("[192.0.2.1]")
        client.pipeline("MAIL FROM:<> SIZE=500 BODY=8BITMIME", "RCPT TO:<u3@example.test>",
                        "RCPT TO:<u4@example.test>", "RCPT TO:<>", "RCPT TO:<x@elsewhere.test>",
                        "RSET", "MAIL FROM:<b@client.test>", "RCPT TO:<u5@example.test>", "DATA")
        if client.transcript.codes()[-1] == 354:
            client.dot(big)
    with mta.connect(source) as client:
        client.helo()
        for command in ("NOOP", "VRFY x", "FOO BAR", "MAIL FROM:<c@client.test>",
                        "RCPT TO:<nobody1@elsewhere.test>", "RCPT TO:<nobody2@elsewhere.test>",
                        "RCPT TO:<nobody3@elsewhere.test>", "RCPT TO:<u6@example.test>"):
            if client.command(command) in (None, 421):
                break
    with mta.connect(source) as client:
        client.ehlo()
        client.mail()
        client.rcpt()
        client.close()
    with mta.connect(next(sources)) as client:
        client.send_message(sender="", recipients=("postmaster@example.test",))


def record(weir, milter_socket, conf, play):
    """What was said between MTA and milter."""
    directory = proc.make_run_directory("tap")
    milter = weir("engine = libmilter\n" + conf, socket=f"unix:{directory}/milter.sock")
    with Tap(milter_socket, milter.socket) as tap:
        play()
        load.settle(milter)
    milter.stop()
    assert tap.talks
    return tap.talks


def say_again(spec, talk):
    """The MTA's part of a talk; yields what was answered then, and what is now."""
    with RawMilter(spec) as session:
        for who, data in talk:
            if who == "mta":
                session.send_bytes(data)
                continue
            got = session._read_exactly(len(data))
            yield data, got
            if got != data:
                return


@pytest.mark.parametrize("conf", CONFS.values(), ids=CONFS)
def test_same_bytes(mta, weir, milter_socket, sources, conf):
    """The whole conversation of some sessions, its negotiation too."""
    talks = record(weir, milter_socket, conf, lambda: sessions(mta, sources))
    event = weir("engine = event\n" + conf, socket=milter_socket)
    answers = 0
    for number, talk in enumerate(talks):
        assert talk[0][0] == "mta" and talk[1][0] == "milter"
        for then, now in say_again(event.socket, talk):
            assert now == then, (number, talk)
            answers += 1
    assert answers >= 2 * len(talks)


# Where the event engine knows better.
BETTER = {
    "new session, often",   # the second one is nobody's there, and accepted
}


def everything(spec, stream):
    """All that comes back to these bytes, up to the end of the connection."""
    with RawMilter(spec, timeout=3) as session:
        session.send_bytes(stream)
        try:
            session.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        got = b""
        while True:
            try:
                data = session.sock.recv(65536)
            except ConnectionError:
                data = b""
            if not data:
                return got
            got += data


def test_same_nonsense(weir, milter_socket):
    """What no MTA says is answered alike, too."""
    directory = proc.make_run_directory("second")
    both = [weir(f"engine = {name}\n" + test_hostile.CONF, socket=path) for name, path in
            (("libmilter", milter_socket), ("event", f"unix:{directory}/milter.sock"))]
    different = []
    for name, stream in test_hostile.STREAMS.items():
        then, now = (everything(one.socket, stream) for one in both)
        if then != now and name not in BETTER:
            different.append((name, then, now))
    assert not different
