# SPDX-License-Identifier: BSD-2-Clause
"""Between an MTA and a milter: passes on what they say, and writes it down."""

import os
import socket
import threading


class Tap:
    """Listens where the MTA looks (unix:PATH) and connects to the milter (unix:PATH).
    talks: a list a connection, of (who, bytes), who "mta" or "milter" in turn."""

    def __init__(self, listen, milter):
        self.path = listen.removeprefix("unix:")
        self.milter = milter.removeprefix("unix:")
        self.talks = []
        self._lock = threading.Lock()
        self._sock = socket.socket(socket.AF_UNIX)
        self._sock.bind(self.path)
        os.chmod(self.path, 0o666)
        self._sock.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._sock.shutdown(socket.SHUT_RDWR)
        self._sock.close()
        os.unlink(self.path)

    def _accept(self):
        while True:
            try:
                mta, _ = self._sock.accept()
            except OSError:
                return
            milter = socket.socket(socket.AF_UNIX)
            milter.connect(self.milter)
            talk = []
            self.talks.append(talk)
            for who, source, sink in (("mta", mta, milter), ("milter", milter, mta)):
                threading.Thread(target=self._pump, args=(talk, who, source, sink),
                                 daemon=True).start()

    def _pump(self, talk, who, source, sink):
        while True:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            if not data:
                break
            with self._lock:
                if talk and talk[-1][0] == who:
                    talk[-1] = (who, talk[-1][1] + data)
                else:
                    talk.append((who, data))
            try:
                sink.sendall(data)
            except OSError:
                break
        for end in (source, sink):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
