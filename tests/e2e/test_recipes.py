# SPDX-License-Identifier: BSD-2-Clause
"""doc/recipes: the files of etc/recipes, as they are shown there, at work in real Postfix. What
has to differ from a real host is replaced: sockets, ports, users, the address of Redis."""

import re
import subprocess
import threading
import time

import pytest

import load
from harness import mta, proc
from harness.auth import plain
from harness.ctl import Ctl
from harness.postfix import Postfix
from harness.weir import Weir, find_program
from rawmilter import RawMilter

TOP = proc.SOURCE / "etc/recipes"
FILES = sorted(str(f.relative_to(TOP)) for f in TOP.rglob("*") if f.is_file())
OPENDKIM = proc.ROOT / "opendkim"


def recipe(file, **replace):
    return mta.snippet(f"recipes/{file}", **replace)


def conf(name, redis=None, socket=None, **more):
    """A weir.conf of a recipe, without the users and places of a real host."""
    text = recipe(name, **more)
    text = re.sub(r"(?m)^(user|socket-group|pid-file|socket) = .*\n", "", text)
    text = re.sub(r"(?m)^ *password-file = .*\n", "", text)
    if redis:
        text = re.sub(r'url = "[^"]*"', f'url = "{redis.url}"', text)
    return text


def add(postfix, main="", master=""):
    """Into main.cf and master.cf, before it starts."""
    for name, text in (("main.cf", main), ("master.cf", master)):
        path = postfix.directory / "etc" / name
        path.write_text(path.read_text() + text)


def greeting(postfix, source, port=None):
    with mta.Client("127.0.0.1", port or postfix.port, source=source) as client:
        code = client.greeting.code if client.greeting else None
        if code == 220:
            client.quit()
        return code


@pytest.fixture
def private():
    """private(...): a Postfix that is not started yet; and stopped at the end."""
    made = []

    def new(*args, **options):
        made.append(Postfix(*args, **options))
        return made[-1]
    yield new
    for postfix in made:
        postfix.stop()


@pytest.mark.parametrize("name", FILES)
def test_shown(name):
    """Each file stands in its recipe whole, so nobody copies what was never run."""
    text = (TOP / name).read_text()
    pages = [(proc.SOURCE / "doc/recipes" / f"{name.partition('/')[0]}.md").read_text()]
    assert f"```\n{text}```\n" in pages[0] and f"etc/recipes/{name}" in pages[0]


@pytest.mark.parametrize("name", [n for n in FILES if n.endswith("weir.conf")
                                  or n.startswith("submission/") and n.endswith(".conf")])
