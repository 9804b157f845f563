# SPDX-License-Identifier: BSD-2-Clause
"""weirctl doctor: one broken set-up a finding, and nothing to say of a good one; and what it
shows of real SMTP. weirctl attach is in test_attach.py."""

import json
import os
import re
import shutil
import socket
import socketserver
import threading
import time

import pytest

from harness import proc
from harness.ctl import Ctl
from harness.postfix import Postfix, TREE
from harness.redis import Redis
from harness.sendmail import Sendmail
from harness.weir import Weir

ENV = {"PATH": f"{TREE}/usr/sbin:{os.environ['PATH']}",
       "LD_LIBRARY_PATH": f"{TREE}/usr/lib/postfix"}
GOOD_REDIS = ["maxmemory 64mb", "maxmemory-policy volatile-ttl", "appendonly yes"]
USER = 'user = "nobody"\n'


class Machine:
    """A host on which nothing is wrong. Neither MTA runs: the doctor reads what they would."""

    def __init__(self):
        self.redis = Redis(config=GOOD_REDIS).start()
        self.socket = f"unix:{proc.make_run_directory('doctor')}/milter.sock"
        self.weir = Weir(USER, socket=self.socket, redis=self.redis).start()
        self.postfix = Postfix([self.socket], options={"smtpd_milter_maps": ""})
        self.sendmail = Sendmail([self.socket])

    def stop(self):
        self.weir.stop()
        self.redis.stop()


@pytest.fixture(scope="module")
def machine():
    host = Machine()
    yield host
    host.stop()


class Case:
    """A copy of that host's files, to be broken: edit(), and then doctor()."""

    def __init__(self, machine, directory, mta):
        self.machine, self.mta = machine, mta
        self.dir = directory
        self.conf = directory / "weir.conf"
        shutil.copy(machine.weir.conf, self.conf)
        self.conf.chmod(0o600)
        for name, source in (("main.cf", machine.postfix.directory / "etc"),
                             ("master.cf", machine.postfix.directory / "etc"),
                             ("dynamicmaps.cf", machine.postfix.directory / "etc"),
                             ("sendmail.cf", machine.sendmail.directory),
                             ("sendmail.mc", machine.sendmail.directory)):
            shutil.copy(source / name, directory / name)
        self.edit("main.cf", r"(?m)^(meta|config)_directory = .*", lambda m:
                  f"{m[1]}_directory = {directory}")

    def edit(self, name, old, new):
        path = self.dir / name
        text, count = re.subn(old, new, path.read_text())
        assert count, (name, old)
        path.write_text(text)
        os.utime(path, (1e9, 1e9))      # or postconf waits for it to become older

    def add(self, name, text):
        self.edit(name, r"\Z", text.replace("\\", r"\\") + "\n")

    def run(self, *words, command="doctor"):
        return Ctl(conf=self.conf, env=ENV).run(
            "-j", command, self.mta, "-C", str(self.dir), *words, timeout=30)

    def doctor(self, *words):
        """{check: finding} of what is wrong, and of all that is said."""
        result = self.run(*words)
        report = json.loads(result.out)
        wrong = {f["check"]: f for f in report["findings"] if f["level"] == "wrong"}
        assert result.status == (1 if wrong else 0), result
        for finding in report["findings"]:
            assert finding["what"] and finding["why"] and \
                (finding["write"] or finding["level"] == "note"), finding
        return wrong, report


@pytest.fixture
def case(machine, request):
    # where everybody may look, as in /etc
    directory = proc.make_run_directory("case")
    yield Case(machine, directory, getattr(request, "param", "postfix"))
    shutil.rmtree(directory)


both = pytest.mark.parametrize("case", ["postfix", "sendmail"], indirect=True)


@both
def test_nothing_wrong(case):
    wrong, report = case.doctor()
    assert not wrong and not report["findings"]
    assert len(report["checks"]) >= 20
    text = Ctl(conf=case.conf, env=ENV)("doctor", case.mta, "-C", str(case.dir))
    assert text.lines[-1] == "nothing is wrong"
    assert all(line.startswith("ok ") for line in text.lines[:-1])
    assert len(text.lines) - 1 == len(report["checks"])


# --- one broken thing each ---------------------------------------------------------------------

def main_cf(old, new):
    return lambda c: c.edit("main.cf", old, new)


