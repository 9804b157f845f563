# SPDX-License-Identifier: BSD-2-Clause
"""weirctl replay and suggest, on logs that a real Postfix and a real Sendmail wrote, and on
logs that nobody would write."""

import gzip
import json
import random
import re
import subprocess
import threading
import time
from pathlib import Path

import pytest

from harness import proc
from harness.ctl import Ctl, find_weirctl, on_a_terminal
from harness.postfix import XCLIENT_SOURCE

NOBODY_EXEMPT = "exempt = {}\n"


# --- logs ---------------------------------------------------------------------------------------

class Log:
    """An MTA without a milter, and what it has logged since this began."""

    def __init__(self, mta, directory):
        self.mta = mta
        self.directory = directory
        self.since = mta.mark()
        self.sent = "status=sent" if mta.name == "postfix" else "stat=Sent"
        self.files = 0

    def lines(self):
        return self.mta.log()[self.since:]

    def deliveries(self):
        return sum(self.sent in line for line in self.lines())

    def message(self, source, sender="a@client.test", recipients=("u1@example.test",)):
        with self.mta.connect(source) as client:
            client.send_message(sender, recipients)

    def write(self, deliveries=None, lines=None):
        """The log as a file, once so many recipients have got their mail, and no session
        is left open."""
        if deliveries is not None:
            proc.wait_for(lambda: self.deliveries() >= deliveries, 10, "deliveries")
            assert self.deliveries() == deliveries
        elif lines is None:
            self.quiet()
        if self.mta.name == "postfix":
            proc.wait_for(lambda: self.count(" connect from") == self.count("disconnect from"),
                          5, "the ends of sessions")
        self.files += 1
        path = self.directory / f"{self.mta.name}{self.files}.log"
        path.write_text("\n".join(lines or self.lines()) + "\n")
        return path

    def quiet(self):
        """Until nothing has been added for a while."""
        def same():
            before = self.mta.mark()
            time.sleep(0.3)
            return self.mta.mark() == before
        proc.wait_for(same, 10, f"{self.mta.name} to fall silent")

    def count(self, text):
        return sum(text in line for line in self.lines())


@pytest.fixture(scope="module")
def _mtas():
    """One of each for all tests here: without a milter, so that nothing is refused."""
    from harness.postfix import Postfix
    from harness.sendmail import Sendmail
    started = {}

    def get(name):
        if name not in started:
            kind = {"postfix": Postfix, "sendmail": Sendmail}[name]
            started[name] = kind([]).start()
        return started[name]
    yield get
    for server in started.values():
        server.stop()


@pytest.fixture(params=["postfix", "sendmail"])
def log(request, _mtas, tmp_path):
    return Log(_mtas(request.param), tmp_path)


@pytest.fixture
def postfix_log(_mtas, tmp_path):
    return Log(_mtas("postfix"), tmp_path)


@pytest.fixture
def ctl(tmp_path):
    """ctl(conf): weirctl with this file, without Redis unless conf names one."""
    def make(conf, **options):
        path = tmp_path / "weir.conf"
        path.write_text(NOBODY_EXEMPT + conf)
        return Ctl(conf=path, **options)
    return make


def refused(result, which="now"):
    """{cause: refused} of those that refused anything."""
    return {cause["cause"]: cause["refused"] for cause in result[which]["causes"]
            if cause["refused"]}


# --- figures ------------------------------------------------------------------------------------

