# SPDX-License-Identifier: BSD-2-Clause
"""weirctl and limits with a quota, a ladder, `for`, bytes, rejected recipients and pools:
what list, why, top, clear and the warning make of them."""

import time

import pytest

import load
from harness.ctl import Ctl, outlive_memory, starter
from rawmilter import CONTINUE, RawMilter

CONF = """
limit connections { quota = "5/1h" ladder = "/56*2 /48*4" }
limit sessions { enabled = false }
limit recipients { per = network rate = "1/1h" burst = 3 for = strangers }
limit volume { count = bytes rate = "1M/1h" burst = 4k for = "192.0.2.0/24 2001:db8::/32" }
limit guesses { count = rejected-recipients per = pool rate = "1/1h" burst = 2 }
known { learn = true }
"""
V4, V6 = "192.0.2.7", "2001:db8:0:1::7"
POOL = "weir:pool:{192.0.2.0/24}"


@pytest.fixture
def start(weir, redis):
    return starter(weir, redis)


def message(milter, client=V4, size=1000):
    with RawMilter(milter.socket) as session:
        session.open(client)
        return [session.mail(), session.rcpt(), session.body(b"x" * size), session.eom()][-1]


def guess(milter, client=V4):
    """The MTA refuses a recipient."""
    with RawMilter(milter.socket) as session:
        session.open(client)
        session.mail()
        session.rcpt(macros={"{rcpt_mailer}": "error"})


def now():
    return int(time.time() * 10**6)


def test_list(redis, tmp_path):
    """For people and for programs."""
    conf = tmp_path / "weir.conf"
    conf.write_text(CONF + f'redis {{ url = "{redis.url}" }}\n')
    ctl = Ctl(conf=conf)
    assert [line.rstrip() for line in ctl("limit").lines] == [
        "NAME               PER      LIMIT           FOR                 DOES    FROM",
        "connections        address  5/1h            everyone            refuse  file",
        "                   /56      10/1h",
        "                   /48      20/1h",
        "sessions           address  off             everyone            refuse  file",
        "recipients         network  1/1h burst 3    strangers           refuse  file",
        "volume (bytes)     address  1M/1h burst 4k  192.0.2.0/24 20...  refuse  file",
        "guesses (rejec...  pool     1/1h burst 2    everyone            refuse  file",
        "generation 0"]
    limits = {limit["name"]: limit for limit in ctl.json("limit")["limits"]}
    first = limits["connections"]
    assert (first["quota"], first["window_seconds"], "rate" in first) == (5, 3600, False)
    assert first["ladder"] == [{"bits": 56, "times": 2, "figures": "10/1h"},
                               {"bits": 48, "times": 4, "figures": "20/1h"}]
    volume = limits["volume"]
    assert (volume["rate"], volume["burst"]) == (1 << 20, 4096)
    assert (volume["for"], volume["networks"]) == ("networks", ["192.0.2.0/24", "2001:db8::/32"])
    # one takes the place of the other within Redis, too
    ctl("limit set recipients quota=7/1d")
    ctl("limit set recipients rate=8/1h burst=9")
    ctl("limit set recipients quota=10/1d")
    assert ctl("limit").row("recipients")[2] == "10/1d"
    ctl.refused("limit", "set", "recipients", "quota=1/1d", "rate=1/1h",
                says="a limit has a rate or a quota")


