# SPDX-License-Identifier: BSD-2-Clause
"""What goes wrong during a soak, in an order that follows from the seed.

Breaker is bad luck: Redis dies, hangs, is slow, forgets, is full or may not be written;
workers of the first weir-milter are killed. Operator is the administrator: limits and
lists, maintenance, reloads, and a configuration with a mistake. All of these are mended
again; the second weir-milter is never restarted nor reloaded, so that what it uses at the
end can be compared with what it used at the beginning.
"""

import random
import threading
from signal import SIGKILL

from harness.ctl import Ctl
from harness.redis import RedisError

from . import traffic


class Actor(threading.Thread):
    """Does one thing after another until stopped; undoes the last one."""

    WEIGHTS = {}

    def __init__(self, name, books, stop, seed, pause):
        super().__init__(name=name, daemon=True)
        self.books, self.stop, self.pause = books, stop, pause
        self.random = random.Random(f"{seed}/{name}")
        self.events = []                # (begin, end, what)
        self.now = ""                   # what is in force

    def run(self):
        names, weights = list(self.WEIGHTS), list(self.WEIGHTS.values())
        while not self.stop.wait(self.random.uniform(0.3, 1.7) * self.pause):
            name = self.random.choices(names, weights)[0]
            begin, self.now = self.books.now(), name
            try:
                getattr(self, name)()
            except Exception as error:
                self.books.find(f"{name}: {error!r}")
            self.events.append((begin, self.books.now(), name))
            self.books.count(f"fault {name}")
            self.now = ""

    def hold(self, least, most):
        self.stop.wait(self.random.uniform(least, most))


class Breaker(Actor):
    WEIGHTS = {"redis_killed": 3, "redis_restarted": 3, "redis_stopped": 4, "redis_slow": 5,
               "redis_flushed": 2, "scripts_flushed": 3, "redis_full": 2, "redis_readonly": 2,
               "redis_password": 2, "worker_killed": 4}

    def __init__(self, name, books, stop, seed, pause, redis, weir):
        super().__init__(name, books, stop, seed, pause)
        self.redis, self.weir = redis, weir
        self.killed = 0

    def redis_killed(self):
        self.redis.kill()
        self.hold(0.5, 8)
        self.redis.start()

    def redis_restarted(self):
        self.redis.restart()

    def redis_stopped(self):
        self.redis.freeze()
        self.hold(0.2, 8)
        self.redis.thaw()

    def redis_slow(self):
        """Each of its answers may have to wait for one of these."""
        for _ in range(self.random.randrange(2, 30)):
            self.redis.cmd("DEBUG", "SLEEP", f"{self.random.uniform(0.005, 0.3):.3f}")
            if self.stop.wait(0.05):
                return

    def redis_flushed(self):
        self.redis.cmd("FLUSHALL")

    def scripts_flushed(self):
        self.redis.cmd("SCRIPT", "FLUSH")

    def redis_full(self):
        self.redis.cmd("CONFIG", "SET", "maxmemory-policy", "noeviction")
        self.redis.cmd("CONFIG", "SET", "maxmemory", "1")
        self.hold(0.5, 6)
        self.redis.cmd("CONFIG", "SET", "maxmemory", "0")

    def redis_readonly(self):
        self.redis.cmd("REPLICAOF", "127.0.0.1", 1)
        self.hold(0.5, 6)
        self.redis.cmd("REPLICAOF", "NO", "ONE")

    def redis_password(self):
        self.redis.cmd("CONFIG", "SET", "requirepass", "changed")
        self.redis.cmd("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.hold(0.5, 6)
        self.redis.cmd("CONFIG", "SET", "requirepass", "")

    def worker_killed(self):
        if len(self.weir.workers()) > 0:
            self.weir.kill_worker(self.random.randrange(len(self.weir.workers())), SIGKILL)
            self.killed += 1


class Operator(Actor):
    WEIGHTS = {"limit": 6, "listing": 5, "shadow": 2, "drain": 2, "looks": 4, "reload": 2,
               "mistake": 1}

    def __init__(self, name, books, stop, seed, pause, redis, weir, conf):
        super().__init__(name, books, stop, seed, pause)
        self.weir, self.conf = weir, conf
        self.ctl = Ctl(redis.url, "--yes", "-m", "soak")

    def _ctl(self, *words):
        """0, or while Redis is broken 1 or 3; Ctl itself knows what may never be."""
        result = self.ctl.run(*words, timeout=20)
        self.books.count(f"weirctl status {result.status}")
        if result.status == 2:
            self.books.find(f"weirctl {words}: {result}")
        return result.status == 0

    def limit(self):
        name, words = self.random.choice([
            ("connections", ["rate=30/1m", "burst=10"]), ("connections", ["burst=200"]),
            ("sessions", ["max=3"]), ("recipients", ["rate=60/10m"]),
            ("strangers", ["enabled=false"]), ("connections", ["action=log"])])
        self._ctl("limit", "set", name, *words, "for", f"{self.random.randrange(5, 40)}s")
        self.hold(0, 8)
        if self.random.random() < 0.5:
            self._ctl("limit", "unset", name)

    def listing(self):
        who = self.random.choice(traffic.KNOWN + traffic.FLOODERS)
        words = self.random.choice([["exempt", who], ["block", who], ["override", "set", who,
                                    "connections", "rate=5/1m", "burst=5"]])
        self._ctl(*words, "for", f"{self.random.randrange(5, 40)}s")
        self.hold(0, 8)
        if self.random.random() < 0.5:
            self._ctl("unlist", who)

    def shadow(self):
        self._ctl("limit", "shadow", "connections", "rate=5/1m", "for", "30s")
        self.hold(0, 8)
        self._ctl("limit", "shadow", "connections")

    def drain(self):
        self._ctl("drain", "all", "on", "for", "6s")
        self.hold(0.5, 4)
        self._ctl("drain", "all", "off")

    def looks(self):
        self._ctl(*self.random.choice([["status"], ["top"], ["why", traffic.KNOWN[0]], ["limit"],
                                       ["greylist", "list"], ["limit", "history"]]))

    def _reload(self, expected):
        mark = self.weir.mark()
        self.weir.reload()
        self.weir.wait_log(expected, timeout=30, since=mark)

    def reload(self):
        self._reload("reloaded weir")
        self.hold(3, 4)

    def mistake(self):
        self.weir.write_conf(self.conf + "\nlimit connections { rate = \"many\" }\n")
        self._reload("reload refused")
        self.weir.write_conf(self.conf)
        self._reload("reloaded weir")
        self.hold(3, 4)


def mend(redis):
    """After the last fault, whatever it was."""
    if redis.process is None or not redis.process.alive():
        redis.start()
    redis.thaw()
    for words in (("CONFIG", "SET", "requirepass", ""), ("CONFIG", "SET", "maxmemory", "0"),
                  ("REPLICAOF", "NO", "ONE")):
        try:
            redis.cmd(*words)
        except RedisError as error:
            raise AssertionError(f"redis cannot be mended: {error}") from None
