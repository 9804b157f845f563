# SPDX-License-Identifier: BSD-2-Clause
"""Maintenance by `weirctl drain` or by a signal: new sessions get 421, those in
progress end with 221, and weirctl says when none is left."""

import os
import re
import signal
import socket
import time

import pytest

import load
import rawmilter
from harness import proc
from harness.ctl import Ctl
from rawmilter import RawMilter

# Sessions are counted, so that the MTA keeps each with weir to its end.
# Who asks whether it is admitted asks often.
CONF = ('limit sessions { max = 100 }\nlimit recipients { rate = "1000/1m" }\n'
        'limit connections { rate = "10000/1m" burst = 10000 }\n')
HOST = socket.gethostname()[:32]


def node(ctl):
    found, = ctl.json("status")["nodes"]
    return found


def soon(milter, admitted, address="192.0.2.99"):
    """Within about a second every worker has heard of it."""
    start = time.monotonic()
    proc.wait_for(lambda: load.connects(milter.socket, address, 4) == [admitted] * 4, 3,
                  "the change", every=0.05)
    took = time.monotonic() - start
    assert took < 1.6, took
    return took


@pytest.fixture
def running(weir, redis):
    """A weir-milter on Redis, and weirctl for it, both with its first words published."""
    milter = weir(CONF, redis=redis)
    ctl = Ctl(conf=milter.conf)
    proc.wait_for(lambda: ctl.json("status")["nodes"], 5, "the node")
    return milter, ctl


@pytest.mark.parametrize("how", ["all", "host", "node", "signal", "signal, no redis"])
def test_drain(mta, weir, redis, sources, how):
    """Through an MTA: who comes gets 421 instead of a greeting, who is in goes on to
    the end of all his messages; and back again."""
    milter = weir(CONF, redis=None if how == "signal, no redis" else redis)
    ctl = Ctl(redis.url)
    sessions = [mta.connect(next(sources)) for _ in range(3)]
    for number, client in enumerate(sessions):
        for step in (client.ehlo, client.mail, client.rcpt)[:number + 1]:
            assert step() == 250

    def drain(on):
        if "signal" in how:
            milter.signal(signal.SIGUSR1 if on else signal.SIGUSR2)
            return
        name = {"all": "all", "host": HOST}.get(how) or node(ctl)["node"]
        assert "done" in ctl(f"drain {name} {'on' if on else 'off'}").out

    def greeted():
        with mta.connect(next(sources)) as client:
            return client.greeting == 220 and client.quit() == 221

    if milter.redis:
        proc.wait_for(lambda: ctl.json("status")["nodes"], 5)
    drain(True)
    start = time.monotonic()
    proc.wait_for(lambda: not any(greeted() for _ in range(3)), 3, "421", every=0.05)
    assert time.monotonic() - start < 2
    with mta.connect(next(sources)) as client:
        assert client.greeting == 421 and client.closed()
    line = milter.wait_log("action=refuse code=421 stage=connect reason=drain client=127")
    assert "limit=" not in line
    for number, client in enumerate(sessions):
        for step in (client.ehlo, client.mail, client.rcpt)[number + 1:]:
            assert step() == 250
        assert client.data() == 250
        assert [client.mail(), client.rcpt(), client.data(), client.quit()] == \
            [250, 250, 250, 221], client.transcript
    drain(False)
    proc.wait_for(greeted, 3, "220", every=0.05)