def test_why_counts(start, redis):
    """Each counter once for each network; nothing is charged by looking."""
    milter, ctl = start(CONF)
    assert load.connects(milter.socket, V6, 4) == [True] * 4
    assert [(c["kind"], c["key"], c["used"], c["of"]) for c in ctl.json("why", V6)["counters"]
            if c["limit"] == "connections"] == [
        ("address", "{2001:db8::/48}:2001:db8:0:1::/64", 4, 5),
        ("network", "{2001:db8::/48}:2001:db8::/56", 4, 10),
        ("network", "{2001:db8::/48}", 4, 20)]
    assert load.connects(milter.socket, V6, 2) == [True, False]
    why = ctl.json("why", V6)
    over = next(c for c in why["counters"] if c["limit"] == "connections" and c["over"])
    assert (over["used"], over["of"]) == (5, 5)
    assert 3590 <= over["retry_seconds"] <= 3600 and 3590 <= over["clear_seconds"] <= 3600
    assert why["next"]["connection"]["reason"] == "quota"
    assert "fits in 60 min" in ctl("why", V6).out
    # bytes and rejected recipients, though the next message is not there yet
    assert message(milter, size=3000).code == CONTINUE
    guess(milter)
    why = ctl.json("why", V4)
    used = {c["limit"]: c["used"] for c in why["counters"]}
    assert 2990 < used["volume"] <= 3000 and 0.99 < used["guesses"] <= 1
    # a shadow of bytes is charged at the end only, and shown as well
    ctl("limit set volume action=log")
    assert "volume" in {c["limit"] for c in ctl.json("why", V4)["counters"]}
    assert "2.9k" in ctl("why", V4).row("volume")


def test_why_knows(start, redis):
    """Whether the client is known, and why; what is not for it is left out."""
    milter, ctl = start(CONF)

    def pool(**fields):
        redis.cmd("DEL", POOL)
        for name, value in fields.items():
            redis.cmd("HSET", POOL, name, value)
        why = ctl.json("why", V4)
        asked = "recipients" in {c["limit"] for c in why["counters"]}
        return why["pool"], asked, ctl("why", V4).out
    said, asked, text = pool()
    assert (said["name"], said["known"], said["because"]) == ("192.0.2.0/24", False, "not earned")
    assert asked and "pool 192.0.2.0/24: a stranger: 0.0 credits of 20" in text
    said, asked, text = pool(trust=f"{30 * 10**6} {95 * 10**6} {5 * 10**6} {now()} {now()}")
    assert said["known"] and not asked and 29.9 < said["credits"] <= 30
    assert "known: 30.0 credits of 20; 5% of 100.0 went wrong" in text
    said, asked, text = pool(trust=f"{30 * 10**6} {10**6} {8 * 10**6} {now()} {now()}",
                             known=now())
    assert (said["known"], said["because"], asked) == (False, "turned", True)
    assert "a stranger: too much went wrong lately; 89% of 9.0 went wrong" in text
    said, _, text = pool(blocked=now() + 1800 * 10**6, held=3, waited=400 * 10**6)
    assert 1790 < said["blocked_seconds"] <= 1800 and said["record"]["held"] == "3"
    assert "wrote to a trap, blocked for 30 min" in text
    assert "greylisting held it back 3 times, it waited 7 min before it passed" in text
    assert ctl.json("why", V4)["next"]["connection"]["reason"] == "trap"
    assert "user ann: authenticated" in ctl(f"why {V4} user ann").out
    # what weir itself writes is read: one good message, one refused recipient
    redis.cmd("DEL", POOL)
    assert message(milter).code == CONTINUE
    guess(milter)
    said = ctl.json("why", V4)["pool"]
    assert [round(said[what], 2) for what in ("credits", "good", "bad")] == [1, 1, 1]


def test_top(start):
    """Quotas, wider networks against their own figures, pools, bytes."""
    milter, ctl = start(CONF)
    assert load.connects(milter.socket, V6, 3) == [True] * 3
    rows = {row["who"]: row for row in ctl.json("top by connections")["rows"]}
    assert {who: (row["used"], row["of"]) for who, row in rows.items()} == {
        "2001:db8:0:1::/64": (3, 5), "2001:db8::/56": (3, 10), "2001:db8::/48": (3, 20)}
    assert message(milter, size=2048).code == CONTINUE
    guess(milter)
    row, = ctl.json("top by bytes")["rows"]
    assert (row["who"], row["limit"], row["of"]) == (V4, "volume", 4096)
    assert ctl("top by bytes").row(V4)[2] == "2.0k/4k"
    row, = ctl.json("top by rejected-recipients")["rows"]
    assert (row["kind"], row["who"], round(row["used"])) == ("pool", "192.0.2.0/24", 1)
    assert "s ago" in ctl("top by rejected-recipients").out


