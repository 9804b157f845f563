# SPDX-License-Identifier: BSD-2-Clause
"""Names that want to be something else: a line of the log, a format, a key of Redis or a
pattern of keys. Through real MTAs as far as these let them through, and raw where they do
not: the log has one true line a decision, keys have one form, and the limits in Redis are
what they were. (test_hostile.py and test_keys.py: more of them, raw.)"""

import base64
import re

import pytest

import load
import rawmilter
from harness.auth import PASSWORD
from rawmilter import RawMilter
from test_limits import OFF

PERS = ("helo", "user", "sender", "sender-domain", "recipient", "recipient-domain")
CONF = OFF + "".join(f'limit {per} {{ count = recipients per = {per} action = log '
                     'rate = "100/1h" burst = 100 }\n' for per in PERS)
LIMITS = {"connections": "rate=1000/1m by=test", "x{y}*": "ignored"}

NAMES = {
    "newline": "a\nweir-milter: NOQUEUE: action=refuse code=421 x=y",
    "carriage return": "a\r421 4.7.0 forged",
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "format": "%s%n%x%p%.9999d",
    "UTF-8": "j\u00f6rg\u202e\u2028",
    "blanks": "a action=refuse code=421 limit=x",
    "star": "*", "class": "[a-z]", "question": "a?c", "tag": "{tag}", "two tags": "}{all}{",
    "key": "weir:limits", "key of all": "weir:all:{all}", "blank key": "weir:limits\tx",
    "quotes": "\"'`$(reboot)\\", "dots": "../../etc/passwd", "NUL": "a\0forged=1",
    "900": "x" * 900, "very long": "x" * 64000,
}


@pytest.fixture
def guarded(redis):
    """With limits whose fields are such names, too."""
    for field, words in LIMITS.items():
        redis.cmd("HSET", "weir:limits", field, words)
    redis.cmd("INCR", "weir:generation")
    yield redis
    assert redis.hash("weir:limits") == LIMITS and redis.cmd("GET", "weir:generation") == "1"
    for key in redis.cmd("KEYS", "*"):
        assert re.fullmatch(r"weir:(limits|generation|nodes|(node|probe):[\w.:-]+|(open:)?[a-z-]+:"
                            r"\{[!-z|~]+\}(:[0-9a-f.:/]+)?)", key), key


def true_log(milter, client):
    """The fields of the lines about this client; nothing else is there that pretends."""
    load.settle(milter)
    found = []
    for line in milter.log():
        assert line.startswith("weir-milter: ") and line.isascii() and line.isprintable(), line
        assert len(line) < 2000
        if f" client={client} " not in line:
            continue
        words = line.split(": ", 2)[2].split(" ")
        assert all(re.fullmatch(r"[a-z]+=[^=]*", word) for word in words), line
        fields = dict(word.split("=", 1) for word in words)
        assert len(fields) == len(words) and fields["client"] == client
        found.append(fields)
    return found


@pytest.mark.parametrize("name", NAMES)
def test_through_an_mta(mta, guarded, weir, sources, name):
    """As HELO, login, sender and recipient, quoted and not."""
    milter, source, text = weir(CONF, redis=guarded), next(sources), NAMES[name]
    login = base64.b64encode(f"\0{text.replace(chr(0), '')[:200]}\0{PASSWORD}".encode()).decode()
    quoted = text.replace("\\", "\\\\").replace('"', '\\"')
    lines = [f"EHLO {text}", f"HELO {text}", "EHLO client.test", f"AUTH PLAIN {login}",
             *(f"MAIL FROM:<{sender}>" for sender in
               (text, f"{text}@x.test", f'"{quoted}"@x.test', f"a@{text}", "a@client.test")),
             *(f"RCPT TO:<{rcpt}>" for rcpt in
               (text, f"{text}@example.test", f'"{quoted}"@example.test', f"u@{text}",
                "u1@example.test")), "RSET", f"MAIL FROM:<{text}", f"VRFY {text}"]
    with mta.connect(source) as client:
        for line in lines:
            # a newline in it begins another command
            for part in line.split("\n"):
                client.send(part)
                reply = client.read(10)
                if reply is None:
                    break
                assert 200 <= reply.code < 600
    fields = true_log(milter, source)
    if fields:
        assert {f["action"] for f in fields} <= {"accept"}
        assert fields[0]["stage"] == "connect" and len([f for f in fields
                                                        if f["stage"] == "connect"]) == 1
    # who behaves is served
    with mta.connect(next(sources)) as client:
        client.ehlo()
        assert client.mail() == 250 and client.rcpt() == 250 and client.quit() == 221


@pytest.mark.parametrize("name", NAMES)
def test_macros(guarded, weir, milter_socket, name):
    """What no MTA lets a client choose, as if one did: client names, logins, daemons,
    queue ids; and the envelope without an MTA's checks."""
    milter = weir(CONF + 'load { sessions = "5000 4000" }\n', redis=guarded)
    text = NAMES[name].encode()
    short = text[:15000]        # four of them in a packet
    with RawMilter(milter_socket) as session:
        session.negotiate()
        session.macro("C", {"{daemon_name}": short, "{daemon_port}": short,
                            "{client_resolve}": short, "i": short})
        assert session.command("C", text.replace(b"\0", b"") + b"\0" + b"4\x9c\x40192.0.2.1\0"
                               ).code == rawmilter.CONTINUE
        session.helo(text)
        session.macro("M", {"{auth_authen}": text})
        assert session.mail(b"<" + text + b">").code == rawmilter.CONTINUE
        session.macro("R", {"i": short, "{rcpt_mailer}": short, "{rcpt_host}": short})
        assert session.rcpt(b"<" + text + b">").code == rawmilter.CONTINUE
        assert session.quit()
    fields = true_log(milter, "192.0.2.1")
    assert [(f["stage"], f["action"]) for f in fields] == [("connect", "accept"),
                                                          ("rcpt", "accept")]
