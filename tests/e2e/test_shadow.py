# SPDX-License-Identifier: BSD-2-Clause
"""`weirctl limit shadow`: other figures beside a live limit, whom they would have
refused, and nobody who was refused by them."""

import time

import pytest

import load
from harness.ctl import AUTHOR, starter
from rawmilter import CONTINUE, RawMilter

CONF = """
limit connections { rate = "1/1h" burst = 4 ladder = "/56*4" }
limit sessions { max = 4 }
limit recipients { per = address rate = "1/1h" burst = 50 }
greylist { enabled = true delay = "1s" }
"""


@pytest.fixture
def start(weir, redis):
    return starter(weir, redis)


def send(milter, client, count, **how):
    """True for each of so many recipients of one message that was taken."""
    with RawMilter(milter.socket) as session:
        session.open(client)
        session.mail()
        return [session.rcpt(f"u{n}@example.test", **how).code == CONTINUE for n in range(count)]


def test_a_day_in_the_shade(start, redis):
    """Made, found out, made anew, taken away; all of it in the history."""
    milter, ctl = start(CONF)
    ctl("greylist pass 198.51.100.1")
    ctl("limit shadow connections burst=2 for 1d")
    words = redis.hash("weir:limits")["connections-shadow:temporary"]
    until = int(words.split("until=")[1].split()[0])
    assert words == (f'count=connections per=address ladder="/56*4" rate=1/1h burst=2 action=log '
                     f"until={until} by={AUTHOR}")
    assert 86398 < until - time.time() <= 86401
    # the live limit goes on, and the shadow refuses nobody
    for client, times in (("192.0.2.1", 6), ("198.51.100.1", 10), ("203.0.113.1", 9)):
        assert load.connects(milter.socket, client, times) == [True] * 4 + [False] * (times - 4)
    assert load.connects(milter.socket, "10.0.0.9", 2) == [True] * 2
    report = ctl.json("limit shadow connections")
    assert (report["clients"], report["attempts"], report["seen"]) == (3, 19, 4)
    assert report["good"] == 2 and report["live_refused"] == 3
    assert [(row["who"], row["attempts"], row["known"], row["good"]) for row in report["top"]] == \
        [("198.51.100.1", 8, True, True), ("203.0.113.1", 7, False, False),
         ("192.0.2.1", 4, False, True)]
    assert (report["live"]["burst"], report["candidate"]["burst"]) == (4, 2)
    assert report["until"] == until and time.time() - report["since"] < 10 and \
        "ended" not in report
    text = ctl("limit shadow connections").out
    assert "3 would have been refused by the candidate, 19 times; 2 of these are good" in text
    assert "3 of 4 clients were last refused by the live limit" in text
    # a new run begins with nothing
    ctl("limit shadow connections rate=5/1h burst=3 for 2h")
    report = ctl.json("limit shadow connections")
    assert (report["clients"], report["attempts"], report["candidate"]["burst"]) == (0, 0, 3)
    assert load.connects(milter.socket, "10.0.0.1", 4) == [True] * 4
    assert ctl.json("limit shadow connections")["attempts"] == 1
    ctl("limit shadow connections off")
    assert redis.hash("weir:limits") == {}
    assert "ended" in ctl.json("limit shadow connections")
    ctl.refused("limit", "shadow", "connections", "off", says="has no shadow now")
    assert [len(entry["changes"]) for entry in ctl.json("limit history")] == [1, 1, 1, 1]
    ctl("limit rollback 1")
    assert redis.hash("weir:limits")["connections-shadow:temporary"] == words


