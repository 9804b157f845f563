# SPDX-License-Identifier: BSD-2-Clause
"""Every fault of Redis, under an MTA that goes on receiving mail: no 5xx, no
lost message, no slow reply; the limits hold on; one line when Redis goes and
one when it is back; and then it is used again."""

import re
import time

import pytest

import load
import rawmilter
from harness import proc
from rawmilter import RawMilter

TIMEOUT = 0.05          # weir's own, for an answer of Redis
SLACK = 1.0             # what a busy host may add
BACK = 3.0              # 2 s, and what a busy host may add
BURST = 10
CONF = """
limit connections { rate = "1/1h" burst = 10 }
limit recipients { enabled = false }
limit messages { rate = "1000/1h" }
"""
DOWN = r"redis \S+ does not answer \("
IS_BACK = r"redis \S+ is back after \d+ s"


class Fault:
    """start() breaks Redis, end() mends it. down: weir has to notice.
    flapping: Redis is back before weir may have noticed. why: what weir says."""

    def __init__(self, start, end, down=True, flapping=False, why=""):
        self.start, self.end = start, end
        self.down, self.flapping, self.why = down, flapping, why


def nothing(_redis):
    pass


def fill_memory(redis):
    redis.cmd("SET", "filler", "x" * 2000000)
    redis.cmd("CONFIG", "SET", "maxmemory", "1mb")


def free_memory(redis):
    redis.cmd("CONFIG", "SET", "maxmemory", "0")
    redis.cmd("DEL", "filler")


