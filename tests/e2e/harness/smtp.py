# SPDX-License-Identifier: BSD-2-Clause
"""An SMTP client that keeps the whole conversation.

    c = Client("127.0.0.1", port, source="127.1.2.3")
    c.greeting; c.ehlo(); c.mail("a@client.test"); c.rcpt("u@example.test")
    c.data(); assert c.quit().code == 221; print(c.transcript)

Every read has a timeout. A server that hangs up gives the reply None, and
closed() is then true: after 421 the end may be FIN or RST, as the client may
have had more to say, and both count.
"""

import socket
import ssl
import time


class Reply:
    """One reply: its code, and its lines as sent (`250-...`)."""

    def __init__(self, lines):
        self.lines = lines
        self.code = int(lines[-1][:3]) if lines[-1][:3].isdigit() else 0

    @property
    def text(self):
        """The text without codes, several lines joined by newlines."""
        return "\n".join(line[4:] for line in self.lines)

    def __str__(self):
        return "\n".join(self.lines)

    def __repr__(self):
        return f"<{' | '.join(self.lines)}>"

    def __eq__(self, other):
        """Compares with a code (421) or with the wording ("421 4.7.0 ...")."""
        return self.code == other if isinstance(other, int) else str(self) == other

    __hash__ = None


class Transcript(list):
    """("S"|"C", line) for each line of both sides; "!" for how it ended."""

    def codes(self):
        """The codes of the replies, one a reply."""
        return [int(line[:3]) for side, line in self
                if side == "S" and line[:3].isdigit() and line[3:4] != "-"]

    def server(self):
        return [line for side, line in self if side == "S"]

    def __str__(self):
        return "".join(f"{side}: {line}\n" for side, line in self)


