# SPDX-License-Identifier: BSD-2-Clause
"""The demonstration itself; scripts/demo prepares the ground and starts it.

Each scene says what will happen, lets it happen, shows what went over the wire,
and checks it: Wrong is raised when something is not as told.
"""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/e2e"))

from harness import proc                    # noqa: E402
from harness.postfix import Postfix         # noqa: E402
from harness.redis import Redis             # noqa: E402
from harness.weir import Weir               # noqa: E402

SCENES = 5
GREY_DELAY = 3
BURST = 5
LIMITS = f"""\
limit connections {{ rate = "{BURST}/1m" burst = {BURST} }}
"""
GREYLIST = f"""\
greylist {{ enabled = true  delay = "{GREY_DELAY}s" }}
"""
FRIEND, FLOODER, STRANGER = "127.0.1.10", "127.0.2.66", "127.0.3.30"


class Wrong(Exception):
    """Something did not happen as told."""


def expect(condition, what):
    if not condition:
        raise Wrong(what)


# --- what the reader sees -----------------------------------------------------------

COLOUR = sys.stdout.isatty() and "NO_COLOR" not in os.environ \
    and os.environ.get("TERM", "dumb") != "dumb"
WIDTH = min(80, shutil.get_terminal_size().columns) - 2 if COLOUR else 78
BOLD, DIM, RED, GREEN, YELLOW, CYAN = "1", "2", "31", "32", "33", "36"


def paint(text, *codes):
    return f"\033[{';'.join(codes)}m{text}\033[0m" if COLOUR and codes else text


def out(text=""):
    print(text, flush=True)


def wrapped(text, first="", rest=None, *codes):
    """Never wider than the terminal; long words (log lines) are cut as well."""
    for line in textwrap.wrap(text, WIDTH, initial_indent=first,
                              subsequent_indent=first if rest is None else rest,
                              break_on_hyphens=False) or [first]:
        out(paint(line, *codes))


def say(text):
    out()
    wrapped(" ".join(text.split()))


def scene(number, title):
    out()
    out(paint(f"--- {number} of {SCENES}: {title} ".ljust(WIDTH, "-"), BOLD))


def show(transcript):
    """C: the client, S: the server. EHLO's list of extensions is cut short."""
    out()
    extensions = 0
    for side, line in transcript:
        if side == "S" and line.startswith("250-"):
            extensions += 1
            if extensions == 2:
                out(paint("    S: 250-... (and more extensions)", DIM))
            if extensions >= 2:
                continue
        else:
            extensions = 0
        if side == "!":
            out(paint("    (the server closes the connection)", DIM))
            continue
        codes = [CYAN] if side == "C" else [RED if line[:1] in "45" else GREEN]
        wrapped(line, f"    {side}: ", "       ", *codes)


def show_log(lines):
    out()
    out(paint("    weir's log:", DIM))
    for line in lines:
        wrapped(line, "    ", "        ", YELLOW)


def show_redis(redis, *words):
    """One command as redis-cli would take it, and its answer."""
    shown = ["--scan", "--pattern", words[1]] if words[0] == "KEYS" else words
    quoted = " ".join(f'"{w}"' if re.search(r"[ *{}]", w) else w for w in shown)
    wrapped(f"$ redis-cli -p {redis.port} {quoted}", "    ", "        ", CYAN)
    answer = redis.cmd(*words)
    lines = answer if isinstance(answer, list) else [answer]
    if words[0] == "HGETALL":
        lines = [f"{k:<12} {v}" for k, v in zip(answer[::2], answer[1::2])]
    for line in lines:
        wrapped(str(line), "    ", "        ")
    return answer


def show_weirctl(stage, *words):
    """One command of weirctl, and what it prints."""
    wrapped(f"$ weirctl {shlex.join(words)}", "    ", "        ", CYAN)
    program = Path(os.environ["WEIR_MILTER"]).with_name("weirctl")
    done = subprocess.run([program, "-c", stage.weir.conf, *words], capture_output=True,
                          text=True, timeout=10, check=False)
    for line in (done.stdout + done.stderr).splitlines():
        out(f"    {line[:WIDTH - 4]}")
    expect(done.returncode == 0, f"weirctl ended with {done.returncode}")


# --- the cast -----------------------------------------------------------------------

class LoggedWeir(Weir):
    """Its log goes to a file as well, for --keep."""

    def _collect(self, stream):
        with open(self.directory / "weir.log", "ab", buffering=0) as log:
            super()._collect(Tee(stream, log))


class Tee:
    """A stream of lines that are also written to a log."""

    def __init__(self, stream, log):
        self.stream, self.log = stream, log

    def __iter__(self):
        for line in self.stream:
            self.log.write(line)
            yield line

    def close(self):
        self.stream.close()


