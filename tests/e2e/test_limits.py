# SPDX-License-Identifier: BSD-2-Clause
"""Limits: who shares a counter, how much gets in, what is charged, what drains,
and what a session that is open counts for.

Rates are so low that nothing drains while a test runs; time passes by setting
back a record's clock in Redis. One test waits for real time.
"""

import re
import time

import pytest

import rawmilter
from harness import proc

QUIET = "limit connections { enabled = false }\nlimit sessions { enabled = false }\n"
OFF = QUIET + "limit recipients { enabled = false }\n"


def network_of(source):
    return source.rpartition(".")[0] + ".0/24"


def key_of(source, per="address"):
    tag = f"{{{network_of(source)}}}"
    return {"address": f"weir:address:{tag}:{source}", "network": f"weir:network:{tag}",
            "all": "weir:all:{all}"}[per]


def level(redis, key, name):
    """The bucket of limit `name` in that record, in whole things; None: none."""
    text = redis.hash(key).get(name)
    return None if text is None else round(int(text.split()[0]) / 1e6, 1)


def set_back(redis, key, name, seconds):
    """Makes the record believe that it was written so much earlier."""
    held, at = redis.hash(key)[name].split()
    redis.cmd("HSET", key, name, f"{held} {int(at) - int(seconds * 1e6)}")


def open_sessions(redis, source, per="address"):
    key = key_of(source, per).replace("weir:", "weir:open:", 1)
    return redis.cmd("ZCARD", key)


def visit(mta, source, recipients=("u1@example.test",), messages=1):
    """One session; what became of it: "greeting", "rcpt" (refused there), "ok"."""
    with mta.connect(source) as client:
        if client.greeting != 220:
            assert client.greeting == 421 and client.closed()
            return "greeting"
        client.ehlo()
        for _ in range(messages):
            assert client.mail() == 250
            for recipient in recipients:
                reply = client.rcpt(recipient)
                if reply == 421:
                    assert client.closed()
                    return "rcpt"
                assert reply == 250
            assert client.data() == 250
        assert client.quit() == 221 and client.closed()
        return "ok"


def same(source, last):
    return f"{source.rpartition('.')[0]}.{last}"


# limit, how it is used up (sources relative to the first; None: another
# network), and the answers
SHARED = {
    ("connections", "address"): [(9, "ok"), (9, "ok"), (9, "greeting"), (10, "ok"),
                                 (9, "greeting"), (None, "ok")],
    ("connections", "network"): [(9, "ok"), (10, "ok"), (11, "greeting"),
                                 (9, "greeting"), (None, "ok")],
    ("connections", "all"): [(9, "ok"), (None, "ok"), (None, "greeting"),
                             (10, "greeting")],
    ("messages", "address"): [(9, "ok"), (9, "ok"), (9, "rcpt"), (10, "ok"),
                              (None, "ok")],
    ("messages", "network"): [(9, "ok"), (10, "ok"), (11, "rcpt"), (None, "ok")],
    ("messages", "all"): [(9, "ok"), (None, "ok"), (10, "rcpt"), (None, "rcpt")],
    ("recipients", "address"): [(9, "ok"), (9, "ok"), (9, "rcpt"), (10, "ok")],
    ("recipients", "network"): [(9, "ok"), (10, "ok"), (11, "rcpt"), (None, "ok")],
    ("recipients", "all"): [(9, "ok"), (None, "ok"), (10, "rcpt"), (None, "rcpt")],
}


@pytest.mark.parametrize("count, per", SHARED)
def test_who_shares_a_limit(mta, weir, redis, sources, count, per):
    milter = weir(OFF + f'limit mine {{ count = {count} per = {per} rate = "2/1h" burst = 2 }}',
                  redis=redis)
    first = next(sources)
    seen = [visit(mta, next(sources) if last is None else same(first, last))
            for last, _ in SHARED[count, per]]
    assert seen == [outcome for _, outcome in SHARED[count, per]]
    milter.wait_log(r"action=refuse code=421 .*limit=mine .*used=3 of=2 retry=1800s ")
    assert level(redis, key_of(first, per), "mine") == 2


@pytest.mark.parametrize("count, refused", [
    ("connections", "greeting"), ("messages", "rcpt"), ("recipients", "rcpt")])
