# SPDX-License-Identifier: BSD-2-Clause
"""Every command of weirctl: what a person reads, what a program reads, how wide it is,
wrong usage, and completion. Most of it needs a Redis and no mail."""

import re
import signal
import subprocess
import time

import pytest

import load
from harness import proc
from harness.ctl import AUTHOR, WIDTH, Ctl, find_weirctl, on_a_terminal

CONF = """
limit connections { rate = "60/1h" burst = 5 }
limit sessions { max = 20 }
limit recipients { rate = "300/10m" }
greylist { enabled = true }
"""


@pytest.fixture
def ctl(redis, tmp_path):
    conf = tmp_path / "weir.conf"
    conf.write_text(CONF + f'redis {{ url = "{redis.url}" }}\n')
    return Ctl(conf=conf)


# --- transcripts ------------------------------------------------------------------------------

LIMITS = """\
NAME         PER      LIMIT              DOES    FROM
connections  address  {connections}
sessions     address  max 20             refuse  file
recipients   network  300/10m burst 300  refuse  file
generation {generation}"""
DONE = "done: in force everywhere, generation "
ACCEPTED = """\
  next connection accepted
  next message    accepted
  next recipient  accepted
"""
HELD = """\
  next connection accepted
  next message    refused (greylist), again in 5 min
                  421 4.7.1 Greylisted, please try again later
  next recipient  accepted
"""

