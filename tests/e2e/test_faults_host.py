# SPDX-License-Identifier: BSD-2-Clause
"""Faults that are not Redis': no descriptor left, a worker killed in the middle of each
callback, more clients than the zone has room for."""

import os
import resource
import socket
import time
from pathlib import Path

import pytest

import load
import rawmilter
from harness import proc
from harness.milter_proxy import MilterProxy
from harness.postfix import Postfix
from harness.sendmail import Sendmail
from rawmilter import RawMilter

DESCRIPTORS = 96
SHORT = r"worker \d: \d+ of \d+ descriptors in use: accepting no session"
ENOUGH = r"worker \d: enough descriptors again after \d+ s"


def cpu(pid):
    """Seconds of processor time so far."""
    field = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(field[11]) + int(field[12])) / os.sysconf("SC_CLK_TCK")


def lowest_free(pid):
    used = {int(fd.name) for fd in Path(f"/proc/{pid}/fd").iterdir()}
    return next(n for n in range(len(used) + 1) if n not in used)


# --- no descriptor left -----------------------------------------------------------------------

@pytest.mark.parametrize("silent", [False, True], ids=["talking", "silent"])
def test_descriptors(weir, redis, silent):
    """More connections than a worker has descriptors for: it takes what it can, idles, goes on
    with those that it has, and serves the rest when some have ended. silent: connections that
    say nothing, which libmilter accepts without a word to weir. (The other engine: test_event.)"""
    running = weir("""workers = 1
        engine = libmilter
        limit connections { rate = "100000/1m" burst = 100000 }
        limit messages { rate = "100000/1m" } limit sessions { max = 5000 }""", redis=redis,
        prefix=["prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}"], redis_words='timeout = "250ms"')
    worker, = running.wait_workers(1)
    path = proc.parse_socket(running.socket)
    mute = []
    if silent:
        for _ in range(2 * DESCRIPTORS):
            mute.append(socket.socket(socket.AF_UNIX))
            mute[-1].connect(path)
        held = []
    else:
        held = load.fill([running.socket], "192.0.2.1", DESCRIPTORS // 3)
        while not running.log(SHORT):
            held.append(RawMilter(running.socket, timeout=1.0))
            try:
                assert held[-1].open("192.0.2.1").code == rawmilter.CONTINUE
            except (TimeoutError, AssertionError):
                break
            assert len(held) < DESCRIPTORS
    running.wait_log(SHORT)
    late = [RawMilter(running.socket, timeout=20) for _ in range(20)]
    before, start = cpu(worker), time.monotonic()
    time.sleep(1)
    used = (cpu(worker) - before) / (time.monotonic() - start)
    assert used < 0.2, f"{used:.0%} of a processor for nothing"
    if not silent:
        assert lowest_free(worker) < DESCRIPTORS - 2, "nothing is left for Redis"
        assert held[0].mail().code == rawmilter.CONTINUE
        assert held[0].rcpt().code == rawmilter.CONTINUE
    for sock in mute:
        sock.close()
    load.close_all(held, wait=False)
    for session in late:
        assert session.negotiate()
        assert session.connect("192.0.2.2").code == rawmilter.CONTINUE
    load.close_all(late)
    running.wait_log(ENOUGH)
    assert len(running.log(SHORT)) == len(running.log(ENOUGH)) == 1
    assert running.workers() == [worker]


def test_descriptors_raised(weir):
    """The soft limit is no limit."""
    running = weir("workers = 1", prefix=["prlimit", "--nofile=64:4096"])
    worker, = running.wait_workers(1)
    assert resource.prlimit(worker, resource.RLIMIT_NOFILE) == (4096, 4096)


# --- a worker is killed -----------------------------------------------------------------------

CALLBACKS = {"connect": b"C", "helo": b"H", "mail": b"M", "rcpt": b"R", "header": b"L",
             "body": b"B", "eom": b"E"}
EVERY_STEP = """workers = 4
limit connections { rate = "100000/1m" burst = 100000 }
limit helo { count = messages per = helo rate = "100000/1m" }
limit size { count = bytes per = address rate = "100000000/1m" burst = 100000000 }
"""
# What the MTA may do with a session whose milter is gone: as it was told to, and no 5xx but the
# one that follows from having no recipient.
ACTIONS = {"accept": ({"default_action": "accept"}, {"flag": ""}),
           "tempfail": ({"default_action": "tempfail"}, {"flag": "T"})}


@pytest.fixture(scope="module")
def gate():
    port = proc.free_port()
    gate = MilterProxy(port)
    gate.port = port
    yield gate
    gate.stop()


@pytest.fixture(scope="module", params=ACTIONS)
def gated(request, gate):
    """Both MTAs behind the gate."""
    postfix, sendmail = ACTIONS[request.param]
    mtas = {"postfix": Postfix([gate.spec], **postfix), "sendmail": Sendmail([gate.spec], **sendmail)}
    try:
        for mta in mtas.values():
            mta.start()
        yield request.param, mtas
    finally:
        for mta in mtas.values():
            mta.stop()


@pytest.mark.parametrize("name", ["postfix", "sendmail"])
def test_worker_killed(weir, gate, gated, name, sources):
    """At each callback: the session goes on as the MTA was told, or is put off with a 4xx; what
    was accepted is delivered; the next client is served at once, by another worker."""
    action, mtas = gated
    mta = mtas[name]
    running = weir(EVERY_STEP, socket=f"inet:{gate.port}@127.0.0.1")
    for callback, command in CALLBACKS.items():
        workers = running.wait_workers(4, timeout=15)
        before = len(gate.killed)
        gate.kill_at(command, workers)
        source = next(sources)
        with mta.connect(source) as client:
            codes = client.send_message(recipients=[f"{callback}-{action}@example.test"]).codes()
        assert len(gate.killed) == before + 1, f"{callback} never came: {client.transcript}"
        first = next((code for code in codes if code >= 400), None)
        if action == "accept":
            assert first is None and 354 in codes, client.transcript
        else:
            assert first in (421, 451), (callback, str(client.transcript))
        assert not any(code >= 500 and code not in (503, 554) for code in codes)
        if codes[-1] == 221 and 354 in codes and first is None:
            mta.wait_log(rf"to=<{callback}-{action}@example\.test>.*(status=sent|stat=Sent)")
        start = time.monotonic()
        with mta.connect(next(sources)) as client:
            codes = client.send_message().codes()
            assert codes[-1] == 221 and max(codes) < 400, client.transcript
        assert time.monotonic() - start < 2
    running.wait_log("was killed by signal 9")


# --- the zone is full ------------------------------------------------------------------------

CLIENTS = int(os.environ.get("WEIR_FAULTS_CLIENTS", "12000"))


def test_zone_full(weir, new_redis):
    """Redis is away, and more strangers come than the smallest zone remembers (256k: 8,000
    entries at most). Who is refused stays refused, who has used half of what he may still has the
    other half as long as he is active."""
    redis = new_redis()
    redis.kill()
    running = weir("""zone-size = 256k
        limit connections { per = address rate = "1/1h" burst = 10 }""", redis=redis,
        verbose=False)
    spec, flood, polite = running.socket, "198.51.100.1", "198.51.100.2"
    assert load.connects(spec, flood, 12) == [True] * 10 + [False] * 2
    assert load.connects(spec, polite) == [True]
    let_in = 0
    for number in range(0, CLIENTS, 250):
        sessions = []
        for n in range(number, number + 250, 1):
            address = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
            session = RawMilter(spec)
            assert session.open(address).code in (rawmilter.CONTINUE, rawmilter.ACCEPT)
            sessions.append(session)
        load.close_all(sessions, wait=False)
        let_in += sum(load.connects(spec, flood))
        if number % 2000 == 0:
            assert load.connects(spec, polite) == [True]
    assert let_in == 0, f"a refused client was let in {let_in} times"
