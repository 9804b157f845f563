# SPDX-License-Identifier: BSD-2-Clause
"""Changes with weirctl: who is on record for one, how it is taken back, what is refused
before it is written, and many at once."""

import json
import re
import socket
import subprocess
import time

import pytest

import load
from harness.ctl import AUTHOR, Ctl, on_a_terminal

CONF = """
limit connections { rate = "60/1h" burst = 5 }
limit sessions { max = 20 }
"""


@pytest.fixture
def ctl(redis, tmp_path):
    conf = tmp_path / "weir.conf"
    conf.write_text(CONF + f'redis {{ url = "{redis.url}" }}\n')
    return Ctl(conf=conf)


# --- who, why, and back ------------------------------------------------------------------------

def test_author_and_reason(redis, ctl):
    """Who and why stand in the entry and in the history."""
    reason = "newsletter (=17)"
    ctl("-m", reason, "limit", "set", "connections", "burst=7")
    words = redis.hash("weir:limits")["connections"]
    assert words == f'burst=7 by={AUTHOR} reason="{reason}"'
    entry, = ctl.json("limit history")
    assert (entry["by"], entry["reason"]) == (AUTHOR, reason)
    assert abs(entry["time"] - time.time()) < 5
    assert entry["changes"] == [{"section": "limits", "field": "connections", "old": "",
                                 "new": words}]
    assert reason in ctl("limit history").out
    limit = ctl.json("limit")["limits"][0]
    assert (limit["by"], limit["reason"]) == (AUTHOR, reason)
    ctl.env["SUDO_USER"] = "ann b=\"c@d"
    ctl("block 192.0.2.1")
    assert ctl.json("lists")[0]["by"] == f"ann-b--c-d@{socket.gethostname()}"


def overlay(redis):
    return {name: redis.hash(f"weir:{name}") for name in ("limits", "overrides", "lists")}


def test_rollback(redis, ctl):
    """Every generation comes back exactly as it was, lists and overrides too."""
    states = [overlay(redis)]
    for words in ("limit set connections burst=7", "exempt 192.0.2.0/24 for 1h",
                  "limit set connections burst=70 for 1h", "block user:joe",
                  "override set 192.0.2.7 connections burst=50", "limit unset connections",
                  "limit set recipients burst=9", "block 192.0.2.0/24", "unlist user:joe",
                  "override set 192.0.2.7 connections burst=51", "unlist 192.0.2.7"):
        ctl("-y", *words.split())
        states.append(overlay(redis))
    last = len(states) - 1
    for to in (5, 0, 3, last, 1, last, last - 1):
        ctl("limit", "rollback", str(to))
        assert overlay(redis) == states[to], to
    history = ctl.json("limit history")
    assert len(history) == int(redis.cmd("GET", "weir:generation")) == last + 7
    assert history[0]["reason"] == f"rollback to {last - 1}"
    ctl.refused("limit", "rollback", "999", says="nothing has changed")


@pytest.mark.parametrize("by_hand", [
    ("HSET", "weir:limits", "connections", "burst=99"), ("HDEL", "weir:limits", "connections"),
    ("DEL", "weir:limits"), ("HSET", "weir:lists", "192.0.2.1", "action=exempt")])
def test_rollback_after_a_change_by_hand(redis, ctl, by_hand):
    """It does not overwrite what it has no record of."""
    ctl("block 192.0.2.1")
    ctl("limit set connections burst=7")
    redis.cmd(*by_hand)
    before = overlay(redis)
    ctl.refused("limit", "rollback", "0", says="changed by hand?")
    assert overlay(redis) == before and redis.cmd("GET", "weir:generation") == "2"


