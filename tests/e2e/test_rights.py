# SPDX-License-Identifier: BSD-2-Clause
"""Least rights, as doc/security.md promises them: what weir-milter gives up, what its files
and sockets allow, and where a password never appears."""

import os
import pwd
import re
import resource
import signal
import stat
import subprocess
import time
from pathlib import Path

import pytest

import load
from harness import proc
from harness.ctl import Ctl
from harness.weir import find_program
from rawmilter import RawMilter

NOBODY = pwd.getpwnam("nobody")
SECRET = "Pr0cess-List-Secret"
GROUP = 64999


def status_of(pid):
    return dict(line.split(":", 1) for line in
                Path(f"/proc/{pid}/status").read_text().splitlines())


def as_nobody(*argv):
    return subprocess.run(argv, user=NOBODY.pw_uid, group=NOBODY.pw_gid, extra_groups=[],
                          capture_output=True, check=False, timeout=10)


def everyone(running):
    return [running.master, *running.wait_workers(2)]


def place(name):
    """Where the user nobody may make a socket."""
    directory = proc.make_run_directory(name)
    os.chown(directory, NOBODY.pw_uid, NOBODY.pw_gid)
    return directory


def reload(running):
    mark = running.mark()
    running.reload()
    running.wait_log("reloaded", since=mark)
    return everyone(running)


@pytest.fixture
def humble(weir):
    """A weir-milter started by root that becomes nobody, who is in one more group."""
    groups = proc.make_directory("group") / "group"
    groups.write_text(Path("/etc/group").read_text() + f"weir-test:x:{GROUP}:nobody\n")
    return weir(socket=f"unix:{place('humble')}/milter.sock", args=["-u", "nobody"],
                prefix=["unshare", "--mount", "sh", "-c",
                        'mount --bind "$0" /etc/group && exec "$@"', groups])


# What it gives up.

def test_own_user(humble):
    """Every process, before and after a reload: that user, with its groups and no other, no
    capability, and no way to more."""
    for look in (everyone, reload):
        for pid in look(humble):
            has = status_of(pid)
            assert set(has["Uid"].split()) == {str(NOBODY.pw_uid)}
            assert set(has["Gid"].split()) == {str(NOBODY.pw_gid)}
            assert set(has["Groups"].split()) == {str(NOBODY.pw_gid), str(GROUP)}
            for caps in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
                assert int(has[caps], 16) == 0, caps
            assert has["NoNewPrivs"].strip() == "1"


def test_given_capability_is_dropped(weir):
    """Started as that user with a capability, as a unit file may: it does not keep it."""
    running = weir(socket=f"unix:{place('cap')}/milter.sock", prefix=[
        "setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups",
        "--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"])
    for pid in everyone(running):
        has = status_of(pid)
        assert [int(has[caps], 16) for caps in ("CapInh", "CapPrm", "CapEff", "CapAmb")] == [0] * 4


def test_set_user_id_gives_nothing(weir):
    """A program of root's that queue-command runs has no more rights than weir-milter."""
    directory = place("suid")
    program, out = directory / "id", directory / "out"
    program.write_bytes(Path("/usr/bin/id").read_bytes())
    program.chmod(0o4755)
    assert as_nobody(program, "-u").stdout == b"0\n"        # it would be root's
    weir(f"""load {{ queue = "5000 2000" queue-command = "{program} -u >{out}.new; """
         f"""mv {out}.new {out}; echo 1" }}\n""",
         socket=f"unix:{directory}/milter.sock", args=["-u", "nobody"])
    assert proc.wait_for(lambda: out.exists() and out.read_text()) == f"{NOBODY.pw_uid}\n"


def test_memory_is_hidden(humble):
    """Another process of the same user reads neither memory nor environment."""
    with subprocess.Popen(["sleep", "60"], user=NOBODY.pw_uid, group=NOBODY.pw_gid) as other:
        try:
            for name in ("environ", "mem"):
                assert as_nobody("head", "-c0", f"/proc/{other.pid}/{name}").returncode == 0
                for look in (everyone, reload):
                    for pid in look(humble):
                        found = as_nobody("head", "-c0", f"/proc/{pid}/{name}")
                        assert b"Permission denied" in found.stderr, (name, pid)
        finally:
            other.kill()


def killed_leaves_core(argv):
    directory = proc.make_directory("core")
    with subprocess.Popen([str(word) for word in argv], cwd=directory, preexec_fn=lambda:
                          resource.setrlimit(resource.RLIMIT_CORE, (1 << 26, 1 << 26))) as process:
        if "sleep" not in argv:
            where = argv[argv.index("-p") + 1].partition(":")[2]
            proc.wait_for(lambda: proc.listening(where))
        time.sleep(0.1)
        process.send_signal(signal.SIGQUIT)     # writes a core, as a crash does
        number = os.waitpid(process.pid, 0)[1]
        process.returncode = -os.WTERMSIG(number)
    assert os.WTERMSIG(number) == signal.SIGQUIT
    return os.WCOREDUMP(number) or any(directory.iterdir())