def test_exactly_the_burst(mta, weir, redis, sources, count, refused):
    """Seven get in and the eighth does not; used, of and retry say why."""
    milter = weir(OFF + f'limit mine {{ count = {count} rate = "10/1h" burst = 7 }}',
                  redis=redis)
    source = next(sources)
    assert [visit(mta, source) for _ in range(9)] == ["ok"] * 7 + [refused] * 2
    fields = milter.fields(milter.wait_log("action=refuse"))
    assert (fields["used"], fields["of"], fields["reason"]) == ("8", "7", "rate")
    # a tenth of an hour a token, from when the first came
    assert 350 <= int(fields["retry"].rstrip("s")) <= 360


def test_refused_from_memory(mta, weir, redis, sources):
    """A client refused a moment ago is refused again without asking Redis; the
    log line is as true as the first one."""
    milter = weir('limit connections { rate = "1/1h" burst = 1 }', redis=redis)
    source = next(sources)
    assert [visit(mta, source) for _ in range(3)] == ["ok", "greeting", "greeting"]
    fields = milter.fields(milter.wait_log("action=refuse .*source=cache"))
    assert (fields["used"], fields["of"], fields["reason"]) == ("2", "1", "rate")
    assert 3590 <= int(fields["retry"].rstrip("s")) <= 3600


def test_it_drains(mta, weir, redis, sources):
    """A token a minute: after one minute one gets in, and a client that was
    away for a day has its burst and not more."""
    weir('limit connections { rate = "1/1m" burst = 2 }', redis=redis)
    source = next(sources)
    key = key_of(source)

    def let_in():
        """How many of many visits get in, refusals from memory apart."""
        return [visit(mta, source) for _ in range(4)].count("ok")

    assert let_in() == 2
    for seconds, tokens in ((50, 0), (20, 1), (86400, 2)):
        time.sleep(1.1)         # for so long a refusal is remembered
        set_back(redis, key, "connections", seconds)
        assert let_in() == tokens, seconds


def test_it_drains_in_real_time(mta, weir, redis, sources):
    """A token in two seconds. Not before, and not much later."""
    weir('limit connections { rate = "1/2s" burst = 1 }', redis=redis)
    source = next(sources)
    before = time.monotonic()
    assert visit(mta, source) == "ok"
    proc.wait_for(lambda: visit(mta, source) == "ok", 10, "the token", every=0.1)
    assert time.monotonic() - before >= 1.9


def test_sessions(mta, weir, redis, sources):
    """Three open at once, whatever became of those before: QUIT, a plain close
    and a reset each give their place back, and not more than theirs."""
    milter = weir('limit sessions { max = 3 }\nlimit connections { enabled = false }',
                  redis=redis)
    source = next(sources)

    def greeting():
        client = mta.connect(source)
        if client.greeting == 421:
            assert client.closed()
        return client

    def settled(count):
        proc.wait_for(lambda: open_sessions(redis, source) == count, 5,
                      f"{count} open sessions")

    held = [greeting() for _ in range(3)]
    assert [client.greeting.code for client in held] == [220] * 3
    for how in ("quit", "close", "abort"):
        assert greeting().greeting == 421
        settled(3)
        client = held.pop(0)
        client.ehlo()
        getattr(client, how)()
        settled(2)
        held.append(greeting())
        assert held[-1].greeting == 220, how
    assert greeting().greeting == 421
    with mta.connect(next(sources)) as other:
        assert other.greeting == 220
    fields = milter.fields(milter.wait_log("action=refuse .*reason=sessions"))
    assert (fields["used"], fields["of"], fields["limit"]) == ("4", "3", "sessions")
    for client in held:
        client.abort()
    settled(0)


def test_sessions_of_a_network(mta, weir, redis, sources):
    weir("limit sessions { max = 2 per = network }", redis=redis)
    source = next(sources)
    held = [mta.connect(same(source, last)) for last in (9, 10, 11)]
    assert [client.greeting.code for client in held] == [220, 220, 421]
    for client in held:
        client.close()


def proxy4(postfix, address):
    return postfix.connect_proxy(address)


def xclient(postfix, address):
    return postfix.connect_xclient(address)


