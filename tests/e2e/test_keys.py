# SPDX-License-Identifier: BSD-2-Clause
"""Limits per user, sender, recipient, their domains, or HELO: who shares a counter,
who does not, and under which key of Redis it is kept.

Rates are so low that nothing drains while a test runs.
"""

import re

import pytest

import load
import rawmilter
from harness import proc
from harness.auth import plain
from rawmilter import RawMilter
from test_limits import OFF, level

CUT = r"[^{}%]{238}~[0-9a-f]{16}"


def send(mta, source, sender="<a@client.test>", recipient="<u1@example.test>",
         helo="EHLO mail.client.test"):
    """One message in one session: "ok", or "rcpt" where it was refused there."""
    with mta.connect(source) as client:
        assert client.command(helo) == 250
        assert client.command(f"MAIL FROM:{sender}") == 250
        reply = client.command(f"RCPT TO:{recipient}")
        if reply == 421:
            assert client.closed()
            return "rcpt"
        assert reply == 250 and client.data() == 250 and client.quit() == 221
        return "ok"


# per: what differs and is counted together with send()'s own, what is not, the key
# in Redis. All come from different networks.
SHARED = {
    "sender": (
        [{"sender": "<A@Client.TEST>"}, {"sender": "a@client.test"},
         {"recipient": "<u2@example.test>", "helo": "HELO other.test"}],
        [{"sender": "<b@client.test>"}, {"sender": "<>"}],
        "weir:sender:{a@client.test}"),
    "sender-domain": (
        [{"sender": "<b@CLIENT.test>"}, {"sender": "c@client.test"},
         {"recipient": "<u2@example.test>", "helo": "HELO other.test"}],
        [{"sender": "<a@sub.client.test>"}, *[{"sender": "<>"}] * 4],
        "weir:sender-domain:{client.test}"),
    "recipient": (
        [{"recipient": "<U1@Example.TEST>"}, {"recipient": "u1@example.test"},
         {"recipient": "<u1@example.test.>"}, {"recipient": "< u1@example.test >"},
         {"recipient": '<"u1"@example.test>'}, {"recipient": "<@relay.test:u1@example.test>"},
         {"recipient": "foo<u1@example.test>"}, {"recipient": "<u1@example.test.(x)>;"},
         {"sender": "<>", "helo": "HELO other.test"}],
        [{"recipient": "<u2@example.test>"}, {"recipient": "<u1+x@example.test>"}],
        "weir:recipient:{u1@example.test}"),
    "recipient-domain": (
        [{"recipient": "<u2@EXAMPLE.test>"}, {"recipient": "u3@example.test"},
         {"recipient": "<u4@example.test.>"},
         {"sender": "<>", "helo": "HELO other.test"}], [],
        "weir:recipient-domain:{example.test}"),
    "helo": (
        [{"helo": "HELO mail.client.test"}, {"helo": "EHLO MAIL.Client.Test"},
         {"sender": "<>", "recipient": "<u2@example.test>"}],
        [{"helo": "EHLO client.test"}, {"helo": "EHLO [192.0.2.1]"}],
        "weir:helo:{mail.client.test}"),
}


def mine(per, count="recipients", words='rate = "1/1h" burst = 2'):
    return OFF + f"limit mine {{ count = {count} per = {per} {words} }}\n"


@pytest.mark.parametrize("per, count", [
    (per, count) for per in SHARED for count in ("messages", "recipients")
    if count == "recipients" or not per.startswith("recipient")])
