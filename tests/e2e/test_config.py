# SPDX-License-Identifier: BSD-2-Clause
"""The configuration file: each mistake is refused with its line and with words
that say what to do; -n shows what is in force."""

import os
import pwd
import random
import subprocess

import pytest

from harness.proc import make_directory
from harness.weir import find_program

LONG = "x" * 401

# (what, the text, the line of the mistake, a part of the message)
WRONG = [
    ("unknown word", 'mode = enforce\nflood = 1', 2, "no such option 'flood'"),
    ("unknown word of a limit", 'limit connections {\n  per_ip = 1 }', 2,
     "no such option 'per_ip'"),
    ("unknown section", 'cluster { }', 1, "cluster"),
    ("unterminated string", 'limit a { rate = "60/1m\n', 2, "premature end"),
    ("unterminated section", 'limit connections {\n  burst = 1\n', 3, "premature end"),
    ("mode", '\n\nmode = off', 3, "must be enforce or observe"),
    ("refuse-at", 'refuse-at = mail', 1, "must be connect or helo"),
    ("engine", 'engine = epoll', 1, "must be libmilter or event"),
    ("idle-timeout", 'idle-timeout = 100ms', 1, "must be a duration from 1s"),
    ("idle-timeout, long", 'idle-timeout = 2d', 1, "must be a duration from 1s"),
    ("verbose", 'verbose = perhaps', 1, "must be true or false"),
    ("workers 0", 'workers = 0', 1, "must be a number from 1 to"),
    ("workers -1", 'workers = -1', 1, "must be a number from 1 to"),
    ("workers many", 'workers = 100000', 1, "must be a number from 1 to"),
    ("zone-size", 'zone-size = 1k', 1, "must be a size from"),
    ("zone-size huge", 'zone-size = 99999999999G', 1, "must be a size from"),
    ("socket-mode", 'socket-mode = 0999', 1, "must be an octal mode"),
    ("socket-mode setuid", 'socket-mode = 4755', 1, "must be an octal mode"),
    ("network-v4", 'network-v4 = 33', 1, "must be a number from 8 to 32"),
    ("address-v6", 'address-v6 = 0', 1, "must be a number from 16 to 128"),
    ("exempt, host bits", 'exempt = { "192.0.2.0/24",\n  "192.0.2.1/24" }', 2,
     "without host bits"),
    ("exempt, no CIDR", 'exempt = { "192.0.2.0/33" }', 1, "without host bits"),
    ("exempt, a name", 'exempt = { "mail.example.test" }', 1, "without host bits"),
    ("recipient-delimiter, a letter", '\nrecipient-delimiter = "+x"', 2,
     'must be at most 8 characters such as "+"'),
    ("recipient-delimiter, @", 'recipient-delimiter = "@"', 1, "must be at most 8"),
    ("recipient-delimiter, long", 'recipient-delimiter = "+++++++++"', 1, "must be at most 8"),
    ("unwrap-senders", 'unwrap-senders = srs', 1, "must be true or false"),
    ("redis URL", 'redis {\n  url = "http://localhost" }', 2, "write redis://"),
    ("redis port", 'redis { url = "redis://localhost:70000" }', 1, "port"),
    ("redis database", 'redis { url = "redis://localhost/x" }', 1, "database"),
    ("redis path", 'redis { url = "unix:redis.sock" }', 1, "begin with '/'"),
    ("redis timeout 0", 'redis { timeout = 0 }', 1, "from 1ms to 250ms"),
    ("redis timeout 10s", 'redis { timeout = 10s }', 1, "from 1ms to 250ms"),
    ("redis prefix", 'redis { prefix = "a{b}" }', 1, "letters, digits"),
    ("redis prefix, long", f'redis {{ prefix = "{"p" * 100}" }}', 1, "too long"),
    ("greylist delay", 'greylist {\n  delay = -5m }', 2, "must be a duration"),
    ("greylist delay, unit", 'greylist { delay = "5 fortnights" }', 1,
     "must be a duration"),
    ("greylist delay, absurd", 'greylist { delay = "99999999999d" }', 1,
     "must be a duration"),
    ("load marks", 'load {\n  sessions = 400 }', 2, 'such as "400 300"'),
    ("load marks, unit", 'load { psi-cpu = "40 20" }', 1, 'such as "40% 20%"'),
    ("load marks, order", 'load { run-queue = "2 4" }', 1, "the low one must be below it"),
    ("load marks, levels", 'load { sessions = "400 300, 200 100" }', 1,
     "must not lie below those of level 1"),
    ("load signal", 'load { psi-disk = "40% 20%" }', 1, "no such option 'psi-disk'"),
    ("load queue, where", 'load {\n  queue = "5 3"\n}', 3,
     "needs queue-directory or queue-command"),
    ("load queue, two", 'load { queue = "5 3"\nqueue-command = "x"\n'
     'queue-directory = { "/x" }\n}', 4, "not both"),
    ("load queue, relative", 'load { queue-directory = { "x" } }', 1, "an absolute path"),
    ("load queue, never", 'load { queue = "200000 1"\nqueue-directory = { "/x" } }', 2,
     "no more than 100000 files"),
    ("load neighbours", 'load { neighbours = all }', 1, "must be majority or ignore"),
    ("load spare", 'load { spare = { "a b" } }', 1, "has no blanks"),
    ("load reply", 'load { reply = "451 4.3.2 Later" }', 1, "must begin with 421"),
    ("load reply, class", 'load { reply = "421 5.3.2 Later" }', 1, "same class"),
    ("greylist when-down", 'greylist { when-down = refuse }', 1,
     "must be accept or hold"),
    ("greylist reply", 'greylist { reply = "550 5.7.1 no" }', 1, "would lose mail"),
    ("greylist window", 'greylist {\n  enabled = true\n  window = 10m\n}', 4,
     "window must be at least 30 minutes longer than delay"),
    ("greylist keep", 'greylist { enabled = true keep = 1h }', 1,
     "keep must not be shorter than window"),
    ("limit's name", 'limit "A b" { rate = "1/1m" }', 1, "limit's name"),
    ("limit's name, long", f'limit "{"a" * 33}" {{ rate = "1/1m" }}', 1,
     "limit's name"),
    ("empty limit", 'limit messages {\n}', 2, "is empty"),
    ("duplicate limit", 'limit a { count = messages rate = "1/1m" }\n'
     'limit a { count = messages rate = "2/1m" }', 2, "duplicate title 'a'"),
    ("too many limits", "\n".join(
        f'limit l{i} {{ count = messages rate = "1/1m" }}' for i in range(14)),
     14, "more than 16 limits"),
]
# Inside of `limit x {` on line 1; the mistake is on line 3.
WRONG_LIMITS = [
    ("count", 'count = mails', "count is one of"),
    ("per", 'per = planet', "per is one of"),
    ("action", 'action = reject', "action is one of"),
    ("enabled", 'enabled = 2', "enabled is true or false"),
    ("rate without number", 'rate = "/1m"', "rate is a number and a period"),
    ("rate without period", 'rate = "60"', "rate is a number and a period"),
    ("rate with half a period", 'rate = "60/"', "rate is a number and a period"),
    ("rate 0", 'rate = "0/1m"', "rate is a number and a period"),
    ("negative rate", 'rate = "-5/1m"', "rate is a number and a period"),
    ("rate per 0 s", 'rate = "5/0s"', "rate is a number and a period"),
    ("rate per ms", 'rate = "5/1ms"', "rate is a number and a period"),
    ("absurd rate", 'rate = "99999999999999999999/1m"', "rate is a number"),
    ("bad unit", 'rate = "5/1y"', "rate is a number and a period"),
    ("negative burst", 'burst = -1', "burst is a whole number"),
    ("burst 0", 'burst = 0', "burst is a whole number"),
    ("burst with fraction", 'burst = 1.5', "burst is a whole number"),
    ("absurd burst", 'burst = 18446744073709551617', "burst is a whole number"),
    ("max", 'max = lots', "max is a whole number"),
    ("max for messages", 'max = 3', "max is for sessions"),
    ("a year to drain", 'rate = "1/1d" burst = 1000', "over a year to drain"),
    ("sessions without max", 'count = sessions', "sessions needs max"),
    ("sessions with rate", 'count = sessions max = 5 rate = "1/1m"',
     "has max, not rate"),
    ("5xx", 'reply = "550 5.7.1 Go away"', "would lose mail"),
    ("450", 'reply = "450 4.7.1 Later"', "use 451"),
    ("250", 'reply = "250 2.0.0 Fine"', "must be 421, 451 or 452"),
    ("no code", 'reply = "Later"', 'a reply reads "421 4.7.0 text"'),
    ("class of the enhanced code", 'reply = "421 5.7.1 Later"',
     "enhanced code of the same class"),
    ("no enhanced code", 'reply = "421 Later"', "enhanced code of the same class"),
    ("%", 'reply = "421 4.7.1 100% full"', "'%' must not stand"),
    ("UTF-8", 'reply = "421 4.7.1 Später"', "must be ASCII"),
    ("two lines", r'reply = "421 4.7.1 one\n421 4.7.1 two"', "must be one line"),
    ("CR", r'reply = "421 4.7.1 one\rtwo"', "must be one line"),
    ("control character", r'reply = "421 4.7.1 bell \a"', "control character"),
    ("long text", f'reply = "421 4.7.1 {LONG}"', "too long"),
    ("no text", 'reply = "421 4.7.1 "', "text is missing"),
    ("refuse with 451", 'reply = "451 4.7.1 Later"', "say action=defer"),
    ("defer with 421", 'action = defer reply = "421 4.7.1 Later"',
     "say action=refuse"),
]