class Client:
    """One SMTP session. It connects and reads the greeting at once.

    source: the address to come from (127.x.y.z, ::1). proxy: a client address,
    or (address, port), told by a HAProxy PROXY header before the greeting.
    xclient: a dict such as {"ADDR": "192.0.2.45", "NAME": "c.example"}, sent
    after the greeting, which then is the one that answers XCLIENT."""

    def __init__(self, host, port, source=None, proxy=None, xclient=None,
                 timeout=10.0, greet=True):
        self.transcript = Transcript()
        self.timeout = timeout
        self.sock = None
        self.greeting = None
        self.ended = None               # "EOF", "RST" or "timeout"
        self.seconds = 0.0              # how long the last reply took
        self._buffer = b""
        self.sock = socket.create_connection(
            (host, port), timeout, (source, 0) if source else None)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if proxy:
            self._send_proxy_header(proxy)
        if greet:
            self.greeting = self.read()
        if xclient and self.greeting and self.greeting.code == 220:
            self.ehlo("xclient.test")   # XCLIENT is refused before EHLO
            words = " ".join(f"{k}={v}" for k, v in xclient.items())
            self.greeting = self.command(f"XCLIENT {words}")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def _send_proxy_header(self, proxy):
        address, port = proxy if isinstance(proxy, tuple) else (proxy, 5555)
        family, to = ("TCP6", "::1") if ":" in address else ("TCP4", "127.0.0.1")
        line = f"PROXY {family} {address} {to} {port} 25"
        self.transcript.append(("C", line))
        self.sock.sendall(line.encode() + b"\r\n")

    # One line, and one reply, at a time.

    def _fill(self):
        """More bytes into the buffer; False when there will be no more."""
        if self.ended in ("EOF", "RST"):
            return False
        try:
            data = self.sock.recv(65536)
            if data:
                self._buffer += data
                self.ended = None
                return True
            self.ended = "EOF"
        except TimeoutError:
            self.ended = "timeout"
        except (ConnectionError, ssl.SSLError):
            self.ended = "RST"
        self.transcript.append(("!", self.ended))
        return False

    def _line(self):
        while b"\n" not in self._buffer:
            if not self._fill():
                return None
        line, _, self._buffer = self._buffer.partition(b"\n")
        line = line.rstrip(b"\r").decode("utf-8", "backslashreplace")
        self.transcript.append(("S", line))
        return line

    def read(self, timeout=None):
        """The next reply, or None at the end of the connection. A server
        that says nothing in time raises TimeoutError."""
        start = time.monotonic()
        self.sock.settimeout(timeout or self.timeout)
        lines = []
        while True:
            line = self._line()
            if line is None:
                if self.ended == "timeout":
                    raise TimeoutError(f"no reply\n{self.transcript}")
                return None
            lines.append(line)
            if line[3:4] != "-":
                self.seconds = time.monotonic() - start
                return Reply(lines)

    def send(self, *lines):
        """Send lines in one packet and read nothing."""
        self.transcript.extend(("C", line) for line in lines)
        data = "".join(line + "\r\n" for line in lines)
        return self.send_bytes(data.encode("utf-8", "surrogateescape"))

    def send_bytes(self, data):
        """True unless the server was gone already."""
        try:
            self.sock.sendall(data)
            return True
        except OSError:
            return False

    def command(self, line, timeout=None):
        self.send(line)
        return self.read(timeout)

    def pipeline(self, *lines):
        """Send all lines at once; returns the replies that came."""
        self.send(*lines)
        replies = []
        for _ in lines:
            reply = self.read()
            if reply is None:
                break
            replies.append(reply)
        return replies

    # The verbs.

    def ehlo(self, name="client.test"):
        return self.command(f"EHLO {name}")

    def helo(self, name="client.test"):
        return self.command(f"HELO {name}")

    def mail(self, sender="a@client.test", options=""):
        return self.command(f"MAIL FROM:<{sender}>{options and ' ' + options}")

    def rcpt(self, recipient="u1@example.test"):
        return self.command(f"RCPT TO:<{recipient}>")

    def rset(self):
        return self.command("RSET")

    def noop(self):
        return self.command("NOOP")

    def quit(self):
        return self.command("QUIT")

    def data(self, text="Subject: test\r\n\r\ntest"):
        """DATA, the text and the dot. Returns the reply to the dot, or the
        one to DATA if that was not 354."""
        go = self.command("DATA")
        return self.dot(text) if go is not None and go.code == 354 else go

    def dot(self, text):
        for line in text.split("\r\n")[:20]:
            self.transcript.append(("C", line[:200]))
        self.transcript.append(("C", "."))
        text = "\r\n".join("." + l if l.startswith(".") else l
                           for l in text.split("\r\n"))
        self.send_bytes(text.encode("utf-8", "surrogateescape") + b"\r\n.\r\n")
        return self.read()

    def starttls(self):
        reply = self.command("STARTTLS")
        if reply is not None and reply.code == 220:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
            self.transcript.append(("!", "TLS"))
        return reply

    def send_message(self, sender="a@client.test", recipients=("u1@example.test",),
                     text="Subject: test\r\n\r\ntest", hello="client.test"):
        """A polite client: EHLO to QUIT; stops when the server hangs up.
        Returns the transcript."""
        if self.greeting is not None and self.greeting.code != 220:
            self.quit() if self.greeting.code != 421 else self.closed()
            return self.transcript
        steps = [lambda: self.ehlo(hello), lambda: self.mail(sender)]
        steps += [lambda r=r: self.rcpt(r) for r in recipients]
        accepted = 0
        for number, step in enumerate(steps):
            reply = step()
            if reply is None or reply.code == 421:
                self.closed()
                return self.transcript
            if number < 2 and reply.code >= 400:
                break
            accepted += number >= 2 and reply.code < 400
        else:
            if accepted:
                reply = self.data(text)
                if reply is None or reply.code == 421:
                    self.closed()
                    return self.transcript
        self.quit()
        return self.transcript

    def closed(self, timeout=3.0):
        """Whether the server closes (FIN or RST) within timeout. What it
        still says before that goes to the transcript."""
        self.sock.settimeout(timeout)
        while self._line() is not None:
            pass
        return self.ended in ("EOF", "RST")

    def still_open(self):
        """Whether the session goes on: the server answers NOOP with 250."""
        reply = self.noop()
        return reply is not None and reply.code == 250

    def close(self):
        if self.sock:
            self.sock.close()

    def abort(self):
        """Go away with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER,
                             b"\1\0\0\0\0\0\0\0")
        self.sock.close()
