# SPDX-License-Identifier: BSD-2-Clause
"""Load levels: signals make a level, level 1 refuses strangers at connect and level 2 all but
the exempt, by real MTAs; and weir-milters that tell each other of it.

The host's own signals (run queue, pressure) are simulated in tests/unit/test_load.c: here the
MTA's queue, by a directory or a command, and the open sessions are the load.
"""

import os
import re
import signal
import subprocess
import time

import pytest

from harness import proc
from harness.ctl import Ctl
from harness.weir import PATIENT
from load import connects, settle
from rawmilter import RawMilter
from test_limits import OFF, network_of

UP, DOWN = 5.0, 12.0            # seconds; a level goes up in 2.5 and down in 8


class Queue:
    """A directory that plays the MTA's queue."""

    def __init__(self):
        self.path = proc.make_directory("queue")

    def fill(self, count):
        have = sorted(self.path.iterdir())
        for number in range(len(have), count):
            (self.path / f"{number:06}").touch()
        for path in have[count:]:
            path.unlink()


@pytest.fixture
def queue():
    return Queue()


def load(queue, more="", marks="3 1, 6 4"):
    return OFF + f'load {{ queue = "{marks}" queue-directory = {{ "{queue.path}" }} {more} }}\n'


def make_known(redis, source, prefix="weir"):
    """As if it had sent mail for weeks (weir.redis(7))."""
    now = int(time.time() * 1e6)
    redis.cmd("HSET", f"{prefix}:pool:{{{network_of(source)}}}", "trust",
              f"30000000 90000000 0 {now} {now}")


def wait_level(milter, level, since=0, timeout=None):
    line = milter.wait_log(rf"load: level={level} ", timeout or (UP if level else DOWN), since)
    return milter.fields(line)


def greeting(mta, source):
    with mta.connect(source) as client:
        if client.greeting == 421:
            assert client.closed()
            return 421
        assert client.greeting == 220
        client.quit()
        return 220


def delivers(mta, source):
    with mta.connect(source) as client:
        return client.send_message().codes()


GOOD = [220, 250, 250, 250, 354, 250, 221]


def levels(milter):
    return [(int(f["was"]), int(f["level"]))
            for f in map(milter.fields, milter.log(r"load: level="))]


# --- the levels --------------------------------------------------------------------


def test_levels(mta, weir, redis, sources, queue):
    """0, 1, 2, 1, 0: who is refused at each, by what code, and what is logged."""
    exempt, known, stranger = next(sources), next(sources), next(sources)
    milter = weir(load(queue) + f'exempt = {{ "{exempt}" }}\n', redis=redis, **PATIENT)
    make_known(redis, known)

    def who_gets_in():
        return [greeting(mta, s) for s in (exempt, known, stranger)]

    assert who_gets_in() == [220, 220, 220]
    queue.fill(2)                                       # between the marks: nothing
    queue.fill(3)
    fields = wait_level(milter, 1)
    assert (fields["was"], fields["signal"], fields["value"], fields["mark"],
            fields["refuses"]) == ("0", "queue", "3", "3", "strangers")
    assert who_gets_in() == [220, 220, 421]
    assert delivers(mta, known) == GOOD
    new = next(sources)
    assert greeting(mta, new) == 421
    line = milter.wait_log(rf"action=refuse .*client={re.escape(new)} ")
    fields = milter.fields(line)
    assert (fields["code"], fields["stage"], fields["reason"], fields["level"]) == \
        ("421", "connect", "load", "1")
    assert "limit" not in fields
    # of a stranger that is refused Redis keeps nothing
    assert not [k for k in redis.cmd("KEYS", "*") if new in k or network_of(new) in k]

    mark = milter.mark()
    queue.fill(7)
    assert wait_level(milter, 2, mark)["mark"] == "6"
    assert who_gets_in() == [220, 421, 421]
    assert delivers(mta, exempt) == GOOD

    mark = milter.mark()
    queue.fill(4)
    assert wait_level(milter, 1, mark, DOWN)["mark"] == "4"
    assert who_gets_in() == [220, 220, 421]

    mark, start = milter.mark(), time.monotonic()
    queue.fill(0)
    fields = wait_level(milter, 0, mark)
    assert time.monotonic() - start < 10
    assert (fields["was"], fields["value"], fields["mark"], fields["refuses"]) == \
        ("1", "0", "1", "nobody")
    assert who_gets_in() == [220, 220, 220]
    assert levels(milter) == [(0, 1), (1, 2), (2, 1), (1, 0)]
    # what the client was told is the MTA's; weir's words stand in the log of Postfix
    if mta.name == "postfix":
        assert mta.log("4.3.2 Too busy")