def test_who_shares_a_limit(mta, weir, store, sources, per, count):
    milter = weir(mine(per, count), redis=store)
    same, others, key = SHARED[per]
    seen = [send(mta, next(sources), **how) for how in ({}, *same)]
    assert seen == ["ok", "ok"] + ["rcpt"] * (len(seen) - 2)
    assert [send(mta, next(sources), **how) for how in others] == ["ok"] * len(others)
    fields = milter.fields(milter.wait_log("action=refuse code=421 stage=rcpt reason=rate "))
    assert (fields["limit"], fields["used"], fields["of"]) == ("mine", "3", "2")
    assert 3590 <= int(fields["retry"].rstrip("s")) <= 3600
    if store:
        assert level(store, key, "mine") == 2
        # it drains in two hours; the totals are in the clients' own records
        assert 7190_000 <= store.cmd("PTTL", key) <= 7200_000 and len(store.hash(key)) == 1
        kinds = {name.split(":")[1] for name in store.cmd("KEYS", "weir:*")}
        assert {"address", per} == kinds - {"node", "generation"}


FOLD = 'recipient-delimiter = "+"\nunwrap-senders = true\n'


@pytest.mark.parametrize("words, outcomes", [("", ["ok"] * 4), (FOLD, ["ok"] * 2 + ["rcpt"] * 2)])
def test_one_sender_of_many_names(mta, weir, redis, sources, words, outcomes):
    """A tag, a signature and a forwarder hide a sender only where nobody says otherwise."""
    weir(words + mine("sender"), redis=redis)
    names = ["<a@client.test>", "<A+news@Client.test>", "<prvs=0123a1b2c3=a@client.test>",
             "<SRS0=abcd=XY=client.test=a+x@relay.test>"]
    assert [send(mta, next(sources), sender=name) for name in names] == outcomes
    keys = redis.cmd("KEYS", "weir:sender:*")
    assert len(keys) == (1 if words else 4) and "weir:sender:{a@client.test}" in keys


@pytest.mark.parametrize("words, outcomes", [("", ["ok"] * 3), (FOLD, ["ok"] * 2 + ["rcpt"])])
def test_one_recipient_of_many_names(mta, weir, redis, sources, words, outcomes):
    weir(words + mine("recipient"), redis=redis)
    names = ["<u1@example.test>", "<u1+a@example.test>", "<U1+b@Example.test>"]
    assert [send(mta, next(sources), recipient=name) for name in names] == outcomes


def test_one_domain_in_two_scripts(postfix, weir, redis, sources):
    """Typed in Unicode (SMTPUTF8) or in ASCII it is one sender's domain."""
    milter = weir(mine("sender-domain"), redis=redis)
    seen = []
    for sender in ("<a@m\u00fcller.test> SMTPUTF8", "<b@xn--mller-kva.test>",
                   "<c@M\u00dcLLER.Test> SMTPUTF8", "<d@mu\u0308ller.test> SMTPUTF8",
                   "<e@muller.test>"):
        seen.append(send(postfix, next(sources), sender=sender))
    assert seen == ["ok", "ok", "rcpt", "rcpt", "ok"]
    assert level(redis, "weir:sender-domain:{xn--mller-kva.test}", "mine") == 2
    # the log has what was typed, escaped
    milter.wait_log("action=refuse .*from=<d@mu.*ller.test>")


def test_bounces_are_one_sender(mta, weir, redis, sources):
    weir(mine("sender"), redis=redis)
    assert [send(mta, next(sources), "<>") for _ in range(3)] == ["ok", "ok", "rcpt"]
    assert level(redis, "weir:sender:{<>}", "mine") == 2


def raw_send(spec, client="192.0.2.1", helo="x.test", sender="a@client.test",
             recipient="u1@example.test", user=""):
    """One recipient, by the milter's own protocol; the reply to it."""
    with RawMilter(spec, timeout=5) as session:
        assert session.open(client).code == rawmilter.CONTINUE
        session.helo(helo)
        session.mail(sender, macros={"{auth_authen}": user} if user else None)
        return session.rcpt(recipient).code


