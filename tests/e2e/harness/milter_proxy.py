# SPDX-License-Identifier: BSD-2-Clause
"""Between an MTA and weir: lets a test act at the very moment at which the MTA says something.

    gate = MilterProxy(weir_port); gate.before(b"R", "127.1.2.3", kill); ...; gate.stop()
"""

import os
import signal
import socket
import struct
import threading
from pathlib import Path

from . import proc


class MilterProxy:
    """Listens on a unix socket, and has weir on 127.0.0.1:port."""

    def __init__(self, port):
        self.path = proc.make_run_directory("gate") / "milter.sock"
        self.spec = f"unix:{self.path}"
        self._port = port
        self._victim = None
        self.killed = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self.path.chmod(0o666)
        self._listener.listen(64)
        threading.Thread(target=self._accept, daemon=True).start()

    def kill_at(self, command, workers):
        """The worker that gets this command (of the next session to send it) dies of SIGKILL
        with the command in its hands."""
        self._victim = (command, workers)

    def stop(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            weir = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._up, args=(client, weir), daemon=True).start()
            threading.Thread(target=self._down, args=(weir, client), daemon=True).start()

    def _up(self, client, weir):
        stream = client.makefile("rb")
        try:
            while head := stream.read(4):
                packet = stream.read(struct.unpack("!I", head)[0])
                victim = None
                if self._victim and packet[:1] == self._victim[0]:
                    victim = owner(weir, self._victim[1])
                    self._victim = None
                    os.kill(victim, signal.SIGSTOP)
                    # it takes no effect at once, and an answer could be quicker
                    proc.wait_for(lambda: all(
                        "\nState:\tT" in (task / "status").read_text()
                        for task in Path(f"/proc/{victim}/task").iterdir()), 2, "the worker's stop")
                weir.sendall(head + packet)
                if victim:
                    os.kill(victim, signal.SIGKILL)
                    self.killed.append(victim)
        except (OSError, struct.error):
            pass
        self._end(weir)

    def _down(self, weir, client):
        try:
            while data := weir.recv(65536):
                client.sendall(data)
        except OSError:
            pass
        self._end(client)

    @staticmethod
    def _end(sock):
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def owner(sock, pids):
    """Which of these processes has the other end of a TCP connection."""
    here, there = sock.getsockname()[1], sock.getpeername()[1]
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        field = line.split()
        if field[1].endswith(f":{there:04X}") and field[2].endswith(f":{here:04X}"):
            inode = f"socket:[{field[9]}]"
            for pid in pids:
                for fd in Path(f"/proc/{pid}/fd").iterdir():
                    try:
                        if os.readlink(fd) == inode:
                            return pid
                    except OSError:
                        continue
    raise RuntimeError("no worker has this connection")
