# SPDX-License-Identifier: BSD-2-Clause
"""Recipients that the MTA itself refuses: which of them a milter is shown, what a
dictionary attack comes to, and that nobody loses mail by it.
"""

import re

import pytest

from harness.ctl import outlive_memory
from harness.mta import LATER, NOBODY
from harness.weir import PATIENT
from test_limits import OFF, key_of, level, network_of, set_back
from test_replies import STOCK

WEIR = PATIENT

UNKNOWN = "421 4.7.1 Too many unknown recipients, try again later"


def conf(burst, more="per = address"):
    return OFF + f'limit rejected-recipients {{ rate = "5/1h" burst = {burst} {more} }}\n'


def nobody(n):
    return NOBODY.replace("account", f"account{n}")


# A recipient, what the MTA says of it, and whether weir is shown it as rejected.
RECIPIENTS = {
    "no such account": (NOBODY, {"postfix": (550, True), "sendmail": (550, True)}),
    # by a rule of its own: virtusertable, mailertable, $#error
    "refused by a rule": ("unknown@example.test", {"postfix": (550, True),
                                                   "sendmail": (550, False)}),
    "relaying denied": ("u@elsewhere.test", {"postfix": (554, True), "sendmail": (550, False)}),
    "bad syntax": ("u@[example", {"postfix": (501, False), "sendmail": (550, False)}),
    # told to come back: no guess of his was wrong
    "put off": (LATER, {"postfix": (450, False), "sendmail": (450, False)}),
    "good": ("u1@example.test", {"postfix": (250, False), "sendmail": (250, False)}),
}


@pytest.mark.parametrize("name", RECIPIENTS)
def test_which_are_shown(mta, weir, redis, sources, name):
    recipient, expected = RECIPIENTS[name]
    code, shown = expected[mta.name]
    weir(conf(100), redis=redis)
    source = next(sources)
    with mta.connect(source) as client:
        client.ehlo()
        assert client.mail() == 250
        for _ in range(2):
            assert client.rcpt(recipient) == code
        assert client.rcpt("good@example.test") == 250 and client.data() == 250
        assert client.quit() == 221
    assert level(redis, key_of(source), "rejected-recipients") == (2 if shown else None)
    fields = redis.hash(key_of(source))
    assert fields.get("rejected") == ("2" if shown else None)
    # a probe at connect, and each recipient that is heard
    assert fields["ok"] == ("4" if name == "good" else "2")


@pytest.mark.parametrize("name", RECIPIENTS)
def test_they_cost_nothing_else(mta, weir, redis, sources, name):
    """Neither messages nor recipients are charged for them, and no triplet is made."""
    recipient, expected = RECIPIENTS[name]
    plenty = 'rate = "100/100h" burst = 100 per = address'
    weir(OFF.replace("limit recipients { enabled = false }", f"limit recipients {{ {plenty} }}")
         + f'limit messages {{ {plenty} }}\ngreylist {{ enabled = true reply = "451 4.7.1 Later" }}'
         f"\nlimit rejected-recipients {{ {plenty} }}\n", redis=redis)
    source = next(sources)
    with mta.connect(source) as client:
        client.ehlo()
        assert client.mail() == 250
        assert client.rcpt(recipient) == (451 if name == "good" else expected[mta.name][0])
        assert client.rcpt("postmaster@example.test") == 250 and client.data() == 250
        assert client.quit() == 221
    assert level(redis, key_of(source), "messages") == 1
    assert level(redis, key_of(source), "recipients") == 1
    assert len(redis.cmd("KEYS", "weir:grey:*")) == (name == "good")


def test_an_attack(mta, store, weir, sources):
    """Five are free. What the MTA refuses it refuses itself; at the next thing that weir
    is asked the client is told: a recipient that exists, in this session or in one that
    is open beside it, and connect. Nobody else is."""
    milter = weir(conf(5), redis=store)
    source, since = next(sources), mta.mark()
    beside = mta.connect(source)
    beside.ehlo()
    assert beside.mail() == 250
    with mta.connect(source) as client:
        client.ehlo()
        assert client.mail() == 250 and client.rcpt("good1@example.test") == 250
        for n in range(12):
            assert client.rcpt(nobody(n)) == 550
        assert client.rcpt("good2@example.test") == UNKNOWN and client.closed()
    assert beside.rcpt("good3@example.test") == UNKNOWN and beside.closed()
    for _ in range(2):
        with mta.connect(source) as client:
            assert client.greeting == STOCK[mta.name] and client.closed()
    with mta.connect(next(sources)) as client:
        assert client.send_message(recipients=["good4@example.test"]).codes()[-1] == 221
    mta.wait_log(r"to=<good4@.*(status=sent|stat=Sent)", since=since)
    # charged to twice the burst: it takes six of an hour's five until the next is fine
    for stage in ("rcpt", "connect"):
        fields = milter.fields(milter.wait_log(
            f"action=refuse code=421 stage={stage} reason=rate limit=rejected-recipients "
            f".*client={re.escape(source)} "))
        # from memory the level is not known, but the time is
        assert fields["used"] == ("6" if "source" in fields else "11") and fields["of"] == "5"
        assert 4310 <= int(fields["retry"].rstrip("s")) <= 4320
    beside.close()
    if not store:
        return
    fields = store.hash(key_of(source))
    assert fields["rejected"] == "12" and level(store, key_of(source),
                                                "rejected-recipients") == 10