def main_add(text):
    return lambda c: c.add("main.cf", text)


def master_add(text):
    return lambda c: c.add("master.cf", text)


def chrooted(case):
    case.edit("master.cf", r"(?m)^(127.0.0.1:\d+\s+inet n -) n", r"\1 y")


def other_socket(path, mode=0o666):
    """weir.conf and main.cf name a socket that somebody who is no milter has."""
    def change(case):
        where = case.machine.socket.removeprefix("unix:")
        target = case.dir / path
        target.parent.mkdir(exist_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(target))
        target.chmod(mode)
        case.listener = listener
        for name in ("weir.conf", "main.cf"):
            case.edit(name, re.escape(where), str(target))
    return change


FILTERED = "content_filter = scan:[127.0.0.1]:10025"
BACK = """127.0.0.1:10026 inet n - n - - smtpd
  -o content_filter=
  -o mynetworks=127.0.0.0/8"""

POSTFIX = {
    "not attached": (main_cf(r"(?s)\nsmtpd_milters = \{.*?\}\n", "\n"), "postfix-attached",
                     "smtpd_milters = { unix:"),
    "behind another": (main_cf(r"smtpd_milters = ", "smtpd_milters = inet:127.0.0.1:8891, "),
                       "postfix-order", "weir first"),
    "tempfail": (main_cf("default_action=accept", "default_action=tempfail"), "postfix-action",
                 "default_action=accept"),
    "no action": (main_cf(r",\s+default_action=accept", ""), "postfix-action",
                  "default_action=accept"),
    "reject": (main_cf("default_action=accept", "default_action=reject"), "postfix-action",
               "default_action=accept"),
    "too short": (main_cf("command_timeout=5s", "command_timeout=1s"), "postfix-timeouts",
                  "command_timeout=5s"),
    "too long": (main_cf("connect_timeout=5s", "connect_timeout=5m"), "postfix-timeouts",
                 "connect_timeout=5s"),
    "old protocol": (main_add("milter_protocol = 2"), "postfix-protocol", "milter_protocol = 6"),
    "local mail": (main_add("non_smtpd_milters = $smtpd_milters"), "postfix-local",
                   "non_smtpd_milters ="),
    "filter": (lambda c: (c.add("main.cf", FILTERED), c.add("master.cf", BACK)),
               "postfix-reinjection", "-P '127.0.0.1:10026/inet/smtpd_milters='"),
    "chroot": (chrooted, "postfix-socket", "weir/milter.sock"),
    "sendmail's way": (lambda c: (c.edit("main.cf", r"(?m)(?<=^smtpd_milters = \{ )[^,]*",
                                         "inet:8890@127.0.0.1"),
                                  c.edit("weir.conf", r"unix:[^\"]*milter.sock",
                                         "inet:8890@127.0.0.1")),
                       "postfix-socket", "inet:127.0.0.1:8890"),
    "misspelt": (main_add("smtpd_miltres = inet:127.0.0.1:8890"), "postfix-words", "right name"),
}


@pytest.mark.parametrize("change, check, write", POSTFIX.values(), ids=POSTFIX)
def test_postfix(case, change, check, write):
    change(case)
    wrong, _ = case.doctor()
    wrong.pop("milter", None)           # where the socket was changed, nobody listens
    assert list(wrong) == [check]
    assert write in wrong[check]["write"], wrong[check]


def test_filter_that_is_told(case):
    """The same filter, with the line that the finding asks for."""
    case.add("main.cf", FILTERED)
    case.add("master.cf", BACK + "\n  -o smtpd_milters=")
    assert case.doctor()[0] == {}


@pytest.mark.parametrize("path, mode, says, write", [
    ("open/s", 0o600, "nobody may not write to ", 'socket-group = "nogroup"'),
    ("closed/s", 0o666, "nobody may not enter ", "chmod g+x"),
    ("open/s", 0o666, "Connection refused", "start weir-milter"),
])
def test_way_to_the_socket(case, path, mode, says, write):
    other_socket(path, mode)(case)
    (case.dir / "closed").mkdir(exist_ok=True)
    (case.dir / "closed").chmod(0o700)
    wrong, _ = case.doctor()
    assert {"milter", "postfix-socket"} == set(wrong)      # nobody speaks milter there
    assert says in wrong["postfix-socket"]["what"]
    assert write in wrong["postfix-socket"]["write"]
    case.listener.close()


