# SPDX-License-Identifier: BSD-2-Clause
"""The policy as a whole: quotas, whom a limit is for, who is known and how that is
earned and lost, ladders of networks, and what greylisting knows beside its triplets.
"""

import re
import time

import pytest

import rawmilter
from harness import proc
from harness.auth import plain
from harness.ctl import outlive_memory
from harness.mta import NOBODY
from harness.weir import PATIENT
from rawmilter import RawMilter
from test_greylist import REFUSAL, set_back as set_triplets_back, triplets
from test_limits import OFF, key_of, level, same, visit

WEIR = PATIENT

TEXT = "421 4.7.1 Too many messages, try again later"
HOUR_US = 3600 * 1000000
# three hosts of one.test in three networks, and one of two.test: harness/mta.py
ONE, TWO = [f"127.251.{n}.1" for n in (1, 2, 3)], "127.251.4.1"


def limit(words, name="messages"):
    return f"limit {name} {{ {words} }}\n"


def message(mta, source, sender="a@client.test", recipient="u1@example.test", user=""):
    """One message in one session: "ok", or the reply that refused it."""
    with mta.connect(source) as client:
        if client.greeting == 421:
            return "greeting"
        client.ehlo()
        if user:
            assert client.command(f"AUTH {plain(user)}") == 235
        assert client.mail(sender) == 250
        reply = client.rcpt(recipient)
        if reply == 421:
            assert client.closed()
            return str(reply)
        assert reply == 250 and client.data() == 250 and client.quit() == 221
        return "ok"


def pool_record(redis, pool):
    return redis.hash(f"weir:pool:{{{pool}}}")


# --- quotas ----------------------------------------------------------------------


@pytest.mark.parametrize("count, stage, taken", [
    ("connections", "connect", 3), ("messages", "rcpt", 3), ("recipients", "rcpt", 3)])
def test_quota(mta, store, weir, sources, count, stage, taken):
    """Three in any hour, and not one more at any moment of it."""
    milter = weir(OFF + f'limit mine {{ count = {count} per = address quota = "3/1h" }}\n',
                  redis=store)
    source = next(sources)
    outcome = "greeting" if stage == "connect" else "rcpt"
    assert [visit(mta, source) for _ in range(6)] == ["ok"] * taken + [outcome] * (6 - taken)
    assert visit(mta, next(sources)) == "ok"
    lines = [milter.fields(line) for line in milter.log(f"action=refuse code=421 stage={stage} "
                                                        "reason=quota limit=mine ")]
    assert lines and {(line["used"], line["of"]) for line in lines} == {("4", "3")}
    for fields in lines:
        assert 3590 <= int(fields["retry"].rstrip("s")) <= 3600
    if store:
        times = store.hash(key_of(source))["mine:quota"].split()
        assert times[1::2] == ["1", "1", "1"]
        # the first is an hour old: one gets in, and not two
        store.cmd("HSET", key_of(source), "mine:quota", " ".join(
            [str(int(times[0]) - HOUR_US), *times[1:]]))
        outlive_memory()
        assert [visit(mta, source) for _ in range(2)] == ["ok", outcome]


def test_quota_in_real_time(postfix, store, weir, sources):
    """However often a client tries: never more than three in any second."""
    weir(OFF + limit('per = address quota = "3/1s"'), redis=store)
    source, taken = next(sources), []
    end = time.monotonic() + 2.5
    while time.monotonic() < end:
        before = time.monotonic()
        if visit(postfix, source) == "ok":
            taken.append((before, time.monotonic()))
    # the fourth is decided before its end, a second after the first one's beginning
    for first, fourth in zip(taken, taken[3:]):
        assert fourth[1] - first[0] >= 1.0
    # a refusal is remembered for a second at most, so the quota is used up twice at least
    assert 6 <= len(taken) <= 9


