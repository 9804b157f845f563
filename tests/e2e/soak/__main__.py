# SPDX-License-Identifier: BSD-2-Clause
"""scripts/soak runs this: see there."""

import argparse
import gc
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

from harness import proc
from harness.auth import Auth
from harness.postfix import Postfix
from harness.redis import Redis
from harness.sendmail import Sendmail
from harness.weir import Weir
import load

from . import faults, judge, sample, traffic

CONF = """\
zone-size = 1M
drain-timeout = 3s
limit connections { rate = "60/1m" burst = 15 }
limit sessions { max = 12 }
limit recipients { rate = "600/10m" }
limit guesses { count = rejected-recipients per = pool rate = "30/1h" }
limit strangers { count = messages per = network for = strangers rate = "60/1h" }
limit submission { count = recipients per = user quota = "2000/1d" action = defer }
limit volume { count = bytes quota = "2G/1d" ladder = "/56*4 /48*16" action = log }
greylist { enabled = true delay = 2s correspondents = true }
load { sessions = "60 30" }
"""
PLOT = proc.SOURCE / "tests/bench/soak.gp"


def sent(mta):
    """The recipients whose mail was delivered (and discarded)."""
    found = []
    pattern = r"\bstatus=sent" if mta.name == "postfix" else r"\bstat=Sent"
    for line in mta.log(pattern):
        to = re.search(r"\bto=((?:<[^>]*>,?)+)", line)
        found += re.findall(r"<(soak-[^>]*)>", to[1]) if to else []
    return found