def run(*args, **options):
    return subprocess.run([find_program("weir-milter"), *map(str, args)],
                          capture_output=True, timeout=10, check=False, **options)


@pytest.fixture
def check(tmp_path):
    """check(text) -> weir-milter -n on a file of that text, file's name."""
    def start(text):
        path = tmp_path / "weir.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return run("-n", "-c", path), path
    return start


def refused(check, text, line, message):
    result, path = check(text)
    errors = result.stderr.decode("utf-8", "replace")
    assert result.returncode == 1, errors
    assert message in errors
    assert errors.startswith(f"weir-milter: {path}:{line}: "), errors
    assert errors.count("\n") == 1, "one mistake, one line"
    assert result.stdout == b""


@pytest.mark.parametrize("text, line, message", [row[1:] for row in WRONG],
                         ids=[row[0] for row in WRONG])
def test_wrong(check, text, line, message):
    refused(check, text, line, message)


@pytest.mark.parametrize("words, message", [row[1:] for row in WRONG_LIMITS],
                         ids=[row[0] for row in WRONG_LIMITS])
def test_wrong_limit(check, words, message):
    """What one word tells is said on its line; what only the whole tells, on
    that of the closing brace, which here is the same."""
    start = "limit messages {\n  " + ("" if "rate" in words or "sessions" in words
                                      else 'rate = "60/1m"')
    refused(check, f"{start}\n  {words} }}\n", 3, message)


