# SPDX-License-Identifier: BSD-2-Clause
"""Each count, by each key that makes sense for it, in both stores, through both
MTAs: the limit is filled, the next is refused by it and nobody else, and the
counter stands where it should. doc/policy.md has the table of these tests.

Three clients have the key in common and nothing else. A fourth has all in common
with the third, but not the key.
"""

import re
import subprocess
from contextlib import ExitStack

import pytest

from harness import proc
from harness.auth import plain
from harness.mta import NOBODY
from harness.weir import PATIENT, find_program
from test_limits import OFF, level
from test_replies import STOCK

WEIR = PATIENT

COUNTS = ("connections", "sessions", "messages", "recipients", "rejected-recipients", "bytes")
EXEMPT = "127.252.77.1"

# per: what the three have in common, what the fourth has instead, the key in Redis
KEYS = {
    "address": ({"source": "127.252.9.1"}, {"source": "127.252.9.2"},
                "{127.252.9.0/24}:127.252.9.1"),
    "network": ({"source": "127.252.9.{n}"}, {"source": "127.252.8.3"}, "{127.252.9.0/24}"),
    "pool": ({"source": "127.251.{n}.1"}, {"source": "127.251.4.1"}, "{one.test}"),
    "user": ({"user": "ann"}, {"user": "bob"}, "{ann}"),
    "sender": ({"sender": "ann@client.test"}, {"sender": "bob@client.test"},
               "{ann@client.test}"),
    "sender-domain": ({"sender": "a{n}@client.test"}, {"sender": "a3@other.test"},
                      "{client.test}"),
    "recipient": ({"recipient": "ann@example.test"}, {"recipient": "bob@example.test"},
                  "{ann@example.test}"),
    "recipient-domain": ({"recipient": "u{n}@example.test"},
                         {"recipient": "u3@other.example.test"}, "{example.test}"),
    "helo": ({"helo": "mail.client.test"}, {"helo": "other.client.test"},
             "{mail.client.test}"),
    # there is only one; who is exempt is not it
    "all": ({}, {"source": EXEMPT}, "{all}"),
}
AT_CONNECT = ("address", "network", "pool", "all")

# The sentence that says why the others are no limit: (counts, keys, a part of it)
SENSELESS = [
    (("connections", "sessions"), [key for key in KEYS if key not in AT_CONNECT],
     "are counted at connect, where only the address is known"),
    (("messages", "bytes"), ("recipient", "recipient-domain"),
     "a message has many recipients: count recipients per {key}"),
    (("rejected-recipients",), ("recipient", "recipient-domain"),
     "it would refuse those who write to the recipient for what others guessed"),
]
WHY = {(count, key): why.format(key=key)
       for counts, keys, why in SENSELESS for count in counts for key in keys}
CELLS = [(count, key) for count in COUNTS for key in KEYS if (count, key) not in WHY]

REPLY = "421 4.7.1 Enough of these"
TEXT = "Subject: test\r\n\r\n" + 30 * ("x" * 64 + "\r\n")
SIZE = len(TEXT) + 2        # the end of the last line
SLACK = 100                 # what an MTA may add before it shows the message


def words(count):
    """The burst holds what two clients do; of bytes, two messages and a half."""
    if count == "sessions":
        return f'max = 2 reply = "{REPLY}"'
    if count == "bytes":
        return f'rate = "2/1h" burst = {SIZE * 5 // 2} reply = "{REPLY}"'
    return f'rate = "2/100h" burst = 2 reply = "{REPLY}"'


class Who:
    """The n-th client."""

    def __init__(self, n, *words):
        self.source = f"127.252.10{n}.1"
        self.user = "somebody" if n == 2 else ""
        self.sender = f"sender{n}@client{n}.test"
        self.recipient = f"recipient{n}@example.test"
        self.helo = f"helo{n}.test"
        for more in words:
            for name, value in more.items():
                setattr(self, name, value.format(n=n))


