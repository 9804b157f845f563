# SPDX-License-Identifier: BSD-2-Clause
"""The Redis users of etc/redis-acl.conf, as that file makes them: each can do its
work, has no right that the work does not use, and the one that only reads is told
so in a sentence."""

import json
import re

import pytest

import load
from harness import proc
from harness.ctl import Ctl
from harness.redis import RedisError
from harness.watch import Page
from rawmilter import RawMilter

FILE = proc.SOURCE / "etc/redis-acl.conf"
USERS = dict(re.findall(r"^user (\S+) on >(\S+)", FILE.read_text(), re.MULTILINE))
CLIENT = "192.0.2.7"
CONF = """
limit connections {{ rate = "60/1m" burst = 4 }}
limit sessions {{ max = 2 }}
greylist {{ enabled = true delay = "1s" }}
redis {{ url = "{url}" }}
"""

LOOKS = ["limit", "limit list", "why 203.0.113.77", "limit history", "lists", f"why {CLIENT}",
         f"why {CLIENT} sender a@client.test recipient u1@example.test", "top",
         "top by connections", "status", "drain", "greylist list"]
CHANGES = ["limit set connections burst=9", "limit set recipients burst=400 for 2h",
           f"override set {CLIENT} connections burst=90", f"exempt {CLIENT}",
           f"unlist {CLIENT}", "block 203.0.113.0/24", "limit unset recipients",
           "limit shadow connections burst=3 for 1h", "limit rollback 1", f"greylist pass {CLIENT}", f"greylist forget {CLIENT}",
           f"clear {CLIENT}", "drain all on for 1h"]


def granted(user):
    """The commands that the file gives to a user."""
    line = re.search(rf"^user {user} .*$", FILE.read_text(), re.MULTILINE)[0]
    return set(re.findall(r"\+(\S+)", line))


def used(redis):
    """The commands that ran since the last RESETSTAT, those in scripts included."""
    stats = redis.cmd("INFO", "commandstats")
    return {m[1].lower() for m in re.finditer(
        r"^cmdstat_([^:|]+)\S*:calls=(\d+),.*?rejected_calls=(\d+)", stats, re.MULTILINE)
        if int(m[2]) > 0} - {"config", "info", "acl", "auth", "script"}


@pytest.fixture
def guarded(new_redis):
    """A Redis with those users; url(user) is what that user connects with. Database
    1, so that +select is needed. The harness's own link is the default user's."""
    redis = new_redis(config=[f"include {FILE}"])
    redis.as_user = lambda user: f"redis://{user}:{USERS[user]}@{redis.host}:{redis.port}/1"
    return redis


@pytest.fixture
def traffic(guarded, weir):
    """A weir-milter as its own user, after all that it asks Redis for has happened."""
    page = Page(f"127.0.0.1:{proc.free_port()}")
    milter = weir(CONF.format(url=guarded.as_user("weir-milter"))
                  + f'metrics = "{page.address}"\n')
    page.ready()
    guarded.cmd("CONFIG", "RESETSTAT")
    guarded.cmd("ACL", "LOG", "RESET")
    held = load.fill([milter.socket], "198.51.100.1", 2)     # leases
    assert load.connects(milter.socket, "198.51.100.1") == [False]
    load.close_all(held)
    assert load.connects(milter.socket, CLIENT, 6)[4:] == [False, False]

    def message():
        with RawMilter(milter.socket) as session:
            session.open("198.51.100.9")
            session.mail()
            return session.rcpt().code
    assert message() == "y"
    proc.wait_for(lambda: message() == "c", 5, "the delay's end", every=0.3)
    guarded.cmd("SELECT", 1)
    guarded.cmd("INCR", "weir:generation")      # by hand: everything is read
    milter.wait_log("generation 1 is in force")
    proc.wait_for(lambda: page.get("/api/now").json()["nodes"], 5, "what the page asks for")
    return milter


