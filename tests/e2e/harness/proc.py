# SPDX-License-Identifier: BSD-2-Clause
"""Processes, ports and directories: what every server of the harness needs.

A server must never outlive the tests, nor be touched by them when it is not
theirs. So each gets a process group of its own, is stopped by that group, and
at exit; and a guard does the same when pytest itself was killed.
"""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(os.environ.get("WEIR_TEST_ROOT") or
            Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
            / "weir/mta")
SOURCE = Path(__file__).resolve().parents[3]      # the top of weir's sources

# Reads "+PGID", "-PGID" and "/directory" lines until pytest is gone, however it
# went. (The kernel's parent-death signal would not do: it is forgotten when a
# server changes its user.)
GUARD = """
import os, shutil, signal, sys
groups, directories = set(), []
for line in sys.stdin:
    line = line.strip()
    if line[0] == "/":
        directories.append(line)
    elif line[0] == "+":
        groups.add(int(line))
    else:
        groups.discard(-int(line))
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        pass
for directory in directories:
    shutil.rmtree(directory, ignore_errors=True)
"""

_running = []
_guard = None


def _tell_guard(line):
    global _guard
    if _guard is None:
        _guard = subprocess.Popen(
            [sys.executable, "-I", "-c", GUARD], stdin=subprocess.PIPE, cwd="/",
            text=True, start_new_session=True)
    _guard.stdin.write(f"{line}\n")
    _guard.stdin.flush()


@atexit.register
def _clean_up():
    for process in list(_running):
        process.kill()
    if _guard is not None:
        _guard.stdin.close()
        _guard.wait(10)


def need(path):
    """Return path, or say which command brings it here: no test is skipped."""
    if not Path(path).exists():
        raise RuntimeError(f"{path} is missing: run scripts/deps check")
    return str(path)


def need_root(who):
    if os.geteuid() != 0:
        raise RuntimeError(f"{who} changes user and mounts: run the end-to-end "
                           "tests as root (sudo -E make check-e2e)")


def wait_for(question, timeout=5.0, what="the condition", every=0.01):
    """Poll question() until it is true, and return what it gave."""
    end = time.monotonic() + timeout
    while True:
        answer = question()
        if answer:
            return answer
        if time.monotonic() > end:
            raise TimeoutError(f"waited {timeout} s in vain for {what}")
        time.sleep(every)


def make_directory(name, private=False):
    """A directory that is removed at exit, readable by the MTAs' users."""
    path = Path(tempfile.mkdtemp(prefix=f"weir-{name}."))
    path.chmod(0o700 if private else 0o755)
    _tell_guard(path)
    return path


def make_run_directory(name):
    """As make_directory(), with no world-writable directory above it.

    Sendmail refuses a milter socket, and many other files, anywhere else."""
    for parent in ("/run", "/var/lib", str(ROOT)):
        if os.access(parent, os.W_OK):
            path = Path(tempfile.mkdtemp(prefix=f"weir-{name}.", dir=parent))
            path.chmod(0o755)
            _tell_guard(path)
            return path
    raise RuntimeError("no directory for sockets: /run and /var/lib not writable")


def free_port():
    """A TCP port that was free on 127.0.0.1 and ::1 a moment ago.

    Below the range for outgoing connections, so that no client takes it, and for tests
    that run side by side (pytest -n) in ranges of their own."""
    mine = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % 8
    for _ in range(200):
        port = 10000 + mine * 2500 + int.from_bytes(os.urandom(2), "big") % 2500
        try:
            for family, host in ((socket.AF_INET, "127.0.0.1"),
                                 (socket.AF_INET6, "::1")):
                with socket.socket(family) as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind((host, port))
            return port
        except OSError:
            continue
    raise RuntimeError("no free TCP port")


def listening(address):
    """Whether someone listens on a unix path or TCP port; never connects,
    because a milter would count that as a session."""
    if isinstance(address, int):
        wanted = f":{address:04X}"
        for table in ("/proc/net/tcp", "/proc/net/tcp6"):
            for line in Path(table).read_text().splitlines()[1:]:
                field = line.split()
                if field[1].endswith(wanted) and field[3] == "0A":
                    return True
        return False
    for line in Path("/proc/net/unix").read_text().splitlines()[1:]:
        field = line.split(maxsplit=7)
        if len(field) == 8 and field[7] == str(address):
            if int(field[3], 16) & 0x10000:        # SO_ACCEPTCON
                return True
    return False


def parse_socket(spec):
    """'unix:/path', 'local:/path' -> path; 'inet:HOST:PORT' or
    'inet:PORT@HOST' -> port."""
    kind, _, rest = spec.partition(":")
    if kind in ("unix", "local"):
        return rest
    match = re.fullmatch(r"(\d+)(?:@.*)?|.*:(\d+)", rest)
    if kind in ("inet", "inet6") and match:
        return int(match[1] or match[2])
    raise ValueError(f"no socket: {spec}")


class Process:
    """A child with a process group of its own."""

    def __init__(self, argv, env=None, cwd=None, stdout=subprocess.DEVNULL,
                 stderr=subprocess.DEVNULL):
        self.popen = subprocess.Popen(
            [str(word) for word in argv], env=env, cwd=cwd,
            stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr,
            start_new_session=True)
        self.pid = self.popen.pid
        _running.append(self)
        _tell_guard(f"+{self.pid}")

    def alive(self):
        return self.popen.poll() is None

    def signal(self, number):
        if self.alive():
            os.kill(self.pid, number)

    def signal_group(self, number):
        try:
            os.killpg(self.pid, number)
        except ProcessLookupError:
            pass

    def wait(self, timeout):
        """The exit status, or None when it still runs after timeout."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def kill(self):
        """SIGKILL for the whole group, whatever state it is in."""
        self.signal_group(signal.SIGKILL)
        self.popen.wait()
        if self in _running:
            _running.remove(self)
            _tell_guard(f"-{self.pid}")

    def stop(self, timeout=5.0):
        """SIGTERM, then the rest of the group by SIGKILL.

        Returns the seconds it took, or None when it had to be killed."""
        start = time.monotonic()
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        ended = self.wait(timeout) is not None
        took = time.monotonic() - start
        self.kill()
        return took if ended else None


def children(pid):
    """The pids of the direct children of a process, oldest first."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        found += [int(child) for child in task.read_text().split()]
    return sorted(found)
