# SPDX-License-Identifier: BSD-2-Clause
"""What the client sees: each reply that weir can give, at each stage where it
can give it, on both MTAs, as whole conversations down to who hangs up.

A row of a table is a configuration, what has happened before, and a script:
one (command, reply) after the other. The reply is a number where the words are
the MTA's own, the exact line where they are weir's, CLOSES where the server
must hang up, and a dict where the MTAs differ.
"""

import re

import pytest

CLOSES = None
STOCK = {"postfix": "421 mx.example.test Service unavailable - try again later",
         "sendmail": "421 4.7.0 mx.example.test closing connection"}
CONNECTIONS = "4.7.0 Too many connections from your address, try again later"
SESSIONS = "4.7.0 Too many open sessions from your address, try again later"
MESSAGES = "4.7.1 Too many messages, try again later"
RECIPIENTS = "4.7.1 Too many recipients, try again later"
GREYLISTED = "4.7.1 Greylisted, please try again later"

EHLO = "EHLO client.test"
HELO = "HELO client.test"
MAIL = "MAIL FROM:<a@client.test>"
TEXT = "Subject: test\r\n\r\ntest\r\n."      # and the dot
QUIT = ("QUIT", 221), CLOSES


def rcpt(name):
    return f"RCPT TO:<{name}@example.test>"


HELLO = (None, 220), (EHLO, 250)
MESSAGE = HELLO + ((MAIL, 250), (rcpt("u1"), 250), ("DATA", 354), (TEXT, 250))

# The server goes on with the next message; how the MTA says that there is none.
NO_RECIPIENT = {"postfix": 554, "sendmail": 503}


def said_at_each_mail(reply):
    """A deferral decided at connect: a session in which no message begins."""
    return HELLO + ((MAIL, reply), (rcpt("u1"), 503), ("DATA", 503), ("NOOP", 250),
                    (MAIL, reply), ("RSET", 250), (EHLO, 250), (MAIL, reply)) + QUIT


def play(mta, source, script):
    """Plays the client's part; asserts that the server played its own."""
    with mta.connect(source) as client:
        expected, seen = [], []
        for step in script:
            if step is CLOSES:
                expected.append("closed")
                seen.append("closed" if client.closed() else "open")
                continue
            command, wanted = step
            wanted = wanted[mta.name] if isinstance(wanted, dict) else wanted
            expected.append(wanted)
            if command is None:
                reply = client.greeting
            else:
                client.send(*command.split("\r\n"))
                reply = client.read()
            if reply is None:
                seen.append("closed")
                break
            seen.append(reply.code if isinstance(wanted, int) else str(reply))
        assert seen == expected, f"\n{client.transcript}"
        # A hang-up comes last, and nothing is said after the last reply.
        if script[-1] is CLOSES:
            assert client.read() is None, f"\n{client.transcript}"
            said = [line for side, line in client.transcript if side == "S"]
            assert len([line for line in said if line[3:4] != "-"]) == \
                sum(step is not CLOSES for step in script), f"\n{client.transcript}"


def limit(name, words):
    return f"limit {name} {{ {words} }}\n"


ONE = 'rate = "1/1h" burst = 1 '
OFF = limit("connections", "enabled = false") + limit("sessions", "enabled = false")

