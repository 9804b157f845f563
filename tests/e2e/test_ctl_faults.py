# SPDX-License-Identifier: BSD-2-Clause
"""weirctl when Redis is away, odd or full of rubbish, and when it is told nonsense: one
sentence, the right exit status, soon, nothing half done, and no terminal harmed."""

import json
import re
import signal
import socket
import time

import pytest

import load
from harness import proc
from harness.ctl import Ctl

CONF = """
workers = 1
limit connections { rate = "1/1h" burst = 2 }
limit sessions { max = 20 }
limit recipients { rate = "300/10m" }
greylist { enabled = true }
"""
CLIENT = "192.0.2.7"
LOOKS = ["limit", "limit history", "lists", f"why {CLIENT}", "top", "status", "greylist list"]
CHANGES = ["limit set connections burst=9", "limit unset connections", "limit rollback 1",
           f"override set {CLIENT} connections burst=9", f"exempt {CLIENT}", "block 203.0.113.9",
           f"unlist {CLIENT}", f"clear {CLIENT}", f"greylist pass {CLIENT}",
           f"greylist forget {CLIENT}"]
SLACK = 0.5
ESC = "\033[31m"


@pytest.fixture
def ctl(redis, tmp_path):
    conf = tmp_path / "weir.conf"
    conf.write_text(CONF + f'redis {{ url = "{redis.url}" }}\n')
    return Ctl(None, "-y", conf=conf)


@pytest.fixture
def prepared(ctl):
    """Something in every place."""
    for words in ("limit set connections burst=3", f"exempt {CLIENT}",
                  f"override set {CLIENT} connections burst=8", f"greylist pass {CLIENT}"):
        ctl(words)
    return ctl


def dump(redis):
    return {key: redis.cmd("DEBUG", "DIGEST-VALUE", key) for key in redis.cmd("KEYS", "*")}


def one_sentence(result):
    assert result.out == "" and len(result.err.splitlines()) == 1, result
    assert result.err.startswith("weirctl: ") and "user_script" not in result.err, result


# --- Redis is not there ----------------------------------------------------------------------

@pytest.mark.parametrize("words", LOOKS + CHANGES)
def test_unreachable(redis, words, tmp_path):
    """Nobody listens, no such socket, a black hole: exit 3 within a second."""
    mute = socket.create_server(("127.0.0.1", 0))
    for url in (f"redis://127.0.0.1:{proc.free_port()}", f"unix:{tmp_path}/none",
                f"redis://127.0.0.1:{mute.getsockname()[1]}"):
        result = Ctl(url)(words, status=3)
        one_sentence(result)
        assert result.seconds < 1 + SLACK
    mute.close()


def test_stopped(redis, ctl):
    redis.freeze()
    for words in (LOOKS[0], CHANGES[0], LOOKS[3]):
        result = ctl(words, status=3)
        one_sentence(result)
        assert "does not answer" in result.err and 0.5 < result.seconds < 1 + SLACK
    redis.thaw()
    assert redis.cmd("GET", "weir:generation") in (None, "1")


@pytest.mark.parametrize("url, says", [
    ("redis://:wrong@{}", "does not take this password"),
    ("redis://nobody:wrong@{}", "does not take this password"),
    ("redis://{}", "it wants a password")])
def test_password(new_redis, url, says):
    redis = new_redis(password="secret")
    ctl = Ctl(url.format(f"{redis.host}:{redis.port}"))
    result = ctl("limit", status=3)
    one_sentence(result)
    assert says in result.err and "wrong" not in result.err
    Ctl(f"redis://:secret@{redis.host}:{redis.port}")("limit")


def test_password_not_wanted(redis):
    """A password where Redis has none is wrong as well."""
    result = Ctl(f"redis://:x@{redis.host}:{redis.port}")("limit", status=3)
    one_sentence(result)


def test_replica(redis, prepared):
    """One can look, and a change says where to go."""
    redis.cmd("CONFIG", "SET", "replica-serve-stale-data", "yes")
    redis.cmd("REPLICAOF", "127.0.0.1", "1")
    try:
        before = dump(redis)
        for words in LOOKS:
            prepared(words)
        for words in CHANGES:
            result = prepared(words, status=1)
            assert re.search("is a replica|nothing is counted", result.err), result
        assert dump(redis) == before
    finally:
        redis.cmd("REPLICAOF", "NO", "ONE")


