# SPDX-License-Identifier: BSD-2-Clause
"""weirctl import: lists of other greylisting programs, taken over as one change, and taken
back by one; what was not understood is said, with its line.
"""

import json
import re

import pytest

from harness.ctl import AUTHOR, Ctl, starter
from test_greylist import REFUSAL, greylist, send

POSTGREY_CLIENTS = """\
# whom we let through
shop.example                # no retry
Lists.Example.NET
198.51.100.7
198.51.100
203.0.113.9/28
2001:db8:1::/48

/^.*\\.pool\\.example$/
/^mail\\d+\\.bank\\.example$/
shop.example
two words
"""
MILTER_GREYLIST = """\
quiet
list "ours" addr { 192.0.2.0/24 \\
    10.1.2.3/8 }        # both
racl whitelist list "ours"
racl greylist rcpt ann@example.test delay 90m autowhite 3d
racl greylist rcpt ann@example.test
racl blacklist addr 203.0.113.66
racl whitelist domain a.example not addr 192.0.2.9
racl whitelist default
"""


@pytest.fixture
def ctl(redis):
    return Ctl(redis.url)


@pytest.fixture
def write(tmp_path):
    def write(text, name="list"):
        path = tmp_path / name
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return str(path)
    return write


def listed(redis):
    """Words without who made it."""
    return {who: re.sub(" by=.*", "", words) for who, words in redis.hash("weir:lists").items()}


def test_postgrey(redis, ctl, write):
    """A dry run writes nothing; then all comes as one change; then nothing is left to do."""
    path = write(POSTGREY_CLIENTS)
    wanted = {who: "action=no-greylist" for who in (
        "name:shop.example", "name:lists.example.net", "198.51.100.7", "198.51.100.0/24",
        "203.0.113.0/28", "2001:db8:1::/48", "name:pool.example")}
    dry = ctl("import", "postgrey-clients", path, "-n")
    assert redis.cmd("KEYS", "*") == []
    assert {tuple(line.split()) for line in dry.lines[:7]} == set(wanted.items())
    assert dry.lines[7:] == [
        "would be imported: 7; said twice: 1", "not understood, or not all of it:",
        rf"  {path}:10: /^mail\d+\.bank\.example$/: a regular expression that is more than a "
        "domain or an address",
        f"  {path}:12: two words: there are blanks in it"]
    done = ctl("import", "postgrey-clients", path)
    assert done.lines[0] == "imported: 7; said twice: 1"
    assert done.lines[-1] == \
        "in force everywhere, generation 1; back again: weirctl limit rollback 0"
    assert listed(redis) == wanted
    assert redis.hash("weir:lists")["198.51.100.7"] == \
        f'action=no-greylist by={AUTHOR} reason="import postgrey-clients"'
    assert redis.cmd("LLEN", "weir:history") == 1
    again = ctl.json("import", "postgrey-clients", path)
    assert (again["entries"], again["there"], "generation" in again) == ([], 7, False)
    assert [note["line"] for note in again["notes"]] == [10, 12]
    assert redis.cmd("GET", "weir:generation") == "1"
    assert "imported: 0; there already, and left alone: 7" in \
        ctl("import", "postgrey-clients", path).out
    assert ctl("limit history").lines[-1] == "      lists name:shop.example: - -> action=no-greylist"
    ctl("limit rollback 0")
    assert listed(redis) == {}


def test_recipients(redis, ctl, write):
    """With a reason, for a while, and from standard input."""
    got = ctl.run("-j", "-m", "they asked", "import", "-n", "postgrey-recipients", "-", "for", "2h",
                  stdin="info@\nexample.org\n")
    assert [(e["line"], e["who"]) for e in json.loads(got.out)["entries"]] == [
        (2, "recipient:@.example.org"), (2, "recipient:@example.org"), (1, "recipient:info@")]
    ctl.run("-m", "they asked", "import", "postgrey-recipients", "-", "for", "2h",
            stdin="info@\nexample.org\n")
    assert re.fullmatch(rf'action=no-greylist until=\d+ by={AUTHOR} reason="they asked"',
                        redis.hash("weir:lists")["recipient:info@"])


