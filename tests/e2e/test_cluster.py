# SPDX-License-Identifier: BSD-2-Clause
"""A real Redis Cluster of six nodes behind weir-milter and weirctl, under an MTA that goes on
receiving mail: a primary is killed, slots are moved, requests span slots."""

import time

import pytest

import load
from harness import proc
from harness.ctl import Ctl
from harness.topology import Cluster, slot_of
from test_redis_faults import BURST, CONF, SLACK, TIMEOUT, flood

REPLACED = 10.0         # the cluster's own time to fail over, and a busy machine's


@pytest.fixture(scope="module")
def _cluster():
    cluster = Cluster()
    try:
        yield cluster.start()
    finally:
        cluster.stop()


@pytest.fixture
def cluster(_cluster):
    for node in {_cluster.owner(s) for s in (0, 6000, 12000, 16383)}:
        node.cmd("FLUSHALL")
    return _cluster


def tag(source):
    return "{" + ".".join(source.split(".")[:3]) + ".0/24}"


def record(cluster, source):
    return cluster.cmd("EXISTS", f"weir:address:{tag(source)}:{source}") == 1


def words(cluster):
    return f"{CONF}\nredis {{ cluster = {{ {cluster.places} }} }}\n"


def on(sources, cluster, node):
    """The next source whose record that node has."""
    while True:
        source = next(sources)
        if cluster.owner(slot_of(tag(source))) is node:
            return source


def test_spans_slots(postfix, weir, cluster, sources):
    """Two limits in two slots: exactly what fits gets in, and what one of them refuses is not
    charged to the other."""
    conf = words(cluster) + "limit everybody { count = connections per = all rate = \"1/1h\" burst = 25 }"
    milter = weir(conf)
    assert flood(postfix, next(sources)) == BURST
    assert flood(postfix, next(sources)) == BURST
    time.sleep(0.1)             # what is taken back is not waited for
    level = int(cluster.cmd("HGET", "weir:all:{all}", "everybody").split()[0])
    assert round(level / 1e6) == 2 * BURST
    # the third fits only half, and his own limit is not charged for the rest
    third = next(sources)
    admitted, refused = load.rush([milter.socket], third, 30)
    load.close_all(admitted + refused)
    assert len(admitted) == 5
    time.sleep(0.1)
    record = cluster.nodes and cluster.cmd(
        "HGET", f"weir:address:{tag(third)}:{third}", "connections")
    assert round(int(record.split()[0]) / 1e6) == 5
    assert not milter.log(r"does not answer"), milter.text()


def test_ctl(weir, cluster, sources):
    """weirctl changes, explains and lists; a change is in force within a second."""
    milter, source = weir(words(cluster)), next(sources)
    ctl = Ctl(None, "--yes", conf=milter.conf)
    load.connects(milter.socket, source, 3)
    ctl("limit", "set", "connections", "rate=1/1h", "burst=3")
    assert cluster.cmd("GET", "{weir}:generation") == "1"
    time.sleep(1.2)
    assert load.connects(milter.socket, source, 1) == [False]
    why = ctl.json("why", source)
    assert why["next"]["connection"]["action"] == "refuse"
    assert source in ctl("top").out
    others = [on(sources, cluster, cluster.owner(s)) for s in (0, 8000, 16383)]
    for other in others:
        assert load.connects(milter.socket, other, 4)[-1] is False
    rows = ctl("top").out
    assert all(o in rows for o in others)               # from all nodes
    proc.wait_for(lambda: len(Ctl(cluster.url).json("status")["nodes"]) == 1, 5, "status")
    ctl("clear", source)
    time.sleep(1.1)             # the zone's memory of the refusal
    assert load.connects(milter.socket, source, 1) == [True]
    ctl("block", source)
    assert source in ctl("lists").out
    time.sleep(1.2)
    assert load.connects(milter.socket, source, 1) == [False]
    ctl("limit", "rollback", "0")
    time.sleep(1.2)
    assert load.connects(milter.socket, source, 1) == [True]