def test_exact_figures(log, ctl, sources):
    """40 sessions of one client and 3 of another; the limit lets 30, the candidate 10."""
    flood, other = next(sources), next(sources)
    for _ in range(40):
        log.message(flood)
    for _ in range(3):
        log.message(other)
    path = log.write(deliveries=43)
    result = ctl('limit connections { rate = "1/1d" burst = 30 }\n').json(
        "replay", str(path), "-l", "connections", "burst=10")
    assert result["log"]["sessions"] == 43
    assert result["log"]["messages"] == result["log"]["delivered"] == 43
    assert result["log"]["clients"] == 2
    assert result["now"]["connections"]["refused"] == 10
    assert result["now"]["connections"]["good"] == 10
    assert result["candidate"]["connections"]["refused"] == 30
    assert result["candidate"]["connections"]["delivered"] == 30
    assert result["candidate"]["messages"]["refused"] == 30
    assert refused(result) == {"connections": 10, "session refused": 10}
    assert refused(result, "candidate") == {"connections": 30, "session refused": 30}
    difference = result["difference"]["connections"]
    assert [difference[k]["refused"] for k in ("only_now", "only_candidate", "both")] \
        == [0, 20, 10]
    assert result["clients"] == [{
        "client": flood, "name": "", "now": 20, "candidate": 60, "good": 60}]
    assert result["limits"] == "the file"
    assert result["words"] == ["-l", "connections", "burst=10"]


def test_message_limits(log, ctl, sources):
    """Messages and recipients, per whom it may be."""
    one, two = next(sources), next(sources)
    log.message(one, "ann@a.test", ["u1@example.test", "u2@example.test", "u3@example.test"])
    log.message(one, "bob@a.test", ["u1@example.test"])
    log.message(two, "ann@a.test", ["U1@example.test", "u4@example.test"])
    path = log.write(deliveries=6)

    def count(words):
        result = ctl("").json("replay", str(path), "-l", "x", *words.split())
        assert not refused(result)
        return refused(result, "candidate").get("x", 0)
    assert count("count=messages rate=1/1d burst=1") == 1            # the second of one
    assert count("count=messages rate=1/1d burst=2") == 0
    assert count("count=messages per=sender rate=1/1d burst=1") == 1     # ann's second
    assert count("count=messages per=sender-domain rate=1/1d burst=1") == 2
    assert count("count=recipients rate=1/1d burst=3") == 1
    assert count("count=recipients rate=1/1d burst=2") == 2      # the first is cut off
    assert count("count=recipients per=recipient rate=1/1d burst=2") == 1    # u1
    assert count("count=recipients per=recipient rate=1/1d burst=3") == 0
    assert count("count=recipients per=recipient-domain rate=1/1d burst=5") == 1
    assert count("count=recipients per=all rate=1/1d burst=6") == 0
    assert count("count=messages per=user rate=1/1d burst=1") == 0       # nobody logged in


def test_what_the_mta_rejects(log, ctl, sources):
    """Recipients that the MTA rejects are no question to a milter, and cost nothing."""
    source = next(sources)
    with log.mta.connect(source) as client:
        client.ehlo()
        client.mail()
        for _ in range(3):
            assert client.rcpt("unknown@example.test").code == 550
        assert client.rcpt("u1@example.test").code == 250
        client.data()
        client.quit()
    with log.mta.connect(source) as client:     # nothing but those, and an empty session
        client.ehlo()
        client.mail()
        client.rcpt("x@elsewhere.test")
        client.quit()
    path = log.write(deliveries=1)
    result = ctl("").json("replay", str(path), "-l", "recipients", "per=address",
                          "rate=1/1d", "burst=1", "-l", "connections", "rate=1/1d", "burst=1")
    assert result["log"]["sessions"] == 2
    assert result["log"]["recipients"] == result["log"]["messages"] == 1
    assert result["log"]["rejected_recipients"] == 4
    assert refused(result, "candidate") == {"connections": 1}


def test_authenticated(postfix_log, ctl):
    """Who has logged in is good, delivered or not, and can have a limit of his own."""
    log = postfix_log
    for number in range(6):
        with log.mta.connect(XCLIENT_SOURCE, xclient={
                "ADDR": f"192.0.2.{number + 1}", "NAME": "c.example", "LOGIN": "ann"}) as client:
            assert client.ehlo().code == 250
            assert client.mail().code == 250
            assert client.rcpt().code == 250
            client.quit()
    path = log.write()
    result = ctl("").json("replay", str(path), "-l", "perlogin", "count=messages", "per=user",
                          "rate=1/1d", "burst=2")
    assert refused(result, "candidate") == {"perlogin": 4}
    messages = result["candidate"]["messages"]
    assert (messages["good"], messages["authenticated"], messages["delivered"]) == (4, 4, 0)
    # the session before XCLIENT is one of its own
    assert result["log"]["sessions"] == 12
    assert {client["name"] for client in result["clients"]} == {"c.example"}


