# SPDX-License-Identifier: BSD-2-Clause
"""What the two MTAs of the harness have in common."""

import re
import subprocess

from . import proc
from .smtp import Client

HOSTNAME = "mx.example.test"
DOMAIN = "example.test"         # any recipient there is accepted and discarded,
OTHER = f"other.{DOMAIN}"       # here, too
UNKNOWN = "unknown"             # except those that begin with this word

# Below HOSTNAME Sendmail looks for an account, and shows a milter whom it does not
# find; whom a rule refuses as early as above it does not show (doc/mta.md).
NOBODY = f"unknown-account@{HOSTNAME}"

# Whom both MTAs ask to come back with a 450 of their own.
LATER = f"later@{DOMAIN}"

# Clients whose names are confirmed by the resolver of both MTAs: three hosts of one
# registered domain in three networks, and one of another.
NAMES = {"127.251.1.1": "mail1.one.test", "127.251.2.1": "mail2.one.test",
         "127.251.3.1": "mx.one.test", "127.251.4.1": "mail1.two.test"}


class Mta:
    """An MTA that listens on 127.0.0.1:port and [::1]:port."""

    name = "mta"
    process = None

    def __init__(self):
        self.host = "127.0.0.1"
        self.port = proc.free_port()

    def connect(self, source="127.0.0.1", **options):
        """A new SMTP session from source (any 127.x.y.z, or ::1)."""
        host = "::1" if source and ":" in source else self.host
        return Client(host, self.port, source=source, **options)

    def log(self, pattern=""):
        """The log lines so far (that match pattern)."""
        return [line for line in self._log_lines() if re.search(pattern, line)]

    def mark(self):
        return len(self._log_lines())

    def wait_log(self, pattern, timeout=5.0, since=0):
        """The first log line from since on that matches."""
        def look():
            for line in self._log_lines()[since:]:
                if re.search(pattern, line):
                    return line
            return None
        try:
            return proc.wait_for(look, timeout, every=0.05)
        except TimeoutError:
            raise AssertionError(f"{self.name}: no line /{pattern}/ in {timeout} s:\n"
                                 + "\n".join(self._log_lines()[-30:])) from None

    def _wait_listening(self, ports, timeout=15.0):
        try:
            proc.wait_for(lambda: all(map(proc.listening, ports))
                          or not self.process.alive(), timeout, self.name)
        except TimeoutError:
            pass
        if not self.process.alive() or not all(map(proc.listening, ports)):
            self.stop()
            raise RuntimeError(f"{self.name} did not start:\n"
                               + "\n".join(self._log_lines()[-30:]))

    def restart(self):
        self.stop()
        return self.start()


def snippet(name, **replace):
    """One of the examples in etc/: what the tests run is what users copy.

    replace: name=(regular expression, text); each has to occur once."""
    text = (proc.SOURCE / "etc" / name).read_text()
    for old, new in replace.values():
        text, count = re.subn(old, lambda _, new=new: new, text)
        if count != 1:
            raise RuntimeError(f"etc/{name}: {old} occurs {count} times")
    return text


def make_resolver(directory, names):
    """directory/hosts, nsswitch.conf: with these in place of /etc's, {address: name} is
    all that the host knows, both ways."""
    hosts = {"127.0.0.1": f"{HOSTNAME} localhost", "::1": "localhost", **(names or {})}
    (directory / "hosts").write_text("".join(f"{k} {v}\n" for k, v in hosts.items()))
    (directory / "nsswitch.conf").write_text(
        "passwd: files\ngroup: files\nhosts: files\n")


def make_certificate(directory):
    """A self-signed certificate and its key: directory/cert.pem, key.pem."""
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
         "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
         f"/CN={HOSTNAME}", "-keyout", directory / "key.pem", "-out",
         directory / "cert.pem"], check=True, capture_output=True)
    (directory / "key.pem").chmod(0o600)