# What is typed, and all that comes back: `~` stands for what differs from run to run,
# two blanks and more for any number of them.
TRANSCRIPT = [
    ("limit", LIMITS.format(connections="60/1h burst 5      refuse  file", generation=0)),
    ("lists", "nobody is exempt, blocked or overridden in redis"),
    ("status", "generation in redis 0\n"
               "no weir-milter is using this redis (or none has for ten seconds)"),
    ("top", "WHO  KIND  USED/OF  ACCEPTED  REFUSED  SEEN  BY LIMIT\n"
            "by refused; 0 records in redis"),
    ("greylist list", "WAITS  SINCE  TRIES  FROM  TO\n0 wait\n\nKNOWN  LAST MESSAGE\n0 known"),
    ("limit history", "nothing has been changed with weirctl yet"),
    ("limit set connections rate=120/1m burst=60 for 2h", DONE + "1"),
    ("limit list", LIMITS.format(
        connections="120/1m burst 60    refuse  redis for 2 h, ~", generation=1)),
    ("limit unset connections", DONE + "2"),
    ("limit set connections burst=7", DONE + "3"),
    ("limit set connections rate=90/1h", DONE + "4"),
    ("limit", LIMITS.format(
        connections="90/1h burst 7      refuse  redis, ~", generation=4)),
    ("limit set connections enabled=false", DONE + "5"),
    ("limit", LIMITS.format(
        connections="off                refuse  redis, ~", generation=5)),
    ("limit rollback 4", DONE + "6"),
    ("override set 192.0.2.7 connections rate=5/1s burst=500", DONE + "7"),
    ("exempt 198.51.100.0/24 for 90m", DONE + "8"),
    ("block user:joe", DONE + "9"),
    ("block 2001:DB8:0::7/128", DONE + "10"),
    ("lists", """\
WHO              WHAT                               LEFT      BY
198.51.100.0/24  exempt                             90 min    ~
2001:db8::7      block                              for good  ~
user:joe         block                              for good  ~
192.0.2.7        connections rate=5/1s burst=500    for good  ~"""),
    ("why 2001:db8::7", """\
2001:db8::7
  next connection refused (blocked)
                  421 4.7.1 Not accepted from your address for now
  next message    refused (blocked)
                  421 4.7.1 Not accepted from your address for now
  next recipient  refused (blocked)
                  421 4.7.1 Not accepted from your address for now

lists: 2001:db8::7: action=block by=~
pool 2001:db8::/64: a stranger: 0.0 credits of 20
not seen lately
limits of generation 10"""),
    ("why 192.0.2.7 sender a@client.test recipient u@example.test",
     "192.0.2.7\n" + HELD + """
COUNTER      USED  OF   EMPTY IN  KEY
connections  0.0   500  -         address:{192.0.2.0/24}:192.0.2.7
sessions     0     20   -         address:{192.0.2.0/24}:192.0.2.7
recipients   0.0   300  -         network:{192.0.2.0/24}
greylisting: new, passes in 5 min
overrides: 192.0.2.7 connections: rate=5/1s burst=500 by=~
pool 192.0.2.0/24: a stranger: 0.0 credits of 20
not seen lately
limits of generation 10"""),
    ("greylist pass 192.0.2.7", "192.0.2.0/24: known: its mail is not held back"),
    ("greylist", "WAITS  SINCE  TRIES  FROM  TO\n0 wait\n\n"
                 "KNOWN         LAST MESSAGE\n192.0.2.0/24  ~ ago\n1 known"),
    ("why 192.0.2.9", "192.0.2.9\n" + ACCEPTED + """
COUNTER      USED  OF   EMPTY IN  KEY
connections  0.0   7    -         address:{192.0.2.0/24}:192.0.2.9
sessions     0     20   -         address:{192.0.2.0/24}:192.0.2.9
recipients   0.0   300  -         network:{192.0.2.0/24}
greylisting: known
pool 192.0.2.0/24: known: it passed greylisting
not seen lately
limits of generation 10"""),
    ("greylist forget 192.0.2.0/24", "192.0.2.0/24: forgotten: it starts anew"),
    ("unlist user:joe", DONE + "11"),
    ("limit unset connections", DONE + "12"),
    ("limit history", """\
  12  ~-~-~ ~:~:~  ~
      limits connections: burst=7 rate=90/1h -> -
  11  ~  ~
      lists user:joe: action=block -> -
  10  ~  ~
      lists 2001:db8::7: - -> action=block
   9  ~  ~
      lists user:joe: - -> action=block
   8  ~  ~
      lists 198.51.100.0/24: - -> action=exempt
   7  ~  ~
      overrides 192.0.2.7 connections: - -> rate=5/1s burst=500
   6  ~  ~  (rollback to 4)
      limits connections: burst=7 rate=90/1h enabled=false -> burst=7 rate=90/1h
   5  ~  ~
      limits connections: burst=7 rate=90/1h -> burst=7 rate=90/1h enabled=false
   4  ~  ~
      limits connections: burst=7 -> burst=7 rate=90/1h
   3  ~  ~
      limits connections: - -> burst=7
   2  ~  ~
      limits connections:temporary: rate=120/1m burst=60 -> -
   1  ~  ~
      limits connections:temporary: - -> rate=120/1m burst=60"""),
]


def like(template):
    pattern = re.escape(template.strip("\n")).replace(r"\~", "[^\n]+?")
    return re.sub(r"(\\ ){2,}", " {2,}", pattern) + r" *\n?"


def test_transcript(redis, ctl):
    """What a person sees, letter by letter, at 80 columns and without escape codes."""
    for words, said in TRANSCRIPT:
        result = ctl(words)
        assert all(len(line) <= WIDTH for line in result.lines), result.out
        text = "\n".join(line.rstrip() for line in result.lines)
        assert re.fullmatch(like(said), text), f"{words}\n{text}\n--- wanted\n{said}"