def test_notes_of_postfix(case):
    case.edit("main.cf", r"(?m)^smtpd_milter_maps =.*", "smtpd_milter_maps = inline:{127.0.0.9=DISABLE}")
    case.add("master.cf", "submission inet n - n - - smtpd\n  -o smtpd_milters=")
    wrong, report = case.doctor()
    assert not wrong
    assert [f["check"] for f in report["findings"]] == ["postfix-maps", "postfix-listeners"]
    assert "submission/inet" in report["findings"][1]["write"]


SENDMAIL = {
    "not attached": (r"(?m)^Xweir.*\n", "", {"sendmail-attached"}),
    "not asked": (r"InputMailFilters=weir", "InputMailFilters=", {"sendmail-used"}),
    "behind another": (r"InputMailFilters=weir", "InputMailFilters=dkim,weir", {"sendmail-order"}),
    "F=T": (r"(?m)^(Xweir.*?), T=", r"\1, F=T, T=", {"sendmail-flag"}),
    "F=R": (r"(?m)^(Xweir.*?), T=", r"\1, F=R, T=", {"sendmail-flag"}),
    "too short": (r"R:8s", "R:1s", {"sendmail-timeouts"}),
    "default connect": (r"C:5s;", "", {"sendmail-timeouts"}),
}


@pytest.mark.parametrize("case", ["sendmail"], indirect=True)
@pytest.mark.parametrize("old, new, checks", SENDMAIL.values(), ids=SENDMAIL)
def test_sendmail(case, old, new, checks):
    case.edit("sendmail.cf", old, new)
    assert set(case.doctor()[0]) == checks


@pytest.mark.parametrize("case", ["sendmail"], indirect=True)
def test_sendmail_socket(case):
    """Below a directory that everybody may write to; and over inet."""
    path = f"/tmp/weir-doctor-{os.getpid()}/s"
    for where, checks in ((f"unix:{path}", {"milter", "sendmail-socket"}),
                          ("inet:18890@127.0.0.1", {"milter", "sendmail-inet"})):
        case.edit("weir.conf", r'(?<=socket = ")[^"]*', where)
        case.edit("sendmail.cf", r"(?<=S=)[^,]*", where.replace("unix:", "local:"))
        assert set(case.doctor()[0]) == checks


def test_no_mta(case):
    for name in ("main.cf", "sendmail.cf"):
        (case.dir / name).unlink()
    assert set(case.doctor()[0]) == {"mta"}


def test_configuration(case):
    case.add("weir.conf", "sokcet = x")
    wrong, _ = case.doctor()
    assert "sokcet" in wrong["configuration"]["what"]
    assert "weir-milter -n" in wrong["configuration"]["write"]


def test_observe_is_a_note(case):
    case.add("weir.conf", "mode = observe")
    wrong, report = case.doctor()
    assert not wrong and [f["check"] for f in report["findings"]] == ["mode"]


def test_without_redis(case):
    case.edit("weir.conf", r"(?m)^redis .*\n", "")
    wrong, report = case.doctor()
    assert not wrong and [f["check"] for f in report["findings"]] == ["mode"]
    assert "redis-answers" not in [c["check"] for c in report["checks"]]


def test_secrets(case, machine):
    machine.redis.cmd("ACL", "SETUSER", "doctor", "on", ">word", "~*", "+@all")
    case.edit("weir.conf", "redis://", "redis://doctor:word@")
    case.conf.chmod(0o644)
    assert set(case.doctor()[0]) == {"secrets"}
    case.conf.chmod(0o640)
    assert case.doctor()[0] == {}


@pytest.mark.parametrize("options, checks", [
    ({"conf": ""}, {"rights"}),
    ({"conf": USER, "prefix": ["prlimit", "--nofile=200:200"]}, {"descriptors"})])
def test_process(case, machine, options, checks):
    where = f"unix:{proc.make_run_directory('doctor')}/milter.sock"
    case.edit("weir.conf", re.escape(machine.socket), where)
    case.edit("main.cf", re.escape(machine.socket), where)
    assert set(case.doctor()[0]) == {"milter", "postfix-socket"}       # not there yet
    other = Weir(socket=where, redis=machine.redis, **options).start()
    try:
        assert set(case.doctor()[0]) == checks
    finally:
        other.stop()


# --- Redis -------------------------------------------------------------------------------------

