# SPDX-License-Identifier: BSD-2-Clause
"""A private Postfix from the unpacked Debian package.

    p = Postfix(milters=["unix:/run/x/milter.sock"]); p.start()
    with p.connect(source="127.1.2.3") as c: print(c.send_message())
    p.stop()

Its master is started directly, in the foreground: `postfix start` would first
repair a whole installation (2 s), and needs the accounts that only the
package's own scripts create. nobody and the group mail stand in for those.
"""

import grp
import os
import pwd
import re
import subprocess

from . import mta, proc

TREE = proc.ROOT / "postfix"

# The sender of XCLIENT comes from here: the session before XCLIENT is then
# neither counted nor refused by the milter (smtpd_milter_maps).
XCLIENT_SOURCE = "127.255.255.254"

MAIN_CF = """\
compatibility_level = 3.6
queue_directory = {directory}/queue
data_directory = {directory}/data
config_directory = {directory}/etc
command_directory = {tree}/usr/sbin
daemon_directory = {tree}/usr/lib/postfix/sbin
meta_directory = {directory}/etc
shlib_directory = {tree}/usr/lib/postfix
import_environment = MAIL_CONFIG POSTLOG_SERVICE POSTLOG_HOSTNAME LD_LIBRARY_PATH
maillog_file = {directory}/mail.log
maillog_file_prefixes = {directory}
mail_owner = nobody
setgid_group = mail
default_privs = daemon
myhostname = {hostname}
inet_interfaces = 127.0.0.1, [::1]
inet_protocols = all
smtpd_peername_lookup = no
disable_dns_lookups = yes
smtp_dns_support_level = disabled
mydestination =
alias_maps =
alias_database =
local_recipient_maps =
mynetworks = {xclient_source}/32
relay_domains = {domain}
relay_recipient_maps = regexp:{directory}/etc/recipients
relay_transport = discard:
local_transport = discard:
default_transport = discard:
smtpd_relay_restrictions = permit_mynetworks, reject_unauth_destination
smtpd_recipient_restrictions = check_recipient_access inline:{{ {later}=DEFER }}
smtpd_authorized_xclient_hosts = {xclient_source}
smtpd_milter_maps = inline:{{ {xclient_source}=DISABLE }}
smtpd_client_connection_count_limit = 0
smtpd_client_connection_rate_limit = 0
smtpd_client_message_rate_limit = 0
smtpd_client_recipient_rate_limit = 0
smtpd_client_new_tls_session_rate_limit = 0
smtpd_client_auth_rate_limit = 0
smtpd_soft_error_limit = 10000
smtpd_hard_error_limit = 10000
smtpd_junk_command_limit = 10000
smtpd_error_sleep_time = 0
smtpd_tls_security_level = may
smtpd_tls_chain_files = {directory}/etc/key.pem, {directory}/etc/cert.pem
smtp_tls_security_level = none
tls_random_source = dev:/dev/urandom
default_process_limit = 1000
"""

MASTER_CF = """\
127.0.0.1:{port}  inet n - n - - smtpd
[::1]:{port}      inet n - n - - smtpd
127.0.0.1:{proxy} inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy
[::1]:{proxy}     inet n - n - - smtpd -o smtpd_upstream_proxy_protocol=haproxy
cleanup   unix n - n - 0 cleanup
qmgr      unix n - n 300 1 qmgr
tlsmgr    unix - - n 1000? 1 tlsmgr
rewrite   unix - - n - - trivial-rewrite
bounce    unix - - n - 0 bounce
defer     unix - - n - 0 bounce
trace     unix - - n - 0 bounce
proxymap  unix - - n - - proxymap
error     unix - - n - - error
retry     unix - - n - - error
discard   unix - - n - - discard
showq     unix n - n - - showq
anvil     unix - - n - 1 anvil
postlog   unix-dgram n - n - 1 postlogd
"""


# In a mount namespace of its own, for Postfix with names.
ENTER = """\
set -e
cd "$1"; shift
mount --bind hosts /etc/hosts
mount --bind nsswitch.conf /etc/nsswitch.conf
exec "$@"
"""