# name: configuration, polite sessions before, sessions open meanwhile, script, log
AT_CONNECT = {
    "connections": (
        limit("connections", ONE), 1, 0, ((None, STOCK), CLOSES),
        "action=refuse code=421 stage=connect reason=rate limit=connections "
        r"client=\S+ name=\S+ used=2 of=1 retry=3600s session="),
    "connections, told at EHLO": (
        "refuse-at = helo\n" + limit("connections", ONE), 1, 0,
        ((None, 220), (EHLO, "421 " + CONNECTIONS), CLOSES),
        "action=refuse code=421 stage=connect reason=rate limit=connections "),
    "connections, told at HELO": (
        "refuse-at = helo\n" + limit("connections", ONE), 1, 0,
        ((None, 220), ("NOOP", 250), (HELO, "421 " + CONNECTIONS), CLOSES),
        "action=refuse code=421 stage=connect "),
    "connections, no HELO: told at MAIL": (
        "refuse-at = helo\n" + limit("connections", ONE), 1, 0,
        ((None, 220), (MAIL, "421 " + CONNECTIONS), CLOSES),
        "action=refuse code=421 stage=connect "),
    "connections, QUIT before it is told": (
        "refuse-at = helo\n" + limit("connections", ONE), 1, 0,
        ((None, 220), ("NOOP", 250)) + QUIT,
        "action=refuse code=421 stage=connect "),
    "connections, own text at HELO": (
        "refuse-at = helo\n"
        + limit("connections", ONE + 'reply = "421 4.3.2 Slow down, please (weir)"'),
        1, 0, ((None, 220), (EHLO, "421 4.3.2 Slow down, please (weir)"), CLOSES),
        "action=refuse code=421 "),
    "connections, deferred": (
        limit("connections", ONE + "action = defer"), 1, 0,
        said_at_each_mail("451 " + CONNECTIONS),
        "action=defer code=451 stage=connect reason=rate limit=connections "
        r"client=\S+ name=\S+ used=2 of=1 retry=3600s session="),
    "connections, deferred, refuse-at helo": (
        "refuse-at = helo\n" + limit("connections", ONE + "action = defer"), 1, 0,
        said_at_each_mail("451 " + CONNECTIONS), "action=defer code=451 "),
    "connections, deferred with 452": (
        limit("connections", ONE + 'action = defer reply = "452 4.3.1 Not now"'), 1, 0,
        said_at_each_mail("452 4.3.1 Not now"), "action=defer code=452 stage=connect "),
    "sessions": (
        limit("sessions", "max = 2"), 0, 2, ((None, STOCK), CLOSES),
        "action=refuse code=421 stage=connect reason=sessions limit=sessions "
        r"client=\S+ name=\S+ used=3 of=2 session="),
    "sessions, told at HELO": (
        "refuse-at = helo\n" + limit("sessions", "max = 2"), 0, 2,
        ((None, 220), (EHLO, "421 " + SESSIONS), CLOSES),
        "action=refuse code=421 stage=connect reason=sessions "),
    "sessions, deferred": (
        limit("sessions", "max = 2 action = defer"), 0, 2,
        said_at_each_mail("451 " + SESSIONS),
        "action=defer code=451 stage=connect reason=sessions limit=sessions "),
}


@pytest.mark.parametrize("name", AT_CONNECT)
def test_at_connect(mta, weir, redis, sources, name):
    conf, before, held, script, line = AT_CONNECT[name]
    milter = weir(conf, redis=redis)
    source = next(sources)
    for _ in range(before):
        play(mta, source, MESSAGE + QUIT)
    holding = [mta.connect(source) for _ in range(held)]
    assert [client.greeting.code for client in holding] == [220] * held
    play(mta, source, script)
    milter.wait_log(f"NOQUEUE: {line}")
    assert len(milter.log("action=(refuse|defer|log)")) == 1
    for client in holding:
        assert client.quit() == 221
        client.close()


SECOND = MESSAGE + ((MAIL, 250),)       # one message is through, another begins

