# SPDX-License-Identifier: BSD-2-Clause
"""TLS to Redis: weir's own, and a stunnel in between as weir.redis(7) has it."""

import subprocess
import time

import pytest

import load
from harness import proc
from harness.ctl import Ctl
from harness.redis import Redis
from harness.weir import find_program
from test_redis_faults import BURST, CONF, IS_BACK, SLACK, TIMEOUT, flood, used


def openssl(*words):
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


@pytest.fixture(scope="module")
def ca(tmp_path_factory):
    """ca.pem, other.pem (of nobody's), server.{pem,key} for redis.test, client.{pem,key}."""
    d = tmp_path_factory.mktemp("ca")
    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj",
                f"/CN={name}", "-keyout", d / f"{name}.key", "-out", d / f"{name}.pem")
    for name in ("server", "client"):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", d / f"{name}.key", "-out", d / f"{name}.csr")
        (d / "ext").write_text("subjectAltName=DNS:redis.test\n")
        openssl("x509", "-req", "-days", 2, "-in", d / f"{name}.csr", "-CA", d / "ca.pem",
                "-CAkey", d / "ca.key", "-CAcreateserial", "-extfile", d / "ext",
                "-out", d / f"{name}.pem")
    return d


@pytest.fixture
def redis(ca):
    """With a port for TLS, which wants a certificate from clients, too."""
    tls = proc.free_port()
    server = Redis(config=[f"tls-port {tls}", f"tls-cert-file {ca}/server.pem",
                           f"tls-key-file {ca}/server.key", f"tls-ca-cert-file {ca}/ca.pem",
                           "tls-auth-clients yes"])
    server.tls = tls
    try:
        yield server.start()
    finally:
        server.stop()


def words(redis, ca, authority="ca", name="redis.test", client=True):
    more = f'cert = "{ca}/client.pem" key = "{ca}/client.key"' if client else ""
    return (f'{CONF}\nredis {{ url = "rediss://127.0.0.1:{redis.tls}" '
            f'timeout = "250ms" ca = "{ca}/{authority}.pem" server-name = "{name}" {more} }}\n')


def test_tls(postfix, weir, redis, ca, sources):
    """Limits are exact, and a restart of Redis is survived, as without."""
    milter, source = weir(words(redis, ca)), next(sources)
    with load.SmtpLoad(postfix, sources) as mail:
        mail.wait(4)
        assert flood(postfix, source) == BURST
        assert used(redis, source)
        redis.kill()
        milter.wait_log("does not answer")
        mail.wait(4)
        redis.start()
        began = time.monotonic()
        milter.wait_log(IS_BACK, timeout=3)
        back = time.monotonic() - began
        source = next(sources)
        assert flood(postfix, source) == BURST
        assert used(redis, source)
        mail.wait(4)
    mail.check(TIMEOUT + SLACK)
    print(f"TLS: back after {back:.2f} s, longest reply {mail.slowest * 1000:.0f} ms, "
          f"{mail.accepted} messages")
    assert source in Ctl(conf=milter.conf)("top").out


@pytest.mark.parametrize("wrong, says", [
    ({"authority": "other"}, "TLS: .*(certificate|issuer)"),
    ({"name": "elsewhere.test"}, "TLS: hostname mismatch"),
    ({"client": False}, "TLS: ")])
def test_wrong(weir, redis, ca, sources, wrong, says):
    """Whoever is not who he should be gets no password and no question, and mail flows."""
    milter, source = weir(words(redis, ca, **wrong)), next(sources)
    assert load.connects(milter.socket, source, 4) == [True] * 4
    milter.wait_log(rf"(?i)does not answer \({says}")
    assert not used(redis, source)


def test_files(redis, ca, tmp_path):
    """What cannot be used is said at the start, with the file's name."""
    for name in ("missing.pem", "client.csr"):
        conf = tmp_path / "weir.conf"
        conf.write_text(f'redis {{ url = "rediss://127.0.0.1:{redis.tls}" ca = "{ca}/{name}" }}\n')
        result = subprocess.run([find_program("weir-milter"), "-n", "-c", conf],
                                capture_output=True, timeout=10, check=False)
        assert result.returncode != 0 and name.encode() in result.stderr, result


def test_stunnel(postfix, weir, redis, ca, sources, tmp_path):
    """The recipe of weir.redis(7), for a weir without OpenSSL."""
    stunnel = proc.need(proc.ROOT / "stunnel/usr/bin/stunnel4")
    path = proc.make_run_directory("stunnel") / "redis.sock"
    conf = tmp_path / "stunnel.conf"
    conf.write_text(f"""foreground = yes
pid =
[redis]
client = yes
accept = {path}
connect = 127.0.0.1:{redis.tls}
CAfile = {ca}/ca.pem
verifyChain = yes
checkHost = redis.test
sni = redis.test
cert = {ca}/client.pem
key = {ca}/client.key
""")
    tunnel = proc.Process([stunnel, conf])
    try:
        proc.wait_for(path.exists, 10, "stunnel")
        milter = weir(f'{CONF}\nredis {{ url = "unix:{path}" timeout = "250ms" }}\n')
        load.connects(milter.socket, next(sources), 4)      # through the handshake
        source = next(sources)
        assert flood(postfix, source) == BURST
        assert used(redis, source)
        assert not milter.log("does not answer"), milter.text()
    finally:
        tunnel.stop()