def config(name, value):
    return lambda r: r.cmd("CONFIG", "SET", name, value)


REDIS = {
    "unbounded": ([("maxmemory", "0")], "redis-memory"),
    "noeviction": ([("maxmemory-policy", "noeviction")], "redis-memory"),
    "allkeys": ([("maxmemory-policy", "allkeys-lru")], "redis-memory"),
    "not kept": ([("appendonly", "no"), ("save", "")], "redis-persistence"),
}


@pytest.mark.parametrize("settings, check", REDIS.values(), ids=REDIS)
def test_redis(case, machine, settings, check):
    case.add("weir.conf", "greylist { enabled = true }")
    before = [(n, machine.redis.cmd("CONFIG", "GET", n)[1]) for n, _ in settings]
    try:
        for name, value in settings:
            machine.redis.cmd("CONFIG", "SET", name, value)
        assert set(case.doctor()[0]) == {check}
    finally:
        for name, value in before:
            machine.redis.cmd("CONFIG", "SET", name, value)


def test_redis_full(case, new_redis):
    redis = new_redis(config=GOOD_REDIS)
    used = int(re.search(r"used_memory:(\d+)", redis.cmd("INFO", "memory"))[1])
    redis.cmd("CONFIG", "SET", "maxmemory", int(used * 1.02))
    case.edit("weir.conf", r"redis://[^\"]*", redis.url)
    assert set(case.doctor()[0]) == {"redis-memory"}


def test_redis_replica(case, new_redis):
    redis = new_redis(config=GOOD_REDIS)
    redis.cmd("REPLICAOF", "127.0.0.1", 1)
    case.edit("weir.conf", r"redis://[^\"]*", redis.url)
    wrong, _ = case.doctor()
    assert "primary" in wrong["redis-role"]["write"] and len(wrong) == 1


def test_redis_gone(case):
    case.edit("weir.conf", r"redis://[^\"]*", f"redis://127.0.0.1:{proc.free_port()}")
    wrong, report = case.doctor()
    assert set(wrong) == {"redis-answers"} and "refused" in wrong["redis-answers"]["what"]
    assert not any(c["check"] == "redis-memory" for c in report["checks"])


def test_redis_rights(case, machine):
    """A user that may look and not count; and one that may not see INFO."""
    for rights, level in (("-@all +ping +info +get +hgetall +lrange +time", "wrong"),
                          ("+@all -info", "note")):
        machine.redis.cmd("ACL", "SETUSER", "poor", "reset", "on", ">word", "~weir:*",
                          *rights.split())
        case.edit("weir.conf", r"redis://(poor:word@)?", "redis://poor:word@")
        wrong, report = case.doctor()
        assert set(wrong) == ({"redis-rights"} if level == "wrong" else set())
        said = {f["check"]: f for f in report["findings"]}
        assert "etc/redis-acl.conf" in said["redis-rights" if wrong else "redis-version"]["write"]
    machine.redis.cmd("ACL", "DELUSER", "poor")


@pytest.mark.parametrize("user", ["weir-milter", "weirctl"])
def test_redis_users(case, new_redis, user):
    """Those of etc/redis-acl.conf have all the rights there need be; INFO need not be among them."""
    file = proc.SOURCE / "etc/redis-acl.conf"
    word = re.search(rf"(?m)^user {user} on >(\S+)", file.read_text())[1]
    redis = new_redis(config=[*GOOD_REDIS, f"include {file}"])
    case.edit("weir.conf", r"redis://[^\"]*", f"redis://{user}:{word}@{redis.host}:{redis.port}/0")
    wrong, report = case.doctor()
    assert not wrong and {f["check"] for f in report["findings"]} <= {"redis-version"}


class Between(socketserver.ThreadingTCPServer):
    """In front of Redis: answers some commands itself, and may take its time."""

    daemon_threads = allow_reuse_address = True

    def __init__(self, port, answers=(), delay=0.0):
        self.to, self.answers, self.delay = port, dict(answers), delay
        super().__init__(("127.0.0.1", 0), self.Handler)
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self):
            with socket.create_connection(("127.0.0.1", self.server.to)) as redis:
                threading.Thread(target=self._back, args=(redis,), daemon=True).start()
                while data := self.request.recv(65536):
                    time.sleep(self.server.delay)
                    word = data.split(b"\r\n")[2].decode()
                    if word in self.server.answers:
                        self.request.sendall(self.server.answers[word])
                    else:
                        redis.sendall(data)

        def _back(self, redis):
            while data := redis.recv(65536):
                self.request.sendall(data)