def test_users_by_macro(weir, store, milter_socket):
    """One counter a login, wherever it comes from; none for who has no login."""
    weir(mine("user"), redis=store)
    for client, user, code in [
            ("192.0.2.1", "ann", "c"), ("198.51.100.1", "Ann", "c"),
            ("2001:db8::1", "ann", "y"), ("192.0.2.1", "bob@example.org", "c"),
            *[("192.0.2.1", "", "c")] * 4, ("192.0.2.1", "ANN", "y")]:
        assert raw_send(milter_socket, client, user=user) == code, (client, user)
    if store:
        assert sorted(store.cmd("KEYS", "weir:user:*")) == \
            ["weir:user:{ann}", "weir:user:{bob@example.org}"]


def test_users_by_auth(mta, weir, redis, sources):
    milter = weir(mine("user", "messages"), redis=redis)
    for answer in (250, 250, 421):
        with mta.connect(next(sources)) as client:
            client.ehlo()
            assert client.command(f"AUTH {plain('alice')}") == 235
            client.mail()
            assert client.rcpt() == answer
    assert send(mta, next(sources)) == "ok"
    milter.wait_log("action=refuse .*limit=mine .*used=3 of=2")
    assert level(redis, "weir:user:{alice}", "mine") == 2


SHADOW = ("limit {name} {{ count = recipients per = {name} action = log\n"
          ' rate = "100/1h" burst = 100 }}\n')
