#!/usr/bin/python3
# SPDX-License-Identifier: BSD-2-Clause
"""What a synthetic overload does to known clients, with load levels and without, through a real
Postfix.

    WEIR_MILTER=... WEIRCTL=... tests/bench/overload_bench.py [RUNS [OUT-DIRECTORY]]

Postfix may run PROCESSES smtpd at a time. Known clients deliver KNOWN messages a second all the
time. For the middle part of the run strangers come, STRANGERS a second, whatever becomes of
them, and each that is let in takes his time: they need more than twice the processes there are.
Each run is done twice, with `load` in the configuration and without. Printed: what became of
both, and the latency of the known ones (from the connection to the reply to the final dot)
idle and in the overload. OUT-DIRECTORY gets the events as tables for overload.gp.
"""

import asyncio
import random
import statistics
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "e2e"))
from harness import proc  # noqa: E402
from harness.postfix import Postfix  # noqa: E402
from harness.redis import Redis  # noqa: E402
from harness.weir import Weir  # noqa: E402

PROCESSES, KNOWN, STRANGERS, THINK = 40, 5.0, 60.0, 0.3
IDLE, FLOOD, AFTER = 15.0, 30.0, 15.0
GIVE_UP = 10.0                  # seconds without a reply
MARKS = 'load { sessions = "20 8" }\n'
CONF = """
limit connections { enabled = false }
limit sessions { enabled = false }
limit recipients { enabled = false }
"""
SENDERS = [f"127.200.{n}.9" for n in range(20)]


class Gone(Exception):
    """The other side did not say what was expected; args[0] is what came of it."""


class Bench:
    def __init__(self, port, weir):
        self.port = port
        self.weir = weir
        self.start = 0.0
        self.known, self.strangers = [], []     # (when, outcome, seconds)
        self.open, self.opens = 0, []
        self.levels = [(0.0, 0)]
        self.codes = set()                      # all that strangers ever got
        self.refused = 0

    def now(self):
        return time.monotonic() - self.start

    async def _reply(self, reader, expected):
        try:
            while True:
                line = await asyncio.wait_for(reader.readline(), GIVE_UP)
                if not line:
                    raise Gone("hung up")
                if line[3:4] != b"-":
                    break
        except asyncio.TimeoutError:
            raise Gone("timeout") from None
        except ConnectionError:
            raise Gone("hung up") from None
        code = line[:3].decode()
        if code != expected:
            raise Gone(code)
        return code

    async def _session(self, source, think, codes):
        """One message; returns the seconds to the reply to its dot."""
        began = time.monotonic()
        try:
            reader, writer = await asyncio.wait_for(asyncio.open_connection(
                "127.0.0.1", self.port, local_addr=(source, 0)), GIVE_UP)
        except (OSError, asyncio.TimeoutError):
            raise Gone("no connection") from None
        self.open += 1
        try:
            for line, expected in (
                    (None, "220"), ("EHLO c.test", "250"), ("MAIL FROM:<a@c.test>", "250"),
                    ("RCPT TO:<u@example.test>", "250"), ("DATA", "354"),
                    ("Subject: x\r\n\r\nx\r\n.", "250")):
                if line:
                    await asyncio.sleep(think)
                    writer.write(line.encode() + b"\r\n")
                try:
                    codes.add(await self._reply(reader, expected))
                except Gone as gone:
                    codes.add(gone.args[0])
                    raise
            took = time.monotonic() - began
            writer.write(b"QUIT\r\n")
            codes.add(await self._reply(reader, "221"))
            return took
        finally:
            self.open -= 1
            writer.close()

    async def _one(self, events, source, think, codes):
        when = self.now()
        try:
            events.append((when, "ok", await self._session(source, think, codes)))
        except Gone as gone:
            events.append((when, gone.args[0], self.now() - when))

    async def _stream(self, rate, until, make):
        """Poisson arrivals that do not wait for each other."""
        tasks, due = [], self.now()
        while True:
            due += random.expovariate(rate)
            if due > until:
                break
            await asyncio.sleep(max(0.0, due - self.now()))
            tasks.append(asyncio.create_task(make()))
        await asyncio.gather(*tasks)

    def _known(self):
        return self._one(self.known, random.choice(SENDERS), 0.0, set())

    def _stranger(self):
        # never the same network twice, as far as a run goes
        source = f"127.{random.randrange(1, 190)}.{random.randrange(256)}.7"
        return self._one(self.strangers, source, THINK, self.codes)

    async def _flood(self):
        await asyncio.sleep(IDLE)
        await self._stream(STRANGERS, IDLE + FLOOD, self._stranger)

    async def _watch(self):
        while self.now() < IDLE + FLOOD + AFTER:
            self.opens.append((self.now(), self.open))
            for line in self.weir.log("load: level=")[len(self.levels) - 1:]:
                self.levels.append((self.now(), int(self.weir.fields(line)["level"])))
            await asyncio.sleep(0.1)

    async def _run(self):
        self.start = time.monotonic()
        await asyncio.gather(self._stream(KNOWN, IDLE + FLOOD + AFTER, self._known),
                             self._flood(), self._watch())

    def run(self):
        asyncio.run(self._run())
        return self


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(share * len(values)))] if values else float("nan")


