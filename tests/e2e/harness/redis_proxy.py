# SPDX-License-Identifier: BSD-2-Clause
"""A line to Redis that goes bad: a proxy on TCP that delays, falls silent, drops new
connections, cuts answers short or answers rubbish.

    line = RedisProxy(redis); weir(conf, redis=line); line.slow(0.2); line.good()
"""

import itertools
import queue
import select
import socket
import threading
import time

# In place of what Redis says, one after the other: answers of every wrong type.
LIES = (b"+OK\r\n", b":1\r\n", b"$-1\r\n", b"*0\r\n", b"*-1\r\n", b"$5\r\nhello\r\n",
        b"*3\r\n+a\r\n:-1\r\n$-1\r\n", b"-ERR nonsense\r\n", b"*1\r\n*1\r\n*0\r\n")
FILLERS = 8             # connections that fill a backlog of one


def commands(data):
    """How many whole commands ("*N", and N strings) data begins with."""
    count = at = 0
    while data[at:at + 1] == b"*":
        end = data.find(b"\r\n", at)
        if end < 0:
            break
        words, here = int(data[at + 1:end]), end + 2
        for _ in range(words):
            end = data.find(b"\r\n", here)
            if end < 0:
                return count, at
            here = end + 2 + int(data[here + 1:end]) + 2
        if here > len(data):
            break
        count, at = count + 1, here
    return count, at


class RedisProxy:
    """Listens on 127.0.0.1:port; each connection goes to redis, which may be restarted."""

    def __init__(self, redis):
        self.redis = redis
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.host, self.port = self._listener.getsockname()
        self.url = f"redis://{self.host}:{self.port}/0"
        self.good()
        self.calls = 0                  # chunks of questions since the last change
        self._stop = False
        self._links = []
        self._fillers = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    # What it does from now on.

    def good(self):
        self._delay, self._mute, self._deaf = 0.0, False, False
        self._cuts = self._lies = None
        for filler in getattr(self, "_fillers", ()):
            filler.close()
        self._fillers = []

    def slow(self, seconds):
        """Answers come so much later."""
        self._delay = seconds

    def silent(self):
        """Nothing is passed on any more, on connections old and new; none is closed."""
        self._mute = True

    def unreachable(self):
        """As silent, and new connections are not answered: the backlog is full."""
        self._mute = self._deaf = True
        time.sleep(0.06)                # the accept loop has seen it
        self._listener.listen(0)
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((self.host, self.port))
            self._fillers.append(filler)

    def cut(self):
        """Each connection ends after one byte more of answers than the one before."""
        self._cuts = itertools.count()

    def lie(self):
        self._lies = itertools.cycle(LIES)

    def stop(self):
        self._stop = True
        self._thread.join(2)
        self._listener.close()
        for filler in self._fillers:
            filler.close()
        for link in self._links:
            for end in link:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                end.close()

    def _accept(self):
        while not self._stop:
            if self._deaf or not select.select([self._listener], [], [], 0.02)[0]:
                time.sleep(0.005)
                continue
            if self._deaf:
                continue
            client, _ = self._listener.accept()
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                server = socket.create_connection((self.redis.host, self.redis.port), 2)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            self._links.append((client, server))
            answers, cuts = queue.Queue(), self._cuts
            left = next(cuts) if cuts is not None else None
            for target, args in ((self._questions, (client, server, answers)),
                                 (self._read, (server, answers)),
                                 (self._write, (client, server, answers, left))):
                threading.Thread(target=target, args=args, daemon=True).start()

    def _questions(self, client, server, answers):
        pending, dead = b"", False
        try:
            while data := client.recv(65536):
                dead = dead or self._mute       # for ever: such a peer has lost its state
                if dead:
                    continue
                self.calls += 1
                if self._lies is None:
                    server.sendall(data)
                    continue
                pending += data
                count, used = commands(pending)
                pending = pending[used:]
                for _ in range(count):
                    answers.put((0.0, next(self._lies)))
        except (OSError, TypeError):
            pass
        for end in (server, client):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def _read(self, server, answers):
        try:
            while data := server.recv(65536):
                answers.put((time.monotonic() + self._delay, data))
        except OSError:
            pass
        answers.put((0.0, None))

    def _write(self, client, server, answers, left):
        try:
            while True:
                when, data = answers.get()
                if data is None:
                    break
                time.sleep(max(0.0, when - time.monotonic()))
                if self._mute:
                    continue
                if left is not None:
                    client.sendall(data[:left])
                    left -= len(data)
                    if left <= 0:
                        break
                    continue
                client.sendall(data)
        except OSError:
            pass
        if self._mute:
            return
        for end in (client, server):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