class Postfix(mta.Mta):
    """milters: sockets as Postfix writes them (unix:/path, inet:host:port).
    The first is attached with etc/postfix-main.cf.snippet, the others follow
    it. default_action replaces the snippet's. options: more of main.cf.
    names: {address: name} for the resolver; without, clients have none. auth:
    an Auth, who lets clients log in."""

    name = "postfix"
    unknown_code = 550

    def __init__(self, milters=(), default_action="accept", options=None, names=None,
                 auth=None):
        super().__init__()
        proc.need_root("Postfix")
        self.proxy_port = proc.free_port()
        self.directory = proc.make_directory("postfix")
        self.tree = proc.need(TREE)
        self.env = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C",
                    "LD_LIBRARY_PATH": f"{self.tree}/usr/lib/postfix"}
        self._make_files()
        self._enter = []
        options = dict(options or {}, **(auth.postfix_options if auth else {}))
        if names:
            mta.make_resolver(self.directory, names)
            (self.directory / "enter.sh").write_text(ENTER)
            self._enter = ["unshare", "--mount", "--propagation", "private",
                           "sh", self.directory / "enter.sh", self.directory]
            options["smtpd_peername_lookup"] = "yes"
        self.configure(milters, default_action, options)

    def _make_files(self):
        etc = self.directory / "etc"
        etc.mkdir()
        # What the package's postinst would do: the map types are built in.
        (etc / "dynamicmaps.cf").write_text("")
        (etc / "recipients").write_text(
            f"if !/^{mta.UNKNOWN}/\n/@/ OK\nendif\n")
        (etc / "master.cf").write_text(
            MASTER_CF.format(port=self.port, proxy=self.proxy_port))
        mta.make_certificate(etc)
        owner = pwd.getpwnam("nobody").pw_uid
        group = grp.getgrnam("mail").gr_gid

        def make(name, mode, uid=owner, gid=-1):
            path = self.directory / name
            path.mkdir(parents=True)
            os.chown(path, uid, gid)
            path.chmod(mode)
        make("data", 0o700)
        make("queue", 0o755, uid=0)
        for name in ("active", "bounce", "corrupt", "defer", "deferred", "flush",
                     "hold", "incoming", "private", "saved", "trace"):
            make(f"queue/{name}", 0o700)
        make("queue/pid", 0o755, uid=0)
        make("queue/maildrop", 0o730, gid=group)
        make("queue/public", 0o710, gid=group)

    def configure(self, milters=(), default_action="accept", options=None):
        """Write main.cf; for a running Postfix follow it with restart()."""
        text = MAIN_CF.format(
            directory=self.directory, tree=self.tree, hostname=mta.HOSTNAME,
            domain=mta.DOMAIN, later=mta.LATER,
            xclient_source=XCLIENT_SOURCE)
        if milters:
            text += mta.snippet(
                "postfix-main.cf.snippet",
                socket=(r"(?m)(?<=^smtpd_milters = \{ )inet:127\.0\.0\.1:8890",
                        milters[0]),
                action=(r"(?<= )default_action=accept(?= \})",
                        f"default_action={default_action}"))
            for milter in milters[1:]:
                text = text.rstrip() + f", {milter}\n"
        for key, value in (options or {}).items():
            text = re.sub(rf"(?m)^{key} =.*\n", "", text) + f"{key} = {value}\n"
        path = self.directory / "etc/main.cf"
        path.write_text(text)
        # Postfix waits for a file younger than seconds to become older.
        os.utime(path, (1e9, 1e9))

    def start(self):
        self.process = proc.Process(
            [*self._enter, f"{self.tree}/usr/lib/postfix/sbin/master", "-s", "-c",
             self.directory / "etc"], env=self.env,
            stdout=subprocess.DEVNULL,
            stderr=open(self.directory / "stderr", "ab"))
        self._wait_listening([self.port, self.proxy_port])
        return self

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def connect_proxy(self, client, **options):
        """A session that the HAProxy header says comes from client
        (an IPv4 or IPv6 address, or (address, port))."""
        return mta.Client(self.host, self.proxy_port, proxy=client, **options)

    def connect_xclient(self, address, name="[UNAVAILABLE]", **options):
        """A session that XCLIENT says comes from address."""
        if ":" in address:
            address = f"IPV6:{address}"
        return self.connect(XCLIENT_SOURCE, xclient={"ADDR": address, "NAME": name},
                            **options)

    def _log_lines(self):
        lines = []
        for name in ("stderr", "mail.log"):
            path = self.directory / name
            if path.exists():
                lines += path.read_text(errors="backslashreplace").splitlines()
        return lines

    def queue_empty(self):
        """Whether all accepted mail has been discarded."""
        return not any(path.is_file() for name in ("incoming", "active", "deferred")
                       for path in (self.directory / "queue" / name).rglob("*"))