def test_open_sessions(mta, weir, redis, sources):
    """Sessions are counted whoever opened them; those that are open go on."""
    milter = weir(OFF + 'load { sessions = "4 1" }\n', redis=redis, **PATIENT)
    known = next(sources)
    make_known(redis, known)
    clients = [mta.connect(next(sources)) for _ in range(4)]
    assert all(c.greeting == 220 for c in clients)
    fields = wait_level(milter, 1)
    assert fields["signal"] == "sessions" and int(fields["value"]) >= 4
    assert greeting(mta, next(sources)) == 421
    assert delivers(mta, known) == GOOD
    assert [c.send_message().codes()[-1] for c in clients] == [221] * 4
    for client in clients:
        client.close()
    start = time.monotonic()
    wait_level(milter, 0, 0)
    assert time.monotonic() - start < 10
    assert greeting(mta, next(sources)) == 220
    assert levels(milter) == [(0, 1), (1, 0)]


def test_reply_and_refuse_at_helo(mta, weir, redis, sources, queue):
    """No session goes on to HELO for the sake of weir's words."""
    milter = weir(load(queue, 'reply = "421 4.3.9 Full house"') + "refuse-at = helo\n",
                  redis=redis, **PATIENT)
    queue.fill(3)
    wait_level(milter, 1)
    assert greeting(mta, next(sources)) == 421
    if mta.name == "postfix":
        mta.wait_log("421 4.3.9 Full house")


def test_observe(mta, weir, redis, sources, queue):
    """The level is there and logged, and nobody is refused, nor charged less."""
    milter = weir(load(queue) + "mode = observe\n"
                  'limit mine { count = connections rate = "9/1h" }\n', redis=redis, **PATIENT)
    for count, level in (3, 1), (6, 2):
        mark, source = milter.mark(), next(sources)
        queue.fill(count)
        assert wait_level(milter, level, mark)["mode"] == "observe"
        assert delivers(mta, source) == GOOD
        line = milter.wait_log(rf"action=refuse .*client={re.escape(source)} ", since=mark)
        assert f"reason=load level={level}" in line and "mode=observe" in line
        record = redis.hash(f"weir:address:{{{network_of(source)}}}:{source}")
        assert record["mine"].startswith("1000000 ")


@pytest.mark.parametrize("by", ["port", "name"])
def test_spared_daemon(mta, weir, redis, sources, queue, by):
    """Who submits is not known yet when he connects: level 1 leaves his port alone."""
    name = {"postfix": "mx.example.test", "sendmail": "V4"}[mta.name]
    milter = weir(load(queue, f'spare = {{ "no", "{mta.port if by == "port" else name}" }}'),
                  redis=redis, **PATIENT)
    source = next(sources)
    queue.fill(3)
    wait_level(milter, 1)
    assert delivers(mta, source) == GOOD
    mark = milter.mark()
    queue.fill(6)
    wait_level(milter, 2, mark)
    assert greeting(mta, source) == 421


def test_submission_is_spared_unasked(weir, queue, milter_socket):
    milter = weir(load(queue))
    queue.fill(3)
    wait_level(milter, 1)
    for port, code in ("25", "y"), ("587", "c"), ("465", "c"), ("", "y"):
        with RawMilter(milter_socket) as session:
            session.negotiate()
            assert "{daemon_port}" in session.macros["connect"]
            reply = session.connect("192.0.2.1", macros={"{daemon_port}": port})
            assert reply.code == code, (port, reply)


def test_after_a_limit(weir, redis, queue, milter_socket):
    """A known client over a limit is refused for that, at any level, and one that a limit
    refused a moment ago is no stranger for it."""
    milter = weir(load(queue) + 'limit mine { count = connections rate = "2/1h" }\n',
                  redis=redis, **PATIENT)
    make_known(redis, "192.0.2.1")
    queue.fill(3)
    wait_level(milter, 1)
    assert connects(milter_socket, "192.0.2.1", 5) == [True, True, False, False, False]
    settle(milter)
    reasons = [milter.fields(line)["reason"] for line in milter.log("client=192.0.2.1 ")
               if "action=refuse" in line]
    assert set(reasons) == {"rate"}


