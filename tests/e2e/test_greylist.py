# SPDX-License-Identifier: BSD-2-Clause
"""Greylisting: who is put off, for how long, who never is, and that a sender
who is put off pays with no limit.

delay is an hour in most tests, so that nothing passes by itself; time passes
by setting back a record's clock in Redis. One test waits for real time.
"""

import re
import time

import pytest

from harness import proc
from harness.auth import plain

# Only greylisting speaks, but recipients and messages are counted.
COUNTED = ('limit connections { enabled = false }\nlimit sessions { enabled = false }\n'
           'limit recipients { per = all rate = "1000/1000h" burst = 1000 }\n'
           'limit messages { per = all rate = "1000/1000h" burst = 1000 }\n')
REFUSAL = "421 4.7.1 Greylisted, please try again later"
DEFERRAL = "451 4.7.1 Greylisted"
HOUR = 3600


def greylist(words="", delay="1h", counted=COUNTED):
    return f'{counted}greylist {{ enabled = true delay = "{delay}" {words} }}\n'


DEFER = f'reply = "{DEFERRAL}"'


def send(mta, source, recipients=("u1@example.test",), sender="a@client.test"):
    """One message in one session. The replies to RCPT up to a hang-up, and
    "sent" where the message was accepted."""
    with mta.connect(source) as client:
        client.ehlo()
        assert client.mail(sender) == 250
        seen = []
        for recipient in recipients:
            reply = client.rcpt(recipient)
            seen.append(250 if reply == 250 else str(reply))
            if reply == 421:
                assert client.closed()
                return seen
        if 250 in seen:
            assert client.data() == 250
            seen.append("sent")
        else:
            assert client.rset() == 250
        assert client.quit() == 221
        return seen


def sibling(source, last):
    """Another address of the same /24, that is, of the same pool."""
    return f"{source.rpartition('.')[0]}.{last}"


def triplets(redis):
    return sorted(redis.cmd("KEYS", "weir:grey:*"))


def charged(redis):
    """What the limits of recipients and of messages hold, in whole things."""
    fields = redis.hash("weir:all:{all}")
    return tuple(round(int(fields.get(name, "0 0").split()[0]) / 1e6, 1)
                 for name in ("recipients", "messages"))


def set_back(redis, seconds):
    """Every triplet was seen so much earlier."""
    for key in triplets(redis):
        first, tries = redis.cmd("GET", key).split()
        redis.cmd("SET", key, f"{int(first) - int(seconds * 1e6)} {tries}", "KEEPTTL")


def test_off_by_default(mta, weir, redis, sources):
    weir("", redis=redis)
    assert send(mta, next(sources)) == [250, "sent"] and triplets(redis) == []


def test_new_early_passed_known(mta, weir, redis, sources):
    """The whole way of an honest sender, and what the log says at each step."""
    milter = weir(greylist(), redis=redis)
    source = next(sources)

    def attempt(*answer, **who):
        since = milter.mark()
        assert send(mta, who.pop("source", source), **who) == list(answer)
        return milter.fields(milter.wait_log("stage=rcpt", since=since))

    fields = attempt(REFUSAL)
    assert (fields["action"], fields["reason"], fields["grey"], fields["retry"]) == \
        ("refuse", "greylist", "new", "3600s")
    set_back(redis, 1000)
    fields = attempt(REFUSAL)
    assert fields["grey"] == "early"
    assert 2590 <= int(fields["retry"].rstrip("s")) <= 2600
    # another sender or recipient is another triplet, with a delay of its own
    assert attempt(REFUSAL, sender="b@client.test")["grey"] == "new"
    assert attempt(REFUSAL, recipients=["u2@example.test"])["grey"] == "new"
    assert len(triplets(redis)) == 3 and charged(redis) == (0, 0)
    set_back(redis, 2601)
    # the retry may come from another address of the pool, and in other letters
    fields = attempt(250, "sent", source=sibling(source, 10), sender="A@Client.test",
                     recipients=["U1@EXAMPLE.test"])
    assert fields["action"] == "accept" and charged(redis) == (1, 1)
    assert len(triplets(redis)) == 2
    # from now on nobody of the pool is asked again, whatever he sends
    assert attempt(250, "sent", source=sibling(source, 77), sender="c@other.test",
                   recipients=["u9@example.test"])["action"] == "accept"
    assert charged(redis) == (2, 2)
    assert attempt(REFUSAL, source=next(sources))["grey"] == "new"


def test_real_time(mta, weir, redis, sources):
    """A delay of one second: not before, and soon after."""
    weir(greylist(delay="1s"), redis=redis)
    source = next(sources)
    before = time.monotonic()
    assert send(mta, source) == [REFUSAL]
    proc.wait_for(lambda: send(mta, source) == [250, "sent"], 10, every=0.1)
    assert time.monotonic() - before >= 0.95