def test_rollback_beyond_the_history(redis, ctl):
    """A thousand changes are kept; what lies before cannot be restored."""
    ctl("limit set connections burst=7")
    change = json.loads(redis.cmd("LINDEX", "weir:history", 0))["changes"][0]
    entries = [json.dumps({"n": n, "time": 1, "by": "x@y", "reason": "", "changes":
                           [{**change, "old": change["new"]}]}) for n in range(2, 1100)]
    redis.cmd("LPUSH", "weir:history", *entries)
    redis.cmd("SET", "weir:generation", 1099)
    ctl("block 192.0.2.1")
    assert redis.cmd("LLEN", "weir:history") == 1000
    ctl.refused("limit", "rollback", "5", says="reaches back to generation 101 only")
    ctl("limit rollback 1099")


def test_nothing_for_nothing(redis, ctl):
    """Not found is exit 1, with a sentence."""
    for words, says in (("limit unset connections", "the file's is in force"),
                        ("unlist 192.0.2.1", "nothing is listed for 192.0.2.1"),
                        ("clear 192.0.2.1", "nothing is counted for 192.0.2.1"),
                        ("clear 192.0.2.0/24", "nothing is counted"),
                        ("limit rollback 0", "nothing has changed"),
                        ("exempt 0.0.0.0/0", "is everybody"), ("block ::/0", "is everybody"),
                        ("clear user:joe", "user"), ("why nobody", "is not an address"),
                        ("greylist forget 192.0.2.1", "knows nothing of")):
        ctl.refused(*words.split(), says=says)
    assert redis.cmd("KEYS", "*") == []


