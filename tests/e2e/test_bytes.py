# SPDX-License-Identifier: BSD-2-Clause
"""Limits of bytes: what counts as the size of a message, when a client is told that
it does not fit, and that a message which is refused after the dot is neither
delivered nor lost.
"""

import re
import time

import pytest

from harness import proc
from harness.weir import PATIENT
from test_limits import OFF, level, network_of
from test_replies import STOCK

WEIR = PATIENT

TOO_MUCH = "421 4.7.1 Too much mail, try again later"
HEAD = "From: <a@client.test>\r\nTo: <u@example.test>\r\nSubject: test\r\n"
LINE = "x" * 70 + "\r\n"


def message(size):
    """A text of about this size."""
    return HEAD + "\r\n" + LINE * ((size - len(HEAD)) // len(LINE))


def limit(burst, more=""):
    """It takes 100 days to drain."""
    return OFF + (f'limit bytes {{ per = address rate = "{burst // 2500}/1h" burst = {burst} '
                  f"{more} }}\n")


def counted(redis, source):
    return level(redis, f"weir:address:{{{network_of(source)}}}:{source}", "bytes")


def begin(client, recipient="u1@example.test", options=""):
    assert client.mail(options=options) == 250
    return client.rcpt(recipient)


def stored(mta, redis, source, recipient, text):
    """One message; (what the MTA says is its size, what weir counted)."""
    since, before = mta.mark(), counted(redis, source) or 0
    with mta.connect(source) as client:
        client.ehlo()
        assert begin(client, recipient) == 250 and client.data(text) == 250
        assert client.quit() == 221
    mta.wait_log(rf"to=<{re.escape(recipient)}>.*(status=sent|stat=Sent)", since=since)
    sizes = [int(found[1]) for line in mta.log(r"size=\d+, (nrcpt|class)")
             if (found := re.search(r"size=(\d+)", line))]
    return sizes[-1], counted(redis, source) - before


TEXTS = {
    "plain": message(100_000),
    "short lines": HEAD + "\r\n" + "y\r\n" * 30_000,
    "dots": HEAD + "\r\n" + "...........\r\n" * 8_000,
    "long headers": HEAD + "".join(f"X-{n}: {'z' * 900}\r\n\t{'z' * 900}\r\n"
                                   for n in range(15)) + "\r\n" + LINE * 300,
    "8 bit": HEAD + "\r\n" + "\u00e4\u00f6\u00fc\u20ac" * 10 + "\r\n" + LINE * 1000,
}


@pytest.mark.parametrize("name", TEXTS)
def test_the_size_of_a_message(mta, weir, redis, sources, name):
    """As the client sent it, without the dots that hide dots, to a few bytes; and so to a
    few in a hundred what the MTA logs: Postfix adds its own headers, Sendmail counts
    each end of a line as one."""
    weir(limit(10**9), redis=redis)
    text = TEXTS[name]
    size, counts = stored(mta, redis, next(sources), "u1@example.test", text)
    sent = len(text.encode()) + 2
    assert sent - 40 <= counts <= sent + 100
    if mta.name == "sendmail":
        size += text.count("\r\n") + 1
    assert abs(counts - size) <= max(0.02 * size, 600), (counts, size, sent)


def test_a_message_without_a_byte(mta, weir, redis, sources):
    """Neither a body nor a header of its own."""
    weir(limit(5_000), redis=redis)
    source = next(sources)
    with mta.connect(source) as client:
        client.ehlo()
        assert begin(client) == 250 and client.command("DATA") == 354
        assert client.command(".") == 250
        assert client.quit() == 221
    assert (counted(redis, source) or 0) <= 100


def nothing_left(mta):
    """No file of a message is left in the MTA's queue."""
    if mta.name == "postfix":
        return mta.queue_empty()
    return not list((mta.directory / "queue").iterdir())


def test_refused_after_the_dot(mta, store, weir, sources):
    """Nobody said how much would come. The client hears 421 and keeps the message; the
    MTA has none of it, says so in its log, and goes on; nothing is charged for it."""
    milter = weir(limit(25_000), redis=store)
    source, since = next(sources), mta.mark()
    for n in range(1, 6):
        with mta.connect(source) as client:
            client.ehlo()
            assert begin(client, f"dot{n}@example.test") == 250
            reply = client.data(message(10_000))
            if n < 3:
                assert reply == 250 and client.quit() == 221
            else:
                assert reply == TOO_MUCH and client.closed()
    fields = milter.fields(milter.wait_log("action=refuse code=421 stage=eom reason=rate "
                                           "limit=bytes "))
    assert fields["of"] == "25000" and 29_000 < int(fields["used"]) < 31_000
    assert fields["from"] == "<a@client.test>"
    # what fits is taken all the same, from the next session
    with mta.connect(source) as client:
        client.ehlo()
        assert begin(client, "dot9@example.test") == 250
        assert client.data(message(3_000)) == 250 and client.quit() == 221
    for n in (1, 2, 9):
        mta.wait_log(rf"to=<dot{n}@.*(status=sent|stat=Sent)", since=since)
    mta.wait_log({"postfix": f"milter-reject: END-OF-MESSAGE .*{re.escape(TOO_MUCH[4:])}",
                  "sendmail": f"Milter: data, reject={re.escape(TOO_MUCH)}"}[mta.name],
                 since=since)
    assert not [line for line in mta.log(r"to=<dot[345]@.*(sent|Sent)")]
    proc.wait_for(lambda: nothing_left(mta), 5, "an empty queue")
    if store:
        assert 22_000 < counted(store, source) <= 25_000


def test_announced_and_refused_before_it_is_sent(mta, store, weir, sources):
    """SIZE= that does not fit is refused at RCPT; that costs nothing, and what does fit
    is taken. What was announced is never charged, only what came."""
    milter = weir(limit(25_000), redis=store)
    source = next(sources)
    for size, text, answer in [(20_000, message(10_000), 250), (16_000, "", 421),
                               (16_000, "", 421), (14_000, message(10_000), 250),
                               (6_000, "", 421), (2_000, message(2_000), 250)]:
        with mta.connect(source) as client:
            client.ehlo()
            reply = begin(client, options=f"SIZE={size}")
            if answer == 250:
                assert reply == 250, client.transcript
                assert client.data(text) == 250 and client.quit() == 221
            else:
                assert reply == TOO_MUCH and client.closed()
    fields = milter.fields(milter.wait_log("action=refuse .*stage=rcpt .*limit=bytes "))
    assert fields["of"] == "25000" and 26_000 <= int(fields["used"]) <= 26_200
    if store:
        assert 21_500 < counted(store, source) <= 22_500
    # who announces less than he sends is told after the dot
    with mta.connect(source) as client:
        client.ehlo()
        assert begin(client, options="SIZE=100") == 250
        assert client.data(message(10_000)) == TOO_MUCH and client.closed()


def test_larger_than_the_limit(mta, store, weir, sources):
    """A message that can never fit is refused however long the client was away; a bucket
    is full with it and no fuller."""
    milter = weir(limit(5_000, "strict = true"), redis=store)
    source = next(sources)
    for option in ("", "SIZE=9000000"):
        with mta.connect(source) as client:
            client.ehlo()
            reply = begin(client, options=option)
            assert reply == (TOO_MUCH if option else 250)
            if reply == 250:
                assert client.data(message(100_000)) == TOO_MUCH
            assert client.closed()
    for line in (milter.wait_log("stage=eom .*limit=bytes "),
                 milter.wait_log("stage=rcpt .*limit=bytes ")):
        fields = milter.fields(line)
        assert int(fields["used"]) > int(fields["of"]) == 5000
    if store:
        assert counted(store, source) == 5_001


def test_several_messages_of_a_session(mta, weir, redis, sources):
    """Each counts by itself: what one announced or sent is not the next one's. Pipelined:
    the 421 after the dot is the last word, and what came behind it is not read."""
    weir(limit(25_000), redis=redis)
    source, since = next(sources), mta.mark()
    with mta.connect(source) as client:
        client.ehlo()
        for n, (size, text) in enumerate([("SIZE=9000", message(8_000)), ("", message(1_000)),
                                          ("", message(8_000))]):
            replies = client.pipeline(f"MAIL FROM:<a@client.test> {size}".rstrip(),
                                      f"RCPT TO:<several{n}@example.test>", "DATA")
            assert [reply.code for reply in replies] == [250, 250, 354]
            assert client.dot(text) == 250
        assert 16_800 < counted(redis, source) < 17_300
        # one that is given up counts nothing
        assert begin(client) == 250 and client.rset() == 250
        replies = client.pipeline("MAIL FROM:<a@client.test>", "RCPT TO:<several8@example.test>",
                                  "DATA")
        assert replies[-1] == 354
        client.send_bytes(message(9_000).encode() + b".\r\nMAIL FROM:<a@client.test>\r\n"
                          b"RCPT TO:<several9@example.test>\r\nDATA\r\n")
        assert client.read() == TOO_MUCH
        assert client.closed() and client.transcript.server()[-1] == TOO_MUCH
    for n in range(3):
        mta.wait_log(rf"to=<several{n}@.*(status=sent|stat=Sent)", since=since)
    assert not mta.log(r"to=<several[89]@.*(sent|Sent)")
    assert 16_800 < counted(redis, source) < 17_300


def test_a_client_that_goes_in_the_midst(mta, weir, redis, sources):
    """A message without an end has no size."""
    weir(limit(25_000), redis=redis)
    source = next(sources)
    for how in ("close", "abort"):
        client = mta.connect(source)
        client.ehlo()
        assert begin(client) == 250 and client.command("DATA") == 354
        client.send_bytes(message(20_000).encode())
        getattr(client, how)()
    with mta.connect(source) as client:
        client.ehlo()
        assert begin(client) == 250 and client.data(message(20_000)) == 250
    assert 19_500 < counted(redis, source) < 20_500


def bdat(client, *chunks):
    """The message in chunks (RFC 3030); the reply to the last one."""
    for number, chunk in enumerate(chunks, 1):
        last = " LAST" if number == len(chunks) else ""
        client.send_bytes(f"BDAT {len(chunk)}{last}\r\n".encode() + chunk)
        reply = client.read()
        if reply is None or reply != 250:
            return reply
    return reply


def test_bdat(postfix, weir, redis, sources):
    """Chunks are counted as they are; a refusal comes after the last one."""
    weir(limit(400_000), redis=redis)
    source, since = next(sources), postfix.mark()
    text = message(150_000).encode()
    chunks = [text[at:at + 40_000] for at in range(0, len(text), 40_000)]
    for n in range(1, 4):
        with postfix.connect(source) as client:
            client.ehlo()
            assert begin(client, f"chunk{n}@example.test") == 250
            reply = bdat(client, *chunks)
            if n < 3:
                assert reply == 250 and client.quit() == 221
                assert abs(counted(redis, source) - n * len(text)) < 200
            else:
                assert reply == TOO_MUCH and client.closed()
    postfix.wait_log("to=<chunk2@.*status=sent", since=since)
    assert not postfix.log("to=<chunk3@.*sent")
    proc.wait_for(postfix.queue_empty, 5, "an empty queue")


def test_deferred(mta, weir, redis, sources):
    """With action = defer the session goes on, and a smaller message with it."""
    weir(limit(25_000, "action = defer"), redis=redis)
    deferral = "451 4.7.1 Too much mail, try again later"
    source, since = next(sources), mta.mark()
    with mta.connect(source) as client:
        client.ehlo()
        for n, (size, reply) in enumerate([(20_000, 250), (9_000, deferral), (9_000, deferral),
                                           (2_000, 250)]):
            assert begin(client, f"deferred{n}@example.test") == 250
            assert client.data(message(size)) == reply
        assert begin(client, options="SIZE=9000") == deferral
        assert client.rset() == 250 and client.quit() == 221
    for n in (0, 3):
        mta.wait_log(rf"to=<deferred{n}@.*(status=sent|stat=Sent)", since=since)
    assert not mta.log(r"to=<deferred[12]@.*(sent|Sent)")


def test_shadow_and_observed(mta, weir, redis, sources):
    """Only the log knows; and nothing is asked at RCPT, where a shadow has no say."""
    milter = weir(limit(5_000, "action = log") +
                  'limit real { count = bytes per = network rate = "200/1h" burst = 1M }\n',
                  redis=redis)
    source = next(sources)
    for _ in range(2):
        with mta.connect(source) as client:
            client.ehlo()
            assert begin(client, options="SIZE=4000") == 250
            assert client.data(message(4_000)) == 250 and client.quit() == 221
    line = milter.wait_log("action=log stage=eom reason=rate limit=bytes ")
    assert int(milter.fields(line)["used"]) > 7_800
    assert not milter.log("action=refuse") and counted(redis, source) < 4_200
    milter.stop()
    milter = weir("mode = observe\n" + limit(5_000), redis=redis)
    with mta.connect(source) as client:
        client.ehlo()
        assert begin(client, options="SIZE=9000") == 250
        assert client.data(message(9_000)) == 250 and client.quit() == 221
    for stage in ("rcpt", "eom"):
        milter.wait_log(f"action=refuse code=421 stage={stage} .*limit=bytes .*mode=observe")


def test_the_next_client_is_served(mta, weir, redis, sources):
    """A message refused at its end leaves neither smtpd nor the link to weir in a bad
    state: the next sessions, of this client and of others, go as ever."""
    weir(limit(5_000) + 'limit visits { count = connections rate = "9/1h" }\n', redis=redis)
    source = next(sources)
    for _ in range(4):
        with mta.connect(source) as client:
            client.ehlo()
            assert begin(client) == 250 and client.data(message(9_000)) == TOO_MUCH
            assert client.closed()
        with mta.connect(next(sources)) as client:
            assert client.send_message().codes()[-3:] == [354, 250, 221]
    for _ in range(5):
        with mta.connect(source) as client:
            assert client.send_message().codes()[-3:] == [354, 250, 221]
    with mta.connect(source) as client:
        assert client.greeting == STOCK[mta.name]


def seconds_of(mta, source, text):
    with mta.connect(source, timeout=60) as client:
        client.ehlo()
        assert begin(client) == 250 and client.command("DATA") == 354
        start = time.monotonic()
        client.send_bytes(text)
        assert client.read() == 250
        return time.monotonic() - start


def test_big_messages_flow(mta, weir, redis, sources):
    """5 MB with a limit of bytes take about as long as without: the MTA sends them to
    weir and waits for no answer. Measured: doc/policy.md; the bound leaves room for a
    busy machine."""
    text = message(5_000_000).encode() + b".\r\n"
    best = {}
    for name, conf in (("without", OFF + 'limit messages { rate = "100/1h" }'),
                       ("with", limit(10**9))):
        milter = weir(conf, redis=redis)
        best[name] = min(seconds_of(mta, next(sources), text) for _ in range(3))
        milter.stop()
    assert best["with"] < 3 * best["without"] + 0.5, best