# name: configuration, script, what the log says
AT_RCPT = {
    "messages": (
        OFF + limit("messages", ONE),
        SECOND + ((rcpt("u1"), "421 " + MESSAGES), CLOSES),
        "action=refuse code=421 stage=rcpt reason=rate limit=messages .*"
        "to=<u1@example.test> used=2 of=1 retry=3600s "),
    "messages, own text": (
        OFF + limit("messages", ONE + 'reply = "421 4.2.1 One is enough"'),
        SECOND + ((rcpt("u1"), "421 4.2.1 One is enough"), CLOSES),
        "action=refuse code=421 "),
    "messages, deferred": (
        OFF + limit("messages", ONE + "action = defer"),
        SECOND + ((rcpt("u1"), "451 " + MESSAGES), (rcpt("u2"), "451 " + MESSAGES),
                  ("DATA", NO_RECIPIENT), ("NOOP", 250), ("RSET", 250), (MAIL, 250),
                  (rcpt("u3"), "451 " + MESSAGES), ("RSET", 250)) + QUIT,
        "action=defer code=451 stage=rcpt reason=rate limit=messages "),
    "messages, deferred with 452": (
        OFF + limit("messages", ONE + 'action = defer reply = "452 4.3.1 Later"'),
        SECOND + ((rcpt("u1"), "452 4.3.1 Later"), ("RSET", 250)) + QUIT,
        "action=defer code=452 "),
    "recipients": (
        OFF + limit("recipients", 'rate = "2/1h" burst = 2'),
        MESSAGE + ((MAIL, 250), (rcpt("u2"), 250),
                   (rcpt("u3"), "421 " + RECIPIENTS), CLOSES),
        "action=refuse code=421 stage=rcpt reason=rate limit=recipients .*"
        "to=<u3@example.test> used=3 of=2 retry=1800s "),
    "recipients, own text": (
        OFF + limit("recipients", ONE + 'reply = "421 4.5.3 Enough"'),
        HELLO + ((MAIL, 250), (rcpt("u1"), 250), (rcpt("u2"), "421 4.5.3 Enough"),
                 CLOSES),
        "action=refuse code=421 "),
    "greylist": (
        OFF + "greylist { enabled = true }\n",
        HELLO + ((MAIL, 250), (rcpt("u1"), "421 " + GREYLISTED), CLOSES),
        "action=refuse code=421 stage=rcpt reason=greylist grey=new .*"
        "from=<a@client.test> to=<u1@example.test> retry=300s "),
    "greylist, own text": (
        OFF + 'greylist { enabled = true reply = "421 4.2.0 We have not met" }\n',
        HELLO + ((MAIL, 250), (rcpt("u1"), "421 4.2.0 We have not met"), CLOSES),
        "action=refuse code=421 "),
    "greylist, deferred": (
        OFF + 'greylist { enabled = true reply = "451 4.7.1 Greylisted" }\n',
        HELLO + ((MAIL, 250), (rcpt("u1"), "451 4.7.1 Greylisted"), ("NOOP", 250),
                 (rcpt("u2"), "451 4.7.1 Greylisted"), ("DATA", NO_RECIPIENT),
                 ("RSET", 250), (MAIL, 250), (rcpt("u1"), "451 4.7.1 Greylisted"),
                 ("RSET", 250)) + QUIT,
        "action=defer code=451 stage=rcpt reason=greylist grey=new "),
}


@pytest.mark.parametrize("name", AT_RCPT)
def test_at_rcpt(mta, weir, redis, sources, name):
    conf, script, line = AT_RCPT[name]
    milter = weir(conf, redis=redis)
    play(mta, next(sources), script)
    milter.wait_log(f": {line}")


@pytest.mark.parametrize("code", ["451 4.7.1", "452 4.5.3"])
def test_deferred_recipients_leave_the_others(mta, weir, redis, sources, code):
    """Two of four recipients get in; the message goes to these two."""
    milter = weir(OFF + limit("recipients", 'rate = "2/1h" burst = 2 action = defer '
                     f'reply = "{code} Too many"'), redis=redis)
    since = mta.mark()
    over = f"{code} Too many"
    play(mta, next(sources), HELLO + (
        (MAIL, 250), (rcpt("in1"), 250), (rcpt("in2"), 250), (rcpt("out1"), over),
        (rcpt("out2"), over), ("DATA", 354), (TEXT, 250), (MAIL, 250),
        (rcpt("out3"), over), ("RSET", 250)) + QUIT)
    for name in ("in1", "in2"):
        mta.wait_log(rf"to=<{name}@.*(status=sent|stat=Sent)", since=since)
    assert not [line for line in mta.log(r"to=<out\d@.*stat")]
    milter.wait_log("action=defer .*limit=recipients .*to=<out3@")
    assert len(milter.log("action=defer .*limit=recipients ")) == 3


POLITE = MESSAGE + QUIT
TWO_MESSAGES = MESSAGE + ((MAIL, 250), (rcpt("u2"), 250), (rcpt("u3"), 250),
                          ("DATA", 354), (TEXT, 250)) + QUIT