HOSTILE = {
    "braces": (b"}{all}:{@x.test", r"(%7d%7ball%7d:)?%7b@x\.test", r"x\.test"),
    "braces in the domain": (b"a@}{all}", "a@%7d%7ball%7d", "%7d%7ball%7d"),
    "percent": (b"50%41%@%x.test", r"50%2541%25@%25x\.test", r"%25x\.test"),
    "newline": (b"a\r\nHSET x y@x.test\n", r"a%0d%0ahset(%20)?x(%20)?y@x\.test%0a", r"x\.test%0a"),
    "blanks": (b"a b\t@x. test", r"a(%20)?b(%09)?@x\.(%20)?test", r"x\.test"),
    "bytes": (b"\xff\x80J@\x96\xc3.test", r"%ff%80j@%96%c3\.test", r"%96%c3\.test"),
    "10 kB of domain": (b"a@" + b"x" * 10000, CUT, CUT),
    "10 kB of bytes": (b"a@" + b"\xff" * 10000, r"a@[%f]{236}~[0-9a-f]{16}",
                       r"[%f]{238}~[0-9a-f]{16}"),
    "colons": (b"weir:limits@weir:limits", "(weir:)?limits@weir:limits", "weir:limits"),
    "glob": (b"*?[a-z]@*", r"\*\?\[a-z\]@\*", r"\*"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_words(weir, redis, milter_socket, name):
    """As HELO, sender, recipient and login: keys of the usual form, which expire."""
    pers = ("helo", "user", "sender", "sender-domain", "recipient", "recipient-domain")
    milter = weir(OFF + "".join(SHADOW.format(name=per) for per in pers), redis=redis)
    text, whole, domain = HOSTILE[name]
    for _ in range(2):
        assert raw_send(milter_socket, helo=text, sender=b"<" + text + b">", user=text,
                        recipient=text) == rawmilter.CONTINUE
    load.settle(milter)
    for per in pers:
        key, = redis.cmd("KEYS", f"weir:{per}:*")
        want = domain if per.endswith("domain") else whole
        # in a mailbox blanks and what looks like a route do not count, in a name they do
        mailbox = "@" in want and per not in ("helo", "user")
        want = re.sub(r"\((.*?)\)\?", "" if mailbox else r"\1", want)
        # a login is cut at 128 and a HELO at 255 bytes before
        if len(text) < 128 or per.startswith(("sender", "recipient")):
            assert re.fullmatch(rf"weir:{per}:\{{{want}\}}", key), key
        assert re.fullmatch(rf"weir:{per}:\{{[!-z|~]{{1,255}}\}}", key), key
        assert level(redis, key, per) == 2 and 0 < redis.cmd("TTL", key) <= 3600
    kinds = {key.split(":")[1] for key in redis.cmd("KEYS", "*")}
    assert kinds - {"node", "generation"} == {"address", *pers}


def test_helo_is_asked_for_when_needed(weir, redis, milter_socket):
    """A limit per helo made while a session is open is met by those after it."""
    weir(OFF, redis=redis)
    unwanted = rawmilter.STEPS[rawmilter.HELO][0]

    def helo_is_wanted():
        with RawMilter(milter_socket, timeout=5) as session:
            return not session.negotiate()[2] & unwanted

    with RawMilter(milter_socket, timeout=5) as before:
        assert before.negotiate()[2] & unwanted
        redis.cmd("HSET", "weir:limits", "h", "count=recipients per=helo rate=1/1h burst=1")
        redis.cmd("INCR", "weir:generation")
        proc.wait_for(lambda: all(helo_is_wanted() for _ in range(20)), 5, "both workers")
        assert before.connect("192.0.2.1").code == rawmilter.CONTINUE
        assert before.helo() is None
    for helo, code in [("x.test", "c"), ("x.test", "y"), ("y.test", "c")]:
        assert raw_send(milter_socket, helo=helo) == code
    assert level(redis, "weir:helo:{x.test}", "h") == 1


def test_all_or_nothing(mta, weir, store, sources):
    """What one limit refuses is not charged to the other, whose key is another."""
    weir(OFF + 'limit s { count = messages per = sender rate = "1/1h" burst = 2 }\n'
         'limit r { count = recipients per = recipient rate = "1/1h" burst = 1 }\n',
         redis=store)
    for sender, recipient, outcome in [
            ("a", "u1", "ok"), ("a", "u1", "rcpt"), ("a", "u1", "rcpt"), ("a", "u2", "ok"),
            ("a", "u3", "rcpt"), ("b", "u3", "ok"), ("b", "u3", "rcpt"), ("b", "u4", "ok")]:
        assert send(mta, next(sources), f"<{sender}@client.test>",
                    f"<{recipient}@example.test>") == outcome, (sender, recipient)
    if store:
        assert [level(store, f"weir:sender:{{{who}@client.test}}", "s") for who in "ab"] == [2, 2]
        assert len(store.cmd("KEYS", "weir:recipient:*")) == 4


def test_recipients_of_one_message(mta, weir, redis, sources):
    """Each is counted for itself; who is over it is deferred alone."""
    weir(mine("recipient", words='rate = "1/1h" burst = 1 action = defer'), redis=redis)
    with mta.connect(next(sources)) as client:
        client.ehlo()
        client.mail()
        assert [client.rcpt(f"u{n}@example.test").code for n in (1, 2, 1, 3)] == \
            [250, 250, 451, 250]
        assert client.data() == 250 and client.quit() == 221


def test_limits_in_redis(mta, weir, redis, sources):
    """A limit per sender made while mail flows; what makes no sense is reported."""
    milter = weir(mine("all", words='rate = "100/100h" burst = 100'), redis=redis)
    assert [send(mta, next(sources)) for _ in range(2)] == ["ok"] * 2
    redis.cmd("HSET", "weir:limits", "made", "count=messages per=sender rate=1/1h burst=1",
              "bad1", "count=connections per=sender rate=1/1h", "bad2", "count=sessions "
              "per=helo max=1", "bad3", "count=messages per=recipient rate=1/1h",
              "bad4", "count=messages per=senders rate=1/1h")
    redis.cmd("INCR", "weir:generation")
    assert [send(mta, next(sources)) for _ in range(2)] == ["ok", "rcpt"]
    assert send(mta, next(sources), "<b@client.test>") == "ok"
    assert level(redis, "weir:sender:{a@client.test}", "made") == 1
    for name, why in [("bad1", "only the address is known"), ("bad2", "counted at connect"),
                      ("bad3", "count recipients per recipient"), ("bad4", "per is one of")]:
        milter.wait_log(f"redis: limits: {name} is ignored: .*{why}")
