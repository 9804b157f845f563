# SPDX-License-Identifier: BSD-2-Clause
"""What a session can do: pipelining, several messages, RSET, STARTTLS, going
away in the midst; and what weir asks the MTA to tell it at all.
"""

import re

import pytest

import rawmilter
from harness import proc

LOTS = 'rate = "1000/1000h" burst = 1000'
OFF = ("limit connections { enabled = false }\nlimit sessions { enabled = false }\n"
       "limit recipients { enabled = false }\n")
# Everything is counted per address, and nothing is refused.
COUNTED = "".join(f"limit {name} {{ per = address {LOTS} }}\n"
                  for name in ("connections", "messages", "recipients")) \
    + "limit sessions { max = 1000 }\n"
RECIPIENTS = "421 4.7.1 Too many recipients, try again later"
TEXT = "Subject: test\r\n\r\ntest"


def two_recipients(words=""):
    return OFF.replace("limit recipients { enabled = false }\n", "") + \
        f'limit recipients {{ per = address rate = "2/1h" burst = 2 {words} }}'


def key_of(client):
    network = (client.rpartition(".")[0] + ".0/24") if "." in client else None
    return f"{{{network}}}:{client}"


def counts(redis, client):
    """What the client's record holds: {"connections": 1, "messages": 3, ...}."""
    fields = redis.hash(f"weir:address:{key_of(client)}")
    return {name: round(int(fields.get(name, "0 0").split()[0]) / 1e6, 1)
            for name in ("connections", "messages", "recipients")}


def wait_open(redis, client, number):
    """The leases of a session that ended are given back in the background."""
    proc.wait_for(lambda: redis.cmd("ZCARD", f"weir:open:address:{key_of(client)}")
                  == number, 5, f"{number} open sessions of {client}")


def delivered(mta, recipients, since):
    """Waits until all are; Postfix must then have an empty queue."""
    for recipient in recipients:
        mta.wait_log(rf"to=<{re.escape(recipient)}>.*(status=sent|stat=Sent)", since=since)
    if mta.name == "postfix":
        proc.wait_for(mta.queue_empty, 5, "an empty queue")


def test_pipelined_421(mta, weir, redis, sources):
    """The replies before the 421 arrive, none after it does; the message is not
    delivered to anybody."""
    weir(two_recipients(), redis=redis)
    since = mta.mark()
    with mta.connect(next(sources)) as client:
        client.ehlo()
        replies = client.pipeline(
            "MAIL FROM:<a@client.test>", "RCPT TO:<p1@example.test>",
            "RCPT TO:<p2@example.test>", "RCPT TO:<p3@example.test>",
            "RCPT TO:<p4@example.test>", "DATA", "NOOP", "QUIT")
        assert [reply.code for reply in replies] == [250, 250, 250, 421]
        assert str(replies[-1]) == RECIPIENTS
        assert client.closed() and client.transcript.server()[-1] == RECIPIENTS
    # the next one is served, and nothing of that message is
    with mta.connect(next(sources)) as client:
        assert client.send_message(recipients=["p9@example.test"]).codes()[-1] == 221
    delivered(mta, ["p9@example.test"], since)
    assert not [line for line in mta.log(r"to=<p[1-4]@") if "stat" in line]


def test_pipelined_451(mta, weir, redis, sources):
    """A deferral in the midst takes nothing from what comes after it."""
    weir(two_recipients('action = defer reply = "451 4.7.1 Two"'), redis=redis)
    since = mta.mark()
    with mta.connect(next(sources)) as client:
        client.ehlo()
        replies = client.pipeline(
            "MAIL FROM:<a@client.test>", "RCPT TO:<d1@example.test>",
            "RCPT TO:<d2@example.test>", "RCPT TO:<d3@example.test>", "DATA")
        assert [reply.code for reply in replies] == [250, 250, 250, 451, 354]
        assert client.dot(TEXT) == 250
        assert [reply.code for reply in client.pipeline("NOOP", "RSET", "QUIT")] \
            == [250, 250, 221]
    delivered(mta, ["d1@example.test", "d2@example.test"], since)