def test_the_message_in_which_it_happens(mta, weir, redis, sources):
    """Good recipients that came before are served, and the next MAIL is told."""
    milter = weir(conf(5), redis=redis)
    source, since = next(sources), mta.mark()
    with mta.connect(source) as client:
        client.ehlo()
        assert client.mail() == 250 and client.rcpt("before@example.test") == 250
        for n in range(6):
            assert client.rcpt(nobody(n)) == 550
        assert client.data() == 250
        assert client.noop() == 250 and client.rset() == 250
        assert client.mail() == UNKNOWN and client.closed()
    mta.wait_log(r"to=<before@.*(status=sent|stat=Sent)", since=since)
    milter.wait_log("action=refuse code=421 stage=mail reason=rate limit=rejected-recipients .*"
                    "used=7 of=5")


def test_it_is_forgiven(mta, weir, redis, sources):
    """However long the attack was, it is two bursts and no more; what is over drains."""
    weir(conf(5), redis=redis)
    source = next(sources)
    for _ in range(3):
        with mta.connect(source) as client:
            if client.greeting == 220:
                client.ehlo()
                assert client.mail() == 250
                for n in range(40):
                    assert client.rcpt(nobody(n)) == 550
    assert level(redis, key_of(source), "rejected-recipients") == 10
    for minutes, greeting in ((70, 421), (3, 220)):
        set_back(redis, key_of(source), "rejected-recipients", minutes * 60)
        outlive_memory()
        with mta.connect(source) as client:
            assert client.greeting == greeting, minutes


def test_one_try_a_session(mta, weir, redis, sources):
    """A new session for each guess does not help, nor a new host of the same network."""
    weir(conf(3, "per = network"), redis=redis)
    first = next(sources)
    greetings = []
    for n in range(5):
        with mta.connect(f"{first.rpartition('.')[0]}.{n + 1}") as client:
            greetings.append(client.greeting.code)
            if client.greeting == 220:
                client.ehlo()
                assert client.mail() == 250 and client.rcpt(nobody(n)) == 550
                assert client.quit() == 221
    assert greetings == [220] * 3 + [421] * 2
    assert level(redis, f"weir:network:{{{network_of(first)}}}", "rejected-recipients") == 3


def test_deferred_shadow_and_observed(mta, weir, redis, sources):
    """action = defer: at each MAIL and RCPT, the session goes on. A shadow and mode =
    observe are seen in the log only."""
    deferral = UNKNOWN.replace("421", "451")
    for words, before, answers in [
            ("action = defer", "", [deferral, deferral]), ("action = log", "", [250, 250]),
            ("", "mode = observe\n", [250, 250])]:
        milter = weir(before + conf(2, f"per = address {words}"), redis=redis)
        source = next(sources)
        with mta.connect(source) as client:
            client.ehlo()
            assert client.mail() == 250
            for n in range(4):
                assert client.rcpt(nobody(n)) == 550
            assert client.rcpt() == answers[0]
            assert client.rset() == 250 and client.mail() == answers[1]
            assert client.rset() == 250 and client.quit() == 221
        with mta.connect(source) as client:
            assert client.greeting == 220 and client.ehlo() == 250
            assert client.mail() == answers[1]
        # what happened is noted to twice the burst; a shadow counts as far, too
        assert level(redis, key_of(source), "rejected-recipients") == 4
        if "log" in words:
            milter.wait_log(f"action=log stage=rcpt reason=rate limit=rejected-recipients .*"
                            f"client={re.escape(source)} .*used=3 of=2")
        milter.stop()


def test_bounces_that_guess(mta, store, weir, sources):
    """A limit per sender over which the null sender is refuses bounces, and nobody who
    connects and has not said a sender yet."""
    weir(conf(2, "per = sender"), redis=store)
    source = next(sources)
    with mta.connect(source) as client:
        client.ehlo()
        assert client.mail("") == 250
        for n in range(6):
            assert client.rcpt(nobody(n)) == 550
        assert client.rset() == 250 and client.mail("") == UNKNOWN and client.closed()
    with mta.connect(next(sources)) as client:
        assert client.greeting == 220 and client.ehlo() == 250
        assert client.mail("a@client.test") == 250 and client.rcpt() == 250
        assert client.data() == 250 and client.mail("") == 250
        assert client.rcpt() == UNKNOWN and client.closed()