# The harness writes `exempt = {}` where a line does not begin with the word.
NO_EXEMPT = "/*\nexempt is not given\n*/\n"

# Clients one after the other, each told to Postfix by PROXY or XCLIENT, and the
# code of their greetings. One session each is let in; after XCLIENT a refusal
# comes in the place of the greeting.
FAMILIES = {
    "mapped is IPv4": ("", [
        (proxy4, "192.0.2.7", 220), (proxy4, "::ffff:192.0.2.7", 421),
        (xclient, "192.0.2.7", 421), (proxy4, "::ffff:192.0.2.8", 220),
        (proxy4, "192.0.2.8", 421)]),
    "a /64 is one client": ("", [
        (proxy4, "2001:db8:1:2::1", 220), (proxy4, "2001:db8:1:2::2", 421),
        (proxy4, "2001:db8:1:2:ffff:ffff:ffff:ffff", 421),
        (xclient, "2001:db8:1:2::3", 421), (proxy4, "2001:db8:1:3::1", 220)]),
    "address-v6 = 128": ("address-v6 = 128\n", [
        (proxy4, "2001:db8:1:2::1", 220), (proxy4, "2001:db8:1:2::2", 220),
        (proxy4, "2001:db8:1:2::1", 421)]),
    "network-v4 = 16": ("network-v4 = 16\n", [
        (proxy4, "192.0.2.7", 220), (proxy4, "192.0.77.7", 421),
        (proxy4, "192.1.2.7", 220)]),
    "network-v6 = 48": ("network-v6 = 48\n", [
        (proxy4, "2001:db8:1:2::1", 220), (proxy4, "2001:db8:1:3::1", 421),
        (proxy4, "2001:db8:2:2::1", 220)]),
    "exempt by default is loopback": (NO_EXEMPT, [
        (proxy4, "127.0.0.1", 220), (proxy4, "127.0.0.1", 220),
        (proxy4, "127.250.3.4", 220), (proxy4, "127.250.3.4", 220),
        (proxy4, "::1", 220), (proxy4, "::1", 220),
        (proxy4, "::ffff:127.0.0.1", 220), (proxy4, "::ffff:127.0.0.1", 220)]),
    "private is not exempt by default": (NO_EXEMPT, [
        (proxy4, "10.1.2.3", 220), (proxy4, "10.1.2.3", 421),
        (proxy4, "192.168.1.2", 220), (proxy4, "192.168.1.2", 421),
        (xclient, "172.16.1.2", 220), (xclient, "172.16.1.2", 421),
        (proxy4, "fd00::1", 220), (proxy4, "fd00::1", 421),
        (proxy4, "169.254.1.2", 220), (xclient, "169.254.1.2", 421)]),
    "exempt list": ('exempt = {"192.0.2.0/24", "2001:db8:5::/48", "198.51.100.3"}\n', [
        (proxy4, "192.0.2.1", 220), (proxy4, "192.0.2.1", 220),
        (proxy4, "::ffff:192.0.2.1", 220), (xclient, "192.0.2.255", 220),
        (xclient, "192.0.2.255", 220), (proxy4, "192.0.3.1", 220),
        (proxy4, "192.0.3.1", 421), (proxy4, "198.51.100.3", 220),
        (proxy4, "198.51.100.3", 220), (proxy4, "198.51.100.4", 220),
        (proxy4, "198.51.100.4", 421), (proxy4, "2001:db8:5:9::1", 220),
        (proxy4, "2001:db8:5:9::1", 220), (proxy4, "2001:db8:6::1", 220),
        (proxy4, "2001:db8:6::1", 421),
        # the list replaces the default
        (proxy4, "127.0.0.1", 220), (proxy4, "127.0.0.1", 421)]),
}


@pytest.mark.parametrize("name", FAMILIES)
def test_which_client_it_is(postfix, weir, redis, name):
    conf, clients = FAMILIES[name]
    weir(conf + 'limit connections { rate = "1/1h" burst = 1 '
         + ("per = network }" if conf.startswith("network") else "}"), redis=redis)
    seen = []
    for how, address, _ in clients:
        with how(postfix, address) as client:
            seen.append((how, address, client.greeting.code))
            if client.greeting == 220:
                client.quit()
    assert seen == clients


