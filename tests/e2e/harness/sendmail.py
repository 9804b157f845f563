# SPDX-License-Identifier: BSD-2-Clause
"""A private Sendmail from the unpacked Debian packages.

    s = Sendmail(milters=["unix:/run/x/milter.sock"], flag="T"); s.start()
    with s.connect(source="127.1.2.3") as c: print(c.send_message())
    s.stop()

It runs in mount and UTS namespaces of its own: it waits a minute at start if
the host's name has no dot, it logs to /dev/log and nowhere else, and it would
ask the host's resolver for the name of every client.
"""

import os
import socket
import subprocess
import threading

from . import mta, proc

TREE = proc.ROOT / "sendmail"

# The order matters to m4: options, features, filters, mailers, then rules.
CONFIG = """\
divert(0)dnl
VERSIONID(`weir end-to-end tests')
OSTYPE(`linux')dnl
undefine(`PROCMAIL_MAILER_PATH')dnl
define(`confDOMAIN_NAME', `{hostname}')dnl
define(`confDEF_USER_ID', `daemon:daemon')dnl
define(`confPID_FILE', `{directory}/sendmail.pid')dnl
define(`QUEUE_DIR', `{directory}/queue')dnl
define(`STATUS_FILE', `{directory}/statistics')dnl
define(`HELP_FILE', `{tree}/etc/mail/helpfile')dnl
define(`ALIAS_FILE', `')dnl
define(`confCW_FILE', `-o {directory}/none')dnl
define(`confCT_FILE', `-o {directory}/none')dnl
define(`confCR_FILE', `-o {directory}/none')dnl
define(`confSERVICE_SWITCH_FILE', `{directory}/service.switch')dnl
define(`confTO_IDENT', `0')dnl
define(`confBAD_RCPT_THROTTLE', `0')dnl
define(`confSAFE_QUEUE', `False')dnl
define(`confQUEUE_LA', `1000')dnl
define(`confREFUSE_LA', `1000')dnl
define(`confDELAY_LA', `1000')dnl
define(`confLOG_LEVEL', `10')dnl
define(`confPRIVACY_FLAGS', `')dnl
define(`confSERVER_CERT', `{directory}/cert.pem')dnl
define(`confSERVER_KEY', `{directory}/key.pem')dnl
define(`confCACERT', `{directory}/cert.pem')dnl
define(`confCACERT_PATH', `{directory}')dnl
FEATURE(`no_default_msa')dnl
FEATURE(`nouucp', `reject')dnl
FEATURE(`nocanonify')dnl
FEATURE(`accept_unresolvable_domains')dnl
DAEMON_OPTIONS(`Name=v4, Family=inet, Addr=127.0.0.1, Port={port}, Listen=200')dnl
DAEMON_OPTIONS(`Name=v6, Family=inet6, Addr=::1, Port={port}, Listen=200')dnl
RELAY_DOMAIN(`{domain}')dnl
{filters}
MODIFY_MAILER_FLAGS(`LOCAL', `-A')dnl
MAILER(`local')dnl
MAILER(`smtp')dnl
LOCAL_RULE_0
R{unknown}$* < @ {domain} . >	$#error $@ 5.1.1 $: "550 User unknown"
R$* < @ {domain} . >	$#sink $@ {domain} $: $1
R$* < @ {other} . >	$#sink $@ {other} $: $1
LOCAL_RULESETS
SLocal_check_rcpt
R<{later}>	$#error $@ 4.7.1 $: "450 Later"
MAILER_DEFINITIONS
Msink, P=/bin/sh, F=DFMn, S=EnvFromSMTP, R=EnvToSMTP, T=DNS/RFC822/X-Unix,
	A=sh -c cat>/dev/null $u
"""

AUTH = """\
define(`confAUTH_MECHANISMS', `PLAIN')dnl
TRUST_AUTH_MECH(`PLAIN')dnl
"""

# /dev is replaced by one with the same few devices and our own log socket.
ENTER = """\
set -e
cd "$1"; shift
for device in null zero full random urandom tty; do
    : >dev/$device; mount --bind /dev/$device dev/$device
done
ln -sfn /proc/self/fd dev/fd
mount --rbind dev /dev
mount --bind hosts /etc/hosts
mount --bind nsswitch.conf /etc/nsswitch.conf
mount --bind sasl /usr/lib/sasl2
hostname "$1"; shift
exec "$@"
"""


