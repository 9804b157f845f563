# SPDX-License-Identifier: BSD-2-Clause
"""Redis behind real sentinels: the master dies, or is demoted, under an MTA that goes on
receiving mail."""

import time

import pytest

import load
from harness import proc
from harness.ctl import Ctl
from harness.topology import Sentinels
from test_redis_faults import BURST, CONF, SLACK, TIMEOUT, check_lines, flood, used

OWN = 15.0              # more than the sentinels ever need
AFTERWARDS = 1.0        # weir may take so much longer than they


@pytest.fixture
def sentinels():
    started = Sentinels()
    try:
        yield started.start()
    finally:
        started.stop()


def words(sentinels):
    return (f'{CONF}\nredis {{ sentinels = {{ {sentinels.places} }} master = "mymaster" }}\n')


def fail_over(sentinels, how):
    """Does it; returns (when it was done, when a new master could be written to)."""
    old = sentinels.master()
    other = next(s for s in sentinels.servers if s is not old)
    began = time.monotonic()
    how(old)
    proc.wait_for(lambda: sentinels.master_port() == other.port and
                  "role:master" in other.cmd("INFO", "replication"), OWN, "the failover")
    return other, began, time.monotonic()


@pytest.mark.parametrize("how", ["killed", "demoted"])
def test_failover(postfix, weir, sentinels, sources, how):
    milter = weir(words(sentinels))

    def act(old):
        if how == "killed":
            old.kill()
            milter.wait_log(r"redis mymaster does not answer", timeout=3)
        else:
            sentinels.sentinels[0].cmd("SENTINEL", "FAILOVER", "mymaster")

    with load.SmtpLoad(postfix, sources) as mail:
        mail.wait(6)
        source = next(sources)
        assert flood(postfix, source) == BURST
        assert used(sentinels.master(), source)
        master, began, elected = fail_over(sentinels, act)
        while True:
            source = next(sources)
            load.connects(milter.socket, source, 1)
            if used(master, source):
                break
            assert time.monotonic() < elected + AFTERWARDS + SLACK, milter.text()
            time.sleep(0.02)
        back = time.monotonic()
        source = next(sources)
        assert flood(postfix, source) == BURST
        mail.wait(6)
    mail.check(TIMEOUT + SLACK)
    load.settle(milter)
    check_lines(milter, len(milter.log("does not answer")))
    assert len(milter.log("does not answer")) <= 1
    proc.wait_for(lambda: Ctl(sentinels.url).json("status")["nodes"], 5, "status")
    print(f"{how}: sentinels {elected - began:.2f} s, weir {back - elected:.2f} s more, "
          f"longest reply {mail.slowest * 1000:.0f} ms, {mail.accepted} messages")


def test_sentinel_gone(weir, sentinels, sources):
    """A sentinel that does not answer is passed over, at the start and later."""
    sentinels.sentinels[0].kill()
    milter, source = weir(words(sentinels)), next(sources)
    load.connects(milter.socket, source, 2)
    assert used(sentinels.master(), source)
    assert "connections" in Ctl(sentinels.url)("limit").out