def test_open_sessions(postfix_log, ctl, sources):
    """Six at once against four, then four more one after another."""
    log, source = postfix_log, next(sources)
    clients = [log.mta.connect(source) for _ in range(6)]
    for client in clients:
        client.quit()
        client.close()
    proc.wait_for(lambda: log.count("disconnect from") == 6, 5, "six ends")
    for _ in range(4):
        with log.mta.connect(source) as client:
            client.quit()
    path = log.write()
    result = ctl("limit sessions { max = 4 }\n").json("replay", str(path))
    assert result["log"]["sessions"] == 10
    assert result["log"]["session_ends_told"] is True
    assert refused(result) == {"sessions": 2}
    suggested = ctl("limit sessions { max = 4 }\n").json("suggest", str(path))
    sessions = next(l for l in suggested["limits"] if l["name"] == "sessions")
    assert sessions["strangers"]["max"] == 6 and "proposal" not in sessions


def test_greylisting(log, ctl, sources):
    """Switched on for a replay: the first of each network waits, the second is too early."""
    one, two = next(sources), next(sources)
    log.message(one)
    log.message(one)
    log.message(two, "b@client.test", ["u1@example.test", "u2@example.test"])
    log.message(two, "c@client.test", ["postmaster@example.test"])
    path = log.write(deliveries=5)
    plain = ctl("").json("replay", str(path))
    assert not refused(plain) and "candidate" not in plain
    result = ctl("").json("replay", str(path), "-g", "enabled=true", "delay=5m")
    assert refused(result, "candidate") == {"greylist": 3}
    assert result["candidate"]["messages"]["delivered"] == 3
    assert result["words"] == ["-g", "enabled=true", "delay=5m"]


# --- what weir-milter did -------------------------------------------------------------------------

LIMITS = ('limit connections { rate = "1/1d" burst = 6 }\n'
          'limit recipients { per = address rate = "1/1d" burst = 6 }\n'
          'limit bob { count = messages per = sender rate = "1/1d" burst = 3 }\n')


def traffic(mta, sources, resets=True):
    """Some of everything. Of a transaction that is given up logs do not name the sender."""
    clients = [next(sources) for _ in range(4)]
    order = random.Random(4)
    for number in range(40):
        source = order.choice(clients)
        with mta.connect(source) as client:
            for _ in range(order.randrange(3)):
                sender = order.choice(["ann@client.test", "bob@client.test", ""])
                rcpts = [f"u{order.randrange(9)}@example.test"
                         for _ in range(order.randrange(1, 4))]
                if client.sock is None or client.ended:
                    break
                client.transcript.clear()
                if number % 5 == 0:
                    rcpts.insert(0, "unknown@example.test")
                if client.ehlo() is None or client.mail(sender) is None:
                    break
                replies = [client.rcpt(rcpt) for rcpt in rcpts]
                if None in replies or not any(r.code == 250 for r in replies):
                    break
                if resets and number % 7 == 0:
                    client.rset()
                else:
                    client.data()
            client.quit() if not client.ended else None


def by_limit(lines):
    """{limit: decisions} of weir-milter's log lines, with those that it folded into one."""
    found = {}
    for line in lines:
        limit = re.search(r"action=(?:refuse|defer) .*limit=(\S+)", line)
        times = re.search(r"repeated=(\d+)", line)
        if limit:
            found[limit[1]] = found.get(limit[1], 0) + (int(times[1]) if times else 1)
    return found


@pytest.mark.parametrize("name", ["postfix", "sendmail"])
def test_as_weir_milter_decided(request, weir, ctl, sources, tmp_path, name):
    """weir-milter refuses; the replay of the log that the MTA wrote meanwhile refuses the same
    ones. (A client cut off by a 421 goes no further in either.)"""
    mta = request.getfixturevalue(name)
    milter = weir(LIMITS)
    log = Log(mta, tmp_path)
    traffic(mta, sources, resets=False)
    path = log.write()
    milter.stop()
    decided = by_limit(milter.log())
    assert set(decided) == {"connections", "recipients", "bob"}
    assert refused(ctl(LIMITS).json("replay", str(path))) | {"session refused": 0} \
        == decided | {"session refused": 0}


