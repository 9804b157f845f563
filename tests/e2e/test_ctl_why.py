# SPDX-License-Identifier: BSD-2-Clause
"""`weirctl why` says beforehand what then really happens, and changes nothing."""

import time

import pytest

import load
import rawmilter
from harness.ctl import outlive_memory, starter
from rawmilter import RawMilter

GREYLIST = 'greylist { enabled = true delay = "1h" }\n'


@pytest.fixture
def start(weir, redis):
    """start(conf) -> (a weir-milter, weirctl with the same file)."""
    return starter(weir, redis)


WHY = 'limit connections { rate = "1/1h" burst = 3 }\nlimit sessions { max = 5 }\n' \
      'limit recipients { per = address rate = "1/1h" burst = 3 }\n'
CLIENT = "192.0.2.7"


class Scene:
    """A weir-milter, and what a client does with it."""

    def __init__(self, milter, redis, ctl):
        self.milter, self.redis, self.ctl = milter, redis, ctl

    def connect(self, times):
        load.connects(self.milter.socket, CLIENT, times)

    def write_to(self, times):
        with RawMilter(self.milter.socket) as session:
            session.open(CLIENT)
            session.mail()
            for number in range(times):
                session.rcpt(f"u{number + 1}@example.test")

    def age(self, seconds):
        for key in self.redis.cmd("KEYS", "weir:grey:*"):
            first, tries = self.redis.cmd("GET", key).split()
            self.redis.cmd("SET", key, f"{int(first) - seconds * 10**6} {tries}", "KEEPTTL")


# state -> (greylisting, how it comes about, connection, message, greylist's word)
STATES = {
    "fresh": (False, lambda s: None, "ok", "ok", None),
    "near the limit": (False, lambda s: s.connect(2), "ok", "ok", None),
    "at the limit": (False, lambda s: s.connect(3), "rate", "ok", None),
    "over the limit": (False, lambda s: s.connect(6), "rate", "ok", None),
    "recipients near": (False, lambda s: s.write_to(2), "ok", "ok", None),
    "recipients over": (False, lambda s: s.write_to(4), "ok", "rate", None),
    "lower": (False, lambda s: (s.connect(2), s.ctl("limit set connections burst=2")),
              "rate", "ok", None),
    "override": (False, lambda s: (s.connect(6), outlive_memory(), s.ctl(
        f"override set {CLIENT} connections burst=9")), "ok", "ok", None),
    "override of network": (False, lambda s: (s.connect(6), outlive_memory(), s.ctl(
        "override set 192.0.2.0/24 connections enabled=false")), "ok", "ok", None),
    "narrower override": (False, lambda s: (
        s.connect(2), s.ctl(f"override set {CLIENT} connections burst=2"),
        s.ctl("override set 192.0.2.0/24 connections burst=900")), "rate", "ok", None),
    "expired override": (False, lambda s: (
        s.connect(3), s.redis.cmd("HSET", "weir:overrides", f"{CLIENT} connections",
                                  "burst=9 until=1000000000"),
        s.redis.cmd("INCR", "weir:generation")), "rate", "ok", None),
    "exempt": (True, lambda s: (s.connect(6), outlive_memory(),
                                s.ctl(f"exempt {CLIENT}")), "exempt", "exempt", None),
    "blocked": (True, lambda s: s.ctl("block 192.0.2.0/25"), "blocked", "blocked", None),
    # a worker that has seen the block goes by it until it looks again
    "exempt within a block": (False, lambda s: (s.ctl("block 192.0.2.0/24"),
                                                s.ctl(f"exempt {CLIENT}"), outlive_memory()),
                              "exempt", "exempt", None),
    "new": (True, lambda s: None, "ok", "greylist", "new"),
    "early": (True, lambda s: s.write_to(1), "ok", "greylist", "early"),
    "passed": (True, lambda s: (s.write_to(1), s.age(4000)), "ok", "ok", "passed"),
    "too late": (True, lambda s: (s.write_to(1), s.age(90000)), "ok", "greylist", "new"),
    "known": (True, lambda s: s.ctl(f"greylist pass {CLIENT}"), "ok", "ok", "known"),
    "observed": ("observe", lambda s: s.connect(3), "rate", "ok", None),
}


def dump(redis):
    """All that Redis holds, but for what the weir-milters tell of themselves."""
    return {key: (redis.cmd("DEBUG", "DIGEST-VALUE", key), redis.cmd("PTTL", key) > 0)
            for key in redis.cmd("KEYS", "*") if ":node:" not in key}


@pytest.mark.parametrize("state", STATES)
def test_why_is_right(start, redis, state):
    """why, and then doing it: the same; and asking has changed nothing."""
    greylisting, prepare, connection, message, grey = STATES[state]
    milter, ctl = start(WHY + (GREYLIST if greylisting is True else "") + (
        'mode = "observe"\n' if greylisting == "observe" else ""))
    scene = Scene(milter, redis, ctl)
    prepare(scene)
    time.sleep(0.1)             # the ends of sessions reach Redis a moment later
    before = dump(redis)
    why = ctl.json(f"why {CLIENT} sender a@client.test recipient u1@example.test")
    text = ctl(f"why {CLIENT} sender a@client.test recipient u1@example.test").out
    assert dump(redis) == before
    said = why["next"]
    assert (said["connection"]["reason"], said["message"]["reason"]) == (connection, message)
    assert (why["greylist"]["state"] if "greylist" in why else None) == grey
    with RawMilter(milter.socket) as session:
        replies = {"connection": session.open(CLIENT)}
        if not session.ended and replies["connection"].code == rawmilter.CONTINUE:
            session.mail()
            replies["message"] = session.rcpt("u1@example.test")
    for step, reply in replies.items():
        accept = said[step]["action"] == "accept" or not said[step]["enforced"]
        if accept:
            assert reply.code in (rawmilter.CONTINUE, rawmilter.ACCEPT), (step, reply, why)
        else:
            assert reply.text == said[step]["reply"], (step, why)
            assert said[step]["reply"] in text
    assert ("overrides:" in text) == ("override" in state and state != "expired override")
    assert ("lists:" in text) == ("exempt" in state or state == "blocked")


def test_why_counts(start):
    """The figures of a counter, and when there is room again."""
    milter, ctl = start('limit connections { rate = "60/1m" burst = 3 }\n')
    load.connects(milter.socket, CLIENT, 5)
    why = ctl.json("why", CLIENT)
    counter = next(c for c in why["counters"] if c["limit"] == "connections")
    assert 2.0 < counter["used"] <= 3.0 and counter["of"] == 3
    assert 1 <= counter["clear_seconds"] <= 3
    assert why["next"]["connection"]["retry_seconds"] == 1
    assert why["record"]["ok"] == "3" and why["record"]["refused"] == "1"
    assert why["record"]["refusal"].startswith("connections ")
    text = ctl("why", CLIENT).out
    assert "again in 1 s" in text and "last refused" in text and "limit connections" in text
