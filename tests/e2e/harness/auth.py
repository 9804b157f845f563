# SPDX-License-Identifier: BSD-2-Clause
"""Who checks the passwords that SMTP clients say: whoever says "secret" is who he says.

    with Auth() as auth: Postfix(options=auth.postfix_options); Sendmail(auth=auth)

One unix socket speaks to Postfix as Dovecot's authentication service, one to
Sendmail's SASL library as saslauthd.
"""

import base64
import socketserver
import struct
import threading

from . import proc

PASSWORD = "secret"


def plain(user, password=PASSWORD):
    """What a client says after AUTH."""
    return "PLAIN " + base64.b64encode(f"\0{user}\0{password}".encode()).decode()


class _Dovecot(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(b"VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\n"
                         b"CUID\t1\nCOOKIE\tc\nDONE\n")
        for line in self.rfile:
            verb, number, *words = line.rstrip(b"\n").split(b"\t")
            if verb != b"AUTH":
                continue
            _, user, password = base64.b64decode(words[-1].removeprefix(b"resp=")).split(b"\0")
            good = password.decode() == PASSWORD
            self.wfile.write(b"OK\t%s\tuser=%s\n" % (number, user) if good
                             else b"FAIL\t%s\tuser=%s\n" % (number, user))


class _Saslauthd(socketserver.StreamRequestHandler):
    def _word(self):
        size, = struct.unpack("!H", self.rfile.read(2))
        return self.rfile.read(size)

    def handle(self):
        _user, password, _service, _realm = (self._word() for _ in range(4))
        answer = b"OK" if password.decode() == PASSWORD else b"NO"
        self.wfile.write(struct.pack("!H", len(answer)) + answer)


class Auth:
    """Both, each on a socket that the MTAs' users may write to."""

    def __init__(self):
        self.directory = proc.make_run_directory("auth")
        self.dovecot = self.directory / "dovecot"
        self.saslauthd = self.directory / "mux"
        self._servers = []

    @property
    def postfix_options(self):
        return {"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot",
                "smtpd_sasl_path": self.dovecot}

    def __enter__(self):
        for path, handler in ((self.dovecot, _Dovecot), (self.saslauthd, _Saslauthd)):
            server = socketserver.ThreadingUnixStreamServer(str(path), handler)
            server.daemon_threads = True
            path.chmod(0o666)
            threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
            self._servers.append(server)
        return self

    def __exit__(self, *_):
        for server in self._servers:
            server.shutdown()
            server.server_close()