def test_quota_of_many_chunks(start, redis):
    """All of a long quota is read, not its first 256 bytes."""
    _, ctl = start('limit connections { quota = "100/1h" }\n')
    chunks = " ".join(f"{now() - (40 - n) * 10**6} {2 + n % 2}" for n in range(40))
    redis.cmd("HSET", "weir:address:{192.0.2.0/24}:192.0.2.7", "connections:quota", chunks,
              "last", now())
    row, = ctl.json("top by connections")["rows"]
    assert (row["used"], row["of"]) == (100, 100)
    assert ctl.json("why", V4)["record"]["connections:quota"] == chunks
    assert ctl.json("why", V4)["next"]["connection"]["reason"] == "quota"


def test_clear(start, redis):
    """Nothing refuses the client afterwards; what its pool has earned stays."""
    milter, ctl = start(CONF)
    other = [f"2001:db8:0:{n}::1" for n in range(2, 6)]
    for client in other:                            # they fill the /56, and half the /48
        load.connects(milter.socket, client, 5)
    assert load.connects(milter.socket, V6) == [False]
    outlive_memory()
    ctl("clear", V6)
    assert load.connects(milter.socket, V6, 2) == [True] * 2
    earned = f"{30 * 10**6} 0 0 {now()} {now()}"
    redis.cmd("HSET", POOL, "known", "5", "trust", earned, "blocked", now() + 10**9,
              "guesses", f"{2 * 10**6} {now()}", "triplets", f"5 {now()}")
    assert load.connects(milter.socket, V4) == [False]
    outlive_memory()
    ctl("clear", V4)
    assert set(redis.hash(POOL)) == {"known", "trust"}
    assert redis.hash(POOL)["trust"].startswith(f"{30 * 10**6} ")
    assert load.connects(milter.socket, V4) == [True]
    redis.cmd("HSET", POOL, "trust", f"0 0 {9 * 10**6} {now()} 0")
    ctl("clear", V4)
    assert redis.hash(POOL) == {"known": "5"}


def test_impact(start):
    """The warning counts quotas, and networks of ladders against their own figures."""
    milter, ctl = start(CONF)
    for number in range(4):
        load.connects(milter.socket, f"10.0.{number}.1", number + 1)
    load.connects(milter.socket, "2001:db8::1", 4)
    asks = Ctl(None, conf=milter.conf)

    def refused(*words):
        return asks("limit", "set", "connections", *words, status=1).err.splitlines()[0]
    assert refused("quota=3/1h") == \
        "weirctl: this would refuse 3 of 7 clients seen in the last hour"
    # the /56 has no room then, and the /48 has
    assert refused("ladder=/56*2 /48*8", "quota=1/1h") == \
        "weirctl: this would refuse 6 of 7 clients seen in the last hour"
    assert asks("limit set connections quota=5/1d").err == ""
    ctl("limit unset connections")
    # a bucket begins to count anew
    assert asks("limit set connections rate=1/1h burst=1").err == ""


def test_pools_by_name(start, redis):
    """A pool that is a domain: let through, forgotten, cleared; and kept long enough."""
    _, ctl = start(CONF + "greylist { enabled = true }\n")
    pool = "weir:pool:{example.org}"
    assert ctl.json("greylist pass name:mx7.example.org") == {
        "pool": "example.org", "now": "known: its mail is not held back"}
    assert redis.cmd("PTTL", pool) > 34 * 86400 * 1000
    why = ctl.json(f"why {V4} name mx1.example.org")
    assert (why["pool"]["name"], why["pool"]["known"]) == ("example.org", True)
    assert ctl.json(f"why {V4}")["pool"]["name"] == "192.0.2.0/24"
    redis.cmd("HSET", pool, "blocked", now() + 10**9)
    assert "wrote to a trap" in ctl(f"why {V4} name mx1.example.org").out
    assert ctl.json("clear name:example.org") == {"cleared": 1}
    assert set(redis.hash(pool)) == {"known"}
    ctl("greylist forget name:example.org")
    assert redis.cmd("EXISTS", pool) == 0
    ctl.refused("clear", "name:example.org", says="nothing is counted for")
    for words in ("greylist pass name:org", "clear name:dsl-192-0-2-7.example.org"):
        ctl.refused(*words.split(), says="are no pool of their own")