def test_milter(traffic, guarded):
    """It runs without one refused command, and uses each of its rights."""
    milter, where = traffic, "weir:node:*"
    guarded.cmd("SELECT", 1)
    proc.wait_for(lambda: guarded.cmd("KEYS", where), 10, "what it publishes")
    guarded.cmd("CONFIG", "SET", "maxmemory", "1")      # Redis is lost, and back
    proc.wait_for(lambda: load.connects(milter.socket, "203.0.113.8") and
                  milter.log("does not answer"), 10, "the loss")
    guarded.cmd("CONFIG", "SET", "maxmemory", "0")
    milter.wait_log("is back after")
    proc.wait_for(lambda: "zrem" in used(guarded), 10, "the release of a session")
    # a change as weirctl records it: that alone is read
    n = int(guarded.cmd("GET", "weir:generation") or 0) + 1
    guarded.cmd("LPUSH", "weir:history", json.dumps({"n": n, "changes": []}))
    guarded.cmd("INCR", "weir:generation")
    proc.wait_for(lambda: {"lrange", "hlen"} <= used(guarded), 5, "the change")
    denied = [entry for entry in guarded.cmd("ACL", "LOG") if "oom" not in str(entry)]
    assert denied == [] and not milter.log("NOPERM")
    assert used(guarded) - {"keys", "lpush", "incr"} == granted("weir-milter") - {"info"}
    assert milter.log("has no maxmemory")       # this is what it asks INFO for


def test_weirctl(traffic, guarded):
    """Every command works, and every right is used."""
    ctl = Ctl(guarded.as_user("weirctl"))
    traffic.stop()
    guarded.cmd("SELECT", 1)
    guarded.cmd("CONFIG", "RESETSTAT")
    for words in LOOKS + CHANGES + LOOKS:
        ctl(*words.split())
    assert used(guarded) == granted("weirctl")
    assert guarded.cmd("ACL", "LOG") == []


def test_weirctl_read(traffic, guarded):
    """What only looks works; each change is refused with a sentence, and nothing has
    changed."""
    look, change = (Ctl(guarded.as_user(user)) for user in ("weirctl-read", "weirctl"))
    for words in CHANGES[:4]:
        change(*words.split())
    traffic.stop()
    guarded.cmd("SELECT", 1)
    guarded.cmd("SCRIPT", "FLUSH")
    guarded.cmd("CONFIG", "RESETSTAT")
    for words in LOOKS:
        look(*words.split())
    assert used(guarded) == granted("weirctl-read") and guarded.cmd("ACL", "LOG") == []
    before = {key: guarded.cmd("DEBUG", "DIGEST-VALUE", key)
              for key in guarded.cmd("KEYS", "*")}
    for words in CHANGES:
        result = look(*words.split(), status=1)
        assert "this Redis user has no right to do that" in result.err, result
    assert before == {key: guarded.cmd("DEBUG", "DIGEST-VALUE", key)
                      for key in guarded.cmd("KEYS", "*")}


@pytest.mark.parametrize("user", sorted(USERS))
def test_nothing_else(guarded, user):
    """Other keys, and what could harm the server, are out of reach."""
    guarded.cmd("AUTH", user, USERS[user])
    guarded.cmd("SELECT", 1)
    for words in (["GET", "other:key"], ["HGETALL", "weird"], ["FLUSHALL"], ["KEYS", "*"],
                  ["CONFIG", "GET", "*"], ["DEBUG", "SLEEP", "0"], ["SHUTDOWN"],
                  ["SUBSCRIBE", "x"], ["SCRIPT", "FLUSH"], ["ACL", "LIST"],
                  ["EVAL", "return redis.call('GET', 'other')", "0"],
                  ["EVAL", "return redis.call('GET', KEYS[1])", "1", "other"]):
        with pytest.raises(RedisError, match="NOPERM|can't run|access"):
            guarded.cmd(*words)


def test_wrong_user(guarded, weir):
    """weirctl says which door is closed, and a weir-milter without a password goes on
    with its own memory."""
    address = f"{guarded.host}:{guarded.port}"
    for door in ("weirctl:wrong@", "nobody:x@"):
        Ctl(f"redis://{door}{address}").refused(
            "limit", status=3, says="does not take this password")
    guarded.cmd("ACL", "SETUSER", "default", "on", ">secret")
    Ctl(f"redis://{address}").refused("limit", status=3, says="it wants a password")
    milter = weir(CONF.format(url=f"redis://weir-milter:wrong@{address}"))
    assert load.connects(milter.socket, CLIENT, 5) == [True] * 4 + [False]
