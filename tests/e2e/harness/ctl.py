# SPDX-License-Identifier: BSD-2-Clause
"""weirctl as a person or a script runs it.

    ctl = Ctl(redis.url); r = ctl("limit", "set", "connections", "burst=5")
    assert r.status == 0 and "in force" in r.out
    ctl.json("why", "192.0.2.7")["next"]["connection"]["action"]

Whatever weirctl prints, every run proves that nobody's terminal is harmed.
"""

import json
import os
import pty
import pwd
import re
import select
import signal
import socket
import subprocess
import time
from pathlib import Path

from .weir import find_program

WIDTH = 80
AUTHOR = f"{pwd.getpwuid(os.getuid()).pw_name}@{socket.gethostname()}"


def find_weirctl():
    """$WEIRCTL, the one beside $WEIR_MILTER, or where it was built."""
    milter = os.environ.get("WEIR_MILTER")
    beside = milter and Path(milter).with_name("weirctl")
    if not os.environ.get("WEIRCTL") and beside and beside.exists():
        return str(beside)
    return find_program("weirctl")


class Result:
    """What one run gave."""

    def __init__(self, status, out, err, seconds):
        self.status = status
        self.out = out
        self.err = err
        self.seconds = seconds

    @property
    def lines(self):
        return self.out.splitlines()

    def row(self, start):
        """The words of the first line that starts with this one."""
        for line in self.lines:
            if line.split()[:1] == [start]:
                return line.split()
        raise AssertionError(f"no line of {start}:\n{self.out}{self.err}")

    def __repr__(self):
        return f"<{self.status}\n{self.out}{self.err}>"


class Ctl:
    """options: before the command. url: of the Redis, unless conf= names a file."""

    def __init__(self, url=None, *options, conf=None, env=None):
        self.argv = [find_weirctl(), *(["-c", str(conf)] if conf else []),
                     *(["-r", url] if url and "@" not in url else []), *options]
        # a password is warned of on the command line
        secret = {"WEIR_REDIS_URL": url} if url and "@" in url else {}
        self.env = {**os.environ, "LC_ALL": "C.UTF-8", **secret, **(env or {})}

    def run(self, *words, stdin="", timeout=10, safe=True):
        start = time.monotonic()
        done = subprocess.run([*self.argv, *words], input=stdin.encode(), timeout=timeout,
                              capture_output=True, env=self.env, check=False)
        seconds = time.monotonic() - start
        if safe:
            for data in (done.stdout, done.stderr):
                odd = {b for b in data if b < 32 and b != 10 or b == 127}
                assert not odd, f"weirctl {words}: raw {odd} in {data!r}"
                data.decode()
        assert done.returncode in (0, 1, 2, 3), (words, done.returncode, done.stderr)
        return Result(done.returncode, done.stdout.decode(errors="backslashreplace"),
                      done.stderr.decode(errors="backslashreplace"), seconds)

    def __call__(self, *words, status=0, **options):
        """Runs, and it must end with this status. "limit set x" is split at blanks
        if it is the only word."""
        if len(words) == 1:
            words = words[0].split()
        result = self.run(*words, **options)
        assert result.status == status, (words, result)
        return result

    def refused(self, *words, says, status=1, **options):
        """It must be refused, in one sentence that has `says` in it."""
        result = self(*words, status=status, **options)
        assert says in result.err, (words, result)
        assert result.out == ""
        return result

    def json(self, *words):
        if len(words) == 1:
            words = words[0].split()
        result = self.run("-j", *words)
        assert result.status == 0, (words, result)
        return json.loads(result.out)

    def popen(self, *words):
        return subprocess.Popen([*self.argv, *words], stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=self.env)


def on_a_terminal(argv, typed, env, until=None):
    """Runs it on a terminal of its own; (what it showed, its exit status). until: then
    ^C is typed."""
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(argv[0], [str(word) for word in argv], {**env, "TERM": "xterm"})
    shown, end = b"", time.monotonic() + 8
    os.write(fd, typed.encode())
    while time.monotonic() < end:
        if not select.select([fd], [], [], 0.1)[0]:
            continue
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        if not data:
            break
        shown += data
        if until and re.search(until, shown):
            os.write(fd, b"\3")
            until = None
    else:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    os.close(fd)
    return shown.decode(), os.waitstatus_to_exitcode(status)


def starter(weir, redis):
    """start(conf) -> (a weir-milter, weirctl with the same file)."""
    def start(conf, **options):
        milter = weir(conf, redis=redis, **options)
        return milter, Ctl(None, "--yes", conf=milter.conf)
    return start


def outlive_memory():
    """A weir-milter remembers by itself whom it has refused, for a second."""
    time.sleep(1.1)
