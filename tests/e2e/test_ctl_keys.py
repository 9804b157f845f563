# SPDX-License-Identifier: BSD-2-Clause
"""weirctl and the records that are not a client's own: networks, users, senders."""

import time

import pytest

from harness.ctl import Ctl, starter
from rawmilter import CONTINUE, RawMilter

CONF = """
limit connections { enabled = false }
limit sessions { enabled = false }
limit recipients { rate = "1/1h" burst = 4 }
limit logins { count = recipients per = user rate = "1/1h" burst = 3 }
"""


@pytest.fixture
def start(weir, redis):
    return starter(weir, redis)


def send(milter, count, user="", client="192.0.2.7"):
    """True for each recipient that was taken."""
    taken = []
    with RawMilter(milter.socket) as session:
        session.open(client)
        session.macro("M", {"{auth_authen}": user} if user else {})
        session.mail()
        for _ in range(count):
            taken.append(not session.ended and session.rcpt().code == CONTINUE)
    return taken


def test_top_names_networks_and_users(start):
    milter, ctl = start(CONF)
    assert send(milter, 2, "ann") == [True] * 2
    rows = {row["kind"]: row for row in ctl.json("top by recipients")["rows"]}
    assert rows["network"]["who"] == "192.0.2.0/24" and rows["user"]["who"] == "ann"
    assert [round(rows[kind]["used"]) for kind in ("network", "user")] == [2, 2]
    assert rows["user"]["of"] == 3
    # when they were seen is known of them, too
    assert all("s ago" in line for line in ctl("top by recipients").lines[1:-1])


def test_clear_user(start):
    milter, ctl = start(CONF)
    assert send(milter, 4, "ann") == [True, True, True, False]
    assert ctl.json("clear user:ann") == {"cleared": 1}
    assert ctl.run("clear", "user:ann").status == 1
    assert ctl.run("clear", "user:nobody").status == 1
    assert "user" not in {row["kind"] for row in ctl.json("top by recipients")["rows"]}


def test_impact_on_networks(start):
    """The warning before a limit is lowered knows networks as well as addresses."""
    milter, ctl = start(CONF)
    for number in range(6):
        send(milter, 1 + number % 3, client=f"198.51.{number}.1")
    lower = ["limit", "set", "recipients", "burst=2"]
    refused = Ctl(None, conf=milter.conf).run(*lower)
    assert refused.status == 1
    assert "this would refuse 4 of 6 clients seen in the last hour" in refused.err
    assert ctl.run(*lower).status == 0     # says --yes


def test_spoilt_by_hand(start, redis):
    """An entry that weirctl wrote and a hand spoilt: both go on with what was good."""
    milter, ctl = start(CONF)
    ctl("limit set logins burst=1")
    assert send(milter, 2, "bea") == [True, False]
    time.sleep(2)           # each worker looks once a second, and keeps what it saw
    redis.cmd("HSET", "weir:limits", "logins", "burst=lots")
    redis.cmd("INCR", "weir:generation")
    assert send(milter, 2, "cleo") == [True, False]
    burst = {row["name"]: row.get("burst") for row in ctl.json("limit")["limits"]}
    assert burst["logins"] == 1
    assert "cannot be used" in ctl("why 192.0.2.7 user cleo").out
    assert "burst is a whole number" in ctl("limit").out