def test_other_kinds(start):
    """Open sessions, quotas in place of rates, other counters."""
    milter, ctl = start(CONF)
    ctl("limit shadow sessions max=2 for 1h")
    held = load.fill([milter.socket], "192.0.2.1", 4)
    load.close_all(held)
    report = ctl.json("limit shadow sessions")
    assert (report["clients"], report["attempts"]) == (1, 2)
    ctl("limit shadow recipients quota=3/1h per=network for 1h")
    ctl("greylist pass 198.51.100.1")
    assert send(milter, "198.51.100.1", 5) == [True] * 5
    report = ctl.json("limit shadow recipients")
    assert (report["clients"], report["attempts"]) == (1, 2)
    assert "recipients per network, 3/1h" in ctl("limit shadow recipients").out
    why = ctl("why 198.51.100.1").out
    assert "limit recipients-shadow, which only logs, was exceeded 2 times" in why


def test_status_counts(start):
    """What shadow limits would have refused is in the status."""
    milter, ctl = start(CONF)
    ctl("limit shadow connections burst=1 for 1h")
    assert load.connects(milter.socket, "192.0.2.1", 3) == [True] * 3
    end = time.monotonic() + 5
    while [node["shadowed"] for node in ctl.json("status")["nodes"]] != [2]:
        assert time.monotonic() < end
        time.sleep(0.1)
    assert "shadow limits       would have refused 2 in all" in ctl("status").out


@pytest.mark.parametrize("words, says, status", [
    ("nothing burst=3 for 1h", "there is no limit nothing", 1),
    ("nothing", "there is no limit nothing", 1),
    ("connections", "has no shadow; one is made by", 1),
    ("connections off", "has no shadow now", 1),
    ("connections burst=4 for 1h", "that is what limit connections is now", 1),
    ("connections rate=1/60m for 1h", "that is what limit connections is now", 1),
    ("connections burst=3", "say for how long", 2),
    ("connections burst=3 action=refuse for 1h", "a shadow refuses nobody", 2),
    ("connections burst=lots for 1h", "burst is a whole number", 1),
    ("connections max=5 for 1h", "max is for sessions", 1),
    ("sessions rate=5/1h for 1h", "has max, not rate", 1),
    ("off burst=3 for 1h", "there is no limit off", 1),
    ("switched burst=3 for 1h", "is off: there is nothing to compare with", 1),
    ("a-name-with-26-characters-- burst=3 for 1h", "has more than 25 characters", 1),
    ("taken burst=3 for 1h", "there is a limit taken-shadow already", 1),
    ("Connections burst=3 for 1h", "not a limit's name", 1),
])
def test_refused(start, redis, words, says, status):
    _, ctl = start(CONF + """
        limit switched { count = messages rate = 1/1h enabled = false }
        limit taken { count = messages rate = 1/1h }
        limit taken-shadow { count = messages rate = 1/1h }\n""")
    ctl.refused("limit", "shadow", *words.split(), says=says, status=status)
    assert redis.cmd("GET", "weir:generation") is None


def test_too_many(start, redis):
    """The seventeenth limit is one too many, and nothing is forgotten for it."""
    _, ctl = start(CONF + "".join(
        f"limit l{n} {{ count = messages rate = 1/1h }}\n" for n in range(13)))
    redis.cmd("HSET", "weir:address:{192.0.2.0/24}:192.0.2.1", "connections-shadow:over", "1 1")
    ctl.refused("limit", "shadow", "l1", "rate=2/1h", "for", "1h", says="too many limits")
    assert redis.cmd("HGET", "weir:address:{192.0.2.0/24}:192.0.2.1",
                     "connections-shadow:over") == "1 1"


def test_is_remembered_for_a_day(start, redis):
    """Not for the hour that other clients are, and whatever they do next."""
    milter, ctl = start('limit connections { rate = "60/1h" burst = 4 }\n')
    ctl("limit shadow connections burst=2 for 1d")
    for client, times in (("192.0.2.1", 3), ("198.51.100.1", 1)):
        load.connects(milter.socket, client, times)
    send(milter, "192.0.2.1", 1)
    lives = {key.rpartition(":")[2]: redis.cmd("PTTL", key) / 3600e3
             for key in redis.cmd("KEYS", "weir:address:*")}
    assert lives["192.0.2.1"] > 23.9 and lives["198.51.100.1"] <= 1