def test_window(mta, weir, redis, sources):
    """A retry after the window is as new; the triplet goes with the window."""
    weir(greylist('window = "2h"'), redis=redis)
    source = next(sources)
    assert send(mta, source) == [REFUSAL]
    key, = triplets(redis)
    assert 7190_000 <= redis.cmd("PTTL", key) <= 7200_000
    set_back(redis, 2 * HOUR + 1)
    assert send(mta, source) == [REFUSAL]
    assert 7190_000 <= redis.cmd("PTTL", key) <= 7200_000
    redis.cmd("DEL", key)                       # as Redis does in the end
    assert send(mta, source) == [REFUSAL]
    set_back(redis, 2 * HOUR - 60)              # still in time
    assert send(mta, source) == [250, "sent"]


def test_keep(mta, weir, redis, sources):
    """A pool that was not seen for so long is asked again. (Its record stays for a
    week at least: what went well and wrong is kept, too.)"""
    weir(greylist('keep = "3d"'), redis=redis)
    source = next(sources)
    send(mta, source)
    set_back(redis, HOUR + 1)
    assert send(mta, source) == [250, "sent"]
    pool = redis.cmd("KEYS", "weir:pool:*")
    assert len(pool) == 1 and redis.cmd("PTTL", pool[0]) <= 7 * 24 * HOUR * 1000
    known = int(redis.hash(pool[0])["known"])
    def last_seen(days):
        redis.cmd("HSET", pool[0], "known", int(known - days * 24 * HOUR * 1e6))
    last_seen(2.9)
    assert send(mta, source, sender="b@client.test") == [250, "sent"]
    assert int(redis.hash(pool[0])["known"]) >= known       # and that renews it
    last_seen(3.1)
    assert send(mta, source, sender="c@client.test") == [REFUSAL]


# recipients of one message, and the answers when the reply is a 421
MESSAGES = [
    (["postmaster@example.test"], [250, "sent"]),
    (["PostMaster@Example.Test"], [250, "sent"]),
    (["abuse@example.test"], [250, "sent"]),
    (["ABUSE@example.test"], [250, "sent"]),
    (["postmaster@example.test", "abuse@example.test"], [250, 250, "sent"]),
    # only these two are free
    (["postmaster2@example.test"], [REFUSAL]),
    (["abuse.x@example.test"], [REFUSAL]),
    (["x-abuse@example.test"], [REFUSAL]),
    # and they do not open the door for others
    (["postmaster@example.test", "u1@example.test"], [250, REFUSAL]),
    (["u1@example.test", "u2@example.test"], [REFUSAL]),
]


@pytest.mark.parametrize("recipients, answers", MESSAGES,
                         ids=lambda value: ",".join(map(str, value)).split("@")[0])
def test_postmaster_and_abuse_are_free(mta, weir, redis, sources, recipients, answers):
    weir(greylist(), redis=redis)
    source = next(sources)
    assert send(mta, source, recipients) == answers
    # free mail is no pass: the pool is as unknown as before
    assert send(mta, source, ["last@example.test"]) == [REFUSAL]
    counted = answers.count(250)
    assert charged(redis) == (counted, 1 if counted else 0)


def test_null_sender(mta, weir, redis, sources):
    """A bounce is greylisted as any mail, with a triplet of its own."""
    weir(greylist(), redis=redis)
    source = next(sources)
    assert send(mta, source, sender="") == [REFUSAL]
    assert send(mta, source, sender="a@client.test") == [REFUSAL]
    assert sum(" <> " in key for key in triplets(redis)) == 1
    set_back(redis, HOUR + 1)
    assert send(mta, source, sender="") == [250, "sent"]


def test_one_decision_a_message(mta, weir, redis, sources):
    """With 421 the first recipient decides; the triplet has only that one."""
    milter = weir(greylist(), redis=redis)
    source = next(sources)
    recipients = [f"u{n}@example.test" for n in range(5)]
    assert send(mta, source, recipients) == [REFUSAL]
    assert len(triplets(redis)) == 1 and triplets(redis)[0].endswith("u0@example.test")
    set_back(redis, HOUR + 1)
    assert send(mta, source, recipients) == [250] * 5 + ["sent"]
    assert charged(redis) == (5, 1) and triplets(redis) == []
    assert len(milter.log("reason=greylist")) == 1


def test_one_decision_a_recipient(mta, weir, redis, sources):
    """With 451 each recipient is asked for by itself, and the session goes on."""
    milter = weir(greylist(DEFER), redis=redis)
    source = next(sources)
    three = ["u1@example.test", "u2@example.test", "postmaster@example.test"]
    assert send(mta, source, three) == [DEFERRAL, DEFERRAL, 250, "sent"]
    assert len(triplets(redis)) == 2 and charged(redis) == (1, 1)
    milter.wait_log("action=defer code=451 stage=rcpt reason=greylist grey=new .*to=<u2@")
    # u1 has waited, u3 is new: but with u1 the pool has passed, and all may
    set_back(redis, HOUR + 1)
    assert send(mta, source, ["u3@example.test", "u1@example.test", "u4@example.test"]) \
        == [DEFERRAL, 250, 250, "sent"]
    assert send(mta, source, ["u3@example.test"]) == [250, "sent"]


