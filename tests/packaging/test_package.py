# SPDX-License-Identifier: BSD-2-Clause
"""The Debian package on a mail server of its own: a Debian that systemd-nspawn boots, with
Postfix, Redis and no network. Run by scripts/check-package. The tests are the life of one
installation, in this order."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "e2e"))

from harness import proc        # noqa: E402

DEB = os.environ.get("WEIR_PACKAGE")
BASE = os.environ.get("WEIR_PACKAGE_BASE")
CONF = "/etc/weir/weir.conf"
SOCKET = "/var/spool/postfix/weir/milter.sock"
EXPOSURE_MAX = 2.0

# Said by one client on loopback; prints the code of each answer.
SMTP = """
import socket, sys
s = socket.create_connection(("127.0.0.1", 25), 20)
f = s.makefile("rwb")
def answer():
    while True:
        line = f.readline()
        if line[3:4] != b"-":
            print(line[:3].decode() or "closed", flush=True)
            return line[:3]
code = answer()
for line in %r:
    if line == "WAIT":
        sys.stdin.readline()
        continue
    if code[:1] not in b"23":
        break
    f.write(line.encode().replace(b"\\n", b"\\r\\n") + b"\\r\\n")
    f.flush()
    code = answer()
"""
MESSAGE = ["EHLO client.test", "MAIL FROM:<a@client.test>", "RCPT TO:<root@localhost>", "DATA",
           "Subject: x\n\nhello\n.", "QUIT"]
ACCEPTED = ["220", "250", "250", "250", "354", "250", "221"]


class Machine:
    """A booted copy of the bare system."""

    def __init__(self, root):
        self.root = root
        self.process = proc.Process(
            ["systemd-nspawn", "-q", "-D", root, "--register=no", "--keep-unit",
             "--private-network", "--link-journal=no", "-b"])
        self.leader = proc.wait_for(self._init, 20, "the machine's first process")
        proc.wait_for(lambda: self("systemctl is-system-running --wait", check=False)
                      .startswith(("running", "degraded")), 60, "the boot", every=0.2)

    def _init(self):
        for pid in proc.children(self.process.pid):
            if Path(f"/proc/{pid}/comm").read_text() == "systemd\n":
                return pid
        return None

    def argv(self, *words):
        return ["nsenter", "-t", str(self.leader), "-a", "--wdns=/", "env", "-i", "LC_ALL=C",
                "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", *words]

    def __call__(self, command, check=True, stdin=""):
        """What a shell in there prints."""
        done = subprocess.run(self.argv("sh", "-c", command), input=stdin, text=True,
                              capture_output=True, timeout=120, check=False,
                              start_new_session=True)
        if check and done.returncode != 0:
            journal = "" if "journalctl" in command else \
                self("journalctl -q -n 20 -o cat -u weir-milter", check=False)
            raise AssertionError(f"{command}: {done.stdout}{done.stderr}{journal}")
        return done.stdout if done.returncode == 0 or check else done.stdout + done.stderr

    def path(self, name):
        return Path(f"{self.root}{name}")

    def mail(self, check=True):
        """The codes that a client gets who sends a message."""
        return self("python3 -", check=check, stdin=SMTP % (MESSAGE,)).split()

    def log(self, pattern):
        return [line for line in self("journalctl -q -o cat -u weir-milter").splitlines()
                if re.search(pattern, line)]

    def edit(self, old, new):
        """As the administrator does."""
        text = self.path(CONF).read_text()
        assert re.search(old, text, re.MULTILINE), old
        self.path(CONF).write_text(re.sub(old, new, text, count=1, flags=re.MULTILINE))

    def show(self, name):
        """A property of the service."""
        return self(f"systemctl show -P {name} weir-milter").strip()

    def files(self):
        """All that a package could leave behind; what apt and dpkg keep of it is theirs."""
        skip = ("/proc /sys /dev /run /tmp /var/tmp /var/cache /var/log /var/lib/apt /var/lib/dpkg "
                "/var/lib/postfix /var/lib/redis /var/spool/postfix/* /var/mail "
                "/var/lib/systemd/random-seed /etc/.pwd.lock").split()
        prune = " -o ".join(f"-path '{path}'" for path in skip)
        listed = self(rf"find / -xdev \( {prune} \) -prune -o ! -name '*-' ! -name ld.so.cache "
                      rf"! -name '*.pyc' ! -name __pycache__ -print; ls /var/spool/postfix")
        return set(listed.splitlines())

    def users(self):
        return sorted(self("cat /etc/passwd /etc/group").splitlines())


@pytest.fixture(scope="module")
def machine():
    proc.need_root("systemd-nspawn")
    if not DEB or not BASE:
        raise RuntimeError("run scripts/check-package")
    root = proc.make_directory("machine")
    try:
        subprocess.run(["tar", "-C", root, "-xf", BASE], check=True)
        for deb in Path(DEB).parent.glob("weir_*.deb"):
            (root / "root/weir.deb").write_bytes(deb.read_bytes())
        running = Machine(root)
        running.before = running.files(), running.users()
        yield running
        running.process.kill()
    finally:
        subprocess.run(["rm", "-rf", "--one-file-system", root], check=False)


def test_install(machine):
    """apt installs it with its libraries, and nothing is refused or attached by that."""
    machine("postconf -e mydestination=localhost inet_interfaces=loopback-only inet_protocols=ipv4 && "
            "systemctl restart postfix")
    proc.wait_for(lambda: machine.mail(check=False) == ACCEPTED, 20, "Postfix", every=0.2)
    machine("apt-get install -y --no-install-recommends /root/weir.deb")
    assert machine.show("ActiveState") == "active"
    assert "mode observe" in machine.show("StatusText")
    assert machine("postconf -h smtpd_milters").strip() == ""
    assert machine("systemctl is-enabled weir-milter").strip() == "enabled"
    conf = machine.path(CONF).read_text()
    assert re.findall(r"^mode = .*", conf, re.MULTILINE) == ["mode = observe"]
    assert CONF in machine("dpkg-query -W -f '${Conffiles}' weir")
    machine("weir-milter -n && weir-milter -V && weirctl --version && man -w weirctl || "
            "test -e /usr/share/man/man8/weirctl.8.gz")
    assert machine("systemctl is-system-running", check=False).strip() == "running"


def test_rights(machine):
    """The process, and the way to its socket."""
    pid = machine.show("MainPID")
    uid = machine("id -u weir").strip()
    for process in (pid, *machine(f"cat /proc/{pid}/task/{pid}/children").split()):
        has = dict(line.split(":", 1) for line in machine(f"cat /proc/{process}/status").splitlines())
        assert set(has["Uid"].split()) == {uid}
        assert has["NoNewPrivs"].strip() == "1" and has["Seccomp"].strip() == "2"
        assert {int(has[name], 16) for name in has if name.startswith("Cap")} == {0}
    assert machine(f"stat -c '%U:%G %a' {Path(SOCKET).parent} {SOCKET}").split("\n")[:2] == \
        ["weir:postfix 2750", "weir:postfix 660"]
    ask = f"""python3 -c 'import socket; socket.socket(socket.AF_UNIX).connect("{SOCKET}")'"""
    machine(f"setpriv --reuid postfix --regid postfix --clear-groups {ask}")
    assert "Permission" in machine(f"setpriv --reuid nobody --regid nogroup --clear-groups {ask}",
                                   check=False)
    found = re.search(r"exposure level for weir-milter.service: ([\d.]+)",
                      machine("systemd-analyze security --no-pager weir-milter"))
    assert float(found[1]) <= EXPOSURE_MAX


def test_attach_and_observe(machine):
    """Attached as README.Debian says: mail flows, and the log says what would be refused."""
    readme = machine("cat /usr/share/doc/weir/README.Debian")
    words = re.search(r"smtpd_milters = (\{.*?\})", readme, re.DOTALL)[1]
    machine(f"postconf -e 'smtpd_milters = {' '.join(words.split())}' && postfix reload")
    machine.edit(r"^#exempt = .*", "exempt = {}")
    machine.edit(r"^#limit connections .*", 'limit connections { rate = "60/1h" burst = 2 }')
    machine("systemctl reload weir-milter")
    proc.wait_for(lambda: machine.log("reloaded"), 10)
    for _ in range(4):
        assert machine.mail() == ACCEPTED
    lines = proc.wait_for(lambda: machine.log("action=refuse .*client=127.0.0.1.*mode=observe"), 5)
    assert len(lines) >= 2


def test_enforce(machine):
    """mode = enforce and a reload: 421, in the same process."""
    pid = machine.show("MainPID")
    machine.edit("^mode = observe", "mode = enforce")
    machine("systemctl reload weir-milter")
    proc.wait_for(lambda: machine.show("SubState") == "running" and
                  len(machine.log("reloaded")) == 2, 10)
    codes = [machine.mail()[0] for _ in range(4)]
    assert codes[-1] == "421", codes
    assert machine.show("MainPID") == pid and "observe" not in machine.show("StatusText")


def test_mistake(machine):
    """`systemctl reload` says it, and all goes on as before."""
    machine.edit("^mode = enforce", "mode = enfroce")
    assert "failed" in machine("systemctl reload weir-milter", check=False).lower()
    proc.wait_for(lambda: machine.log(rf"{CONF}:\d+: .*mode"), 5)
    assert machine.show("ActiveState") == "active"
    assert machine.mail()[0] == "421"
    machine.edit("^mode = enfroce", "mode = enforce")


def test_redis(machine):
    """Redis with its users, the password in a file; and weirctl with it."""
    machine("cp /usr/share/doc/weir/examples/redis-acl.conf /etc/redis/weir-acl.conf && "
            "echo include /etc/redis/weir-acl.conf >>/etc/redis/redis.conf && "
            "systemctl restart redis-server")
    machine("umask 027; echo change-me-milter >/etc/weir/redis-password; "
            "chown root:weir /etc/weir/redis-password")
    readme = machine("cat /usr/share/doc/weir/README.Debian")
    section = re.search(r"     redis \{.*?\n     \}", readme, re.DOTALL)[0]
    machine.path(CONF).write_text(machine.path(CONF).read_text() + section + "\n")
    machine("systemctl reload weir-milter")
    proc.wait_for(lambda: machine.log("reloaded .*counting in redis"), 10)
    machine.mail()
    assert "127.0.0.1" in machine("WEIR_REDIS_URL=redis://weirctl:change-me-weirctl@127.0.0.1 "
                                  "weirctl top by connections")


def test_load_signals(machine):
    """Under the unit's filters the load of the host is seen, and postqueue, which has no way to
    its own rights, is helped by a group."""
    machine("adduser --quiet weir postdrop && postconf -e defer_transports=local && "
            "postfix reload && echo x | sendmail root@localhost")
    machine.path(CONF).write_text(machine.path(CONF).read_text() + 'load { run-queue = "900 800" '
                                  'psi-cpu = "99% 98%" queue = "5000 2000" '
                                  'queue-command = "postqueue -j | wc -l" }\n')
    machine("systemctl restart weir-milter")
    ask = "WEIR_REDIS_URL=redis://weirctl:change-me-weirctl@127.0.0.1 weirctl -j status"

    def signals():
        """Of the newest node: one that was killed is listed for a while."""
        nodes = json.loads(machine(ask))["nodes"]
        return max(nodes, key=lambda node: node["started"]).get("load_values", "") if nodes else ""
    proc.wait_for(lambda: re.search(r"run-queue=[\d.]+ .* queue=1$", signals()), 10,
                  "the signals", every=0.5)
    assert not [line for line in machine.log("load: no ") if "pressure" not in line]
    machine("postconf -X defer_transports && postfix reload && postqueue -f")


def test_upgrade(machine):
    """A session that is open goes on, in a weir-milter that is the new one afterwards."""
    machine.edit(r"^mode = enforce", "mode = observe")
    machine("systemctl reload weir-milter")
    proc.wait_for(lambda: "mode observe" in machine.show("StatusText"), 10)
    pid, reloads = machine.show("MainPID"), len(machine.log("reloaded"))
    lines = [*MESSAGE[:2], "WAIT", *MESSAGE[2:]]
    with subprocess.Popen(machine.argv("python3", "-c", SMTP % (lines,)), text=True,
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert [client.stdout.readline().strip() for _ in range(3)] == ACCEPTED[:3]
        machine("cd /root && dpkg-deb -R weir.deb new && "
                "sed -i 's/^Version: .*/&+new/' new/DEBIAN/control && dpkg-deb -b new new.deb && "
                "rm -r new && dpkg -i new.deb")
        proc.wait_for(lambda: len(machine.log("reloaded")) > reloads, 20)
        assert machine.show("MainPID") == pid
        assert re.search(r"\(deleted\)", machine(f"ls -l /proc/{pid}/exe")) is None
        out, _ = client.communicate("\n", timeout=20)
        assert out.split() == ACCEPTED[3:]


def test_killed(machine):
    """systemd starts it again; mail flows meanwhile."""
    pid = machine.show("MainPID")
    assert int(pid) > 1
    machine(f"kill -SEGV {pid}")
    assert machine.mail() == ACCEPTED
    proc.wait_for(lambda: machine.show("MainPID") not in ("0", pid) and
                  machine.show("ActiveState") == "active", 15)


def test_postfix_comes_later(machine):
    """Then there was no place for the socket, and dpkg's trigger makes it."""
    machine("systemctl stop weir-milter && rm -r /var/spool/postfix/weir")
    machine("dpkg-trigger --by-package=postfix /usr/lib/postfix && dpkg --triggers-only -a")
    assert machine(f"stat -c '%U:%G %a' {Path(SOCKET).parent}").strip() == "weir:postfix 2750"
    assert machine.show("ActiveState") == "active"
    machine("rm -r /var/spool/postfix/weir && systemd-tmpfiles --create")
    assert machine(f"stat -c '%U:%G %a' {Path(SOCKET).parent}").strip() == "weir:postfix 2750"


def test_other_socket(machine):
    """What README.Debian says for Sendmail."""
    machine.edit("^socket = .*", 'socket = "unix:/run/weir/milter.sock"')
    machine("systemctl restart weir-milter && test -S /run/weir/milter.sock")
    machine.edit("^socket = .*", f'socket = "unix:{SOCKET}"')
    machine("systemctl restart weir-milter && test -S " + SOCKET)


def test_remove(machine):
    """Without weir mail flows, and what the administrator wrote is kept."""
    machine("apt-get remove -y weir")
    assert machine.mail() == ACCEPTED
    assert not machine.path(SOCKET).parent.exists() and machine.path(CONF).exists()
    assert "weir-milter" not in machine("ps -e -o comm= 2>/dev/null || cat /proc/[0-9]*/comm")


def test_purge(machine):
    """Nothing is left."""
    machine("apt-get purge -y --auto-remove weir; postconf -X smtpd_milters; rm -f /root/*.deb "
            "/etc/redis/weir-acl.conf")
    files, users = machine.files(), machine.users()
    assert sorted(files - machine.before[0]) == []
    assert sorted(machine.before[0] - files - {"/root/weir.deb"}) == []
    assert [line for line in users if "weir" in line] == []