class Stage:
    """The servers, and what the scenes share."""

    def __init__(self):
        self.redis = Redis(unix=False, persistent=True)
        self.weir = self.postfix = None

    def start(self):
        self.redis.start()
        self.weir = LoggedWeir(LIMITS, redis=self.redis)
        self.weir.start()
        self.postfix = Postfix([self.weir.socket])
        self.postfix.start()

    def stop(self):
        for server in (self.postfix, self.weir, self.redis):
            if server is not None:
                server.stop()

    def send(self, source, sender="anna@client.test"):
        """One message from source; the transcript."""
        with self.postfix.connect(source) as client:
            return client.send_message(sender, ["ben@example.test"],
                                       "Subject: hello\r\n\r\nHello.")

    def greeting(self, source):
        """The first line that source is told; then QUIT if there is a session."""
        with self.postfix.connect(source) as client:
            if client.greeting.code == 220:
                expect(client.quit() == 221, "QUIT did not end with 221")
            return str(client.greeting)

    def log_since(self, mark, pattern, count=1):
        """The lines since mark that match, once there are count of them."""
        def look():
            found = [line for line in self.weir.log()[mark:] if re.search(pattern, line)]
            return found if len(found) >= count else None
        try:
            return proc.wait_for(look, 5)
        except TimeoutError:
            raise Wrong(f"weir did not log /{pattern}/") from None


def delivered(transcript):
    return transcript.codes() == [220, 250, 250, 250, 354, 250, 221]


# --- the scenes ---------------------------------------------------------------------

def a_client_that_behaves(stage):
    scene(1, "a client that behaves")
    say(f"""{FRIEND} delivers one message. weir counts it and stays silent; QUIT
        ends with 221, as without weir.""")
    transcript = stage.send(FRIEND)
    show(transcript)
    expect(delivered(transcript), "the message was not accepted")


def a_flood(stage):
    scene(2, "a flood")
    say(f"""The configuration says, for each address: {LIMITS.strip()}.
        {FLOODER} now connects {BURST + 3} times. The first line it is told each
        time:""")
    out()
    mark = stage.weir.mark()
    for number in range(1, BURST + 4):
        line = stage.greeting(FLOODER)
        wrapped(line, f"    {number}. S: ", "          ",
                GREEN if line.startswith("220") else RED)
        expect(line.startswith("220" if number <= BURST else "421 "),
               f"connection {number} was told: {line}")
    say("""421 and the end of the connection: a real mail server comes back later.
        At this point the text is Postfix's own; with refuse-at = helo it
        is weir's. Others notice nothing of it:""")
    line = stage.greeting(FRIEND)
    out()
    wrapped(line, f"    {FRIEND}  S: ", "         ", GREEN)
    expect(line.startswith("220"), f"{FRIEND} was told: {line}")
    show_log(stage.log_since(mark, r"action=refuse .*limit=connections", 2)[:2])
    say("In Redis, all that is known of this client is in one hash, and each key expires:")
    out()
    keys = show_redis(stage.redis, "KEYS", "weir:*")
    key = f"weir:address:{{127.0.2.0/24}}:{FLOODER}"
    expect(key in keys, f"{key} is not in Redis")
    show_redis(stage.redis, "HGETALL", key)
    expect(show_redis(stage.redis, "TTL", key) > 0, "the key has no expiry")
    say("""connections is the level of its bucket in millionths and when that was, in
        microseconds since 1970; ok and refused count questions. (What weir
        refuses from its own memory, source=cache, for up to a second, does not
        reach Redis.)""")


def a_limit_raised(stage):
    scene(3, "a limit raised while mail flows")
    say(f"""Why is {FLOODER} refused? weirctl asks what weir-milter would ask, and
        changes nothing:""")
    out()
    mark = stage.weir.mark()
    show_weirctl(stage, "why", FLOODER)
    say("Limits in Redis lie over those of the file. No weir-milter is restarted:")
    out()
    show_weirctl(stage, "-m", "the demo", "limit", "set", "connections", "rate=50/1m", "burst=50")
    show_weirctl(stage, "limit")
    # A client refused a moment ago is refused from memory for up to a second.
    time.sleep(1.1)
    say(f"The next session of {FLOODER}:")
    transcript = stage.send(FLOODER)
    show(transcript)
    expect(delivered(transcript), "the new limit was not obeyed")
    show_log(stage.log_since(mark, "limits: generation"))
    say("""It can be done by hand as well. Without the field in Redis the file's limit
        holds again:""")
    out()
    mark = stage.weir.mark()
    show_redis(stage.redis, "HDEL", "weir:limits", "connections")
    show_redis(stage.redis, "INCR", "weir:generation")
    stage.log_since(mark, "limits: generation")
    line = stage.greeting(FLOODER)
    out()
    wrapped(line, f"    {FLOODER}  S: ", "         ", RED)
    expect(line.startswith("421 "), f"{FLOODER} was told: {line}")