class Sendmail(mta.Mta):
    """milters: sockets as Postfix writes them. The first is attached with
    etc/sendmail.mc.snippet, the others follow it. flag: "", "T", "R" or "4",
    what happens without the milter. names: {address: name} for the resolver.
    auth: an Auth, who lets clients log in. mc: more lines of m4."""

    name = "sendmail"
    unknown_code = 550

    def __init__(self, milters=(), flag="", names=None, auth=None, mc=""):
        super().__init__()
        proc.need_root("Sendmail")
        self.tree = proc.need(TREE)
        self.directory = proc.make_run_directory("sendmail")
        self._lines = []
        self._log_socket = None
        (self.directory / "queue").mkdir(mode=0o700)
        (self.directory / "dev").mkdir()
        (self.directory / "sasl").mkdir()
        (self.directory / "statistics").touch()
        mta.make_resolver(self.directory, names)
        for name, text in (
                ("service.switch", "hosts files\naliases files\n"),
                ("enter.sh", ENTER)):
            (self.directory / name).write_text(text)
        if auth:
            mc += AUTH
            (self.directory / "sasl/Sendmail.conf").write_text(
                "pwcheck_method: saslauthd\nmech_list: PLAIN\n"
                f"saslauthd_path: {auth.saslauthd}\n")
        mta.make_certificate(self.directory)
        self.configure(milters, flag, mc)

    @staticmethod
    def _socket(spec):
        """Postfix writes inet:HOST:PORT, Sendmail inet:PORT@HOST."""
        where = proc.parse_socket(spec)
        return f"inet:{where}@127.0.0.1" if isinstance(where, int) \
            else f"local:{where}"

    def configure(self, milters=(), flag="", mc=""):
        """Write sendmail.cf; for a running Sendmail follow it with restart()."""
        equate = f" F={flag}," if flag else ""
        filters = ""
        if milters:
            filters = mta.snippet(
                "sendmail.mc.snippet",
                socket=(r"(?<=S=)local:/run/weir/milter\.sock,(?= T=)",
                        self._socket(milters[0]) + "," + equate))
        for number, milter in enumerate(milters[1:], 2):
            filters += (f"INPUT_MAIL_FILTER(`more{number}', "
                        f"`S={self._socket(milter)},{equate} T=C:5s;S:5s;R:8s')dnl\n")
        text = CONFIG.format(
            directory=self.directory, tree=self.tree, hostname=mta.HOSTNAME,
            port=self.port, domain=mta.DOMAIN, other=mta.OTHER, later=mta.LATER, unknown=mta.UNKNOWN,
            filters=filters + mc)
        (self.directory / "sendmail.mc").write_text(text)
        cf = f"{self.tree}/usr/share/sendmail/cf/"
        made = subprocess.run(
            ["m4", f"-D_CF_DIR_={cf}", f"{cf}m4/cf.m4",
             self.directory / "sendmail.mc"], capture_output=True, check=True)
        if made.stderr:
            raise RuntimeError(f"sendmail.mc: {made.stderr.decode()}")
        (self.directory / "sendmail.cf").write_bytes(made.stdout)

    def start(self):
        path = self.directory / "dev/log"
        path.unlink(missing_ok=True)
        self._log_socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._log_socket.bind(str(path))
        path.chmod(0o666)
        threading.Thread(target=self._collect, args=(self._log_socket,),
                         daemon=True).start()
        self.process = proc.Process(
            ["unshare", "--mount", "--uts", "--propagation", "private",
             "sh", self.directory / "enter.sh", self.directory, mta.HOSTNAME,
             f"{self.tree}/usr/libexec/sendmail/sendmail", "-bD",
             "-C", self.directory / "sendmail.cf"],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C"},
            stderr=open(self.directory / "stderr", "ab"))
        self._wait_listening([self.port])
        return self

    def _collect(self, log_socket):
        while True:
            try:
                data = log_socket.recv(65536)
            except OSError:
                return
            if data == b"end":
                return
            text = data.partition(b">")[2].decode("utf-8", "backslashreplace")
            self._lines.append(text.rstrip("\n\0"))

    def _log_lines(self):
        path = self.directory / "stderr"
        errors = path.read_text().splitlines() if path.exists() else []
        return errors + list(self._lines)

    def stop(self):
        """Sessions still open are cut: each is a child of the daemon."""
        if self.process:
            self.process.stop()
            self.process = None
        if self._log_socket:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"end", os.fspath(self.directory / "dev/log"))
            self._log_socket = None