@pytest.mark.parametrize("name", ["connections", "recipients"])
def test_as_weir_milter_would_have_decided(postfix, weir, ctl, sources, tmp_path, name):
    """In mode observe weir-milter says whom it would refuse and lets them in; the replay of
    that log refuses just as many."""
    limit = next(line for line in LIMITS.splitlines() if f"limit {name} " in line)
    off = "".join(f"limit {other} {{ enabled = false }}\n"
                  for other in ("connections", "sessions", "recipients") if other != name)
    milter = weir('mode = "observe"\n' + off + limit + "\n")
    log = Log(postfix, tmp_path)
    source = next(sources)
    for number in range(12):
        log.message(source, f"s{number}@client.test",
                    ["u1@example.test", "u2@example.test"][:1 + number % 2])
    path = log.write(deliveries=18)
    milter.stop()
    decided = by_limit(milter.log())
    assert set(decided) == {name} and decided[name] >= 6
    result = refused(ctl(off + limit + "\n").json("replay", str(path)))
    if name == "connections":
        assert result[name] == decided[name]
    else:
        # it tells of each recipient; in a replay the first of a session cuts it off
        sessions = {re.search(r"session=(\S+)", line)[1] for line in milter.log(f"limit={name}")}
        assert result[name] == len(sessions)


# --- how it is read -------------------------------------------------------------------------------

def without_names(result):
    """A result without what differs between ways of reading."""
    result["log"] = {k: v for k, v in result["log"].items() if k != "files"}
    return result


def test_ways_of_reading(postfix_log, ctl, sources, tmp_path):
    """Plain, gzip, standard input, in one file or several: all the same."""
    log = postfix_log
    for _ in range(8):
        log.message(next(sources))
    log.message(source := next(sources))
    log.message(source)
    path = log.write(deliveries=10)
    weirctl = ctl('limit connections { rate = "1/1d" burst = 1 }\n')
    plain = without_names(weirctl.json("replay", str(path)))
    assert refused(plain) == {"connections": 1, "session refused": 1}
    zipped = tmp_path / "mail.log.1.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    assert without_names(weirctl.json("replay", str(zipped))) == plain
    for data in (path.read_bytes(), zipped.read_bytes()):
        done = subprocess.run([*weirctl.argv, "-j", "replay", "-"], input=data,
                              capture_output=True, check=True, timeout=10)
        assert done.stderr == b""
        assert without_names(json.loads(done.stdout)) == plain
    lines = path.read_text().splitlines(keepends=True)
    half = len(lines) // 2
    first, second = tmp_path / "a.gz", tmp_path / "b"
    first.write_bytes(gzip.compress("".join(lines[:half]).encode()))
    second.write_text("".join(lines[half:]))
    assert without_names(weirctl.json("replay", str(first), str(second))) == plain
    # the same time in the other format, of another zone
    rfc = re.sub(r"(?m)^(\w+ +\d+ \d\d:\d\d:\d\d) ",
                 lambda m: time.strftime("%Y-%m-%dT%H:%M:%S+00:00 ", time.gmtime(time.mktime(
                     time.strptime(f"{time.localtime().tm_year} {m[1]}", "%Y %b %d %H:%M:%S")))),
                 path.read_text())
    assert rfc != path.read_text()
    second.write_text(rfc)
    other = without_names(weirctl.json("replay", str(second)))
    assert refused(other) == refused(plain)
    assert other["log"]["first_seconds"] == plain["log"]["first_seconds"]


