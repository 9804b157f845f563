# SPDX-License-Identifier: BSD-2-Clause
"""weirctl attach: what it shows, what it changes, and that it can be taken back; and with that
change mail does go through weir."""

import json
import os
import re
import subprocess

import pytest

from harness.ctl import Ctl
from harness.postfix import Postfix
from harness.sendmail import Sendmail
from test_doctor import BACK, ENV, FILTERED


class Case:
    """The private files of an MTA that has not heard of weir."""

    def __init__(self, mta, kind, milter):
        self.mta, self.kind = mta, kind
        self.dir = mta.directory / "etc" if kind == "postfix" else mta.directory
        self.ctl = Ctl(conf=milter.conf, env=ENV)

    def __call__(self, *words, status=0):
        return self.ctl("attach", self.kind, "-C", str(self.dir), *words, status=status)

    def json(self, *words):
        return self.ctl.json("attach", self.kind, "-C", str(self.dir), *words)

    def add(self, name, text):
        path = self.dir / name
        path.write_text(path.read_text() + text + "\n")
        os.utime(path, (1e9, 1e9))      # or postconf waits for it to become older

    def settings(self):
        text = subprocess.run(["postconf", "-c", self.dir, "-n"], env=ENV, capture_output=True,
                              text=True, check=True).stdout
        text += subprocess.run(["postconf", "-c", self.dir, "-P"], env=ENV, capture_output=True,
                               text=True, check=True).stdout
        return text

    def age(self):
        for name in ("main.cf", "master.cf"):
            os.utime(self.dir / name, (1e9, 1e9))

    def wrong(self):
        result = self.ctl.run("-j", "doctor", self.kind, "-C", str(self.dir), timeout=30)
        return [f["check"] for f in json.loads(result.out)["findings"]
                if f["level"] == "wrong" and self.kind in f["check"]]


@pytest.fixture
def milter(weir, redis):
    return weir("limit connections { rate = \"1/1h\" burst = 2 }", redis=redis)


@pytest.fixture
def postfix_case(milter):
    postfix = Postfix(options={"smtpd_milter_maps": ""})
    yield Case(postfix, "postfix", milter)
    postfix.stop()


@pytest.fixture
def sendmail_case(milter):
    sendmail = Sendmail()
    yield Case(sendmail, "sendmail", milter)
    sendmail.stop()


def greets(mta, source, count=3):
    codes = []
    for _ in range(count):
        with mta.connect(source) as client:
            codes.append(client.greeting.code)
            if codes[-1] == 220:
                client.quit()
    return codes


def test_postfix(postfix_case, milter, sources):
    case = postfix_case
    before = case.settings()
    assert case.wrong() == ["postfix-attached"]
    shown = case()
    line, = [l for l in shown.lines if l.startswith("+")]
    assert line.startswith(f"+ smtpd_milters = {{ {milter.socket}, connect_timeout=5s,")
    assert not [l for l in shown.lines if l.startswith("-")]
    assert "--apply" in shown.lines[-1] and case.settings() == before

    case("--apply")
    case.age()
    assert case.wrong() == []
    assert (case.dir / "main.cf.before-weir").exists()
    assert case("--apply").lines == ["Postfix asks weir already, first of all"]
    case.mta.start()
    assert greets(case.mta, next(sources)) == [220, 220, 421]

    assert "undone" in case("--undo").out
    case.age()
    assert case.settings() == before
    assert "nothing to undo" in case("--undo", status=1).err


def test_postfix_keeps_others(postfix_case, milter):
    """Other milters, and $names, stay as they are written, behind weir; weir in a wrong place
    moves; where mail comes back from a filter weir is left out; and all of it goes back."""
    case = postfix_case
    others = "inet:127.0.0.1:8891, { unix:/run/other, default_action=reject }, $third"
    case.add("main.cf", f"third = inet:127.0.0.1:8893\n{FILTERED}\nsmtpd_milters = "
             + others.replace(", {", f", {milter.socket}, {{"))
    case.add("master.cf", BACK)
    before = case.settings()
    case("--apply")
    case.age()
    value = re.search(r"(?m)^smtpd_milters = (.*)", case.settings())[1]
    assert value.count(milter.socket) == 1 and value.startswith(f"{{ {milter.socket}, ")
    assert value.endswith(f"default_action=accept }}, {others}")
    assert "127.0.0.1:10026/inet/smtpd_milters =\n" in case.settings()
    assert case.wrong() == []
    case("--undo")
    case.age()
    assert case.settings() == before