def test_good(name, tmp_path):
    """weir-milter takes it as it is."""
    text = recipe(name).replace("/etc/weir/redis-password", str(tmp_path / "password"))
    (tmp_path / "password").write_text("secret\n")
    (tmp_path / "weir.conf").write_text(text)
    done = subprocess.run([find_program("weir-milter"), "-n", "-c", tmp_path / "weir.conf"],
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0 and ": good" in done.stdout + done.stderr, done


def test_several_mx(private, new_redis, sources):
    """Two MX, one count; and who waited out greylisting at one is let in at the other."""
    redis = new_redis(config=recipe("several-mx/redis.conf").splitlines())
    text = conf("several-mx/weir.conf", redis, rate=(r'rate = "60/1m"', 'rate = "4/1h"'),
                grey=(r"greylist \{ enabled = true \}", "greylist { enabled = true delay = 1s }"))
    weirs = [Weir(text, redis=redis).start() for _ in range(2)]
    hosts = [private([w.socket]).start() for w in weirs]
    try:
        source = next(sources)
        codes = [greeting(hosts[n % 2], source) for n in range(8)]
        assert codes == [220] * 4 + [421] * 4
        assert greeting(hosts[0], source) == greeting(hosts[1], source) == 421
        source = next(sources)
        with hosts[0].connect(source) as client:
            assert client.send_message(sender="g@client.test").codes()[-1] == 421
        time.sleep(1.1)                 # greylisting's delay, on Redis' clock
        with hosts[1].connect(source) as client:
            assert client.send_message(sender="g@client.test").codes()[-2:] == [250, 221]
        ctl = Ctl(redis.url)
        proc.wait_for(lambda: len(ctl.json("status")["nodes"]) == 2, 5, "two nodes")
        said = ctl.run("-j", "doctor").out
        for check in ("redis-memory", "redis-persistence"):
            assert f'"check": "{check}",\n      "level"' not in said
    finally:
        for weir in weirs:
            weir.stop()


def test_submission(private, redis, auth, sources):
    """A listener for each, a weir-milter for each: users are counted by login."""
    inbound = Weir(conf("submission/inbound.conf", redis,
                        rate=(r'rate = "60/1m"', 'rate = "3/1h"')), redis=redis).start()
    users = Weir(conf("submission/submission.conf", redis,
                      quota=(r'quota = "500/1d"', 'quota = "5/1d"')), redis=redis).start()
    port = proc.free_port()
    postfix = private([inbound.socket], auth=auth)
    add(postfix, master=recipe(
        "submission/master.cf", service=(r"^submission inet n - y", f"127.0.0.1:{port} inet n - n"),
        socket=(r"unix:weir/submission\.sock", users.socket)))
    postfix.start()
    try:
        source = next(sources)
        assert [greeting(postfix, source) for _ in range(4)] == [220, 220, 220, 421]
        assert [greeting(postfix, source, port) for _ in range(9)] == [220] * 9
        with mta.Client("127.0.0.1", port, source=source) as client:
            assert client.ehlo() == 250
            assert client.mail() == 250 and client.rcpt().code >= 400    # not logged in
        with mta.Client("127.0.0.1", port, source=source) as client:
            assert client.ehlo() == 250 and client.command(f"AUTH {plain('ann')}") == 235
            assert client.mail("ann@example.test") == 250
            codes = [client.rcpt(f"u{n}@example.test").code for n in range(7)]
            assert codes == [250] * 5 + [451] * 2
            assert client.quit() == 221
        assert users.log("limit=per-user") and not inbound.log("limit=per-user")
        assert "per-user" in Ctl(conf=users.conf)("limit").out
        assert "per-user" not in Ctl(conf=inbound.conf)("limit").out
    finally:
        inbound.stop()
        users.stop()


def test_postscreen(private, redis, sources):
    """Who talks before the greeting is postscreen's; who waits is weir's, with his address."""
    weir = Weir('limit connections { rate = "2/1h" }', redis=redis).start()
    port = proc.free_port()
    postfix = private(options={"smtpd_milter_maps": "", "postscreen_greet_wait": "1s",
                               "postscreen_cache_map": "", "postscreen_dnsbl_sites": ""})
    add(postfix, recipe("postscreen/main.cf", socket=(r"unix:weir/milter\.sock", weir.socket)),
        recipe("postscreen/master.cf", port=(r"(?m)^smtp      inet  n - y - 1",
                                             f"127.0.0.1:{port} inet n - n - 1"),
               chroot=(r"pass  - - y", "pass - - n"), dns=(r"dnsblog   unix  - - y",
                                                           "dnsblog unix - - n"),
               tls=(r"tlsproxy  unix  - - y", "tlsproxy unix - - n")))
    try:
        postfix.start()
        zombie, source = next(sources), next(sources)
        with mta.Client("127.0.0.1", port, source=zombie, greet=False) as client:
            client.send("EHLO early.test")
            client.read()
            client.mail()
            assert client.rcpt() == 550         # by postscreen itself
        for number in range(3):
            with mta.Client("127.0.0.1", port, source=source) as client:
                code = client.greeting.code if client.greeting else 0
                assert code == (220 if number < 2 else 421), (number, client.transcript)
                if code == 220:
                    assert client.quit() == 221
        load.settle(weir)
        assert weir.log(f"client={source} ") and not weir.log(f"client={zombie} ")
    finally:
        weir.stop()


def test_haproxy(private, redis):
    """The real client is counted, not the proxy; without its header nobody is served."""
    weir = Weir('limit connections { rate = "3/1h" }', redis=redis).start()
    port = proc.free_port()
    postfix = private([weir.socket])
    add(postfix, master=recipe("haproxy/master.cf",
                               port=(r"^10025 inet n - y", f"127.0.0.1:{port} inet n - n"),
                               wait=(r"proxy_timeout=5s", "proxy_timeout=1s")))
    postfix.start()

    def through(address):
        with mta.Client("127.0.0.1", port, proxy=address) as client:
            code = client.greeting.code
            if code == 220:
                assert client.quit() == 221
            return code
    try:
        for address in ("192.0.2.61", "192.0.2.62", "2001:db8:61::1"):
            assert [through(address) for _ in range(4)] == [220] * 3 + [421]
        load.settle(weir)
        assert not weir.log("client=127.0.0.1 ")
        with mta.Client("127.0.0.1", port) as client:
            assert client.greeting is None or client.greeting.code != 220
        assert "send-proxy" in recipe("haproxy/haproxy.cfg")
    finally:
        weir.stop()


class Witness:
    """In rspamd's place: a milter that lets all pass, and writes down who was brought to it."""

    def __init__(self):
        import socketserver
        import struct
        witness, self.clients, self.headers = self, [], []

        class Handler(socketserver.BaseRequestHandler):
            def _read(self, size):
                data = b""
                while len(data) < size:
                    more = self.request.recv(size - len(data))
                    if not more:
                        raise EOFError
                    data += more
                return data

            def handle(self):
                try:
                    while True:
                        size, = struct.unpack("!I", self._read(4))
                        data = self._read(size)
                        step, body = data[:1], data[1:]
                        if step == b"O":
                            answer = b"O" + struct.pack("!III", 6, 0, 0)
                        elif step in b"DAQ":
                            if step == b"Q":
                                return
                            continue
                        else:
                            if step == b"C":
                                witness.clients.append(body.split(b"\0")[1][3:].decode())
                            if step == b"L":
                                witness.headers.append(body.split(b"\0")[0].decode())
                            answer = b"c"
                        self.request.sendall(struct.pack("!I", len(answer)) + answer)
                except EOFError:
                    pass
        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()


def start_opendkim():
    """A real one, with the recipe's file; the port it listens on, and the process."""
    directory = proc.make_run_directory("dkim")     # it trusts no file below /tmp
    port, key = proc.free_port(), directory / "key"
    subprocess.run(["openssl", "genrsa", "-out", key, "1024"], check=True, capture_output=True)
    key.chmod(0o600)
    (directory / "opendkim.conf").write_text(recipe(
        "chain/opendkim.conf", port=(r"inet:8891@", f"inet:{port}@"),
        key=(r"/etc/dkimkeys/mail\.private", str(key)),
        domain=(r"(?<=Domain          )example\.org", "client.test")))
    tree = proc.need(OPENDKIM)
    dkim = proc.Process([f"{tree}/usr/sbin/opendkim", "-f", "-x", directory / "opendkim.conf"],
                        env={"LD_LIBRARY_PATH": f"{tree}/usr/lib/x86_64-linux-gnu:{tree}/usr/lib"})
    proc.wait_for(lambda: proc.listening(port) or not dkim.alive(), 10, "opendkim")
    assert dkim.alive()
    return port, dkim


def test_chain(private, redis, sources):
    """weir first: whom it refuses the others never see. Mail that it lets in goes through a
    real opendkim, and what that adds the last one sees."""
    weir = Weir('limit connections { rate = "2/1h" }', redis=redis).start()
    witness = Witness()
    port, dkim = start_opendkim()
    postfix = private(options={"smtpd_milter_maps": "",
                               "milter_connect_macros": "j {daemon_name} v"})
    text = recipe("chain/main.cf", socket=(r"unix:weir/milter\.sock", weir.socket))
    add(postfix, text.replace("127.0.0.1:8891", f"127.0.0.1:{port}")
        .replace("127.0.0.1:11332", f"127.0.0.1:{witness.port}"))
    try:
        postfix.start()
        # opendkim signs for its own networks: 127.0.0.1
        with postfix.connect("127.0.0.1") as client:
            codes = client.send_message(
                sender="a@client.test",
                text="From: a@client.test\r\nSubject: x\r\n\r\nx").codes()
        assert codes[-2:] == [250, 221]
        assert witness.clients == ["127.0.0.1"]
        postfix.wait_log("status=sent")
        source = next(sources)
        assert [greeting(postfix, source) for _ in range(4)] == [220, 220, 421, 421]
        assert witness.clients.count(source) == 2
        assert "DKIM-Signature" in witness.headers, witness.headers
    finally:
        dkim.kill()
        witness.stop()
        weir.stop()


def test_postgrey(redis, sources):
    """Its times, and its white lists: whom it left alone weir leaves alone."""
    weir = Weir(conf("postgrey/weir.conf", redis), redis=redis).start()
    ctl = Ctl(conf=weir.conf)
    try:
        done = ctl("import", "postgrey-clients", str(TOP / "postgrey/whitelist_clients"))
        assert "imported: 4" in done.out and "regular" not in done.out, done
        ctl("import", "postgrey-recipients", str(TOP / "postgrey/whitelist_recipients"))

        def asked(address, recipient="u@example.org", name=None):
            with RawMilter(weir.socket) as session:
                session.open(address, name=name)
                session.helo()
                session.mail("s@client.test")
                return session.rcpt(recipient).text[:9]
        assert asked("203.0.113.1") == "451 4.2.0"
        assert asked("192.0.2.25") == asked("198.51.100.77") == ""
        assert asked("203.0.113.2", name="mx.partner.example") == ""
        assert asked("203.0.113.5", name="mail7.lists.example") == ""
        assert asked("203.0.113.3", recipient="sales@example.org") == ""
        assert asked("203.0.113.4", recipient="other@example.org") == "451 4.2.0"
    finally:
        weir.stop()


def test_rspamd_ratelimit(redis):
    """A bucket of 5 for an address is 5 recipients at once; the sixth is put off."""
    weir = Weir(conf("rspamd-ratelimit/weir.conf", redis), redis=redis).start()
    try:
        with RawMilter(weir.socket) as session:
            session.open("203.0.113.9")
            session.helo()
            session.mail("s@client.test")
            codes = [session.rcpt(f"u{n}@example.test").text[:3] for n in range(7)]
        assert codes == [""] * 5 + ["451"] * 2
        with RawMilter(weir.socket) as session:
            session.open("203.0.113.10")
            session.helo()
            session.mail("s@client.test", macros={"{auth_authen}": "ann", "{auth_type}": "PLAIN"})
            codes = [session.rcpt(f"u{n}@example.test").text[:3] for n in range(6)]
        assert codes == [""] * 5 + ["451"]      # the address is limited as well
        rates = re.findall(r'burst = (\d+); rate = "(\d+) / 1h"',
                           recipe("rspamd-ratelimit/ratelimit.conf"))
        assert rates == [(burst, rate) for rate, burst in re.findall(
            r'rate = "(\d+)/1h"  burst = (\d+)', recipe("rspamd-ratelimit/weir.conf"))]
    finally:
        weir.stop()


def test_milter_greylist(redis):
    weir = Weir(conf("milter-greylist/weir.conf", redis), redis=redis).start()
    ctl = Ctl(conf=weir.conf)
    try:
        ctl("import", "milter-greylist", str(TOP / "milter-greylist/greylist.conf"))
        lists = ctl("lists").out
        for who in ("192.0.2.0/24", "partner.example", "press@example.org", "203.0.113.7"):
            assert who in lists
        assert ctl.json("why", "203.0.113.7")["next"]["connection"]["action"] == "refuse"
        with RawMilter(weir.socket) as session:
            session.open("198.51.100.1")
            session.helo()
            session.mail("s@client.test")
            assert session.rcpt("u@example.org").text.startswith("451 4.7.1 Greylisting in action")
    finally:
        weir.stop()


def test_anvil(private, redis, sources):
    """anvil's figure of 30 connections is weir's, and anvil itself refuses nobody any more."""
    weir = Weir(conf("anvil/weir.conf", redis, nets=(r"(?m)^exempt = .*$", "exempt = {}")),
                redis=redis).start()
    postfix = private([weir.socket], options={"smtpd_client_connection_rate_limit": "1"})
    add(postfix, recipe("anvil/main.cf"))
    try:
        postfix.start()
        source = next(sources)
        codes = [greeting(postfix, source) for _ in range(34)]
        # a bucket leaks: half a connection a second
        assert codes[:30] == [220] * 30 and codes[-1] == 421
        assert not postfix.log("Connection rate limit exceeded")
    finally:
        weir.stop()