def test_interleaved_hosts(postfix_log, ctl, sources):
    """The same process and queue ids on another host are other sessions and messages."""
    log, source = postfix_log, next(sources)
    for _ in range(3):
        log.message(source, recipients=["u1@example.test", "u2@example.test"])
    lines = log.lines()
    log.write(deliveries=6)
    both = [copy for line in log.lines() for copy in (line, line.replace(" mx ", " mx2 ", 1))]
    path = log.write(lines=both)
    result = ctl("").json("replay", str(path), "-l", "connections", "rate=1/1d", "burst=2")
    assert lines and result["log"]["sessions"] == result["log"]["messages"] == 6
    assert result["log"]["recipients"] == 12 and result["log"]["clients"] == 1
    assert refused(result, "candidate")["connections"] == 4


def test_people(log, ctl, sources):
    """What a person reads has the same figures, and fits the terminal."""
    source = next(sources)
    for _ in range(5):
        log.message(source)
    path = log.write(deliveries=5)
    weirctl = ctl('limit connections { rate = "1/1d" burst = 3 }\n'
                  'limit helos { count = messages per = helo rate = "1/1d" }\n')
    text = weirctl("replay", str(path)).out
    assert re.search(r"^connections +2 +2 +2 +0 +0$", text, re.M)
    assert re.search(r"^messages +2 +2 +2 +0 +0$", text, re.M)
    assert re.search(rf"^{source} +4 +4", text, re.M)
    assert "1 clients, 5 connections, 5 messages (5 delivered)" in text
    assert "limits per helo are not replayed" in text
    text = weirctl("replay", str(path), "-l", "connections", "burst=1").out
    assert re.search(r"^connections +2 +2 +4 +4$", text, re.M)
    assert re.search(r"^connections +0 +0 +2 +2 +2 +2$", text, re.M)
    assert "candidate: -l connections burst=1" in text
    assert max(map(len, text.splitlines())) <= 80


# --- Redis ----------------------------------------------------------------------------------------

def test_limits_in_redis(postfix_log, ctl, redis, new_redis, sources):
    """With Redis its limits and exceptions; without it the file's, and it says so."""
    log = postfix_log
    source, friend = next(sources), next(sources)
    for _ in range(6):
        log.message(source)
        log.message(friend)
    path = log.write(deliveries=12)
    other = new_redis()
    weirctl = ctl('limit connections { rate = "1/1d" burst = 5 }\n'
                  f'redis {{ url = "{other.url}" }}\n')
    weirctl("-y limit set connections burst=2")
    weirctl(f"exempt {friend}")
    result = weirctl.json("replay", str(path))
    assert refused(result) == {"connections": 4, "session refused": 4}
    assert (result["limits"], result["generation"]) == ("redis and the file", "2")
    # nothing of it has been left there
    assert not other.cmd("KEYS", "weir:address:*")
    other.stop()
    done = weirctl("replay", str(path))
    assert "note: redis at" in done.err and "these are the limits of the file" in done.err
    assert re.search(r"^ +connections +2 ", done.out, re.M)
    # the command line's Redis counts as configured
    assert "note: redis at" in ctl("")("-r", other.url, "replay", str(path)).err
    assert ctl("")("replay", str(path)).err == ""


def test_wrong_usage(ctl, tmp_path):
    weirctl = ctl("")
    log = tmp_path / "some.log"
    log.write_text("Nov 23 21:14:57 mx postfix/smtpd[1]: connect from a[192.0.2.7]\n")
    for words in ("replay", "suggest", "replay -l connections burst=1",
                  f"replay {log} -x", f"suggest {log} -l connections burst=1"):
        assert "cannot make sense" in weirctl(words, status=2).err
    for words, says in (
            (f"{log} -l", "-l wants the name of a limit"),
            (f"{log} -l connections", "-l connections wants KEY=VALUE"),
            (f"{log} -l Connections burst=1", "-l wants the name of a limit"),
            (f"{log} -l connections burst=0", "burst=0: burst is a whole number"),
            (f"{log} -l connections colour=red", "colour=red: unknown word"),
            (f"{log} -l new rate=1/1m", "new: says no count"),
            (f"{log} -l connections count=sessions", "a limit of sessions needs max"),
            (f"{log} -g", "-g wants KEY=VALUE"),
            (f"{log} -g colour=red", "greylisting has no such word"),
            (f"{log} -g delay=never", "delay=never: must be a duration"),
            (f"{log} -g enabled=true delay=1d window=1h", "window")):
        assert says in weirctl.refused(f"replay {words}", says=says, status=2).err
    weirctl.refused("replay /nonexistent", says="/nonexistent: No such file")
    weirctl.refused("suggest /tmp", says="/tmp: is a directory")
    log.write_text("nothing\nof\ninterest\n")
    weirctl.refused("replay", str(log), says="no line of Postfix or Sendmail")
    weirctl.refused("suggest", str(log), says="no line of Postfix or Sendmail")