def test_resharding(postfix, weir, cluster, sources):
    """Slots are moved while mail flows: every limit stays exact, nothing is slow or lost."""
    milter = weir(words(cluster))
    first, second = cluster.nodes[0], cluster.nodes[1]
    mine = [on(sources, cluster, first) for _ in range(3)]
    try:
        with load.SmtpLoad(postfix, sources) as mail:
            mail.wait(4)
            for source in mine:
                assert flood(postfix, source, BURST - 4) == BURST - 4
            for source in mine:
                cluster.move(slot_of(tag(source)), second)
                assert flood(postfix, source, 12) == 4
            for slot in range(0, 60):
                cluster.move(slot, second)
            mail.wait(4)
    finally:
        for slot in [*range(0, 60), *(slot_of(tag(s)) for s in mine)]:
            cluster.move(slot, first)
    mail.check(TIMEOUT + SLACK)
    assert not milter.log(r"does not answer"), milter.text()
    print(f"resharding: longest reply {mail.slowest * 1000:.0f} ms, {mail.accepted} messages")


def test_migrating_slot(weir, cluster, sources):
    """In a slot half moved an old client is found, and a new one (TRYAGAIN) costs no failure."""
    milter = weir(words(cluster) + "limit sessions { max = 50 }")
    first, second = cluster.nodes[0], cluster.nodes[1]
    old = on(sources, cluster, first)
    load.connects(milter.socket, old, 4)
    slot = slot_of(tag(old))
    ids = [n.cmd("CLUSTER", "MYID") for n in (first, second)]
    second.cmd("CLUSTER", "SETSLOT", slot, "IMPORTING", ids[0])
    first.cmd("CLUSTER", "SETSLOT", slot, "MIGRATING", ids[1])
    try:
        assert all(load.connects(milter.socket, old, 3))
    finally:
        cluster.move(slot, second)
    assert load.connects(milter.socket, old, 5) == [True] * 3 + [False] * 2 or \
        sum(load.connects(milter.socket, old, 5)) == 0
    cluster.move(slot, first)
    assert not milter.log(r"does not answer"), milter.text()


def test_primary_killed(postfix, weir, cluster, sources):
    """Its clients are counted on this host until a replica serves their slots; others' counts
    go on. One line when it goes, one when it is replaced."""
    milter = weir(words(cluster))
    victim = cluster.nodes[2]
    with load.SmtpLoad(postfix, sources) as mail:
        mail.wait(6)
        elsewhere = next(s for s in sources
                         if cluster.owner(slot_of(tag(s))) is not victim)
        assert flood(postfix, elsewhere, 6) == 6
        lost = on(sources, cluster, victim)
        victim.kill()
        killed = time.monotonic()
        load.connects(milter.socket, lost, 3)
        milter.wait_log(rf"redis 127.0.0.1:{victim.port} does not answer")
        opened = time.monotonic() - killed
        assert flood(postfix, elsewhere, 12) == BURST - 6       # Redis still counts him
        assert flood(postfix, lost, 3 * BURST) <= BURST
        milter.wait_log(rf"redis 127.0.0.1:{victim.port} is replaced after", timeout=REPLACED)
        proc.wait_for(lambda: cluster.owner(slot_of(tag(lost))) not in (None, victim), 5, "owner")
        time.sleep(0.5)         # each worker finds out for itself
        source = next(s for s in sources if slot_of(tag(s)) >= 2 * 16384 // 3 + 1)
        assert flood(postfix, source) == BURST
        back = time.monotonic() - killed
        assert record(cluster, source)
        mail.wait(6)
    mail.check(TIMEOUT + SLACK)
    load.settle(milter)
    assert len(milter.log("does not answer")) == 1, milter.text()
    assert len(milter.log("is replaced after|is back after")) == 1, milter.text()
    print(f"primary killed: open after {opened:.2f} s, in use after {back:.2f} s, "
          f"longest reply {mail.slowest * 1000:.0f} ms, {mail.accepted} messages")
    victim.start()
