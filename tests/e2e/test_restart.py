# SPDX-License-Identifier: BSD-2-Clause
"""Reload and stop: no session is lost, whatever stage it is at, and no question
of an MTA stays without an answer. Here the MTAs put off all mail (451) when they
lose the milter, so a loss cannot hide behind "accept".
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import load
import rawmilter
from harness import proc
from harness.ctl import Ctl
from harness.weir import find_program
from rawmilter import RawMilter
from slow import SlowLoad

SESSIONS, RELOADS = 50, 20
# Everything is asked and counted, and nobody is refused.
WIDE = """
drain-timeout = 60s
limit connections { rate = "100000/1m" }
limit sessions { max = 1000 }
limit messages { count = messages  per = network  rate = "100000/1m" }
limit recipients { rate = "100000/1m" }
"""


def careful(name, new_postfix, new_sendmail, socket):
    """An MTA that does not hide the loss of its milter."""
    if name == "postfix":
        return new_postfix([socket], default_action="tempfail")
    return new_sendmail([socket], flag="T")


def reload(milter, times=1, pause=0.0):
    """One after the other; returns the seconds that each took until new workers
    served."""
    took = []
    for _ in range(times):
        since, start = milter.mark(), time.monotonic()
        milter.reload()
        milter.wait_log("reloaded weir ", 10, since=since)
        took.append(time.monotonic() - start)
        time.sleep(pause)
    return took


def refused_reload(milter, says):
    since = milter.mark()
    milter.reload()
    line = milter.wait_log("reload refused: ", 10, since=since)
    assert says in line
    return line


def replaced(milter, before=(), workers=2):
    """Waits until the workers of before are gone."""
    return milter.wait_workers(workers, timeout=15, without=before)


def exe(pid):
    """Which file a process runs."""
    info = os.stat(f"/proc/{pid}/exe")
    return info.st_dev, info.st_ino


def stop(pid):
    """SIGSTOP, and until it has reached every thread."""
    os.kill(pid, signal.SIGSTOP)
    proc.wait_for(lambda: all(stat.read_text().rpartition(")")[2].split()[0] == "T"
                              for stat in Path(f"/proc/{pid}/task").glob("*/stat")))


def rcpts(session, count):
    """The letters of the answers to so many recipients."""
    return "".join(session.rcpt(f"u{n}@example.test").code for n in range(count))


def open_keys(redis):
    """How many sessions Redis holds to be open."""
    return sum(redis.cmd("ZCARD", key) for key in redis.cmd("KEYS", "weir:open:*"))


@pytest.mark.parametrize("name", ["postfix", "sendmail"])
def test_reloads_under_load(weir, redis, sources, new_postfix, new_sendmail, milter_socket,
                            name):
    """50 sessions in progress, 20 reloads in a row: no 4xx, no dropped
    connection, no question that was not decided."""
    milter = weir(WIDE, redis=redis)
    mta = careful(name, new_postfix, new_sendmail, milter_socket)
    master = milter.master
    with SlowLoad(mta, sources, SESSIONS + 5) as slow:
        slow.warm_up()
        took = reload(milter, RELOADS, pause=0.25)
        old = len(milter.workers())
        average = slow.average()
        time.sleep(slow.hold)           # sessions of before the last ones come to their end
    slow.check()
    assert average >= SESSIONS * 0.8    # it depends on how fast an MTA greets the next one
    assert milter.master == master and milter.process.alive()
    print(f"{name}: {average:.0f} sessions in progress, {slow.sessions} in all with "
          f"{slow.messages} messages; a reload took "
          f"{max(took):.3f} s at most, {sum(took) / len(took):.3f} s on average; "
          f"{old} workers side by side")
    replaced(milter)
    load.settle(milter)
    assert len(milter.log(r"action=accept stage=connect .*client=127\.")) == slow.sessions
    assert len(milter.log(r"action=accept stage=rcpt ")) == slow.recipients
    assert not milter.log("no-store|killed|cut|status [1-9]")
    # And nothing is counted any more that is not open.
    status, = proc.wait_for(lambda: [n for n in Ctl(redis.url).json("status")["nodes"]
                                     if n["sessions"] == n["draining_workers"] == 0], 5)
    assert status["workers"] == 2
    proc.wait_for(lambda: open_keys(redis) == 0, 5, "no session in redis")


# Every connection of an MTA, whatever the moment.

class Storm:
    """Threads that open one milter session after the other, some of which connect
    and say nothing for a while."""

    def __init__(self, spec, threads=6):
        self.spec, self.sessions, self.bad = spec, 0, []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,))
                         for n in range(threads)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        for thread in self._threads:
            thread.join(20)

    def _work(self, number):
        try:
            while not self._stop.is_set():
                with RawMilter(self.spec, timeout=10) as session:
                    if number % 2:
                        time.sleep(number * 0.3)
                    codes = [session.open(f"192.0.2.{number}").code, session.mail().code,
                             session.rcpt().code]
                    if codes != [rawmilter.CONTINUE] * 3 or not session.quit():
                        self.bad.append(codes)
                self.sessions += 1
        except Exception as error:      # a thread has nobody else to tell
            self.bad.append(repr(error))


def test_every_connection_is_served(weir):
    """60 reloads without a pause: also who was accepted by a worker that then
    drained, and negotiates a second later, gets his answers."""
    milter = weir(WIDE)
    with Storm(milter.socket) as storm:
        reload(milter, 60)
        quiet = RawMilter(milter.socket, timeout=10)
        proc.wait_for(lambda: storm.bad or storm.sessions > 200, 10, "sessions")
        reload(milter)
        time.sleep(1.5)                 # idle ones of before have ended by now
    assert not storm.bad, storm.bad[:3]
    assert quiet.open("192.0.2.99").code == rawmilter.CONTINUE and quiet.quit()
    replaced(milter)
    # libmilter has met nothing that it complains about
    assert not milter.log("cannot stop|killed|status [1-9]")


# What a reload changes, and what it keeps.

def test_limits_change_and_counters_stay(weir):
    """New sessions go by the new file, those of before by theirs, and what was
    counted stays counted."""
    def limit(burst):
        return (f'drain-timeout = 60s\nlimit connections {{ rate = "1/1h" burst = {burst} }}\n'
                'limit recipients { per = address rate = "1/1h" burst = 20 }\n')
    milter = weir(limit(4))
    before = replaced(milter)
    old = load.fill([milter.socket], "192.0.2.1", 3)
    milter.write_conf(limit(9).replace("burst = 20", "burst = 6"))
    assert max(reload(milter)) < 3
    # 3 of 4 were used; now 3 of 9 are
    assert load.connects(milter.socket, "192.0.2.1", 7) == [True] * 6 + [False]
    # the old session's worker lives as long as the session does, by its own limits
    assert old[0].mail().code == rawmilter.CONTINUE
    assert rcpts(old[0], 7) == "c" * 7
    with RawMilter(milter.socket) as new:
        assert new.open("192.0.2.2").code == rawmilter.CONTINUE
        new.mail()
        assert rcpts(new, 7) == "ccccccy"
    assert set(milter.workers()) & set(before)
    load.close_all(old)
    replaced(milter, before)


BAD = [
    ('limit connections {\n  rate = "60/1m"\n  burst = many\n}\n', ":3: burst: "),
    ("workers = 2\nzone-size = 1k\n", ":2: zone-size: "),
    ("nonsense = 1\n", ":1: "),
    ("user = no-such-user\n", "no-such-user does not exist"),
    ("user = nobody\n", "user cannot be changed by a reload: restart"),
    ('pid-file = "/tmp/other.pid"\n', "pid-file cannot be changed by a reload: restart"),
    ('socket = "unix:/nonexistent/milter.sock"\n', "No such file or directory"),
]


def test_bad_configuration(weir):
    """It is refused with file and line, and the old one stays in force."""
    milter = weir('limit connections { rate = "1/1h" burst = 40 }')
    before = replaced(milter)
    inode = exe(milter.master)
    for number, (text, says) in enumerate(BAD):
        milter.write_conf(text)
        line = refused_reload(milter, says)
        assert not says.startswith(":") or f"{milter.conf}{says}" in line
        assert load.connects(milter.socket, "192.0.2.1", 5) == [True] * 5, number
    milter.conf.unlink()
    refused_reload(milter, "No such file")
    assert load.connects(milter.socket, "192.0.2.1", 6) == [True] * 5 + [False]
    assert milter.workers() == before and exe(milter.master) == inode
    milter.write_conf('limit connections { rate = "1/1h" burst = 42 }')
    reload(milter)
    assert load.connects(milter.socket, "192.0.2.1", 3) == [True, True, False]


def test_other_workers_and_zone(weir, redis):
    """More and fewer workers; a zone of another size begins anew. Sessions go on."""
    conf = 'drain-timeout = 60s\nlimit recipients {{ rate = "9/1m" }}\nlimit connections {{ rate = "1/1h" burst = 3 }}\n{}\n'
    milter = weir(conf.format(""))
    sessions = load.fill([milter.socket], "192.0.2.1", 2)
    for workers in (5, 1):
        before = milter.workers()
        milter.write_conf(conf.format(f"workers = {workers}"))
        reload(milter)
        proc.wait_for(lambda: len(set(milter.workers()) - set(before)) == workers)
    milter.write_conf(conf.format("workers = 3\nzone-size = 1M"))
    reload(milter)
    # nothing is known of the two
    assert load.connects(milter.socket, "192.0.2.1", 4) == [True] * 3 + [False]
    milter.redis = redis                # another store: what is in the zone means nothing
    milter.write_conf(conf.format("workers = 3\nzone-size = 1M"))
    reload(milter)
    assert load.connects(milter.socket, "192.0.2.1", 4) == [True] * 3 + [False]
    assert redis.hash("weir:address:{192.0.2.0/24}:192.0.2.1")
    assert all(session.mail().code == rawmilter.CONTINUE for session in sessions)
    load.close_all(sessions)
    replaced(milter, workers=3)


def test_another_socket(weir):
    """The new one is there before the old one goes; sessions on the old one end in
    peace; and back again."""
    first = f"unix:{proc.make_run_directory('first')}/milter.sock"
    second = f"unix:{proc.make_run_directory('second')}/milter.sock"
    third = f"inet:127.0.0.1:{proc.free_port()}"
    milter = weir("drain-timeout = 60s", socket=first)
    old = load.fill([first], "192.0.2.1", 1)
    for spec, gone in ((second, first), (third, second), (first, third)):
        milter.socket = spec
        milter.write_conf("drain-timeout = 60s")
        reload(milter)
        assert load.connects(spec, "192.0.2.1") == [True]
        proc.wait_for(lambda: not proc.listening(proc.parse_socket(gone)))
        with pytest.raises(OSError):
            RawMilter(gone)
        assert old[0].mail().code == rawmilter.CONTINUE and old[0].abort()
        old += load.fill([spec], "192.0.2.1", 1)
    load.close_all(old)
    replaced(milter)
    # a socket that somebody else has is left to him
    other = weir(socket=second)
    milter.socket = second
    milter.write_conf("")
    refused_reload(milter, "somebody already listens there")
    assert load.connects(first, "192.0.2.1") == load.connects(second, "192.0.2.1") == [True]
    other.stop()


def test_mode_of_the_socket(weir):
    milter = weir('socket-mode = "0666"')
    path = Path(proc.parse_socket(milter.socket))
    milter.write_conf('socket-mode = "0600"')
    reload(milter)
    assert path.stat().st_mode & 0o777 == 0o600


def test_as_another_user(weir, tmp_path):
    """After the rights are gone: what the user may read is reloaded, what he may not is
    refused, and the socket stays as root has made it."""
    directory = proc.make_run_directory("user")
    milter = weir('limit connections { rate = "1/1h" burst = 2 }',
                  socket=f"unix:{directory}/milter.sock", args=["-u", "nobody:mail"])
    milter.conf.chmod(0o644)
    before = os.stat(directory / "milter.sock")
    milter.write_conf('limit connections { rate = "1/1h" burst = 4 }')
    reload(milter)
    assert load.connects(milter.socket, "192.0.2.1", 5) == [True] * 4 + [False]
    after = os.stat(directory / "milter.sock")
    assert (after.st_ino, after.st_uid, after.st_mode) == \
        (before.st_ino, before.st_uid, before.st_mode)
    secret = tmp_path / "secret"
    secret.write_text("x\n")
    secret.chmod(0o600)
    milter.write_conf(f'redis {{ url = "redis://127.0.0.1:1" password-file = "{secret}" }}')
    refused_reload(milter, "Permission denied")
    assert load.connects(milter.socket, "192.0.2.2") == [True]


def test_status_tells(weir, redis):
    """weirctl status: how many sessions are left in workers of before; it stays the same
    node, and up since its start."""
    milter = weir(WIDE, redis=redis)
    ctl = Ctl(redis.url)
    first, = proc.wait_for(lambda: ctl.json("status")["nodes"], 5)
    old = load.fill([milter.socket], "192.0.2.1", 3)
    reload(milter)
    new = load.fill([milter.socket], "192.0.2.1", 2)
    node, = proc.wait_for(lambda: [n for n in ctl.json("status")["nodes"]
                                   if n["draining_sessions"] == 3], 5)
    assert (node["sessions"], node["node"], node["started"]) == \
        (5, first["node"], first["started"])
    workers = node["draining_workers"]
    assert workers in (1, 2)
    assert re.search(rf"sessions open +5, 3 of them in {workers} workers? of before a reload",
                     ctl("status").out)
    load.close_all(old)
    proc.wait_for(lambda: ctl.json("status")["nodes"][0]["draining_workers"] == 0, 6)
    assert ctl.json("status")["nodes"][0]["sessions"] == 2
    load.close_all(new)


@pytest.mark.parametrize("fd", ["99", "0", "-1", "x"])
def test_handover_is_no_option(fd):
    """-H is not for people."""
    result = subprocess.run([find_program("weir-milter"), "-f", "-H", fd], timeout=5,
                            stdin=subprocess.DEVNULL, capture_output=True, text=True,
                            check=False)
    assert result.returncode == 2 and "-H is for a reload only" in result.stderr


# An upgrade.

def test_upgrade(weir, tmp_path):
    """What is installed in the program's place runs after the reload, in the same
    process; sessions of before are served by the old program to their end."""
    program = tmp_path / "weir-milter"
    shutil.copy(find_program("weir-milter"), program)
    milter = weir(WIDE, program=str(program))
    master, before, first = milter.master, replaced(milter), exe(milter.master)
    old = load.fill([milter.socket], "192.0.2.1", 4)

    def install(data):
        new = tmp_path / "new"
        new.write_bytes(data)
        new.chmod(0o755)
        new.rename(program)             # as packages do it

    good = program.read_bytes()
    for data, says in ((b"#!/bin/sh\necho weir-milter: no licence >&2; exit 1\n", "no licence"),
                       (b"#!/bin/sh\nexit 3\n", "status 3"),
                       (b"#!/bin/sh\nkill -SEGV $$\n", "killed by signal 11"),
                       (good[:20000], "reload refused"), (b"", "reload refused")):
        install(data)
        refused_reload(milter, says)
        assert exe(milter.master) == first
        assert load.connects(milter.socket, "192.0.2.1") == [True]
    program.unlink()
    refused_reload(milter, "No such file")
    install(good + b"\0")
    second = os.stat(program).st_dev, os.stat(program).st_ino
    reload(milter)
    assert milter.master == master and exe(master) == second != first
    new = [pid for pid in milter.workers() if pid not in before]
    assert [exe(pid) for pid in new] == [second, second]
    assert all(session.mail().code == rawmilter.CONTINUE for session in old)
    kept = [pid for pid in milter.workers() if pid in before]
    assert kept and {exe(pid) for pid in kept} == {first}
    load.close_all(old)
    replaced(milter, before)


@pytest.mark.parametrize("files", [8, 10])
def test_new_workers_cannot_run(weir, tmp_path, files):
    """What the trial cannot find out: those of before are not sent away until the new
    ones serve, be it never."""
    program = tmp_path / "weir-milter"
    shutil.copy(find_program("weir-milter"), program)
    milter = weir(WIDE.replace("60s", "1s"), program=str(program))
    before = replaced(milter)
    old = load.fill([milter.socket], "192.0.2.1", 2)
    wrapper = tmp_path / "new"
    wrapper.write_text(f"#!/bin/sh\n[ $1 = -n ] || ulimit -n {files}\n"
                       f'exec {find_program("weir-milter")} "$@"\n')
    wrapper.chmod(0o755)
    wrapper.rename(program)
    since = milter.mark()
    milter.reload()
    milter.wait_log("cannot be started: Too many|the workers of before go on", since=since)
    time.sleep(1.2)                     # longer than drain-timeout
    assert set(before) <= set(milter.workers()) and not milter.log("reloaded")
    assert load.connects(milter.socket, "192.0.2.1", 6) == [True] * 6
    assert all(session.mail().code == rawmilter.CONTINUE for session in old)
    load.close_all(old)


def test_upgrade_in_the_background(tmp_path):
    """A daemon finds its relative paths again, keeps its pid, and leaves nothing."""
    program, conf = tmp_path / "weir-milter", tmp_path / "weir.conf"
    socket = proc.make_run_directory("daemon") / "milter.sock"
    shutil.copy(find_program("weir-milter"), program)
    conf.write_text("workers = 1\ndrain-timeout = 0\n")
    subprocess.run(["./weir-milter", "-c", "weir.conf", "-p", f"unix:{socket}", "-P", "pid"],
                   cwd=tmp_path, check=True, timeout=10)
    pid = int((tmp_path / "pid").read_text())
    try:
        before = proc.wait_for(lambda: proc.children(pid))
        (tmp_path / "new").write_bytes(program.read_bytes())
        (tmp_path / "new").chmod(0o755)
        (tmp_path / "new").rename(program)
        conf.write_text("workers = 2\ndrain-timeout = 0\n")
        os.kill(pid, signal.SIGHUP)
        proc.wait_for(lambda: len(proc.children(pid)) == 2
                      and not set(proc.children(pid)) & set(before), 10, "the new workers")
        assert exe(pid)[1] == program.stat().st_ino
        assert load.connects(f"unix:{socket}", "192.0.2.1") == [True]
        os.kill(pid, signal.SIGTERM)
        proc.wait_for(lambda: not Path(f"/proc/{pid}").exists()
                      or "Z" in Path(f"/proc/{pid}/stat").read_text().split()[2])
        assert not socket.exists() and not (tmp_path / "pid").exists()
    finally:
        try:
            os.killpg(os.getpgid(pid), signal.SIGKILL)
        except ProcessLookupError:
            pass


# The end.

@pytest.mark.parametrize("name", ["postfix", "sendmail"])
def test_stop(weir, sources, new_postfix, new_sendmail, milter_socket, name):
    """SIGTERM: no new session is taken, those in progress are decided to their end,
    221, and then weir is gone."""
    milter = weir(WIDE)
    mta = careful(name, new_postfix, new_sendmail, milter_socket)
    sessions = [mta.connect(next(sources)) for _ in range(5)]
    for number, client in enumerate(sessions):
        for step in (client.ehlo, client.mail, client.rcpt)[:number]:
            assert step() == 250
    process = milter.process
    milter.signal(signal.SIGTERM)
    milter.wait_log("stopping: 5 sessions open, they have 60 s to end")
    proc.wait_for(lambda: not proc.listening(proc.parse_socket(milter_socket)))
    with mta.connect(next(sources)) as late:
        assert late.ehlo() == 250 and late.mail() == 451 and late.quit() == 221
    seen = milter.mark()
    for number, client in enumerate(sessions):
        for step in (client.ehlo, client.mail, client.rcpt)[number:]:
            assert step() == 250, client.transcript
        assert process.alive()
        assert client.data() == 250 and client.quit() == 221
    assert process.wait(3) == 0
    assert len([line for line in milter.log("action=accept stage=rcpt")
                if line in milter.log()[seen:]]) == 3
    milter.kill()


def test_stop_makes_room(weir):
    """The next weir can start while the one before still drains."""
    first = weir(WIDE)
    old = load.fill([first.socket], "192.0.2.1", 2)
    first.signal(signal.SIGTERM)
    proc.wait_for(lambda: not proc.listening(proc.parse_socket(first.socket)))
    second = weir(WIDE)
    assert load.connects(second.socket, "192.0.2.1") == [True]
    assert all(session.mail().code == rawmilter.CONTINUE for session in old)
    load.close_all(old)
    assert first.process.wait(3) == 0
    assert load.connects(second.socket, "192.0.2.1") == [True]
    first.kill()


@pytest.mark.parametrize("by", ["reload", "stop"])
def test_drain_timeout(weir, by):
    """Then the last sessions are cut."""
    milter = weir(WIDE.replace("60s", "1s"))
    before = replaced(milter)
    old = load.fill([milter.socket], "192.0.2.1", 4)
    start = time.monotonic()
    process = milter.process
    if by == "reload":
        reload(milter)
        assert milter.wait_log("drain-timeout: its last sessions are cut", 3)
        replaced(milter, before)
    else:
        milter.signal(signal.SIGTERM)
        assert process.wait(4) == 0
    assert 0.9 < time.monotonic() - start < 3
    assert all(session.closed() for session in old)
    if by == "stop":
        milter.kill()


def test_second_term_cuts(weir):
    milter = weir(WIDE)
    old = load.fill([milter.socket], "192.0.2.1", 4)
    process = milter.process
    milter.signal(signal.SIGTERM)
    milter.wait_log("stopping: 4 sessions")
    assert process.wait(0.5) is None
    start = time.monotonic()
    milter.signal(signal.SIGINT)
    assert process.wait(3) == 0 and time.monotonic() - start < 2
    assert all(session.closed() for session in old)
    milter.kill()


# A worker that crashes.

@pytest.mark.parametrize("draining", [False, True], ids=["serving", "draining"])
def test_crash_costs_only_its_own(weir, redis, draining):
    """Also of a worker that drains, whose place nobody takes: the others go on, and
    what it held is given back, here and in Redis."""
    milter = weir(WIDE.replace("1000 }", "12 }"), redis=redis)
    before = replaced(milter)
    sessions = []
    for pid, count in zip(before, (7, 5)):
        stop(pid)                       # so that the other one gets them
        sessions += load.fill([milter.socket], "192.0.2.1", count)
        os.kill(pid, signal.SIGCONT)
    victim = before[0]
    if draining:
        reload(milter)
        proc.wait_for(lambda: len(milter.workers()) == 4)
    os.kill(victim, signal.SIGKILL)
    milter.wait_log("was killed by signal 9")
    proc.wait_for(lambda: open_keys(redis) == 7, 5, "it is given back")
    alive, dead = sessions[:7], sessions[7:]
    assert all(session.mail().code == rawmilter.CONTINUE for session in alive)
    assert all(session.closed() for session in dead)
    again = load.fill([milter.socket], "192.0.2.1", 5)
    assert load.connects(milter.socket, "192.0.2.1") == [False]
    load.close_all(alive + again)
    proc.wait_for(lambda: open_keys(redis) == 0, 5, "all is given back")