def test_json(ctl):
    """The same for programs: one document, whatever the command."""
    assert ctl.json("limit set connections burst=7 for 2h") == {"generation": 1}
    for words in ("override set 192.0.2.7 connections burst=5", "exempt 192.0.2.0/24",
                  "block 203.0.113.1", "unlist 203.0.113.1", "limit rollback 2"):
        assert list(ctl.json(words)) == ["generation"]
    limits = ctl.json("limit")
    assert limits["generation"] == "6" and limits["ignored"] == []
    first = limits["limits"][0]
    assert 7190 < first.pop("until") - time.time() < 7201
    assert first == {"name": "connections", "count": "connections", "per": "address",
                     "for": "everyone", "enabled": True, "action": "refuse",
                     "figures": "60/1h burst 7", "rate": 60, "period_seconds": 3600,
                     "burst": 7, "strict": False, "from": "redis", "by": AUTHOR, "reason": "", "reply":
                     "421 4.7.0 Too many connections from your address, try again later"}
    assert limits["limits"][1]["max"] == 20 and limits["limits"][1]["from"] == "file"
    assert ctl.json("lists") == [
        {"section": "overrides", "who": "192.0.2.7", "what": "connections burst=5",
         "by": AUTHOR, "reason": "", "from": "redis"}]
    assert [entry["n"] for entry in ctl.json("limit history")] == [6, 5, 4, 3, 2, 1]
    assert set(ctl.json("why 192.0.2.7")) == {
        "client", "envelope", "user", "generation", "next", "counters", "greylist", "exceptions",
        "ignored", "record", "key", "shadows", "pool"}
    assert ctl.json("top -n 3") == {"rows": [], "records": 0, "by": "refused"}
    assert ctl.json("status") == {"generation": "6", "nodes": []}
    assert ctl.json("greylist list") == {"waiting": [], "known": []}
    assert ctl.json("greylist pass 192.0.2.7")["pool"] == "192.0.2.0/24"


WRONG_USAGE = [
    "", "drain all", "drain all perhaps", "drain all off for 1h", "drain all off -w",
    "drain all on for", "drain -w", "drain all on now",
    "limits", "limit set", "limit set connections", "limit unset",
    "limit history 5", "limit rollback", "limit rollback x", "limit rollback -1", "limit list x",
    "limit set connections burst", "limit shadow", "limit shadow connections for 1d",
    "limit shadow connections burst=3", "limit shadow connections burst=3 for", "override",
    "override set 192.0.2.1 connections",
    "override unset 192.0.2.1 connections burst=1", "exempt", "exempt 192.0.2.1 for",
    "exempt 192.0.2.1 for ever", "exempt 192.0.2.1 for 0s", "block 192.0.2.1 for -1h",
    "block 192.0.2.1 for 9999999999999h", "limit set connections burst=5 for",
    "block 192.0.2.1 for 1y", "limit set connections burst=5 for 2hours", "unlist", "lists x",
    "why", "why 192.0.2.1 sender", "why 192.0.2.1 colour x", "top by sessions", "top -n", "top -n 0",
    "top -n 1001", "status x", "clear", "clear 192.0.2.1 192.0.2.2", "greylist pass",
    "greylist drop 192.0.2.1", "-x", "-m"]


@pytest.mark.parametrize("words", WRONG_USAGE)
def test_usage(redis, ctl, words):
    """Exit 2, nothing on standard output, nothing changed."""
    result = ctl(*words.split(), status=2)
    assert result.out == "" and result.err
    assert redis.cmd("KEYS", "*") == []


def test_help(ctl):
    out = ctl("--help").out
    for command in ("limit", "override", "exempt", "block", "trap", "unlist", "lists", "import",
                    "why", "top", "status", "clear", "drain", "greylist", "replay", "suggest",
                    "doctor", "attach"):
        assert re.search(rf"^  {command}", out, re.MULTILINE)
        forms = ctl("help", command).out
        assert forms.startswith(f"usage: weirctl {command}")
        assert [line for line in forms.splitlines() if len(line) > WIDTH] == []
    assert len(out.splitlines()) <= 24 and ctl("help").out == out
    assert ctl.run("help", "nonsense").status == 2
    assert "usage: weirctl drain" in ctl("drain -w", status=2).err      # its own forms only
    assert "weirctl limit" not in ctl("drain -w", status=2).err
    assert re.fullmatch(r"weirctl \d+\.\d+\.\d+\n", ctl("-V").out)
    assert [line for line in out.splitlines() if len(line) > WIDTH] == []


LONG_NET = "2001:db8:1111:2222:3333:4444:5555:6666"