def test_quota_of_bytes(mta, store, weir, sources):
    milter = weir(OFF + limit('per = address quota = "10k/1d"', "bytes"), redis=store)
    source = next(sources)
    seen = []
    for size in (4000, 4000, 4000, 1000):
        with mta.connect(source) as client:
            client.ehlo()
            assert client.mail() == 250 and client.rcpt() == 250
            seen.append(client.data("Subject: test\r\n\r\n" + "x" * 78 + "\r\n" +
                                    ("y" * 78 + "\r\n") * (size // 80 - 1)).code)
    assert seen == [250, 250, 421, 250]
    fields = milter.fields(milter.wait_log("stage=eom reason=quota limit=bytes "))
    assert 12_000 < int(fields["used"]) < 12_300 and fields["of"] == "10240"
    assert 86_390 <= int(fields["retry"].rstrip("s")) <= 86_400


# --- whom a limit is for -----------------------------------------------------------

GREYLIST = 'greylist { enabled = true delay = "1h" }\n'
LEARN = "known { learn = true }\n"


def made_known(redis, pool, known=True):
    """The field trust, as if it had been earned: ten messages fade in each 35 days."""
    now = int(time.time() * 1e6)
    credit = 25_000_000 if known else 0
    redis.cmd("HSET", f"weir:pool:{{{pool}}}", "trust",
              f"{credit} 50000000 0 {now} {now}")


def burst_of(mta, source, most=4, **options):
    """How many messages are taken, one session each."""
    taken = 0
    while taken < most and message(mta, source, **options) == "ok":
        taken += 1
    return taken


@pytest.mark.parametrize("whom, stranger, known, user, inside", [
    ("everyone", 2, 2, 2, 2), ("strangers", 2, 4, 4, 2), ("known", 4, 2, 2, 4),
    ("authenticated", 4, 4, 2, 4), ('"127.252.30.0/24 2001:db8::/32"', 4, 4, 4, 2)])
def test_whom_it_is_for(mta, weir, redis, sources, whom, stranger, known, user, inside):
    """How many of four messages are taken from a stranger, from a pool that is known by
    what it earned, from who is authenticated, and from a network that is named."""
    milter = weir(OFF + LEARN + limit(f'for = {whom} per = address rate = "1/1h" burst = 2'),
                  redis=redis)
    made_known(redis, "one.test")
    assert burst_of(mta, next(sources)) == stranger
    assert burst_of(mta, ONE[0]) == known
    assert burst_of(mta, TWO) == stranger
    assert burst_of(mta, next(sources), user="ann") == user
    assert burst_of(mta, "127.252.30.1") == inside
    refused = 2 in (stranger, known, user, inside)
    if refused:
        milter.wait_log("action=refuse .*limit=messages .*used=3 of=2")
    else:
        assert not milter.log("action=refuse")


def test_connections_of_strangers(mta, weir, redis, sources):
    """It is known at connect, by the name: all hosts of the pool, and no other's."""
    milter = weir(OFF + LEARN + limit('for = strangers per = address rate = "1/1h" burst = 2',
                                      "connections").replace("limit connections", "limit mine")
                  .replace("{ for", "{ count = connections for"), redis=redis)
    made_known(redis, "one.test")
    for source in ONE:
        assert [visit(mta, source) for _ in range(4)] == ["ok"] * 4
    for source in (TWO, next(sources)):
        assert [visit(mta, source) for _ in range(4)] == ["ok"] * 2 + ["greeting"] * 2
    fields = milter.fields(milter.wait_log(f"action=refuse .*client={re.escape(TWO)} "))
    assert (fields["pool"], fields["name"]) == ("two.test", "mail1.two.test")


def test_known_by_greylisting(mta, weir, redis):
    """Who waited once is a stranger no more, from whichever of its hosts."""
    weir(OFF + GREYLIST + limit('for = strangers per = address rate = "1/1h" burst = 2'),
         redis=redis)
    assert message(mta, ONE[0]) == REFUSAL
    set_triplets_back(redis, 3601)
    # the message that passes is the last that counts as a stranger's
    assert [message(mta, ONE[1]) for _ in range(6)] == ["ok"] * 6
    assert level(redis, key_of(ONE[1]), "messages") == 1
    assert message(mta, TWO) == REFUSAL
    fields = pool_record(redis, "one.test")
    known, waited = int(fields["known"]), int(fields["waited"])
    assert 3601 * 1e6 <= waited < 3661 * 1e6 and fields["held"] == "1"
    # ... until it was not seen for keep
    redis.cmd("HSET", "weir:pool:{one.test}", "known", known - 36 * 24 * HOUR_US)
    assert message(mta, ONE[2]) == REFUSAL


def test_known_by_what_it_sent(mta, store, weir, sources):
    """A good message earns a credit, but only one in half a second here; who holds three
    is known. Without any greylisting, in both stores. (Real time: the zone's cannot be
    set back.)"""
    weir(OFF + 'known { messages = 3 over = 1s keep = 1d }\n' +
         limit('for = strangers per = pool rate = "1/1h" burst = 5'), redis=store)
    stranger = next(sources)
    assert message(mta, stranger) == "ok"
    for n in range(4):      # a little of the first three has faded by then
        assert message(mta, ONE[n % 3]) == "ok"
        time.sleep(0.52)
    assert burst_of(mta, ONE[0], 8) == 8
    # as many at once make nobody known
    start = time.monotonic()
    assert burst_of(mta, TWO, 8) == 5 or time.monotonic() - start > 1
    assert burst_of(mta, stranger, 2) == 2
    if store:
        credit, good, bad = map(int, pool_record(store, "one.test")["trust"].split()[:3])
        assert 3_990_000 <= credit <= 6_000_000 and 11_990_000 <= good <= 12_000_000
        assert bad == 0


def test_trust_is_lost(mta, weir, redis):
    """Six guesses of a pool that has done little else (five, but for what has faded of
    them), and it is a stranger whatever it was before; one that has sent much is forgiven
    as many."""
    weir(OFF + LEARN + limit('for = strangers per = pool rate = "1/1h" burst = 1'), redis=redis)

    def guess(source, times):
        with mta.connect(source) as client:
            client.ehlo()
            assert client.mail() == 250
            for _ in range(times):
                assert client.rcpt(NOBODY) == 550

    made_known(redis, "one.test")
    made_known(redis, "two.test")
    redis.cmd("HSET", "weir:pool:{one.test}", "trust",
              re.sub(" 50000000 ", " 10000000 ", pool_record(redis, "one.test")["trust"]))
    for source, times, taken in [(ONE[0], 4, 4), (ONE[1], 2, 1), (TWO, 12, 4), (TWO, 4, 1)]:
        guess(source, times)
        assert burst_of(mta, source) == taken, (source, times)
    assert pool_record(redis, "one.test")["trust"].split()[0] == "0"


def test_refusals_count_against_a_pool(mta, weir, redis):
    """So does each message over a limit for everybody; and no refusal by greylisting."""
    weir(OFF + LEARN + limit('per = pool rate = "1/1h" burst = 1 strict = true') +
         limit('for = strangers count = connections per = pool rate = "1/1h" burst = 3', "c"),
         redis=redis)
    now = int(time.time() * 1e6)
    redis.cmd("HSET", "weir:pool:{one.test}", "trust", f"25000000 0 0 {now} {now}")
    seen = [message(mta, ONE[0]) for _ in range(13)]
    # known for a message and five refusals (or six, as they fade); then three connections,
    # and a refusal each
    assert seen[:6] == ["ok"] + [TEXT] * 5 and set(seen[10:]) == {"greeting"}, seen


# --- ladders -----------------------------------------------------------------------

LADDER = 'per = address rate = "1/1h" burst = 2 ladder = "/56*2 /48*3"'
# Each address in a /64 of its own, and who is in: two a /64, four a /56, six a /48.
STEPS = [("2001:db8:1:100::1", 2), ("2001:db8:1:101::1", 2), ("2001:db8:1:102::1", 0),
         ("2001:db8:1:1ff::1", 0), ("2001:db8:1:200::1", 2), ("2001:db8:1:200::2", 0),
         ("2001:db8:1:201::1", 0), ("2001:db8:1:fe00::1", 0), ("2001:db8:2::1", 2),
         ("192.0.2.1", 2), ("192.0.2.2", 2), ("192.0.2.3", 2)]
LADDER_KEYS = {"weir:network:{2001:db8:1::/48}": 6,
               "weir:network:{2001:db8:1::/48}:2001:db8:1:100::/56": 4,
               "weir:network:{2001:db8:1::/48}:2001:db8:1:200::/56": 2,
               "weir:address:{2001:db8:1::/48}:2001:db8:1:101::/64": 2,
               "weir:address:{192.0.2.0/24}:192.0.2.1": 2}


def by_xclient(postfix, address):
    taken = 0
    for _ in range(3):
        with postfix.connect_xclient(address) as client:
            client.ehlo()
            assert client.mail() == 250
            taken += client.rcpt() == 250
    return taken


def by_raw_protocol(milter, address):
    taken = 0
    for _ in range(3):
        with RawMilter(milter.socket) as session:
            assert session.open(address).code == rawmilter.CONTINUE
            session.helo(), session.mail()
            taken += session.rcpt().code == rawmilter.CONTINUE
    return taken


@pytest.mark.parametrize("how", ["xclient", "raw"])
def test_ladder(postfix, store, weir, how):
    """Who has a /48 has many addresses; each wider network has a count of its own, with
    larger figures. What one of them refuses is charged to none. IPv4 has no ladder."""
    milter = weir(OFF + limit(LADDER), redis=store)
    seen = [(address, by_xclient(postfix, address) if how == "xclient"
             else by_raw_protocol(milter, address)) for address, _ in STEPS]
    assert seen == STEPS
    for of, client in ((4, "2001:db8:1:102::1"), (6, "2001:db8:1:201::1"),
                       (2, "2001:db8:1:200::1")):
        milter.wait_log(f"action=refuse .*limit=messages .*client={client} .*"
                        f"used={of + 1} of={of} ")
    if store:
        for key, counted in LADDER_KEYS.items():
            assert level(store, key, "messages") == counted, key
        for key in store.cmd("KEYS", "weir:network:*"):
            assert 0 < store.cmd("PTTL", key) <= 12 * HOUR_US / 1000


# --- greylisting -------------------------------------------------------------------

FRIEND, OTHERS = "friend@other.example.test", "other@other.example.test"


def test_correspondents(mta, store, weir, sources):
    """Who an authenticated user wrote to may answer at once; nobody else, and nobody to
    whom a stranger wrote."""
    milter = weir(OFF + 'greylist { enabled = true correspondents = true }\n', redis=store)
    user, stranger = next(sources), next(sources)
    assert message(mta, stranger, FRIEND) == REFUSAL
    assert message(mta, user, "ann@example.test", FRIEND, user="ann") == "ok"
    assert message(mta, next(sources), FRIEND) == "ok"
    assert message(mta, stranger, FRIEND.upper(), "ann@example.test") == "ok"
    assert message(mta, stranger, OTHERS) == REFUSAL
    assert message(mta, next(sources), "") == REFUSAL
    # that he may is no pass for his pool
    assert message(mta, stranger, "third@other.example.test") == REFUSAL
    assert message(mta, next(sources), "ann@example.test", OTHERS) == REFUSAL
    assert message(mta, stranger, OTHERS) == REFUSAL
    milter.wait_log("action=accept stage=rcpt .*grey=correspondent ")
    if store:
        key, = store.cmd("KEYS", "weir:wrote:*")
        assert key == f"weir:wrote:{{{FRIEND}}}"
        assert abs(store.cmd("PTTL", key) - 35 * 24 * HOUR_US / 1000) < 60_000
        # longer ago than keep
        store.cmd("SET", key, int(time.time() * 1e6) - 36 * 24 * HOUR_US)
        assert message(mta, next(sources), FRIEND) == REFUSAL


def test_embargo(mta, store, weir, sources):
    """A pool that never waits has so many triplets in an hour and not more; those that it
    has may still pass, and it then is free of all that."""
    milter = weir(OFF + 'greylist { enabled = true delay = 1h embargo = "3/1h" }\n',
                  redis=store)
    source = next(sources)
    for n in range(6):
        since = milter.mark()
        assert message(mta, same(source, n + 1), f"a{n}@client.test") == REFUSAL
        fields = milter.fields(milter.wait_log("reason=greylist", since=since))
        assert fields["grey"] == ("new" if n < 3 else "embargo")
        assert fields["retry"] == "3600s"
    # a triplet that waits is none more
    since = milter.mark()
    assert message(mta, source, "a1@client.test") == REFUSAL
    assert milter.fields(milter.wait_log("reason=greylist", since=since))["grey"] == "early"
    # another pool is not concerned
    since = milter.mark()
    assert message(mta, next(sources)) == REFUSAL
    assert milter.fields(milter.wait_log("reason=greylist", since=since))["grey"] == "new"
    if not store:
        return
    network = source.rpartition(".")[0] + ".0/24"
    assert len([key for key in triplets(store) if network in key]) == 3
    assert pool_record(store, network)["held"] == "7"
    assert 2_990_000 <= int(pool_record(store, network)["triplets"].split()[0]) <= 3_000_000
    set_triplets_back(store, 3601)
    assert message(mta, source, "a4@client.test") == REFUSAL      # under embargo still
    assert message(mta, source, "a1@client.test") == "ok"
    assert [message(mta, source, f"a{n}@client.test") for n in range(9)] == ["ok"] * 9


def test_retries_cost_nothing(mta, store, weir, sources):
    """Held back eight times over each limit there is: none is charged, and none is hit by
    the ninth, which passes."""
    limits = "".join(limit(f'count = {count} per = {per} {figures}', f"{count}-{per}")
                     for count in ("messages", "recipients") for per in ("address", "all")
                     for figures in ['quota = "2/1h"' if per == "all" else
                                     'rate = "1/1h" burst = 2 strict = true'])
    weir(OFF + 'greylist { enabled = true delay = "1s" }\n' + limits, redis=store)
    source = next(sources)
    assert [message(mta, source) for _ in range(8)] == [REFUSAL] * 8
    if store:
        assert not [field for field in store.hash("weir:all:{all}") if "-" in field]
    proc.wait_for(lambda: message(mta, source) == "ok", 5, "the pass", every=0.2)
    if store:
        for name in ("messages-address", "recipients-address"):
            assert level(store, key_of(source), name) == 1
        assert store.hash("weir:all:{all}")["messages-all:quota"].split()[1::2] == ["1"]


# --- all of it, observed -----------------------------------------------------------

OBSERVED = ('mode = observe\ngreylist { enabled = true embargo = "1/1h" correspondents = true }\n'
            + OFF + limit('per = address quota = "1/1h"')
            + limit('count = recipients for = strangers per = pool rate = "2/1m" burst = 2', "r")
            + limit('rate = "1/1h" burst = 1', "rejected-recipients")
            + limit('rate = "1/1m" burst = 1000', "bytes"))


def test_observed(mta, store, weir, sources):
    """Nobody is refused anything; the log has what would have been, and the counters
    stand where they would."""
    milter = weir(OBSERVED, redis=store)
    client = next(sources)

    def session(source, messages=1, recipients=("u1@example.test",), unknown=0, size=100,
                sender="a@client.test"):
        with mta.connect(source) as client:
            assert client.greeting == 220 and client.ehlo() == 250
            for _ in range(messages):
                assert client.mail(sender) == 250
                assert {client.rcpt(name).code for name in recipients} == {250}
                for _ in range(unknown):
                    assert client.rcpt(NOBODY) == 550
                assert client.data("Subject: test\r\n\r\n" + "x" * size) == 250
            assert client.quit() == 221

    session(client, 2)
    session(next(sources), recipients=[f"u{n}@example.test" for n in range(3)])
    session(next(sources), size=1200)
    guesser = next(sources)
    session(guesser, 2, unknown=3)
    session(guesser)
    many = next(sources)
    for n in range(2):
        session(same(many, n + 1), sender=f"a{n}@client.test")
    for stage, what in [("rcpt", "reason=greylist grey=new"),
                        ("rcpt", "reason=greylist grey=embargo"),
                        ("rcpt", "reason=quota limit=messages grey=early"),
                        ("rcpt", "reason=rate limit=r"), ("eom", "reason=rate limit=bytes"),
                        ("mail", "reason=rate limit=rejected-recipients"),
                        ("connect", "reason=rate limit=rejected-recipients")]:
        milter.wait_log(f"action=refuse code=421 stage={stage} {what} .*mode=observe")
    assert not [line for line in milter.log("action=(refuse|defer)") if "observe" not in line]
    if store:
        fields = store.hash(key_of(client))
        assert fields["messages:quota"].split()[1::2] == ["1"]
        fields = store.hash(key_of(guesser))
        assert fields["rejected"] == "6" and level(store, key_of(guesser),
                                                   "rejected-recipients") == 2