def test_no_core():
    assert killed_leaves_core(["sleep", "60"]), "this host writes no cores at all"
    path = proc.make_run_directory("core") / "milter.sock"
    assert not killed_leaves_core([find_program("weir-milter"), "-f", "-p", f"unix:{path}"])


def test_open_files_are_not_kept():
    """What the starter had open, a daemon has not."""
    path = proc.make_run_directory("files") / "milter.sock"
    with open("/etc/shadow", "rb") as precious:
        milter = subprocess.Popen([find_program("weir-milter"), "-f", "-p", f"unix:{path}"],
                                  pass_fds=[precious.fileno()], stderr=subprocess.DEVNULL)
    try:
        proc.wait_for(lambda: proc.listening(path))
        pids = [milter.pid, *proc.wait_for(lambda: proc.children(milter.pid))]
        for pid in pids:
            names = {os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()}
            assert "/etc/shadow" not in names and str(path) not in names
    finally:
        milter.terminate()
        milter.wait(10)


# What it writes, as root, where others may write.

def loose(text):
    """A prefix: the umask of somebody careless."""
    return ["sh", "-c", f'{text}; exec "$@"', "sh"]


def test_umask(weir):
    directory = proc.make_run_directory("umask")
    running = weir(f'socket-mode = "0640"\npid-file = "{directory}/pid"',
                   socket=f"unix:{directory}/milter.sock", prefix=loose("umask 0"))
    modes = {path.name: stat.S_IMODE(path.lstat().st_mode) for path in directory.iterdir()}
    assert modes == {"milter.sock": 0o640, "pid": 0o644}
    for pid in everyone(running):
        assert int(status_of(pid)["Umask"], 8) == 0o022


@pytest.mark.parametrize("kind", ["link", "hard link", "pipe"])
def test_pid_file_is_no_trap(kind):
    """Root writes the pid into no other file than its own."""
    directory = proc.make_run_directory("trap")
    victim, pid_file = directory / "victim", directory / "pid"
    victim.write_text("precious")
    if kind == "link":
        pid_file.symlink_to(victim)
    elif kind == "hard link":
        os.link(victim, pid_file)
    else:
        os.mkfifo(pid_file)
    done = subprocess.run([find_program("weir-milter"), "-f", "-p", f"unix:{directory}/s",
                           "-P", pid_file], capture_output=True, timeout=10, check=False)
    assert done.returncode == 1 and str(pid_file).encode() in done.stderr
    assert victim.read_text() == "precious" and not (directory / "s").exists()


def test_socket_is_no_trap(weir):
    """A link in the socket's place does not change the mode or owner of what it names."""
    directory = proc.make_run_directory("trap")
    victim, path = directory / "victim", directory / "milter.sock"
    victim.write_text("precious")
    victim.chmod(0o600)
    running = weir("socket-owner = nobody\nsocket-group = nogroup", socket=f"unix:{path}")
    path.rename(directory / "moved")
    path.symlink_to(victim)
    reload(running)
    assert running.log("the socket's owner and mode stay")
    info = victim.stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o600, 0, 0)


# Secrets.

def visible(pids):
    """All that ps and its like can show of these processes."""
    return b"".join(Path(f"/proc/{pid}/{name}").read_bytes()
                    for pid in pids for name in ("cmdline", "environ", "comm")).decode()


@pytest.fixture
def locked(new_redis):
    redis = new_redis(password=SECRET)
    redis.door = f"redis://:{SECRET}@{redis.host}:{redis.port}"
    return redis


@pytest.mark.parametrize("where", ["file", "url"])
@pytest.mark.parametrize("right", [True, False], ids=["right", "wrong"])
def test_password_is_nowhere(weir, locked, where, right):
    """Not in the process list, the environment, the log, what -n and weirctl print, nor in
    Redis; whether Redis takes it or not."""
    if not right:
        locked.cmd("CONFIG", "SET", "requirepass", "another")
        locked.password = "another"
    path = proc.make_directory("secret", private=True) / "password"
    path.write_text(SECRET + "\n")
    path.chmod(0o600)
    url = locked.door if where == "url" else locked.url
    word = f'password-file = "{path}"' if where == "file" else ""
    running = weir(f'redis {{ url = "{url}" {word} timeout = "250ms" }}\n')
    ctl = Ctl(conf=running.conf)
    assert load.connects(running.socket, "192.0.2.7") == [True]
    texts = []
    if right:
        proc.wait_for(lambda: ctl.json("status")["nodes"], 10)
        texts += [str(ctl(words)) for words in ("status", "top", "limit", "why 192.0.2.7")]
        texts += [str(locked.cmd("HGETALL", key)) for key in locked.cmd("KEYS", "weir:*")
                  if locked.cmd("TYPE", key) == "hash"]
        assert "192.0.2" in "".join(texts)
    else:
        running.wait_log("redis")
        texts.append(str(ctl("status", status=3)))
    seen = "".join(visible(look(running)) for look in (everyone, reload))
    checked = subprocess.run([find_program("weir-milter"), "-n", "-c", running.conf],
                             capture_output=True, text=True, check=True)
    texts += [running.text(), checked.stdout, checked.stderr, seen]
    for text in texts:
        assert SECRET not in text