def test_width(redis, weir, ctl):
    """Long addresses, names and reasons are cut, and never break the lines."""
    milter = weir(CONF, redis=redis)
    load.connects(milter.socket, LONG_NET, 7)
    for words in (["override", "set", LONG_NET, "connections", "burst=1000000000",
                   "rate=1000000000/52w"],
                  ["-m", "r" * 200, "block", "user:" + "u" * 128],
                  ["-m", "r" * 200, "limit", "set", "recipients", "burst=999999999",
                   "rate=999999999/52w", "for", "366d"]):
        ctl(*words)
    redis.cmd("HSET", "weir:limits", "x" * 300, "y" * 500)
    too_long = [(words, line) for words in (
        "limit", "lists", "limit history", f"why {LONG_NET}", "top", "top by connections",
        "greylist list") for line in ctl(words).lines if len(line) > WIDTH]
    assert too_long == [], "\n".join(map(str, too_long))


# --- top -----------------------------------------------------------------------------------------

def test_top(redis, weir, ctl):
    """The most refused, and the heaviest; in order, and no more than asked for."""
    milter = weir(CONF, redis=redis)
    for client, times in (("192.0.2.1", 2), ("192.0.2.2", 6), ("192.0.2.3", 4)):
        load.connects(milter.socket, client, times)
    rows = ctl.json("top")["rows"]
    assert [(r["who"], r["accepted"], r["refused"], r["refused_by"]) for r in rows] == \
        [("192.0.2.2", 5, 1, "connections")]
    rows = ctl.json("top by connections")["rows"]
    assert [(r["who"], round(r["used"]), r["of"]) for r in rows] == \
        [("192.0.2.2", 5, 5), ("192.0.2.3", 4, 5), ("192.0.2.1", 2, 5)]
    assert len(ctl.json("top -n 2 by connections")["rows"]) == 2
    assert ctl.json("top by messages")["rows"] == []
    out = ctl("top by connections -n 1").out
    assert "192.0.2." in out and "by connections; 3 records in redis" in out


def test_on_a_terminal(redis, ctl):
    """Colours, and top again and again until ^C; none of it with NO_COLOR."""
    shown, status = on_a_terminal([*ctl.argv, "top"], "", ctl.env,
                                  until=rb"(?s)(records in redis.*){2}")
    assert shown.count("\033[H\033[2J") >= 2 and status in (0, 130, -signal.SIGINT)
    shown, _ = on_a_terminal([*ctl.argv, "limit"], "", ctl.env)
    assert "\033[1m" in shown and shown.rstrip().endswith("generation 0")
    shown, _ = on_a_terminal([*ctl.argv, "limit"], "", {**ctl.env, "NO_COLOR": "1"})
    assert "\033" not in shown


# --- completion ------------------------------------------------------------------------------------