def test_milter_greylist(redis, ctl, write):
    """What is there already stays as it is, unless its time is over."""
    ctl("block 192.0.2.0/24")
    redis.cmd("HSET", "weir:lists", "203.0.113.66", "action=exempt until=1000000000")
    got = ctl.json("import", "milter-greylist", write(MILTER_GREYLIST))
    assert listed(redis) == {
        "192.0.2.0/24": "action=block", "10.0.0.0/8": "action=no-greylist",
        "recipient:ann@example.test": "action=greylist delay=90m",
        "203.0.113.66": "action=block"}
    assert got["there"] == 1 and len(got["entries"]) == 3
    says = {1: "a setting", 5: "imported without what weir has for all only",
            6: "line 5 says something else of it", 8: 'cannot say "not"', 9: "recipients = listed"}
    assert [note["line"] for note in got["notes"]] == list(says)
    for note in got["notes"]:
        assert says[note["line"]] in note["why"]


def test_one_entry_for_a_session(mta, weir, redis, sources, write):
    """What has been imported is in force for the next decision."""
    milter, ctl = starter(weir, redis)(greylist())
    source, path = next(sources), write("ann@\n")
    assert send(mta, source, recipients=["ann@example.test"]) == [REFUSAL]
    ctl("import", "postgrey-recipients", path)
    assert send(mta, source, recipients=["ann@example.test"]) == [250, "sent"]
    assert send(mta, source, recipients=["bob@example.test"]) == [REFUSAL]
    ctl("limit rollback 0")
    assert send(mta, source, recipients=["ann@example.test"]) == [REFUSAL]
    assert milter.log("ignored") == []


# --- what is no list, or too much of one ------------------------------------------------------------

def test_too_many(redis, ctl, write):
    """As many as weir reads, and no more: nothing is imported of a longer list."""
    lines = [f"h{n}.example\n" for n in range(8193)]
    ctl.refused("import", "postgrey-clients", write("".join(lines)),
                says="8193 new entries, and 0 in redis, are more than the 8192 that weir reads")
    ctl.refused("import", "postgrey-clients", write("".join(lines * 12)), says="8193 new entries")
    assert redis.cmd("KEYS", "*") == []
    done = ctl("import", "postgrey-clients", write("".join(lines[1:])))
    assert done.lines[0] == "imported: 8192" and done.seconds < 3
    assert redis.cmd("HLEN", "weir:lists") == 8192
    ctl.refused("import", "postgrey-clients", write(lines[0]),
                says="1 new entries, and 8192 in redis")
    assert "there already, and left alone: 8192" in \
        ctl("import", "postgrey-clients", write("".join(lines[1:]))).out
    assert len(ctl("limit history").lines) == 12
    assert ctl.json("why 192.0.2.1 name mx.h77.example")["exceptions"][0]["entry"] == \
        "name:h77.example"
    ctl("limit rollback 0")
    assert redis.cmd("HLEN", "weir:lists") == 0


def test_odd_files(redis, ctl, write, tmp_path):
    for path, says in ((str(tmp_path / "none"), "No such file"), (str(tmp_path), "directory"),
                       (write(b"shop.example\n\0\n"), "is no text"),
                       (write(b"x" * (9 << 20), "large"), "is larger than 8 MB")):
        ctl.refused("import", "postgrey-clients", path, says=says)
    # lines of a megabyte, bytes that are no text of anybody, everybody
    for text in (b"x" * (1 << 20) + b"\n" + b"y" * (1 << 20), b"\xff\xfe@example.org\n\x1b[31m\n",
                 b"0.0.0.0/0\n::/0\n", b"", b"# nothing\n"):
        for kind in ("postgrey-clients", "postgrey-recipients", "milter-greylist"):
            result = ctl.run("import", kind, write(text))
            assert result.status == 1 and "imported: 0" in result.out, (text[:20], result)
            assert all(len(line) < 600 for line in result.lines)
    result = ctl.run("import", "postgrey-clients", write(b"bad host\n" * 100_000))
    assert result.status == 1 and len(result.lines) == 203
    assert "... and 99800 more (-j shows ten thousand)" in result.out
    assert redis.cmd("KEYS", "*") == []


@pytest.mark.parametrize("words", [
    "import", "import postgrey-clients", "import postgrey x", "import postgrey-clients a b",
    "import postgrey-clients a for", "import -n", "import x y"])
def test_usage(redis, ctl, words):
    result = ctl(*words.split(), status=2)
    assert result.out == "" and redis.cmd("KEYS", "*") == []