def test_full(redis, prepared):
    redis.cmd("CONFIG", "SET", "maxmemory", "1")
    try:
        before = dump(redis)
        for words in (CHANGES[0], CHANGES[3], f"block {CLIENT}"):
            result = prepared(words, status=1)
            assert "no memory left" in result.err
        prepared("limit")
        assert dump(redis) == before
    finally:
        redis.cmd("CONFIG", "SET", "maxmemory", "0")


# --- what somebody put there -------------------------------------------------------------------

TAG = "{192.0.2.0/24}"
WRONG_TYPES = {
    "generation": ["limit set connections burst=9", "limit rollback 0", "block 192.0.2.1"],
    "format": ["limit set connections burst=9", "limit rollback 0"],
    "limits": ["limit set connections burst=9", "limit unset connections", "limit rollback 0"],
    "overrides": [f"override set {CLIENT} connections burst=9", "limit rollback 0"],
    "lists": [f"block {CLIENT}", "limit rollback 0"],
    "history": ["limit set connections burst=9", "limit rollback 0", "limit history"],
    f"address:{TAG}:{CLIENT}": [f"why {CLIENT}"],
    f"open:address:{TAG}:{CLIENT}": [f"why {CLIENT}"],
    f"network:{TAG}": [f"why {CLIENT}"],
    f"pool:{TAG}": [f"why {CLIENT}", f"greylist pass {CLIENT}"],
    f"grey:{TAG} a@b u@c": ["why 192.0.2.8 sender a@b recipient u@c"],
    "node:mx1": [],
}


@pytest.mark.parametrize("name", WRONG_TYPES)
def test_wrong_type(redis, ctl, name):
    """What needs the key names it; all else works; the key stays as it was."""
    ctl("limit set sessions max=30")
    ctl("override set 192.0.2.9 connections burst=8")
    ctl("block 203.0.113.1")
    key = f"weir:{name}"
    redis.cmd("DEL", key)
    if name in ("generation", "format", f"grey:{TAG} a@b u@c"):
        redis.cmd("HSET", key, "x", "y")
    else:
        redis.cmd("SET", key, "precious")
    before = dump(redis)
    failing = WRONG_TYPES[name]
    for words in failing:
        result = ctl(words, status=1)
        assert key in result.err and "user_script" not in result.err, result
    assert dump(redis) == before
    for words in LOOKS:
        if words not in failing:
            ctl(words)
    assert dump(redis) == before
    if name in ("limits", "overrides", "lists"):
        ignored = ctl.json("limit")["ignored"]
        assert [entry["section"] for entry in ignored] == [name], "limit list says nothing"


GARBAGE = [
    ("limits", "connections", "burst=many"), ("limits", "sessions", "nonsense"),
    ("limits", ESC, "burst=1"), ("limits", "a\nb", "burst=1"), ("limits", "recipients", "=" * 999),
    ("limits", "recipients:forever", "burst=1"), ("limits", "new", "x" * 100000),
    ("limits", "x" * 100000, "burst=1"), ("limits", b"\xff", "burst=1"),
    ("limits", "recipients:temporary", "burst=9 until=soon"),
    ("overrides", f"{CLIENT} {ESC}", "burst=1"), ("overrides", f"{CLIENT} a\nb", "burst=1"),
    ("overrides", b"192.0.2.7 \xff", "burst=1"), ("overrides", CLIENT, "burst=1"),
    ("overrides", f"{CLIENT} connections", f"burst={ESC}"),
    ("overrides", f"{CLIENT} connections", f"burst=1 by={ESC} reason=\"{ESC}"),
    ("lists", "192.0.2.1/24", "action=block"), ("lists", CLIENT, "action=forgive"),
    ("lists", ESC, "action=block"), ("lists", CLIENT, f"action={ESC}"), ("lists", CLIENT, ""),
]