@pytest.mark.parametrize("answers, delay, check", [
    ({"TIME": b"*2\r\n$10\r\n1000000000\r\n$1\r\n0\r\n"}, 0, "clock"),
    ({"INFO": b"$21\r\nredis_version:4.0.9\r\n\r\n"}, 0, "redis-version"),
    ({}, 0.03, "redis-latency")], ids=["clock", "version", "latency"])
def test_odd_redis(case, machine, answers, delay, check):
    with Between(machine.redis.port, answers, delay) as between:
        case.edit("weir.conf", r"redis://[^\"]*", f"redis://127.0.0.1:{between.server_address[1]}")
        assert set(case.doctor()[0]) == {check}
        between.shutdown()


# --- SMTP --------------------------------------------------------------------------------------

def codes(talk):
    return [int(line[3:6]) for line in talk["lines"] if line.startswith("S: ") and line[6] == " "]


def test_send(mta, weir, redis):
    """Through an MTA that runs: accepted with 221, refused at connect, refused at RCPT; no
    message was sent, and no entry is left."""
    milter = weir("limit recipients { rate = \"1000/1m\" }", redis=redis)
    ctl = Ctl(conf=milter.conf, env=ENV)
    directory = mta.directory / "etc" if mta.name == "postfix" else mta.directory
    mark = mta.mark()
    result = ctl.run("doctor", mta.name, "-C", str(directory), "--send",
                     f"127.0.0.1:{mta.port}", "--to", "u1@example.test", timeout=30)
    assert re.search(r"(?m)^ok     clients see what they should$", result.out), result
    report = ctl.run("-j", "doctor", mta.name, "-C", str(directory), "--send",
                     f"127.0.0.1:{mta.port}", "--to", "u1@example.test", timeout=30)
    talks = json.loads(report.out)["smtp"]
    assert [t["what"] for t in talks] == ["accepted", "at connect", "at RCPT"]
    assert codes(talks[0]) == [220, 250, 250, 250, 221]
    assert codes(talks[1]) == [421] and not any(l.startswith("C:") for l in talks[1]["lines"])
    assert codes(talks[2]) == [220, 250, 250, 421]
    assert len({t["from"] for t in talks}) == 3
    assert redis.hash("weir:lists") == {}
    assert not [l for l in mta.log(r"status=sent|stat=Sent")[mark:]]
    history = ctl.json("limit", "history")
    assert "weirctl doctor --send" in str(history)


def test_send_where_weir_is_not_asked(case, machine, new_postfix):
    postfix = new_postfix()
    wrong, report = case.doctor("--send", f"127.0.0.1:{postfix.port}")
    assert set(wrong) == {"smtp"} and "not refused" in wrong["smtp"]["what"]
    assert machine.redis.hash("weir:lists") == {}
    wrong, _ = case.doctor("--send", f"127.0.0.1:{proc.free_port()}")
    assert "no SMTP server" in wrong["smtp"]["what"]


def test_send_leaves_others_alone(case, machine, postfix):
    """An address that is listed already is not tried; one that is exempt cannot be refused at
    RCPT, and that is said."""
    who = "127.9.9.9"
    machine.redis.cmd("HSET", "weir:lists", who, "action=exempt by=me")
    machine.redis.cmd("INCR", "weir:generation")
    _, report = case.doctor("--send", f"127.0.0.1:{postfix.port}", "--from", who)
    assert any("listed already" in f["what"] for f in report["findings"])
    assert machine.redis.hash("weir:lists") == {who: "action=exempt by=me"}
    machine.redis.cmd("FLUSHALL")
    case.edit("weir.conf", r"exempt = \{\}", 'exempt = { "127.0.0.0/8" }')
    _, report = case.doctor("--send", f"127.0.0.1:{postfix.port}")
    assert any("exempt in weir.conf" in f["what"] for f in report["findings"])


@pytest.mark.parametrize("words", ["doctor exim", "doctor -C", "doctor --sned"])
def test_usage(case, words):
    assert Ctl(conf=case.conf).run(*words.split()).status == 2


def test_send_wants_an_address(case):
    assert case.run("--send", "mx.example.test:25").status == 2