@pytest.mark.parametrize("client", ["127.0.0.1", "127.200.3.4", "::1"])
def test_loopback_is_exempt_by_default(mta, weir, redis, client):
    weir(NO_EXEMPT + 'limit connections { rate = "1/1h" burst = 1 }', redis=redis)
    assert [visit(mta, client) for _ in range(3)] == ["ok"] * 3


def test_exempt_clients_are_free_of_everything(mta, weir, redis, sources):
    """No counter, no greylist, no record; and the MTA stops asking at once."""
    source = next(sources)
    words = 'rate = "1/1h" burst = 1'
    milter = weir(f'exempt = {{"{network_of(source)}"}}\n'
                  "greylist { enabled = true }\n"
                  f"limit connections {{ {words} }}\nlimit messages {{ {words} }}\n"
                  f"limit recipients {{ {words} }}\nlimit sessions {{ max = 1 }}\n",
                  redis=redis)
    with mta.connect(source) as held:
        assert held.greeting == 220
        for _ in range(3):
            assert visit(mta, source, ("u1@example.test", "u2@example.test"), 2) == "ok"
    milter.wait_log(f"action=accept stage=connect reason=exempt client={re.escape(source)} ")
    assert redis.cmd("KEYS", "weir:*") == []
    assert not milter.log("stage=rcpt")


def test_all_or_nothing(mta, weir, redis, sources):
    """What one limit refuses is charged to none: neither to a limit that it
    fitted in, nor to one that is shared with others; a shadow apart."""
    weir(QUIET + 'limit messages { rate = "100/100h" burst = 100 }\n'
         'limit recipients { per = address rate = "2/1h" burst = 2 }\n'
         'limit netwide { count = recipients per = network rate = "100/100h" burst = 100 }\n'
         'limit shadow { count = recipients per = all action = log\n'
         '               rate = "100/100h" burst = 100 }\n', redis=redis)
    source = next(sources)

    def charges():
        return [level(redis, key_of(source), "messages"),
                level(redis, key_of(source), "recipients"),
                level(redis, key_of(source, "network"), "netwide")]

    assert visit(mta, source, ("u1@example.test", "u2@example.test")) == "ok"
    assert charges() == [1, 2, 2]
    for last in ("1", "2"):
        assert visit(mta, source, (f"u{last}@example.test",)) == "rcpt"
        assert charges() == [1, 2, 2]
    assert level(redis, key_of(source, "all"), "shadow") >= 3


def test_a_refused_connection_is_not_a_session(mta, weir, redis, sources):
    """Over the limit of connections: no open session is counted. Over that of
    sessions: no connection is charged."""
    weir('limit connections { rate = "100/100h" burst = 100 }\n'
         "limit sessions { max = 1 }", redis=redis)
    source = next(sources)
    with mta.connect(source) as held:
        assert held.greeting == 220
        for _ in range(3):
            assert visit(mta, source) == "greeting"
        assert level(redis, key_of(source), "connections") == 1
        assert open_sessions(redis, source) == 1


def test_no_address_is_free(weir, milter_socket, redis):
    """Local submission (no address) is never limited."""
    weir('limit connections { rate = "1/1h" burst = 1 }', redis=redis)
    for _ in range(3):
        with rawmilter.RawMilter(milter_socket) as raw:
            assert raw.open(None).code == rawmilter.ACCEPT


@pytest.mark.parametrize("stored", [True, False])
def test_strict(mta, weir, redis, sources, stored):
    """Refused attempts are charged too, to twice the burst, each of them."""
    milter = weir('limit connections { rate = "1/1h" burst = 2 strict = true }\n',
                  redis=redis if stored else None)
    source = next(sources)
    assert [visit(mta, source) for _ in range(7)] == ["ok"] * 2 + ["greeting"] * 5
    lines = [milter.wait_log(rf"action=refuse .*client={re.escape(source)} .*used={used} of=2 ")
             for used in (3, 4, 5)]
    # 5 stands for all that came after the bucket was full
    for number, line in enumerate(lines, 1):
        assert 3590 * number <= int(milter.fields(line)["retry"][:-1]) <= 3600 * number
    assert "source=cache" not in "".join(lines)
    if stored:
        assert level(redis, key_of(source), "connections") == 4