@pytest.mark.parametrize("section, field, words", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage(redis, weir, ctl, section, field, words):
    """By hand, and ignored: `limit list` says so, the milter says so once, in one line;
    nothing raw is printed anywhere."""
    milter = weir(CONF, redis=redis)
    redis.cmd("HSET", f"weir:{section}", field, words)
    for _ in range(3):
        redis.cmd("INCR", "weir:generation")
        load.connects(milter.socket, "203.0.113.5")
    ignored, = ctl.json("limit")["ignored"]
    assert ignored["section"] == section and ignored["why"]
    assert f"ignored in redis: {section}" in ctl("limit").out
    milter.wait_log("generation 3 is in force")
    lines = milter.log(rf"redis: {section}: .* is ignored: ")
    assert len(lines) == 1
    odd = [line for line in milter.log()
           if not line.startswith("weir-milter: ") or re.search(r"[^ -~]", line)]
    assert odd == []
    for look in LOOKS:
        ctl(look)
    assert load.connects(milter.socket, "198.51.100.5", 3) == [True, True, False]


def test_odd_records(redis, ctl):
    """Rubbish where clients are counted, and in the history, is passed over."""
    for key in ("address:{}", "address:{x", "address:{192.0.2.0/24}:" + "x" * 5000,
                "grey:{x}", "pool:{", "node:", f"address:{{{ESC}}}", f"node:{ESC}",
                f"pool:{{{ESC}}}", f"grey:{{{ESC}}} {ESC} {ESC}", b"address:{\xff}",
                b"pool:{\xff}", b"node:\xff", b"grey:{\xff} \xff \xff", "node:a\nb"):
        key = b"weir:" + (key if isinstance(key, bytes) else key.encode())
        if key.startswith(b"weir:grey"):
            redis.cmd("SET", key, f"{ESC} x")
            continue
        redis.cmd("HSET", key, "connections", f"{ESC}", "refused", "7", "last", "9" * 40,
                  "refusal", f"{ESC} 5", "known", "x", ESC, ESC, b"\xff", b"\xff")
    redis.cmd("RPUSH", "weir:history", "garbage", "[]", "{}", '{"n":1}', json.dumps(
        {"n": 2, "time": 1, "by": ESC, "reason": ESC, "changes": [
            {"section": ESC, "field": ESC, "old": ESC, "new": ESC}]}))
    for words in LOOKS + ["top by connections"]:
        ctl(words)
        ctl.json(words)
    one_sentence(ctl("limit rollback 0", status=1))


def test_newer_format(redis, weir, ctl):
    """weir-milter says so once and keeps to its file; weirctl changes nothing."""
    ctl("limit set connections burst=9")
    ctl("override set 192.0.2.1 connections burst=9")
    redis.cmd("SET", "weir:format", "2")
    milter = weir(CONF, redis=redis)
    for _ in range(3):
        redis.cmd("INCR", "weir:generation")
        assert load.connects(milter.socket, f"10.0.0.{_}", 3) == [True, True, False]
    milter.wait_log("generation 5 is in force")
    assert len(milter.log("have format 2, and this weir knows 1: keeping to the file")) == 1
    before = dump(redis)
    for words in ("limit set connections burst=8", "limit unset connections", "block 192.0.2.3",
                  "override set 192.0.2.1 connections burst=8", "unlist 192.0.2.1",
                  "limit rollback 1"):
        result = ctl(words, status=1)
        assert "nothing is changed: use the newer weirctl" in result.err
        assert result.err.count("format 2 of a newer weir") == 1, result.err
    # what weir-milter writes by itself: of itself, and that a session has ended
    own = re.compile(":(node|open):")
    assert {k: v for k, v in dump(redis).items() if not own.search(k)} == \
        {k: v for k, v in before.items() if not own.search(k)}
    result = ctl("limit")
    assert "format 2 of a newer weir" in result.err and result.row("connections")[-1] == "file"


# --- what somebody types ---------------------------------------------------------------------------

HUGE = "x" * 100000
ODD = [HUGE, ESC, "a\nb", "a\rb", "a\"b", "a\\b", "a'b", "a=b", "\udcff", "", " ", "a b until=1",
       'x" until=1 by="ann', "%s%s%n"]
PLACES = [
    ["{}"], ["limit", "{}"], ["limit", "set", "{}", "burst=1"],
    ["limit", "set", "connections", "{}"], ["limit", "set", "connections", "burst={}"],
    ["limit", "set", "connections", "reply={}"],
    ["limit", "set", "connections", "{}=1"], ["limit", "set", "connections", "burst=1", "for", "{}"],
    ["limit", "unset", "{}"], ["limit", "rollback", "{}"], ["override", "set", "{}", "x", "burst=1"],
    ["override", "set", CLIENT, "{}", "burst=1"], ["override", "set", CLIENT, "connections", "{}"],
    ["override", "set", CLIENT, "connections", "burst={}"], ["exempt", "{}"], ["block", "{}"],
    ["exempt", CLIENT, "for", "{}"], ["unlist", "{}"], ["why", "{}"], ["top", "{}", "x"],
    ["top", "by", "{}"], ["top", "-n", "{}"], ["clear", "{}"], ["greylist", "{}"],
    ["greylist", "pass", "{}"], ["greylist", "forget", "{}"], ["clear", "user:{}"],
    ["unlist", "user:{}"], ["-r", "{}", "limit"], ["-{}"]]


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_odd_arguments(redis, ctl, place):
    """Refused in a line or two that can be read, and nothing is written."""
    for odd in ODD:
        if place[0] in ("{}", "limit") and len(place) <= 2 and odd == "":
            continue
        result = ctl.run(*(word.format(odd) for word in place))
        assert result.status in (1, 2) and result.out == "", (place, odd[:50], result)
        said = result.err.partition("usage:")[0]
        assert said and len(said) < 1000, (place, odd[:50], len(said))
        assert redis.cmd("KEYS", "*") == [], (place, odd[:50])


@pytest.mark.parametrize("text", [HUGE, ESC, "a\nb", "a\"b", "\udcff", "\x7f", "a\tb"],
                         ids=repr)
def test_odd_reason(redis, ctl, text):
    """A reason is one line that can be read."""
    one_sentence(ctl("-m", text, "block", CLIENT, status=2))
    assert redis.cmd("KEYS", "*") == []


@pytest.mark.parametrize("text", ["until=1", "a=b", "x until=1 by=ann", "100%", "a\\b", "'", "é"])
def test_reason_breaks_nothing(redis, ctl, text):
    ctl("-m", text, "block", CLIENT)
    entry, = ctl.json("lists")
    assert entry["reason"] == text and "until" not in entry
    assert ctl.json("limit history")[0]["reason"] == text
    assert redis.hash("weir:lists")[CLIENT].endswith(f' reason="{text}"')
    ctl("limit rollback 0")
    assert ctl.json("lists") == []


@pytest.mark.parametrize("name", ["a\"b", "a=b", "a\\b", "%s", "until=1", "é", "{}", "*", "["])
def test_odd_users(redis, ctl, name):
    """A login name may be nearly anything, and comes back as it went in."""
    ctl("block", f"user:{name}")
    assert redis.hash("weir:lists").keys() == {f"user:{name}"}
    change, = ctl.json("limit history")[0]["changes"]
    assert change["field"] == f"user:{name}"
    ctl("override", "set", f"user:{name}", "recipients", "burst=5")
    ctl("unlist", f"user:{name}")
    assert redis.cmd("EXISTS", "weir:lists", "weir:overrides") == 0


def test_expired_entries_go(redis, ctl):
    """What is over does not stay for ever: the room in Redis is for what counts."""
    for number in range(3):
        redis.cmd("HSET", "weir:lists", f"192.0.2.{number}", "action=block until=1000000000")
    assert ctl.json("lists") == []
    ctl("block 203.0.113.1 for 1h")
    assert list(redis.hash("weir:lists")) == ["203.0.113.1"]
    ctl("limit rollback 0")
    assert ctl.json("lists") == []


def test_too_many_entries(redis, ctl):
    """More than are read: `limit list` says so."""
    redis.cmd("HSET", "weir:lists", *(word for n in range(8200) for word in (
        f"10.0.{n // 250}.{n % 250}", "action=exempt")))
    start = time.monotonic()
    out = ctl("limit").out
    assert time.monotonic() - start < 5 and "too many" in out
    assert len(ctl.json("lists")) == 8192


def test_closed_pipe(ctl):
    """Nobody reads on: an end, and no complaint."""
    process = ctl.popen("--help")
    process.stdout.close()
    assert process.wait(5) in (0, 1, -signal.SIGPIPE) and process.stderr.read() == b""
    process.stderr.close()
