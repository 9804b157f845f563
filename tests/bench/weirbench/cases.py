# SPDX-License-Identifier: BSD-2-Clause
"""What is measured: the systems, and the cells of the tables. A cell is one run of a generator
against one system after the other, so that what changes on the machine changes for all of them."""

from . import peers
from .systems import FLOOD, GREYLIST, LIMITS, ORDINARY, FarRedis, Null, Redis, Weir

NAMED = ("-D", "example.com")       # clients with confirmed names, all of them known
CONNECTIONS = (1, 16, 64, 256, 1000, 5000)
THINK = (50, 500)                   # ms
RARE = 4                            # what is measured only in each so manieth round


class Cell:
    """case: the table it belongs to; what: its row or column there. seconds: how long each
    system is loaded. every: only in each so manieth round."""

    def __init__(self, case, what, systems, options, seconds=1.2, warm=0.3, every=1, fresh=None):
        self.case, self.what, self.systems = case, dict(what), systems
        self.options = [*options, "-w", warm, "-d", seconds]
        self.lasts = seconds + warm + 0.1
        self.every = every
        self.fresh = fresh          # a Redis database that is emptied before


class Systems:
    """All of them by name, started when they are first wanted."""

    def __init__(self, event):
        self.event = event
        self.redis = Redis(config=["databases 16"]).start()
        self.far = {}
        self.running = {}
        self.peers = peers.installed_milters(self.redis)

    def far_url(self, ms):
        if ms not in self.far:
            self.far[ms] = FarRedis(self.redis, ms)
        return self.far[ms].url

    def get(self, name):
        if name not in self.running:
            system = self._make(name).start()
            self.running[name] = system
            system.warm()
        return self.running[name]

    def _make(self, name):
        """weir-WORDS, zone-WORDS, null-WORDS; the words say what is not as usual."""
        kind, *words = name.split("-")
        if kind in self.peers:
            return self.peers[kind](name)
        engine = "event" if "event" in words else "libmilter"
        workers = next((int(w) for w in words if w.isdigit()), 2)
        inet = "inet" in words
        if kind == "null":
            like = self.get("flood" if "421" in words else "weir")
            return Null(name, like, workers if "421" not in words else 2, "421" in words, inet)
        known = True
        conf, database = ORDINARY, 0
        if kind == "flood":
            conf, known = FLOOD, False
        elif kind == "million":
            conf, known, database = LIMITS + GREYLIST % "5m", False, 1
        elif kind == "builtin":
            conf, known, database = "", False, 2
        if kind == "zone" or "zone" in words:
            return Weir(name, engine, workers=workers, conf=conf, known=known, inet=inet)
        url = f"{self.redis.unix_url}?db={database}"
        if "tcp" in words:
            url = f"redis://127.0.0.1:{self.redis.port}/{database}"
        for word in words:
            if word.endswith("ms"):
                url = self.far_url(float(word.removesuffix("ms")))
        return Weir(name, engine, self.redis, url, workers, conf, inet, known)

    def stop(self):
        for system in [*self.running.values(), *self.far.values(), self.redis]:
            system.stop()


def cells(event, quick=False, rspamd=False):
    """All cells of a round."""
    def both(*names):
        return [*names, *(f"{name}-event" for name in names if event)]

    last = 0.7 if quick else 1.0
    found = []

    def add(*args, **more):
        found.append(Cell(*args, seconds=more.pop("seconds", last), **more))

    others = ["rspamd"] if rspamd else []
    few = (1, 16, 256) if quick else CONNECTIONS
    for c in few:
        add("ordinary", {"open": c}, ["null", *both("weir", "zone"), *others], ["-c", c, *NAMED])
    for c in (16, 256):
        add("redis", {"open": c}, [*both("weir", "weir-tcp", "weir-0.5ms", "weir-2ms")],
            ["-c", c, *NAMED])
    for think in THINK:
        ramp = think * 6 / 1000 + 0.3
        add("paced", {"think": think}, ["null", *both("weir", "zone"), *others],
            ["-r", 1000, "-t", think, *NAMED], seconds=2 * last, warm=ramp)
    add("recipients", {"open": 64}, ["null", *both("weir", "zone"), *others],
        ["-c", 64, "-R", 50, *NAMED])
    for c in (16, 64):
        add("flood-one", {"open": c}, ["null-421", *both("flood", "flood-zone")],
            ["-c", c, "-a", 1])
    add("flood-million", {"open": 64}, both("million", "million-zone"),
        ["-c", 64, "-a", 1000000, "-s"], fresh=1)
    add("greylisting", {"open": 64}, both("million", "million-zone"),
        ["-c", 64, "-s", *NAMED], fresh=1)
    for workers in (1, 2, 4):
        for think in (0, 500):
            load = ["-c", 64] if think == 0 else ["-r", 1000, "-t", think]
            w = f"-{workers}" if workers != 2 else ""
            add("workers", {"workers": workers, "think": think},
                [f"null{w}", f"weir{w}", *([f"weir-event{w}"] if event else [])],
                [*load, *NAMED], every=RARE, warm=0.3 if think == 0 else think * 6 / 1000 + 0.3)
    add("inet", {"open": 64}, ["null-inet", *both("weir-inet")], ["-c", 64, *NAMED], every=RARE)
    if not quick:
        # fewer sessions than these end too seldom for the clock of /proc
        for think, few in ((50, 16), (500, 64)):
            for c in filter(lambda c, few=few: c >= few, CONNECTIONS):
                add("matrix", {"open": c, "think": think}, ["null", *both("weir")],
                    ["-c", c, "-t", think, *NAMED], every=RARE, warm=think * 6 / 1000 + 0.3,
                    seconds=1.5)
    return found