def test_who_is_meant(running, weir, redis):
    """all, a host, one node of two; and nobody who does not exist."""
    first, ctl = running
    second = weir(CONF, redis=redis, socket=f"{first.socket}.2")
    nodes = proc.wait_for(lambda: len(ctl.json("status")["nodes"]) == 2
                          and ctl.json("status")["nodes"], 5)
    names = {n["node"]: n["started"] for n in nodes}
    older, newer = sorted(names, key=names.get)
    assert all(re.fullmatch(rf"{re.escape(HOST)}\.[0-9a-f]{{8}}", name) for name in names)
    ctl.refused("drain mx9.example.test on", says="no weir-milter of that name")
    ctl.refused("drain", "mx 9", "on", says="not the name of a node")
    ctl.refused("drain all off", says="not drained")
    assert "no host is drained" in ctl("drain").out
    Ctl(redis.url, "--yes")("drain mx9.example.test on for 1h")     # it may come later
    ctl(f"drain {newer} on")
    soon(second, False)
    assert load.connects(first.socket, "192.0.2.1") == [True]
    assert {row["node"] for row in ctl.json("drain")} == {"mx9.example.test", newer}
    ctl(f"drain {HOST} on for 1h")
    soon(first, False)
    result = ctl(f"drain {newer} off")
    assert f"note: {newer} is still drained by the entry {HOST}" in result.err
    assert load.connects(second.socket, "192.0.2.1") == [False]
    ctl(f"drain {HOST} off")
    soon(first, True)
    soon(second, True)
    assert older in names
    # the history knows it, and the way back
    generation = ctl.json("limit history")[0]["n"]
    ctl("drain all on")
    soon(first, False)
    assert "drain all: - -> action=drain" in ctl("limit history").out
    ctl(f"limit rollback {generation}")
    soon(first, True)
    soon(second, True)


def test_exempt_and_blocked(weir, redis):
    """Exempt clients, by file and by Redis, are served; the reason of a block stays; why
    and status tell of it."""
    milter = weir(CONF + 'exempt = { "198.51.100.0/24" }\nrefuse-at = helo\n', redis=redis)
    ctl = Ctl(conf=milter.conf)
    proc.wait_for(lambda: ctl.json("status")["nodes"], 5)
    ctl("exempt 203.0.113.5")
    ctl("block 192.0.2.66")
    ctl("drain all on for 2h")
    soon(milter, False)             # at connect, in spite of refuse-at = helo
    for client, admitted in (("198.51.100.7", True), ("203.0.113.5", True),
                             ("192.0.2.7", False)):
        assert load.connects(milter.socket, client) == [admitted]
    load.connects(milter.socket, "198.51.100.8")
    milter.wait_log("reason=drain client=192.0.2.7 ")
    assert ctl.json("why 192.0.2.66")["next"]["connection"]["reason"] == "blocked"
    why = ctl.json("why 192.0.2.7")["next"]["connection"]
    assert (why["action"], why["reason"], why["reply"][:9]) == ("refuse", "drain", "421 4.3.2")
    assert ctl.json("why 203.0.113.5")["next"]["connection"]["reason"] == "exempt"
    proc.wait_for(lambda: node(ctl)["drain"] == "on", 5)
    left = node(ctl)["drain_until"] - time.time()
    assert 7100 < left < 7201
    assert re.search(r"maintenance +new sessions are refused for (1 h 59 min|2 h) more",
                     ctl("status").out)


def test_wait(running):
    """-w says how many are left, and comes back when none is."""
    milter, ctl = running
    sessions = load.fill([milter.socket], "192.0.2.1", 3)
    waiting = ctl.popen("drain", "all", "on", "-w")
    assert waiting.stdout.readline() == b"new sessions are refused within a second\n"
    assert waiting.stdout.readline() == b"3 sessions left\n"
    load.close_all(sessions[:2])
    assert waiting.stdout.readline() == b"1 session left\n"
    assert waiting.poll() is None
    load.close_all(sessions[2:])
    assert waiting.stdout.readline() == b"no session is left\n"
    assert b"done" in waiting.stdout.readline() and waiting.wait(5) == 0
    assert load.connects(milter.socket, "192.0.2.2") == [False]
    # nothing to wait for; with -j one document
    assert ctl.json("drain all on -w") == {"generation": 2}


def test_wait_ends_otherwise(running):
    """When somebody takes it back, when its time is over, and when the node is gone."""
    milter, ctl = running
    sessions = load.fill([milter.socket], "192.0.2.1", 2)
    for end in ("off", "for"):
        waiting = ctl.popen("drain", "all", "on", *(["for", "2s"] if end == "for" else []), "-w")
        waiting.stdout.readline()
        if end == "off":
            assert waiting.stdout.readline() == b"2 sessions left\n"
            ctl("drain all off")
        _, err = waiting.communicate(timeout=15)
        says = b"takes new sessions again" if end == "off" else b"the time is over"
        assert waiting.returncode == 1 and says in err
        soon(milter, True)
    waiting = ctl.popen("drain", "all", "on", "-w")
    waiting.stdout.readline()
    waiting.stdout.readline()
    name = node(ctl)["node"]
    milter.kill()
    milter.redis.cmd("PEXPIRE", f"weir:node:{name}", 1)    # as it would after ten seconds
    _, err = waiting.communicate(timeout=5)
    assert waiting.returncode == 0 and f"{name} no longer reports".encode() in err
    load.close_all(sessions, wait=False)