def test_redis_lost(weir, redis, queue, milter_socket):
    """Without Redis this host knows whom it has seen known, and refuses the others."""
    milter = weir(load(queue), redis=redis, **PATIENT)
    make_known(redis, "192.0.2.1")
    with RawMilter(milter_socket) as session:           # it is seen to be known
        session.open("192.0.2.1")
        session.message()
    redis.freeze()
    try:
        queue.fill(3)
        wait_level(milter, 1)
        milter.wait_log("does not answer") if connects(milter_socket, "192.0.2.1", 4) else None
        assert connects(milter_socket, "192.0.2.1", 1) == [True]
        assert connects(milter_socket, "198.51.100.1", 1) == [False]
    finally:
        redis.thaw()


# --- where the queue's length comes from ---------------------------------------------


def test_postfix_queue(weir):
    """Of a Postfix queue incoming and active count, at any depth, deferred does not."""
    queue = Queue()
    for name in ("incoming", "active/A/B", "deferred/1", "pid"):
        (queue.path / name).mkdir(parents=True)
    milter = weir(load(queue, marks="4 1"))
    for name in ("deferred/1/a", "deferred/1/b", "deferred/1/c", "deferred/1/d", "pid/x",
                 "incoming/a", "active/b"):
        (queue.path / name).touch()
    time.sleep(2.5)
    assert levels(milter) == []
    for name in ("active/A/c", "active/A/B/d"):
        (queue.path / name).touch()
    assert wait_level(milter, 1)["value"] == "4"


def command(text, marks="3 1"):
    return OFF + f'user = nobody\nload {{ queue = "{marks}" queue-command = "{text}" }}\n'


def test_queue_command(weir, queue):
    """Any command that prints a number, as weir's user."""
    number = queue.path / "number"
    number.write_text("2\n")
    milter = weir(command(f"id -un > {queue.path}/who; cat {number}"))
    os.chmod(queue.path, 0o777)
    proc.wait_for((queue.path / "who").exists, 5)
    assert levels(milter) == []
    number.write_text("  5 \n")
    assert wait_level(milter, 1)["value"] == "5"
    assert (queue.path / "who").read_text() == "nobody\n"
    number.write_text("0\n")
    wait_level(milter, 0)


@pytest.mark.parametrize("text, why", [
    ("echo many", "does not print a number"), ("exit 1", "does not print a number"),
    ("echo -1", "does not print a number"), ("echo 3 4", "does not print a number"),
    ("yes 3", "does not print a number"), ("/no/such/program", "does not print a number")])
def test_queue_command_is_wrong(weir, text, why):
    """It is said once, and weir goes on."""
    milter = weir(command(text))
    assert why in milter.wait_log("load: no queue ")
    time.sleep(3)
    assert len(milter.log("load: no queue ")) == 1
    assert connects(milter.socket, "192.0.2.1") == [True]


def test_queue_command_hangs(weir, queue):
    """It is ended, with all its children, and another one is started later; the master does
    what it has to meanwhile."""
    pids = queue.path / "pids"
    os.chmod(queue.path, 0o777)
    milter = weir(command(f"trap '' TERM HUP; sleep 1000 & echo $! >> {pids}; echo $$ >> {pids}; "
                          "wait; sleep 1000"))
    proc.wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 2, 5)
    victims = [int(p) for p in pids.read_text().split()]
    dead = milter.kill_worker()
    milter.wait_workers(2, without=[dead])
    assert "takes too long" in milter.wait_log("load: no queue ", 10)
    proc.wait_for(lambda: not any(os.path.exists(f"/proc/{p}") for p in victims), 5)
    proc.wait_for(lambda: len(pids.read_text().split()) >= 4, 20)
    assert milter.stop() < 4
    proc.wait_for(lambda: not any(os.path.exists(f"/proc/{p}")
                                  for p in pids.read_text().split()), 5)


def test_queue_command_not_as_root(weir, queue):
    milter = weir(OFF + f'load {{ queue = "3 1" queue-command = "touch {queue.path}/x" }}\n')
    assert "is not run as root: set user" in milter.wait_log("load: no queue ")
    time.sleep(2)
    assert not list(queue.path.iterdir())