# --- suggest --------------------------------------------------------------------------------------

def test_suggest(log, ctl, redis, sources):
    """The distribution of what clients did, and a line that can be pasted."""
    busy = next(sources)
    for _ in range(17):
        log.message(busy)
    quiet = [next(sources) for _ in range(5)]
    for source in quiet:
        log.message(source, recipients=["u1@example.test", "u2@example.test"])
    with log.mta.connect(next(sources)) as client:      # nothing comes of it
        client.ehlo()
        client.mail()
        client.rcpt("x@elsewhere.test")
        client.quit()
    path = log.write(deliveries=27)
    conf = ('limit connections { rate = "60/1m" burst = 10 }\n'
            'limit recipients { per = address rate = "300/10m" }\n'
            'limit whole { count = messages per = all rate = "9/1h" }\n'
            'limit off { count = messages rate = "9/1h" enabled = false }\n')
    weirctl = ctl(conf)
    limits = {l["name"]: l for l in weirctl.json("suggest", str(path))["limits"]}
    assert set(limits) == {"connections", "sessions", "recipients", "whole"}
    connections = limits["connections"]
    assert connections["known"]["clients"] == 0
    assert connections["strangers"] == {"clients": 7, "p50": 1, "p99": 17, "p999": 17, "max": 17}
    assert connections["good"]["clients"] == 6
    assert [(row["from"], row["known"], row["strangers"]) for row in connections["histogram"]] \
        == [(1, 0, 6), (2, 0, 0), (4, 0, 0), (8, 0, 0), (16, 0, 1)]
    proposal = connections["proposal"]
    assert (proposal["need"], proposal["value"]) == (17, 22)
    assert proposal["words"] == "rate=22/1m burst=22"
    assert (proposal["good_above"], proposal["others_above"]) == (0, 0)
    assert limits["recipients"]["strangers"]["clients"] == 6
    assert limits["recipients"]["strangers"]["p50"] == 2
    assert limits["whole"]["proposal"]["words"] == "rate=44/1h burst=44"
    assert "twice the most" in limits["whole"]["proposal"]["reason"]
    # the candidate that it is touches none of them
    line = f"-l connections {proposal['words']}".split()
    assert "connections" not in refused(weirctl.json("replay", str(path), *line), "candidate")
    # and the line is a command
    text = weirctl("suggest", str(path)).out
    assert max(map(len, text.splitlines())) <= 80
    pasted = re.search(r"^weirctl (limit set connections .*)$", text, re.M)[1]
    assert "done" in Ctl(redis.url, "-y", conf=None)(pasted).out
    assert "22/1m burst 22" in Ctl(redis.url)("limit").out
    assert "a quarter above what 999 of 1000 good senders did in any 1m (17)" in text
    assert "good senders that were above it: 0 of 6" in text


def test_suggest_draws(postfix_log, ctl, sources):
    """Blocks where the terminal has them."""
    for _ in range(3):
        postfix_log.message(next(sources))
    path = postfix_log.write(deliveries=3)
    assert "░" in ctl("")("suggest", str(path)).out
    plain = ctl("", env={"LC_ALL": "C"})("suggest", str(path)).out
    assert plain.isascii() and re.search(r"^ +1 :+ 0 \+ 3", plain, re.M)
    assert "░" not in json.dumps(ctl("").json("suggest", str(path)), ensure_ascii=False)


# --- the bar --------------------------------------------------------------------------------------