FAULTS = {
    "killed": Fault(lambda r: r.kill(), lambda r: r.start(), why="onnect"),
    "stopped": Fault(lambda r: r.freeze(), lambda r: r.thaw(), why="timeout"),
    "restarted": Fault(lambda r: r.restart(), nothing, down=False, flapping=True),
    "readonly": Fault(lambda r: r.cmd("REPLICAOF", "127.0.0.1", 1),
                      lambda r: r.cmd("REPLICAOF", "NO", "ONE"), why="READONLY"),
    "full": Fault(fill_memory, free_memory, why="OOM"),
    "script flush": Fault(lambda r: r.cmd("SCRIPT", "FLUSH"), nothing, down=False),
    "refusing clients": Fault(
        lambda r: (r.cmd("CONFIG", "SET", "requirepass", "x"),
                   r.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")),
        lambda r: r.cmd("CONFIG", "SET", "requirepass", ""), why="NOAUTH"),
}


def flood(mta, source, count=3 * BURST):
    """One client connects again and again; how often it was let in."""
    admitted = 0
    for _ in range(count):
        with mta.connect(source) as client:
            assert client.seconds < TIMEOUT + SLACK
            assert client.greeting.code in (220, 421)
            if client.greeting.code == 220:
                admitted += 1
                assert client.quit() == 221
    return admitted


def used(redis, source):
    """Whether Redis keeps a record of the client."""
    return redis.cmd("KEYS", f"weir:address:*{source}")


def check_lines(weir, down):
    """One line each, over all workers, for each change of state."""
    load.settle(weir)
    went, came = weir.log(DOWN), weir.log(IS_BACK)
    assert len(went) == len(came) == down, weir.text()


def go_through(fault, mta, weir, redis, sources):
    with load.SmtpLoad(mta, sources) as mail:
        mail.wait(6)
        fault.start(redis)
        mail.wait(6)
        if fault.down:
            assert fault.why in weir.wait_log(DOWN)
        admitted = flood(mta, next(sources))
        if not fault.flapping:
            assert admitted == BURST
        mail.wait(6)
        fault.end(redis)
        if fault.down:
            weir.wait_log(IS_BACK, timeout=BACK)
        load.settle(weir)
        if fault.flapping and weir.log(DOWN):
            weir.wait_log(IS_BACK, timeout=BACK)
        source = next(sources)
        assert flood(mta, source) == BURST
        assert used(redis, source)
        mail.wait(6)
    mail.check(TIMEOUT + SLACK)
    check_lines(weir, len(weir.log(DOWN)) if fault.flapping else fault.down)
    assert len(weir.log(DOWN)) <= 1


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_postfix(fault, postfix, weir, new_redis, sources):
    redis = new_redis()
    go_through(fault, postfix, weir(CONF, redis=redis), redis, sources)
    proc.wait_for(postfix.queue_empty)


@pytest.mark.parametrize("name", ["killed", "stopped"])
def test_sendmail(name, sendmail, weir, new_redis, sources):
    redis = new_redis()
    go_through(FAULTS[name], sendmail, weir(CONF, redis=redis), redis, sources)


def test_again_and_again(weir, new_redis, milter_socket):
    """Each change of state is one line, however often it comes."""
    redis = new_redis()
    running = weir(CONF, redis=redis)
    for number in range(3):
        redis.kill()
        mark = running.mark()
        load.connects(milter_socket, "192.0.2.1", 5)
        running.wait_log(DOWN, since=mark)
        redis.start()
        running.wait_log(IS_BACK, timeout=BACK, since=mark)
        check_lines(running, number + 1)


def test_absent_at_start(postfix, weir, new_redis, sources):
    redis = new_redis()
    redis.kill()
    running = weir(CONF, redis=redis)
    go_through(Fault(nothing, lambda r: r.start(), why="onnect"),
               postfix, running, redis, sources)


def test_wrong_password(postfix, weir, new_redis, sources):
    """Said without the password; used as soon as Redis knows it too."""
    redis = new_redis(password="right")
    url = f'redis {{ url = "redis://:hunter2@{redis.host}:{redis.port}" }}'
    running = weir(CONF + url)
    go_through(Fault(nothing, lambda r: r.cmd("CONFIG", "SET", "requirepass", "hunter2"),
                     why="WRONGPASS"), postfix, running, redis, sources)
    assert "hunter2" not in running.text()


def test_wrong_type(postfix, weir, redis, sources):
    """Something else than a record at a client's key: this client is counted
    here until it is gone, all others as ever, and it is said once."""
    running = weir(CONF, redis=redis)
    source = next(sources)
    assert flood(postfix, source, 1) == 1
    key, = used(redis, source)
    redis.cmd("SET", key, "precious")
    with load.SmtpLoad(postfix, sources) as mail:
        mail.wait(6)
        assert flood(postfix, source) == BURST
        assert redis.cmd("GET", key) == "precious"
        other = next(sources)
        assert flood(postfix, other) == BURST and used(redis, other)
        redis.cmd("DEL", key)
        assert flood(postfix, source) == BURST
        assert redis.cmd("TYPE", key) == "hash"
    mail.check(TIMEOUT + SLACK)
    check_lines(running, 0)
    warnings = running.log("holds something else")
    assert warnings and key in warnings[0]
    assert len(warnings) == 1


@pytest.mark.parametrize("forbidden", ["-evalsha -eval", "-pexpire", "-@write"])
def test_forbidden_command(weir, new_redis, milter_socket, forbidden):
    """A Redis user who may not do all that is needed: said, and limited here."""
    redis = new_redis(acl=[f"weir on >pw ~* +@all {forbidden}"])
    running = weir(f"""{CONF}redis {{ url = "redis://weir:pw@{redis.host}:{redis.port}" }}""")
    results = load.connects(milter_socket, "192.0.2.1", 3 * BURST)
    assert results == [True] * BURST + [False] * 2 * BURST
    running.wait_log(r"does not answer \((NOPERM|ERR The user)", timeout=2)
    time.sleep(1)                       # weir looks again and again
    load.connects(milter_socket, "192.0.2.2", 5)
    load.settle(running)
    assert (len(running.log(DOWN)), len(running.log(IS_BACK))) == (1, 0)


def test_limits_that_cannot_be_read(weir, new_redis, milter_socket):
    """A Redis user who may not read the limits: the file's hold, in Redis, and it is said once."""
    redis = new_redis(acl=["weir on >pw ~* +@all -hgetall"])
    running = weir(f"""{CONF}redis {{ url = "redis://weir:pw@{redis.host}:{redis.port}" }}""")
    results = load.connects(milter_socket, "192.0.2.1", 3 * BURST)
    assert results == [True] * BURST + [False] * 2 * BURST
    assert redis.cmd("KEYS", "weir:address:*")
    load.settle(running)
    assert len(running.log("does not let the limits be read")) == 1
    assert not running.log(DOWN)


def test_replies_are_quick_while_down(weir, new_redis, milter_socket):
    """Once weir knows that Redis hangs nobody waits for it any more."""
    redis = new_redis()
    running = weir(CONF.replace('burst = 10', 'burst = 1000'), redis=redis)
    redis.freeze()
    load.connects(milter_socket, "192.0.2.1", 5)
    running.wait_log(DOWN)
    seconds = []
    for _ in range(50):
        with RawMilter(milter_socket) as session:
            session.negotiate()
            start = time.monotonic()
            assert session.connect("192.0.2.1").code == rawmilter.CONTINUE
            seconds.append(time.monotonic() - start)
    assert sorted(seconds)[25] < TIMEOUT / 2, "half of them wait for Redis"
    redis.thaw()
    running.wait_log(IS_BACK, timeout=BACK)


def test_level_is_kept_over_a_short_fault(weir, new_redis, milter_socket):
    """What Redis counted before is in force again when it is back."""
    redis = new_redis()
    running = weir(CONF, redis=redis)
    assert load.connects(milter_socket, "192.0.2.1", BURST) == [True] * BURST
    redis.freeze()
    load.connects(milter_socket, "192.0.2.2", 5)
    running.wait_log(DOWN)
    redis.thaw()
    running.wait_log(IS_BACK, timeout=BACK)
    assert load.connects(milter_socket, "192.0.2.1", 2) == [False, False]


@pytest.mark.parametrize("when_down", ["accept", "hold"])
def test_greylist(postfix, weir, new_redis, sources, when_down):
    """accept: strangers are let in unasked. hold: they wait as ever, and this
    host remembers them."""
    redis = new_redis()
    redis.kill()
    conf = f"""{CONF}greylist {{ enabled = true delay = 1s window = 1h
                                 when-down = {when_down} }}"""
    running = weir(conf, redis=redis)
    source = next(sources)

    def tries():
        with postfix.connect(source) as client:
            return client.send_message().codes()
    accepted = [220, 250, 250, 250, 354, 250, 221]
    if when_down == "accept":
        assert [tries(), tries()] == [accepted, accepted]
    else:
        assert tries() == [220, 250, 250, 421]
        proc.wait_for(lambda: tries() == accepted, timeout=8, every=0.5)
        lines = running.log(r"reason=greylist")
        assert lines and all(re.search("source=zone", line) for line in lines)
        assert tries() == accepted
    redis.start()
    running.wait_log(IS_BACK, timeout=BACK)
    source = next(sources)
    assert tries() == [220, 250, 250, 421]
