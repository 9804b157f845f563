# SPDX-License-Identifier: BSD-2-Clause
"""weir is not there: never was, is killed in the midst of a session, or loses a
worker. What the client sees is the MTA's default action; doc/mta.md has these
tables for the administrator. Mail is never lost, and QUIT ends with 221.
"""

import os
from signal import SIGKILL

import pytest

from harness import proc

OFF = ("limit connections { enabled = false }\nlimit sessions { enabled = false }\n"
       "limit recipients { enabled = false }\n")
MESSAGES = OFF + 'limit messages { rate = "1000/1000h" burst = 1000 }\n'

MAIL = "MAIL FROM:<a@client.test>"
DOT = "Subject: test\r\n\r\ntest\r\n."
SCRIPT = ["EHLO client.test", MAIL, "RCPT TO:<u1@example.test>",
          "RCPT TO:<u2@example.test>", "DATA", DOT, "RSET", "NOOP", MAIL,
          "RCPT TO:<u3@example.test>", "QUIT"]
END = "closed"

# What stands for which words. F, the failure's own, depends on the MTA's setting.
SETTINGS = {
    ("postfix", "accept"): None,
    ("postfix", "tempfail"): "451 4.7.1 Service unavailable - try again later",
    ("postfix", "reject"): "550 5.5.0 Service unavailable",
    ("postfix", "quarantine"): None,
    ("sendmail", ""): None,
    ("sendmail", "T"): "451 4.3.2 Please try again later",
    ("sendmail", "R"): "550 5.0.0 Command rejected",
    ("sendmail", "4"): None,
}

F = "the failure"
HANG_UP = "421 4.7.0 mx.example.test closing connection"
SERVED = [220, 250, 250, 250, 250, 354, 250, 250, 250, 250, 250, 221, END]
# No MAIL is taken; the dot is not sent where DATA was not answered with 354.
NO_MAIL = [250, F, 503, 503, 503, 250, 250, F, 503, 221, END]

# setting: greeting and replies of a session when nobody listens
ABSENT = {
    ("postfix", "accept"): SERVED,
    ("postfix", "tempfail"): [220] + NO_MAIL,
    ("postfix", "reject"):
        ["554 mx.example.test ESMTP not accepting connections"] + NO_MAIL,
    ("postfix", "quarantine"): SERVED,
    ("sendmail", ""): SERVED,
    ("sendmail", "T"): [220] + NO_MAIL,
    ("sendmail", "R"): ["554 mx.example.test ESMTP not accepting messages",
                        250, F, F, F, F, 250, 250, F, F, 221, END],
    ("sendmail", "4"): [HANG_UP, END],
}

AFTER = [250, 250, F, 503, 221, END]            # from RSET on
# killed before this step: the replies where failures are temporary
KILLED = {
    "EHLO": [220] + NO_MAIL,
    "MAIL": [220] + NO_MAIL,
    "RCPT": [220, 250, 250, F, F, {"postfix": 554, "sendmail": 503}] + AFTER,
    "second RCPT": [220, 250, 250, 250, F, F] + AFTER,
    # weir does not want DATA: Postfix looks at the milter again after the dot
    "DATA": {"postfix": [220, 250, 250, 250, 250, 354, F] + AFTER,
             "sendmail": [220, 250, 250, 250, 250, F] + AFTER},
    "dot": [220, 250, 250, 250, 250, 354, F] + AFTER,
}
STEPS = {"EHLO": 0, "MAIL": 1, "RCPT": 2, "second RCPT": 3, "DATA": 4, "dot": 5}

# Sendmail's F=4: the same, but the failing step is answered by a hang-up.
CLOSING = {step: "421 4.3.0 closing connection" if step in ("MAIL", "RCPT", "second RCPT")
           else HANG_UP for step in STEPS}


def start(setting, new_postfix, new_sendmail, socket):
    name, action = setting
    if name == "postfix":
        return new_postfix([socket], default_action=action)
    return new_sendmail([socket], flag=action)


def play(mta, source, kill=None, before=None):
    """The client's side of SCRIPT; kill() is called before that step. Returns
    the replies, numbers where they are the MTA's usual ones."""
    def note(reply):
        text = str(reply)
        usual = reply.code < 400 or reply.code in (503, 554) and " ESMTP " not in text
        seen.append(reply.code if usual else text)

    seen = []
    with mta.connect(source) as client:
        note(client.greeting)
        for number, line in enumerate(SCRIPT):
            if number == before:
                kill()
            if client.greeting == 421 or line == DOT and seen[-1] != 354:
                continue
            client.send(*line.split("\r\n"))
            reply = client.read()
            if reply is None:
                break
            note(reply)
            if reply == 421:
                break
        assert client.closed(), client.transcript
        seen.append(END)
    return seen


def expected(setting, replies):
    return [SETTINGS[setting] if reply == F else
            reply[setting[0]] if isinstance(reply, dict) else reply
            for reply in replies]


def message_is_through(mta, since):
    for name in ("u1", "u2"):
        mta.wait_log(rf"to=<{name}@.*(status=sent|stat=Sent)", since=since)
    if mta.name == "postfix":
        proc.wait_for(mta.queue_empty, 5, "an empty queue")


