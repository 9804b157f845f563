# SPDX-License-Identifier: BSD-2-Clause
"""The process model: how weir-milter starts, on which socket and as whom, what
happens when one of its processes dies, and how all of it ends."""

import grp
import os
import pwd
import re
import signal
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

import load
import rawmilter
from harness import proc
from harness.weir import find_program
from rawmilter import RawMilter

STOP_SECONDS = 2
SESSIONS = "limit connections { enabled = false }\nlimit sessions { max = 6 }\n"


def run(*args):
    return subprocess.run([find_program("weir-milter"), *map(str, args)],
                          capture_output=True, text=True, timeout=10, check=False)


def gone(pid):
    """Whether a process has ended (who reaps it is not our concern)."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[0] in "ZX"


def wait_gone(pids, timeout=5.0):
    proc.wait_for(lambda: all(map(gone, pids)), timeout, f"the end of {pids}")


def serves(spec, address="192.0.2.77"):
    with RawMilter(spec) as session:
        return session.open(address).code == rawmilter.CONTINUE and session.quit()


def by_worker(weir, client):
    """{pid of a worker: how many sessions of that client it was given}."""
    found = {}
    load.settle(weir)
    for line in weir.log(rf"action=accept stage=connect .*client={client} "):
        pid = int(weir.fields(line)["session"].partition(".")[0], 16)
        found[pid] = found.get(pid, 0) + 1
    return found


# How it is called.

def test_version_and_help():
    result = run("-V")
    assert result.returncode == 0
    assert re.fullmatch(r"weir-milter \d+\.\d+\S*\n", result.stdout)
    result = run("-h")
    assert result.returncode == 0 and result.stdout.startswith("usage: weir-milter [-c")


@pytest.mark.parametrize("args", [["-x"], ["-c"], ["-n", "more"], ["--", "more"]])
def test_usage(args):
    result = run(*args)
    assert result.returncode == 2 and result.stdout == ""
    assert "usage: weir-milter [-c FILE]" in result.stderr


@pytest.mark.parametrize("args, message", [
    (["-u", "no-such-user"], "no-such-user"), (["-u", "nobody:no-such-group"], "no-such"),
    (["-u", "x" * 500], "too long"), (["-P", "/nonexistent/dir/pid"], "/nonexistent/dir"),
    (["-c", "/nonexistent"], "No such file")])
@pytest.mark.parametrize("front", [["-f"], []], ids=["front", "back"])
def test_wrong_options(args, message, front):
    """A start that fails says so, with -f and without, and leaves no socket."""
    path = proc.make_run_directory("options") / "milter.sock"
    result = run(*front, "-p", f"unix:{path}", *args)
    assert result.returncode == 1, result
    assert message in result.stderr
    assert not path.exists()


# Sockets.

@pytest.mark.parametrize("notation, host, address", [
    ("inet:127.0.0.1:{}", "127.0.0.1", "0100007F"),
    ("inet:{}@127.0.0.1", "127.0.0.1", "0100007F"),
    ("inet:{}@localhost", "127.0.0.1", "0100007F"),
    ("inet:127.0.0.3:{}", "127.0.0.3", "0300007F"),
    ("inet6:{}@::1", "[::1]", "0" * 24 + "01000000"),
    ("inet:[::1]:{}", "[::1]", "0" * 24 + "01000000"),
    ("inet:{}@[::1]", "[::1]", "0" * 24 + "01000000")])
def test_inet_socket(weir, notation, host, address):
    """It listens on exactly the address asked for."""
    port = proc.free_port()
    weir(socket=notation.format(port))
    listeners = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            local, state = line.split()[1], line.split()[3]
            if state == "0A" and local.endswith(f":{port:04X}"):
                listeners.add(local.partition(":")[0])
    if "localhost" in notation and listeners != {address}:
        host, address = "[::1]", "0" * 24 + "01000000"
    assert listeners == {address}
    assert serves(f"inet:{host}:{port}")


@pytest.mark.parametrize("spec, message", [
    ("inet:127.0.0.1:70000", "port"), ("inet:70000@127.0.0.1", "port"),
    ("inet:127.0.0.1:0", "port"), ("inet:0@127.0.0.1", "port"),
    ("inet:127.0.0.1:-1", "port"), ("inet:127.0.0.1:25x", "port"),
    ("inet:127.0.0.1:", "port"), ("inet:8890", "where to listen"),
    ("inet:8890@", "host is missing"), ("inet::8890", "host is missing"),
    ("inet:::1:8890", "brackets"), ("inet:8890@no-such-host.invalid", "no-such-host"),
    ("inet6:8890@127.0.0.1", "127.0.0.1"), ("unix:relative/path", "absolute"),
    ("unix:", "absolute"), ("unix:/" + "x" * 108, "at most 107 bytes"),
    ("unix:/" + "x" * 5000, "too long"), ("/run/milter.sock", "a socket is"),
    ("http://127.0.0.1:80", "a socket is"), ("fd:3", "a socket is"), ("", "a socket is")])
def test_wrong_socket(spec, message):
    for args in (["-n", "-p", spec], ["-f", "-p", spec]):
        result = run(*args)
        assert result.returncode == 1, result
        assert message in result.stderr and result.stderr.count("\n") == 1


def test_live_socket_is_not_stolen(weir):
    """A second weir-milter on the same socket leaves the first one alone."""
    for spec in (None, f"inet:127.0.0.1:{proc.free_port()}"):
        first = weir(socket=spec)
        result = run("-f", "-c", first.conf)
        assert result.returncode == 1
        assert re.search("already listens|Address already in use", result.stderr)
        assert serves(first.socket)


def test_stale_socket_is_replaced(weir):
    path = proc.make_run_directory("stale") / "milter.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    before = path.stat().st_ino, path.stat().st_ctime_ns
    assert serves(weir(socket=f"unix:{path}").socket)
    assert (path.stat().st_ino, path.stat().st_ctime_ns) != before


@pytest.mark.parametrize("kind", ["file", "link", "directory"])
def test_other_file_is_kept(kind):
    directory = proc.make_run_directory("other")
    path, target = directory / "milter.sock", directory / "target"
    if kind == "directory":
        path.mkdir()
    else:
        (target if kind == "link" else path).write_text("precious")
    if kind == "link":
        path.symlink_to(target)
    before = path.lstat()
    result = run("-f", "-p", f"unix:{path}")
    assert result.returncode == 1 and "is not a socket" in result.stderr
    assert path.lstat().st_ino == before.st_ino
    assert kind == "directory" or path.read_text() == "precious"


def test_owner_and_mode(weir):
    """The socket is as asked for, and every process is the user asked for."""
    group = grp.getgrnam("mail").gr_gid
    nobody, daemon = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    directory = proc.make_run_directory("owner")
    os.chown(directory, nobody.pw_uid, -1)
    path = directory / "milter.sock"
    running = weir('socket-owner = daemon\nsocket-group = mail\nsocket-mode = "0640"',
                   socket=f"unix:{path}", args=["-u", "nobody:mail"])
    info = path.stat()
    assert (info.st_uid, info.st_gid) == (daemon.pw_uid, group)
    assert stat.S_IMODE(info.st_mode) == 0o640
    for pid in (running.master, *running.wait_workers(2)):
        status = dict(line.split(":", 1) for line in
                      Path(f"/proc/{pid}/status").read_text().splitlines())
        assert set(status["Uid"].split()) == {str(nobody.pw_uid)}
        assert set(status["Gid"].split()) == {str(group)}
        assert "0" not in status["Groups"].split()
    assert serves(running.socket)
    running.stop()
    assert not path.exists()


# The end.

@pytest.mark.parametrize("state", ["idle", "busy", "redis stopped", "worker stopped"])
def test_term(weir, redis, state):
    """SIGTERM ends every process in time and removes the socket."""
    pid_file = proc.make_directory("pid") / "pid"
    running = weir(redis=redis, args=["-P", pid_file])
    assert int(pid_file.read_text()) == running.master
    pids = [running.master, *running.wait_workers(2)]
    sessions = load.fill([running.socket], "192.0.2.1", 15)
    for session in sessions[5:10]:
        session.mail()
    if state == "idle":
        load.close_all(sessions)
    if state == "redis stopped":
        redis.freeze()
        for session in sessions:        # they wait for Redis as the signal comes
            session.send(rawmilter.MAIL, b"<a@client.test>\0")
            session.send(rawmilter.RCPT, b"<u@example.test>\0")
    if state == "worker stopped":
        os.kill(pids[1], signal.SIGSTOP)
    assert running.stop(timeout=10) < STOP_SECONDS
    redis.thaw()
    assert all(map(gone, pids))
    assert not Path(proc.parse_socket(running.socket)).exists()
    assert not pid_file.exists()
    assert state == "idle" or all(session.closed() for session in sessions)


def test_master_killed(weir):
    """No worker outlives its master, and the next start finds its way."""
    running = weir()
    workers = running.wait_workers(2)
    sessions = load.fill([running.socket], "192.0.2.1", 5)
    os.kill(running.master, signal.SIGKILL)
    wait_gone(workers)
    assert all(session.closed() for session in sessions)
    running.kill()
    assert Path(proc.parse_socket(running.socket)).exists()
    assert serves(running.start().socket)


def test_daemon():
    """Without -f: in the background, with a pid file, until SIGTERM."""
    directory = proc.make_run_directory("daemon")
    path, pid_file = directory / "milter.sock", directory / "pid"
    result = run("-p", f"unix:{path}", "-P", pid_file)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    pid = int(proc.wait_for(lambda: pid_file.exists() and pid_file.read_text()))
    try:
        assert os.getsid(pid) != os.getsid(0)
        assert os.readlink(f"/proc/{pid}/cwd") == "/"
        for number in (0, 1, 2):
            assert os.readlink(f"/proc/{pid}/fd/{number}") == "/dev/null"
        workers = proc.wait_for(lambda: proc.children(pid))
        assert serves(f"unix:{path}")
        start = time.monotonic()
        os.kill(pid, signal.SIGTERM)
        wait_gone([pid, *workers])
        assert time.monotonic() - start < STOP_SECONDS
        assert not path.exists() and not pid_file.exists()
    finally:
        if not gone(pid):
            os.killpg(pid, signal.SIGKILL)


# A worker dies.

@pytest.mark.parametrize("store", ["redis", "zone"])
def test_worker_killed(weir, request, store):
    """Another one takes its place; the sessions of the others go on; its own
    are given back to the clients that held them, and no more than these."""
    redis = request.getfixturevalue("redis") if store == "redis" else None
    running = weir(SESSIONS, redis=redis)
    before = running.wait_workers(2)
    number, held = 0, {}
    while len(held) < 2:                # until a client has sessions at both
        assert number < 50, "one worker gets all sessions"
        number += 1
        client = f"192.0.2.{number}"
        sessions = load.fill([running.socket], client, 6)
        held = by_worker(running, client)
    assert load.connects(running.socket, client) == [False]
    victim = running.kill_worker(before.index(min(held)))
    running.wait_workers(2, without=[victim])
    running.wait_log(r"worker \d \(pid \d+\) was killed by signal 9")
    # The step that is due in a session that lives on is answered.
    alive = [session for session in sessions if session.mail() is not None]
    assert len(alive) == 6 - held[victim]
    assert all(session.rcpt().code == rawmilter.CONTINUE for session in alive)
    again = load.fill([running.socket], client, held[victim])
    assert load.connects(running.socket, client, 2) == [False, False]
    load.close_all(alive + again)
    load.close_all(load.fill([running.socket], client, 6))


def test_worker_dies_again_and_again(weir):
    """The pauses grow, so that a broken worker does not eat the host."""
    running = weir("workers = 1")
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        for pid in running.workers():
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
    # 0, 100, 200, 400, 800 ms: the sixth start is due after 3.1 s
    assert 2 <= len(running.log("was killed by signal 9")) <= 7
    ticks = Path(f"/proc/{running.master}/stat").read_text().rpartition(")")[2].split()
    assert (int(ticks[11]) + int(ticks[12])) / os.sysconf("SC_CLK_TCK") < 0.5
    running.wait_workers(1)
    assert serves(running.socket)


def test_signals_that_end_nothing(weir):
    """Nobody dies of a connection that is gone; what is meant for the master and reaches
    the workers, too (systemd, ^C), does not end them."""
    running = weir()
    workers = running.wait_workers(2)
    sessions = load.fill([running.socket], "192.0.2.1", 6)
    os.kill(running.master, signal.SIGPIPE)
    for pid in workers:
        for number in (signal.SIGPIPE, signal.SIGHUP, signal.SIGTERM, signal.SIGINT,
                       signal.SIGUSR1, signal.SIGUSR2):
            os.kill(pid, number)
    # libmilter would notice within 5 s, or at the next connection
    assert all(serves(running.socket) for _ in range(8))
    assert running.workers() == workers
    assert all(session.mail() is not None for session in sessions)
    load.close_all(sessions)
