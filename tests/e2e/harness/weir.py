# SPDX-License-Identifier: BSD-2-Clause
"""weir-milter under test: its configuration, its log, its end.

    w = Weir('limit connections { ... }', socket="unix:/run/x/milter.sock",
             redis=redis); w.start()
    w.wait_log(r"action=refuse .*limit=connections"); w.stop()
"""

import os
import re
import subprocess
import threading
import time
from pathlib import Path
from signal import SIGHUP, SIGKILL

from . import proc


# Options for tests that need Redis to be asked: a busy machine must not make weir go on
# without it, as its own memory begins empty.
PATIENT = {"redis_words": 'timeout = "250ms"'}

# The engine that a test's own configuration does not name: $WEIR_ENGINE, or weir's default.
ENGINE = os.environ.get("WEIR_ENGINE", "")


def find_program(name):
    """$WEIR_MILTER, $WEIRCTL, or the program in the directory it was built in:
    that above the tests ($WEIR_BUILD names another one)."""
    variable = {"weir-milter": "WEIR_MILTER", "weirctl": "WEIRCTL"}[name]
    if os.environ.get(variable):
        return os.environ[variable]
    top = Path(os.environ.get("WEIR_BUILD") or proc.SOURCE)
    for directory in (top, Path.cwd(), *Path.cwd().parents):
        for path in (directory / name, directory / "milter" / name,
                     directory / "ctl" / name, directory / "build" / name):
            if path.is_file() and os.access(path, os.X_OK):
                return str(path)
    raise RuntimeError(f"{name} is not built; or name it in ${variable}")


def patience():
    """How many times as long, and as large, a sanitizer makes what is measured."""
    program = Path(find_program("weir-milter")).read_bytes()
    return 20 if b"__asan_init" in program or b"__tsan_init" in program else 1


class Weir:
    """One master with its workers, in the foreground with -v.

    What conf leaves out is added: the socket, socket-mode, two workers, no
    drain-timeout, no exempt clients (all tests come from 127.0.0.0/8), the engine of
    $WEIR_ENGINE, and the Redis given, with redis_words.
    prefix: words before the command, such as ["valgrind", "-q"]. log_to: a file for its
    standard error; log() is empty then."""

    def __init__(self, conf="", socket=None, redis=None, prefix=(), args=(),
                 env=None, verbose=True, program=None, redis_words="",
                 log_to=None):
        self.directory = proc.make_directory("conf")
        self.conf = self.directory / "weir.conf"
        self.socket = socket or f"unix:{proc.make_run_directory('milter')}/milter.sock"
        self.redis = redis
        self.redis_words = redis_words
        self.prefix = list(prefix)
        self.args = list(args)
        self.env = {**os.environ, **(env or {})}
        self.verbose = verbose
        self.program = program
        self.log_to = log_to
        self.process = None
        self._lines = []
        self._news = threading.Condition()
        self._reader = None
        self.write_conf(conf)

    def write_conf(self, text):
        """Another configuration; it takes force at start() or reload()."""
        def add(name, value):
            if not re.search(rf"^\s*{name}(?![\w-])", text, re.MULTILINE):
                lines.append(f"{name} {value}")
        lines = []
        add("socket", f'= "{self.socket}"')
        add("socket-mode", '= "0666"')
        add("workers", "= 2")
        add("drain-timeout", "= 0")     # or stop() would wait for a test's sessions
        add("exempt", "= {}")
        if ENGINE:
            add("engine", f"= {ENGINE}")
        if self.redis:
            add("redis", f'{{ url = "{self.redis.url}" {self.redis_words} }}')
        # Below the test's own text, so that its line numbers stay right.
        self.conf.write_text(text.rstrip("\n") + "\n" + "\n".join(lines) + "\n")

    def start(self, timeout=10.0):
        argv = [*self.prefix, self.program or find_program("weir-milter"), "-f",
                *(["-v"] if self.verbose else []), "-c", self.conf, *self.args]
        stderr = open(self.log_to, "w") if self.log_to else subprocess.STDOUT
        self.process = proc.Process(argv, env=self.env, stdout=subprocess.PIPE, stderr=stderr)
        self._reader = threading.Thread(
            target=self._collect, args=(self.process.popen.stdout,), daemon=True)
        self._reader.start()
        where = proc.parse_socket(self.socket)
        try:
            proc.wait_for(lambda: proc.listening(where) or not self.process.alive(),
                          timeout, f"weir-milter on {self.socket}")
        except TimeoutError:
            self.kill()
            raise RuntimeError(f"weir-milter does not listen:\n{self.text()}") from None
        if not self.process.alive():
            status = self.process.popen.returncode
            self._finish()
            raise RuntimeError(f"weir-milter ended with {status}:\n{self.text()}")
        return self

    def _collect(self, stream):
        for line in stream:
            with self._news:
                self._lines.append(line.decode("utf-8", "backslashreplace")
                                   .rstrip("\n"))
                self._news.notify_all()
        stream.close()

    def _finish(self):
        self.process.kill()             # also removes it from the list
        self._reader.join(2)
        self.process = None

    def log(self, pattern=""):
        """The lines so far (that match pattern)."""
        with self._news:
            return [line for line in self._lines if re.search(pattern, line)]

    def text(self):
        return "\n".join(self.log())

    def mark(self):
        """A position in the log, for wait_log(since=...)."""
        with self._news:
            return len(self._lines)

    def wait_log(self, pattern, timeout=5.0, since=0):
        """The first line from since on that matches; waits for it."""
        end = time.monotonic() + timeout
        with self._news:
            while True:
                for line in self._lines[since:]:
                    if re.search(pattern, line):
                        return line
                since = len(self._lines)
                if not self._news.wait(max(0.0, end - time.monotonic())):
                    raise AssertionError(f"no line /{pattern}/ in {timeout} s:\n"
                                         + "\n".join(self._lines))

    @staticmethod
    def fields(line):
        """The key=value pairs of a log line."""
        return dict(re.findall(r"(\w+)=(\S*)", line))

    def stop(self, timeout=5.0):
        """SIGTERM; returns the seconds it took. Too slow is a failure."""
        if self.process is None:
            return 0.0
        took = self.process.stop(timeout)
        text = self.text()
        self._finish()
        assert took is not None, f"weir-milter ignored SIGTERM:\n{text}"
        return took

    def kill(self):
        """SIGKILL for the master and all its workers."""
        if self.process is not None:
            self._finish()

    def signal(self, number):
        self.process.signal(number)

    def reload(self):
        self.signal(SIGHUP)

    @property
    def master(self):
        """The pid of weir-milter itself, also below a prefix that forks."""
        return self.process.pid

    def workers(self):
        return proc.children(self.master)

    def kill_worker(self, index=0, number=SIGKILL):
        """Ends one worker; returns its pid. The master starts another."""
        pid = self.workers()[index]
        os.kill(pid, number)
        return pid

    def wait_workers(self, count, timeout=5.0, without=()):
        """Until count workers run, none of those in without."""
        def ready():
            now = self.workers()
            return len(now) == count and not set(now) & set(without) and now
        return proc.wait_for(ready, timeout, f"{count} workers")
