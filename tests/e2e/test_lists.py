# SPDX-License-Identifier: BSD-2-Clause
"""Lists: whom greylisting leaves alone, whom it asks with a delay of his own, in Redis as
in the file; what weirctl takes, refuses and shows of them.
"""

import re

import pytest

from harness import proc
from harness.ctl import AUTHOR, Ctl, outlive_memory, starter
from test_greylist import COUNTED, DEFER, DEFERRAL, REFUSAL, charged, greylist, send, triplets

ANN, BOB = "ann@example.test", "bob@example.test"


@pytest.fixture
def start(weir, redis):
    """start(conf) -> (a weir-milter, weirctl with the same file)."""
    return starter(weir, redis)


@pytest.fixture
def ctl(redis, tmp_path):
    conf = tmp_path / "weir.conf"
    conf.write_text(greylist() + 'list "recipient:file@example.test" { action = "no-greylist" }\n'
                    'list "name:partner.example" { action = "exempt" }\n'
                    f'redis {{ url = "{redis.url}" }}\n')
    return Ctl(conf=conf)


# --- in real sessions ----------------------------------------------------------------------------

def test_opted_out(mta, start, redis, sources):
    """Some recipients and senders are not asked, from the next decision on; others are."""
    _, ctl = start(greylist())
    for words in (f"off recipient:{ANN}", "off recipient:@free.example.test",
                  "off recipient:info@", "off sender:@partner.test"):
        ctl(f"greylist {words}")
    free = [{"recipients": [ANN]}, {"recipients": ["ANN+lists@Example.test"]},
            {"recipients": ["anybody@free.example.test"]}, {"recipients": ["info@example.test"]},
            {"sender": "x@partner.test"}]
    for who in free:
        assert send(mta, next(sources), **who) == [250, "sent"], who
    assert triplets(redis) == [] and charged(redis) == (len(free), len(free))
    for who in ({"recipients": [BOB]}, {"recipients": ["joann@example.test"]},
                {"sender": "x@sub.partner.test"}, {"sender": ""}):
        assert send(mta, next(sources), **who) == [REFUSAL], who
    ctl(f"unlist recipient:{ANN}")
    assert send(mta, next(sources), recipients=[ANN]) == [REFUSAL]


def test_opted_out_within_a_message(mta, start, sources):
    """With 451 each recipient of one message gets what is his."""
    _, ctl = start(greylist(DEFER))
    ctl(f"greylist off recipient:{ANN}")
    assert send(mta, next(sources), [BOB, ANN, "joe@example.test"]) == \
        [DEFERRAL, 250, DEFERRAL, "sent"]


def test_opted_out_client(mta, start, redis, sources):
    """A client that is not greylisted is limited all the same; an exempt one is not."""
    _, ctl = start(greylist(counted=COUNTED.replace("burst = 1000", "burst = 2")))
    free, other = next(sources), next(sources)
    ctl(f"greylist off {free}")
    assert [send(mta, free)[0] for _ in range(3)] == \
        [250, 250, "421 4.7.1 Too many recipients, try again later"]
    assert send(mta, other)[0] != 250 and charged(redis) == (2, 2)
    ctl(f"exempt {free}")
    outlive_memory()
    assert send(mta, free) == [250, "sent"] and charged(redis) == (2, 2)


def test_opted_in(mta, start, redis, sources):
    """recipients = listed: nobody is asked but who is listed."""
    _, ctl = start(greylist("recipients = listed"))
    assert send(mta, next(sources), recipients=[ANN]) == [250, "sent"]
    ctl(f"greylist on {ANN}")
    ctl("greylist on @careful.example.test")
    assert send(mta, next(sources), recipients=[ANN]) == [REFUSAL]
    assert send(mta, next(sources), recipients=["x@careful.example.test"]) == [REFUSAL]
    assert send(mta, next(sources), recipients=[BOB]) == [250, "sent"]
    ctl("greylist off recipient:x@careful.example.test")
    assert send(mta, next(sources), recipients=["x@careful.example.test"]) == [250, "sent"]
    assert len(triplets(redis)) == 2