def test_progress(ctl, tmp_path):
    """On a terminal only, and gone at the end."""
    path = tmp_path / "big.log"
    line = "Nov 23 21:14:57 mx postfix/smtpd[1]: {} from a[192.0.2.7]\n"
    pair = line.format("connect") + line.format("disconnect")
    path.write_text(pair * 100000)
    weirctl = ctl("")
    shown, status = on_a_terminal([*weirctl.argv, "replay", str(path)], "", weirctl.env)
    assert status == 0
    assert re.search(r"\r\[#*\.+\] +\d+%", shown), shown
    assert shown.rindex("\r ") < shown.index("100000 connections")
    done = weirctl("replay", str(path))
    assert done.err == "" and "%" not in done.out


# --- hostile logs ---------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def real_lines(_mtas, tmp_path_factory):
    """Lines of both, of all kinds."""
    lines = []
    numbers = iter(range(1, 200))
    for name in ("postfix", "sendmail"):
        log = Log(_mtas(name), tmp_path_factory.mktemp(name))
        traffic(log.mta, (f"127.200.{n}.9" for n in numbers))
        log.quiet()
        lines += log.lines()
    assert len(lines) > 300
    return lines


BOTH = [("replay", "-g", "enabled=true", "-l", "connections", "burst=1"), ("suggest",)]


