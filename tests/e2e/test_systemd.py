# SPDX-License-Identifier: BSD-2-Clause
"""At home under systemd: Type=notify, priorities in the journal, and a unit file that gives
away little. (scripts/check-package runs it under a real one.)"""

import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest

import load
from harness import proc
from harness.weir import find_program
from rawmilter import RawMilter

UNIT = proc.SOURCE / "etc/weir-milter.service"
EXPOSURE_MAX = 2.0


class Manager:
    """Receives what a service manager is told."""

    def __init__(self, abstract):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(5)
        name = str(proc.make_run_directory("notify") / "notify")
        self.address = f"@{name}" if abstract else name
        self.socket.bind(f"\0{name}" if abstract else name)
        if not abstract:
            os.chmod(name, 0o666)

    def next(self):
        text = self.socket.recv(4096).decode()
        return dict(line.split("=", 1) for line in text.split("\n"))


@pytest.mark.parametrize("abstract", [False, True], ids=["path", "abstract"])
def test_notify(weir, abstract):
    """Ready when the workers serve and not before; a reload that works, one that does not,
    and how long the end may take."""
    manager = Manager(abstract)
    running = weir("mode = observe\ndrain-timeout = 77s", env={"NOTIFY_SOCKET": manager.address})
    ready = manager.next()
    assert ready["READY"] == "1" and "2 workers on unix:" in ready["STATUS"]
    assert "mode observe" in ready["STATUS"]
    assert load.connects(running.socket, "192.0.2.1") == [True]
    before = running.workers()

    running.reload()
    begin = manager.next()
    assert begin["RELOADING"] == "1" and int(begin["MONOTONIC_USEC"]) > 0
    ready = manager.next()
    assert ready["READY"] == "1" and "refused" not in ready["STATUS"]
    running.wait_log("reloaded")
    assert not set(before) & set(running.wait_workers(2))

    running.write_conf("nonsense = 1")
    running.reload()
    assert manager.next()["RELOADING"] == "1"
    assert "the last reload was refused" in manager.next()["STATUS"]
    running.wait_log("reload refused")

    with RawMilter(running.socket) as held:
        held.open("192.0.2.1")
        running.signal(signal.SIGTERM)
        stopping = manager.next()
        assert stopping["STOPPING"] == "1"
        assert 77 <= int(stopping["EXTEND_TIMEOUT_USEC"]) / 1e6 <= 100
        running.signal(signal.SIGTERM)
        assert int(manager.next()["EXTEND_TIMEOUT_USEC"]) / 1e6 <= 20
        running.stop()


def test_not_ready(weir):
    """A master whose workers cannot be started has not started."""
    manager = Manager(False)
    directory = proc.make_run_directory("few")
    os.chown(directory, 65534, -1)
    running = weir(socket=f"unix:{directory}/milter.sock", args=["-u", "nobody"],
                   prefix=["prlimit", "--nproc=1"], env={"NOTIFY_SOCKET": manager.address})
    running.wait_log("worker 1 cannot be started")
    manager.socket.settimeout(0.5)
    with pytest.raises(TimeoutError):
        manager.next()


@pytest.mark.parametrize("address", ["", "/nonexistent/notify", "relative", "@" + "x" * 200])
def test_nobody_to_notify(weir, address):
    running = weir(env={"NOTIFY_SOCKET": address})
    assert load.connects(running.socket, "192.0.2.1") == [True]


@pytest.mark.parametrize("own", [True, False])
def test_journal(own):
    """Lines begin with their priority where standard error is the journal's, and only there."""
    path = proc.make_run_directory("journal") / "milter.sock"
    reading, writing = os.pipe()
    info = os.fstat(writing if own else 0)
    milter = subprocess.Popen([find_program("weir-milter"), "-f", "-p", f"unix:{path}"],
                              stderr=writing, env={**os.environ, "JOURNAL_STREAM":
                                                   f"{info.st_dev}:{info.st_ino}"})
    os.close(writing)
    try:
        proc.wait_for(lambda: proc.listening(path))
    finally:
        milter.terminate()
        milter.wait(10)
    with os.fdopen(reading) as stream:
        text = stream.read()
    front = ("<4>", "<5>") if own else ("", "")
    assert re.search(rf"^{front[0]}weir-milter: running as root", text, re.MULTILINE)
    assert re.search(rf"^{front[1]}weir-milter: started: ", text, re.MULTILINE)


# The unit file.

def settings():
    """[(name, value)] of the section Service, in order."""
    section = UNIT.read_text().partition("[Service]")[2].partition("\n[")[0]
    return re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE)


def test_exposure():
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--no-pager",
                           f"--threshold={int(EXPOSURE_MAX * 10)}", UNIT],
                          capture_output=True, text=True, timeout=30, check=False)
    found = re.search(r"Overall exposure level for weir-milter.service: ([\d.]+)", done.stdout)
    assert found and float(found[1]) <= EXPOSURE_MAX, done.stdout + done.stderr
    assert done.returncode == 0


def test_unit_is_understood():
    """systemd knows each word of it. (Programs that are not installed here are not its fault.)"""
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", UNIT], capture_output=True,
                          text=True, timeout=30, check=False)
    complaints = [line for line in done.stderr.splitlines()
                  if "weir-milter" in line and "is not executable" not in line]
    assert complaints == []


def test_unit_agrees_with_the_program():
    unit = dict(settings())
    assert unit["Type"] == "notify" and unit["User"] == "weir"
    start = next(value for name, value in settings() if name == "ExecStart")
    assert "-f" in start.split()            # systemd has to keep its hands on the process
    checked, told = unit["ExecReload"].split("&&")
    assert "weir-milter -n -c /etc/weir/weir.conf" in checked and "kill -HUP $MAINPID" in told
    assert "/kill" not in told              # procps is not everywhere, a shell's own is
    # the capability set is empty, so it cannot be started as root and become another
    assert unit["CapabilityBoundingSet"] == "" and unit["NoNewPrivileges"] == "yes"
    source = (proc.SOURCE / "conf/conf.c").read_text()
    seconds = int(re.search(r"DEFAULT_DRAIN_TIMEOUT \((\d+) \* USEC_PER_SEC", source)[1])
    assert int(unit["TimeoutStopSec"].removesuffix("min")) * 60 > seconds