def test_at_once(redis, ctl):
    """Eight at a time, twenty changes each, half of them of the same entry: none is lost."""
    workers = [subprocess.Popen(
        ["sh", "-c", 'for n in $(seq 10); do "$@" limit set connections burst=$((n + $0 * 100)) '
         '&& "$@" override set 192.0.2.$0 connections burst=$n || exit 1; done', str(number),
         *ctl.argv, "--yes"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=ctl.env)
        for number in range(1, 9)]
    errors = [worker.communicate(timeout=60)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0] * 8, errors
    history = ctl.json("limit history")[::-1]
    assert [entry["n"] for entry in history] == list(range(1, 161))
    assert redis.cmd("GET", "weir:generation") == "160"
    state = {"limits": {}, "overrides": {}, "lists": {}}
    for entry in history:                   # each saw what the one before had left
        for change in entry["changes"]:
            section = state[change["section"]]
            assert section.get(change["field"], "") == change["old"]
            section[change["field"]] = change["new"]
    assert state == overlay(redis) and len(state["overrides"]) == 8


# --- before it is written ------------------------------------------------------------------------

BAD_LIMITS = [
    ("connections", "rate=abc"), ("connections", "burst=0"), ("connections", "burst=-1"),
    ("connections", "burst=1000000001"), ("connections", "rate=60"), ("connections", "max=3"),
    ("connections", "action=drop"), ("connections", "colour=red"), ("connections", "per=planet"),
    ("connections", "reply=\"550 5.7.1 Go away\""), ("sessions", "rate=1/1m"),
    ("connections", "reply=\"421 4.7.0 100%\""), ("connections", "rate=1/52w burst=1000"),
    ("connections", "burst="), ("unknown", "rate=1/1m"), ("sessions", "enabled=perhaps"),
    ("connections", "action=defer reply=\"421 4.7.0 No\""), ("connections", "rate=1/1m rate")]


def test_same_words_as_the_milter(redis, weir, ctl):
    """What weir-milter would ignore weirctl does not write, and both give one reason."""
    milter = weir("workers = 1\n" + CONF, redis=redis)
    for name, words in BAD_LIMITS:
        before = redis.cmd("GET", "weir:generation")
        split = re.findall(r'(?:[^\s"]|"[^"]*")+', words)
        result = ctl.run("limit", "set", name, *split)
        assert result.status in (1, 2) and result.out == "", words
        assert redis.cmd("EXISTS", "weir:limits") == 0
        assert redis.cmd("GET", "weir:generation") == before
        mark = milter.mark()
        redis.cmd("HSET", "weir:limits", name, words)
        redis.cmd("INCR", "weir:generation")
        load.connects(milter.socket, "192.0.2.1")
        reason = milter.wait_log(f"redis: limits: {name} is ignored: ",
                                 since=mark).partition("is ignored: ")[2]
        ignored, = ctl.json("limit")["ignored"]
        assert (ignored["section"], ignored["name"], ignored["why"]) == ("limits", name, reason)
        if result.status == 1:
            assert result.err == f"weirctl: {name}: {reason}\n"
        redis.cmd("DEL", "weir:limits")


BAD_EXCEPTIONS = [
    (["override", "set", "192.0.2.1", "nosuch", "burst=1"], "there is no limit nosuch"),
    (["override", "set", "192.0.2.1", "connections", "per=all"], "cannot change count or per"),
    (["override", "set", "192.0.2.1", "connections", "burst=x"], "burst is a whole number"),
    (["override", "set", "user:joe", "connections", "burst=1"], "nobody is authenticated yet"),
    (["override", "set", "192.0.2.1", "Connections", "burst=1"], "not a limit's name"),
    (["override", "set", "mx.example.test", "connections", "burst=1"], "must be an address"),
    (["block", "192.0.2.1/24"], "without host bits"), (["block", "192.0.2"], "must be an"),
    (["exempt", "user:"], "user:NAME"), (["exempt", "user:a b"], "no blanks"),
    (["limit", "set", "Connections", "burst=1"], "not a limit's name"),
    (["limit", "set", "c" * 33, "burst=1"], "not a limit's name"),
    (["limit", "set", "connections", "burst=5", "until=5"], "until"),
    (["limit", "set", "connections", "burst=5", "by=ann"], "by"),
    (["limit", "set", "connections", "burst=5", "reason=x"], "reason"),
    (["override", "set", "192.0.2.1", "connections", "burst=5", "until=5"], "until"),
]


@pytest.mark.parametrize("words, says", BAD_EXCEPTIONS)
def test_refused_before_it_is_written(redis, ctl, words, says):
    result = ctl.run(*words)
    assert result.status in (1, 2) and says in result.err, result
    assert redis.cmd("KEYS", "*") == []


REPLY = "reply=451 4.7.1 Slow down, please"


@pytest.mark.parametrize("command", [["limit", "set"], ["override", "set", "192.0.2.1"]])
def test_words_with_blanks(redis, ctl, command):
    """The shell has taken the quotes; weirctl puts them back."""
    ctl(*command, "recipients", "action=defer", REPLY)
    section = "limits" if command[0] == "limit" else "overrides"
    words = next(iter(redis.hash(f"weir:{section}").values()))
    assert words == f'action=defer reply="{REPLY[6:]}" by={AUTHOR}'


def test_impact(redis, weir, ctl):
    """A change that would refuse clients that are within their limits says so first."""
    milter = weir(CONF, redis=redis)
    for number in range(10):
        load.connects(milter.socket, f"10.0.{number}.1", 1 + number % 5)
    warning = "this would refuse 4 of 10 clients seen in the last hour"
    lower = "limit set connections burst=3".split()
    assert ctl.refused(*lower, says="nothing is changed; say --yes").err.startswith(
        f"weirctl: {warning}\n")
    assert redis.cmd("GET", "weir:generation") is None
    for answer, status in (("n", 1), ("", 1), ("y", 0)):
        out, code = on_a_terminal([*ctl.argv, *lower], answer + "\n", ctl.env)
        assert warning in out and "[y/N]" in out and code == status, out
    ctl("limit unset connections")
    assert warning in ctl("--yes", *lower).err
    # nobody is worse off: nothing to ask
    for words in ("limit set connections burst=4", "limit set connections action=log burst=1",
                  "limit set sessions max=1", "limit set recipients burst=300"):
        assert ctl(words).err == ""


