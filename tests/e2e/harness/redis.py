# SPDX-License-Identifier: BSD-2-Clause
"""A private redis-server, and a client of ten commands' worth of RESP.

    r = Redis(); r.start()
    r.cmd("HSET", "weir:limits", "connections", "rate=2/1m"); r.stop()
"""

import signal
import socket

from . import proc

SERVER = proc.ROOT / "redis/usr/bin/redis-server"


class RedisError(Exception):
    """An error that the server answered."""


class Redis:
    """One server; its address stays the same over kill() and start().

    unix: listen on a unix socket as well. config: extra pairs or lines of
    redis.conf, for instance ["maxmemory 1mb"]. acl: lines of `user ...`."""

    def __init__(self, unix=True, tcp=True, password=None, config=(), acl=(),
                 persistent=False, env=None):
        self.env = env
        self.directory = proc.make_run_directory("redis")
        self.host = "127.0.0.1"
        self.port = proc.free_port() if tcp else 0
        self.path = str(self.directory / "redis.sock") if unix else None
        self.password = password
        self.config = list(config)
        self.acl = list(acl)
        self.persistent = persistent
        self.process = None
        self._link = None

    @property
    def url(self):
        """As weir's `redis { url = ... }` wants it."""
        return f"redis://{self.host}:{self.port}/0" if self.port else self.unix_url

    @property
    def unix_url(self):
        return f"unix:{self.path}"

    def start(self, wait=True):
        """wait: until it answers, and has loaded what it has."""
        lines = [f"port {self.port}", f"bind {self.host}", f"dir {self.directory}",
                 f"logfile {self.directory}/redis.log", "daemonize no",
                 "enable-debug-command local"]
        if self.path:
            lines += [f"unixsocket {self.path}", "unixsocketperm 777"]
        lines += ["appendonly yes"] if self.persistent else ['save ""']
        if self.password:
            lines.append(f"requirepass {self.password}")
        lines += [f"user {user}" for user in self.acl] + self.config
        conf = self.directory / "redis.conf"
        conf.write_text("\n".join(lines) + "\n")
        self.process = proc.Process([proc.need(SERVER), conf], env=self.env)
        if not wait:
            return self
        try:
            proc.wait_for(self.answers, what="redis-server")
        except TimeoutError:
            self.stop()
            raise RuntimeError("redis-server: " + self.log()) from None
        return self

    def answers(self):
        """Whether it does; it has to live."""
        try:
            self.cmd("PING")
            return True
        except OSError:
            if not self.process.alive():
                raise RuntimeError("redis-server ended: " + self.log()) from None
            return False
        except RedisError as error:
            return not str(error).startswith("LOADING")

    def log(self):
        log = self.directory / "redis.log"
        return log.read_text() if log.exists() else ""

    def _close_link(self):
        if self._link:
            self._link[1].close()
            self._link[0].close()
            self._link = None

    def stop(self):
        self._close_link()
        if self.process:
            self.process.stop()
            self.process = None

    def kill(self):
        """As if the power went: connections are reset, nothing is saved."""
        self._close_link()
        if self.process:
            self.process.kill()
            self.process = None

    def restart(self):
        """Kill it and start it again: empty, unless it is persistent."""
        self.kill()
        return self.start()

    def freeze(self):
        """It still accepts connections (the kernel does) but never answers."""
        self._close_link()
        self.process.signal(signal.SIGSTOP)

    def thaw(self):
        if self.process:
            self.process.signal(signal.SIGCONT)

    def cmd(self, *words, timeout=5.0):
        """Send one command; str, int, None or a list comes back."""
        for attempt in (1, 2):
            fresh = self._link is None
            try:
                if fresh:
                    self._connect(timeout)
                return self._ask(words)
            except OSError:
                self._close_link()
                if fresh:               # an old link may have died meanwhile
                    raise
        return None

    def _connect(self, timeout):
        if self.path:
            link = socket.socket(socket.AF_UNIX)
            address = self.path
        else:
            link = socket.socket()
            address = (self.host, self.port)
        link.settimeout(timeout)
        try:
            link.connect(address)
        except OSError:
            link.close()
            raise
        self._link = (link, link.makefile("rb"))
        if self.password:
            self._ask(("AUTH", self.password))

    def _ask(self, words):
        words = [w if isinstance(w, bytes) else str(w).encode() for w in words]
        self._link[0].sendall(b"*%d\r\n" % len(words) + b"".join(
            b"$%d\r\n%s\r\n" % (len(w), w) for w in words))
        reply = self._read()
        if isinstance(reply, RedisError):
            raise reply
        return reply

    def _read(self):
        line = self._link[1].readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionResetError("redis-server closed the connection")
        kind, rest = line[:1], line[1:-2].decode()
        if kind == b"+":
            return rest
        if kind == b"-":
            return RedisError(rest)
        if kind == b":":
            return int(rest)
        size = int(rest)
        if size < 0:
            return None
        if kind == b"*":
            return [self._read() for _ in range(size)]
        return self._link[1].read(size + 2)[:-2].decode(errors="surrogateescape")

    def hash(self, key):
        """HGETALL as a dict."""
        flat = self.cmd("HGETALL", key)
        return dict(zip(flat[::2], flat[1::2]))