# --- what is not there ----------------------------------------------------------------


def test_missing_signals(weir, queue):
    """Each says so once, and the others go on."""
    missing = queue.path / "none"
    milter = weir(OFF + 'load { sessions = "2 1" redis-latency = "20ms 5ms" '
                  f'neighbours = majority queue = "3 1" queue-directory = {{ "{missing}" }} }}\n')
    milter.wait_log(r"load: no queue \(/.*/none: No such file or directory\): going on without it")
    milter.wait_log(r"load: no redis-latency \(there is no redis section\)")
    milter.wait_log(r"load: no neighbours \(there is no redis section\)")
    time.sleep(3)
    assert len(milter.log("going on without it")) == 3
    sessions = [RawMilter(milter.socket) for _ in range(2)]
    for session in sessions:
        session.open("192.0.2.1")
    assert wait_level(milter, 1)["signal"] == "sessions"
    missing.mkdir()                                     # it comes later
    (missing / "a").touch()
    for session in sessions:
        session.close()
    wait_level(milter, 0)
    mark = milter.mark()
    for name in "bc":
        (missing / name).touch()
    assert wait_level(milter, 1, mark)["signal"] == "queue"


def test_unreadable_directory(weir, queue):
    milter = weir(load(queue) + "user = nobody\n", start=False)
    queue.path.chmod(0o700)
    milter.start()
    milter.wait_log(r"load: no queue \(.*: Permission denied\)")


def test_pressure_and_run_queue(weir):
    """This host's own: marks so low that there is always one, and none that never is."""
    milter = weir(OFF + 'load { run-queue = "0.001 0" psi-cpu = "100% 99%" '
                  'psi-memory = "100% 99%" psi-io = "100% 99%" }\n')
    busy = subprocess.Popen(["sh", "-c", "while :; do :; done"])
    try:
        assert wait_level(milter, 1)["signal"] == "run-queue"
    finally:
        busy.kill()
        busy.wait()
    assert not milter.log("going on without it")


def test_without_marks_nothing_is_measured(weir, redis):
    """Nothing is shed unasked, and the master sleeps."""
    milter = weir(OFF, redis=redis)
    def switches():
        with open(f"/proc/{milter.master}/status") as file:
            return int(re.search(r"^voluntary_ctxt_switches:\s+(\d+)", file.read(), re.M)[1])
    time.sleep(0.5)
    before = switches()
    time.sleep(2)
    assert switches() - before <= 2
    assert not milter.log("load:")


# --- the master ------------------------------------------------------------------------


def test_master_hangs(weir, queue, milter_socket):
    """A level that nobody measures any more is worth nothing: in 5 s it is 0."""
    milter = weir(load(queue))
    queue.fill(3)
    wait_level(milter, 1)
    assert connects(milter_socket, "192.0.2.1") == [False]
    os.kill(milter.master, signal.SIGSTOP)
    try:
        proc.wait_for(lambda: connects(milter_socket, "192.0.2.1") == [True], 8, every=0.2)
    finally:
        os.kill(milter.master, signal.SIGCONT)
    proc.wait_for(lambda: connects(milter_socket, "192.0.2.1") == [False], 5, every=0.2)


def test_reload(weir, queue, milter_socket):
    """The level outlives a reload, also between the marks; without marks it is 0."""
    milter = weir(load(queue, marks="3 1"))
    queue.fill(3)
    wait_level(milter, 1)
    queue.fill(2)
    for text, refused in (load(queue, marks="3 1"), True), (OFF, False):
        mark = milter.mark()
        milter.write_conf(text)
        milter.reload()
        milter.wait_log("reloaded weir", 10, mark)
        for _ in range(20):
            assert connects(milter_socket, "192.0.2.1") == [not refused]
            time.sleep(0.1)
    assert levels(milter) == [(0, 1)]


# --- neighbours -------------------------------------------------------------------------


def socket_of(tmp):
    return f"unix:{proc.make_run_directory(tmp)}/milter.sock"