def test_talks_before_the_greeting(mta, weir, redis, sources):
    """A client that does not wait, refused at connect: the 421 comes first."""
    weir('limit connections { rate = "1/1h" burst = 1 }', redis=redis)
    source = next(sources)
    with mta.connect(source) as client:
        assert client.send_message().codes()[-1] == 221
    with mta.connect(source, greet=False) as client:
        client.send("EHLO early.test", "MAIL FROM:<a@client.test>")
        greeting = client.read()
        assert greeting is None or greeting == 421      # RST may overtake it
        assert client.closed() and 250 not in client.transcript.codes()


def test_several_messages(mta, weir, redis, sources):
    """Each message counts one, each recipient one, the session one."""
    weir(COUNTED, redis=redis)
    source, since = next(sources), mta.mark()
    recipients = []
    with mta.connect(source) as client:
        client.ehlo()
        for number in range(1, 4):
            assert client.mail() == 250
            for n in range(number):
                recipients.append(f"m{number}.{n}@example.test")
                assert client.rcpt(recipients[-1]) == 250
            assert client.data() == 250
        assert client.quit() == 221
    assert counts(redis, source) == {"connections": 1, "messages": 3, "recipients": 6}
    delivered(mta, recipients, since)


# What is said after EHLO (a reply's code each), and what is counted then:
# messages, recipients. A message counts at its first accepted recipient.
MAIL, RCPT, DATA = "MAIL FROM:<a@client.test>", "RCPT TO:<u1@example.test>", "DATA"
SCRIPTS = {
    "no message": ([("NOOP", 250), ("VRFY root", (252, 250)), ("RSET", 250)], 0, 0),
    "no recipient": ([(MAIL, 250), ("RSET", 250)], 0, 0),
    "RSET after RCPT": ([(MAIL, 250), (RCPT, 250), ("RSET", 250), (MAIL, 250),
                         (RCPT, 250), (DATA, 354)], 2, 2),
    "EHLO after RCPT": ([(MAIL, 250), (RCPT, 250), ("EHLO again.test", 250),
                         (MAIL, 250), (RCPT, 250), (DATA, 354)], 2, 2),
    "MAIL twice": ([(MAIL, 250), (MAIL, 503), (RCPT, 250), (DATA, 354)], 1, 1),
    "MAIL twice after RCPT": ([(MAIL, 250), (RCPT, 250), (MAIL, 503),
                               ("RCPT TO:<u2@example.test>", 250), (DATA, 354)], 1, 2),
    "RCPT before MAIL": ([(RCPT, 503), (DATA, 503), (MAIL, 250), (RCPT, 250)], 1, 1),
    "the same recipient twice": ([(MAIL, 250), (RCPT, 250), (RCPT, 250), (DATA, 354)],
                                 1, 2),
    "unknown recipients": ([(MAIL, 250), ("RCPT TO:<unknown@example.test>", 550),
                            ("RCPT TO:<u@elsewhere.test>", (550, 554)),
                            (RCPT, 250), (DATA, 354)], 1, 1),
    "nonsense": ([("FOO", (500, 502)), ("MAIL", (501, 503)), (MAIL, 250),
                  ("RCPT", (501, 503)), ("RCPT TO:", (501, 503)), (RCPT, 250)], 1, 1),
    "HELO instead": ([("HELO again.test", 250), (MAIL, 250), (RCPT, 250),
                      (DATA, 354)], 1, 1),
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_is_counted(mta, weir, redis, sources, name):
    script, messages, recipients = SCRIPTS[name]
    weir(COUNTED, redis=redis)
    source = next(sources)
    with mta.connect(source) as client:
        client.ehlo()
        for command, code in script:
            reply = client.command(command)
            assert reply.code in (code if isinstance(code, tuple) else (code,)), \
                client.transcript
            if reply == 354:
                assert client.dot(TEXT) == 250
        assert client.quit() == 221 and client.closed()
    assert counts(redis, source) == {"connections": 1, "messages": messages,
                                     "recipients": recipients}
    wait_open(redis, source, 0)


def test_fifty_recipients(mta, weir, redis, sources):
    weir(COUNTED, redis=redis)
    source, since = next(sources), mta.mark()
    names = [f"fifty{n}@example.test" for n in range(50)]
    with mta.connect(source) as client:
        client.ehlo()
        replies = client.pipeline(MAIL, *(f"RCPT TO:<{name}>" for name in names), DATA)
        assert [reply.code for reply in replies] == [250] * 51 + [354]
        assert client.dot(TEXT) == 250
        assert client.quit() == 221
    assert counts(redis, source) == {"connections": 1, "messages": 1, "recipients": 50}
    delivered(mta, names[-2:], since)


def test_starttls(mta, weir, redis, sources):
    """EHLO again over TLS is the same connection and session; a limit goes on
    where it was, and a 421 arrives through TLS too."""
    weir(COUNTED.replace(f"limit recipients {{ per = address {LOTS}",
                         'limit recipients { per = address rate = "2/1h" burst = 2'),
         redis=redis)
    source = next(sources)
    with mta.connect(source) as client:
        client.ehlo()
        client.mail()
        assert client.rcpt() == 250 and client.rset() == 250
        assert client.starttls() == 220
        assert client.ehlo() == 250
        wait_open(redis, source, 1)
        client.mail()
        assert client.rcpt() == 250
        assert client.rcpt("u2@example.test") == RECIPIENTS
        assert client.closed()
    assert counts(redis, source) == {"connections": 1, "messages": 2, "recipients": 2}
    wait_open(redis, source, 0)


# how far the client comes before it goes
ENDS = {"greeting": [], "EHLO": ["EHLO c.test"], "MAIL": ["EHLO c.test", MAIL],
        "RCPT": ["EHLO c.test", MAIL, RCPT], "DATA": ["EHLO c.test", MAIL, RCPT, DATA],
        "half a line": ["EHLO c.test", MAIL, RCPT, DATA, "Subject: x"]}


@pytest.mark.parametrize("how", ["close", "abort"])
def test_going_away(mta, weir, redis, sources, how):
    """Wherever a client hangs up, by FIN or by RST: no session stays counted,
    and nothing is delivered."""
    weir(COUNTED, redis=redis)
    source, since = next(sources), mta.mark()
    clients = []
    for lines in ENDS.values():
        clients.append(mta.connect(source))
        for line in lines:
            if line.startswith("Subject"):
                clients[-1].send_bytes(line.encode())
            else:
                assert clients[-1].command(line).code < 400
    wait_open(redis, source, len(ENDS))
    for number, client in enumerate(clients):
        getattr(client, how)()
        wait_open(redis, source, len(ENDS) - number - 1)
    with mta.connect(source) as client:         # and all goes on
        assert client.send_message(recipients=["z@example.test"]).codes()[-1] == 221
    delivered(mta, ["z@example.test"], since)
    assert counts(redis, source)["connections"] == len(ENDS) + 1


def test_no_close_after_421(mta, weir, redis, sources):
    """A session that is refused at RCPT gives its place back too."""
    weir(two_recipients().replace("limit sessions { enabled = false }",
                                  "limit sessions { max = 1 }"), redis=redis)
    source = next(sources)
    for _ in range(3):
        wait_open(redis, source, 0)
        with mta.connect(source) as client:
            assert client.greeting == 220
            client.ehlo()
            client.mail()
            for n in range(3):
                if client.rcpt(f"u{n}@example.test") == 421:
                    assert client.closed()
                    break
            else:
                raise AssertionError("not refused")


@pytest.mark.parametrize("how, client", [
    ("connect_proxy", "192.0.2.9"), ("connect_xclient", "192.0.2.10")])
def test_proxy_and_xclient(postfix, weir, redis, how, client):
    """Counted is the client that is told, once, and not the one that tells."""
    milter = weir(COUNTED, redis=redis)
    with getattr(postfix, how)(client) as session:
        wait_open(redis, client, 1)
        assert session.send_message().codes()[-1] == 221
    assert counts(redis, client) == {"connections": 1, "messages": 1, "recipients": 1}
    wait_open(redis, client, 0)
    assert redis.cmd("KEYS", "weir:address:*") == [f"weir:address:{key_of(client)}"]
    assert {milter.fields(line)["client"] for line in milter.log("stage=")} == {client}


def test_no_client_address(postfix, weir, redis):
    """XCLIENT can say that it knows no address. Nobody is counted, mail flows,
    and weir goes on. (libmilter gives such a session up: the default action.)"""
    weir(COUNTED + 'limit mine { count = connections rate = "1/1h" burst = 1 }', redis=redis)
    for _ in range(2):
        with postfix.connect_xclient("[UNAVAILABLE]") as client:
            assert client.send_message().codes()[-6:] == [250, 250, 250, 354, 250, 221]
    with postfix.connect_proxy("192.0.2.1") as client:
        assert client.greeting == 220
    assert len(redis.cmd("KEYS", "weir:address:*")) == 1


# configuration: the steps that the milter wants after connect, its answer to
# connect, and more macros than at MAIL
MESSAGE = {rawmilter.HEADER, rawmilter.EOH, rawmilter.BODY}
NOT_NEGOTIATED = {rawmilter.DATA, rawmilter.UNKNOWN}
NAME, REJECTED = {"connect": ["{client_resolve}"]}, {"rcpt": ["i", "{rcpt_mailer}", "{rcpt_host}"]}
H, M, R = rawmilter.HELO, rawmilter.MAIL, rawmilter.RCPT
CONNECTIONS = OFF.replace("limit connections { enabled = false }",
                          f"limit connections {{ {LOTS} }}")
SESSIONS = OFF.replace("limit sessions { enabled = false }", "limit sessions { max = 9 }")
NEGOTIATED = {
    "nothing": (OFF, set(), "a"),
    "connections": (CONNECTIONS, set(), "a"),
    "connections, observed": ("mode = observe\n" + CONNECTIONS, set(), "a"),
    "connections, own text": ("refuse-at = helo\n" + CONNECTIONS, {H, M}, "a"),
    "connections, deferred": (CONNECTIONS.replace(LOTS, LOTS + " action = defer"),
                              {M}, "a"),
    "sessions": (SESSIONS, set(), "c"),
    "messages": (OFF + f"limit messages {{ {LOTS} }}", {M, R}, "c"),
    "recipients": (two_recipients(), {M, R}, "c"),
    "greylist": (OFF + "greylist { enabled = true }", {M, R}, "c", NAME | REJECTED),
    "known": (OFF + "known { learn = true }", {M, R}, "c", NAME | REJECTED),
    "pool": (OFF + f"limit messages {{ {LOTS} per = pool }}", {M, R}, "c", NAME),
    "rejected": (OFF + f"limit rejected-recipients {{ {LOTS} }}", {M, R}, "c", REJECTED),
    "bytes": (OFF + f"limit bytes {{ {LOTS} }}", {M, R} | MESSAGE, "c"),
    "the default": ("", {M, R}, "c"),
    "all": (COUNTED + "refuse-at = helo\ngreylist { enabled = true }", {H, M, R}, "c",
            NAME | REJECTED),
    "exempt": (COUNTED + 'exempt = {"192.0.2.0/24"}', {M, R}, "a"),
}


@pytest.mark.parametrize("name", NEGOTIATED)
def test_negotiation(weir, redis, milter_socket, name):
    """Only what the active limits need is asked for, and a client about whom
    nothing is left to decide is accepted at once."""
    conf, steps, answer, *more = NEGOTIATED[name]
    weir(conf, redis=redis)
    with rawmilter.RawMilter(milter_socket) as raw:
        version, actions, wanted = raw.negotiate()
        assert version == 6 and actions & ~0x100 == 0       # it changes no mail
        unwanted = {step for step, (no, _) in rawmilter.STEPS.items() if wanted & no}
        assert unwanted == NOT_NEGOTIATED | ({H, M, R} | MESSAGE) - steps
        # no step that it has to answer goes unanswered; a message is only listened to
        silent = {step for step, (_, no) in rawmilter.STEPS.items() if wanted & no}
        assert silent == steps & MESSAGE
        asked = {stage: macros for stage, macros in raw.macros.items() if macros != ["i"]}
        mail = {"mail": ["{auth_authen}"]} if M in steps else {}
        assert asked == mail | (more[0] if more else {})
        assert bool(wanted & rawmilter.RCPT_REJ) == bool(more and "rcpt" in more[0])
        assert raw.connect("192.0.2.1").code == answer