def kill_workers(milter):
    """All of them, and waits for the master's new ones."""
    old = milter.workers()
    for pid in old:
        os.kill(pid, SIGKILL)
    milter.wait_workers(2, without=old)


@pytest.mark.parametrize("setting", ABSENT, ids="-".join)
def test_absent(new_postfix, new_sendmail, weir, sources, milter_socket, setting):
    """Nobody listens; and when weir comes, the next session is its."""
    mta = start(setting, new_postfix, new_sendmail, milter_socket)
    since = mta.mark()
    assert play(mta, next(sources)) == expected(setting, ABSENT[setting])
    if setting == ("postfix", "quarantine"):
        held = [path for path in (mta.directory / "queue/hold").rglob("*") if path.is_file()]
        assert len(held) == 1 and not mta.log(r"to=<u1@.*status=sent")
    elif ABSENT[setting] is SERVED:
        message_is_through(mta, since)
    milter = weir('limit connections { rate = "1/1h" burst = 1 }')
    source = next(sources)
    assert play(mta, source) == SERVED
    with mta.connect(source) as client:
        assert client.greeting == 421 and client.closed()
    milter.wait_log("action=refuse .*limit=connections")


@pytest.mark.parametrize("before", KILLED)
@pytest.mark.parametrize("victim", ["weir", "workers"])
@pytest.mark.parametrize("setting", [
    ("postfix", "accept"), ("postfix", "tempfail"), ("sendmail", ""),
    ("sendmail", "T"), ("sendmail", "4")], ids="-".join)
def test_killed_in_mid_session(new_postfix, new_sendmail, weir, sources, milter_socket,
                               setting, victim, before):
    """All of weir by SIGKILL, or only its workers: the master has new ones soon,
    but no MTA asks a milter again in the session in which it lost it."""
    mta = start(setting, new_postfix, new_sendmail, milter_socket)
    since = mta.mark()
    milter = weir(MESSAGES)

    wanted = KILLED[before]
    wanted = wanted[setting[0]] if isinstance(wanted, dict) else wanted
    if setting[1] in ("accept", ""):
        wanted = SERVED
    elif setting[1] == "4":
        wanted = SERVED[:STEPS[before] + 1] + [CLOSING[before], END]
    kill = milter.kill if victim == "weir" else lambda: kill_workers(milter)
    assert play(mta, next(sources), kill, STEPS[before]) == expected(setting, wanted)
    if wanted is SERVED:
        message_is_through(mta, since)
    else:
        assert not mta.log(r"to=<u1@.*(status=sent|stat=Sent)")
    # the next session is weir's again
    if victim == "weir":
        milter = weir(MESSAGES)
    since = milter.mark()
    assert play(mta, next(sources)) == SERVED
    milter.wait_log("action=accept stage=rcpt", since=since)


@pytest.mark.parametrize("setting", [("postfix", "tempfail"), ("sendmail", "T"),
                                     ("sendmail", "4")], ids="-".join)
def test_nothing_left_to_ask(new_postfix, new_sendmail, weir, sources, milter_socket,
                             setting):
    """Only connections are limited, so weir has said all at connect: who is in
    does not notice its death, whatever the default action."""
    mta = start(setting, new_postfix, new_sendmail, milter_socket)
    since = mta.mark()
    milter = weir(OFF.replace("limit connections { enabled = false }",
                              'limit connections { rate = "9/1h" }'))
    assert play(mta, next(sources), milter.kill, STEPS["MAIL"]) == SERVED
    message_is_through(mta, since)


@pytest.mark.parametrize("in_redis", [False, True], ids=["zone", "redis"])
def test_a_dead_worker_gives_its_sessions_back(mta, weir, redis, sources, in_redis):
    """Else two deaths would lock a client with max = 2 out."""
    milter = weir("limit sessions { max = 2 }\nlimit connections { enabled = false }",
                  redis=redis if in_redis else None)
    source = next(sources)
    held = [mta.connect(source) for _ in range(2)]
    with mta.connect(source) as client:
        assert client.greeting == 421
    kill_workers(milter)

    def admitted():
        with mta.connect(source) as client:
            return client.greeting == 220

    proc.wait_for(admitted, 5, "the dead worker's sessions to be forgotten", every=0.1)
    for client in held:
        client.close()


def test_killed_and_back_at_once(mta, weir, sources, milter_socket):
    """SIGKILL leaves the socket file; the next weir takes it, and sessions that
    were open go on without a milter."""
    first = weir(MESSAGES)
    source = next(sources)
    with mta.connect(source) as old:
        old.ehlo()
        assert old.mail() == 250
        first.kill()
        assert proc.Path(proc.parse_socket(milter_socket)).exists()
        weir(OFF + 'limit messages { rate = "1/1h" burst = 1 }')
        assert play(mta, source)[:4] == SERVED[:4]
        with mta.connect(source) as new:
            new.ehlo()
            new.mail()
            assert new.rcpt() == 421
        # the old session knows no weir any more: nothing refuses it (accept)
        assert old.rcpt() == 250 and old.data() == 250 and old.quit() == 221