def test_neighbours(weir, redis):
    """When most of them are above a mark, all that count neighbours refuse strangers."""
    queues = [Queue() for _ in range(3)]
    nodes = [weir(load(q, "neighbours = majority"), socket=socket_of(f"n{i}"), redis=redis,
                  **PATIENT) for i, q in enumerate(queues)]
    alone = weir(OFF, socket=socket_of("n3"), redis=redis, **PATIENT)
    proc.wait_for(lambda: redis.cmd("ZCARD", "weir:nodes") == 4, 8)
    queues[0].fill(3)
    queues[1].fill(3)
    for node in nodes[:2]:
        wait_level(node, 1)
    time.sleep(3)
    assert levels(nodes[2]) == []                       # two of four are not most of them
    alone.stop()
    queues[2].fill(2)                                   # between its own marks
    fields = wait_level(nodes[2], 1, 0, 15)           # the one that went is counted for 10 s
    assert fields["signal"] == "neighbours" and fields["mark"].startswith("50")
    assert connects(nodes[2].socket, "192.0.2.1") == [False]

    ctl = Ctl(redis.url)
    proc.wait_for(lambda: sorted(
        (n["load_level"], n["load_own"], n["load_signal"])
        for n in ctl.json("status")["nodes"] if n["load_level"] > 0)
        == [(1, 0, "neighbours"), (1, 1, "queue"), (1, 1, "queue")], 5)
    assert ctl.json("why", "192.0.2.1")["busy"] == 2
    assert "2 weir-milters are just now too busy for strangers" in \
        " ".join(ctl("why", "192.0.2.1").out.split())
    text = ctl("status").out
    assert len(re.findall(r"load level +1: strangers are refused for [^,]+, queue 3 \(mark 3\)",
                          text)) == 2
    assert len(re.findall(r"load level +1: .*, neighbours 66.66% \(mark 50", text)) == 1

    # one less, and the third lets go at once: its own word never held the others up
    mark = nodes[2].mark()
    queues[1].fill(0)
    fields = wait_level(nodes[2], 0, mark)
    assert fields["signal"] == "neighbours"
    assert connects(nodes[2].socket, "192.0.2.1") == [True]


def test_neighbours_when_redis_goes(weir, redis):
    """What they said last counts for some seconds, and nothing waits for more."""
    queues = [Queue() for _ in range(2)]
    first = weir(load(queues[0]), socket=socket_of("r0"), redis=redis, **PATIENT)
    second = weir(load(queues[1]), socket=socket_of("r1"), redis=redis, **PATIENT)
    third = weir(OFF + "load { neighbours = majority }\n", socket=socket_of("r2"), redis=redis,
                 **PATIENT)
    for queue, node in zip(queues, (first, second)):
        queue.fill(3)
        wait_level(node, 1)
    wait_level(third, 1, 0, 10)
    redis.freeze()
    try:
        assert wait_level(third, 0, 0, 15)["value"] == "missing"
        assert levels(first) == levels(second) == [(0, 1)]      # their own stays
        assert not third.log("going on without it")
    finally:
        redis.thaw()


def test_status_without_load(weir, redis):
    """Nothing of it where there are no marks."""
    weir(OFF, redis=redis)
    ctl = Ctl(redis.url)
    nodes = proc.wait_for(lambda: ctl.json("status")["nodes"], 5)
    assert (nodes[0]["load_level"], nodes[0]["load_values"]) == (0, "")
    assert "load" not in ctl("status").out
    assert "busy" not in ctl.json("why", "192.0.2.1")
    assert "busy" not in ctl("why", "192.0.2.1").out


def test_status_with_load(weir, redis, queue):
    """The values are shown while nothing happens: that is when marks are chosen."""
    milter = weir(load(queue, 'run-queue = "900 1"'), redis=redis, **PATIENT)
    queue.fill(2)
    ctl = Ctl(redis.url)
    proc.wait_for(lambda: "queue=2" in ctl("status").out, 8)
    assert re.search(r"load level +0; 0 refused\n +load +run-queue=[\d.]+ queue=2\n",
                     ctl("status").out)
    queue.fill(3)
    wait_level(milter, 1)
    assert connects(milter.socket, "192.0.2.1", 3) == [False] * 3
    node = proc.wait_for(lambda: [n for n in ctl.json("status")["nodes"]
                                  if n["load_refused"] == 3], 8)[0]
    assert (node["load_value"], node["load_mark"], node["load_signal"]) == ("3", "3", "queue")