class Refused(Exception):
    """The stage of the 421, and all of its words."""


def say(mta, who, client, messages, twice, unknown):
    def told(stage, reply, code=250):
        if reply == 421:
            assert client.closed() and client.read() is None, client.transcript
            raise Refused(stage, str(reply))
        assert reply == code, client.transcript

    told("connect", client.greeting, 220)
    told("helo", client.ehlo(who.helo))
    if who.user:
        told("auth", client.command(f"AUTH {plain(who.user)}"), 235)
    for _ in range(messages):
        told("mail", client.mail(who.sender))
        for _ in range(2 if twice else 1):
            told("rcpt", client.rcpt(who.recipient))
        for _ in range(unknown):
            assert client.rcpt(NOBODY) == 550
        told("eom", client.data(TEXT))
    assert client.quit() == 221 and client.closed()


def visit(mta, who, messages=1, twice=False, unknown=0):
    """One session; "ok", or the stage at which it is refused."""
    try:
        with mta.connect(who.source) as client:
            say(mta, who, client, messages, twice, unknown)
    except Refused as refused:
        stage, reply = refused.args
        assert reply == (STOCK[mta.name] if stage == "connect" else REPLY)
        return stage
    return "ok"


# What the clients do, and what becomes of it. Messages and recipients are told apart by
# a message with two; good recipients go on in a message in which too many unknown ones
# were named, but not in the next.
DO = {
    "connections": [({}, "ok"), ({}, "ok"), ({}, "connect")],
    "sessions": [({}, "connect")],          # two are open meanwhile
    "messages": [({"twice": True}, "ok"), ({}, "ok"), ({}, "rcpt")],
    "recipients": [({"twice": True}, "ok"), ({}, "rcpt"), ({}, "rcpt")],
    "rejected-recipients": [({"unknown": 1}, "ok"), ({"unknown": 1, "messages": 2}, "mail"),
                            ({}, "rcpt")],
    "bytes": [({}, "ok"), ({}, "ok"), ({}, "eom")],
}


def told_at(count, key):
    """The stage at which the third client is refused."""
    early = count == "rejected-recipients" and key in AT_CONNECT
    return "connect" if early else DO[count][-1][1]


@pytest.mark.parametrize("count, key", CELLS)
def test_cell(mta, store, weir, count, key):
    milter = weir(f'exempt = {{"{EXEMPT}"}}\n{OFF}'
                  f"limit mine {{ count = {count} per = {key} {words(count)} }}\n",
                  redis=store)
    same, instead, record = KEYS[key]
    clients = [Who(n, same) for n in (1, 2, 3)]
    other = Who(3, same, instead)
    stage, since = told_at(count, key), mta.mark()

    with ExitStack() as held:
        if count == "sessions":
            for who in clients[:2]:
                client = held.enter_context(mta.connect(who.source))
                assert client.greeting == 220
        expected = [outcome for _, outcome in DO[count][:-1]] + [stage]
        seen = [visit(mta, who, **options)
                for who, (options, _) in zip(clients[-len(expected):], DO[count])]
        assert seen == expected
        assert visit(mta, other) == "ok"
        if store:
            check_record(store, count, key, record)
    if count == "sessions":
        # who left has made room
        proc.wait_for(lambda: visit(mta, clients[2]) == "ok", 5, "a place")

    line = milter.wait_log(f"action=refuse code=421 stage={stage} .*limit=mine .*"
                           f"client={re.escape(clients[2].source)} ")
    fields = milter.fields(line)
    assert fields["reason"] == ("sessions" if count == "sessions" else "rate")
    if count == "bytes":
        assert int(fields["of"]) == SIZE * 5 // 2
        assert 3 * SIZE <= int(fields["used"]) <= 3 * (SIZE + SLACK)
    else:
        assert (fields["used"], fields["of"]) == ("3", "2")
    if count != "sessions":
        assert int(fields["retry"].rstrip("s")) > 3600
    if stage == "connect" and mta.name == "postfix":
        mta.wait_log(f"milter-reject: CONNECT .*{re.escape(REPLY)}", since=since)