class Soak:
    def __init__(self, options):
        self.options = options
        self.seconds = options.minutes * 60
        self.out = Path(options.out)
        self.out.mkdir(parents=True, exist_ok=True)
        self.report = []

    def say(self, text):
        print(text, flush=True)
        self.report.append(text)

    def _start(self):
        auth = Auth()
        auth.__enter__()
        self.redis = Redis(config=["save 300 1"]).start()
        env = {"ASAN_OPTIONS": "quarantine_size_mb=4:detect_leaks=1"}
        self.weirs = {name: Weir(CONF, redis=self.redis, verbose=False, env=env)
                      for name in ("shaken", "calm")}
        for weir in self.weirs.values():
            weir.start()
        self.mtas = [Postfix([self.weirs["shaken"].socket], auth=auth).start(),
                     Sendmail([self.weirs["calm"].socket], auth=auth).start()]

    def _threads(self):
        o, seed = self.options, self.options.seed
        self.books = books = traffic.Books(time.monotonic())
        self.stop, self.faults_end, self.samples_end = (threading.Event() for _ in range(3))
        shaken, calm = self.weirs["shaken"], self.weirs["calm"]
        talkers = []
        # of ten sessions a second 3 are Postfix's, 2 Sendmail's, 5 weir-milter's own
        for mta, share, threads in ((self.mtas[0], .3, 4), (self.mtas[1], .2, 4)):
            talkers += [traffic.Smtp(f"{mta.name}-{n}", books, self.stop, seed, mta,
                                     threads / (o.rate * share)) for n in range(threads)]
        talkers += [traffic.Milter(f"milter-{n}", books, self.stop, seed, [shaken, calm], shaken,
                                   2 / (o.rate * .5)) for n in range(2)]
        self.breaker = faults.Breaker("breaker", books, self.faults_end, seed, o.pause,
                                      self.redis, shaken)
        self.operator = faults.Operator("operator", books, self.faults_end, seed, o.pause,
                                        self.redis, shaken, CONF)
        self.sampler = sample.Sampler(books, self.samples_end, self.out / "soak.csv", self.weirs,
                                      self.redis, [self.breaker, self.operator])
        return talkers

    def run(self):
        o = self.options
        self.say(f"soak: seed {o.seed}, {o.minutes:g} minutes, {o.rate:g} sessions a second, "
                 f"{os.environ.get('WEIR_ENGINE', 'the default')} engine, in {self.out}")
        self._start()
        talkers = self._threads()
        actors = [self.breaker, self.operator]
        for thread in [*talkers, *actors, self.sampler]:
            thread.start()
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and all(w.process.alive() for w in self.weirs.values()):
            time.sleep(0.2)
        self._end(talkers, actors)
        return self._judge()

    def _end(self, talkers, actors):
        """Faults end first, then mail, and then weir-milter itself."""
        self.ran = self.books.now()
        self.faults_end.set()
        for thread in actors:
            thread.join(60)
        faults.mend(self.redis)
        self.stop.set()
        for thread in talkers:
            thread.join(traffic.GIVE_UP + 10)
            if thread.is_alive():
                self.books.find(f"{thread.name} hangs")
        self.samples_end.set()
        self.sampler.join(10)
        for name, weir in self.weirs.items():
            if not weir.process.alive():
                self.books.find(f"{name} ended: {weir.text()[-3000:]}")
                continue
            try:
                proc.wait_for(lambda w=weir: load.connects(w.socket, "192.0.2.200")[0], 30,
                              f"{name} to let somebody in after all faults", every=0.2)
            except (TimeoutError, AssertionError, OSError) as error:
                self.books.find(repr(error))
        self.sent = []
        try:
            proc.wait_for(self._all_sent, 60, "delivery", every=1.0)
        except TimeoutError:
            pass                        # judge.delivery() says who is missing
        for name, weir in self.weirs.items():
            if weir.process.alive():
                try:
                    weir.stop(timeout=30)
                except AssertionError as error:
                    self.books.find(str(error)[:1000])

    def _all_sent(self):
        self.sent = [r for mta in self.mtas for r in sent(mta)]
        return not set(self.books.accepted) - set(self.sent)

    def _judge(self):
        books, o = self.books, self.options
        findings = list(books.findings)
        for part, report in (
                judge.memory(self.sampler, self.ran),
                judge.latency(books.replies, self.ran, o.stall),
                judge.recovery(books.replies, self.breaker.events, self.ran),
                judge.delivery(books.accepted, self.sent),
                judge.crashes(self.weirs, {"shaken": self.breaker.killed}),
                judge.variety(books.counts, [mta.name for mta in self.mtas])):
            findings += part
            for line in report:
                self.say(line)
        for name, n in sorted(books.counts.items()):
            self.say(f"{name}: {n}")
        if self.sampler.redis_bytes:
            self.say(f"redis: at most {max(b for _, b in self.sampler.redis_bytes) / 1e6:.1f} MB")
        for line in findings:
            self.say(f"FINDING {line}")
        self.say(f"soak: {len(findings)} findings in {self.ran:.0f} s, seed {o.seed}")
        events = sorted(self.breaker.events + self.operator.events)
        (self.out / "events.txt").write_text(
            "".join(f"{a:.1f} {b:.1f} {name}\n" for a, b, name in events))
        for name, weir in self.weirs.items():
            (self.out / f"{name}.log").write_text(weir.text() + "\n")
        for mta in self.mtas if findings else ():
            (self.out / f"{mta.name}.log").write_text("\n".join(mta.log()) + "\n")
        (self.out / "report.txt").write_text("\n".join(self.report) + "\n")
        plot(self.out)
        return 1 if findings else 0


def plot(out):
    """soak.svg, where gnuplot is installed."""
    try:
        done = subprocess.run(["gnuplot", "-e", f"dir='{out}'", PLOT], capture_output=True,
                              text=True, check=False)
    except FileNotFoundError:
        print("soak: no gnuplot here, so no plot")
        return
    if done.returncode != 0:
        print(f"soak: gnuplot: {done.stderr}")


def main():
    parser = argparse.ArgumentParser(prog="soak")
    parser.add_argument("minutes", type=float)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "big"))
    parser.add_argument("--rate", type=float, default=15.0, help="sessions a second")
    parser.add_argument("--pause", type=float, default=6.0,
                        help="seconds between two faults, and two changes by weirctl")
    parser.add_argument("--stall", type=float, default=2.0,
                        help="seconds; a reply later than that is a finding")
    parser.add_argument("--out", default=f"soak-{time.strftime('%Y%m%d-%H%M%S')}")
    gc.disable()                        # no pause of ours among the latencies
    sys.exit(Soak(parser.parse_args()).run())


main()