COMPLETED = [
    (["weirctl", ""], {"limit", "override", "exempt", "block", "trap", "unlist", "lists", "import",
                       "why", "top", "status", "clear", "drain", "greylist",
                       "replay", "suggest", "doctor", "attach", "help"}),
    (["weirctl", "drain", ""], {"all"}), (["weirctl", "drain", "all", ""], {"on", "off"}),
    (["weirctl", "drain", "all", "on", ""], {"for", "-w"}),
    (["weirctl", "l"], {"limit", "lists"}), (["weirctl", "-"], {"-c", "-r", "-j", "-m", "-y"}),
    (["weirctl", "limit", ""], {"list", "set", "unset", "shadow", "history", "rollback"}),
    (["weirctl", "limit", "set", ""], {"connections", "sessions", "recipients", "mine"}),
    (["weirctl", "-j", "limit", "set", "con"], {"connections"}),
    (["weirctl", "limit", "unset", "m"], {"mine"}),
    (["weirctl", "limit", "set", "connections", "bu"], {"burst="}),
    (["weirctl", "limit", "set", "connections", "action", "=", ""], {"refuse", "defer", "log"}),
    (["weirctl", "limit", "set", "connections", "for", "=", "s"], {"strangers"}),
    (["weirctl", "limit", "set", "connections", "per", "=", "p"], {"pool"}),
    (["weirctl", "limit", "shadow", "mi"], {"mine"}),
    (["weirctl", "limit", "shadow", "mine", "q"], {"quota="}),
    (["weirctl", "limit", "shadow", "mine", "o"], {"off"}),
    (["weirctl", "limit", "set", "connections", "burst=5", "f"], {"for", "for="}),
    (["weirctl", "override", ""], {"set"}),
    (["weirctl", "override", "set", "192.0.2.1", "re"], {"recipients"}),
    (["weirctl", "why", "192.0.2.1", ""], {"name", "sender", "recipient", "user", "helo"}),
    (["weirctl", "why", "192.0.2.1", "name", ""], set()),
    (["weirctl", "exempt", ""], {"user:", "name:"}), (["weirctl", "trap", "a@b", ""], {"for"}),
    (["weirctl", "import", "post"], {"postgrey-clients", "postgrey-recipients"}),
    (["weirctl", "import", "milter-greylist", "x", ""], {"-n", "for"}),
    (["weirctl", "greylist", "off", "s"], {"sender:"}), (["weirctl", "greylist", "on", ""], set()),
    (["weirctl", "greylist", "on", "a@b", ""], {"delay=", "for"}),
    (["weirctl", "top", ""], {"by", "-n"}),
    (["weirctl", "top", "by", "re"], {"refused", "recipients", "rejected-recipients"}),
    (["weirctl", "greylist", ""], {"list", "pass", "forget", "on", "off"}),
    (["weirctl", "unlist", ""], {"203.0.113.9", "user:joe"}),
    (["weirctl", "replay", "/etc/hostn"], {"/etc/hostname"}),
    (["weirctl", "suggest", "/etc/hostn"], {"/etc/hostname"}),
    (["weirctl", "replay", "LOG", "-"], {"-l", "-g"}),
    (["weirctl", "attach", ""], {"postfix", "sendmail"}),
    (["weirctl", "attach", "postfix", "--a"], {"--apply"}),
    (["weirctl", "doctor", "--"], {"--send", "--from", "--to"}),
    (["weirctl", "doctor", "p"], {"postfix"}), (["weirctl", "help", "att"], {"attach"}),
    (["weirctl", "replay", "LOG", "-l", "m"], {"mine"}),
    (["weirctl", "replay", "LOG", "-l", "mine", "bu"], {"burst="}),
    (["weirctl", "replay", "LOG", "-l", "mine", "action", "=", "d"], {"defer"}),
    (["weirctl", "replay", "LOG", "-g", "de"], {"delay="}),
    (["weirctl", "replay", "LOG", "-g", "enabled", "=", ""], {"true", "false"}),
    (["weirctl", "replay", "LOG", "-l", "mine", "burst=9", "-g", "de"], {"delay="}),
]


def test_bash_completion(redis, ctl):
    """Commands, words, and the names that are in force."""
    ctl("limit set mine count=messages rate=1/1m")
    ctl("block 203.0.113.9")
    ctl("exempt user:joe")
    path = proc.SOURCE / "etc/completion/weirctl.bash"
    for words, wanted in COMPLETED:
        script = (f'weirctl() {{ {find_weirctl()} -r {redis.url} "$@"; }}\n. {path}\n'
                  f'COMP_WORDS=({" ".join(repr(w) for w in words)})\n'
                  f'COMP_CWORD={len(words) - 1}\n_weirctl weirctl\n'
                  'printf "%s\\n" "${COMPREPLY[@]}"')
        got = subprocess.run(["bash", "-eu", "-c", script], capture_output=True, text=True,
                             check=False)
        assert got.stderr == "" and got.returncode == 0, (words, got)
        found = {word.strip() for word in got.stdout.splitlines() if word}
        assert found == wanted if words[-1] != "-" else wanted <= found, words