def check_record(redis, count, key, record):
    """The three are counted in the one record, and the fourth in his own."""
    if count == "sessions":
        assert redis.cmd("ZCARD", f"weir:open:{key}:{record}") == 2
        return
    held = level(redis, f"weir:{key}:{record}", "mine")
    if count == "bytes":
        assert 2 * SIZE <= held <= 2 * (SIZE + SLACK)
    else:
        assert held == 2
    others = [level(redis, name, "mine") for name in redis.cmd("KEYS", f"weir:{key}:*")
              if name != f"weir:{key}:{record}"]
    if count == "rejected-recipients" or key == "all":
        assert not any(others)
    elif count == "bytes":
        assert [SIZE <= held <= SIZE + SLACK for held in others if held] == [True]
    else:
        assert [held for held in others if held] == [1]


@pytest.fixture
def checked(tmp_path):
    """weir-milter -n for one limit: its status, and what it says."""
    def check(text):
        path = tmp_path / "weir.conf"
        path.write_text(text)
        done = subprocess.run([find_program("weir-milter"), "-n", "-c", path], timeout=10,
                              capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr
    return check


def test_what_makes_no_sense(checked):
    """Each pair of count and key is either a cell of the table or a mistake that is
    named with its line."""
    for count in COUNTS:
        for key in KEYS:
            status, said = checked(f"limit mine {{\n count = {count} per = {key}\n"
                                   f" {words(count)}\n}}\n")
            if (count, key) in CELLS:
                assert status == 0 and f"{count} per {key}, " in said, said
            else:
                assert status == 1 and WHY[count, key] in said, (count, key, said)
                assert re.search(r"weir\.conf:\d", said), said


# words of a limit of connections per address, and why they make no limit
MISTAKES = [
    ("for = authenticated", "nobody is authenticated yet"),
    ("for = nobody", "for is everyone, strangers, known, authenticated, or networks"),
    ('for = "192.0.2.1/24"', "networks without host bits"),
    ("count = messages per = user for = strangers", "an authenticated user is no stranger"),
    ('count = messages per = sender ladder = "/56*4"',
     "a ladder of networks is for per address or network"),
    ('ladder = "/56*4 /60*8"', "each wider than the one before"),
    ("max = 2", "max is for sessions; connections have rate and burst, or quota"),
    ('quota = "2/1h"', "a limit has a rate or a quota: for both make two limits"),
    ("burst = 2k", "k, M and G are for bytes"),
]


def test_words_that_make_no_sense(checked):
    for more, why in MISTAKES:
        given = {"count": "connections", "per": "address", "rate": '"2/1h"'}
        given = {name: value for name, value in given.items() if f"{name} =" not in more}
        status, said = checked("limit mine {\n" + "\n".join(
            f"{name} = {value}" for name, value in given.items()) + f"\n{more}\n}}\n")
        assert status == 1 and why in said, (more, said)
    status, said = checked('limit mine { count = sessions max = 2 quota = "2/1h" }')
    assert status == 1 and "a limit of sessions has max, not rate, burst or quota" in said


def test_the_table_of_the_manual():
    """doc/policy.md names each of these tests, and where the client is told."""
    rows = [[word.strip() for word in line.strip("|\n").split("|")]
            for line in (proc.SOURCE / "doc/policy.md").read_text().splitlines()]
    rows = [row for row in rows if len(row) == 7 and row[0] in COUNTS]
    assert rows == [[count, key, told_at(count, key),
                     *(f"{mta}-{store}-{count}-{key}" for mta in ("postfix", "sendmail")
                       for store in ("redis", "zone"))] for count, key in CELLS]
