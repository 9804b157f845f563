# SPDX-License-Identifier: BSD-2-Clause
"""A client of the milter protocol, version 6: it plays the MTA.

It can say things that no MTA says (wrong lengths, wrong order, huge macros),
and it drives a milter without an MTA in between.

    m = RawMilter("unix:/run/x/milter.sock")
    m.negotiate(); m.connect("192.0.2.1"); m.helo(); m.mail("a@client.test")
    reply = m.rcpt("u@example.test")    # reply.code "y", reply.text "421 ..."

A step that the milter negotiated away is not sent and returns None; one that
it promised not to answer is sent and returns None. send() and send_bytes()
know no such manners. At the end of the connection a reply is None too, and
`ended` is then true. A milter that says nothing raises TimeoutError: libmilter
does so for a step out of order, and after quit_new().
"""

import socket
import struct

# What the MTA sends.
OPTNEG, MACRO, CONNECT, HELO = "O", "D", "C", "H"
MAIL, RCPT, DATA, UNKNOWN = "M", "R", "T", "U"
HEADER, EOH, BODY, EOM = "L", "N", "B", "E"
ABORT, QUIT, QUIT_NEW = "A", "Q", "K"

# What the milter answers. PROGRESS, and any letter that is not here (a change to
# the message), comes before the reply to a step; the others in FINAL are it.
CONTINUE, ACCEPT, DISCARD, REJECT, TEMPFAIL, REPLY = "c", "a", "d", "r", "t", "y"
SKIP, PROGRESS, SHUTDOWN = "s", "p", "4"
FINAL = {CONTINUE, ACCEPT, DISCARD, REJECT, TEMPFAIL, REPLY, SKIP, SHUTDOWN}

# step -> (bit "do not send it", bit "I do not answer it").
STEPS = {CONNECT: (0x1, 0x1000), HELO: (0x2, 0x2000), MAIL: (0x4, 0x4000),
         RCPT: (0x8, 0x8000), BODY: (0x10, 0x80000), HEADER: (0x20, 0x80),
         EOH: (0x40, 0x40000), UNKNOWN: (0x100, 0x20000), DATA: (0x200, 0x10000)}
ALL_ACTIONS, ALL_STEPS = 0x1FF, 0x1FFFFF
RCPT_REJ = 0x800         # show recipients that the MTA refuses
MACRO_STAGES = ("connect", "helo", "mail", "rcpt", "data", "eom", "eoh")


class Reply:
    """code: the letter; data: what came with it; text: `421 4.7.0 ...`."""

    def __init__(self, code, data):
        self.code = code
        self.data = data

    @property
    def text(self):
        return self.data.rstrip(b"\0").decode("utf-8", "backslashreplace")

    def __repr__(self):
        return f"<{self.code} {self.text}>".replace(" >", ">")