@pytest.mark.parametrize("words", BOTH, ids=["replay", "suggest"])
def test_hostile_logs(ctl, real_lines, tmp_path, words):
    """Whatever stands in it."""
    rnd = random.Random(7)
    weirctl = ctl('limit connections { rate = "10/1m" }\n'
                  'limit senders { count = messages per = sender rate = "10/1m" }\n')
    path = tmp_path / "hostile.log"
    words = (words[0], *words[1:])

    def run(data):
        path.write_bytes(data)
        order = (words[0], str(path), *words[1:])
        done = weirctl.run(*order, timeout=30)
        assert done.status in (0, 1), done
        if done.status == 1:
            assert "no line of Postfix or Sendmail" in done.err and done.out == ""
        return done
    whole = "\n".join(real_lines).encode()
    assert run(whole).status == 0
    # lines that are cut, anywhere
    run(b"\n".join(line.encode()[:rnd.randrange(len(line) + 1)] for line in real_lines * 3))
    # bytes that are turned, dropped and doubled
    for rate in (0.001, 0.01, 0.1):
        data = bytearray(whole)
        for _ in range(int(len(data) * rate)):
            at = rnd.randrange(len(data))
            data[at] = rnd.randrange(256)
        run(bytes(data))
    # lines in any order, and some of them often
    mixed = real_lines * 2
    rnd.shuffle(mixed)
    run("\n".join(mixed).encode())
    # no text at all
    assert run(b"").status == 1
    assert run(bytes(rnd.randrange(256) for _ in range(300000))).status == 1
    assert run(b"\0" * 300000).status == 1
    assert run(b"\n" * 300000).status == 1
    assert run(b"\x1f\x8b" + bytes(rnd.randrange(256) for _ in range(5000))).status == 1
    # lines of a megabyte: alone, and among real ones
    head = b"Nov 23 21:14:57 mx postfix/smtpd[7]: "
    for middle in (b"A" * 2**20, b"connect from " + b"a" * 2**20 + b"[192.0.2.7]",
                   b"AAAAA: client=" + b"[" * 2**20, b"<" * 2**20):
        assert run(whole + b"\n" + head + middle + b"\n" + whole).status == 0
    sendmail = b"Nov 23 21:14:57 mx sm-mta[7]: AAAAAAAAAAAAAA: "
    for middle in (b"to=" + b"<a>," * 2**18 + b" stat=Sent", b"to=" + b"," * 2**20,
                   b"from=<" + b"\\" * 2**20, b"to=" + b"\"" * 2**20):
        run(sendmail + middle)
    # a truncated gzip gives what is in it, and says so
    zipped = gzip.compress(whole * 20)
    done = run(zipped[:len(zipped) // 2])
    assert done.status == 0
    assert "not all of it could be read" in done.out
    # names that would harm a terminal, or a table
    evil = ("Nov 23 21:14:57 mx postfix/smtpd[7]: connect from \x1b[31m\x07\r{}%s%n[192.0.2.7]\n"
            * 9).encode()
    assert run(evil).status == 0


def test_time_goes_back(ctl, real_lines, tmp_path):
    """Files in the wrong order, a clock that was set back or far forward: all sessions are
    there, none is in a bucket that never drains, and it is said."""
    line = "{} mx postfix/smtpd[7]: {} from a[192.0.2.7]\n"
    conf = 'limit connections { rate = "1/10s" burst = 2 }\n'

    def sessions(start, count, step):
        return "".join(
            line.format(time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(start + n * step)), what)
            for n in range(count) for what in ("connect", "disconnect"))
    path = tmp_path / "back.log"
    now = 1795468497
    path.write_text(sessions(now, 100, 10) + sessions(now - 86400, 100, 10)
                    + sessions(now + 10**9, 100, 10) + sessions(now, 100, 10))
    result = ctl(conf).json("replay", str(path))
    assert result["log"]["sessions"] == 400
    assert result["log"]["clock_set_back"] == 2
    assert result["now"]["connections"]["refused"] <= 3
    assert "the clock was set back 2 times" in ctl(conf)("replay", str(path)).out
    # backwards line by line
    path.write_text("".join(reversed(sessions(now, 500, 10).splitlines(keepends=True))))
    result = ctl(conf).json("replay", str(path))
    assert result["log"]["clock_set_back"] > 50


# --- memory ---------------------------------------------------------------------------------------

def stream(pipe, megabytes):
    """A log as hard as it can be made: always new clients, sessions of which many never end,
    queue ids that are never heard of again, recipients by the dozen."""
    size = number = 0
    with pipe:
        while size < megabytes << 20:
            chunk = []
            for _ in range(2000):
                number += 1
                when = time.strftime("%b %e %H:%M:%S", time.gmtime(1795000000 + number // 500))
                address = f"{20 + (number >> 24)}.{number >> 16 & 255}.{number >> 8 & 255}." \
                          f"{number & 255}"
                client = f"h{number}.example.net[{address}]"
                smtpd = f"{when} mx postfix/smtpd[{number}]:"
                chunk += [
                    f"{smtpd} connect from {client}",
                    f"{smtpd} {number:010X}: client={client}",
                    f"{when} mx postfix/qmgr[1]: {number:010X}: from=<s{number}@example.net>, "
                    "size=99, nrcpt=12 (queue active)",
                    *(f"{when} mx postfix/lmtp[2]: {number:010X}: to=<u{number}.{n}@example.test>,"
                      " relay=x, status=deferred (no)" for n in range(3))]
                if number % 2:
                    chunk.append(f"{smtpd} disconnect from {client} rcpt=12 commands=15")
            data = ("\n".join(chunk) + "\n").encode()
            size += len(data)
            try:
                pipe.write(data)
            except BrokenPipeError:
                return


def high_water(pid):
    """The most memory that a process has had, in kB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int((re.search(r"VmHWM:\s+(\d+)", status) or [0, 0])[1])


@pytest.mark.parametrize("words", BOTH, ids=["replay", "suggest"])
def test_memory_is_bounded(ctl, tmp_path, words):
    """100 MB through standard input."""
    weirctl = ctl("zone-size = 8M\n")
    out = tmp_path / "out"
    with out.open("wb") as file:
        child = subprocess.Popen([*weirctl.argv, "-j", words[0], "-", *words[1:]],
                                 stdin=subprocess.PIPE, stdout=file)
    feeder = threading.Thread(target=stream, args=(child.stdin, 100))
    feeder.start()
    peak = 0
    while child.poll() is None:
        peak = max(peak, high_water(child.pid))
        time.sleep(0.01)
    feeder.join()
    assert child.returncode == 0
    result = json.loads(out.read_text())
    assert result["log"]["bytes"] >= 100 << 20
    assert result["log"]["sessions"] == result["log"]["messages"] > 130000
    assert 20 << 10 < peak < 170 << 10, f"{peak} kB"