@pytest.mark.parametrize("words, answer", [("", REFUSAL), (DEFER, DEFERRAL)],
                         ids=["421", "451"])
def test_retries_are_not_charged(mta, weir, redis, sources, words, answer):
    """Fifteen tries at limits of two: none is charged, and none is refused by
    them; when the delay is over the mail still finds its two tokens."""
    weir(greylist(words, counted=COUNTED.replace("burst = 1000", "burst = 2")), redis=redis)
    source = next(sources)
    for _ in range(15):
        assert send(mta, source) == [answer]
    assert charged(redis) == (0, 0)
    assert redis.cmd("GET", triplets(redis)[0]).split()[1] == "15"
    set_back(redis, HOUR + 1)
    assert send(mta, source) == [250, "sent"]
    assert charged(redis) == (1, 1)


@pytest.mark.parametrize("words, answer", [("", REFUSAL), (DEFER, DEFERRAL)],
                         ids=["421", "451"])
def test_retries_are_not_charged_to_a_shadow(mta, weir, redis, sources, words, answer):
    """A limit with action=log says what it would do if it were enforced; so it
    counts no mail that greylisting puts off."""
    weir(greylist(words, counted=COUNTED.replace("burst", "action = log burst")), redis=redis)
    source = next(sources)
    for _ in range(3):
        assert send(mta, source, ["u1@example.test", "u2@example.test"])[0] == answer
    assert charged(redis) == (0, 0)


def test_early_and_limited(mta, weir, redis, sources):
    """One who is over a limit and still early: the limit speaks, and his try
    does not count for the greylist."""
    weir(greylist(counted=COUNTED.replace("burst = 1000", "burst = 1")), redis=redis)
    source = next(sources)
    assert send(mta, source) == [REFUSAL]
    now = int(time.time() * 1e6)
    redis.cmd("HSET", "weir:all:{all}", "recipients", f"1000000 {now}")
    refused, = send(mta, source)
    assert refused == "421 4.7.1 Too many recipients, try again later"
    assert redis.cmd("GET", triplets(redis)[0]).split()[1] == "1"


# Clients by PROXY; after each an hour passes.
CLIENTS = {
    "the pool of an IPv6 client is its /64": ("exempt = {}\n", [
        ("2001:db8:1:2::1", 421), ("2001:db8:1:2:3:4:5:6", 250), ("2001:db8:1:3::1", 421)]),
    "exempt clients are free": ('exempt = {"192.0.2.0/25", "2001:db8:1::/48"}\n', [
        ("192.0.2.1", 250), ("192.0.2.200", 421), ("::ffff:192.0.2.5", 250),
        ("2001:db8:1:2::1", 250), ("2001:db8:2::1", 421)]),
}


@pytest.mark.parametrize("name", CLIENTS)
def test_other_clients(postfix, weir, redis, name):
    conf, clients = CLIENTS[name]
    weir(greylist() + conf, redis=redis)
    for client, answer in clients:
        with postfix.connect_proxy(client) as session:
            session.ehlo()
            session.mail()
            assert session.rcpt() == answer, client
        set_back(redis, HOUR + 1)



def test_authenticated_clients_are_free(mta, weir, redis, sources):
    """A real AUTH: free from then on, and no pass for the network of the client."""
    weir(greylist(DEFER), redis=redis)
    source = next(sources)
    with mta.connect(source) as client:
        client.ehlo()
        client.mail()
        assert client.rcpt() == DEFERRAL
        client.rset()
        assert client.command(f"AUTH {plain('alice')}") == 235
        for _ in range(2):
            client.mail()
            assert client.rcpt() == 250 and client.data() == 250
        assert client.quit() == 221
    assert send(mta, source) == [DEFERRAL]


def test_odd_addresses(mta, weir, redis, sources):
    """Long, quoted and braced addresses: each is a triplet that is found again,
    and no Redis key has blanks or braces from a client."""
    weir(greylist(), redis=redis)
    source = next(sources)
    odd = ["x" * 64 + "@" + ".".join(["y" * 60] * 3) + ".test", "{a}%b@client.test",
           '"a b"@client.test', "bounces+u1=example.test@client.test"]
    for sender in odd:
        assert send(mta, source, sender=sender) == [REFUSAL], sender
    assert len(triplets(redis)) == len(odd)
    for key in triplets(redis):
        assert re.fullmatch(r"weir:grey:\{[\d./]+\} [^ {}]+ [^ {}]+", key), key
    for sender in odd:
        set_back(redis, HOUR + 1)
        redis.cmd("DEL", *(redis.cmd("KEYS", "weir:pool:*") or ["none"]))
        assert send(mta, source, sender=sender) == [250, "sent"], sender