@pytest.mark.parametrize("url", [
    "redis://:hunter2@localhost:port", "redis://user:hunter2@", "hunter2@localhost",
    "redis://:hunter2@localhost/x", "redis://:hun%zzter2@localhost",
    "rediss://:hunter2@localhost:x", "redis://:hunter2" + "x" * 400 + "@localhost"])
def test_password_is_not_repeated(check, url):
    result, path = check(f'redis {{ url = "{url}" }}')
    assert result.returncode == 1
    assert result.stderr.startswith(f"weir-milter: {path}:1: url: ".encode())
    assert b"ter2" not in result.stderr + result.stdout


def test_password_file(check, tmp_path):
    secret = tmp_path / "secret"
    text = f'redis {{ url = "redis://localhost" password-file = "{secret}" }}'

    def message():
        return check(text)[0].stderr.decode()
    assert f"password-file {secret}: No such file" in message()
    secret.write_text("")
    secret.chmod(0o600)
    assert "is empty" in message()
    secret.write_text("p" * 300)
    assert "too long" in message()
    secret.write_text("hunter2\n")
    result, _ = check(text)
    assert result.returncode == 0 and result.stderr == b""
    assert b"hunter2" not in result.stdout
    secret.chmod(0o644)
    result, _ = check(text)
    assert result.returncode == 0 and b"can be read by everybody" in result.stderr


def test_password_file_unreadable():
    directory = make_directory("password")
    secret, path = directory / "secret", directory / "weir.conf"
    secret.write_text("hunter2\n")
    secret.chmod(0o600)
    path.write_text(f'redis {{ password-file = "{secret}" }}')
    nobody = pwd.getpwnam("nobody")
    result = run("-n", "-c", path, user=nobody.pw_uid, group=nobody.pw_gid)
    assert result.returncode == 1
    assert f"password-file {secret}: Permission denied" in result.stderr.decode()


@pytest.mark.parametrize("data", [
    random.Random(1).randbytes(4096), b"\0" * 100, b"\xff\xfe\n" * 50, b"{" * 5000,
    b"limit a " * 5000,
    b'mode = "' + b"\\" * 9999, b"\x1b[31mred\x1b[0m = 1", b"x" * 1000000],
    ids=["random", "nul", "bytes", "braces", "words", "backslashes", "escape", "long"])