def summary(b):
    """The known ones before and in the flood; the strangers in it; and the level's end."""
    def part(begin, end):
        events = [e for e in b.known if begin <= e[0] < end]
        ok = [e[2] for e in events if e[1] == "ok"]
        return len(ok) / len(events), ok
    _, idle = part(0, IDLE)
    share, busy = part(IDLE, IDLE + FLOOD)
    shed = sum(e[1] == "421" for e in b.strangers)
    served = sum(e[1] == "ok" for e in b.strangers)
    back = [t for t, level in b.levels if level == 0 and t > IDLE + FLOOD]
    return {
        "delivered": share, "idle50": percentile(idle, .5), "idle95": percentile(idle, .95),
        "busy50": percentile(busy, .5), "busy95": percentile(busy, .95),
        "strangers": len(b.strangers), "421": shed, "served": served,
        "lost": len(b.strangers) - shed - served, "codes": b.codes,
        "changes": len(b.levels) - 1, "at0": sum(
            max(0.0, min(end, IDLE + FLOOD) - max(begin, IDLE)) for (begin, level), (end, _)
            in zip(b.levels, b.levels[1:] + [(IDLE + FLOOD, 0)]) if level == 0),
        "back": back[0] - IDLE - FLOOD if back else 0.0 if b.levels[-1][1] == 0 else float("nan")}


def write(b, path, name):
    def table(kind, rows):
        with open(path / f"overload-{name}-{kind}.dat", "w") as file:
            for row in rows:
                file.write(" ".join(map(str, row)) + "\n")
    table("known", [(f"{t:.3f}", f"{s:.4f}", int(r == "ok")) for t, r, s in sorted(b.known)])
    table("open", [(f"{t:.2f}", n) for t, n in b.opens])
    level, rows = 0, []
    for t, new in b.levels + [(IDLE + FLOOD + AFTER, b.levels[-1][1])]:
        rows += [(f"{t:.2f}", level), (f"{t:.2f}", new)]
        level = new
    table("level", rows)
    seconds = range(int(IDLE + FLOOD + AFTER))
    table("strangers", [(s, *(sum(s <= t < s + 1 and kind(r) for t, r, _ in b.strangers)
                              for kind in (lambda r: r == "ok", lambda r: r == "421",
                                           lambda r: r not in ("ok", "421"))))
                        for s in seconds])


def measure(marks):
    redis = Redis().start()
    socket = f"unix:{proc.make_run_directory('bench')}/milter.sock"
    weir = Weir(CONF + marks, socket=socket, redis=redis, verbose=False).start()
    postfix = Postfix([socket], options={"default_process_limit": PROCESSES}).start()
    try:
        now = int(time.time() * 1e6)
        for source in SENDERS:
            redis.cmd("HSET", f"weir:pool:{{{source.rpartition('.')[0]}.0/24}}", "trust",
                      f"30000000 90000000 0 {now} {now}")
        time.sleep(1)
        return Bench(postfix.port, weir).run()
    finally:
        postfix.stop()
        weir.stop()
        redis.stop()


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    out = Path(sys.argv[2]) if len(sys.argv) > 2 else None
    print(f"{PROCESSES} smtpd; known {KNOWN:.0f}/s, strangers {STRANGERS:.0f}/s for {FLOOD:.0f} s; "
          f"latency in ms")
    print("            known: delivered   idle p50  p95   flood p50   p95  ratio p50  p95 | "
          "strangers: all  421  served  lost | changes  at 0  back to 0")
    results = {"with": [], "without": []}
    for number in range(runs):
        for name, marks in (("without", ""), ("with", MARKS)):
            b = measure(marks)
            s = summary(b)
            results[name].append(s)
            print(f"{number + 1} {name:8}{s['delivered']:18.1%}{s['idle50'] * 1e3:11.1f}"
                  f"{s['idle95'] * 1e3:6.1f}{s['busy50'] * 1e3:11.1f}{s['busy95'] * 1e3:8.1f}"
                  f"{s['busy50'] / s['idle50']:10.2f}{s['busy95'] / s['idle95']:6.2f} |"
                  f"{s['strangers']:15}{s['421']:6}{s['served']:8}{s['lost']:6} |"
                  f"{s['changes']:8}{s['at0']:5.1f} s{s['back']:7.1f} s  {' '.join(sorted(s['codes']))}",
                  flush=True)
            if out:
                out.mkdir(parents=True, exist_ok=True)
                write(b, out, name)
    for name, all_of in results.items():
        print(f"median {name}: delivered {statistics.median(s['delivered'] for s in all_of):.1%}, "
              f"p50 {statistics.median(s['busy50'] / s['idle50'] for s in all_of):.2f}x idle, "
              f"p95 {statistics.median(s['busy95'] / s['idle95'] for s in all_of):.2f}x idle")


main()
