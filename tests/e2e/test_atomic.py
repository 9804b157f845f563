# SPDX-License-Identifier: BSD-2-Clause
"""Check and charge are one step: however many sessions of one client arrive at
once, through several weir-milters or the workers of one, exactly the limit gets
in."""

import pytest

import load
import rawmilter

AT_ONCE = 64
ROUNDS = 3
CONF = """
limit connections {{ {connections} }}
limit sessions {{ {sessions} }}
limit recipients {{ enabled = false }}
limit messages {{ count = messages rate = "1/1h" burst = 7 }}
workers = {workers}
"""
# The longest timeout: a question that this busy host delays would else be
# answered by one weir's own counters, which know nothing of the other's.
REDIS = 'redis {{ url = "{url}" timeout = "250ms" }}\n'
OFF = "enabled = false"


@pytest.fixture(params=["redis", "zone"])
def specs(request, weir):
    """start(connections=, sessions=) -> the sockets of two weir-milters on one
    Redis, or the one socket of four workers that share a zone."""
    def start(connections=OFF, sessions=OFF):
        conf = CONF.format(connections=connections, sessions=sessions,
                           workers=2 if request.param == "redis" else 4)
        if request.param == "zone":
            return [weir(conf).socket]
        conf += REDIS.format(url=request.getfixturevalue("redis").url)
        first = weir(conf)
        second = weir(conf, socket=f"{first.socket}.2")
        return [first.socket, second.socket]
    yield start
    assert request.param == "zone" or "source=zone" not in "\n".join(weir.log()), \
        "Redis was too slow for this test to tell anything"


def test_connections(specs):
    """A bucket of 30: 30 of 64 get in, and no other one afterwards."""
    where = specs(connections='rate = "1/1h" burst = 30')
    for number in range(ROUNDS):
        client = f"192.0.2.{number}"
        admitted, refused = load.rush(where, client, AT_ONCE)
        assert (len(admitted), len(refused)) == (30, AT_ONCE - 30)
        load.close_all(admitted + refused)
        assert load.connects(where[0], client, 2) == [False, False]


def test_open_sessions(specs):
    """20 open at most; as many as have ended may come again."""
    where = specs(sessions="max = 20")
    client = "192.0.2.1"
    for number in range(ROUNDS):
        client = f"192.0.2.{number}"
        admitted, refused = load.rush(where, client, AT_ONCE)
        assert (len(admitted), len(refused)) == (20, AT_ONCE - 20)
        load.close_all(refused + admitted[:5])
        again = load.fill(where, client, 5)
        assert load.connects(where[-1], client, 2) == [False, False]
        load.close_all(admitted[5:] + again)


def test_both_limits(specs):
    """One request is all or nothing: who is refused by one limit is not charged
    to the other, so the bucket is exactly used up in the end."""
    where = specs(connections='rate = "1/1h" burst = 30', sessions="max = 20")
    client = "192.0.2.1"
    admitted, refused = load.rush(where, client, AT_ONCE)
    assert len(admitted) == 20
    load.close_all(refused + admitted)
    again = load.fill(where, client, 10)
    assert load.connects(where[0], client, 2) == [False, False]
    load.close_all(again)


def test_messages(specs):
    """The same at RCPT: 64 sessions send their first recipient at once."""
    where = specs()
    for number in range(ROUNDS):
        sessions = load.negotiated(where, AT_ONCE)
        for session in sessions:
            assert session.connect(f"192.0.2.{number}").code == rawmilter.CONTINUE
            assert session.mail().code == rawmilter.CONTINUE
        packet = (rawmilter.RCPT, b"<u@example.test>\0")
        admitted, refused = load.sort(
            sessions, load.ask_all(sessions, [packet] * AT_ONCE))
        assert (len(admitted), len(refused)) == (7, AT_ONCE - 7)
        load.close_all(sessions)