def has_socket(pid):
    try:
        return any("socket:" in os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir())
    except FileNotFoundError:       # closed while we looked
        return False


def test_weirctl_command_line(locked):
    """A password behind -r is warned of, and wiped; from the environment it is neither."""
    locked.freeze()
    for option, env in (["-r", locked.door], {}), ([], {"WEIR_REDIS_URL": locked.door}):
        with subprocess.Popen([Ctl().argv[0], *option, "limit"], stderr=subprocess.PIPE,
                              env={**os.environ, **env}, user=NOBODY.pw_uid,
                              group=NOBODY.pw_gid, extra_groups=[]) as running:
            proc.wait_for(lambda: has_socket(running.pid))
            line = Path(f"/proc/{running.pid}/cmdline").read_bytes()
            hidden = as_nobody("cat", f"/proc/{running.pid}/environ")
            said = running.stderr.read().decode()
        assert SECRET.encode() not in line and hidden.returncode != 0
        assert SECRET not in said and "does not answer" in said
        assert ("other users could read this password" in said) == bool(option)
    locked.thaw()
    done = subprocess.run([Ctl().argv[0], "limit"], capture_output=True, check=False,
                          env={**os.environ, "WEIR_REDIS_URL": locked.door})
    assert done.returncode == 0 and done.stderr == b""
    other = Ctl(None, "-r", locked.url, env={"WEIR_REDIS_URL": locked.door})
    other.refused("limit", status=3, says="it wants a password")     # -r lies over it
    Ctl(None, env={"WEIR_REDIS_URL": "nonsense"}).refused(
        "limit", status=2, says="WEIR_REDIS_URL: ")


def test_password_goes_nowhere_else(redis):
    """weirctl with another Redis than the configured one does not say it there."""
    path = proc.make_directory("other", private=True) / "weir.conf"
    path.write_text(f'redis {{ url = "redis://someone:{SECRET}@127.0.0.1:1" }}\n')
    path.chmod(0o600)
    before = redis.cmd("ACL", "LOG")
    assert "connections" in Ctl(redis.url, conf=path)("limit").out
    assert redis.cmd("ACL", "LOG") == before


def test_redis_user_from_file(weir, new_redis):
    """A Redis user whose password is in no URL, for weir-milter and weirctl."""
    redis = new_redis(acl=[f"mx on >{SECRET} ~weir:* +@all", "default off"])
    path = proc.make_directory("user", private=True) / "password"
    path.write_text(SECRET)
    path.chmod(0o600)
    conf = f'redis {{ url = "{redis.unix_url}" user = mx password-file = "{path}" '
    running = weir(conf + 'timeout = "250ms" }\n')
    assert load.connects(running.socket, "192.0.2.7") == [True]
    assert "connections" in Ctl(conf=running.conf)("limit").out
    assert not running.log("does not answer|redis: ")
    text = proc.make_directory("user") / "weir.conf"
    text.write_text(f'redis {{ url = "{redis.unix_url}" user = mx }}\n')
    done = subprocess.run([find_program("weir-milter"), "-n", "-c", text], capture_output=True,
                          text=True, check=False)
    assert done.returncode == 1 and "redis user mx has no password" in done.stderr


@pytest.mark.parametrize("text, mode, warned", [
    (SECRET, 0o644, True), (SECRET, 0o604, True), (SECRET, 0o640, False),
    ("${WEIR_TEST_PASSWORD}", 0o644, False)])
def test_readable_configuration(weir, text, mode, warned):
    path = proc.make_directory("readable") / "weir.conf"
    path.write_text(f'redis {{ url = "redis://:{text}@127.0.0.1" }}\n')
    path.chmod(mode)
    done = subprocess.run([find_program("weir-milter"), "-n", "-c", path], capture_output=True,
                          env={**os.environ, "WEIR_TEST_PASSWORD": SECRET}, text=True, check=True)
    expected = f"warning: {path} has a password in it and can be read by everybody"
    assert (expected in done.stderr) == warned and (done.stderr == "") != warned
    assert SECRET not in done.stdout + done.stderr