def test_garbage(check, data):
    """Refused, without a crash, and without control characters on the terminal."""
    result, _ = check(data)
    assert result.returncode == 1
    lines = result.stderr.split(b"\n")[:-1]
    assert lines and all(line.startswith(b"weir-milter: ") for line in lines)
    assert not any(byte < 0x20 or byte == 0x7f for line in lines for byte in line)


@pytest.mark.parametrize("path, message", [
    ("/nonexistent/weir.conf", "No such file"), ("/etc", "directory")])
def test_no_file(path, message):
    result = run("-n", "-c", path)
    assert result.returncode == 1 and result.stdout == b""
    assert message in result.stderr.decode()


def test_what_n_prints(check):
    """All that is in force; nothing is started, nothing else is touched."""
    result, path = check("")
    assert result.returncode == 0 and result.stderr == b""
    assert result.stdout.decode().splitlines() == [
        f"{path}: good", "socket: inet:127.0.0.1:8890", "mode: enforce",
        "store: this host's memory (no redis section)",
        'limit connections: connections per address, 60/1m burst 60: refuse '
        '"421 4.7.0 Too many connections from your address, try again later"',
        'limit sessions: sessions per address, max 20: refuse '
        '"421 4.7.0 Too many open sessions from your address, try again later"',
        'limit recipients: recipients per network, 300/10m burst 300: refuse '
        '"421 4.7.1 Too many recipients, try again later"',
        "greylist: off", "known: not kept"]
    result, _ = check("""# a comment
        socket = "unix:/run/weir/x.sock"  // another
        mode = observe
        recipient-delimiter = "+-"
        unwrap-senders = yes
        redis { url = "redis://u:hunter2@[::1]:7000/3" }
        greylist { enabled = true delay = 90s }
        limit connections { enabled = false }
        limit sessions { max = 5 }
        limit mine { count = messages per = network rate = 10/1h action = log }
        known { messages = 30 over = 2w keep = 60d }
        limit wide { count = bytes quota = "100M/1d" ladder = "/56*4 /48*16"
                     for = strangers }
        limit yours { count = recipients per = all rate = "5/s" burst = 50
                      action = defer reply = "452 4.5.3 Slowly" }""")
    lines = result.stdout.decode().splitlines()
    assert result.returncode == 0 and b"hunter2" not in result.stdout
    assert lines[1:4] == ["socket: unix:/run/weir/x.sock",
                          "mode: observe (nothing is refused)",
                          "store: redis at ::1 port 7000"]
    assert lines[4] == "limit connections: off"
    assert lines[5].startswith("limit sessions: sessions per address, max 5")
    assert lines[7:] == [
        "limit mine: messages per network, 10/1h burst 10: log",
        "limit wide: bytes per address, 100M/1d, per /56 400M/1d, per /48 1600M/1d, "
        'for strangers: refuse "421 4.7.1 Too much mail, try again later"',
        "limit yours: recipients per all, 5/1s burst 50: defer "
        '"452 4.5.3 Slowly"', "greylist: delay 90 s",
        "known: 30 messages over 14d, kept 60d",
        "recipient-delimiter: +-", "unwrap-senders: true"]
    assert not os.path.exists("/run/weir/x.sock")


def test_what_n_prints_of_load(check):
    result, _ = check("""load {
        sessions = "400 300, 800 600"
        psi-cpu = "40.5% 20%"
        redis-latency = "20ms 500ms"
        }""")
    assert b"the low one must be below it" in result.stderr
    result, _ = check("""load {
        sessions = "400 300, 800 600"
        psi-cpu = "40.5% 20%"
        redis-latency = "1s 20ms"
        psi-io = off
        queue = "5000 2000"  queue-command = "echo 1"
        neighbours = majority
        spare = { "25", "ORIGINATING" }
        reply = "421 4.3.2 Later" }""")
    lines = result.stdout.decode().splitlines()
    start = lines.index("greylist: off") + 1
    assert lines[start:] == [
        "load sessions: level 1 from 400 on, until 300; level 2 from 800 on, until 600",
        "load psi-cpu: level 1 from 40.5% on, until 20%",
        "load redis-latency: level 1 from 1000ms on, until 20ms",
        "load queue: level 1 from 5000 on, until 2000",
        "load neighbours: majority",
        "load spare: 25 ORIGINATING",
        'load reply: "421 4.3.2 Later"', "known: 20 messages over 7d, kept 35d"]
    for spare, shown in ("{}", "nobody"), (None, "465 587"):
        text = f"spare = {spare}" if spare else ""
        result, _ = check('load { sessions = "4 3"\n' + text + "}")
        assert f"load spare: {shown}" in result.stdout.decode().splitlines()