def test_own_delay(mta, start, redis, sources):
    """A recipient's own delay: in the log, and the window follows a longer one."""
    milter, ctl = start(greylist('window = "2h"'))
    ctl("greylist on slow@example.test delay=3h")
    ctl("greylist on quick@example.test delay=90s")

    def retry(recipient):
        since = milter.mark()
        assert send(mta, next(sources), recipients=[recipient]) == [REFUSAL]
        return milter.fields(milter.wait_log("stage=rcpt", since=since))["retry"]

    assert (retry("slow@example.test"), retry("quick@example.test"), retry(BOB)) == \
        ("10800s", "90s", "3600s")
    lives = {key.rpartition(" ")[2]: redis.cmd("PTTL", key) // 60_000 for key in triplets(redis)}
    assert {name: (minutes + 1) // 30 * 30 for name, minutes in lives.items()} == \
        {"slow@example.test": 210, "quick@example.test": 120, BOB: 120}


def test_null_sender(mta, start, redis, sources):
    """null-sender = accept: bounces and callbacks are not held; other mail is."""
    start(greylist("null-sender = accept"))
    assert send(mta, next(sources), sender="") == [250, "sent"]
    assert send(mta, next(sources)) == [REFUSAL]
    assert len(triplets(redis)) == 1


def test_listed_null_sender(mta, start, sources):
    _, ctl = start(greylist())
    assert send(mta, next(sources), sender="") == [REFUSAL]
    ctl("greylist off sender:<>")
    assert send(mta, next(sources), sender="") == [250, "sent"]
    assert send(mta, next(sources)) == [REFUSAL]


@pytest.mark.parametrize("store", ["redis", "zone"])
def test_in_the_file(mta, weir, redis, sources, store):
    """The file's lists do without Redis; with one they lie below what it says."""
    blocked = next(sources)
    milter = weir(greylist() + f'list "recipient:{ANN}" {{ action = no-greylist }}\n'
                  f'list "recipient:{BOB}" {{ action = greylist  delay = 2h }}\n'
                  f'list "{blocked}" {{ action = block }}\n',
                  redis=redis if store == "redis" else None)
    assert send(mta, next(sources), recipients=[ANN]) == [250, "sent"]
    assert send(mta, next(sources), recipients=[BOB]) == [REFUSAL]
    milter.wait_log("reason=greylist .*retry=7200s")
    with mta.connect(blocked) as client:
        assert client.greeting == 421
    if store == "redis":
        ctl = Ctl(None, "--yes", conf=milter.conf)
        ctl(f"greylist on {ANN}")
        assert send(mta, next(sources), recipients=[ANN]) == [REFUSAL]
        ctl.refused("unlist", blocked, says="listed in the configuration file")
        ctl(f"unlist recipient:{ANN}")
        assert send(mta, next(sources), recipients=[ANN]) == [250, "sent"]


def test_recipients_are_seen(mta, start, sources):
    """A list of recipients makes weir look at RCPT, for sessions that begin after it."""
    conf = "limit recipients { enabled = false }\n"
    milter, ctl = start(conf)
    assert send(mta, next(sources), recipients=[ANN]) == [250, "sent"]
    assert milter.log("stage=rcpt") == []
    ctl("trap old@example.test")

    def seen():                                     # once both workers know
        assert send(mta, next(sources), recipients=[ANN]) == [250, "sent"]
        return milter.log("action=accept stage=rcpt .*to=<ann@example.test>")

    proc.wait_for(seen, 5, "recipients")


# --- weirctl --------------------------------------------------------------------------------------

REFUSED = [
    ("exempt sender:a@client.test", "anybody can write this sender's address"),
    ("block sender:@client.test", "anybody can write this sender's address"),
    ("exempt recipient:ann@example.test", "clients are exempt or blocked"),
    ("block name:client.test", "drops the name"),
    ("exempt name:test", "every host below .test"),
    ("greylist off ann@example.test", "must be an address"),
    ("greylist off 0.0.0.0/0", "is everybody"),
    ("greylist off name:a..b", "a host name is written as"),
    ("greylist on 192.0.2.7", "is for recipients"),
    ("greylist on sender:a@b", "is for recipients"),
    ("greylist on ann@example.test delay=5d", "delay is a duration from 1s to 4d"),
    ("greylist on ann@example.test rate=5/1m", "action and delay only"),
    ("greylist on example.test", "must be an address"),
    ("greylist on recipient:example.test", "a recipient is written as"),
    ("trap 192.0.2.7", "a trap is a recipient"),
    ("trap sender:a@b", "a trap is a recipient"),
    ("trap user:a@b", "a trap is a recipient"),
    ("unlist recipient:ann@example.test", "nothing is listed"),
    ("unlist recipient:file@example.test", "listed in the configuration file"),
    ("override set name:client.test connections burst=5", "for addresses, networks and users"),
    ("override set recipient:a@b recipients burst=5", "for addresses, networks and users"),
    ("clear recipient:a@b", "clear takes an address"),
    ("greylist pass sender:a@b", "must be an address, a network, or name:DOMAIN"),
]


def test_refused(redis, ctl):
    for words, says in REFUSED:
        ctl.refused(*words.split(), says=says)
    for words in ("greylist on", "greylist off", "greylist off a b", "greylist on a@b slow", "trap",
                  "trap a@b c@d", "greylist on a@b for 1h for 1h"):
        ctl(words, status=2)
    assert redis.cmd("KEYS", "*") == []


def test_words(redis, ctl):
    """How each command is written in Redis, one spelling whatever is typed; and back."""
    for words, field, entry in (
            ("greylist off 192.0.2.7", "192.0.2.7", "no-greylist"),
            ("greylist off Name:X", None, None), ("greylist off name:MX.Client.Test",
                                                  "name:mx.client.test", "no-greylist"),
            ("exempt name:client.test", "name:client.test", "exempt"),
            ("greylist off sender:<>", "sender:<>", "no-greylist"),
            ("greylist on Ann@Example.Test", "recipient:ann@example.test", "greylist"),
            ("greylist on recipient:@.example.test delay=10m", "recipient:@.example.test",
             "greylist delay=10m"),
            ("greylist on info@ delay=1h for 2h", "recipient:info@", r"greylist delay=1h until=\d+"),
            ("trap @old.example.test", "recipient:@old.example.test", "trap")):
        if field is None:
            ctl(words, status=1)
            continue
        ctl(words)
        assert re.fullmatch(f"action={entry} by={AUTHOR}", redis.hash("weir:lists")[field])
    listed = {e["who"]: (e["what"], e["from"]) for e in ctl.json("lists")}
    assert listed == {
        "192.0.2.7": ("no-greylist", "redis"), "name:mx.client.test": ("no-greylist", "redis"),
        "name:client.test": ("exempt", "redis"), "sender:<>": ("no-greylist", "redis"),
        "recipient:ann@example.test": ("greylist", "redis"),
        "recipient:@.example.test": ("greylist delay=10m", "redis"),
        "recipient:info@": ("greylist delay=1h", "redis"),
        "recipient:@old.example.test": ("trap", "redis"),
        "recipient:file@example.test": ("no-greylist", "file"),
        "name:partner.example": ("exempt", "file")}
    out = ctl("lists")
    assert out.row("recipient:info@")[1:4] == ["greylist", "delay=1h", "2"]
    assert out.row("name:partner.example")[-2:] == ["the", "file"]
    # Redis over the file, by its who
    ctl("greylist on file@example.test")
    listed = [e for e in ctl.json("lists") if e["who"] == "recipient:file@example.test"]
    assert [(e["what"], e["from"]) for e in listed] == [("greylist", "redis")]
    generation = int(redis.cmd("GET", "weir:generation"))
    ctl("unlist name:MX.client.test")
    ctl(f"limit rollback {generation}")
    assert "name:mx.client.test" in redis.hash("weir:lists")
    ctl("limit rollback 0")
    assert redis.hash("weir:lists") == {}


def test_why(ctl):
    """Which entry decides, of those that match; the name and the null sender are as given."""
    for words in ("greylist off 192.0.2.0/24", "greylist on @example.test delay=2h",
                  f"greylist off recipient:{ANN}", "greylist off sender:<>", "trap old@example.test",
                  "block 198.51.100.0/24", "exempt 198.51.100.7"):
        ctl(words)

    def why(words):
        got = ctl.json(f"why {words}")
        deciding = {e["entry"] for e in got["exceptions"] if e.get("decides")}
        others = {e["entry"] for e in got["exceptions"] if not e.get("decides")}
        return (got["next"]["message"]["reason"], got.get("greylist_entry", {}).get("who"),
                deciding, others)

    client = "203.0.113.1 sender a@b recipient "
    assert why(client + "x@other.test") == ("greylist", None, set(), set())
    assert why(client + "joe@example.test") == (
        "greylist", "recipient:@example.test", {"recipient:@example.test"}, set())
    assert why(client + ANN) == ("ok", f"recipient:{ANN}", {f"recipient:{ANN}"},
                                 {"recipient:@example.test"})
    assert why("192.0.2.7 sender a@b recipient joe@example.test") == (
        "ok", "192.0.2.0/24", {"192.0.2.0/24", "recipient:@example.test"}, set())
    assert why("198.51.100.7")[::2] == ("exempt", {"198.51.100.7"})
    assert why("198.51.100.7")[3] == {"198.51.100.0/24"}
    # the file's
    assert why("203.0.113.1 name mx.partner.example") == (
        "exempt", None, {"name:partner.example"}, set())
    assert why("203.0.113.1 name mx.other.example")[0] == "greylist"
    assert why(client + "file@example.test")[0] == "ok"
    # no sender is not the null sender
    assert why("203.0.113.1 recipient x@other.test")[0] == "greylist"
    got = ctl.run("-j", "why", "203.0.113.1", "sender", "", "recipient", "x@other.test")
    assert '"sender:<>"' in got.out
    assert ctl.json(f"why {client}old@example.test")["trap"] == "recipient:old@example.test"

    out = ctl(f"why {client}{ANN}").out
    assert f"greylisting: not asked, because of recipient:{ANN}\n" in out
    assert "lists: recipient:@example.test: (does not decide) action=greylist delay=2h" in out
    out = ctl(f"why {client}joe@example.test").out
    assert "greylisting: new, passes in 2 h\n" in out
    assert "lists (file): name:partner.example: action=exempt" in \
        ctl("why 203.0.113.1 name partner.example").out
    assert "the recipient is a trap: recipient:old@example.test" in \
        ctl(f"why {client}old@example.test").out


BAD_FILES = [
    ('list "recipient:x" { action = trap }', "a recipient is written as"),
    ('list "sender:a@b" { action = exempt }', "anybody can write"),
    ('list "192.0.2.7/24" { action = exempt }', "host bits"),
    ('list "192.0.2.7" { }', "must say action="),
    ('list "192.0.2.7" { action = refuse }', "action is exempt, block"),
    ('list "recipient:a@b" { action = greylist  delay = 5d }', "delay is a duration"),
    ('list "recipient:a@b" { delay = 5m  action = trap }', "delay goes with"),
    ('list "recipient:a@b" { rate = 5 }', "rate"),
    ('list { action = exempt }', "list"),
    ('greylist { recipients = some }', "must be all or listed"),
    ('greylist { null-sender = reject }', "must be greylist or accept"),
]


@pytest.mark.parametrize("text, says", BAD_FILES)
def test_bad_file(redis, tmp_path, text, says):
    """A mistake names its line."""
    conf = tmp_path / "bad.conf"
    conf.write_text(f'redis {{ url = "{redis.url}" }}\n\n{text}\n')
    result = Ctl(conf=conf).refused("lists", says=says)
    assert re.search(rf"{conf}:\d+: ", result.err)