def greylisting(stage):
    scene(4, "greylisting")
    say(f"""weir-milter is started again with {GREYLIST.strip()} (5m is usual; the
        demo is in a hurry). {STRANGER} has never been seen; its first try:""")
    stage.weir.stop()
    stage.weir.write_conf(LIMITS + GREYLIST)
    stage.weir.start()
    mark = stage.weir.mark()
    transcript = stage.send(STRANGER)
    show(transcript)
    expect(transcript.codes() == [220, 250, 250, 421] and transcript[-1][0] == "!",
           "the message was not greylisted")
    time.sleep(GREY_DELAY + 0.2)
    say(f"A mail server retries, most senders of spam do not. {GREY_DELAY} seconds later:")
    transcript = stage.send(STRANGER)
    show(transcript)
    expect(delivered(transcript), "the retry was not let through")
    say("""Its network is known from now on, and nothing of it is asked to wait
        again. The three decisions, the last for another sender:""")
    transcript = stage.send(STRANGER, "carol@client.test")
    expect(delivered(transcript), "the known network was not let through")
    lines = stage.log_since(mark, r"stage=rcpt .*grey=", 3)
    show_log(lines)
    states = [Weir.fields(line)["grey"] for line in lines]
    expect(states == ["new", "passed", "known"], f"greylisting said {states}")


def redis_stops(stage):
    scene(5, "Redis stops")
    newcomer = "127.0.4.40"
    say(f"""redis-server is stopped. {newcomer} was never seen and would be
        greylisted, but that cannot be asked: mail flows.""")
    mark = stage.weir.mark()
    stage.redis.stop()
    start = time.monotonic()
    transcript = stage.send(newcomer)
    took = time.monotonic() - start
    show(transcript)
    expect(delivered(transcript), "mail did not flow without Redis")
    out(paint(f"    (all of it in {took * 1000:.0f} ms)", DIM))
    say("""Limits still hold: weir now counts in this host's memory. The same
        client goes on connecting:""")
    out()
    told = [stage.greeting(newcomer)[:3] for _ in range(BURST + 2)]
    out("    S: " + " ".join(paint(c, GREEN if c == "220" else RED) for c in told))
    expect(told[0] == "220" and told[-1] == "421", "the limit did not hold")
    shown = stage.log_since(mark, "redis .* does not answer")
    shown += stage.log_since(mark, "stage=rcpt .*source=zone")[:1]
    shown += stage.log_since(mark, "action=refuse .*source=zone")[:1]
    show_log(shown)
    say("Redis comes back. weir notices by itself and counts there again:")
    mark = stage.weir.mark()
    stage.redis.start()
    show_log(stage.log_since(mark, "is back"))
    expect(stage.greeting(FRIEND).startswith("220"), f"{FRIEND} was not let in")


def keep(stage):
    out()
    out(paint("It stays up until ^C.", BOLD))
    port = stage.postfix.port
    for what, line in (
            ("A message, from an address of your choice (127.x.y.z):",
             f"swaks --server 127.0.0.1:{port} --to ben@example.test -li 127.0.5.50"),
            ("SMTP by hand:", f"nc -C 127.0.0.1 {port}"),
            ("What Redis knows:", f"redis-cli -p {stage.redis.port} --scan"),
            ("A limit:", f"{Path(os.environ['WEIR_MILTER']).with_name('weirctl')} "
             f"-c {stage.weir.conf} limit set connections rate=2/1m burst=2"),
            ("weir's log:", f"tail -f {stage.weir.directory}/weir.log"),
            ("Postfix's log:", f"tail -f {stage.postfix.directory}/mail.log"),
            ("The configuration:", f"cat {stage.weir.conf}")):
        if what:
            out(f"  {what}")
        # not wrapped: it is to be copied
        out(paint(f"    {line}", CYAN))
    while True:
        for server in (stage.redis, stage.weir, stage.postfix):
            expect(server.process.alive(), f"a server has ended: {server}")
        time.sleep(0.5)


def main(arguments):
    def interrupt(_number, _frame):
        raise KeyboardInterrupt
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, interrupt)
    stage = Stage()
    scenes = (a_client_that_behaves, a_flood, a_limit_raised, greylisting, redis_stops)
    start = time.monotonic()
    try:
        stage.start()
        say(f"""weir-milter, Postfix on 127.0.0.1:{stage.postfix.port} and Redis on
            127.0.0.1:{stage.redis.port} are up, in temporary directories. C: is what
            the client sends, S: what the server answers.""")
        for run in scenes:
            run(stage)
        out()
        out(paint(f"All {SCENES} as told, in {time.monotonic() - start:.0f} s.",
                  BOLD, GREEN))
        if "--keep" in arguments:
            keep(stage)
        return 0
    except KeyboardInterrupt:
        out()
        return 0 if "--keep" in arguments else 130
    except BrokenPipeError:                 # `scripts/demo | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (Wrong, RuntimeError, AssertionError, OSError) as error:
        out()
        out(paint(f"Not as told: {error}", BOLD, RED))
        if stage.weir is not None:
            out("The end of weir's log:")
            for line in stage.weir.log()[-15:]:
                wrapped(line, "    ", "        ")
        return 1
    finally:
        stage.stop()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