def test_redis_goes_away(running, redis):
    """What was known last holds, also in workers that never spoke to Redis, and also
    over a reload; a time ends by this host's clock."""
    milter, ctl = running
    ctl("drain all on for 4s")
    end = time.monotonic() + 4
    soon(milter, False)
    proc.wait_for(lambda: node(ctl)["drain"] == "on", 5)
    redis.kill()
    since = milter.mark()
    milter.reload()
    milter.wait_log("reloaded weir", 5, since=since)
    assert load.connects(milter.socket, "192.0.2.1", 4) == [False] * 4
    old = milter.workers()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    milter.wait_workers(2, without=old)
    assert load.connects(milter.socket, "192.0.2.1", 4) == [False] * 4
    time.sleep(max(0, end - time.monotonic()) + 1.1)
    assert load.connects(milter.socket, "192.0.2.1", 4) == [True] * 4


def test_signal_and_redis(running):
    """Each has to be taken back where it came from, and a reload keeps the signal."""
    milter, ctl = running
    milter.signal(signal.SIGUSR1)
    milter.wait_log("drain: new sessions are refused until SIGUSR2")
    assert load.connects(milter.socket, "192.0.2.1", 4) == [False] * 4
    ctl("drain all on")
    for conf in (CONF, CONF + "zone-size = 1M\n"):
        milter.write_conf(conf)
        since = milter.mark()
        milter.reload()
        milter.wait_log("reloaded weir", 5, since=since)
        assert load.connects(milter.socket, "192.0.2.1", 4) == [False] * 4
    proc.wait_for(lambda: any(n["drain"] == "on" and n["generation"] == "1"
                              for n in ctl.json("status")["nodes"]), 5)
    milter.signal(signal.SIGUSR2)
    milter.wait_log("drain: no longer by signal, but still by weirctl drain")
    assert load.connects(milter.socket, "192.0.2.1", 4) == [False] * 4
    ctl("drain all off")
    soon(milter, True)
    since = milter.mark()
    milter.signal(signal.SIGUSR2)
    assert milter.wait_log("drain: no longer by signal", since=since).endswith("signal")


def test_by_hand(running, redis):
    """With redis-cli; what cannot be used is named and ignored."""
    milter, ctl = running
    redis.cmd("HSET", "weir:drain", "all", "action=drian")
    redis.cmd("INCR", "weir:generation")
    milter.wait_log("redis: drain: all is ignored: must be action=drain")
    assert load.connects(milter.socket, "192.0.2.1") == [True]
    redis.cmd("HSET", "weir:drain", HOST, "action=drain by=ann")
    redis.cmd("INCR", "weir:generation")
    soon(milter, False)
    redis.cmd("DEL", "weir:drain")
    redis.cmd("INCR", "weir:generation")
    soon(milter, True)
    assert ctl.json("drain") == []


def test_observe(weir, redis):
    """In mode observe nothing is refused, maintenance neither; the log tells."""
    milter = weir(CONF + "mode = observe\n", redis=redis)
    ctl = Ctl(redis.url)
    ctl("drain all on")
    proc.wait_for(lambda: ctl.json("status")["nodes"] and node(ctl)["drain"] == "on", 5)
    with RawMilter(milter.socket) as session:
        assert session.open("192.0.2.1").code == rawmilter.CONTINUE
    milter.wait_log("action=refuse .*reason=drain client=192.0.2.1 .*mode=observe")


def test_without_redis(weir):
    """weirctl says how it is done then."""
    milter = weir(CONF)
    Ctl(conf=milter.conf).refused("drain all on", status=2, says="SIGUSR1")