class RawMilter:
    """One connection to a milter, that is, one SMTP session."""

    def __init__(self, spec, timeout=5.0):
        """spec: unix:/path or inet:HOST:PORT, as Postfix writes it."""
        kind, _, rest = spec.partition(":")
        if kind in ("unix", "local"):
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.settimeout(timeout)
            self.sock.connect(rest)
        else:
            host, _, port = rest.rpartition(":")
            self.sock = socket.create_connection((host.strip("[]"), int(port)),
                                                 timeout)
            # Sent as the MTAs send it but without their 40 ms of waiting.
            self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.ended = False
        self.actions = self.steps = 0
        self.macros = {}                # stage name -> the macros it asked for
        self.changes = []               # what came before the last final reply

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Packets.

    def send_bytes(self, data):
        """Anything, as it is. False when the milter was gone already."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            self.ended = True
            return False

    def send(self, code, data=b"", length=None):
        """One packet; length lies about its size."""
        size = 1 + len(data) if length is None else length
        return self.send_bytes(struct.pack("!I", size) + code.encode("latin-1") + data)

    def _read_exactly(self, size):
        data = b""
        while len(data) < size:
            try:
                chunk = self.sock.recv(size - len(data))
            except ConnectionError:
                chunk = b""
            if not chunk:
                self.ended = True
                return None
            data += chunk
        return data

    def read_packet(self):
        """The next packet as a Reply; None at the end; TimeoutError if the
        milter says nothing."""
        head = self._read_exactly(4)
        body = head and self._read_exactly(struct.unpack("!I", head)[0])
        return Reply(chr(body[0]), body[1:]) if body else None

    def read(self):
        """The next final reply; changes and progress are put aside."""
        self.changes = []
        while True:
            reply = self.read_packet()
            if reply is None or reply.code in FINAL:
                return reply
            self.changes.append(reply)

    def command(self, code, data=b""):
        """Send one step and read its reply, as was negotiated."""
        unwanted, silent = STEPS.get(code, (0, 0))
        if self.steps & unwanted:
            return None
        self.send(code, data)
        return None if self.steps & silent else self.read()

    # The session's steps. Arguments are str, or bytes to be improper.

    @staticmethod
    def _string(value):
        if isinstance(value, str):
            value = value.encode("utf-8", "surrogateescape")
        return value + b"\0"

    def negotiate(self, version=6, actions=ALL_ACTIONS, steps=ALL_STEPS):
        """Returns (version, actions, steps) as the milter wants them, and
        keeps the macros that it asked for; None if it hung up."""
        self.send(OPTNEG, struct.pack("!III", version, actions, steps))
        reply = self.read_packet()
        if reply is None or reply.code != OPTNEG:
            return None
        agreed, self.actions, self.steps = struct.unpack("!III", reply.data[:12])
        rest = reply.data[12:]
        while len(rest) >= 4:
            stage, = struct.unpack("!I", rest[:4])
            names, _, rest = rest[4:].partition(b"\0")
            self.macros[MACRO_STAGES[stage]] = names.decode().split()
        return agreed, self.actions, self.steps

    def macro(self, step, values):
        """Macros for a step: {"i": "ABC", "{client_addr}": "192.0.2.1"}."""
        data = b"".join(self._string(k) + self._string(v) for k, v in values.items())
        return self.send(MACRO, step.encode() + data)

    def connect(self, address="192.0.2.1", port=40000, name=None, macros=None):
        """address None: as `sendmail -bs` on a pipe, family unknown."""
        name = self._string(name or f"[{address}]")
        if macros is not None:
            self.macro(CONNECT, macros)
        if address is None:
            return self.command(CONNECT, name + b"U")
        family = b"6" if ":" in address else b"4"
        return self.command(CONNECT, name + family + struct.pack("!H", port)
                            + self._string(address))

    def helo(self, name="client.test"):
        return self.command(HELO, self._string(name))

    def mail(self, sender="a@client.test", *options, macros=None):
        return self._address(MAIL, sender, options, macros)

    def rcpt(self, recipient="u1@example.test", *options, macros=None):
        return self._address(RCPT, recipient, options, macros)

    def _address(self, step, address, options, macros):
        if macros is not None:
            self.macro(step, macros)
        if isinstance(address, str):
            address = f"<{address}>"
        return self.command(step, b"".join(map(self._string, (address, *options))))

    def data(self):
        return self.command(DATA)

    def header(self, name="Subject", value="test"):
        return self.command(HEADER, self._string(name) + self._string(value))

    def eoh(self):
        return self.command(EOH)

    def body(self, chunk=b"test\r\n"):
        return self.command(BODY, chunk)

    def eom(self):
        return self.command(EOM)

    def unknown(self, line="FOO"):
        return self.command(UNKNOWN, self._string(line))

    def abort(self):
        """The end of a message without delivery; no reply."""
        return self.send(ABORT)

    def quit(self):
        """The end of the session; true when the milter then closes."""
        self.send(QUIT)
        return self.closed()

    def quit_new(self):
        """The end of this session, and another follows on this connection."""
        return self.send(QUIT_NEW)

    def open(self, address="192.0.2.1", **options):
        """negotiate() and connect(); the reply to connect."""
        self.negotiate()
        return self.connect(address, **options)

    def message(self, sender="a@client.test", recipients=("u1@example.test",)):
        """MAIL to the end of the message. Returns the first reply that is not
        "continue", else the last one."""
        steps = [lambda: self.mail(sender)]
        steps += [lambda r=r: self.rcpt(r) for r in recipients]
        steps += [self.data, self.header, self.eoh, self.body, self.eom]
        reply = None
        for step in steps:
            reply = step()
            if self.ended or (reply is not None and reply.code != CONTINUE):
                return reply
        return reply

    def closed(self, timeout=3.0):
        """Whether the milter closes the connection within timeout."""
        self.sock.settimeout(timeout)
        try:
            while self.read_packet() is not None:
                pass
        except TimeoutError:
            return False
        return self.ended

    def close(self):
        self.sock.close()

    def reset(self):
        """Go away with RST (TCP), or with a plain close (unix)."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             struct.pack("ii", 1, 0))
        self.sock.close()