# name: words, script of the client that is over, log line, its record, charge then
SHADOWS = {
    "connections": (ONE, "stage=connect reason=rate", "used=2 of=1 retry=3600s", 1),
    "messages": (ONE, "stage=rcpt reason=rate", "used=2 of=1 retry=3600s", 1),
    "recipients": ('rate = "2/1h" burst = 2', "stage=rcpt reason=rate",
                   "used=3 of=2 retry=1800s", 2),
}


def level(redis, source, name):
    """What the client's record says, in whole things."""
    network = source.rpartition(".")[0] + ".0/24"
    fields = redis.hash(f"weir:address:{{{network}}}:{source}")
    return round(int(fields.get(name, "0 0").split()[0]) / 1e6, 1)


@pytest.mark.parametrize("name", SHADOWS)
def test_action_log(mta, weir, redis, sources, name):
    """A shadow limit: nobody sees it but who reads the log; its own bucket is
    full and no fuller, and the limit beside it is charged as if it were not."""
    words, where, figures, full = SHADOWS[name]
    others = "".join(limit(other, 'rate = "100/100h" burst = 100 per = address')
                     for other in SHADOWS if other != name)
    milter = weir(others + limit(name, words + " action = log per = address"), redis=redis)
    source = next(sources)
    play(mta, source, POLITE)
    play(mta, source, TWO_MESSAGES)
    milter.wait_log(rf": action=log {where} limit={name} client={re.escape(source)} "
                    rf".*{figures} session=")
    assert not milter.log("action=(refuse|defer)")
    assert level(redis, source, name) == full
    for other, charged in {"connections": 2, "messages": 3, "recipients": 4}.items():
        if other != name:
            assert level(redis, source, other) == charged, other


# what is over: its configuration, and what the log says would have been
OBSERVED = {
    "connections": (limit("connections", ONE),
                    "action=refuse code=421 stage=connect reason=rate limit=connections"),
    "connections deferred": (
        limit("connections", ONE + "action = defer"),
        "action=defer code=451 stage=connect reason=rate limit=connections"),
    "messages": (limit("messages", ONE),
                 "action=refuse code=421 stage=rcpt reason=rate limit=messages"),
    "recipients": (
        limit("recipients", 'per = address rate = "2/1h" burst = 2'),
        "action=refuse code=421 stage=rcpt reason=rate limit=recipients"),
    "greylist": ("greylist { enabled = true }",
                 "action=refuse code=421 stage=rcpt reason=greylist grey=new"),
}


@pytest.mark.parametrize("name", OBSERVED)
@pytest.mark.parametrize("refuse_at", ["connect", "helo"])
def test_observe(mta, weir, redis, sources, name, refuse_at):
    """The client sees nothing, and the log says what would have been."""
    conf, line = OBSERVED[name]
    milter = weir(f"mode = observe\nrefuse-at = {refuse_at}\n{conf}\n", redis=redis)
    source = next(sources)
    play(mta, source, POLITE)
    play(mta, source, TWO_MESSAGES)
    milter.wait_log(rf": {line} client={re.escape(source)} .*mode=observe")
    # charged as if it had been enforced: full, and no fuller
    counter = name.split()[0]
    if counter != "greylist":
        assert level(redis, source, counter) == (2 if counter == "recipients" else 1)


@pytest.mark.parametrize("reply, lines", [("421 4.7.1 Later", 3), ("451 4.7.1 Later", 4)])
def test_observed_greylist_counts_the_mail(mta, weir, redis, sources, reply, lines):
    """What would have been greylisted goes through, so the limits count it: else
    the days of observing would show too little. The log has a line a message, or
    a recipient, as it would have been."""
    plenty = 'per = address rate = "100/100h" burst = 100'
    milter = weir(f'mode = observe\ngreylist {{ enabled = true reply = "{reply}" }}\n'
                  + limit("messages", plenty) + limit("recipients", plenty), redis=redis)
    source = next(sources)
    play(mta, source, POLITE)
    play(mta, source, TWO_MESSAGES)
    milter.wait_log("to=<u3@example.test>")
    assert len(milter.log("reason=greylist .*mode=observe")) == lines
    assert (level(redis, source, "messages"), level(redis, source, "recipients")) == (3, 4)