def test_postfix_by_a_name(postfix_case, milter):
    """weir stands there already, behind a $name: which to move is not for a program to say."""
    case = postfix_case
    case.add("main.cf", f"ours = {milter.socket}\nsmtpd_milters = inet:127.0.0.1:8891, $ours")
    assert "by hand" in case("--apply", status=1).err


def test_postfix_changed_since(postfix_case):
    """What somebody else has changed meanwhile is not overwritten; other lines do not matter."""
    case = postfix_case
    case("--apply")
    case.add("main.cf", "message_size_limit = 1000000")
    subprocess.run(["postconf", "-c", case.dir, "-e", "smtpd_milters=inet:127.0.0.1:8899"],
                   env=ENV, check=True)
    case.age()
    now = case.settings()
    assert "changed since" in case("--undo", status=1).err
    assert case.settings() == now


def test_postfix_in_a_chroot(postfix_case):
    case = postfix_case
    path = case.dir / "master.cf"
    path.write_text(re.sub(r"(?m)^(127.0.0.1:\d+\s+inet n -) n", r"\1 y", path.read_text()))
    case.age()
    result = case(status=1)
    assert "chroot" in result.err and f"{case.mta.directory}/queue/weir/milter.sock" in result.err


def build(case):
    """What make in /etc/mail does."""
    cf = f"{case.mta.tree}/usr/share/sendmail/cf/"
    made = subprocess.run(["m4", f"-D_CF_DIR_={cf}", f"{cf}m4/cf.m4", case.dir / "sendmail.mc"],
                          capture_output=True, check=True)
    assert not made.stderr
    (case.dir / "sendmail.cf").write_bytes(made.stdout)


def test_sendmail(sendmail_case, milter, sources):
    case = sendmail_case
    mc = case.dir / "sendmail.mc"
    before = mc.read_bytes()
    assert case.wrong() == ["sendmail-attached"]
    shown = case()
    added = [l[1:] for l in shown.lines if l.startswith("+") and not l.startswith("+++")]
    assert len(added) == 3 and added[1].startswith("INPUT_MAIL_FILTER(`weir', `S=local:/")
    assert not [l for l in shown.lines if l.startswith("-") and not l.startswith("---")]
    assert mc.read_bytes() == before

    case("--apply")
    assert (case.dir / "sendmail.mc.before-weir").read_bytes() == before
    build(case)
    assert case.wrong() == []
    assert "already" in case("--apply").out
    case.mta.start()
    assert greets(case.mta, next(sources)) == [220, 220, 421]

    mc.write_bytes(mc.read_bytes() + b"dnl somebody's\n")
    case("--undo")
    assert mc.read_bytes() == before + b"dnl somebody's\n"
    assert "nothing to undo" in case("--undo", status=1).err


def test_sendmail_keeps_others(sendmail_case):
    """In front of the other filters; a list of one's own is left alone."""
    case = sendmail_case
    mc = case.dir / "sendmail.mc"
    text = mc.read_text()
    other = "INPUT_MAIL_FILTER(`dkim', `S=inet:8891@127.0.0.1')dnl\n"
    mc.write_text(text.replace("MODIFY_MAILER_FLAGS", other + "MODIFY_MAILER_FLAGS"))
    case("--apply")
    build(case)
    assert case.wrong() == []
    assert re.search(r"(?m)^O InputMailFilters=weir, ?dkim$", (case.dir / "sendmail.cf").read_text())
    mc.write_text(text + "define(`confINPUT_MAIL_FILTERS', `dkim')dnl\n")
    assert "confINPUT_MAIL_FILTERS" in case("--apply", status=1).err


def test_usage(postfix_case):
    ctl = postfix_case.ctl
    for words in (["attach"], ["attach", "exim"], ["attach", "postfix", "--apply", "--undo"]):
        assert ctl.run(*words).status == 2
    assert "No such file" in ctl.run("attach", "sendmail", "-C", "/nonexistent").err
